//! Elementwise ops, with broadcasting.

use super::movement::take;
use super::numbers::{Numbers, larger, smaller};
use super::offsets::broadcast;
use crate::op::{Binary, GeluMode, Unary};
use orion_tensor::{Tensor, row_major_strides};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

pub(super) fn unary(kind: Unary, x: Numbers) -> Numbers {
    match (kind, x) {
        (Unary::LogicalNot, Numbers::Int(x)) => {
            Numbers::Int(x.into_iter().map(|x| i128::from(x == 0)).collect())
        }
        // Exact where f64 would round.
        (Unary::Abs, Numbers::Int(x)) => Numbers::Int(x.into_iter().map(i128::abs).collect()),
        (Unary::Sign, Numbers::Int(x)) => Numbers::Int(x.into_iter().map(i128::signum).collect()),
        (Unary::Square, Numbers::Int(x)) => {
            Numbers::Int(x.into_iter().map(|x| x.wrapping_mul(x)).collect())
        }
        (Unary::Relu, Numbers::Int(x)) => Numbers::Int(x.into_iter().map(|x| x.max(0)).collect()),
        (kind, x) => {
            Numbers::Float(x.into_floats().into_iter().map(|x| function(kind, x)).collect())
        }
    }
}

fn function(kind: Unary, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + libm::exp(-x));
    let clip = |x: f64, low: f64, high: f64| smaller(larger(x, low), high);
    match kind {
        Unary::Abs => x.abs(),
        Unary::Acos => libm::acos(x),
        Unary::Asin => libm::asin(x),
        Unary::Atan => libm::atan(x),
        Unary::Atanh => libm::atanh(x),
        Unary::Ceil => x.ceil(),
        Unary::Clip { low, high } => clip(x, low, high),
        Unary::Cos => libm::cos(x),
        Unary::Cosh => libm::cosh(x),
        Unary::Elu { .. } if x > 0.0 => x,
        Unary::Elu { alpha } => alpha * libm::expm1(x),
        Unary::Erf => libm::erf(x),
        Unary::Exp => libm::exp(x),
        Unary::Exp2 => libm::exp2(x),
        Unary::Floor => x.floor(),
        // 1 + erf(z) is erfc(-z), without the cancellation for negative x.
        Unary::Gelu(GeluMode::Exact) => 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2),
        Unary::Gelu(GeluMode::Tanh) => {
            let inner = (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + libm::tanh(inner))
        }
        Unary::Gelu(GeluMode::Sigmoid) => x * sigmoid(1.702 * x),
        Unary::Inverse { epsilon } => 1.0 / (x + epsilon),
        Unary::LeakyRelu { alpha } => {
            if x > 0.0 {
                x
            } else {
                alpha * x
            }
        }
        Unary::LinearActivation { alpha, beta } => alpha * x + beta,
        Unary::Log { epsilon } => libm::log(x + epsilon),
        Unary::LogicalNot => f64::from(u8::from(x == 0.0)),
        Unary::Relu => larger(x, 0.0),
        Unary::Relu6 => clip(x, 0.0, 6.0),
        Unary::Round => x.round_ties_even(),
        Unary::Rsqrt { epsilon } => 1.0 / (x + epsilon).sqrt(),
        Unary::ScaledTanh { alpha, beta } => alpha * libm::tanh(beta * x),
        Unary::Sigmoid => sigmoid(x),
        Unary::SigmoidHard { alpha, beta } => clip(alpha * x + beta, 0.0, 1.0),
        Unary::Sign if x.is_nan() || x == 0.0 => x,
        Unary::Sign => x.signum(),
        Unary::Silu => x / (1.0 + libm::exp(-x)),
        Unary::Sin => libm::sin(x),
        Unary::Sinh => libm::sinh(x),
        // The same without overflow of the exponential.
        Unary::Softplus => larger(x, 0.0) + libm::log1p(libm::exp(-x.abs())),
        Unary::Softsign => x / (1.0 + x.abs()),
        Unary::Sqrt => x.sqrt(),
        Unary::Square => x * x,
        Unary::Tan => libm::tan(x),
        Unary::Tanh => libm::tanh(x),
        Unary::Threshold { alpha } => larger(x, alpha),
        Unary::ThresholdedRelu { alpha } => {
            if x >= alpha {
                x
            } else {
                0.0
            }
        }
    }
}

pub(super) fn binary(
    kind: Binary,
    x: &Tensor,
    y: &Tensor,
    shape: &[usize],
) -> Result<Numbers, String> {
    let pairs = broadcast(x.shape(), shape).into_iter().zip(broadcast(y.shape(), shape));
    match (Numbers::of(x), Numbers::of(y)) {
        (Numbers::Int(x), Numbers::Int(y)) => pairs
            .enumerate()
            .map(|(at, (i, j))| {
                integer_function(kind, x[i], y[j])
                    .ok_or_else(|| format!("division by zero at {:?}", position(at, shape)))
            })
            .collect::<Result<_, _>>()
            .map(Numbers::Int),
        (x, y) => {
            let (x, y) = (x.into_floats(), y.into_floats());
            Ok(Numbers::Float(pairs.map(|(i, j)| float_function(kind, x[i], y[j])).collect()))
        }
    }
}

fn float_function(kind: Binary, x: f64, y: f64) -> f64 {
    let bool = |b: bool| f64::from(u8::from(b));
    match kind {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::RealDiv => x / y,
        Binary::FloorDiv => (x / y).floor(),
        Binary::Mod => {
            // Exact, unlike the formula: the remainder has the sign of y.
            let remainder = libm::fmod(x, y);
            if remainder != 0.0 && (remainder < 0.0) != (y < 0.0) {
                remainder + y
            } else {
                remainder
            }
        }
        Binary::Pow => libm::pow(x, y),
        Binary::Maximum => larger(x, y),
        Binary::Minimum => smaller(x, y),
        Binary::Equal => bool(x == y),
        Binary::NotEqual => bool(x != y),
        Binary::Greater => bool(x > y),
        Binary::GreaterEqual => bool(x >= y),
        Binary::Less => bool(x < y),
        Binary::LessEqual => bool(x <= y),
        Binary::LogicalAnd => bool(x != 0.0 && y != 0.0),
        Binary::LogicalOr => bool(x != 0.0 || y != 0.0),
        Binary::LogicalXor => bool((x != 0.0) != (y != 0.0)),
    }
}

/// `None` for a division by zero.
fn integer_function(kind: Binary, x: i128, y: i128) -> Option<i128> {
    let bool = |b: bool| i128::from(b);
    Some(match kind {
        Binary::Add => x.wrapping_add(y),
        Binary::Sub => x.wrapping_sub(y),
        Binary::Mul => x.wrapping_mul(y),
        Binary::RealDiv => x.checked_div(y)?,
        Binary::FloorDiv => {
            let quotient = x.checked_div(y)?;
            if x % y != 0 && (x < 0) != (y < 0) { quotient - 1 } else { quotient }
        }
        Binary::Mod => {
            let remainder = x.checked_rem(y)?;
            if remainder != 0 && (remainder < 0) != (y < 0) { remainder + y } else { remainder }
        }
        Binary::Pow => integer_power(x, y)?,
        Binary::Maximum => x.max(y),
        Binary::Minimum => x.min(y),
        Binary::Equal => bool(x == y),
        Binary::NotEqual => bool(x != y),
        Binary::Greater => bool(x > y),
        Binary::GreaterEqual => bool(x >= y),
        Binary::Less => bool(x < y),
        Binary::LessEqual => bool(x <= y),
        Binary::LogicalAnd => bool(x != 0 && y != 0),
        Binary::LogicalOr => bool(x != 0 || y != 0),
        Binary::LogicalXor => bool((x != 0) != (y != 0)),
    })
}

/// Wraps; a negative exponent gives the reciprocal truncated towards zero, `None` for 1 / 0.
fn integer_power(x: i128, y: i128) -> Option<i128> {
    match (x, y) {
        (0, ..0) => None,
        (1, ..0) => Some(1),
        (-1, ..0) => Some(if y % 2 == 0 { 1 } else { -1 }),
        (_, ..0) => Some(0),
        _ => {
            let (mut result, mut square, mut exponent) = (1i128, x, y);
            while exponent > 0 {
                if exponent % 2 == 1 {
                    result = result.wrapping_mul(square);
                }
                square = square.wrapping_mul(square);
                exponent /= 2;
            }
            Some(result)
        }
    }
}

pub(super) fn select(cond: &Tensor, a: &Tensor, b: &Tensor, shape: &[usize]) -> Tensor {
    // Offsets into `a` and then `b`, so that the chosen element keeps its bits.
    let both = [a.bytes().as_ref(), b.bytes().as_ref()].concat();
    let count = a.element_count() + b.element_count();
    let bytes = orion_tensor::Bytes::new(both);
    let both = Tensor::new(a.dtype(), vec![count], bytes).expect("a and b have one type");
    let from_a = broadcast(a.shape(), shape);
    let from_b = broadcast(b.shape(), shape);
    let conditions = broadcast(cond.shape(), shape);
    let chosen = conditions.into_iter().zip(from_a).zip(from_b).map(|((c, a_at), b_at)| {
        if cond.bytes()[c] != 0 { a_at } else { a.element_count() + b_at }
    });
    take(&both, shape, chosen)
}

/// The position of a row-major offset.
pub(super) fn position(offset: usize, shape: &[usize]) -> Vec<usize> {
    row_major_strides(shape)
        .iter()
        .zip(shape)
        .map(|(stride, size)| offset / stride % size)
        .collect()
}
