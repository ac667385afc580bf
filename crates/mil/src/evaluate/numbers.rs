//! The numbers of a tensor while an op is computed, and their way back into an element type.

use orion_tensor::{DType, Tensor, bf16, f16};

/// Floats as f64; integers and bools (0 or 1) exactly, with room to spare.
pub(super) enum Numbers {
    Float(Vec<f64>),
    Int(Vec<i128>),
}

impl Numbers {
    pub(super) fn of(tensor: &Tensor) -> Self {
        let dtype = tensor.dtype();
        if dtype.is_float() {
            Self::Float(tensor.to_f64_vec())
        } else {
            Self::Int(integers(tensor))
        }
    }

    pub(super) fn into_floats(self) -> Vec<f64> {
        match self {
            Self::Float(v) => v,
            Self::Int(v) => v.into_iter().map(|v| v as f64).collect(),
        }
    }

    /// Rounds or wraps to `dtype`. Floats become integers by truncation, saturating, NaN as 0.
    pub(super) fn into_tensor(self, dtype: DType, shape: &[usize]) -> Result<Tensor, String> {
        use DType::*;
        if matches!(dtype, String | F8E4M3FN | F8E5M2) {
            return Err(format!("no op computes {dtype} results"));
        }
        Ok(match (self, dtype) {
            (Self::Float(v), F16) => {
                let v: Vec<f16> = v.into_iter().map(|v| f16::from_f32(v as f32)).collect();
                Tensor::from_slice(shape, &v)
            }
            (Self::Float(v), BF16) => {
                let v: Vec<bf16> = v.into_iter().map(|v| bf16::from_f32(v as f32)).collect();
                Tensor::from_slice(shape, &v)
            }
            (Self::Float(v), _) => Tensor::from_f64(dtype, shape, &v),
            // Straight to f32: by way of f64, an int64 would be rounded twice.
            (Self::Int(v), F16 | BF16 | F32) => {
                let v: Vec<f64> = v.into_iter().map(|v| f64::from(v as f32)).collect();
                Self::Float(v).into_tensor(dtype, shape)?
            }
            (Self::Int(v), F64) => {
                Tensor::from_f64(dtype, shape, &v.into_iter().map(|v| v as f64).collect::<Vec<_>>())
            }
            (Self::Int(v), I64) => {
                Tensor::from_slice(shape, &v.into_iter().map(|v| v as i64).collect::<Vec<_>>())
            }
            (Self::Int(v), U64) => {
                Tensor::from_slice(shape, &v.into_iter().map(|v| v as u64).collect::<Vec<_>>())
            }
            (Self::Int(v), _) => {
                let v: Vec<f64> = v.into_iter().map(|v| wrap(v, dtype) as f64).collect();
                Tensor::from_f64(dtype, shape, &v)
            }
        })
    }
}

/// The elements of an integer or bool tensor.
pub(super) fn integers(tensor: &Tensor) -> Vec<i128> {
    match tensor.dtype() {
        DType::I64 => tensor.elements::<i64>().iter().map(|&v| i128::from(v)).collect(),
        DType::U64 => tensor.elements::<u64>().iter().map(|&v| i128::from(v)).collect(),
        dtype => {
            assert!(!dtype.is_float(), "integers of a {dtype} tensor");
            tensor.to_f64_vec().into_iter().map(|v| v as i128).collect()
        }
    }
}

/// Two's complement of `dtype`'s width; bool is "not zero".
fn wrap(value: i128, dtype: DType) -> i128 {
    if dtype == DType::Bool {
        return i128::from(value != 0);
    }
    let unused = 128 - dtype.bits() as u32;
    if dtype.is_signed_int() {
        (value << unused) >> unused
    } else {
        (((value as u128) << unused) >> unused) as i128
    }
}

/// Sums and products of f64 and of integers.
pub(super) trait Number: Copy {
    const ZERO: Self;
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
}

impl Number for f64 {
    const ZERO: Self = 0.0;
    fn plus(self, other: Self) -> Self {
        self + other
    }
    fn times(self, other: Self) -> Self {
        self * other
    }
}

/// Wraps at 2^128, of which every element type's range is a divisor: wrapping again at the
/// output gives what wrapping at every step would.
impl Number for i128 {
    const ZERO: Self = 0;
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
    fn times(self, other: Self) -> Self {
        self.wrapping_mul(other)
    }
}

/// The larger; NaN when either is.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The smaller; NaN when either is.
pub(super) fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_wrap() {
        let wrapped = |dtype, v| Numbers::Int(vec![v]).into_tensor(dtype, &[1]).unwrap();
        assert_eq!(integers(&wrapped(DType::I8, 200)), [-56]);
        assert_eq!(integers(&wrapped(DType::U8, -1)), [255]);
        assert_eq!(integers(&wrapped(DType::I4, 9)), [-7]);
        assert_eq!(integers(&wrapped(DType::U6, 65)), [1]);
        assert_eq!(integers(&wrapped(DType::I32, 1 << 31)), [-(1 << 31)]);
        assert_eq!(integers(&wrapped(DType::I64, 1 << 63)), [-(1 << 63)]);
        assert_eq!(integers(&wrapped(DType::U64, -1)), [(1 << 64) - 1]);
        assert_eq!(integers(&wrapped(DType::Bool, 2)), [1]);
    }

    #[test]
    fn floats_round_once() {
        let rounded = |dtype, v| Numbers::Float(vec![v]).into_tensor(dtype, &[1]).unwrap();
        assert_eq!(rounded(DType::F32, 0.1).elements::<f32>()[0], 0.1f32);
        assert_eq!(rounded(DType::F16, 65520.0).to_f64_vec(), [f64::INFINITY]);
        assert_eq!(rounded(DType::F16, 2049.0).to_f64_vec(), [2048.0]);
        assert_eq!(rounded(DType::BF16, 1.0 + 1.0 / 256.0).to_f64_vec(), [1.0]);
        assert_eq!(rounded(DType::I32, -2.9).to_f64_vec(), [-2.0]);
        assert_eq!(rounded(DType::I8, 1e9).to_f64_vec(), [127.0]);
        assert_eq!(rounded(DType::I32, f64::NAN).to_f64_vec(), [0.0]);
        assert_eq!(rounded(DType::Bool, 0.5).to_f64_vec(), [1.0]);
        let exact = Numbers::Int(vec![(1 << 60) + (1 << 36) + 1]);
        let f = exact.into_tensor(DType::F32, &[1]).unwrap();
        assert_eq!(f.elements::<f32>()[0], (1u64 << 60) as f32 + (1u64 << 37) as f32);
    }

    #[test]
    fn eight_bit_floats_are_not_computed() {
        assert!(Numbers::Float(vec![1.0]).into_tensor(DType::F8E5M2, &[1]).is_err());
    }

    #[test]
    fn nan_wins() {
        assert!(larger(f64::NAN, 1.0).is_nan() && larger(1.0, f64::NAN).is_nan());
        assert!(smaller(f64::NAN, 1.0).is_nan() && smaller(1.0, f64::NAN).is_nan());
        assert_eq!((larger(1.0, 2.0), smaller(1.0, 2.0)), (2.0, 1.0));
    }
}
