//! Ops that move elements to constant places.

use super::{
    Operands, Types, known_shape, require, require_axis, require_per_axis, require_same_dtype,
    require_same_rank, same_size, show, show_dims, unify_all,
};
use crate::op::PadMode;
use crate::{Dim, Op, TensorType, Type, ValueId};

pub(super) fn types(op: &Op, operands: Operands<'_>) -> Types {
    match op {
        Op::Reshape { x, shape } => {
            let x = operands.movable("x", *x)?;
            let from = known_shape("x", x)?;
            let count = |s: &[usize]| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            require(count(&from).is_some() && count(&from) == count(shape), || {
                format!("x {from:?} and the new shape {shape:?} differ in their element count")
            })?;
            Ok(vec![Type::tensor(x.dtype, shape)])
        }
        Op::Transpose { x, perm } => {
            let x = operands.movable("x", *x)?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            require(sorted.iter().copied().eq(0..x.rank()), || {
                format!("{perm:?} is not a permutation of the axes of x, which is {}", show(x))
            })?;
            let dims = perm.iter().map(|&p| x.dims[p]).collect();
            Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
        }
        Op::Concat { values, axis, interleave } => concat(operands, values, *axis, *interleave),
        Op::Stack { values, axis } => stack(operands, values, *axis),
        Op::Split { x, axis, sizes } => {
            let x = operands.movable("x", *x)?;
            require_axis(*axis, x)?;
            require(!sizes.is_empty(), || "there must be at least one part".to_owned())?;
            let sum = sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s));
            let Dim::Known(size) = x.dims[*axis] else {
                return Err(format!("the shape of x is not known, it is {}", show(x)));
            };
            require(sum == Some(size), || {
                format!("the parts {sizes:?} do not add up to the {size} of axis {axis}")
            })?;
            let part = |&size: &usize| {
                let mut dims = x.dims.clone();
                dims[*axis] = Dim::Known(size);
                TensorType { dtype: x.dtype, dims }.into()
            };
            Ok(sizes.iter().map(part).collect())
        }
        Op::Slice { x, begin, size, stride, squeeze } => {
            let x = operands.movable("x", *x)?;
            slice(x, begin, size, stride, squeeze)
        }
        Op::Tile { x, reps } => {
            let x = operands.movable("x", *x)?;
            require_per_axis("reps", reps.len(), x.rank())?;
            let dim = |(&d, &r): (&Dim, &usize)| match d {
                Dim::Known(n) => n.checked_mul(r).filter(|_| r > 0).map(Dim::Known),
                Dim::Unknown if r == 1 => Some(Dim::Unknown),
                Dim::Unknown => (r > 0).then_some(Dim::Unknown),
            };
            let dims: Option<Vec<Dim>> = x.dims.iter().zip(reps).map(dim).collect();
            let dims = dims.ok_or_else(|| {
                format!("x {} cannot be repeated {reps:?} times", show_dims(&x.dims))
            })?;
            Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
        }
        Op::Pad { x, pads, mode } => {
            let x = operands.number("x", *x)?;
            require_per_axis("pads", pads.len(), x.rank())?;
            let dim = |(&d, &(before, after)): (&Dim, &(usize, usize))| {
                let Dim::Known(n) = d else { return Some(Dim::Unknown) };
                let fits = match mode {
                    PadMode::Constant(_) => true,
                    // The edge itself is not repeated, so it gives one element less than n.
                    PadMode::Reflect => before.max(after) < n.max(1),
                    PadMode::Replicate => n > 0,
                };
                let size = n.checked_add(before)?.checked_add(after)?;
                fits.then_some(Dim::Known(size))
            };
            let dims: Option<Vec<Dim>> = x.dims.iter().zip(pads).map(dim).collect();
            let dims = dims
                .ok_or_else(|| format!("x {} cannot be padded by {pads:?}", show_dims(&x.dims)))?;
            Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
        }
        Op::BandPart { x, .. } => {
            let x = operands.movable("x", *x)?;
            require(x.rank() >= 2, || format!("x must have two axes or more, it is {}", show(x)))?;
            Ok(vec![x.clone().into()])
        }
        _ => unreachable!("not a movement: {op:?}"),
    }
}

fn concat(operands: Operands<'_>, values: &[ValueId], axis: usize, interleave: bool) -> Types {
    let (&first, rest) = values.split_first().ok_or("there must be at least one value")?;
    let first = operands.movable("values", first)?;
    require_axis(axis, first)?;
    let mut dims = first.dims.clone();
    for (i, &id) in rest.iter().enumerate() {
        let t = operands.movable("values", id)?;
        let name = format!("value {}", i + 1);
        require_same_dtype(("value 0", first), (&name, t))?;
        require_same_rank(("value 0", first), (&name, t))?;
        if interleave {
            require(same_size(first.dims[axis], t.dims[axis]), || {
                format!(
                    "interleaved values must have one size along axis {axis}, value 0 is {} and \
                     {name} is {}",
                    show_dims(&first.dims),
                    show_dims(&t.dims)
                )
            })?;
        }
        let joined = match (dims[axis], t.dims[axis]) {
            (Dim::Known(a), Dim::Known(b)) => Dim::Known(a.checked_add(b).ok_or("too large")?),
            _ => Dim::Unknown,
        };
        let mut other = t.dims.clone();
        other[axis] = dims[axis];
        dims = unify_all(&dims, &other).ok_or_else(|| {
            format!(
                "value 0 {} and {name} {} differ in an axis other than {axis}",
                show_dims(&first.dims),
                show_dims(&t.dims)
            )
        })?;
        dims[axis] = joined;
    }
    Ok(vec![TensorType { dtype: first.dtype, dims }.into()])
}

fn stack(operands: Operands<'_>, values: &[ValueId], axis: usize) -> Types {
    let (&first, rest) = values.split_first().ok_or("there must be at least one value")?;
    let first = operands.movable("values", first)?;
    require(axis <= first.rank(), || {
        format!("the new axis {axis} is outside of the result of stacking {}", show(first))
    })?;
    let mut dims = first.dims.clone();
    for (i, &id) in rest.iter().enumerate() {
        let t = operands.movable("values", id)?;
        let name = format!("value {}", i + 1);
        require_same_dtype(("value 0", first), (&name, t))?;
        dims = unify_all(&dims, &t.dims).ok_or_else(|| {
            format!("value 0 {} and {name} {} differ", show_dims(&first.dims), show_dims(&t.dims))
        })?;
    }
    dims.insert(axis, Dim::Known(values.len()));
    Ok(vec![TensorType { dtype: first.dtype, dims }.into()])
}

fn slice(
    x: &TensorType,
    begin: &[usize],
    size: &[usize],
    stride: &[isize],
    squeeze: &[bool],
) -> Types {
    require_per_axis("begin", begin.len(), x.rank())?;
    require_per_axis("size", size.len(), x.rank())?;
    require_per_axis("stride", stride.len(), x.rank())?;
    require_per_axis("squeeze", squeeze.len(), x.rank())?;
    let mut dims = Vec::new();
    for (axis, &d) in x.dims.iter().enumerate() {
        let Dim::Known(n) = d else {
            return Err(format!("the shape of x is not known, it is {}", show(x)));
        };
        let (begin, size, stride) = (begin[axis], size[axis], stride[axis]);
        require(size > 0, || format!("nothing is taken of axis {axis} of x {}", show(x)))?;
        require(stride != 0, || format!("the stride of axis {axis} is 0"))?;
        let last = isize::try_from(size - 1)
            .ok()
            .and_then(|steps| steps.checked_mul(stride))
            .and_then(|offset| begin.checked_add_signed(offset));
        require(begin < n && last.is_some_and(|last| last < n), || {
            format!(
                "{size} elements from {begin} by {stride} do not lie within the {n} of axis {axis}"
            )
        })?;
        require(!squeeze[axis] || size == 1, || {
            format!("axis {axis} has {size} elements and cannot be dropped")
        })?;
        if !squeeze[axis] {
            dims.push(Dim::Known(size));
        }
    }
    Ok(vec![TensorType { dtype: x.dtype, dims }.into()])
}
