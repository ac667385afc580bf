//! Makes inline literals `const` operations, so that every argument is a value.
//!
//! Attributes stay as they are, `val` of a `const` among them; but the parameters that
//! `constexpr_…` ops have as attributes become arguments.

use crate::{Argument, Binding, Block, Data, Function, Operation, Value, Values};
use std::collections::HashSet;

/// The same function with each literal argument bound to a fresh `const` placed right before the
/// operation that uses it, in the same block. Existing values keep their ids; the fresh ones come
/// behind them.
///
/// The constants are named after the value they help to make and the argument they are bound to,
/// such as `y_axis`.
pub fn hoist_literals(function: &Function) -> Function {
    let mut function = function.clone();
    let names = function.values.iter().map(|(_, v)| v.name.clone()).collect();
    let mut names = Names { taken: names };
    hoist_block(&mut function.body, &mut function.values, &mut names);
    function
}

fn hoist_block(block: &mut Block, values: &mut Values, names: &mut Names) {
    let mut hoisted = Vec::with_capacity(block.operations.len());
    for mut operation in std::mem::take(&mut block.operations) {
        let stem = match operation.outputs.first() {
            Some(&output) => values[output].name.clone(),
            None => operation.name.clone(),
        };
        if operation.name.starts_with("constexpr_") {
            attributes_to_arguments(&mut operation);
        }
        for (name, argument) in &mut operation.inputs {
            let bindings = match argument {
                Argument::One(binding) => std::slice::from_mut(binding),
                Argument::Many(bindings) => bindings.as_mut_slice(),
            };
            for binding in bindings {
                let Binding::Literal(value) = binding else { continue };
                let fresh = names.fresh(&format!("{stem}_{name}"));
                let id = values.push(fresh.clone(), value.ty.clone());
                let mut constant = Operation::new("const", vec![id]);
                constant.attributes.insert("name".to_owned(), Value::string(fresh));
                constant.attributes.insert("val".to_owned(), value.clone());
                hoisted.push(constant);
                *binding = Binding::Value(id);
            }
        }
        operation.blocks.iter_mut().for_each(|b| hoist_block(b, values, names));
        hoisted.push(operation);
    }
    block.operations = hoisted;
}

/// Up to iOS17, the parameters of `constexpr_…` ops are attributes.
fn attributes_to_arguments(operation: &mut Operation) {
    let attributes = std::mem::take(&mut operation.attributes);
    for (name, value) in attributes {
        let is_parameter =
            matches!(value.data, Data::Tensor(_) | Data::Blob { .. }) || name == "output_dtype";
        if is_parameter && !operation.inputs.contains_key(&name) {
            operation.inputs.insert(name, value.into());
        } else {
            operation.attributes.insert(name, value);
        }
    }
}

struct Names {
    taken: HashSet<String>,
}

impl Names {
    fn fresh(&mut self, stem: &str) -> String {
        let numbered = (1..).map(|n: u64| format!("{stem}_{n}"));
        let name =
            std::iter::once(stem.to_owned()).chain(numbered).find(|n| !self.taken.contains(n));
        let name = name.expect("the numbers do not run out");
        self.taken.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Op, Param, TensorType, Type, ValueId, typed};
    use orion_tensor::{DType, Tensor};

    fn function() -> (Function, ValueId) {
        let mut function = Function::new("main", "ios18");
        let x = function.values.push("x", Type::tensor(DType::F32, &[2, 3]));
        function.params.push(Param { value: x, attributes: Default::default() });
        (function, x)
    }

    fn operation(name: &str, output: ValueId, inputs: Vec<(&str, Argument)>) -> Operation {
        let mut operation = Operation::new(name, vec![output]);
        operation.inputs = inputs.into_iter().map(|(n, a)| (n.to_owned(), a)).collect();
        operation
    }

    #[test]
    fn operands_and_parameters_become_constants() {
        let (mut function, x) = function();
        // The name the constant would get is taken.
        let taken = function.values.push("y_y", Type::tensor(DType::F32, &[2, 3]));
        let y = function.values.push("y", Type::tensor(DType::F32, &[2, 6]));
        let one = Value::tensor(Tensor::from_slice(&[3], &[1.0f32, 2.0, 3.0]));
        function.body.operations = vec![
            operation("add", taken, vec![("x", x.into()), ("y", one.into())]),
            operation(
                "concat",
                y,
                vec![
                    ("axis", Value::int(-1).into()),
                    ("interleave", Value::bool(false).into()),
                    (
                        "values",
                        Argument::Many(vec![
                            Binding::Value(taken),
                            Binding::Literal(Value::tensor(Tensor::zeros(DType::F32, &[2, 3]))),
                        ]),
                    ),
                ],
            ),
        ];
        function.body.results = vec![y];
        assert!(typed::analyze(&function).is_err());

        let hoisted = hoist_literals(&function);
        let names: Vec<&str> =
            hoisted.body.operations.iter().map(|o| hoisted.value_name(o.outputs[0])).collect();
        assert_eq!(names, ["y_y_y", "y_y", "y_axis", "y_interleave", "y_values", "y"]);
        let ops = typed::analyze(&hoisted).unwrap();
        let Op::Concat { values, axis: 1, interleave: false } = &ops[5] else {
            panic!("{:?}", ops[5])
        };
        assert_eq!(values[0], taken);
        assert_eq!(hoisted.ty(values[1]), &TensorType::new(DType::F32, &[2, 3]).into());
        assert_eq!(hoist_literals(&hoisted), hoisted);
    }

    #[test]
    fn fresh_names_avoid_taken_ones() {
        let (mut function, x) = function();
        function.values.push("y_x", Type::tensor(DType::F32, &[]));
        let y = function.values.push("y", Type::tensor(DType::F32, &[]));
        let two = Value::scalar(DType::F32, 2.0);
        let inner = operation("exp", y, vec![("x", two.into())]);
        let block = Block { params: vec![], operations: vec![inner], results: vec![y] };
        let z = function.values.push("z", Type::tensor(DType::F32, &[]));
        let mut outer = operation("cond", z, vec![("pred", x.into())]);
        outer.blocks = vec![block];
        function.body.operations = vec![outer];

        let hoisted = hoist_literals(&function);
        let inner = &hoisted.body.operations[0].blocks[0].operations;
        assert_eq!(hoisted.value_name(inner[0].outputs[0]), "y_x_1");
        assert_eq!(inner[1].inputs["x"], inner[0].outputs[0].into());
    }
}
