//! Numbers as MIL text writes them: C99 hexadecimal floats, decimal integers.
//!
//! Hexadecimal floats, which is what programs hold, round once to nearest even whatever the width
//! of the float; decimals of types narrower than fp32 go through fp64.

use orion_tensor::DType;
use std::fmt::Write;

/// The bit layout of a float type.
#[derive(Clone, Copy)]
struct Layout {
    exponent_bits: u32,
    mantissa_bits: u32,
    /// `fp8e4m3fn` has no infinity: the top exponent holds numbers, all ones is NaN.
    has_infinity: bool,
}

impl Layout {
    fn of(dtype: DType) -> Option<Self> {
        let (exponent_bits, mantissa_bits) = match dtype {
            DType::F16 => (5, 10),
            DType::BF16 => (8, 7),
            DType::F32 => (8, 23),
            DType::F64 => (11, 52),
            DType::F8E4M3FN => (4, 3),
            DType::F8E5M2 => (5, 2),
            _ => return None,
        };
        Some(Self { exponent_bits, mantissa_bits, has_infinity: dtype != DType::F8E4M3FN })
    }

    fn bias(self) -> i64 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    fn sign(self, negative: bool) -> u64 {
        u64::from(negative) << (self.exponent_bits + self.mantissa_bits)
    }

    fn top_exponent(self) -> u64 {
        ((1 << self.exponent_bits) - 1) << self.mantissa_bits
    }

    fn infinity(self, negative: bool) -> Option<u64> {
        self.has_infinity.then(|| self.sign(negative) | self.top_exponent())
    }

    /// The quiet NaN without payload.
    fn nan(self, negative: bool) -> u64 {
        let mantissa = if self.has_infinity {
            1 << (self.mantissa_bits - 1)
        } else {
            (1 << self.mantissa_bits) - 1
        };
        self.sign(negative) | self.top_exponent() | mantissa
    }

    /// `mantissa * 2^exponent`, where `sticky` says that something less than one unit of the
    /// mantissa was left out. `None` past the largest finite number.
    fn round(self, negative: bool, mantissa: u64, exponent: i64, sticky: bool) -> Option<u64> {
        let sign = self.sign(negative);
        if mantissa == 0 {
            return Some(sign);
        }
        // The value is 1.xxx * 2^magnitude.
        let width = i64::from(64 - mantissa.leading_zeros());
        let magnitude = exponent.saturating_add(width - 1);
        if magnitude > self.bias() + 1 {
            return None;
        }
        let smallest_normal = 1 - self.bias();
        // The weight of the last kept bit.
        let unit = magnitude.max(smallest_normal) - i64::from(self.mantissa_bits);
        let shift = unit.saturating_sub(exponent);
        let kept = match shift {
            // A shift to the left never loses bits: the result has mantissa_bits + 1 of them.
            i64::MIN..=0 => mantissa << -shift,
            1..=64 => {
                let wide = u128::from(mantissa) << 64 >> shift;
                let (whole, rest) = ((wide >> 64) as u64, wide as u64);
                let half = 1 << 63;
                let up = rest > half || (rest == half && (sticky || whole & 1 == 1));
                whole + u64::from(up)
            }
            _ => 0,
        };
        // Adding lets a carry out of the mantissa step the exponent, and subnormals become
        // normal, without a special case.
        let exponent_field = (magnitude.max(smallest_normal) + self.bias() - 1) as u64;
        let bits = (exponent_field << self.mantissa_bits) + kept;
        let limit = if self.has_infinity { self.top_exponent() } else { self.nan(false) };
        (bits < limit).then_some(sign | bits)
    }
}

/// The bits of a float written as hexadecimal, decimal, `inf` or `nan`.
///
/// # Errors
/// `Malformed` when it is no number, `OutOfRange` when a finite number is past the largest.
pub(super) fn parse_float(dtype: DType, text: &str) -> Result<u64, NumberError> {
    let layout = Layout::of(dtype).ok_or(NumberError::Malformed)?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let bits = match digits {
        "inf" => layout.infinity(negative),
        "nan" => Some(layout.nan(negative)),
        _ if digits.starts_with("0x") || digits.starts_with("0X") => {
            let (mantissa, exponent, sticky) =
                hexadecimal(&digits[2..]).ok_or(NumberError::Malformed)?;
            layout.round(negative, mantissa, exponent, sticky)
        }
        _ if !digits.starts_with(|c: char| c.is_ascii_digit()) => {
            return Err(NumberError::Malformed);
        }
        // Through fp64 there would be two roundings.
        _ if dtype == DType::F32 => {
            let value: f32 = digits.parse().map_err(|_| NumberError::Malformed)?;
            value.is_finite().then(|| u64::from(value.to_bits()) | layout.sign(negative))
        }
        _ => {
            let value: f64 = digits.parse().map_err(|_| NumberError::Malformed)?;
            if value.is_finite() {
                let (mantissa, exponent) = split(value);
                layout.round(negative, mantissa, exponent, false)
            } else {
                None
            }
        }
    };
    bits.ok_or(NumberError::OutOfRange)
}

/// Why a number was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberError {
    Malformed,
    OutOfRange,
}

/// Mantissa, exponent and whether lower digits were left out.
fn hexadecimal(digits: &str) -> Option<(u64, i64, bool)> {
    let (significand, exponent) = match digits.split_once(['p', 'P']) {
        Some((significand, exponent)) => (significand, saturating_exponent(exponent)?),
        None => (digits, 0),
    };
    let (whole, fraction) = significand.split_once('.').unwrap_or((significand, ""));
    if whole.is_empty() {
        return None;
    }
    let (mut mantissa, mut sticky) = (0u64, false);
    let mut exponent: i64 = exponent;
    for (digit, in_fraction) in
        whole.chars().map(|c| (c, false)).chain(fraction.chars().map(|c| (c, true)))
    {
        let digit = u64::from(digit.to_digit(16)?);
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
            exponent -= i64::from(in_fraction) * 4;
        } else {
            sticky |= digit != 0;
            exponent += i64::from(!in_fraction) * 4;
        }
    }
    Some((mantissa, exponent, sticky))
}

/// An exponent; one too long for any float is as good as a very large one.
fn saturating_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let magnitude = digits.parse().unwrap_or(i64::MAX).min(1 << 40);
    Some(if negative { -magnitude } else { magnitude })
}

/// The magnitude of a finite number as mantissa and exponent.
fn split(value: f64) -> (u64, i64) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    match (bits >> 52 & 0x7ff) as i64 {
        0 => (fraction, -1074),
        exponent => (fraction | 1 << 52, exponent - 1075),
    }
}

/// Writes a float as C's `%a` does, normalised, without trailing zeros.
pub(super) fn write_float(out: &mut String, value: f64) {
    if value.is_sign_negative() {
        out.push('-');
    }
    if value.is_nan() {
        out.push_str("nan");
    } else if value.is_infinite() {
        out.push_str("inf");
    } else if value == 0.0 {
        out.push_str("0x0p+0");
    } else {
        let (mantissa, exponent) = split(value);
        let spare = mantissa.leading_zeros();
        // The leading one moves to the top and out; what follows are the digits after the point.
        let mut fraction = mantissa << spare << 1;
        out.push_str("0x1");
        if fraction != 0 {
            out.push('.');
        }
        while fraction != 0 {
            let digit = (fraction >> 60) as u32;
            out.push(char::from_digit(digit, 16).expect("one hexadecimal digit"));
            fraction <<= 4;
        }
        let exponent = exponent + 63 - i64::from(spare);
        write!(out, "p{exponent:+}").expect("strings take everything");
    }
}

/// The integer in a text, when `dtype` can hold it, as two's complement bits.
pub(super) fn parse_integer(dtype: DType, text: &str) -> Result<u64, NumberError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumberError::Malformed);
    }
    let magnitude: u64 = digits.parse().map_err(|_| NumberError::OutOfRange)?;
    let bits = dtype.bits() as u32;
    let fits = if !dtype.is_signed_int() {
        (!negative || magnitude == 0) && (bits == 64 || magnitude >> bits == 0)
    } else if negative {
        magnitude <= 1 << (bits - 1)
    } else {
        magnitude >> (bits - 1) == 0
    };
    let value = if negative { magnitude.wrapping_neg() } else { magnitude };
    fits.then_some(value).ok_or(NumberError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_tensor::{bf16, f16};

    fn text(value: f64) -> String {
        let mut out = String::new();
        write_float(&mut out, value);
        out
    }

    #[test]
    fn writes_as_c_does() {
        for (value, expected) in [
            (0.0, "0x0p+0"),
            (-0.0, "-0x0p+0"),
            (1.0, "0x1p+0"),
            (-1.5, "-0x1.8p+0"),
            (0.1, "0x1.999999999999ap-4"),
            (f16::from_bits(0x0003).to_f64(), "0x1.8p-23"),
            (f64::from_bits(1), "0x1p-1074"),
            (f64::MAX, "0x1.fffffffffffffp+1023"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn every_half_survives() {
        for bits in 0..=u16::MAX {
            for (dtype, value) in [
                (DType::F16, f16::from_bits(bits).to_f64()),
                (DType::BF16, bf16::from_bits(bits).to_f64()),
            ] {
                if !value.is_nan() {
                    assert_eq!(parse_float(dtype, &text(value)), Ok(u64::from(bits)));
                }
            }
        }
    }

    #[test]
    fn every_small_float_survives() {
        use orion_tensor::{Bytes, Tensor};
        for dtype in [DType::F8E4M3FN, DType::F8E5M2] {
            for bits in 0..=u8::MAX {
                let t = Tensor::new(dtype, vec![], Bytes::new(vec![bits])).unwrap();
                let value = t.to_f64_vec()[0];
                if !value.is_nan() {
                    assert_eq!(parse_float(dtype, &text(value)), Ok(u64::from(bits)), "{value}");
                }
            }
        }
    }

    #[test]
    fn doubles_survive_and_round_like_casts() {
        let mut seed = 0x1234_5678_9abc_def1_u64;
        for _ in 0..20_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let value = f64::from_bits(seed);
            if value.is_nan() {
                continue;
            }
            assert_eq!(parse_float(DType::F64, &text(value)), Ok(seed));
            if value.is_infinite() {
                continue;
            }
            assert_eq!(parse_float(DType::F64, &format!("{value:e}")), Ok(seed));
            // Exponents from -160 to 95: normal and subnormal fp32, and zero.
            let exponent = 1023 - 160 + (seed >> 52 & 0xff);
            let source = f64::from_bits(seed & !(0x7ff << 52) | exponent << 52);
            let expected = Ok(u64::from((source as f32).to_bits()));
            assert_eq!(parse_float(DType::F32, &text(source)), expected);
            let printed = format!("{source:e}");
            let expected = printed.parse::<f32>().unwrap().to_bits();
            assert_eq!(parse_float(DType::F32, &printed), Ok(u64::from(expected)));
        }
    }

    #[test]
    fn rounds_ties_to_even_once() {
        // Half a unit above one, and a hair more than that.
        assert_eq!(parse_float(DType::F16, "0x1.002p+0"), Ok(0x3c00));
        assert_eq!(parse_float(DType::F16, "0x1.0020000000000000001p+0"), Ok(0x3c01));
        assert_eq!(parse_float(DType::F16, "0x1.006p+0"), Ok(0x3c02));
        assert_eq!(parse_float(DType::F16, "0x1p-25"), Ok(0));
        assert_eq!(parse_float(DType::F16, "0x1.8p-25"), Ok(1));
        assert_eq!(parse_float(DType::F16, "1e-400"), Ok(0));
        assert_eq!(parse_float(DType::F16, "-0x1p-99999999999999999999"), Ok(0x8000));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        use NumberError::*;
        assert_eq!(parse_float(DType::F16, "65504"), Ok(0x7bff));
        assert_eq!(parse_float(DType::F16, "65519.9"), Ok(0x7bff));
        assert_eq!(parse_float(DType::F16, "65520"), Err(OutOfRange));
        assert_eq!(parse_float(DType::F32, "1e39"), Err(OutOfRange));
        assert_eq!(parse_float(DType::F64, "1e999"), Err(OutOfRange));
        assert_eq!(parse_float(DType::F64, "0x1p+1024"), Err(OutOfRange));
        assert_eq!(parse_float(DType::F8E4M3FN, "448"), Ok(0x7e));
        assert_eq!(parse_float(DType::F8E4M3FN, "465"), Err(OutOfRange));
        assert_eq!(parse_float(DType::F8E4M3FN, "inf"), Err(OutOfRange));
        for bad in ["", "-", "0x", "0xp1", "0x1p", "0x1pz", "1e", "abc", "0x.8p0", "1_0", "--1"] {
            assert_eq!(parse_float(DType::F64, bad), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn integer_ranges() {
        use NumberError::*;
        assert_eq!(parse_integer(DType::I4, "-8"), Ok((-8i64) as u64));
        assert_eq!(parse_integer(DType::I4, "8"), Err(OutOfRange));
        assert_eq!(parse_integer(DType::U3, "7"), Ok(7));
        assert_eq!(parse_integer(DType::U3, "8"), Err(OutOfRange));
        assert_eq!(parse_integer(DType::U8, "-1"), Err(OutOfRange));
        assert_eq!(parse_integer(DType::U8, "-0"), Ok(0));
        assert_eq!(parse_integer(DType::I64, "-9223372036854775808"), Ok(1 << 63));
        assert_eq!(parse_integer(DType::I64, "9223372036854775808"), Err(OutOfRange));
        assert_eq!(parse_integer(DType::U64, "18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_integer(DType::U64, "18446744073709551616"), Err(OutOfRange));
        assert_eq!(parse_integer(DType::I32, "1.0"), Err(Malformed));
        assert_eq!(parse_integer(DType::I32, "0x10"), Err(Malformed));
    }
}
