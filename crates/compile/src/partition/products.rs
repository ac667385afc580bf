//! Convolutions in the forms that Neural Engines like. By a weight that is an input, as products
//! of matrices: the faster form of the two (a convolution takes 25 to 47 % longer on the M4 Max).
//! By one that is a constant, as a convolution without a bias whose weight is the constant itself:
//! an M1 takes no constant in a product, and a weight that is computed, be it another shape of a
//! constant, may not be taken for one. Leaves convolutions alone that are more than a product.

use crate::rewrite::Writer;
use orion_mil::op::Binary;
use orion_mil::{Data, Function, Op, Operation, TensorType, Value, ValueId, typed};
use std::collections::HashMap;

/// Rewrites every convolution of one image by a matrix that was an input.
pub(super) fn convolutions_to_products(function: &mut Function) {
    let ops = typed::analyze(function).expect("parts have a meaning");
    let inputs: Vec<ValueId> = function.params.iter().map(|p| p.value).collect();
    let (mut writer, operations) = Writer::new(function);
    // The matrices that weights are other shapes of.
    let mut matrices: HashMap<ValueId, ValueId> = HashMap::new();
    for (operation, op) in operations.into_iter().zip(&ops) {
        if let Op::Reshape { x, shape } = op
            && inputs.contains(x)
            && matches!(shape[..], [_, _, 1, 1])
            && shape_of(&writer, *x).len() == 2
        {
            matrices.insert(operation.outputs[0], *x);
        }
        if !write_product(&mut writer, &operation, op, &matrices) {
            writer.keep(operation);
        }
    }
    writer.finish();
}

/// Rewrites every product by the transpose of one of the matrices, `[O, I]ᵀ · [O, N]`, as a
/// convolution by a value `[I, O]` that is nowhere defined yet. Gives the matrix and that value, for
/// each matrix once.
pub(super) fn products_to_convolutions(
    function: &mut Function,
    matrices: &HashMap<ValueId, ValueId>,
) -> Vec<(ValueId, ValueId)> {
    let ops = typed::analyze(function).expect("parts have a meaning");
    let (mut writer, operations) = Writer::new(function);
    let mut transposed: Vec<(ValueId, ValueId)> = Vec::new();
    for (operation, op) in operations.into_iter().zip(ops) {
        let Op::Matmul { x: matrix, y, transpose_x: true, transpose_y: false } = op else {
            writer.keep(operation);
            continue;
        };
        let (from, shape) = (shape_of(&writer, y), shape_of(&writer, matrix));
        let (&[outer, inner], &[_, columns], true) =
            (&shape[..], &from[..], matrices.contains_key(&matrix))
        else {
            writer.keep(operation);
            continue;
        };
        let known = transposed.iter().find(|(of, _)| *of == matrix).map(|&(_, id)| id);
        let weight = known.unwrap_or_else(|| {
            let dtype = writer.function.ty(matrix).as_tensor().expect("a tensor").dtype;
            let id = writer.value("transposed", TensorType::new(dtype, &[inner, outer]).into());
            transposed.push((matrix, id));
            id
        });
        let weight = writer.push(&Op::Reshape { x: weight, shape: vec![inner, outer, 1, 1] });
        let x = writer.push(&Op::Reshape { x: y, shape: vec![1, outer, 1, columns] });
        let product = writer.push(&Op::Conv {
            x,
            weight,
            bias: None,
            strides: vec![1, 1],
            dilations: vec![1, 1],
            pads: vec![(0, 0), (0, 0)],
            groups: 1,
        });
        let shape = vec![inner, columns];
        writer.define(&Op::Reshape { x: product, shape }, operation.outputs[0]);
    }
    writer.finish();
    transposed
}

/// Has constants of a weight file the shape in which they are read: files do not know shapes.
pub(super) fn constants_as_read(function: &mut Function) {
    let ops = typed::analyze(function).expect("parts have a meaning");
    let (mut writer, operations) = Writer::new(function);
    let mut blobs: HashMap<ValueId, Value> = HashMap::new();
    for (operation, op) in operations.into_iter().zip(ops) {
        match op {
            Op::Const(value) if matches!(value.data, Data::Blob { .. }) => {
                blobs.insert(operation.outputs[0], value);
            }
            Op::Reshape { x, shape } if blobs.contains_key(&x) => {
                let (value, output) = (&blobs[&x], operation.outputs[0]);
                let dtype = value.ty.as_tensor().expect("a tensor").dtype;
                let ty = TensorType::new(dtype, &shape).into();
                writer.define(&Op::Const(Value { ty, data: value.data.clone() }), output);
                continue;
            }
            _ => {}
        }
        writer.keep(operation);
    }
    writer.finish();
}

/// Rewrites every convolution with a bias as one without and a sum: there are reports of a
/// compiler that refuses a bias.
pub(super) fn biases_apart(function: &mut Function) {
    let ops = typed::analyze(function).expect("parts have a meaning");
    let (mut writer, operations) = Writer::new(function);
    for (operation, op) in operations.into_iter().zip(ops) {
        let output = operation.outputs.first().copied();
        let (Op::Conv { bias: Some(bias), .. }, Some(output)) = (&op, output) else {
            writer.keep(operation);
            continue;
        };
        let bias = *bias;
        let mut shape = vec![1; shape_of(&writer, output).len()];
        shape[1] = shape_of(&writer, bias)[0];
        let mut plain = op;
        if let Op::Conv { bias, .. } = &mut plain {
            *bias = None;
        }
        let x = writer.push(&plain);
        let y = writer.push(&Op::Reshape { x: bias, shape });
        writer.define(&Op::Binary { kind: Binary::Add, x, y }, output);
    }
    writer.finish();
}

fn shape_of(writer: &Writer<'_>, id: ValueId) -> Vec<usize> {
    writer.function.ty(id).as_tensor().and_then(TensorType::shape).expect("a known shape")
}

/// `[1, I, H, W]` by `[O, I]` plus `[O]`, as `[O, I] · [I, H·W]`; `false` when the operation is
/// something else.
fn write_product(
    writer: &mut Writer<'_>,
    operation: &Operation,
    op: &Op,
    matrices: &HashMap<ValueId, ValueId>,
) -> bool {
    let Op::Conv { x, weight, bias, strides, pads, groups: 1, .. } = op else { return false };
    let Some(&matrix) = matrices.get(weight) else { return false };
    let (from, output) = (shape_of(writer, *x), operation.outputs[0]);
    let is_plain = strides.iter().all(|&s| s == 1) && pads.iter().all(|&p| p == (0, 0));
    if !is_plain || from[0] != 1 {
        return false;
    }
    let to = shape_of(writer, output);
    let columns = from[2..].iter().product();
    let flat = writer.push(&Op::Reshape { x: *x, shape: vec![from[1], columns] });
    let product = Op::Matmul { x: matrix, y: flat, transpose_x: false, transpose_y: false };
    let mut product = writer.push(&product);
    if let Some(bias) = bias {
        let column = writer.push(&Op::Reshape { x: *bias, shape: vec![to[1], 1] });
        product = writer.push(&Op::Binary { kind: Binary::Add, x: product, y: column });
    }
    writer.define(&Op::Reshape { x: product, shape: to }, output);
    true
}
