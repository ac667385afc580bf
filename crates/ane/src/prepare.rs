//! From a program to what is handed to the framework.
//!
//! The compiler's front end knows no defaults, so every operation is written with all its
//! parameters as named constants. Values get names by position: inputs are `a0000`, `a0001`, …,
//! so that every order in which inputs were ever said to be numbered is the same one, and
//! programs that differ in names alone are one program. All weights go into one file.

use crate::fingerprint::Fingerprint;
use crate::inputs::weights_to_inputs;
use crate::{Descriptor, Error, ErrorKind};
use orion_mil::blob::write_blob_file;
use orion_mil::encode::encode;
use orion_mil::typed::analyze;
use orion_mil::{
    Argument, Binding, Data, Function, Op, Operation, Program, Type, Value, ValueId, WEIGHT_FILE,
    Weights, hoist_literals, text, verify,
};
use orion_runtime::{Port, PortKind, Signature};
use orion_tensor::{Bytes, DType, Tensor};
use std::collections::BTreeMap;

/// How values are called in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By position.
    Canonical,
    /// As in the program.
    AsWritten,
}

/// An input or output of the compiled program.
#[derive(Debug, Clone)]
pub(crate) struct DevicePort {
    /// Its name in the text.
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
}

/// A weight that is an input of the compiled program.
#[derive(Debug, Clone)]
pub(crate) struct WeightInput {
    /// What the program has, to be found in [`Weights`].
    pub(crate) value: Value,
    pub(crate) port: DevicePort,
}

/// A program as it is handed over.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    /// The surfaces that callers bind.
    pub(crate) signature: Signature,
    /// The inputs, in the order of the ports that are read.
    pub(crate) inputs: Vec<DevicePort>,
    /// The inputs that weights are staged in.
    pub(crate) weight_inputs: Vec<WeightInput>,
    /// The outputs, in the order of the ports that are written.
    pub(crate) outputs: Vec<DevicePort>,
    program: Program,
    /// The weights that stay in a file: what the program has, and where they are in the file.
    baked: Vec<(Value, u64)>,
}

impl Prepared {
    /// Prepares the program's main function, with its weights as inputs if that is wanted.
    pub(crate) fn new(
        program: &Program,
        weights_as_inputs: bool,
        naming: Naming,
        device: &str,
    ) -> Result<Self, Error> {
        let invalid = |findings| {
            Error::new(ErrorKind::Program, "the program is not valid").with_findings(findings)
        };
        let problems = verify(program);
        if !problems.is_empty() {
            return Err(invalid(problems));
        }
        let main = program
            .main()
            .ok_or_else(|| Error::new(ErrorKind::Program, "the program has no function `main`"))?;
        let mut function = hoist_literals(main);
        let ops = analyze(&function).map_err(invalid)?;
        let signature =
            Signature::dense(&function, device).map_err(|e| invalid(e.diagnostics().to_vec()))?;
        if let Some(state) =
            signature.ports.iter().find(|p| p.kind == (PortKind::Update { output: None }))
        {
            let message = format!("`{}` is a state, which the compiler does not take", state.name);
            return Err(Error::new(ErrorKind::Program, message)
                .hint("make it an input that an output replaces in place"));
        }
        let staged = if weights_as_inputs {
            weights_to_inputs(&mut function, &ops)
        } else {
            spell_out(&mut function, &ops);
            Vec::new()
        };
        let results: Vec<ValueId> =
            signature.ports.iter().filter_map(|port| written(&function, port)).collect();
        function.body.results = results;
        if naming == Naming::Canonical {
            name_by_position(&mut function);
        }
        function.attributes.clear();
        function.name = "main".to_owned();
        let weight_values: Vec<ValueId> = staged.iter().map(|(id, _)| *id).collect();
        let own = function.params.iter().map(|p| p.value).filter(|v| !weight_values.contains(v));
        let inputs = own.map(|v| device_port(&function, v)).collect();
        let outputs = function.body.results.iter().map(|&v| device_port(&function, v)).collect();
        let weight_inputs = staged
            .into_iter()
            .map(|(id, value)| WeightInput { value, port: device_port(&function, id) })
            .collect();
        let baked = gather_weights(&mut function);
        let mut program = Program::with_function(function);
        program.attributes.clear();
        Ok(Self { signature, inputs, weight_inputs, outputs, program, baked })
    }

    /// What is handed to the framework, with these weights in the file.
    ///
    /// # Errors
    /// When a weight is missing or of another type.
    pub(crate) fn descriptor(&self, weights: &Weights) -> Result<Descriptor, Error> {
        let mut program = self.program.clone();
        let mut files = BTreeMap::new();
        // The version is not looked at, but there must be one. The content of the weights is
        // part of the text because it is not sure to be part of the identifier.
        let mut build = vec![
            ("coremlc-component-MIL".to_owned(), "3510.2.1".to_owned()),
            ("coremlc-version".to_owned(), "3505.4.1".to_owned()),
        ];
        if !self.baked.is_empty() {
            let bytes = self.weight_file(weights)?;
            let mut fingerprint = Fingerprint::new();
            fingerprint.write(&bytes);
            build.push(("orion-weights".to_owned(), fingerprint.finish()));
            files.insert(WEIGHT_FILE.to_owned(), bytes);
        }
        program.attributes.insert("buildInfo".to_owned(), Value::string_dict(build));
        Ok(Descriptor { text: text::print(&program), weights: files })
    }

    /// Whether any weights are in a file.
    pub(crate) fn has_baked_weights(&self) -> bool {
        !self.baked.is_empty()
    }

    fn weight_file(&self, weights: &Weights) -> Result<Bytes, Error> {
        let mut tensors = BTreeMap::new();
        for (value, offset) in &self.baked {
            tensors.insert(*offset, resolve(weights, value)?);
        }
        let mut bytes = Vec::new();
        write_blob_file(&tensors, &mut bytes)
            .map_err(|e| Error::new(ErrorKind::Weights, e.to_string()))?;
        Ok(Bytes::new(bytes))
    }
}

/// The tensor that a constant of the program means.
pub(crate) fn resolve(weights: &Weights, value: &Value) -> Result<Tensor, Error> {
    weights.resolve(value).map_err(|e| Error::new(ErrorKind::Weights, e.to_string()))
}

/// The value that ends up in a port's surface; `None` for one that is only read.
fn written(function: &Function, port: &Port) -> Option<ValueId> {
    let name = match &port.kind {
        PortKind::Input | PortKind::Update { output: None } => return None,
        PortKind::Output => &port.name,
        PortKind::Update { output: Some(output) } => output,
    };
    function.body.results.iter().copied().find(|&v| function.value_name(v) == name)
}

fn device_port(function: &Function, value: ValueId) -> DevicePort {
    let ty = function.ty(value).as_tensor().expect("ports are tensors");
    DevicePort {
        name: function.value_name(value).to_owned(),
        dtype: ty.dtype,
        shape: ty.shape().expect("ports have known sizes"),
    }
}

/// Writes every operation of the body anew, with all its parameters.
fn spell_out(function: &mut Function, ops: &[Op]) {
    let mut writer = Writer::new(function);
    for (operation, op) in std::mem::take(&mut writer.function.body.operations).iter().zip(ops) {
        writer.operation(op, operation.outputs.clone());
    }
    writer.finish();
}

/// Writes operations in their full form.
pub(crate) struct Writer<'a> {
    pub(crate) function: &'a mut Function,
    operations: Vec<Operation>,
    /// Parameter constants already written, so that equal ones are shared.
    parameters: Vec<(Value, ValueId)>,
}

impl<'a> Writer<'a> {
    /// Writes the body of a function, from its beginning.
    pub(crate) fn new(function: &'a mut Function) -> Self {
        Self { function, operations: Vec::new(), parameters: Vec::new() }
    }

    /// An operation that makes these values.
    pub(crate) fn operation(&mut self, op: &Op, outputs: Vec<ValueId>) {
        let encoded = encode(op, &self.function.values, outputs.len());
        let mut operation = Operation::new(encoded.name, outputs);
        operation.inputs = encoded.operands;
        operation.attributes = encoded.attributes;
        for (name, value) in encoded.parameters {
            let known = self.parameters.iter().find(|(v, _)| *v == value).map(|(_, id)| *id);
            let id = known.unwrap_or_else(|| self.constant(&name, value));
            operation.inputs.insert(name, Argument::One(Binding::Value(id)));
        }
        if let Some(&first) = operation.outputs.first() {
            let name = Value::string(self.function.value_name(first));
            operation.attributes.insert("name".to_owned(), name);
        }
        self.operations.push(operation);
    }

    fn constant(&mut self, stem: &str, value: Value) -> ValueId {
        let id = self.value(stem, value.ty.clone());
        self.parameters.push((value.clone(), id));
        self.operation(&Op::Const(value), vec![id]);
        id
    }

    /// A new value, of a name that nothing else has.
    pub(crate) fn value(&mut self, stem: &str, ty: Type) -> ValueId {
        let name = format!("{stem}__{}", self.function.values.len());
        self.function.values.push(name, ty)
    }

    /// Puts the operations into the function, without the constants that nothing reads.
    pub(crate) fn finish(self) {
        let mut read = vec![false; self.function.values.len()];
        let results = self.function.body.results.iter().copied();
        results
            .chain(self.operations.iter().flat_map(Operation::operands))
            .for_each(|v| read[v.index()] = true);
        let mut operations = self.operations;
        operations.retain(|o| o.name != "const" || o.outputs.iter().any(|v| read[v.index()]));
        self.function.body.operations = operations;
    }
}

/// Names inputs `a0000`, …, what is computed `v0000`, …, and outputs `z0000`, ….
fn name_by_position(function: &mut Function) {
    let mut names: Vec<Option<String>> = vec![None; function.values.len()];
    for (i, param) in function.params.iter().enumerate() {
        names[param.value.index()] = Some(format!("a{i:04}"));
    }
    for (i, &result) in function.body.results.iter().enumerate() {
        names[result.index()].get_or_insert_with(|| format!("z{i:04}"));
    }
    let mut count = 0;
    for operation in &mut function.body.operations {
        for &output in &operation.outputs {
            names[output.index()].get_or_insert_with(|| {
                count += 1;
                format!("v{:04}", count - 1)
            });
        }
        if let Some(name) = operation.outputs.first().and_then(|v| names[v.index()].clone()) {
            operation.attributes.insert("name".to_owned(), Value::string(name));
        }
    }
    let ids: Vec<ValueId> = function.values.iter().map(|(id, _)| id).collect();
    for id in ids {
        if let Some(name) = names[id.index()].take() {
            function.values[id].name = name;
        }
    }
}

/// Moves all weights to one file. Returns what they were, and where they are.
fn gather_weights(function: &mut Function) -> Vec<(Value, u64)> {
    let mut baked: Vec<(Value, u64)> = Vec::new();
    let mut end = 64u64;
    for operation in &mut function.body.operations {
        for value in operation.attributes.values_mut() {
            let Data::Blob { .. } = value.data else { continue };
            let known = baked.iter().find(|(v, _)| v == value).map(|(_, offset)| *offset);
            let offset = known.unwrap_or_else(|| {
                let ty = value.ty.as_tensor().expect("weights are tensors");
                let bytes = ty.dtype.packed_bytes(ty.element_count().unwrap_or(0)) as u64;
                let offset = end;
                end = (end + 64 + bytes).next_multiple_of(64);
                baked.push((value.clone(), offset));
                offset
            });
            value.data = Data::Blob { file: WEIGHT_FILE.to_owned(), offset };
        }
    }
    baked
}
