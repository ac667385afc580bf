//! Hand-computed tables, one test per op.

mod contraction;
mod elementwise;
mod indexed;
mod movement;
mod reduction;

use super::evaluate;
use crate::{Op, TensorType, ValueId, Values};
use orion_tensor::{DType, Tensor, Tolerance};

fn floats(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::F32, shape, values)
}

fn halves(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::F16, shape, values)
}

fn ints(shape: &[usize], values: &[i32]) -> Tensor {
    Tensor::from_slice(shape, values)
}

fn bools(shape: &[usize], values: &[u8]) -> Tensor {
    Tensor::from_f64(DType::Bool, shape, &values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>())
}

/// 0, 1, 2, … as fp32.
fn counting(shape: &[usize]) -> Tensor {
    let count = orion_tensor::element_count(shape);
    floats(shape, &(0..count).map(|i| i as f64).collect::<Vec<_>>())
}

/// Evaluates an op whose outputs have the types that inference gives.
fn run(op: impl FnOnce(&[ValueId]) -> Op, operands: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let mut values = Values::default();
    let ids: Vec<ValueId> = operands
        .iter()
        .enumerate()
        .map(|(i, t)| values.push(format!("v{i}"), TensorType::new(t.dtype(), t.shape()).into()))
        .collect();
    let op = op(&ids);
    assert_eq!(op.operands(), ids, "operands are listed in the op's order");
    let types = crate::infer::output_types(&op, &values)
        .unwrap_or_else(|message| panic!("{op:?} does not infer: {message}"));
    let types: Vec<TensorType> =
        types.iter().map(|ty| ty.as_tensor().expect("a tensor").clone()).collect();
    evaluate(&op, operands, &types)
}

/// Checks type, shape and numbers: integers exactly, floats to a rounding or two.
fn check(op: impl FnOnce(&[ValueId]) -> Op, operands: &[Tensor], expected: &[Tensor]) {
    let actual = run(op, operands).unwrap_or_else(|message| panic!("{message}"));
    assert!(actual.len() >= expected.len(), "{} outputs", actual.len());
    for (actual, expected) in actual.iter().zip(expected) {
        assert_eq!((actual.dtype(), actual.shape()), (expected.dtype(), expected.shape()));
        let tolerance =
            if expected.dtype().is_float() { Tolerance::Close } else { Tolerance::Exact };
        if let Err(mismatch) = tolerance.check(&actual.to_f64_vec(), &expected.to_f64_vec()) {
            panic!("{mismatch}\ngot {:?}", actual.to_f64_vec());
        }
    }
}

#[test]
fn constants_and_states_are_left_to_the_interpreter() {
    let op = Op::Const(crate::Value::int(1));
    let error = evaluate(&op, &[], &[TensorType::scalar(DType::I32)]).unwrap_err();
    assert!(error.contains("not computed"), "{error}");
}
