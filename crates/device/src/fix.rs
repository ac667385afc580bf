//! Rewrites what has a safe fix, so that the program computes the same. Does not touch what
//! would need a decision, nor names that hosts bind to.

use crate::rules::{POISON, required_operands};
use crate::{Rule, Target, rule};
use orion_mil::{
    Binding, Function, Operation, Program, TensorType, Type, Value, ValueId, hoist_literals,
};
use std::collections::HashSet;

/// A program after [`fix`].
#[derive(Debug, Clone)]
pub struct Fixed {
    /// What computes the same.
    pub program: Program,
    /// The rules that were broken, with how many places were rewritten, by code.
    pub rewritten: Vec<(&'static Rule, usize)>,
}

/// Rewrites a program for a target where a fix is safe: missing arguments get their defaults,
/// parameters in place get constants of their own, names that fail on M1 get a prefix, and
/// operations that do not exist are said with others. Nested blocks are left as they are.
pub fn fix(program: &Program, target: &Target) -> Fixed {
    let mut program = program.clone();
    let mut rewritten = Vec::new();
    let mut record = |code: &str, count: usize| {
        let rule = rule(code).expect("the fixes name rules that there are");
        if count > 0 {
            rewritten.push((rule, count));
        }
    };
    let holds = |code: &str| rule(code).is_some_and(|r| r.holds_for(target));

    for (code, rewrite) in REWRITES {
        if holds(code) {
            let count = program.functions.iter_mut().map(|f| rewrite_operations(f, rewrite)).sum();
            record(code, count);
        }
    }
    if holds("ANE003") {
        let mut count = 0;
        for function in &mut program.functions {
            let hoisted = hoist_literals(function);
            count += hoisted.values.len() - function.values.len();
            *function = hoisted;
        }
        record("ANE003", count);
    }
    if holds("ANE006") && !program.attributes.contains_key("buildInfo") {
        let info = Value::string_dict([("coremlc-version", "3505.4.1")]);
        program.attributes.insert("buildInfo".to_owned(), info);
        record("ANE006", 1);
    }
    if holds("ANE007") {
        record("ANE007", program.functions.iter_mut().map(rename_poison).sum());
    }
    rewritten.sort_by_key(|(rule, _)| rule.code);
    Fixed { program, rewritten }
}

/// What takes the place of an operation: its last operation defines the same outputs.
type Rewrite = fn(&mut Writer<'_>, &Operation) -> Option<()>;

const REWRITES: [(&str, Rewrite); 4] = [
    ("ANE002", default_arguments),
    ("ANE040", decompose),
    ("ANE056", bias_apart),
    ("ANE057", square_as_product),
];

/// Writes operations into the place of one.
struct Writer<'a> {
    function: &'a mut Function,
    names: &'a mut HashSet<String>,
    operations: Vec<Operation>,
}

impl Writer<'_> {
    fn value(&mut self, like: &str, ty: Type) -> ValueId {
        let name = (0..)
            .map(|i| format!("{like}_fix{i}"))
            .find(|name| !self.names.contains(name))
            .expect("names do not end");
        self.names.insert(name.clone());
        self.function.values.push(name, ty)
    }

    fn constant(&mut self, like: &str, value: Value) -> ValueId {
        let id = self.value(like, value.ty.clone());
        let mut operation = Operation::new("const", vec![id]);
        operation.attributes.insert("val".into(), value);
        self.push(operation);
        id
    }

    /// A scalar of a tensor's element type.
    fn number(&mut self, like: ValueId, number: f64) -> Option<ValueId> {
        let dtype = self.function.ty(like).as_tensor()?.dtype;
        let name = self.function.value_name(like).to_owned();
        Some(self.constant(&name, Value::scalar(dtype, number)))
    }

    fn push(&mut self, mut operation: Operation) {
        if let [output] = *operation.outputs {
            let name = Value::string(self.function.value_name(output));
            operation.attributes.entry("name".into()).or_insert(name);
        }
        self.operations.push(operation);
    }

    /// An operation that defines a given value.
    fn define(&mut self, output: ValueId, name: &str, operands: &[(&str, ValueId)]) {
        let mut operation = Operation::new(name, vec![output]);
        for &(argument, value) in operands {
            operation.inputs.insert(argument.to_owned(), value.into());
        }
        self.push(operation);
    }

    /// An operation that defines a new value of the type of `like`.
    fn compute(&mut self, like: ValueId, name: &str, operands: &[(&str, ValueId)]) -> ValueId {
        let base = self.function.value_name(like).to_owned();
        let output = self.value(&base, self.function.ty(like).clone());
        self.define(output, name, operands);
        output
    }
}

fn rewrite_operations(function: &mut Function, rewrite: Rewrite) -> usize {
    let mut count = 0;
    let mut names: HashSet<String> = function.values.iter().map(|(_, v)| v.name.clone()).collect();
    for operation in std::mem::take(&mut function.body.operations) {
        let mut writer = Writer { function, names: &mut names, operations: Vec::new() };
        let new = rewrite(&mut writer, &operation).map(|()| writer.operations);
        match new {
            Some(operations) => {
                count += 1;
                function.body.operations.extend(operations);
            }
            None => function.body.operations.push(operation),
        }
    }
    count
}

fn operand(operation: &Operation, argument: &str) -> Option<ValueId> {
    match operation.inputs.get(argument)?.bindings() {
        [Binding::Value(value)] => Some(*value),
        _ => None,
    }
}

/// The defaults of MIL's definition for what [`required_operands`] wants.
fn default_arguments(writer: &mut Writer<'_>, operation: &Operation) -> Option<()> {
    let missing: Vec<&str> = required_operands(&operation.name)
        .iter()
        .copied()
        .filter(|a| !operation.inputs.contains_key(*a))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let first = operand(operation, if operation.inputs.contains_key("x") { "x" } else { "values" });
    let ty = first.and_then(|v| writer.function.ty(v).as_tensor()).cloned();
    let mut complete = operation.clone();
    for argument in missing {
        let value = default_value(&operation.name, argument, ty.as_ref(), operation, writer)?;
        let name = writer.function.value_name(*operation.outputs.first()?).to_owned();
        let constant = writer.constant(&format!("{name}_{argument}"), value);
        complete.inputs.insert(argument.to_owned(), constant.into());
    }
    writer.push(complete);
    Some(())
}

fn default_value(
    op: &str,
    argument: &str,
    x: Option<&TensorType>,
    operation: &Operation,
    writer: &Writer<'_>,
) -> Option<Value> {
    let spatial = || {
        let weight = operand(operation, "weight")?;
        writer.function.ty(weight).as_tensor()?.rank().checked_sub(2)
    };
    Some(match (op, argument) {
        ("rsqrt", "epsilon") => Value::scalar(x?.dtype, 1e-12),
        ("log", "epsilon") => Value::scalar(x?.dtype, 1e-45),
        ("inverse", "epsilon") => Value::scalar(x?.dtype, 1e-4),
        ("layer_norm", "epsilon") => Value::scalar(x?.dtype, 1e-5),
        ("gelu", "mode") => Value::string("EXACT"),
        ("matmul", _) | ("concat", "interleave") => Value::bool(false),
        (_, "keep_dims") => Value::bool(false),
        ("softmax", "axis") => Value::int(-1),
        ("conv", "strides" | "dilations") => Value::ints(&vec![1; spatial()?]),
        ("conv", "groups") => Value::int(1),
        ("conv", "pad_type") => Value::string("valid"),
        ("conv", "pad") => Value::ints(&vec![0; 2 * spatial()?]),
        (_, "axes") => {
            let axes: Vec<i32> = (0..i32::try_from(x?.rank()).ok()?).collect();
            Value::ints(&axes)
        }
        // What has no default is wrong everywhere, and not ours to guess.
        _ => return None,
    })
}

/// tan, sinh, cosh and mod by others. Like those, exact to a few units in the last place.
fn decompose(writer: &mut Writer<'_>, operation: &Operation) -> Option<()> {
    let x = operand(operation, "x")?;
    let &[output] = operation.outputs.as_slice() else { return None };
    if !writer.function.ty(x).as_tensor()?.dtype.is_float() {
        return None;
    }
    match operation.name.as_str() {
        "tan" => {
            let sin = writer.compute(x, "sin", &[("x", x)]);
            let cos = writer.compute(x, "cos", &[("x", x)]);
            writer.define(output, "real_div", &[("x", sin), ("y", cos)]);
        }
        "sinh" | "cosh" => {
            let combine = if operation.name == "sinh" { "sub" } else { "add" };
            let minus = writer.number(x, -1.0)?;
            let half = writer.number(x, 0.5)?;
            let negative = writer.compute(x, "mul", &[("x", x), ("y", minus)]);
            let up = writer.compute(x, "exp", &[("x", x)]);
            let down = writer.compute(x, "exp", &[("x", negative)]);
            let both = writer.compute(x, combine, &[("x", up), ("y", down)]);
            writer.define(output, "mul", &[("x", both), ("y", half)]);
        }
        "mod" => {
            let y = operand(operation, "y")?;
            let quotient = writer.compute(output, "floor_div", &[("x", x), ("y", y)]);
            let whole = writer.compute(output, "mul", &[("x", quotient), ("y", y)]);
            writer.define(output, "sub", &[("x", x), ("y", whole)]);
        }
        _ => return None,
    }
    Some(())
}

/// The bias as an addition behind the convolution.
fn bias_apart(writer: &mut Writer<'_>, operation: &Operation) -> Option<()> {
    let bias = operand(operation, "bias").filter(|_| operation.name == "conv")?;
    let &[output] = operation.outputs.as_slice() else { return None };
    let ty = writer.function.ty(output).clone();
    let bias_type = writer.function.ty(bias).as_tensor()?.clone();
    let channels = i32::try_from(*bias_type.shape()?.first()?).ok()?;
    let rank = ty.as_tensor()?.rank();
    let mut shape = vec![1; rank];
    *shape.get_mut(1)? = channels;

    let name = writer.function.value_name(output).to_owned();
    let mut product = operation.clone();
    product.inputs.remove("bias");
    let without = writer.value(&name, ty);
    product.outputs = vec![without];
    product.attributes.remove("name");
    writer.push(product);
    let shape_value = writer.constant(&format!("{name}_shape"), Value::ints(&shape));
    let sizes: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
    let column = writer.value(&name, Type::tensor(bias_type.dtype, &sizes));
    writer.define(column, "reshape", &[("shape", shape_value), ("x", bias)]);
    writer.define(output, "add", &[("x", without), ("y", column)]);
    Some(())
}

fn square_as_product(writer: &mut Writer<'_>, operation: &Operation) -> Option<()> {
    let x = operand(operation, "x").filter(|_| operation.name == "square")?;
    let &[output] = operation.outputs.as_slice() else { return None };
    writer.define(output, "mul", &[("x", x), ("y", x)]);
    Some(())
}

/// Values inside a function only: hosts bind inputs and outputs by name.
fn rename_poison(function: &mut Function) -> usize {
    let mut names: HashSet<String> = function.values.iter().map(|(_, v)| v.name.clone()).collect();
    let bound: HashSet<ValueId> = function
        .params
        .iter()
        .map(|p| p.value)
        .chain(function.body.results.iter().copied())
        .collect();
    let inside: Vec<ValueId> = function
        .body
        .all_operations()
        .into_iter()
        .flat_map(|o| o.outputs.iter().copied())
        .filter(|v| !bound.contains(v) && POISON.contains(&function.value_name(*v)))
        .collect();
    for &value in &inside {
        let old = function.value_name(value).to_owned();
        let new = (0..).map(|i| format!("v{i}_{old}")).find(|n| !names.contains(n));
        let new = new.expect("names do not end");
        names.insert(new.clone());
        function.values[value].name = new;
    }
    inside.len()
}
