//! The largest and smallest, and where they are.

use super::movement::take;
use super::numbers::Numbers;
use super::offsets::{groups, offsets, strides};
use orion_tensor::Tensor;
use std::cmp::Ordering;

/// The members of each group along `axis`, best first, ties by position; by group.
fn ranked(x: &Tensor, axis: usize, smallest: bool) -> Vec<Vec<usize>> {
    let (starts, members) = groups(x.shape(), &[axis]);
    let rank_all = |compare: &dyn Fn(usize, usize) -> Ordering| {
        let rank = |&start: &usize| {
            let mut order: Vec<usize> = (0..members.len()).collect();
            // A stable sort leaves ties in the order of their positions.
            order.sort_by(|&a, &b| compare(start + members[a], start + members[b]));
            order
        };
        starts.iter().map(rank).collect()
    };
    let direction = |o: Ordering| if smallest { o } else { o.reverse() };
    match Numbers::of(x) {
        Numbers::Int(v) => rank_all(&|a, b| direction(v[a].cmp(&v[b]))),
        Numbers::Float(v) => rank_all(&|a, b| match (v[a].is_nan(), v[b].is_nan()) {
            (false, false) => direction(v[a].partial_cmp(&v[b]).expect("neither is NaN")),
            (a, b) => b.cmp(&a),
        }),
    }
}

pub(super) fn arg_reduce(x: &Tensor, axis: usize, max: bool) -> Result<Vec<i128>, String> {
    let first = |order: Vec<usize>| order.first().map(|&i| i as i128);
    let positions = ranked(x, axis, !max).into_iter().map(first);
    positions.collect::<Option<_>>().ok_or("an extreme of no elements".to_owned())
}

/// The values, and their positions along `axis`, both in the row-major order of the output.
pub(super) fn top_k(x: &Tensor, k: usize, axis: usize, ascending: bool) -> (Tensor, Vec<i128>) {
    let mut shape = x.shape().to_vec();
    shape[axis] = k;
    // Where each group's first result stands in the output, to put the ranks in its order.
    let (starts, members) = groups(&shape, &[axis]);
    let mut positions = vec![0; orion_tensor::element_count(&shape)];
    for (start, order) in starts.into_iter().zip(ranked(x, axis, ascending)) {
        for (member, position) in members.iter().zip(order) {
            positions[start + member] = position;
        }
    }
    let along = strides(x.shape())[axis] as usize;
    let mut across = strides(x.shape());
    across[axis] = 0;
    let starts = offsets(0, &shape, &across);
    let values = take(x, &shape, starts.iter().zip(&positions).map(|(s, p)| s + p * along));
    (values, positions.into_iter().map(|p| p as i128).collect())
}
