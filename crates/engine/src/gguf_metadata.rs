//! Tokenizers as the metadata of a GGUF file.

use crate::gguf_tokenizer::SPLITTERS;
use crate::{Error, ErrorKind, Result};
use orion_formats::gguf::{Value, ValueKind};
use orion_tokenizer::{Parts, Piece, PieceKind, Tokenizer};

/// A tokenizer as keys of a file for a model of `vocab_size` ids; ids that the tokenizer does not
/// have are filled up with unused pieces.
///
/// # Errors
/// When GGUF cannot say what the tokenizer does.
pub(crate) fn metadata(tokenizer: &Tokenizer, vocab_size: usize) -> Result<Vec<(String, Value)>> {
    let mut keys = Vec::new();
    let mut put = |key: &str, value: Value| keys.push((format!("tokenizer.ggml.{key}"), value));
    let text = |text: &str| Value::Text(text.to_owned());
    let put_pieces = |put: &mut dyn FnMut(&str, Value), pieces: &[Piece]| {
        let fill = pieces.len()..vocab_size.max(pieces.len());
        let texts = pieces.iter().map(|piece| piece.text.clone());
        put("tokens", Value::texts(texts.chain(fill.clone().map(|id| format!("[PAD{id}]")))));
        let kinds = pieces.iter().map(|piece| piece.kind as i32);
        let kinds = kinds.chain(fill.map(|_| PieceKind::Unused as i32)).map(Value::I32);
        put("token_type", Value::Array(ValueKind::I32, kinds.collect()));
    };
    let [bos, eos] = match tokenizer.to_parts() {
        Parts::Scored(parts) => {
            if !parts.unigram && (parts.remove_extra_spaces || !parts.charsmap.is_empty()) {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    "this tokenizer changes the text before it cuts it into pieces (it folds \
                     characters or drops spaces), which a GGUF file cannot say for its kind",
                )
                .hint("leave the tokenizer out with --no-tokenizer"));
            }
            put("model", text(if parts.unigram { "t5" } else { "llama" }));
            put("pre", text("default"));
            put_pieces(&mut put, &parts.pieces);
            let fill = vocab_size.saturating_sub(parts.pieces.len());
            let scores = parts.scores.iter().copied().chain(std::iter::repeat_n(0.0, fill));
            put("scores", Value::Array(ValueKind::F32, scores.map(Value::F32).collect()));
            put("add_space_prefix", Value::Bool(parts.add_space));
            if parts.unigram {
                put("remove_extra_whitespaces", Value::Bool(parts.remove_extra_spaces));
                let bytes = parts.charsmap.iter().map(|&byte| Value::U8(byte));
                put("precompiled_charsmap", Value::Array(ValueKind::U8, bytes.collect()));
            }
            let unknown = parts.pieces.iter().position(|piece| piece.kind == PieceKind::Unknown);
            if let Some(id) = unknown {
                put("unknown_token_id", Value::U32(id as u32));
            }
            put("add_bos_token", Value::Bool(parts.bos.is_some()));
            [parts.bos, parts.eos]
        }
        Parts::Merged(parts) => {
            put("model", text("gpt2"));
            let name = SPLITTERS.iter().find(|row| row.1 == parts.splitter).map(|row| row.0);
            let name = name.ok_or_else(|| {
                Error::new(
                    ErrorKind::Mismatch,
                    "GGUF has no name for how the tokenizer splits text",
                )
            })?;
            put("pre", text(name));
            put_pieces(&mut put, &parts.pieces);
            put("merges", Value::texts(parts.merges));
            put("add_bos_token", Value::Bool(parts.bos.is_some()));
            [parts.bos.or(tokenizer.bos()), parts.eos]
        }
        _ => return Err(Error::new(ErrorKind::Mismatch, "GGUF knows no tokenizer of this kind")),
    };
    for (name, id) in [("bos_token_id", bos), ("eos_token_id", eos)] {
        if let Some(id) = id {
            put(name, Value::U32(id));
        }
    }
    Ok(keys)
}
