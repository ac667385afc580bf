//! Elementary functions of f32 that compile to vector code.
//!
//! Branch-free, a few units in the last place from the exact value over the whole range, with
//! the limits at infinities and NaN that the exact function has. Not the last bit: for that the
//! reference device computes in f64.

use super::isa::fma;
use std::f32::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E};

/// Adding and subtracting this rounds numbers below 2²² to integers.
const ROUNDER: f32 = 12_582_912.0;

/// `2ⁿ` of an integer-valued `n` in -126..=127.
#[inline(always)]
fn power_of_two(n: f32) -> f32 {
    f32::from_bits((n + ROUNDER).to_bits().wrapping_shl(23).wrapping_add(0x3f80_0000))
}

/// `eˣ`.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Beyond these the result is 0 or infinite; NaN passes both comparisons.
    let clamped = if x > 89.0 { 89.0 } else { x };
    let clamped = if clamped < -104.0 { -104.0 } else { clamped };
    let n = fma::<FMA>(clamped, LOG2_E, ROUNDER) - ROUNDER;
    let r = fma::<FMA>(n, -0.693_359_4, clamped);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let p = fma::<FMA>(r, 1.987_569_1e-4, 1.398_199_9e-3);
    let p = fma::<FMA>(p, r, 8.333_452e-3);
    let p = fma::<FMA>(p, r, 4.166_579_6e-2);
    let p = fma::<FMA>(p, r, 0.166_666_65);
    let p = fma::<FMA>(p, r, 0.5);
    let p = fma::<FMA>(p, r * r, r) + 1.0;
    // Two factors, so that results near the ends of the range neither overflow nor flush early.
    let half = fma::<FMA>(n, 0.5, ROUNDER) - ROUNDER;
    p * power_of_two(half) * power_of_two(n - half)
}

/// `eˣ` for `x` up to 88, in two thirds of the instructions of [`exp`]; 0 below -87.3, where the
/// exact result has fewer digits than others.
#[inline(always)]
pub(crate) fn exp_to_88<const FMA: bool>(x: f32) -> f32 {
    let rounded = fma::<FMA>(x, LOG2_E, ROUNDER);
    let n = rounded - ROUNDER;
    let r = fma::<FMA>(n, -0.693_359_4, x);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let p = fma::<FMA>(r, 1.987_569_1e-4, 1.398_199_9e-3);
    let p = fma::<FMA>(p, r, 8.333_452e-3);
    let p = fma::<FMA>(p, r, 4.166_579_6e-2);
    let p = fma::<FMA>(p, r, 0.166_666_65);
    let p = fma::<FMA>(p, r, 0.5);
    let p = fma::<FMA>(p, r * r, r) + 1.0;
    let power = f32::from_bits(rounded.to_bits().wrapping_shl(23).wrapping_add(0x3f80_0000));
    // What is NaN is not below; where it is -∞, so is everything above.
    if x < -87.3 { 0.0 } else { p * power }
}

/// `2ˣ`.
#[inline(always)]
pub(crate) fn exp2<const FMA: bool>(x: f32) -> f32 {
    let clamped = if x > 129.0 { 129.0 } else { x };
    let clamped = if clamped < -151.0 { -151.0 } else { clamped };
    let n = (clamped + ROUNDER) - ROUNDER;
    let half = fma::<FMA>(n, 0.5, ROUNDER) - ROUNDER;
    exp::<FMA>((clamped - n) * LN_2) * power_of_two(half) * power_of_two(n - half)
}

/// `ln x`; -∞ at 0, NaN below.
#[inline(always)]
pub(crate) fn ln<const FMA: bool>(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    // Mantissa in [√½, √2), exponent as a number.
    let shifted = bits.wrapping_sub(0x3f35_04f3);
    let exponent = ((shifted as i32) >> 23) as f32 - if subnormal { 23.0 } else { 0.0 };
    let m = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let z = m * m;
    let p = fma::<FMA>(m, 7.037_683_6e-2, -0.115_146_1);
    let p = fma::<FMA>(p, m, 0.116_769_99);
    let p = fma::<FMA>(p, m, -0.124_201_41);
    let p = fma::<FMA>(p, m, 0.142_493_23);
    let p = fma::<FMA>(p, m, -0.166_680_57);
    let p = fma::<FMA>(p, m, 0.200_007_15);
    let p = fma::<FMA>(p, m, -0.249_999_94);
    let p = fma::<FMA>(p, m, 0.333_333_3);
    let p = p * m * z;
    let p = fma::<FMA>(exponent, -2.121_944_4e-4, p);
    let p = fma::<FMA>(z, -0.5, p);
    let y = fma::<FMA>(exponent, 0.693_359_4, m + p);
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x == f32::INFINITY { x } else { y };
    if x < 0.0 || x.is_nan() { f32::NAN } else { y }
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    // From e^-|x|, which cannot overflow.
    let e = exp_to_88::<FMA>(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

/// `tanh x`.
#[inline(always)]
pub(crate) fn tanh<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let e = exp_to_88::<FMA>(-2.0 * a);
    let large = ((1.0 - e) / (1.0 + e)).copysign(x);
    let z = x * x;
    let p = fma::<FMA>(z, -5.704_988_7e-3, 2.063_909e-2);
    let p = fma::<FMA>(p, z, -5.373_971_6e-2);
    let p = fma::<FMA>(p, z, 0.133_314_41);
    let p = fma::<FMA>(p, z, -0.333_332_8);
    let small = fma::<FMA>(p * z, x, x);
    if a < 0.625 { small } else { large }
}

/// The exponent `r` of `1 - erf t = eʳ` for `t ≥ 0.9`.
#[inline(always)]
fn erfc_exponent<const FMA: bool>(t: f32) -> f32 {
    let s = t * t;
    let r = fma::<FMA>(-1.728_534_7e-5, t, 3.831_972e-4);
    let u = fma::<FMA>(-3.883_964_4e-3, t, 2.425_462_2e-2);
    let r = fma::<FMA>(r, s, u);
    let r = fma::<FMA>(r, t, -0.106_777_88);
    let r = fma::<FMA>(r, t, -0.634_846_7);
    let r = fma::<FMA>(r, t, -0.128_717_51);
    fma::<FMA>(r, t, -t)
}

/// `erf a` for `|a| ≤ 0.93`.
#[inline(always)]
fn erf_small<const FMA: bool>(a: f32) -> f32 {
    let s = a * a;
    let r = fma::<FMA>(-5.967_617e-4, s, 4.991_194e-3);
    let r = fma::<FMA>(r, s, -2.676_813_5e-2);
    let r = fma::<FMA>(r, s, 0.112_819_925);
    let r = fma::<FMA>(r, s, -0.376_125_34);
    let r = fma::<FMA>(r, s, 0.128_379_17);
    fma::<FMA>(r, a, a)
}

/// The error function.
#[inline(always)]
pub(crate) fn erf<const FMA: bool>(x: f32) -> f32 {
    let t = x.abs();
    // At 4 the result is 1 to the last bit; the polynomial is not meant for more.
    let bounded = if t > 4.0 { 4.0 } else { t };
    let large = (1.0 - exp_to_88::<FMA>(erfc_exponent::<FMA>(bounded))).copysign(x);
    if t > 0.927_734_4 { large } else { erf_small::<FMA>(x) }
}

/// `x Φ(x)`, without the cancellation of `1 + erf` for negative x.
#[inline(always)]
pub(crate) fn gelu<const FMA: bool>(x: f32) -> f32 {
    let a = x * FRAC_1_SQRT_2;
    let t = a.abs();
    let bounded = if t > 4.0 { 4.0 } else { t };
    let tail = exp_to_88::<FMA>(erfc_exponent::<FMA>(bounded));
    let tail = if t > 4.0 { 0.0 } else { tail };
    let tail = if x < 0.0 { tail } else { 2.0 - tail };
    let phi = if t > 0.927_734_4 { tail } else { 1.0 + erf_small::<FMA>(a) };
    0.5 * x * phi
}

/// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`, as `x · sigmoid` of twice the argument.
#[inline(always)]
pub(crate) fn gelu_tanh<const FMA: bool>(x: f32) -> f32 {
    let u = 1.595_769 * x * fma::<FMA>(x * x, 0.044_715, 1.0);
    x * sigmoid::<FMA>(u)
}

/// `ln(1 + eˣ)`.
#[inline(always)]
pub(crate) fn softplus<const FMA: bool>(x: f32) -> f32 {
    // ln(1 + u) = ln(w) u / (w - 1) with w = 1 + u as rounded (Kahan).
    let u = exp_to_88::<FMA>(-x.abs());
    let w = 1.0 + u;
    let d = w - 1.0;
    let l = if d == 0.0 { u } else { ln::<FMA>(w) * (u / d) };
    l + if x > 0.0 { x } else { 0.0 } + if x.is_nan() { x } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_tensor::Tolerance;

    /// Points of both signs over many magnitudes, and the special ones.
    fn points() -> Vec<f32> {
        let mut points = vec![0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        points.extend([f32::MIN_POSITIVE, 1e-40, f32::MAX, -f32::MAX, 0.927, 0.928, 0.625]);
        let mut magnitude = 1e-30f32;
        while magnitude < 1e30 {
            points.extend([magnitude, -magnitude]);
            magnitude *= 1.37;
        }
        points.extend((-6000..6000).map(|i| i as f32 * 0.0197));
        points
    }

    fn check(name: &str, fast: fn(f32) -> f32, exact: fn(f64) -> f64) {
        for x in points() {
            let expected = f64::from(exact(f64::from(x)) as f32);
            let actual = f64::from(fast(x));
            if let Err(e) = Tolerance::Close.check(&[actual], &[expected]) {
                panic!("{name}({x:e}): {e}");
            }
        }
    }

    /// Series and continued fraction of erfc, exact enough in f64.
    fn erfc(x: f64) -> f64 {
        if x < 0.0 {
            return 2.0 - erfc(-x);
        }
        if x < 2.5 {
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 1.0 - sum * 2.0 / std::f64::consts::PI.sqrt();
        }
        if x > 27.0 {
            return 0.0;
        }
        let fraction = (1..=100).rev().fold(x, |f, k| x + f64::from(k) / 2.0 / f);
        (-x * x).exp() / fraction / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn close_to_the_exact_functions() {
        check("exp", exp::<true>, f64::exp);
        check("exp", exp::<false>, f64::exp);
        check("exp to 88", |x| exp_to_88::<true>(-x.abs()), |x| (-x.abs()).exp());
        check("exp to 88", |x| exp_to_88::<false>(-x.abs()), |x| (-x.abs()).exp());
        check("exp2", exp2::<true>, f64::exp2);
        check("ln", ln::<true>, f64::ln);
        check("ln", ln::<false>, f64::ln);
        check("tanh", tanh::<true>, f64::tanh);
        check("tanh", tanh::<false>, f64::tanh);
        check("sigmoid", sigmoid::<true>, |x| 1.0 / (1.0 + (-x).exp()));
        check("erf", erf::<true>, |x| if x.is_nan() { x } else { 1.0 - erfc(x) });
        check("softplus", softplus::<true>, |x| if x > 700.0 { x } else { x.exp().ln_1p() });
        check("gelu", gelu::<true>, |x| match x {
            x if x.is_nan() => x,
            x => 0.5 * x * erfc(-x / std::f64::consts::SQRT_2),
        });
        check("gelu_tanh", gelu_tanh::<true>, |x| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            x / (1.0 + (-2.0 * u).exp())
        });
    }
}
