//! Ops that few programs have.

use super::{
    Operands, Types, is_number, known_shape, require, require_axis, require_same_dtype, same_size,
    show, show_dims, unify, unify_all,
};
use crate::op::Equation;
use crate::{Dim, Op, TensorType, ValueId};
use orion_tensor::DType;

pub(super) fn types(op: &Op, operands: Operands<'_>) -> Types {
    match op {
        Op::Einsum { values, equation } => einsum(values, equation, operands),
        Op::Prelu { x, alpha } => {
            let (x, alpha) = (operands.float("x", *x)?, operands.float("alpha", *alpha)?);
            require_same_dtype(("alpha", alpha), ("x", x))?;
            let fits = x.rank() >= 2
                && matches!(alpha.dims[..], [n] if n == Dim::Known(1) || same_size(n, x.dims[1]));
            require(fits, || {
                format!("alpha {} is not one number for each channel of x {}", show(alpha), show(x))
            })?;
            Ok(vec![x.clone().into()])
        }
        Op::GatherNd { x, indices, batch_dims } => {
            let (x, indices) = (operands.movable("x", *x)?, operands.int("indices", *indices)?);
            let (of_x, of_indices) = (known_shape("x", x)?, known_shape("indices", indices)?);
            let fits = of_indices.split_last().is_some_and(|(&depth, leading)| {
                *batch_dims <= leading.len()
                    && batch_dims.checked_add(depth).is_some_and(|n| n <= of_x.len())
                    && leading[..*batch_dims] == of_x[..*batch_dims]
            });
            require(fits, || {
                format!(
                    "indices {} do not point into x {} behind {batch_dims} shared axes",
                    show(indices),
                    show(x)
                )
            })?;
            let (depth, leading) = (of_indices[of_indices.len() - 1], &indices.dims);
            let dims = [&leading[..leading.len() - 1], &x.dims[batch_dims + depth..]].concat();
            Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
        }
        Op::ScatterNd { data, indices, updates, .. } => {
            let data = operands.number("data", *data)?;
            let indices = operands.int("indices", *indices)?;
            let updates = operands.number("updates", *updates)?;
            require_same_dtype(("data", data), ("updates", updates))?;
            let depth = match indices.dims.last() {
                Some(Dim::Known(n)) if *n <= data.rank() => *n,
                _ => {
                    let (indices, data) = (show(indices), show(data));
                    return Err(format!("indices {indices} do not point into data {data}"));
                }
            };
            let leading = &indices.dims[..indices.rank() - 1];
            let expected = [leading, &data.dims[depth..]].concat();
            require(unify_all(&updates.dims, &expected).is_some(), || {
                format!("updates must be {}, it is {}", show_dims(&expected), show(updates))
            })?;
            Ok(vec![data.clone().into()])
        }
        Op::ArgSort { x, axis, .. } => {
            let x = operands.number("x", *x)?;
            require_axis(*axis, x)?;
            Ok(vec![TensorType { dtype: DType::I32, dims: x.dims.clone() }.into()])
        }
        Op::Quantize { x, scale, zero_point, axis, dtype } => {
            let (x, scale) = (operands.float("input", *x)?, operands.float("scale", *scale)?);
            require(matches!(dtype, DType::I8 | DType::U8), || {
                format!("numbers are quantized to int8 or uint8, not to {dtype}")
            })?;
            parameters(x, scale, *zero_point, *dtype, *axis, operands)?;
            Ok(vec![TensorType { dtype: *dtype, dims: x.dims.clone() }.into()])
        }
        Op::Dequantize { x, scale, zero_point, axis } => {
            let (x, scale) = (operands.int("input", *x)?, operands.float("scale", *scale)?);
            parameters(x, scale, *zero_point, x.dtype, *axis, operands)?;
            Ok(vec![TensorType { dtype: scale.dtype, dims: x.dims.clone() }.into()])
        }
        _ => unreachable!("not a rare op: {op:?}"),
    }
}

/// Scale and zero point: one number each, or with an axis one for each position of it.
fn parameters(
    x: &TensorType,
    scale: &TensorType,
    zero_point: Option<ValueId>,
    dtype: DType,
    axis: Option<usize>,
    operands: Operands<'_>,
) -> Result<(), String> {
    let zero_point = zero_point.map(|z| operands.tensor("zero_point", z)).transpose()?;
    if let Some(axis) = axis {
        require_axis(axis, x)?;
    }
    let fits = |t: &TensorType| match (&t.dims[..], axis) {
        ([], _) | ([Dim::Known(1)], None) => true,
        ([n], Some(axis)) => *n == x.dims[axis],
        _ => false,
    };
    require(fits(scale) && zero_point.is_none_or(fits), || {
        format!("scale {} and zero_point do not fit input {}", show(scale), show(x))
    })?;
    require(zero_point.is_none_or(|z| z.dtype == dtype), || {
        format!("zero_point must be of {dtype}")
    })
}

fn einsum(values: &[ValueId], equation: &Equation, operands: Operands<'_>) -> Types {
    require(values.len() == equation.operands.len() && !values.is_empty(), || {
        format!("\"{equation}\" is for {} values, not {}", equation.operands.len(), values.len())
    })?;
    let types: Vec<&TensorType> =
        values.iter().map(|&v| operands.number("values", v)).collect::<Result<_, _>>()?;
    let mut sizes: Vec<(char, Dim)> = Vec::new();
    for (t, axes) in types.iter().zip(&equation.operands) {
        require_same_dtype(("values", types[0]), ("values", t))?;
        require(is_number(t.dtype) && t.rank() == axes.len(), || {
            format!("\"{equation}\" does not fit a value of type {}", show(t))
        })?;
        for (&axis, &size) in axes.iter().zip(&t.dims) {
            match sizes.iter_mut().find(|(a, _)| *a == axis) {
                None => sizes.push((axis, size)),
                Some((_, known)) => {
                    *known = unify(*known, size).ok_or_else(|| {
                        format!("axis {axis} of \"{equation}\" has the sizes {known} and {size}")
                    })?;
                }
            }
        }
    }
    let size = |axis: &char| sizes.iter().find(|(a, _)| a == axis).expect("axes are met").1;
    let dims = equation.result.iter().map(size).collect();
    Ok(vec![TensorType { dtype: types[0].dtype, dims }.into()])
}
