//! The artifact of Parameter Golf's baseline: weights in int8, pickled by PyTorch, compressed by
//! zlib (`final_model.int8.ptz`).
//!
//! Large matrices have one scale a row, small tensors are kept in fp16, and those that steer the
//! network in fp32. Does not know which network the tensors belong to. What is written is
//! PyTorch's file byte for byte; what compresses it is not zlib itself, so that compressed bytes
//! differ, and each reads the other's.

mod quantize;
mod write;

pub use quantize::quantize;

use crate::torch::{self, Object};
use crate::{Error, ErrorKind, Result, map_file};
use flate2::read::ZlibDecoder;
use orion_tensor::{Bytes, DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

/// What an artifact may weigh together with its code, in bytes.
pub const SIZE_LIMIT: u64 = 16_000_000;

/// The most that a file may grow to when it is expanded.
const MAX_EXPANDED: u64 = 1 << 30;

const FORMAT: &str = "int8_clean_per_row_v1";

/// What a file of the baseline holds.
#[derive(Debug, Clone, PartialEq)]
pub struct GolfArtifact {
    /// Tensors by their names in PyTorch's `state_dict`, in its order among those that are
    /// quantized and among those that are not.
    pub tensors: Vec<(String, ArtifactTensor)>,
    /// Forty digits by which PyTorch tells files apart.
    serial: Option<String>,
}

/// One tensor of an artifact.
#[derive(Debug, Clone, PartialEq)]
pub enum ArtifactTensor {
    /// In int8.
    Quantized {
        /// The rounded numbers, int8.
        data: Tensor,
        /// What numbers are multiplied by: fp16 `[O]` for rows of a matrix `[O, I]`, or one fp32
        /// number `[]` for all.
        scale: Tensor,
        /// The type of the weights that it was made of: fp32, fp16 or bf16.
        original: DType,
    },
    /// As it is: fp16, bf16 or fp32.
    Plain {
        /// The numbers.
        tensor: Tensor,
        /// The wider type that it had before, where it was narrowed.
        original: Option<DType>,
    },
}

impl ArtifactTensor {
    /// The shape of the weights.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Quantized { data, .. } => data.shape(),
            Self::Plain { tensor, .. } => tensor.shape(),
        }
    }

    /// Bytes of its numbers before they are compressed, scales included.
    pub fn payload_bytes(&self) -> u64 {
        let bytes = |tensor: &Tensor| tensor.bytes().len() as u64;
        match self {
            Self::Quantized { data, scale, .. } => bytes(data) + bytes(scale),
            Self::Plain { tensor, .. } => bytes(tensor),
        }
    }

    /// The weights that are left, in the type they had before.
    pub fn dequantize(&self) -> Tensor {
        let (values, shape, original) = match self {
            Self::Plain { tensor, original } => {
                (tensor.to_f32_vec(), tensor.shape(), original.unwrap_or(tensor.dtype()))
            }
            Self::Quantized { data, scale, original } => {
                let scales = scale.to_f32_vec();
                let each = (data.element_count() / scales.len().max(1)).max(1);
                let mut values = data.to_f32_vec();
                for (row, scale) in values.chunks_exact_mut(each).zip(scales) {
                    row.iter_mut().for_each(|v| *v *= scale);
                }
                (values, data.shape(), *original)
            }
        };
        let tensor = Tensor::from_slice(shape, &values);
        if original == DType::F32 {
            return tensor;
        }
        Tensor::from_f64(original, shape, &tensor.to_f64_vec())
    }
}

/// Whether a file may be an artifact, by its first bytes: a stream of zlib, or what PyTorch makes
/// before it is compressed.
pub fn is_golf_artifact(start: &[u8]) -> bool {
    is_archive(start)
        || matches!(start, [0x78, second, ..] if (0x7800 | u16::from(*second)).is_multiple_of(31))
}

fn is_archive(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04")
}

fn malformed(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, what)
}

fn type_name(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("float32"),
        DType::F16 => Ok("float16"),
        DType::BF16 => Ok("bfloat16"),
        other => {
            let detail = format!("a tensor of type {other} in a golf artifact");
            Err(Error::new(ErrorKind::NotRepresentable, detail))
        }
    }
}

fn type_of(object: &Object, of: &str) -> Result<DType> {
    let Object::Text(name) = object else {
        return Err(malformed(format!("the type of `{of}` is no text")));
    };
    [DType::F32, DType::F16, DType::BF16]
        .into_iter()
        .find(|&dtype| type_name(dtype).is_ok_and(|known| *known == **name))
        .ok_or_else(|| malformed(format!("`{of}` was of type {name} before")))
}

impl GolfArtifact {
    /// Quantizes the tensors of a model, in the order of PyTorch's `state_dict`.
    ///
    /// # Errors
    /// As [`quantize`].
    pub fn of<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Self> {
        let quantized = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name.to_owned(), quantize(name, tensor)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { tensors: quantized, serial: None })
    }

    /// Maps and reads an artifact.
    ///
    /// # Errors
    /// As [`GolfArtifact::parse`], with the path; and when the file cannot be mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        map_file(path).and_then(|bytes| Self::parse(&bytes)).map_err(|e| e.in_file(path))
    }

    /// Reads the bytes of an artifact, compressed or not.
    ///
    /// # Errors
    /// When the stream, the archive or the pickle in it is damaged or holds something else, or a
    /// number is not finite.
    pub fn parse(bytes: &Bytes) -> Result<Self> {
        if is_archive(bytes) {
            return Self::parse_torch(bytes);
        }
        let mut raw = Vec::new();
        ZlibDecoder::new(&bytes[..])
            .take(MAX_EXPANDED + 1)
            .read_to_end(&mut raw)
            .map_err(|e| Error::new(ErrorKind::WrongFormat, format!("no zlib stream: {e}")))?;
        if raw.len() as u64 > MAX_EXPANDED {
            return Err(malformed(format!("it expands to more than {MAX_EXPANDED} bytes")));
        }
        Self::parse_torch(&Bytes::new(raw))
    }

    fn parse_torch(raw: &Bytes) -> Result<Self> {
        let (root, serial) = torch::read(raw)?;
        match root.get("__quant_format__") {
            Some(Object::Text(format)) if &**format == FORMAT => {}
            Some(Object::Text(format)) => {
                let detail = format!("a golf artifact of format {format}, expected {FORMAT}");
                return Err(Error::new(ErrorKind::Unsupported, detail));
            }
            _ => return Err(malformed("there is no key `__quant_format__`")),
        }
        let mut scales: BTreeMap<&str, &Tensor> = tensors(&root, "scales")?.into_iter().collect();
        let types: BTreeMap<&str, &Object> = section(&root, "dtypes")?.into_iter().collect();
        let mut all = Vec::new();
        for (name, data) in tensors(&root, "quantized")? {
            let scale = scales.remove(name);
            let scale = scale.ok_or_else(|| malformed(format!("`{name}` has no scales")))?;
            let original = types.get(name);
            let original = original.ok_or_else(|| malformed(format!("`{name}` has no type")))?;
            let fits = match (data.shape(), scale.shape(), scale.dtype()) {
                ([rows, _], [count], DType::F16) => rows == count,
                (_, [], DType::F32) => true,
                _ => false,
            };
            if !fits || data.dtype() != DType::I8 {
                let detail = format!(
                    "`{name}` is {}{:?} with scales {}{:?}, expected int8 with an fp16 scale for \
                     each row or one in fp32",
                    data.dtype(),
                    data.shape(),
                    scale.dtype(),
                    scale.shape()
                );
                return Err(Error::new(ErrorKind::Unsupported, detail));
            }
            crate::check_finite(name, scale)?;
            let (data, scale) = (data.clone(), scale.clone());
            let original = type_of(original, name)?;
            all.push((name.to_owned(), ArtifactTensor::Quantized { data, scale, original }));
        }
        if let Some(name) = scales.keys().next() {
            return Err(malformed(format!("`{name}` has scales and nothing else")));
        }
        let narrowed: BTreeMap<&str, &Object> = match root.get("passthrough_orig_dtypes") {
            Some(_) => section(&root, "passthrough_orig_dtypes")?.into_iter().collect(),
            None => BTreeMap::new(),
        };
        for (name, tensor) in tensors(&root, "passthrough")? {
            type_name(tensor.dtype())
                .map_err(|_| malformed(format!("`{name}` is of type {}", tensor.dtype())))?;
            crate::check_finite(name, tensor)?;
            let original = narrowed.get(name).map(|object| type_of(object, name)).transpose()?;
            let tensor = tensor.clone();
            all.push((name.to_owned(), ArtifactTensor::Plain { tensor, original }));
        }
        let names: BTreeSet<&str> = all.iter().map(|(name, _)| &**name).collect();
        if names.len() < all.len() {
            return Err(malformed("a tensor is there twice"));
        }
        // Tensors that lie over each other would let a small file become a large model.
        let payload = all.iter().map(|(_, tensor)| tensor.payload_bytes());
        if payload.fold(0, u64::saturating_add) > raw.len() as u64 {
            return Err(malformed("its tensors overlap"));
        }
        Ok(Self { tensors: all, serial })
    }

    /// Bytes of all numbers before they are compressed, scales included.
    pub fn payload_bytes(&self) -> u64 {
        self.tensors.iter().map(|(_, tensor)| tensor.payload_bytes()).sum()
    }
}

fn section<'a>(root: &'a Object, key: &str) -> Result<Vec<(&'a str, &'a Object)>> {
    let entries = root.get(key).and_then(Object::entries);
    Ok(entries.ok_or_else(|| malformed(format!("there is no key `{key}`")))?.collect())
}

fn tensors<'a>(root: &'a Object, key: &str) -> Result<Vec<(&'a str, &'a Tensor)>> {
    let tensor = |(name, object): (&'a str, &'a Object)| match object {
        Object::Tensor(tensor) => Ok((name, tensor)),
        _ => Err(malformed(format!("`{name}` of `{key}` is no tensor"))),
    };
    section(root, key)?.into_iter().map(tensor).collect()
}
