//! What a check sees of a program.

use crate::Target;
use orion_mil::typed::Constants;
use orion_mil::{Function, Operation, Program, TensorType, Type, Value, ValueId, Weights};
use orion_tensor::{DType, Tensor};

/// A check of one rule.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Check {
    /// Looks at a program as a whole.
    Program(fn(&Whole<'_>) -> Vec<String>),
    /// Looks at one function.
    Function(fn(&Scope<'_>) -> Vec<Hit>),
    /// Looks at one operation.
    Operation(fn(&Site<'_>) -> Option<String>),
    /// Nothing in a program shows it; the device model enforces it.
    Device,
}

/// A program that is checked.
pub(crate) struct Whole<'a> {
    pub(crate) program: &'a Program,
    pub(crate) weights: Option<&'a Weights>,
}

/// What a check of a function found.
pub(crate) struct Hit {
    /// The value it is about.
    pub(crate) value: ValueId,
    pub(crate) message: String,
}

/// One function.
pub(crate) struct Scope<'a> {
    pub(crate) function: &'a Function,
    pub(crate) constants: Constants<'a>,
    pub(crate) weights: Option<&'a Weights>,
    pub(crate) target: Target,
    /// The operation that defines each value.
    producers: Vec<Option<&'a Operation>>,
    /// The operations that read each value.
    readers: Vec<Vec<&'a Operation>>,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(
        function: &'a Function,
        weights: Option<&'a Weights>,
        target: Target,
    ) -> Self {
        let mut producers = vec![None; function.values.len()];
        let mut readers = vec![Vec::new(); function.values.len()];
        for operation in function.body.all_operations() {
            for &output in &operation.outputs {
                producers[output.index()] = Some(operation);
            }
            for operand in operation.operands() {
                readers[operand.index()].push(operation);
            }
        }
        let constants = Constants::of(function);
        Self { function, constants, weights, target, producers, readers }
    }

    pub(crate) fn sites(&self) -> impl Iterator<Item = Site<'_>> {
        self.function
            .body
            .all_operations()
            .into_iter()
            .filter(|o| o.name != "const")
            .map(|operation| Site { scope: self, operation })
    }

    pub(crate) fn producer(&self, value: ValueId) -> Option<Site<'_>> {
        let operation = self.producers[value.index()]?;
        Some(Site { scope: self, operation })
    }

    pub(crate) fn readers(&self, value: ValueId) -> impl Iterator<Item = Site<'_>> {
        self.readers[value.index()].iter().map(|&operation| Site { scope: self, operation })
    }

    pub(crate) fn name(&self, value: ValueId) -> &'a str {
        self.function.value_name(value)
    }

    pub(crate) fn tensor_type(&self, value: ValueId) -> Option<&'a TensorType> {
        self.function.ty(value).as_tensor()
    }

    pub(crate) fn is_parameter(&self, value: ValueId) -> bool {
        self.function.params.iter().any(|p| p.value == value)
    }

    /// Inputs and outputs.
    pub(crate) fn ports(&self) -> impl Iterator<Item = ValueId> {
        let params = self.function.params.iter().map(|p| p.value);
        params.chain(self.function.body.results.iter().copied())
    }

    /// Whether a value is known before running: a constant, one unpacked from fewer bits, or
    /// another shape of one.
    pub(crate) fn is_constant(&self, value: ValueId) -> bool {
        let mut value = value;
        // Every step goes to an earlier operation; the bound is for programs that are not valid.
        for _ in 0..64 {
            let Some(producer) = self.producers[value.index()] else { return false };
            match producer.name.as_str() {
                "const" => return true,
                name if name.starts_with("constexpr_") => return true,
                "reshape" | "expand_dims" | "squeeze" | "transpose" | "cast" | "identity" => {
                    let site = Site { scope: self, operation: producer };
                    let Some(x) = site.operand("x") else { return false };
                    value = x;
                }
                _ => return false,
            }
        }
        false
    }

    /// The numbers of a constant, when the weights are at hand and there are not so many that
    /// looking at each takes long.
    pub(crate) fn numbers(&self, value: ValueId) -> Option<Tensor> {
        const MOST: usize = 1 << 24;
        let value = self.constants.get(value)?;
        value.ty.as_tensor()?.element_count().filter(|&n| n <= MOST)?;
        match self.weights {
            Some(weights) => weights.resolve(value).ok(),
            None => value.as_tensor().cloned(),
        }
    }
}

/// One operation and where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) scope: &'a Scope<'a>,
    pub(crate) operation: &'a Operation,
}

impl<'a> Site<'a> {
    pub(crate) fn name(&self) -> &'a str {
        &self.operation.name
    }

    pub(crate) fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.name())
    }

    pub(crate) fn target(&self) -> &'a Target {
        &self.scope.target
    }

    pub(crate) fn has(&self, argument: &str) -> bool {
        self.operation.inputs.contains_key(argument)
            || self.operation.attributes.contains_key(argument)
    }

    /// The value bound to an argument.
    pub(crate) fn operand(&self, argument: &str) -> Option<ValueId> {
        match self.operation.inputs.get(argument)?.bindings() {
            [one] => one.value(),
            _ => None,
        }
    }

    /// The constant an argument is: named, inline, or an attribute.
    pub(crate) fn constant(&self, argument: &str) -> Option<&'a Value> {
        let Some(bound) = self.operation.inputs.get(argument) else {
            return self.operation.attributes.get(argument);
        };
        match bound.bindings() {
            [orion_mil::Binding::Literal(value)] => Some(value),
            [orion_mil::Binding::Value(id)] => self.scope.constants.get(*id),
            _ => None,
        }
    }

    pub(crate) fn int(&self, argument: &str) -> Option<i64> {
        self.constant(argument)?.as_int()
    }

    pub(crate) fn ints(&self, argument: &str) -> Option<Vec<i64>> {
        self.constant(argument)?.as_ints()
    }

    pub(crate) fn number(&self, argument: &str) -> Option<f64> {
        self.constant(argument)?.as_f64()
    }

    pub(crate) fn flag(&self, argument: &str) -> bool {
        self.constant(argument).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn operand_type(&self, argument: &str) -> Option<&'a TensorType> {
        self.scope.tensor_type(self.operand(argument)?)
    }

    pub(crate) fn shape(&self, argument: &str) -> Option<Vec<usize>> {
        self.operand_type(argument)?.shape()
    }

    /// The operands that are computed when the program runs.
    pub(crate) fn computed(&self) -> impl Iterator<Item = ValueId> {
        self.operation.operands().filter(|&v| !self.scope.is_constant(v))
    }

    /// Whether the result is there before the program runs.
    pub(crate) fn is_folded(&self) -> bool {
        self.outputs().first().is_some_and(|&v| self.scope.is_constant(v))
    }

    pub(crate) fn outputs(&self) -> &'a [ValueId] {
        &self.operation.outputs
    }

    pub(crate) fn output_shape(&self) -> Option<Vec<usize>> {
        self.scope.tensor_type(*self.outputs().first()?)?.shape()
    }

    /// The tensor types of computed operands and of outputs, with their values.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (ValueId, &'a TensorType)> {
        let all = self.computed().chain(self.outputs().iter().copied());
        all.filter_map(|v| Some((v, self.scope.tensor_type(v)?)))
    }

    /// A constant axis of an operand of that rank, counted from the front.
    pub(crate) fn axis(&self, argument: &str, rank: usize) -> Option<usize> {
        let axis = self.int(argument)?;
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(axis).ok().filter(|&a| a < rank)
    }

    pub(crate) fn called(&self, value: ValueId) -> String {
        format!("`{}`, {}", self.scope.name(value), self.scope.function.ty(value))
    }
}

/// The element type of a tensor or state.
pub(crate) fn dtype(ty: &Type) -> Option<DType> {
    match ty {
        Type::Tensor(t) | Type::State(t) => Some(t.dtype),
        _ => None,
    }
}
