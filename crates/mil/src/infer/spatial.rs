//! Ops over windows and grids, and recurrent layers.

use super::contraction::conv_output;
use super::{
    Operands, Types, known_shape, require, require_axis, require_per_axis, require_same_dtype,
    same_size, show, show_dims,
};
use crate::op::{Cell, CellWeights, Recurrent, Spatial};
use crate::{Dim, TensorType, Type, ValueId};

pub(super) fn types(op: &Spatial, operands: Operands<'_>) -> Types {
    match op {
        Spatial::Pool { x, kernel, strides, pads, overhang, .. } => {
            let x = operands.float("x", *x)?;
            let spatial = spatial_axes(x)?;
            require_per_axis("kernel_sizes", kernel.len(), spatial)?;
            require_per_axis("strides", strides.len(), spatial)?;
            require_per_axis("pads", pads.len(), spatial)?;
            let fits = |(over, (_, after)): (&usize, &(usize, usize))| over <= after;
            require(overhang.len() == spatial && overhang.iter().zip(pads).all(fits), || {
                "what windows run off by is part of the padding behind".to_owned()
            })?;
            require(!strides.contains(&0), || "strides must not be 0".to_owned())?;
            let mut dims = x.dims[..2].to_vec();
            for axis in 0..spatial {
                let Dim::Known(n) = x.dims[axis + 2] else {
                    dims.push(Dim::Unknown);
                    continue;
                };
                let (kernel, stride, (before, after)) = (kernel[axis], strides[axis], pads[axis]);
                let count = conv_output(n, kernel, stride, before, after, 1);
                // A window of nothing but padding has no value.
                let count = count.filter(|&c| before < kernel && (c - 1) * stride < n + before);
                dims.push(Dim::Known(count.ok_or_else(|| {
                    format!(
                        "windows of {kernel} do not fit spatial axis {axis} of {n} padded by \
                         {before} and {after}"
                    )
                })?));
            }
            Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
        }
        Spatial::ConvTranspose { x, weight, bias, strides, before, output, dilations, groups } => {
            let (x, weight) = (operands.float("x", *x)?, operands.float("weight", *weight)?);
            require_same_dtype(("x", x), ("weight", weight))?;
            let spatial = spatial_axes(x)?;
            let per_axis = [
                ("weight", weight.rank().saturating_sub(2)),
                ("strides", strides.len()),
                ("before", before.len()),
                ("output", output.len()),
                ("dilations", dilations.len()),
            ];
            for (name, entries) in per_axis {
                require_per_axis(name, entries, spatial)?;
            }
            require(strides.iter().chain(dilations).all(|&n| n > 0), || {
                "strides and dilations must not be 0".to_owned()
            })?;
            let fits = same_size(x.dims[1], weight.dims[0])
                && matches!(x.dims[1], Dim::Known(c) if *groups > 0 && c.is_multiple_of(*groups));
            require(fits, || {
                format!(
                    "x {} and weight {} do not fit {groups} groups",
                    show_dims(&x.dims),
                    show_dims(&weight.dims)
                )
            })?;
            let channels = match weight.dims[1] {
                Dim::Known(n) => Dim::Known(n.checked_mul(*groups).ok_or("too many channels")?),
                Dim::Unknown => Dim::Unknown,
            };
            require_channels("bias", *bias, x, channels, operands)?;
            let spatial = output.iter().map(|&n| Dim::Known(n));
            let dims = [x.dims[0], channels].into_iter().chain(spatial).collect();
            Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
        }
        Spatial::Resize { x, size, linear, .. } => {
            let x = if *linear { operands.float("x", *x)? } else { operands.number("x", *x)? };
            let old = known_shape("x", x)?;
            let kept = old.len().checked_sub(size.len()).filter(|_| !size.is_empty());
            let kept = kept.ok_or_else(|| {
                format!("x {} does not have the {} axes to resize", show(x), size.len())
            })?;
            require(!size.contains(&0) && !old[kept..].contains(&0), || {
                format!("x {} cannot be resized to {size:?}: nothing is there", show(x))
            })?;
            let shape = [&old[..kept], size].concat();
            Ok(vec![Type::tensor(x.dtype, &shape)])
        }
        Spatial::Rearrange { kind, x, block } => {
            let x = operands.movable("x", *x)?;
            let steps = kind.steps(&known_shape("x", x)?, *block);
            let (_, _, shape) = steps.ok_or_else(|| {
                format!("x {} is not [N, C, H, W] that divides into blocks of {block}", show(x))
            })?;
            Ok(vec![Type::tensor(x.dtype, &shape)])
        }
        Spatial::SlidingWindows { x, axis, size, stride } => {
            let x = operands.movable("x", *x)?;
            require_axis(*axis, x)?;
            let mut shape = known_shape("x", x)?;
            let fits = *size > 0 && *stride > 0 && *size <= shape[*axis];
            require(fits, || {
                format!(
                    "windows of {size} at steps of {stride} do not fit axis {axis} of {}",
                    show(x)
                )
            })?;
            shape[*axis] = (shape[*axis] - size) / stride + 1;
            shape.insert(axis + 1, *size);
            Ok(vec![Type::tensor(x.dtype, &shape)])
        }
        Spatial::InstanceNorm { x, gamma, beta, .. } => {
            let x = operands.float("x", *x)?;
            spatial_axes(x)?;
            require_channels("gamma", *gamma, x, x.dims[1], operands)?;
            require_channels("beta", *beta, x, x.dims[1], operands)?;
            Ok(vec![x.clone().into()])
        }
        Spatial::L2Norm { x, .. } => {
            let x = operands.float("x", *x)?;
            require(x.rank() >= 3, || {
                format!("x must have three axes or more, it is {}", show(x))
            })?;
            Ok(vec![x.clone().into()])
        }
        Spatial::LocalResponseNorm { x, size, .. } => {
            let x = operands.float("x", *x)?;
            require(x.rank() >= 2 && *size > 0, || {
                format!("{size} channels of x {} cannot be taken together", show(x))
            })?;
            Ok(vec![x.clone().into()])
        }
    }
}

fn spatial_axes(x: &TensorType) -> Result<usize, String> {
    require((3..=5).contains(&x.rank()), || {
        format!("x must be [N, C, spatial…] with one to three spatial axes, it is {}", show(x))
    })?;
    Ok(x.rank() - 2)
}

fn require_channels(
    name: &str,
    id: Option<ValueId>,
    x: &TensorType,
    channels: Dim,
    operands: Operands<'_>,
) -> Result<(), String> {
    let Some(id) = id else { return Ok(()) };
    let t = operands.float(name, id)?;
    require_same_dtype((name, t), ("x", x))?;
    require(matches!(t.dims[..], [n] if same_size(n, channels)), || {
        format!("{name} must be [{channels}], it is {}", show(t))
    })
}

pub(super) fn recurrent(op: &Recurrent, operands: Operands<'_>) -> Types {
    let x = operands.float("x", op.x)?;
    let [steps, batch, inputs] = known_shape("x", x)?[..] else {
        return Err(format!("x must be [S, B, I], it is {}", show(x)));
    };
    let hidden = known_shape("weight_hh", operands.float("weight_hh", op.weights.hidden)?)?;
    let [_, size] = hidden[..] else {
        return Err(format!("weight_hh must have two axes, it is {hidden:?}"));
    };
    let directions = 1 + usize::from(op.back.is_some());
    let rows = op.cell.gates().checked_mul(size).ok_or("too many rows")?;
    let state = [batch, directions.checked_mul(size).ok_or("too many columns")?];
    let check = |name: &str, id: ValueId, shape: &[usize]| {
        let t = operands.float(name, id)?;
        require_same_dtype((name, t), ("x", x))?;
        require(t.shape().as_deref() == Some(shape), || {
            format!("{name} must be {shape:?}, it is {}", show(t))
        })
    };
    check("initial_h", op.initial_h, &state)?;
    require(op.initial_c.is_some() == (op.cell == Cell::Lstm), || {
        "initial_c belongs to an LSTM".to_owned()
    })?;
    op.initial_c.map_or(Ok(()), |c| check("initial_c", c, &state))?;
    let direction = |w: &CellWeights| {
        check("weight_ih", w.input, &[rows, inputs])?;
        check("weight_hh", w.hidden, &[rows, size])?;
        w.bias.map_or(Ok(()), |b| check("bias", b, &[rows]))?;
        w.input_bias.map_or(Ok(()), |b| check("input_bias", b, &[rows]))?;
        w.peephole.map_or(Ok(()), |p| check("peephole", p, &[3 * size]))
    };
    direction(&op.weights)?;
    op.back.as_ref().map_or(Ok(()), direction)?;
    require(steps > 0, || "there must be a step".to_owned())?;
    let given_out = if op.output_sequence { steps } else { 1 };
    let mut types = vec![Type::tensor(x.dtype, &[given_out, state[0], state[1]])];
    let states = if op.cell == Cell::Lstm { 2 } else { 1 };
    types.extend(vec![Type::tensor(x.dtype, &state); states]);
    Ok(types)
}
