use super::blocks::{TensorKind, quantize_q8_0};
use super::value::Value;
use super::{DEFAULT_ALIGNMENT, MAGIC};
use crate::{Error, ErrorKind, Result, check_finite};
use orion_tensor::{Tensor, bf16, f16};
use std::io::Write;

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its values: fp32, fp16 or bf16.
    pub tensor: Tensor,
    /// How they are to be kept: F32, F16, BF16 or Q8_0.
    pub kind: TensorKind,
}

/// Writes a file of version 3. Keys and tensors keep their order; the same arguments give the same
/// bytes.
///
/// # Errors
/// [`ErrorKind::NotRepresentable`] when a kind is not written, rows do not fill its blocks, or a
/// value is too large for fp16; [`ErrorKind::NotFinite`]; [`ErrorKind::Io`].
pub fn write(out: &mut impl Write, metadata: &[(String, Value)], tensors: &[Entry]) -> Result<()> {
    let mut head = Vec::new();
    head.extend(MAGIC);
    head.extend(3u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut head, key);
        head.extend((value.kind() as u32).to_le_bytes());
        put_value(&mut head, value);
    }
    let mut offset = 0u64;
    for entry in tensors {
        check(entry)?;
        put_text(&mut head, &entry.name);
        head.extend((entry.tensor.shape().len() as u32).to_le_bytes());
        for &size in entry.tensor.shape().iter().rev() {
            head.extend((size as u64).to_le_bytes());
        }
        head.extend((entry.kind as u32).to_le_bytes());
        head.extend(offset.to_le_bytes());
        offset = (offset + size_of(entry)).next_multiple_of(DEFAULT_ALIGNMENT);
    }
    pad(&mut head);
    out.write_all(&head).map_err(Error::write)?;
    for entry in tensors {
        let mut bytes = encode(entry)?;
        pad(&mut bytes);
        out.write_all(&bytes).map_err(Error::write)?;
    }
    Ok(())
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
}

fn size_of(entry: &Entry) -> u64 {
    let blocks = entry.tensor.element_count() / entry.kind.block_elements();
    (blocks * entry.kind.block_bytes()) as u64
}

fn refuse(entry: &Entry, what: &str) -> Error {
    let Entry { name, tensor, kind } = entry;
    Error::new(
        ErrorKind::NotRepresentable,
        format!(
            "tensor `{name}` {}{:?} as {}: {what}",
            tensor.dtype(),
            tensor.shape(),
            kind.name()
        ),
    )
}

fn check(entry: &Entry) -> Result<()> {
    check_finite(&entry.name, &entry.tensor)?;
    match entry.kind {
        TensorKind::F32 | TensorKind::F16 | TensorKind::BF16 => {}
        TensorKind::Q8_0 => {
            let row = entry.tensor.shape().last().copied().unwrap_or(1);
            if !row.is_multiple_of(32) {
                return Err(refuse(entry, &format!("rows of {row} do not fill blocks of 32")));
            }
        }
        _ => return Err(refuse(entry, "F32, F16, BF16 and Q8_0 are written")),
    }
    Ok(())
}

fn encode(entry: &Entry) -> Result<Vec<u8>> {
    let values = entry.tensor.to_f32_vec();
    let mut out = Vec::with_capacity(size_of(entry) as usize + DEFAULT_ALIGNMENT as usize);
    match entry.kind {
        TensorKind::F32 => values.iter().for_each(|v| out.extend(v.to_le_bytes())),
        TensorKind::BF16 => {
            values.iter().for_each(|&v| out.extend(bf16::from_f32(v).to_le_bytes()));
        }
        TensorKind::F16 => {
            for &value in &values {
                let half = f16::from_f32(value);
                if half.is_infinite() {
                    return Err(refuse(entry, &format!("{value} is too large for fp16")));
                }
                out.extend(half.to_le_bytes());
            }
        }
        _ => quantize_q8_0(&values, &mut out),
    }
    Ok(out)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.extend(v.to_le_bytes()),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::Text(text) => put_text(out, text),
        Value::Array(kind, elements) => {
            out.extend((*kind as u32).to_le_bytes());
            out.extend((elements.len() as u64).to_le_bytes());
            elements.iter().for_each(|element| put_value(out, element));
        }
    }
}
