use orion_models::WeightStorage;
use orion_tensor::DType;

/// In what a model computes: the arithmetic of its matrix products, and how generation keeps its
/// matrices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// fp32 throughout.
    #[default]
    F32,
    /// Products of bf16 numbers summed in fp32; matrices in bf16. The device has to be made so.
    Bf16,
    /// Matrices in fp16, products in fp32.
    F16,
    /// Matrices in int8, products in fp32.
    Int8,
}

impl Precision {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }

    /// Bytes of that many numbers of matrices.
    pub(crate) fn matrix_bytes(self, numbers: u64) -> u64 {
        match self {
            Self::F32 => 4 * numbers,
            Self::Bf16 | Self::F16 => 2 * numbers,
            Self::Int8 => numbers + 4 * (numbers / 64),
        }
    }

    /// How generation keeps matrices.
    pub fn storage(self) -> WeightStorage {
        match self {
            Self::F32 => WeightStorage::Float(DType::F32),
            Self::Bf16 => WeightStorage::Float(DType::BF16),
            Self::F16 => WeightStorage::Float(DType::F16),
            Self::Int8 => WeightStorage::Int8,
        }
    }
}
