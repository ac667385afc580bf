//! How weights are kept for inference: as they come, or in fewer bits.

use half::slice::HalfFloatSliceExt as _;
use orion_tensor::{AlignedBytes, Bytes, DType, Tensor, bf16, f16, in_parts};
use std::ops::Range;

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

/// A parameter as it is kept.
pub(crate) enum Kept {
    Plain(Tensor),
    Int8(QuantizedMatrix),
}

impl WeightStorage {
    /// A parameter as it is to be kept, sharing storage where it is so already. What does not
    /// decay is no matrix of a product, whatever its shape.
    pub(crate) fn keep(self, tensor: &Tensor, decays: bool) -> Kept {
        match self {
            Self::Float(dtype) if decays && tensor.shape().len() == 2 => {
                Kept::Plain(convert(tensor, dtype))
            }
            Self::Int8 if decays && tensor.shape().len() == 2 => Kept::Int8(quantize_rows(tensor)),
            _ => Kept::Plain(tensor.clone()),
        }
    }
}

/// A matrix in blocks of int8: `value = scale · (data - offset)`, where `scale` has one column for
/// each block of `data`'s columns.
#[derive(Debug, Clone)]
pub struct QuantizedMatrix {
    /// int8 `[O, I]`
    pub data: Tensor,
    /// fp32 `[O, I / block]`
    pub scale: Tensor,
    /// Like `scale`; none where the numbers lie around zero.
    pub offset: Option<Tensor>,
}

impl QuantizedMatrix {
    /// The numbers, fp32 `[O, I]`.
    pub fn dequantize(&self) -> Tensor {
        let scales = self.scale.to_f32_vec();
        let offsets = self.offset.as_ref().map(Tensor::to_f32_vec);
        let mut values = self.data.to_f32_vec();
        let block = (values.len() / scales.len().max(1)).max(1);
        for (i, (values, scale)) in values.chunks_exact_mut(block).zip(scales).enumerate() {
            let offset = offsets.as_ref().map_or(0.0, |o| o[i]);
            values.iter_mut().for_each(|v| *v = (*v - offset) * scale);
        }
        Tensor::from_slice(self.data.shape(), &values)
    }
}

/// Numbers that are widened at once: a copy of all of a matrix in f32 may be as large as the model.
const AT_ONCE: usize = 1 << 16;

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
    let scales = in_parts(&mut data, columns, |first, data| {
        let mut scales = Vec::with_capacity(data.len() / block);
        for_values(
            matrix,
            first * columns..first * columns + data.len(),
            block,
            |start, values| {
                let to = &mut data[start..start + values.len()];
                for (values, to) in values.chunks_exact(block).zip(to.chunks_exact_mut(block)) {
                    let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
                    let scale = largest / 127.0;
                    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                    for (to, v) in to.iter_mut().zip(values) {
                        *to = rounded(v * inverse) as i8 as u8;
                    }
                    scales.push(scale);
                }
            },
        );
        scales
    });
    let data = Tensor::new(DType::I8, vec![rows, columns], Bytes::new(data));
    QuantizedMatrix {
        data: data.expect("a byte for each element"),
        scale: Tensor::from_slice(&[rows, columns / block], &scales.concat()),
        offset: None,
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
    let size = dtype.size_bytes();
    let mut to = AlignedBytes::zeroed(tensor.element_count() * size);
    in_parts(&mut to, size, |first, to| {
        for_values(tensor, first..first + to.len() / size, 1, |start, values| {
            let to = &mut to[start * size..(start + values.len()) * size];
            match dtype {
                DType::F32 => bytemuck::cast_slice_mut(to).copy_from_slice(values),
                DType::F16 => bytemuck::cast_slice_mut::<_, f16>(to).convert_from_f32_slice(values),
                DType::BF16 => {
                    bytemuck::cast_slice_mut::<_, bf16>(to).convert_from_f32_slice(values);
                }
                other => panic!("weights are not kept as {other}"),
            }
        });
    });
    let converted = Tensor::new(dtype, tensor.shape().to_vec(), Bytes::new(to));
    converted.expect("as many elements as before")
}

/// Calls `each` with parts of a range of a tensor's numbers, whole units, and with where they
/// begin in the range.
fn for_values(
    tensor: &Tensor,
    range: Range<usize>,
    unit: usize,
    mut each: impl FnMut(usize, &[f32]),
) {
    let size = tensor.dtype().size_bytes();
    let together = (AT_ONCE / unit).max(1) * unit;
    for start in range.clone().step_by(together) {
        let len = together.min(range.end - start);
        let bytes = tensor.bytes().slice(start * size..(start + len) * size);
        let part = bytes.map(|bytes| Tensor::new(tensor.dtype(), vec![len], bytes));
        let part = part.expect("inside the tensor").expect("whole numbers");
        each(start - range.start, &part.to_f32_vec());
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
        let QuantizedMatrix { data, scale, .. } = quantize_rows(&matrix);
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
    fn large_tensors_are_converted_like_small_ones() {
        // Several parts and several times what is widened at once; a row is one block.
        let (rows, columns) = (12_001, 172);
        let values: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * 0.7).sin()).collect();
        let matrix = Tensor::from_slice(&[rows, columns], &values);
        let row = |t: &Tensor, r: usize| t.to_f32_vec()[r * columns..(r + 1) * columns].to_vec();
        let all = quantize_rows(&matrix);
        let narrow = [DType::F16, DType::BF16].map(|dtype| convert(&matrix, dtype));
        for r in [0, 1, 380, 381, 6000, 6001, rows - 1] {
            let one = Tensor::from_slice(&[1, columns], &values[r * columns..(r + 1) * columns]);
            let QuantizedMatrix { data, scale, .. } = quantize_rows(&one);
            assert_eq!(row(&all.data, r), data.to_f32_vec());
            assert_eq!(all.scale.to_f32_vec()[r], scale.to_f32_vec()[0]);
            for all in &narrow {
                assert_eq!(row(all, r), convert(&one, all.dtype()).to_f32_vec());
            }
        }
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        let QuantizedMatrix { data, scale, .. } =
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
