//! Parts of an accelerator that compute more columns than the function has: rows of few columns
//! would be padded there anyway, and one program serves every number of tokens up to its own.

use super::groups::{Graph, Origin};
use super::{Columns, Unit};
use crate::{CompileError, CompileErrorKind};
use orion_mil::{Op, TensorType, ValueId};

impl Columns {
    /// Gives a type's last axis the columns of the accelerator.
    pub(super) fn widen(self, ty: &mut TensorType) {
        if let Some(shape) = ty.shape() {
            *ty = TensorType::new(ty.dtype, &self.widened(&shape));
        }
    }

    /// The same of a shape.
    pub(super) fn widened(self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.at_accelerator;
        }
        shape
    }
}

/// Refuses operations of the accelerator that do not compute each column for itself.
pub(super) fn check(graph: &Graph<'_>, columns: Columns) -> Result<(), CompileError> {
    for i in 0..graph.ops.len() {
        let on_accelerator = graph.units[i] == Unit::Accelerator && !graph.copied[i];
        if on_accelerator && !is_by_column(graph, i, columns.given) {
            let message = format!(
                "it does not compute each of {} columns for itself, so that none can be added",
                columns.given
            );
            let (function, output) = (graph.function, graph.outputs(i)[0]);
            return Err(CompileError::new(CompileErrorKind::NotSupported, &function.name, message)
                .at_value(function.value_name(output)));
        }
    }
    Ok(())
}

fn is_by_column(graph: &Graph<'_>, i: usize, given: usize) -> bool {
    let shape = |v: ValueId| graph.function.ty(v).as_tensor().and_then(TensorType::shape);
    let is_run = |v: ValueId| graph.origin(v) == Origin::Run;
    let last = |v: ValueId| shape(v).and_then(|s| s.last().copied());
    let is_last = |v: ValueId, axis: usize| shape(v).is_none_or(|s| axis + 1 >= s.len());
    // What is the same for all columns has one at most.
    let fits = |v: ValueId| match is_run(v) {
        true => last(v) == Some(given),
        false => last(v).is_none_or(|n| n == 1),
    };
    if !graph.outputs(i).iter().all(|&v| last(v) == Some(given)) {
        return false;
    }
    match &graph.ops[i] {
        Op::Identity { .. }
        | Op::Cast { .. }
        | Op::Unary { .. }
        | Op::Binary { .. }
        | Op::Select { .. } => graph.ops[i].operands().into_iter().all(fits),
        Op::Reshape { x, .. } => fits(*x),
        Op::Concat { values, axis, .. } => {
            values.iter().all(|&v| is_run(v) && fits(v) && !is_last(v, *axis))
        }
        Op::Split { x, axis, .. } | Op::Softmax { x, axis } => fits(*x) && !is_last(*x, *axis),
        Op::Reduce { x, axes, keep_dims, .. } => {
            fits(*x) && *keep_dims && axes.iter().all(|&axis| !is_last(*x, axis))
        }
        Op::Conv { x, weight, bias, strides, pads, .. } => {
            let is_product = shape(*weight).is_some_and(|s| s[2..].iter().all(|&n| n == 1));
            let is_plain = strides.iter().all(|&s| s == 1) && pads.iter().all(|&p| p == (0, 0));
            fits(*x)
                && is_product
                && is_plain
                && !is_run(*weight)
                && bias.is_none_or(|b| !is_run(b))
        }
        Op::Matmul { x, y, transpose_y: false, .. } => !is_run(*x) && fits(*y),
        _ => false,
    }
}
