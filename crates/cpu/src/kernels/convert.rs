//! Narrow element types to and from 32-bit lanes, in code that vectorises.

/// The value of an fp16 number.
#[inline(always)]
pub(crate) fn f16_to_f32(h: u16) -> f32 {
    let magnitude = u32::from(h & 0x7fff) << 13;
    // Moving the exponent by multiplication also normalises subnormals.
    let scaled = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = if h & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(scaled | special | u32::from(h & 0x8000) << 16)
}

/// The nearest fp16 number, ties to even; infinite where it is too large.
#[inline(always)]
pub(crate) fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let a = bits & 0x7fff_ffff;
    let special = if a > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
    // Below 2⁻¹⁴ an addition does the rounding at the right place.
    let subnormal = (f32::from_bits(a) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let normal = a.wrapping_add(0xc800_0fff).wrapping_add((a >> 13) & 1) >> 13;
    let magnitude = if a < 0x3880_0000 { subnormal } else { normal };
    let magnitude = if a >= 0x4780_0000 { special } else { magnitude };
    (sign | magnitude) as u16
}

/// The value of a bf16 number.
#[inline(always)]
pub(crate) fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

/// The nearest bf16 number, ties to even.
#[inline(always)]
pub(crate) fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x40;
    (if x.is_nan() { nan } else { rounded }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_tensor::{bf16, f16};

    #[test]
    fn every_half_widens_like_the_definition() {
        for h in 0..=u16::MAX {
            let (a, b) = (f16_to_f32(h), f16::from_bits(h).to_f32());
            assert!(
                a == b && a.is_sign_negative() == b.is_sign_negative()
                    || a.is_nan() == b.is_nan() && b.is_nan(),
                "{h:#x}"
            );
            let (a, b) = (bf16_to_f32(h), bf16::from_bits(h).to_f32());
            assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "{h:#x}");
        }
    }

    #[test]
    fn narrowing_rounds_like_the_definition() {
        // Every half, the points halfway to the next, and their neighbours.
        for h in 0..=u16::MAX {
            for (base, narrow) in
                [(f16::from_bits(h).to_f32(), true), (bf16::from_bits(h).to_f32(), false)]
            {
                for step in [0u32, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001] {
                    let x = f32::from_bits(base.to_bits().wrapping_add(step));
                    let (a, b) = if narrow {
                        (f32_to_f16(x), f16::from_f32(x).to_bits())
                    } else {
                        (f32_to_bf16(x), bf16::from_f32(x).to_bits())
                    };
                    assert!(a == b || x.is_nan() && (a & 0x7c00 == 0x7c00), "{x:e}: {a:#x} {b:#x}");
                }
            }
        }
    }
}
