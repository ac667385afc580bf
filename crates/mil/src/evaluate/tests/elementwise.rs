use super::*;
use crate::op::{Binary, GeluMode, Unary};
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};

fn unary(kind: Unary, x: &[f64], expected: &[f64]) {
    let op = |v: &[ValueId]| Op::Unary { kind, x: v[0] };
    check(op, &[floats(&[x.len()], x)], &[floats(&[x.len()], expected)]);
}

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

#[test]
fn functions_of_one_number() {
    unary(Unary::Abs, &[-2.0, 0.0, NAN], &[2.0, 0.0, NAN]);
    unary(Unary::Acos, &[1.0, 0.0, 2.0], &[0.0, FRAC_PI_2, NAN]);
    unary(Unary::Asin, &[0.0, 1.0], &[0.0, FRAC_PI_2]);
    unary(Unary::Atan, &[1.0, -INF], &[FRAC_PI_4, -FRAC_PI_2]);
    unary(Unary::Atanh, &[0.5, 0.0], &[0.5493061443340549, 0.0]);
    unary(Unary::Ceil, &[1.2, -1.2], &[2.0, -1.0]);
    unary(Unary::Clip { low: -1.0, high: 2.0 }, &[-3.0, 0.5, 9.0, NAN], &[-1.0, 0.5, 2.0, NAN]);
    unary(Unary::Cos, &[0.0, 1.0], &[1.0, 0.5403023058681398]);
    unary(Unary::Cosh, &[0.0, 1.0], &[1.0, 1.543080634815244]);
    unary(Unary::Elu { alpha: 2.0 }, &[3.0, -1.0, -1e-6], &[3.0, -1.2642411176571153, -2e-6]);
    unary(Unary::Exp, &[0.0, 1.0, -INF], &[1.0, std::f64::consts::E, 0.0]);
    unary(Unary::Exp2, &[3.0, -1.0, 0.5], &[8.0, 0.5, std::f64::consts::SQRT_2]);
    unary(Unary::Floor, &[1.2, -1.2], &[1.0, -2.0]);
    unary(Unary::Inverse { epsilon: 0.5 }, &[0.0, 1.5], &[2.0, 0.5]);
    unary(Unary::LeakyRelu { alpha: 0.1 }, &[2.0, -2.0], &[2.0, -0.2]);
    unary(Unary::LinearActivation { alpha: 2.0, beta: 1.0 }, &[3.0, -1.0], &[7.0, -1.0]);
    unary(Unary::Log { epsilon: 1.0 }, &[0.0, 1.718281828459045, -1.0], &[0.0, 1.0, -INF]);
    unary(Unary::Relu, &[-1.0, 2.0, NAN], &[0.0, 2.0, NAN]);
    unary(Unary::Relu6, &[-1.0, 2.0, 9.0], &[0.0, 2.0, 6.0]);
    unary(Unary::Round, &[0.5, 1.5, -2.5, 2.6], &[0.0, 2.0, -2.0, 3.0]);
    unary(Unary::Rsqrt { epsilon: 1.0 }, &[3.0, 0.0], &[0.5, 1.0]);
    unary(Unary::ScaledTanh { alpha: 2.0, beta: 0.5 }, &[1.0], &[0.9242343145200195]);
    unary(Unary::Sigmoid, &[0.0, 2.0, -800.0], &[0.5, 0.8807970779778823, 0.0]);
    unary(
        Unary::SigmoidHard { alpha: 0.2, beta: 0.5 },
        &[-9.0, 0.0, 1.0, 9.0],
        &[0.0, 0.5, 0.7, 1.0],
    );
    unary(Unary::Sign, &[-3.0, 0.0, 2.0, NAN], &[-1.0, 0.0, 1.0, NAN]);
    unary(Unary::Silu, &[0.0, 1.0, -1.0], &[0.0, 0.7310585786300049, -0.2689414213699951]);
    unary(Unary::Sin, &[0.0, 1.0], &[0.0, 0.8414709848078965]);
    unary(Unary::Sinh, &[0.0, 1.0], &[0.0, 1.1752011936438014]);
    unary(
        Unary::Softplus,
        &[0.0, 1000.0, -30.0],
        &[std::f64::consts::LN_2, 1000.0, 9.357622968839299e-14],
    );
    unary(Unary::Softsign, &[1.0, -3.0], &[0.5, -0.75]);
    unary(Unary::Sqrt, &[9.0, -1.0], &[3.0, NAN]);
    unary(Unary::Square, &[-3.0], &[9.0]);
    unary(Unary::Tan, &[1.0], &[1.557407724654902]);
    unary(Unary::Tanh, &[1.0, -INF], &[0.7615941559557649, -1.0]);
    unary(Unary::Threshold { alpha: 1.0 }, &[0.5, 2.0, NAN], &[1.0, 2.0, NAN]);
    unary(Unary::ThresholdedRelu { alpha: 1.0 }, &[0.5, 1.0, 2.0], &[0.0, 1.0, 2.0]);
}

/// Abramowitz and Stegun, table 7.1, and erfc's tail by way of the exact GELU.
#[test]
fn error_function() {
    unary(
        Unary::Erf,
        &[0.0, 0.5, 1.0, 2.0, -1.0, 9.0],
        &[0.0, 0.520499877813047, 0.842700792949715, 0.995322265018953, -0.842700792949715, 1.0],
    );
    unary(
        Unary::Gelu(GeluMode::Exact),
        &[0.0, 1.0, -1.0, -8.0],
        &[0.0, 0.8413447460685429, -0.15865525393145707, -4.976769714463026e-15],
    );
    unary(
        Unary::Gelu(GeluMode::Tanh),
        &[0.0, 1.0, -1.0],
        &[0.0, 0.8411919906082768, -0.15880800939172324],
    );
    unary(Unary::Gelu(GeluMode::Sigmoid), &[1.0, -1.0], &[0.8457957659328212, -0.1542042340671788]);
}

#[test]
fn integers_and_bools_of_one_operand() {
    let op = |kind| move |v: &[ValueId]| Op::Unary { kind, x: v[0] };
    check(op(Unary::Abs), &[ints(&[2], &[-2, 3])], &[ints(&[2], &[2, 3])]);
    check(op(Unary::Sign), &[ints(&[3], &[-2, 0, 3])], &[ints(&[3], &[-1, 0, 1])]);
    // 65537² = 2^32 + 2^17 + 1 wraps.
    check(op(Unary::Square), &[ints(&[2], &[-3, 65537])], &[ints(&[2], &[9, 131_073])]);
    check(op(Unary::LogicalNot), &[bools(&[2], &[0, 1])], &[bools(&[2], &[1, 0])]);
}

#[test]
fn half_precision_is_rounded_once() {
    // 1 + 2^-11 is a tie in fp16; squared in f64 it is above the tie.
    let x = halves(&[1], &[1.0 + 1.0 / 1024.0]);
    let exact = (1.0f64 + 1.0 / 1024.0).powi(2);
    let op = |v: &[ValueId]| Op::Unary { kind: Unary::Square, x: v[0] };
    let y = run(op, &[x]).unwrap();
    assert_eq!(y[0], halves(&[1], &[exact]));
    assert_eq!(y[0].to_f64_vec(), [1.0 + 2.0 / 1024.0]);
}

#[test]
fn casts() {
    let cast = |dtype| move |v: &[ValueId]| Op::Cast { x: v[0], dtype };
    let x = floats(&[4], &[-1.7, 2.5, 0.0, 3e9]);
    check(cast(DType::I32), std::slice::from_ref(&x), &[ints(&[4], &[-1, 2, 0, i32::MAX])]);
    check(cast(DType::Bool), std::slice::from_ref(&x), &[bools(&[4], &[1, 1, 0, 1])]);
    check(cast(DType::F16), &[floats(&[2], &[2049.0, 1e6])], &[halves(&[2], &[2048.0, INF])]);
    check(
        cast(DType::F32),
        &[ints(&[2], &[-3, 16_777_217])],
        &[floats(&[2], &[-3.0, 16_777_216.0])],
    );
    check(cast(DType::F32), &[bools(&[2], &[1, 0])], &[floats(&[2], &[1.0, 0.0])]);
    check(
        cast(DType::I8),
        &[ints(&[2], &[200, -3])],
        &[Tensor::from_slice::<i8>(&[2], &[-56, -3])],
    );
}

#[test]
fn identity_keeps_the_bits() {
    let x = Tensor::from_slice(&[2], &[f32::from_bits(0x7fc0_0001), -0.0]);
    let y = run(|v| Op::Identity { x: v[0] }, std::slice::from_ref(&x)).unwrap();
    assert_eq!(y[0].bytes(), x.bytes());
}

fn binary(kind: Binary, x: &Tensor, y: &Tensor, expected: &Tensor) {
    let op = |v: &[ValueId]| Op::Binary { kind, x: v[0], y: v[1] };
    check(op, &[x.clone(), y.clone()], std::slice::from_ref(expected));
}

#[test]
fn floats_of_two_operands() {
    let x = floats(&[4], &[7.0, -7.0, 7.0, -7.0]);
    let y = floats(&[4], &[2.0, 2.0, -2.0, -2.0]);
    let is = |kind, expected: &[f64]| binary(kind, &x, &y, &floats(&[4], expected));
    is(Binary::Add, &[9.0, -5.0, 5.0, -9.0]);
    is(Binary::Sub, &[5.0, -9.0, 9.0, -5.0]);
    is(Binary::Mul, &[14.0, -14.0, -14.0, 14.0]);
    is(Binary::RealDiv, &[3.5, -3.5, -3.5, 3.5]);
    is(Binary::FloorDiv, &[3.0, -4.0, -4.0, 3.0]);
    is(Binary::Mod, &[1.0, 1.0, -1.0, -1.0]);
    is(Binary::Pow, &[49.0, 49.0, 1.0 / 49.0, 1.0 / 49.0]);
    is(Binary::Maximum, &[7.0, 2.0, 7.0, -2.0]);
    is(Binary::Minimum, &[2.0, -7.0, -2.0, -7.0]);
    let zero = floats(&[1], &[0.0]);
    binary(
        Binary::RealDiv,
        &floats(&[3], &[1.0, -1.0, 0.0]),
        &zero,
        &floats(&[3], &[INF, -INF, NAN]),
    );
}

#[test]
fn integers_of_two_operands() {
    let x = ints(&[4], &[7, -7, 7, -7]);
    let y = ints(&[4], &[2, 2, -2, -2]);
    let is = |kind, expected: &[i32]| binary(kind, &x, &y, &ints(&[4], expected));
    is(Binary::RealDiv, &[3, -3, -3, 3]);
    is(Binary::FloorDiv, &[3, -4, -4, 3]);
    is(Binary::Mod, &[1, 1, -1, -1]);
    is(Binary::Pow, &[49, 49, 0, 0]);
    is(Binary::Maximum, &[7, 2, 7, -2]);
    is(Binary::Minimum, &[2, -7, -2, -7]);
    let large = ints(&[1], &[i32::MAX]);
    binary(Binary::Add, &large, &ints(&[1], &[1]), &ints(&[1], &[i32::MIN]));
    binary(Binary::Mul, &large, &large, &ints(&[1], &[1]));
    binary(
        Binary::Pow,
        &ints(&[3], &[-1, -1, 1]),
        &ints(&[3], &[-3, -2, -9]),
        &ints(&[3], &[-1, 1, 1]),
    );
}

#[test]
fn integer_division_by_zero_names_the_position() {
    let x = ints(&[2, 2], &[1, 2, 3, 4]);
    let y = ints(&[2, 2], &[1, 1, 0, 1]);
    for kind in [Binary::RealDiv, Binary::FloorDiv, Binary::Mod] {
        let op = |v: &[ValueId]| Op::Binary { kind, x: v[0], y: v[1] };
        let error = run(op, &[x.clone(), y.clone()]).unwrap_err();
        assert_eq!(error, "division by zero at [1, 0]");
    }
}

#[test]
fn comparisons() {
    let x = floats(&[4], &[1.0, 2.0, 3.0, NAN]);
    let y = floats(&[4], &[2.0, 2.0, 2.0, NAN]);
    let is = |kind, expected: &[u8]| binary(kind, &x, &y, &bools(&[4], expected));
    is(Binary::Equal, &[0, 1, 0, 0]);
    is(Binary::NotEqual, &[1, 0, 1, 1]);
    is(Binary::Greater, &[0, 0, 1, 0]);
    is(Binary::GreaterEqual, &[0, 1, 1, 0]);
    is(Binary::Less, &[1, 0, 0, 0]);
    is(Binary::LessEqual, &[1, 1, 0, 0]);
    let large = ints(&[2], &[16_777_216, 16_777_217]);
    binary(Binary::Equal, &large, &ints(&[1], &[16_777_217]), &bools(&[2], &[0, 1]));
}

#[test]
fn logic() {
    let x = bools(&[4], &[0, 0, 1, 1]);
    let y = bools(&[4], &[0, 1, 0, 1]);
    let is = |kind, expected: &[u8]| binary(kind, &x, &y, &bools(&[4], expected));
    is(Binary::LogicalAnd, &[0, 0, 0, 1]);
    is(Binary::LogicalOr, &[0, 1, 1, 1]);
    is(Binary::LogicalXor, &[0, 1, 1, 0]);
}

#[test]
fn nan_is_the_larger_and_the_smaller() {
    let x = floats(&[2], &[NAN, 1.0]);
    let y = floats(&[2], &[1.0, NAN]);
    binary(Binary::Maximum, &x, &y, &floats(&[2], &[NAN, NAN]));
    binary(Binary::Minimum, &x, &y, &floats(&[2], &[NAN, NAN]));
}

#[test]
fn broadcasting() {
    let column = floats(&[2, 1], &[10.0, 20.0]);
    let row = floats(&[3], &[1.0, 2.0, 3.0]);
    let sums = floats(&[2, 3], &[11.0, 12.0, 13.0, 21.0, 22.0, 23.0]);
    binary(Binary::Add, &column, &row, &sums);
    binary(Binary::Add, &row, &column, &sums);
    binary(
        Binary::Sub,
        &floats(&[], &[1.0]),
        &floats(&[1, 2], &[3.0, 4.0]),
        &floats(&[1, 2], &[-2.0, -3.0]),
    );
}

#[test]
fn select_broadcasts_all_three() {
    check(
        |v| Op::Select { cond: v[0], a: v[1], b: v[2] },
        &[bools(&[2, 1], &[1, 0]), floats(&[3], &[1.0, 2.0, 3.0]), floats(&[], &[9.0])],
        &[floats(&[2, 3], &[1.0, 2.0, 3.0, 9.0, 9.0, 9.0])],
    );
    check(
        |v| Op::Select { cond: v[0], a: v[1], b: v[2] },
        &[bools(&[2], &[0, 1]), ints(&[2], &[1, 2]), ints(&[2], &[3, 4])],
        &[ints(&[2], &[3, 2])],
    );
}
