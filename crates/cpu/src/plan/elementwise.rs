//! Units of operations that are computed element by element, each one step.

use super::expression::{Expression, Operand};
use super::lower::{Lowering, Stored, is_float_lane, is_lane_type, is_small_int};
use super::view::View;
use crate::kernels::instruction::Action;
use orion_mil::op::{Binary, Unary};
use orion_mil::{Op, ValueId};
use orion_tensor::DType;
use std::collections::HashMap;

impl Lowering<'_> {
    /// The instruction for an operation that is computed element by element.
    pub(super) fn action(&self, op: &Op) -> Option<Action> {
        let of = |id: &ValueId| self.ty(*id).dtype;
        match op {
            Op::Unary { kind, x } => match (of(x), kind) {
                (DType::Bool, Unary::LogicalNot) => Some(Action::Not),
                (DType::I32, Unary::Abs | Unary::Sign | Unary::Square | Unary::Relu) => {
                    Some(Action::IntUnary(*kind))
                }
                (_, Unary::LogicalNot) => None,
                (d, _) if is_float_lane(d) => Some(Action::Unary(*kind)),
                _ => None,
            },
            Op::Binary { kind, x, y } => {
                use Binary::{FloorDiv, Mod, Pow, RealDiv};
                match (of(x), of(y)) {
                    (a, b) if a != b => None,
                    (d, _) if is_float_lane(d) && !kind.is_logical() => Some(Action::Binary(*kind)),
                    (DType::I32, _)
                        if !kind.is_logical()
                            && !matches!(kind, RealDiv | FloorDiv | Mod | Pow) =>
                    {
                        Some(Action::IntBinary(*kind))
                    }
                    (DType::Bool, _)
                        if kind.is_logical()
                            || matches!(kind, Binary::Equal | Binary::NotEqual) =>
                    {
                        Some(Action::BoolBinary(*kind))
                    }
                    _ => None,
                }
            }
            Op::Select { cond, a, b } => {
                let fits = of(cond) == DType::Bool && of(a) == of(b) && is_lane_type(of(a));
                fits.then_some(Action::Select)
            }
            Op::Cast { x, dtype } => {
                let from_int = of(x) == DType::I32 || is_small_int(of(x));
                match dtype {
                    DType::F32 | DType::F16 | DType::BF16 => {
                        if is_float_lane(of(x)) {
                            // Rounding is added to every result of a narrow type.
                            Some(Action::Unary(Unary::LinearActivation { alpha: 1.0, beta: 0.0 }))
                        } else {
                            (from_int || of(x) == DType::Bool).then_some(Action::IntToFloat)
                        }
                    }
                    DType::I32 if is_float_lane(of(x)) => Some(Action::FloatToInt),
                    DType::I32 if from_int || of(x) == DType::Bool => {
                        Some(Action::IntBinary(Binary::Add))
                    }
                    DType::Bool if is_float_lane(of(x)) => Some(Action::FloatToBool),
                    DType::Bool if from_int => Some(Action::IntToBool),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Lowers a unit of elementwise operations to one step.
    pub(super) fn group(&mut self, unit: &[usize]) {
        let operations = &self.function.body.operations;
        let shape = self.shape(operations[unit[0]].outputs[0]);
        let mut expression = Expression::over(&shape);
        let mut inside: HashMap<ValueId, Operand> = HashMap::new();
        let mut outputs = Vec::new();
        let mut needed = vec![false; unit.len()];
        for (at, &i) in unit.iter().enumerate().rev() {
            let output = operations[i].outputs[0];
            let mut inside = unit.iter().zip(&needed).filter(|&(_, needed)| *needed);
            let read = inside.any(|(user, _)| self.uses[output.index()].contains(user));
            needed[at] = read || self.is_stored(output, unit);
        }
        for (&i, _) in unit.iter().zip(needed).filter(|&(_, needed)| needed) {
            let (op, output) = (&self.ops[i], operations[i].outputs[0]);
            let mut operands = Vec::new();
            if !matches!(op, Op::Softmax { .. }) {
                for v in op.operands() {
                    let known = inside.get(&v).copied();
                    operands.push(known.unwrap_or_else(|| self.read(&mut expression, v)));
                }
            }
            let result = self.instruction(&mut expression, op, output, operands);
            inside.insert(output, result);
            if self.is_stored(output, unit) {
                outputs.push((result, output));
            }
        }
        let outputs: Vec<(Operand, View)> =
            outputs.into_iter().map(|(result, id)| (result, self.output(id))).collect();
        if !outputs.is_empty() {
            self.map(expression, &outputs);
        }
    }

    /// A value that is not computed in an expression, as its operand; one that is not in memory
    /// is computed again.
    pub(super) fn read(&self, expression: &mut Expression, id: ValueId) -> Operand {
        match &self.stored[id.index()] {
            Stored::Number { bits, .. } => expression.bits(*bits),
            Stored::At(view) => expression.input(view),
            Stored::Nothing => {
                let operation = self.producer[id.index()].expect("units are in order");
                let op = &self.ops[operation];
                let operands =
                    op.operands().into_iter().map(|v| self.read(expression, v)).collect();
                self.instruction(expression, op, id, operands)
            }
        }
    }

    /// Adds an operation that is computed element by element to an expression. A softmax takes
    /// no operands but what is known of it.
    pub(super) fn instruction(
        &self,
        expression: &mut Expression,
        op: &Op,
        output: ValueId,
        mut operands: Vec<Operand>,
    ) -> Operand {
        if let Op::Softmax { x, axis } = op {
            return self.softmax_of_known(expression, *x, *axis);
        }
        let action = self.action(op).expect("units hold operations with an action");
        let result = match (op, action) {
            // Conversions that change nothing a lane holds.
            (Op::Cast { .. }, Action::Unary(_)) => operands[0],
            (Op::Cast { .. }, Action::IntBinary(_)) => {
                let zero = expression.bits(0);
                operands.push(zero);
                expression.push(action, &operands)
            }
            _ => expression.push(action, &operands),
        };
        if matches!(op, Op::Select { .. }) {
            return result;
        }
        expression.rounded(result, self.ty(output).dtype)
    }

    /// Whether a result of a unit is needed outside of it, or is all there is of it.
    pub(super) fn is_stored(&self, output: ValueId, unit: &[usize]) -> bool {
        let readers = &self.uses[output.index()];
        let reads = |&u: &usize| !unit.contains(&u) && !self.recomputed.contains(&(output, u));
        let outside = readers.iter().any(reads);
        outside || self.is_result[output.index()] || readers.is_empty()
    }

    /// Softmax from statistics: `exp(x - largest) / sum`.
    fn softmax_of_known(&self, e: &mut Expression, x: ValueId, axis: usize) -> Operand {
        let [max, inverse] = &self.softmax_statistics[&(x, axis)];
        let Stored::At(x) = &self.stored[x.index()] else {
            unreachable!("statistics are taken of stored values")
        };
        let (x, max, inverse) = (e.input(x), e.input(max), e.input(inverse));
        let shifted = e.binary(Binary::Sub, x, max);
        let exponential = e.unary(Unary::Exp, shifted);
        e.binary(Binary::Mul, exponential, inverse)
    }
}
