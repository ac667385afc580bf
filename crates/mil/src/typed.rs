//! From operations as written to what they mean.

use crate::{Diagnostic, Function, Op, Operation, Value, ValueId};

/// The immediate and blob constants of a function, by value.
pub struct Constants<'a>(Vec<Option<&'a Value>>);

impl<'a> Constants<'a> {
    /// Collects the `const` operations of a function, nested blocks included.
    pub fn of(function: &'a Function) -> Self {
        fn collect<'a>(block: &'a crate::Block, table: &mut Vec<Option<&'a Value>>) {
            for operation in &block.operations {
                if let (Some(value), [output]) = (operation.const_value(), &*operation.outputs) {
                    table[output.index()] = Some(value);
                }
                operation.blocks.iter().for_each(|b| collect(b, table));
            }
        }
        let mut table = vec![None; function.values.len()];
        collect(&function.body, &mut table);
        Self(table)
    }

    /// The constant a value is, if it is one.
    pub fn get(&self, id: ValueId) -> Option<&'a Value> {
        self.0.get(id.index()).copied().flatten()
    }
}

/// What one operation means. Operands must be values, not inline literals: see
/// `hoist_literals`.
///
/// # Errors
/// What does not fit the op's signature, with the argument's name; an op this crate gives no
/// meaning to; a shape not known before running.
pub fn analyze_operation(
    function: &Function,
    constants: &Constants<'_>,
    operation: &Operation,
) -> Result<Op, Diagnostic> {
    let _ = (constants, operation);
    Err(Diagnostic {
        function: function.name.clone(),
        place: String::new(),
        message: "not yet".into(),
    })
}

/// What the operations of a function's body mean, in order.
///
/// # Errors
/// Every diagnostic, not the first.
pub fn analyze(function: &Function) -> Result<Vec<Op>, Vec<Diagnostic>> {
    let constants = Constants::of(function);
    let mut diagnostics = Vec::new();
    let ops = function.body.operations.iter().filter_map(|operation| {
        analyze_operation(function, &constants, operation).map_err(|d| diagnostics.push(d)).ok()
    });
    let ops: Vec<Op> = ops.collect();
    if diagnostics.is_empty() { Ok(ops) } else { Err(diagnostics) }
}
