//! GolfWide: the network of submission 801 to OpenAI's Parameter Golf, 2026. A tied Llama whose
//! branches are scaled by `1 / √(2 · layers)` and whose heads turn neighbouring channels. Letters
//! as in [`orion_mil::composite`].

use crate::forward::{AttentionShape, Forward};
use crate::network::{
    Architecture, ConfigError, ParameterSpec, check_angles, check_heads, check_positive,
    check_sizes,
};
use crate::rotary::Rotary;
use orion_mil::ValueId;
use orion_mil::composite::RotaryPairs;

/// Sizes and constants of a GolfWide model.
#[derive(Debug, Clone, PartialEq)]
pub struct GolfWideConfig {
    /// `V`
    pub vocab_size: usize,
    /// `C`, the width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// `G·R`, query heads.
    pub n_heads: usize,
    /// `G`, key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// `D`
    pub head_dim: usize,
    /// The longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    pub norm_epsilon: f64,
    /// Which key/value head a query head reads.
    pub head_map: HeadMap,
}

/// Which key/value head query head `h` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadMap {
    /// `h / R`, as in most networks.
    Repeat,
    /// `h mod G`: keys and values are tiled.
    Tile,
}

const EMBEDDING: &str = "embed";
const FINAL_NORM: &str = "rms_final";

fn part_name(layer: usize, part: &str) -> String {
    format!("layers.{layer}.{part}")
}

impl GolfWideConfig {
    fn norm(&self, f: &mut Forward<'_>, name: &str, x: ValueId) -> ValueId {
        let weight = f.parameter(name, &[self.hidden_size]);
        f.rms_norm(x, weight, self.norm_epsilon)
    }

    /// Query heads in the order `g · R + r` of attention from the network's own, or back.
    fn regroup(&self, f: &mut Forward<'_>, x: ValueId, back: bool) -> ValueId {
        let (groups, group) = (self.n_kv_heads, self.n_heads / self.n_kv_heads);
        if self.head_map == HeadMap::Repeat || groups == 1 || group == 1 {
            return x;
        }
        let shape = f.shape(x);
        let [from, to] = if back { [groups, group] } else { [group, groups] };
        let x = f.reshape(x, &[from, to, self.head_dim, shape[3]]);
        let x = f.transpose(x, &[1, 0, 2, 3]);
        f.reshape(x, &shape)
    }
}

impl Architecture for GolfWideConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check_sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("max_positions", self.max_positions),
        ])?;
        check_heads(self.n_heads, self.n_kv_heads, self.head_dim)?;
        check_angles(self.max_positions, self.head_dim)?;
        check_positive(&[("rope_theta", self.rope_theta), ("norm_epsilon", self.norm_epsilon)])
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let (c, i) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let inverse_root = |n: usize| (n as f64).powf(-0.5);
        let branch = inverse_root(2 * self.n_layers);
        let mut specs = vec![ParameterSpec::uniform(EMBEDDING, &[self.vocab_size, c], 0.02)];
        for layer in 0..self.n_layers {
            let matrix = |part: &str, shape: [usize; 2], bound: f64| {
                ParameterSpec::uniform(part_name(layer, part), &shape, bound)
            };
            let norm = |part: &str| ParameterSpec::constant(part_name(layer, part), &[c], 1.0);
            specs.extend([
                norm("rms_att"),
                matrix("Wq", [q, c], inverse_root(c)),
                matrix("Wk", [kv, c], inverse_root(c)),
                matrix("Wv", [kv, c], inverse_root(c)),
                matrix("Wo", [c, q], inverse_root(q) * branch),
                norm("rms_ffn"),
                matrix("W1", [i, c], inverse_root(i)),
                matrix("W2", [c, i], inverse_root(c) * branch),
                matrix("W3", [i, c], inverse_root(i)),
            ]);
        }
        specs.push(ParameterSpec::constant(FINAL_NORM, &[c], 1.0));
        specs
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn max_positions(&self) -> usize {
        self.max_positions
    }

    fn attention(&self) -> AttentionShape {
        AttentionShape {
            layers: self.n_layers,
            kv_heads: self.n_kv_heads,
            group: self.n_heads / self.n_kv_heads,
            head_dim: self.head_dim,
        }
    }

    fn rotary(&self) -> Option<Rotary> {
        let (theta, head_dim) = (self.rope_theta, self.head_dim);
        let scaling = None;
        Some(Rotary { theta, scaling, head_dim, pairs: RotaryPairs::Interleaved, reversed: false })
    }

    fn trunk(&self, f: &mut Forward<'_>) -> ValueId {
        let (c, i) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let branch = (2.0 * self.n_layers as f64).powf(-0.5);
        let tokens = f.tokens;
        let mut x = f.rows(EMBEDDING, &[self.vocab_size, c], tokens);
        for layer in 0..self.n_layers {
            f.set_scope(format!("layer{layer}"));
            let name = |part: &str| part_name(layer, part);
            let normal = self.norm(f, &name("rms_att"), x);
            let query = f.linear(&name("Wq"), normal, q);
            let key = f.linear(&name("Wk"), normal, kv);
            let value = f.linear(&name("Wv"), normal, kv);
            let query = f.turn(query);
            let key = f.turn(key);
            let query = self.regroup(f, query, false);
            let attended = f.attend(layer, query, key, value);
            let attended = self.regroup(f, attended, true);
            let attended = f.linear(&name("Wo"), attended, c);
            let attended = f.scale(attended, branch);
            x = f.add(x, attended);

            let normal = self.norm(f, &name("rms_ffn"), x);
            let gate = f.linear(&name("W1"), normal, i);
            let gate = f.silu(gate);
            let up = f.linear(&name("W3"), normal, i);
            let inner = f.mul(gate, up);
            let inner = f.linear(&name("W2"), inner, c);
            let inner = f.scale(inner, branch);
            x = f.add(x, inner);
        }
        x
    }

    fn classify(&self, f: &mut Forward<'_>, x: ValueId) -> ValueId {
        let normal = self.norm(f, FINAL_NORM, x);
        f.classifier(EMBEDDING, normal, self.vocab_size)
    }
}
