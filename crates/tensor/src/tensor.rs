use crate::{AlignedBytes, Bytes, DType, Element, element_count};
use half::{bf16, f16};
use std::borrow::Cow;
use std::fmt;

/// An immutable, dense, row-major tensor in host memory. Cloning shares the storage.
///
/// Elements are little-endian. Sub-byte types are held unpacked, one element a byte
/// (two's complement for `I4`); `Bool` is one byte, 0 or 1. `String` is not representable.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Bytes,
}

/// Why bytes do not make a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorError {
    dtype: DType,
    shape: Vec<usize>,
    actual_bytes: usize,
}

impl fmt::Display for TensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a tensor {}{:?} does not fit {} bytes of data",
            self.dtype, self.shape, self.actual_bytes
        )
    }
}

impl std::error::Error for TensorError {}

impl Tensor {
    /// A tensor over `bytes`.
    ///
    /// # Errors
    /// When the number of bytes is not what dtype and shape ask for, or dtype is `String`.
    pub fn new(dtype: DType, shape: Vec<usize>, bytes: Bytes) -> Result<Self, TensorError> {
        let expected = shape.iter().try_fold(dtype.size_bytes(), |n, &d| n.checked_mul(d));
        if dtype == DType::String || expected != Some(bytes.len()) {
            return Err(TensorError { dtype, shape, actual_bytes: bytes.len() });
        }
        Ok(Self { dtype, shape, bytes })
    }

    /// A tensor holding a copy of `elements`.
    ///
    /// # Panics
    /// When the shape does not have that many elements.
    pub fn from_slice<T: Element>(shape: &[usize], elements: &[T]) -> Self {
        assert_eq!(element_count(shape), elements.len(), "shape {shape:?} and element count");
        Self { dtype: T::DTYPE, shape: shape.to_vec(), bytes: Bytes::from_elements(elements) }
    }

    /// A tensor of zeros.
    ///
    /// # Panics
    /// When dtype is `String`.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        assert_ne!(dtype, DType::String, "strings have no zero");
        let bytes = AlignedBytes::zeroed(element_count(shape) * dtype.size_bytes());
        Self { dtype, shape: shape.to_vec(), bytes: Bytes::new(bytes) }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The size of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The storage.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The number of elements.
    pub fn element_count(&self) -> usize {
        element_count(&self.shape)
    }

    /// The same storage under another shape.
    ///
    /// # Panics
    /// When the element counts differ.
    pub fn reshaped(&self, shape: &[usize]) -> Self {
        assert_eq!(
            element_count(shape),
            self.element_count(),
            "reshape {:?} to {shape:?}",
            self.shape
        );
        Self { shape: shape.to_vec(), ..self.clone() }
    }

    /// The elements as `T`, copied only when the storage is not aligned for `T`
    /// (memory-mapped files need not be).
    ///
    /// # Panics
    /// When `T` is not this tensor's element type.
    pub fn elements<T: Element>(&self) -> Cow<'_, [T]> {
        assert_eq!(T::DTYPE, self.dtype, "element type");
        match bytemuck::try_cast_slice(&self.bytes) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(&self.bytes)),
        }
    }

    /// All elements converted to f64. Exact for every type up to 53 bits.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        fn widen<T: Element>(t: &Tensor, f: impl Fn(T) -> f64) -> Vec<f64> {
            t.elements::<T>().iter().map(|&v| f(v)).collect()
        }
        match self.dtype {
            DType::F16 => widen::<f16>(self, |v| v.to_f64()),
            DType::BF16 => widen::<bf16>(self, |v| v.to_f64()),
            DType::F32 => widen::<f32>(self, f64::from),
            DType::F64 => widen::<f64>(self, |v| v),
            DType::I16 => widen::<i16>(self, f64::from),
            DType::I32 => widen::<i32>(self, f64::from),
            DType::I64 => widen::<i64>(self, |v| v as f64),
            DType::U16 => widen::<u16>(self, f64::from),
            DType::U32 => widen::<u32>(self, f64::from),
            DType::U64 => widen::<u64>(self, |v| v as f64),
            DType::I8 | DType::I4 => self.bytes.iter().map(|&b| f64::from(b as i8)).collect(),
            DType::Bool | DType::U1 | DType::U2 | DType::U3 | DType::U4 | DType::U6 | DType::U8 => {
                self.bytes.iter().map(|&b| f64::from(b)).collect()
            }
            DType::F8E4M3FN => self.bytes.iter().map(|&b| decode_f8(b, 4)).collect(),
            DType::F8E5M2 => self.bytes.iter().map(|&b| decode_f8(b, 5)).collect(),
            DType::String => unreachable!("a Tensor never holds strings"),
        }
    }

    /// All elements converted to f32, rounding to nearest even.
    pub fn to_f32_vec(&self) -> Vec<f32> {
        match self.dtype {
            DType::F32 => self.elements::<f32>().into_owned(),
            DType::F16 => self.elements::<f16>().iter().map(|v| v.to_f32()).collect(),
            DType::BF16 => self.elements::<bf16>().iter().map(|v| v.to_f32()).collect(),
            _ => self.to_f64_vec().into_iter().map(|v| v as f32).collect(),
        }
    }

    /// A tensor of `dtype` from f64 values: floats round to nearest even, integers truncate
    /// towards zero and saturate, `Bool` is "not zero".
    ///
    /// # Panics
    /// When the shape does not have that many elements, or dtype is `String` or an 8-bit float.
    pub fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Self {
        fn narrow<T: Element>(shape: &[usize], values: &[f64], f: impl Fn(f64) -> T) -> Tensor {
            let elements: Vec<T> = values.iter().map(|&v| f(v)).collect();
            Tensor::from_slice(shape, &elements)
        }
        let unsigned = |bits: u32| {
            let max = f64::from((1u32 << bits) - 1);
            let t = narrow::<u8>(shape, values, |v| v.clamp(0.0, max) as u8);
            Self { dtype, ..t }
        };
        match dtype {
            DType::F16 => narrow(shape, values, |v| f16::from_f32(to_odd(v))),
            DType::BF16 => narrow(shape, values, |v| bf16::from_f32(to_odd(v))),
            DType::F32 => narrow(shape, values, |v| v as f32),
            DType::F64 => narrow(shape, values, |v| v),
            DType::I8 => narrow(shape, values, |v| v as i8),
            DType::I16 => narrow(shape, values, |v| v as i16),
            DType::I32 => narrow(shape, values, |v| v as i32),
            DType::I64 => narrow(shape, values, |v| v as i64),
            DType::U8 => narrow(shape, values, |v| v as u8),
            DType::U16 => narrow(shape, values, |v| v as u16),
            DType::U32 => narrow(shape, values, |v| v as u32),
            DType::U64 => narrow(shape, values, |v| v as u64),
            DType::I4 => {
                let t = narrow::<i8>(shape, values, |v| v.clamp(-8.0, 7.0) as i8);
                Self { dtype, ..t }
            }
            DType::U1 => unsigned(1),
            DType::U2 => unsigned(2),
            DType::U3 => unsigned(3),
            DType::U4 => unsigned(4),
            DType::U6 => unsigned(6),
            DType::Bool => {
                let t = narrow::<u8>(shape, values, |v| u8::from(v != 0.0));
                Self { dtype, ..t }
            }
            DType::String | DType::F8E4M3FN | DType::F8E5M2 => {
                panic!("no conversion from fp64 to {dtype}")
            }
        }
    }
}

fn decode_f8(byte: u8, exponent_bits: u32) -> f64 {
    let mantissa_bits = 7 - exponent_bits;
    let sign = if byte & 0x80 != 0 { -1.0 } else { 1.0 };
    let exponent = i32::from((byte & 0x7f) >> mantissa_bits);
    let mantissa = f64::from(byte & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
    let bias = (1 << (exponent_bits - 1)) - 1;
    let top = (1 << exponent_bits) - 1;
    match (exponent_bits, exponent) {
        (4, _) if byte & 0x7f == 0x7f => f64::NAN,
        (5, e) if e == top && mantissa == 0.0 => sign * f64::INFINITY,
        (5, e) if e == top => f64::NAN,
        (_, 0) => sign * mantissa * f64::powi(2.0, 1 - bias),
        (_, e) => sign * (1.0 + mantissa) * f64::powi(2.0, e - bias),
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}{:?})", self.dtype, self.shape)
    }
}

/// The nearest f32 towards zero, made odd when it is not exact: rounding that to a shorter type
/// is the same as rounding `v` at once (Boldo and Melquiond, "Emulation of FMA and correctly
/// rounded sums", 2008). The conversions from f64 of the `half` crate look at the upper 32 bits
/// only and miss how ties are to be broken.
fn to_odd(v: f64) -> f32 {
    let nearest = v as f32;
    if f64::from(nearest) == v || v.is_nan() {
        return nearest;
    }
    let beyond = f64::from(nearest).abs() > v.abs();
    f32::from_bits((nearest.to_bits() - u32::from(beyond)) | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_wrong_sizes() {
        let bytes = Bytes::new(vec![0u8; 10]);
        assert!(Tensor::new(DType::F32, vec![2], bytes.clone()).is_err());
        assert!(Tensor::new(DType::F32, vec![usize::MAX, 8], bytes.clone()).is_err());
        assert!(Tensor::new(DType::F16, vec![5], bytes).is_ok());
    }

    #[test]
    fn reads_unaligned_storage() {
        let mut raw = vec![0u8];
        raw.extend(1.5f32.to_le_bytes());
        let bytes = Bytes::new(raw).slice(1..5).unwrap();
        let t = Tensor::new(DType::F32, vec![1], bytes).unwrap();
        assert_eq!(t.to_f64_vec(), [1.5]);
    }

    #[test]
    fn f8_values() {
        assert_eq!(decode_f8(0x38, 4), 1.0);
        assert_eq!(decode_f8(0x7e, 4), 448.0);
        assert_eq!(decode_f8(0x3c, 5), 1.0);
        assert_eq!(decode_f8(0x7b, 5), 57344.0);
        assert!(decode_f8(0x7f, 4).is_nan());
    }

    #[test]
    fn sixteen_bit_floats_round_at_once() {
        // Right beside the middle between two neighbours, by less than an f32 or f64 can tell of
        // the upper 32 bits.
        for tail in [2f64.powi(-23), 2f64.powi(-40), 2f64.powi(-52)] {
            let bf16 = |v: f64| Tensor::from_f64(DType::BF16, &[1], &[v]).to_f64_vec()[0];
            assert_eq!(bf16(1.0 + 2f64.powi(-8) + tail), 1.0 + 2f64.powi(-7));
            assert_eq!(bf16(1.0 + 2f64.powi(-8)), 1.0);
            assert_eq!(bf16(1.0 + 3.0 * 2f64.powi(-8) - tail), 1.0 + 2f64.powi(-7));
            let f16 = |v: f64| Tensor::from_f64(DType::F16, &[1], &[v]).to_f64_vec()[0];
            assert_eq!(f16(-1.0 - 2f64.powi(-11) - tail), -1.0 - 2f64.powi(-10));
            assert_eq!(f16(-1.0 - 2f64.powi(-11)), -1.0);
            assert_eq!(f16(1.0 + 3.0 * 2f64.powi(-11) - tail), 1.0 + 2f64.powi(-10));
        }
        let f16 = |v: f64| Tensor::from_f64(DType::F16, &[1], &[v]).to_f64_vec()[0];
        assert_eq!(f16(1e300), f64::INFINITY);
        assert_eq!(f16(65519.999), 65504.0);
        assert_eq!(f16(-1e-300), 0.0);
        assert_eq!(f16(2f64.powi(-25) * 1.0000001), 2f64.powi(-24));
        assert!(f16(f64::NAN).is_nan());
    }
}
