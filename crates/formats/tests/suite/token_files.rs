//! Token data: detection, windows, refusals, robustness, and real shards.

use orion_formats::tokens::{Encoding, write_shard};
use orion_formats::{ErrorKind, TokenFile};
use orion_tensor::Bytes;
use orion_testing::{batter, shared};

fn shard(ids: &[u16]) -> Vec<u8> {
    let mut out = Vec::new();
    write_shard(&mut out, ids).unwrap();
    out
}

/// A shard of u32 ids, as llm.c writes for Llama 3.
fn wide_shard(ids: &[u32]) -> Vec<u8> {
    let mut out = vec![0; 1024];
    for (index, word) in [20_240_801, 7, ids.len() as u32].into_iter().enumerate() {
        out[4 * index..4 * index + 4].copy_from_slice(&word.to_le_bytes());
    }
    out.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    out
}

fn parse(bytes: Vec<u8>) -> orion_formats::Result<TokenFile> {
    TokenFile::parse(Bytes::new(bytes))
}

#[test]
fn reads_all_three_encodings() {
    let ids = [1u16, 2, 300, 65535, 7];
    let raw = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let wide = ids.map(u32::from);
    for (bytes, encoding) in [
        (raw, Encoding::RawU16),
        (shard(&ids), Encoding::HeaderedU16),
        (wide_shard(&wide), Encoding::HeaderedU32),
    ] {
        let file = parse(bytes).unwrap();
        assert_eq!((file.encoding(), file.len()), (encoding, 5));
        assert_eq!(file.window(0, 5), wide);
        assert_eq!(file.window(2, 2), [300, 65535]);
        assert!(file.window(5, 0).is_empty());
        let mut out = [0; 3];
        file.copy_window(1, &mut out);
        assert_eq!(out, [2, 300, 65535]);
        file.check_vocab(65536).unwrap();
        let e = file.check_vocab(300).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TokenOutOfRange);
        assert!(e.to_string().contains("token 2 has id 300"), "{e}");
        let at = match encoding {
            Encoding::RawU16 => 4,
            Encoding::HeaderedU16 => 1024 + 4,
            Encoding::HeaderedU32 => 1024 + 8,
        };
        assert_eq!(e.offset(), Some(at));
    }
    assert_eq!(parse(wide_shard(&[128_000])).unwrap().window(0, 1), [128_000]);
}

#[test]
#[should_panic(expected = "tokens 3..3+18446744073709551615 of a file of 5")]
fn windows_past_the_end_are_bugs() {
    parse(shard(&[1, 2, 3, 4, 5])).unwrap().window(3, usize::MAX);
}

#[test]
fn refuses_with_place_and_expectation() {
    let refuse = |bytes: Vec<u8>, kind: ErrorKind, text: &str| {
        let e = parse(bytes).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "`{text}` is not in `{e}`");
    };
    let patched = |at: usize, value: u32| {
        let mut bytes = shard(&[1, 2, 3]);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    refuse(vec![], ErrorKind::Malformed, "0 bytes");
    refuse(vec![1, 2, 3], ErrorKind::Malformed, "3 bytes");
    refuse(shard(&[1, 2, 3])[..1000].to_vec(), ErrorKind::Truncated, "header of 1024 bytes");
    refuse(shard(&[1, 2, 3])[..1028].to_vec(), ErrorKind::Truncated, "has 1030 bytes");
    refuse([shard(&[1, 2, 3]), vec![0, 0]].concat(), ErrorKind::TrailingBytes, "has 1030 bytes");
    refuse(patched(4, 2), ErrorKind::Unsupported, "version 2, expected 1");
    refuse(patched(0, 20_240_801), ErrorKind::Unsupported, "version 1, expected 7");
    refuse(patched(0, 20_240_522), ErrorKind::WrongFormat, "evaluation");
    refuse(patched(8, 0), ErrorKind::Malformed, "0 tokens");
    refuse(patched(8, u32::MAX), ErrorKind::Malformed, "-1 tokens");
    let e = write_shard(&mut Vec::new(), &[]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotRepresentable);
}

#[test]
fn readers_survive_damage() {
    // A cut or damaged magic number turns a shard into a stream of u16, which has no way to know.
    for valid in [shard(&[1, 2, 3]), wide_shard(&[1, 2, 3])] {
        batter(&valid, 3000, |bytes| {
            let Ok(file) = parse(bytes) else { return false };
            assert_eq!(file.window(0, file.len()).len(), file.len());
            let _ = file.check_vocab(2);
            true
        });
        for len in 4..valid.len() {
            assert!(parse(valid[..len].to_vec()).is_err(), "accepted a shard cut at {len}");
        }
    }
}

#[test]
fn real_files() {
    // Name, encoding, number of tokens, vocabulary of the tokenizer it was made with.
    for (name, encoding, len, vocab_size) in [
        ("tinystories_tok512_data00.bin", Encoding::RawU16, 1_031_666, 512),
        ("tinystories_llama2_data00.bin", Encoding::RawU16, 544_652, 32_000),
        ("tinystories_sp1024_train_000000.bin", Encoding::HeaderedU16, 818_170, 1024),
        ("fineweb_val_prefix_sp1024.bin", Encoding::HeaderedU16, 1_040_298, 1024),
        ("tinystories_gpt2_llmc.bin", Encoding::HeaderedU16, 502_585, 50_257),
        ("llmc_tiny_shakespeare_val.bin", Encoding::HeaderedU16, 32_768, 50_257),
    ] {
        let Some(path) = shared(&format!("data/{name}")) else { continue };
        let file = TokenFile::open(&path).unwrap();
        assert_eq!((file.encoding(), file.len()), (encoding, len), "{name}");
        file.check_vocab(vocab_size).unwrap();
        if encoding == Encoding::HeaderedU16 {
            let ids: Vec<u16> = file.window(0, len).iter().map(|&id| id as u16).collect();
            assert!(shard(&ids) == std::fs::read(&path).unwrap(), "{name} is written differently");
        }
    }
    if let Some(path) = shared("data/tinystories_tok512_data00.bin") {
        let e = TokenFile::open(&path).unwrap().check_vocab(256).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TokenOutOfRange);
    }
}
