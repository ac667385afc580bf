//! Qwen3: Yang et al., "Qwen3 Technical Report", 2025. A Llama that norms the heads of queries
//! and keys before it turns them, with its own size of heads.

use crate::LlamaConfig;
use crate::forward::{AttentionShape, Forward};
use crate::llama::Additions;
use crate::network::{Architecture, ConfigError, ParameterSpec};
use crate::rotary::Rotary;
use orion_mil::ValueId;

/// Sizes and constants of a Qwen3 model: those of a Llama.
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen3Config(pub LlamaConfig);

impl Qwen3Config {
    fn additions(&self) -> Additions {
        Additions { head_norms: true, ..self.0.additions() }
    }
}

impl Architecture for Qwen3Config {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.0.mlp_bias {
            return Err(ConfigError::new("mlp_bias is true; the MLP of Qwen3 has no biases"));
        }
        self.0.validate()
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        self.0.specs(self.additions())
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
        self.0.blocks(f, self.additions())
    }

    fn classify(&self, f: &mut Forward<'_>, x: ValueId) -> ValueId {
        self.0.classify(f, x)
    }
}
