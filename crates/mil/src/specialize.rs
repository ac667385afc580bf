//! Makes a function for inputs of given sizes out of one whose sizes are not known.
//!
//! Sizes are carried through operations, what is computed from sizes alone becomes constants, and
//! branches whose condition is constant are decided. What is left to be known only when the
//! function runs stays as it is.

use crate::evaluate::evaluate;
use crate::infer::{compatible, output_types};
use crate::typed::{Constants, Refusal, meaning_of, place};
use crate::{
    Block, Data, Diagnostic, Dim, Function, Op, Operation, TensorType, Type, Value, ValueId,
    hoist_literals,
};
use orion_tensor::Tensor;
use std::collections::BTreeMap;

/// Numbers that are computed here rather than when the function runs have at most so many elements.
const FOLDED_ELEMENTS: usize = 1 << 12;

/// The function for parameters of the given shapes; those that are not named keep their types.
/// Literals become constants.
///
/// # Errors
/// A shape for what is no parameter or contradicts the parameter's type, and operations that do
/// not work on the sizes that result.
pub fn specialize(
    function: &Function,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Function, Diagnostic> {
    let mut function = hoist_literals(function);
    let fail = |message: String| Diagnostic {
        function: function.name.clone(),
        place: "the parameters".to_owned(),
        message,
    };
    let mut typed = Vec::new();
    for (name, shape) in shapes {
        let mut params = function.params.iter().map(|p| p.value);
        let param = params.find(|&v| function.value_name(v) == name);
        let param = param.ok_or_else(|| fail(format!("there is no parameter `{name}`")))?;
        let declared = function.ty(param);
        let dtype = declared.as_tensor().map(|t| t.dtype);
        let wanted = dtype.map(|dtype| Type::tensor(dtype, shape));
        let wanted = wanted.filter(|wanted| compatible(declared, wanted)).ok_or_else(|| {
            fail(format!("`{name}` is {declared}, it cannot have the shape {shape:?}"))
        })?;
        typed.push((param, wanted));
    }
    for (param, ty) in typed {
        function.values[param].ty = ty;
    }
    let known = Constants::of(&function).into_owned();
    let body = std::mem::take(&mut function.body);
    let mut carrier = Carrier { function, known };
    let body = carrier.block(body)?;
    let mut function = carrier.function;
    function.body = body;
    Ok(function)
}

/// So often the sizes of a loop's values are carried through its body before they are left open.
const LOOP_ROUNDS: usize = 16;

struct Carrier {
    function: Function,
    known: Constants<'static>,
}

impl Carrier {
    fn block(&mut self, block: Block) -> Result<Block, Diagnostic> {
        let mut operations = Vec::with_capacity(block.operations.len());
        for operation in block.operations {
            self.operation(operation, &mut operations)?;
        }
        Ok(Block { operations, ..block })
    }

    fn operation(
        &mut self,
        mut operation: Operation,
        out: &mut Vec<Operation>,
    ) -> Result<(), Diagnostic> {
        match operation.name.as_str() {
            "const" => {}
            "cond" if operation.blocks.len() == 2 => {
                let condition = argument(&operation, "pred");
                let decided = condition.and_then(|v| self.known.get(v)).and_then(Value::as_bool);
                let mut blocks = std::mem::take(&mut operation.blocks);
                if let Some(yes) = decided {
                    let taken = self.block(blocks.swap_remove(usize::from(!yes)))?;
                    out.extend(taken.operations);
                    for (&result, &output) in taken.results.iter().zip(&operation.outputs) {
                        let mut same = Operation::new("identity", vec![output]);
                        same.inputs.insert("x".to_owned(), result.into());
                        self.operation(same, out)?;
                    }
                    return Ok(());
                }
                for block in blocks {
                    operation.blocks.push(self.block(block)?);
                }
                for (i, &output) in operation.outputs.iter().enumerate() {
                    let of = |b: &Block| b.results.get(i).map(|&v| self.function.ty(v).clone());
                    let types: Vec<Option<Type>> = operation.blocks.iter().map(of).collect();
                    if let [Some(a), Some(b)] = &types[..]
                        && a == b
                    {
                        self.refine(output, a.clone());
                    }
                }
            }
            "while_loop" if operation.blocks.len() == 2 => self.repeated(&mut operation)?,
            name if name.contains("list") => self.list(&operation),
            _ => match self.carried(&operation) {
                Ok(Some(folded)) => operation = folded,
                Ok(None) | Err(Refusal::Unsupported(_) | Refusal::Later(_)) => {}
                Err(Refusal::Invalid(message)) => {
                    return Err(Diagnostic {
                        function: self.function.name.clone(),
                        place: place(&self.function, &operation),
                        message,
                    });
                }
            },
        }
        out.push(operation);
        Ok(())
    }

    /// Gives a value what is known of its type beyond what was declared.
    fn refine(&mut self, value: ValueId, ty: Type) {
        if let Some(refined) = joined(self.function.ty(value), &ty) {
            self.function.values[value].ty = refined;
        }
    }

    /// Carries sizes through an operation; gives the constant that it is, if it is one.
    fn carried(&mut self, operation: &Operation) -> Result<Option<Operation>, Refusal> {
        let op = meaning_of(&self.function, &self.known, operation)?;
        let is_known = |v: &ValueId| match self.function.ty(*v) {
            Type::Tensor(t) | Type::State(t) => t.shape().is_some(),
            _ => true,
        };
        let all_known = op.operands().iter().all(is_known);
        let types =
            output_types(&op, &self.function.values).map_err(|message| match all_known {
                true => Refusal::Invalid(message),
                false => Refusal::Later(message),
            })?;
        for (&output, ty) in operation.outputs.iter().zip(&types) {
            if !compatible(self.function.ty(output), ty) {
                let (name, declared) = (self.function.value_name(output), self.function.ty(output));
                return Err(Refusal::Invalid(format!(
                    "output `{name}` is declared {declared}, it is {ty}"
                )));
            }
            self.refine(output, ty.clone());
        }
        let ([output], [ty]) = (&operation.outputs[..], &types[..]) else { return Ok(None) };
        let value = match &op {
            Op::Const(value) => value.clone(),
            Op::ReadState { .. } | Op::Random(_) | Op::Constexpr(_) => return Ok(None),
            _ => match self.computed(&op, ty) {
                Some(tensor) => Value::tensor(tensor),
                None => return Ok(None),
            },
        };
        self.known.set(*output, value.clone());
        let mut constant = Operation::new("const", vec![*output]);
        constant
            .attributes
            .insert("name".to_owned(), Value::string(self.function.value_name(*output)));
        constant.attributes.insert("val".to_owned(), value);
        Ok(Some(constant))
    }

    /// The result of an operation on a few constants.
    fn computed(&self, op: &Op, ty: &Type) -> Option<Tensor> {
        let ty = ty.as_tensor().filter(|t| t.element_count().is_some_and(|n| n <= FOLDED_ELEMENTS));
        let ty: TensorType = ty?.clone();
        let operand = |v: ValueId| match &self.known.get(v)?.data {
            Data::Tensor(t) if t.element_count() <= FOLDED_ELEMENTS => Some(t.clone()),
            _ => None,
        };
        let operands: Option<Vec<Tensor>> = op.operands().into_iter().map(operand).collect();
        evaluate(op, &operands?, &[ty]).ok()?.pop()
    }

    /// A loop keeps the sizes of its values, or leaves them open.
    fn repeated(&mut self, operation: &mut Operation) -> Result<(), Diagnostic> {
        let initial: Vec<ValueId> = operation.inputs.get("loop_vars").map_or(Vec::new(), |a| {
            a.bindings().iter().filter_map(crate::Binding::value).collect()
        });
        let blocks = std::mem::take(&mut operation.blocks);
        let declared: Vec<Vec<Type>> = blocks.iter().map(|b| self.types(&b.params)).collect();
        let mut entering = self.types(&initial);
        // Until what leaves the body is what enters it: lists learn what they hold, and sizes that
        // change from round to round stay open.
        let before = (self.function.values.clone(), self.known.clone());
        let mut is_settled = false;
        for _ in 0..LOOP_ROUNDS {
            (self.function.values, self.known) = before.clone();
            for (block, declared) in blocks.iter().zip(&declared) {
                for ((&param, ty), own) in block.params.iter().zip(&entering).zip(declared) {
                    self.function.values[param].ty = joined(own, ty).unwrap_or(own.clone());
                }
            }
            let known = self.block(blocks[1].clone())?;
            let leaving = self.types(&known.results);
            let kept = |(a, b): (&Type, &Type)| match (a, b) {
                (Type::List { .. }, Type::List { .. }) => joined(a, b).unwrap_or(a.clone()),
                _ => common(a, b),
            };
            let next: Vec<Type> = entering.iter().zip(&leaving).map(kept).collect();
            is_settled = next == entering;
            entering = next;
            if is_settled {
                break;
            }
        }
        (self.function.values, self.known) = before;
        if !is_settled {
            operation.blocks = blocks;
            return Ok(());
        }
        let mut done = Vec::new();
        for (block, declared) in blocks.into_iter().zip(&declared) {
            for ((&param, ty), own) in block.params.iter().zip(&entering).zip(declared) {
                self.function.values[param].ty = joined(own, ty).unwrap_or(own.clone());
            }
            // Nothing a body computes is constant but what does not depend on its parameters,
            // which were never known.
            done.push(self.block(block)?);
        }
        operation.blocks = done;
        for (&output, ty) in operation.outputs.iter().zip(entering) {
            self.refine(output, ty);
        }
        Ok(())
    }

    fn types(&self, values: &[ValueId]) -> Vec<Type> {
        values.iter().map(|&v| self.function.ty(v).clone()).collect()
    }

    fn list(&mut self, operation: &Operation) {
        let ls = argument(operation, "ls");
        let element = ls.and_then(|v| match self.function.ty(v) {
            Type::List { element, .. } => element.as_tensor().cloned(),
            _ => None,
        });
        let Some(&output) = operation.outputs.first() else { return };
        let tensor = |v: ValueId| self.function.ty(v).as_tensor().cloned();
        match operation.name.as_str() {
            "list_write" | "list_scatter" => {
                let Some(mut value) = argument(operation, "value").and_then(tensor) else { return };
                if operation.name == "list_scatter" && !value.dims.is_empty() {
                    value.dims.remove(0);
                }
                if let (Type::List { length, .. }, Some(element)) =
                    (self.function.ty(output), element)
                {
                    let ty = joined(&element.clone().into(), &value.into());
                    let element = Box::new(ty.unwrap_or(element.into()));
                    let ty = Type::List { element, length: *length };
                    self.refine(output, ty);
                }
            }
            "list_read" => {
                if let Some(element) = element {
                    self.refine(output, element.into());
                }
            }
            "list_gather" => {
                let count = argument(operation, "indices").and_then(tensor);
                if let (Some(mut element), Some([count])) =
                    (element, count.as_ref().map(|t| &t.dims[..]))
                {
                    element.dims.insert(0, *count);
                    self.refine(output, element.into());
                }
            }
            _ => {}
        }
    }
}

fn argument(operation: &Operation, name: &str) -> Option<ValueId> {
    match operation.inputs.get(name)?.bindings() {
        [one] => one.value(),
        _ => None,
    }
}

/// What both types say, where they do not contradict each other.
fn joined(a: &Type, b: &Type) -> Option<Type> {
    match (a, b) {
        (Type::Tensor(x), Type::Tensor(y)) if compatible(a, b) => {
            let dims = x.dims.iter().zip(&y.dims);
            let dims = dims.map(|(&p, &q)| if p == Dim::Unknown { q } else { p }).collect();
            Some(TensorType { dtype: x.dtype, dims }.into())
        }
        (Type::List { element: x, length }, Type::List { element: y, .. }) => {
            Some(Type::List { element: Box::new(joined(x, y)?), length: *length })
        }
        _ => None,
    }
}

/// The type of what is sometimes of one type and sometimes of the other.
fn common(a: &Type, b: &Type) -> Type {
    match (a, b) {
        (Type::Tensor(x), Type::Tensor(y)) if x.dtype == y.dtype && x.rank() == y.rank() => {
            let dims = x.dims.iter().zip(&y.dims);
            let dims = dims.map(|(&p, &q)| if p == q { p } else { Dim::Unknown }).collect();
            TensorType { dtype: x.dtype, dims }.into()
        }
        _ => a.clone(),
    }
}
