//! Computes what depends on constants only, by the definition of the ops.
//! Leaves results of the function, weights in files, and everything too large for program text.

use crate::rewrite::{Changes, Meanings};
use orion_mil::evaluate::evaluate;
use orion_mil::{Function, Op, TensorType, Value, ValueId};
use orion_tensor::Tensor;
use std::collections::HashMap;

/// Elements that a new constant may have.
pub const LARGEST_RESULT: usize = 256;

/// Elements that an operand may have: computing is slow, and done anew in every round.
const LARGEST_OPERAND: usize = 1 << 14;

/// Runs the pass; whether the function changed.
pub fn run(function: &mut Function) -> bool {
    let meanings = Meanings::of(function);
    let mut known: HashMap<ValueId, Tensor> = HashMap::new();
    let mut changes = Changes::default();
    for (index, (operation, op)) in function.body.operations.iter().zip(&meanings.ops).enumerate() {
        let (Some(op), [output]) = (op, &*operation.outputs) else { continue };
        if let Op::Const(value) = op {
            if let Some(tensor) = value.as_tensor()
                && tensor.element_count() <= LARGEST_OPERAND
            {
                known.insert(*output, tensor.clone());
            }
            continue;
        }
        if function.body.results.contains(output) {
            continue;
        }
        if let Some(tensor) = fold(function, &known, op, *output) {
            changes.replace(index, Op::Const(Value::tensor(tensor.clone())));
            known.insert(*output, tensor);
        }
    }
    changes.apply(function)
}

fn fold(
    function: &Function,
    known: &HashMap<ValueId, Tensor>,
    op: &Op,
    output: ValueId,
) -> Option<Tensor> {
    let ty: &TensorType = function.ty(output).as_tensor()?;
    if ty.element_count()? > LARGEST_RESULT || matches!(op, Op::ReadState { .. }) {
        return None;
    }
    let operands: Option<Vec<Tensor>> =
        op.operands().iter().map(|id| known.get(id).cloned()).collect();
    // What the definition refuses, such as an index out of range, is left for the run to report.
    let mut results = evaluate(op, &operands?, std::slice::from_ref(ty)).ok()?;
    results.pop()
}
