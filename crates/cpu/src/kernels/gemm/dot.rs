//! Dot products of contiguous rows with AVX-512: every weight is loaded once and multiplied with
//! up to eight columns that stay in the first-level cache.
//!
//! Floor: bytes of the weights over the bandwidth of reading. For eight columns a step of two
//! rows is 16 multiply-adds, 8 cycles, for 128 bytes of f32.

use super::Destination;
use super::Matrix;
use super::pack::x86::{Bf16, Element, F16, F32};
use orion_tensor::DType;
use std::arch::x86_64::*;

/// Columns computed together, at most.
const COLUMNS: usize = 8;

/// Weights are asked for as many rows ahead as are computed together, or this many bytes where
/// rows are long: processors that look ahead by themselves stop at the end of a page.
const AHEAD: isize = 1024;

/// `C[M, N] = A[M, K] · X[N, K]ᵀ` of contiguous rows, nothing rounded.
///
/// # Safety
/// As for `gemv`; the machine has AVX-512 F, BW and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
pub(super) unsafe fn dot_rows(
    a: Matrix,
    x: *const f32,
    c: Destination,
    rows: usize,
    columns: usize,
    depth: usize,
) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match a.dtype {
            DType::F32 => dot_elements::<F32>(a, x, c, rows, columns, depth),
            DType::F16 => dot_elements::<F16>(a, x, c, rows, columns, depth),
            DType::BF16 => dot_elements::<Bf16>(a, x, c, rows, columns, depth),
            _ => unreachable!("the planner converts other types"),
        }
    }
}

#[inline(always)]
unsafe fn dot_elements<E: Element>(
    a: Matrix,
    x: *const f32,
    c: Destination,
    rows: usize,
    columns: usize,
    depth: usize,
) {
    let mut row = 0;
    while row < rows {
        // Enough independent sums to hide the latency of additions, few enough for registers.
        let together = if rows - row >= 4 && columns <= 4 { 4 } else { (rows - row).min(2) };
        for first in (0..columns).step_by(COLUMNS) {
            let here = COLUMNS.min(columns - first);
            // SAFETY: the rows and columns are inside; the caller's promise.
            unsafe {
                let a = a.at(row, 0);
                let x = x.add(first * depth);
                let to = c.pointer.offset(row as isize * c.row).add(first);
                let c = Destination { pointer: to, ..c };
                macro_rules! tiles {
                    ($($rows:literal $columns:literal)*) => {
                        match (together, here) {
                            $(($rows, $columns) => tile::<E, $rows, $columns>(a, x, c, depth),)*
                            _ => unreachable!("at most four rows, or two of eight columns"),
                        }
                    };
                }
                tiles!(1 1  1 2  1 3  1 4  1 5  1 6  1 7  1 8
                       2 1  2 2  2 3  2 4  2 5  2 6  2 7  2 8
                       4 1  4 2  4 3  4 4);
            }
        }
        row += together;
    }
}

#[expect(clippy::needless_range_loop, reason = "indices of registers")]
#[inline(always)]
unsafe fn tile<E: Element, const ROWS: usize, const COLUMNS: usize>(
    a: Matrix,
    x: *const f32,
    c: Destination,
    depth: usize,
) {
    // SAFETY: the caller's promise; loads are masked to `depth`, prefetches may be of any address.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); COLUMNS]; ROWS];
        let row = a.row * E::BYTES as isize;
        let next = ROWS as isize * row;
        let ahead = if next <= 32 * AHEAD { next } else { AHEAD };
        for k in (0..depth).step_by(16) {
            let mask = if depth - k >= 16 { !0 } else { ((1u32 << (depth - k)) - 1) as __mmask16 };
            let mut weights = [_mm512_setzero_ps(); ROWS];
            for r in 0..ROWS {
                let from = a.pointer.offset(r as isize * row).add(k * E::BYTES);
                if k * E::BYTES % 64 == 0 {
                    _mm_prefetch::<_MM_HINT_T0>(from.wrapping_offset(ahead).cast());
                }
                weights[r] = E::widen(from, mask);
            }
            for n in 0..COLUMNS {
                let x = _mm512_maskz_loadu_ps(mask, x.add(n * depth + k));
                for r in 0..ROWS {
                    sums[r][n] = _mm512_fmadd_ps(weights[r], x, sums[r][n]);
                }
            }
        }
        for r in 0..ROWS {
            for n in 0..COLUMNS {
                let to = c.pointer.offset(r as isize * c.row).add(n);
                *to = _mm512_reduce_add_ps(sums[r][n]);
            }
        }
    }
}
