//! Ops whose places are computed.

use super::{
    Operands, Types, is_number, require, require_axis, require_per_axis, require_same_dtype,
    require_same_rank, same_size, show, show_dims, unify, unify_all,
};
use crate::{Dim, Op, TensorType, Type, ValueId};
use orion_tensor::DType;

pub(super) fn types(op: &Op, operands: Operands<'_>) -> Types {
    match op {
        Op::DynamicSlice { x, begin, size } => {
            let x = operands.movable("x", *x)?;
            require_position("begin", *begin, x, operands)?;
            require_per_axis("size", size.len(), x.rank())?;
            for (axis, (&d, &size)) in x.dims.iter().zip(size).enumerate() {
                let fits = size > 0 && !matches!(d, Dim::Known(n) if size > n);
                require(fits, || {
                    format!("{size} elements do not lie within the {d} of axis {axis}")
                })?;
            }
            Ok(vec![Type::tensor(x.dtype, size)])
        }
        Op::SliceUpdate { x, update, begin, end, begin_mask, end_mask } => {
            let (x, update) = (operands.movable("x", *x)?, operands.movable("update", *update)?);
            require_same_dtype(("x", x), ("update", update))?;
            require_same_rank(("x", x), ("update", update))?;
            require_position("begin", *begin, x, operands)?;
            require_position("end", *end, x, operands)?;
            require_per_axis("begin_mask", begin_mask.len(), x.rank())?;
            require_per_axis("end_mask", end_mask.len(), x.rank())?;
            for (axis, (&d, &part)) in x.dims.iter().zip(&update.dims).enumerate() {
                let (Dim::Known(n), Dim::Known(part)) = (d, part) else { continue };
                require(part > 0 && part <= n, || {
                    format!(
                        "update {} does not fit x {}",
                        show_dims(&update.dims),
                        show_dims(&x.dims)
                    )
                })?;
                require(part == n || !(begin_mask[axis] && end_mask[axis]), || {
                    format!("axis {axis} is replaced from end to end, update has {part} of {n}")
                })?;
            }
            Ok(vec![x.clone().into()])
        }
        Op::Gather { x, indices, axis, batch_dims } => {
            let (x, indices) = (operands.movable("x", *x)?, operands.int("indices", *indices)?);
            require_axis(*axis, x)?;
            let fits = *batch_dims <= *axis && *batch_dims <= indices.rank();
            require(
                fits && unify_all(&x.dims[..*batch_dims], &indices.dims[..*batch_dims]).is_some(),
                || {
                    format!(
                        "x {} and indices {} do not share {batch_dims} leading axes before axis {axis}",
                        show_dims(&x.dims),
                        show_dims(&indices.dims)
                    )
                },
            )?;
            let dims =
                [&x.dims[..*axis], &indices.dims[*batch_dims..], &x.dims[axis + 1..]].concat();
            Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
        }
        Op::GatherAlongAxis { x, indices, axis } => {
            let (x, indices) = (operands.movable("x", *x)?, operands.int("indices", *indices)?);
            require_along_axis("x", x, indices, *axis)?;
            let mut dims = indices.dims.clone();
            for (a, (d, &of_x)) in dims.iter_mut().zip(&x.dims).enumerate() {
                if a != *axis {
                    *d = unify(*d, of_x).unwrap_or(*d);
                }
            }
            Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
        }
        Op::Scatter { data, indices, updates, axis, .. } => {
            let data = operands.number("data", *data)?;
            let indices = operands.int("indices", *indices)?;
            let updates = operands.number("updates", *updates)?;
            require_axis(*axis, data)?;
            require_same_dtype(("data", data), ("updates", updates))?;
            let expected = [&data.dims[..*axis], &indices.dims, &data.dims[axis + 1..]].concat();
            require(unify_all(&updates.dims, &expected).is_some(), || {
                format!(
                    "updates must be {} for data {} and indices {} along axis {axis}, it is {}",
                    show_dims(&expected),
                    show_dims(&data.dims),
                    show_dims(&indices.dims),
                    show_dims(&updates.dims)
                )
            })?;
            Ok(vec![data.clone().into()])
        }
        Op::ScatterAlongAxis { data, indices, updates, axis, .. } => {
            let data = operands.number("data", *data)?;
            let indices = operands.int("indices", *indices)?;
            let updates = operands.number("updates", *updates)?;
            require_along_axis("data", data, indices, *axis)?;
            require_same_dtype(("data", data), ("updates", updates))?;
            require(unify_all(&updates.dims, &indices.dims).is_some(), || {
                format!(
                    "updates {} and indices {} must have one shape",
                    show_dims(&updates.dims),
                    show_dims(&indices.dims)
                )
            })?;
            Ok(vec![data.clone().into()])
        }
        Op::OneHot { indices, size, axis, dtype, .. } => {
            let indices = operands.int("indices", *indices)?;
            require(is_number(*dtype) || *dtype == DType::Bool, || {
                format!("values of {dtype} cannot be made")
            })?;
            require(*axis <= indices.rank(), || {
                format!(
                    "the new axis {axis} is outside of the result for indices {}",
                    show(indices)
                )
            })?;
            require(*size > 0, || "the new axis must not be empty".to_owned())?;
            let mut dims = indices.dims.clone();
            dims.insert(*axis, Dim::Known(*size));
            Ok(vec![TensorType { dtype: *dtype, dims }.into()])
        }
        Op::TopK { x, k, axis, .. } => {
            let x = operands.number("x", *x)?;
            require_axis(*axis, x)?;
            let fits = *k > 0 && !matches!(x.dims[*axis], Dim::Known(n) if *k > n);
            require(fits, || {
                format!("{k} elements cannot be chosen along axis {axis} of x {}", show(x))
            })?;
            let mut dims = x.dims.clone();
            dims[*axis] = Dim::Known(*k);
            let values = TensorType { dtype: x.dtype, dims: dims.clone() };
            Ok(vec![values.into(), TensorType { dtype: DType::I32, dims }.into()])
        }
        _ => unreachable!("not an indexing op: {op:?}"),
    }
}

/// A position holds one integer per axis of x.
fn require_position(
    name: &str,
    id: ValueId,
    x: &TensorType,
    operands: Operands<'_>,
) -> Result<(), String> {
    let t = operands.int(name, id)?;
    require(matches!(t.dims[..], [n] if same_size(n, Dim::Known(x.rank()))), || {
        format!(
            "{name} must have one entry per axis of x {}, it is {}",
            show_dims(&x.dims),
            show(t)
        )
    })
}

fn require_along_axis(
    name: &str,
    t: &TensorType,
    indices: &TensorType,
    axis: usize,
) -> Result<(), String> {
    require_axis(axis, t)?;
    require_same_rank((name, t), ("indices", indices))?;
    let agree = (0..t.rank()).all(|a| a == axis || same_size(t.dims[a], indices.dims[a]));
    require(agree, || {
        format!(
            "{name} {} and indices {} differ in an axis other than {axis}",
            show_dims(&t.dims),
            show_dims(&indices.dims)
        )
    })
}
