//! `tokenizer.bin`, against run.c.

use crate::support::{cases, random_text};
use orion_testing::{Random, batter, shared};
use orion_tokenizer::{ErrorKind, Tokenizer};

/// A vocabulary with bytes and a few pieces.
fn small() -> Vec<u8> {
    let mut pieces: Vec<(String, f32)> =
        ["<unk>", "\n<s>\n", "\n</s>\n"].map(|p| (p.to_owned(), 0.0)).into();
    pieces.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0)));
    for (index, piece) in [" t", "he", " the", " ", "t", "h", "e", "é"].into_iter().enumerate() {
        pieces.push((piece.to_owned(), -(index as f32)));
    }
    let mut out = 7u32.to_le_bytes().to_vec();
    for (piece, score) in pieces {
        out.extend(score.to_le_bytes());
        out.extend((piece.len() as i32).to_le_bytes());
        out.extend(piece.bytes());
    }
    out
}

#[test]
fn encodes_and_decodes() {
    let t = Tokenizer::parse(&small()).unwrap();
    assert_eq!((t.vocab_size(), t.bos(), t.eos()), (267, Some(1), Some(2)));
    let the = 3 + 256 + 2;
    assert_eq!(t.piece(the), Some(&b" the"[..]));
    assert_eq!(t.piece(267), None);
    assert_eq!(t.encode("the"), [the]);
    assert_eq!(t.encode("the the\u{1F600}")[..2], [the, the]);
    assert_eq!(t.decode(&[1, the, the, 2]), b"the the");
    assert_eq!(t.decode(&[the, 3 + 10]), b" the\n");
    assert_eq!(t.decode(&[1, 9999]), "\u{fffd}".as_bytes());
}

#[test]
fn round_trips_any_text_after_bos() {
    let t = Tokenizer::parse(&small()).unwrap();
    let mut random = Random::new(7);
    for _ in 0..500 {
        let len = random.below(60);
        let text = random_text(&mut random, len);
        let ids: Vec<u32> = t.bos().into_iter().chain(t.encode(&text)).collect();
        assert_eq!(String::from_utf8(t.decode(&ids)).unwrap(), text);
    }
}

#[test]
fn refuses_with_place_and_expectation() {
    let refuse = |bytes: &[u8], kind: ErrorKind, texts: &[&str]| {
        let e = Tokenizer::parse(bytes).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        for text in texts {
            assert!(e.to_string().contains(text), "`{text}` is not in `{e}`");
        }
    };
    let patched = |at: usize, value: &[u8]| {
        let mut bytes = small();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    refuse(&[], ErrorKind::Truncated, &["byte 0"]);
    refuse(&small()[..6], ErrorKind::Truncated, &["score of piece 0", "byte 4"]);
    refuse(&small()[..10], ErrorKind::Truncated, &["length of piece 0", "byte 8"]);
    refuse(&small()[..14], ErrorKind::Truncated, &["5 bytes of piece 0", "byte 12", "ends at 14"]);
    refuse(&small()[..17], ErrorKind::WrongFormat, &["piece 1"]);
    refuse(&patched(0, &[0; 4]), ErrorKind::WrongFormat, &["with 0", "byte 0"]);
    refuse(&patched(0, &[255; 4]), ErrorKind::WrongFormat, &["longest"]);
    refuse(&patched(4, &f32::NAN.to_le_bytes()), ErrorKind::Malformed, &["NaN", "byte 4"]);
    refuse(&patched(8, &[255; 4]), ErrorKind::Malformed, &["-1 bytes", "byte 8"]);
    refuse(&patched(8, &8i32.to_le_bytes()), ErrorKind::Malformed, &["8 bytes", "0 to 7"]);
    let raw_word_start = [&small()[..], &[0; 4], &[3, 0, 0, 0], "\u{2581}".as_bytes()].concat();
    refuse(&raw_word_start, ErrorKind::Unsupported, &["U+2581"]);
}

#[test]
fn survives_damage() {
    let bytes = small();
    // A cut between two entries cannot be seen: the vocabulary size is not stored.
    let accepted = batter(&bytes, 4000, |bytes| {
        let Ok(t) = Tokenizer::parse(&bytes) else { return false };
        let ids = t.encode("the thé\u{1F600}\n");
        t.decode(&ids);
        true
    });
    assert_eq!(accepted.len(), 264, "the cuts after piece 2, 3, … 265");
}

#[test]
fn encodes_like_run_c() {
    for (file, golden) in [
        ("data/tok512.bin", "golden/tokenizers/tok512_runc.json"),
        ("data/llama2_tokenizer.bin", "golden/tokenizers/llama2_runc.json"),
    ] {
        let (Some(path), Some(cases)) = (shared(file), cases(golden)) else { continue };
        let t = Tokenizer::from_file(&path).unwrap();
        for (text, ids) in cases {
            assert_eq!(t.encode(&text), ids, "{file}: {text:?}");
            let decoded = t.decode(&[&[1], &ids[..]].concat());
            assert_eq!(String::from_utf8_lossy(&decoded), text, "{file}");
        }
        assert!(t.to_bytes() == std::fs::read(&path).unwrap(), "{file} is written differently");
    }
}

#[test]
fn generated_ids_decode_to_the_printed_text() {
    let Some(path) = shared("data/tok512.bin") else { return };
    let t = Tokenizer::from_file(path).unwrap();
    for (run, prompt) in [("p0", ""), ("p1", "Once upon a time")] {
        let json = shared(&format!("golden/llama2c/stories260K_{run}.json")).unwrap();
        let golden: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
        let prompt_ids: Vec<u32> = serde_json::from_value(golden["prompt_tokens"].clone()).unwrap();
        assert_eq!(prompt_ids, [&[1], &t.encode(prompt)[..]].concat());
        let mut ids = vec![1];
        ids.extend(
            golden["steps"].as_array().unwrap().iter().map(|s| s["next"].as_u64().unwrap() as u32),
        );
        let printed =
            std::fs::read(shared(&format!("golden/llama2c/stories260K_{run}.txt")).unwrap());
        let printed = String::from_utf8(printed.unwrap()).unwrap();
        let mut stream = t.decode_stream();
        let mut text: String = ids.iter().map(|&id| stream.feed(id)).collect();
        text.push_str(&stream.finish());
        assert_eq!(text, String::from_utf8(t.decode(&ids)).unwrap());
        assert!(text.len() > 400, "{run} is too short to mean anything");
        assert_eq!(text.trim_end(), printed.trim_end(), "{run}");
    }
}

#[test]
fn encodes_a_story_corpus_like_the_reference_shard() {
    let (Some(path), Some(text), Some(shard)) = (
        shared("data/tok512.bin"),
        shared("data/tinystories_sample_2M.txt"),
        shared("data/tinystories_tok512_data00.bin"),
    ) else {
        return;
    };
    let t = Tokenizer::from_file(path).unwrap();
    let text = std::fs::read_to_string(text).unwrap();
    let expected: Vec<u32> = std::fs::read(shard)
        .unwrap()
        .chunks_exact(2)
        .map(|id| u32::from(u16::from_le_bytes([id[0], id[1]])))
        .collect();
    let mut expected = expected.split(|&id| id == 1).skip(1);
    let mut compared = 0;
    // The shard was made by SentencePiece, which for this model also drops repeated spaces.
    for story in text.split(DOCUMENT_END).map(str::trim).take(600) {
        let reference = expected.next().unwrap();
        if story.contains("  ") || story.contains(" \n") || story.contains("\n ") {
            continue;
        }
        assert_eq!(t.encode(story), reference, "{story}");
        compared += 1;
    }
    assert!(compared > 200, "only {compared} stories were comparable");
}

const DOCUMENT_END: &str = "<|endoftext|>";

#[test]
fn sentencepiece_s_model_becomes_llama2c_s_own_file() {
    let (Some(model), Some(expected)) =
        (shared("data/llama2_tokenizer.model"), shared("data/llama2_tokenizer.bin"))
    else {
        return;
    };
    let model = Tokenizer::from_file(model).unwrap();
    assert!(model.to_llama2c().unwrap() == std::fs::read(expected).unwrap());
}

#[test]
fn what_llama2c_cannot_say_is_named() {
    let bytes = Tokenizer::train_byte_level(["some text"], 260).unwrap();
    let error = bytes.to_llama2c().unwrap_err();
    assert!(error.to_string().contains("byte-level"), "{error}");
    for (file, what) in
        [("data/fineweb_1024_bpe.model", "fold"), ("data/tok512.model", "drop spaces")]
    {
        let Some(path) = shared(file) else { return };
        let error = Tokenizer::from_file(path).unwrap().to_llama2c().unwrap_err();
        assert!(error.to_string().contains(what), "{file}: {error}");
    }
    let Some(path) = shared("data/tok512.bin") else { return };
    let own = std::fs::read(&path).unwrap();
    assert!(Tokenizer::from_file(path).unwrap().to_llama2c().unwrap() == own);
}
