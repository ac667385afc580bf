use crate::{Data, TensorType, Value};
use orion_tensor::Tensor;
use std::collections::BTreeMap;
use std::fmt;

/// The file name that programs use for their weights.
pub const WEIGHT_FILE: &str = "@model_path/weights/weight.bin";

/// Constants that live outside the program text, by file name and metadata offset.
///
/// Tensors share storage with whatever they came from, so a `Weights` over a memory-mapped
/// checkpoint copies nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights {
    files: BTreeMap<String, BTreeMap<u64, Tensor>>,
}

impl Weights {
    /// No weights.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor behind the last one of `file`, at the offset a blob file written in this
    /// order gives it, and returns that offset: the one a `BLOBFILE` value names.
    pub fn append(&mut self, file: &str, tensor: Tensor) -> u64 {
        let blobs = self.files.entry(file.to_owned()).or_default();
        let offset = blobs.last_key_value().map_or(64, |(offset, last)| {
            let end = offset + 64 + last.dtype().packed_bytes(last.element_count()) as u64;
            end.next_multiple_of(64)
        });
        blobs.insert(offset, tensor);
        offset
    }

    /// Adds or replaces the tensor at an offset.
    pub fn insert(&mut self, file: &str, offset: u64, tensor: Tensor) {
        self.files.entry(file.to_owned()).or_default().insert(offset, tensor);
    }

    /// The tensor at an offset. Blob files do not record shapes, so it may be flat.
    pub fn get(&self, file: &str, offset: u64) -> Option<&Tensor> {
        self.files.get(file)?.get(&offset)
    }

    /// File names with their tensors by offset.
    pub fn files(&self) -> impl Iterator<Item = (&str, &BTreeMap<u64, Tensor>)> {
        self.files.iter().map(|(name, blobs)| (name.as_str(), blobs))
    }

    /// A `const`'s value under the shape its type gives: from the text, or from a weight file.
    ///
    /// # Errors
    /// When the blob is missing, or has another element type or count than the value's type says.
    pub fn resolve(&self, value: &Value) -> Result<Tensor, WeightError> {
        let (file, offset) = match &value.data {
            Data::Tensor(t) => return Ok(t.clone()),
            Data::Blob { file, offset } => (file, *offset),
            _ => return Err(WeightError("the value is not a numeric tensor".into())),
        };
        let declared = value.ty.as_tensor();
        let shape = declared.and_then(TensorType::shape);
        let (Some(declared), Some(shape)) = (declared, shape) else {
            return Err(WeightError(format!("blob of type {} has no fixed size", value.ty)));
        };
        let blob = self
            .get(file, offset)
            .ok_or_else(|| WeightError(format!("no blob at offset {offset} of {file}")))?;
        if blob.dtype() != declared.dtype || Some(blob.element_count()) != declared.element_count()
        {
            return Err(WeightError(format!(
                "the blob at offset {offset} of {file} holds {} {} elements, the program says {}",
                blob.element_count(),
                blob.dtype(),
                value.ty
            )));
        }
        Ok(blob.reshaped(&shape))
    }
}

/// Why a constant has no tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightError(String);

impl fmt::Display for WeightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WeightError {}
