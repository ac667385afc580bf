//! Packing: from operands as they lie in memory to lanes as the micro-kernel reads them, rounded
//! on the way.
//!
//! `i` counts rows of A or columns of B. A panel holds `width` of them, `panel[step · width + i]`,
//! and zeros where there are fewer; packed rows of A lie one after another, `row[step]`, with
//! zeros up to a multiple of 16.

#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

use super::vector::{Rounding, ToBf16, Unrounded};
use super::{Arithmetic, Matrix, Scales};
use crate::kernels::convert::{bf16_to_f32, f16_to_f32, f32_to_bf16};
#[cfg(target_arch = "x86_64")]
use crate::kernels::isa::Isa;
use crate::kernels::isa::multiversion;
use crate::precision::Precision;
use orion_tensor::DType;

/// A part of an operand: `count` by `depth` elements of K.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Source {
    pub pointer: *const u8,
    /// F32, F16 or BF16; I8 where there are scales, of rows.
    pub dtype: DType,
    /// Distance of neighbours in `i`, in elements.
    pub across: isize,
    /// Distance of neighbours in K, in elements.
    pub along: isize,
    pub count: usize,
    pub depth: usize,
    pub scales: Option<Scales>,
}

impl Source {
    pub(in crate::kernels) fn rows(a: Matrix, count: usize, depth: usize) -> Self {
        let Matrix { pointer, dtype, row, column, scales } = a;
        Self { pointer, dtype, across: row, along: column, count, depth, scales }
    }

    pub(in crate::kernels) fn columns(b: Matrix, count: usize, depth: usize) -> Self {
        let Matrix { pointer, dtype, row, column, scales } = b;
        Self { pointer, dtype, across: column, along: row, count, depth, scales }
    }
}

/// Packs panels of a width, and so many lanes apart.
///
/// # Safety
/// The source is readable; `to` is writable for all panels, and up to 16 lanes after each where
/// the width is not a multiple of 16. `pair` is that of the arithmetic's
/// micro-kernel.
pub(in crate::kernels) unsafe fn panels(
    Arithmetic { isa, precision }: Arithmetic,
    pair: usize,
    source: Source,
    (width, apart): (usize, usize),
    to: *mut u32,
) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Avx512
            && (source.across == 1 || source.along == 1)
            && (pair == 2 || precision == Precision::F32)
        {
            return x86::panels(pair, source, (width, apart), to);
        }
        if pair == 2 {
            return pairs_of(isa, source, width, apart, to);
        }
        match precision {
            Precision::F32 => panels_of::<Unrounded>(isa, source, width, apart, to.cast()),
            Precision::Bf16 => panels_of::<ToBf16>(isa, source, width, apart, to.cast()),
        }
    }
}

/// Packs rows of A whose elements are contiguous along K, `row_lanes` apart.
///
/// # Safety
/// As for [`panels`]; `row_lanes` is a multiple of 16.
pub(super) unsafe fn rows(
    Arithmetic { isa, precision }: Arithmetic,
    pair: usize,
    source: Source,
    row_lanes: usize,
    to: *mut u32,
) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Avx512 && (pair == 2 || precision == Precision::F32) {
            return x86::rows(pair, source, row_lanes, to);
        }
        if let (2, Some(scales)) = (pair, source.scales) {
            return scaled_pairs(source, scales, row_lanes, to);
        }
        if pair == 2 {
            // A row is a panel of width 1.
            pairs_of(isa, source, 1, row_lanes, to);
            let lanes = source.depth.div_ceil(2);
            for i in 0..source.count {
                let end = to.add(i * row_lanes + lanes);
                end.write_bytes(0, lanes.next_multiple_of(16) - lanes);
            }
            return;
        }
        match precision {
            Precision::F32 => rows_of::<Unrounded>(isa, source, row_lanes, to.cast()),
            Precision::Bf16 => rows_of::<ToBf16>(isa, source, row_lanes, to.cast()),
        }
    }
}

/// Rows of int8 as pairs of bf16.
///
/// # Safety
/// As for [`rows`].
unsafe fn scaled_pairs(source: Source, scales: Scales, row_lanes: usize, to: *mut u32) {
    for i in 0..source.count {
        for lane in 0..source.depth.div_ceil(2).next_multiple_of(16) {
            let half = |k: usize| {
                if k >= source.depth {
                    return 0;
                }
                // SAFETY: the element is inside the row; the caller's promise.
                let value = unsafe {
                    let from = source.pointer.cast::<i8>().offset(i as isize * source.across);
                    (f32::from(*from.add(k)) - scales.offset(i, k)) * scales.of(i, k)
                };
                u32::from(f32_to_bf16(value))
            };
            // SAFETY: the caller's promise.
            unsafe { *to.add(i * row_lanes + lane) = half(2 * lane) | half(2 * lane + 1) << 16 };
        }
    }
}

/// Runs `$body` with `$read` reading an element at a distance as f32.
macro_rules! with_elements {
    ($source:ident, $rounding:ident, $read:ident => $body:expr) => {
        match $source.dtype {
            DType::F32 => {
                let $read = |offset: isize| {
                    $rounding::round($source.pointer.cast::<f32>().offset(offset).read_unaligned())
                };
                $body
            }
            DType::F16 => {
                let $read = |offset: isize| {
                    let half = $source.pointer.cast::<u16>().offset(offset).read_unaligned();
                    $rounding::round(f16_to_f32(half))
                };
                $body
            }
            DType::BF16 => {
                let $read = |offset: isize| {
                    bf16_to_f32($source.pointer.cast::<u16>().offset(offset).read_unaligned())
                };
                $body
            }
            _ => unreachable!("the planner converts other types"),
        }
    };
}

multiversion! {
    /// # Safety
    /// As for [`panels`].
    unsafe fn panels_of<R: Rounding>(source: Source, width: usize, apart: usize, to: *mut f32) = panels_inner
}

#[inline(always)]
unsafe fn panels_inner<R: Rounding, const FMA: bool>(
    source: Source,
    width: usize,
    apart: usize,
    to: *mut f32,
) {
    let Source { across, along, count, depth, .. } = source;
    // SAFETY: the caller's promise.
    unsafe {
        with_elements!(source, R, read => {
            for first in (0..count).step_by(width) {
                let to = to.add(first / width * apart);
                let here = width.min(count - first);
                for k in 0..depth {
                    let to = to.add(k * width);
                    let start = first as isize * across + k as isize * along;
                    if across == 1 {
                        (0..here).for_each(|i| *to.add(i) = read(start + i as isize));
                    } else {
                        (0..here).for_each(|i| *to.add(i) = read(start + i as isize * across));
                    }
                    (here..width).for_each(|i| *to.add(i) = 0.0);
                }
            }
        });
    }
}

multiversion! {
    /// # Safety
    /// As for [`rows`].
    unsafe fn rows_of<R: Rounding>(source: Source, row_lanes: usize, to: *mut f32) = rows_inner
}

#[inline(always)]
unsafe fn rows_inner<R: Rounding, const FMA: bool>(source: Source, row_lanes: usize, to: *mut f32) {
    let Source { across, count, depth, .. } = source;
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(scales) = source.scales {
            for i in 0..count {
                let to = to.add(i * row_lanes);
                let from = source.pointer.cast::<i8>().offset(i as isize * across);
                for k in 0..depth {
                    let shifted = f32::from(*from.add(k)) - scales.offset(i, k);
                    *to.add(k) = R::round(shifted * scales.of(i, k));
                }
                (depth..depth.next_multiple_of(16)).for_each(|k| *to.add(k) = 0.0);
            }
            return;
        }
        with_elements!(source, R, read => {
            for i in 0..count {
                let to = to.add(i * row_lanes);
                (0..depth).for_each(|k| *to.add(k) = read(i as isize * across + k as isize));
                (depth..depth.next_multiple_of(16)).for_each(|k| *to.add(k) = 0.0);
            }
        });
    }
}

multiversion! {
    /// Panels of pairs of bf16 that are neighbours in K, the first in the lower half.
    ///
    /// # Safety
    /// As for [`panels`].
    unsafe fn pairs_of(source: Source, width: usize, apart: usize, to: *mut u32) = pairs_inner
}

#[inline(always)]
unsafe fn pairs_inner<const FMA: bool>(source: Source, width: usize, apart: usize, to: *mut u32) {
    type R = ToBf16;
    let Source { across, along, count, depth, .. } = source;
    // SAFETY: the caller's promise; past the end of K nothing is read.
    unsafe {
        with_elements!(source, R, read => {
            for first in (0..count).step_by(width) {
                let to = to.add(first / width * apart);
                let here = width.min(count - first);
                for lane in 0..depth.div_ceil(2) {
                    let to = to.add(lane * width);
                    let start = first as isize * across + 2 * lane as isize * along;
                    let whole = 2 * lane + 1 < depth;
                    for i in 0..here {
                        let at = start + i as isize * across;
                        let low = read(at).to_bits() >> 16;
                        let high = if whole { read(at + along).to_bits() & 0xffff_0000 } else { 0 };
                        *to.add(i) = low | high;
                    }
                    (here..width).for_each(|i| *to.add(i) = 0);
                }
            }
        });
    }
}
