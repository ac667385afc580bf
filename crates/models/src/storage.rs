//! How weights are kept for inference: as they come, or in fewer bits.

use orion_tensor::{AlignedBytes, Bytes, DType, Tensor, bf16, f16};

/// How the matrices of a model are kept. Vectors, such as norms and biases, stay as they come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightStorage {
    /// As they come.
    #[default]
    AsGiven,
    /// In this element type: fp32, fp16 or bf16, rounded to nearest even.
    Float(DType),
    /// int8 with one fp32 scale for each block of a row, see [`quantize_rows`].
    Int8,
}

/// A matrix in blocks of int8: `value = data · scale`, where `scale` has one column for each block
/// of `data`'s columns.
#[derive(Debug, Clone)]
pub struct QuantizedMatrix {
    /// int8 `[O, I]`
    pub data: Tensor,
    /// fp32 `[O, I / block]`
    pub scale: Tensor,
}

impl QuantizedMatrix {
    /// The numbers, fp32 `[O, I]`.
    pub fn dequantize(&self) -> Tensor {
        let scales = self.scale.to_f32_vec();
        let mut values = self.data.to_f32_vec();
        let block = (values.len() / scales.len().max(1)).max(1);
        for (values, scale) in values.chunks_exact_mut(block).zip(scales) {
            values.iter_mut().for_each(|v| *v *= scale);
        }
        Tensor::from_slice(self.data.shape(), &values)
    }
}

/// Bytes of f32 that are made of a matrix at once.
const ROWS_BYTES: usize = 1 << 18;

/// Elements that share a scale, where the rows allow it.
const BLOCK: usize = 64;

/// The length of a block in rows of that length: the largest power of two from 16 to 64 that
/// divides it, or the whole row.
fn block_length(row: usize) -> usize {
    [BLOCK, 32, 16].into_iter().find(|&b| row.is_multiple_of(b)).unwrap_or(row)
}

/// Rounds the rows of a matrix to int8: in each block the largest magnitude becomes 127.
///
/// # Panics
/// When the tensor has not two axes or is empty.
pub fn quantize_rows(matrix: &Tensor) -> QuantizedMatrix {
    let &[rows, columns] = matrix.shape() else {
        panic!("a matrix has two axes, not {:?}", matrix.shape());
    };
    let block = block_length(columns);
    let mut data = AlignedBytes::zeroed(rows * columns);
    let mut scales = Vec::with_capacity(rows * columns / block);
    let row_bytes = columns * matrix.dtype().size_bytes();
    // A part of the matrix at a time: a copy of all of it in f32 may be as large as the model.
    let together = (ROWS_BYTES / (4 * columns).max(1)).max(1);
    for first in (0..rows).step_by(together) {
        let count = together.min(rows - first);
        let bytes = matrix.bytes().slice(first * row_bytes..(first + count) * row_bytes);
        let bytes = bytes.expect("the rows are inside the matrix");
        let part = Tensor::new(matrix.dtype(), vec![count, columns], bytes);
        let values = part.expect("whole rows").to_f32_vec();
        let to = &mut data[first * columns..(first + count) * columns];
        for (values, to) in values.chunks_exact(block).zip(to.chunks_exact_mut(block)) {
            let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
            let scale = largest / 127.0;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            for (to, v) in to.iter_mut().zip(values) {
                *to = rounded(v * inverse) as i8 as u8;
            }
            scales.push(scale);
        }
    }
    let data = Tensor::new(DType::I8, vec![rows, columns], Bytes::new(data));
    QuantizedMatrix {
        data: data.expect("a byte for each element"),
        scale: Tensor::from_slice(&[rows, columns / block], &scales),
    }
}

/// The nearest whole number, ties to even, of a number that is no larger than 2²². Adding makes
/// the digits behind the point fall off, where a call for every number would take longer than
/// everything else.
fn rounded(v: f32) -> f32 {
    const WHOLE: f32 = (1 << 23) as f32 * 1.5;
    (v + WHOLE) - WHOLE
}

/// The tensor in another of the types fp32, fp16 and bf16; shares storage when it has that type.
///
/// # Panics
/// When `dtype` is none of these.
pub(crate) fn convert(tensor: &Tensor, dtype: DType) -> Tensor {
    if tensor.dtype() == dtype {
        return tensor.clone();
    }
    let values = tensor.to_f32_vec();
    match dtype {
        DType::F32 => Tensor::from_slice(tensor.shape(), &values),
        DType::F16 => {
            let values: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
            Tensor::from_slice(tensor.shape(), &values)
        }
        DType::BF16 => {
            let values: Vec<bf16> = values.into_iter().map(bf16::from_f32).collect();
            Tensor::from_slice(tensor.shape(), &values)
        }
        other => panic!("weights are not kept as {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_divide_the_row() {
        assert_eq!(block_length(768), 64);
        assert_eq!(block_length(288), 32);
        assert_eq!(block_length(172), 172);
        assert_eq!(block_length(48), 16);
    }

    #[test]
    fn int8_is_off_by_half_a_scale_at_most() {
        let values: Vec<f32> = (0..3 * 128).map(|i| (i as f32 * 0.37).sin() * (i as f32)).collect();
        let matrix = Tensor::from_slice(&[3, 128], &values);
        let QuantizedMatrix { data, scale } = quantize_rows(&matrix);
        assert_eq!((data.shape(), scale.shape()), (&[3, 128][..], &[3, 2][..]));
        let (data, scale) = (data.to_f32_vec(), scale.to_f32_vec());
        let mut saturated = 0;
        for (i, (&q, &v)) in data.iter().zip(&values).enumerate() {
            let scale = scale[i / 64];
            assert!((q * scale - v).abs() <= scale * 0.5 * 1.0001, "{v} became {q} · {scale}");
            saturated += usize::from(q.abs() == 127.0);
        }
        assert!(saturated >= 6, "the largest of each block is 127");
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        let QuantizedMatrix { data, scale } =
            quantize_rows(&Tensor::from_slice(&[1, 64], &[0f32; 64]));
        assert!(data.to_f32_vec().iter().chain(&scale.to_f32_vec()).all(|&v| v == 0.0));
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        for i in -1270..=1270 {
            let v = i as f32 / 10.0;
            assert_eq!(rounded(v), v.round_ties_even(), "{v}");
            assert_eq!(rounded(i as f32 + 0.5), (i as f32 + 0.5).round_ties_even());
        }
    }

    #[test]
    fn conversion_rounds_to_nearest_even() {
        let of = |v: f32, dtype| convert(&Tensor::from_slice(&[1], &[v]), dtype).to_f32_vec()[0];
        assert_eq!(of(1.0 + 1.0 / 256.0, DType::BF16), 1.0);
        assert_eq!(of(1.0 + 3.0 / 256.0, DType::BF16), 1.0 + 4.0 / 256.0);
        assert_eq!(of(1.0 + 1.0 / 2048.0, DType::F16), 1.0);
    }
}
