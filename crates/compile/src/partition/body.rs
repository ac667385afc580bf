//! A part's function while it is written.

use super::{Access, Connection, PartConstant};
use orion_mil::encode::encode;
use orion_mil::op::PadMode;
use orion_mil::{
    Argument, Binding, Function, Op, Operation, Param, TensorType, Type, Value, ValueId,
    WEIGHT_FILE, Weights,
};
use orion_tensor::{DType, Tensor};
use std::collections::HashMap;

/// A part's function under construction. All names in it are positions, so that parts which are
/// the same but for names are the same.
pub(super) struct Body {
    pub(super) function: Function,
    /// What stands for each value of the whole function.
    pub(super) values: HashMap<ValueId, ValueId>,
    pub(super) connections: Vec<Connection>,
    /// Which input of the part each surface is.
    pub(super) inputs: HashMap<usize, ValueId>,
    /// Inputs that are to be constants, and the surfaces that hold those.
    pub(super) constants: Vec<(ValueId, usize)>,
}

impl Body {
    pub(super) fn new() -> Self {
        Self {
            function: Function::new("main", "ios18"),
            values: HashMap::new(),
            connections: Vec::new(),
            inputs: HashMap::new(),
            constants: Vec::new(),
        }
    }

    pub(super) fn value(&mut self, stem: &str, ty: Type) -> ValueId {
        let name = format!("{stem}_{}", self.function.values.len());
        self.function.values.push(name, ty)
    }

    fn constant(&mut self, value: Value) -> ValueId {
        let id = self.value("const", value.ty.clone());
        let mut operation = Operation::new("const", vec![id]);
        operation.attributes.insert("val".to_owned(), value);
        self.write(operation);
        id
    }

    pub(super) fn write(&mut self, mut operation: Operation) {
        if let Some(&first) = operation.outputs.first() {
            let name = self.function.value_name(first).to_owned();
            operation.attributes.insert("name".to_owned(), Value::string(name));
        }
        self.function.body.operations.push(operation);
    }

    pub(super) fn push(&mut self, op: &Op, ty: Type) -> ValueId {
        let encoded = encode(op, &self.function.values, 1);
        let parameters: Vec<(String, ValueId)> =
            encoded.parameters.into_iter().map(|(n, v)| (n, self.constant(v))).collect();
        let output = self.value(encoded.name, ty);
        let mut operation = Operation::new(encoded.name, vec![output]);
        operation.inputs = encoded.operands;
        for (name, id) in parameters {
            operation.inputs.insert(name, Argument::One(Binding::Value(id)));
        }
        operation.attributes = encoded.attributes;
        self.write(operation);
        output
    }

    pub(super) fn cast(&mut self, x: ValueId, dtype: DType) -> ValueId {
        let ty = self.function.ty(x).as_tensor().expect("a tensor");
        let ty = Type::Tensor(TensorType { dtype, ..ty.clone() });
        self.push(&Op::Cast { x, dtype }, ty)
    }

    /// What the host reads of a surface, as the type that it computes in.
    pub(super) fn as_host_s(&mut self, mut x: ValueId, wanted: &TensorType) -> ValueId {
        let given = self.function.ty(x).as_tensor().expect("a tensor").clone();
        if let (Some(size), true) = (wanted.shape(), given.shape() != wanted.shape()) {
            let rank = size.len();
            let ty = TensorType { dtype: given.dtype, ..wanted.clone() };
            let (begin, stride, squeeze) = (vec![0; rank], vec![1; rank], vec![false; rank]);
            x = self.push(&Op::Slice { x, begin, size, stride, squeeze }, ty.into());
        }
        if given.dtype == wanted.dtype { x } else { self.cast(x, wanted.dtype) }
    }

    /// What the host computed, as the type of a surface.
    pub(super) fn as_surface_s(&mut self, mut x: ValueId, wanted: &TensorType) -> ValueId {
        let made = self.function.ty(x).as_tensor().expect("a tensor").clone();
        if made.dtype != wanted.dtype {
            x = self.cast(x, wanted.dtype);
        }
        if let (Some(from), Some(to)) = (made.shape(), wanted.shape())
            && from != to
        {
            let pads = from.iter().zip(&to).map(|(from, to)| (0, to - from)).collect();
            let op = Op::Pad { x, pads, mode: PadMode::Constant(0.0) };
            x = self.push(&op, wanted.clone().into());
        }
        x
    }

    /// A new input for a surface.
    pub(super) fn input(&mut self, surface: usize, ty: TensorType, access: Access) -> ValueId {
        if let Some(&known) = self.inputs.get(&surface) {
            return known;
        }
        let port = format!("input_{:02}", self.inputs.len());
        let id = self.function.values.push(&*port, ty.into());
        self.function.params.push(Param { value: id, attributes: Default::default() });
        self.connections.push(Connection { port, surface, access });
        self.inputs.insert(surface, id);
        id
    }

    pub(super) fn transposed(&mut self, x: ValueId) -> ValueId {
        let mut ty = self.function.ty(x).as_tensor().expect("a tensor").clone();
        ty.dims.reverse();
        self.push(&Op::Transpose { x, perm: vec![1, 0] }, ty.into())
    }

    /// Makes a value what the part writes to a surface.
    pub(super) fn write_to(&mut self, surface: usize, value: ValueId) {
        let port = self.result(value);
        self.connections.push(Connection { port, surface, access: Access::Write });
    }

    /// Makes a value a result of the part, under a name by position.
    pub(super) fn result(&mut self, value: ValueId) -> String {
        let name = format!("output_{:02}", self.function.body.results.len());
        name.clone_into(&mut self.function.values[value].name);
        let operations = self.function.body.operations.iter_mut();
        if let Some(maker) = operations.rev().find(|o| o.outputs.first() == Some(&value)) {
            maker.attributes.insert("name".to_owned(), Value::string(name.clone()));
        }
        self.function.body.results.push(value);
        name
    }
}

/// Makes inputs constants of a weight file.
pub(super) fn bake(function: &mut Function, inputs: &[(ValueId, usize)]) -> Vec<PartConstant> {
    let mut weights = Weights::new();
    let mut constants = Vec::new();
    let mut operations = Vec::new();
    for &(input, surface) in inputs {
        let ty = function.ty(input).as_tensor().expect("a tensor").clone();
        let zeros = Tensor::zeros(ty.dtype, &ty.shape().expect("a known shape"));
        let offset = weights.append(WEIGHT_FILE, zeros);
        let mut operation = Operation::new("const", vec![input]);
        let name = Value::string(function.value_name(input));
        operation.attributes.insert("name".to_owned(), name);
        operation.attributes.insert("val".to_owned(), Value::blob(ty, WEIGHT_FILE, offset));
        operations.push(operation);
        constants.push(PartConstant { offset, surface });
    }
    function.body.operations.splice(0..0, operations);
    constants
}
