//! Gradients of attention: probabilities are computed again, block by block.

use super::{
    Head, Lanes, Parts, QUERIES, Sizes, Target, exp_to_88, pack, scale_lanes, store, transposed,
};
use crate::kernels::gemm::pack::Source;
use crate::kernels::gemm::small::{PANEL, Small};
use crate::kernels::gemm::{Arithmetic, Destination, Matrix, Size};
use crate::kernels::isa::multiversion;
use crate::precision::Precision;
use orion_tensor::DType;

/// Keys of one block: two blocks of 32 queries and a panel of each factor stay in a first-level
/// cache.
const KEYS: usize = 2 * PANEL;

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

/// Floats from channel to channel of the sums of keys and values.
fn sums_row(keys: usize) -> usize {
    keys.next_multiple_of(KEYS) + 16
}

/// Floats of a packed block of keys or values of that many channels.
fn of_keys(width: usize) -> usize {
    Small::right_lanes(width, KEYS).next_multiple_of(16)
}

/// The same with keys along K.
fn of_channels(width: usize) -> usize {
    Small::right_lanes(KEYS, width).next_multiple_of(16)
}

/// Sizes of the parts of a thread's memory, in floats.
fn needed(sizes: Sizes) -> [usize; 19] {
    let Sizes { keys, width, value_width, .. } = sizes;
    let blocks = keys.div_ceil(KEYS);
    [
        blocks * of_keys(width),
        blocks * of_keys(value_width),
        blocks * of_channels(width),
        of_channels(width),
        width * sums_row(keys),
        value_width * sums_row(keys),
        Small::left_lanes(QUERIES, width),
        Small::left_lanes(width, QUERIES),
        Small::left_lanes(QUERIES, value_width),
        Small::left_lanes(value_width, QUERIES),
        width.next_multiple_of(PANEL) * QUERIES,
        QUERIES * KEYS,
        QUERIES * KEYS,
        Small::right_lanes(QUERIES, KEYS),
        Small::right_lanes(QUERIES, KEYS),
        Small::left_lanes(QUERIES, KEYS),
        value_width * QUERIES,
        value_width * QUERIES,
        QUERIES * width.max(value_width).max(KEYS),
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
    let small = Small::new(a);
    let exact = Arithmetic { precision: Precision::F32, ..a };
    let Sizes { queries: query_count, keys, width, value_width } = sizes;
    let wide = width.next_multiple_of(PANEL);
    let sums_row = sums_row(keys);
    // SAFETY: the caller's promise; parts are as large as what is written to them.
    unsafe {
        let mut parts = Parts(memory);
        let needed = needed(sizes);
        let [
            key_columns,
            value_columns,
            key_rows,
            last_key_rows,
            key_sums,
            value_sums,
            query_rows,
            query_columns,
            gradient_rows,
            gradient_columns,
            query_sums,
            scores,
            slopes,
            score_pairs,
            slope_pairs,
            slope_rows,
            gradient_lanes,
            result_lanes,
            scratch,
        ] = needed.map(|n| parts.take(n + 16));
        std::slice::from_raw_parts_mut(key_sums, needed[4]).fill(0.0);
        std::slice::from_raw_parts_mut(value_sums, needed[5]).fill(0.0);
        let mut factor = 1.0;
        for (number, at) in heads.enumerate() {
            let head = &at.head;
            factor = at.factor;
            if number == 0 {
                for (block, first) in (0..keys).step_by(KEYS).enumerate() {
                    let count = KEYS.min(keys - first);
                    let (key, value) = (head.key.at(first, 0), head.value.at(first, 0));
                    let to = key_columns.add(block * of_keys(width));
                    small.right(transposed(key), width, count, to);
                    let to = value_columns.add(block * of_keys(value_width));
                    small.right(transposed(value), value_width, count, to);
                    small.right(key, count, width, key_rows.add(block * of_channels(width)));
                }
            }
            for first_query in (0..query_count).step_by(QUERIES) {
                let queries = first_query..query_count.min(first_query + QUERIES);
                let m = queries.len();
                let (query, gradient) =
                    (head.query.at(first_query, 0), at.gradient.at(first_query, 0));
                let query_columns = small.left(transposed(query), width, m, query_columns);
                let query = small.left(query, m, width, query_rows);
                let gradient_columns =
                    small.left(transposed(gradient), value_width, m, gradient_columns);
                let gradient_left = small.left(gradient, m, value_width, gradient_rows);
                let mut row = Row::default();
                for (lane, i) in queries.clone().enumerate() {
                    row.max[lane] = *at.statistics.add(i);
                    row.inverse[lane] = *at.statistics.add(query_count + i);
                }
                let result = at.result.at(first_query, 0);
                for (matrix, to) in [(gradient, gradient_lanes), (result, result_lanes)] {
                    pack(exact, Source::rows(matrix, m, value_width), QUERIES, to);
                }
                add_products(a.isa, gradient_lanes, result_lanes, value_width, &mut row.sum);
                std::slice::from_raw_parts_mut(query_sums, m * wide).fill(0.0);
                let (end, unmasked) = head.mask.visible(&queries, keys);
                for (block, first) in (0..end).step_by(KEYS).enumerate() {
                    let count = KEYS.min(end - first);
                    let n = count.next_multiple_of(PANEL);
                    for column in (0..n).step_by(PANEL) {
                        let panel = column / PANEL;
                        let to = |block: *mut f32| Destination {
                            pointer: block.add(column),
                            row: KEYS as isize,
                        };
                        let right = key_columns.add(block * of_keys(width));
                        let right = small.panel(right, width, panel);
                        let size = Size { m, n: PANEL, k: width };
                        small.multiply(size, query, right, to(scores), false);
                        let right = value_columns.add(block * of_keys(value_width));
                        let right = small.panel(right, value_width, panel);
                        let size = Size { m, n: PANEL, k: value_width };
                        small.multiply(size, gradient_left, right, to(slopes), false);
                    }
                    let mut factor = head.factor;
                    if first + count > unmasked {
                        scale_lanes(a.isa, scores, m * KEYS / QUERIES, &[factor; QUERIES]);
                        factor = 1.0;
                        head.mask.apply(scores, (KEYS, 1), &(first..first + count), &queries);
                    }
                    differentiate(a.isa, scores, slopes, (m, n, count), factor, &row);
                    let weights = small.block(scores, KEYS, m, n, score_pairs);
                    let slopes_right = small.block(slopes, KEYS, m, n, slope_pairs);
                    for column in (0..n).step_by(PANEL) {
                        let to = |sums: *mut f32| Destination {
                            pointer: sums.add(first + column),
                            row: sums_row as isize,
                        };
                        let size = |m: usize| Size { m, n: PANEL, k: queries.len() };
                        let right = weights.at_column(column);
                        let to_values = to(value_sums);
                        small.multiply(size(value_width), gradient_columns, right, to_values, true);
                        let right = slopes_right.at_column(column);
                        small.multiply(size(width), query_columns, right, to(key_sums), true);
                    }
                    let slopes = Matrix::new(slopes.cast(), DType::F32, KEYS as isize, 1);
                    let slopes = small.left(slopes, m, count, slope_rows);
                    let packed = KEYS.min(keys - first);
                    let (rows, depth) = if small.pair() > 1 && count % 2 > 0 && count < packed {
                        // A pair must not hold a key that is not read.
                        small.right(head.key.at(first, 0), count, width, last_key_rows);
                        (last_key_rows, count)
                    } else {
                        (key_rows.add(block * of_channels(width)), packed)
                    };
                    for column in (0..width).step_by(PANEL) {
                        let right = small.panel(rows, depth, column / PANEL);
                        let to =
                            Destination { pointer: query_sums.add(column), row: wide as isize };
                        small.multiply(Size { m, n: PANEL, k: count }, slopes, right, to, true);
                    }
                }
                let to = Target {
                    pointer: at.to_query.pointer.offset(first_query as isize * at.to_query.row),
                    ..at.to_query
                };
                store(a, query_sums, wide, m, width, to, factor, scratch);
            }
        }
        for first in (0..keys).step_by(KEYS) {
            let count = KEYS.min(keys - first);
            for (sums, columns, to, factor) in
                [(key_sums, width, to_key, factor), (value_sums, value_width, to_value, 1.0)]
            {
                let to = Target {
                    pointer: to.pointer.offset(first as isize * to.row),
                    row: to.column,
                    column: to.row,
                };
                store(a, sums.add(first), sums_row, columns, count, to, factor, scratch);
            }
        }
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
    /// Adds the products of the rows of two blocks, `[rows, 32]`, lane by lane.
    ///
    /// # Safety
    /// Both blocks are readable.
    unsafe fn add_products(x: *const f32, y: *const f32, rows: usize, sums: &mut Lanes)
        = add_products_inner
}

#[inline(always)]
unsafe fn add_products_inner<const FMA: bool>(
    x: *const f32,
    y: *const f32,
    rows: usize,
    sums: &mut Lanes,
) {
    // Halves, which fit registers, as whole rows would not everywhere.
    for half in 0..2 {
        let mut part = [0f32; QUERIES / 2];
        for row in 0..rows {
            let at = row * QUERIES + half * part.len();
            for (i, part) in part.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *part += unsafe { *x.add(at + i) * *y.add(at + i) };
            }
        }
        sums[half * part.len()..][..part.len()].copy_from_slice(&part);
    }
}

multiversion! {
    /// Turns scores, which `factor` is still missing from, into probabilities, and gradients of
    /// probabilities into those of scores. `size` is queries, lanes of each, and those of them
    /// that are keys: the others get nothing.
    ///
    /// # Safety
    /// Both blocks are writable.
    unsafe fn differentiate(scores: *mut f32, slopes: *mut f32, size: (usize, usize, usize),
        factor: f32, row: &Row) = differentiate_inner
}

#[inline(always)]
unsafe fn differentiate_inner<const FMA: bool>(
    scores: *mut f32,
    slopes: *mut f32,
    (m, n, count): (usize, usize, usize),
    factor: f32,
    row: &Row,
) {
    for i in 0..m {
        // SAFETY: the caller's promise; the blocks do not overlap.
        let (scores, slopes) = unsafe {
            (
                std::slice::from_raw_parts_mut(scores.add(i * KEYS), n),
                std::slice::from_raw_parts_mut(slopes.add(i * KEYS), n),
            )
        };
        let (max, inverse, sum) = (row.max[i], row.inverse[i], row.sum[i]);
        let (score_panels, slope_panels) =
            (scores.as_chunks_mut::<PANEL>().0, slopes.as_chunks_mut::<PANEL>().0);
        for (scores, slopes) in score_panels.iter_mut().zip(slope_panels) {
            for (score, slope) in scores.iter_mut().zip(slopes) {
                let p = exp_to_88::<FMA>(*score * factor - max) * inverse;
                *score = p;
                *slope = p * (*slope - sum);
            }
        }
        scores[count..].fill(0.0);
        slopes[count..].fill(0.0);
    }
}
