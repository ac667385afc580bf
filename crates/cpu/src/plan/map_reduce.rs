//! Lowers a unit of elementwise operations and reductions to one step: norms, forward and
//! backward, with whatever is computed element by element around them.
//!
//! Columns are independent of each other, so a band of them goes through all passes while it is
//! in the caches. A pass computes what can be computed with the reductions of earlier ones. What
//! an earlier pass stored is read again; the rest of what it computed is computed again, unless
//! that is expensive.

use super::expression::{Expression, Operand};
use super::fuse::Reduction as Reduced;
use super::lower::Lowering;
use super::view::View;
use crate::kernels::instruction::Action;
use crate::kernels::map_reduce::{ColumnSum, Pass, RowSum};
use crate::kernels::reduce::{Combine, Finish};
use crate::steps::{Kind, MapReduce};
use orion_mil::op::{Binary, Reduction, Unary};
use orion_mil::{Op, ValueId};
use orion_tensor::{DType, element_count};
use std::collections::HashMap;

/// Fewest columns of a step of its own: bands are split along them.
const FEWEST_COLUMNS: usize = 16;

/// What an operation of a unit is.
#[derive(Debug, Clone, PartialEq)]
enum Member {
    /// Over the whole space.
    Map,
    /// Over what columns are reduced to.
    ReducedMap,
    Columns,
    Rows,
}

/// How a reduction is computed.
struct Way {
    /// What is done to elements first.
    first: Option<Unary>,
    combine: Combine,
    finish: Finish,
}

fn way(kind: Reduction, count: usize) -> Option<Way> {
    let (first, combine, finish) = match kind {
        Reduction::Sum => (None, Combine::Sum, Finish::Nothing),
        Reduction::Mean => (None, Combine::Sum, Finish::Mean(count as f32)),
        Reduction::SumSquare => (Some(Unary::Square), Combine::Sum, Finish::Nothing),
        Reduction::Max => (None, Combine::Maximum, Finish::Nothing),
        Reduction::Min => (None, Combine::Minimum, Finish::Nothing),
        _ => return None,
    };
    Some(Way { first, combine, finish })
}

/// Whether computing it twice costs more than storing it.
fn is_expensive(action: Action) -> bool {
    match action {
        Action::Unary(kind) => !matches!(
            kind,
            Unary::Abs
                | Unary::Clip { .. }
                | Unary::LinearActivation { .. }
                | Unary::Relu
                | Unary::Relu6
                | Unary::Sign
                | Unary::Square
                | Unary::Threshold { .. }
        ),
        Action::Binary(kind) => {
            matches!(kind, Binary::RealDiv | Binary::FloorDiv | Binary::Mod | Binary::Pow)
        }
        _ => false,
    }
}

/// A member of a unit: its operation, what it is, and the pass it belongs to. What columns are
/// reduced to is known from the pass after that one on, and counts for that.
struct Placed {
    operation: usize,
    member: Member,
    pass: usize,
}

/// A unit while it is lowered.
struct Work {
    members: HashMap<ValueId, Placed>,
    /// Values that are stored, and where.
    stored: HashMap<ValueId, View>,
    /// The last pass that may compute with a map over the whole space.
    reach: HashMap<ValueId, usize>,
}

/// One expression while it is written.
struct Writing<'a> {
    expression: Expression,
    known: HashMap<ValueId, Operand>,
    work: &'a Work,
    pass: usize,
    /// Whether it is over the whole space.
    whole: bool,
}

impl Lowering<'_> {
    /// What an operation reduces, if that can be computed together with elementwise operations.
    pub(super) fn reduction_of(&self, operation: usize) -> Option<Reduced> {
        let Op::Reduce { kind, x, axes, .. } = &self.ops[operation] else { return None };
        let output = self.function.body.operations[operation].outputs[0];
        let is_f32 = |v: ValueId| self.ty(v).dtype == DType::F32;
        let whole = self.shape(*x);
        if !is_f32(*x) || !is_f32(output) || whole.contains(&0) {
            return None;
        }
        way(*kind, 1)?;
        let sizeable: Vec<usize> = (0..whole.len()).filter(|&a| whole[a] > 1).collect();
        let first = *sizeable.iter().find(|a| axes.contains(a))?;
        let reduced = sizeable.iter().filter(|a| axes.contains(a)).count();
        let fits = |columns: usize| element_count(&whole[columns..]) >= FEWEST_COLUMNS;
        if sizeable.iter().filter(|&&a| a > first).count() == 1 && reduced == 1 {
            // Down columns: the result has the shape of the whole but for one axis.
            let mut kept = whole.clone();
            kept[first] = 1;
            let fits = self.shape(output) == kept && fits(first + 1);
            return fits.then_some(Reduced { whole, columns: first + 1, reduced: Some(kept) });
        }
        // Along rows: the last axis.
        let before = sizeable.iter().copied().rfind(|&a| a < first)?;
        let sums = matches!(kind, Reduction::Sum | Reduction::Mean | Reduction::SumSquare);
        let fits = reduced == 1 && sizeable.last() == Some(&first) && sums && fits(before + 1);
        fits.then_some(Reduced { whole, columns: before + 1, reduced: None })
    }

    /// Lowers a unit that has reductions.
    pub(super) fn map_reduce(&mut self, unit: &[usize]) {
        let reductions: Vec<Reduced> = unit.iter().filter_map(|&i| self.reduction_of(i)).collect();
        let (whole, columns) = (reductions[0].whole.clone(), reductions[0].columns);
        let reduced = reductions.iter().find_map(|r| r.reduced.clone());
        let by_column = reduced.is_some();
        let mut work = self.placed(unit, &whole);
        let passes = 1 + unit.iter().map(|&i| self.member(&work, i).pass).max().unwrap_or(0);
        unit.iter().for_each(|&i| self.keep(&mut work, unit, i));

        let (mut outer, mut rows) = (1, element_count(&whole[..columns]));
        if by_column {
            (outer, rows) = (element_count(&whole[..columns - 1]), whole[columns - 1]);
        }
        let inner = element_count(&whole[columns..]);
        let axes = [(0..columns).collect(), (columns..whole.len()).collect::<Vec<usize>>()];
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        let mut lowered = Vec::new();
        for pass in 0..passes {
            let mut of_columns = None;
            if let Some(shape) = &reduced {
                let mut writing = Writing::over(shape, &work, pass, false);
                let mut outputs = Vec::new();
                for &i in unit {
                    let placed = self.member(&work, i);
                    let id = self.result(i);
                    if placed.member == Member::ReducedMap
                        && placed.pass == pass
                        && let Some(view) = work.stored.get(&id)
                    {
                        outputs.push((self.written(&mut writing, id), view.clone()));
                    }
                }
                if !outputs.is_empty() {
                    reads.extend(writing.expression.inputs.iter().cloned());
                    of_columns = Some(writing.expression.into_bands(&axes, &outputs, &[]).0);
                }
            }
            let mut writing = Writing::over(&whole, &work, pass, true);
            let (mut outputs, mut kept, mut found) = (Vec::new(), Vec::new(), Vec::new());
            for &i in unit {
                let (placed, id) = (self.member(&work, i), self.result(i));
                match placed.member {
                    Member::Map if placed.pass == pass => {
                        let Some(view) = work.stored.get(&id).cloned() else { continue };
                        outputs.push((self.written(&mut writing, id), view));
                    }
                    Member::Columns | Member::Rows => {
                        let is_here = match placed.member {
                            Member::Columns => placed.pass == pass + 1,
                            _ => placed.pass == pass,
                        };
                        let Op::Reduce { kind, x, axes, .. } = &self.ops[i] else { continue };
                        if !is_here {
                            continue;
                        }
                        let mut value = self.written(&mut writing, *x);
                        let count = axes.iter().map(|&a| whole[a]).product();
                        let way = way(*kind, count).expect("it was asked before");
                        if let Some(first) = way.first {
                            value = writing.expression.unary(first, value);
                        }
                        kept.push(value);
                        found.push((placed.member.clone(), way, work.stored[&id].clone()));
                    }
                    _ => {}
                }
            }
            reads.extend(writing.expression.inputs.iter().cloned());
            let is_needed = !outputs.is_empty() || !kept.is_empty();
            let (program, registers) = writing.expression.into_bands(&axes, &outputs, &kept);
            let (mut sums, mut row_sums) = (Vec::new(), Vec::new());
            for ((member, way, to), register) in found.into_iter().zip(registers) {
                let Way { combine, finish, .. } = way;
                if member == Member::Columns {
                    let (buffer, offset) = (to.buffer, to.offset);
                    sums.push(ColumnSum { register, combine, finish, buffer, offset });
                } else {
                    let bands = MapReduce::bands(inner);
                    let partial = self.temporary(DType::F32, &[bands, outer * rows]);
                    writes.push(partial.clone());
                    row_sums.push(RowSum { register, finish, partial, to });
                }
            }
            let of_rows = is_needed.then_some(program);
            lowered.push(Pass { of_columns, of_rows, sums, row_sums });
        }
        writes.extend(work.stored.into_values());
        // What a pass stores and a later one reads is not something that is read.
        let mut seen: Vec<View> = Vec::new();
        reads.retain(|read: &View| {
            let is_new = !seen.contains(read);
            seen.push(read.clone());
            is_new && writes.iter().all(|write| write.buffer != read.buffer)
        });
        writes.sort_by_key(|view| (view.buffer, view.offset));
        let step = MapReduce { outer, rows, inner, passes: lowered };
        self.step(Kind::MapReduce(step), reads, writes);
    }

    fn result(&self, operation: usize) -> ValueId {
        self.function.body.operations[operation].outputs[0]
    }

    fn member<'w>(&self, work: &'w Work, operation: usize) -> &'w Placed {
        &work.members[&self.result(operation)]
    }

    /// Says of every member what it is and which pass computes it.
    fn placed(&self, unit: &[usize], whole: &[usize]) -> Work {
        let mut members: HashMap<ValueId, Placed> = HashMap::new();
        for &operation in unit {
            let known = |v: ValueId| members.get(&v).map_or(0, |placed| placed.pass);
            let operands = self.ops[operation].operands();
            let pass = operands.into_iter().map(known).max().unwrap_or(0);
            let id = self.result(operation);
            let (member, pass) = match self.reduction_of(operation) {
                Some(Reduced { reduced: Some(_), .. }) => (Member::Columns, pass + 1),
                Some(Reduced { reduced: None, .. }) => (Member::Rows, pass),
                None if self.shape(id) == whole => (Member::Map, pass),
                None => (Member::ReducedMap, pass),
            };
            members.insert(id, Placed { operation, member, pass });
        }
        let mut reach: HashMap<ValueId, usize> = HashMap::new();
        for &operation in unit.iter().rev() {
            let id = self.result(operation);
            let of_reader = |&reader: &usize| {
                let output = self.result(reader);
                members.get(&output).map_or(0, |placed| match placed.member {
                    Member::Map => reach[&output],
                    Member::Columns => placed.pass - 1,
                    Member::ReducedMap | Member::Rows => placed.pass,
                })
            };
            let last = self.uses[id.index()].iter().map(of_reader).max().unwrap_or(0);
            reach.insert(id, last.max(members[&id].pass));
        }
        Work { members, stored: HashMap::new(), reach }
    }

    /// Gives a member's result a place in memory if it needs one.
    fn keep(&mut self, work: &mut Work, unit: &[usize], operation: usize) {
        let id = self.result(operation);
        let outside = self.is_stored(id, unit);
        let pass = work.members[&id].pass;
        let needed = match &work.members[&id].member {
            Member::Columns | Member::Rows => true,
            Member::ReducedMap => {
                outside
                    || self.uses[id.index()].iter().any(|&user| {
                        let user = work.members.get(&self.result(user));
                        user.is_some_and(|u| u.member != Member::ReducedMap || u.pass > pass)
                    })
            }
            Member::Map => outside || self.is_expensive(operation) && work.reach[&id] > pass,
        };
        if needed {
            let view = self.output(id);
            work.stored.insert(id, view);
        }
    }

    fn is_expensive(&self, operation: usize) -> bool {
        let op = &self.ops[operation];
        matches!(op, Op::Softmax { .. }) || self.action(op).is_some_and(is_expensive)
    }

    /// The operand that is a value, with the instructions it takes.
    fn written(&self, writing: &mut Writing<'_>, id: ValueId) -> Operand {
        if let Some(&operand) = writing.known.get(&id) {
            return operand;
        }
        let (work, pass) = (writing.work, writing.pass);
        let computed = work.members.get(&id).filter(|placed| match placed.member {
            Member::Map => placed.pass == pass || !work.stored.contains_key(&id),
            Member::ReducedMap => {
                !writing.whole && (placed.pass == pass || !work.stored.contains_key(&id))
            }
            Member::Columns | Member::Rows => false,
        });
        let operand = match computed {
            Some(placed) => {
                let op = &self.ops[placed.operation];
                let mut operands = Vec::new();
                if !matches!(op, Op::Softmax { .. }) {
                    for operand in op.operands() {
                        operands.push(self.written(writing, operand));
                    }
                }
                self.instruction(&mut writing.expression, op, id, operands)
            }
            None => self.read(&mut writing.expression, id),
        };
        writing.known.insert(id, operand);
        operand
    }
}

impl<'a> Writing<'a> {
    fn over(shape: &[usize], work: &'a Work, pass: usize, whole: bool) -> Self {
        let (expression, known) = (Expression::over(shape), HashMap::new());
        Self { expression, known, work, pass, whole }
    }
}
