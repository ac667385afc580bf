//! Packing with AVX-512: 16 lanes at a time, which are 16 f32 or 16 pairs of bf16.

use super::{Scales, Source};
use orion_tensor::DType;
use std::arch::x86_64::*;

/// How far ahead rows are asked for, in bytes: rows are too many for the machine to notice.
const AHEAD: usize = 256;

/// The same in rows, where whole rows are read one after another.
const ROWS_AHEAD: usize = 16;

/// Elements in memory.
pub(in crate::kernels::gemm) trait Element {
    const BYTES: usize;
    /// Those of the mask as f32, zero elsewhere.
    ///
    /// # Safety
    /// The elements of the mask are readable; the machine has AVX-512.
    unsafe fn widen(from: *const u8, mask: __mmask16) -> __m512;
}

pub(in crate::kernels::gemm) struct F32;
pub(in crate::kernels::gemm) struct F16;
pub(in crate::kernels::gemm) struct Bf16;
/// Without its scale and offset.
pub(in crate::kernels::gemm) struct Int8;

impl Element for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn widen(from: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(mask, from.cast()) }
    }
}

impl Element for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn widen(from: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from.cast())) }
    }
}

impl Element for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn widen(from: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            let halves = _mm256_maskz_loadu_epi16(mask, from.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }
}

impl Element for Int8 {
    const BYTES: usize = 1;
    #[inline(always)]
    unsafe fn widen(from: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = _mm_maskz_loadu_epi8(mask, from.cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
        }
    }
}

/// What a lane holds.
trait Lane {
    /// Elements of K in it.
    const PAIR: usize;
    /// 16 lanes that follow each other along K, from `left` elements at most.
    ///
    /// # Safety
    /// The elements are readable; the machine has the instructions.
    unsafe fn along<E: Element>(from: *const u8, left: usize) -> __m512i;
    /// The lanes of a mask that are neighbours in `i`, from rows `step` bytes apart of which
    /// `left` are left.
    ///
    /// # Safety
    /// As for `along`.
    unsafe fn across<E: Element>(
        from: *const u8,
        step: isize,
        left: usize,
        mask: __mmask16,
    ) -> __m512i;
}

struct Single;
struct Pair;

#[inline(always)]
fn first(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

impl Lane for Single {
    const PAIR: usize = 1;
    #[inline(always)]
    unsafe fn along<E: Element>(from: *const u8, left: usize) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_castps_si512(E::widen(from, first(left))) }
    }
    #[inline(always)]
    unsafe fn across<E: Element>(from: *const u8, _: isize, _: usize, mask: __mmask16) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_castps_si512(E::widen(from, mask)) }
    }
}

/// 32 bf16: those of `low`, then those of `high`.
///
/// # Safety
/// The machine has the instructions.
#[inline(always)]
pub(in crate::kernels::gemm) unsafe fn narrow(low: __m512, high: __m512) -> __m512i {
    // SAFETY: the caller's promise; vectors of the same size hold any bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

impl Lane for Pair {
    const PAIR: usize = 2;
    #[inline(always)]
    unsafe fn along<E: Element>(from: *const u8, left: usize) -> __m512i {
        // SAFETY: the caller's promise; addresses past the end are only computed.
        unsafe {
            let low = E::widen(from, first(left));
            let high = E::widen(from.wrapping_add(16 * E::BYTES), first(left.saturating_sub(16)));
            narrow(low, high)
        }
    }
    #[inline(always)]
    unsafe fn across<E: Element>(
        from: *const u8,
        step: isize,
        left: usize,
        mask: __mmask16,
    ) -> __m512i {
        // SAFETY: the caller's promise; a row that is not there is not read.
        unsafe {
            let low = E::widen(from, mask);
            let high = E::widen(from.wrapping_offset(step), if left > 1 { mask } else { 0 });
            // The first of each half, the second of each half, …
            let order = _mm512_set_epi16(
                31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                20, 4, 19, 3, 18, 2, 17, 1, 16, 0,
            );
            _mm512_permutexvar_epi16(order, narrow(low, high))
        }
    }
}

macro_rules! dispatch {
    ($pair:ident, $dtype:expr, $single:ident, $double:ident, $($arg:expr),*) => {
        match ($pair, $dtype) {
            (1, DType::F32) => $single::<F32>($($arg),*),
            (1, DType::F16) => $single::<F16>($($arg),*),
            (1, DType::BF16) => $single::<Bf16>($($arg),*),
            (_, DType::F32) => $double::<F32>($($arg),*),
            (_, DType::F16) => $double::<F16>($($arg),*),
            (_, DType::BF16) => $double::<Bf16>($($arg),*),
            _ => unreachable!("the planner converts other types"),
        }
    };
}

/// # Safety
/// As for `pack::panels`, of a source that is contiguous one way; the machine has AVX-512 F, BW
/// and VL, and for pairs AVX512-BF16.
pub(super) unsafe fn panels(pair: usize, source: Source, width: (usize, usize), to: *mut u32) {
    // SAFETY: the caller's promise is passed on.
    unsafe { dispatch!(pair, source.dtype, panels_single, panels_pair, source, width, to) }
}

/// # Safety
/// As for `pack::rows`; for the machine see [`panels`].
pub(super) unsafe fn rows(pair: usize, source: Source, row_lanes: usize, to: *mut u32) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match (source.scales, pair) {
            (Some(scales), 1) => scaled_rows_single(source, scales, row_lanes, to),
            (Some(scales), _) => scaled_rows_pair(source, scales, row_lanes, to),
            _ => dispatch!(pair, source.dtype, rows_single, rows_pair, source, row_lanes, to),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
unsafe fn panels_single<E: Element>(source: Source, width: (usize, usize), to: *mut u32) {
    // SAFETY: the caller's promise is passed on.
    unsafe { panels_inner::<Single, E>(source, width, to) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn panels_pair<E: Element>(source: Source, width: (usize, usize), to: *mut u32) {
    // SAFETY: the caller's promise is passed on.
    unsafe { panels_inner::<Pair, E>(source, width, to) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
unsafe fn rows_single<E: Element>(source: Source, row_lanes: usize, to: *mut u32) {
    // SAFETY: the caller's promise is passed on.
    unsafe { rows_inner::<Single, E>(source, row_lanes, to) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn rows_pair<E: Element>(source: Source, row_lanes: usize, to: *mut u32) {
    // SAFETY: the caller's promise is passed on.
    unsafe { rows_inner::<Pair, E>(source, row_lanes, to) }
}

#[inline(always)]
unsafe fn rows_inner<L: Lane, E: Element>(source: Source, row_lanes: usize, to: *mut u32) {
    let Source { pointer, across, count, depth, .. } = source;
    let whole = depth - depth % (16 * L::PAIR);
    for i in 0..count {
        // SAFETY: the caller's promise.
        unsafe {
            let from = pointer.offset(i as isize * across * E::BYTES as isize);
            let to = to.add(i * row_lanes);
            for k in (0..whole).step_by(16 * L::PAIR) {
                let lanes = L::along::<E>(from.add(k * E::BYTES), usize::MAX);
                _mm512_storeu_si512(to.add(k / L::PAIR).cast(), lanes);
            }
            if whole < depth {
                let lanes = L::along::<E>(from.add(whole * E::BYTES), depth - whole);
                _mm512_storeu_si512(to.add(whole / L::PAIR).cast(), lanes);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
unsafe fn scaled_rows_single(source: Source, scales: Scales, row_lanes: usize, to: *mut u32) {
    for i in 0..source.count {
        for k in (0..source.depth).step_by(16) {
            // SAFETY: the caller's promise.
            unsafe {
                let lanes = _mm512_castps_si512(scaled(source, scales, i, k));
                _mm512_storeu_si512(to.add(i * row_lanes + k).cast(), lanes);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma")]
unsafe fn scaled_rows_pair(source: Source, scales: Scales, row_lanes: usize, to: *mut u32) {
    for i in 0..source.count {
        for k in (0..source.depth).step_by(32) {
            // SAFETY: the caller's promise.
            unsafe {
                let low = scaled(source, scales, i, k);
                let high = scaled(source, scales, i, k + 16);
                _mm512_storeu_si512(to.add(i * row_lanes + k / 2).cast(), narrow(low, high));
            }
        }
    }
}

/// 16 elements of a row of int8 from `k` on, scaled, zero past the last.
///
/// # Safety
/// As for [`rows`].
#[inline(always)]
unsafe fn scaled(source: Source, scales: Scales, row: usize, k: usize) -> __m512 {
    let mask = first(source.depth.saturating_sub(k));
    // SAFETY: the caller's promise; blocks of scales begin at multiples of 16, and what is past
    // the last element is not read.
    unsafe {
        let from = source.pointer.offset(row as isize * source.across).wrapping_add(k);
        if mask == 0 {
            return _mm512_setzero_ps();
        }
        let offset = _mm512_set1_ps(scales.offset(row, k));
        let shifted = _mm512_maskz_sub_ps(mask, Int8::widen(from, mask), offset);
        _mm512_mul_ps(shifted, _mm512_set1_ps(scales.of(row, k)))
    }
}

#[inline(always)]
unsafe fn panels_inner<L: Lane, E: Element>(
    source: Source,
    (width, apart): (usize, usize),
    to: *mut u32,
) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match source.across {
            1 => panels_of_rows::<L, E>(source, (width, apart), to),
            _ => panels_transposed::<L, E>(source, (width, apart), to),
        }
    }
}

/// Panels of neighbours that are contiguous: whole rows one after another, each over all panels.
///
/// # Safety
/// As for [`panels`].
#[inline(always)]
unsafe fn panels_of_rows<L: Lane, E: Element>(
    source: Source,
    (width, apart): (usize, usize),
    to: *mut u32,
) {
    let Source { pointer, along, count, depth, .. } = source;
    let bytes = E::BYTES as isize;
    // SAFETY: the caller's promise; loads are masked to what there is.
    unsafe {
        for lane in 0..depth.div_ceil(L::PAIR) {
            let k = lane * L::PAIR;
            let from = pointer.offset(k as isize * along * bytes);
            for row in ROWS_AHEAD..ROWS_AHEAD + L::PAIR {
                let row = from.wrapping_offset(row as isize * along * bytes);
                for line in (0..count * E::BYTES).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(line).cast());
                }
            }
            let mut to = to.add(lane * width);
            let mut start = 0;
            if width == 12 && depth - k >= L::PAIR {
                // Three vectors are four panels.
                while count - start >= 48 {
                    let at = |i: usize| {
                        let from = from.add((start + i) * E::BYTES);
                        L::across::<E>(from, along * bytes, usize::MAX, !0)
                    };
                    let (a, b, c) = (at(0), at(16), at(32));
                    // What is past the width, the next lane overwrites.
                    _mm512_storeu_si512(to.cast(), a);
                    let second = _mm512_alignr_epi32::<12>(b, a);
                    _mm512_storeu_si512(to.add(apart).cast(), second);
                    let third = _mm512_alignr_epi32::<8>(c, b);
                    _mm512_storeu_si512(to.add(2 * apart).cast(), third);
                    let fourth = _mm512_alignr_epi32::<4>(c, c);
                    _mm512_storeu_si512(to.add(3 * apart).cast(), fourth);
                    to = to.add(4 * apart);
                    start += 48;
                }
            }
            while start < count {
                for i in (0..width).step_by(16) {
                    let from = from.wrapping_add((start + i) * E::BYTES);
                    let here = (count - start).saturating_sub(i);
                    let v = L::across::<E>(from, along * bytes, depth - k, first(here));
                    _mm512_storeu_si512(to.add(i).cast(), v);
                }
                to = to.add(apart);
                start += width;
            }
        }
    }
}

/// Panels of neighbours that lie apart and are contiguous along K.
///
/// # Safety
/// As for [`panels`].
#[inline(always)]
unsafe fn panels_transposed<L: Lane, E: Element>(
    source: Source,
    (width, apart): (usize, usize),
    to: *mut u32,
) {
    let Source { pointer, across, count, depth, .. } = source;
    let lanes = depth.div_ceil(L::PAIR);
    // SAFETY: the caller's promise; loads are masked to what there is.
    unsafe {
        for start in (0..count).step_by(width) {
            let to = to.add(start / width * apart);
            for i in (0..width).step_by(16) {
                for lane in (0..lanes).step_by(16) {
                    let k = lane * L::PAIR;
                    let row = |j: usize| {
                        let row = (start + i + j) as isize * across * E::BYTES as isize;
                        pointer.wrapping_offset(row).wrapping_add(k * E::BYTES)
                    };
                    let mut block = [_mm512_setzero_si512(); 16];
                    if count - start >= i + 16 && depth - k >= 16 * L::PAIR {
                        for (j, block) in block.iter_mut().enumerate() {
                            *block = L::along::<E>(row(j), usize::MAX);
                            _mm_prefetch::<_MM_HINT_T0>(row(j).wrapping_add(AHEAD).cast());
                        }
                    } else {
                        let here = (count - start).saturating_sub(i);
                        for (j, block) in block.iter_mut().enumerate().take(here) {
                            *block = L::along::<E>(row(j), depth - k);
                        }
                    }
                    transpose_16(&mut block);
                    for (j, block) in block.iter().enumerate().take(lanes - lane) {
                        let to = to.add((lane + j) * width + i);
                        _mm512_storeu_si512(to.cast(), *block);
                    }
                }
            }
        }
    }
}

/// Transposes 16 vectors of 16 lanes.
///
/// # Safety
/// The machine has AVX-512.
#[inline(always)]
pub(in crate::kernels::gemm) unsafe fn transpose_16(r: &mut [__m512i; 16]) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut t = [_mm512_setzero_si512(); 16];
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..4 {
            let t = |j: usize| t[4 * i + j];
            r[4 * i] = _mm512_unpacklo_epi64(t(0), t(2));
            r[4 * i + 1] = _mm512_unpackhi_epi64(t(0), t(2));
            r[4 * i + 2] = _mm512_unpacklo_epi64(t(1), t(3));
            r[4 * i + 3] = _mm512_unpackhi_epi64(t(1), t(3));
        }
        // Now r[4 i + j] holds, in its 128-bit quarter q, lane 4 q + j of rows 4 i .. 4 i + 4.
        for j in 0..4 {
            let (a, b, c, d) = (r[j], r[4 + j], r[8 + j], r[12 + j]);
            let ab_low = _mm512_shuffle_i32x4::<0x88>(a, b);
            let ab_high = _mm512_shuffle_i32x4::<0xdd>(a, b);
            let cd_low = _mm512_shuffle_i32x4::<0x88>(c, d);
            let cd_high = _mm512_shuffle_i32x4::<0xdd>(c, d);
            t[j] = _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low);
            t[8 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low);
            t[4 + j] = _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high);
            t[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high);
        }
        *r = t;
    }
}
