//! The baseline network of OpenAI's Parameter Golf (`train_gpt.py`, 2026). Blocks of the first
//! half hand their results on to those of the second, every block mixes the residual stream with
//! the embedding, and norms have no weights. Letters as in [`orion_mil::composite`].

use crate::forward::{AttentionShape, Forward};
use crate::network::{
    Architecture, ConfigError, Initialization, ParameterSpec, check_angles, check_heads,
    check_positive, check_sizes,
};
use crate::rotary::Rotary;
use orion_mil::ValueId;
use orion_mil::composite::RotaryPairs;
use orion_mil::op::Unary;

/// Sizes and constants of a golf baseline model.
#[derive(Debug, Clone, PartialEq)]
pub struct GolfBaselineConfig {
    /// `V`
    pub vocab_size: usize,
    /// `C`, the width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// `G·R`, query heads; divides `hidden_size`.
    pub n_heads: usize,
    /// `G`, key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// The longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm; PyTorch takes the type's distance from 1 to the next
    /// number.
    pub norm_epsilon: f64,
    /// Logits stay between this and its negative.
    pub logit_softcap: f64,
    /// Whether the classifier is the embedding.
    pub tied: bool,
}

const EMBEDDING: &str = "tok_emb.weight";
const SKIP_WEIGHTS: &str = "skip_weights";
const CLASSIFIER: &str = "lm_head.weight";

/// What query heads are multiplied by in the beginning.
const FIRST_QUERY_GAIN: f64 = 1.5;
/// Deviation of the embedding in the beginning.
const FIRST_EMBEDDING: f64 = 0.005;

fn part_name(layer: usize, part: &str) -> String {
    format!("blocks.{layer}.{part}")
}

impl GolfBaselineConfig {
    fn head_dim(&self) -> usize {
        self.hidden_size / self.n_heads
    }

    /// Blocks whose results are handed on.
    fn first_half(&self) -> usize {
        self.n_layers / 2
    }

    /// Row `row` of the parameter `name`, `[rows, C]`, for channels of `[1, C, 1, N]`.
    fn row(&self, f: &mut Forward<'_>, name: &str, rows: usize, row: usize) -> ValueId {
        let c = self.hidden_size;
        let all = f.parameter(name, &[rows, c]);
        let row = f.slice(all, &[row, 0], &[1, c]);
        f.reshape(row, &[1, c, 1, 1])
    }

    /// What a branch adds to the residual stream, scaled by the parameter `name`, `[C]`.
    fn branch(&self, f: &mut Forward<'_>, name: &str, x: ValueId, branch: ValueId) -> ValueId {
        let c = self.hidden_size;
        let scale = f.parameter(name, &[c]);
        let scale = f.reshape(scale, &[1, c, 1, 1]);
        let scaled = f.mul(scale, branch);
        f.add(x, scaled)
    }

    fn block(&self, f: &mut Forward<'_>, layer: usize, x: ValueId, first: ValueId) -> ValueId {
        f.set_scope(format!("layer{layer}"));
        let (c, eps) = (self.hidden_size, self.norm_epsilon);
        let name = |part: &str| part_name(layer, part);
        let kept = self.row(f, &name("resid_mix"), 2, 0);
        let mixed_in = self.row(f, &name("resid_mix"), 2, 1);
        let kept = f.mul(kept, x);
        let mixed_in = f.mul(mixed_in, first);
        let x = f.add(kept, mixed_in);

        let normal = f.rms_normalize(x, eps);
        let query = f.linear(&name("attn.c_q.weight"), normal, c);
        let key_channels = self.n_kv_heads * self.head_dim();
        let key = f.linear(&name("attn.c_k.weight"), normal, key_channels);
        let value = f.linear(&name("attn.c_v.weight"), normal, key_channels);
        let query = f.rms_normalize_heads(query, self.head_dim(), eps);
        let key = f.rms_normalize_heads(key, self.head_dim(), eps);
        let query = f.turn(query);
        let key = f.turn(key);
        let gain = f.parameter(&name("attn.q_gain"), &[self.n_heads]);
        let query = f.scale_heads(query, gain);
        let attended = f.attend(layer, query, key, value);
        let attended = f.linear(&name("attn.proj.weight"), attended, c);
        let x = self.branch(f, &name("attn_scale"), x, attended);

        let normal = f.rms_normalize(x, eps);
        let inner = f.linear(&name("mlp.fc.weight"), normal, self.intermediate_size);
        let inner = f.unary(Unary::Relu, inner);
        let inner = f.unary(Unary::Square, inner);
        let inner = f.linear(&name("mlp.proj.weight"), inner, c);
        self.branch(f, &name("mlp_scale"), x, inner)
    }
}

impl Architecture for GolfBaselineConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check_sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("max_positions", self.max_positions),
        ])?;
        if self.n_layers < 2 {
            return Err(ConfigError::new("n_layers is 1; blocks are handed on to a second half"));
        }
        if !self.hidden_size.is_multiple_of(self.n_heads) {
            return Err(ConfigError::new(format!(
                "hidden_size is {} and n_heads {}; the first must be a multiple of the second",
                self.hidden_size, self.n_heads
            )));
        }
        check_heads(self.n_heads, self.n_kv_heads, self.head_dim())?;
        check_angles(self.max_positions, self.head_dim())?;
        check_positive(&[
            ("rope_theta", self.rope_theta),
            ("norm_epsilon", self.norm_epsilon),
            ("logit_softcap", self.logit_softcap),
        ])
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let (c, i) = (self.hidden_size, self.intermediate_size);
        let key = self.n_kv_heads * self.head_dim();
        // As PyTorch's linear layers begin.
        let linear = |name: String, outputs: usize, inputs: usize| {
            ParameterSpec::uniform(name, &[outputs, inputs], (inputs as f64).powf(-0.5))
        };
        let zeros = |name: String, outputs: usize, inputs: usize| ParameterSpec {
            decays: true,
            ..ParameterSpec::constant(name, &[outputs, inputs], 0.0)
        };
        let mut specs = vec![
            ParameterSpec::matrix(EMBEDDING, &[self.vocab_size, c], FIRST_EMBEDDING),
            ParameterSpec::constant(SKIP_WEIGHTS, &[self.first_half(), c], 1.0),
        ];
        for layer in 0..self.n_layers {
            let name = |part: &str| part_name(layer, part);
            specs.extend([
                ParameterSpec::constant(name("attn_scale"), &[c], 1.0),
                ParameterSpec::constant(name("mlp_scale"), &[c], 1.0),
                ParameterSpec {
                    initialization: Initialization::FirstRow,
                    ..ParameterSpec::constant(name("resid_mix"), &[2, c], 0.0)
                },
                ParameterSpec::constant(name("attn.q_gain"), &[self.n_heads], FIRST_QUERY_GAIN),
                linear(name("attn.c_q.weight"), c, c),
                linear(name("attn.c_k.weight"), key, c),
                linear(name("attn.c_v.weight"), key, c),
                zeros(name("attn.proj.weight"), c, c),
                linear(name("mlp.fc.weight"), i, c),
                zeros(name("mlp.proj.weight"), c, i),
            ]);
        }
        if !self.tied {
            specs.push(zeros(CLASSIFIER.into(), self.vocab_size, c));
        }
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
            head_dim: self.head_dim(),
        }
    }

    fn rotary(&self) -> Option<Rotary> {
        let (theta, head_dim) = (self.rope_theta, self.head_dim());
        let scaling = None;
        Some(Rotary { theta, scaling, head_dim, pairs: RotaryPairs::Halves, reversed: true })
    }

    fn trunk(&self, f: &mut Forward<'_>) -> ValueId {
        let tokens = f.tokens;
        let x = f.rows(EMBEDDING, &[self.vocab_size, self.hidden_size], tokens);
        let first = f.rms_normalize(x, self.norm_epsilon);
        let mut x = first;
        let mut handed_on = Vec::new();
        for layer in 0..self.n_layers {
            let skips = self.first_half();
            if layer >= skips
                && let Some(earlier) = handed_on.pop()
            {
                let weight = self.row(f, SKIP_WEIGHTS, skips, layer - skips);
                let earlier = f.mul(weight, earlier);
                x = f.add(x, earlier);
            }
            x = self.block(f, layer, x, first);
            if layer < skips {
                handed_on.push(x);
            }
        }
        x
    }

    fn classify(&self, f: &mut Forward<'_>, x: ValueId) -> ValueId {
        let normal = f.rms_normalize(x, self.norm_epsilon);
        let classifier = if self.tied { EMBEDDING } else { CLASSIFIER };
        let logits = f.classifier(classifier, normal, self.vocab_size);
        f.softcap(logits, self.logit_softcap)
    }
}
