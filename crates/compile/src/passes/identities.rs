//! Removes operations that give back what they get: reshapes and casts to what is there, slices
//! and pads of nothing, `x · 1`, `x / 1`, `x - 0`, `x¹`.
//! Keeps `x + 0`, which turns -0 into 0.

use crate::rewrite::{Changes, Meanings};
use orion_mil::op::Binary;
use orion_mil::{Function, Op, ValueId};

/// Runs the pass; whether the function changed.
pub fn run(function: &mut Function) -> bool {
    let meanings = Meanings::of(function);
    let mut changes = Changes::default();
    for (operation, op) in function.body.operations.iter().zip(&meanings.ops) {
        if let (Some(op), [output]) = (op, &*operation.outputs)
            && let Some(same) = unchanged(function, &meanings, op, *output)
        {
            changes.substitute(function, *output, same);
        }
    }
    changes.apply(function)
}

/// The operand that an op gives back.
fn unchanged(
    function: &Function,
    meanings: &Meanings,
    op: &Op,
    output: ValueId,
) -> Option<ValueId> {
    let same_type = |x: &ValueId| function.ty(*x) == function.ty(output);
    let x = match op {
        Op::Identity { x } => Some(x),
        // With the type, nothing else is left that they could change.
        Op::Cast { x, .. } | Op::Reshape { x, .. } | Op::Tile { x, .. } | Op::Pad { x, .. } => {
            Some(x)
        }
        Op::Split { x, .. } => Some(x),
        Op::Transpose { x, perm } => perm.iter().enumerate().all(|(i, &p)| i == p).then_some(x),
        Op::Slice { x, stride, .. } => stride.iter().all(|&s| s > 0).then_some(x),
        Op::Concat { values, .. } if values.len() == 1 => values.first(),
        Op::Binary { kind, x, y } => {
            let is = |id: &ValueId, number: f64| {
                let uniform = meanings.uniform(function, *id);
                uniform.is_some_and(|v| v.to_bits() == number.to_bits())
            };
            match kind {
                Binary::Mul if is(x, 1.0) => Some(y),
                Binary::Mul | Binary::RealDiv | Binary::Pow => is(y, 1.0).then_some(x),
                Binary::Sub => is(y, 0.0).then_some(x),
                _ => None,
            }
        }
        _ => None,
    };
    x.filter(|x| same_type(x)).copied()
}
