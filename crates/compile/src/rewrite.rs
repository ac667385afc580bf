//! What passes do to a function: read one value instead of another, give an operation another
//! meaning. It does not remove what becomes unused, and only touches the body, not nested blocks'
//! operations (whose operands do follow).

use orion_mil::encode::encode;
use orion_mil::infer::output_types;
use orion_mil::typed::{Constants, analyze_operation};
use orion_mil::{Argument, Binding, Block, Function, Op, Operation, Type, Value, ValueId};
use std::collections::{HashMap, HashSet};

/// Elements of a constant that is looked through for being one number.
const LONGEST_UNIFORM: usize = 1 << 12;

/// The meanings of a function's operations and where values are made.
pub(crate) struct Meanings {
    /// One per operation of the body; `None` where MIL says more than [`Op`].
    pub(crate) ops: Vec<Option<Op>>,
    makers: HashMap<ValueId, usize>,
}

impl Meanings {
    pub(crate) fn of(function: &Function) -> Self {
        let constants = Constants::of(function);
        let operations = &function.body.operations;
        let analyze = |operation| analyze_operation(function, &constants, operation).ok();
        let ops = operations.iter().map(analyze).collect();
        let mut makers = HashMap::new();
        for (index, operation) in operations.iter().enumerate() {
            makers.extend(operation.outputs.iter().map(|&output| (output, index)));
        }
        Self { ops, makers }
    }

    /// The op whose first output a value is.
    pub(crate) fn maker(&self, function: &Function, id: ValueId) -> Option<&Op> {
        let index = *self.makers.get(&id)?;
        let is_first = function.body.operations[index].outputs.first() == Some(&id);
        self.ops[index].as_ref().filter(|_| is_first)
    }

    /// The number that every element of a value is.
    pub(crate) fn uniform(&self, function: &Function, id: ValueId) -> Option<f64> {
        match self.maker(function, id)? {
            Op::Fill { value, .. } => Some(*value),
            Op::Const(value) => {
                let tensor = value.as_tensor().filter(|t| t.element_count() <= LONGEST_UNIFORM)?;
                let numbers = tensor.to_f64_vec();
                let (&first, rest) = numbers.split_first()?;
                rest.iter().all(|v| v.to_bits() == first.to_bits()).then_some(first)
            }
            _ => None,
        }
    }
}

/// Changes collected while a function is looked at, and made together at the end.
#[derive(Default)]
pub(crate) struct Changes {
    substitutes: HashMap<ValueId, ValueId>,
    /// Values that stand in for a result and take its name.
    promoted: HashSet<ValueId>,
    replacements: HashMap<usize, Op>,
    /// New constants, to stand at the start of the body.
    constants: Vec<Operation>,
}

impl Changes {
    /// What is read instead of a value.
    pub(crate) fn resolve(&self, mut id: ValueId) -> ValueId {
        while let Some(&next) = self.substitutes.get(&id) {
            id = next;
        }
        id
    }

    /// Has every reader of `old` read `new`, which is made earlier and holds the same. `false`
    /// when that would change the function's interface, or type.
    pub(crate) fn substitute(&mut self, function: &Function, old: ValueId, new: ValueId) -> bool {
        let new = self.resolve(new);
        if old == new || function.ty(old) != function.ty(new) {
            return false;
        }
        let results = &function.body.results;
        if results.contains(&old) {
            // A result has a name of its own, and is something that was computed.
            let maker = function.body.operations.iter().find(|o| o.outputs.contains(&new));
            let is_computed = maker.is_some_and(|o| o.name != "const");
            if !is_computed || results.contains(&new) || !self.promoted.insert(new) {
                return false;
            }
        }
        self.substitutes.insert(old, new);
        true
    }

    /// Gives the operation at a position another meaning, of the same output types.
    pub(crate) fn replace(&mut self, index: usize, op: Op) {
        self.replacements.insert(index, op);
    }

    /// A new scalar constant of a value's element type.
    pub(crate) fn number(
        &mut self,
        function: &mut Function,
        like: ValueId,
        number: f64,
    ) -> ValueId {
        let ty = function.ty(like).as_tensor().expect("a tensor");
        let value = Value::scalar(ty.dtype, number);
        let mut names = names(function);
        let name = fresh_name(&mut names, "number");
        constant(function, &mut self.constants, name, value)
    }

    /// Makes the changes; whether there were any.
    pub(crate) fn apply(self, function: &mut Function) -> bool {
        if self.substitutes.is_empty() && self.replacements.is_empty() {
            return false;
        }
        replace_operations(function, &self.replacements);
        function.body.operations.splice(0..0, self.constants.iter().cloned());
        self.rename_results(function);
        let mut body = std::mem::take(&mut function.body);
        self.redirect(&mut body);
        function.body = body;
        true
    }

    fn redirect(&self, block: &mut Block) {
        for operation in &mut block.operations {
            for operand in operation.operands_mut() {
                *operand = self.resolve(*operand);
            }
            operation.blocks.iter_mut().for_each(|b| self.redirect(b));
        }
        for result in &mut block.results {
            *result = self.resolve(*result);
        }
    }

    fn rename_results(&self, function: &mut Function) {
        for old in function.body.results.clone() {
            let new = self.resolve(old);
            if new == old {
                continue;
            }
            let name = std::mem::take(&mut function.values[old].name);
            let freed = std::mem::replace(&mut function.values[new].name, name);
            function.values[old].name = freed;
            for operation in &mut function.body.operations {
                let first = operation.outputs.first().copied();
                if first == Some(old) || first == Some(new) {
                    name_after_output(operation, function.values[first.expect("one")].name.clone());
                }
            }
        }
    }
}

fn name_after_output(operation: &mut Operation, name: String) {
    if operation.attributes.contains_key("name") {
        operation.attributes.insert("name".to_owned(), Value::string(name));
    }
}

/// Writes operations anew, with the constants of their parameters before them.
fn replace_operations(function: &mut Function, replacements: &HashMap<usize, Op>) {
    if replacements.is_empty() {
        return;
    }
    let mut names = names(function);
    let before = std::mem::take(&mut function.body.operations);
    let mut after = Vec::with_capacity(before.len() + replacements.len());
    for (index, mut operation) in before.into_iter().enumerate() {
        if let Some(op) = replacements.get(&index) {
            let encoded = encode(op, &function.values, operation.outputs.len());
            let stem = function.value_name(operation.outputs[0]).to_owned();
            operation.name = encoded.name.to_owned();
            operation.inputs = encoded.operands;
            let name = operation.attributes.remove("name");
            operation.attributes = encoded.attributes;
            operation.attributes.extend(name.map(|name| ("name".to_owned(), name)));
            for (parameter, value) in encoded.parameters {
                let fresh = fresh_name(&mut names, &format!("{stem}_{parameter}"));
                let id = constant(function, &mut after, fresh, value);
                operation.inputs.insert(parameter, Argument::One(Binding::Value(id)));
            }
        }
        after.push(operation);
    }
    function.body.operations = after;
}

fn constant(
    function: &mut Function,
    operations: &mut Vec<Operation>,
    name: String,
    value: Value,
) -> ValueId {
    let id = function.values.push(name.clone(), value.ty.clone());
    let mut operation = Operation::new("const", vec![id]);
    operation.attributes.insert("name".to_owned(), Value::string(name));
    operation.attributes.insert("val".to_owned(), value);
    operations.push(operation);
    id
}

fn names(function: &Function) -> HashSet<String> {
    function.values.iter().map(|(_, v)| v.name.clone()).collect()
}

fn fresh_name(names: &mut HashSet<String>, stem: &str) -> String {
    let mut name = stem.to_owned();
    let mut count = 0;
    while !names.insert(name.clone()) {
        count += 1;
        name = format!("{stem}_{count}");
    }
    name
}

/// Writes a body anew, operation by operation.
pub(crate) struct Writer<'a> {
    pub(crate) function: &'a mut Function,
    operations: Vec<Operation>,
    names: HashSet<String>,
}

impl<'a> Writer<'a> {
    /// A writer with nothing written; the operations of the old body are returned.
    pub(crate) fn new(function: &'a mut Function) -> (Self, Vec<Operation>) {
        let before = std::mem::take(&mut function.body.operations);
        let names = names(function);
        (Self { function, operations: Vec::with_capacity(before.len()), names }, before)
    }

    /// Writes an operation as it is.
    pub(crate) fn keep(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    /// Writes an operation with one new output.
    ///
    /// # Panics
    /// When the operands do not fit the op.
    pub(crate) fn push(&mut self, op: &Op) -> ValueId {
        let types = output_types(op, &self.function.values).expect("operands that fit");
        let name = encode(op, &self.function.values, 1).name;
        let output = self.value(name, types[0].clone());
        self.define(op, output);
        output
    }

    /// Writes an operation that defines a value which is there already.
    pub(crate) fn define(&mut self, op: &Op, output: ValueId) {
        let encoded = encode(op, &self.function.values, 1);
        let stem = self.function.value_name(output).to_owned();
        let mut operation = Operation::new(encoded.name, vec![output]);
        operation.inputs = encoded.operands;
        operation.attributes = encoded.attributes;
        operation.attributes.insert("name".to_owned(), Value::string(stem.clone()));
        for (parameter, value) in encoded.parameters {
            let fresh = fresh_name(&mut self.names, &format!("{stem}_{parameter}"));
            let id = constant(self.function, &mut self.operations, fresh, value);
            operation.inputs.insert(parameter, Argument::One(Binding::Value(id)));
        }
        self.operations.push(operation);
    }

    /// A value with a name like `stem`.
    pub(crate) fn value(&mut self, stem: &str, ty: Type) -> ValueId {
        let name = fresh_name(&mut self.names, stem);
        self.function.values.push(name, ty)
    }

    /// Ends the body; its results stay.
    pub(crate) fn finish(self) {
        self.function.body.operations = self.operations;
    }
}
