//! Ops that few programs have.

use super::indexed::combined;
use super::movement::take;
use super::numbers::{Number, Numbers, integers};
use super::offsets::{offsets, strides};
use crate::op::{Equation, ScatterMode};
use orion_tensor::{DType, Tensor, element_count, row_major_strides};

pub(super) fn einsum(operands: &[Tensor], equation: &Equation) -> Numbers {
    let all_int = operands.iter().all(|t| !t.dtype().is_float());
    if all_int {
        let values: Vec<Vec<i128>> = operands.iter().map(integers).collect();
        Numbers::Int(sums_of_products(operands, &values, equation, 1))
    } else {
        let values: Vec<Vec<f64>> = operands.iter().map(Tensor::to_f64_vec).collect();
        Numbers::Float(sums_of_products(operands, &values, equation, 1.0))
    }
}

fn sums_of_products<T: Number>(
    operands: &[Tensor],
    values: &[Vec<T>],
    equation: &Equation,
    one: T,
) -> Vec<T> {
    let axes = equation.axes();
    let size = |axis: &char| {
        let mut all = operands.iter().zip(&equation.operands);
        all.find_map(|(t, a)| Some(t.shape()[a.iter().position(|b| b == axis)?]))
            .expect("every axis is one of an operand")
    };
    let sizes: Vec<usize> = axes.iter().map(size).collect();
    let given = equation.result.len();
    // Where each operand is read: for each element of the result, and for each term from there.
    let places: Vec<(Vec<usize>, Vec<usize>)> = operands
        .iter()
        .zip(&equation.operands)
        .map(|(t, own)| {
            let steps = strides(t.shape());
            let along = |axis: &char| {
                own.iter().zip(&steps).filter(|(a, _)| *a == axis).map(|(_, s)| s).sum::<isize>()
            };
            let steps: Vec<isize> = axes.iter().map(along).collect();
            let from = offsets(0, &sizes[..given], &steps[..given]);
            (from, offsets(0, &sizes[given..], &steps[given..]))
        })
        .collect();
    let terms = element_count(&sizes[given..]);
    (0..element_count(&sizes[..given]))
        .map(|i| {
            (0..terms).fold(T::ZERO, |sum, k| {
                let factors = places.iter().zip(values).map(|((from, to), v)| v[from[i] + to[k]]);
                sum.plus(factors.fold(one, Number::times))
            })
        })
        .collect()
}

pub(super) fn prelu(x: &Tensor, alpha: &Tensor) -> Numbers {
    let alpha = alpha.to_f64_vec();
    let inner = element_count(&x.shape()[2..]);
    let channels = x.shape()[1];
    let of = |i: usize| if alpha.len() == 1 { alpha[0] } else { alpha[i / inner % channels] };
    let values = x.to_f64_vec().into_iter().enumerate();
    Numbers::Float(values.map(|(i, v)| if v < 0.0 { of(i) * v } else { v }).collect())
}

/// For every row of `indices`, where the slice it points to begins, and how long slices are.
fn rows(
    shape: &[usize],
    indices: &Tensor,
    batch_dims: usize,
) -> Result<(Vec<usize>, usize), String> {
    let depth = *indices.shape().last().expect("indices have an axis");
    let axes = batch_dims..batch_dims + depth;
    let steps = row_major_strides(shape);
    let numbers = integers(indices);
    let count = element_count(&indices.shape()[..indices.shape().len() - 1]);
    let batches = element_count(&shape[..batch_dims]);
    let per_batch = element_count(&shape[batch_dims..]);
    let starts = (0..count).map(|row| {
        let mut at = row / (count / batches).max(1) * per_batch;
        for (k, axis) in axes.clone().enumerate() {
            let (index, size) = (numbers[row * depth + k], shape[axis]);
            let from_start = if index < 0 { index + size as i128 } else { index };
            let inside = usize::try_from(from_start).ok().filter(|&i| i < size);
            at += steps[axis]
                * inside.ok_or_else(|| {
                    format!("index {index} in row {row} is outside an axis of {size} elements")
                })?;
        }
        Ok(at)
    });
    Ok((starts.collect::<Result<_, String>>()?, element_count(&shape[axes.end..])))
}

pub(super) fn gather_nd(
    x: &Tensor,
    indices: &Tensor,
    batch_dims: usize,
    shape: &[usize],
) -> Result<Tensor, String> {
    let (starts, length) = rows(x.shape(), indices, batch_dims)?;
    Ok(take(x, shape, starts.into_iter().flat_map(|start| start..start + length)))
}

pub(super) fn scatter_nd(
    data: &Tensor,
    indices: &Tensor,
    updates: &Tensor,
    mode: ScatterMode,
) -> Result<Numbers, String> {
    let (starts, length) = rows(data.shape(), indices, 0)?;
    let targets: Vec<usize> = starts.into_iter().flat_map(|s| s..s + length).collect();
    combined(data, updates, &targets, mode)
}

/// `parameter[i]` for the position of element `i` along the axis.
fn along(parameter: &Tensor, axis: Option<usize>, shape: &[usize]) -> impl Fn(usize) -> f64 {
    let values = parameter.to_f64_vec();
    let (inner, size) = axis.map_or((1, 1), |a| (element_count(&shape[a + 1..]), shape[a]));
    move |i| if values.len() == 1 { values[0] } else { values[i / inner % size] }
}

pub(super) fn quantize(operands: &[Tensor], axis: Option<usize>, dtype: DType) -> Numbers {
    let (x, shape) = (&operands[0], operands[0].shape());
    let scale = along(&operands[1], axis, shape);
    let zero = operands.get(2).map(|z| along(z, axis, shape));
    let (low, high) = if dtype == DType::I8 { (-128.0, 127.0) } else { (0.0, 255.0) };
    let codes = x.to_f64_vec().into_iter().enumerate().map(|(i, v)| {
        let code = libm::rint(v / scale(i)) + zero.as_ref().map_or(0.0, |z| z(i));
        code.clamp(low, high)
    });
    Numbers::Float(codes.collect())
}

pub(super) fn dequantize(operands: &[Tensor], axis: Option<usize>) -> Numbers {
    let (x, shape) = (&operands[0], operands[0].shape());
    let scale = along(&operands[1], axis, shape);
    let zero = operands.get(2).map(|z| along(z, axis, shape));
    let values = x.to_f64_vec().into_iter().enumerate();
    let zero = |i| zero.as_ref().map_or(0.0, |z| z(i));
    Numbers::Float(values.map(|(i, q)| scale(i) * (q - zero(i))).collect())
}
