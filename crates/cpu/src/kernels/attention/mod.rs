//! Attention without a matrix of scores in memory: Dao et al., "FlashAttention", 2022.
//!
//! Forward, scores are computed in blocks of some keys by 32 queries, one query to a lane, so that
//! maxima and sums over keys need no shuffles and a block is at once the right factor of the next
//! product. Backward, where largest scores and sums are known, keys are lanes, so that gradients
//! of keys and values come out with positions side by side, as networks keep them. Letters: `S`
//! queries, `T` keys, `D` channels of queries and keys, `F` of values.

mod backward;
mod few;
mod forward;

pub(crate) use backward::{Gradients, attend_backward, backward_lanes};
pub(crate) use few::{attend_few, few_lanes};
pub(crate) use forward::{attend, forward_lanes};

use super::gemm::pack::{Source, panels};
use super::gemm::small::PANEL;
use super::gemm::{Arithmetic, Matrix};
use super::isa::{Isa, multiversion};
use super::math::exp_to_88;
use std::ops::Range;

/// Queries handled together.
pub(crate) const QUERIES: usize = PANEL;

type Lanes = [f32; QUERIES];

/// Sizes of one head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// `S`
    pub queries: usize,
    /// `T`
    pub keys: usize,
    /// `D`
    pub width: usize,
    /// `F`
    pub value_width: usize,
}

/// What is done to scores before the softmax, for one head. Strides are in elements.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mask {
    Nothing,
    /// `masked` is added where the key's number is larger than the query's int32 position. Keys
    /// that no query of a block sees are not read.
    Positions {
        positions: *const i32,
        stride: isize,
        masked: f32,
    },
    /// f32 that are added.
    Added {
        values: *const f32,
        query: isize,
        key: isize,
    },
    /// Bools: where one is false, the score is `otherwise`.
    Chosen {
        values: *const u8,
        query: isize,
        key: isize,
        otherwise: f32,
    },
}

/// One head's operands. Rows of the matrices are queries and keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// `[S, D]`
    pub query: Matrix,
    /// `[T, D]`
    pub key: Matrix,
    /// `[T, F]`
    pub value: Matrix,
    pub mask: Mask,
    /// What products of queries and keys are multiplied by.
    pub factor: f32,
}

/// An f32 matrix that is written; strides are in elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub pointer: *mut f32,
    pub row: isize,
    pub column: isize,
}

impl Mask {
    /// Of a block of queries: how many keys are read, and how many of those every query sees.
    ///
    /// # Safety
    /// The mask is readable for the queries.
    unsafe fn visible(self, queries: &Range<usize>, keys: usize) -> (usize, usize) {
        match self {
            Self::Nothing => (keys, keys),
            Self::Positions { positions, stride, .. } => {
                // SAFETY: the caller's promise.
                let of = |i: usize| i64::from(unsafe { *positions.offset(i as isize * stride) });
                let (low, high) = queries
                    .clone()
                    .map(of)
                    .fold((i64::MAX, i64::MIN), |(low, high), p| (low.min(p), high.max(p)));
                if low < 0 {
                    // A query that sees nothing attends to all, as lowered scores are all alike.
                    return (keys, 0);
                }
                let count = |p: i64| usize::try_from(p + 1).map_or(keys, |n| n.min(keys));
                (count(high), count(low))
            }
            Self::Added { .. } | Self::Chosen { .. } => (keys, 0),
        }
    }

    /// Applies the mask to a block of scores of some keys; `strides` are the distances of
    /// neighbouring queries and keys in the block.
    ///
    /// # Safety
    /// The mask is readable for the queries and keys, the block is writable.
    unsafe fn apply(
        self,
        block: *mut f32,
        strides: (usize, usize),
        keys: &Range<usize>,
        queries: &Range<usize>,
    ) {
        let at = |i: usize, j: usize| {
            block.wrapping_add((i - queries.start) * strides.0 + (j - keys.start) * strides.1)
        };
        // SAFETY: the caller's promise, also in what follows.
        unsafe {
            match self {
                Self::Nothing => {}
                Self::Positions { positions, stride, masked } => {
                    for i in queries.clone() {
                        let position = i64::from(*positions.offset(i as isize * stride));
                        let seen = usize::try_from(position + 1).unwrap_or(0);
                        for j in seen.max(keys.start)..keys.end {
                            *at(i, j) += masked;
                        }
                    }
                }
                Self::Added { values, query, key } => {
                    for i in queries.clone() {
                        for j in keys.clone() {
                            *at(i, j) += *values.offset(i as isize * query + j as isize * key);
                        }
                    }
                }
                Self::Chosen { values, query, key, otherwise } => {
                    for i in queries.clone() {
                        for j in keys.clone() {
                            if *values.offset(i as isize * query + j as isize * key) == 0 {
                                *at(i, j) = otherwise;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Packs one panel, `[depth, width]`.
///
/// # Safety
/// The source is readable; `to` has room for the panel and 16 floats more.
unsafe fn pack(a: Arithmetic, source: Source, width: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { panels(a, 1, source, (width, width * source.depth), to.cast()) };
}

/// The matrix with rows and columns swapped.
fn transposed(m: Matrix) -> Matrix {
    Matrix { row: m.column, column: m.row, ..m }
}

/// `to[r, c] = from[r, c] · factor`, where `from` is contiguous in `c`.
///
/// # Safety
/// `rows` by `columns` are readable and writable; `scratch` holds `32 · columns` floats.
#[expect(clippy::too_many_arguments, reason = "a kernel takes sizes and strides")]
unsafe fn store(
    a: Arithmetic,
    from: *const f32,
    from_row: usize,
    rows: usize,
    columns: usize,
    to: Target,
    factor: f32,
    scratch: *mut f32,
) {
    // SAFETY: the caller's promise, also in what follows.
    unsafe {
        if to.column == 1 {
            for r in 0..rows {
                let from = std::slice::from_raw_parts(from.add(r * from_row), columns);
                let to = to.pointer.offset(r as isize * to.row);
                let to = std::slice::from_raw_parts_mut(to, columns);
                to.iter_mut().zip(from).for_each(|(to, &v)| *to = v * factor);
            }
            return;
        }
        if to.row != 1 {
            for r in 0..rows {
                for c in 0..columns {
                    let at = r as isize * to.row + c as isize * to.column;
                    *to.pointer.offset(at) = *from.add(r * from_row + c) * factor;
                }
            }
            return;
        }
        let a = Arithmetic { precision: crate::Precision::F32, ..a };
        for first in (0..rows).step_by(QUERIES) {
            let count = QUERIES.min(rows - first);
            let start = from.add(first * from_row).cast();
            let source = Matrix::new(start, orion_tensor::DType::F32, from_row as isize, 1);
            pack(a, Source::rows(source, count, columns), QUERIES, scratch);
            for c in 0..columns {
                let to = to.pointer.offset(c as isize * to.column).add(first);
                let to = std::slice::from_raw_parts_mut(to, count);
                let from = std::slice::from_raw_parts(scratch.add(c * QUERIES), count);
                to.iter_mut().zip(from).for_each(|(to, &v)| *to = v * factor);
            }
        }
    }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

multiversion! {
    /// Turns a block of scores `[count, 32]`, which `factor` is still missing from, into
    /// `exp(score - largest so far)`, and brings the largest value and the sum of every lane up
    /// to date. Gives what earlier sums and results were multiplied by.
    ///
    /// # Safety
    /// The block is writable.
    unsafe fn absorb(block: *mut f32, count: usize, factor: f32, max: &mut Lanes, sum: &mut Lanes)
        -> Lanes = absorb_inner
}

#[inline(always)]
unsafe fn absorb_inner<const FMA: bool>(
    block: *mut f32,
    count: usize,
    factor: f32,
    max: &mut Lanes,
    sum: &mut Lanes,
) -> Lanes {
    // SAFETY: the caller's promise.
    let rows = unsafe { std::slice::from_raw_parts_mut(block.cast::<Lanes>(), count) };
    let mut new = *max;
    for row in &*rows {
        for (new, &score) in new.iter_mut().zip(row) {
            *new = larger(*new, score * factor);
        }
    }
    // While all is -inf, which minus itself is not a number, the sum stays 0.
    let mut shift = new;
    for shift in &mut shift {
        *shift = if *shift == f32::NEG_INFINITY { 0.0 } else { *shift };
    }
    let mut added = [0f32; QUERIES];
    for row in rows {
        for ((score, &shift), added) in row.iter_mut().zip(&shift).zip(&mut added) {
            *score = exp_to_88::<FMA>(*score * factor - shift);
            *added += *score;
        }
    }
    let mut scale = [0f32; QUERIES];
    for i in 0..QUERIES {
        scale[i] = exp_to_88::<FMA>(max[i] - shift[i]);
        sum[i] = sum[i] * scale[i] + added[i];
    }
    *max = new;
    scale
}

/// Multiplies the lanes of every row of a block.
///
/// # Safety
/// The block is writable; the machine has the instructions.
unsafe fn scale_lanes(isa: Isa, block: *mut f32, rows: usize, scale: &Lanes) {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Avx512 {
            return scale_lanes_avx512(block, rows, scale);
        }
        let _ = isa;
        for row in std::slice::from_raw_parts_mut(block.cast::<Lanes>(), rows) {
            row.iter_mut().zip(scale).for_each(|(v, &s)| *v *= s);
        }
    }
}

/// Compilers would make vectors of a lane of many rows.
///
/// # Safety
/// As for [`scale_lanes`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn scale_lanes_avx512(block: *mut f32, rows: usize, scale: &Lanes) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise.
    unsafe {
        let scale = [_mm512_loadu_ps(scale.as_ptr()), _mm512_loadu_ps(scale.as_ptr().add(16))];
        for row in 0..rows {
            for (half, &scale) in scale.iter().enumerate() {
                let at = block.add(row * QUERIES + half * 16);
                _mm512_storeu_ps(at, _mm512_mul_ps(_mm512_loadu_ps(at), scale));
            }
        }
    }
}

/// Cuts memory into parts.
struct Parts(*mut f32);

impl Parts {
    /// # Safety
    /// That many floats are left.
    unsafe fn take(&mut self, floats: usize) -> *mut f32 {
        let start = self.0;
        // SAFETY: the caller's promise.
        self.0 = unsafe { start.add(floats.next_multiple_of(16)) };
        start
    }
}

#[cfg(test)]
mod tests;
