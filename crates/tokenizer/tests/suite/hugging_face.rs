//! `tokenizer.json` of many kinds against Hugging Face's library: `tests/oracles/tokenizer_files.py`
//! made them, with texts, ids and what these decode to. The kinds that this crate does not read
//! itself need the feature `tokenizers`, and are refused by name without it.

use orion_tokenizer::Tokenizer;
use serde_json::Value;

/// Only as many as there are; fewer would be a file that was cut.
const KINDS: usize = 7;

struct Kind {
    name: String,
    /// Whether this crate reads it itself.
    own: bool,
    file: Vec<u8>,
    cases: Vec<Value>,
}

fn kinds() -> Vec<Kind> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oracles/results/tokenizers.json");
    let kinds: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let kind = |kind: &Value| Kind {
        name: kind["name"].as_str().unwrap().to_owned(),
        own: kind["own"].as_bool().unwrap(),
        file: kind["tokenizer"].to_string().into_bytes(),
        cases: kind["cases"].as_array().unwrap().clone(),
    };
    let kinds: Vec<Kind> = kinds.as_array().unwrap().iter().map(kind).collect();
    assert_eq!(kinds.len(), KINDS);
    kinds
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn check(kind: &Kind) {
    let name = &kind.name;
    let t = Tokenizer::parse(&kind.file).unwrap_or_else(|e| panic!("{name}: {e}"));
    let again = Tokenizer::parse(&t.to_bytes()).unwrap();
    let rebuilt = Tokenizer::from_parts(&t.to_parts()).unwrap();
    assert!(kind.cases.len() > 20, "{name}");
    for case in &kind.cases {
        let text = case["text"].as_str().unwrap();
        let expected = ids(&case["ids"]);
        for t in [&t, &again, &rebuilt] {
            assert_eq!(t.encode(text), expected, "{name}: {text:?}");
        }
        assert_eq!(t.encode_with_special(text), ids(&case["special_ids"]), "{name}: {text:?}");
        let decoded = case["decoded"].as_str().unwrap();
        assert_eq!(t.decode_text(&expected), decoded, "{name}: {text:?}");
    }
}

#[test]
fn the_kinds_that_are_read_here() {
    for kind in kinds().iter().filter(|kind| kind.own) {
        check(kind);
    }
}

#[cfg(not(feature = "tokenizers"))]
#[test]
fn the_others_are_refused_and_the_feature_is_named() {
    for kind in kinds().iter().filter(|kind| !kind.own) {
        let e = Tokenizer::parse(&kind.file).unwrap_err();
        assert_eq!(e.kind(), orion_tokenizer::ErrorKind::Unsupported, "{}: {e}", kind.name);
        assert!(e.to_string().contains('`'), "{}: no key is named in {e}", kind.name);
        assert!(e.way_out().unwrap().contains("--features tokenizers"), "{}", kind.name);
    }
}

#[cfg(feature = "tokenizers")]
mod through_the_library {
    use super::*;
    use orion_testing::{Random, batter};

    #[test]
    fn every_kind_is_read() {
        kinds().iter().for_each(check);
    }

    /// What comes piece by piece is what comes at once, but for WordPiece, whose decoder takes
    /// back spaces before punctuation, and for bytes by chance, whose decoder takes back whole
    /// characters when a byte that is none comes later.
    #[test]
    fn streams_give_the_same_text() {
        let mut random = Random::new(9);
        for kind in kinds().iter().filter(|kind| kind.name != "WordPiece") {
            let t = Tokenizer::parse(&kind.file).unwrap();
            let of_cases = kind.cases.iter().map(|case| ids(&case["special_ids"]));
            let some = |random: &mut Random| random.below(t.vocab_size()) as u32;
            let count = if kind.name == "BPE with byte fallback" { 0 } else { 50 };
            let of_chance = (0..count).map(|_| (0..20).map(|_| some(&mut random)).collect());
            for ids in of_cases.chain(of_chance.collect::<Vec<Vec<u32>>>()) {
                let mut stream = t.decode_stream();
                let mut text: String = ids.iter().map(|&id| stream.feed(id)).collect();
                text += &stream.finish();
                let whole = t.decode_text(&ids);
                assert_eq!(text, whole, "{}: {ids:?}", kind.name);
            }
        }
    }

    #[test]
    fn what_begins_and_ends_texts_is_found() {
        let kinds = kinds();
        let of = |name: &str| {
            let kind = kinds.iter().find(|kind| kind.name == name).unwrap();
            Tokenizer::parse(&kind.file).unwrap()
        };
        let llama = of("BPE with byte fallback");
        assert_eq!((llama.prompt_start(), llama.bos(), llama.eos()), (Some(1), Some(1), Some(2)));
        let bert = of("WordPiece");
        assert_eq!(bert.prompt_start(), bert.special_token("[CLS]"));
        let plain = of("unigram");
        assert_eq!((plain.prompt_start(), plain.eos()), (None, Some(1)));
        assert_eq!(plain.file_name(), "tokenizer.json");
        assert!(plain.to_llama2c().is_err());
        assert_eq!(plain.decode(&[u32::MAX]), "\u{fffd}".as_bytes());
    }

    #[test]
    fn damage_is_an_error() {
        for kind in kinds().iter().filter(|kind| !kind.own) {
            batter(&kind.file, 300, |bytes| Tokenizer::parse(&bytes).is_ok());
        }
    }
}
