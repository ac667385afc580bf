//! llm.c's model files.

use orion_formats::llmc::{Checkpoint, Header, write};
use orion_formats::{ErrorKind, Result};
use orion_tensor::{Bytes, DType, Tensor};
use orion_testing::batter_strictly;
use std::collections::BTreeMap;

const HEADER: Header =
    Header { max_positions: 3, vocab_size: 130, layers: 2, heads: 2, hidden_size: 4 };

fn tensors(dtype: DType) -> BTreeMap<String, Tensor> {
    let mut shapes = vec![
        ("wte.weight".to_owned(), vec![130, 4]),
        ("wpe.weight".to_owned(), vec![3, 4]),
        ("ln_f.weight".to_owned(), vec![4]),
        ("ln_f.bias".to_owned(), vec![4]),
    ];
    for layer in 0..2 {
        for (part, shape) in [
            ("ln_1.weight", vec![4]),
            ("ln_1.bias", vec![4]),
            ("attn.c_attn.weight", vec![12, 4]),
            ("attn.c_attn.bias", vec![12]),
            ("attn.c_proj.weight", vec![4, 4]),
            ("attn.c_proj.bias", vec![4]),
            ("ln_2.weight", vec![4]),
            ("ln_2.bias", vec![4]),
            ("mlp.c_fc.weight", vec![16, 4]),
            ("mlp.c_fc.bias", vec![16]),
            ("mlp.c_proj.weight", vec![4, 16]),
            ("mlp.c_proj.bias", vec![4]),
        ] {
            shapes.push((format!("h.{layer}.{part}"), shape));
        }
    }
    let tensor = |(seed, (name, shape)): (usize, (String, Vec<usize>))| {
        let values: Vec<f64> =
            (0..shape.iter().product()).map(|i: usize| ((i * 7 + seed) as f64).sin()).collect();
        (format!("transformer.{name}"), Tensor::from_f64(dtype, &shape, &values))
    };
    shapes.into_iter().enumerate().map(tensor).collect()
}

fn file(dtype: DType) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, &HEADER, &tensors(dtype)).unwrap();
    out
}

fn parse(bytes: &[u8]) -> Result<Checkpoint> {
    Checkpoint::parse(Bytes::from_elements(bytes))
}

#[test]
fn what_is_written_is_read() {
    for (dtype, width, version) in [(DType::F32, 4, 3), (DType::BF16, 2, 5)] {
        let bytes = file(dtype);
        let read = parse(&bytes).unwrap();
        assert_eq!(read.header, HEADER);
        assert_eq!(read.tensors, tensors(dtype));
        // 256 rows of the padded embedding, positions, two blocks, the last norm.
        let block = 4 * 4 + 12 * 4 + 12 + 16 + 4 + 64 + 16 + 64 + 4;
        assert_eq!(bytes.len(), 1024 + width * (256 * 4 + 3 * 4 + 2 * block + 8));
        assert_eq!(bytes[4], version);
        // The query of the first block lies behind the norms of both.
        let at = 1024 + width * (256 * 4 + 3 * 4 + 4 * 4);
        let query = tensors(dtype)["transformer.h.0.attn.c_attn.weight"].clone();
        assert_eq!(bytes[at..at + query.bytes().len()], **query.bytes());
    }
}

#[test]
fn damage_is_named() {
    let refuse = |change: &dyn Fn(&mut Vec<u8>), kind: ErrorKind, text: &str| {
        let mut bytes = file(DType::F32);
        change(&mut bytes);
        let e = parse(&bytes).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "`{text}` is not in `{e}`");
    };
    refuse(&|b| b[0] ^= 1, ErrorKind::WrongFormat, "20240326");
    refuse(&|b| b[4] = 4, ErrorKind::Unsupported, "version 4");
    refuse(&|b| b[8] = 0, ErrorKind::Malformed, "longest sequence is 0");
    refuse(&|b| b[19] = 0x7f, ErrorKind::Malformed, "layers");
    refuse(&|b| b[28..32].copy_from_slice(&[1, 0, 0, 0]), ErrorKind::Malformed, "padded");
    refuse(&|b| b.truncate(b.len() - 1), ErrorKind::Truncated, "are there");
    refuse(&|b| b.push(0), ErrorKind::TrailingBytes, "are there");
    refuse(&|b| b[1024..1028].fill(0xff), ErrorKind::NotFinite, "wte");
}

#[test]
fn survives_damage() {
    batter_strictly(&file(DType::BF16), 4000, |bytes| parse(&bytes).is_ok());
}

#[test]
fn what_does_not_fit_is_not_written() {
    let refuse = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), text: &str| {
        let mut tensors = tensors(DType::F32);
        change(&mut tensors);
        let e = write(&mut Vec::new(), &HEADER, &tensors).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotRepresentable);
        assert!(e.to_string().contains(text), "`{text}` is not in `{e}`");
    };
    refuse(&|t| drop(t.remove("transformer.wpe.weight")), "`transformer.wpe.weight`");
    refuse(&|t| drop(t.insert("lm_head.weight".into(), Tensor::zeros(DType::F32, &[1]))), "29");
    refuse(
        &|t| drop(t.insert("transformer.wpe.weight".into(), Tensor::zeros(DType::F32, &[1]))),
        "[3, 4], not [1]",
    );
}
