//! The parts' programs, and how they are connected.

use super::body::{Body, bake};
use super::cut::{Draft, Drafts};
use super::groups::{Graph, Group, Origin};
use super::half::to_half;
use super::needs::{Need, Needs};
use super::norms::balance_norm_gradients;
use super::products::{
    biases_apart, constants_as_read, convolutions_to_products, products_to_convolutions,
};
use super::{Access, Part, PartSurface, Partition, PartitionOptions, Pass, Role, Unit, WeightForm};
use crate::pipeline::{PipelineOptions, optimize};
use crate::{CompileError, CompileErrorKind};
use orion_mil::{Function, Op, Operation, Program, Type, ValueId};
use orion_tensor::DType;
use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) fn build(
    graph: &Graph<'_>,
    drafts: &Drafts,
    needs: &Needs,
    options: &PartitionOptions<'_>,
) -> Result<Partition, CompileError> {
    let partition = Partition {
        surfaces: Vec::new(),
        programs: Vec::new(),
        tables: Vec::new(),
        staging: Vec::new(),
        parts: Vec::new(),
        update: None,
    };
    let mut builder = Builder { graph, needs, options, partition, known: HashMap::new() };
    builder.check_results(drafts)?;
    let mut names = Names::default();
    for p in drafts.order() {
        let draft = &drafts.parts[p];
        let name = names.of(draft, options);
        let part = builder.part(name, draft, &needs.parts[p])?;
        builder.partition.parts.push(part);
    }
    if !needs.tables.is_empty() {
        let tables = builder.tables()?;
        builder.partition.tables.push(tables);
    }
    builder.stage()?;
    Ok(builder.partition)
}

/// What tells surfaces apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// An input or result, by value; or what is handed from part to part.
    Value(ValueId),
    Staged(ValueId),
    Table(ValueId),
    /// A matrix that is staged, or a table, with its axes exchanged.
    Transposed(ValueId),
}

impl Key {
    fn value(self) -> ValueId {
        let (Self::Value(value)
        | Self::Staged(value)
        | Self::Table(value)
        | Self::Transposed(value)) = self;
        value
    }
}

struct Builder<'a> {
    graph: &'a Graph<'a>,
    needs: &'a Needs,
    options: &'a PartitionOptions<'a>,
    partition: Partition,
    known: HashMap<Key, usize>,
}

/// Names of parts: unique, and telling.
#[derive(Default)]
struct Names(BTreeMap<String, usize>);

impl Names {
    fn of(&mut self, draft: &Draft, options: &PartitionOptions<'_>) -> String {
        let together = options.together.max(1);
        let layers: Vec<String> = options
            .layers
            .chunks(together)
            .map(|layers| match layers {
                [first, .., last] => format!("{first} to {last}"),
                one => one.concat(),
            })
            .collect();
        let base = match (draft.group, draft.unit, draft.awaited) {
            (Group::Outside, _, true) => "outside".to_owned(),
            (Group::Outside, _, false) => "outside gradients".to_owned(),
            (Group::Forward(l), Unit::Accelerator, _) => format!("{} forward", layers[l]),
            (Group::Forward(l), Unit::Host, _) => format!("{} forward on the host", layers[l]),
            (Group::Backward(l), Unit::Accelerator, _) => format!("{} backward", layers[l]),
            (Group::Backward(l), Unit::Host, true) => {
                format!("{} backward on the host", layers[l])
            }
            (Group::Backward(l), Unit::Host, false) => format!("{} gradients", layers[l]),
        };
        let count = self.0.entry(base.clone()).or_default();
        *count += 1;
        if *count == 1 { base } else { format!("{base} {count}") }
    }
}

impl Builder<'_> {
    fn error(&self, value: ValueId, message: &str) -> CompileError {
        let function = self.graph.function;
        CompileError::new(CompileErrorKind::NotSupported, &function.name, message)
            .at_value(function.value_name(value))
    }

    fn check_results(&self, drafts: &Drafts) -> Result<(), CompileError> {
        for &result in &self.graph.function.body.results {
            let maker = self.graph.maker(result).and_then(|m| drafts.part_of[m]);
            if maker.is_none_or(|p| drafts.parts[p].unit == Unit::Accelerator) {
                return Err(self.error(
                    result,
                    "a result of the whole must be computed by the host, and from what changes",
                ));
            }
        }
        Ok(())
    }

    /// The surface of a key.
    fn surface(&mut self, key: Key) -> usize {
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        let value = key.value();
        let function = self.graph.function;
        let mut ty = function.ty(value).as_tensor().expect("a tensor").clone();
        let is_result = function.body.results.contains(&value);
        let role = match key {
            Key::Staged(_) => Role::Staged,
            Key::Table(_) => Role::Table,
            Key::Transposed(_) if self.graph.maker(value).is_none() => Role::Staged,
            Key::Transposed(_) => Role::Table,
            Key::Value(_) if self.graph.maker(value).is_none() => Role::Input,
            Key::Value(_) if is_result => Role::Result,
            Key::Value(_) => Role::Inner,
        };
        let is_narrow = match key {
            Key::Staged(_) | Key::Table(_) | Key::Transposed(_) => true,
            Key::Value(_) => self.needs.at_accelerator.contains(&value),
        };
        if is_narrow && ty.dtype == DType::F32 {
            ty.dtype = self.options.numbers;
        }
        if let (Key::Value(_), true, Some(columns)) = (key, is_narrow, self.options.columns) {
            columns.widen(&mut ty);
        }
        if let Key::Transposed(_) = key {
            ty.dims.reverse();
        }
        let name = function.value_name(value).to_owned();
        self.partition.surfaces.push(PartSurface { name, ty, role });
        let index = self.partition.surfaces.len() - 1;
        self.known.insert(key, index);
        index
    }

    fn part(&mut self, name: String, draft: &Draft, need: &Need) -> Result<Part, CompileError> {
        let mut body = Body::new();
        for &i in &draft.operations {
            self.write(&mut body, i, need, draft.unit);
        }
        self.write_results(&mut body, draft)?;
        let pass = match draft.group {
            Group::Forward(_) => Pass::Forward,
            Group::Backward(_) => Pass::Backward,
            Group::Outside => Pass::Outside,
        };
        self.finish(name, draft.unit, pass, body)
    }

    /// Writes an operation and what it needs of what is not written yet.
    fn write(&mut self, body: &mut Body, i: usize, need: &Need, unit: Unit) {
        let graph = self.graph;
        let outputs = graph.outputs(i);
        if outputs.iter().all(|v| body.values.contains_key(v)) {
            return;
        }
        let mut operation = graph.function.body.operations[i].clone();
        let columns = self
            .options
            .columns
            .filter(|_| unit == Unit::Accelerator && graph.origins[i] == Origin::Run);
        if let (Some(columns), Op::Reshape { x, shape }) = (columns, &graph.ops[i]) {
            let x = self.operand(body, *x, need, unit);
            let mut ty = graph.function.ty(outputs[0]).as_tensor().expect("a tensor").clone();
            columns.widen(&mut ty);
            let shape = columns.widened(shape);
            let id = body.push(&Op::Reshape { x, shape }, ty.into());
            body.values.insert(outputs[0], id);
            return;
        }
        for operand in operation.operands_mut() {
            *operand = self.operand(body, *operand, need, unit);
        }
        operation.outputs = outputs
            .iter()
            .map(|&v| {
                let mut ty = graph.function.ty(v).clone();
                if let (Some(columns), Type::Tensor(ty)) = (columns, &mut ty) {
                    columns.widen(ty);
                }
                let id = body.value(&operation.name, ty);
                body.values.insert(v, id);
                id
            })
            .collect();
        body.write(operation);
    }

    fn operand(&mut self, body: &mut Body, value: ValueId, need: &Need, unit: Unit) -> ValueId {
        if let Some(&known) = body.values.get(&value) {
            return known;
        }
        let graph = self.graph;
        let key = match graph.maker(value) {
            _ if need.tables.contains(&value) => Key::Table(value),
            _ if need.values.contains(&value) => Key::Value(value),
            Some(maker) => {
                self.write(body, maker, need, unit);
                return body.values[&value];
            }
            None if unit == Unit::Accelerator && self.options.numbers != DType::F32 => {
                Key::Staged(value)
            }
            None => Key::Value(value),
        };
        let surface = self.surface(key);
        let ty = self.partition.surfaces[surface].ty.clone();
        let input = body.input(surface, ty, Access::Read);
        let form = match key {
            Key::Table(_) => self.options.tables,
            _ if graph.is_parameter(value) => self.options.weights,
            _ => WeightForm::Inputs,
        };
        if unit == Unit::Accelerator && form == WeightForm::Constants {
            body.constants.push((input, surface));
        }
        // The host computes in what the function says.
        let id = match unit {
            Unit::Host => {
                let wanted = graph.function.ty(value).as_tensor().expect("a tensor").clone();
                body.as_host_s(input, &wanted)
            }
            Unit::Accelerator => input,
        };
        body.values.insert(value, id);
        id
    }

    fn write_results(&mut self, body: &mut Body, draft: &Draft) -> Result<(), CompileError> {
        let graph = self.graph;
        let outputs = draft.operations.iter().flat_map(|&i| graph.outputs(i)).copied();
        let mut pairs = Vec::new();
        for value in outputs {
            let is_result = graph.function.body.results.contains(&value);
            if !is_result && !self.needs.crossing.contains(&value) {
                continue;
            }
            let mut id = body.values[&value];
            if let Some(&input) = graph.replaced.get(&value) {
                let surface = self.surface(Key::Value(input));
                let Some(&input) = body.inputs.get(&surface) else {
                    return Err(self.error(value, "the result is not made where its input is read"));
                };
                for connection in &mut body.connections {
                    if connection.surface == surface {
                        connection.access = Access::Update;
                    }
                }
                let output = body.result(id);
                pairs.push((output, body.function.value_name(input).to_owned()));
                continue;
            }
            let surface = self.surface(Key::Value(value));
            if draft.unit == Unit::Host {
                id = body.as_surface_s(id, &self.partition.surfaces[surface].ty);
            }
            body.write_to(surface, id);
        }
        let pairs = pairs.iter().map(|(o, i)| (o.as_str(), i.as_str()));
        body.function.set_in_place(pairs);
        Ok(())
    }

    /// The program of a part, shared with those that are the same.
    fn finish(
        &mut self,
        name: String,
        unit: Unit,
        pass: Pass,
        body: Body,
    ) -> Result<Part, CompileError> {
        let Body { mut function, connections: mut ports, constants: mut baked, .. } = body;
        let mut constants = Vec::new();
        if unit == Unit::Accelerator {
            if self.options.numbers == DType::F16 {
                // First one type everywhere: inputs are fp16 already, and an operation that reads
                // two types has no meaning to look for.
                to_half(&mut function);
                balance_norm_gradients(&mut function);
            }
            function.params.retain(|p| baked.iter().all(|&(input, _)| input != p.value));
            ports.retain(|c| baked.iter().all(|&(_, s)| s != c.surface));
            self.transpose(&mut function, &mut baked);
            constants = bake(&mut function, &baked);
            constants_as_read(&mut function);
            convolutions_to_products(&mut function);
            biases_apart(&mut function);
        }
        let options = PipelineOptions::default();
        let program = optimize(&Program::with_function(function), &options, &mut |_, _| {})?;
        let program = self.partition.shared(program);
        Ok(Part { name, unit, pass, program, ports, constants })
    }

    /// Has products by the transpose of a constant written as convolutions by another constant.
    fn transpose(&mut self, function: &mut Function, baked: &mut Vec<(ValueId, usize)>) {
        let values: HashMap<usize, ValueId> =
            self.known.iter().map(|(key, &surface)| (surface, key.value())).collect();
        let matrices: HashMap<ValueId, ValueId> =
            baked.iter().map(|&(id, surface)| (id, values[&surface])).collect();
        for (matrix, transposed) in products_to_convolutions(function, &matrices) {
            baked.push((transposed, self.surface(Key::Transposed(matrices[&matrix]))));
        }
        let operations = function.body.operations.iter();
        let read: HashSet<ValueId> = operations.flat_map(Operation::operands).collect();
        baked.retain(|(id, _)| read.contains(id));
    }

    /// One part that computes every table.
    fn tables(&mut self) -> Result<Part, CompileError> {
        let mut body = Body::new();
        let need = Need::default();
        for &value in &self.needs.tables {
            let mut id = self.operand(&mut body, value, &need, Unit::Host);
            let surface = self.surface(Key::Table(value));
            let dtype = self.partition.surfaces[surface].ty.dtype;
            if body.function.ty(id).as_tensor().expect("a tensor").dtype != dtype {
                id = body.cast(id, dtype);
            }
            if let Some(&surface) = self.known.get(&Key::Transposed(value)) {
                let transposed = body.transposed(id);
                body.write_to(surface, transposed);
            }
            body.write_to(surface, id);
        }
        self.finish("tables".to_owned(), Unit::Host, Pass::Outside, body)
    }

    /// For each accelerator part that reads parameters first, a part that brings them into the
    /// accelerator's numbers.
    fn stage(&mut self) -> Result<(), CompileError> {
        let mut done = vec![false; self.partition.surfaces.len()];
        for p in 0..self.partition.parts.len() {
            let part = &self.partition.parts[p];
            let read = part.ports.iter().map(|c| c.surface);
            let read = read.chain(part.constants.iter().map(|c| c.surface));
            let staged: Vec<usize> = read
                .filter(|&s| self.partition.surfaces[s].role == Role::Staged && !done[s])
                .collect();
            if staged.is_empty() {
                continue;
            }
            let name = format!("stage for {}", part.name);
            let mut body = Body::new();
            for surface in staged {
                done[surface] = true;
                let from = self.known.iter().find(|(_, index)| **index == surface);
                let Some((&key, _)) = from else { unreachable!("it is known") };
                let input = self.surface(Key::Value(key.value()));
                let ty = self.partition.surfaces[input].ty.clone();
                let input = body.input(input, ty, Access::Read);
                let dtype = self.partition.surfaces[surface].ty.dtype;
                let mut staged = input;
                if body.function.ty(staged).as_tensor().expect("a tensor").dtype != dtype {
                    staged = body.cast(staged, dtype);
                }
                if let Key::Transposed(_) = key {
                    staged = body.transposed(staged);
                }
                body.write_to(surface, staged);
            }
            let part = self.finish(name, Unit::Host, Pass::Outside, body)?;
            self.partition.staging.push(part);
        }
        Ok(())
    }
}
