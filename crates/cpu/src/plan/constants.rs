//! Constants: which are numbers, which are memory, and which stay in fewer bits than the program
//! computes with. Products widen weights of 16 bits and of int8 while they read them, so these
//! are kept as they come where nothing else reads them.

use super::lower::{Lowering, Stored, bits_of, number_bits};
use super::view::View;
use super::{Constant, Home};
use crate::steps::FactorScales;
use orion_mil::fold::{Recipe, recipes};
use orion_mil::op::Constexpr;
use orion_mil::{Op, Value, ValueId, Weights};
use orion_tensor::{DType, Tensor, element_count};

/// Blocks of scales begin at multiples of this.
const LANES: usize = 16;

/// A matrix of int8 with scales and offsets.
struct ScaledInt8 {
    data: ValueId,
    scale: ValueId,
    offset: Option<ValueId>,
    /// The number of scales along both axes.
    blocks: [usize; 2],
}

impl Lowering<'_> {
    /// Places constants: small ones as numbers, others as buffers.
    pub(super) fn constants(&mut self, weights: &Weights) -> Vec<(usize, String)> {
        let mut problems = Vec::new();
        let mut recipes = recipes(self.function, self.ops);
        for (i, (op, operation)) in self.ops.iter().zip(&self.function.body.operations).enumerate()
        {
            let output = operation.outputs.first();
            match (op, output) {
                (Op::Constexpr(op), Some(&output)) if self.stays_int8(op, output) => {}
                (Op::Const(_) | Op::Constexpr(_), _) => {
                    for &output in &operation.outputs {
                        let Some(recipe) = recipes[output.index()].take() else { continue };
                        match recipe.resolve(weights) {
                            Ok(tensor) => self.constant(output, tensor, &recipe),
                            Err(message) => problems.push((i, message)),
                        }
                    }
                }
                (Op::Fill { dtype, value, .. }, Some(&output)) => {
                    if let Some(bits) = bits_of(*dtype, *value) {
                        let ty = self.ty(output).clone();
                        self.stored[output.index()] = Stored::Number { bits, ty };
                    }
                }
                _ => {}
            }
        }
        problems
    }

    fn constant(&mut self, output: ValueId, tensor: Tensor, recipe: &Recipe) {
        let is_blob = recipe.reads_files();
        if !is_blob
            && tensor.element_count() == 1
            && let Some(bits) = number_bits(&tensor)
        {
            let ty = self.ty(output).clone();
            self.stored[output.index()] = Stored::Number { bits, ty };
            return;
        }
        let source = is_blob.then(|| recipe.clone());
        let home = Home::Constant(self.constants.len());
        let buffer = self.buffer(tensor.bytes().len(), home);
        let view = View::dense(buffer, tensor.dtype(), tensor.shape());
        self.constants.push(Constant { source, tensor });
        self.stored[output.index()] = Stored::At(view);
    }

    /// A tensor computed while planning, as a constant.
    pub(super) fn computed_constant(&mut self, output: ValueId, tensor: Tensor) {
        let recipe = Recipe::Value(Value::tensor(tensor.clone()));
        self.constant(output, tensor, &recipe);
    }

    /// Makes rows of int8 that only products read, as left factors, a matrix with scales. Says
    /// whether it did.
    fn stays_int8(&mut self, op: &Constexpr, output: ValueId) -> bool {
        let Some(ScaledInt8 { data, scale, offset, blocks }) = self.scaled_int8(op) else {
            return false;
        };
        let shape = self.shape(output);
        let [rows, columns, rest @ ..] = &*shape else { return false };
        let [scale_rows, blocks] = blocks;
        let every_row = scale_rows == *rows;
        let block = columns / blocks.max(1);
        let is_f32 = |id: ValueId| self.ty(id).dtype == DType::F32;
        let floats = is_f32(output) && is_f32(scale) && offset.is_none_or(is_f32);
        let fits = floats
            && self.ty(data).dtype == DType::I8
            && (every_row || scale_rows == 1)
            && element_count(rest) == 1
            && block > 0
            && (blocks == 1 || block.is_multiple_of(LANES));
        let constant = |id: ValueId| match &self.stored[id.index()] {
            Stored::At(view) => Some(view.clone()),
            _ => None,
        };
        let (Some(data), Some(scale), true) = (constant(data), constant(scale), fits) else {
            return false;
        };
        let offsets = match offset.map(constant) {
            Some(Some(offset)) => Some(offset.buffer),
            Some(None) => return false,
            None => None,
        };
        let row = if every_row { blocks } else { 0 };
        let scales = FactorScales { buffer: scale.buffer, offsets, row, block };
        let known = self.scales.get(&data.buffer);
        if known.is_some_and(|&k| k != scales) || !self.only_left_factor(output) {
            return false;
        }
        self.scales.insert(data.buffer, scales);
        self.stored[output.index()] = Stored::At(data);
        true
    }

    /// What is `scale · (data - offset)`.
    fn scaled_int8(&self, op: &Constexpr) -> Option<ScaledInt8> {
        match *op {
            Constexpr::Blockwise { data, scale, offset } => {
                let shape = self.shape(scale);
                let [rows, blocks, rest @ ..] = &*shape else { return None };
                let blocks = [*rows, *blocks];
                (element_count(rest) == 1).then_some(ScaledInt8 { data, scale, offset, blocks })
            }
            Constexpr::Affine { data, scale, zero_point, axis: 0 } => {
                let Stored::At(zero) = &self.stored[zero_point.index()] else { return None };
                let Home::Constant(i) = self.homes[zero.buffer] else { return None };
                let Constant { source, tensor } = &self.constants[i];
                // What a weight file holds may be another number later.
                let symmetric = source.is_none() && tensor.to_f64_vec().iter().all(|&z| z == 0.0);
                let blocks = [element_count(&self.shape(scale)), 1];
                symmetric.then_some(ScaledInt8 { data, scale, offset: None, blocks })
            }
            _ => None,
        }
    }

    /// Whether a cast to fp32 is of 16-bit floats that only products read: these widen what they
    /// take, and the cast is nothing to compute.
    pub(super) fn is_widened_by_products(&self, op: &Op, output: ValueId) -> bool {
        let Op::Cast { x, dtype: DType::F32 } = op else { return false };
        matches!(self.ty(*x).dtype, DType::F16 | DType::BF16) && self.only_products_read(output)
    }

    fn only_products_read(&self, value: ValueId) -> bool {
        !self.is_result[value.index()]
            && self.uses[value.index()].iter().all(|&user| match &self.ops[user] {
                Op::Reshape { .. } | Op::Transpose { .. } => {
                    self.only_products_read(self.function.body.operations[user].outputs[0])
                }
                Op::Conv { .. } => self.is_weight_of_product(&self.ops[user], value),
                Op::Matmul { .. } => true,
                _ => false,
            })
    }

    /// Whether products read all rows of a matrix as those of their left factor, and nothing
    /// else does.
    fn only_left_factor(&self, value: ValueId) -> bool {
        let rows = |id: ValueId| self.shape(id)[..2].to_vec();
        !self.is_result[value.index()]
            && self.uses[value.index()].iter().all(|&user| match &self.ops[user] {
                Op::Reshape { .. } => {
                    let output = self.function.body.operations[user].outputs[0];
                    self.shape(output).len() >= 2
                        && rows(output) == rows(value)
                        && self.only_left_factor(output)
                }
                Op::Conv { .. } => self.is_weight_of_product(&self.ops[user], value),
                Op::Matmul { x, y, transpose_x: false, .. } => {
                    *x == value && *y != value && self.shape(value).len() == 2
                }
                _ => false,
            })
    }

    /// Whether a value is the weight of a convolution that is a product of matrices.
    fn is_weight_of_product(&self, op: &Op, value: ValueId) -> bool {
        let Op::Conv { x, bias, .. } = op else { return false };
        *x != value && bias.is_none_or(|b| b != value) && self.is_pointwise(op)
    }
}
