//! Checks that a program is well formed, and reports everything that is not.
//!
//! Checked: function and value names are identifiers and unique where they are visible; functions
//! are named once; values are defined before they are used, along nested blocks; results are
//! defined; parameters have sizes that memory could hold; op names exist in MIL; operations fit
//! their op's signature and their outputs are what inference says; constants hold as many elements
//! of the type they declare; states are function parameters that only `read_state` and
//! `write_state` touch; in-place pairs join a result to a parameter of the same type.
//!
//! Not checked: the arguments of ops that have no [`crate::Op`] (`lstm`, `while_loop`, the
//! `constexpr_` family, …), of ops whose operands have sizes unknown before running, or whose
//! parameters are computed; opset versions; what a device can run. Weight files are
//! [`verify_weights`]'s.

use crate::infer::{constant, is_sized};
use crate::typed::{Constants, Refusal, interpret, place};
use crate::{
    Argument, Binding, Block, Data, Diagnostic, Function, Operation, Program, Type, Value, ValueId,
    Weights, hoist_literals, op_table,
};
use std::collections::{HashMap, HashSet};

/// Everything that is wrong with a program; empty when it is well formed.
pub fn verify(program: &Program) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut names = HashSet::new();
    for function in &program.functions {
        if !names.insert(function.name.as_str()) {
            diagnostics.push(Diagnostic {
                function: String::new(),
                place: String::new(),
                message: format!("two functions are named `{}`", function.name),
            });
        }
        diagnostics.extend(verify_function(function));
    }
    diagnostics
}

/// Everything that is wrong with one function.
pub fn verify_function(function: &Function) -> Vec<Diagnostic> {
    let mut check = Check {
        function,
        diagnostics: Vec::new(),
        defined: vec![Definition::Nowhere; function.values.len()],
        visible: HashMap::new(),
    };
    check.signature();
    check.block(&function.body);
    check.states();
    check.in_place();
    // Meaning is only asked of values that exist.
    if check.values_exist() {
        check.meaning();
    }
    check.diagnostics
}

/// Every constant in a weight file that the weights do not hold, or hold with another element
/// type or count.
pub fn verify_weights(program: &Program, weights: &Weights) -> Vec<Diagnostic> {
    fn blobs<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
        match &value.data {
            Data::Blob { .. } => found.push(value),
            Data::List(items) | Data::Tuple(items) => items.iter().for_each(|v| blobs(v, found)),
            Data::Dict(pairs) => pairs.iter().for_each(|(k, v)| {
                blobs(k, found);
                blobs(v, found);
            }),
            Data::Tensor(_) | Data::Strings(_) => {}
        }
    }
    let mut diagnostics = Vec::new();
    for function in &program.functions {
        for operation in function.body.all_operations() {
            let mut found = Vec::new();
            operation.attributes.values().for_each(|v| blobs(v, &mut found));
            literals(operation).for_each(|(_, v)| blobs(v, &mut found));
            for value in found {
                if let Err(error) = weights.resolve(value) {
                    diagnostics.push(Diagnostic {
                        function: function.name.clone(),
                        place: place(function, operation),
                        message: error.to_string(),
                    });
                }
            }
        }
    }
    diagnostics
}

fn literals(operation: &Operation) -> impl Iterator<Item = (&str, &Value)> {
    operation.inputs.iter().flat_map(|(name, argument)| {
        argument.bindings().iter().filter_map(move |binding| match binding {
            Binding::Literal(value) => Some((name.as_str(), value)),
            Binding::Value(_) => None,
        })
    })
}

/// `[A-Za-z_][A-Za-z0-9_@]*`
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'@')
}

#[derive(Clone, Copy, PartialEq)]
enum Definition {
    Nowhere,
    /// In a block that has been left, or is not an ancestor.
    OutOfSight,
    Visible,
}

struct Check<'a> {
    function: &'a Function,
    diagnostics: Vec<Diagnostic>,
    defined: Vec<Definition>,
    /// How many visible values have a name.
    visible: HashMap<&'a str, u32>,
}

impl<'a> Check<'a> {
    fn report(&mut self, place: String, message: String) {
        self.diagnostics.push(Diagnostic { function: self.function.name.clone(), place, message });
    }

    fn report_at(&mut self, operation: &Operation, message: String) {
        self.report(place(self.function, operation), message);
    }

    fn exists(&self, id: ValueId) -> bool {
        id.index() < self.function.values.len()
    }

    fn signature(&mut self) {
        let name = &self.function.name;
        if !is_identifier(name) {
            self.report(
                String::new(),
                format!("the function's name `{name}` is not an identifier"),
            );
        }
        if !self.function.body.params.is_empty() {
            self.report(String::new(), "the function's body has parameters of its own".to_owned());
        }
        for param in &self.function.params {
            let place = || "the parameters".to_owned();
            self.define(param.value, &|_| place());
            if self.exists(param.value) && !is_sized(self.function.ty(param.value)) {
                let (name, ty) =
                    (self.function.value_name(param.value), self.function.ty(param.value));
                self.report(place(), format!("`{name}` is {ty}, which is too large"));
            }
        }
    }

    /// Makes a value visible. `place` is only worked out for a report.
    fn define(&mut self, id: ValueId, place: &dyn Fn(&Self) -> String) {
        if !self.exists(id) {
            self.report(place(self), format!("the value {id:?} does not exist"));
            return;
        }
        let name = self.function.value_name(id);
        if !is_identifier(name) {
            self.report(place(self), format!("the name `{name}` is not an identifier"));
        }
        if self.defined[id.index()] != Definition::Nowhere {
            self.report(place(self), format!("`{name}` is defined a second time"));
            return;
        }
        self.defined[id.index()] = Definition::Visible;
        let count = self.visible.entry(name).or_insert(0);
        *count += 1;
        if *count > 1 {
            self.report(place(self), format!("the name `{name}` is already taken"));
        }
    }

    fn uses(&mut self, id: ValueId, place: &dyn Fn(&Self) -> String) {
        if !self.exists(id) {
            self.report(place(self), format!("the value {id:?} does not exist"));
            return;
        }
        let name = self.function.value_name(id);
        match self.defined[id.index()] {
            Definition::Visible => {}
            Definition::Nowhere => {
                self.report(place(self), format!("`{name}` is used before it is defined"));
            }
            Definition::OutOfSight => {
                self.report(place(self), format!("`{name}` is defined in another block"));
            }
        }
    }

    fn block(&mut self, block: &'a Block) -> Vec<ValueId> {
        let mut introduced = Vec::new();
        for operation in &block.operations {
            let here = |check: &Self| place(check.function, operation);
            for id in operation.operands() {
                self.uses(id, &here);
            }
            for nested in &operation.blocks {
                for &id in &nested.params {
                    self.define(id, &here);
                }
                let inner = self.block(nested);
                for id in nested.params.iter().copied().chain(inner) {
                    self.leave(id);
                }
            }
            for &id in &operation.outputs {
                self.define(id, &here);
                introduced.push(id);
            }
        }
        for &id in &block.results {
            self.uses(id, &|_| "the results".to_owned());
        }
        introduced
    }

    /// A value of a block that ends here.
    fn leave(&mut self, id: ValueId) {
        if self.exists(id) && self.defined[id.index()] == Definition::Visible {
            self.defined[id.index()] = Definition::OutOfSight;
            if let Some(count) = self.visible.get_mut(self.function.value_name(id)) {
                *count = count.saturating_sub(1);
            }
        }
    }

    fn states(&mut self) {
        let is_state = |check: &Self, id: ValueId| {
            check.exists(id) && matches!(check.function.ty(id), Type::State(_))
        };
        for operation in self.function.body.all_operations() {
            for &id in &operation.outputs {
                if is_state(self, id) {
                    self.report_at(operation, "a state must be a function parameter".to_owned());
                }
            }
            for (name, argument) in &operation.inputs {
                let may = matches!(operation.name.as_str(), "read_state" | "write_state")
                    && name == "input"
                    && matches!(argument, Argument::One(_));
                for id in argument.bindings().iter().filter_map(Binding::value) {
                    if !may && is_state(self, id) {
                        let message = format!(
                            "the state `{}` is bound to `{name}`; only `read_state` and \
                             `write_state` can use it",
                            self.function.value_name(id)
                        );
                        self.report_at(operation, message);
                    }
                }
            }
        }
        for &id in &self.function.body.results {
            if is_state(self, id) {
                let name = self.function.value_name(id);
                self.report("the results".to_owned(), format!("`{name}` is a state"));
            }
        }
    }

    fn in_place(&mut self) {
        let place = || "the in-place pairs".to_owned();
        let Some(pairs) = self.function.in_place_pairs() else {
            self.report(place(), "they are not a dictionary of strings".to_owned());
            return;
        };
        let mut inputs = HashSet::new();
        for (output, input) in pairs {
            let named =
                |id: ValueId, name: &str| self.exists(id) && self.function.value_name(id) == name;
            let mut results = self.function.body.results.iter().copied();
            let mut params = self.function.params.iter().map(|p| p.value);
            let result = results.find(|&id| named(id, output));
            let param = params.find(|&id| named(id, input));
            if result.is_none() {
                self.report(place(), format!("`{output}` is not a result"));
            }
            if param.is_none() {
                self.report(place(), format!("`{input}` is not a parameter"));
            }
            if !inputs.insert(input) {
                self.report(place(), format!("two results are written over `{input}`"));
            }
            let (Some(result), Some(param)) = (result, param) else { continue };
            let (result, param) = (self.function.ty(result), self.function.ty(param));
            if result != param {
                self.report(
                    place(),
                    format!("`{output}` is {result} and cannot be written over `{input}`, {param}"),
                );
            }
        }
    }

    fn values_exist(&self) -> bool {
        self.function.body.all_operations().into_iter().all(|operation| {
            operation.operands().chain(operation.outputs.iter().copied()).all(|id| self.exists(id))
        })
    }

    fn meaning(&mut self) {
        let hoisted = hoist_literals(self.function);
        let constants = Constants::of(&hoisted);
        // Hoisting adds constants behind the existing values and changes no order.
        let is_written = |operation: &&Operation| {
            operation.outputs.iter().all(|id| id.index() < self.function.values.len())
        };
        let mut meant = hoisted.body.all_operations().into_iter().filter(is_written);
        for operation in self.function.body.all_operations() {
            for (name, value) in literals(operation) {
                if let Err(message) = constant(value) {
                    self.report_at(operation, format!("argument `{name}`: {message}"));
                }
            }
            let with_values = meant.next().expect("hoisting keeps every operation");
            if !op_table::is_known(&operation.name) {
                self.report_at(operation, format!("there is no op `{}`", operation.name));
            } else if let Err(Refusal::Invalid(message)) =
                interpret(&hoisted, &constants, with_values)
            {
                self.report_at(operation, message);
            }
        }
    }
}
