//! The part of Hugging Face's `tokenizer.json` that describes a byte-level BPE. A file that asks
//! for anything else is refused, naming the key: guessing would tokenize silently differently. The
//! feature `tokenizers` reads those files through Hugging Face's library.

use crate::byte_level::{ByteLevel, Rules, Unspell, spell, spelling};
use crate::gpt2_files::{self, entries, pair_of};
use crate::splitter::{LLAMA3_PATTERN, QWEN2_PATTERN};
use crate::{Error, ErrorKind, Result, Splitter};
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

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
    // How the token is found in text.
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    // Names of tokens are ASCII, which normalizing leaves alone.
    #[serde(rename = "normalized", default)]
    _normalized: bool,
    #[serde(default)]
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
    vocab: Pieces,
    merges: Vec<Merge>,
}

/// Old files join the pair with a space.
enum Merge {
    Pair(String, String),
    Line(String),
}

// What serde derives keeps every pair in a form of its own first, which takes longer than all else.
impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct OfMerge;
        impl<'de> Visitor<'de> for OfMerge {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two pieces, in a list or with a space between")
            }

            fn visit_str<E: de::Error>(self, line: &str) -> std::result::Result<Merge, E> {
                Ok(Merge::Line(line.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut pieces: A,
            ) -> std::result::Result<Merge, A::Error> {
                let pair = (pieces.next_element()?, pieces.next_element()?);
                match (pair, pieces.next_element::<IgnoredAny>()?) {
                    ((Some(left), Some(right)), None) => Ok(Merge::Pair(left, right)),
                    _ => Err(de::Error::custom("a merge is not of two pieces")),
                }
            }
        }
        deserializer.deserialize_any(OfMerge)
    }
}

/// An object of ids by piece, in the order of the file.
pub(crate) struct Pieces(pub(crate) Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct OfPieces;
        impl<'de> Visitor<'de> for OfPieces {
            type Value = Pieces;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ids by piece")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Pieces, A::Error> {
                let mut pieces = Vec::new();
                while let Some(row) = map.next_entry()? {
                    pieces.push(row);
                }
                Ok(Pieces(pieces))
            }
        }
        deserializer.deserialize_map(OfPieces)
    }
}

/// Whether this is a `vocab.json`: an object of ids by piece.
pub(crate) fn is_vocabulary(bytes: &[u8]) -> bool {
    // The model of a tokenizer.json is an object, the id of a piece called "model" a number.
    #[derive(Deserialize)]
    struct Object {}
    #[derive(Deserialize)]
    struct Probe {
        #[serde(rename = "model")]
        _model: Object,
    }
    serde_json::from_slice::<Probe>(bytes).is_err()
        && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// `model.type`, where the file is whole and has one.
fn model_kind(bytes: &[u8]) -> Option<String> {
    let file: Value = serde_json::from_slice(bytes).ok()?;
    file["model"]["type"].as_str().map(str::to_owned)
}

/// Whether every piece and added token that a `tokenizer.json` lists is what `piece` gives for its
/// id, so that two files are of one vocabulary.
pub(crate) fn lists_the_pieces<'a>(bytes: &[u8], piece: impl Fn(u32) -> Option<&'a [u8]>) -> bool {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        added_tokens: Vec<Token>,
        model: Vocabulary,
    }
    #[derive(Deserialize)]
    struct Token {
        id: u32,
        content: String,
    }
    #[derive(Deserialize)]
    struct Vocabulary {
        vocab: BTreeMap<String, u32>,
    }
    let Ok(file) = serde_json::from_slice::<File>(bytes) else { return false };
    let same = |id: u32, text: &str| piece(id) == Some(text.as_bytes());
    file.model.vocab.iter().all(|(text, &id)| same(id, text))
        && file.added_tokens.iter().all(|token| same(token.id, &token.content))
}

/// The tokens that a `tokenizer_config.json` adds to a vocabulary.
pub(crate) fn added_tokens(bytes: &[u8]) -> Result<Vec<gpt2_files::AddedToken>> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        added_tokens_decoder: BTreeMap<String, Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        content: String,
        #[serde(default)]
        special: bool,
    }
    let malformed = |what: String| Error::new(ErrorKind::Malformed, what);
    let file: File = serde_json::from_slice(bytes)
        .map_err(|e| malformed(format!("tokenizer_config.json: {e}")))?;
    let token = |(id, row): (String, Row)| {
        let id = id.parse().map_err(|_| {
            malformed(format!("key `added_tokens_decoder` has {id:?}, expected an id"))
        })?;
        Ok(gpt2_files::AddedToken { id, content: row.content, special: row.special })
    };
    file.added_tokens_decoder.into_iter().map(token).collect()
}

pub(crate) fn parse(bytes: &[u8]) -> Result<ByteLevel> {
    let file: File = serde_json::from_slice(bytes).map_err(|e| {
        let kind = if e.is_eof() { ErrorKind::Truncated } else { ErrorKind::Malformed };
        // Other kinds of model have other keys, which says more than the first of them.
        match model_kind(bytes) {
            Some(kind) if kind != "BPE" => unsupported("model.type", &json!(kind)),
            _ if e.to_string().starts_with("unknown field") => {
                Error::new(ErrorKind::Unsupported, format!("tokenizer.json: {e}"))
            }
            _ => Error::new(kind, format!("tokenizer.json: {e}")),
        }
    })?;
    // Key, its value, and the values that mean "a plain byte-level BPE".
    let absent = [Value::Null, json!(""), json!(false)];
    let model = &file.model;
    let expectations: [(&str, &Value, &[Value]); 10] = [
        ("version", &file.version, &[Value::Null, json!("1.0")]),
        ("truncation", &file.truncation, &absent),
        ("padding", &file.padding, &absent),
        ("model.type", &model.kind, &[Value::Null, json!("BPE")]),
        ("model.dropout", &model.dropout, &absent),
        ("model.unk_token", &model.unk_token, &absent),
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix, &absent),
        ("model.end_of_word_suffix", &model.end_of_word_suffix, &absent),
        ("model.fuse_unk", &model.fuse_unk, &absent),
        ("model.byte_fallback", &model.byte_fallback, &absent),
    ];
    for (key, value, accepted) in expectations {
        if !accepted.contains(value) {
            return Err(unsupported(key, value));
        }
    }
    let rules = Rules {
        splitter: splitter(&file.pre_tokenizer)?,
        nfc: match &file.normalizer {
            Value::Null => false,
            value if *value == json!({"type": "NFC"}) => true,
            other => return Err(unsupported("normalizer", other)),
        },
        whole_words: match &model.ignore_merges {
            Value::Null => false,
            Value::Bool(value) => *value,
            other => return Err(unsupported("model.ignore_merges", other)),
        },
    };
    byte_level_component("decoder", &file.decoder, None)?;
    let begins_with = begins_with(&file.post_processor)?;
    let mut added = Vec::new();
    for token in file.added_tokens {
        for (key, value) in [
            ("added_tokens.single_word", token.single_word),
            ("added_tokens.lstrip", token.lstrip),
            ("added_tokens.rstrip", token.rstrip),
        ] {
            if value {
                return Err(unsupported(key, &json!(true)));
            }
        }
        let AddedToken { id, content, special, .. } = token;
        added.push(gpt2_files::AddedToken { id, content, special });
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
    let mut tokenizer = ByteLevel::new(entries(file.model.vocab.0, &added)?, merges, rules)?;
    if let Some(name) = begins_with {
        tokenizer.begin_with(&name).ok_or_else(|| unsupported("post_processor", &json!(name)))?;
    }
    Ok(tokenizer)
}

fn unsupported(key: &str, value: &Value) -> Error {
    let mut shown = value.to_string();
    if let Some((end, _)) = shown.char_indices().nth(100) {
        shown.truncate(end);
        shown.push('…');
    }
    Error::new(ErrorKind::Unsupported, format!("key `{key}` of tokenizer.json is {shown}"))
}

/// The splitting rule of a pre-tokenizer: GPT-2's, which `ByteLevel` has built in, or a known
/// regular expression before a `ByteLevel` that does not split.
fn splitter(value: &Value) -> Result<Splitter> {
    let key = "pre_tokenizer";
    let digits = json!({"type": "Digits", "individual_digits": true});
    if let Some([first, bytes]) = value["pretokenizers"].as_array().map(Vec::as_slice)
        && *first == digits
    {
        byte_level_component("pre_tokenizer.pretokenizers", bytes, Some(true))?;
        return Ok(Splitter::Gpt2Digits);
    }
    if value["type"] != json!("Sequence") {
        byte_level_component(key, value, Some(true))?;
        return Ok(Splitter::Gpt2);
    }
    let Some([split, bytes]) = value["pretokenizers"].as_array().map(Vec::as_slice) else {
        return Err(unsupported(key, value));
    };
    byte_level_component("pre_tokenizer.pretokenizers", bytes, Some(false))?;
    let known = [(Splitter::Qwen2, QWEN2_PATTERN), (Splitter::Llama3, LLAMA3_PATTERN)];
    let found = known.into_iter().find(|(_, pattern)| {
        *split == split_component(pattern)
            || *split
                == json!({"type": "Split",
            "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": true})
    });
    found.map(|row| row.0).ok_or_else(|| unsupported("pre_tokenizer.pretokenizers", split))
}

fn split_component(pattern: &str) -> Value {
    json!({
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false
    })
}

/// The name of the token that a post-processor puts before every text, if it does.
fn begins_with(value: &Value) -> Result<Option<String>> {
    let key = "post_processor";
    match value["type"].as_str() {
        None if value.is_null() => Ok(None),
        Some("Sequence") => {
            let mut found = None;
            for part in value["processors"].as_array().into_iter().flatten() {
                found = found.or(begins_with(part)?);
            }
            Ok(found)
        }
        Some("TemplateProcessing") => {
            let parts = value["single"].as_array().map(Vec::as_slice);
            match parts {
                Some([text]) if text["Sequence"].is_object() => Ok(None),
                Some([token, text]) if text["Sequence"].is_object() => {
                    let name = token["SpecialToken"]["id"].as_str();
                    name.map(|n| Some(n.to_owned())).ok_or_else(|| unsupported(key, value))
                }
                _ => Err(unsupported(key, value)),
            }
        }
        _ => byte_level_component(key, value, None).map(|()| None),
    }
}

/// Checks that `value` is a `ByteLevel` component; one that acts on text, as a pre-tokenizer does,
/// must split as `splits` says and add no space.
fn byte_level_component(key: &str, value: &Value, splits: Option<bool>) -> Result<()> {
    let known = ["type", "add_prefix_space", "trim_offsets", "use_regex"];
    let Some(object) = value.as_object().filter(|o| o.get("type") == Some(&json!("ByteLevel")))
    else {
        return Err(unsupported(key, value));
    };
    for (name, value) in object {
        // Only the pre-tokenizer acts on prefix spaces and the split rule; offsets are not text.
        let refused = match name.as_str() {
            "add_prefix_space" => splits.is_some() && *value != json!(false),
            "use_regex" => splits.is_some_and(|splits| *value != json!(splits)),
            other => !known.contains(&other),
        };
        if refused {
            return Err(unsupported(&format!("{key}.{name}"), value));
        }
    }
    // What is absent means true.
    let needs_regex = splits == Some(false) && !object.contains_key("use_regex");
    if splits.is_some() && (!object.contains_key("add_prefix_space") || needs_regex) {
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
            if tokenizer.is_special(id) || tokenizer.is_added(id) {
                String::from_utf8_lossy(piece).into_owned()
            } else {
                spell(&table, piece)
            }
        })
        .collect();
    let is_listed = |&id: &u32| tokenizer.is_special(id) || tokenizer.is_added(id);
    let added_tokens = ids.clone().filter(is_listed).map(|id| {
        json!({
            "id": id, "content": spelled[id as usize], "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": tokenizer.is_special(id)
        })
    });
    let component = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
    });
    let rules = tokenizer.rules();
    let splits_by = |pattern: &str| {
        json!({
            "type": "Sequence",
            "pretokenizers": [split_component(pattern), {
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": false
            }]
        })
    };
    let begins_with = tokenizer.begins_with().map(|id| {
        let name = &spelled[id as usize];
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let token = json!({"SpecialToken": {"id": name, "type_id": 0}});
        let second = json!({"Sequence": {"id": "B", "type_id": 1}});
        json!({
            "type": "TemplateProcessing", "single": [token, text],
            "pair": [token, text, token, second],
            "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]}}
        })
    });
    let merges = tokenizer.merges_by_rank().into_iter();
    let file = File {
        version: "1.0",
        truncation: Value::Null,
        padding: Value::Null,
        added_tokens: added_tokens.collect(),
        normalizer: if rules.nfc { json!({"type": "NFC"}) } else { Value::Null },
        pre_tokenizer: match rules.splitter {
            Splitter::Gpt2 => component.clone(),
            Splitter::Gpt2Digits => json!({
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": true}, &component]
            }),
            Splitter::Qwen2 => splits_by(QWEN2_PATTERN),
            Splitter::Llama3 => splits_by(LLAMA3_PATTERN),
        },
        post_processor: begins_with.unwrap_or(Value::Null),
        decoder: component,
        model: Model {
            r#type: "BPE",
            dropout: Value::Null,
            unk_token: Value::Null,
            continuing_subword_prefix: Value::Null,
            end_of_word_suffix: Value::Null,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: rules.whole_words,
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
