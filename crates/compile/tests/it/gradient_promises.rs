//! What autodiff promises beyond its formulas: kinks, names, types, what is not computed, and what
//! is refused.

use crate::interpreter::run;
use orion_compile::CompileErrorKind;
use orion_compile::autodiff::{GradientOptions, gradients, gradients_with};
use orion_mil::op::{Binary, Reduction, ScatterMode, Unary};
use orion_mil::{Builder, Function, Op, TensorType, Type, ValueId};
use orion_tensor::{DType, Tensor};
use std::collections::BTreeMap;

/// A function of one fp64 input `x` with a scalar `loss`.
fn function_of(shape: &[usize], build: impl Fn(&mut Builder, ValueId) -> ValueId) -> Function {
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F64, shape));
    let out = build(&mut b, x);
    let axes: Vec<usize> = (0..b.shape(out).len()).collect();
    let loss = b.reduce(Reduction::Sum, out, &axes, false);
    b.rename(loss, "loss");
    b.finish(&[loss])
}

fn gradient_of(function: &Function, x: &[f64]) -> Vec<f64> {
    let shape = function.ty(function.params[0].value).as_tensor().unwrap().shape().unwrap();
    let inputs = BTreeMap::from([("x".to_owned(), Tensor::from_slice(&shape, x))]);
    let with = gradients(function, "loss", &["x"]).unwrap();
    run(&with, &inputs)["x_grad"].to_f64_vec()
}

/// Where finite differences say nothing, the choice is the one PyTorch makes, apart from
/// `maximum`, which gives a tie to its first operand.
#[test]
fn at_kinks_and_zeros() {
    let unary = |kind| function_of(&[3], move |b, x| b.unary(kind, x));
    assert_eq!(gradient_of(&unary(Unary::Relu), &[-1.0, 0.0, 1.0]), [0.0, 0.0, 1.0]);
    assert_eq!(gradient_of(&unary(Unary::Relu6), &[0.0, 6.0, 1.0]), [0.0, 0.0, 1.0]);
    let clip = Unary::Clip { low: 0.0, high: 1.0 };
    assert_eq!(gradient_of(&unary(clip), &[0.0, 1.0, 2.0]), [1.0, 1.0, 0.0]);
    assert_eq!(gradient_of(&unary(Unary::Abs), &[0.0, -1.0, 2.0]), [0.0, -1.0, 1.0]);

    let reduce = |kind| function_of(&[3], move |b, x| b.reduce(kind, x, &[0], true));
    assert_eq!(gradient_of(&reduce(Reduction::Max), &[2.0, 2.0, 1.0]), [0.5, 0.5, 0.0]);
    assert_eq!(gradient_of(&reduce(Reduction::L2Norm), &[0.0; 3]), [0.0; 3]);
    assert_eq!(gradient_of(&reduce(Reduction::Prod), &[2.0, 0.0, 3.0]), [0.0, 6.0, 0.0]);
    assert_eq!(gradient_of(&reduce(Reduction::Prod), &[0.0, 0.0, 3.0]), [0.0; 3]);

    let power = function_of(&[3], |b, x| {
        let exponent = b.number(x, 2.0);
        b.binary(Binary::Pow, x, exponent)
    });
    assert_eq!(gradient_of(&power, &[0.0, -1.0, 3.0]), [0.0, -2.0, 6.0]);
    let maximum = function_of(&[2], |b, x| {
        let zero = b.number(x, 0.0);
        b.binary(Binary::Maximum, x, zero)
    });
    assert_eq!(gradient_of(&maximum, &[0.0, -1.0]), [1.0, 0.0]);
}

#[test]
fn a_parameter_the_loss_does_not_depend_on_gets_zeros() {
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F64, &[2]));
    let y = b.input("y", TensorType::new(DType::F32, &[3]));
    let loss = b.reduce(Reduction::Sum, x, &[0], true);
    b.rename(loss, "loss");
    let index = b.push(&Op::ArgReduce { max: true, x: y, axis: 0, keep_dims: true });
    let function = b.finish(&[loss, index]);
    let with = gradients(&function, "loss", &["y"]).unwrap();
    let inputs = BTreeMap::from([
        ("x".to_owned(), Tensor::from_slice(&[2], &[1.0, 2.0])),
        ("y".to_owned(), Tensor::from_slice(&[3], &[1.0f32, 2.0, 3.0])),
    ]);
    let results = run(&with, &inputs);
    assert_eq!(results["y_grad"], Tensor::zeros(DType::F32, &[3]));
    assert_eq!(results["loss"].to_f64_vec(), [3.0], "the function's own results stay");
}

#[test]
fn a_gradient_has_the_type_of_its_parameter() {
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F32, &[2]));
    let wide = b.cast(x, DType::F64);
    let square = b.unary(Unary::Square, wide);
    let loss = b.reduce(Reduction::Sum, square, &[0], true);
    b.rename(loss, "loss");
    let with = gradients(&b.finish(&[loss]), "loss", &["x"]).unwrap();
    let x = Tensor::from_slice(&[2], &[1.5f32, -3.0]);
    let results = run(&with, &BTreeMap::from([("x".to_owned(), x)]));
    assert_eq!(results["x_grad"], Tensor::from_slice(&[2], &[3.0f32, -6.0]));
}

#[test]
fn a_frozen_network_costs_nothing() {
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F32, &[4, 4]));
    let frozen = b.input("frozen", TensorType::new(DType::F32, &[4, 4]));
    let head = b.input("head", TensorType::new(DType::F32, &[4, 1]));
    let mut h = x;
    for _ in 0..3 {
        h = b.matmul(h, frozen, false, false);
    }
    let out = b.matmul(h, head, false, false);
    let loss = b.reduce(Reduction::Sum, out, &[0, 1], true);
    b.rename(loss, "loss");
    let function = b.finish(&[loss]);
    let products = |f: &Function| f.body.operations.iter().filter(|o| o.name == "matmul").count();
    let with = gradients(&function, "loss", &["head"]).unwrap();
    assert_eq!(products(&with), products(&function) + 1);
}

#[test]
fn results_get_names_of_their_own() {
    // Both gradients are one value, and that of x is a parameter.
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F64, &[1]));
    let y = b.input("y", TensorType::new(DType::F64, &[1]));
    let z = b.input("z", TensorType::new(DType::F64, &[1]));
    let product = b.mul(x, y);
    let sum = b.add(product, z);
    let loss = b.sub(sum, z);
    b.rename(loss, "loss");
    let function = b.finish(&[loss]);
    let with = gradients(&function, "loss", &["x", "y", "z"]).unwrap();
    let input = |n: &str, v| (n.to_owned(), Tensor::from_slice(&[1], &[v]));
    let results = run(&with, &BTreeMap::from([input("x", 2.0), input("y", 5.0), input("z", 1.0)]));
    let names: Vec<&str> = results.keys().map(String::as_str).collect();
    assert_eq!(names, ["loss", "x_grad", "y_grad", "z_grad"]);
    let of = |name| results[name].to_f64_vec()[0];
    assert_eq!([of("x_grad"), of("y_grad"), of("z_grad")], [5.0, 2.0, 0.0]);
}

#[test]
fn loss_scale_and_accumulation() {
    let mut b = Builder::new("main");
    let w = b.input("w", TensorType::new(DType::F16, &[2]));
    let state = b.input("step", TensorType::new(DType::F32, &[1]));
    let next = b.offset(state, 1.0);
    b.rename(next, "step_next");
    let square = b.unary(Unary::Square, w);
    let loss = b.reduce(Reduction::Sum, square, &[0], true);
    b.rename(loss, "loss");
    let mut function = b.finish(&[loss, next]);
    function.set_in_place([("step_next", "step")]);
    let options = GradientOptions { loss_scale: Some("scale"), accumulate: true };
    let with = gradients_with(&function, "loss", &["w"], &options).unwrap();
    let pairs: BTreeMap<&str, &str> = with.in_place().into_iter().collect();
    assert_eq!(pairs, BTreeMap::from([("step_next", "step"), ("w_grad_next", "w_grad")]));
    let half = |v: &[f64]| Tensor::from_f64(DType::F16, &[2], v);
    let inputs = BTreeMap::from([
        ("w".to_owned(), half(&[1.0, -3.0])),
        ("w_grad".to_owned(), half(&[0.5, 0.25])),
        ("step".to_owned(), Tensor::from_slice(&[1], &[4.0f32])),
        ("scale".to_owned(), Tensor::from_slice(&[1], &[8.0f32])),
    ]);
    let results = run(&with, &inputs);
    assert_eq!(results["w_grad_next"], half(&[16.5, -47.75]));
    assert_eq!(results["loss"].to_f64_vec(), [10.0], "the loss itself is not scaled");
}

#[test]
fn refusals_say_where() {
    let scatter = function_of(&[3], |b, x| {
        let indices = b.ints(&[1]);
        let updates = b.fill(DType::F64, &[1], 2.0);
        let mode = ScatterMode::Mul;
        b.push(&Op::Scatter { data: x, indices, updates, axis: 0, mode })
    });
    let error = gradients(&scatter, "loss", &["x"]).unwrap_err();
    assert_eq!(error.kind(), CompileErrorKind::NotSupported);
    assert_eq!((error.function(), error.op()), ("main", Some("scatter")));

    let along = function_of(&[3], |b, x| {
        let indices = b.ints(&[1]);
        let updates = b.fill(DType::F64, &[1], 2.0);
        let mode = ScatterMode::Max;
        b.push(&Op::ScatterAlongAxis { data: x, indices, updates, axis: 0, mode })
    });
    let error = gradients(&along, "loss", &["x"]).unwrap_err();
    assert_eq!(error.op(), Some("scatter_along_axis"));

    let conv = function_of(&[1, 2, 4, 4], |b, x| {
        let weight = b.fill(DType::F64, &[2, 2, 3, 3], 2.0);
        b.push(&Op::Conv {
            x,
            weight,
            bias: None,
            strides: vec![1, 1],
            pads: vec![(0, 0), (0, 0)],
            dilations: vec![1, 1],
            groups: 1,
        })
    });
    let error = gradients(&conv, "loss", &["x"]).unwrap_err();
    assert_eq!((error.kind(), error.op()), (CompileErrorKind::NotSupported, Some("conv")));
    assert!(error.to_string().contains("[2, 2, 3, 3]"), "{error}");

    let square = function_of(&[3], |b, x| b.unary(Unary::Square, x));
    let kind = |loss, parameter| gradients(&square, loss, &[parameter]).unwrap_err().kind();
    assert_eq!(kind("x", "x"), CompileErrorKind::UnknownValue);
    assert_eq!(kind("loss", "loss"), CompileErrorKind::UnknownValue);
    let twice = gradients(&square, "loss", &["x", "x"]).unwrap_err();
    assert_eq!(twice.kind(), CompileErrorKind::NameTaken);
    let taken = GradientOptions { loss_scale: Some("x"), accumulate: false };
    let error = gradients_with(&square, "loss", &["x"], &taken).unwrap_err();
    assert_eq!((error.kind(), error.value()), (CompileErrorKind::NameTaken, Some("x")));

    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F32, &[2]));
    let i = b.input("i", TensorType::new(DType::I32, &[2]));
    let loss = b.unary(Unary::Square, x);
    b.rename(loss, "loss");
    let function = b.finish(&[loss, i]);
    let kind = |p| gradients(&function, "loss", &[p]).unwrap_err().kind();
    assert_eq!(kind("x"), CompileErrorKind::WrongType, "two losses");
    assert_eq!(gradients(&function, "i", &["i"]).unwrap_err().kind(), CompileErrorKind::WrongType);
}

#[test]
fn what_went_through_a_state_is_refused() {
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F16, &[1]));
    let state = b.state("memory", TensorType::new(DType::F16, &[1]));
    b.push_all(&Op::WriteState { state, data: x }, 0);
    let read = b.push(&Op::ReadState { state });
    let loss = b.unary(Unary::Square, read);
    b.rename(loss, "loss");
    let function = b.finish(&[loss]);
    assert!(matches!(function.ty(state), Type::State(_)));
    let error = gradients(&function, "loss", &["x"]).unwrap_err();
    assert_eq!(
        (error.kind(), error.op()),
        (CompileErrorKind::NotDifferentiable, Some("read_state"))
    );
}
