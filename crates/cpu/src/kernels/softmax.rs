//! Softmax of dense f32 tensors, and the statistics it is made of.

use super::isa::multiversion;
use super::math::exp_to_88;

/// Columns handled together, at most, where the axis is not the innermost: whole rows stream.
pub(crate) const COLUMNS: usize = 256;
/// Rows whose maximum is found before they are summed.
const ROWS: usize = 16;
const LANES: usize = 32;

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

multiversion! {
    /// Softmax of each of `rows` contiguous rows. `x` and `to` may be the same memory.
    ///
    /// # Safety
    /// `rows · n` floats are readable at `x` and writable at `to`.
    unsafe fn softmax_rows(x: *const f32, to: *mut f32, rows: usize, n: usize) = rows_inner
}

#[inline(always)]
unsafe fn rows_inner<const FMA: bool>(x: *const f32, to: *mut f32, rows: usize, n: usize) {
    for row in 0..rows {
        // SAFETY: the row is inside both; elements are read before they are written.
        unsafe {
            let (x, to) = (x.add(row * n), to.add(row * n));
            let mut max = [f32::NEG_INFINITY; LANES];
            let blocks = n / LANES * LANES;
            for i in (0..blocks).step_by(LANES) {
                for (j, max) in max.iter_mut().enumerate() {
                    *max = larger(*max, *x.add(i + j));
                }
            }
            for i in blocks..n {
                max[i - blocks] = larger(max[i - blocks], *x.add(i));
            }
            let max = max.into_iter().fold(f32::NEG_INFINITY, larger);
            let mut sums = [0f32; LANES];
            for i in (0..blocks).step_by(LANES) {
                let mut block = [0f32; LANES];
                for j in 0..LANES {
                    block[j] = exp_to_88::<FMA>(*x.add(i + j) - max);
                    sums[j] += block[j];
                }
                to.add(i).cast::<[f32; LANES]>().write(block);
            }
            for i in blocks..n {
                let e = exp_to_88::<FMA>(*x.add(i) - max);
                sums[i - blocks] += e;
                *to.add(i) = e;
            }
            let mut width = LANES / 2;
            while width > 0 {
                for i in 0..width {
                    sums[i] += sums[i + width];
                }
                width /= 2;
            }
            let scale = 1.0 / sums[0];
            std::slice::from_raw_parts_mut(to, n).iter_mut().for_each(|v| *v *= scale);
        }
    }
}

multiversion! {
    /// Softmax down `count` ≤ [`COLUMNS`] columns of `n` rows, `stride` floats apart. `x` and
    /// `to` may be the same memory.
    ///
    /// # Safety
    /// The columns are readable at `x` and writable at `to`.
    unsafe fn softmax_columns(x: *const f32, to: *mut f32, n: usize, stride: usize,
        count: usize) = columns_inner
}

#[inline(always)]
unsafe fn columns_inner<const FMA: bool>(
    x: *const f32,
    to: *mut f32,
    n: usize,
    stride: usize,
    count: usize,
) {
    let (mut max, mut sum) = ([0f32; COLUMNS], [0f32; COLUMNS]);
    // SAFETY: the caller's promise; the arrays have room for every column.
    unsafe {
        column_statistics_inner::<FMA>(x, n, stride, count, max.as_mut_ptr(), sum.as_mut_ptr());
    }
    let scale = sum.map(|t| 1.0 / t);
    for i in 0..n {
        // SAFETY: the caller's promise; elements are read before they are written.
        unsafe {
            let (x, to) = (x.add(i * stride), to.add(i * stride));
            let mut block = [0f32; COLUMNS];
            let x = std::slice::from_raw_parts(x, count);
            for (((to, &x), &max), &scale) in block.iter_mut().zip(x).zip(&max).zip(&scale) {
                *to = exp_to_88::<FMA>(x - max) * scale;
            }
            std::slice::from_raw_parts_mut(to, count).copy_from_slice(&block[..count]);
        }
    }
}

multiversion! {
    /// The largest value of each of `count` ≤ [`COLUMNS`] columns of `n` rows, `stride` floats
    /// apart, and `Σ exp(x - largest)`; a column of nothing but -∞ has the sum 0. Reads
    /// everything once.
    ///
    /// # Safety
    /// The columns are readable at `x`; `max` and `sum` are writable for each.
    unsafe fn column_statistics(x: *const f32, n: usize, stride: usize, count: usize,
        max: *mut f32, sum: *mut f32) = column_statistics_inner
}

#[inline(always)]
unsafe fn column_statistics_inner<const FMA: bool>(
    x: *const f32,
    n: usize,
    stride: usize,
    count: usize,
    to_max: *mut f32,
    to_sum: *mut f32,
) {
    // SAFETY: the caller's promise.
    let row = |i: usize| unsafe { std::slice::from_raw_parts(x.add(i * stride), count) };
    // A block's maximum first, then the sum so far is scaled to it.
    let mut max = [f32::NEG_INFINITY; COLUMNS];
    let mut total = [0f32; COLUMNS];
    for first in (0..n).step_by(ROWS) {
        let rows = first..n.min(first + ROWS);
        let mut new = max;
        for i in rows.clone() {
            for (new, &x) in new.iter_mut().zip(row(i)) {
                *new = larger(*new, x);
            }
        }
        // While all is -inf, which minus itself is not a number, the sum stays 0.
        let shift = new.map(|m| if m == f32::NEG_INFINITY { 0.0 } else { m });
        let mut sums = [0f32; COLUMNS];
        for i in rows {
            for ((sum, &x), &shift) in sums.iter_mut().zip(row(i)).zip(&shift) {
                *sum += exp_to_88::<FMA>(x - shift);
            }
        }
        for j in 0..count {
            total[j] = total[j] * exp_to_88::<FMA>(max[j] - shift[j]) + sums[j];
        }
        max = new;
    }
    // SAFETY: the caller's promise.
    unsafe {
        std::slice::from_raw_parts_mut(to_max, count).copy_from_slice(&max[..count]);
        std::slice::from_raw_parts_mut(to_sum, count).copy_from_slice(&total[..count]);
    }
}

/// Values of a row whose maximum is found before they are summed.
const RUN: usize = 1024;

multiversion! {
    /// [`column_statistics`] of one contiguous row of `n` values.
    ///
    /// # Safety
    /// `n` floats are readable at `x`.
    unsafe fn row_statistics(x: *const f32, n: usize) -> (f32, f32) = row_statistics_inner
}

#[inline(always)]
unsafe fn row_statistics_inner<const FMA: bool>(x: *const f32, n: usize) -> (f32, f32) {
    // SAFETY: the caller's promise.
    let x = unsafe { std::slice::from_raw_parts(x, n) };
    let (mut max, mut total) = (f32::NEG_INFINITY, 0f32);
    for run in x.chunks(RUN) {
        let (blocks, rest) = run.as_chunks::<LANES>();
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for block in blocks {
            for (lane, &x) in lanes.iter_mut().zip(block) {
                *lane = larger(*lane, x);
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(rest) {
            *lane = larger(*lane, x);
        }
        let new = lanes.into_iter().fold(max, larger);
        let shift = if new == f32::NEG_INFINITY { 0.0 } else { new };
        let mut sums = [0f32; LANES];
        for block in blocks {
            for (sum, &x) in sums.iter_mut().zip(block) {
                *sum += exp_to_88::<FMA>(x - shift);
            }
        }
        for (sum, &x) in sums.iter_mut().zip(rest) {
            *sum += exp_to_88::<FMA>(x - shift);
        }
        total = total * exp_to_88::<FMA>(max - shift) + sums.into_iter().sum::<f32>();
        max = new;
    }
    (max, total)
}

/// What parts of one column or row have together, in order.
pub(crate) fn combine_statistics(parts: impl Iterator<Item = (f32, f32)>) -> (f32, f32) {
    parts.fold((f32::NEG_INFINITY, 0.0), |(max, sum), (other, more)| {
        let new = larger(max, other);
        let shift = if new == f32::NEG_INFINITY { 0.0 } else { new };
        (new, sum * (max - shift).exp() + more * (other - shift).exp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::isa::Isa;
    use orion_tensor::Tolerance;

    #[test]
    fn rows_and_columns_against_the_definition() {
        for isa in Isa::available() {
            for (outer, n, inner) in
                [(3, 1, 1), (2, 77, 1), (2, 300, 1), (2, 90, 5), (1, 130, 64), (1, 40, 256)]
            {
                let x: Vec<f32> = (0..outer * n * inner)
                    .map(|i| ((i * 7919) % 1000) as f32 / 50.0 - 10.0)
                    .collect();
                let mut x = x;
                if n > 60 {
                    // A whole block of a column without a number.
                    (0..40).for_each(|i| x[i * inner] = f32::NEG_INFINITY);
                }
                let mut y = vec![0f32; x.len()];
                // SAFETY: sizes are those of the vectors.
                unsafe {
                    if inner == 1 {
                        softmax_rows(isa, x.as_ptr(), y.as_mut_ptr(), outer, n);
                    } else {
                        for o in 0..outer {
                            let at = o * n * inner;
                            let (x, y) = (x.as_ptr().add(at), y.as_mut_ptr().add(at));
                            softmax_columns(isa, x, y, n, inner, inner);
                        }
                    }
                }
                let mut expected = vec![0f64; x.len()];
                for o in 0..outer {
                    for j in 0..inner {
                        let at = |i: usize| (o * n + i) * inner + j;
                        let e = |i: usize| f64::from(x[at(i)]).exp();
                        let sum: f64 = (0..n).map(e).sum();
                        (0..n).for_each(|i| expected[at(i)] = e(i) / sum);
                    }
                }
                let y: Vec<f64> = y.into_iter().map(f64::from).collect();
                Tolerance::Close.check(&y, &expected).unwrap();
            }
        }
    }

    #[test]
    fn statistics_of_columns_and_rows_in_parts() {
        for isa in Isa::available() {
            for (n, inner) in [(1, 1), (2500, 1), (37, 5), (130, 64), (40, 256)] {
                let mut x: Vec<f32> =
                    (0..n * inner).map(|i| ((i * 7919) % 1000) as f32 / 20.0 - 40.0).collect();
                // A whole column without a number, and one with the first half so.
                (0..n).for_each(|i| x[i * inner] = f32::NEG_INFINITY);
                if inner > 1 {
                    (0..n / 2).for_each(|i| x[i * inner + 1] = f32::NEG_INFINITY);
                }
                let middle = n / 2;
                let mut parts = Vec::new();
                for rows in [0..middle, middle..n] {
                    let (mut max, mut sum) = (vec![0f32; inner], vec![0f32; inner]);
                    // SAFETY: the rows are inside the vector, the results have room.
                    unsafe {
                        let at = x.as_ptr().add(rows.start * inner);
                        if inner == 1 {
                            (max[0], sum[0]) = row_statistics(isa, at, rows.len());
                        } else {
                            let (max, sum) = (max.as_mut_ptr(), sum.as_mut_ptr());
                            column_statistics(isa, at, rows.len(), inner, inner, max, sum);
                        }
                    }
                    parts.push((max, sum));
                }
                for j in 0..inner {
                    let column = parts.iter().map(|(max, sum)| (max[j], sum[j]));
                    let (max, sum) = combine_statistics(column);
                    let all = || (0..n).map(|i| x[i * inner + j]);
                    let largest = all().fold(f32::NEG_INFINITY, f32::max);
                    assert_eq!(max, largest);
                    let of = |x: f32| if largest.is_finite() { (x - largest).exp() } else { 0.0 };
                    let expected: f64 = all().map(|x| f64::from(of(x))).sum();
                    Tolerance::F32Accum.check(&[f64::from(sum)], &[expected]).unwrap();
                }
            }
        }
    }
}
