//! Attention itself: blocks of keys, with the softmax kept up to date.

use super::tile::{COLUMNS, Left, ROWS, tile};
use super::{
    Head, Parts, QUERIES, Sizes, Target, absorb, pack, pack_columns, pack_rows, scale_lanes, store,
};
use crate::kernels::gemm::Arithmetic;
use crate::kernels::gemm::pack::Source;
use std::ops::Range;

/// Keys of one block: scores and a panel of each factor stay in a first-level cache.
const KEYS: usize = 128;

/// Sizes of the parts of a thread's memory, in floats.
struct Needed {
    keys: usize,
    values: usize,
    query: usize,
    result: usize,
    block: usize,
}

impl Needed {
    fn of(sizes: Sizes) -> Self {
        let keys = sizes.keys.next_multiple_of(ROWS);
        let value_width = sizes.value_width.next_multiple_of(ROWS);
        Self {
            keys: keys * sizes.width,
            values: keys * value_width,
            query: sizes.width * QUERIES,
            result: value_width * QUERIES,
            block: KEYS * QUERIES,
        }
    }

    fn all(&self) -> [usize; 6] {
        let scratch = QUERIES * QUERIES;
        [self.keys, self.values, self.query, self.result, self.block, scratch]
    }
}

/// Floats of memory that [`attend`] needs.
pub(crate) fn forward_lanes(sizes: Sizes) -> usize {
    Needed::of(sizes).all().iter().map(|n| n.next_multiple_of(16) + 16).sum()
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
    let needed = Needed::of(sizes);
    let Sizes { keys, width, value_width, .. } = sizes;
    // SAFETY: the caller's promise; parts are as large as what is written to them.
    unsafe {
        let mut parts = Parts(memory);
        let [packed_keys, packed_values, query, result, block, scratch] =
            needed.all().map(|n| parts.take(n + 16));
        let packed_end = head.mask.visible(&queries, keys).0;
        pack_rows(a, head.key, packed_end, width, packed_keys);
        for first in (0..packed_end).step_by(KEYS) {
            let count = KEYS.min(packed_end - first);
            let to = packed_values.add(first * value_width.next_multiple_of(ROWS));
            pack_columns(a, head.value.at(first, 0), count, value_width, ROWS, to);
        }
        for first_query in queries.clone().step_by(QUERIES) {
            let lanes = first_query..queries.end.min(first_query + QUERIES);
            let from = head.query.at(first_query, 0);
            pack(a, Source::rows(from, lanes.len(), width), QUERIES, query);
            scale_lanes(a.isa, query, width, &[head.factor; QUERIES]);
            std::slice::from_raw_parts_mut(result, needed.result).fill(0.0);
            let (mut max, mut sum) = ([f32::NEG_INFINITY; QUERIES], [0f32; QUERIES]);
            let (end, unmasked) = head.mask.visible(&lanes, keys);
            for first in (0..end).step_by(KEYS) {
                let count = KEYS.min(end - first);
                for j in (0..count).step_by(ROWS) {
                    let left = packed_keys.add((first + j) * width);
                    let to = block.add(j * QUERIES);
                    tile(a.isa, Left::Packed, width, left, query, to, COLUMNS, false);
                }
                if first + count > unmasked {
                    head.mask.apply(block, first, count, &lanes);
                }
                let scale = absorb(a.isa, block, count, &mut max, &mut sum);
                if first > 0 {
                    scale_lanes(a.isa, result, value_width, &scale);
                }
                // The block may have been packed with more keys than are read here.
                let packed = KEYS.min(packed_end - first);
                let values = packed_values.add(first * value_width.next_multiple_of(ROWS));
                for f in (0..value_width).step_by(ROWS) {
                    let (left, to) = (values.add(f * packed), result.add(f * QUERIES));
                    tile(a.isa, Left::Packed, count, left, block, to, COLUMNS, true);
                }
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
