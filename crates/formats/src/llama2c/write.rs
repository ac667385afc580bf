use super::layout::{Header, LONG_HEADER_BYTES, MAGIC, Name, Version};
use crate::{Error, ErrorKind, Result, check_finite};
use orion_tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::io::Write;

/// The base of the rotary embedding, which no version of the format stores.
const ROPE_BASE: f32 = 10_000.0;

/// Writes a version 0 checkpoint: f32 weights, with rotation tables computed for `ROPE_BASE`
/// 10000 in f32.
///
/// # Errors
/// [`ErrorKind::Malformed`] for a header that is not sane; [`ErrorKind::NotRepresentable`] when a
/// tensor is missing, superfluous or of another shape or type than the
/// [module documentation](super) says; [`ErrorKind::NotFinite`]; [`ErrorKind::Io`].
pub fn write_v0(
    out: &mut impl Write,
    header: &Header,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    header.check()?;
    let vocab_size = header.vocab_size as i32;
    let signed_vocab = if header.shared_classifier { vocab_size } else { -vocab_size };
    let mut bytes = Vec::with_capacity(28);
    for (index, size) in sizes(header).into_iter().enumerate() {
        let size = if index == 5 { signed_vocab } else { size };
        bytes.extend(size.to_le_bytes());
    }
    write_tensors(out, &bytes, header, Version::V0, tensors)
}

/// Writes a version 1 checkpoint: f32 weights.
///
/// # Errors
/// As [`write_v0`].
pub fn write_v1(
    out: &mut impl Write,
    header: &Header,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    header.check()?;
    let mut bytes = Vec::with_capacity(LONG_HEADER_BYTES);
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend(1i32.to_le_bytes());
    for size in sizes(header) {
        bytes.extend(size.to_le_bytes());
    }
    bytes.push(u8::from(header.shared_classifier));
    bytes.resize(LONG_HEADER_BYTES, 0);
    write_tensors(out, &bytes, header, Version::V1, tensors)
}

fn sizes(header: &Header) -> [i32; 7] {
    let Header { dim, hidden_dim, layers, heads, kv_heads, vocab_size, seq_len, .. } = *header;
    // `Header::check` bounds every size far below i32::MAX.
    [dim, hidden_dim, layers, heads, kv_heads, vocab_size, seq_len].map(|size| size as i32)
}

fn write_tensors(
    out: &mut impl Write,
    header_bytes: &[u8],
    header: &Header,
    version: Version,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let groups = header.groups(version);
    // Everything is checked before the first byte is written.
    let mut expected = BTreeMap::new();
    for group in &groups {
        for name in group.names(header.layers) {
            expected.insert(name, group.shape());
        }
    }
    let wrong = |detail: String| Error::new(ErrorKind::NotRepresentable, detail);
    if let Some(name) = tensors.keys().find(|name| !expected.contains_key(*name)) {
        return Err(wrong(format!("llama2.c checkpoints have no tensor `{name}`")));
    }
    for (name, shape) in &expected {
        let tensor =
            tensors.get(name).ok_or_else(|| wrong(format!("tensor `{name}` is missing")))?;
        if tensor.dtype() != DType::F32 || tensor.shape() != shape {
            return Err(wrong(format!(
                "tensor `{name}` is {}{:?}, the header asks for fp32{shape:?}",
                tensor.dtype(),
                tensor.shape()
            )));
        }
        check_finite(name, tensor)?;
    }
    out.write_all(header_bytes).map_err(Error::write)?;
    for group in &groups {
        if let Name::RotationTables = group.name {
            write_rotation_tables(out, header)?;
        }
        for name in group.names(header.layers) {
            out.write_all(tensors[&name].bytes()).map_err(Error::write)?;
        }
    }
    Ok(())
}

/// cos `[S, D/2]`, then sin `[S, D/2]`.
fn write_rotation_tables(out: &mut impl Write, header: &Header) -> Result<()> {
    let head_dim = header.head_dim();
    let frequencies: Vec<f32> = (0..head_dim / 2)
        .map(|pair| 1.0 / ROPE_BASE.powf((2 * pair) as f32 / head_dim as f32))
        .collect();
    for function in [f32::cos, f32::sin] {
        for position in 0..header.seq_len {
            let row: Vec<u8> = frequencies
                .iter()
                .flat_map(|frequency| function(position as f32 * frequency).to_le_bytes())
                .collect();
            out.write_all(&row).map_err(Error::write)?;
        }
    }
    Ok(())
}
