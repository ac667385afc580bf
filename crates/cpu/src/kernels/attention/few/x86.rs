//! One query over keys and values whose positions lie together, with AVX-512.
//!
//! Floor: the bytes of keys and values over the bandwidth of the cache they are in; two loads and
//! two multiply-adds for 32 of them.

use crate::kernels::gemm::dot::x86::totals;
use crate::kernels::gemm::{Arithmetic, Matrix};
use crate::kernels::isa::Isa;
use crate::precision::Precision;
use std::arch::x86_64::*;

/// Vectors of scores, and channels of the result, that are summed side by side.
const SCORES: usize = 4;
const CHANNELS: usize = 8;

/// Channels of keys by which memory is asked for ahead; of values it is [`CHANNELS`]. What several
/// sequences keep is not in a cache, and the positions that are seen may be a small part of each
/// channel's row, which the hardware does not guess.
const AHEAD: usize = 16;

/// Whether these kernels can be used.
pub(super) fn fits(a: Arithmetic, matrix: Matrix) -> bool {
    a.isa == Isa::Avx512
        && matrix.row == 1
        && (a.precision == Precision::F32 || is_x86_feature_detected!("avx512bf16"))
}

macro_rules! kernels {
    ($score:ident, $mix:ident, $rounds:literal, $features:literal) => {
        /// [`super::score_keys`].
        ///
        /// # Safety
        /// As there; the kernels fit.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $score(query: &[f32], keys: Matrix, scores: &mut [f32]) {
            // SAFETY: the caller's promise is passed on.
            unsafe { score_inner::<$rounds>(query, keys, scores) }
        }

        /// [`super::mix_values`].
        ///
        /// # Safety
        /// As there; the kernels fit.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $mix(weights: &[f32], values: Matrix, to: &mut [f32]) {
            // SAFETY: the caller's promise is passed on.
            unsafe { mix_inner::<$rounds>(weights, values, to) }
        }
    };
}

kernels!(score, mix, false, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
kernels!(
    score_rounded,
    mix_rounded,
    true,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"
);

#[inline(always)]
fn lanes(count: usize) -> __mmask16 {
    if count >= 16 { !0 } else { ((1u32 << count) - 1) as __mmask16 }
}

/// Numbers of the mask, rounded to bf16 if asked for.
///
/// # Safety
/// They are readable; the machine has the instructions.
#[inline(always)]
unsafe fn load<const ROUNDS: bool>(from: *const f32, mask: __mmask16) -> __m512 {
    // SAFETY: the caller's promise; vectors of the same size hold any bits.
    unsafe {
        let values = _mm512_maskz_loadu_ps(mask, from);
        if !ROUNDS {
            return values;
        }
        let narrow = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(narrow)))
    }
}

#[expect(clippy::needless_range_loop, reason = "indices of registers")]
#[inline(always)]
unsafe fn score_inner<const ROUNDS: bool>(query: &[f32], keys: Matrix, scores: &mut [f32]) {
    let count = scores.len();
    for first in (0..count).step_by(SCORES * 16) {
        // SAFETY: the caller's promise; what is past the last score is not read.
        unsafe {
            let start = keys.pointer.cast::<f32>().add(first);
            let mut masks = [0; SCORES];
            for v in 0..SCORES {
                masks[v] = lanes((count - first).saturating_sub(v * 16));
            }
            let mut sums = [_mm512_setzero_ps(); SCORES];
            for (d, &q) in query.iter().enumerate() {
                let from = start.wrapping_offset(d as isize * keys.column);
                let q = _mm512_set1_ps(q);
                let ahead = from.wrapping_offset(AHEAD as isize * keys.column);
                for v in 0..SCORES {
                    _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(v * 16).cast());
                    let key = load::<ROUNDS>(from.wrapping_add(v * 16), masks[v]);
                    sums[v] = _mm512_fmadd_ps(q, key, sums[v]);
                }
            }
            let to = scores.as_mut_ptr().add(first);
            for v in 0..SCORES {
                _mm512_mask_storeu_ps(to.wrapping_add(v * 16), masks[v], sums[v]);
            }
        }
    }
}

#[inline(always)]
unsafe fn mix_inner<const ROUNDS: bool>(weights: &[f32], values: Matrix, to: &mut [f32]) {
    let count = weights.len();
    for (group, to) in to.chunks_mut(CHANNELS).enumerate() {
        // SAFETY: the caller's promise; channels past the last are the last once more, and
        // values past the last are not read.
        unsafe {
            let mut rows = [values.pointer.cast::<f32>(); CHANNELS];
            for (f, row) in rows.iter_mut().enumerate() {
                let channel = group * CHANNELS + f.min(to.len() - 1);
                *row = row.offset(channel as isize * values.column);
            }
            let mut sums = [_mm512_setzero_ps(); CHANNELS];
            for t in (0..count).step_by(16) {
                let mask = lanes(count - t);
                let weights = _mm512_maskz_loadu_ps(mask, weights.as_ptr().add(t));
                for f in 0..CHANNELS {
                    let ahead = CHANNELS as isize * values.column;
                    _mm_prefetch::<_MM_HINT_T0>(
                        rows[f].wrapping_offset(ahead).wrapping_add(t).cast(),
                    );
                    let values = load::<ROUNDS>(rows[f].add(t), mask);
                    sums[f] = _mm512_fmadd_ps(weights, values, sums[f]);
                }
            }
            let mask = ((1u32 << to.len()) - 1) as __mmask8;
            _mm256_mask_storeu_ps(to.as_mut_ptr(), mask, totals(sums));
        }
    }
}
