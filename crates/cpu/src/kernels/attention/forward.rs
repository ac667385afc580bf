//! Attention itself: blocks of keys, with the softmax kept up to date.

use super::{Head, Parts, QUERIES, Sizes, Target, absorb, scale_lanes, store, transposed};
use crate::kernels::gemm::small::Small;
use crate::kernels::gemm::{Arithmetic, Destination, Size};
use std::ops::Range;

/// Keys of one block: scores and a panel of each factor stay in a first-level cache.
const KEYS: usize = 128;

/// Sizes of the parts of a thread's memory, in floats.
fn needed(sizes: Sizes) -> [usize; 8] {
    let Sizes { keys, width, value_width, .. } = sizes;
    let blocks = keys.div_ceil(KEYS);
    [
        blocks * of_keys(width),
        blocks * of_values(value_width),
        of_values(value_width),
        Small::right_lanes(width, QUERIES),
        value_width * QUERIES,
        KEYS * QUERIES,
        Small::right_lanes(KEYS, QUERIES),
        QUERIES * QUERIES,
    ]
}

/// Floats of a packed block of keys.
fn of_keys(width: usize) -> usize {
    Small::left_lanes(KEYS, width).next_multiple_of(16)
}

/// The same of values.
fn of_values(value_width: usize) -> usize {
    Small::left_lanes(value_width, KEYS).next_multiple_of(16)
}

/// Floats of memory that [`attend`] needs.
pub(crate) fn forward_lanes(sizes: Sizes) -> usize {
    needed(sizes).iter().map(|n| n.next_multiple_of(16) + 16).sum()
}

/// `softmax(factor · Q Kᵀ, masked) V` of one head for some of its queries. For each query also
/// the largest score and the inverse of the sum of exponentials, `[2, S]`, when asked for.
///
/// # Safety
/// Operands are readable and the result and statistics writable for the queries; `memory` is as
/// large as [`forward_lanes`] says.
pub(crate) unsafe fn attend(
    a: Arithmetic,
    sizes: Sizes,
    head: &Head,
    queries: Range<usize>,
    to: Target,
    statistics: Option<*mut f32>,
    memory: *mut f32,
) {
    let small = Small::new(a);
    let Sizes { keys, width, value_width, .. } = sizes;
    // SAFETY: the caller's promise; parts are as large as what is written to them.
    unsafe {
        let mut parts = Parts(memory);
        let [packed_keys, packed_values, last_values, query, result, block, weights, scratch] =
            needed(sizes).map(|n| parts.take(n + 16));
        let packed_end = head.mask.visible(&queries, keys).0;
        let keys_at = |first: usize| head.key.at(first, 0);
        let values_at = |first: usize| transposed(head.value.at(first, 0));
        for (number, first) in (0..packed_end).step_by(KEYS).enumerate() {
            let count = KEYS.min(packed_end - first);
            small.left(keys_at(first), count, width, packed_keys.add(number * of_keys(width)));
            let to = packed_values.add(number * of_values(value_width));
            small.left(values_at(first), value_width, count, to);
        }
        for first_query in queries.clone().step_by(QUERIES) {
            let lanes = first_query..queries.end.min(first_query + QUERIES);
            small.right(transposed(head.query.at(first_query, 0)), width, lanes.len(), query);
            std::slice::from_raw_parts_mut(result, value_width * QUERIES).fill(0.0);
            let (mut max, mut sum) = ([f32::NEG_INFINITY; QUERIES], [0f32; QUERIES]);
            let (end, unmasked) = head.mask.visible(&lanes, keys);
            for (number, first) in (0..end).step_by(KEYS).enumerate() {
                let count = KEYS.min(end - first);
                // The block may have been packed with more keys than are read here.
                let packed = KEYS.min(packed_end - first);
                let left = packed_keys.add(number * of_keys(width));
                let left = small.packed_left(keys_at(first), packed, width, left);
                let right = small.panel(query, width, 0);
                let to = Destination { pointer: block, row: QUERIES as isize };
                small.multiply(Size { m: count, n: QUERIES, k: width }, left, right, to, false);
                let mut factor = head.factor;
                if first + count > unmasked {
                    scale_lanes(a.isa, block, count, &[factor; QUERIES]);
                    factor = 1.0;
                    head.mask.apply(block, (1, QUERIES), &(first..first + count), &lanes);
                }
                let scale = absorb(a.isa, block, count, factor, &mut max, &mut sum);
                if first > 0 {
                    scale_lanes(a.isa, result, value_width, &scale);
                }
                let left = if small.pair() > 1 && count % 2 > 0 && count < packed {
                    // A pair must not hold a key that is not read.
                    small.left(values_at(first), value_width, count, last_values)
                } else {
                    let left = packed_values.add(number * of_values(value_width));
                    small.packed_left(values_at(first), value_width, packed, left)
                };
                let right = small.block(block, QUERIES, count, QUERIES, weights);
                let to = Destination { pointer: result, row: QUERIES as isize };
                let size = Size { m: value_width, n: QUERIES, k: count };
                small.multiply(size, left, right, to, true);
            }
            let inverse = sum.map(|s| 1.0 / s);
            scale_lanes(a.isa, result, value_width, &inverse);
            let to = Target {
                pointer: to.pointer.offset(first_query as isize * to.row),
                row: to.column,
                column: to.row,
            };
            store(a, result, QUERIES, value_width, lanes.len(), to, 1.0, scratch);
            if let Some(statistics) = statistics {
                let count = lanes.len();
                for (i, values) in [max, inverse].iter().enumerate() {
                    let to = statistics.add(i * sizes.queries + first_query);
                    std::slice::from_raw_parts_mut(to, count).copy_from_slice(&values[..count]);
                }
            }
        }
    }
}
