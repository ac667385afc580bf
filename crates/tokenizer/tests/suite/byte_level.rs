//! Byte-level BPE: training, encoding, and GPT-2's vocabulary against reference encoders.

use crate::support::{cases, random_text};
use orion_testing::{Random, shared};
use orion_tokenizer::{DOCUMENT_SEPARATOR, ErrorKind, Splitter, Tokenizer};

const STORIES: [&str; 3] = [
    "Once upon a time there was a little cat. The cat's name was Tom.\nTom liked the little dog.",
    "Once upon a time the dog and the cat went to the park. They didn't like the rain.",
    "The little bird sang and sang. It was a happy, happy time!",
];

#[test]
fn training_is_deterministic_and_makes_useful_pieces() {
    let t = Tokenizer::train_byte_level(STORIES, 320).unwrap();
    assert_eq!(t.vocab_size(), 320);
    assert_eq!(t.to_bytes(), Tokenizer::train_byte_level(STORIES, 320).unwrap().to_bytes());
    assert_eq!((t.bos(), t.eos()), (Some(0), Some(0)));
    assert_eq!(t.piece(0), Some(DOCUMENT_SEPARATOR.as_bytes()));
    assert!((0..320).any(|id| t.piece(id) == Some(b" the")));
    let ids = t.encode(STORIES[0]);
    assert!(ids.len() * 2 < STORIES[0].len(), "{} ids", ids.len());
    // Merges never cross a word.
    assert!((257..320).all(|id| !t.piece(id).unwrap()[1..].contains(&b' ')));
}

#[test]
fn round_trips_any_text() {
    let t = Tokenizer::train_byte_level(STORIES, 300).unwrap();
    let mut random = Random::new(11);
    for _ in 0..500 {
        let len = random.below(80);
        let text = random_text(&mut random, len);
        assert_eq!(String::from_utf8(t.decode(&t.encode(&text))).unwrap(), text);
    }
    // The separator's name in a text is text.
    let ids = t.encode(DOCUMENT_SEPARATOR);
    assert!(!ids.contains(&0));
    assert_eq!(t.decode(&ids), DOCUMENT_SEPARATOR.as_bytes());
    assert_eq!(t.decode(&[0]), b"");
}

#[test]
fn training_knows_its_limits() {
    for size in [0, 256, usize::MAX] {
        let e = Tokenizer::train_byte_level(STORIES, size).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Training);
        assert!(e.to_string().contains(&size.to_string()), "{e}");
    }
    assert_eq!(Tokenizer::train_byte_level([], 500).unwrap().vocab_size(), 257);
    assert_eq!(Tokenizer::train_byte_level(["aaaa"], 500).unwrap().vocab_size(), 259);
}

#[test]
fn a_long_word_is_not_quadratic() {
    let t = Tokenizer::train_byte_level(["aaaa aaaa"], 260).unwrap();
    let text = "a".repeat(1 << 18);
    let ids = t.encode(&text);
    assert_eq!(t.decode(&ids), text.as_bytes());
    assert!(ids.len() <= (1 << 16) + 1);
}

fn gpt2() -> Option<Tokenizer> {
    let (vocab, merges) = (shared("data/gpt2_vocab.json")?, shared("data/gpt2_merges.txt")?);
    Some(Tokenizer::from_gpt2_files(vocab, merges, Splitter::Gpt2).unwrap())
}

#[test]
fn encodes_like_gpt2() {
    let (Some(t), Some(cases)) = (gpt2(), cases("golden/tokenizers/gpt2.json")) else { return };
    assert_eq!((t.vocab_size(), t.bos(), t.eos()), (50257, Some(50256), Some(50256)));
    for (text, ids) in cases {
        assert_eq!(t.encode(&text), ids, "{text:?}");
        assert_eq!(t.decode(&ids), text.as_bytes());
    }
}

#[test]
fn encodes_a_corpus_like_gpt2() {
    let (Some(t), Some(text), Some(shard)) =
        (gpt2(), shared("data/tinyshakespeare.txt"), shared("data/llmc_tiny_shakespeare_val.bin"))
    else {
        return;
    };
    // llm.c cuts the text at empty lines, puts the separator before every part, and keeps the
    // first 32768 ids for validation.
    let text = std::fs::read_to_string(text).unwrap();
    let mut ids = Vec::new();
    for part in text.split("\n\n") {
        ids.push(50256);
        ids.extend(t.encode(&format!("{part}\n\n")));
        if ids.len() > 40_000 {
            break;
        }
    }
    let expected: Vec<u32> = std::fs::read(shard).unwrap()[1024..]
        .chunks_exact(2)
        .map(|id| u32::from(u16::from_le_bytes([id[0], id[1]])))
        .collect();
    assert_eq!(expected.len(), 32_768);
    assert!(ids[..32_768] == expected, "the shard differs");
}

#[test]
fn gpt2_survives_a_round_trip_through_tokenizer_json() {
    let (Some(t), Some(cases)) = (gpt2(), cases("golden/tokenizers/gpt2.json")) else { return };
    let json = t.to_bytes();
    let again = Tokenizer::parse(&json).unwrap();
    assert!(again.to_bytes() == json, "writing is not stable");
    assert_eq!((again.vocab_size(), again.eos()), (50257, Some(50256)));
    for (text, ids) in cases {
        assert_eq!(again.encode(&text), ids, "{text:?}");
    }
}

#[test]
fn gpt2_s_prompts_begin_with_themselves() {
    // A tokenizer that was trained here says that texts begin with the separator, in every form.
    let own = Tokenizer::train_byte_level(["the cat sat"], 260).unwrap();
    assert_eq!(own.prompt_start(), Some(0));
    assert_eq!(Tokenizer::parse(&own.to_bytes()).unwrap().prompt_start(), Some(0));
    assert_eq!(Tokenizer::from_parts(&own.to_parts()).unwrap().prompt_start(), Some(0));

    let Some(gpt2) = gpt2() else { return };
    for gpt2 in [Tokenizer::from_parts(&gpt2.to_parts()).unwrap(), gpt2] {
        assert_eq!((gpt2.prompt_start(), gpt2.bos()), (None, Some(50256)));
    }
}
