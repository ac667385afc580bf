//! The part of Hugging Face's `tokenizer.json` that describes a byte-level BPE. A file that asks
//! for anything else is refused, naming the key: guessing would tokenize silently differently.

use crate::byte_level::{ByteLevel, Unspell, spell, spelling};
use crate::gpt2_files::{entries, pair_of};
use crate::{Error, ErrorKind, Result, Splitter};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    version: Value,
    #[serde(default)]
    truncation: Value,
    #[serde(default)]
    padding: Value,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    decoder: Value,
    model: Model,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedToken {
    id: u32,
    content: String,
    // How the token is found in text; special tokens are never looked for in text here.
    #[serde(rename = "single_word")]
    _single_word: bool,
    #[serde(rename = "lstrip")]
    _lstrip: bool,
    #[serde(rename = "rstrip")]
    _rstrip: bool,
    #[serde(rename = "normalized")]
    _normalized: bool,
    special: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    #[serde(rename = "type", default)]
    kind: Value,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    unk_token: Value,
    #[serde(default)]
    continuing_subword_prefix: Value,
    #[serde(default)]
    end_of_word_suffix: Value,
    #[serde(default)]
    fuse_unk: Value,
    #[serde(default)]
    byte_fallback: Value,
    #[serde(default)]
    ignore_merges: Value,
    vocab: BTreeMap<String, u32>,
    merges: Vec<Merge>,
}

/// Old files join the pair with a space.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

pub(crate) fn parse(bytes: &[u8]) -> Result<ByteLevel> {
    let file: File = serde_json::from_slice(bytes).map_err(|e| {
        let kind = if e.is_eof() { ErrorKind::Truncated } else { ErrorKind::Malformed };
        Error::new(kind, format!("tokenizer.json: {e}"))
    })?;
    // Key, its value, and the values that mean "a plain byte-level BPE".
    let absent = [Value::Null, json!(""), json!(false)];
    let model = &file.model;
    let expectations: [(&str, &Value, &[Value]); 12] = [
        ("version", &file.version, &[Value::Null, json!("1.0")]),
        ("truncation", &file.truncation, &absent),
        ("padding", &file.padding, &absent),
        ("normalizer", &file.normalizer, &absent),
        ("model.type", &model.kind, &[Value::Null, json!("BPE")]),
        ("model.dropout", &model.dropout, &absent),
        ("model.unk_token", &model.unk_token, &absent),
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix, &absent),
        ("model.end_of_word_suffix", &model.end_of_word_suffix, &absent),
        ("model.fuse_unk", &model.fuse_unk, &absent),
        ("model.byte_fallback", &model.byte_fallback, &absent),
        ("model.ignore_merges", &model.ignore_merges, &absent),
    ];
    for (key, value, accepted) in expectations {
        if !accepted.contains(value) {
            return Err(unsupported(key, value));
        }
    }
    byte_level_component("pre_tokenizer", &file.pre_tokenizer)?;
    byte_level_component("decoder", &file.decoder)?;
    if !file.post_processor.is_null() {
        byte_level_component("post_processor", &file.post_processor)?;
    }
    let mut special = Vec::new();
    for token in file.added_tokens {
        if !token.special {
            return Err(unsupported("added_tokens.special", &json!(false)));
        }
        special.push((token.content, token.id));
    }
    let unspell = Unspell::new();
    let mut merges = Vec::with_capacity(file.model.merges.len());
    for (rank, merge) in file.model.merges.into_iter().enumerate() {
        let pair = match &merge {
            Merge::Pair(left, right) => unspell.bytes(left).zip(unspell.bytes(right)),
            Merge::Line(line) => pair_of(line, &unspell),
        };
        merges.push(pair.ok_or_else(|| {
            let what = format!("key `model.merges`: merge {rank} is not two spelled pieces");
            Error::new(ErrorKind::Malformed, what)
        })?);
    }
    ByteLevel::new(entries(file.model.vocab, &special)?, merges, Splitter::Gpt2)
}

fn unsupported(key: &str, value: &Value) -> Error {
    let mut shown = value.to_string();
    if let Some((end, _)) = shown.char_indices().nth(100) {
        shown.truncate(end);
        shown.push('…');
    }
    Error::new(ErrorKind::Unsupported, format!("key `{key}` of tokenizer.json is {shown}"))
}

/// Checks that `value` is a plain `ByteLevel` component.
fn byte_level_component(key: &str, value: &Value) -> Result<()> {
    let known = ["type", "add_prefix_space", "trim_offsets", "use_regex"];
    let Some(object) = value.as_object().filter(|o| o.get("type") == Some(&json!("ByteLevel")))
    else {
        return Err(unsupported(key, value));
    };
    for (name, value) in object {
        // Only the pre-tokenizer acts on prefix spaces and the split rule; offsets are not text.
        let refused = match name.as_str() {
            "add_prefix_space" => key == "pre_tokenizer" && *value != json!(false),
            "use_regex" => key == "pre_tokenizer" && *value != json!(true),
            other => !known.contains(&other),
        };
        if refused {
            return Err(unsupported(&format!("{key}.{name}"), value));
        }
    }
    if key == "pre_tokenizer" && !object.contains_key("add_prefix_space") {
        return Err(unsupported(key, value));
    }
    Ok(())
}

pub(crate) fn write(tokenizer: &ByteLevel) -> Vec<u8> {
    #[derive(Serialize)]
    struct File<'a> {
        version: &'a str,
        truncation: Value,
        padding: Value,
        added_tokens: Vec<Value>,
        normalizer: Value,
        pre_tokenizer: Value,
        post_processor: Value,
        decoder: Value,
        model: Model<'a>,
    }
    #[derive(Serialize)]
    struct Model<'a> {
        r#type: &'a str,
        dropout: Value,
        unk_token: Value,
        continuing_subword_prefix: Value,
        end_of_word_suffix: Value,
        fuse_unk: bool,
        byte_fallback: bool,
        ignore_merges: bool,
        vocab: Vocab<'a>,
        merges: Vec<(String, String)>,
    }
    /// In id order, which a map by name would lose.
    struct Vocab<'a>(&'a [String]);
    impl Serialize for Vocab<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(self.0.len()))?;
            for (id, piece) in self.0.iter().enumerate() {
                map.serialize_entry(piece, &id)?;
            }
            map.end()
        }
    }

    let table = spelling();
    let ids = 0..tokenizer.vocab_size() as u32;
    let spelled: Vec<String> = ids
        .clone()
        .map(|id| {
            let piece = tokenizer.piece(id).unwrap_or_default();
            if tokenizer.is_special(id) {
                String::from_utf8_lossy(piece).into_owned()
            } else {
                spell(&table, piece)
            }
        })
        .collect();
    let added_tokens = ids.filter(|&id| tokenizer.is_special(id)).map(|id| {
        json!({
            "id": id, "content": spelled[id as usize], "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true
        })
    });
    let component = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
    });
    let merges = tokenizer.merges_by_rank().into_iter();
    let file = File {
        version: "1.0",
        truncation: Value::Null,
        padding: Value::Null,
        added_tokens: added_tokens.collect(),
        normalizer: Value::Null,
        pre_tokenizer: component.clone(),
        post_processor: Value::Null,
        decoder: component,
        model: Model {
            r#type: "BPE",
            dropout: Value::Null,
            unk_token: Value::Null,
            continuing_subword_prefix: Value::Null,
            end_of_word_suffix: Value::Null,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
            vocab: Vocab(&spelled),
            merges: merges
                .map(|(l, r)| (spelled[l as usize].clone(), spelled[r as usize].clone()))
                .collect(),
        },
    };
    let mut out = serde_json::to_vec_pretty(&file).expect("strings and numbers are valid JSON");
    out.push(b'\n');
    out
}
