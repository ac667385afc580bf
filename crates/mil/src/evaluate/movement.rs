//! Ops that only move elements. They copy bytes, so they keep every bit of every type.

use super::numbers::integers;
use super::offsets::{offsets, strides};
use crate::op::PadMode;
use orion_tensor::{Bytes, Tensor, element_count};

/// The elements of `x` at `sources`, under a new shape.
pub(super) fn take(
    x: &Tensor,
    shape: &[usize],
    sources: impl IntoIterator<Item = usize>,
) -> Tensor {
    take_or(x, shape, &[], sources.into_iter().map(Some))
}

/// The same, with the bytes of `other` where there is no source.
fn take_or(
    x: &Tensor,
    shape: &[usize],
    other: &[u8],
    sources: impl Iterator<Item = Option<usize>>,
) -> Tensor {
    let size = x.dtype().size_bytes();
    let bytes: &[u8] = x.bytes();
    let mut result = Vec::with_capacity(element_count(shape) * size);
    for source in sources {
        match source {
            Some(at) => result.extend_from_slice(&bytes[at * size..(at + 1) * size]),
            None => result.extend_from_slice(other),
        }
    }
    Tensor::new(x.dtype(), shape.to_vec(), Bytes::from_elements(&result)).expect("a source each")
}

pub(super) fn transpose(x: &Tensor, perm: &[usize]) -> Tensor {
    let from = strides(x.shape());
    let shape: Vec<usize> = perm.iter().map(|&a| x.shape()[a]).collect();
    let permuted: Vec<isize> = perm.iter().map(|&a| from[a]).collect();
    take(x, &shape, offsets(0, &shape, &permuted))
}

pub(super) fn concat(values: &[Tensor], axis: usize, interleave: bool) -> Tensor {
    let first = values[0].shape();
    let mut shape = first.to_vec();
    shape[axis] = values.iter().map(|v| v.shape()[axis]).sum();
    let mut result = Tensor::zeros(values[0].dtype(), &shape);
    let mut start = 0;
    for (i, value) in values.iter().enumerate() {
        let (begin, step) = if interleave { (i, values.len()) } else { (start, 1) };
        result = placed(&result, value, axis, begin, step);
        start += value.shape()[axis];
    }
    result
}

/// `x` with `part` at positions `begin`, `begin + step`, … of `axis`.
fn placed(x: &Tensor, part: &Tensor, axis: usize, begin: usize, step: usize) -> Tensor {
    let mut into = strides(x.shape());
    let base = begin as isize * into[axis];
    into[axis] *= step as isize;
    overwritten(x, part, offsets(base, part.shape(), &into))
}

/// `x` with the elements of `part` at `targets`.
fn overwritten(x: &Tensor, part: &Tensor, targets: Vec<usize>) -> Tensor {
    let size = x.dtype().size_bytes();
    let mut bytes = x.bytes().to_vec();
    for (at, element) in targets.into_iter().zip(part.bytes().chunks_exact(size)) {
        bytes[at * size..(at + 1) * size].copy_from_slice(element);
    }
    Tensor::new(x.dtype(), x.shape().to_vec(), Bytes::from_elements(&bytes)).expect("same size")
}

pub(super) fn stack(values: &[Tensor], axis: usize) -> Tensor {
    let mut shape = values[0].shape().to_vec();
    shape.insert(axis, 1);
    let unsqueezed: Vec<Tensor> = values.iter().map(|v| v.reshaped(&shape)).collect();
    concat(&unsqueezed, axis, false)
}

pub(super) fn split(x: &Tensor, axis: usize, sizes: &[usize]) -> Vec<Tensor> {
    let mut start = 0;
    sizes
        .iter()
        .map(|&size| {
            let (mut begin, mut shape) = (vec![0; x.shape().len()], x.shape().to_vec());
            (begin[axis], shape[axis]) = (start, size);
            start += size;
            slice(x, &begin, &shape, &vec![1; shape.len()])
        })
        .collect()
}

/// The strided part, with no axis dropped yet.
pub(super) fn slice(x: &Tensor, begin: &[usize], size: &[usize], stride: &[isize]) -> Tensor {
    let from = strides(x.shape());
    let base = begin.iter().zip(&from).map(|(&b, s)| b as isize * s).sum();
    let steps: Vec<isize> = stride.iter().zip(&from).map(|(a, b)| a * b).collect();
    take(x, size, offsets(base, size, &steps))
}

/// Where a part begins. Positions below zero count from the end.
fn part_begin(
    begin: &Tensor,
    mask: &[bool],
    shape: &[usize],
    size: &[usize],
) -> Result<Vec<usize>, String> {
    let begin = integers(begin);
    let axes = begin.iter().enumerate();
    axes.map(|(axis, &position)| {
        if mask.get(axis) == Some(&true) {
            return Ok(0);
        }
        let (length, count) = (shape[axis] as i128, size[axis] as i128);
        let from_start = if position < 0 { position + length } else { position };
        if from_start < 0 || from_start + count > length {
            return Err(format!(
                "begin {position} of axis {axis} leaves no room for {count} of {length} elements"
            ));
        }
        Ok(from_start as usize)
    })
    .collect()
}

pub(super) fn dynamic_slice(x: &Tensor, begin: &Tensor, size: &[usize]) -> Result<Tensor, String> {
    let begin = part_begin(begin, &[], x.shape(), size)?;
    Ok(slice(x, &begin, size, &vec![1; size.len()]))
}

pub(super) fn slice_update(
    x: &Tensor,
    update: &Tensor,
    begin: &Tensor,
    begin_mask: &[bool],
) -> Result<Tensor, String> {
    let begin = part_begin(begin, begin_mask, x.shape(), update.shape())?;
    let into = strides(x.shape());
    let base = begin.iter().zip(&into).map(|(&b, s)| b as isize * s).sum();
    Ok(overwritten(x, update, offsets(base, update.shape(), &into)))
}

pub(super) fn tile(x: &Tensor, reps: &[usize]) -> Tensor {
    let shape: Vec<usize> = x.shape().iter().zip(reps).map(|(n, r)| n * r).collect();
    // Every axis is two: repetitions, which do not move, and positions.
    let pairs = reps.iter().zip(x.shape()).flat_map(|(&r, &n)| [r, n]).collect::<Vec<_>>();
    let steps = strides(x.shape()).into_iter().flat_map(|s| [0, s]).collect::<Vec<_>>();
    take(x, &shape, offsets(0, &pairs, &steps))
}

pub(super) fn pad(x: &Tensor, pads: &[(usize, usize)], mode: PadMode) -> Result<Tensor, String> {
    let constant = match mode {
        PadMode::Constant(value) => Tensor::from_f64(x.dtype(), &[], &[value]),
        PadMode::Reflect | PadMode::Replicate => Tensor::zeros(x.dtype(), &[]),
    };
    let shape: Vec<usize> = x.shape().iter().zip(pads).map(|(n, (b, a))| b + n + a).collect();
    let mut sources: Vec<Option<usize>> = vec![Some(0)];
    for ((&(before, _), &size), (&padded, stride)) in
        pads.iter().zip(x.shape()).zip(shape.iter().zip(strides(x.shape())))
    {
        let along: Vec<Option<usize>> = (0..padded)
            .map(|i| border_source(i as isize - before as isize, size as isize, mode))
            .map(|source| source.map(|s| s * stride as usize))
            .collect();
        sources = sources
            .iter()
            .flat_map(|&start| along.iter().map(move |&step| Some(start? + step?)))
            .collect();
    }
    if !matches!(mode, PadMode::Constant(_)) && sources.contains(&None) {
        return Err(format!("nothing to repeat in a tensor of shape {:?}", x.shape()));
    }
    Ok(take_or(x, &shape, constant.bytes(), sources.into_iter()))
}

/// Which of `size` elements a padded axis holds at `i`, counted from the first of them.
fn border_source(i: isize, size: isize, mode: PadMode) -> Option<usize> {
    let inside = match mode {
        _ if size == 0 => return None,
        PadMode::Constant(_) if !(0..size).contains(&i) => return None,
        PadMode::Constant(_) => i,
        PadMode::Replicate => i.clamp(0, size - 1),
        PadMode::Reflect if size == 1 => 0,
        PadMode::Reflect => {
            let period = 2 * (size - 1);
            let i = i.rem_euclid(period);
            i.min(period - i)
        }
    };
    Some(inside as usize)
}

pub(super) fn band_part(x: &Tensor, lower: i64, upper: i64) -> Tensor {
    let shape = x.shape();
    let [rows, columns] = [shape[shape.len() - 2], shape[shape.len() - 1]];
    let zero = Tensor::zeros(x.dtype(), &[]);
    let kept = (0..x.element_count()).map(|at| {
        let (row, column) = ((at / columns % rows) as i64, (at % columns) as i64);
        let inside = (lower < 0 || row - column <= lower) && (upper < 0 || column - row <= upper);
        inside.then_some(at)
    });
    take_or(x, shape, zero.bytes(), kept)
}
