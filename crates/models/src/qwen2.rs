//! Qwen2 and Qwen2.5: Yang et al., "Qwen2 Technical Report", 2024. A Llama whose queries, keys and
//! values have biases.

use crate::LlamaConfig;
use crate::forward::{AttentionShape, Forward};
use crate::llama::Additions;
use crate::network::{Architecture, ConfigError, ParameterSpec};
use crate::rotary::Rotary;
use orion_mil::ValueId;

/// Sizes and constants of a Qwen2 model: those of a Llama.
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen2Config(pub LlamaConfig);

/// What has biases is the same in every Qwen2.
const ADDITIONS: Additions = Additions { head_norms: false, input_bias: true, output_bias: false };

impl Architecture for Qwen2Config {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.0.attention_bias || self.0.mlp_bias {
            return Err(ConfigError::new("a Qwen2 has the same biases always; say false"));
        }
        self.0.validate()
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        self.0.specs(ADDITIONS)
    }

    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn max_positions(&self) -> usize {
        self.0.max_positions()
    }

    fn attention(&self) -> AttentionShape {
        self.0.attention()
    }

    fn rotary(&self) -> Option<Rotary> {
        self.0.rotary()
    }

    fn trunk(&self, f: &mut Forward<'_>) -> ValueId {
        self.0.blocks(f, ADDITIONS)
    }

    fn classify(&self, f: &mut Forward<'_>, x: ValueId) -> ValueId {
        self.0.classify(f, x)
    }
}
