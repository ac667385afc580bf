//! Runs functions whose meaning depends on what they compute: branches, loops, lists, sizes and
//! parameters that are known only when the program runs.
//!
//! Each operation is given its meaning when it is reached, with the shapes and numbers of its
//! operands known, and computed by its definition. That is slow; a function without any of this is
//! better served by [`crate::typed::analyze`], which gives every operation its meaning once.

use crate::evaluate::evaluate;
use crate::infer::output_types;
use crate::typed::{Constants, Refusal, interpret, meaning_of, place};
use crate::{
    Argument, Binding, Block, Data, Diagnostic, Function, Op, Operation, TensorType, Type, Value,
    ValueId, Weights,
};
use orion_tensor::{Bytes, DType, Tensor};
use std::collections::BTreeMap;

/// The operations that only this interpreter knows.
const OWN: [&str; 9] = [
    "cond",
    "while_loop",
    "make_list",
    "list_length",
    "list_read",
    "list_write",
    "list_gather",
    "list_scatter",
    "non_zero",
];

/// A function that is interpreted.
#[derive(Debug)]
pub struct Interpreter {
    /// Types are those of the last run.
    function: Function,
    body: Block,
    /// What is known of values: constants, and while it runs everything that was computed.
    known: Constants<'static>,
    lists: BTreeMap<ValueId, List>,
    constants: Vec<(ValueId, Tensor)>,
    /// The types that parameters were declared with.
    declared: Vec<(ValueId, Type)>,
}

/// A list of tensors.
#[derive(Debug, Clone)]
struct List {
    items: Vec<Option<Tensor>>,
    /// Whether it may grow.
    is_dynamic: bool,
}

impl Interpreter {
    /// Reads a function whose literals are constants ([`crate::runnable`]), and its weights.
    ///
    /// # Errors
    /// Every operation that cannot be computed whatever the inputs, and constants that are not in
    /// the weights.
    pub fn new(function: &Function, weights: &Weights) -> Result<Self, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let known = Constants::of(function);
        for operation in function.body.all_operations() {
            if OWN.contains(&operation.name.as_str()) || operation.name == "const" {
                continue;
            }
            if let Err(refusal @ (Refusal::Invalid(_) | Refusal::Unsupported(_))) =
                interpret(function, &known, operation)
            {
                problems.push(diagnostic(function, operation, refusal.into_message()));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let known = known.into_owned();
        let declared = function.params.iter().map(|p| (p.value, function.ty(p.value).clone()));
        let declared = declared.collect();
        let mut interpreter = Self {
            body: function.body.clone(),
            function: function.clone(),
            known,
            lists: BTreeMap::new(),
            constants: Vec::new(),
            declared,
        };
        interpreter.update_weights(weights)?;
        Ok(interpreter)
    }

    /// Reads the constants again.
    ///
    /// # Errors
    /// Constants that are not in the weights; nothing has changed then.
    pub fn update_weights(&mut self, weights: &Weights) -> Result<(), Vec<Diagnostic>> {
        let (mut constants, mut problems) = (Vec::new(), Vec::new());
        for operation in self.body.all_operations() {
            let (Some(value), [output]) = (operation.const_value(), &operation.outputs[..]) else {
                continue;
            };
            if matches!(value.data, Data::Tensor(_) | Data::Blob { .. }) {
                match weights.resolve(value) {
                    Ok(tensor) => constants.push((*output, tensor)),
                    Err(e) => {
                        problems.push(diagnostic(&self.function, operation, e.to_string()));
                    }
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        for (id, tensor) in &constants {
            self.set(*id, tensor.clone());
        }
        // What is unpacked from constants is unpacked once.
        let packed = self.body.all_operations().into_iter();
        let packed: Vec<Operation> =
            packed.filter(|o| o.name.starts_with("constexpr_")).cloned().collect();
        for operation in &packed {
            self.compute(operation, &mut |_, _| {})
                .map_err(|message| vec![diagnostic(&self.function, operation, message)])?;
            for &output in &operation.outputs {
                constants.push((output, self.tensor(output).expect("just computed")));
            }
        }
        self.constants = constants;
        Ok(())
    }

    /// Runs the function. `inputs` are the parameters in order, for states what they hold; so are
    /// the states that come back behind the results. `before` sees the operands of every operation
    /// and may round them.
    ///
    /// # Errors
    /// What went wrong and where, such as an index out of range or shapes that do not fit.
    pub fn run(
        &mut self,
        inputs: Vec<Tensor>,
        before: &mut dyn FnMut(&Op, &mut [Tensor]),
    ) -> Result<Outcome, Diagnostic> {
        self.lists.clear();
        for (id, tensor) in std::mem::take(&mut self.constants) {
            self.set(id, tensor.clone());
            self.constants.push((id, tensor));
        }
        for ((id, declared), tensor) in self.declared.clone().into_iter().zip(inputs) {
            self.set(id, tensor);
            if matches!(declared, Type::State(_)) {
                self.function.values[id].ty = declared;
            }
        }
        let body = std::mem::take(&mut self.body);
        let ran = self.block(&body, before);
        self.body = body;
        ran?;
        let read = |id: ValueId| {
            self.tensor(id).map_err(|message| Diagnostic {
                function: self.function.name.clone(),
                place: "the results".to_owned(),
                message,
            })
        };
        let results = self.body.results.iter().map(|&id| read(id)).collect::<Result<_, _>>()?;
        let is_state = |ty: &Type| matches!(ty, Type::State(_));
        let states = self.declared.iter().filter(|(_, ty)| is_state(ty));
        let states = states.map(|&(id, _)| Ok((id, read(id)?))).collect::<Result<_, _>>()?;
        Ok(Outcome { results, states })
    }

    fn block(
        &mut self,
        block: &Block,
        before: &mut dyn FnMut(&Op, &mut [Tensor]),
    ) -> Result<(), Diagnostic> {
        for operation in &block.operations {
            match operation.name.as_str() {
                "const" => {}
                name if name.starts_with("constexpr_") => {}
                "cond" => self.branch(operation, before)?,
                "while_loop" => self.repeat(operation, before)?,
                _ => self
                    .compute(operation, before)
                    .map_err(|message| diagnostic(&self.function, operation, message))?,
            }
        }
        Ok(())
    }

    fn branch(
        &mut self,
        operation: &Operation,
        before: &mut dyn FnMut(&Op, &mut [Tensor]),
    ) -> Result<(), Diagnostic> {
        let fail = |this: &Self, message: String| diagnostic(&this.function, operation, message);
        let taken = self.truth(operation, "pred").map_err(|m| fail(self, m))?;
        let [yes, no] = &operation.blocks[..] else {
            return Err(fail(self, "it needs two nested blocks".to_owned()));
        };
        let block = if taken { yes } else { no };
        self.block(block, before)?;
        self.hand_over(&block.results, &operation.outputs).map_err(|m| fail(self, m))
    }

    fn repeat(
        &mut self,
        operation: &Operation,
        before: &mut dyn FnMut(&Op, &mut [Tensor]),
    ) -> Result<(), Diagnostic> {
        let fail = |this: &Self, message: String| diagnostic(&this.function, operation, message);
        let [condition, body] = &operation.blocks[..] else {
            return Err(fail(self, "it needs two nested blocks".to_owned()));
        };
        let mut current = operands(operation, "loop_vars").map_err(|m| fail(self, m))?;
        loop {
            self.hand_over(&current, &condition.params).map_err(|m| fail(self, m))?;
            self.block(condition, before)?;
            let goes_on = match condition.results[..] {
                [result] => self.tensor(result).and_then(|t| truth(&t)),
                _ => Err("its condition is not one bool".to_owned()),
            };
            if !goes_on.map_err(|m| fail(self, m))? {
                break;
            }
            self.hand_over(&current, &body.params).map_err(|m| fail(self, m))?;
            self.block(body, before)?;
            if body.results.len() != current.len() {
                return Err(fail(self, "its body does not give back the loop's values".to_owned()));
            }
            // A result may be another's parameter, so all are read before any is replaced.
            self.hand_over(&body.results, &operation.outputs).map_err(|m| fail(self, m))?;
            current.clone_from(&operation.outputs);
        }
        self.hand_over(&current, &operation.outputs).map_err(|m| fail(self, m))
    }

    /// Gives values other names.
    fn hand_over(&mut self, from: &[ValueId], to: &[ValueId]) -> Result<(), String> {
        if from.len() != to.len() {
            return Err(format!("{} values are handed over as {}", from.len(), to.len()));
        }
        let held: Vec<Held> = from.iter().map(|&id| self.held(id)).collect::<Result<_, _>>()?;
        for (held, &id) in held.into_iter().zip(to) {
            match held {
                Held::Tensor(tensor) => self.set(id, tensor),
                Held::List(list) => {
                    self.lists.insert(id, list);
                }
            }
        }
        Ok(())
    }

    fn held(&self, id: ValueId) -> Result<Held, String> {
        match self.lists.get(&id) {
            Some(list) => Ok(Held::List(list.clone())),
            None => self.tensor(id).map(Held::Tensor),
        }
    }

    fn set(&mut self, id: ValueId, tensor: Tensor) {
        self.function.values[id].ty = Type::tensor(tensor.dtype(), tensor.shape());
        self.known.set(id, Value::tensor(tensor));
    }

    fn tensor(&self, id: ValueId) -> Result<Tensor, String> {
        let tensor = self.known.get(id).and_then(Value::as_tensor);
        let name = || self.function.value_name(id);
        tensor.cloned().ok_or_else(|| format!("`{}` is not a tensor", name()))
    }

    fn operand(&self, operation: &Operation, name: &str) -> Result<Tensor, String> {
        match operands(operation, name)?[..] {
            [id] => self.tensor(id),
            _ => Err(format!("argument `{name}` must be one value")),
        }
    }

    fn truth(&self, operation: &Operation, name: &str) -> Result<bool, String> {
        truth(&self.operand(operation, name)?)
    }

    fn list(&self, operation: &Operation) -> Result<List, String> {
        let list = operands(operation, "ls")?.first().and_then(|id| self.lists.get(id)).cloned();
        list.ok_or_else(|| "argument `ls` must be a list".to_owned())
    }

    /// An operation without nested blocks.
    fn compute(
        &mut self,
        operation: &Operation,
        before: &mut dyn FnMut(&Op, &mut [Tensor]),
    ) -> Result<(), String> {
        let results = match operation.name.as_str() {
            "read_state" => vec![self.operand(operation, "input")?],
            "write_state" => {
                let data = self.operand(operation, "data")?;
                let state = operands(operation, "input")?;
                let state = *state.first().ok_or("argument `input` must be a state")?;
                let ty = self.function.ty(state).clone();
                self.set(state, data);
                self.function.values[state].ty = ty;
                vec![]
            }
            "non_zero" => vec![non_zero(&self.operand(operation, "x")?)],
            "make_list" | "list_write" | "list_scatter" => {
                let list = self.changed_list(operation)?;
                let output = *operation.outputs.first().ok_or("it has no output")?;
                self.lists.insert(output, list);
                return Ok(());
            }
            "list_length" => {
                let length = self.list(operation)?.items.len();
                vec![Tensor::from_slice(&[], &[length as i32])]
            }
            "list_read" => {
                let (list, index) = (self.list(operation)?, self.operand(operation, "index")?);
                vec![list.item(index.to_f64_vec()[0] as i64)?]
            }
            "list_gather" => {
                let list = self.list(operation)?;
                let indices = self.operand(operation, "indices")?.to_f64_vec();
                let items = indices.into_iter().map(|i| list.item(i as i64));
                vec![stacked(&items.collect::<Result<Vec<_>, _>>()?)?]
            }
            _ => self.defined(operation, before)?,
        };
        for (&output, tensor) in operation.outputs.iter().zip(results) {
            self.set(output, tensor);
        }
        Ok(())
    }

    /// An operation that has a definition, now that its operands are known.
    fn defined(
        &mut self,
        operation: &Operation,
        before: &mut dyn FnMut(&Op, &mut [Tensor]),
    ) -> Result<Vec<Tensor>, String> {
        let op =
            meaning_of(&self.function, &self.known, operation).map_err(Refusal::into_message)?;
        if let Op::Const(value) = &op {
            let tensor = value.as_tensor().cloned();
            return Ok(vec![tensor.ok_or("it gives no tensor")?]);
        }
        let types = output_types(&op, &self.function.values)?;
        let types: Option<Vec<TensorType>> =
            types.iter().map(|ty| ty.as_tensor().cloned()).collect();
        let types = types.ok_or("it gives no tensors")?;
        let mut given =
            op.operands().into_iter().map(|v| self.tensor(v)).collect::<Result<Vec<_>, _>>()?;
        before(&op, &mut given);
        evaluate(&op, &given, &types)
    }

    fn changed_list(&self, operation: &Operation) -> Result<List, String> {
        if operation.name == "make_list" {
            let number = |name: &str| match operation.inputs.contains_key(name) {
                true => self.operand(operation, name).map(|t| Some(t.to_f64_vec()[0])),
                false => Ok(None),
            };
            let length = number("init_length")?.unwrap_or(1.0);
            if !(0.0..=f64::from(1 << 24)).contains(&length) {
                return Err(format!("a list of {length} elements is not made"));
            }
            let is_dynamic = number("dynamic_length")?.is_none_or(|v| v != 0.0);
            return Ok(List { items: vec![None; length as usize], is_dynamic });
        }
        let mut list = self.list(operation)?;
        let value = self.operand(operation, "value")?;
        if operation.name == "list_write" {
            let index = self.operand(operation, "index")?.to_f64_vec()[0] as i64;
            list.write(index, value)?;
            return Ok(list);
        }
        let indices = self.operand(operation, "indices")?.to_f64_vec();
        let (first, rest) = value.shape().split_first().ok_or("argument `value` has no axis")?;
        if *first != indices.len() {
            return Err(format!("{first} values cannot be written to {} places", indices.len()));
        }
        let bytes = value.bytes().len() / (*first).max(1);
        for (i, index) in indices.into_iter().enumerate() {
            let part = value.bytes()[i * bytes..(i + 1) * bytes].to_vec();
            let part = Tensor::new(value.dtype(), rest.to_vec(), Bytes::new(part));
            list.write(index as i64, part.map_err(|e| e.to_string())?)?;
        }
        Ok(list)
    }
}

/// What a run gives.
#[derive(Debug)]
pub struct Outcome {
    /// The function's results, in order.
    pub results: Vec<Tensor>,
    /// What its states hold now.
    pub states: Vec<(ValueId, Tensor)>,
}

enum Held {
    Tensor(Tensor),
    List(List),
}

impl List {
    fn item(&self, index: i64) -> Result<Tensor, String> {
        let length = self.items.len();
        let item = usize::try_from(index).ok().and_then(|i| self.items.get(i));
        let item = item.ok_or_else(|| format!("index {index} is outside a list of {length}"))?;
        item.clone().ok_or_else(|| format!("element {index} of the list was never written"))
    }

    fn write(&mut self, index: i64, item: Tensor) -> Result<(), String> {
        let length = self.items.len();
        let at = usize::try_from(index).ok().filter(|&i| i < length || self.is_dynamic);
        let at = at.filter(|&i| i < 1 << 24);
        let at = at.ok_or_else(|| format!("index {index} is outside a list of {length}"))?;
        if at >= length {
            self.items.resize(at + 1, None);
        }
        self.items[at] = Some(item);
        Ok(())
    }
}

fn diagnostic(function: &Function, operation: &Operation, message: String) -> Diagnostic {
    Diagnostic { function: function.name.clone(), place: place(function, operation), message }
}

fn operands(operation: &Operation, name: &str) -> Result<Vec<ValueId>, String> {
    let argument = operation.inputs.get(name).map(Argument::bindings);
    let bindings = argument.ok_or_else(|| format!("missing argument `{name}`"))?;
    let ids: Option<Vec<ValueId>> = bindings.iter().map(Binding::value).collect();
    ids.ok_or_else(|| format!("argument `{name}` is an inline literal"))
}

fn truth(tensor: &Tensor) -> Result<bool, String> {
    match (tensor.dtype(), &tensor.bytes()[..]) {
        (DType::Bool, [byte]) => Ok(*byte != 0),
        _ => Err(format!(
            "a condition must be one bool, it is {}{:?}",
            tensor.dtype(),
            tensor.shape()
        )),
    }
}

/// `[count, rank]`: where the numbers are that are not zero.
fn non_zero(x: &Tensor) -> Tensor {
    let strides = orion_tensor::row_major_strides(x.shape());
    let places = x.to_f64_vec().into_iter().enumerate().filter(|(_, v)| *v != 0.0);
    let positions: Vec<i32> = places
        .flat_map(|(i, _)| strides.iter().zip(x.shape()).map(move |(&s, &n)| (i / s % n) as i32))
        .collect();
    let rank = x.shape().len();
    let count = positions.len().checked_div(rank).unwrap_or(0);
    Tensor::from_slice(&[count, rank], &positions)
}

/// Tensors of one shape behind each other along a new axis.
fn stacked(items: &[Tensor]) -> Result<Tensor, String> {
    let first = items.first().ok_or("no elements are asked for")?;
    let same = |t: &Tensor| t.shape() == first.shape() && t.dtype() == first.dtype();
    if !items.iter().all(same) {
        return Err("the elements are not of one type".to_owned());
    }
    let bytes: Vec<u8> = items.iter().flat_map(|t| t.bytes().iter().copied()).collect();
    let shape = [&[items.len()], first.shape()].concat();
    Tensor::new(first.dtype(), shape, Bytes::new(bytes)).map_err(|e| e.to_string())
}
