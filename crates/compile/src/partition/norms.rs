//! Gradients of norms in an order of products that stays within fp16.
//!
//! With `r = 1 / √(mean(x²) + ε)`, the chain rule gives `k · r³ · Σ(g x) · x`. Embeddings begin
//! near 0.02, so that `r` is near 50 and `r³` no number of fp16, while `Σ(g x)` is a tiny one.
//! The same is `k · r · Σ(g x̂) · x̂` with `x̂ = x r`, whose factors are all near one. Changes
//! nothing else, and nothing in the sense of real numbers.

use crate::rewrite::{Meanings, Writer};
use orion_mil::op::{Binary, Reduction, Unary};
use orion_mil::{Function, Op, Value, ValueId};

/// Rewrites every such gradient.
pub(super) fn balance_norm_gradients(function: &mut Function) {
    let found: Vec<Option<Gradient>> = {
        let meanings = Meanings::of(function);
        meanings.ops.iter().map(|op| gradient(function, &meanings, op.as_ref()?)).collect()
    };
    if found.iter().all(Option::is_none) {
        return;
    }
    let (mut writer, operations) = Writer::new(function);
    for (operation, found) in operations.into_iter().zip(found) {
        match found {
            Some(found) => found.write(&mut writer, operation.outputs[0]),
            None => writer.keep(operation),
        }
    }
    writer.finish();
}

/// `factor · root^powers · Σ(g x) · x`
struct Gradient {
    x: ValueId,
    root: ValueId,
    powers: usize,
    factor: f64,
    g: ValueId,
    axes: Vec<usize>,
}

fn gradient(function: &Function, meanings: &Meanings, op: &Op) -> Option<Gradient> {
    let Op::Binary { kind: Binary::Mul, x: a, y: b } = *op else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(scale, x)| of_product(function, meanings, scale, x))
}

fn of_product(
    function: &Function,
    meanings: &Meanings,
    scale: ValueId,
    x: ValueId,
) -> Option<Gradient> {
    let (mut root, mut powers, mut factor, mut sum) = (None, 0, 1.0, None);
    let mut open = vec![scale];
    while let Some(id) = open.pop() {
        if let Some(number) = meanings.uniform(function, id) {
            factor *= number;
            continue;
        }
        match meanings.maker(function, id)? {
            Op::Binary { kind: Binary::Mul, x, y } => open.extend([*x, *y]),
            Op::Unary { kind: Unary::Square, x } => open.extend([*x, *x]),
            Op::Unary { kind: Unary::Rsqrt { .. }, .. } if root.is_none_or(|r| r == id) => {
                root = Some(id);
                powers += 1;
            }
            Op::Reduce { kind: Reduction::Sum, x, axes, keep_dims: true } if sum.is_none() => {
                sum = Some((*x, axes.clone()));
            }
            _ => return None,
        }
    }
    let (product, axes) = sum?;
    let Op::Binary { kind: Binary::Mul, x: a, y: b } = *meanings.maker(function, product)? else {
        return None;
    };
    let g = if b == x {
        a
    } else if a == x {
        b
    } else {
        return None;
    };
    (powers >= 2).then_some(Gradient { x, root: root?, powers, factor, g, axes })
}

impl Gradient {
    fn write(&self, writer: &mut Writer<'_>, output: ValueId) {
        let mul = |x, y| Op::Binary { kind: Binary::Mul, x, y };
        let normal = writer.push(&mul(self.x, self.root));
        let product = writer.push(&mul(self.g, normal));
        let (kind, axes) = (Reduction::Sum, self.axes.clone());
        let mut scale = writer.push(&Op::Reduce { kind, x: product, axes, keep_dims: true });
        for _ in 2..self.powers {
            scale = writer.push(&mul(scale, self.root));
        }
        let dtype = writer.function.ty(output).as_tensor().expect("a tensor").dtype;
        let factor = writer.push(&Op::Const(Value::scalar(dtype, self.factor)));
        let scale = writer.push(&mul(scale, factor));
        writer.define(&mul(scale, normal), output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::gradients;
    use crate::partition::half::to_half;
    use crate::pipeline::{PipelineOptions, optimize};
    use orion_mil::evaluate::evaluate;
    use orion_mil::{Builder, Program, TensorType, typed};
    use orion_tensor::{DType, Tensor, Tolerance, f16};
    use std::collections::HashMap;

    const SHAPE: [usize; 4] = [1, 32, 1, 4];

    fn differentiated() -> Function {
        let mut b = Builder::new("main");
        let x = b.input("x", TensorType::new(DType::F32, &SHAPE));
        let g = b.input("g", TensorType::new(DType::F32, &SHAPE));
        let y = b.rms_normalize(x, 1e-5);
        let loss = b.mul(y, g);
        let loss = b.reduce(Reduction::Sum, loss, &[0, 1, 2, 3], false);
        b.rename(loss, "loss");
        let function = gradients(&b.finish(&[loss]), "loss", &["x"]).unwrap();
        let program = Program::with_function(function);
        optimize(&program, &PipelineOptions::default(), &mut |_, _| {}).unwrap().functions.remove(0)
    }

    fn run(function: &Function, inputs: [&[f64]; 2]) -> Vec<f64> {
        let ops = typed::analyze(function).unwrap();
        let mut values: HashMap<ValueId, Tensor> = HashMap::new();
        for param in &function.params {
            let ty = function.ty(param.value).as_tensor().unwrap();
            let numbers = inputs[usize::from(function.value_name(param.value) == "x")];
            let tensor = match ty.dtype {
                DType::F16 => {
                    let half: Vec<f16> = numbers.iter().map(|&v| f16::from_f64(v)).collect();
                    Tensor::from_slice(&SHAPE, &half)
                }
                _ => {
                    let single: Vec<f32> = numbers.iter().map(|&v| v as f32).collect();
                    Tensor::from_slice(&SHAPE, &single)
                }
            };
            values.insert(param.value, tensor);
        }
        for (operation, op) in function.body.operations.iter().zip(&ops) {
            let results = match op {
                Op::Const(value) => value.as_tensor().cloned().into_iter().collect(),
                op => {
                    let operands: Vec<Tensor> =
                        op.operands().iter().map(|v| values[v].clone()).collect();
                    let types: Vec<TensorType> = operation
                        .outputs
                        .iter()
                        .map(|&o| function.ty(o).as_tensor().unwrap().clone())
                        .collect();
                    evaluate(op, &operands, &types).unwrap()
                }
            };
            values.extend(operation.outputs.iter().copied().zip(results));
        }
        let result = function.body.results[1];
        assert_eq!(function.value_name(result), "x_grad");
        values[&result].to_f64_vec()
    }

    #[test]
    fn gradients_of_small_activations_stay_numbers_of_fp16() {
        let function = differentiated();
        let numbers = |scale: f64, step: f64| -> Vec<f64> {
            (0..128).map(|i| scale * (1.0 + (f64::from(i) * step).sin())).collect()
        };
        let (x, g) = (numbers(0.01, 0.7), numbers(0.5, 1.3));
        let expected = run(&function, [&g, &x]);
        let mut balanced = function.clone();
        balance_norm_gradients(&mut balanced);
        let single = run(&balanced, [&g, &x]);
        Tolerance::F32Accum.check(&single, &expected).unwrap();

        let (mut plain, mut half) = (function, balanced);
        to_half(&mut plain);
        to_half(&mut half);
        Tolerance::F16Accum.check(&run(&half, [&g, &x]), &expected).unwrap();
        assert!(
            Tolerance::F16Accum.check(&run(&plain, [&g, &x]), &expected).is_err(),
            "without it there is nothing to mend"
        );
    }
}
