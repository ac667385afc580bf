//! Ops that multiply and sum: `matmul`, `linear`, `conv`, attention.

use super::{
    Operands, Types, broadcast, broadcasts_to, require, require_per_axis, require_same_dtype,
    require_same_rank, same_size, show, show_dims,
};
use crate::{Dim, Op, TensorType};
use orion_tensor::DType;

pub(super) fn types(op: &Op, operands: Operands<'_>) -> Types {
    match op {
        Op::Matmul { x, y, transpose_x, transpose_y } => {
            let (x, y) = (operands.number("x", *x)?, operands.number("y", *y)?);
            matmul(x, y, *transpose_x, *transpose_y)
        }
        Op::Linear { x, weight, bias } => {
            let (x, weight) = (operands.number("x", *x)?, operands.number("weight", *weight)?);
            let bias = bias.map(|b| operands.number("bias", b)).transpose()?;
            linear(x, weight, bias)
        }
        Op::Conv { bias, .. } => {
            let bias = bias.map(|b| operands.float("bias", b)).transpose()?;
            conv(op, operands, bias)
        }
        Op::Attention { query, key, value, mask } => {
            let mask = mask.map(|m| operands.movable("mask", m)).transpose()?;
            attention(
                operands.float("query", *query)?,
                operands.float("key", *key)?,
                operands.float("value", *value)?,
                mask,
            )
        }
        _ => unreachable!("not a contraction: {op:?}"),
    }
}

fn matmul(x: &TensorType, y: &TensorType, transpose_x: bool, transpose_y: bool) -> Types {
    require_same_dtype(("x", x), ("y", y))?;
    for (name, t, transpose) in [("x", x, transpose_x), ("y", y, transpose_y)] {
        require(t.rank() > 0, || format!("{name} must not be a scalar, it is {}", show(t)))?;
        require(t.rank() > 1 || !transpose, || {
            format!("{name} has one axis and cannot be transposed, it is {}", show(t))
        })?;
    }
    let split = |t: &TensorType, transpose: bool| {
        let (leading, last) = t.dims.split_at(t.rank() - 2);
        let (a, b) = if transpose { (last[1], last[0]) } else { (last[0], last[1]) };
        (leading.to_vec(), a, b)
    };
    let (x_leading, rows, x_inner) = match x.dims[..] {
        [k] => (vec![], None, k),
        _ => {
            let (leading, m, k) = split(x, transpose_x);
            (leading, Some(m), k)
        }
    };
    let (y_leading, y_inner, columns) = match y.dims[..] {
        [k] => (vec![], k, None),
        _ => {
            let (leading, k, n) = split(y, transpose_y);
            (leading, k, Some(n))
        }
    };
    let shown = |transpose: bool| if transpose { " transposed" } else { "" };
    require(same_size(x_inner, y_inner), || {
        format!(
            "x {}{} and y {}{} do not share the inner size: {x_inner} and {y_inner}",
            show_dims(&x.dims),
            shown(transpose_x),
            show_dims(&y.dims),
            shown(transpose_y)
        )
    })?;
    let mut dims = broadcast(&x_leading, &y_leading).ok_or_else(|| {
        format!(
            "the leading axes of x {} and y {} do not broadcast",
            show_dims(&x.dims),
            show_dims(&y.dims)
        )
    })?;
    dims.extend(rows);
    dims.extend(columns);
    Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
}

fn linear(x: &TensorType, weight: &TensorType, bias: Option<&TensorType>) -> Types {
    require_same_dtype(("x", x), ("weight", weight))?;
    let [outputs, inputs] = weight.dims[..] else {
        return Err(format!("weight must be [O, I], it is {}", show(weight)));
    };
    let Some((&last, leading)) = x.dims.split_last() else {
        return Err(format!("x must be […, I], it is {}", show(x)));
    };
    require(same_size(last, inputs), || {
        format!("x {} does not fit weight {}", show_dims(&x.dims), show_dims(&weight.dims))
    })?;
    require_bias(bias, x, outputs)?;
    let dims = leading.iter().copied().chain([outputs]).collect();
    Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
}

fn require_bias(bias: Option<&TensorType>, x: &TensorType, outputs: Dim) -> Result<(), String> {
    let Some(bias) = bias else { return Ok(()) };
    require_same_dtype(("bias", bias), ("x", x))?;
    require(matches!(bias.dims[..], [n] if same_size(n, outputs)), || {
        format!("bias must be [{outputs}], it is {}", show(bias))
    })
}

fn conv(op: &Op, operands: Operands<'_>, bias: Option<&TensorType>) -> Types {
    let Op::Conv { x, weight, strides, pads, dilations, groups, .. } = op else {
        unreachable!("not a convolution: {op:?}")
    };
    let (x, weight) = (operands.float("x", *x)?, operands.float("weight", *weight)?);
    require_same_dtype(("x", x), ("weight", weight))?;
    require((3..=5).contains(&x.rank()), || {
        format!("x must be [N, C, spatial…] with one to three spatial axes, it is {}", show(x))
    })?;
    require_same_rank(("x", x), ("weight", weight))?;
    let spatial = x.rank() - 2;
    require_per_axis("strides", strides.len(), spatial)?;
    require_per_axis("pads", pads.len(), spatial)?;
    require_per_axis("dilations", dilations.len(), spatial)?;
    require(*groups > 0, || "groups must not be 0".to_owned())?;
    require(strides.iter().chain(dilations).all(|&n| n > 0), || {
        format!("strides {strides:?} and dilations {dilations:?} must not be 0")
    })?;
    if let (Dim::Known(channels), Dim::Known(per_group)) = (x.dims[1], weight.dims[1]) {
        require(per_group.checked_mul(*groups) == Some(channels), || {
            format!(
                "x {} has {channels} channels, weight {} takes {per_group} in each of {groups} groups",
                show_dims(&x.dims),
                show_dims(&weight.dims)
            )
        })?;
    }
    if let Dim::Known(outputs) = weight.dims[0] {
        require(outputs.is_multiple_of(*groups), || {
            format!("{outputs} output channels do not divide into {groups} groups")
        })?;
    }
    require_bias(bias, x, weight.dims[0])?;
    let mut dims = vec![x.dims[0], weight.dims[0]];
    for axis in 0..spatial {
        let (Dim::Known(length), Dim::Known(kernel)) = (x.dims[axis + 2], weight.dims[axis + 2])
        else {
            dims.push(Dim::Unknown);
            continue;
        };
        let (before, after) = pads[axis];
        let size = conv_output(length, kernel, strides[axis], before, after, dilations[axis]);
        let size = size.ok_or_else(|| {
            format!(
                "a kernel of {kernel} with dilation {} does not fit spatial axis {axis} of {length} \
                 padded by {before} and {after}",
                dilations[axis]
            )
        })?;
        dims.push(Dim::Known(size));
    }
    Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
}

/// `⌊(length + before + after - dilation (kernel - 1) - 1) / stride⌋ + 1`
pub(super) fn conv_output(
    length: usize,
    kernel: usize,
    stride: usize,
    before: usize,
    after: usize,
    dilation: usize,
) -> Option<usize> {
    let padded = length.checked_add(before)?.checked_add(after)?;
    let extent = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    Some(padded.checked_sub(extent)? / stride + 1)
}

fn attention(
    query: &TensorType,
    key: &TensorType,
    value: &TensorType,
    mask: Option<&TensorType>,
) -> Types {
    require_same_dtype(("query", query), ("key", key))?;
    require_same_dtype(("query", query), ("value", value))?;
    for (name, t) in [("query", query), ("key", key), ("value", value)] {
        require(t.rank() >= 2, || format!("{name} must have two axes or more, it is {}", show(t)))?;
    }
    let split = |t: &TensorType| {
        let (leading, last) = t.dims.split_at(t.rank() - 2);
        (leading.to_vec(), last[0], last[1])
    };
    let (q_leading, rows, q_inner) = split(query);
    let (k_leading, columns, k_inner) = split(key);
    let (v_leading, v_columns, width) = split(value);
    let shapes = || {
        format!(
            "query {}, key {} and value {}",
            show_dims(&query.dims),
            show_dims(&key.dims),
            show_dims(&value.dims)
        )
    };
    require(same_size(q_inner, k_inner), || {
        format!("{} do not fit: query and key differ in their last axis", shapes())
    })?;
    require(same_size(columns, v_columns), || {
        format!("{} do not fit: key and value differ in their second last axis", shapes())
    })?;
    let leading = broadcast(&q_leading, &k_leading).and_then(|d| broadcast(&d, &v_leading));
    let leading =
        leading.ok_or_else(|| format!("the leading axes of {} do not broadcast", shapes()))?;
    if let Some(mask) = mask {
        if mask.dtype != DType::Bool {
            require_same_dtype(("mask", mask), ("query", query))?;
        }
        let scores: Vec<Dim> = leading.iter().copied().chain([rows, columns]).collect();
        require(broadcasts_to(&mask.dims, &scores), || {
            format!("mask {} does not broadcast to {}", show_dims(&mask.dims), show_dims(&scores))
        })?;
    }
    let dims = leading.into_iter().chain([rows, width]).collect();
    Ok(vec![TensorType { dtype: query.dtype, dims }.into()])
}
