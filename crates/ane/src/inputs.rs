//! Weights as inputs: nothing is compiled again when they change, and layers of one shape share
//! one program.
//!
//! A 1×1 convolution with a weight that is not a constant becomes a matrix product, which is the
//! faster form (a convolution takes 25 to 47 % longer on the M4 Max). Weights get a shape whose
//! last axis is long, because every row of an input takes at least 64 bytes. Constants that are
//! neither fp16 nor fp32, and what compressed weights are made of, stay constants.

use crate::prepare::Writer;
use orion_mil::{Data, Function, Op, Param, TensorType, Type, Value, ValueId};
use orion_tensor::DType;
use std::collections::{HashMap, HashSet};

/// Rewrites the body. Returns the new inputs with what the program had in their place.
pub(crate) fn weights_to_inputs(function: &mut Function, ops: &[Op]) -> Vec<(ValueId, Value)> {
    let bound = bound_to_constants(ops);
    let mut writer = Writer::new(function);
    let operations = std::mem::take(&mut writer.function.body.operations);
    let mut staged: Vec<(ValueId, Value)> = Vec::new();
    // The inputs that hold matrices of convolutions, by the value they had.
    let mut matrices: HashMap<ValueId, ValueId> = HashMap::new();
    for (operation, op) in operations.iter().zip(ops) {
        match op {
            Op::Const(value) if becomes_input(value) && !bound.contains(&operation.outputs[0]) => {
                let weight = operation.outputs[0];
                let ty = value.ty.as_tensor().expect("a tensor").clone();
                let shape = ty.shape().expect("a weight of known size");
                // `[O, I, 1, 1]`
                let is_matrix = shape.len() > 2 && shape[2..].iter().all(|&n| n == 1);
                let long =
                    if is_matrix { vec![1, 1, shape[0], shape[1]] } else { long_rows(&shape) };
                let input = writer.value("weight", TensorType::new(ty.dtype, &long).into());
                staged.push((input, value.clone()));
                let mut uses = ops.iter().filter(|o| o.operands().contains(&weight));
                if !is_matrix || uses.any(|o| !is_product(o, weight)) {
                    writer.operation(&Op::Reshape { x: input, shape }, vec![weight]);
                }
                if is_matrix {
                    matrices.insert(weight, input);
                }
            }
            Op::Conv { x, weight, bias, .. }
                if is_product(op, *weight) && matrices.contains_key(weight) =>
            {
                product(&mut writer, *x, matrices[weight], *bias, operation.outputs[0]);
            }
            _ => writer.operation(op, operation.outputs.clone()),
        }
    }
    writer.finish();
    for (input, _) in &staged {
        function.params.push(Param { value: *input, attributes: Default::default() });
    }
    staged
}

/// What must stay constant: the operands of `constexpr_…` operations.
fn bound_to_constants(ops: &[Op]) -> HashSet<ValueId> {
    ops.iter().filter(|o| matches!(o, Op::Constexpr(_))).flat_map(Op::operands).collect()
}

fn becomes_input(value: &Value) -> bool {
    let float = |ty: &TensorType| matches!(ty.dtype, DType::F16 | DType::F32);
    matches!(value.data, Data::Blob { .. }) && value.ty.as_tensor().is_some_and(float)
}

/// Whether an operation is a convolution by this weight that is a product where it is 1×1.
fn is_product(op: &Op, by: ValueId) -> bool {
    let Op::Conv { x, weight, bias, strides, pads, groups, .. } = op else { return false };
    *weight == by
        && *x != by
        && *bias != Some(by)
        && *groups == 1
        && strides.iter().all(|&s| s == 1)
        && pads.iter().all(|&p| p == (0, 0))
}

/// `[B, I, H, W]` times `[1, 1, O, I]` plus `[O]` is `[B, O, H, W]`.
fn product(
    writer: &mut Writer<'_>,
    x: ValueId,
    matrix: ValueId,
    bias: Option<ValueId>,
    output: ValueId,
) {
    let shape_of = |writer: &Writer<'_>, id: ValueId| {
        writer.function.ty(id).as_tensor().and_then(TensorType::shape).expect("a known shape")
    };
    let (from, to) = (shape_of(writer, x), shape_of(writer, output));
    let dtype = writer.function.ty(x).as_tensor().expect("a tensor").dtype;
    let columns: usize = from[2..].iter().product();
    let tensor = |shape: &[usize]| Type::tensor(dtype, shape);
    let rows = [from[0], 1, from[1], columns];
    let flat = writer.value("rows", tensor(&rows));
    writer.operation(&Op::Reshape { x, shape: rows.to_vec() }, vec![flat]);
    let wide = [from[0], 1, to[1], columns];
    let mut sum = writer.value("product", tensor(&wide));
    let op = Op::Matmul { x: matrix, y: flat, transpose_x: false, transpose_y: false };
    writer.operation(&op, vec![sum]);
    if let Some(bias) = bias {
        let column = [1, 1, to[1], 1];
        let y = writer.value("bias", tensor(&column));
        writer.operation(&Op::Reshape { x: bias, shape: column.to_vec() }, vec![y]);
        let with_bias = writer.value("sum", tensor(&wide));
        let add = Op::Binary { kind: orion_mil::op::Binary::Add, x: sum, y };
        writer.operation(&add, vec![with_bias]);
        sum = with_bias;
    }
    writer.operation(&Op::Reshape { x: sum, shape: to }, vec![output]);
}

/// The same elements with four axes, of which trailing ones come first: `[O, I, 1, 1]` is
/// `[1, 1, O, I]`. More than four axes become one of all but the last three.
fn long_rows(shape: &[usize]) -> Vec<usize> {
    let ones = shape.iter().rev().take_while(|&&n| n == 1).count();
    let kept = &shape[..shape.len() - ones];
    let (outer, inner) = kept.split_at(kept.len().saturating_sub(3));
    let mut long = vec![outer.iter().product::<usize>()];
    long.extend(std::iter::repeat_n(1, 3 - inner.len()));
    long.extend(inner);
    long
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_axis_of_a_weight_is_long() {
        assert_eq!(long_rows(&[8, 4, 1, 1]), [1, 1, 8, 4]);
        assert_eq!(long_rows(&[8]), [1, 1, 1, 8]);
        assert_eq!(long_rows(&[1, 8, 1, 1]), [1, 1, 1, 8]);
        assert_eq!(long_rows(&[2, 3, 4, 5]), [2, 3, 4, 5]);
        assert_eq!(long_rows(&[2, 3, 4, 5, 6]), [6, 4, 5, 6]);
        assert_eq!(long_rows(&[]), [1, 1, 1, 1]);
        assert_eq!(long_rows(&[1, 1]), [1, 1, 1, 1]);
    }
}
