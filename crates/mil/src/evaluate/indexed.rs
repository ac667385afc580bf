//! Ops whose positions are themselves tensors.

use super::elementwise::position;
use super::movement::take;
use super::numbers::{Numbers, integers, larger, smaller};
use super::offsets::offsets;
use crate::op::ScatterMode;
use orion_tensor::{Tensor, element_count, row_major_strides};

/// Index values, those below zero counted from the end of an axis of `size` elements.
fn resolved(indices: &Tensor, size: usize) -> Result<Vec<usize>, String> {
    let values = integers(indices);
    let resolve = |(at, &index): (usize, &i128)| {
        let from_start = if index < 0 { index + size as i128 } else { index };
        usize::try_from(from_start).ok().filter(|&i| i < size).ok_or_else(|| {
            format!(
                "index {index} at {:?} is outside an axis of {size} elements",
                position(at, indices.shape())
            )
        })
    };
    values.iter().enumerate().map(resolve).collect()
}

pub(super) fn gather(
    x: &Tensor,
    indices: &Tensor,
    axis: usize,
    batch_dims: usize,
) -> Result<Tensor, String> {
    let size = x.shape()[axis];
    let chosen = resolved(indices, size)?;
    let batches = element_count(&x.shape()[..batch_dims]);
    let outer = element_count(&x.shape()[batch_dims..axis]);
    let inner = element_count(&x.shape()[axis + 1..]);
    let per_batch = element_count(&indices.shape()[batch_dims..]);
    let shape =
        [&x.shape()[..axis], &indices.shape()[batch_dims..], &x.shape()[axis + 1..]].concat();
    let mut sources = Vec::with_capacity(element_count(&shape));
    for batch in 0..batches {
        for o in 0..outer {
            for &index in &chosen[batch * per_batch..][..per_batch] {
                let start = ((batch * outer + o) * size + index) * inner;
                sources.extend(start..start + inner);
            }
        }
    }
    Ok(take(x, &shape, sources))
}

/// For every element of `indices`, the offset in a tensor of `shape` it points to.
fn along_axis(shape: &[usize], indices: &Tensor, axis: usize) -> Result<Vec<usize>, String> {
    let chosen = resolved(indices, shape[axis])?;
    let strides = row_major_strides(shape);
    let mut across: Vec<isize> = strides.iter().map(|&s| s as isize).collect();
    across[axis] = 0;
    let starts = offsets(0, indices.shape(), &across);
    Ok(starts.into_iter().zip(chosen).map(|(start, i)| start + i * strides[axis]).collect())
}

pub(super) fn gather_along_axis(
    x: &Tensor,
    indices: &Tensor,
    axis: usize,
) -> Result<Tensor, String> {
    Ok(take(x, indices.shape(), along_axis(x.shape(), indices, axis)?))
}

pub(super) fn scatter(
    data: &Tensor,
    indices: &Tensor,
    updates: &Tensor,
    axis: usize,
    mode: ScatterMode,
) -> Result<Numbers, String> {
    let size = data.shape()[axis];
    let chosen = resolved(indices, size)?;
    let outer = element_count(&data.shape()[..axis]);
    let inner = element_count(&data.shape()[axis + 1..]);
    let mut targets = Vec::with_capacity(outer * chosen.len() * inner);
    for o in 0..outer {
        for &index in &chosen {
            let start = (o * size + index) * inner;
            targets.extend(start..start + inner);
        }
    }
    combined(data, updates, &targets, mode)
}

pub(super) fn scatter_along_axis(
    data: &Tensor,
    indices: &Tensor,
    updates: &Tensor,
    axis: usize,
    mode: ScatterMode,
) -> Result<Numbers, String> {
    combined(data, updates, &along_axis(data.shape(), indices, axis)?, mode)
}

pub(super) fn combined(
    data: &Tensor,
    updates: &Tensor,
    targets: &[usize],
    mode: ScatterMode,
) -> Result<Numbers, String> {
    match (Numbers::of(data), Numbers::of(updates)) {
        (Numbers::Int(mut data), Numbers::Int(updates)) => {
            for (at, (&target, new)) in targets.iter().zip(updates).enumerate() {
                let old = data[target];
                data[target] = match mode {
                    ScatterMode::Update => new,
                    ScatterMode::Add => old.wrapping_add(new),
                    ScatterMode::Sub => old.wrapping_sub(new),
                    ScatterMode::Mul => old.wrapping_mul(new),
                    ScatterMode::Div => old
                        .checked_div(new)
                        .ok_or_else(|| format!("update {at} divides by zero"))?,
                    ScatterMode::Max => old.max(new),
                    ScatterMode::Min => old.min(new),
                };
            }
            Ok(Numbers::Int(data))
        }
        (data, updates) => {
            let mut data = data.into_floats();
            for (&target, new) in targets.iter().zip(updates.into_floats()) {
                let old = data[target];
                data[target] = match mode {
                    ScatterMode::Update => new,
                    ScatterMode::Add => old + new,
                    ScatterMode::Sub => old - new,
                    ScatterMode::Mul => old * new,
                    ScatterMode::Div => old / new,
                    ScatterMode::Max => larger(old, new),
                    ScatterMode::Min => smaller(old, new),
                };
            }
            Ok(Numbers::Float(data))
        }
    }
}

pub(super) fn one_hot(indices: &Tensor, size: usize, axis: usize, on: f64, off: f64) -> Vec<f64> {
    let values = integers(indices);
    let inner = element_count(&indices.shape()[axis..]);
    let outer = element_count(&indices.shape()[..axis]);
    let mut result = Vec::with_capacity(values.len() * size);
    for o in 0..outer {
        for place in 0..size {
            let row = &values[o * inner..][..inner];
            result.extend(row.iter().map(|&i| if i == place as i128 { on } else { off }));
        }
    }
    result
}
