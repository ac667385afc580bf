//! Constants that are computed from other constants: what `constexpr_…` ops unpack.
//!
//! Devices compute them once, when they compile and when weights change. General constant
//! folding is a pass of the compiler, not done here.

use crate::evaluate::evaluate;
use crate::{Data, Function, Op, TensorType, Value, ValueId, Weights};
use orion_tensor::Tensor;

/// How a constant is made.
#[derive(Debug, Clone)]
pub enum Recipe {
    /// It stands in the program or in a weight file.
    Value(Value),
    /// An output of an op over constants.
    Computed {
        /// The op.
        op: Op,
        /// Its operands.
        operands: Vec<Recipe>,
        /// The types of its outputs.
        types: Vec<TensorType>,
        /// Which of them.
        output: usize,
    },
}

impl Recipe {
    /// Whether a weight file is read.
    pub fn reads_files(&self) -> bool {
        match self {
            Self::Value(value) => matches!(value.data, Data::Blob { .. }),
            Self::Computed { operands, .. } => operands.iter().any(Self::reads_files),
        }
    }

    /// The tensor.
    ///
    /// # Errors
    /// Blobs that are missing or do not fit, and data that contradicts itself.
    pub fn resolve(&self, weights: &Weights) -> Result<Tensor, String> {
        match self {
            Self::Value(value) => weights.resolve(value).map_err(|e| e.to_string()),
            Self::Computed { op, operands, types, output } => {
                let operands: Result<Vec<Tensor>, String> =
                    operands.iter().map(|o| o.resolve(weights)).collect();
                Ok(evaluate(op, &operands?, types)?.swap_remove(*output))
            }
        }
    }
}

/// The constants of a function's body, by value: numeric `const`s and what `constexpr_…` ops make
/// of them. `ops` are the meanings of the body's operations.
pub fn recipes(function: &Function, ops: &[Op]) -> Vec<Option<Recipe>> {
    let mut recipes: Vec<Option<Recipe>> = vec![None; function.values.len()];
    for (operation, op) in function.body.operations.iter().zip(ops) {
        match (op, &*operation.outputs) {
            (Op::Const(value), [output])
                if matches!(value.data, Data::Tensor(_) | Data::Blob { .. }) =>
            {
                recipes[output.index()] = Some(Recipe::Value(value.clone()));
            }
            (Op::Constexpr(_), outputs) => {
                let operands = op.operands().into_iter().map(|v| recipes[v.index()].clone());
                let types = outputs.iter().map(|&v| function.ty(v).as_tensor().cloned());
                let (operands, types): (Option<Vec<_>>, Option<Vec<_>>) =
                    (operands.collect(), types.collect());
                let (Some(operands), Some(types)) = (operands, types) else { continue };
                for (output, &v) in outputs.iter().enumerate() {
                    let (op, operands, types) = (op.clone(), operands.clone(), types.clone());
                    let recipe = Recipe::Computed { op, operands, types, output };
                    recipes[v.index()] = Some(recipe);
                }
            }
            _ => {}
        }
    }
    recipes
}

/// What is wrong with operations, each with its position in the body.
pub type Problems = Vec<(usize, String)>;

/// The tensor of every constant of a function's body, in program order.
///
/// # Errors
/// What is wrong, with the position of the operation in the body.
pub fn constants(
    function: &Function,
    ops: &[Op],
    weights: &Weights,
) -> Result<Vec<(ValueId, Tensor)>, Problems> {
    let recipes = recipes(function, ops);
    let (mut tensors, mut problems) = (Vec::new(), Vec::new());
    for (position, operation) in function.body.operations.iter().enumerate() {
        for &output in &operation.outputs {
            let Some(recipe) = &recipes[output.index()] else { continue };
            match recipe.resolve(weights) {
                Ok(tensor) => tensors.push((output, tensor)),
                Err(message) => problems.push((position, message)),
            }
        }
    }
    if problems.is_empty() { Ok(tensors) } else { Err(problems) }
}
