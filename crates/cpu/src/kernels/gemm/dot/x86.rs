//! Dot products with AVX-512.
//!
//! Weights are read as one stream, row after row, and asked for a distance ahead of where they
//! are needed: with several streams side by side memory gives a quarter less. Where several
//! columns make several rows at once worth while, the stream is asked for in its own order.
//!
//! Floor: bytes of the weights over the bandwidth of reading. Of 64 bytes of bf16 one column
//! takes 8 instructions, or 3 where pairs are multiplied; eight columns take 16 multiply-adds for
//! 64 bytes, or 8 of pairs: 27 and 54 GB/s for each thread at 3.9 GHz.

use super::super::pack::x86::{Bf16, Element, F16, F32, Int8, narrow, transpose_16};
use super::super::{Destination, Matrix, Scales, Size};
use super::{COLUMNS as COLUMNS_AT_MOST, Form};
use orion_tensor::DType;
use std::arch::x86_64::*;

/// How far ahead weights are asked for, in bytes: what two cores have in flight.
const AHEAD: isize = 4096;

/// Bytes of a cache line.
const LINE: usize = 64;

/// What weights are multiplied with.
trait Arithmetic {
    /// Weights in a vector.
    const STEP: usize;
    /// Bytes of a weight.
    const BYTES: usize;
    type Weights: Copy;

    /// Weights of the mask's lanes, zero elsewhere.
    ///
    /// # Safety
    /// They are readable; the machine has the instructions.
    unsafe fn load(from: *const u8, count: usize) -> Self::Weights;
    /// `sum + weights · x`, lane by lane, of the first `count` numbers.
    ///
    /// # Safety
    /// As for `load`.
    unsafe fn multiply_add(
        weights: Self::Weights,
        x: *const f32,
        count: usize,
        sum: __m512,
    ) -> __m512;
}

#[inline(always)]
fn lanes(count: usize) -> __mmask16 {
    if count >= 16 { !0 } else { ((1u32 << count) - 1) as __mmask16 }
}

/// Weights of any type, widened and multiplied with f32.
struct Widened<E>(std::marker::PhantomData<E>);

impl<E: Element> Arithmetic for Widened<E> {
    const STEP: usize = 16;
    const BYTES: usize = E::BYTES;
    type Weights = __m512;

    #[inline(always)]
    unsafe fn load(from: *const u8, count: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { E::widen(from, lanes(count)) }
    }

    #[inline(always)]
    unsafe fn multiply_add(weights: __m512, x: *const f32, count: usize, sum: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_fmadd_ps(weights, _mm512_maskz_loadu_ps(lanes(count), x), sum) }
    }
}

/// Pairs of bf16.
struct Pairs;

impl Arithmetic for Pairs {
    const STEP: usize = 32;
    const BYTES: usize = 2;
    type Weights = __m512bh;

    #[inline(always)]
    unsafe fn load(from: *const u8, count: usize) -> __m512bh {
        let mask = if count >= 32 { !0 } else { (1u32 << count) - 1 };
        // SAFETY: the caller's promise; vectors of the same size hold any bits.
        unsafe {
            std::mem::transmute::<__m512i, __m512bh>(_mm512_maskz_loadu_epi16(mask, from.cast()))
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(weights: __m512bh, x: *const f32, _: usize, sum: __m512) -> __m512 {
        // SAFETY: packed columns are whole vectors; else the caller's promise.
        unsafe {
            _mm512_dpbf16_ps(
                sum,
                weights,
                std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(x.cast())),
            )
        }
    }
}

/// [`super::dot_rows`].
///
/// # Safety
/// As there; the machine has AVX-512 F, BW, DQ and VL, and for pairs AVX512-BF16.
pub(super) unsafe fn dot_rows(form: Form, a: Matrix, x: *const f32, c: Destination, size: Size) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match (form, a.dtype) {
            (Form::Pairs, _) => dot_pairs(a, x, c, size),
            (_, DType::F32) => dot_widened::<F32>(a, x, c, size),
            (_, DType::F16) => dot_widened::<F16>(a, x, c, size),
            (_, DType::BF16) => dot_widened::<Bf16>(a, x, c, size),
            (_, DType::I8) => dot_scaled(a, x, c, size),
            _ => unreachable!("the planner converts other types"),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn dot_widened<E: Element>(a: Matrix, x: *const f32, c: Destination, size: Size) {
    // SAFETY: the caller's promise is passed on.
    unsafe { dot_inner::<Widened<E>>(a, x, c, size) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn dot_pairs(a: Matrix, x: *const f32, c: Destination, size: Size) {
    // SAFETY: the caller's promise is passed on.
    unsafe { dot_inner::<Pairs>(a, x, c, size) }
}

/// Runs a tile over all rows: `$tile::<ROWS, COLUMNS, …>`, as many rows together as hide the
/// latency of additions and fit in registers.
macro_rules! each_row {
    ($tile:ident $(, $arithmetic:ty)?; $a:expr, $x:expr, $c:expr, $size:expr) => {{
        let (a, x, c, size): (Matrix, *const f32, Destination, Size) = ($a, $x, $c, $size);
        macro_rules! together {
            ($rows:literal, $columns:literal) => {{
                let mut row = 0;
                while row < size.m {
                    let to = c.pointer.offset(row as isize * c.row);
                    let (a, c) = (a.at(row, 0), Destination { pointer: to, ..c });
                    if size.m - row >= $rows {
                        $tile::<$($arithmetic,)? $rows, $columns>(a, x, c, size.k);
                        row += $rows;
                    } else {
                        $tile::<$($arithmetic,)? 1, $columns>(a, x, c, size.k);
                        row += 1;
                    }
                }
            }};
        }
        match size.n {
            1 => together!(1, 1),
            2 => together!(4, 2),
            3 => together!(4, 3),
            4 => together!(4, 4),
            5 => together!(4, 5),
            6 => together!(3, 6),
            7 => together!(3, 7),
            8 => together!(3, 8),
            _ => unreachable!("at most eight columns"),
        }
    }};
}

#[inline(always)]
unsafe fn dot_inner<A: Arithmetic>(a: Matrix, x: *const f32, c: Destination, size: Size) {
    // SAFETY: the rows are inside; the caller's promise.
    unsafe { each_row!(tile, A; a, x, c, size) }
}

/// `ROWS` by `COLUMNS` dot products; a single one is four sums side by side.
#[inline(always)]
unsafe fn tile<A: Arithmetic, const ROWS: usize, const COLUMNS: usize>(
    a: Matrix,
    x: *const f32,
    c: Destination,
    depth: usize,
) {
    let row = a.row * A::BYTES as isize;
    // SAFETY: the caller's promise; prefetches may be of any address.
    unsafe {
        let mut sums = [[[_mm512_setzero_ps(); COLUMNS]; ROWS]; 4];
        let side_by_side = if ROWS * COLUMNS == 1 { 4 } else { 1 };
        macro_rules! step {
            ($k:expr, $count:expr, $sums:expr) => {{
                let (k, count) = ($k, $count);
                let mut weights = [A::load(a.pointer, 0); ROWS];
                for r in 0..ROWS {
                    let from = a.pointer.offset(r as isize * row).add(k * A::BYTES);
                    weights[r] = A::load(from, count);
                }
                for n in 0..COLUMNS {
                    // Columns lie side by side, a vector of each.
                    let x = x.add((k / A::STEP * COLUMNS + n) * 16);
                    for r in 0..ROWS {
                        $sums[r][n] = A::multiply_add(weights[r], x, count, $sums[r][n]);
                    }
                }
            }};
        }
        let block = (2 * LINE / A::BYTES).max(side_by_side * A::STEP);
        let whole = depth / block * block;
        let mut ahead = a.pointer.wrapping_offset(AHEAD * if ROWS > 1 { 2 } else { 1 });
        for k in (0..whole).step_by(block) {
            for line in 0..ROWS * block * A::BYTES / LINE {
                _mm_prefetch::<_MM_HINT_NTA>(ahead.wrapping_add(line * LINE).cast());
            }
            ahead = ahead.wrapping_add(ROWS * block * A::BYTES);
            for i in 0..block / A::STEP {
                step!(k + i * A::STEP, A::STEP, sums[i % side_by_side]);
            }
        }
        for k in (whole..depth).step_by(A::STEP) {
            step!(k, depth - k, sums[0]);
        }
        for r in 0..ROWS {
            let mut all = sums[0][r];
            for more in &sums[1..side_by_side] {
                for n in 0..COLUMNS {
                    all[n] = _mm512_add_ps(all[n], more[r][n]);
                }
            }
            store(all, c.pointer.offset(r as isize * c.row));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn dot_scaled(a: Matrix, x: *const f32, c: Destination, size: Size) {
    // SAFETY: the rows are inside; the caller's promise.
    unsafe {
        match a.scales.and_then(|s| s.offsets) {
            Some(_) => dot_scaled_by::<Shifted>(a, x, c, size),
            None => dot_scaled_by::<Unshifted>(a, x, c, size),
        }
    }
}

#[inline(always)]
unsafe fn dot_scaled_by<S: Shift>(a: Matrix, x: *const f32, c: Destination, size: Size) {
    let block = a.scales.expect("int8 has scales").block;
    let lines = size.n == 1 && size.k.is_multiple_of(LINE);
    // SAFETY: the rows are inside; the caller's promise.
    unsafe {
        match block {
            16 if lines => scaled_rows::<S, 4>(a, x, c, size),
            32 if lines => scaled_rows::<S, 2>(a, x, c, size),
            _ if lines && block.is_multiple_of(LINE) => scaled_rows::<S, 1>(a, x, c, size),
            _ => each_row!(scaled_tile, S; a, x, c, size),
        }
    }
}

/// What is taken off whole numbers before they are multiplied with their scale.
trait Shift {
    /// The offset at a position of the scales.
    ///
    /// # Safety
    /// The position is one of theirs; the machine has AVX-512.
    unsafe fn offset(scales: Scales, position: usize) -> __m512;
    /// `weights - offset`.
    ///
    /// # Safety
    /// The machine has AVX-512.
    unsafe fn shifted(weights: __m512, offset: __m512) -> __m512;
}

/// The scales have offsets.
struct Shifted;
/// They have none.
struct Unshifted;

impl Shift for Shifted {
    #[inline(always)]
    unsafe fn offset(scales: Scales, position: usize) -> __m512 {
        let offsets = scales.offsets.expect("who has none is not shifted");
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_ps(*offsets.add(position)) }
    }

    #[inline(always)]
    unsafe fn shifted(weights: __m512, offset: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_sub_ps(weights, offset) }
    }
}

impl Shift for Unshifted {
    #[inline(always)]
    unsafe fn offset(_: Scales, _: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn shifted(weights: __m512, _: __m512) -> __m512 {
        weights
    }
}

/// [`tile`] of int8, of which each block is shifted by its offset and multiplied with its scale.
#[expect(clippy::needless_range_loop, reason = "indices of registers")]
#[inline(always)]
unsafe fn scaled_tile<S: Shift, const ROWS: usize, const COLUMNS: usize>(
    a: Matrix,
    x: *const f32,
    c: Destination,
    depth: usize,
) {
    let scales = a.scales.expect("int8 has scales");
    // SAFETY: the caller's promise; prefetches may be of any address.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); COLUMNS]; ROWS];
        let mut ahead = a.pointer.wrapping_offset(AHEAD);
        // Rows begin with blocks.
        for (position, start) in (scales.position(0, 0)..).zip((0..depth).step_by(scales.block)) {
            let end = depth.min(start + scales.block);
            let mut scale = [_mm512_setzero_ps(); ROWS];
            let mut offset = [_mm512_setzero_ps(); ROWS];
            for r in 0..ROWS {
                let position = position + r * scales.row;
                scale[r] = _mm512_set1_ps(*scales.pointer.add(position));
                offset[r] = S::offset(scales, position);
            }
            for k in (start..end).step_by(16) {
                if k % LINE == 0 {
                    for line in 0..ROWS {
                        _mm_prefetch::<_MM_HINT_NTA>(ahead.wrapping_add(line * LINE).cast());
                    }
                    ahead = ahead.wrapping_add(ROWS * LINE);
                }
                let mut weights = [_mm512_setzero_ps(); ROWS];
                for r in 0..ROWS {
                    let from = a.pointer.offset(r as isize * a.row).add(k);
                    let whole = Int8::widen(from, lanes(end - k));
                    weights[r] = _mm512_mul_ps(S::shifted(whole, offset[r]), scale[r]);
                }
                for n in 0..COLUMNS {
                    let x = x.add(k * COLUMNS + n * 16);
                    let x = _mm512_maskz_loadu_ps(lanes(depth - k), x);
                    for r in 0..ROWS {
                        sums[r][n] = _mm512_fmadd_ps(weights[r], x, sums[r][n]);
                    }
                }
            }
        }
        for r in 0..ROWS {
            store(sums[r], c.pointer.offset(r as isize * c.row));
        }
    }
}

/// Dot products with one column of rows that are whole lines, in which so many `BLOCKS` begin, or
/// whose blocks are whole lines when that is 1. Sums side by side hide the latency of additions.
///
/// # Safety
/// As for [`dot_rows`]; the machine has AVX-512.
#[inline(always)]
unsafe fn scaled_rows<S: Shift, const BLOCKS: usize>(
    a: Matrix,
    x: *const f32,
    c: Destination,
    size: Size,
) {
    let scales = a.scales.expect("int8 has scales");
    let together = scales.block.max(LINE);
    let first = scales.position(0, 0);
    for row in 0..size.m {
        // SAFETY: the caller's promise; prefetches may be of any address.
        unsafe {
            let from = a.pointer.offset(row as isize * a.row);
            let mut position = first + row * scales.row;
            let mut sums = [_mm512_setzero_ps(); 4];
            for start in (0..size.k).step_by(together) {
                for k in (start..start + together).step_by(LINE) {
                    _mm_prefetch::<_MM_HINT_NTA>(from.add(k).wrapping_offset(AHEAD).cast());
                    for half in 0..2 {
                        let position = position + half * BLOCKS / 2;
                        let k = k + half * LINE / 2;
                        let shifted = |k: usize, position: usize| {
                            let weights = Int8::widen(from.add(k), !0);
                            S::shifted(weights, S::offset(scales, position))
                        };
                        let scale = |i: usize| _mm512_set1_ps(*scales.pointer.add(i));
                        let (low, high) =
                            (_mm512_loadu_ps(x.add(k)), _mm512_loadu_ps(x.add(k + 16)));
                        let even = _mm512_mul_ps(shifted(k, position), low);
                        if BLOCKS == 4 {
                            let odd = _mm512_mul_ps(shifted(k + 16, position + 1), high);
                            sums[half] = _mm512_fmadd_ps(even, scale(position), sums[half]);
                            sums[2 + half] =
                                _mm512_fmadd_ps(odd, scale(position + 1), sums[2 + half]);
                        } else {
                            let both = _mm512_fmadd_ps(shifted(k + 16, position), high, even);
                            sums[half] = _mm512_fmadd_ps(both, scale(position), sums[half]);
                        }
                    }
                }
                position += BLOCKS;
            }
            let [a, b, d, e] = sums;
            let all = _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(d, e));
            store([all], c.pointer.offset(row as isize * c.row));
        }
    }
}

/// Writes the sums of vectors.
///
/// # Safety
/// There is room; the machine has AVX-512.
#[inline(always)]
unsafe fn store<const COLUMNS: usize>(sums: [__m512; COLUMNS], to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        if COLUMNS == 1 {
            *to = _mm512_reduce_add_ps(sums[0]);
        } else {
            let mask = ((1u32 << COLUMNS) - 1) as __mmask8;
            _mm256_mask_storeu_ps(to, mask, totals(sums));
        }
    }
}

/// The sum of each of up to eight vectors.
///
/// # Safety
/// The machine has AVX-512.
#[inline(always)]
pub(in crate::kernels) unsafe fn totals<const COLUMNS: usize>(sums: [__m512; COLUMNS]) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let mut halves = [_mm256_setzero_ps(); COLUMNS_AT_MOST];
        for (half, s) in halves.iter_mut().zip(sums) {
            *half = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps::<1>(s));
        }
        let [a, b, c, d, e, f, g, h] = halves;
        // The sums of four vectors' lower quarters, then those of their upper quarters.
        let low = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
        let high = _mm256_hadd_ps(_mm256_hadd_ps(e, f), _mm256_hadd_ps(g, h));
        let lower = _mm256_permute2f128_ps::<0x20>(low, high);
        _mm256_add_ps(lower, _mm256_permute2f128_ps::<0x31>(low, high))
    }
}

/// [`super::pack_columns`] of f32.
///
/// # Safety
/// As there; the machine has AVX-512 F, BW and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
pub(super) unsafe fn pack_columns(b: Matrix, size: Size, to: *mut f32) {
    for k in (0..size.k).step_by(16) {
        // SAFETY: the caller's promise is passed on.
        unsafe {
            let group = columns_of(b, size, k);
            for (n, &column) in group.iter().take(size.n).enumerate() {
                _mm512_storeu_ps(to.add(k * size.n + n * 16), column);
            }
        }
    }
}

/// [`super::pack_columns`] of f32 to pairs of bf16.
///
/// # Safety
/// As there; the machine has AVX-512 F, BW, VL and BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn pack_pairs(b: Matrix, size: Size, to: *mut f32) {
    for k in (0..size.k).step_by(32) {
        // SAFETY: the caller's promise is passed on.
        unsafe {
            let low = columns_of(b, size, k);
            let high = columns_of(b, size, k + 16);
            for n in 0..size.n {
                let to = to.add(k / 2 * size.n + n * 16);
                _mm512_storeu_si512(to.cast(), narrow(low[n], high[n]));
            }
        }
    }
}

/// 16 rows from `k` on of each column, zero past the last.
///
/// # Safety
/// As for [`super::pack_columns`], of f32.
#[inline(always)]
unsafe fn columns_of(b: Matrix, size: Size, k: usize) -> [__m512; COLUMNS_AT_MOST] {
    let rows = size.k.saturating_sub(k).min(16);
    let from = b.pointer.cast::<f32>().wrapping_offset(k as isize * b.row);
    // SAFETY: the caller's promise; what is outside is not read.
    unsafe {
        let mut columns = [_mm512_setzero_ps(); COLUMNS_AT_MOST];
        if b.row == 1 {
            for (n, column) in columns.iter_mut().enumerate().take(size.n) {
                let from = from.wrapping_offset(n as isize * b.column);
                *column = _mm512_maskz_loadu_ps(lanes(rows), from);
            }
        } else if b.column == 1 {
            let mut block = [_mm512_setzero_si512(); 16];
            for (j, row) in block.iter_mut().enumerate().take(rows) {
                let from = from.wrapping_offset(j as isize * b.row);
                *row = _mm512_maskz_loadu_epi32(lanes(size.n), from.cast());
            }
            transpose_16(&mut block);
            for (column, row) in columns.iter_mut().zip(block) {
                *column = _mm512_castsi512_ps(row);
            }
        } else {
            for (n, column) in columns.iter_mut().enumerate().take(size.n) {
                let mut values = [0f32; 16];
                for (j, value) in values.iter_mut().enumerate().take(rows) {
                    *value = *from.offset(j as isize * b.row + n as isize * b.column);
                }
                *column = _mm512_loadu_ps(values.as_ptr());
            }
        }
        columns
    }
}
