//! The matrix unit: sums of products in 32-bit fixed point with 16 bits behind the point
//! (Q15.16). Letters: `M` rows, `K` summed, `N` columns.

use crate::number::{as_operand, exponent, power_of_two, round_to_f16};

/// What went another way than in exact arithmetic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// Sums that passed ±32768 and became infinite.
    pub overflowed: u64,
    /// Products of numbers that are not zero; not counted for the M1, which drops none.
    pub products: u64,
    /// Those of them that were too small to enter their sum.
    pub dropped: u64,
    /// Results of other functions that became zero.
    pub flushed: u64,
}

impl Events {
    pub(crate) fn add(&mut self, other: Self) {
        self.overflowed += other.overflowed;
        self.products += other.products;
        self.dropped += other.dropped;
        self.flushed += other.flushed;
    }
}

const LIMIT: f64 = 2_147_483_648.0;
/// Columns that are summed together, so that sums stay in the first-level cache.
const COLUMNS: usize = 256;

/// Products that are worth a thread.
const PRODUCTS_A_THREAD: usize = 1 << 20;

/// `a · b + bias` of `a` `[M, K]` and `b` `[K, N]`, fp16 numbers held as f32, `bias` one for each
/// row. Results are rounded to fp16.
///
/// A product whose operands' exponents add up to -17 or less is dropped; others are rounded to
/// 2^-16, halves away from zero. A sum that reaches ±32768 at any moment is infinite for good.
/// The bias is the sum's first value.
///
/// The M1 is another: it takes operands below 2^-14 for zero, and adds four products at a time,
/// rounded to fp16, to a wide sum with the same limit (`is_m1`).
///
/// # Panics
/// When lengths do not fit `k` and `n`.
pub fn products(
    a: &[f32],
    b: &[f32],
    bias: Option<&[f32]>,
    (k, n): (usize, usize),
    is_m1: bool,
) -> (Vec<f32>, Events) {
    let clean = |v: &f32| {
        let v = as_operand(*v);
        if is_m1 && v.abs() < power_of_two(-14) { 0.0 } else { v }
    };
    let a: Vec<f32> = a.iter().map(clean).collect();
    let b: Vec<f32> = b.iter().map(clean).collect();
    let rows = a.len().checked_div(k).unwrap_or_else(|| bias.map_or(0, <[f32]>::len));
    assert_eq!((a.len(), b.len()), (rows * k, k * n), "operands have the sizes that were said");
    let mut out = vec![0.0; rows * n];
    let some_rows = |first: usize, out: &mut [f32]| {
        let mut events = Events::default();
        for (i, out) in out.chunks_mut(n.max(1)).enumerate() {
            let row = first + i;
            let left = &a[row * k..][..k];
            let bias = bias.map_or(0.0, |bias| as_operand(bias[row]));
            events.add(if is_m1 {
                row_in_fours(left, &b, bias, out)
            } else {
                one_row(left, &b, bias, out)
            });
        }
        events
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(rows * k * n / PRODUCTS_A_THREAD).max(1);
    if threads == 1 {
        let events = some_rows(0, &mut out);
        return (out, events);
    }
    let each = rows.div_ceil(threads);
    let mut events = Events::default();
    std::thread::scope(|scope| {
        let parts = out.chunks_mut(each * n).enumerate();
        let running: Vec<_> = parts
            .map(|(i, part)| {
                let some_rows = &some_rows;
                scope.spawn(move || some_rows(i * each, part))
            })
            .collect();
        for thread in running {
            events.add(thread.join().expect("sums do not panic"));
        }
    });
    (out, events)
}

/// One row of results.
fn one_row(left: &[f32], b: &[f32], bias: f32, out: &mut [f32]) -> Events {
    let n = out.len();
    let mut events = Events::default();
    let mut sums = [0i32; COLUMNS];
    let mut sizes = [0f32; COLUMNS];
    let mut kept = [0u32; COLUMNS];
    let first = (bias * 65536.0).round();
    let nonzero = left.iter().filter(|x| **x != 0.0).count();
    for begin in (0..n).step_by(COLUMNS) {
        let width = COLUMNS.min(n - begin);
        sums[..width].fill(first as i32);
        sizes[..width].fill(first.abs());
        kept[..width].fill(0);
        for (i, &x) in left.iter().enumerate().filter(|(_, x)| **x != 0.0) {
            let right = &b[i * n + begin..][..width];
            let smallest = smallest_partner(x);
            let scaled = x * 65536.0;
            let lanes = right.iter().zip(&mut sums).zip(&mut sizes).zip(&mut kept);
            for (((&y, sum), size), kept) in lanes {
                // The exact product of two fp16 numbers fits an f32. A cast cuts off what is
                // behind the point; numbers that do not fit leave `sizes` above the limit.
                let enters = y.abs() >= smallest;
                let product = if enters { scaled * y } else { 0.0 };
                *size += product.abs() + 0.5;
                *sum = sum.wrapping_add((product + 0.5f32.copysign(product)) as i32);
                *kept += u32::from(enters);
            }
        }
        for column in 0..width {
            let place = begin + column;
            events.products += u64::from(kept[column]);
            if (kept[column] as usize) < nonzero {
                let dropped = dropped(left, b, n, place);
                events.products += dropped;
                events.dropped += dropped;
            }
            // The sum of magnitudes is rounded itself: near the limit, look again.
            out[place] = if f64::from(sizes[column]) < 0.99 * LIMIT {
                round_to_f16(fixed_to_f32(i64::from(sums[column])))
            } else {
                let sum = careful(left, b, n, place, first);
                let value = sum.map_or_else(|sign| f32::INFINITY.copysign(sign), fixed_to_f32);
                events.overflowed += u64::from(sum.is_err());
                round_to_f16(value)
            };
        }
    }
    events
}

/// One row of results as the M1 adds them up. What its wide sum is made of is not published; here
/// it is an f64, so that only the groups of four are rounded.
fn row_in_fours(left: &[f32], b: &[f32], bias: f32, out: &mut [f32]) -> Events {
    let n = out.len();
    let mut events = Events::default();
    for (column, out) in out.iter_mut().enumerate() {
        let mut sum = f64::from(bias);
        for (i, four) in left.chunks(4).enumerate() {
            let products = four.iter().enumerate();
            let part: f64 =
                products.map(|(j, &x)| f64::from(x) * f64::from(b[(4 * i + j) * n + column])).sum();
            sum += f64::from(round_to_f16(part as f32));
            if sum.abs() >= 32_768.0 {
                sum = f64::INFINITY.copysign(sum);
                events.overflowed += 1;
                break;
            }
        }
        *out = round_to_f16(sum as f32);
    }
    events
}

/// The smallest magnitude that makes a product with `x` enter the sum; above all numbers for 0.
fn smallest_partner(x: f32) -> f32 {
    if x == 0.0 {
        return f32::INFINITY;
    }
    let own = exponent(x);
    // Subnormal partners count as 2^-14.
    if own >= -2 { f32::MIN_POSITIVE } else { power_of_two(-16 - own) }
}

/// Products of two numbers that are not zero and do not enter the sum.
fn dropped(left: &[f32], b: &[f32], n: usize, column: usize) -> u64 {
    let partners = left.iter().enumerate().map(|(i, &x)| (x, b[i * n + column]));
    partners.filter(|&(x, y)| x != 0.0 && y != 0.0 && y.abs() < smallest_partner(x)).count() as u64
}

/// One sum in order, or the sign with which it left the range.
fn careful(left: &[f32], b: &[f32], n: usize, column: usize, first: f32) -> Result<i64, f32> {
    let limit = LIMIT as i64;
    let mut sum = first as i64;
    for (i, &x) in left.iter().enumerate() {
        let y = b[i * n + column];
        if y.abs() >= smallest_partner(x) {
            sum += (f64::from(x) * f64::from(y) * 65536.0).round() as i64;
        }
        if sum.abs() >= limit {
            return Err(sum.signum() as f32);
        }
    }
    Ok(sum)
}

/// Rounded to odd, so that rounding to fp16 sees which side of a tie the sum is on.
fn fixed_to_f32(sum: i64) -> f32 {
    let magnitude = sum.unsigned_abs();
    let bits = 64 - magnitude.leading_zeros();
    let cut = bits.saturating_sub(24);
    let kept = magnitude >> cut;
    let sticky = u64::from(magnitude != kept << cut);
    let value = (((kept | sticky) << cut) as f32) / 65536.0;
    if sum < 0 { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        products(a, b, None, (a.len(), 1), false).0[0]
    }

    #[test]
    fn sums_overflow_at_32768_for_good() {
        // 65504 · 2^-4 = 4094 is exact: only sums are limited.
        let sixteenth = power_of_two(-4);
        assert_eq!(dot(&[65504.0], &[sixteenth]), 4094.0);
        assert_eq!(dot(&[32752.0], &[1.0]), 32752.0);
        assert_eq!(dot(&[16384.0, 16384.0], &[1.0, 1.0]), f32::INFINITY);
        assert_eq!(dot(&[16384.0, 16384.0, -30000.0], &[1.0; 3]), f32::INFINITY);
        assert_eq!(dot(&[-16384.0, -16384.0, 30000.0], &[1.0; 3]), f32::NEG_INFINITY);
        assert_eq!(dot(&[16384.0, -16384.0, 16384.0], &[1.0; 3]), 16384.0);
        let (_, events) = products(&[16384.0; 2], &[1.0; 2], None, (2, 1), false);
        assert_eq!(events.overflowed, 1);
    }

    #[test]
    fn small_products_are_dropped_whole() {
        let p = power_of_two;
        // Exponents -8 and -8: kept and rounded to 2^-16.
        assert_eq!(dot(&[p(-8)], &[p(-8)]), p(-16));
        // Exponents -8 and -9: dropped although the product is almost 2^-15.
        let almost = 2.0 - p(-10);
        assert_eq!(dot(&[almost * p(-8)], &[almost * p(-9)]), 0.0);
        // Subnormal numbers count as 2^-14.
        assert_eq!(dot(&[p(-24)], &[p(-2)]), 0.0);
        assert_eq!(dot(&[p(-15)], &[p(-1)]), p(-16));
        assert_eq!(dot(&[p(-15)], &[p(-3)]), 0.0);
        let (_, events) = products(&[p(-8), 1.0], &[p(-9), 1.0], None, (2, 1), false);
        assert_eq!((events.dropped, events.products), (1, 2));
        let (_, events) = products(&[p(-8), 0.0, 1.0], &[1.0, 1.0, 0.0], None, (3, 1), false);
        assert_eq!((events.dropped, events.products), (0, 1), "products with zero are none");
    }

    #[test]
    fn products_round_away_from_zero() {
        let p = power_of_two;
        // 1.5 · 2^-16 gives 2 · 2^-16, and so do -1.5.
        assert_eq!(dot(&[1.5 * p(-8)], &[p(-8)]), 2.0 * p(-16));
        assert_eq!(dot(&[-1.5 * p(-8)], &[p(-8)]), -2.0 * p(-16));
    }

    #[test]
    fn sums_are_wide_and_rounded_once() {
        // ±2048 with 1 in between survives, and 16384 ones add up.
        assert_eq!(dot(&[2048.0, 1.0, -2048.0], &[1.0; 3]), 1.0);
        assert_eq!(dot(&[1.0; 16384], &[1.0; 16384]), 16384.0);
        assert_eq!(dot(&[2048.0, 1.0], &[1.0; 2]), 2050.0);
    }

    #[test]
    fn the_bias_is_part_of_the_sum() {
        let with = |bias: f32, x: f32| products(&[x], &[1.0], Some(&[bias]), (1, 1), false).0[0];
        assert_eq!(with(0.5, 1.0), 1.5);
        assert_eq!(with(30000.0, 5000.0), f32::INFINITY);
        assert_eq!(with(power_of_two(-18), 0.0), 0.0);
    }

    #[test]
    fn infinities_are_numbers() {
        assert_eq!(dot(&[f32::INFINITY], &[0.25]), 16384.0);
        assert_eq!(dot(&[f32::NAN], &[1.0]), f32::INFINITY);
    }

    #[test]
    fn m1_takes_subnormal_numbers_for_zero() {
        let subnormal = power_of_two(-15);
        let on = |flushes| products(&[subnormal], &[1024.0], None, (1, 1), flushes).0[0];
        assert_eq!((on(false), on(true)), (power_of_two(-5), 0.0));
    }

    #[test]
    fn m1_rounds_four_products_to_fp16() {
        let on =
            |is_m1, a: &[f32]| products(a, &vec![1.0; a.len()], None, (a.len(), 1), is_m1).0[0];
        // 2048 + 1 is a tie in fp16, which goes up; on later chips the whole sum is exact.
        let a = [2048.0, 1.0, 0.0, 0.0, -2048.0];
        assert_eq!((on(false, &a), on(true, &a)), (1.0, 2.0));
        // Groups of four ones are exact, and their sum is wide.
        assert_eq!(on(true, &[1.0; 16384]), 16384.0);
        assert_eq!(on(true, &[16384.0, 16384.0]), f32::INFINITY);
        // Nothing is dropped by exponents there: 2^-8 · 2^-9 is a normal fp16 product's size.
        let small = products(&[power_of_two(-8)], &[power_of_two(-6)], None, (1, 1), true);
        assert_eq!(small.0[0], power_of_two(-14));
    }

    #[test]
    fn threads_do_not_change_sums() {
        let (rows, k, n) = (64, 256, 256);
        let number = |i: usize| round_to_f16(((i * 7919) % 2001) as f32 / 1000.0 - 1.0);
        let a: Vec<f32> = (0..rows * k).map(number).collect();
        let b: Vec<f32> = (0..k * n).map(number).collect();
        assert!(rows * k * n >= 2 * PRODUCTS_A_THREAD);
        let (whole, events) = products(&a, &b, None, (k, n), false);
        let mut dropped = 0;
        for row in [0, 31, 32, 63] {
            let (one, _) = products(&a[row * k..][..k], &b, None, (k, n), false);
            assert_eq!(one, whole[row * n..][..n]);
        }
        for row in 0..rows {
            dropped += products(&a[row * k..][..k], &b, None, (k, n), false).1.dropped;
        }
        assert_eq!(events.dropped, dropped);
    }

    #[test]
    fn agrees_with_one_sum_after_the_other() {
        // The fast way against the careful one, over sizes that do not fill the blocks.
        let (rows, k, n) = (3, 37, 300);
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let exponent = power_of_two((state >> 8) as i32 % 24 - 14);
            round_to_f16(((state >> 16) as f32 / 32768.0 - 1.0) * exponent)
        };
        let a: Vec<f32> = (0..rows * k).map(|_| next()).collect();
        let b: Vec<f32> = (0..k * n).map(|_| next()).collect();
        let (out, events) = products(&a, &b, None, (k, n), false);
        assert!(events.dropped > 0);
        for row in 0..rows {
            for column in 0..n {
                let sum = careful(&a[row * k..][..k], &b, n, column, 0.0);
                let expected = sum
                    .map_or_else(|s| f32::INFINITY.copysign(s), |s| round_to_f16(fixed_to_f32(s)));
                assert_eq!(out[row * n + column], expected);
            }
        }
    }
}
