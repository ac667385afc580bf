//! Llama and what descends from it: Touvron et al., "LLaMA", 2023. Letters as in
//! [`orion_mil::composite`]; weights are `[out, in]`.

use crate::forward::{AttentionShape, Forward};
use crate::network::{
    Architecture, ConfigError, ParameterSpec, check_angles, check_heads, check_positive,
    check_sizes,
};
use crate::rotary::{Rotary, frequencies};
use orion_formats::RopeScaling;
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
    /// What is done to these frequencies, if anything.
    pub rope_scaling: Option<RopeScaling>,
    /// Added to the mean square in RMSNorm.
    pub norm_epsilon: f64,
    /// Whether the classifier is the embedding.
    pub tied: bool,
    /// Whether the projections of attention have biases: all four, of queries, keys, values and
    /// output. In Qwen2, where the first three have them always, this is false.
    pub attention_bias: bool,
    /// Whether the projections of the MLP have biases; false but in a Llama.
    pub mlp_bias: bool,
}

/// What networks of this kind have more than the sizes of a Llama say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Additions {
    /// Whether heads of queries and keys are normed.
    pub(crate) head_norms: bool,
    /// Whether the projections to queries, keys and values have biases.
    pub(crate) input_bias: bool,
    /// Whether the projection of what was attended to has one.
    pub(crate) output_bias: bool,
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm";
const CLASSIFIER: &str = "lm_head.weight";

impl LlamaConfig {
    /// What a Llama has.
    pub(crate) fn additions(&self) -> Additions {
        let bias = self.attention_bias;
        Additions { head_norms: false, input_bias: bias, output_bias: bias }
    }

    /// The parameters of a network with these additions.
    pub(crate) fn specs(&self, additions: Additions) -> Vec<ParameterSpec> {
        let Additions { head_norms, input_bias, output_bias } = additions;
        // As llama2.c begins: 0.02 everywhere, less for what adds to the residual stream
        // (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019).
        let matrix = |name: &str, o: usize, i: usize, deviation: f64| {
            ParameterSpec::matrix(name, &[o, i], deviation)
        };
        let linear = |module: String, o: usize, i: usize, deviation: f64, bias: bool| {
            let bias = bias.then(|| ParameterSpec::constant(format!("{module}.bias"), &[o], 0.0));
            [matrix(&format!("{module}.weight"), o, i, deviation)].into_iter().chain(bias)
        };
        let norm = |module: &str, size: usize| {
            ParameterSpec::constant(format!("{module}.weight"), &[size], 1.0)
        };
        let (c, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let residual = 0.02 / (2.0 * self.n_layers as f64).sqrt();
        let mut specs = vec![matrix(EMBEDDING, self.vocab_size, c, 0.02)];
        for layer in 0..self.n_layers {
            let name = |part: &str| module_name(layer, part);
            specs.push(norm(&name("input_layernorm"), c));
            specs.extend(linear(name("self_attn.q_proj"), q, c, 0.02, input_bias));
            specs.extend(linear(name("self_attn.k_proj"), kv, c, 0.02, input_bias));
            specs.extend(linear(name("self_attn.v_proj"), kv, c, 0.02, input_bias));
            specs.extend(linear(name("self_attn.o_proj"), c, q, residual, output_bias));
            if head_norms {
                specs.extend(
                    ["q_norm", "k_norm"]
                        .map(|part| norm(&name(&format!("self_attn.{part}")), self.head_dim)),
                );
            }
            specs.push(norm(&name("post_attention_layernorm"), c));
            specs.extend(linear(name("mlp.gate_proj"), f, c, 0.02, self.mlp_bias));
            specs.extend(linear(name("mlp.up_proj"), f, c, 0.02, self.mlp_bias));
            specs.extend(linear(name("mlp.down_proj"), c, f, residual, self.mlp_bias));
        }
        specs.push(norm(FINAL_NORM, c));
        if !self.tied {
            specs.push(matrix(CLASSIFIER, self.vocab_size, c, 0.02));
        }
        specs
    }

    /// From tokens to the end of the last block of a network with these additions.
    pub(crate) fn blocks(&self, f: &mut Forward<'_>, additions: Additions) -> ValueId {
        let Additions { head_norms, input_bias, output_bias } = additions;
        let c = self.hidden_size;
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let tokens = f.tokens;
        let mut x = f.rows(EMBEDDING, &[self.vocab_size, c], tokens);
        for layer in 0..self.n_layers {
            f.set_scope(format!("layer{layer}"));
            let name = |part: &str| module_name(layer, part);
            let normal = self.norm(f, &name("input_layernorm"), x);
            let [query, key] = [("q", q), ("k", kv)].map(|(part, outputs)| {
                let module = name(&format!("self_attn.{part}_proj"));
                let mut heads = linear(f, &module, normal, outputs, input_bias);
                if head_norms {
                    let norm = name(&format!("self_attn.{part}_norm.weight"));
                    let weight = f.parameter(&norm, &[self.head_dim]);
                    heads = f.rms_norm_heads(heads, weight, self.norm_epsilon);
                }
                f.turn(heads)
            });
            let value = linear(f, &name("self_attn.v_proj"), normal, kv, input_bias);
            let attended = f.attend(layer, query, key, value);
            let attended = linear(f, &name("self_attn.o_proj"), attended, c, output_bias);
            x = f.add(x, attended);
            let normal = self.norm(f, &name("post_attention_layernorm"), x);
            let (wide, bias) = (self.intermediate_size, self.mlp_bias);
            let gate = linear(f, &name("mlp.gate_proj"), normal, wide, bias);
            let gate = f.silu(gate);
            let up = linear(f, &name("mlp.up_proj"), normal, wide, bias);
            let inner = f.mul(gate, up);
            let inner = linear(f, &name("mlp.down_proj"), inner, c, bias);
            x = f.add(x, inner);
        }
        x
    }

    /// What each of the `D/2` frequencies `θ^(-2i/D)` of rotary positions is divided by.
    pub fn frequency_divisors(&self) -> Vec<f64> {
        let of = |scaling| frequencies(self.rope_theta, self.head_dim, scaling);
        let scaled = of(self.rope_scaling.as_ref());
        of(None).into_iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect()
    }

    fn norm(&self, f: &mut Forward<'_>, module: &str, x: ValueId) -> ValueId {
        let weight = f.parameter(&format!("{module}.weight"), &[self.hidden_size]);
        f.rms_norm(x, weight, self.norm_epsilon)
    }
}

fn module_name(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}")
}

/// The layer called `module`, with a bias or without.
fn linear(f: &mut Forward<'_>, module: &str, x: ValueId, outputs: usize, bias: bool) -> ValueId {
    if bias {
        return f.linear_with_bias(module, x, outputs);
    }
    f.linear(&format!("{module}.weight"), x, outputs)
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
        check_angles(self.max_positions, self.head_dim)?;
        check_positive(&[("rope_theta", self.rope_theta), ("norm_epsilon", self.norm_epsilon)])?;
        match &self.rope_scaling {
            Some(RopeScaling::Divisors(divisors)) if divisors.len() != self.head_dim / 2 => {
                Err(ConfigError::new(format!(
                    "rope_scaling has {} divisors; head_dim {} needs half as many",
                    divisors.len(),
                    self.head_dim
                )))
            }
            Some(scaling) => scaling.check().map_err(|e| ConfigError::new(e.to_string())),
            None => Ok(()),
        }
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        self.specs(self.additions())
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
        let scaling = self.rope_scaling.clone();
        Some(Rotary { theta, scaling, head_dim, pairs: RotaryPairs::Halves, reversed: false })
    }

    fn trunk(&self, f: &mut Forward<'_>) -> ValueId {
        self.blocks(f, self.additions())
    }

    fn classify(&self, f: &mut Forward<'_>, x: ValueId) -> ValueId {
        let normal = self.norm(f, FINAL_NORM, x);
        let classifier = if self.tied { EMBEDDING } else { CLASSIFIER };
        f.classifier(classifier, normal, self.vocab_size)
    }
}
