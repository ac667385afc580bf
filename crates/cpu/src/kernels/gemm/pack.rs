//! Packing: from strided matrices to the panels the micro-kernel reads.

use super::{Arithmetic, Matrix};
use crate::kernels::convert::{bf16_to_f32, f16_to_f32, f32_to_bf16};
use crate::kernels::isa::{Isa, multiversion};
use crate::precision::Precision;
use orion_tensor::DType;

/// Writes `to[k · width + i] = source[i, k]`, rounded, as f32 for `i < count`, and 0 up to `width`.
/// `across` is the distance of neighbours in `i`, `along` that in `k`.
///
/// # Safety
/// `count` by `depth` elements are readable; `to` is writable for `width · depth + 16` floats.
#[expect(clippy::too_many_arguments, reason = "a kernel takes sizes and strides")]
pub(super) unsafe fn pack(
    Arithmetic { isa, precision }: Arithmetic,
    source: Matrix,
    across: isize,
    along: isize,
    count: usize,
    depth: usize,
    width: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Avx512 && source.dtype == DType::F32 && along == 1 {
            transpose_avx512(source.pointer.cast(), across, count, depth, width, to);
        } else {
            pack_any(isa, source, across, along, count, depth, width, to);
        }
        #[cfg(not(target_arch = "x86_64"))]
        pack_any(isa, source, across, along, count, depth, width, to);
        match precision {
            Precision::F32 => {}
            Precision::Bf16 => round_to_bf16(isa, to, width * depth),
        }
    }
}

multiversion! {
    /// # Safety
    /// `count` floats are writable.
    unsafe fn round_to_bf16(values: *mut f32, count: usize) = round_to_bf16_inner
}

#[inline(always)]
unsafe fn round_to_bf16_inner<const FMA: bool>(values: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    for value in unsafe { std::slice::from_raw_parts_mut(values, count) } {
        *value = bf16_to_f32(f32_to_bf16(*value));
    }
}

multiversion! {
    /// # Safety
    /// As for [`pack`].
    unsafe fn pack_any(source: Matrix, across: isize, along: isize, count: usize, depth: usize,
        width: usize, to: *mut f32) = pack_any_inner
}

#[inline(always)]
unsafe fn pack_any_inner<const FMA: bool>(
    source: Matrix,
    across: isize,
    along: isize,
    count: usize,
    depth: usize,
    width: usize,
    to: *mut f32,
) {
    macro_rules! each {
        ($ty:ty, $f:expr) => {{
            let from = source.pointer.cast::<$ty>();
            if across == 1 {
                for k in 0..depth {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let from = from.offset(k as isize * along);
                        let to = to.add(k * width);
                        if count == width {
                            for i in 0..width {
                                *to.add(i) = $f(from.add(i).read_unaligned());
                            }
                        } else {
                            for i in 0..count {
                                *to.add(i) = $f(from.add(i).read_unaligned());
                            }
                            for i in count..width {
                                *to.add(i) = 0.0;
                            }
                        }
                    }
                }
            } else {
                for i in 0..width {
                    for k in 0..depth {
                        // SAFETY: the caller's promise.
                        unsafe {
                            let offset = i as isize * across + k as isize * along;
                            *to.add(k * width + i) = if i < count {
                                $f(from.offset(offset).read_unaligned())
                            } else {
                                0.0
                            };
                        }
                    }
                }
            }
        }};
    }
    match source.dtype {
        DType::F32 => each!(f32, |v| v),
        DType::F16 => each!(u16, f16_to_f32),
        DType::BF16 => each!(u16, bf16_to_f32),
        _ => unreachable!("the planner converts other types"),
    }
}

/// How far ahead rows are asked for, in floats: rows are too many for the machine to notice.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 64;

/// [`pack`] from rows of contiguous f32, by transposing 16 by 16 blocks in registers.
///
/// # Safety
/// As for [`pack`]; the machine has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_avx512(
    from: *const f32,
    across: isize,
    count: usize,
    depth: usize,
    width: usize,
    to: *mut f32,
) {
    use std::arch::x86_64::*;
    // SAFETY: loads are masked to `count` rows and `depth` columns. Stores of 16 lanes run over
    // into what the next store overwrites, and at the very end by at most 16 lanes.
    unsafe {
        for first in (0..width).step_by(16) {
            for k in (0..depth).step_by(16) {
                let here = 16.min(depth - k);
                let mask = (0xffffu32 >> (16 - here)) as __mmask16;
                let mut rows = [_mm512_setzero_ps(); 16];
                for (i, row) in rows.iter_mut().enumerate() {
                    if first + i < count {
                        let from = from.offset((first + i) as isize * across).add(k);
                        *row = _mm512_maskz_loadu_ps(mask, from);
                        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
                    }
                }
                transpose_16(&mut rows);
                if width - first >= 16 {
                    for (i, row) in rows.iter().enumerate().take(here) {
                        _mm512_storeu_ps(to.add((k + i) * width + first), *row);
                    }
                } else {
                    let mask = (0xffffu32 >> (16 - (width - first))) as __mmask16;
                    for (i, row) in rows.iter().enumerate().take(here) {
                        _mm512_mask_storeu_ps(to.add((k + i) * width + first), mask, *row);
                    }
                }
            }
        }
    }
}

/// Transposes 16 vectors of 16 lanes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose_16(r: &mut [std::arch::x86_64::__m512; 16]) {
    use std::arch::x86_64::*;
    let mut t = [_mm512_setzero_ps(); 16];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for i in 0..4 {
        let pd = |j: usize| _mm512_castps_pd(t[4 * i + j]);
        r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(0), pd(2)));
        r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(0), pd(2)));
        r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(1), pd(3)));
        r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(1), pd(3)));
    }
    // Now r[4 i + j] holds, in its 128-bit quarter q, column 4 q + j of rows 4 i .. 4 i + 4.
    for j in 0..4 {
        let (a, b, c, d) = (r[j], r[4 + j], r[8 + j], r[12 + j]);
        let ab_low = _mm512_shuffle_f32x4::<0x88>(a, b);
        let ab_high = _mm512_shuffle_f32x4::<0xdd>(a, b);
        let cd_low = _mm512_shuffle_f32x4::<0x88>(c, d);
        let cd_high = _mm512_shuffle_f32x4::<0xdd>(c, d);
        t[j] = _mm512_shuffle_f32x4::<0x88>(ab_low, cd_low);
        t[8 + j] = _mm512_shuffle_f32x4::<0xdd>(ab_low, cd_low);
        t[4 + j] = _mm512_shuffle_f32x4::<0x88>(ab_high, cd_high);
        t[12 + j] = _mm512_shuffle_f32x4::<0xdd>(ab_high, cd_high);
    }
    *r = t;
}
