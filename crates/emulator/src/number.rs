//! fp16 as the engine reads and rounds it.

use orion_tensor::f16;

/// The nearest fp16 number, ties away from zero; infinite from 65520 on.
pub fn round_to_f16(value: f32) -> f32 {
    if !value.is_finite() {
        return value;
    }
    let magnitude = value.abs();
    // Spacing of fp16 numbers around the value; 2^-24 below the normal ones.
    let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(-14);
    let scale = power_of_two(10 - exponent);
    // A power of two times an f32 of this range is exact, and `round` takes ties away from zero.
    let rounded = (magnitude * scale).round() / scale;
    let rounded = if rounded > 65504.0 { f32::INFINITY } else { rounded };
    rounded.copysign(value)
}

/// What the matrix unit takes an fp16 operand for: there are no infinities and no NaN, the
/// largest exponent is a number like others (infinity is 65536, the usual NaN 98304), and there
/// is no negative zero.
pub fn as_operand(value: f32) -> f32 {
    let bits = f16::from_f32(value).to_bits();
    if bits & 0x7c00 != 0x7c00 {
        return value + 0.0;
    }
    let magnitude = 65536.0 * (1.0 + f32::from(bits & 0x3ff) / 1024.0);
    if bits & 0x8000 != 0 { -magnitude } else { magnitude }
}

/// `2^n` for `-126 <= n <= 127`.
pub(crate) fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// The exponent of a number that fp16 holds; subnormal ones count as -14.
pub(crate) fn exponent(value: f32) -> i32 {
    ((value.abs().to_bits() >> 23) as i32 - 127).max(-14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_away_from_zero() {
        // The published cases: 2049 gives 2050, 1 + 2^-11 gives 1 + 2^-10.
        assert_eq!(round_to_f16(2049.0), 2050.0);
        assert_eq!(round_to_f16(-2049.0), -2050.0);
        assert_eq!(round_to_f16(1.0 + power_of_two(-11)), 1.0 + power_of_two(-10));
        assert_eq!(round_to_f16(2048.9), 2048.0);
        assert_eq!(round_to_f16(65519.0), 65504.0);
        assert_eq!(round_to_f16(65520.0), f32::INFINITY);
        assert_eq!(round_to_f16(power_of_two(-25)), power_of_two(-24));
        assert_eq!(round_to_f16(power_of_two(-26)), 0.0);
    }

    #[test]
    fn every_fp16_number_stays() {
        for bits in 0..=u16::MAX {
            let value = f16::from_bits(bits).to_f32();
            if value.is_finite() {
                assert_eq!(round_to_f16(value), value);
            }
        }
    }

    #[test]
    fn the_largest_exponent_is_an_ordinary_number() {
        assert_eq!(as_operand(f32::INFINITY), 65536.0);
        assert_eq!(as_operand(f32::NEG_INFINITY), -65536.0);
        assert_eq!(as_operand(f16::from_bits(0x7e00).to_f32()), 98304.0);
        assert_eq!(as_operand(-0.0).to_bits(), 0);
        assert_eq!(as_operand(65504.0), 65504.0);
    }
}
