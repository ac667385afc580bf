//! Decoding id by id gives the text of decoding all at once, and never half a character.

use orion_testing::Random;
use orion_tokenizer::{Parts, Piece, PieceKind, ScoredParts, Tokenizer};

#[test]
fn characters_come_out_whole() {
    let t = Tokenizer::train_byte_level([], 257).unwrap();
    let ids = t.encode("aé😀");
    let mut stream = t.decode_stream();
    let pieces: Vec<String> = ids.iter().map(|&id| stream.feed(id)).collect();
    assert_eq!(pieces, ["a", "", "é", "", "", "", "😀"]);
    assert_eq!(stream.finish(), "");
}

#[test]
fn what_cannot_become_text_is_replaced() {
    let t = Tokenizer::train_byte_level([], 257).unwrap();
    let byte = |byte: u8| 1 + u32::from(byte);
    let mut stream = t.decode_stream();
    assert_eq!(stream.feed(byte(0xff)), "\u{fffd}");
    assert_eq!(stream.feed(byte(0xe6)), "");
    assert_eq!(stream.feed(byte(0x97)), "");
    assert_eq!(stream.feed(byte(b'x')), "\u{fffd}x");
    assert_eq!(stream.feed(byte(0xc3)), "");
    assert_eq!(stream.finish(), "\u{fffd}");
}

/// SentencePiece puts one U+FFFD for every byte that is no text, where other libraries put one for
/// the beginning of a character: its own answers to `[0xE6, 0x97, 'x']` and `[0xC3]`.
#[test]
fn sentencepiece_replaces_every_byte() {
    let byte = |byte: u8| Piece { text: format!("<0x{byte:02X}>"), kind: PieceKind::Byte };
    let mut pieces = vec![Piece { text: "<unk>".to_owned(), kind: PieceKind::Unknown }];
    pieces.extend((0..=255).map(byte));
    pieces.push(Piece { text: "x".to_owned(), kind: PieceKind::Normal });
    let parts = ScoredParts {
        scores: vec![0.0; pieces.len()],
        pieces,
        unigram: false,
        add_space: false,
        remove_extra_spaces: false,
        charsmap: Vec::new(),
        bos: None,
        eos: None,
    };
    let t = Tokenizer::from_parts(&Parts::Scored(parts)).unwrap();
    let x = 257;
    assert_eq!(t.decode_text(&[1 + 0xe6, 1 + 0x97, x]), "\u{fffd}\u{fffd}x");
    assert_eq!(t.decode_text(&[x, 1 + 0xc3]), "x\u{fffd}");
    let mut stream = t.decode_stream();
    let fed = [1 + 0xe6, 1 + 0x97, x].map(|id| stream.feed(id));
    assert_eq!(fed, ["", "", "\u{fffd}\u{fffd}x"]);
    stream.feed(1 + 0xe6);
    stream.feed(1 + 0x97);
    assert_eq!(stream.finish(), "\u{fffd}\u{fffd}");
}

#[test]
fn equals_decoding_at_once() {
    let t = Tokenizer::train_byte_level(["the cat and the hat", "日本 é"], 275).unwrap();
    let mut random = Random::new(5);
    for _ in 0..1000 {
        // Any ids: special ones, parts of characters, ids outside the vocabulary.
        let ids: Vec<u32> = (0..random.below(30)).map(|_| random.below(280) as u32).collect();
        let mut stream = t.decode_stream();
        let mut text: String = ids.iter().map(|&id| stream.feed(id)).collect();
        text.push_str(&stream.finish());
        assert_eq!(text, String::from_utf8_lossy(&t.decode(&ids)), "{ids:?}");
        assert_eq!(text, t.decode_text(&ids), "{ids:?}");
    }
}
