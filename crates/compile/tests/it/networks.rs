//! The building blocks of language models, where known projects got the formulas wrong.

use crate::gradient_checks::{Input, compare};
use crate::interpreter::run;
use crate::random::Random;
use orion_compile::autodiff::gradients;
use orion_mil::composite::{HeadShape, RotaryPairs};
use orion_mil::op::Reduction;
use orion_mil::{Builder, Function, TensorType, ValueId};
use orion_tensor::{DType, Tensor, Tolerance, element_count};
use std::collections::BTreeMap;

const ANY: (f64, f64) = (-1.5, 1.5);
const NORM: (f64, f64) = (0.4, 2.2);

fn numbers(inputs: &[Input<'_>], seed: u64) -> BTreeMap<String, Tensor> {
    let mut random = Random::new(seed);
    let tensor = |(name, shape, (low, high)): &Input<'_>| {
        let v = random.numbers(element_count(shape), *low, *high);
        ((*name).to_owned(), Tensor::from_slice(shape, &v))
    };
    inputs.iter().map(tensor).collect()
}

/// A function of fp64 inputs whose loss is a weighted sum of what `build` gives.
fn weighted(inputs: &[Input<'_>], build: impl Fn(&mut Builder, &[ValueId]) -> ValueId) -> Function {
    let mut b = Builder::new("main");
    let ids: Vec<ValueId> = inputs
        .iter()
        .map(|(name, shape, _)| b.input(name, TensorType::new(DType::F64, shape)))
        .collect();
    let out = build(&mut b, &ids);
    let shape = b.shape(out);
    let weights = Random::new(99).numbers(element_count(&shape), -1.0, 1.0);
    let weights = b.constant(Tensor::from_slice(&shape, &weights));
    let product = b.mul(out, weights);
    let axes: Vec<usize> = (0..shape.len()).collect();
    let loss = b.reduce(Reduction::Sum, product, &axes, false);
    b.rename(loss, "loss");
    b.finish(&[loss])
}

/// `dx = r (w dy - x r² / d Σ w dy x)`: the sum over channels is of `w dy x`, not of `dy x`.
#[test]
fn rms_norm() {
    let inputs = [("x", &[1, 6, 1, 4][..], ANY), ("weight", &[6], NORM)];
    let epsilon = 0.03;
    let function = weighted(&inputs, |b, v| b.rms_norm(v[0], v[1], epsilon));
    let numbers = numbers(&inputs, 3);
    compare("rms_norm", &function, &inputs, &numbers);

    let (channels, columns) = (6, 4);
    let with = gradients(&function, "loss", &["x", "weight"]).unwrap();
    let actual = run(&with, &numbers);
    let (x, w) = (numbers["x"].to_f64_vec(), numbers["weight"].to_f64_vec());
    let dy = Random::new(99).numbers(channels * columns, -1.0, 1.0);
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    for s in 0..columns {
        let at = |c: usize| c * columns + s;
        let mean: f64 = (0..channels).map(|c| x[at(c)] * x[at(c)]).sum::<f64>() / channels as f64;
        let r = 1.0 / (mean + epsilon).sqrt();
        let dot: f64 = (0..channels).map(|c| w[c] * dy[at(c)] * x[at(c)]).sum();
        for c in 0..channels {
            dx[at(c)] = r * (w[c] * dy[at(c)] - x[at(c)] * r * r / channels as f64 * dot);
            dw[c] += dy[at(c)] * x[at(c)] * r;
        }
    }
    Tolerance::Close.check(&actual["x_grad"].to_f64_vec(), &dx).unwrap();
    Tolerance::Close.check(&actual["weight_grad"].to_f64_vec(), &dw).unwrap();
}

#[test]
fn layer_norm_of_plain_ops() {
    let inputs = [("x", &[1, 5, 1, 3][..], ANY), ("weight", &[5], NORM), ("bias", &[5], ANY)];
    let function = weighted(&inputs, |b, v| b.layer_norm(v[0], v[1], v[2], 0.05));
    compare("layer_norm", &function, &inputs, &numbers(&inputs, 4));
}

#[test]
fn rotary_embeddings() {
    for pairs in [RotaryPairs::Interleaved, RotaryPairs::Halves] {
        let inputs = [("x", &[1, 8, 1, 3][..], ANY), ("cos", &[2, 3], ANY), ("sin", &[2, 3], ANY)];
        let function = weighted(&inputs, |b, v| b.rotary(v[0], v[1], v[2], pairs));
        compare(&format!("{pairs:?}"), &function, &inputs, &numbers(&inputs, 5));
    }
}

/// Three query heads read each of two key heads: head `h` reads `h / 3`. The loss is compared
/// with a plain computation that says so, the gradients with finite differences.
#[test]
fn grouped_heads() {
    let heads = HeadShape { sequences: 2, kv_heads: 2, group: 3, head_dim: 2 };
    let (length, columns) = (3, 6);
    let inputs =
        [("q", &[1, 12, 1, 6][..], ANY), ("k", &[1, 4, 1, 6], ANY), ("v", &[1, 4, 1, 6], ANY)];
    let function = weighted(&inputs, |b, v| {
        let positions = b.constant(Tensor::from_slice(&[length], &[0i32, 1, 2]));
        let mask = b.causal_mask(positions, length, DType::F64);
        b.causal_attention(v[0], v[1], v[2], mask, heads)
    });
    let numbers = numbers(&inputs, 6);
    compare("grouped heads", &function, &inputs, &numbers);

    let of = |name: &str| numbers[name].to_f64_vec();
    let (q, k, v) = (of("q"), of("k"), of("v"));
    let dim = heads.head_dim;
    let weights = Random::new(99).numbers(q.len(), -1.0, 1.0);
    let at = |head: usize, d: usize, s: usize| (head * dim + d) * columns + s;
    let mut loss = 0.0;
    for sequence in 0..heads.sequences {
        for head in 0..heads.kv_heads * heads.group {
            let source = head / heads.group;
            for t in 0..length {
                let column = sequence * length + t;
                let scores: Vec<f64> = (0..=t)
                    .map(|u| {
                        let other = sequence * length + u;
                        let dot =
                            (0..dim).map(|d| q[at(head, d, column)] * k[at(source, d, other)]);
                        (dot.sum::<f64>() / (dim as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                for d in 0..dim {
                    let mix = scores
                        .iter()
                        .enumerate()
                        .map(|(u, p)| p / total * v[at(source, d, sequence * length + u)]);
                    loss += weights[at(head, d, column)] * mix.sum::<f64>();
                }
            }
        }
    }
    let actual = run(&function, &numbers)["loss"].to_f64_vec();
    Tolerance::Close.check(&actual, &[loss]).unwrap();
}

#[test]
fn embedding_and_cross_entropy() {
    // The table is both embedding and classifier, as in small Llamas.
    let inputs = [("table", &[5, 4][..], ANY), ("weight", &[4], NORM)];
    let function = weighted(&inputs, |b, v| {
        let tokens = b.constant(Tensor::from_slice(&[6], &[1i32, 4, 1, 0, 2, 4]));
        let targets = b.constant(Tensor::from_slice(&[6], &[4i32, 1, 0, 2, 4, 3]));
        let x = b.embedding(v[0], tokens);
        let x = b.rms_norm(x, v[1], 1e-3);
        let logits = b.linear_as_conv(x, v[0], None);
        b.cross_entropy(logits, targets)
    });
    compare("cross-entropy", &function, &inputs, &numbers(&inputs, 8));
    // Picked logits are subtracted from the softmax in place of a tensor of zeros of its size.
    let with = gradients(&function, "loss", &["table"]).unwrap();
    let full_zeros = with.body.operations.iter().filter(|o| {
        let is_logits = |v: &ValueId| with.ty(*v).to_string() == "tensor<fp64, [1, 5, 1, 6]>";
        o.name == "fill" && o.outputs.iter().any(is_logits)
    });
    assert_eq!(full_zeros.count(), 0);
}

/// A whole block: norm, grouped attention with rotary embedding, gated feed-forward.
#[test]
fn a_transformer_block() {
    let heads = HeadShape { sequences: 1, kv_heads: 1, group: 2, head_dim: 2 };
    let inputs = [
        ("x", &[1, 4, 1, 3][..], ANY),
        ("norm1", &[4], NORM),
        ("wq", &[4, 4], ANY),
        ("wk", &[2, 4], ANY),
        ("wv", &[2, 4], ANY),
        ("wo", &[4, 4], ANY),
        ("norm2", &[4], NORM),
        ("w1", &[6, 4], ANY),
        ("w2", &[4, 6], ANY),
        ("w3", &[6, 4], ANY),
    ];
    let function = weighted(&inputs, |b, p| {
        let (x, norm1, wq, wk, wv) = (p[0], p[1], p[2], p[3], p[4]);
        let h = b.rms_norm(x, norm1, 1e-2);
        let cos = b.constant(Tensor::from_slice(&[1, 3], &[1.0, 0.54, -0.42]));
        let sin = b.constant(Tensor::from_slice(&[1, 3], &[0.0, 0.84, 0.91]));
        let q = b.linear_as_conv(h, wq, None);
        let q = b.rotary(q, cos, sin, RotaryPairs::Interleaved);
        let k = b.linear_as_matmul(h, wk);
        let k = b.rotary(k, cos, sin, RotaryPairs::Interleaved);
        let v = b.linear_as_conv(h, wv, None);
        let positions = b.constant(Tensor::from_slice(&[3], &[0i32, 1, 2]));
        let mask = b.causal_mask(positions, 3, DType::F64);
        let attended = b.causal_attention(q, k, v, mask, heads);
        let attended = b.linear_as_conv(attended, p[5], None);
        let x = b.add(x, attended);
        let h = b.rms_norm(x, p[6], 1e-2);
        let gate = b.linear_as_conv(h, p[7], None);
        let gate = b.silu(gate);
        let up = b.linear_as_matmul(h, p[9]);
        let inner = b.mul(gate, up);
        let down = b.linear_as_conv(inner, p[8], None);
        b.add(x, down)
    });
    compare("a block", &function, &inputs, &numbers(&inputs, 9));
}
