//! `tokenizer.json`, GPT-2's files, and telling kinds of files apart.

use orion_testing::batter;
use orion_tokenizer::{ErrorKind, Splitter, Tokenizer};
use serde_json::{Value, json};

fn trained() -> Tokenizer {
    Tokenizer::train_byte_level(["the cat and the hat \"é\\", "that cat sat"], 270).unwrap()
}

#[test]
fn saves_and_loads() {
    let directory = tempfile::tempdir().unwrap();
    let t = trained();
    let path = t.save_in(directory.path()).unwrap();
    assert_eq!(path, directory.path().join("tokenizer.json"));
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "a temporary file is left");
    let read = Tokenizer::from_file(&path).unwrap();
    assert_eq!(read.to_bytes(), t.to_bytes());
    for text in ["the cat\nsat é\\\" <|endoftext|>", ""] {
        assert_eq!(read.encode(text), t.encode(text));
    }
    assert_eq!(read.bos(), Some(0));
}

#[test]
fn the_layout_is_hugging_faces() {
    let file: Value = serde_json::from_slice(&trained().to_bytes()).unwrap();
    assert_eq!(file["model"]["type"], "BPE");
    assert_eq!(file["pre_tokenizer"]["type"], "ByteLevel");
    assert_eq!(file["added_tokens"][0]["content"], "<|endoftext|>");
    assert_eq!(file["model"]["vocab"]["<|endoftext|>"], 0);
    assert_eq!(file["model"]["vocab"]["Ġ"], 1 + 32);
    assert_eq!(file["model"]["merges"][0], json!(["a", "t"]));
}

#[test]
fn old_spellings_are_read() {
    let mut file: Value = serde_json::from_slice(&trained().to_bytes()).unwrap();
    // Neither this nor what stands there below says that texts begin with a token.
    file["post_processor"] = Value::Null;
    let t = Tokenizer::parse(file.to_string().as_bytes()).unwrap();
    assert_eq!(t.prompt_start(), None);
    for merge in file["model"]["merges"].as_array_mut().unwrap() {
        *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
    }
    file["model"]["unk_token"] = Value::Null;
    file["model"]["continuing_subword_prefix"] = json!("");
    file["model"].as_object_mut().unwrap().remove("type");
    file["post_processor"] =
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false});
    let read = Tokenizer::parse(file.to_string().as_bytes()).unwrap();
    assert_eq!(read.to_bytes(), t.to_bytes());
}

/// With the feature, the library of Hugging Face is asked.
#[cfg(not(feature = "tokenizers"))]
#[test]
fn anything_else_is_refused_by_name() {
    let refuse = |kind: ErrorKind, text: &str, change: &dyn Fn(&mut Value)| {
        let mut file: Value = serde_json::from_slice(&trained().to_bytes()).unwrap();
        change(&mut file);
        let e = Tokenizer::parse(file.to_string().as_bytes()).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "`{text}` is not in `{e}`");
    };
    use ErrorKind::*;
    refuse(Unsupported, "`normalizer`", &|f| f["normalizer"] = json!({"type": "NFKC"}));
    refuse(Unsupported, "`pre_tokenizer`", &|f| f["pre_tokenizer"] = json!({"type": "Split"}));
    refuse(Unsupported, "`pre_tokenizer`", &|f| f["pre_tokenizer"] = Value::Null);
    refuse(Unsupported, "`pre_tokenizer.add_prefix_space`", &|f| {
        f["pre_tokenizer"]["add_prefix_space"] = json!(true);
    });
    refuse(Unsupported, "`pre_tokenizer.use_regex`", &|f| {
        f["pre_tokenizer"]["use_regex"] = json!(false);
    });
    refuse(Unsupported, "`decoder`", &|f| f["decoder"] = json!({"type": "Metaspace"}));
    refuse(Unsupported, "`post_processor`", &|f| {
        f["post_processor"] = json!({"type": "TemplateProcessing"});
    });
    refuse(Unsupported, "`model.type`", &|f| f["model"]["type"] = json!("Unigram"));
    refuse(Unsupported, "`model.byte_fallback`", &|f| f["model"]["byte_fallback"] = json!(true));
    refuse(Unsupported, "`model.dropout`", &|f| f["model"]["dropout"] = json!(0.1));
    refuse(Unsupported, "`version`", &|f| f["version"] = json!("2.0"));
    refuse(Unsupported, "`surprise`", &|f| f["surprise"] = json!(1));
    refuse(Unsupported, "`surprise`", &|f| f["model"]["surprise"] = json!(1));
    refuse(Malformed, "merge 0", &|f| f["model"]["merges"][0] = json!(["x", "☃"]));
    refuse(Malformed, "not of two pieces", &|f| {
        f["model"]["merges"][0] = json!(["x", "y", "z"]);
    });
    refuse(Malformed, "expected two pieces", &|f| f["model"]["merges"][0] = json!(3));
    refuse(Malformed, "expected ids by piece", &|f| f["model"]["vocab"] = json!(["a"]));
    refuse(Malformed, "\"xq\" is not in the vocabulary", &|f| {
        f["model"]["merges"][0] = json!(["x", "q"]);
    });
    refuse(Malformed, "byte 0x61", &|f| {
        let vocab = f["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove("a").unwrap();
        vocab.insert("zzz".to_owned(), id);
    });
    refuse(Malformed, "no piece has id 98", &|f| f["model"]["vocab"]["a"] = json!(1_000_000));
    refuse(Malformed, "both have id 98", &|f| f["model"]["vocab"]["b"] = json!(98));
    refuse(Malformed, "invalid value", &|f| f["model"]["vocab"]["a"] = json!(-1));

    let mut twice = String::from_utf8(trained().to_bytes()).unwrap();
    let vocab = twice.find("\"vocab\"").unwrap();
    let begin = vocab + twice[vocab..].find('{').unwrap() + 1;
    twice.insert_str(begin, "\"a\": 0, ");
    let e = Tokenizer::parse(twice.as_bytes()).unwrap_err();
    assert!(e.kind() == Malformed && e.to_string().contains("both have id 0"), "{e}");
    let e = Tokenizer::parse(b"{\"model\":").unwrap_err();
    assert_eq!(e.kind(), Truncated, "{e}");
    let e = Tokenizer::from_file("no/such/tokenizer.json").unwrap_err();
    assert_eq!(e.kind(), Io);
    assert!(e.to_string().starts_with("no/such/tokenizer.json: "), "{e}");
}

#[test]
fn json_survives_damage() {
    let bytes = trained().to_bytes();
    let accepted = batter(&bytes, 600, |bytes| {
        let Ok(t) = Tokenizer::parse(&bytes) else { return false };
        t.decode(&t.encode("the cat"));
        true
    });
    assert_eq!(
        accepted,
        [bytes.len() - 1],
        "only the cut before the final newline leaves a whole file"
    );
}

#[test]
fn gpt2_files() {
    // Bytes in GPT-2's own order of spelling, then three merges.
    let spelled: Vec<char> = (0u32..256)
        .map(|byte| match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from_u32(byte).unwrap(),
            0..=0x20 => char::from_u32(256 + byte).unwrap(),
            0x7f..=0xa0 => char::from_u32(256 + byte - 0x7f + 33).unwrap(),
            _ => 'Ń',
        })
        .collect();
    let mut vocab: serde_json::Map<String, Value> = Default::default();
    for (id, spelling) in spelled.iter().enumerate() {
        vocab.insert(spelling.to_string(), json!(id));
    }
    for (index, piece) in ["Ġt", "he", "Ġthe", "<|endoftext|>"].into_iter().enumerate() {
        vocab.insert(piece.to_owned(), json!(256 + index));
    }
    let vocab = Value::Object(vocab).to_string();
    let merges = "#version: 0.2\nĠ t\nh e\nĠt he\n";
    let parse = |merges: &str| {
        Tokenizer::parse_gpt2_files(vocab.as_bytes(), merges.as_bytes(), Splitter::Gpt2)
    };
    let t = parse(merges).unwrap();
    assert_eq!(t.encode("the the"), [u32::from(b't'), 257, 258]);
    assert_eq!(t.eos(), Some(259));
    assert_eq!(Tokenizer::parse(&t.to_bytes()).unwrap().encode("the the"), t.encode("the the"));

    for (merges, text) in [
        ("#version: 0.2\nĠ t\nhe\n", "line 3: expected two pieces, found \"he\" (at byte 19)"),
        ("Ġ t\nh ☃\n", "line 2"),
        ("Ġ t\nh h\n", "merge 1"),
        ("Ġ  t\n", "line 1"),
    ] {
        let e = parse(merges).unwrap_err();
        assert!(e.to_string().contains(text), "`{text}` is not in `{e}`");
    }
    batter(merges.as_bytes(), 2000, |merges| {
        Tokenizer::parse_gpt2_files(vocab.as_bytes(), &merges, Splitter::Gpt2).is_ok()
    });
    let e = Tokenizer::parse_gpt2_files(b"[]", merges.as_bytes(), Splitter::Gpt2).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Malformed);
}
