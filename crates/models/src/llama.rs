//! Llama and what descends from it: Touvron et al., "LLaMA", 2023. Letters as in
//! [`orion_mil::composite`]; weights are `[out, in]`.

use crate::forward::{AttentionShape, Forward, Rotary};
use crate::network::{
    Architecture, ConfigError, ParameterSpec, check_heads, check_positive, check_sizes,
};
use orion_mil::ValueId;
use orion_mil::composite::RotaryPairs;

/// Sizes and constants of a Llama model.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
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
    /// `D`; `hidden_size / n_heads` in most models.
    pub head_dim: usize,
    /// The longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    pub norm_epsilon: f64,
    /// Whether the classifier is the embedding.
    pub tied: bool,
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm.weight";
const CLASSIFIER: &str = "lm_head.weight";

impl LlamaConfig {
    /// The parameters; with those that norm query and key heads where `head_norms` says so.
    pub(crate) fn specs(&self, head_norms: bool) -> Vec<ParameterSpec> {
        // As llama2.c begins: 0.02 everywhere, less for what adds to the residual stream
        // (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019).
        let matrix = |name: String, o: usize, i: usize, deviation: f64| {
            ParameterSpec::matrix(name, &[o, i], deviation)
        };
        let norm = |name: String, size: usize| ParameterSpec::constant(name, &[size], 1.0);
        let (c, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let residual = 0.02 / (2.0 * self.n_layers as f64).sqrt();
        let mut specs = vec![matrix(EMBEDDING.into(), self.vocab_size, c, 0.02)];
        for layer in 0..self.n_layers {
            let name = |part: &str| parameter_name(layer, part);
            specs.extend([
                norm(name("input_layernorm"), c),
                matrix(name("self_attn.q_proj"), q, c, 0.02),
                matrix(name("self_attn.k_proj"), kv, c, 0.02),
                matrix(name("self_attn.v_proj"), kv, c, 0.02),
                matrix(name("self_attn.o_proj"), c, q, residual),
            ]);
            if head_norms {
                specs.extend(
                    ["q_norm", "k_norm"]
                        .map(|part| norm(name(&format!("self_attn.{part}")), self.head_dim)),
                );
            }
            specs.extend([
                norm(name("post_attention_layernorm"), c),
                matrix(name("mlp.gate_proj"), f, c, 0.02),
                matrix(name("mlp.up_proj"), f, c, 0.02),
                matrix(name("mlp.down_proj"), c, f, residual),
            ]);
        }
        specs.push(norm(FINAL_NORM.into(), c));
        if !self.tied {
            specs.push(matrix(CLASSIFIER.into(), self.vocab_size, c, 0.02));
        }
        specs
    }

    /// From tokens to the end of the last block; with norms of query and key heads where
    /// `head_norms` says so.
    pub(crate) fn blocks(&self, f: &mut Forward<'_>, head_norms: bool) -> ValueId {
        let c = self.hidden_size;
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let tokens = f.tokens;
        let mut x = f.rows(EMBEDDING, &[self.vocab_size, c], tokens);
        for layer in 0..self.n_layers {
            f.set_scope(format!("layer{layer}"));
            let name = |part: &str| parameter_name(layer, part);
            let normal = self.norm(f, &name("input_layernorm"), x);
            let [query, key] = [("q", q), ("k", kv)].map(|(part, outputs)| {
                let mut heads = f.linear(&name(&format!("self_attn.{part}_proj")), normal, outputs);
                if head_norms {
                    let norm = name(&format!("self_attn.{part}_norm"));
                    let weight = f.parameter(&norm, &[self.head_dim]);
                    heads = f.rms_norm_heads(heads, weight, self.norm_epsilon);
                }
                f.turn(heads)
            });
            let value = f.linear(&name("self_attn.v_proj"), normal, kv);
            let attended = f.attend(layer, query, key, value);
            let attended = f.linear(&name("self_attn.o_proj"), attended, c);
            x = f.add(x, attended);
            let normal = self.norm(f, &name("post_attention_layernorm"), x);
            let gate = f.linear(&name("mlp.gate_proj"), normal, self.intermediate_size);
            let gate = f.silu(gate);
            let up = f.linear(&name("mlp.up_proj"), normal, self.intermediate_size);
            let inner = f.mul(gate, up);
            let inner = f.linear(&name("mlp.down_proj"), inner, c);
            x = f.add(x, inner);
        }
        x
    }

    fn norm(&self, f: &mut Forward<'_>, name: &str, x: ValueId) -> ValueId {
        let weight = f.parameter(name, &[self.hidden_size]);
        f.rms_norm(x, weight, self.norm_epsilon)
    }
}

fn parameter_name(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}.weight")
}

impl Architecture for LlamaConfig {
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
        check_positive(&[("rope_theta", self.rope_theta), ("norm_epsilon", self.norm_epsilon)])
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        self.specs(false)
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
        Some(Rotary { theta, head_dim, pairs: RotaryPairs::Halves, reversed: false })
    }

    fn trunk(&self, f: &mut Forward<'_>) -> ValueId {
        self.blocks(f, false)
    }

    fn classify(&self, f: &mut Forward<'_>, x: ValueId) -> ValueId {
        let normal = self.norm(f, FINAL_NORM, x);
        let classifier = if self.tied { EMBEDDING } else { CLASSIFIER };
        f.classifier(classifier, normal, self.vocab_size)
    }
}
