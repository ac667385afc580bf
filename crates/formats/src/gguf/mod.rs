//! GGUF, the container of llama.cpp: metadata and tensors in one file, versions 2 and 3.
//!
//! Knows how values and blocks of quantized numbers lie; what keys and names mean to a network is
//! not known here. Layout after ggml's `docs/gguf.md` and `ggml-quants.c`.

mod blocks;
mod read;
mod value;
mod write;

use blocks::Scaled;
pub use blocks::TensorKind;
pub use value::{Value, ValueKind};
pub use write::{Entry, write};

use crate::{Error, ErrorKind, Result, map_file};
use orion_tensor::{Bytes, DType, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// What every file begins with.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// Where tensors start, in bytes, unless `general.alignment` says otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;

/// The contents of a GGUF file.
#[derive(Debug, Clone, Default)]
pub struct Gguf {
    /// Values by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors by name; their storage is the file's memory.
    pub tensors: BTreeMap<String, GgufTensor>,
}

/// A tensor as it lies in the file.
#[derive(Debug, Clone)]
pub struct GgufTensor {
    /// How its numbers are kept.
    pub kind: TensorKind,
    /// Its shape, the longest stride first: the reverse of the order in the file.
    pub shape: Vec<usize>,
    /// Its blocks.
    pub bytes: Bytes,
}

impl GgufTensor {
    /// The tensor with fp32, fp16 or bf16 elements: those kinds share the file's memory, quantized
    /// ones become fp32.
    pub fn to_tensor(&self) -> Tensor {
        let dtype = match self.kind {
            TensorKind::F32 => DType::F32,
            TensorKind::F16 => DType::F16,
            TensorKind::BF16 => DType::BF16,
            quantized => {
                let values = quantized.dequantize(&self.bytes);
                return Tensor::from_slice(&self.shape, &values);
            }
        };
        Tensor::new(dtype, self.shape.clone(), self.bytes.clone())
            .expect("reading checked the size")
    }

    /// A quantized matrix as int8 data `[O, I]`, fp32 scales `[O, I / block]` and, where its blocks
    /// have minima, fp32 offsets like the scales: `scale · (data - offset)`. Without offsets these
    /// are exactly the numbers of [`GgufTensor::to_tensor`]; with them, within 2⁻²² of
    /// `|scale · data| + |minimum|`. `None` where the kind is not quantized or the tensor is no
    /// matrix.
    pub fn to_scaled(&self) -> Option<(Tensor, Tensor, Option<Tensor>)> {
        let (&[rows, columns], each) = (&self.shape[..], self.kind.scaled_elements()?) else {
            return None;
        };
        let Scaled { data, scales, offsets } = self.kind.to_scaled(&self.bytes);
        let by_block = |values: Vec<f32>| Tensor::from_slice(&[rows, columns / each], &values);
        let data = Tensor::new(DType::I8, self.shape.clone(), data).expect("a byte for each");
        Some((data, by_block(scales), offsets.map(by_block)))
    }
}

impl Gguf {
    /// Maps and reads a file.
    ///
    /// # Errors
    /// As [`Gguf::parse`], with the path; and when the file cannot be mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        map_file(path).and_then(Self::parse).map_err(|e| e.in_file(path))
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// When it is no GGUF file of version 2 or 3, is cut, a count, length or offset is out of
    /// bounds, or a tensor is of a kind that is not read; with the name and the byte offset.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        read::parse(bytes)
    }

    /// The value of a key that must be there.
    fn value(&self, key: &str) -> Result<&Value> {
        self.metadata
            .get(key)
            .ok_or_else(|| Error::new(ErrorKind::Malformed, format!("key `{key}` is missing")))
    }

    /// The text of a key, where it is there.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when it is of another type; so do the other getters.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        value.as_text().map(Some).ok_or_else(|| wrong(key, value, "text"))
    }

    /// The size a key has, which must be there.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when it is missing or no number of at most 2^32.
    pub fn size(&self, key: &str) -> Result<usize> {
        let value = self.value(key)?;
        let size = value.as_unsigned().filter(|&size| size <= 1 << 32);
        size.map(|size| size as usize).ok_or_else(|| wrong(key, value, "a size"))
    }

    /// As [`Gguf::size`], for keys that may be absent.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when it is no number of at most 2^32.
    pub fn size_if_any(&self, key: &str) -> Result<Option<usize>> {
        if self.metadata.contains_key(key) { self.size(key).map(Some) } else { Ok(None) }
    }

    /// The number of a key, where it is there.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when it is no number.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        value.as_number().map(Some).ok_or_else(|| wrong(key, value, "a number"))
    }

    /// Whether a key is set, where it is there.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when it is no boolean.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(wrong(key, other, "true or false")),
        }
    }

    /// The elements of an array; none when the key is absent.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when it is no array.
    pub fn array(&self, key: &str) -> Result<&[Value]> {
        match self.metadata.get(key) {
            None => Ok(&[]),
            Some(Value::Array(_, elements)) => Ok(elements),
            Some(other) => Err(wrong(key, other, "an array")),
        }
    }
}

fn wrong(key: &str, value: &Value, expected: &str) -> Error {
    Error::new(
        ErrorKind::Malformed,
        format!("key `{key}` is of type {}, expected {expected}", value.kind().name()),
    )
}
