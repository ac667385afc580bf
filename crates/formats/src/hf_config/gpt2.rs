//! `config.json` of a GPT-2 model.

use super::{
    OneOrMore, check_bounds, check_foreign_keys, check_numbers, from_json, list_of, malformed,
    to_json, unsupported,
};
use crate::Result;
use serde::Deserialize;
use serde_json::{Value, json};

/// The sizes and constants of a GPT-2 model; field names are the file's keys.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are the format's")]
pub struct Gpt2ConfigFile {
    pub vocab_size: usize,
    pub n_embd: usize,
    pub n_inner: usize,
    pub n_layer: usize,
    pub n_head: usize,
    pub n_positions: usize,
    pub layer_norm_epsilon: f64,
    pub tie_word_embeddings: bool,
    pub bos_token_id: Option<u32>,
    /// Every id that ends a text; the file may have one or a list.
    pub eos_token_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    vocab_size: usize,
    n_embd: usize,
    n_inner: Option<usize>,
    n_layer: usize,
    n_head: usize,
    n_positions: Option<usize>,
    n_ctx: Option<usize>,
    layer_norm_epsilon: Option<f64>,
    activation_function: Option<String>,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    add_cross_attention: Option<bool>,
    tie_word_embeddings: Option<bool>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMore>,
}

/// Names of the one activation: GELU through the hyperbolic tangent.
const ACTIVATIONS: [&str; 2] = ["gelu_new", "gelu_pytorch_tanh"];

impl Gpt2ConfigFile {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let raw: Raw = from_json(bytes)?;
        check_foreign_keys(bytes)?;
        check_features(&raw)?;
        let positions = raw.n_positions.or(raw.n_ctx);
        let this = Self {
            vocab_size: raw.vocab_size,
            n_embd: raw.n_embd,
            n_inner: raw.n_inner.unwrap_or(raw.n_embd.saturating_mul(4)),
            n_layer: raw.n_layer,
            n_head: raw.n_head,
            n_positions: positions
                .ok_or_else(|| malformed("n_positions", "missing, and so is `n_ctx`"))?,
            // These two are what transformers takes when the key is absent.
            layer_norm_epsilon: raw.layer_norm_epsilon.unwrap_or(1e-5),
            tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(true),
            bos_token_id: raw.bos_token_id,
            eos_token_ids: list_of(raw.eos_token_id),
        };
        this.check()?;
        Ok(this)
    }

    fn check(&self) -> Result<()> {
        check_bounds(&[
            ("vocab_size", self.vocab_size),
            ("n_embd", self.n_embd),
            ("n_inner", self.n_inner),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_positions", self.n_positions),
        ])?;
        if !self.n_embd.is_multiple_of(self.n_head) {
            let what = format!("{}, which does not divide n_embd {}", self.n_head, self.n_embd);
            return Err(malformed("n_head", &what));
        }
        check_numbers(&[("layer_norm_epsilon", self.layer_norm_epsilon)])
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        self.check()?;
        let eos = match *self.eos_token_ids {
            [] => Value::Null,
            [id] => json!(id),
            ref ids => json!(ids),
        };
        Ok(to_json(&json!({
            "activation_function": "gelu_new",
            "architectures": ["GPT2LMHeadModel"],
            "bos_token_id": self.bos_token_id,
            "dtype": "float32",
            "eos_token_id": eos,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "model_type": "gpt2",
            "n_ctx": self.n_positions,
            "n_embd": self.n_embd,
            "n_head": self.n_head,
            "n_inner": self.n_inner,
            "n_layer": self.n_layer,
            "n_positions": self.n_positions,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": "float32",
            "vocab_size": self.vocab_size,
        })))
    }
}

/// Refuses what would make the network compute something else.
fn check_features(raw: &Raw) -> Result<()> {
    if let Some(kind) = raw.model_type.as_deref().filter(|&kind| kind != "gpt2") {
        return Err(unsupported("model_type", kind, "gpt2"));
    }
    const ARCHITECTURES: [&str; 2] = ["GPT2LMHeadModel", "GPT2Model"];
    if let Some(names) = &raw.architectures
        && !names.iter().any(|name| ARCHITECTURES.contains(&name.as_str()))
    {
        return Err(unsupported("architectures", &format!("{names:?}"), ARCHITECTURES[0]));
    }
    if let Some(name) = raw.activation_function.as_deref()
        && !ACTIVATIONS.contains(&name)
    {
        return Err(unsupported("activation_function", name, "gelu_new"));
    }
    for (key, value, expected) in [
        ("scale_attn_weights", raw.scale_attn_weights, true),
        ("scale_attn_by_inverse_layer_idx", raw.scale_attn_by_inverse_layer_idx, false),
        ("add_cross_attention", raw.add_cross_attention, false),
    ] {
        if value.is_some_and(|value| value != expected) {
            let found = (!expected).to_string();
            return Err(unsupported(key, &found, &expected.to_string()));
        }
    }
    Ok(())
}
