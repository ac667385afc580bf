//! Turns inline literals into constants, which the other passes and devices ask for.
//! Attributes are left as they are.

use orion_mil::{Binding, Block, Function, hoist_literals};

/// Runs the pass; whether the function changed.
pub fn run(function: &mut Function) -> bool {
    if !has_literals(&function.body) {
        return false;
    }
    *function = hoist_literals(function);
    true
}

fn has_literals(block: &Block) -> bool {
    block.operations.iter().any(|operation| {
        let mut bindings = operation.inputs.values().flat_map(|a| a.bindings());
        bindings.any(|b| matches!(b, Binding::Literal(_)))
            || operation.blocks.iter().any(has_literals)
    })
}
