//! Gradients of random compositions of ops on random shapes.

use crate::gradient_checks::{Input, compare};
use crate::random::Random;
use orion_mil::op::{Binary, GeluMode, PadMode, Reduction, Unary};
use orion_mil::{Builder, Function, Op, TensorType, ValueId};
use orion_tensor::{DType, Tensor, broadcast_shapes, element_count};
use std::collections::BTreeMap;

const LARGEST: usize = 60;

fn random_shape(random: &mut Random) -> Vec<usize> {
    let rank = 1 + random.below(4);
    (0..rank).map(|_| 1 + random.below(3)).collect()
}

/// One more value made of those there are; `None` when the op drawn does not fit.
fn grow(b: &mut Builder, random: &mut Random, values: &[ValueId]) -> Option<ValueId> {
    let x = values[random.below(values.len())];
    let y = values[random.below(values.len())];
    let shape = b.shape(x);
    let rank = shape.len();
    if rank == 0 || rank > 4 {
        return None;
    }
    let axis = random.below(rank);
    let number = random.uniform(-1.5, 1.5);
    Some(match random.below(16) {
        0 => {
            let smooth = [
                Unary::Tanh,
                Unary::Sigmoid,
                Unary::Silu,
                Unary::Erf,
                Unary::Sin,
                Unary::Softplus,
                Unary::Gelu(GeluMode::Tanh),
                Unary::ScaledTanh { alpha: 1.3, beta: 0.7 },
            ];
            b.unary(smooth[random.below(smooth.len())], x)
        }
        1 => b.scale(x, number),
        2 => b.offset(x, number),
        3 => {
            let mut perm: Vec<usize> = (0..rank).collect();
            perm.swap(axis, random.below(rank));
            b.push(&Op::Transpose { x, perm })
        }
        4 => {
            let tail = element_count(&shape[axis..]);
            b.push(&Op::Reshape { x, shape: [&shape[..axis], &[tail]].concat() })
        }
        5 => {
            let kinds = [Reduction::Sum, Reduction::Mean, Reduction::LogSumExp, Reduction::Max];
            let keep_dims = rank == 1 || random.below(2) == 0;
            b.reduce(kinds[random.below(4)], x, &[axis], keep_dims)
        }
        6 => b.softmax(x, axis),
        7 => {
            let mut begin = vec![0; rank];
            let mut size = shape.clone();
            begin[axis] = random.below(shape[axis]);
            size[axis] = 1 + random.below(shape[axis] - begin[axis]);
            b.slice(x, &begin, &size)
        }
        8 => {
            let first = random.below(shape[axis]);
            if first == 0 {
                return None;
            }
            let parts = b.split(x, axis, &[first, shape[axis] - first]);
            b.concat(&[parts[1], x, parts[0]], axis)
        }
        9 => {
            let mut reps = vec![1; rank];
            reps[axis] = 2;
            b.tile(x, &reps)
        }
        10 => {
            let mut pads = vec![(0, 0); rank];
            pads[axis] = (1, 1);
            let mode =
                if random.below(2) == 0 { PadMode::Replicate } else { PadMode::Constant(number) };
            b.push(&Op::Pad { x, pads, mode })
        }
        11 => {
            let count = 1 + random.below(4);
            let indices: Vec<i32> = (0..count).map(|_| random.below(shape[axis]) as i32).collect();
            let indices = b.ints(&indices);
            b.gather(x, indices, axis)
        }
        12 if rank > 1 => {
            let transposed = random.below(2) == 0;
            let product = b.matmul(x, x, transposed, !transposed);
            b.unary(Unary::Tanh, product)
        }
        13 => {
            let last = shape[rank - 1];
            let weights = random.numbers(2 * last, -1.0, 1.0);
            let weight = b.constant(Tensor::from_slice(&[2, last], &weights));
            b.linear(x, weight, None)
        }
        _ => {
            broadcast_shapes(&shape, &b.shape(y)).filter(|s| element_count(s) <= LARGEST)?;
            let kinds = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Maximum];
            let kind = kinds[random.below(4)];
            let made = b.binary(kind, x, y);
            // Products of products would outgrow what finite differences can tell.
            if kind == Binary::Mul { b.unary(Unary::Tanh, made) } else { made }
        }
    })
}

fn random_function(random: &mut Random, inputs: &[Input<'_>]) -> Function {
    let mut b = Builder::new("main");
    let mut values: Vec<ValueId> = inputs
        .iter()
        .map(|(name, shape, _)| b.input(name, TensorType::new(DType::F64, shape)))
        .collect();
    for _ in 0..14 {
        if let Some(made) = grow(&mut b, random, &values)
            && element_count(&b.shape(made)) <= LARGEST
        {
            values.push(made);
        }
    }
    // The sum of the newest few, each weighted by numbers of its own.
    let newest = values[values.len().saturating_sub(4)..].to_vec();
    let mut loss = None;
    for value in newest {
        let shape = b.shape(value);
        let weights = random.numbers(element_count(&shape), -1.0, 1.0);
        let weights = b.constant(Tensor::from_slice(&shape, &weights));
        let product = b.mul(value, weights);
        let axes: Vec<usize> = (0..shape.len()).collect();
        let sum =
            if axes.is_empty() { product } else { b.reduce(Reduction::Sum, product, &axes, false) };
        loss = Some(loss.map_or(sum, |loss| b.add(loss, sum)));
    }
    let loss = loss.expect("a value");
    b.rename(loss, "loss");
    b.finish(&[loss])
}

#[test]
fn random_compositions() {
    let mut random = Random::new(20);
    for program in 0..150 {
        let shapes = [random_shape(&mut random), random_shape(&mut random)];
        let inputs = [("x", &shapes[0][..], (-1.0, 1.0)), ("y", &shapes[1][..], (-1.0, 1.0))];
        let numbers: BTreeMap<String, Tensor> = inputs
            .iter()
            .map(|(name, shape, _)| {
                let numbers = random.numbers(element_count(shape), -1.0, 1.0);
                ((*name).to_owned(), Tensor::from_slice(shape, &numbers))
            })
            .collect();
        let function = random_function(&mut random, &inputs);
        compare(&format!("program {program}"), &function, &inputs, &numbers);
    }
}
