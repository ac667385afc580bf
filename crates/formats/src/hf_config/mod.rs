//! `config.json`, which says what network a directory of weights is for.
//!
//! Accepts the spellings of transformers 4 (`rope_theta`, `torch_dtype`) and 5
//! (`rope_parameters`, `dtype`) and writes both. Keys that change what the network computes are
//! checked, all others are ignored, as other readers of this file do.

mod golf;
mod gpt2;
mod llama;

pub use golf::{GolfBaselineConfigFile, GolfWideConfigFile};
pub use gpt2::Gpt2ConfigFile;
pub use llama::LlamaConfigFile;

use crate::{Error, ErrorKind, Result, map_file};
use llama::Dialect;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
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
            Some("qwen3") => LlamaConfigFile::parse_as(Dialect::Qwen3, bytes).map(Self::Qwen3),
            None if architecture(Dialect::Llama) => LlamaConfigFile::parse(bytes).map(Self::Llama),
            None if architecture(Dialect::Qwen3) => {
                LlamaConfigFile::parse_as(Dialect::Qwen3, bytes).map(Self::Qwen3)
            }
            // The first GPT-2 on the hub has no key but its own; the reader of GPT-2 says what it
            // misses or what else the file is for.
            None => Gpt2ConfigFile::parse(bytes).map(Self::Gpt2),
            Some(other) => {
                let known = "gpt2, llama, qwen3, golf-baseline or golfwide";
                Err(unsupported("model_type", other, known)
                    .hint("these are the networks that can be run so far"))
            }
        }
    }

    /// Writes a `config.json`; for GPT-2, Llama and Qwen3 one that transformers 4 and 5 read.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] naming the first key whose value makes no network.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        match self {
            Self::GolfBaseline(c) => c.to_json(),
            Self::GolfWide(c) => c.to_json(),
            Self::Gpt2(c) => c.to_json(),
            Self::Llama(c) => c.to_json(),
            Self::Qwen3(c) => c.to_json_as(Dialect::Qwen3),
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

fn malformed(key: &str, what: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("key `{key}` of config.json is {what}"))
}

fn unsupported(key: &str, found: &str, expected: &str) -> Error {
    let detail = format!("key `{key}` of config.json is {found}, expected {expected}");
    Error::new(ErrorKind::Unsupported, detail)
}
