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
mod sample;
mod spatial;

use crate::infer::{compatible, output_types};
use crate::{Block, Diagnostic, Function, Op, Operation, Value, ValueId};
use std::borrow::Cow;

/// The immediate and blob constants of a function, by value.
#[derive(Debug, Clone, Default)]
pub struct Constants<'a>(Vec<Option<Cow<'a, Value>>>);

impl<'a> Constants<'a> {
    /// Collects the `const` operations of a function, nested blocks included.
    pub fn of(function: &'a Function) -> Self {
        fn collect<'a>(block: &'a crate::Block, table: &mut Vec<Option<Cow<'a, Value>>>) {
            for operation in &block.operations {
                if let (Some(value), [output]) = (operation.const_value(), &*operation.outputs) {
                    table[output.index()] = Some(Cow::Borrowed(value));
                }
                operation.blocks.iter().for_each(|b| collect(b, table));
            }
        }
        let mut table = vec![None; function.values.len()];
        collect(&function.body, &mut table);
        Self(table)
    }

    /// The constant a value is, if it is one.
    pub fn get(&self, id: ValueId) -> Option<&Value> {
        self.0.get(id.index())?.as_deref()
    }

    /// The same constants, owned: what they were read from may change.
    pub(crate) fn into_owned(self) -> Constants<'static> {
        let owned = |value: Option<Cow<'a, Value>>| Some(Cow::Owned(value?.into_owned()));
        Constants(self.0.into_iter().map(owned).collect())
    }

    /// Makes a value known, or another one than before.
    pub(crate) fn set(&mut self, id: ValueId, value: Value) {
        if self.0.len() <= id.index() {
            self.0.resize_with(id.index() + 1, || None);
        }
        self.0[id.index()] = Some(Cow::Owned(value));
    }
}

/// Why an operation has no meaning here.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It contradicts the op's definition.
    Invalid(String),
    /// It may well be right, but is beyond what [`Op`] expresses.
    Unsupported(String),
    /// What it means depends on what is known only when the program runs.
    Later(String),
}

impl Refusal {
    fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(message.into())
    }

    fn later(message: impl Into<String>) -> Self {
        Self::Later(message.into())
    }

    pub(crate) fn into_message(self) -> String {
        let (Self::Invalid(message) | Self::Unsupported(message) | Self::Later(message)) = self;
        message
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
        let message = refusal.into_message();
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

/// Whether everything about a function's operations is known before it runs: no nested blocks or
/// lists, no sizes or parameters that are computed from numbers.
pub fn is_static(function: &Function) -> bool {
    let constants = Constants::of(function);
    let sized = |v: ValueId| function.ty(v).as_tensor().is_some_and(|t| t.shape().is_some());
    function.body.operations.iter().all(|operation| {
        operation.const_value().is_some()
            || operation.blocks.is_empty()
                && operation.outputs.iter().all(|&v| sized(v))
                && !matches!(interpret(function, &constants, operation), Err(Refusal::Later(_)))
    })
}

/// The meaning of an operation, whatever its outputs are declared as.
pub(crate) fn meaning_of(
    function: &Function,
    constants: &Constants<'_>,
    operation: &Operation,
) -> Result<Op, Refusal> {
    meaning::of(function, constants, operation)
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
        if unknown { Refusal::Later(message) } else { Refusal::Invalid(message) }
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
