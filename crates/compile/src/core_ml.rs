//! What Core ML's tools want of a program beyond what MIL says.

use orion_mil::{Function, Operation, Program, Value, ValueId};
use orion_tensor::{DType, broadcast_shapes};
use std::collections::HashMap;

/// The same program as coremltools 9.0 reads it.
///
/// It takes the shape of a `select` from `a` and `b` alone, so that a choice between two numbers
/// would be one number whatever the condition's shape. The first of them that is a known number
/// is written with the shape of the result.
pub fn for_core_ml(program: &Program) -> Program {
    let mut program = program.clone();
    program.functions.iter_mut().for_each(widen_choices);
    program
}

fn widen_choices(function: &mut Function) {
    let mut numbers: HashMap<ValueId, f64> = HashMap::new();
    let mut written = Vec::with_capacity(function.body.operations.len());
    for mut operation in std::mem::take(&mut function.body.operations) {
        if let Some(number) = number(&operation, &numbers) {
            numbers.extend(operation.outputs.first().map(|&v| (v, number)));
        }
        if let Some((argument, shape)) = too_narrow(function, &operation, &numbers) {
            let value = operand(&operation, argument).and_then(|v| Some((v, *numbers.get(&v)?)));
            let (narrow, number) = value.expect("it was looked at");
            let dtype = function.ty(narrow).as_tensor().map_or(DType::F32, |t| t.dtype);
            let wide = filled(function, &mut written, (dtype, number), &shape);
            operation.inputs.insert(argument.to_owned(), wide.into());
        }
        written.push(operation);
    }
    function.body.operations = written;
}

fn operand(operation: &Operation, argument: &str) -> Option<ValueId> {
    match operation.inputs.get(argument)?.bindings() {
        [one] => one.value(),
        _ => None,
    }
}

/// The number that an operation gives, whatever happens.
fn number(operation: &Operation, numbers: &HashMap<ValueId, f64>) -> Option<f64> {
    if let Some(value) = operation.const_value() {
        return value.as_f64();
    }
    match operation.name.as_str() {
        "fill" => numbers.get(&operand(operation, "value")?).copied(),
        _ => None,
    }
}

/// The argument of a `select` that would have to be wider, and how wide.
fn too_narrow(
    function: &Function,
    operation: &Operation,
    numbers: &HashMap<ValueId, f64>,
) -> Option<(&'static str, Vec<usize>)> {
    if operation.name != "select" {
        return None;
    }
    let shape = |v: ValueId| function.ty(v).as_tensor()?.shape();
    let result = shape(*operation.outputs.first()?)?;
    let (a, b) = (operand(operation, "a")?, operand(operation, "b")?);
    if broadcast_shapes(&shape(a)?, &shape(b)?)? == result {
        return None;
    }
    let argument = [("a", a), ("b", b)].into_iter().find(|(_, v)| numbers.contains_key(v))?.0;
    Some((argument, result))
}

/// A tensor of one number, in operations behind those that are written.
fn filled(
    function: &mut Function,
    written: &mut Vec<Operation>,
    (dtype, number): (DType, f64),
    shape: &[usize],
) -> ValueId {
    let mut add = |name: &str, mut operation: Operation, ty: orion_mil::Type| {
        let taken = |n: &String| function.values.iter().any(|(_, v)| v.name == *n);
        let numbered = (function.values.len()..).map(|i| format!("{name}_{i}"));
        let name = numbered.into_iter().find(|n| !taken(n)).expect("names do not run out");
        let id = function.values.push(&*name, ty);
        operation.outputs = vec![id];
        operation.attributes.insert("name".into(), Value::string(name));
        written.push(operation);
        id
    };
    let constant = |value: Value| {
        let mut operation = Operation::new("const", vec![]);
        let ty = value.ty.clone();
        operation.attributes.insert("val".into(), value);
        (operation, ty)
    };
    let sizes: Vec<i32> = shape.iter().map(|&n| n as i32).collect();
    let (operation, ty) = constant(Value::ints(&sizes));
    let sizes = add("choice_shape", operation, ty);
    let (operation, ty) = constant(Value::scalar(dtype, number));
    let value = add("choice_value", operation, ty);
    let mut fill = Operation::new("fill", vec![]);
    fill.inputs.insert("shape".into(), sizes.into());
    fill.inputs.insert("value".into(), value.into());
    add("choice", fill, orion_mil::Type::tensor(dtype, shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_mil::op::Binary;
    use orion_mil::{Builder, TensorType, verify};

    #[test]
    fn a_choice_between_numbers_has_the_shape_of_its_condition() {
        let mut b = Builder::new("main");
        let x = b.input("x", TensorType::new(DType::F32, &[2, 3]));
        let zero = b.fill(DType::F32, &[], 0.0);
        let positive = b.binary(Binary::Greater, x, zero);
        let low = b.fill(DType::F32, &[], -10.0);
        let chosen = b.select(positive, zero, low);
        let kept = b.select(positive, x, low);
        let y = b.add(chosen, kept);
        let program = Program::with_function(b.finish(&[y]));
        let wide = for_core_ml(&program);
        assert!(verify(&wide).is_empty(), "{:?}", verify(&wide));
        let operations = &wide.functions[0].body.operations;
        let fills: Vec<&Operation> = operations.iter().filter(|o| o.name == "fill").collect();
        assert!(fills.iter().any(|f| {
            let ty = wide.functions[0].ty(f.outputs[0]);
            ty.as_tensor().and_then(|t| t.shape()) == Some(vec![2, 3])
        }));
        // What is wide enough stays as it is, and twice is once.
        assert_eq!(for_core_ml(&wide), wide);
        let grown = operations.len() - program.functions[0].body.operations.len();
        assert_eq!(grown, 3, "one fill with its shape and number");
    }
}
