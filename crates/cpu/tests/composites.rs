//! The builder's composites against their formulas, written out as plain loops in f64.
//!
//! Letters as in `orion_mil::composite`; every tensor is stored channel-first.

use orion_cpu::reference::Reference;
use orion_mil::composite::{HeadShape, RotaryPairs};
use orion_mil::{Builder, Program, TensorType, ValueId, Weights};
use orion_tensor::{DType, Tensor, Tolerance};
use orion_testing::{Random, Tensors, run_once};

/// Builds a function of named fp32 inputs filled at random, runs it, and returns the inputs and
/// the result as f64.
struct Experiment {
    builder: Builder,
    contents: Tensors,
    random: Random,
}

impl Experiment {
    fn new(seed: u64) -> Self {
        Self { builder: Builder::new("main"), contents: Tensors::new(), random: Random::new(seed) }
    }

    fn input(&mut self, name: &str, shape: &[usize]) -> (ValueId, Vec<f64>) {
        let count = shape.iter().product();
        let values: Vec<f64> =
            (0..count).map(|_| f64::from(self.random.uniform(-2.0, 2.0) as f32)).collect();
        self.contents.insert(name.into(), Tensor::from_f64(DType::F32, shape, &values));
        (self.builder.input(name, TensorType::new(DType::F32, shape)), values)
    }

    fn indices(&mut self, name: &str, values: &[i32]) -> ValueId {
        self.contents.insert(name.into(), Tensor::from_slice(&[values.len()], values));
        self.builder.input(name, TensorType::new(DType::I32, &[values.len()]))
    }

    fn run(mut self, result: ValueId) -> Vec<f64> {
        self.builder.rename(result, "result");
        let program = Program::with_function(self.builder.finish(&[result]));
        let written = run_once(&Reference, &program, &Weights::new(), &self.contents).unwrap();
        written["result"].to_f64_vec()
    }
}

fn assert_close(actual: &[f64], expected: &[f64]) {
    Tolerance::F32Accum.check(actual, expected).unwrap();
}

#[test]
fn rms_norm() {
    let (c, n, epsilon) = (5, 3, 0.1);
    let mut e = Experiment::new(1);
    let (x, xs) = e.input("x_in", &[1, c, 1, n]);
    let (w, ws) = e.input("w_in", &[c]);
    let y = e.builder.rms_norm(x, w, epsilon);
    let mut expected = vec![0.0; c * n];
    for t in 0..n {
        let mean = (0..c).map(|i| xs[i * n + t].powi(2)).sum::<f64>() / c as f64;
        for i in 0..c {
            expected[i * n + t] = xs[i * n + t] / (mean + epsilon).sqrt() * ws[i];
        }
    }
    assert_close(&e.run(y), &expected);
}

#[test]
fn layer_norm() {
    let (c, n, epsilon) = (6, 4, 0.2);
    let mut e = Experiment::new(2);
    let (x, xs) = e.input("x_in", &[1, c, 1, n]);
    let (w, ws) = e.input("w_in", &[c]);
    let (b, bs) = e.input("b_in", &[c]);
    let y = e.builder.layer_norm(x, w, b, epsilon);
    let mut expected = vec![0.0; c * n];
    for t in 0..n {
        let mean = (0..c).map(|i| xs[i * n + t]).sum::<f64>() / c as f64;
        let variance = (0..c).map(|i| (xs[i * n + t] - mean).powi(2)).sum::<f64>() / c as f64;
        for i in 0..c {
            let normal = (xs[i * n + t] - mean) / (variance + epsilon).sqrt();
            expected[i * n + t] = normal * ws[i] + bs[i];
        }
    }
    assert_close(&e.run(y), &expected);
}

#[test]
fn linear_layers() {
    let (o, i, n) = (4, 3, 5);
    for as_conv in [true, false] {
        let mut e = Experiment::new(3);
        let (x, xs) = e.input("x_in", &[1, i, 1, n]);
        let (w, ws) = e.input("w_in", &[o, i]);
        let y = if as_conv {
            e.builder.linear_as_conv(x, w, None)
        } else {
            e.builder.linear_as_matmul(x, w)
        };
        let mut expected = vec![0.0; o * n];
        for (r, t) in (0..o).flat_map(|r| (0..n).map(move |t| (r, t))) {
            expected[r * n + t] = (0..i).map(|k| ws[r * i + k] * xs[k * n + t]).sum();
        }
        assert_close(&e.run(y), &expected);
    }
}

#[test]
fn embedding_takes_rows_as_columns() {
    let (v, c) = (7, 3);
    let mut e = Experiment::new(4);
    let (table, rows) = e.input("table_in", &[v, c]);
    let ids = [6, 0, 3, 3];
    let tokens = e.indices("tokens", &ids);
    let y = e.builder.embedding(table, tokens);
    let expected: Vec<f64> = (0..c).flat_map(|i| ids.map(|id| rows[id as usize * c + i])).collect();
    assert_eq!(e.run(y), expected);
}

#[test]
fn rotary_turns_pairs_by_position() {
    let (heads, d, theta) = (2usize, 6usize, 100f64);
    let positions = [0, 5, 2];
    let n = positions.len();
    let angle = |p: usize, i: usize| p as f64 * theta.powf(-2.0 * i as f64 / d as f64);
    for pairs in [RotaryPairs::Interleaved, RotaryPairs::Halves] {
        let mut e = Experiment::new(5);
        let (x, xs) = e.input("x_in", &[1, heads * d, 1, n]);
        let position = e.indices("positions", &positions);
        let mut table = |f: fn(f64) -> f64| {
            let values: Vec<f32> =
                (0..8).flat_map(|p| (0..d / 2).map(move |i| f(angle(p, i)) as f32)).collect();
            let table = e.builder.constant(Tensor::from_slice(&[8, d / 2], &values));
            e.builder.rotary_angles(table, position)
        };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        let y = e.builder.rotary(x, cos, sin, pairs);
        let mut expected = vec![0.0; heads * d * n];
        for (h, i, t) in
            (0..heads).flat_map(|h| (0..d / 2).flat_map(move |i| (0..n).map(move |t| (h, i, t))))
        {
            let (first, second) = match pairs {
                RotaryPairs::Interleaved => (2 * i, 2 * i + 1),
                RotaryPairs::Halves => (i, i + d / 2),
            };
            let at = |channel: usize| (h * d + channel) * n + t;
            let (sin, cos) = angle(positions[t] as usize, i).sin_cos();
            let (a, b) = (xs[at(first)], xs[at(second)]);
            expected[at(first)] = a * cos - b * sin;
            expected[at(second)] = a * sin + b * cos;
        }
        assert_close(&e.run(y), &expected);
    }
}

/// Causal attention as sums over earlier tokens; query head h reads key head h / R.
fn attention(heads: HeadShape, s: usize, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let HeadShape { sequences, kv_heads, group, head_dim: d } = heads;
    let n = sequences * s;
    let mut out = vec![0.0; kv_heads * group * d * n];
    for b in 0..sequences {
        for h in 0..kv_heads * group {
            let at = |head: usize, channel: usize, t: usize| (head * d + channel) * n + b * s + t;
            for t in 0..s {
                let scores: Vec<f64> = (0..=t)
                    .map(|u| {
                        let dot: f64 =
                            (0..d).map(|i| q[at(h, i, t)] * k[at(h / group, i, u)]).sum();
                        (dot / (d as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                for i in 0..d {
                    let weighted =
                        scores.iter().enumerate().map(|(u, p)| p * v[at(h / group, i, u)]);
                    out[at(h, i, t)] = weighted.sum::<f64>() / total;
                }
            }
        }
    }
    out
}

#[test]
fn causal_attention_with_grouped_heads() {
    for heads in [
        HeadShape { sequences: 1, kv_heads: 2, group: 3, head_dim: 4 },
        HeadShape { sequences: 3, kv_heads: 2, group: 2, head_dim: 2 },
        HeadShape { sequences: 2, kv_heads: 3, group: 1, head_dim: 2 },
    ] {
        let s = 5;
        let n = heads.sequences * s;
        let kv = heads.kv_heads * heads.head_dim;
        let mut e = Experiment::new(6);
        let (q, qs) = e.input("q_in", &[1, kv * heads.group, 1, n]);
        let (k, ks) = e.input("k_in", &[1, kv, 1, n]);
        let (v, vs) = e.input("v_in", &[1, kv, 1, n]);
        let positions = e.builder.ints(&[0, 1, 2, 3, 4]);
        let mask = e.builder.causal_mask(positions, s, DType::F32);
        let y = e.builder.causal_attention(q, k, v, mask, heads);
        assert_close(&e.run(y), &attention(heads, s, &qs, &ks, &vs));
    }
}

#[test]
fn cached_attention_goes_on_where_the_cache_ends() {
    let heads = HeadShape { sequences: 1, kv_heads: 2, group: 2, head_dim: 2 };
    let (s, before, context) = (6, 4, 9);
    let kv = 4;
    let mut e = Experiment::new(7);
    // Whole sequences for the formula; the program sees their last columns and a cache.
    let mut random = Random::new(8);
    let mut whole = |c: usize| -> Vec<f64> {
        (0..c * s).map(|_| f64::from(random.uniform(-2.0, 2.0) as f32)).collect()
    };
    let (qs, ks, vs) = (whole(2 * kv), whole(kv), whole(kv));
    let columns = |xs: &[f64], from: usize, to: usize, width: usize| -> Vec<f64> {
        xs.chunks(s)
            .flat_map(|row| {
                // Columns past the end hold what must never be read.
                (0..width).map(move |i| if i < to - from { row[from + i] } else { 1e3 })
            })
            .collect()
    };
    let mut given = |name: &str, shape: &[usize], values: Vec<f64>| {
        e.contents.insert(name.into(), Tensor::from_f64(DType::F32, shape, &values));
        e.builder.input(name, TensorType::new(DType::F32, shape))
    };
    let new = s - before;
    let q = given("q_in", &[1, 2 * kv, 1, new], columns(&qs, before, s, new));
    let k = given("k_in", &[1, kv, 1, new], columns(&ks, before, s, new));
    let v = given("v_in", &[1, kv, 1, new], columns(&vs, before, s, new));
    let key_cache = given("key_cache", &[2, 1, 2, context], columns(&ks, 0, before, context));
    let value_cache = given("value_cache", &[2, 1, 2, context], columns(&vs, 0, before, context));
    let begin = e.indices("begin", &[0, 0, 0, before as i32]);
    let positions = e.indices("positions", &[4, 5]);
    let mask = e.builder.causal_mask(positions, context, DType::F32);
    let caches = [key_cache, value_cache];
    let (y, _) = e.builder.cached_attention([q, k, v], caches, begin, mask, heads);
    let all = attention(heads, s, &qs, &ks, &vs);
    assert_close(&e.run(y), &columns(&all, before, s, new));
}

#[test]
fn cross_entropy_is_the_negative_log_probability() {
    let (v, n) = (5, 3);
    let mut e = Experiment::new(9);
    let (logits, ls) = e.input("logits_in", &[1, v, 1, n]);
    let ids = [4, 0, 2];
    let targets = e.indices("targets", &ids);
    let y = e.builder.cross_entropy(logits, targets);
    let expected: Vec<f64> = (0..n)
        .map(|t| {
            let total: f64 = (0..v).map(|i| ls[i * n + t].exp()).sum();
            total.ln() - ls[ids[t] as usize * n + t]
        })
        .collect();
    assert_close(&e.run(y), &expected);
}
