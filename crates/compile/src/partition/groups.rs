//! Of which layer an operation is, and which unit runs it.

use super::{PartitionOptions, Unit, WeightForm};
use crate::{CompileError, CompileErrorKind};
use orion_mil::op::Binary;
use orion_mil::{Data, Function, Op, Type, ValueId, typed};
use orion_tensor::DType;
use std::collections::{HashMap, HashSet};

/// Where an operation belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Group {
    /// Before, after and between the layers.
    Outside,
    /// A layer's forward pass.
    Forward(usize),
    /// A layer's backward pass.
    Backward(usize),
}

/// What a value depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// Constants alone.
    Constant,
    /// Parameters and constants.
    Parameter,
    /// Other inputs too.
    Run,
}

/// A function with what is known of its operations, by their position.
pub(super) struct Graph<'a> {
    pub(super) function: &'a Function,
    pub(super) ops: Vec<Op>,
    makers: Vec<Option<usize>>,
    pub(super) readers: Vec<Vec<usize>>,
    pub(super) origins: Vec<Origin>,
    pub(super) groups: Vec<Group>,
    pub(super) units: Vec<Unit>,
    /// Whether another group waits for what it makes, or more than one product.
    pub(super) awaited: Vec<bool>,
    /// Whether it is of no part: every part that reads what it makes has a copy.
    pub(super) copied: Vec<bool>,
    /// Results that replace an input in place, and those inputs.
    pub(super) replaced: HashMap<ValueId, ValueId>,
    parameters: HashSet<ValueId>,
    /// Whether constants of a weight file are the accelerator's too.
    weights_are_given: bool,
}

impl<'a> Graph<'a> {
    pub(super) fn new(
        function: &'a Function,
        options: &PartitionOptions<'_>,
    ) -> Result<Self, CompileError> {
        let ops = typed::analyze(function).map_err(|diagnostics| {
            let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            CompileError::new(CompileErrorKind::InvalidProgram, &function.name, lines.join("\n"))
        })?;
        let mut makers = vec![None; function.values.len()];
        let mut readers = vec![Vec::new(); function.values.len()];
        for (i, (operation, op)) in function.body.operations.iter().zip(&ops).enumerate() {
            operation.outputs.iter().for_each(|v| makers[v.index()] = Some(i));
            op.operands().iter().for_each(|v| readers[v.index()].push(i));
        }
        let is_parameter = |v: &ValueId| options.parameters.contains(&function.value_name(*v));
        let parameters = function.params.iter().map(|p| p.value).filter(is_parameter).collect();
        let count = ops.len();
        let mut graph = Self {
            function,
            ops,
            makers,
            readers,
            origins: Vec::with_capacity(count),
            groups: Vec::with_capacity(count),
            units: Vec::with_capacity(count),
            awaited: vec![false; count],
            copied: Vec::with_capacity(count),
            replaced: replaced(function),
            parameters,
            weights_are_given: options.weights == WeightForm::AsGiven,
        };
        for i in 0..count {
            let operands = graph.ops[i].operands();
            let origins = operands.iter().map(|&v| graph.origin(v));
            let origin = origins.max().unwrap_or(Origin::Constant);
            graph.origins.push(origin);
            let group = graph.group(i, options);
            graph.groups.push(group);
        }
        graph.find_awaited();
        for i in 0..count {
            let unit = graph.unit(i, options);
            graph.units.push(unit);
        }
        for i in 0..count {
            let copied = graph.is_copied(i);
            graph.copied.push(copied);
        }
        Ok(graph)
    }

    /// The operation that makes a value.
    pub(super) fn maker(&self, value: ValueId) -> Option<usize> {
        self.makers[value.index()]
    }

    pub(super) fn is_parameter(&self, value: ValueId) -> bool {
        self.parameters.contains(&value)
    }

    /// Whether a value is an input that a result replaces in place.
    pub(super) fn is_replaced(&self, value: ValueId) -> bool {
        self.replaced.values().any(|&input| input == value)
    }

    pub(super) fn origin(&self, value: ValueId) -> Origin {
        match self.maker(value) {
            Some(i) => self.origins[i],
            None if self.is_parameter(value) => Origin::Parameter,
            None => Origin::Run,
        }
    }

    pub(super) fn outputs(&self, i: usize) -> &'a [ValueId] {
        &self.function.body.operations[i].outputs
    }

    /// The operations of parts that an operation reads from, at once or by way of copies.
    pub(super) fn part_sources(&self, i: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open: Vec<usize> = self.sources(i).collect();
        while let Some(m) = open.pop() {
            if self.copied[m] {
                open.extend(self.sources(m));
            } else {
                found.push(m);
            }
        }
        found
    }

    /// Constants, what depends on parameters alone, what a gradient needs of the forward pass in
    /// another form, and what reads an input that is replaced elsewhere.
    fn is_copied(&self, i: usize) -> bool {
        if self.origins[i] != Origin::Run {
            return true;
        }
        let is_result = self.outputs(i).iter().any(|v| self.function.body.results.contains(v));
        if is_result || self.units[i] != Unit::Host || self.awaited[i] {
            return false;
        }
        let reads_replaced = self.ops[i].operands().into_iter().any(|v| self.is_replaced(v));
        let of_forward = |m: usize| matches!(self.groups[m], Group::Forward(_)) || self.copied[m];
        reads_replaced
            || matches!(self.groups[i], Group::Backward(_))
                && !self.is_heavy(i)
                && self.sources(i).all(of_forward)
    }

    /// Whether the host would notice computing it again.
    pub(super) fn is_heavy(&self, i: usize) -> bool {
        matches!(
            self.ops[i],
            Op::Matmul { .. }
                | Op::Linear { .. }
                | Op::Softmax { .. }
                | Op::Attention { .. }
                | Op::Conv { .. }
        )
    }

    /// The operations that make the operands of one, constants and parameters left out.
    pub(super) fn sources(&self, i: usize) -> impl Iterator<Item = usize> {
        let operands = self.ops[i].operands().into_iter();
        operands.filter_map(|v| self.maker(v)).filter(|&m| self.origins[m] == Origin::Run)
    }

    fn group(&self, i: usize, options: &PartitionOptions<'_>) -> Group {
        let Some(&output) = self.outputs(i).first() else { return Group::Outside };
        let name = self.function.value_name(output);
        let group = named(name, options);
        let mut sources: Vec<usize> = self.sources(i).collect();
        // Results have names of their own: they are made where the last of their operands is.
        if group == Group::Outside && self.function.body.results.contains(&output) {
            return sources.iter().max().map_or(group, |&m| self.groups[m]);
        }
        // A sum of gradients is made where both were, so that one is handed over, not two.
        let is_sum = matches!(self.ops[i], Op::Binary { kind: Binary::Add, .. });
        sources.dedup();
        if is_sum
            && name.starts_with("d_")
            && let [a, b] = sources[..]
            && self.groups[a] == self.groups[b]
        {
            return self.groups[a];
        }
        group
    }

    /// From the last operation to the first: who is read by another group, at once or by way of
    /// its own. And who is on the way to more than one product, as in a first layer that nothing
    /// before is trained in: all but the gradients themselves.
    fn find_awaited(&mut self) {
        let mut products = vec![0; self.ops.len()];
        for i in (0..self.ops.len()).rev() {
            let group = self.groups[i];
            let readers = self.outputs(i).iter().flat_map(|v| &self.readers[v.index()]).copied();
            let is_awaited = readers.clone().any(|j| self.groups[j] != group || self.awaited[j]);
            let later = readers.map(|j| products[j]).max().unwrap_or(0);
            if matches!(group, Group::Backward(_)) {
                products[i] = later + usize::from(self.is_heavy(i));
            }
            self.awaited[i] = is_awaited || products[i] > 1;
        }
    }

    fn unit(&self, i: usize, options: &PartitionOptions<'_>) -> Unit {
        let operation = &self.function.body.operations[i];
        let in_layer = match self.groups[i] {
            Group::Outside => false,
            Group::Forward(_) => true,
            Group::Backward(_) => self.awaited[i],
        };
        let computed = self.ops[i].operands().into_iter().chain(operation.outputs.iter().copied());
        let mut types = computed.map(|v| self.function.ty(v));
        // Bools are all right inside of programs, where they choose between numbers.
        let computes = |dtype: DType| dtype.is_float() || dtype == DType::Bool;
        let all_compute = types.all(|ty| matches!(ty, Type::Tensor(t) if computes(t.dtype)));
        if in_layer && all_compute && !(options.on_host)(self.function, operation) {
            Unit::Accelerator
        } else {
            Unit::Host
        }
    }

    /// Whether an operation is a constant that stands in the text.
    pub(super) fn is_immediate(&self, i: usize) -> bool {
        matches!(&self.ops[i], Op::Const(value) if !matches!(value.data, Data::Blob { .. }))
    }

    /// Whether an operation gives a matrix the shape of a convolution's weight.
    pub(super) fn is_kernel(&self, i: usize) -> bool {
        let read_by_convolutions = |v: &ValueId| {
            let readers = &self.readers[v.index()];
            readers.iter().all(|&j| matches!(&self.ops[j], Op::Conv { weight, .. } if weight == v))
        };
        matches!(self.ops[i], Op::Reshape { .. })
            && self.outputs(i).iter().all(read_by_convolutions)
    }

    /// Whether an operation is a constant of a weight file that the accelerator has as well, or
    /// another form of one.
    pub(super) fn is_given_weight(&self, i: usize) -> bool {
        let is_weight = |v: &ValueId| self.maker(*v).is_some_and(|m| self.is_given_weight(m));
        match &self.ops[i] {
            Op::Const(value) => self.weights_are_given && matches!(value.data, Data::Blob { .. }),
            op @ (Op::Cast { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Constexpr(_)) => op.operands().iter().all(is_weight),
            _ => false,
        }
    }

    /// Whether an operation is a product with a parameter: what is kept rather than computed
    /// again.
    pub(super) fn is_weight_product(&self, i: usize) -> bool {
        let from_parameter = |v: ValueId| {
            self.origin(v) == Origin::Parameter
                || self.maker(v).is_some_and(|m| self.is_given_weight(m))
        };
        match &self.ops[i] {
            Op::Conv { weight, .. } | Op::Linear { weight, .. } => from_parameter(*weight),
            Op::Matmul { x, y, .. } => from_parameter(*x) || from_parameter(*y),
            _ => false,
        }
    }
}

/// See [`Graph::replaced`].
fn replaced(function: &Function) -> HashMap<ValueId, ValueId> {
    let param = |name: &str| {
        let found = function.params.iter().find(|p| function.value_name(p.value) == name);
        found.map(|p| p.value)
    };
    let result = |name: &str| {
        let results = function.body.results.iter().copied();
        results.into_iter().find(|&r| function.value_name(r) == name)
    };
    let pairs = function.in_place().into_iter();
    pairs.filter_map(|(output, input)| Some((result(output)?, param(input)?))).collect()
}

/// What a value's name says.
fn named(name: &str, options: &PartitionOptions<'_>) -> Group {
    let (rest, backward) = match name.strip_prefix("d_") {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let of = |layer: &String| rest.strip_prefix(layer.as_str()).is_some_and(|r| r.starts_with('_'));
    match options.layers.iter().position(of).map(|layer| layer / options.together.max(1)) {
        None => Group::Outside,
        Some(layer) if backward => Group::Backward(layer),
        Some(layer) => Group::Forward(layer),
    }
}
