use super::{FLOATS, MOVABLE, NUMBERS, elementwise_tolerance};
use crate::case::{Case, case};
use orion_mil::Op;
use orion_mil::op::{Binary, GeluMode, Unary};
use orion_tensor::{DType, Tensor, Tolerance};

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    unary(cases);
    binary(cases);
    conversions(cases);
    selections(cases);
    chains(cases);
    special_values(cases);
}

/// Each function with the range its inputs are drawn from.
fn unary_kinds() -> Vec<(&'static str, Unary, f64, f64)> {
    vec![
        ("abs", Unary::Abs, -3.0, 3.0),
        ("acos", Unary::Acos, -0.9, 0.9),
        ("asin", Unary::Asin, -0.9, 0.9),
        ("atan", Unary::Atan, -5.0, 5.0),
        ("atanh", Unary::Atanh, -0.9, 0.9),
        ("ceil", Unary::Ceil, -5.0, 5.0),
        ("clip", Unary::Clip { low: -0.5, high: 1.25 }, -3.0, 3.0),
        ("cos", Unary::Cos, -4.0, 4.0),
        ("cosh", Unary::Cosh, -4.0, 4.0),
        ("elu", Unary::Elu { alpha: 0.75 }, -4.0, 4.0),
        ("erf", Unary::Erf, -3.0, 3.0),
        ("exp", Unary::Exp, -8.0, 8.0),
        ("exp2", Unary::Exp2, -8.0, 8.0),
        ("floor", Unary::Floor, -5.0, 5.0),
        ("gelu_exact", Unary::Gelu(GeluMode::Exact), -3.0, 3.0),
        ("gelu_tanh", Unary::Gelu(GeluMode::Tanh), -3.0, 3.0),
        ("gelu_sigmoid", Unary::Gelu(GeluMode::Sigmoid), -3.0, 3.0),
        ("inverse", Unary::Inverse { epsilon: 0.125 }, 0.5, 4.0),
        ("leaky_relu", Unary::LeakyRelu { alpha: 0.25 }, -3.0, 3.0),
        ("linear_activation", Unary::LinearActivation { alpha: 1.5, beta: 4.0 }, 0.0, 3.0),
        ("log", Unary::Log { epsilon: 0.125 }, 1.0, 9.0),
        ("relu", Unary::Relu, -3.0, 3.0),
        ("relu6", Unary::Relu6, -9.0, 9.0),
        ("round", Unary::Round, -5.0, 5.0),
        ("rsqrt", Unary::Rsqrt { epsilon: 0.125 }, 0.25, 9.0),
        ("scaled_tanh", Unary::ScaledTanh { alpha: 1.5, beta: 0.5 }, -3.0, 3.0),
        ("sigmoid", Unary::Sigmoid, -9.0, 9.0),
        ("sigmoid_hard", Unary::SigmoidHard { alpha: 0.25, beta: 0.5 }, -3.0, 3.0),
        ("sign", Unary::Sign, -3.0, 3.0),
        ("silu", Unary::Silu, -9.0, 9.0),
        ("sin", Unary::Sin, -4.0, 4.0),
        ("sinh", Unary::Sinh, -4.0, 4.0),
        ("softplus", Unary::Softplus, -9.0, 30.0),
        ("softsign", Unary::Softsign, -3.0, 3.0),
        ("sqrt", Unary::Sqrt, 0.0, 9.0),
        ("square", Unary::Square, -3.0, 3.0),
        ("tan", Unary::Tan, -1.0, 1.0),
        ("tanh", Unary::Tanh, -4.0, 4.0),
        ("threshold", Unary::Threshold { alpha: 0.5 }, -3.0, 3.0),
        ("thresholded_relu", Unary::ThresholdedRelu { alpha: 0.5 }, -3.0, 3.0),
    ]
}

fn unary(cases: &mut Vec<Case>) {
    for (name, kind, low, high) in unary_kinds() {
        for dtype in FLOATS {
            let tolerance = elementwise_tolerance(dtype);
            cases.push(case(format!("unary/{name}/{dtype}"), tolerance, |d| {
                let shapes: [&[usize]; 4] = [&[], &[1], &[3, 5, 7], &[2, 1, 2049]];
                let inputs = shapes.map(|shape| d.within(dtype, shape, low, high));
                inputs.map(|x| d.unary(kind, x)).to_vec()
            }));
        }
    }
    for (name, kind) in [("abs", Unary::Abs), ("sign", Unary::Sign), ("square", Unary::Square)] {
        cases.push(case(format!("unary/{name}/int32"), Tolerance::Exact, |d| {
            let x = d.any(DType::I32, &[5, 13]);
            vec![d.unary(kind, x)]
        }));
    }
    cases.push(case("unary/logical_not", Tolerance::Exact, |d| {
        let x = d.any(DType::Bool, &[5, 13]);
        vec![d.unary(Unary::LogicalNot, x)]
    }));
    cases.push(case("unary/large", Tolerance::Close, |d| {
        let x = d.any(DType::F32, &[3, 100_003]);
        vec![d.unary(Unary::Sigmoid, x)]
    }));
}

/// Pairs of shapes that broadcast, in every way that occurs.
const BROADCASTS: [(&[usize], &[usize]); 11] = [
    (&[], &[]),
    (&[7], &[1]),
    (&[3, 5], &[3, 5]),
    (&[3, 1], &[1, 5]),
    (&[3, 5], &[]),
    (&[], &[3, 5]),
    (&[2, 3, 4], &[4]),
    (&[3, 1], &[2, 3, 4]),
    (&[1, 33, 1, 65], &[1, 33, 1, 1]),
    (&[1, 33, 1, 65], &[1, 1, 1, 65]),
    (&[2, 1, 4, 1], &[1, 3, 1, 5]),
];

fn binary(cases: &mut Vec<Case>) {
    use Binary::*;
    let arithmetic = [Add, Sub, Mul, RealDiv, Maximum, Minimum];
    let integral = [FloorDiv, Mod];
    let comparisons = [Equal, NotEqual, Greater, GreaterEqual, Less, LessEqual];
    for dtype in NUMBERS {
        for kind in arithmetic.into_iter().chain(integral).chain(comparisons).chain([Pow]) {
            // An exact quotient may round to either side of an integer: keep floats away from it.
            if integral.contains(&kind) && dtype.is_float() {
                continue;
            }
            let exact = kind.is_comparison();
            let tolerance = if exact { Tolerance::Exact } else { elementwise_tolerance(dtype) };
            let name = format!("binary/{kind:?}/{dtype}").to_lowercase();
            cases.push(case(name, tolerance, |d| {
                let pairs = BROADCASTS.map(|(x_shape, y_shape)| {
                    let x = match (kind, dtype) {
                        (Pow, DType::I32) => d.within(dtype, x_shape, -3.0, 4.0),
                        (Pow, _) => d.within(dtype, x_shape, 0.25, 4.0),
                        _ => d.any(dtype, x_shape),
                    };
                    let y = match (kind, dtype) {
                        (Pow, DType::I32) => d.within(dtype, y_shape, 0.0, 4.0),
                        (Pow, _) => d.within(dtype, y_shape, -2.0, 2.0),
                        // Not 0, and of both signs where the sign matters.
                        (RealDiv, DType::I32) | (FloorDiv | Mod, _) => {
                            let content = d.random.tensor(dtype, y_shape, |random| {
                                let size = 1.0 + random.below(4) as f64;
                                if random.one_in(2) { size } else { -size }
                            });
                            d.given(content)
                        }
                        (RealDiv, _) => d.within(dtype, y_shape, 0.5, 2.0),
                        _ => d.any(dtype, y_shape),
                    };
                    (x, y)
                });
                pairs.map(|(x, y)| d.binary(kind, x, y)).to_vec()
            }));
        }
    }
    for (name, kind) in [("floordiv", FloorDiv), ("mod", Mod)] {
        cases.push(case(format!("binary/{name}/fp32"), Tolerance::Close, |d| {
            let x = d.within(DType::F32, &[1, 33, 5], -40.0, 40.0);
            // Whole and half numbers as divisors make quotients that no rounding moves across an
            // integer.
            let content = d.random.tensor(DType::F32, &[33, 1], |random| {
                let size = 0.5 + random.below(6) as f64 / 2.0;
                if random.one_in(2) { size } else { -size }
            });
            let y = d.given(content);
            vec![d.binary(kind, x, y)]
        }));
    }
    for kind in [LogicalAnd, LogicalOr, LogicalXor] {
        let name = format!("binary/{kind:?}").to_lowercase();
        cases.push(case(name, Tolerance::Exact, |d| {
            let pairs = BROADCASTS.map(|(a, b)| (d.any(DType::Bool, a), d.any(DType::Bool, b)));
            pairs.map(|(x, y)| d.binary(kind, x, y)).to_vec()
        }));
    }
    cases.push(case("binary/same operand twice", Tolerance::Close, |d| {
        let x = d.any(DType::F32, &[37]);
        let square = d.mul(x, x);
        let zero = d.sub(x, x);
        vec![square, zero]
    }));
    cases.push(case("binary/large", Tolerance::Close, |d| {
        let x = d.any(DType::F32, &[1, 257, 1, 1023]);
        let y = d.any(DType::F32, &[1, 257, 1, 1]);
        let z = d.any(DType::F32, &[1023]);
        let sum = d.add(x, y);
        vec![d.mul(sum, z)]
    }));
}

fn conversions(cases: &mut Vec<Case>) {
    let types = [DType::F32, DType::F16, DType::I32, DType::Bool, DType::I8, DType::U8, DType::I16];
    for from in types {
        cases.push(case(format!("cast/{from}"), Tolerance::Exact, |d| {
            let x = match from {
                DType::F32 | DType::F16 => d.within(from, &[3, 67], -100.0, 100.0),
                _ => d.any(from, &[3, 67]),
            };
            // Floats below zero have no unsigned value that everybody agrees on.
            let to = types.into_iter().filter(|to| !(from.is_float() && *to == DType::U8));
            to.filter(|to| *to != from).map(|dtype| d.push(&Op::Cast { x, dtype })).collect()
        }));
    }
    cases.push(case("cast/fp32 ties to even", Tolerance::Exact, |d| {
        let near = [1.0, 2049.0, 2051.0, 65519.0, 65520.0, -65520.0, 6e-8, 2.9e-8, 3.1e-8, 1e-3];
        let x = d.given(Tensor::from_f64(DType::F32, &[near.len()], &near));
        vec![d.cast(x, DType::F16)]
    }));
}

fn selections(cases: &mut Vec<Case>) {
    for dtype in MOVABLE {
        cases.push(case(format!("select/{dtype}"), Tolerance::Exact, |d| {
            let shapes: [[&[usize]; 3]; 5] = [
                [&[3, 5], &[3, 5], &[3, 5]],
                [&[3, 1], &[5], &[]],
                [&[], &[3, 5], &[1, 5]],
                [&[1, 1, 33, 65], &[], &[]],
                [&[7], &[4, 1], &[2, 1, 1]],
            ];
            let operands = shapes
                .map(|[cond, a, b]| (d.any(DType::Bool, cond), d.any(dtype, a), d.any(dtype, b)));
            operands.map(|(cond, a, b)| d.select(cond, a, b)).to_vec()
        }));
    }
}

/// Chains that a device may fuse.
fn chains(cases: &mut Vec<Case>) {
    for (dtype, tolerance) in [(DType::F32, Tolerance::F32Accum), (DType::F16, Tolerance::F16Accum)]
    {
        cases.push(case(format!("chain/gated/{dtype}"), tolerance, |d| {
            let (x, gate) = (d.any(dtype, &[1, 65, 1, 33]), d.any(dtype, &[1, 65, 1, 33]));
            let scale = d.any(dtype, &[1, 65, 1, 1]);
            let activated = d.unary(Unary::Silu, gate);
            let product = d.mul(activated, x);
            let scaled = d.mul(product, scale);
            vec![d.offset(scaled, 0.5)]
        }));
        cases.push(case(format!("chain/every value is a result/{dtype}"), tolerance, |d| {
            let x = d.any(dtype, &[7, 129]);
            let a = d.scale(x, 1.5);
            let b = d.unary(Unary::Tanh, a);
            let c = d.add(b, x);
            let e = d.mul(c, a);
            vec![a, b, c, e]
        }));
        cases.push(case(format!("chain/diamond/{dtype}"), tolerance, |d| {
            let x = d.any(dtype, &[5, 65]);
            let a = d.unary(Unary::Sigmoid, x);
            let (left, right) = (d.scale(a, 2.0), d.offset(a, -0.5));
            let product = d.mul(left, right);
            vec![d.sub(product, a)]
        }));
        cases.push(case(format!("chain/grows by broadcasting/{dtype}"), tolerance, |d| {
            let (row, column) = (d.any(dtype, &[1, 67]), d.any(dtype, &[31, 1]));
            let row = d.unary(Unary::Tanh, row);
            let column = d.scale(column, 0.5);
            let both = d.add(row, column);
            let both = d.unary(Unary::Relu, both);
            let deep = d.any(dtype, &[3, 1, 1]);
            vec![d.mul(both, deep)]
        }));
        cases.push(case(format!("chain/ends in a reduction/{dtype}"), tolerance, |d| {
            let x = d.any(dtype, &[1, 65, 1, 33]);
            let square = d.mul(x, x);
            let shifted = d.offset(square, 1.0);
            let mean = d.reduce(orion_mil::op::Reduction::Mean, shifted, &[1], true);
            vec![d.div(shifted, mean)]
        }));
    }
    cases.push(case("chain/through other types", Tolerance::F16Accum, |d| {
        let x = d.any(DType::F32, &[9, 77]);
        let half = d.cast(x, DType::F16);
        let doubled = d.scale(half, 2.0);
        let back = d.cast(doubled, DType::F32);
        let whole = d.cast(back, DType::I32);
        let positive = d.number(whole, 0.0);
        let positive = d.binary(Binary::Greater, whole, positive);
        let zero = d.number(x, 0.0);
        vec![d.select(positive, back, zero), whole]
    }));
    cases.push(case("chain/long", Tolerance::F32Accum, |d| {
        let mut x = d.any(DType::F32, &[4, 321]);
        let start = x;
        for i in 0..40 {
            let y = d.unary(if i % 2 == 0 { Unary::Tanh } else { Unary::Softsign }, x);
            x = d.add(y, start);
        }
        vec![x]
    }));
}

/// NaN, infinities and zeros keep their rules (see `orion_mil::evaluate`).
fn special_values(cases: &mut Vec<Case>) {
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1.0, -2.0, 1e30, -1e-30];
    let n = values.len();
    let row = Tensor::from_f64(DType::F32, &[n], &values);
    let column = row.reshaped(&[n, 1]);
    for kind in [
        Binary::Add,
        Binary::Mul,
        Binary::Maximum,
        Binary::Minimum,
        Binary::Equal,
        Binary::NotEqual,
        Binary::Less,
        Binary::GreaterEqual,
    ] {
        let name = format!("special/{kind:?}").to_lowercase();
        cases.push(case(name, Tolerance::Close, |d| {
            let (x, y) = (d.given(row.clone()), d.given(column.clone()));
            vec![d.binary(kind, x, y)]
        }));
    }
    let kinds = [
        ("relu", Unary::Relu),
        ("clip", Unary::Clip { low: -1.0, high: 1.0 }),
        ("exp", Unary::Exp),
        ("tanh", Unary::Tanh),
        ("sigmoid", Unary::Sigmoid),
        ("abs", Unary::Abs),
        ("sqrt", Unary::Sqrt),
        ("sign", Unary::Sign),
    ];
    for (name, kind) in kinds {
        cases.push(case(format!("special/{name}"), Tolerance::Close, |d| {
            let x = d.given(row.clone());
            vec![d.unary(kind, x)]
        }));
    }
}
