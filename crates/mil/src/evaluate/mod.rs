//! What every op computes: the definition that devices and constant folding are held to.
//!
//! Naive and slow on purpose: no threads, no vectors, no fast approximations.
//!
//! Floats are widened to f64, computed and summed in f64, and rounded once at the op's output:
//! to f64 or f32, and from f32 on to fp16 or bf16 (always to nearest even). Integers are computed
//! exactly and wrapped to the output's type. Transcendental functions are those of the `libm`
//! crate on every platform, so that the same program gives the same bytes everywhere.
//!
//! NaN: `max` and `min` in every form (`maximum`, `relu`, `clip`, `reduce_max`, …)
//! give NaN when an operand is NaN. Comparisons with NaN are false, `not_equal` is
//! true. `reduce_argmax`, `reduce_argmin` and `topk` take NaN before every number.

mod compressed;
mod contraction;
mod elementwise;
mod indexed;
mod movement;
mod normalization;
mod numbers;
mod offsets;
mod rare;
mod recurrent;
mod reduction;
mod sample;
mod selection;
mod spatial;
#[cfg(test)]
mod tests;

use crate::{Op, TensorType};
use numbers::Numbers;
use orion_tensor::{DType, Tensor};

/// Computes one op. `operands` stand in the order of [`Op::operands`]; `output_types` are the
/// types [`crate::infer::output_types`] gives, and decide the element types of the results.
///
/// # Errors
/// An index out of range, an integer division by zero, with the position; an output type that
/// cannot hold the result; [`Op::Const`], [`Op::ReadState`] and [`Op::WriteState`], which need
/// weights and surfaces and are left to the interpreter.
///
/// # Panics
/// When operands do not fit the op. Functions that were verified do not contain such ops.
pub fn evaluate(
    op: &Op,
    operands: &[Tensor],
    output_types: &[TensorType],
) -> Result<Vec<Tensor>, String> {
    let x = || &operands[0];
    let numbers = |i: usize| Numbers::of(&operands[i]);
    let output = |i: usize| {
        let ty = &output_types[i];
        ty.shape().map(|shape| (ty.dtype, shape)).ok_or("the output's shape is not known")
    };
    let (dtype, shape) = output(0).or_else(|e| match op {
        Op::WriteState { .. } => Ok((DType::Bool, Vec::new())),
        _ => Err(e),
    })?;
    // An optional operand, given the position it has when everything before it is there.
    let optional = |id: &Option<crate::ValueId>, i: usize| id.map(|_| &operands[i]);
    let rounded = |numbers: Numbers| numbers.into_tensor(dtype, &shape);

    let result = match op {
        Op::Const(_) | Op::ReadState { .. } | Op::WriteState { .. } => {
            return Err("constants and states are not computed from operands".to_owned());
        }
        Op::Identity { .. } => x().clone(),
        Op::Cast { .. } => rounded(numbers(0))?,
        Op::Unary { kind, .. } => rounded(elementwise::unary(*kind, numbers(0)))?,
        Op::Binary { kind, .. } => rounded(elementwise::binary(*kind, x(), &operands[1], &shape)?)?,
        Op::Select { .. } => elementwise::select(x(), &operands[1], &operands[2], &shape),
        Op::Reduce { kind, axes, .. } => rounded(reduction::reduce(*kind, x(), axes)?)?,
        Op::ArgReduce { max, axis, .. } => {
            rounded(Numbers::Int(selection::arg_reduce(x(), *axis, *max)?))?
        }
        Op::Cumsum { axis, exclusive, reverse, .. } => {
            rounded(reduction::cumsum(x(), *axis, *exclusive, *reverse))?
        }
        Op::Matmul { transpose_x, transpose_y, .. } => {
            rounded(contraction::matmul(x(), &operands[1], *transpose_x, *transpose_y))?
        }
        Op::Linear { bias, .. } => {
            rounded(contraction::linear(x(), &operands[1], optional(bias, 2)))?
        }
        Op::Conv { bias, strides, pads, dilations, groups, .. } => {
            let window = contraction::Window { strides, pads, dilations, groups: *groups };
            let y = contraction::conv(x(), &operands[1], optional(bias, 2), &window, &shape[2..]);
            rounded(y)?
        }
        Op::Attention { mask, .. } => rounded(contraction::attention(
            x(),
            &operands[1],
            &operands[2],
            optional(mask, 3),
            &shape,
        ))?,
        Op::Softmax { axis, .. } => rounded(normalization::softmax(x(), *axis))?,
        Op::LayerNorm { axes, gamma, beta, epsilon, .. } => {
            let beta = optional(beta, 1 + usize::from(gamma.is_some()));
            rounded(normalization::layer_norm(x(), axes, optional(gamma, 1), beta, *epsilon))?
        }
        Op::BatchNorm { gamma, beta, epsilon, .. } => {
            let beta = optional(beta, 3 + usize::from(gamma.is_some()));
            let (mean, variance) = (&operands[1], &operands[2]);
            let gamma = optional(gamma, 3);
            rounded(normalization::batch_norm(x(), mean, variance, gamma, beta, *epsilon))?
        }
        Op::Reshape { .. } => x().reshaped(&shape),
        Op::Transpose { perm, .. } => movement::transpose(x(), perm),
        Op::Concat { axis, interleave, .. } => movement::concat(operands, *axis, *interleave),
        Op::Stack { axis, .. } => movement::stack(operands, *axis),
        Op::Split { axis, sizes, .. } => return Ok(movement::split(x(), *axis, sizes)),
        Op::Slice { begin, size, stride, .. } => {
            movement::slice(x(), begin, size, stride).reshaped(&shape)
        }
        Op::DynamicSlice { size, .. } => movement::dynamic_slice(x(), &operands[1], size)?,
        Op::SliceUpdate { begin_mask, .. } => {
            movement::slice_update(x(), &operands[1], &operands[2], begin_mask)?
        }
        Op::Tile { reps, .. } => movement::tile(x(), reps),
        Op::Pad { pads, mode, .. } => movement::pad(x(), pads, *mode)?,
        Op::Gather { axis, batch_dims, .. } => {
            indexed::gather(x(), &operands[1], *axis, *batch_dims)?
        }
        Op::GatherAlongAxis { axis, .. } => indexed::gather_along_axis(x(), &operands[1], *axis)?,
        Op::Scatter { axis, mode, .. } => {
            rounded(indexed::scatter(x(), &operands[1], &operands[2], *axis, *mode)?)?
        }
        Op::ScatterAlongAxis { axis, mode, .. } => {
            rounded(indexed::scatter_along_axis(x(), &operands[1], &operands[2], *axis, *mode)?)?
        }
        Op::Fill { value, .. } => {
            let count = orion_tensor::element_count(&shape);
            rounded(Numbers::Float(vec![*value; count]))?
        }
        Op::Range { start, step, count, .. } => {
            let values = (0..*count).map(|i| start + i as f64 * step);
            rounded(Numbers::Float(values.collect()))?
        }
        Op::BandPart { lower, upper, .. } => movement::band_part(x(), *lower, *upper),
        Op::OneHot { size, axis, on, off, .. } => {
            rounded(Numbers::Float(indexed::one_hot(x(), *size, *axis, *on, *off)))?
        }
        Op::Einsum { equation, .. } => rounded(rare::einsum(operands, equation))?,
        Op::Prelu { .. } => rounded(rare::prelu(x(), &operands[1]))?,
        Op::GatherNd { batch_dims, .. } => rare::gather_nd(x(), &operands[1], *batch_dims, &shape)?,
        Op::ScatterNd { mode, .. } => {
            rounded(rare::scatter_nd(x(), &operands[1], &operands[2], *mode)?)?
        }
        Op::ArgSort { axis, ascending, .. } => {
            let (_, positions) = selection::top_k(x(), shape[*axis], *axis, *ascending);
            rounded(Numbers::Int(positions))?
        }
        Op::Quantize { axis, .. } => rounded(rare::quantize(operands, *axis, dtype))?,
        Op::Dequantize { axis, .. } => rounded(rare::dequantize(operands, *axis))?,
        Op::Spatial(op) => spatial::spatial(op, operands, dtype, &shape)?,
        Op::Sample(op) => rounded(sample::sample(op, operands, &shape)?)?,
        Op::Random(op) => rounded(sample::random(op, operands))?,
        Op::Suppression(op) => {
            let outputs = sample::suppression(op, operands).into_iter().enumerate();
            let tensors = outputs.map(|(i, values)| {
                let (dtype, shape) = output(i)?;
                Numbers::Float(values).into_tensor(dtype, &shape)
            });
            return tensors.collect();
        }
        Op::Recurrent(op) => {
            let outputs = recurrent::recurrent(op, operands).into_iter().enumerate();
            let tensors = outputs.map(|(i, values)| {
                let (dtype, shape) = output(i)?;
                Numbers::Float(values).into_tensor(dtype, &shape)
            });
            return tensors.collect();
        }
        Op::Constexpr(op) => return compressed::constexpr(op, operands, output_types),
        Op::TopK { k, axis, ascending, .. } => {
            let (values, positions) = selection::top_k(x(), *k, *axis, *ascending);
            let mut outputs = vec![values];
            if output_types.len() > 1 {
                let (dtype, shape) = output(1)?;
                outputs.push(Numbers::Int(positions).into_tensor(dtype, &shape)?);
            }
            return Ok(outputs);
        }
    };
    Ok(vec![result])
}
