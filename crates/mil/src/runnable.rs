//! The form of a function that devices run.

use crate::{Binding, Data, Function, Operation, Type, Value, ValueId, hoist_literals};
use orion_tensor::DType;

/// The classes of a classifier: the function ends with `classify`, which gives the name of the
/// most probable class and a dictionary of names and probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Classes {
    /// The output that is the name of a class.
    pub label: String,
    /// The output with the probabilities.
    pub probabilities: String,
    /// Names, or numbers as text, in the order of the probabilities.
    pub names: Vec<String>,
}

/// What a classifier's classes are; `None` when the function is none.
pub fn classes(function: &Function) -> Option<Classes> {
    let operation = function.body.operations.iter().find(|o| o.name == "classify")?;
    let [label, probabilities] = operation.outputs[..] else { return None };
    let Some([binding]) = operation.inputs.get("classes").map(|a| a.bindings()) else {
        return None;
    };
    let literal = match binding {
        Binding::Literal(value) => value,
        Binding::Value(id) => {
            let mut constants =
                function.body.operations.iter().filter(|o| o.outputs.first() == Some(id));
            constants.next_back()?.const_value()?
        }
    };
    let Data::List(items) = &literal.data else { return None };
    let name = |v: &Value| match v.as_str() {
        Some(name) => Some(name.to_owned()),
        None => v.as_int().map(|n| n.to_string()),
    };
    Some(Classes {
        label: function.value_name(label).to_owned(),
        probabilities: function.value_name(probabilities).to_owned(),
        names: items.iter().map(name).collect::<Option<_>>()?,
    })
}

/// The same function with literals as constants ([`hoist_literals`]), and numbers instead of a
/// classifier's names: its label is the place of the class, int32, and its dictionary the
/// probabilities in order.
pub fn runnable(function: &Function) -> Function {
    if classes(function).is_none() {
        return hoist_literals(function);
    }
    let mut function = function.clone();
    let mut operations = Vec::with_capacity(function.body.operations.len() + 1);
    for operation in std::mem::take(&mut function.body.operations) {
        match numbers_of(&operation, &mut function) {
            Some(pair) => operations.extend(pair),
            None => operations.push(operation),
        }
    }
    function.body.operations = operations;
    hoist_literals(&function)
}

fn numbers_of(operation: &Operation, function: &mut Function) -> Option<[Operation; 2]> {
    let [label, dictionary] = operation.outputs[..] else { return None };
    if operation.name != "classify" {
        return None;
    }
    let given: ValueId = operation.inputs.get("probabilities")?.bindings().first()?.value()?;
    let ty = function.ty(given).as_tensor()?.clone();
    let count = ty.element_count()?;
    function.values[dictionary].ty = Type::tensor(ty.dtype, &[count]);
    function.values[label].ty = Type::scalar(DType::I32);
    let mut row = Operation::new("reshape", vec![dictionary]);
    row.inputs.insert("x".to_owned(), given.into());
    row.inputs.insert("shape".to_owned(), Value::ints(&[i32::try_from(count).ok()?]).into());
    let mut best = Operation::new("reduce_argmax", vec![label]);
    best.inputs.insert("x".to_owned(), dictionary.into());
    best.inputs.insert("axis".to_owned(), Value::int(0).into());
    best.inputs.insert("keep_dims".to_owned(), Value::bool(false).into());
    Some([row, best])
}
