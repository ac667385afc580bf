//! Computes once what is computed twice, constants included.
//! Leaves what reads or writes state, draws random numbers, or has nested blocks. Short constants
//! merge only with those of one name, `axis` with `axis_3`: `transpose_x = keep_dims` is no
//! faster, and nobody can read it.

use crate::rewrite::Changes;
use orion_mil::typed::Constants;
use orion_mil::{Argument, Binding, Data, Function, Operation, Value, ValueId, op_table};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Elements of a constant that is a parameter rather than data.
const SHORT: usize = 8;

/// Runs the pass; whether the function changed.
pub fn run(function: &mut Function) -> bool {
    let mut changes = Changes::default();
    let constants = Constants::of(function);
    let mut seen: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, operation) in function.body.operations.iter().enumerate() {
        if !is_pure(operation) {
            continue;
        }
        let bound = bindings(operation, &constants, &changes);
        let same_hash = seen.entry(hash(operation, &bound)).or_default();
        let twin = same_hash.iter().find(|&&earlier| {
            let earlier = &function.body.operations[earlier];
            is_same(function, earlier, operation)
                && bindings(earlier, &constants, &changes) == bound
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

/// Argument names with what is bound to them: a constant's value, or else a value's id.
type Bindings<'a> = Vec<(&'a str, Result<ValueId, &'a Value>)>;

/// The operands as they will be, sorted where their order means nothing.
fn bindings<'a>(
    operation: &'a Operation,
    constants: &'a Constants<'a>,
    changes: &Changes,
) -> Bindings<'a> {
    let commutes = matches!(operation.name.as_str(), "add" | "mul");
    let mut bindings: Vec<_> = operation
        .inputs
        .iter()
        .flat_map(|(name, argument)| {
            let name = if commutes { "" } else { name.as_str() };
            argument.bindings().iter().map(move |binding| match binding {
                Binding::Value(id) => {
                    let id = changes.resolve(*id);
                    (name, constants.get(id).ok_or(id).map_or_else(Ok, Err))
                }
                Binding::Literal(value) => (name, Err(value)),
            })
        })
        .collect();
    if commutes {
        bindings.sort_by_key(|(_, binding)| binding.ok());
    }
    bindings
}

fn hash(operation: &Operation, bindings: &Bindings<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    operation.name.hash(&mut hasher);
    for (name, binding) in bindings {
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

/// Whether two operations are the same but for their operands.
fn is_same(function: &Function, a: &Operation, b: &Operation) -> bool {
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
        && arities(a) == arities(b)
        && types(a) == types(b)
        && a.opset == b.opset
        && attributes(a) == attributes(b)
        && (!is_short_constant(a) || stem(function, a) == stem(function, b))
}

fn is_short_constant(operation: &Operation) -> bool {
    let value = operation.const_value();
    let is_long = |v: &Value| match &v.data {
        Data::Tensor(tensor) => tensor.element_count() > SHORT,
        Data::Blob { .. } => true,
        _ => false,
    };
    value.is_some_and(|v| !is_long(v))
}

/// A name without the number that makes it unique.
fn stem<'a>(function: &'a Function, operation: &Operation) -> &'a str {
    let name = function.value_name(operation.outputs[0]);
    let without_digits = name.trim_end_matches(|c: char| c.is_ascii_digit());
    without_digits.strip_suffix('_').unwrap_or(name)
}
