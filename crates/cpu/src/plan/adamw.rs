//! Recognises a step of AdamW in an elementwise expression.
//!
//! Only with every operation in it: learning rates and corrections from outside, gradients that
//! are scaled first, and old values kept where something was not finite. Others run as any
//! elementwise expression does.

use super::expression::{Expression, Operand};
use super::view::View;
use crate::kernels::instruction::Action;
use crate::steps::{Adamw, Scalar};
use orion_mil::op::{Binary, Unary};
use orion_tensor::DType;

/// An expression and what its operands are.
struct Matcher<'a>(&'a Expression);

impl Matcher<'_> {
    fn instruction(&self, operand: Operand) -> Option<(Action, &[Operand])> {
        let Operand::Result(i) = operand else { return None };
        self.0.instructions.get(i).map(|(action, operands)| (*action, operands.as_slice()))
    }

    fn binary(&self, kind: Binary, operand: Operand) -> Option<[Operand; 2]> {
        match self.instruction(operand)? {
            (Action::Binary(k), &[x, y]) if k == kind => Some([x, y]),
            _ => None,
        }
    }

    fn unary(&self, kind: Unary, operand: Operand) -> Option<Operand> {
        match self.instruction(operand)? {
            (Action::Unary(k), &[x]) if k == kind => Some(x),
            _ => None,
        }
    }

    /// One number for all elements.
    fn scalar(&self, operand: Operand) -> Option<Scalar> {
        match operand {
            Operand::Number(bits) => Some(Scalar::Number(f32::from_bits(bits))),
            Operand::Input(i) => {
                let view = &self.0.inputs[i];
                let is_one = view.strides.iter().zip(&view.shape).all(|(&s, &n)| s == 0 || n == 1);
                (is_one && view.dtype == DType::F32).then(|| Scalar::At(view.clone()))
            }
            Operand::Result(_) => None,
        }
    }

    /// `x` and a scalar, of a commutative operation of both.
    fn scaled(&self, kind: Binary, operand: Operand) -> Option<(Operand, Scalar)> {
        let [x, y] = self.binary(kind, operand)?;
        // Of two scalars the second one is meant.
        let second = self.scalar(y).map(|s| (x, s));
        second.or_else(|| self.scalar(x).map(|s| (y, s)))
    }

    /// A whole tensor in order.
    fn tensor(&self, operand: Operand) -> Option<View> {
        let Operand::Input(i) = operand else { return None };
        let view = &self.0.inputs[i];
        (view.is_dense() && view.dtype == DType::F32).then(|| view.clone())
    }
}

/// The condition, the next value and the old one of a choice.
fn choice(matcher: &Matcher<'_>, operand: Operand) -> Option<[Operand; 3]> {
    match matcher.instruction(operand)? {
        (Action::Select, &[condition, next, old]) => Some([condition, next, old]),
        _ => None,
    }
}

/// The step of AdamW that an expression with these outputs is: next parameter, first and second
/// moment, in this order.
pub(super) fn adamw(expression: &Expression, outputs: &[(Operand, View)]) -> Option<Adamw> {
    let matcher = Matcher(expression);
    let [(p, to_p), (m, to_m), (v, to_v)] = outputs else { return None };
    let writable = |view: &View| view.is_dense() && view.dtype == DType::F32;
    if ![to_p, to_m, to_v].into_iter().all(writable) {
        return None;
    }
    let [condition, next_p, p] = choice(&matcher, *p)?;
    let [condition_m, next_m, m] = choice(&matcher, *m)?;
    let [condition_v, next_v, v] = choice(&matcher, *v)?;
    let Operand::Input(finite) = condition else { return None };
    let finite = &expression.inputs[finite];
    let is_one = finite.strides.iter().zip(&finite.shape).all(|(&s, &n)| s == 0 || n == 1);
    if [condition_m, condition_v] != [condition; 2] || !is_one || finite.dtype != DType::Bool {
        return None;
    }

    // m + (g f - m) (1 - β₁)
    let [m_again, change] = matcher.binary(Binary::Add, next_m)?;
    let (difference, first) = matcher.scaled(Binary::Mul, change)?;
    let [scaled, m_third] = matcher.binary(Binary::Sub, difference)?;
    let (gradient, factor) = matcher.scaled(Binary::Mul, scaled)?;
    // v β₂ + (g f)² (1 - β₂)
    let [v_kept, square] = matcher.binary(Binary::Add, next_v)?;
    let (v_again, kept) = matcher.scaled(Binary::Mul, v_kept)?;
    let (square, second) = matcher.scaled(Binary::Mul, square)?;
    let scaled_again = matcher.unary(Unary::Square, square)?;
    // p decay - m / (√v correction + ε) step
    let [decayed, step] = matcher.binary(Binary::Sub, next_p)?;
    let (direction, step) = matcher.scaled(Binary::Mul, step)?;
    let [above, below] = matcher.binary(Binary::RealDiv, direction)?;
    let (root, epsilon) = matcher.scaled(Binary::Add, below)?;
    let (root, correction) = matcher.scaled(Binary::Mul, root)?;
    let under_root = matcher.unary(Unary::Sqrt, root)?;
    let (p_again, decay) = match decayed {
        Operand::Input(_) => (decayed, Scalar::Number(1.0)),
        _ => matcher.scaled(Binary::Mul, decayed)?,
    };
    let agrees = [m_again, m_third] == [m; 2]
        && v_again == v
        && scaled_again == scaled
        && (above, under_root) == (next_m, next_v)
        && p_again == p;
    let [p, m, v] = [matcher.tensor(p)?, matcher.tensor(m)?, matcher.tensor(v)?];
    let rule = [factor, first, kept, second, correction, epsilon, step, decay];
    agrees.then_some(Adamw {
        gradient: matcher.tensor(gradient)?,
        from: [p, m, v],
        to: [to_p.clone(), to_m.clone(), to_v.clone()],
        finite: finite.clone(),
        rule,
    })
}
