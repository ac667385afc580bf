//! Removes operations whose outputs nobody reads, in nested blocks too.
//! Keeps what has no outputs, such as `write_state`, and unused inputs.

use orion_mil::{Block, Function, Operation};

/// Runs the pass; whether the function changed.
pub fn run(function: &mut Function) -> bool {
    let mut live = vec![false; function.values.len()];
    sweep(&mut function.body, &mut live)
}

/// Readers come after what they read, so one walk from the end sees every reader first.
fn sweep(block: &mut Block, live: &mut [bool]) -> bool {
    for result in &block.results {
        live[result.index()] = true;
    }
    let before = block.operations.len();
    let mut changed = false;
    let mut kept = Vec::with_capacity(before);
    for mut operation in std::mem::take(&mut block.operations).into_iter().rev() {
        let is_read = operation.outputs.iter().any(|output| live[output.index()]);
        if !is_read && !has_effect(&operation) {
            continue;
        }
        for nested in operation.blocks.iter_mut().rev() {
            changed |= sweep(nested, live);
        }
        for operand in operation.operands() {
            live[operand.index()] = true;
        }
        kept.push(operation);
    }
    kept.reverse();
    block.operations = kept;
    changed || block.operations.len() != before
}

fn has_effect(operation: &Operation) -> bool {
    operation.outputs.is_empty()
        || operation.blocks.iter().any(|b| b.operations.iter().any(has_effect))
}
