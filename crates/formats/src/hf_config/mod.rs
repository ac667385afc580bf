//! `config.json`, which says what network a directory of weights is for.
//!
//! Accepts the spellings of transformers 4 (`rope_theta`, `torch_dtype`) and 5
//! (`rope_parameters`, `dtype`) and writes both. Keys that change what the network computes are
//! checked, all others are ignored, as other readers of this file do.

mod golf;
mod gpt2;
mod llama;
mod rope_scaling;

pub use golf::{GolfBaselineConfigFile, GolfWideConfigFile};
pub use gpt2::Gpt2ConfigFile;
pub use llama::LlamaConfigFile;
pub use rope_scaling::RopeScaling;

use crate::{Error, ErrorKind, Result, map_file};
use llama::Dialect;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::path::Path;

/// No sane model is larger in any direction.
const MAX_SIZE: usize = 1 << 24;

/// A `config.json` of one of the networks that are known.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "names of networks")]
pub enum ConfigFile {
    GolfBaseline(GolfBaselineConfigFile),
    GolfWide(GolfWideConfigFile),
    Gpt2(Gpt2ConfigFile),
    Llama(LlamaConfigFile),
    /// Qwen2 and Qwen2.5, whose file has the keys of Llama's.
    Qwen2(LlamaConfigFile),
    /// Qwen3, whose file has the keys of Llama's.
    Qwen3(LlamaConfigFile),
}

/// What says which network a file is for.
#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
}

impl ConfigFile {
    /// Maps and reads a `config.json`.
    ///
    /// # Errors
    /// As [`ConfigFile::parse`], with the path; and when the file cannot be mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        map_file(path).and_then(|bytes| Self::parse(&bytes)).map_err(|e| e.in_file(path))
    }

    /// Reads the bytes of a `config.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when a key is missing, of another type or out of bounds;
    /// [`ErrorKind::Unsupported`] for an unknown network or a feature that is not known of it,
    /// naming the key; [`ErrorKind::Truncated`] when the file ends in the middle.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let kind: Kind = from_json(bytes)?;
        let architecture = |dialect: Dialect| {
            kind.architectures.iter().flatten().any(|name| name == dialect.architecture())
        };
        match kind.model_type.as_deref() {
            Some("golf-baseline") => GolfBaselineConfigFile::parse(bytes).map(Self::GolfBaseline),
            Some("golfwide") => GolfWideConfigFile::parse(bytes).map(Self::GolfWide),
            Some("gpt2") => Gpt2ConfigFile::parse(bytes).map(Self::Gpt2),
            Some("llama") => LlamaConfigFile::parse(bytes).map(Self::Llama),
            Some("qwen2") => LlamaConfigFile::parse_as(Dialect::Qwen2, bytes).map(Self::Qwen2),
            Some("qwen3") => LlamaConfigFile::parse_as(Dialect::Qwen3, bytes).map(Self::Qwen3),
            None if architecture(Dialect::Llama) => LlamaConfigFile::parse(bytes).map(Self::Llama),
            None if architecture(Dialect::Qwen2) => {
                LlamaConfigFile::parse_as(Dialect::Qwen2, bytes).map(Self::Qwen2)
            }
            None if architecture(Dialect::Qwen3) => {
                LlamaConfigFile::parse_as(Dialect::Qwen3, bytes).map(Self::Qwen3)
            }
            // The first GPT-2 on the hub has no key but its own; the reader of GPT-2 says what it
            // misses or what else the file is for.
            None => Gpt2ConfigFile::parse(bytes).map(Self::Gpt2),
            Some(other) => {
                let known = "gpt2, llama, qwen2, qwen3, golf-baseline or golfwide";
                Err(unsupported("model_type", other, known)
                    .hint("these are the networks that can be run so far"))
            }
        }
    }

    /// Writes a `config.json`; for all but Parameter Golf's networks one that transformers 4 and 5 read.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] naming the first key whose value makes no network.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        match self {
            Self::GolfBaseline(c) => c.to_json(),
            Self::GolfWide(c) => c.to_json(),
            Self::Gpt2(c) => c.to_json(),
            Self::Llama(c) => c.to_json(),
            Self::Qwen2(c) => c.to_json_as(Dialect::Qwen2),
            Self::Qwen3(c) => c.to_json_as(Dialect::Qwen3),
        }
    }
}

/// The ids that end a text, as a `generation_config.json` lists them; none when it has no such key.
///
/// # Errors
/// When the file cannot be mapped or is no such JSON.
pub fn end_ids_of_generation_config(path: impl AsRef<Path>) -> Result<Vec<u32>> {
    #[derive(Deserialize)]
    struct Raw {
        eos_token_id: Option<OneOrMore>,
    }
    let path = path.as_ref();
    let raw = map_file(path).and_then(|bytes| {
        serde_json::from_slice::<Raw>(&bytes)
            .map_err(|e| Error::new(ErrorKind::Malformed, format!("generation_config.json: {e}")))
    });
    Ok(list_of(raw.map_err(|e| e.in_file(path))?.eos_token_id))
}

impl ConfigFile {
    /// Every id that ends a text, where the file says.
    pub fn end_ids(&self) -> &[u32] {
        match self {
            Self::Gpt2(c) => &c.eos_token_ids,
            Self::Llama(c) | Self::Qwen2(c) | Self::Qwen3(c) => &c.eos_token_ids,
            Self::GolfBaseline(_) | Self::GolfWide(_) => &[],
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(u32),
    More(Vec<u32>),
}

fn list_of(ids: Option<OneOrMore>) -> Vec<u32> {
    match ids {
        None => Vec::new(),
        Some(OneOrMore::One(id)) => vec![id],
        Some(OneOrMore::More(ids)) => ids,
    }
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        let kind = if e.is_eof() { ErrorKind::Truncated } else { ErrorKind::Malformed };
        Error::new(kind, format!("config.json: {e}"))
    })
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(value).expect("finite numbers are valid JSON");
    json.push(b'\n');
    json
}

fn check_bounds(sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| *size == 0 || *size > MAX_SIZE) {
        Some((key, size)) => Err(malformed(key, &format!("{size}, expected 1 to {MAX_SIZE}"))),
        None => Ok(()),
    }
}

fn check_numbers(numbers: &[(&str, f64)]) -> Result<()> {
    match numbers.iter().find(|(_, number)| !number.is_finite() || *number <= 0.0) {
        Some((key, number)) => {
            Err(malformed(key, &format!("{number}, expected a positive number")))
        }
        None => Ok(()),
    }
}

/// Keys of other networks that change what is computed, each with the value that changes nothing,
/// as people write them into the file of a network that is known here.
const NEUTRAL: [(&str, Option<f64>); 14] = [
    ("alibi", None),
    ("attention_multiplier", None),
    ("attn_logit_softcapping", None),
    ("clip_qkv", None),
    ("embedding_multiplier", Some(1.0)),
    ("final_logit_softcapping", None),
    ("logit_scale", Some(1.0)),
    ("logits_scaling", Some(1.0)),
    ("num_experts", Some(0.0)),
    ("num_local_experts", Some(0.0)),
    ("partial_rotary_factor", Some(1.0)),
    ("qk_layernorm", None),
    ("residual_multiplier", Some(1.0)),
    ("rotary_pct", Some(1.0)),
];

/// Refuses what no network here does, by its key.
fn check_foreign_keys(bytes: &[u8]) -> Result<()> {
    let file: Value = from_json(bytes)?;
    for (key, neutral) in NEUTRAL {
        let changes = match &file[key] {
            Value::Null | Value::Bool(false) => false,
            Value::Number(number) => number.as_f64() != neutral,
            _ => true,
        };
        if changes {
            let expected = neutral.map_or("no such key".to_owned(), |number| number.to_string());
            return Err(unsupported(key, &file[key].to_string(), &expected));
        }
    }
    if let Some(method) = file["quantization_config"].as_object() {
        let name = method.get("quant_method").and_then(Value::as_str).unwrap_or("set");
        return Err(unsupported("quantization_config", name, "weights in fp32, fp16 or bf16")
            .hint("GGUF files may be quantized"));
    }
    Ok(())
}

fn malformed(key: &str, what: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("key `{key}` of config.json is {what}"))
}

fn unsupported(key: &str, found: &str, expected: &str) -> Error {
    let detail = format!("key `{key}` of config.json is {found}, expected {expected}");
    Error::new(ErrorKind::Unsupported, detail)
}
