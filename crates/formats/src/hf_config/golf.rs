//! `config.json` of the networks of Parameter Golf. Nobody else writes one for them: the keys are
//! ours, called as Llama's where they mean the same.

use super::{check_bounds, check_numbers, from_json, malformed, to_json};
use crate::Result;
use serde::{Deserialize, Serialize};

/// The sizes and constants of a golf baseline model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the format's")]
pub struct GolfBaselineConfigFile {
    /// Always `golf-baseline`.
    pub model_type: String,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub logit_softcap: f64,
    pub tie_word_embeddings: bool,
}

/// The sizes and constants of a GolfWide model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the format's")]
pub struct GolfWideConfigFile {
    /// Always `golfwide`.
    pub model_type: String,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    /// Which key/value head a query head reads: `repeat` or `tile`.
    pub head_map: String,
}

impl GolfBaselineConfigFile {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let this: Self = from_json(bytes)?;
        this.check()?;
        Ok(this)
    }

    fn check(&self) -> Result<()> {
        check_bounds(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ])?;
        check_numbers(&[
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
            ("logit_softcap", self.logit_softcap),
        ])
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        self.check()?;
        Ok(to_json(self))
    }
}

impl GolfWideConfigFile {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let this: Self = from_json(bytes)?;
        this.check()?;
        Ok(this)
    }

    fn check(&self) -> Result<()> {
        check_bounds(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ])?;
        check_numbers(&[("rms_norm_eps", self.rms_norm_eps), ("rope_theta", self.rope_theta)])?;
        match self.head_map.as_str() {
            "repeat" | "tile" => Ok(()),
            other => Err(malformed("head_map", &format!("{other}, expected repeat or tile"))),
        }
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        self.check()?;
        Ok(to_json(self))
    }
}
