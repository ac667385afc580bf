//! Ops that work element by element or along axes.

use super::{
    Operands, Types, broadcast, require, require_axes, require_axis, require_same_dtype, show,
    show_dims, unify_all,
};
use crate::op::Unary;
use crate::{Dim, Op, TensorType, Type};
use orion_tensor::DType;

pub(super) fn types(op: &Op, operands: Operands<'_>) -> Types {
    match op {
        Op::Cast { x, dtype } => {
            let x = operands.movable("x", *x)?;
            require(*dtype != DType::String, || "nothing can be cast to string".to_owned())?;
            require(!matches!(dtype, DType::F8E4M3FN | DType::F8E5M2), || {
                format!("nothing can be cast to {dtype}")
            })?;
            Ok(vec![TensorType { dtype: *dtype, dims: x.dims.clone() }.into()])
        }
        Op::Unary { kind, x } => {
            use Unary::*;
            let x = match kind {
                LogicalNot => operands.bool("x", *x)?,
                Abs | Exp2 | Sign | Square | Threshold { .. } => operands.number("x", *x)?,
                _ => operands.float("x", *x)?,
            };
            Ok(vec![x.clone().into()])
        }
        Op::Binary { kind, x, y } => {
            let (x, y) = if kind.is_logical() {
                (operands.bool("x", *x)?, operands.bool("y", *y)?)
            } else {
                (operands.number("x", *x)?, operands.number("y", *y)?)
            };
            require_same_dtype(("x", x), ("y", y))?;
            let dims = broadcast(&x.dims, &y.dims).ok_or_else(|| {
                format!("x {} and y {} do not broadcast", show_dims(&x.dims), show_dims(&y.dims))
            })?;
            let dtype = if kind.is_comparison() { DType::Bool } else { x.dtype };
            Ok(vec![TensorType { dtype, dims }.into()])
        }
        Op::Select { cond, a, b } => {
            let cond = operands.bool("cond", *cond)?;
            let (a, b) = (operands.movable("a", *a)?, operands.movable("b", *b)?);
            require_same_dtype(("a", a), ("b", b))?;
            let dims = broadcast(&a.dims, &b.dims).and_then(|d| broadcast(&cond.dims, &d));
            let dims = dims.ok_or_else(|| {
                format!(
                    "cond {}, a {} and b {} do not broadcast",
                    show_dims(&cond.dims),
                    show_dims(&a.dims),
                    show_dims(&b.dims)
                )
            })?;
            Ok(vec![TensorType { dtype: a.dtype, dims }.into()])
        }
        _ => unreachable!("not an elementwise op: {op:?}"),
    }
}

pub(super) fn types_along_axes(op: &Op, operands: Operands<'_>) -> Types {
    match op {
        Op::Reduce { kind, x, axes, keep_dims } => {
            use crate::op::Reduction::*;
            let x = match kind {
                Sum | Mean | Max | Min | Prod | L1Norm | SumSquare => operands.number("x", *x)?,
                L2Norm | LogSum | LogSumExp => operands.float("x", *x)?,
            };
            require_axes(axes, x)?;
            Ok(vec![reduced(x, axes, *keep_dims, x.dtype)])
        }
        Op::ArgReduce { x, axis, keep_dims, .. } => {
            let x = operands.number("x", *x)?;
            require_axis(*axis, x)?;
            Ok(vec![reduced(x, &[*axis], *keep_dims, DType::I32)])
        }
        Op::Cumsum { x, axis, .. } => {
            let x = operands.number("x", *x)?;
            require_axis(*axis, x)?;
            Ok(vec![x.clone().into()])
        }
        Op::Softmax { x, axis } => {
            let x = operands.float("x", *x)?;
            require_axis(*axis, x)?;
            Ok(vec![x.clone().into()])
        }
        _ => unreachable!("not an op along axes: {op:?}"),
    }
}

fn reduced(x: &TensorType, axes: &[usize], keep_dims: bool, dtype: DType) -> Type {
    let dims = x.dims.iter().enumerate().filter_map(|(axis, &d)| {
        match (axes.contains(&axis), keep_dims) {
            (true, true) => Some(Dim::Known(1)),
            (true, false) => None,
            (false, _) => Some(d),
        }
    });
    TensorType { dtype, dims: dims.collect() }.into()
}

pub(super) fn norm_types(op: &Op, operands: Operands<'_>) -> Types {
    match op {
        Op::LayerNorm { x, axes, gamma, beta, .. } => {
            let x = operands.float("x", *x)?;
            require_axes(axes, x)?;
            let expected: Vec<Dim> = axes.iter().map(|&a| x.dims[a]).collect();
            for (name, id) in [("gamma", gamma), ("beta", beta)] {
                if let Some(id) = id {
                    let t = operands.float(name, *id)?;
                    require_shape(name, t, x, &expected)?;
                }
            }
            Ok(vec![x.clone().into()])
        }
        Op::BatchNorm { x, mean, variance, gamma, beta, .. } => {
            let x = operands.float("x", *x)?;
            require(x.rank() >= 2, || format!("x must be [N, C, …], it is {}", show(x)))?;
            let given = [("mean", Some(mean)), ("variance", Some(variance))].into_iter();
            for (name, id) in given.chain([("gamma", gamma.as_ref()), ("beta", beta.as_ref())]) {
                if let Some(id) = id {
                    let t = operands.float(name, *id)?;
                    require_shape(name, t, x, &x.dims[1..2])?;
                }
            }
            Ok(vec![x.clone().into()])
        }
        _ => unreachable!("not a normalisation: {op:?}"),
    }
}

fn require_shape(name: &str, t: &TensorType, x: &TensorType, dims: &[Dim]) -> Result<(), String> {
    require_same_dtype((name, t), ("x", x))?;
    require(unify_all(&t.dims, dims).is_some(), || {
        format!("{name} must be {} for x {}, it is {}", show_dims(dims), show(x), show(t))
    })
}
