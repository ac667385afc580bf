//! From operations as written to what they mean.
//!
//! Constant bounds, masks, axes and defaults are resolved; the outputs an operation declares are
//! compared with what inference says. Not done here: names, dominance and states, which are
//! [`crate::verify()`]'s.

mod arguments;
mod compressed;
mod meaning;
mod placement;
mod rare;
mod spatial;

use crate::infer::{compatible, output_types};
use crate::{Block, Diagnostic, Function, Op, Operation, Value, ValueId};

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

/// Why an operation has no meaning here.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It contradicts the op's definition.
    Invalid(String),
    /// It may well be right, but is beyond what [`Op`] expresses.
    Unsupported(String),
}

impl Refusal {
    fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(message.into())
    }
}

/// What one operation means. Operands must be values, not inline literals: see
/// [`crate::hoist_literals`].
///
/// # Errors
/// What does not fit the op's signature, with the argument's name; an op this crate gives no
/// meaning to; a shape not known before running.
pub fn analyze_operation(
    function: &Function,
    constants: &Constants<'_>,
    operation: &Operation,
) -> Result<Op, Diagnostic> {
    interpret(function, constants, operation).map_err(|refusal| {
        let (Refusal::Invalid(message) | Refusal::Unsupported(message)) = refusal;
        Diagnostic { function: function.name.clone(), place: place(function, operation), message }
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

/// The meaning of an operation whose outputs fit it.
pub(crate) fn interpret(
    function: &Function,
    constants: &Constants<'_>,
    operation: &Operation,
) -> Result<Op, Refusal> {
    let op = meaning::of(function, constants, operation)?;
    if !operation.blocks.is_empty() {
        return Err(Refusal::invalid(format!("`{}` has no nested blocks", operation.name)));
    }
    let types = output_types(&op, &function.values).map_err(|message| {
        let unknown = op.operands().into_iter().any(|id| has_unknown_size(function, id));
        if unknown { Refusal::Unsupported(message) } else { Refusal::Invalid(message) }
    })?;
    let wanted = match op {
        Op::TopK { .. } => meaning::topk_outputs(constants, operation),
        _ => types.len(),
    };
    if operation.outputs.len() != wanted {
        return Err(Refusal::invalid(format!(
            "`{}` has {wanted} outputs here, {} are declared",
            operation.name,
            operation.outputs.len()
        )));
    }
    for (&output, inferred) in operation.outputs.iter().zip(&types) {
        let declared = function.ty(output);
        if !compatible(declared, inferred) {
            return Err(Refusal::invalid(format!(
                "output `{}` is declared {declared}, it is {inferred}",
                function.value_name(output)
            )));
        }
    }
    Ok(op)
}

fn has_unknown_size(function: &Function, id: ValueId) -> bool {
    function.ty(id).as_tensor().is_some_and(|t| t.shape().is_none())
}

/// `conv -> y (operation 12)`: operations are counted from 0 in the order of the text, nested
/// ones included.
pub(crate) fn place(function: &Function, operation: &Operation) -> String {
    fn position(block: &Block, wanted: &Operation, count: &mut usize) -> bool {
        block.operations.iter().any(|operation| {
            if std::ptr::eq(operation, wanted) {
                return true;
            }
            *count += 1;
            operation.blocks.iter().any(|b| position(b, wanted, count))
        })
    }
    let mut count = 0;
    let number = position(&function.body, operation, &mut count).then_some(count);
    let outputs: Vec<&str> = operation.outputs.iter().map(|&id| function.value_name(id)).collect();
    let mut place = operation.name.clone();
    if !outputs.is_empty() {
        place += &format!(" -> {}", outputs.join(", "));
    }
    if let Some(number) = number {
        place += &format!(" (operation {number})");
    }
    place
}
