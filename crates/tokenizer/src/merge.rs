//! Merging adjacent tokens, best first: the core of every tokenizer here.
//!
//! Does not know where priorities come from.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No neighbour.
const END: u32 = u32::MAX;

/// Repeatedly replaces the adjacent pair of the smallest priority, the leftmost of equals, until
/// `rule` has nothing to say about any pair. `rule(left, right)` is the priority of a pair and what
/// it becomes. Takes O(n log n) for n ids.
///
/// # Panics
/// When there are more than `u32::MAX - 1` ids.
pub(crate) fn merge<P: Ord>(
    ids: &mut Vec<u32>,
    mut rule: impl FnMut(u32, u32) -> Option<(P, u32)>,
) {
    if ids.len() < 2 {
        return;
    }
    assert!(ids.len() < END as usize, "too many tokens in one piece of text");
    let count = ids.len() as u32;
    // A doubly linked list over positions: a merged pair lives on in its left position.
    let mut next: Vec<u32> = (1..=count).map(|i| if i == count { END } else { i }).collect();
    let mut previous: Vec<u32> = (0..count).map(|i| i.wrapping_sub(1)).collect();
    let mut alive = vec![true; ids.len()];
    let mut heap = BinaryHeap::with_capacity(ids.len());
    let mut consider = |heap: &mut BinaryHeap<_>, ids: &[u32], left: u32, right: u32| {
        let (l, r) = (ids[left as usize], ids[right as usize]);
        if let Some((priority, merged)) = rule(l, r) {
            heap.push(Reverse((priority, left, right, l, r, merged)));
        }
    };
    for left in 0..count - 1 {
        consider(&mut heap, ids, left, left + 1);
    }
    while let Some(Reverse((_, left, right, l, r, merged))) = heap.pop() {
        // A pair is stale when one of its sides was merged since it was pushed.
        let current = alive[left as usize]
            && alive[right as usize]
            && next[left as usize] == right
            && ids[left as usize] == l
            && ids[right as usize] == r;
        if !current {
            continue;
        }
        ids[left as usize] = merged;
        alive[right as usize] = false;
        let after = next[right as usize];
        next[left as usize] = after;
        if after != END {
            previous[after as usize] = left;
            consider(&mut heap, ids, left, after);
        }
        let before = previous[left as usize];
        if before != END {
            consider(&mut heap, ids, before, left);
        }
    }
    let mut position = 0;
    ids.retain(|_| {
        position += 1;
        alive[position - 1]
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, as run.c has it: scan all pairs, merge the best, start again.
    fn naive<P: Ord>(ids: &mut Vec<u32>, rule: impl Fn(u32, u32) -> Option<(P, u32)>) {
        loop {
            let mut best: Option<(P, usize, u32)> = None;
            for at in 0..ids.len().saturating_sub(1) {
                if let Some((priority, merged)) = rule(ids[at], ids[at + 1])
                    && best.as_ref().is_none_or(|(p, ..)| priority < *p)
                {
                    best = Some((priority, at, merged));
                }
            }
            let Some((_, at, merged)) = best else { return };
            ids[at] = merged;
            ids.remove(at + 1);
        }
    }

    #[test]
    fn equals_the_definition_on_random_rules() {
        let mut state = 0x1234_5678_9abc_def1u64;
        let mut random = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        };
        let mut merged_any = 0;
        for _ in 0..2000 {
            // Few symbols and few priorities make ties, overlaps and merges that enable better ones.
            let symbols = 2 + random(6);
            let rules: Vec<Option<(u64, u32)>> = (0..symbols * symbols)
                .map(|_| (random(3) > 0).then(|| (random(4), random(symbols) as u32)))
                .collect();
            let rule = |l: u32, r: u32| rules[(u64::from(l) * symbols + u64::from(r)) as usize];
            let input: Vec<u32> = (0..random(40)).map(|_| random(symbols) as u32).collect();
            let (mut fast, mut slow) = (input.clone(), input.clone());
            merge(&mut fast, rule);
            naive(&mut slow, rule);
            assert_eq!(fast, slow, "{input:?} under {rules:?}");
            merged_any += usize::from(fast.len() < input.len());
        }
        assert!(merged_any > 1000, "the rules hardly ever merge");
    }

    #[test]
    fn long_runs_are_not_quadratic() {
        // 2^20 equal symbols merge pairwise, level by level.
        let mut ids = vec![0; 1 << 20];
        merge(&mut ids, |l, r| (l == r && l < 20).then_some((l, l + 1)));
        assert_eq!(ids, [20]);
    }
}
