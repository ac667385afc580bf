//! GPT-2: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019. Letters as
//! in [`orion_mil::composite`]; weights are `[out, in]`, unlike in Hugging Face's files, which
//! hold the matrices of blocks as `[in, out]`.

use crate::forward::{AttentionShape, Forward};
use crate::network::{Architecture, ConfigError, ParameterSpec, check_positive, check_sizes};
use crate::rotary::Rotary;
use orion_mil::ValueId;
use orion_mil::op::GeluMode;

/// Sizes and constants of a GPT-2 model.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpt2Config {
    /// `V`
    pub vocab_size: usize,
    /// `C`, the width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP; `4 · hidden_size` in most models.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Heads; divides `hidden_size`.
    pub n_heads: usize,
    /// The longest sequence, in tokens: rows of the table of positions.
    pub max_positions: usize,
    /// Added to the variance in LayerNorm.
    pub norm_epsilon: f64,
    /// Whether the classifier is the embedding.
    pub tied: bool,
}

const EMBEDDING: &str = "transformer.wte.weight";
const POSITIONS: &str = "transformer.wpe.weight";
const FINAL_NORM: &str = "transformer.ln_f";
const CLASSIFIER: &str = "lm_head.weight";

fn part_name(layer: usize, part: &str) -> String {
    format!("transformer.h.{layer}.{part}")
}

/// Whether Hugging Face's files hold the parameter of that name as `[in, out]`.
pub(crate) fn is_transposed_in_files(name: &str) -> bool {
    ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"]
        .iter()
        .any(|part| name.ends_with(part))
}

impl Gpt2Config {
    fn norm(&self, f: &mut Forward<'_>, name: &str, x: ValueId) -> ValueId {
        let [weight, bias] = ["weight", "bias"]
            .map(|part| f.parameter(&format!("{name}.{part}"), &[self.hidden_size]));
        f.layer_norm(x, weight, bias, self.norm_epsilon)
    }
}

impl Architecture for Gpt2Config {
    fn validate(&self) -> Result<(), ConfigError> {
        check_sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("max_positions", self.max_positions),
        ])?;
        if !self.hidden_size.is_multiple_of(self.n_heads) {
            return Err(ConfigError::new(format!(
                "hidden_size is {} and n_heads {}; the first must be a multiple of the second",
                self.hidden_size, self.n_heads
            )));
        }
        check_positive(&[("norm_epsilon", self.norm_epsilon)])
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let (c, i) = (self.hidden_size, self.intermediate_size);
        let residual = 0.02 / (2.0 * self.n_layers as f64).sqrt();
        let norm = |name: &str| {
            [("weight", 1.0), ("bias", 0.0)]
                .map(|(part, value)| ParameterSpec::constant(format!("{name}.{part}"), &[c], value))
        };
        let linear = |name: &str, outputs: usize, inputs: usize, deviation: f64| {
            [
                ParameterSpec::matrix(format!("{name}.weight"), &[outputs, inputs], deviation),
                ParameterSpec::constant(format!("{name}.bias"), &[outputs], 0.0),
            ]
        };
        let mut specs = vec![
            ParameterSpec::matrix(EMBEDDING, &[self.vocab_size, c], 0.02),
            ParameterSpec::matrix(POSITIONS, &[self.max_positions, c], 0.02),
        ];
        for layer in 0..self.n_layers {
            let name = |part: &str| part_name(layer, part);
            specs.extend(norm(&name("ln_1")));
            specs.extend(linear(&name("attn.c_attn"), 3 * c, c, 0.02));
            specs.extend(linear(&name("attn.c_proj"), c, c, residual));
            specs.extend(norm(&name("ln_2")));
            specs.extend(linear(&name("mlp.c_fc"), i, c, 0.02));
            specs.extend(linear(&name("mlp.c_proj"), c, i, residual));
        }
        specs.extend(norm(FINAL_NORM));
        if !self.tied {
            specs.push(ParameterSpec::matrix(CLASSIFIER, &[self.vocab_size, c], 0.02));
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
            kv_heads: self.n_heads,
            group: 1,
            head_dim: self.hidden_size / self.n_heads,
        }
    }

    fn rotary(&self) -> Option<Rotary> {
        None
    }

    fn trunk(&self, f: &mut Forward<'_>) -> ValueId {
        let c = self.hidden_size;
        let (tokens, positions) = (f.tokens, f.positions);
        let words = f.rows(EMBEDDING, &[self.vocab_size, c], tokens);
        let places = f.rows(POSITIONS, &[self.max_positions, c], positions);
        let mut x = f.add(words, places);
        for layer in 0..self.n_layers {
            f.set_scope(format!("layer{layer}"));
            let name = |part: &str| part_name(layer, part);
            let normal = self.norm(f, &name("ln_1"), x);
            let fused = f.linear_with_bias(&name("attn.c_attn"), normal, 3 * c);
            let parts = f.split(fused, 1, &[c, c, c]);
            let attended = f.attend(layer, parts[0], parts[1], parts[2]);
            let attended = f.linear_with_bias(&name("attn.c_proj"), attended, c);
            x = f.add(x, attended);
            let normal = self.norm(f, &name("ln_2"), x);
            let inner = f.linear_with_bias(&name("mlp.c_fc"), normal, self.intermediate_size);
            let inner = f.gelu(inner, GeluMode::Tanh);
            let inner = f.linear_with_bias(&name("mlp.c_proj"), inner, c);
            x = f.add(x, inner);
        }
        x
    }

    fn classify(&self, f: &mut Forward<'_>, x: ValueId) -> ValueId {
        let normal = self.norm(f, FINAL_NORM, x);
        let classifier = if self.tied { EMBEDDING } else { CLASSIFIER };
        f.classifier(classifier, normal, self.vocab_size)
    }
}
