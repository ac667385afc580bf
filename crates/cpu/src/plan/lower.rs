//! Lowers units of operations to steps over views. Decides what is a view of something else and
//! what gets a buffer, but not where buffers lie.

use super::adamw::adamw;
use super::attention::Found;
use super::expression::{Expression, Operand};
use super::fuse::{Node, Unit, units};
use super::memory;
use super::view::{BufferId, View};
use super::{Constant, Home, Plan};
use crate::precision::Precision;
use crate::steps::{Evaluate, FactorScales, Kind, Map, Step};
use orion_mil::op::Reduction;
use orion_mil::{Function, Op, TensorType, ValueId, Weights};
use orion_runtime::{PortKind, Signature};
use orion_tensor::{DType, Tensor};
use std::collections::{HashMap, HashSet};

/// Where a value is.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    Nothing,
    At(View),
    /// A tensor of one number, given by the bits of a lane.
    Number {
        bits: u32,
        ty: TensorType,
    },
}

/// A value that must end up in a port's surface.
pub(super) struct Result {
    pub(super) view: View,
    pub(super) port: usize,
    /// The buffer of the parameter it replaces.
    pub(super) replaces: Option<BufferId>,
}

/// Buffers and steps as they are made.
pub(super) struct Lowering<'a> {
    pub(super) function: &'a Function,
    pub(super) stored: Vec<Stored>,
    pub(super) steps: Vec<Step>,
    pub(super) sizes: Vec<usize>,
    pub(super) homes: Vec<Home>,
    pub(super) constants: Vec<Constant>,
    /// What constants of int8 are multiplied with, by their buffers.
    pub(super) scales: HashMap<BufferId, FactorScales>,
    /// Operations that read each value, or compute others again from it.
    pub(super) uses: Vec<Vec<usize>>,
    pub(super) is_result: Vec<bool>,
    /// Values that are computed right into a part of a concatenation: its result, axis, begin.
    destinations: HashMap<ValueId, (ValueId, usize, usize)>,
    /// The current value of each state.
    pub(super) states: HashMap<ValueId, ValueId>,
    /// Largest value and inverse sum of exponentials, by value and axis.
    pub(super) softmax_statistics: HashMap<(ValueId, usize), [View; 2]>,
    /// What attention leaves for its gradient, by probabilities.
    pub(super) attention_statistics: HashMap<ValueId, View>,
    /// Values, and the operations that compute them again.
    pub(super) recomputed: HashSet<(ValueId, usize)>,
    /// The operation that makes each value.
    pub(super) producer: Vec<Option<usize>>,
    pub(super) ops: &'a [Op],
    pub(super) label: String,
    pub(super) place: String,
    pub(super) precision: Precision,
    /// Why the next step is one of its own.
    pub(super) reason: &'static str,
}

/// Types that tile programs can load and store.
pub(super) fn is_lane_type(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, F32 | F16 | BF16 | I32 | Bool)
}

/// Types whose values can be loaded as lanes of int32.
pub(super) fn is_small_int(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16)
}

pub(super) fn is_float_lane(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// The plan of a function. `ops` are the meanings of its body's operations.
///
/// # Errors
/// Constants that a weight file lacks, with the operation's name.
pub(crate) fn plan(
    function: &Function,
    ops: &[Op],
    signature: &Signature,
    weights: &Weights,
    precision: Precision,
) -> std::result::Result<Plan, Vec<(usize, String)>> {
    let mut lowering = Lowering::new(function, ops, precision);
    for (port, param) in function.params.iter().enumerate() {
        let ty = match function.ty(param.value) {
            orion_mil::Type::Tensor(ty) | orion_mil::Type::State(ty) => ty,
            other => unreachable!("the signature refuses parameters of type {other}"),
        };
        let view = lowering.fresh(ty);
        lowering.homes[view.buffer] = Home::Port(port);
        lowering.stored[param.value.index()] = Stored::At(view);
    }
    let problems = lowering.constants(weights);
    if !problems.is_empty() {
        return Err(problems);
    }

    let found = lowering.find_attention();
    let mut nodes = lowering.nodes(&found);
    lowering.find_recomputed(&mut nodes);
    lowering.find_destinations(&nodes);
    for Unit { members: unit, apart } in units(&nodes) {
        lowering.describe(&unit);
        if let Some(group) = found.groups.get(&unit[0]) {
            lowering.together(group);
            continue;
        }
        if let Some(reason) = found.apart.get(&unit[0]) {
            lowering.reason = reason;
        }
        let reduces = unit.iter().any(|&i| nodes[i].reduction.is_some());
        if unit.len() > 1 && reduces {
            lowering.reason = apart;
            lowering.map_reduce(&unit);
        } else if nodes[unit[0]].elementwise.is_some() {
            lowering.reason = apart;
            lowering.group(&unit);
            lowering.reason = "";
        } else {
            let operation = &function.body.operations[unit[0]];
            lowering.operation(&ops[unit[0]], &operation.outputs);
        }
    }

    lowering.label = "store".to_owned();
    lowering.place = "results".to_owned();
    let mut results = Vec::new();
    for (port, description) in signature.ports.iter().enumerate() {
        let named = |name: &str| {
            let mut all = function.body.results.iter().copied();
            all.find(|&v| function.value_name(v) == name)
        };
        let param = function.params.get(port).map(|p| p.value);
        let value = match &description.kind {
            PortKind::Input => None,
            PortKind::Output => named(&description.name),
            PortKind::Update { output: Some(output) } => named(output),
            PortKind::Update { output: None } => {
                param.and_then(|p| lowering.states.get(&p).copied())
            }
        };
        let Some(value) = value else { continue };
        let replaces = match (&description.kind, param.map(|p| &lowering.stored[p.index()])) {
            (PortKind::Update { .. }, Some(Stored::At(view))) => Some(view.buffer),
            _ => None,
        };
        let view = lowering.dense(value);
        results.push(Result { view, port, replaces });
    }
    Ok(memory::place(lowering, results))
}

impl<'a> Lowering<'a> {
    fn new(function: &'a Function, ops: &'a [Op], precision: Precision) -> Self {
        let count = function.values.len();
        let mut uses = vec![Vec::new(); count];
        for (i, op) in ops.iter().enumerate() {
            for operand in op.operands() {
                uses[operand.index()].push(i);
            }
        }
        let mut producer = vec![None; count];
        for (i, operation) in function.body.operations.iter().enumerate() {
            operation.outputs.iter().for_each(|o| producer[o.index()] = Some(i));
        }
        let mut is_result = vec![false; count];
        function.body.results.iter().for_each(|r| is_result[r.index()] = true);
        Self {
            function,
            stored: vec![Stored::Nothing; count],
            steps: Vec::new(),
            sizes: Vec::new(),
            homes: Vec::new(),
            constants: Vec::new(),
            scales: HashMap::new(),
            uses,
            is_result,
            destinations: HashMap::new(),
            states: HashMap::new(),
            softmax_statistics: HashMap::new(),
            attention_statistics: HashMap::new(),
            recomputed: HashSet::new(),
            producer,
            ops,
            label: String::new(),
            place: String::new(),
            precision,
            reason: "",
        }
    }

    /// The type of a value; results of operations are tensors of known shape by now.
    pub(super) fn ty(&self, id: ValueId) -> &'a TensorType {
        match self.function.ty(id) {
            orion_mil::Type::Tensor(ty) | orion_mil::Type::State(ty) => ty,
            other => unreachable!("operands of type {other} are refused before planning"),
        }
    }

    pub(super) fn shape(&self, id: ValueId) -> Vec<usize> {
        self.ty(id).shape().expect("shapes are known before planning")
    }

    pub(super) fn buffer(&mut self, bytes: usize, home: Home) -> BufferId {
        self.sizes.push(bytes);
        self.homes.push(home);
        self.sizes.len() - 1
    }

    /// A new dense buffer.
    pub(super) fn temporary(&mut self, dtype: DType, shape: &[usize]) -> View {
        let bytes = shape.iter().product::<usize>() * dtype.size_bytes();
        let buffer = self.buffer(bytes, Home::Nowhere);
        View::dense(buffer, dtype, shape)
    }

    fn fresh(&mut self, ty: &TensorType) -> View {
        let shape = ty.shape().expect("shapes are known before planning");
        self.temporary(ty.dtype, &shape)
    }

    /// Where a result is to be written: a new buffer, or its part of a concatenation.
    pub(super) fn output(&mut self, id: ValueId) -> View {
        let view = match self.destinations.get(&id).copied() {
            Some((whole, axis, begin)) => {
                let whole = match &self.stored[whole.index()] {
                    Stored::At(view) => view.clone(),
                    _ => self.output(whole),
                };
                whole.part(axis, begin, self.shape(id)[axis])
            }
            None => self.fresh(self.ty(id)),
        };
        self.stored[id.index()] = Stored::At(view.clone());
        view
    }

    /// A buffer as one row.
    pub(super) fn whole(&self, buffer: BufferId, dtype: DType) -> View {
        View::dense(buffer, dtype, &[self.sizes[buffer] / dtype.size_bytes()])
    }

    /// A constant's value, where it is known.
    pub(super) fn constant_tensor(&self, id: ValueId) -> Option<&Tensor> {
        let Stored::At(view) = &self.stored[id.index()] else { return None };
        match self.homes[view.buffer] {
            Home::Constant(i) => Some(&self.constants[i].tensor),
            _ => None,
        }
    }

    /// Where a value is; a number is written out first.
    pub(super) fn view(&mut self, id: ValueId) -> View {
        match self.stored[id.index()].clone() {
            Stored::At(view) => view,
            Stored::Number { bits, ty } => {
                let view = self.fresh(&ty);
                let mut fill = Expression::over(&view.shape);
                let number = fill.bits(bits);
                self.map(fill, &[(number, view.clone())]);
                self.stored[id.index()] = Stored::At(view.clone());
                view
            }
            Stored::Nothing => {
                unreachable!("`{}` is used before it is computed", self.function.value_name(id))
            }
        }
    }

    /// The same, row-major without gaps.
    pub(super) fn dense(&mut self, id: ValueId) -> View {
        let view = self.view(id);
        let dense = self.dense_view(&view);
        self.stored[id.index()] = Stored::At(dense.clone());
        dense
    }

    /// A view, or a copy without gaps.
    pub(super) fn dense_view(&mut self, view: &View) -> View {
        if view.is_dense() {
            return view.clone();
        }
        let copy = self.temporary(view.dtype, &view.shape);
        self.reason = "its reader wants elements without gaps";
        self.copy(view, &copy);
        copy
    }

    /// A float view as dense f32.
    pub(super) fn dense_f32(&mut self, id: ValueId) -> View {
        let view = self.dense(id);
        if view.dtype == DType::F32 {
            return view;
        }
        let wide = self.temporary(DType::F32, &view.shape);
        self.convert(&view, &wide);
        wide
    }

    /// Writes an elementwise program as a step.
    pub(super) fn map(&mut self, expression: Expression, outputs: &[(Operand, View)]) {
        let reads = expression.inputs.clone();
        let writes = outputs.iter().map(|(_, v)| v.clone()).collect();
        if let Some(update) = adamw(&expression, outputs) {
            return self.step(Kind::Adamw(Box::new(update)), reads, writes);
        }
        let program = expression.into_map(outputs);
        self.step(Kind::Map(Map { program, moved: None }), reads, writes);
    }

    pub(super) fn step(&mut self, kind: Kind, reads: Vec<View>, writes: Vec<View>) {
        let (label, place) = (self.label.clone(), self.place.clone());
        let reason = std::mem::take(&mut self.reason);
        self.steps.push(Step { label, place, reason, kind, reads, writes });
    }

    /// Copies between views of one shape and type, whatever the type is.
    pub(super) fn copy(&mut self, from: &View, to: &View) {
        let (from, to) = (lanes(from), lanes(to));
        self.convert(&from, &to);
    }

    /// Copies between views of one shape, between float types too.
    pub(super) fn convert(&mut self, from: &View, to: &View) {
        let mut copy = Expression::over(&to.shape);
        let value = copy.input(from);
        self.map(copy, &[(value, to.clone())]);
    }

    /// Computes an operation by its definition.
    pub(super) fn evaluate(&mut self, op: &Op, outputs: &[ValueId]) {
        let operands: Vec<View> = op.operands().into_iter().map(|v| self.dense(v)).collect();
        let views: Vec<View> = outputs
            .iter()
            .map(|&v| {
                self.destinations.remove(&v);
                let view = self.fresh(self.ty(v));
                self.stored[v.index()] = Stored::At(view.clone());
                view
            })
            .collect();
        let types = outputs.iter().map(|&v| self.ty(v).clone()).collect();
        let (reads, writes) = (operands.clone(), views.clone());
        let (op, precision) = (op.clone(), self.precision);
        let evaluate = Evaluate { op, operands, outputs: views, types, precision };
        self.step(Kind::Evaluate(Box::new(evaluate)), reads, writes);
    }

    /// What fusion sees.
    fn nodes(&self, found: &Found) -> Vec<Node> {
        let (operations, producer) = (&self.function.body.operations, &self.producer);
        let mut last_write: HashMap<ValueId, usize> = HashMap::new();
        let mut nodes = Vec::with_capacity(self.ops.len());
        for (i, op) in self.ops.iter().enumerate() {
            let mut operands: Vec<usize> =
                op.operands().iter().filter_map(|o| producer[o.index()]).collect();
            // States are read and written in program order.
            if let Op::ReadState { state } | Op::WriteState { state, .. } = op {
                operands.extend(last_write.get(state));
                last_write.insert(*state, i);
            }
            let statistics = self.known_statistics(i);
            operands.extend(statistics);
            let is_elementwise = (self.action(op).is_some() || statistics.is_some())
                && !self.is_widened_by_products(op, operations[i].outputs[0]);
            let shape = is_elementwise.then(|| self.shape(operations[i].outputs[0]));
            let elementwise = shape.filter(|s| !s.contains(&0));
            let reduction = self.reduction_of(i);
            nodes.push(Node { operands, elementwise, reduction, ..Node::default() });
        }
        for (&first, group) in &found.groups {
            for &i in group.members() {
                nodes[i] = Node { together: Some(first), ..Node::default() };
            }
            let inputs = group.inputs();
            nodes[first].operands = inputs.iter().filter_map(|v| producer[v.index()]).collect();
        }
        nodes
    }

    /// The log-sum-exp before a softmax of the same values along the same axis: with what it
    /// found out, the softmax is computed element by element.
    fn known_statistics(&self, softmax: usize) -> Option<usize> {
        let Op::Softmax { x, axis } = &self.ops[softmax] else { return None };
        if self.ty(*x).dtype != DType::F32 || self.shape(*x).contains(&0) {
            return None;
        }
        let mut readers = self.uses[x.index()].iter().copied();
        readers.find(|&i| {
            let op = &self.ops[i];
            let kind = Reduction::LogSumExp;
            i < softmax
                && matches!(op, Op::Reduce { kind: k, axes, .. } if *k == kind && *axes == [*axis])
        })
    }

    /// Finds values that can be computed right where a concatenation needs them.
    fn find_destinations(&mut self, nodes: &[Node]) {
        let operations = &self.function.body.operations;
        let mut can_stride = vec![false; self.function.values.len()];
        for (i, op) in self.ops.iter().enumerate() {
            let contraction = matches!(op, Op::Matmul { .. } | Op::Conv { .. });
            if nodes[i].elementwise.is_some() || contraction || matches!(op, Op::Concat { .. }) {
                can_stride[operations[i].outputs[0].index()] = true;
            }
        }
        for (op, operation) in self.ops.iter().zip(operations) {
            let Op::Concat { values, axis, interleave: false } = op else { continue };
            let mut begin = 0;
            for &value in values {
                let size = self.shape(value)[*axis];
                let free = can_stride[value.index()]
                    && !self.is_result[value.index()]
                    && !self.destinations.contains_key(&value);
                if free {
                    self.destinations.insert(value, (operation.outputs[0], *axis, begin));
                }
                begin += size;
            }
        }
    }

    /// Whether a value was computed right into a concatenation, at that position.
    pub(super) fn is_in_place(&self, value: ValueId, whole: ValueId, begin: usize) -> bool {
        self.destinations.get(&value).is_some_and(|d| d.0 == whole && d.2 == begin)
    }

    /// Names the unit for people.
    fn describe(&mut self, unit: &[usize]) {
        let operations = &self.function.body.operations;
        let names: Vec<&str> = unit.iter().map(|&i| operations[i].name.as_str()).collect();
        self.label = names.join("+");
        let last = &operations[*unit.last().expect("units are not empty")];
        let outputs: Vec<&str> =
            last.outputs.iter().map(|&o| self.function.value_name(o)).collect();
        self.place = format!("{} -> {}", last.name, outputs.join(", "));
    }
}

/// A view of any type as lanes that copy bits.
pub(super) fn lanes(view: &View) -> View {
    match view.dtype.size_bytes() {
        1 => View { dtype: DType::U8, ..view.clone() },
        2 => View { dtype: DType::U16, ..view.clone() },
        4 => View { dtype: DType::I32, ..view.clone() },
        _ => View {
            buffer: view.buffer,
            dtype: DType::I32,
            offset: view.offset * 2,
            shape: [view.shape.as_slice(), &[2]].concat(),
            strides: view.strides.iter().map(|s| s * 2).chain([1]).collect(),
        },
    }
}

/// The bits of a lane that holds a number, for types that have lanes.
pub(super) fn bits_of(dtype: DType, value: f64) -> Option<u32> {
    if is_lane_type(dtype) { number_bits(&Tensor::from_f64(dtype, &[], &[value])) } else { None }
}

/// The bits of a lane that holds a one-element tensor's number.
pub(super) fn number_bits(tensor: &Tensor) -> Option<u32> {
    let dtype = tensor.dtype();
    let value = tensor.to_f64_vec().first().copied()?;
    match dtype {
        DType::F32 => Some(tensor.elements::<f32>()[0].to_bits()),
        d if is_float_lane(d) => Some((value as f32).to_bits()),
        DType::I32 => Some(value as i32 as u32),
        DType::Bool => Some(u32::from(value != 0.0)),
        _ => None,
    }
}
