//! Gradients of attention: probabilities are computed again, block by block.

use super::tile::{COLUMNS, Left, ROWS, tile};
use super::{
    Head, Lanes, Parts, QUERIES, Sizes, Target, exp_to_88, pack, pack_columns, pack_rows,
    scale_lanes, store,
};
use crate::kernels::gemm::pack::Source;
use crate::kernels::gemm::{Arithmetic, Matrix};
use crate::kernels::isa::multiversion;

/// Keys of one block: two blocks of 32 queries and a panel of each factor stay in a first-level
/// cache.
const KEYS: usize = 64;

/// One head of the queries that share a head of keys and values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gradients {
    pub head: Head,
    /// `[S, F]`: attention's result, and the gradient of the loss by it.
    pub result: Matrix,
    pub gradient: Matrix,
    /// `[2, S]`, as attention leaves them.
    pub statistics: *const f32,
    /// `[S, D]`
    pub to_query: Target,
    /// What the gradients of queries and keys are multiplied by.
    pub factor: f32,
}

/// Sizes of the parts of a thread's memory, in floats.
fn needed(sizes: Sizes) -> [usize; 14] {
    let keys = sizes.keys.next_multiple_of(ROWS);
    let (width, value_width) = (sizes.width, sizes.value_width);
    let padded = |n: usize| n.next_multiple_of(COLUMNS);
    [
        keys * width,
        keys * width.next_multiple_of(ROWS),
        keys * value_width,
        keys * padded(width),
        keys * padded(value_width),
        width * QUERIES,
        value_width * QUERIES,
        value_width * QUERIES,
        padded(width) * QUERIES,
        padded(value_width) * QUERIES,
        width.next_multiple_of(ROWS) * QUERIES,
        KEYS * QUERIES,
        KEYS * QUERIES,
        padded(width.max(value_width)) * QUERIES,
    ]
}

/// Floats of memory that [`attend_backward`] needs.
pub(crate) fn backward_lanes(sizes: Sizes) -> usize {
    needed(sizes).iter().map(|n| n.next_multiple_of(16) + 16).sum()
}

/// Gradients of all heads of queries that share the keys and values of the first: of every
/// head's queries, and summed over heads those of keys `[T, D]` and values `[T, F]`. With
/// `P = softmax(…)`, `O = P V` and the gradient `G` of `O`:
/// `dV = Pᵀ G`, `dS = P ∘ (G Vᵀ - rowsum(G ∘ O))`, `dQ = dS K`, `dK = dSᵀ Q`.
///
/// # Safety
/// Operands are readable and results writable; `memory` is as large as [`backward_lanes`] says.
pub(crate) unsafe fn attend_backward(
    a: Arithmetic,
    sizes: Sizes,
    heads: impl Iterator<Item = Gradients>,
    to_key: Target,
    to_value: Target,
    memory: *mut f32,
) {
    let Sizes { queries: query_count, keys, width, value_width } = sizes;
    let [wide_keys, wide_values] = [width, value_width].map(|n| n.next_multiple_of(COLUMNS));
    // SAFETY: the caller's promise; parts are as large as what is written to them.
    unsafe {
        let mut parts = Parts(memory);
        let needed = needed(sizes);
        let [
            key_rows,
            key_columns,
            value_rows,
            key_sums,
            value_sums,
            query,
            gradient,
            result,
            query_down,
            gradient_down,
            query_sums,
            probabilities,
            slopes,
            scratch,
        ] = needed.map(|n| parts.take(n + 16));
        std::slice::from_raw_parts_mut(key_sums, needed[3]).fill(0.0);
        std::slice::from_raw_parts_mut(value_sums, needed[4]).fill(0.0);
        let mut factor = 1.0;
        for (number, at) in heads.enumerate() {
            let head = &at.head;
            factor = at.factor;
            if number == 0 {
                pack_rows(a, head.key, keys, width, key_rows);
                pack_rows(a, head.value, keys, value_width, value_rows);
                for first in (0..keys).step_by(KEYS) {
                    let count = KEYS.min(keys - first);
                    let to = key_columns.add(first * width.next_multiple_of(ROWS));
                    pack_columns(a, head.key.at(first, 0), count, width, ROWS, to);
                }
            }
            for first_query in (0..query_count).step_by(QUERIES) {
                let lanes = first_query..query_count.min(first_query + QUERIES);
                let across = |m: Matrix, columns: usize, to: *mut f32| {
                    let m = m.at(first_query, 0);
                    pack(a, Source::rows(m, lanes.len(), columns), QUERIES, to);
                };
                let down = |m: Matrix, columns: usize, to: *mut f32| {
                    pack_columns(a, m.at(first_query, 0), lanes.len(), columns, COLUMNS, to);
                };
                across(head.query, width, query);
                scale_lanes(a.isa, query, width, &[head.factor; QUERIES]);
                across(at.gradient, value_width, gradient);
                across(at.result, value_width, result);
                down(head.query, width, query_down);
                down(at.gradient, value_width, gradient_down);
                let mut row = Row::default();
                for (lane, i) in lanes.clone().enumerate() {
                    row.max[lane] = *at.statistics.add(i);
                    row.inverse[lane] = *at.statistics.add(query_count + i);
                }
                for f in 0..value_width {
                    let [g, o] = [gradient, result].map(|m| m.add(f * QUERIES).cast::<Lanes>());
                    for (sum, (g, o)) in row.sum.iter_mut().zip((*g).iter().zip(&*o)) {
                        *sum += g * o;
                    }
                }
                std::slice::from_raw_parts_mut(query_sums, needed[10]).fill(0.0);
                let (end, unmasked) = head.mask.visible(&lanes, keys);
                for first in (0..end).step_by(KEYS) {
                    let count = KEYS.min(end - first);
                    for j in (0..count).step_by(ROWS) {
                        let block = j * QUERIES;
                        let (left, to) =
                            (key_rows.add((first + j) * width), probabilities.add(block));
                        tile(a.isa, Left::Packed, width, left, query, to, COLUMNS, false);
                        let (left, to) =
                            (value_rows.add((first + j) * value_width), slopes.add(block));
                        tile(a.isa, Left::Packed, value_width, left, gradient, to, COLUMNS, false);
                    }
                    if first + count > unmasked {
                        head.mask.apply(probabilities, first, count, &lanes);
                    }
                    differentiate(a.isa, probabilities, slopes, count, &row);
                    // Keys of the last panel that are not read here get nothing.
                    for block in [probabilities, slopes] {
                        let rest = (count.next_multiple_of(ROWS) - count) * QUERIES;
                        std::slice::from_raw_parts_mut(block.add(count * QUERIES), rest).fill(0.0);
                    }
                    for j in (0..count).step_by(ROWS) {
                        let block = j * QUERIES;
                        for f in (0..value_width).step_by(COLUMNS) {
                            let left = probabilities.add(block);
                            let right = gradient_down.add(f * lanes.len());
                            let to = value_sums.add((first + j) * wide_values + f);
                            tile(
                                a.isa,
                                Left::Block,
                                lanes.len(),
                                left,
                                right,
                                to,
                                wide_values,
                                true,
                            );
                        }
                        for d in (0..width).step_by(COLUMNS) {
                            let left = slopes.add(block);
                            let right = query_down.add(d * lanes.len());
                            let to = key_sums.add((first + j) * wide_keys + d);
                            tile(a.isa, Left::Block, lanes.len(), left, right, to, wide_keys, true);
                        }
                    }
                    let packed = KEYS.min(keys - first);
                    let columns = key_columns.add(first * width.next_multiple_of(ROWS));
                    for d in (0..width).step_by(ROWS) {
                        let (left, to) = (columns.add(d * packed), query_sums.add(d * QUERIES));
                        tile(a.isa, Left::Packed, count, left, slopes, to, COLUMNS, true);
                    }
                }
                let to = Target {
                    pointer: at.to_query.pointer.offset(first_query as isize * at.to_query.row),
                    row: at.to_query.column,
                    column: at.to_query.row,
                };
                store(a, query_sums, QUERIES, width, lanes.len(), to, factor, scratch);
            }
        }
        store(a, key_sums, wide_keys, keys, width, to_key, factor, scratch);
        store(a, value_sums, wide_values, keys, value_width, to_value, 1.0, scratch);
    }
}

/// What is known of each query of a block; zeros for lanes without one.
#[derive(Default)]
pub(crate) struct Row {
    max: Lanes,
    inverse: Lanes,
    sum: Lanes,
}

multiversion! {
    /// Turns scores into probabilities, and gradients of probabilities into those of scores.
    ///
    /// # Safety
    /// Both blocks are writable.
    unsafe fn differentiate(scores: *mut f32, slopes: *mut f32, count: usize, row: &Row)
        = differentiate_inner
}

#[inline(always)]
unsafe fn differentiate_inner<const FMA: bool>(
    scores: *mut f32,
    slopes: *mut f32,
    count: usize,
    row: &Row,
) {
    for j in 0..count {
        // SAFETY: the caller's promise; the blocks do not overlap.
        let (scores, slopes) =
            unsafe { (&mut *scores.cast::<Lanes>().add(j), &mut *slopes.cast::<Lanes>().add(j)) };
        for i in 0..QUERIES {
            let p = exp_to_88::<FMA>(scores[i] - row.max[i]) * row.inverse[i];
            scores[i] = p;
            slopes[i] = p * (slopes[i] - row.sum[i]);
        }
    }
}
