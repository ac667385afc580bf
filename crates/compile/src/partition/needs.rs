//! What each part computes for itself of what others made, and what it is handed.

use super::Unit;
use super::cut::Drafts;
use super::groups::{Graph, Group, Origin};
use orion_mil::{Op, ValueId};
use std::collections::{BTreeSet, HashSet};

/// What a part is handed.
#[derive(Default)]
pub(super) struct Need {
    /// Values of other parts that it reads.
    pub(super) values: BTreeSet<ValueId>,
    /// Tables that it reads.
    pub(super) tables: BTreeSet<ValueId>,
}

/// The needs of every part, and of all together.
pub(super) struct Needs {
    pub(super) parts: Vec<Need>,
    /// Values that go from a part to another.
    pub(super) crossing: HashSet<ValueId>,
    /// Those of them that the accelerator reads or writes.
    pub(super) at_accelerator: HashSet<ValueId>,
    /// Tables, by value.
    pub(super) tables: BTreeSet<ValueId>,
}

pub(super) fn needs(graph: &Graph<'_>, drafts: &Drafts) -> Needs {
    let forward: HashSet<ValueId> = handed_forward(graph, drafts);
    let mut needs = Needs {
        parts: Vec::new(),
        crossing: HashSet::new(),
        at_accelerator: HashSet::new(),
        tables: BTreeSet::new(),
    };
    for p in 0..drafts.parts.len() {
        let mut need = Need::default();
        // Its own operations, and copies of others'.
        let mut seen = HashSet::new();
        let mut open = drafts.parts[p].operations.clone();
        while let Some(i) = open.pop() {
            if !seen.insert(i) {
                continue;
            }
            for value in graph.ops[i].operands() {
                let Some(maker) = graph.maker(value) else { continue };
                match source(graph, drafts, &forward, p, value) {
                    Source::Own => open.push(maker),
                    Source::Table => _ = need.tables.insert(value),
                    Source::Handed => _ = need.values.insert(value),
                }
            }
        }
        needs.crossing.extend(&need.values);
        needs.tables.extend(&need.tables);
        needs.parts.push(need);
    }
    for (part, need) in drafts.parts.iter().zip(&needs.parts) {
        for &value in &need.values {
            let made_by = graph.maker(value).and_then(|m| drafts.part_of[m]).expect("a part's");
            let accelerated = [part.unit, drafts.parts[made_by].unit].contains(&Unit::Accelerator);
            if accelerated {
                needs.at_accelerator.insert(value);
            }
        }
    }
    needs
}

/// Values that one part of the forward pass, or what is outside the layers, hands to another.
fn handed_forward(graph: &Graph<'_>, drafts: &Drafts) -> HashSet<ValueId> {
    let mut handed = HashSet::new();
    for (i, part) in drafts.part_of.iter().enumerate() {
        let Some(part) = *part else { continue };
        for &value in graph.outputs(i) {
            let mut readers = graph.readers[value.index()].iter();
            if readers.any(|&j| {
                let elsewhere = drafts.part_of[j] != Some(part);
                elsewhere && !matches!(graph.groups[j], Group::Backward(_))
            }) {
                handed.insert(value);
            }
        }
    }
    handed
}

/// Where a part gets an operand.
enum Source {
    /// From an operation of its own, or a copy of one.
    Own,
    Table,
    Handed,
}

fn source(
    graph: &Graph<'_>,
    drafts: &Drafts,
    forward: &HashSet<ValueId>,
    part: usize,
    value: ValueId,
) -> Source {
    let maker = graph.maker(value).expect("an operation's value");
    let Some(made_by) = drafts.part_of[maker] else {
        // A weight has one table, whatever the shapes it is read in.
        let in_part =
            graph.is_immediate(maker) || graph.is_kernel(maker) || graph.is_given_weight(maker);
        let on_accelerator = drafts.parts[part].unit == Unit::Accelerator;
        let is_constant = graph.origins[maker] == Origin::Constant;
        return if on_accelerator && is_constant && !in_part { Source::Table } else { Source::Own };
    };
    if made_by == part || is_computed_again(graph, drafts, forward, part, value) {
        Source::Own
    } else {
        Source::Handed
    }
}

/// Whether a part of a backward pass computes a value of the forward pass again.
fn is_computed_again(
    graph: &Graph<'_>,
    drafts: &Drafts,
    forward: &HashSet<ValueId>,
    part: usize,
    value: ValueId,
) -> bool {
    let maker = graph.maker(value).expect("an operation's value");
    let reader = &drafts.parts[part];
    let is_reshape = matches!(graph.ops[maker], Op::Reshape { .. });
    if is_reshape && graph.units[maker] == Unit::Accelerator && reader.unit == Unit::Host {
        // What has another shape is not handed over twice.
        return true;
    }
    let of_layer = matches!(graph.groups[maker], Group::Forward(_))
        && graph.units[maker] == Unit::Accelerator
        && matches!(reader.group, Group::Backward(_));
    if !of_layer || forward.contains(&value) || graph.is_weight_product(maker) {
        return false;
    }
    reader.unit == Unit::Accelerator || !graph.is_heavy(maker)
}
