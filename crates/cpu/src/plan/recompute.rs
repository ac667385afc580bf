//! Decides which values are computed again where they are read much later, instead of being kept
//! in memory until then.
//!
//! Products stand between the forward and the backward use of a value, so that no unit has
//! both. Where it takes few instructions to compute it from at most one other large value that is
//! in memory anyway, reading that one costs no more than reading the value itself, and the value
//! is never written. What only the later step needs is thereby computed by it.

use super::fuse::Node;
use super::lower::{Lowering, Stored};
use orion_mil::{Op, ValueId};
use orion_tensor::element_count;

/// Most operations that are computed again for one value.
const MOST: usize = 12;

/// Fewer elements than this are not worth it.
const FEWEST_ELEMENTS: usize = 4096;

/// What becomes of the result of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// In memory, as far as is known now.
    Kept,
    /// Read only by what may run together with it.
    Passing,
    /// Computed again by those who read it later.
    Recomputed,
}

/// What a value is computed from.
#[derive(Default)]
struct Recipe {
    /// Operations, the value's own included.
    operations: Vec<usize>,
    leaves: Vec<ValueId>,
}

/// Whether an operation can run together with maps that read it.
fn is_fusable(node: &Node) -> bool {
    let of_columns = node.reduction.as_ref().is_some_and(|r| r.reduced.is_some());
    node.elementwise.is_some() || of_columns
}

impl Lowering<'_> {
    /// Finds such values, and makes their late readers depend on what they are computed from.
    pub(super) fn find_recomputed(&mut self, nodes: &mut [Node]) {
        let operations = &self.function.body.operations;
        let mut fates = vec![Fate::Kept; nodes.len()];
        for i in 0..nodes.len() {
            let Some(shape) = nodes[i].elementwise.clone() else { continue };
            let id = operations[i].outputs[0];
            let is_map = !matches!(self.ops[i], Op::Softmax { .. });
            let fits = is_map && element_count(&shape) >= FEWEST_ELEMENTS;
            let all_fusable = self.uses[id.index()].iter().all(|&u| is_fusable(&nodes[u]));
            if !fits || !all_fusable || self.is_result[id.index()] {
                continue;
            }
            let late = self.late_readers(id, nodes);
            if late.is_empty() {
                fates[i] = Fate::Passing;
                continue;
            }
            let alike = |&u: &usize| nodes[u].elementwise.as_ref() == Some(&shape);
            if !late.iter().all(alike) {
                continue;
            }
            let Some(recipe) = self.recipe(i, &fates) else { continue };
            fates[i] = Fate::Recomputed;
            for reader in late {
                self.recomputed.insert((id, reader));
                nodes[reader].extra += recipe.operations.len();
                nodes[reader].operands.retain(|&operand| operand != i);
                for &leaf in &recipe.leaves {
                    let uses = &mut self.uses[leaf.index()];
                    if !uses.contains(&reader) {
                        uses.push(reader);
                    }
                    nodes[reader].operands.extend(self.producer[leaf.index()]);
                }
            }
        }
    }

    /// The readers of a value that can run only after something that is not computed element by
    /// element from it, and those whose results only such operations want.
    fn late_readers(&self, id: ValueId, nodes: &[Node]) -> Vec<usize> {
        let readers = &self.uses[id.index()];
        let mut seen = vec![[false; 2]; nodes.len()];
        let mut stack: Vec<(usize, bool)> = readers.iter().map(|&r| (r, false)).collect();
        while let Some((operation, late)) = stack.pop() {
            if std::mem::replace(&mut seen[operation][usize::from(late)], true) {
                continue;
            }
            let late = late || !is_fusable(&nodes[operation]);
            for output in &self.function.body.operations[operation].outputs {
                stack.extend(self.uses[output.index()].iter().map(|&r| (r, late)));
            }
        }
        let mut late: Vec<bool> = seen.iter().map(|seen| seen[1]).collect();
        for operation in (0..nodes.len()).rev().filter(|&i| seen[i][0] && !seen[i][1]) {
            let output = self.function.body.operations[operation].outputs[0];
            let uses = &self.uses[output.index()];
            late[operation] = nodes[operation].elementwise.is_some()
                && !self.is_result[output.index()]
                && !uses.is_empty()
                && uses.iter().all(|&u| late[u]);
        }
        readers.iter().copied().filter(|&r| late[r]).collect()
    }

    /// How a map is computed from what is in memory, if that is little and takes little.
    fn recipe(&self, map: usize, fates: &[Fate]) -> Option<Recipe> {
        let mut recipe = Recipe { operations: vec![map], leaves: Vec::new() };
        let size = |id: ValueId| element_count(&self.shape(id));
        let whole = size(self.function.body.operations[map].outputs[0]);
        let mut next = 0;
        while next < recipe.operations.len() {
            for operand in self.ops[recipe.operations[next]].operands() {
                if matches!(self.stored[operand.index()], Stored::Number { .. })
                    || recipe.leaves.contains(&operand)
                {
                    continue;
                }
                match self.producer[operand.index()] {
                    Some(i) if fates[i] != Fate::Kept => {
                        if !recipe.operations.contains(&i) {
                            recipe.operations.push(i);
                        }
                    }
                    _ => recipe.leaves.push(operand),
                }
            }
            next += 1;
            if recipe.operations.len() > MOST {
                return None;
            }
        }
        let large = recipe.leaves.iter().filter(|&&leaf| 4 * size(leaf) >= whole).count();
        (large <= 1).then_some(recipe)
    }
}
