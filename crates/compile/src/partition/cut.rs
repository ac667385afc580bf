//! Which operations are one part.

use super::Unit;
use super::groups::{Graph, Group};
use std::collections::BTreeSet;

/// A part before it has a program.
pub(super) struct Draft {
    pub(super) group: Group,
    pub(super) unit: Unit,
    /// Whether another group waits for what it makes.
    pub(super) awaited: bool,
    /// Positions of its operations, ascending.
    pub(super) operations: Vec<usize>,
    /// Parts it reads from.
    pub(super) before: BTreeSet<usize>,
    /// Parts on the longest way to it.
    depth: usize,
}

/// All parts, and the part of each operation.
pub(super) struct Drafts {
    pub(super) parts: Vec<Draft>,
    pub(super) part_of: Vec<Option<usize>>,
}

/// Puts every operation into the first part of its group and unit that it can join without parts
/// waiting for each other in a circle. What nobody waits for joins only if it then waits no
/// longer than it must, so that there is work for the host as early as can be.
pub(super) fn cut(graph: &Graph<'_>) -> Drafts {
    let mut drafts = Drafts { parts: Vec::new(), part_of: vec![None; graph.ops.len()] };
    for i in 0..graph.ops.len() {
        if graph.copied[i] {
            continue;
        }
        let before: BTreeSet<usize> = graph
            .part_sources(i)
            .into_iter()
            .map(|m| drafts.part_of[m].expect("made before it is read"))
            .collect();
        let (group, unit, awaited) = (graph.groups[i], graph.units[i], graph.awaited[i]);
        // On the accelerator everything is awaited; the host's two kinds are apart.
        let found = (0..drafts.parts.len()).find(|&p| {
            let part = &drafts.parts[p];
            let same = part.group == group && part.unit == unit && part.awaited == awaited;
            let others = || before.iter().copied().filter(|&q| q != p);
            let waits = others().map(|q| drafts.parts[q].depth + 1).max().unwrap_or(0);
            same && (awaited || waits <= part.depth) && !others().any(|q| drafts.depends(q, p))
        });
        let p = found.unwrap_or_else(|| {
            let depth = before.iter().map(|&q| drafts.parts[q].depth + 1).max().unwrap_or(0);
            let (operations, before) = (Vec::new(), BTreeSet::new());
            drafts.parts.push(Draft { group, unit, awaited, operations, before, depth });
            drafts.parts.len() - 1
        });
        let part = &mut drafts.parts[p];
        part.operations.push(i);
        part.before.extend(before.into_iter().filter(|&q| q != p));
        drafts.part_of[i] = Some(p);
        drafts.deepen();
    }
    drafts
}

impl Drafts {
    /// Whether part `a` comes after part `b`.
    fn depends(&self, a: usize, b: usize) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![a];
        while let Some(part) = open.pop() {
            if part == b {
                return true;
            }
            for &before in &self.parts[part].before {
                if seen.insert(before) {
                    open.push(before);
                }
            }
        }
        false
    }

    /// Brings depths up to date; a round for each step of the longest way, mostly none.
    fn deepen(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            for p in 0..self.parts.len() {
                let before = self.parts[p].before.iter();
                let depth = before.map(|&q| self.parts[q].depth + 1).max().unwrap_or(0);
                if depth > self.parts[p].depth {
                    self.parts[p].depth = depth;
                    changed = true;
                }
            }
        }
    }

    /// Parts in an order in which each comes after those it reads from.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.parts.len()).collect();
        order.sort_by_key(|&p| (self.parts[p].depth, p));
        order
    }
}
