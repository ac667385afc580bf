//! Groups elementwise operations, and the reductions between them, into units that run as one
//! pass over memory, and orders units.
//!
//! A unit with reductions is cut into bands of columns: whatever is reduced down a column is
//! known before the rest of the column is computed. Sums along rows are known only when all bands
//! are done, so nothing of the unit may read them.
//!
//! Does not look at memory: which values of a unit are stored is decided when it is lowered.

/// What fusion needs to know of one operation.
#[derive(Default)]
pub(super) struct Node {
    /// Positions of the operations whose results it reads.
    pub(super) operands: Vec<usize>,
    /// The shape of the result when it is computed element by element.
    pub(super) elementwise: Option<Vec<usize>>,
    /// Operations that are computed again for it.
    pub(super) extra: usize,
    /// What it reduces, where it can be a part of a unit.
    pub(super) reduction: Option<Reduction>,
    /// The first of the operations that it is computed together with, whatever they are.
    pub(super) together: Option<usize>,
}

/// A reduction of a tensor seen as rows and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reduction {
    /// The shape of what is reduced.
    pub(super) whole: Vec<usize>,
    /// The first of the axes that are columns; the one before it is rows.
    pub(super) columns: usize,
    /// The shape of the result where rows are reduced; else columns are.
    pub(super) reduced: Option<Vec<usize>>,
}

/// What the operations of a unit compute over.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Space {
    whole: Vec<usize>,
    columns: Option<usize>,
    reduced: Option<Vec<usize>>,
}

/// What two agree on, if they do.
fn common<T: Clone + PartialEq>(a: &Option<T>, b: &Option<T>) -> Option<Option<T>> {
    match (a, b) {
        (Some(x), Some(y)) => (x == y).then(|| a.clone()),
        (None, other) | (other, None) => Some(other.clone()),
    }
}

impl Space {
    fn of(node: &Node) -> Option<Self> {
        if let Some(Reduction { whole, columns, reduced }) = &node.reduction {
            let columns = Some(*columns);
            return Some(Self { whole: whole.clone(), columns, reduced: reduced.clone() });
        }
        let whole = node.elementwise.clone()?;
        Some(Self { whole, columns: None, reduced: None })
    }

    /// The space of both together.
    fn with(&self, other: &Self) -> Option<Self> {
        if self.whole == other.whole {
            return Some(Self {
                whole: self.whole.clone(),
                columns: common(&self.columns, &other.columns)?,
                reduced: common(&self.reduced, &other.reduced)?,
            });
        }
        // Maps of what the other one reduces to.
        let within =
            |a: &Self, b: &Self| b.columns.is_none() && a.reduced.as_ref() == Some(&b.whole);
        if within(self, other) {
            Some(self.clone())
        } else {
            within(other, self).then(|| other.clone())
        }
    }
}

/// Operations that run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// By position, in program order.
    pub(super) members: Vec<usize>,
    /// Why it is not part of an elementwise unit it reads, where it reads one.
    pub(super) apart: &'static str,
}

/// Most operations of one unit: bounds registers and the working set of a tile.
const MOST: usize = 28;

/// The same for units with reductions, which are computed in several passes.
const MOST_WITH_REDUCTIONS: usize = 40;

/// Most reductions of one unit.
pub(super) const MOST_REDUCTIONS: usize = 6;

struct Units<'a> {
    nodes: &'a [Node],
    /// The unit of each operation.
    unit: Vec<usize>,
    members: Vec<Vec<usize>>,
    /// Of units that can become larger.
    space: Vec<Option<Space>>,
    apart: Vec<&'static str>,
    seen: Vec<u32>,
    round: u32,
}

impl Units<'_> {
    fn operands(&self, unit: usize) -> impl Iterator<Item = usize> {
        let operands = self.members[unit].iter().flat_map(|&i| &self.nodes[i].operands);
        operands.map(|&o| self.unit[o])
    }

    /// Whether `from` depends on `to` by way of a third unit.
    fn depends_indirectly(&mut self, from: usize, to: usize) -> bool {
        self.round += 1;
        let mut stack: Vec<usize> = self.operands(from).filter(|&u| u != from && u != to).collect();
        while let Some(unit) = stack.pop() {
            if unit == to {
                return true;
            }
            if std::mem::replace(&mut self.seen[unit], self.round) != self.round {
                stack.extend(self.operands(unit).filter(|&u| self.seen[u] != self.round));
            }
        }
        false
    }

    /// Whether a member of `a` reads what is summed along the rows of `b`.
    fn reads_row_sums(&self, a: usize, b: usize) -> bool {
        let is_row_sum = |i: &usize| {
            let reduction = self.nodes[*i].reduction.as_ref();
            self.unit[*i] == b && reduction.is_some_and(|r| r.reduced.is_none())
        };
        self.members[a].iter().any(|&i| self.nodes[i].operands.iter().any(is_row_sum))
    }

    /// Merges `b` into `a`, which reads it, unless something forbids that.
    fn try_merge(&mut self, a: usize, b: usize) {
        let (Some(of_a), Some(of_b)) = (&self.space[a], &self.space[b]) else { return };
        let Some(space) = of_a.with(of_b) else {
            self.apart[a] = "reads a map of another shape";
            return;
        };
        let both = || self.members[a].iter().chain(&self.members[b]);
        let reductions = both().filter(|&&i| self.nodes[i].reduction.is_some()).count();
        let most = if reductions > 0 { MOST_WITH_REDUCTIONS } else { MOST };
        let count: usize = both().map(|&i| 1 + self.nodes[i].extra).sum();
        if count > most || reductions > MOST_REDUCTIONS {
            self.apart[a] = "more operations together than fit in registers";
            return;
        }
        if self.reads_row_sums(a, b) || self.reads_row_sums(b, a) {
            self.apart[a] = "reads a sum along whole rows";
            return;
        }
        if self.depends_indirectly(a, b) || self.depends_indirectly(b, a) {
            self.apart[a] = "waits for another step that reads the same operand";
            return;
        }
        let moved = std::mem::take(&mut self.members[b]);
        for &i in &moved {
            self.unit[i] = a;
        }
        self.members[a].extend(moved);
        self.members[a].sort_unstable();
        self.space[a] = Some(space);
    }
}

/// The units of a program in an order in which they can run.
pub(super) fn units(nodes: &[Node]) -> Vec<Unit> {
    let count = nodes.len();
    let mut units = Units {
        nodes,
        unit: nodes.iter().enumerate().map(|(i, node)| node.together.unwrap_or(i)).collect(),
        members: vec![Vec::new(); count],
        space: nodes.iter().map(Space::of).collect(),
        apart: vec![""; count],
        seen: vec![0; count],
        round: 0,
    };
    (0..count).for_each(|i| units.members[units.unit[i]].push(i));
    for (i, node) in nodes.iter().enumerate() {
        for &operand in &node.operands {
            let (a, b) = (units.unit[i], units.unit[operand]);
            if a != b {
                units.try_merge(a, b);
            }
        }
    }

    let mut order = Vec::new();
    let mut done = vec![false; count];
    for i in 0..count {
        let unit = units.unit[i];
        if units.members[unit].last() == Some(&i) {
            emit(&units, unit, &mut done, &mut order);
        }
    }
    order
}

/// Appends a unit behind everything it depends on.
fn emit(units: &Units<'_>, unit: usize, done: &mut [bool], order: &mut Vec<Unit>) {
    // A stack instead of recursion: chains can be as long as the program.
    let mut stack = vec![(unit, false)];
    while let Some((unit, ready)) = stack.pop() {
        if done[unit] {
            continue;
        }
        if ready {
            done[unit] = true;
            order.push(Unit { members: units.members[unit].clone(), apart: units.apart[unit] });
            continue;
        }
        stack.push((unit, true));
        let missing: Vec<usize> = units.operands(unit).filter(|&u| u != unit && !done[u]).collect();
        stack.extend(missing.into_iter().map(|u| (u, false)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(operands: &[usize], elementwise: bool) -> Node {
        let shape = elementwise.then(|| vec![4]);
        Node { operands: operands.to_vec(), elementwise: shape, ..Node::default() }
    }

    /// A node over rows and columns, or over what columns are reduced to.
    fn over(operands: &[usize], shape: [usize; 2]) -> Node {
        Node { operands: operands.to_vec(), elementwise: Some(shape.into()), ..Node::default() }
    }

    /// A reduction of columns of `[4, 5]`, or of rows.
    fn reduction(operands: &[usize], of_columns: bool) -> Node {
        let reduced = of_columns.then(|| vec![1, 5]);
        let reduction = Some(Reduction { whole: vec![4, 5], columns: 1, reduced });
        Node { operands: operands.to_vec(), reduction, ..Node::default() }
    }

    fn members(nodes: &[Node]) -> Vec<Vec<usize>> {
        units(nodes).into_iter().map(|u| u.members).collect()
    }

    #[test]
    fn chains_and_diamonds_become_one_unit() {
        // 0 is an input-like op; 1 and 2 read it; 3 joins them.
        let nodes = [node(&[], false), node(&[0], true), node(&[0], true), node(&[1, 2], true)];
        assert_eq!(members(&nodes), [vec![0], vec![1, 2, 3]]);
    }

    #[test]
    fn a_unit_never_depends_on_itself() {
        // 1 -> 2 (a kernel) -> 3, and 1 -> 3 directly.
        let nodes = [node(&[], false), node(&[0], true), node(&[1], false), node(&[2, 1], true)];
        assert_eq!(members(&nodes), [vec![0], vec![1], vec![2], vec![3]]);
        assert!(units(&nodes)[3].apart.starts_with("waits for"));
        // Two kernels crossing between two chains: only one pair may merge.
        let nodes = [
            node(&[], true),
            node(&[], true),
            node(&[0], false),
            node(&[1], false),
            node(&[1, 2], true),
            node(&[0, 3], true),
        ];
        let order = members(&nodes);
        let place = |i: usize| order.iter().position(|u| u.contains(&i)).unwrap();
        for (i, n) in nodes.iter().enumerate() {
            assert!(n.operands.iter().all(|&o| place(o) <= place(i)), "{order:?}");
        }
        assert_eq!(order.iter().map(Vec::len).sum::<usize>(), 6);
        assert!(place(2) > place(0) && place(3) > place(1));
    }

    #[test]
    fn a_norm_becomes_one_unit_with_what_is_around_it() {
        let (whole, reduced) = ([4, 5], [1, 5]);
        let nodes = [
            node(&[], false),
            over(&[0], whole),
            reduction(&[1], true),
            over(&[2], reduced),
            over(&[1, 3], whole),
            // The gradient of a gain, and something that reads it.
            reduction(&[4], false),
            over(&[4, 5], whole),
        ];
        assert_eq!(members(&nodes), [vec![0], vec![1, 2, 3, 4, 5], vec![6]]);
        assert_eq!(units(&nodes)[2].apart, "reads a sum along whole rows");
    }

    #[test]
    fn reductions_of_other_spaces_stay_apart() {
        let mut other = reduction(&[0], true);
        other.reduction = Some(Reduction { whole: vec![4, 5], columns: 2, reduced: None });
        let nodes = [over(&[], [4, 5]), reduction(&[0], true), other];
        assert_eq!(members(&nodes), [vec![0, 1], vec![2]]);
        // Between them stands an operation of its own.
        let nodes =
            [over(&[], [4, 5]), reduction(&[0], true), node(&[1], false), over(&[0, 2], [4, 5])];
        assert_eq!(members(&nodes), [vec![0, 1], vec![2], vec![3]]);
    }
}
