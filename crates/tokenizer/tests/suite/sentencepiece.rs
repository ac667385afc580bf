//! `tokenizer.model`, against the SentencePiece library's results.

use crate::support::random_text;
use orion_testing::{Random, batter, shared};
use orion_tokenizer::{ErrorKind, Parts, Piece, PieceKind, ScoredParts, Tokenizer};

fn parts(unigram: bool, bytes: bool, words: &[(&str, f32, PieceKind)]) -> ScoredParts {
    use PieceKind::*;
    let mut rows: Vec<(String, f32, PieceKind)> = vec![
        ("<unk>".to_owned(), 0.0, Unknown),
        ("<s>".to_owned(), 0.0, Control),
        ("</s>".to_owned(), 0.0, Control),
    ];
    if bytes {
        rows.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0, Byte)));
    }
    rows.extend(words.iter().map(|&(text, score, kind)| (text.to_owned(), score, kind)));
    let piece = |row: &(String, f32, PieceKind)| Piece { text: row.0.clone(), kind: row.2 };
    ScoredParts {
        pieces: rows.iter().map(piece).collect(),
        scores: rows.iter().map(|row| row.1).collect(),
        unigram,
        add_space: false,
        remove_extra_spaces: false,
        charsmap: Vec::new(),
        bos: Some(1),
        eos: Some(2),
    }
}

fn small(bytes: bool) -> ScoredParts {
    use PieceKind::*;
    parts(
        false,
        bytes,
        &[
            ("▁", -9.0, Normal),
            ("a", -9.0, Normal),
            ("b", -9.0, Normal),
            ("ab", -2.0, Normal),
            ("ba", -1.0, Normal),
            ("▁ab", -3.0, Normal),
            ("<tool>", 0.0, UserDefined),
            ("aa", -0.5, Unused),
        ],
    )
}

fn tokenizer(parts: ScoredParts) -> Tokenizer {
    Tokenizer::from_parts(&Parts::Scored(parts)).unwrap()
}

fn texts(t: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|&id| String::from_utf8(t.piece(id).unwrap().to_vec()).unwrap()).collect()
}

#[test]
fn merges_by_score() {
    let t = tokenizer(small(false));
    assert_eq!(texts(&t, &t.encode("abab")), ["a", "ba", "b"]);
    // The unused piece takes part in merging and is taken apart again.
    assert_eq!(texts(&t, &t.encode("aab")), ["a", "a", "b"]);
    assert_eq!(texts(&t, &t.encode("a<tool>b")), ["a", "<tool>", "b"]);
    assert_eq!(t.decode(&t.encode("a<tool> b")), b"a<tool> b");
    // Unknown characters that follow each other are one.
    assert_eq!(t.encode("aéüb"), [4, 0, 5]);
    assert_eq!(t.decode(&[4, 0, 5]), "a \u{2047} b".as_bytes());
    let t = tokenizer(small(true));
    assert_eq!(t.encode("é"), [3 + 0xc3, 3 + 0xa9]);
}

#[test]
fn special_tokens_are_text_unless_asked_for() {
    let t = tokenizer(small(true));
    assert_eq!((t.bos(), t.eos()), (Some(1), Some(2)));
    assert_eq!(t.special_token("</s>"), Some(2));
    assert_eq!(t.special_token("<unk>"), None);
    assert!(!t.encode("<s>a").contains(&1));
    assert_eq!(t.encode_with_special("<s>a</s>"), [1, t.encode("a")[0], 2]);
    assert_eq!(t.decode(&[1, 260, 2]), b"a");
}

#[test]
fn spaces_are_tidied_as_the_file_says() {
    let of = |add_space, remove_extra_spaces| {
        tokenizer(ScoredParts { add_space, remove_extra_spaces, ..small(false) })
    };
    let pieces = |t: &Tokenizer, text: &str| texts(t, &t.encode(text));
    assert_eq!(pieces(&of(false, false), " ab "), ["▁ab", "▁"]);
    assert_eq!(pieces(&of(true, false), " ab"), ["▁", "▁ab"]);
    assert_eq!(pieces(&of(true, true), "  ab   b "), ["▁ab", "▁", "b"]);
    assert_eq!(pieces(&of(true, true), "   "), [""; 0]);
    for t in [of(true, false), of(false, false)] {
        for text in ["ab", " ab", "  a b ", ""] {
            assert_eq!(t.decode(&t.encode(text)), text.as_bytes());
        }
    }
}

#[test]
fn unigram_takes_the_likeliest_way() {
    use PieceKind::*;
    let words = [
        ("a", -2.0, Normal),
        ("b", -2.0, Normal),
        ("ab", -3.0, Normal),
        ("ba", -2.5, Normal),
        ("xyz", -1.0, UserDefined),
        ("bab", -1.0, Unused),
    ];
    let t = tokenizer(parts(true, false, &words));
    assert_eq!(texts(&t, &t.encode("bab")), ["ba", "b"]);
    assert_eq!(texts(&t, &t.encode("abab")), ["ab", "ab"]);
    assert_eq!(texts(&t, &t.encode("axyzb")), ["a", "xyz", "b"]);
    assert_eq!(t.encode("a??b"), [3, 0, 4]);
}

#[test]
fn parts_and_files_round_trip() {
    for unigram in [false, true] {
        let parts = ScoredParts { unigram, add_space: true, ..small(true) };
        let t = tokenizer(parts.clone());
        assert_eq!(t.to_parts(), Parts::Scored(parts));
        assert_eq!(t.file_name(), "tokenizer.model");
        let again = Tokenizer::parse(&t.to_bytes()).unwrap();
        assert_eq!(again.to_parts(), t.to_parts());
    }
}

#[test]
fn round_trips_any_text_with_bytes() {
    let t = tokenizer(ScoredParts { add_space: true, ..small(true) });
    let mut random = Random::new(23);
    for _ in 0..1000 {
        let len = random.below(60);
        // A literal U+2581 is a space to SentencePiece.
        let text = random_text(&mut random, len).replace('\u{2581}', "x");
        let ids = t.encode(&text);
        assert_eq!(String::from_utf8(t.decode(&ids)).unwrap(), text);
        let mut stream = t.decode_stream();
        let mut streamed: String = ids.iter().map(|&id| stream.feed(id)).collect();
        streamed.push_str(&stream.finish());
        assert_eq!(streamed, text);
    }
}

#[test]
fn refuses_what_contradicts_itself() {
    let refuse = |change: &dyn Fn(&mut ScoredParts), expected: &str| {
        let mut parts = small(true);
        change(&mut parts);
        let e = Tokenizer::from_parts(&Parts::Scored(parts)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Malformed);
        assert!(e.to_string().contains(expected), "`{expected}` is not in `{e}`");
    };
    refuse(&|p| p.pieces[0].kind = PieceKind::Control, "unknown one");
    refuse(&|p| p.pieces[1].kind = PieceKind::Unknown, "second unknown");
    refuse(&|p| p.pieces[3].text = "<0x01>".into(), "pieces 3 and 4");
    refuse(&|p| p.pieces[3].text = "zero".into(), "should name a byte");
    refuse(&|p| p.pieces[3].kind = PieceKind::Normal, "<0x00> is missing");
    refuse(&|p| p.scores[5] = f32::NAN, "score NaN");
    refuse(&|p| p.bos = Some(9999), "token 9999");
    refuse(&|p| p.charsmap = vec![1, 2], "charsmap");
    refuse(&|p| p.charsmap = vec![255; 8], "charsmap");
    refuse(&|p| p.scores.truncate(5), "scores");
}

#[test]
fn survives_damage() {
    // Every byte leads to another unit, some outside the table and in circles.
    let mut charsmap = 64u32.to_le_bytes().to_vec();
    charsmap.extend((0..64u8).map(|i| i.wrapping_mul(37)));
    charsmap.extend(b"A\0B");
    for unigram in [false, true] {
        let parts = ScoredParts { unigram, charsmap: charsmap.clone(), ..small(true) };
        batter(&tokenizer(parts).to_bytes(), 4000, |bytes| {
            let Ok(t) = Tokenizer::parse(&bytes) else { return false };
            t.decode(&t.encode_with_special("<s>aabab é\u{1F600}\n<tool>"));
            true
        });
    }
}

struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

fn decoded_cases(name: &str) -> Option<Vec<Case>> {
    let golden: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(shared(name)?).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap().iter().map(|case| Case {
        text: case["text"].as_str().unwrap().to_owned(),
        ids: serde_json::from_value(case["ids"].clone()).unwrap(),
        decoded: case["decoded"].as_str().unwrap().to_owned(),
    });
    let cases: Vec<_> = cases.collect();
    assert!(cases.len() > 100);
    Some(cases)
}

#[test]
fn encodes_and_decodes_like_sentencepiece() {
    for (file, golden) in [
        ("data/fineweb_1024_bpe.model", "golden/tokenizers/sp1024.json"),
        ("data/tok512.model", "golden/tokenizers/tok512_sp.json"),
        ("data/llama2_tokenizer.model", "golden/tokenizers/llama2_sp.json"),
    ] {
        let (Some(path), Some(cases)) = (shared(file), decoded_cases(golden)) else { continue };
        let t = Tokenizer::from_file(&path).unwrap();
        assert_eq!((t.bos(), t.eos()), (Some(1), Some(2)));
        let rebuilt = Tokenizer::from_parts(&t.to_parts()).unwrap();
        for Case { text, ids, decoded } in cases {
            assert_eq!(t.encode(&text), ids, "{file}: {text:?}");
            assert_eq!(rebuilt.encode(&text), ids, "{file}, taken apart: {text:?}");
            assert_eq!(String::from_utf8_lossy(&t.decode(&ids)), decoded, "{file}: {text:?}");
        }
        assert!(t.to_bytes() == std::fs::read(&path).unwrap(), "{file} is written differently");
    }
}

#[test]
fn llama2c_tokenizers_become_sentencepiece_ones() {
    let (Some(bin), Some(cases)) =
        (shared("data/llama2_tokenizer.bin"), decoded_cases("golden/tokenizers/llama2_sp.json"))
    else {
        return;
    };
    let t = Tokenizer::from_parts(&Tokenizer::from_file(bin).unwrap().to_parts()).unwrap();
    for Case { text, ids, .. } in cases {
        assert_eq!(t.encode(&text), ids, "{text:?}");
    }
}

/// The ids of a headerless or headed file of u16.
fn shard(path: &std::path::Path, header: usize) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap();
    bytes[header..].as_chunks::<2>().0.iter().map(|&id| u16::from_le_bytes(id).into()).collect()
}

#[test]
fn encodes_a_corpus_like_sentencepiece() {
    for (model, ids, header) in [
        ("data/tok512.model", "data/tinystories_tok512_data00.bin", 0),
        ("data/fineweb_1024_bpe.model", "data/tinystories_sp1024_train_000000.bin", 1024),
        ("data/llama2_tokenizer.model", "data/tinystories_llama2_data00.bin", 0),
    ] {
        let (Some(model), Some(text), Some(ids)) =
            (shared(model), shared("data/tinystories_sample_2M.txt"), shared(ids))
        else {
            continue;
        };
        let t = Tokenizer::from_file(&model).unwrap();
        let text = std::fs::read_to_string(text).unwrap();
        let expected = shard(&ids, header);
        let mut expected = expected.split(|&id| id == 1).skip(1);
        let mut compared = 0;
        for story in text.split("<|endoftext|>").map(str::trim).take(800) {
            assert_eq!(Some(&*t.encode(story)), expected.next(), "{}: {story}", model.display());
            compared += 1;
        }
        assert_eq!(compared, 800);
    }
}
