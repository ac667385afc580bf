//! Attention of a few queries, as in decoding: keys and values are read once for each query, as
//! they lie, and only those that it sees.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::{Head, Sizes, Target};
use crate::kernels::gemm::{Arithmetic, Matrix, Rounding, ToBf16, Unrounded};
use crate::kernels::isa::{fma, multiversion};
use crate::kernels::softmax::softmax_rows;
use crate::precision::Precision;
use std::ops::Range;

/// Keys whose scores are summed side by side.
const KEYS: usize = 128;
/// Sums kept side by side in a dot product.
const SUMS: usize = 32;

/// Scores are whole blocks of this many, the last ones filled up with what has no weight.
const BLOCK: usize = 32;

/// Floats of memory that [`attend_few`] needs.
pub(crate) fn few_lanes(sizes: Sizes) -> usize {
    sizes.keys.next_multiple_of(BLOCK) + sizes.width + sizes.value_width
}

/// What [`super::attend`] computes, of f32 operands and without statistics.
///
/// # Safety
/// Operands are f32 and readable, the result is writable for the queries; `memory` is as large
/// as [`few_lanes`] says.
pub(crate) unsafe fn attend_few(
    a: Arithmetic,
    sizes: Sizes,
    head: &Head,
    queries: Range<usize>,
    to: Target,
    memory: *mut f32,
) {
    for query in queries {
        // SAFETY: the caller's promise; memory is as large as what is written to it.
        unsafe {
            let end = head.mask.visible(&(query..query + 1), sizes.keys).0;
            let whole = end.next_multiple_of(BLOCK);
            let (scores, filling) = std::slice::from_raw_parts_mut(memory, whole).split_at_mut(end);
            let rest = memory.add(sizes.keys.next_multiple_of(BLOCK));
            let own = std::slice::from_raw_parts_mut(rest, sizes.width);
            let result = std::slice::from_raw_parts_mut(rest.add(sizes.width), sizes.value_width);
            for (d, own) in own.iter_mut().enumerate() {
                *own = *head.query.at(query, d).pointer.cast::<f32>();
                if a.precision == Precision::Bf16 {
                    *own = ToBf16::round(*own);
                }
            }
            score_keys(a, own, head.key, scores);
            scores.iter_mut().for_each(|s| *s *= head.factor);
            head.mask.apply(scores.as_mut_ptr(), (0, 1), &(0..end), &(query..query + 1));
            filling.fill(f32::NEG_INFINITY);
            softmax_rows(a.isa, memory, memory, 1, whole);
            mix_values(a, std::slice::from_raw_parts(memory, end), head.value, result);
            for (f, &value) in result.iter().enumerate() {
                let at = query as isize * to.row + f as isize * to.column;
                *to.pointer.offset(at) = value;
            }
        }
    }
}

/// `scores[t] = Σ_d query[d] keys[t, d]`, with keys rounded as the precision says.
///
/// # Safety
/// The keys are f32 and readable for every score.
unsafe fn score_keys(a: Arithmetic, query: &[f32], keys: Matrix, scores: &mut [f32]) {
    // SAFETY: the caller's promise is passed on; the instructions were found.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        match (x86::fits(a, keys), a.precision) {
            (true, Precision::F32) => return x86::score(query, keys, scores),
            (true, Precision::Bf16) => return x86::score_rounded(query, keys, scores),
            _ => {}
        }
        match a.precision {
            Precision::F32 => score::<Unrounded>(a.isa, query, keys, scores),
            Precision::Bf16 => score::<ToBf16>(a.isa, query, keys, scores),
        }
    }
}

/// `to[f] = Σ_t weights[t] values[t, f]`, with values rounded as the precision says.
///
/// # Safety
/// The values are f32 and readable for every weight.
unsafe fn mix_values(a: Arithmetic, weights: &[f32], values: Matrix, to: &mut [f32]) {
    // SAFETY: the caller's promise is passed on; the instructions were found.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        match (x86::fits(a, values), a.precision) {
            (true, Precision::F32) => return x86::mix(weights, values, to),
            (true, Precision::Bf16) => return x86::mix_rounded(weights, values, to),
            _ => {}
        }
        match a.precision {
            Precision::F32 => mix::<Unrounded>(a.isa, weights, values, to),
            Precision::Bf16 => mix::<ToBf16>(a.isa, weights, values, to),
        }
    }
}

multiversion! {
    /// `scores[t] = Σ_d query[d] keys[t, d]`, with keys rounded.
    ///
    /// # Safety
    /// The keys are f32 and readable for every score.
    unsafe fn score<R: Rounding>(query: &[f32], keys: Matrix, scores: &mut [f32]) = score_inner
}

#[inline(always)]
unsafe fn score_inner<R: Rounding, const FMA: bool>(
    query: &[f32],
    keys: Matrix,
    scores: &mut [f32],
) {
    let start = keys.pointer.cast::<f32>();
    for (chunk, scores) in scores.chunks_mut(KEYS).enumerate() {
        // SAFETY: the caller's promise, also in what follows.
        let start = unsafe { start.offset((chunk * KEYS) as isize * keys.row) };
        if keys.row == 1 {
            let mut sums = [0f32; KEYS];
            for (d, &q) in query.iter().enumerate() {
                // SAFETY: as above.
                let keys = unsafe {
                    let row = start.offset(d as isize * keys.column);
                    std::slice::from_raw_parts(row, scores.len())
                };
                if let Ok(keys) = <&[f32; KEYS]>::try_from(keys) {
                    for (sum, &key) in sums.iter_mut().zip(keys) {
                        *sum = fma::<FMA>(q, R::round(key), *sum);
                    }
                } else {
                    for (sum, &key) in sums.iter_mut().zip(keys) {
                        *sum = fma::<FMA>(q, R::round(key), *sum);
                    }
                }
            }
            scores.copy_from_slice(&sums[..scores.len()]);
            continue;
        }
        for (t, score) in scores.iter_mut().enumerate() {
            // SAFETY: as above.
            unsafe {
                let key = start.offset(t as isize * keys.row);
                *score = if keys.column == 1 {
                    dot::<R, FMA>(query, std::slice::from_raw_parts(key, query.len()))
                } else {
                    let at = |d: usize| R::round(*key.offset(d as isize * keys.column));
                    query.iter().enumerate().map(|(d, &q)| q * at(d)).sum()
                };
            }
        }
    }
}

/// `Σ a b`, with `b` rounded.
#[inline(always)]
fn dot<R: Rounding, const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; SUMS];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<SUMS>(), b.as_chunks::<SUMS>());
    for (a, b) in a.iter().zip(b) {
        for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum = fma::<FMA>(a, R::round(b), *sum);
        }
    }
    for (sum, (&a, &b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum = fma::<FMA>(a, R::round(b), *sum);
    }
    sums.into_iter().sum()
}

multiversion! {
    /// `to[f] = Σ_t weights[t] values[t, f]`, with values rounded.
    ///
    /// # Safety
    /// The values are f32 and readable for every weight.
    unsafe fn mix<R: Rounding>(weights: &[f32], values: Matrix, to: &mut [f32]) = mix_inner
}

#[inline(always)]
unsafe fn mix_inner<R: Rounding, const FMA: bool>(weights: &[f32], values: Matrix, to: &mut [f32]) {
    let start = values.pointer.cast::<f32>();
    if values.row == 1 {
        for (f, to) in to.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let values = unsafe {
                let row = start.offset(f as isize * values.column);
                std::slice::from_raw_parts(row, weights.len())
            };
            *to = dot::<R, FMA>(weights, values);
        }
        return;
    }
    to.fill(0.0);
    for (t, &weight) in weights.iter().enumerate() {
        for (f, to) in to.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let value =
                unsafe { *start.offset(t as isize * values.row + f as isize * values.column) };
            *to = fma::<FMA>(weight, R::round(value), *to);
        }
    }
}
