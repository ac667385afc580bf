//! The splitting rules after GPT-2's, and tokens that are added to a vocabulary.

use crate::support::cases;
use orion_testing::shared;
use orion_tokenizer::{MergedParts, Parts, Piece, PieceKind, Splitter, Tokenizer};
use serde_json::{Value, json};

fn qwen2() -> Option<Tokenizer> {
    let (vocab, _) = (shared("data/qwen2_vocab.json")?, shared("data/qwen2_merges.txt")?);
    Some(Tokenizer::from_file(vocab).unwrap())
}

#[test]
fn encodes_like_qwen2() {
    let (Some(t), Some(cases)) = (qwen2(), cases("golden/tokenizers/qwen2.json")) else { return };
    // The rule was found out from the vocabulary alone.
    let Parts::Merged(parts) = t.to_parts() else { panic!("byte-level") };
    assert_eq!(parts.splitter, Splitter::Qwen2);
    let json = Tokenizer::parse(&t.to_bytes()).unwrap();
    let rebuilt = Tokenizer::from_parts(&t.to_parts()).unwrap();
    for (text, ids) in cases {
        assert_eq!(t.encode(&text), ids, "{text:?}");
        assert_eq!(json.encode(&text), ids, "from tokenizer.json: {text:?}");
        assert_eq!(rebuilt.encode(&text), ids, "from its parts: {text:?}");
        let decoded = String::from_utf8(t.decode(&ids)).unwrap();
        assert!(decoded == text || t.encode(&decoded) == ids, "{text:?} became {decoded:?}");
    }
}

#[test]
fn gpt2s_files_are_told_from_qwen2s() {
    let Some(vocab) = shared("data/gpt2_vocab.json") else { return };
    let Parts::Merged(parts) = Tokenizer::from_file(vocab).unwrap().to_parts() else {
        panic!("byte-level")
    };
    assert_eq!(parts.splitter, Splitter::Gpt2);
    // The separator begins documents, but not every text.
    assert_eq!((parts.bos, parts.eos), (None, Some(50256)));
}

/// Bytes and one merge, an added token that is text and two that are not.
fn with_added() -> Tokenizer {
    let Parts::Merged(mut parts) =
        Tokenizer::train_byte_level(["tool tool"], 258).unwrap().to_parts()
    else {
        panic!("byte-level")
    };
    for (text, kind) in [
        ("<tool>", PieceKind::UserDefined),
        ("<tool>s", PieceKind::UserDefined),
        ("<|im_start|>", PieceKind::Control),
        ("<|im_end|>", PieceKind::Control),
    ] {
        parts.pieces.push(Piece { text: text.to_owned(), kind });
    }
    Tokenizer::from_parts(&Parts::Merged(MergedParts { splitter: Splitter::Qwen2, ..parts }))
        .unwrap()
}

#[test]
fn added_tokens() {
    let t = with_added();
    let [tool, tools, start, end] = [258, 259, 260, 261];
    assert_eq!(t.vocab_size(), 262);
    let x = 1 + u32::from(b'x');
    assert_eq!(t.encode("x<tool>x<tool>s"), [x, tool, x, tools]);
    assert!(!t.encode("<|im_end|>").contains(&end));
    assert_eq!(t.encode_with_special("<|im_start|>x<|im_end|>"), [start, x, end]);
    assert_eq!(t.decode(&[start, x, tool, end]), b"x<tool>");
    // Parts with a BOS keep it, whatever the rule.
    assert_eq!(t.bos(), Some(0));
    assert!(t.end_ids().contains(&end));
    // All of it survives a file.
    let again = Tokenizer::parse(&t.to_bytes()).unwrap();
    assert_eq!(again.to_parts(), t.to_parts());
}

#[test]
fn text_is_composed_for_qwen2_only() {
    let t = with_added();
    assert_eq!(t.encode("e\u{301}"), t.encode("é"));
    let gpt2 = Tokenizer::train_byte_level([], 257).unwrap();
    assert_ne!(gpt2.encode("e\u{301}"), gpt2.encode("é"));
}

#[test]
fn what_tokenizer_json_says_is_done_or_refused() {
    let t = with_added();
    let file: Value = serde_json::from_slice(&t.to_bytes()).unwrap();
    let refuse = |text: &str, change: &dyn Fn(&mut Value)| {
        // With the feature, the library of Hugging Face is asked.
        if cfg!(feature = "tokenizers") {
            return;
        }
        let mut file = file.clone();
        change(&mut file);
        let e = Tokenizer::parse(file.to_string().as_bytes()).unwrap_err();
        assert!(e.to_string().contains(text), "`{text}` is not in `{e}`");
    };
    refuse("pretokenizers", &|f| {
        f["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("\\w+");
    });
    refuse("use_regex", &|f| f["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = json!(true));
    refuse("normalizer", &|f| f["normalizer"] = json!({"type": "Lowercase"}));
    refuse("lstrip", &|f| f["added_tokens"][0]["lstrip"] = json!(true));

    // A template that begins every text with a token names BOS.
    let mut file = file.clone();
    file["post_processor"] = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}]}]});
    let t = Tokenizer::parse(file.to_string().as_bytes()).unwrap();
    assert_eq!(t.bos(), Some(260));
    assert_eq!(Tokenizer::parse(&t.to_bytes()).unwrap().bos(), Some(260));
}

#[test]
fn a_vocabulary_needs_its_merges() {
    let directory = tempfile::tempdir().unwrap();
    let vocab = directory.path().join("vocab.json");
    std::fs::write(&vocab, "{\"a\": 0}").unwrap();
    let e = Tokenizer::from_file(&vocab).unwrap_err();
    assert!(e.to_string().contains("merges.txt"), "{e}");
    std::fs::remove_file(&vocab).unwrap();
    let e = Tokenizer::from_file(directory.path()).unwrap_err();
    assert!(e.to_string().contains("tokenizer.model"), "{e}");
}
