//! Makes one cast of two, where the first loses nothing.
//! Keeps a cast that rounds: fp32 through fp16 is not fp32.

use crate::rewrite::{Changes, Meanings};
use orion_mil::{Function, Op};
use orion_tensor::DType;

/// Runs the pass; whether the function changed.
pub fn run(function: &mut Function) -> bool {
    let meanings = Meanings::of(function);
    let mut changes = Changes::default();
    for (index, op) in meanings.ops.iter().enumerate() {
        let Some(Op::Cast { x: middle, dtype: to }) = op else { continue };
        let Some(Op::Cast { x, dtype: through }) = meanings.maker(function, *middle) else {
            continue;
        };
        let Some(from) = function.ty(*x).as_tensor().map(|ty| ty.dtype) else { continue };
        if !can_skip(from, *through, *to) {
            continue;
        }
        let output = function.body.operations[index].outputs[0];
        if from != *to || !changes.substitute(function, output, *x) {
            changes.replace(index, Op::Cast { x: *x, dtype: *to });
        }
    }
    changes.apply(function)
}

/// Whether a cast to `to` gives the same when the one to `through` before it is left out.
fn can_skip(from: DType, through: DType, to: DType) -> bool {
    // Integers wrap where floats saturate.
    let other_rule = from.is_int() && through.is_float() && to.is_int();
    holds(through, from) && (!other_rule || holds(to, from))
}

/// Whether every number of `narrow` is one of `wide`.
fn holds(wide: DType, narrow: DType) -> bool {
    use DType::*;
    if wide == narrow {
        return true;
    }
    // Bits of a float's significand, the hidden one included.
    let significand = |dtype| match dtype {
        F16 => 11,
        BF16 => 8,
        F32 => 24,
        F64 => 53,
        _ => 0,
    };
    match (wide, narrow) {
        (F32, F16 | BF16) | (F64, F16 | BF16 | F32) => true,
        (F16 | BF16 | F32 | F64, Bool) => true,
        (wide, Bool) => wide.is_int(),
        (F16 | BF16 | F32 | F64, narrow) if narrow.is_int() => {
            let magnitude = narrow.bits() - usize::from(narrow.is_signed_int());
            magnitude <= significand(wide)
        }
        (wide, narrow) if wide.is_int() && narrow.is_int() => {
            match (wide.is_signed_int(), narrow.is_signed_int()) {
                (true, true) | (false, false) => wide.bits() >= narrow.bits(),
                (true, false) => wide.bits() > narrow.bits(),
                (false, true) => false,
            }
        }
        _ => false,
    }
}
