//! Computes once what is computed twice, constants included.
//! Leaves what reads or writes state, draws random numbers, or has nested blocks.

use crate::rewrite::Changes;
use orion_mil::{Argument, Binding, Data, Function, Operation, Value, ValueId, op_table};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Runs the pass; whether the function changed.
pub fn run(function: &mut Function) -> bool {
    let mut changes = Changes::default();
    let mut seen: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, operation) in function.body.operations.iter().enumerate() {
        if !is_pure(operation) {
            continue;
        }
        let same_hash = seen.entry(hash(operation, &changes)).or_default();
        let twin = same_hash.iter().find(|&&earlier| {
            is_same(function, &changes, &function.body.operations[earlier], operation)
        });
        let Some(&twin) = twin else {
            same_hash.push(index);
            continue;
        };
        let earlier = function.body.operations[twin].outputs.clone();
        for (&old, &new) in operation.outputs.iter().zip(&earlier) {
            changes.substitute(function, old, new);
        }
    }
    changes.apply(function)
}

fn is_pure(operation: &Operation) -> bool {
    let name = operation.name.as_str();
    op_table::is_known(name)
        && operation.blocks.is_empty()
        && !operation.outputs.is_empty()
        && !name.contains("state")
        && !name.starts_with("random_")
}

/// The operands under the names they will have, sorted where their order means nothing.
fn bindings<'a>(
    operation: &'a Operation,
    changes: &Changes,
) -> Vec<(&'a str, Result<ValueId, &'a Value>)> {
    let commutes = matches!(operation.name.as_str(), "add" | "mul");
    let mut bindings: Vec<_> = operation
        .inputs
        .iter()
        .flat_map(|(name, argument)| {
            let name = if commutes { "" } else { name.as_str() };
            argument.bindings().iter().map(move |binding| match binding {
                Binding::Value(id) => (name, Ok(changes.resolve(*id))),
                Binding::Literal(value) => (name, Err(value)),
            })
        })
        .collect();
    if commutes {
        bindings.sort_by_key(|(_, binding)| binding.ok());
    }
    bindings
}

fn hash(operation: &Operation, changes: &Changes) -> u64 {
    let mut hasher = DefaultHasher::new();
    operation.name.hash(&mut hasher);
    for (name, binding) in bindings(operation, changes) {
        name.hash(&mut hasher);
        match binding {
            Ok(id) => id.hash(&mut hasher),
            Err(value) => hash_value(value, &mut hasher),
        }
    }
    if let Some(value) = operation.const_value() {
        hash_value(value, &mut hasher);
    }
    hasher.finish()
}

fn hash_value(value: &Value, hasher: &mut impl Hasher) {
    value.ty.hash(hasher);
    match &value.data {
        Data::Tensor(tensor) => tensor.bytes().hash(hasher),
        Data::Strings(strings) => strings.hash(hasher),
        Data::Blob { file, offset } => (file, offset).hash(hasher),
        // Rare: equality alone tells them apart.
        Data::List(_) | Data::Tuple(_) | Data::Dict(_) => {}
    }
}

fn is_same(function: &Function, changes: &Changes, a: &Operation, b: &Operation) -> bool {
    let attributes = |o: &'_ Operation| {
        let mut attributes = o.attributes.clone();
        attributes.remove("name");
        attributes
    };
    let arities = |o: &Operation| -> Vec<usize> {
        o.inputs.values().map(|a: &Argument| a.bindings().len()).collect()
    };
    let types = |o: &Operation| -> Vec<_> {
        o.outputs.iter().map(|&output| function.ty(output).clone()).collect()
    };
    a.name == b.name
        && bindings(a, changes) == bindings(b, changes)
        && arities(a) == arities(b)
        && types(a) == types(b)
        && a.opset == b.opset
        && attributes(a) == attributes(b)
}
