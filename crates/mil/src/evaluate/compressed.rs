//! Unpacking of constants: palettes, masks, scales by block.

use super::movement::take;
use super::numbers::{Numbers, integers};
use super::offsets::{offsets, strides};
use crate::TensorType;
use crate::op::Constexpr;
use orion_tensor::{Bytes, Tensor, element_count};

pub(super) fn constexpr(
    op: &Constexpr,
    operands: &[Tensor],
    types: &[TensorType],
) -> Result<Vec<Tensor>, String> {
    let shape = |i: usize| types[i].shape().ok_or("the output's shape is not known");
    let first = shape(0)?;
    let rounded = |numbers: Vec<f64>, i: usize, shape: &[usize]| {
        Numbers::Float(numbers).into_tensor(types[i].dtype, shape)
    };
    match op {
        Constexpr::Affine { axis, .. } => {
            let data = operands[0].to_f64_vec();
            let (scale, zero) = (operands[1].to_f64_vec(), operands[2].to_f64_vec());
            let inner: usize = element_count(&first[axis + 1..]);
            let at =
                |v: &[f64], i: usize| if v.len() == 1 { v[0] } else { v[i / inner % first[*axis]] };
            let values =
                data.iter().enumerate().map(|(i, q)| at(&scale, i) * (q - at(&zero, i))).collect();
            Ok(vec![rounded(values, 0, &first)?])
        }
        Constexpr::Lut { packed: Some(_), .. } => {
            let (stream, lut) = (&operands[0], &operands[1]);
            let bits = lut.element_count().ilog2() as usize;
            let indices = (0..element_count(&first)).map(|i| unpacked(stream.bytes(), i, bits));
            Ok(vec![take(lut, &first, indices)])
        }
        Constexpr::Lut { vector_axis, packed: None, .. } => {
            let (indices, lut) = (&operands[0], &operands[1]);
            let rank = indices.shape().len();
            let (entries, vector) = (lut.shape()[rank], lut.shape()[rank + 1]);
            let palettes = by_block(indices.shape(), &lut.shape()[..rank]);
            let indices_flat = integers(indices);
            let axis = vector_axis.unwrap_or(0);
            let inner: usize = if rank == 0 { 1 } else { element_count(&first[axis + 1..]) };
            let sources = (0..element_count(&first)).map(|i| {
                // Position along the axis of vectors: which index, and which of its numbers.
                let (along, rest) = (i / inner, i % inner);
                let at = along / vector * inner + rest;
                (palettes[at] * entries + indices_flat[at] as usize) * vector + along % vector
            });
            Ok(vec![take(lut, &first, sources)])
        }
        Constexpr::Sparse { packed, .. } => {
            let (data, mask) = (&operands[0], &operands[1]);
            let count = element_count(&first);
            let ones: Vec<usize> = match packed {
                Some(_) => (0..count).filter(|&i| unpacked(mask.bytes(), i, 1) == 1).collect(),
                None => ones(mask),
            };
            require_count(data, ones.len())?;
            let size = data.dtype().size_bytes();
            let mut bytes = vec![0u8; count * size];
            for (at, element) in ones.into_iter().zip(data.bytes().chunks_exact(size)) {
                bytes[at * size..(at + 1) * size].copy_from_slice(element);
            }
            let dense = Tensor::new(data.dtype(), first, Bytes::from_elements(&bytes));
            Ok(vec![dense.map_err(|e| e.to_string())?])
        }
        Constexpr::Blockwise { .. } => {
            let blocks = by_block(&first, operands[1].shape());
            let values = scaled(&operands[0], &operands[1], operands.get(2), &blocks);
            Ok(vec![rounded(values, 0, &first)?])
        }
        Constexpr::SparseLut { .. } => {
            let (mask, indices, lut) = (&operands[0], &operands[1], &operands[2]);
            let rank = first.len();
            let entries = lut.shape()[rank];
            let palettes = by_block(&first, &lut.shape()[..rank]);
            let ones = ones(mask);
            require_count(indices, ones.len())?;
            let indices = integers(indices).into_iter().zip(ones);
            let sources = indices.map(|(index, at)| palettes[at] * entries + index as usize);
            Ok(vec![mask.clone(), take(lut, &shape(1)?, sources)])
        }
        Constexpr::SparseBlockwise { .. } => {
            let (mask, data) = (&operands[0], &operands[1]);
            let ones = ones(mask);
            require_count(data, ones.len())?;
            let blocks = by_block(&first, operands[2].shape());
            let blocks: Vec<usize> = ones.into_iter().map(|at| blocks[at]).collect();
            let values = scaled(data, &operands[2], operands.get(3), &blocks);
            Ok(vec![mask.clone(), rounded(values, 1, &shape(1)?)?])
        }
    }
}

/// The number of `bits` bits at a position of a stream, lowest bit first.
fn unpacked(stream: &[u8], position: usize, bits: usize) -> usize {
    let first = position * bits;
    (0..bits).map(|b| (usize::from(stream[(first + b) / 8]) >> ((first + b) % 8) & 1) << b).sum()
}

/// The positions of the ones.
fn ones(mask: &Tensor) -> Vec<usize> {
    mask.bytes().iter().enumerate().filter(|&(_, &b)| b != 0).map(|(i, _)| i).collect()
}

fn require_count(values: &Tensor, ones: usize) -> Result<(), String> {
    if values.element_count() == ones {
        return Ok(());
    }
    Err(format!("the mask has {ones} ones for {} values", values.element_count()))
}

/// For every element of a tensor of `shape`, the block it is in, when axis `a` is cut into
/// `blocks[a]` equal parts.
fn by_block(shape: &[usize], blocks: &[usize]) -> Vec<usize> {
    // Each axis as (block, within): blocks step through the block table, positions within do not.
    let pairs: Vec<usize> = shape.iter().zip(blocks).flat_map(|(n, b)| [*b, n / b]).collect();
    let steps: Vec<isize> = strides(blocks).into_iter().flat_map(|s| [s, 0]).collect();
    offsets(0, &pairs, &steps)
}

fn scaled(data: &Tensor, scale: &Tensor, offset: Option<&Tensor>, blocks: &[usize]) -> Vec<f64> {
    let (scale, offset) = (scale.to_f64_vec(), offset.map(Tensor::to_f64_vec));
    let numbers = data.to_f64_vec().into_iter().zip(blocks);
    numbers.map(|(q, &b)| scale[b] * (q - offset.as_ref().map_or(0.0, |o| o[b]))).collect()
}
