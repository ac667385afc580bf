//! Joins multiplications by numbers and takes negations into sums, where no bit changes:
//! `(x a) b` with `a` or `b` ±1, or both powers of two of at least 1; `x + (-1) y` is `x - y`.
//! Leaves every product that would round once instead of twice.

use crate::rewrite::{Changes, Meanings};
use orion_mil::op::Binary;
use orion_mil::{Function, Op, ValueId};
use orion_tensor::Tensor;

/// Runs the pass; whether the function changed.
pub fn run(function: &mut Function) -> bool {
    let meanings = Meanings::of(function);
    let mut changes = Changes::default();
    for (index, op) in meanings.ops.iter().enumerate() {
        let Some(Op::Binary { kind, x, y }) = op else { continue };
        let negated = |id: ValueId| {
            scaled(function, &meanings, id).filter(|(_, by)| *by == -1.0).map(|(v, _)| v)
        };
        match kind {
            Binary::Mul => {
                let output = function.body.operations[index].outputs[0];
                if let Some((inner, outer)) = scaled(function, &meanings, output)
                    && let Some((v, factor)) = scaled(function, &meanings, inner)
                    && let Some(product) = exact_product(function, v, factor, outer)
                {
                    let number = changes.number(function, v, product);
                    changes.replace(index, Op::Binary { kind: Binary::Mul, x: v, y: number });
                }
            }
            Binary::Add => {
                if let Some(v) = negated(*y) {
                    changes.replace(index, Op::Binary { kind: Binary::Sub, x: *x, y: v });
                } else if let Some(v) = negated(*x) {
                    changes.replace(index, Op::Binary { kind: Binary::Sub, x: *y, y: v });
                }
            }
            Binary::Sub => {
                if let Some(v) = negated(*y) {
                    changes.replace(index, Op::Binary { kind: Binary::Add, x: *x, y: v });
                }
            }
            _ => {}
        }
    }
    changes.apply(function)
}

/// A float tensor and the number it is multiplied by to give a value.
fn scaled(function: &Function, meanings: &Meanings, id: ValueId) -> Option<(ValueId, f64)> {
    let Some(Op::Binary { kind: Binary::Mul, x, y }) = meanings.maker(function, id) else {
        return None;
    };
    let is_float = function.ty(id).as_tensor()?.dtype.is_float();
    let same_type = |v: ValueId| function.ty(v) == function.ty(id);
    let (v, factor) = match (meanings.uniform(function, *x), meanings.uniform(function, *y)) {
        (_, Some(factor)) if same_type(*x) => (*x, factor),
        (Some(factor), _) if same_type(*y) => (*y, factor),
        _ => return None,
    };
    is_float.then_some((v, factor))
}

/// `a b`, when multiplying by it at once rounds no number differently.
fn exact_product(function: &Function, v: ValueId, a: f64, b: f64) -> Option<f64> {
    let product = a * b;
    if a.abs() == 1.0 || b.abs() == 1.0 {
        return Some(product);
    }
    // Growing by powers of two is exact until infinity, which is kept; shrinking may round
    // subnormal numbers twice.
    let grows = |v: f64| v.abs() >= 1.0 && v.is_finite() && v.to_bits() << 12 == 0;
    let dtype = function.ty(v).as_tensor()?.dtype;
    let stored = Tensor::from_f64(dtype, &[], &[product]).to_f64_vec()[0];
    (grows(a) && grows(b) && stored == product && stored.is_finite()).then_some(product)
}
