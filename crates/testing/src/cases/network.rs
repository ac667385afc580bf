//! Small networks made of the builder's composites.
//!
//! Letters: `S` tokens, `C` channels, `V` vocabulary, `G` key/value heads, `R` query heads for
//! each, `D` head dimension, `T` cache length.

use crate::case::{Case, Draft, case};
use orion_mil::ValueId;
use orion_mil::composite::{HeadShape, RotaryPairs};
use orion_mil::op::{GeluMode, Reduction};
use orion_tensor::{DType, Tensor, Tolerance};

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for (dtype, tolerance) in
        [(DType::F32, Tolerance::F32Network), (DType::F16, Tolerance::F16Accum)]
    {
        let mut add = |name: &str, build: &dyn Fn(&mut Draft) -> Vec<ValueId>| {
            cases.push(case(format!("network/{name}/{dtype}"), tolerance, |d| build(d)));
        };
        add("rms norm", &|d| {
            let x = d.any(dtype, &[1, 65, 1, 33]);
            let weight = d.weight(dtype, &[65], 1.0);
            vec![d.rms_norm(x, weight, 1e-5)]
        });
        add("layer norm", &|d| {
            let x = d.any(dtype, &[1, 65, 1, 33]);
            let (weight, bias) = (d.weight(dtype, &[65], 1.0), d.weight(dtype, &[65], 1.0));
            vec![d.layer_norm(x, weight, bias, 1e-5)]
        });
        for pairs in [RotaryPairs::Interleaved, RotaryPairs::Halves] {
            add(&format!("rotary {pairs:?}").to_lowercase(), &|d| {
                let x = d.any(dtype, &[1, 3 * 8, 1, 17]);
                let (cos, sin) = rotary_tables(d, dtype, 32, 8);
                let positions = d.indices(&[17], 32);
                let cos = d.rotary_angles(cos, positions);
                let sin = d.rotary_angles(sin, positions);
                vec![d.rotary(x, cos, sin, pairs)]
            });
        }
        for (sequences, kv_heads, group) in [(1, 3, 2), (1, 1, 1), (2, 2, 3), (3, 2, 1)] {
            let name = format!("causal attention {sequences} sequences {kv_heads}x{group} heads");
            add(&name, &|d| {
                let (head_dim, s) = (8, 9);
                let heads = HeadShape { sequences, kv_heads, group, head_dim };
                let n = sequences * s;
                let q = d.any(dtype, &[1, kv_heads * group * head_dim, 1, n]);
                let k = d.any(dtype, &[1, kv_heads * head_dim, 1, n]);
                let v = d.any(dtype, &[1, kv_heads * head_dim, 1, n]);
                let positions: Vec<i32> = (0..s as i32).collect();
                let positions = d.ints(&positions);
                let mask = d.causal_mask(positions, s, dtype);
                vec![d.causal_attention(q, k, v, mask, heads)]
            });
        }
        add("gated mlp", &|d| {
            let x = d.any(dtype, &[1, 33, 1, 17]);
            vec![gated_mlp(d, x, 33, 65)]
        });
        add("gelu mlp", &|d| {
            let x = d.any(dtype, &[1, 33, 1, 17]);
            let up = d.weight(dtype, &[129, 33], 0.2);
            let (bias, down) = (d.weight(dtype, &[129], 0.5), d.weight(dtype, &[33, 129], 0.1));
            let hidden = d.linear_as_conv(x, up, Some(bias));
            let hidden = d.gelu(hidden, GeluMode::Tanh);
            vec![d.linear_as_conv(hidden, down, None)]
        });
        add("cross entropy", &|d| {
            let logits = d.within(dtype, &[1, 129, 1, 33], -8.0, 8.0);
            let targets = d.indices(&[33], 129);
            let losses = d.cross_entropy(logits, targets);
            vec![losses, d.reduce(Reduction::Mean, losses, &[0], false)]
        });
        add("llama", &|d| vec![llama(d, dtype)]);
        cases.push(cached_attention(dtype, tolerance));
    }
}

fn rotary_tables(
    d: &mut Draft,
    dtype: DType,
    length: usize,
    head_dim: usize,
) -> (ValueId, ValueId) {
    let half = head_dim / 2;
    let angle = |position: usize, pair: usize| {
        position as f64 / 10000f64.powf(2.0 * pair as f64 / head_dim as f64)
    };
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f64> = (0..length * half).map(|i| f(angle(i / half, i % half))).collect();
        Tensor::from_f64(dtype, &[length, half], &values)
    };
    (d.constant(table(f64::cos)), d.constant(table(f64::sin)))
}

fn gated_mlp(d: &mut Draft, x: ValueId, channels: usize, hidden: usize) -> ValueId {
    let dtype = d.dtype(x);
    let gate = d.weight(dtype, &[hidden, channels], 0.2);
    let up = d.weight(dtype, &[hidden, channels], 0.2);
    let down = d.weight(dtype, &[channels, hidden], 0.1);
    let (gate, up) = (d.linear_as_conv(x, gate, None), d.linear_as_matmul(x, up));
    let gate = d.silu(gate);
    let product = d.mul(gate, up);
    d.linear_as_conv(product, down, None)
}

/// Two layers with embedding, grouped heads, rotary embedding and tied output weights; the loss.
fn llama(d: &mut Draft, dtype: DType) -> ValueId {
    let (vocabulary, s) = (67, 11);
    let heads = HeadShape { sequences: 2, kv_heads: 2, group: 2, head_dim: 8 };
    let channels = heads.kv_heads * heads.group * heads.head_dim;
    let n = heads.sequences * s;

    let table = d.weight(dtype, &[vocabulary, channels], 0.5);
    let tokens = d.indices(&[n], vocabulary);
    let targets = d.indices(&[n], vocabulary);
    let (cos, sin) = rotary_tables(d, dtype, s, heads.head_dim);
    let positions: Vec<i32> = (0..n as i32).map(|i| i % s as i32).collect();
    let all_positions = d.ints(&positions);
    let one_sequence = d.ints(&positions[..s]);
    let (cos, sin) = (d.rotary_angles(cos, all_positions), d.rotary_angles(sin, all_positions));
    let mask = d.causal_mask(one_sequence, s, dtype);

    let mut x = d.embedding(table, tokens);
    for layer in 0..2 {
        d.set_scope(format!("layer{layer}"));
        let norm = d.weight(dtype, &[channels], 1.0);
        let normal = d.rms_norm(x, norm, 1e-5);
        let kv = heads.kv_heads * heads.head_dim;
        let [q, k, v] = [channels, kv, kv].map(|outputs| {
            let weight = d.weight(dtype, &[outputs, channels], 0.2);
            d.linear_as_conv(normal, weight, None)
        });
        let q = d.rotary(q, cos, sin, RotaryPairs::Interleaved);
        let k = d.rotary(k, cos, sin, RotaryPairs::Interleaved);
        let attended = d.causal_attention(q, k, v, mask, heads);
        let out = d.weight(dtype, &[channels, channels], 0.2);
        let attended = d.linear_as_conv(attended, out, None);
        x = d.add(x, attended);

        let norm = d.weight(dtype, &[channels], 1.0);
        let normal = d.rms_norm(x, norm, 1e-5);
        let mlp = gated_mlp(d, normal, channels, 65);
        x = d.add(x, mlp);
    }
    d.set_scope("");
    let norm = d.weight(dtype, &[channels], 1.0);
    let normal = d.rms_norm(x, norm, 1e-5);
    let logits = d.linear_as_conv(normal, table, None);
    let losses = d.cross_entropy(logits, targets);
    d.reduce(Reduction::Mean, losses, &[0], false)
}

/// One token at a time: caches are replaced in place and the position moves by itself.
fn cached_attention(dtype: DType, tolerance: Tolerance) -> Case {
    case(format!("network/cached attention/{dtype}"), tolerance, |d| {
        let heads = HeadShape { sequences: 1, kv_heads: 2, group: 3, head_dim: 8 };
        let length = 9;
        let kv = heads.kv_heads * heads.head_dim;
        let key_cache = d.any(dtype, &[heads.kv_heads, 1, heads.head_dim, length]);
        let value_cache = d.any(dtype, &[heads.kv_heads, 1, heads.head_dim, length]);
        let position = d.given_ints(&[1], &[0]);
        let q = d.any(dtype, &[1, kv * heads.group, 1, 1]);
        let (k, v) = (d.any(dtype, &[1, kv, 1, 1]), d.any(dtype, &[1, kv, 1, 1]));
        let zeros = d.ints(&[0, 0, 0]);
        let begin = d.concat(&[zeros, position], 0);
        let mask = d.causal_mask(position, length, dtype);
        let (y, caches) =
            d.cached_attention([q, k, v], [key_cache, value_cache], begin, mask, heads);
        let one = d.ints(&[1]);
        let next = d.add(position, one);
        vec![caches[0], caches[1], next, y]
    })
    .in_place(&[("y0", "x0"), ("y1", "x1"), ("y2", "x2")])
    .runs(9)
}
