//! `config.json` of a Llama model, and of Qwen2 and Qwen3 models, which have the same keys.

use super::{
    OneOrMore, RopeScaling, check_bounds, check_foreign_keys, check_numbers, from_json, list_of,
    malformed, to_json, unsupported,
};
use crate::{Result, map_file};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// Which of the models with these keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Llama,
    Qwen2,
    Qwen3,
}

impl Dialect {
    fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// The sizes and constants of a Llama model; field names are the file's keys.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are the format's")]
pub struct LlamaConfigFile {
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
    /// What is done to the frequencies; `rope_scaling` or `rope_parameters` in files.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the four projections of attention have biases. In Qwen2, where three have them
    /// always, no file says so, and this is false.
    pub attention_bias: bool,
    /// Whether the projections of the MLP have biases; Llama only.
    pub mlp_bias: bool,
    pub tie_word_embeddings: bool,
    pub bos_token_id: Option<u32>,
    /// Every id that ends a text; the file may have one or a list.
    pub eos_token_ids: Vec<u32>,
    /// The element type of the weights, such as `float32`, where the file says.
    pub dtype: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    original_max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_parameters: Option<Value>,
    rope_scaling: Option<Value>,
    tie_word_embeddings: Option<bool>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMore>,
    dtype: Option<String>,
    torch_dtype: Option<String>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    layer_types: Option<Vec<String>>,
}

impl LlamaConfigFile {
    /// Maps and reads a `config.json`.
    ///
    /// # Errors
    /// As [`LlamaConfigFile::parse`], with the path; and when the file cannot be mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        map_file(path).and_then(|bytes| Self::parse(&bytes)).map_err(|e| e.in_file(path))
    }

    /// Reads the bytes of a `config.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) when a key is missing, of another type or out of bounds;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for another architecture or a feature that Llama networks here do
    /// not have, naming the key; [`ErrorKind::Truncated`](crate::ErrorKind::Truncated) when the file ends in the middle.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::parse_as(Dialect::Llama, bytes)
    }

    pub(super) fn parse_as(dialect: Dialect, bytes: &[u8]) -> Result<Self> {
        let raw: Raw = from_json(bytes)?;
        check_foreign_keys(bytes)?;
        check_features(dialect, &raw)?;
        let (theta, rope_scaling) = rotary_positions(&raw)?;
        let this = Self {
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            num_key_value_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim: match raw.head_dim {
                Some(head_dim) => head_dim,
                None if dialect == Dialect::Qwen3 => QWEN3_HEAD_DIM,
                None => head_dim(raw.hidden_size, raw.num_attention_heads)?,
            },
            max_position_embeddings: raw.max_position_embeddings,
            // These three are what transformers takes when the key is absent.
            rms_norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
            rope_theta: theta.unwrap_or(10_000.0),
            rope_scaling,
            attention_bias: dialect != Dialect::Qwen2 && raw.attention_bias.unwrap_or(false),
            mlp_bias: raw.mlp_bias.unwrap_or(false),
            tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(false),
            bos_token_id: raw.bos_token_id,
            eos_token_ids: list_of(raw.eos_token_id),
            dtype: raw.dtype.or(raw.torch_dtype),
        };
        this.check()?;
        Ok(this)
    }

    /// Checks that sizes are positive, bounded and divide each other as attention needs.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) naming the first key that is wrong.
    pub fn check(&self) -> Result<()> {
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
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(malformed(
                "num_key_value_heads",
                &format!(
                    "{}, which does not divide num_attention_heads {}",
                    self.num_key_value_heads, self.num_attention_heads
                ),
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(malformed(
                "head_dim",
                &format!("{}, expected an even number", self.head_dim),
            ));
        }
        match &self.rope_scaling {
            Some(RopeScaling::Divisors(divisors)) if divisors.len() != self.head_dim / 2 => {
                let (count, half) = (divisors.len(), self.head_dim / 2);
                let what = format!("a list of {count} factors, expected half of head_dim, {half}");
                return Err(malformed("rope_scaling", &what));
            }
            Some(scaling) => scaling.check()?,
            None => {}
        }
        check_numbers(&[("rms_norm_eps", self.rms_norm_eps), ("rope_theta", self.rope_theta)])
    }

    /// Writes a `config.json` that transformers 4 and 5 read.
    ///
    /// # Errors
    /// As [`LlamaConfigFile::check`].
    pub fn to_json(&self) -> Result<Vec<u8>> {
        self.to_json_as(Dialect::Llama)
    }

    pub(super) fn to_json_as(&self, dialect: Dialect) -> Result<Vec<u8>> {
        self.check()?;
        let dtype = self.dtype.as_deref().unwrap_or("float32");
        let eos = match *self.eos_token_ids {
            [] => Value::Null,
            [id] => json!(id),
            ref ids => json!(ids),
        };
        let scaling = self.rope_scaling.as_ref().map(|s| s.to_json(self.max_position_embeddings));
        let mut rope = scaling.clone().unwrap_or_else(|| json!({"rope_type": "default"}));
        rope["rope_theta"] = json!(self.rope_theta);
        let mut value = json!({
            "architectures": [dialect.architecture()],
            "attention_bias": self.attention_bias,
            "bos_token_id": self.bos_token_id,
            "dtype": dtype,
            "eos_token_id": eos,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "mlp_bias": self.mlp_bias,
            "model_type": dialect.model_type(),
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": rope,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": dtype,
            "vocab_size": self.vocab_size,
        });
        if let Some(scaling) = scaling {
            value["rope_scaling"] = scaling;
        }
        Ok(to_json(&value))
    }
}

/// Names of the one activation: x·σ(x).
const ACTIVATIONS: [&str; 2] = ["silu", "swish"];

/// What transformers takes where a Qwen3 config does not say.
const QWEN3_HEAD_DIM: usize = 128;

/// Refuses what would make the network compute something else.
fn check_features(dialect: Dialect, raw: &Raw) -> Result<()> {
    let (model_type, architecture) = (dialect.model_type(), dialect.architecture());
    if let Some(kind) = raw.model_type.as_deref().filter(|&kind| kind != model_type) {
        return Err(unsupported("model_type", kind, model_type));
    }
    if let Some(names) = &raw.architectures
        && !names.iter().any(|name| name == architecture)
    {
        return Err(unsupported("architectures", &format!("{names:?}"), architecture));
    }
    if raw.model_type.is_none() && raw.architectures.is_none() {
        return Err(unsupported("model_type", "absent", model_type));
    }
    let activation = raw.hidden_act.as_deref();
    if let Some(activation) = activation.filter(|name| !ACTIVATIONS.contains(name)) {
        return Err(unsupported("hidden_act", activation, "silu"));
    }
    for (key, value) in [
        ("mlp_bias", raw.mlp_bias.filter(|_| dialect != Dialect::Llama)),
        ("use_sliding_window", raw.use_sliding_window),
    ] {
        if value == Some(true) {
            return Err(unsupported(key, "true", "false"));
        }
    }
    // Qwen3's files have a size that the key above switches off.
    if let Some(size) = raw.sliding_window.filter(|_| raw.use_sliding_window.is_none())
        && size < raw.max_position_embeddings
    {
        return Err(unsupported("sliding_window", &size.to_string(), "null"));
    }
    let other = raw.layer_types.iter().flatten().find(|&kind| kind != "full_attention");
    match other {
        Some(kind) => Err(unsupported("layer_types", kind, "full_attention for every layer")),
        None => Ok(()),
    }
}

/// θ, where the file says, and what is done to the frequencies.
fn rotary_positions(raw: &Raw) -> Result<(Option<f64>, Option<RopeScaling>)> {
    let mut theta = raw.rope_theta;
    let mut scaling = None;
    // The first that says something counts, as in transformers.
    let places = [("rope_scaling", &raw.rope_scaling), ("rope_parameters", &raw.rope_parameters)];
    for (key, value) in places {
        let Some(value) = value else { continue };
        let positions = raw.original_max_position_embeddings;
        let found = RopeScaling::from_value(key, value, raw.max_position_embeddings, positions)?;
        scaling = scaling.or(found);
        let partial = &value["partial_rotary_factor"];
        if !partial.is_null() && partial.as_f64() != Some(1.0) {
            let key = format!("{key}.partial_rotary_factor");
            return Err(unsupported(&key, &partial.to_string(), "1"));
        }
        match &value["rope_theta"] {
            Value::Null => {}
            number => match number.as_f64() {
                Some(number) => theta = Some(number),
                None => return Err(malformed(&format!("{key}.rope_theta"), &number.to_string())),
            },
        }
    }
    Ok((theta, scaling))
}

fn head_dim(hidden_size: usize, heads: usize) -> Result<usize> {
    if heads == 0 || !hidden_size.is_multiple_of(heads) {
        return Err(malformed(
            "num_attention_heads",
            &format!("{heads}, which does not divide hidden_size {hidden_size}"),
        ));
    }
    Ok(hidden_size / heads)
}
