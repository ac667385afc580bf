//! Functions by table: straight lines between 33 samples.

use crate::number::{power_of_two, round_to_f16};
use orion_device::{ActivationTable, EXP2, GELU, RECIPROCAL, SIGMOID, SILU, TANH};
use orion_mil::op::Unary;
use orion_tensor::f16;

/// An activation by its table, rounded to fp16.
pub(crate) fn lookup(table: &ActivationTable, x: f32) -> f32 {
    let number = |i: usize| f16::from_bits(table.bits[i]).to_f32();
    if table.odd && x < 0.0 {
        return -lookup(table, -x);
    }
    if x < number(0) {
        return number(2);
    }
    if x >= number(1) {
        return number(3);
    }
    let position = (x - table.start) / table.step;
    let value = if position < 0.0 {
        number(37) * x + number(38)
    } else if position >= 32.0 {
        number(39) * x + number(40)
    } else {
        between(&table.bits[4..37], position)
    };
    round_to_f16(value)
}

fn between(samples: &[u16], position: f32) -> f32 {
    let i = (position as usize).min(31);
    let sample = |i: usize| f16::from_bits(samples[i]).to_f32();
    sample(i) + (position - i as f32) * (sample(i + 1) - sample(i))
}

/// `2^x` from the table of `2^(i/32)`: zero below -25.
pub(crate) fn exp2(x: f32) -> f32 {
    if x < -25.0 {
        return 0.0;
    }
    if x >= 16.0 {
        return f32::INFINITY;
    }
    let whole = x.floor();
    round_to_f16(between(&EXP2, (x - whole) * 32.0) * power_of_two(whole as i32))
}

/// `1 / x` from the table of `2 / m`.
pub(crate) fn reciprocal(x: f32) -> f32 {
    if x == 0.0 || !x.is_finite() {
        return 1.0 / x;
    }
    let exponent = x.abs().log2().floor() as i32;
    let mantissa = x.abs() / power_of_two(exponent);
    let value = between(&RECIPROCAL, (mantissa - 1.0) * 32.0) * power_of_two(-exponent - 1);
    round_to_f16(value.copysign(x))
}

/// The functions that are known to go by tables, and values that are known to come out
/// otherwise. `None` for others.
pub(crate) fn unary(kind: Unary, x: f32) -> Option<f32> {
    Some(match kind {
        Unary::Sigmoid => lookup(&SIGMOID, x),
        Unary::Tanh => lookup(&TANH, x),
        // One table for every mode.
        Unary::Gelu(_) => lookup(&GELU, x),
        Unary::Silu => lookup(&SILU, x),
        Unary::Exp => exp2(x * std::f32::consts::LOG2_E),
        Unary::Exp2 => exp2(x),
        Unary::Inverse { epsilon } => reciprocal(round_to_f16(x + epsilon as f32)),
        Unary::Log { .. } | Unary::Softplus | Unary::Cos if x == f32::INFINITY => 0.0,
        // One half is added and the rest cut off.
        Unary::Round => round_to_f16(round_to_f16(x.abs() + 0.5).floor().copysign(x)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_mil::op::GeluMode;

    /// The largest distance from a function over fp16 numbers of a range.
    fn error(kind: Unary, f: impl Fn(f64) -> f64) -> f64 {
        let numbers = (0..=u16::MAX).map(|b| f16::from_bits(b).to_f32()).filter(|x| x.abs() < 20.0);
        let distance = |x: f32| (f64::from(unary(kind, x).unwrap()) - f(f64::from(x))).abs();
        numbers.map(distance).fold(0.0, f64::max)
    }

    #[test]
    fn errors_are_those_of_the_hardware() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let erf = |x: f64| {
            // Enough terms of the series for |x| < 6; one beyond.
            if x.abs() > 5.0 {
                return x.signum();
            }
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        };
        // Measured: sigmoid 3.1e-3 to 3.4e-3, tanh 1.4e-3 to 2e-3, gelu 6.2e-3, silu 1.5e-2.
        let near =
            |error: f64, low: f64, high: f64| assert!((low..high).contains(&error), "{error}");
        near(error(Unary::Sigmoid, sigmoid), 2.9e-3, 3.5e-3);
        near(error(Unary::Tanh, f64::tanh), 1.2e-3, 2.1e-3);
        near(
            error(Unary::Gelu(GeluMode::Exact), |x| x / 2.0 * (1.0 + erf(x / 2f64.sqrt()))),
            5.9e-3,
            6.5e-3,
        );
        near(error(Unary::Silu, |x| x * sigmoid(x)), 1.4e-2, 1.6e-2);
    }

    #[test]
    fn published_values() {
        let at = |kind, x| unary(kind, x).unwrap();
        assert!((at(Unary::Gelu(GeluMode::Exact), 0.0) + 0.000754).abs() < 1e-6);
        for x in [-3.0, 0.3, 2.0] {
            assert_eq!(at(Unary::Gelu(GeluMode::Exact), x), at(Unary::Gelu(GeluMode::Tanh), x));
        }
        assert_eq!((at(Unary::Tanh, 4.0), at(Unary::Tanh, -4.0)), (1.0, -1.0));
        assert_eq!(at(Unary::Log { epsilon: 0.0 }, f32::INFINITY), 0.0);
        assert_eq!(at(Unary::Softplus, f32::INFINITY), 0.0);
        assert_eq!(at(Unary::Cos, f32::INFINITY), 0.0);
        assert_eq!(
            (at(Unary::Round, 2.5), at(Unary::Round, -2.5), at(Unary::Round, 2.4)),
            (3.0, -3.0, 2.0)
        );
        // From 1024 on a half is lost or gained: 1025 + 0.5 rounds up.
        assert_eq!(at(Unary::Round, 1025.0), 1026.0);
    }

    #[test]
    fn exponentials_end_at_minus_25() {
        assert_eq!(exp2(-25.1), 0.0);
        assert!(exp2(-24.0) > 0.0);
        assert_eq!((exp2(0.0), exp2(3.0), exp2(-1.0)), (1.0, 8.0, 0.5));
        assert_eq!(exp2(16.0), f32::INFINITY);
        // At most 13.5 units in the last place.
        for x in [0.37, 1.0, 1.5, 3.0, 1000.0] {
            assert!((reciprocal(x) * x - 1.0).abs() < 13.5 / 1024.0, "{x}");
        }
    }
}
