//! Puts small steps that do not need each other into one: the caches and the attention of
//! sequences that are decoded at once, each of which is too little work for all threads.

use super::view::{BufferId, View};
use crate::explain::kind;
use crate::steps::{Kind, Step, Together};
use std::collections::HashSet;

/// Elements of a map that may wait for others of its kind.
const SMALL: usize = 1 << 15;

/// Cache lines that are worth waking the other threads for: about a microsecond.
const WORTH_A_LOOP: usize = 1024;

/// The memory in which a view lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Memory {
    Port(usize),
    Buffer(BufferId),
}

/// The memory that steps read and write.
#[derive(Default)]
struct Touched {
    read: HashSet<Memory>,
    written: HashSet<Memory>,
}

impl Touched {
    fn by(step: &Step, memory: impl Fn(&View) -> Memory) -> Self {
        let all = |views: &[View]| views.iter().map(&memory).collect();
        Self { read: all(&step.reads), written: all(&step.writes) }
    }

    fn add(&mut self, other: &Self) {
        self.read.extend(&other.read);
        self.written.extend(&other.written);
    }

    /// Whether two sets of steps may run in any order.
    fn is_apart_from(&self, other: &Self) -> bool {
        self.written.is_disjoint(&other.written)
            && self.written.is_disjoint(&other.read)
            && self.read.is_disjoint(&other.written)
    }
}

fn is_small(step: &Step) -> bool {
    Together::can_hold(&step.kind)
        && match &step.kind {
            Kind::Map(map) => map.program.element_count() <= SMALL,
            Kind::Attention(attention) => attention.is_for_few(),
            _ => false,
        }
}

/// Cache lines that a step touches.
fn lines(step: &Step) -> usize {
    let of_view = |view: &View| {
        let strides = view.shape.iter().zip(&view.strides).filter(|&(&n, _)| n > 1);
        let between = strides.map(|(_, s)| s.unsigned_abs()).min().unwrap_or(1);
        (view.element_count() * (between * view.dtype.size_bytes()).min(64)).div_ceil(64)
    };
    step.reads.iter().chain(&step.writes).map(of_view).sum()
}

/// Moves small steps forward to the first of their kind where nothing between forbids it.
pub(super) fn together(steps: Vec<Step>, memory: impl Fn(&View) -> Memory) -> Vec<Step> {
    let touched: Vec<Touched> = steps.iter().map(|s| Touched::by(s, &memory)).collect();
    let mut left: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    let mut done = Vec::with_capacity(left.len());
    for first in 0..left.len() {
        let Some(step) = left[first].take() else { continue };
        let mut members = Vec::new();
        if is_small(&step) {
            let mut skipped = Touched::default();
            let mut inside = Touched::default();
            inside.add(&touched[first]);
            for (next, touched) in touched.iter().enumerate().skip(first + 1) {
                let Some(candidate) = &left[next] else { continue };
                if !is_small(candidate) {
                    break;
                }
                let alike = kind(&candidate.kind) == kind(&step.kind);
                if alike && touched.is_apart_from(&inside) && touched.is_apart_from(&skipped) {
                    inside.add(touched);
                    members.push(next);
                } else {
                    skipped.add(touched);
                }
            }
        }
        let members: Vec<Step> = members.into_iter().filter_map(|m| left[m].take()).collect();
        let lines = lines(&step) + members.iter().map(lines).sum::<usize>();
        if members.is_empty() || lines < WORTH_A_LOOP {
            // They come early all the same, for those that need them.
            done.push(step);
            done.extend(members);
            continue;
        }
        let Step { label, place, reason, kind, mut reads, mut writes } = step;
        let mut kinds = vec![kind];
        for member in members {
            kinds.push(member.kind);
            reads.extend(member.reads);
            writes.extend(member.writes);
        }
        let kind = Kind::Together(Together::new(kinds));
        done.push(Step { label, place, reason, kind, reads, writes });
    }
    done
}
