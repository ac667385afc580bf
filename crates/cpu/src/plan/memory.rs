//! Gives every buffer a place.
//!
//! Results are written right into the surfaces bound for them, also over the parameter they
//! replace, where nobody reads the old content any more. Elementwise steps write over an operand
//! that is not read again, and copies that copy nothing vanish. What is left shares one arena by
//! lifetime.

use super::lower::{Lowering, Result};
use super::together::{Memory, together};
use super::view::{BufferId, View};
use super::{Home, Plan};
use crate::steps::{Kind, Map, Step};
use std::ops::Range;

/// The buffer whose memory another one uses.
struct Shared(Vec<BufferId>);

impl Shared {
    fn root(&self, mut buffer: BufferId) -> BufferId {
        while self.0[buffer] != buffer {
            buffer = self.0[buffer];
        }
        buffer
    }
}

/// The first and last step that touches a buffer.
#[derive(Clone, Copy)]
struct Life {
    first: usize,
    last: usize,
}

fn lives(steps: &[Step], count: usize, shared: &Shared) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> = vec![None; count];
    for (i, step) in steps.iter().enumerate() {
        for view in step.reads.iter().chain(&step.writes) {
            let life = &mut lives[shared.root(view.buffer)];
            let first = life.map_or(i, |l| l.first);
            *life = Some(Life { first, last: i });
        }
    }
    lives
}

/// Whether a view is a whole buffer of `bytes`, in order.
fn is_whole(view: &View, bytes: usize) -> bool {
    view.offset == 0 && view.is_dense() && view.element_count() * view.dtype.size_bytes() == bytes
}

/// Whether a step computes element by element.
fn is_plain_map(step: &Step) -> bool {
    matches!(&step.kind, Kind::Map(Map { moved: None, .. }) | Kind::Adamw(_))
}

/// Whether a step reads a buffer element by element as it writes `to`, the whole of another.
fn reads_alike(step: &Step, buffer: BufferId, to: &View, bytes: usize, shared: &Shared) -> bool {
    is_plain_map(step)
        && step.reads.iter().filter(|r| shared.root(r.buffer) == buffer).all(|r| {
            is_whole(r, bytes) && r.dtype.size_bytes() == to.dtype.size_bytes() && same_shape(r, to)
        })
}

/// Whether two dense views have the same elements at the same indices.
fn same_shape(a: &View, b: &View) -> bool {
    a.shape == b.shape
}

pub(super) fn place(mut lowering: Lowering<'_>, results: Vec<Result>) -> Plan {
    let unshared_bytes = unshared(&lowering);
    let results = own_buffers(&mut lowering, results);
    let count = lowering.sizes.len();
    let mut shared = Shared((0..count).collect());
    into_surfaces(&mut lowering, &results, &shared);
    over_operands(&mut lowering, &mut shared);
    lowering.steps.retain(|step| !copies_itself(step, &lowering.homes, &shared));
    remove_unread(&mut lowering, &shared);
    let steps = std::mem::take(&mut lowering.steps);
    lowering.steps = together(steps, |view| {
        let root = shared.root_or_self(view.buffer);
        match lowering.homes[root] {
            Home::Port(port) => Memory::Port(port),
            _ => Memory::Buffer(root),
        }
    });
    let arena_bytes = into_arena(&mut lowering, &shared);
    let homes = (0..lowering.sizes.len()).map(|b| match lowering.homes[b] {
        Home::Nowhere => lowering.homes[shared.root_or_self(b)],
        home => home,
    });
    Plan {
        homes: homes.collect(),
        steps: lowering.steps,
        constants: lowering.constants,
        arena_bytes,
        unshared_bytes,
    }
}

impl Shared {
    /// Buffers made after sharing was decided are their own.
    fn root_or_self(&self, buffer: BufferId) -> BufferId {
        if buffer < self.0.len() { self.root(buffer) } else { buffer }
    }
}

fn unshared(lowering: &Lowering<'_>) -> usize {
    let of = |(home, size): (&Home, &usize)| if *home == Home::Nowhere { *size } else { 0 };
    lowering.homes.iter().zip(&lowering.sizes).map(of).sum()
}

/// Makes every result a buffer of its own, unless it already is what its port holds.
fn own_buffers(lowering: &mut Lowering<'_>, results: Vec<Result>) -> Vec<Result> {
    let mut taken = vec![false; lowering.sizes.len()];
    let mut own = Vec::new();
    for result in results {
        let buffer = result.view.buffer;
        let whole = is_whole(&result.view, lowering.sizes[buffer]);
        if whole && result.replaces == Some(buffer) {
            continue;
        }
        if whole && lowering.homes[buffer] == Home::Nowhere && !taken[buffer] {
            taken[buffer] = true;
            own.push(result);
            continue;
        }
        let copy = lowering.temporary(result.view.dtype, &result.view.shape);
        taken.push(true);
        lowering.reason = "a result that is a part of something, or two results at once";
        lowering.copy(&result.view, &copy);
        own.push(Result { view: copy, ..result });
    }
    own
}

/// Lets results be computed in the surfaces they belong in, or copies them there at the end.
fn into_surfaces(lowering: &mut Lowering<'_>, results: &[Result], shared: &Shared) {
    let lives = lives(&lowering.steps, lowering.sizes.len(), shared);
    let mut copies = Vec::new();
    for result in results {
        let buffer = result.view.buffer;
        let Some(replaced) = result.replaces else {
            lowering.homes[buffer] = Home::Port(result.port);
            continue;
        };
        let first = lives[buffer].expect("results are written by a step").first;
        let late = lowering.steps[first..].iter().enumerate().any(|(i, step)| {
            let reads = step.reads.iter().any(|r| r.buffer == replaced);
            let bytes = lowering.sizes[replaced];
            let writes = step.writes.iter().find(|w| w.buffer == buffer);
            let alike = i == 0
                && writes.is_some_and(|w| {
                    is_whole(w, bytes) && reads_alike(step, replaced, w, bytes, shared)
                });
            reads && !alike
        });
        if late {
            copies.push((result.view.clone(), View { buffer: replaced, ..result.view.clone() }));
        } else {
            lowering.homes[buffer] = Home::Port(result.port);
        }
    }
    for (from, to) in copies {
        lowering.reason = "what it replaces is read until then";
        lowering.copy(&from, &to);
    }
}

/// Lets elementwise steps write over an operand that is not read again.
fn over_operands(lowering: &mut Lowering<'_>, shared: &mut Shared) {
    let mut lives = lives(&lowering.steps, lowering.sizes.len(), shared);
    let (sizes, homes) = (&lowering.sizes, &lowering.homes);
    for (i, step) in lowering.steps.iter().enumerate() {
        if !is_plain_map(step) {
            continue;
        }
        let mut used: Vec<BufferId> = Vec::new();
        for to in &step.writes {
            let target = shared.root(to.buffer);
            let bytes = sizes[target];
            let begins = lives[target].is_some_and(|l| l.first == i);
            if !begins || !is_whole(to, bytes) {
                continue;
            }
            let candidate = step.reads.iter().map(|r| shared.root(r.buffer)).find(|&b| {
                let dies = lives[b].is_some_and(|l| l.last == i);
                let fits = homes[b] == Home::Nowhere && sizes[b] == bytes && !used.contains(&b);
                b != target && dies && fits && reads_alike(step, b, to, bytes, shared)
            });
            let Some(source) = candidate else { continue };
            let (from, until) = (lives[source], lives[target]);
            match homes[target] {
                Home::Nowhere => {
                    used.push(source);
                    shared.0[target] = source;
                    lives[source] =
                        from.zip(until).map(|(a, b)| Life { first: a.first, last: b.last });
                }
                // A surface that is only written can hold what it is computed from, too.
                Home::Port(port) if port >= lowering.function.params.len() => {
                    used.push(source);
                    shared.0[source] = target;
                    lives[target] =
                        from.zip(until).map(|(a, b)| Life { first: a.first, last: b.last });
                }
                _ => {}
            }
        }
    }
}

/// Removes steps whose results nobody reads, such as the ends of windows that are found by their
/// begins.
fn remove_unread(lowering: &mut Lowering<'_>, shared: &Shared) {
    let mut is_read = vec![false; lowering.sizes.len()];
    let mut is_needed = vec![true; lowering.steps.len()];
    for (step, is_needed) in lowering.steps.iter().zip(&mut is_needed).rev() {
        *is_needed = step.writes.iter().any(|view| {
            let root = shared.root_or_self(view.buffer);
            is_read[root] || matches!(lowering.homes[root], Home::Port(_))
        });
        if *is_needed {
            step.reads.iter().for_each(|view| is_read[shared.root_or_self(view.buffer)] = true);
        }
    }
    let mut needed = is_needed.into_iter();
    lowering.steps.retain(|_| needed.next().expect("one for each step"));
}

/// Whether a step copies a buffer's elements onto themselves.
fn copies_itself(step: &Step, homes: &[Home], shared: &Shared) -> bool {
    let Kind::Map(Map { program, moved: None }) = &step.kind else { return false };
    let ([from], [(0, to)], true) =
        (&*program.inputs, &*program.outputs, program.instructions.is_empty())
    else {
        return false;
    };
    let (a, b) = (shared.root_or_self(from.buffer), shared.root_or_self(to.buffer));
    let same_place = a == b || homes[a] == homes[b] && matches!(homes[a], Home::Port(_));
    same_place
        && from.dtype == to.dtype
        && (from.offset, &from.outer, from.inner) == (to.offset, &to.outer, to.inner)
}

/// Lays out what has no place yet: large buffers first, each at the lowest offset where nothing
/// that lives at the same time is. Returns the size of the arena.
fn into_arena(lowering: &mut Lowering<'_>, shared: &Shared) -> usize {
    let count = lowering.sizes.len();
    let all = Shared((0..count).map(|b| shared.root_or_self(b)).collect());
    let lives = lives(&lowering.steps, count, &all);
    let mut order: Vec<(BufferId, Life)> = (0..count)
        .filter(|&b| lowering.homes[b] == Home::Nowhere)
        .filter_map(|b| lives[b].map(|l| (b, l)))
        .collect();
    order.sort_by_key(|&(b, life)| (std::cmp::Reverse(lowering.sizes[b]), life.first, b));
    let mut placed: Vec<(Range<usize>, Life)> = Vec::new();
    let mut arena = 0;
    for (buffer, life) in order {
        let size = lowering.sizes[buffer].max(1).next_multiple_of(64);
        let mut start = 0;
        // `placed` is kept sorted by offset.
        for (range, other) in &placed {
            let together = life.first <= other.last && other.first <= life.last;
            if together && range.start < start + size && start < range.end {
                start = range.end;
            }
        }
        let at = placed.partition_point(|(range, _)| range.start <= start);
        placed.insert(at, (start..start + size, life));
        lowering.homes[buffer] = Home::Arena(start);
        arena = arena.max(start + size);
    }
    arena
}
