//! Makes one reshape of two.
//! Does not move reshapes past other operations.

use crate::rewrite::{Changes, Meanings};
use orion_mil::{Function, Op};

/// Runs the pass; whether the function changed.
pub fn run(function: &mut Function) -> bool {
    let meanings = Meanings::of(function);
    let mut changes = Changes::default();
    for (index, op) in meanings.ops.iter().enumerate() {
        if let Some(Op::Reshape { x, shape }) = op
            && let Some(Op::Reshape { x: inner, .. }) = meanings.maker(function, *x)
        {
            changes.replace(index, Op::Reshape { x: *inner, shape: shape.clone() });
        }
    }
    changes.apply(function)
}
