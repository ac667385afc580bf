//! The matrix products of a program, counted.

use crate::{Error, ErrorKind, Result};
use orion_mil::typed::analyze;
use orion_mil::{Function, Op, Type, ValueId, hoist_literals};

/// How much a function multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Products {
    /// Operations of all products of one run; a multiply-add is two.
    pub flops: u64,
    /// Elements of the function's inputs that are an operand of a product, once for each product
    /// they take part in. Reshaped, transposed and converted inputs count; gathered ones do not,
    /// because a look-up multiplies nothing.
    pub parameters: u64,
}

impl Products {
    /// Counts the convolutions, matrix products and attentions of a function.
    ///
    /// # Errors
    /// When an operation has no meaning to us.
    pub fn of(function: &Function) -> Result<Self> {
        let function = hoist_literals(function);
        let ops = analyze(&function).map_err(|diagnostics| {
            let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            Error::new(ErrorKind::Run, format!("the program is not valid: {}", lines.join("; ")))
        })?;
        // What each value is without having been computed with.
        let mut sources: Vec<ValueId> = function.values.iter().map(|(id, _)| id).collect();
        let mut products = Self::default();
        for (operation, op) in function.body.operations.iter().zip(&ops) {
            if let Op::Identity { x }
            | Op::Cast { x, .. }
            | Op::Reshape { x, .. }
            | Op::Transpose { x, .. } = op
            {
                sources[operation.outputs[0].index()] = sources[x.index()];
                continue;
            }
            let shape = |id: ValueId| shape(&function, id);
            let output = || shape(operation.outputs[0]).iter().product::<usize>();
            let (operands, terms) = match op {
                Op::Conv { x, weight, .. } => {
                    ([*x, *weight], output() * shape(*weight)[1..].iter().product::<usize>())
                }
                Op::Linear { x, weight, .. } => ([*x, *weight], output() * shape(*weight)[1]),
                Op::Matmul { x, y, transpose_x, .. } => {
                    let x_shape = shape(*x);
                    let inner = match (x_shape.len(), transpose_x) {
                        (1, _) | (_, false) => x_shape.len() - 1,
                        (rank, true) => rank - 2,
                    };
                    ([*x, *y], output() * x_shape[inner])
                }
                Op::Attention { query, key, .. } => {
                    let (q, k) = (shape(*query), shape(*key));
                    let scores = q.iter().product::<usize>() * k[k.len() - 2];
                    ([*query, *key], scores + output() * k[k.len() - 2])
                }
                _ => continue,
            };
            products.flops += 2 * terms as u64;
            for operand in operands {
                let source = sources[operand.index()];
                if function.params.iter().any(|p| p.value == source) {
                    products.parameters += shape(source).iter().product::<usize>() as u64;
                }
            }
        }
        Ok(products)
    }
}

/// Empty where it is not known.
fn shape(function: &Function, id: ValueId) -> Vec<usize> {
    let Type::Tensor(ty) = function.ty(id) else { return Vec::new() };
    ty.shape().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_mil::{Builder, TensorType};
    use orion_tensor::DType;

    #[test]
    fn counted_by_hand() {
        let mut b = Builder::new("main");
        let input = |b: &mut Builder, name: &str, shape: &[usize]| {
            b.input(name, TensorType::new(DType::F32, shape))
        };
        let w = input(&mut b, "w", &[5, 3]);
        let x = input(&mut b, "x", &[1, 3, 1, 7]);
        let table = input(&mut b, "table", &[11, 3]);
        let x = b.unary(orion_mil::op::Unary::Exp, x);
        // 5 · 3 · 7 multiply-adds, w takes part.
        let y = b.linear_as_conv(x, w, None);
        let flat = b.reshape(y, &[5, 7]);
        // wᵀ [3, 5] · [5, 7], w takes part again.
        let back = b.matmul(w, flat, true, false);
        let index = b.ints(&[1, 2]);
        let rows = b.gather(table, index, 0);
        // [2, 3] · [3, 7]: what was gathered is no parameter.
        let z = b.matmul(rows, back, false, false);
        let function = b.finish(&[z]);
        let products = Products::of(&function).unwrap();
        assert_eq!(products.flops, 2 * (5 * 3 * 7 + 3 * 5 * 7 + 2 * 3 * 7));
        assert_eq!(products.parameters, 15 + 15);
    }
}
