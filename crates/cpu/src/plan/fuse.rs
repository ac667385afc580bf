//! Groups elementwise operations into units that run as one pass over memory, and orders units.
//!
//! Does not look at memory: which values of a unit are stored is decided when it is lowered.

/// What fusion needs to know of one operation.
pub(super) struct Node {
    /// Positions of the operations whose results it reads.
    pub(super) operands: Vec<usize>,
    /// The shape of the result when it is computed element by element.
    pub(super) elementwise: Option<Vec<usize>>,
    /// The first of the operations that it is computed together with, whatever they are.
    pub(super) together: Option<usize>,
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

struct Units<'a> {
    nodes: &'a [Node],
    /// The unit of each operation.
    unit: Vec<usize>,
    members: Vec<Vec<usize>>,
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

    /// Merges `b` into `a`, which reads it, unless something forbids that.
    fn try_merge(&mut self, a: usize, b: usize) {
        if self.members[a].len() + self.members[b].len() > MOST {
            self.apart[a] = "more operations together than fit in registers";
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
    }
}

/// The units of a program in an order in which they can run.
pub(super) fn units(nodes: &[Node]) -> Vec<Unit> {
    let count = nodes.len();
    let mut units = Units {
        nodes,
        unit: nodes.iter().enumerate().map(|(i, node)| node.together.unwrap_or(i)).collect(),
        members: vec![Vec::new(); count],
        apart: vec![""; count],
        seen: vec![0; count],
        round: 0,
    };
    (0..count).for_each(|i| units.members[units.unit[i]].push(i));
    for (i, node) in nodes.iter().enumerate() {
        let Some(shape) = &node.elementwise else { continue };
        for &operand in &node.operands {
            let (a, b) = (units.unit[i], units.unit[operand]);
            match &nodes[operand].elementwise {
                Some(other) if a != b && other == shape => units.try_merge(a, b),
                Some(other) if other != shape => units.apart[a] = "reads a map of another shape",
                _ => {}
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
        Node { operands: operands.to_vec(), elementwise: shape, together: None }
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
}
