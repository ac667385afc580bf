//! Tokenizers inside GGUF files.

use crate::{Error, ErrorKind, Result};
use orion_formats::Gguf;
use orion_formats::gguf::Value;
use orion_tokenizer::{MergedParts, Parts, Piece, PieceKind, ScoredParts, Splitter, Tokenizer};

const TOKENS: &str = "tokenizer.ggml.tokens";

/// Names of splitting rules in `tokenizer.ggml.pre`, the one that is written first.
pub(crate) const SPLITTERS: [(&str, Splitter); 11] = [
    ("gpt-2", Splitter::Gpt2),
    ("qwen2", Splitter::Qwen2),
    ("smollm", Splitter::Gpt2Digits),
    ("llama-bpe", Splitter::Llama3),
    ("gpt2", Splitter::Gpt2),
    ("default", Splitter::Gpt2),
    ("deepseek-r1-qwen", Splitter::Qwen2),
    ("megrez", Splitter::Qwen2),
    ("llama3", Splitter::Llama3),
    ("llama-v3", Splitter::Llama3),
    ("dbrx", Splitter::Llama3),
];

/// The tokenizer inside a file.
///
/// # Errors
/// When there is none, it is of a kind that is not known here, or its parts contradict each other.
pub(crate) fn tokenizer(file: &Gguf) -> Result<Tokenizer> {
    let wrong = |e: orion_formats::Error| Error::new(ErrorKind::File, e.to_string());
    let bos = file.size_if_any("tokenizer.ggml.bos_token_id").map_err(wrong)?;
    let eos = file.size_if_any("tokenizer.ggml.eos_token_id").map_err(wrong)?;
    let [bos, eos] = [bos, eos].map(|id| id.and_then(|id| u32::try_from(id).ok()));
    let pieces = pieces(file)?;
    let model = file.text("tokenizer.ggml.model").map_err(wrong)?.unwrap_or_default();
    let parts = match model {
        "llama" | "t5" => {
            let flag = |key: &str| file.flag(key).map_err(wrong);
            let unigram = model == "t5";
            let key = "tokenizer.ggml.scores";
            let scores = file.array(key).map_err(wrong)?.iter().map(|score| match score {
                Value::F32(score) => Ok(*score),
                _ => Err(Error::new(ErrorKind::File, format!("key `{key}` has no fp32 elements"))),
            });
            let charsmap = file.array("tokenizer.ggml.precompiled_charsmap").map_err(wrong)?;
            Parts::Scored(ScoredParts {
                pieces,
                scores: scores.collect::<Result<_>>()?,
                unigram,
                add_space: flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
                remove_extra_spaces: flag("tokenizer.ggml.remove_extra_whitespaces")?
                    .unwrap_or(unigram),
                charsmap: charsmap
                    .iter()
                    .filter_map(|byte| match byte {
                        Value::U8(byte) => Some(*byte),
                        Value::I8(byte) => Some(*byte as u8),
                        _ => None,
                    })
                    .collect(),
                bos,
                eos,
            })
        }
        "gpt2" => {
            let name = file.text("tokenizer.ggml.pre").map_err(wrong)?.unwrap_or("default");
            let splitter = SPLITTERS.iter().find(|row| row.0 == name).ok_or_else(|| {
                let names: Vec<_> = SPLITTERS.iter().map(|row| row.0).collect();
                Error::new(ErrorKind::File, format!("the tokenizer splits text as `{name}`")).hint(
                    format!(
                        "{} are known; give a tokenizer file with --tokenizer",
                        names.join(", ")
                    ),
                )
            })?;
            let merges = file.array("tokenizer.ggml.merges").map_err(wrong)?;
            let begins = file.flag("tokenizer.ggml.add_bos_token").map_err(wrong)?;
            Parts::Merged(MergedParts {
                pieces,
                merges: merges.iter().filter_map(Value::as_text).map(str::to_owned).collect(),
                splitter: splitter.1,
                bos: bos.filter(|_| begins == Some(true)),
                eos,
            })
        }
        other => {
            return Err(Error::new(ErrorKind::File, format!("its tokenizer is a `{other}`"))
                .hint("llama, t5 and gpt2 are known; give a tokenizer file with --tokenizer"));
        }
    };
    Tokenizer::from_parts(&parts).map_err(|e| Error::new(ErrorKind::File, e.to_string()))
}

fn pieces(file: &Gguf) -> Result<Vec<Piece>> {
    let wrong = |e: orion_formats::Error| Error::new(ErrorKind::File, e.to_string());
    let kinds = file.array("tokenizer.ggml.token_type").map_err(wrong)?;
    let tokens = file.array(TOKENS).map_err(wrong)?;
    if tokens.is_empty() {
        return Err(Error::new(ErrorKind::File, "there is no tokenizer inside"));
    }
    let piece = |(id, token): (usize, &Value)| {
        let text = token.as_text().map(str::to_owned);
        let kind = match kinds.get(id) {
            None => Some(PieceKind::Normal),
            Some(kind) => {
                let number = kind.as_unsigned().and_then(|n| u32::try_from(n).ok());
                number.and_then(PieceKind::from_number)
            }
        };
        match (text, kind) {
            (Some(text), Some(kind)) => Ok(Piece { text, kind }),
            _ => Err(Error::new(ErrorKind::File, format!("token {id} has no text or kind"))),
        }
    };
    tokens.iter().enumerate().map(piece).collect()
}
