//! Builds functions op by op.
//!
//! Every method infers types at once, so a mistake shows at the line that made it. Model code is
//! ours: a mistake in it is a bug, and the builder panics with the operand types.

use crate::op::{Binary, GeluMode, PadMode, Reduction, ScatterMode, Unary};
use crate::{
    Argument, Binding, Function, Op, Operation, Param, TensorType, Type, Value, ValueId,
    encode::encode, infer::output_types,
};
use orion_tensor::{DType, Tensor};
use std::collections::HashMap;

/// Builds one [`Function`].
#[derive(Debug)]
pub struct Builder {
    function: Function,
    operations: Vec<Operation>,
    scope: String,
    names: HashMap<String, u32>,
    /// Parameter constants already written, so that equal ones are shared.
    parameters: HashMap<String, Vec<(Value, ValueId)>>,
}

impl Builder {
    /// A builder for an empty function of opset `ios18`.
    pub fn new(name: &str) -> Self {
        Self::extend(Function::new(name, "ios18"))
    }

    /// A builder that goes on at the end of an existing function's body; its results stay until
    /// [`Builder::finish`] replaces them.
    pub fn extend(mut function: Function) -> Self {
        let operations = std::mem::take(&mut function.body.operations);
        let names = function.values.iter().map(|(_, v)| (v.name.clone(), 1)).collect();
        Self { function, operations, scope: String::new(), names, parameters: HashMap::new() }
    }

    /// Prefixes the names of the values made from now on, such as `layer3`. Empty for none.
    pub fn set_scope(&mut self, scope: impl Into<String>) {
        self.scope = scope.into();
    }

    /// The function so far; its body is not in it until [`Builder::finish`].
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// The type of a value.
    ///
    /// # Panics
    /// When it is not a tensor.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        self.function.ty(id).as_tensor().expect("a tensor")
    }

    /// The shape of a value.
    ///
    /// # Panics
    /// When it is not a tensor of known shape.
    pub fn shape(&self, id: ValueId) -> Vec<usize> {
        self.ty(id).shape().expect("a known shape")
    }

    /// The element type of a value.
    pub fn dtype(&self, id: ValueId) -> DType {
        self.ty(id).dtype
    }

    /// A program input.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn input(&mut self, name: &str, ty: TensorType) -> ValueId {
        let value = self.new_value(name, ty.into());
        self.function.params.push(Param { value, attributes: Default::default() });
        value
    }

    /// A state: a tensor that outlives a run.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn state(&mut self, name: &str, ty: TensorType) -> ValueId {
        let value = self.new_value(name, Type::State(ty));
        self.function.params.push(Param { value, attributes: Default::default() });
        value
    }

    fn new_value(&mut self, name: &str, ty: Type) -> ValueId {
        let taken = self.names.insert(name.to_owned(), 1);
        assert!(taken.is_none(), "the name {name} is used twice");
        self.function.values.push(name, ty)
    }

    fn fresh_name(&mut self, stem: &str) -> String {
        let stem =
            if self.scope.is_empty() { stem.to_owned() } else { format!("{}_{stem}", self.scope) };
        loop {
            let count = self.names.entry(stem.clone()).or_insert(0);
            let name = if *count == 0 { stem.clone() } else { format!("{stem}_{count}") };
            *count += 1;
            if name == stem || !self.names.contains_key(&name) {
                self.names.entry(name.clone()).or_insert(1);
                return name;
            }
        }
    }

    /// Appends an op and returns its outputs.
    ///
    /// # Panics
    /// When the operands do not fit the op.
    pub fn push_all(&mut self, op: &Op, output_count: usize) -> Vec<ValueId> {
        let types = output_types(op, &self.function.values).unwrap_or_else(|message| {
            let operands: Vec<String> = op
                .operands()
                .into_iter()
                .map(|v| format!("{}: {}", self.function.value_name(v), self.function.ty(v)))
                .collect();
            panic!("{op:?} of ({}): {message}", operands.join(", "))
        });
        let encoded = encode(op, &self.function.values, output_count);
        let outputs: Vec<ValueId> = types
            .into_iter()
            .take(output_count)
            .map(|ty| {
                let name = self.fresh_name(encoded.name);
                self.function.values.push(name, ty)
            })
            .collect();
        let mut operation = Operation::new(encoded.name, outputs.clone());
        operation.inputs = encoded.operands;
        for (name, value) in encoded.parameters {
            let id = self.parameter(&name, value);
            operation.inputs.insert(name, Argument::One(Binding::Value(id)));
        }
        operation.attributes = encoded.attributes;
        if let Some(&first) = outputs.first() {
            let name = Value::string(self.function.value_name(first));
            operation.attributes.insert("name".to_owned(), name);
        }
        self.operations.push(operation);
        outputs
    }

    /// Appends an op with one output.
    ///
    /// # Panics
    /// When the operands do not fit the op.
    pub fn push(&mut self, op: &Op) -> ValueId {
        self.push_all(op, 1)[0]
    }

    /// The `const` that holds a parameter, shared between equal ones.
    fn parameter(&mut self, name: &str, value: Value) -> ValueId {
        if let Some(known) = self.parameters.get(name)
            && let Some((_, id)) = known.iter().find(|(v, _)| *v == value)
        {
            return *id;
        }
        let scope = std::mem::take(&mut self.scope);
        let fresh = self.fresh_name(name);
        self.scope = scope;
        let id = self.function.values.push(fresh.clone(), value.ty.clone());
        let mut operation = Operation::new("const", vec![id]);
        operation.attributes.insert("name".into(), Value::string(fresh));
        operation.attributes.insert("val".into(), value.clone());
        self.operations.push(operation);
        self.parameters.entry(name.to_owned()).or_default().push((value, id));
        id
    }

    /// Renames a value, for readable programs and for outputs, which are bound by name.
    ///
    /// # Panics
    /// When another value has that name.
    pub fn rename(&mut self, id: ValueId, name: &str) {
        if self.function.value_name(id) == name {
            return;
        }
        let taken = self.names.insert(name.to_owned(), 1);
        assert!(taken.is_none(), "the name {name} is used twice");
        self.function.values[id].name = name.to_owned();
        let defining = self.operations.iter_mut().rev().find(|o| o.outputs.first() == Some(&id));
        if let Some(operation) = defining {
            operation.attributes.insert("name".into(), Value::string(name));
        }
    }

    /// Ends the function. Results keep the order given; inputs are sorted by name, as canonical
    /// text has them.
    pub fn finish(mut self, results: &[ValueId]) -> Function {
        self.function.body.operations = self.operations;
        self.function.body.results = results.to_vec();
        let values = &self.function.values;
        self.function.params.sort_by(|a, b| values[a.value].name.cmp(&values[b.value].name));
        self.function
    }

    /// A constant in the program text.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.push(&Op::Const(Value::tensor(tensor)))
    }

    /// A constant in a weight file, at the offset [`crate::Weights::append`] gave.
    pub fn blob(&mut self, name: &str, ty: TensorType, file: &str, offset: u64) -> ValueId {
        let id = self.push(&Op::Const(Value::blob(ty, file, offset)));
        self.rename(id, name);
        id
    }

    /// A rank-0 constant of `like`'s element type.
    pub fn number(&mut self, like: ValueId, v: f64) -> ValueId {
        let dtype = self.dtype(like);
        self.parameter("number", Value::scalar(dtype, v))
    }

    /// int32 constants.
    pub fn ints(&mut self, v: &[i32]) -> ValueId {
        self.parameter("ints", Value::ints(v))
    }

    /// See [`Op::Cast`].
    pub fn cast(&mut self, x: ValueId, dtype: DType) -> ValueId {
        if self.dtype(x) == dtype { x } else { self.push(&Op::Cast { x, dtype }) }
    }

    /// See [`Op::Unary`].
    pub fn unary(&mut self, kind: Unary, x: ValueId) -> ValueId {
        self.push(&Op::Unary { kind, x })
    }

    /// See [`Op::Binary`].
    pub fn binary(&mut self, kind: Binary, x: ValueId, y: ValueId) -> ValueId {
        self.push(&Op::Binary { kind, x, y })
    }

    /// `x + y`
    pub fn add(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.binary(Binary::Add, x, y)
    }

    /// `x - y`
    pub fn sub(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.binary(Binary::Sub, x, y)
    }

    /// `x · y`
    pub fn mul(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.binary(Binary::Mul, x, y)
    }

    /// `x / y`
    pub fn div(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.binary(Binary::RealDiv, x, y)
    }

    /// `x · s` for a number.
    pub fn scale(&mut self, x: ValueId, s: f64) -> ValueId {
        let s = self.number(x, s);
        self.mul(x, s)
    }

    /// `x + s` for a number.
    pub fn offset(&mut self, x: ValueId, s: f64) -> ValueId {
        let s = self.number(x, s);
        self.add(x, s)
    }

    /// See [`Op::Select`].
    pub fn select(&mut self, cond: ValueId, a: ValueId, b: ValueId) -> ValueId {
        self.push(&Op::Select { cond, a, b })
    }

    /// See [`Op::Reduce`].
    pub fn reduce(
        &mut self,
        kind: Reduction,
        x: ValueId,
        axes: &[usize],
        keep_dims: bool,
    ) -> ValueId {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        self.push(&Op::Reduce { kind, x, axes, keep_dims })
    }

    /// See [`Op::Matmul`].
    pub fn matmul(
        &mut self,
        x: ValueId,
        y: ValueId,
        transpose_x: bool,
        transpose_y: bool,
    ) -> ValueId {
        self.push(&Op::Matmul { x, y, transpose_x, transpose_y })
    }

    /// `x @ weightᵀ + bias`, weight `[O, I]`.
    pub fn linear(&mut self, x: ValueId, weight: ValueId, bias: Option<ValueId>) -> ValueId {
        self.push(&Op::Linear { x, weight, bias })
    }

    /// A linear layer as the 1×1 convolution the Neural Engine is built for:
    /// x `[B, I, 1, S]`, weight `[O, I, 1, 1]`, bias `[O]`, result `[B, O, 1, S]`.
    pub fn conv_1x1(&mut self, x: ValueId, weight: ValueId, bias: Option<ValueId>) -> ValueId {
        self.push(&Op::Conv {
            x,
            weight,
            bias,
            strides: vec![1, 1],
            pads: vec![(0, 0), (0, 0)],
            dilations: vec![1, 1],
            groups: 1,
        })
    }

    /// See [`Op::Softmax`].
    pub fn softmax(&mut self, x: ValueId, axis: usize) -> ValueId {
        self.push(&Op::Softmax { x, axis })
    }

    /// See [`Op::Reshape`].
    pub fn reshape(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        if self.shape(x) == shape {
            return x;
        }
        self.push(&Op::Reshape { x, shape: shape.to_vec() })
    }

    /// See [`Op::Transpose`].
    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> ValueId {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return x;
        }
        self.push(&Op::Transpose { x, perm: perm.to_vec() })
    }

    /// See [`Op::Concat`].
    pub fn concat(&mut self, values: &[ValueId], axis: usize) -> ValueId {
        self.push(&Op::Concat { values: values.to_vec(), axis, interleave: false })
    }

    /// See [`Op::Split`].
    pub fn split(&mut self, x: ValueId, axis: usize, sizes: &[usize]) -> Vec<ValueId> {
        self.push_all(&Op::Split { x, axis, sizes: sizes.to_vec() }, sizes.len())
    }

    /// A dense part: `size[a]` elements from `begin[a]` on, for each axis.
    pub fn slice(&mut self, x: ValueId, begin: &[usize], size: &[usize]) -> ValueId {
        let rank = begin.len();
        self.push(&Op::Slice {
            x,
            begin: begin.to_vec(),
            size: size.to_vec(),
            stride: vec![1; rank],
            squeeze: vec![false; rank],
        })
    }

    /// See [`Op::Tile`].
    pub fn tile(&mut self, x: ValueId, reps: &[usize]) -> ValueId {
        self.push(&Op::Tile { x, reps: reps.to_vec() })
    }

    /// Zeros around a tensor, (before, after) per axis.
    pub fn pad_zero(&mut self, x: ValueId, pads: &[(usize, usize)]) -> ValueId {
        self.push(&Op::Pad { x, pads: pads.to_vec(), mode: PadMode::Constant(0.0) })
    }

    /// See [`Op::Gather`]; no batch dimensions.
    pub fn gather(&mut self, x: ValueId, indices: ValueId, axis: usize) -> ValueId {
        self.push(&Op::Gather { x, indices, axis, batch_dims: 0 })
    }

    /// See [`Op::GatherAlongAxis`].
    pub fn gather_along_axis(&mut self, x: ValueId, indices: ValueId, axis: usize) -> ValueId {
        self.push(&Op::GatherAlongAxis { x, indices, axis })
    }

    /// See [`Op::Scatter`], adding.
    pub fn scatter_add(
        &mut self,
        data: ValueId,
        indices: ValueId,
        updates: ValueId,
        axis: usize,
    ) -> ValueId {
        self.push(&Op::Scatter { data, indices, updates, axis, mode: ScatterMode::Add })
    }

    /// See [`Op::SliceUpdate`]; no axis masked. `begin` is int32 `[rank]`. Where it is a constant
    /// the end is one too: the Neural Engine takes no computed ends.
    pub fn slice_update(&mut self, x: ValueId, update: ValueId, begin: ValueId) -> ValueId {
        let size: Vec<i32> = self.shape(update).iter().map(|&n| n as i32).collect();
        let defining = self.operations.iter().find(|o| o.outputs == [begin]);
        let position = defining.and_then(Operation::const_value).and_then(Value::as_ints);
        let end = if let Some(position) = position {
            let end = position.iter().zip(&size).map(|(&from, &n)| from as i32 + n);
            self.ints(&end.collect::<Vec<_>>())
        } else {
            let size = self.ints(&size);
            self.add(begin, size)
        };
        let no_mask = vec![false; self.ty(x).rank()];
        let (begin_mask, end_mask) = (no_mask.clone(), no_mask);
        self.push(&Op::SliceUpdate { x, update, begin, end, begin_mask, end_mask })
    }

    /// A tensor of one number.
    pub fn fill(&mut self, dtype: DType, shape: &[usize], value: f64) -> ValueId {
        self.push(&Op::Fill { dtype, shape: shape.to_vec(), value })
    }

    /// GELU.
    pub fn gelu(&mut self, x: ValueId, mode: GeluMode) -> ValueId {
        self.unary(Unary::Gelu(mode), x)
    }
}
