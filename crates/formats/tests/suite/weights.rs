//! Readers and writers of weights: round trips, refusals, robustness, and agreement with files that
//! other programs wrote.

use orion_formats::llama2c::{self, Checkpoint, Header, Version};
use orion_formats::{ErrorKind, SafeTensors, rope_half_to_interleaved, rope_interleaved_to_half};
use orion_formats::{map_file, safetensors};
use orion_tensor::{Bytes, DType, Tensor, Tolerance};
use orion_testing::{batter_strictly, shared};
use std::collections::BTreeMap;

fn small_header(shared_classifier: bool) -> Header {
    Header {
        dim: 8,
        hidden_dim: 12,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        vocab_size: 5,
        seq_len: 3,
        shared_classifier,
    }
}

fn small_tensors(header: &Header) -> BTreeMap<String, Tensor> {
    let Header { dim, hidden_dim, vocab_size, .. } = *header;
    let kv_dim = header.kv_dim();
    let mut shapes = vec![
        ("tok_embeddings.weight".to_owned(), vec![vocab_size, dim]),
        ("norm.weight".to_owned(), vec![dim]),
    ];
    if !header.shared_classifier {
        shapes.push(("output.weight".to_owned(), vec![vocab_size, dim]));
    }
    for layer in 0..header.layers {
        for (name, shape) in [
            ("attention_norm", vec![dim]),
            ("attention.wq", vec![dim, dim]),
            ("attention.wk", vec![kv_dim, dim]),
            ("attention.wv", vec![kv_dim, dim]),
            ("attention.wo", vec![dim, dim]),
            ("ffn_norm", vec![dim]),
            ("feed_forward.w1", vec![hidden_dim, dim]),
            ("feed_forward.w2", vec![dim, hidden_dim]),
            ("feed_forward.w3", vec![hidden_dim, dim]),
        ] {
            shapes.push((format!("layers.{layer}.{name}.weight"), shape));
        }
    }
    let mut value = 0.0;
    let fill = |(name, shape): (String, Vec<usize>)| {
        let count = shape.iter().product::<usize>();
        let elements: Vec<f32> = (0..count)
            .map(|_| {
                value += 0.125;
                value
            })
            .collect();
        (name, Tensor::from_slice(&shape, &elements))
    };
    shapes.into_iter().map(fill).collect()
}

fn bytes_of(write: impl FnOnce(&mut Vec<u8>) -> orion_formats::Result<()>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    out
}

/// The same model with int8 matrices whose scales are 0.5, in the layout of version 2.
fn small_v2(header: &Header, group_size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(0x616b_3432u32.to_le_bytes());
    out.extend(2i32.to_le_bytes());
    for size in [8, 12, 2, 4, 2, 5, 3] {
        out.extend(i32::to_le_bytes(size));
    }
    out.push(u8::from(header.shared_classifier));
    out.extend((group_size as i32).to_le_bytes());
    out.resize(256, 0);
    for index in 0..(2 * header.layers + 1) * header.dim {
        out.extend((index as f32).to_le_bytes());
    }
    let layer = [64, 32, 32, 64, 96, 96, 96];
    let mut sizes = vec![40];
    sizes.extend(layer.iter().flat_map(|&size| vec![size; header.layers]));
    if !header.shared_classifier {
        sizes.push(40);
    }
    for size in sizes {
        out.extend((0..size).map(|index| index as u8));
        for _ in 0..size / group_size {
            out.extend(0.5f32.to_le_bytes());
        }
    }
    out
}

#[test]
fn llama2c_round_trips() {
    for shared_classifier in [false, true] {
        let header = small_header(shared_classifier);
        let tensors = small_tensors(&header);
        let v0 = bytes_of(|out| llama2c::write_v0(out, &header, &tensors));
        let v1 = bytes_of(|out| llama2c::write_v1(out, &header, &tensors));
        for (bytes, version) in [(v0, Version::V0), (v1, Version::V1)] {
            let read = Checkpoint::parse(Bytes::new(bytes)).unwrap();
            assert_eq!(read.version, version);
            assert_eq!(read.header, header);
            assert_eq!(read.tensors, tensors);
        }
    }
}

#[test]
fn llama2c_v2_is_dequantised() {
    for shared_classifier in [false, true] {
        let header = small_header(shared_classifier);
        let read = Checkpoint::parse(Bytes::new(small_v2(&header, 4))).unwrap();
        assert_eq!(read.version, Version::V2 { group_size: 4 });
        assert_eq!(read.header, header);
        let names: Vec<_> = read.tensors.keys().collect();
        assert_eq!(names, small_tensors(&header).keys().collect::<Vec<_>>());
        let w2 = &read.tensors["layers.1.feed_forward.w2.weight"];
        assert_eq!(w2.shape(), [8, 12]);
        let expected: Vec<f32> = (0..96).map(|i| i as f32 * 0.5).collect();
        assert_eq!(*w2.elements::<f32>(), expected);
        // Norms come first: attention norms, feed-forward norms, the final norm.
        assert_eq!(read.tensors["layers.1.ffn_norm.weight"].elements::<f32>()[0], 24.0);
        assert_eq!(read.tensors["norm.weight"].elements::<f32>()[0], 32.0);
    }
}

#[test]
fn llama2c_refuses_with_place_and_expectation() {
    let header = small_header(true);
    let tensors = small_tensors(&header);
    let v0 = bytes_of(|out| llama2c::write_v0(out, &header, &tensors));
    let v1 = bytes_of(|out| llama2c::write_v1(out, &header, &tensors));

    let refuse = |bytes: Vec<u8>, kind: ErrorKind, texts: &[&str]| {
        let e = Checkpoint::parse(Bytes::new(bytes)).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        for text in texts {
            assert!(e.to_string().contains(text), "`{text}` is not in `{e}`");
        }
    };
    let patched = |bytes: &[u8], at: usize, value: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let size = v0.len().to_string();
    refuse(v0[..v0.len() - 1].to_vec(), ErrorKind::Truncated, &[&size]);
    refuse([v0.clone(), vec![0]].concat(), ErrorKind::TrailingBytes, &[&size]);
    refuse(v0[..20].to_vec(), ErrorKind::Truncated, &["28 bytes"]);
    refuse(v1[..40].to_vec(), ErrorKind::Truncated, &["256 bytes"]);
    for at in 0..7 {
        for value in [0, if at == 5 { i32::MIN } else { -1 }, i32::MAX] {
            refuse(patched(&v0, 4 * at, &value.to_le_bytes()), ErrorKind::Malformed, &["is "]);
        }
    }
    refuse(patched(&v0, 12, &3i32.to_le_bytes()), ErrorKind::Malformed, &["n_heads 3"]);
    refuse(patched(&v0, 16, &3i32.to_le_bytes()), ErrorKind::Malformed, &["n_kv_heads 3"]);
    refuse(patched(&v0, 12, &8i32.to_le_bytes()), ErrorKind::Malformed, &["head size 1"]);
    refuse(patched(&v1, 4, &9i32.to_le_bytes()), ErrorKind::Unsupported, &["version 9"]);
    refuse(patched(&v1, 36, &[7]), ErrorKind::Malformed, &["is 7", "byte 36"]);
    refuse(patched(&v1, 0, b"ak42"), ErrorKind::Unsupported, &["big-endian"]);
    let v2 = patched(&small_v2(&header, 4), 37, &64i32.to_le_bytes());
    refuse(v2, ErrorKind::Malformed, &["group size 64", "byte 37"]);
    // The element after the embedding is attention_norm[0] of layer 0.
    let at = 28 + 4 * 40;
    let nan = patched(&v0, at + 8, &f32::NAN.to_le_bytes());
    refuse(nan, ErrorKind::NotFinite, &["`layers.0.attention_norm.weight`", "NaN", "index 2"]);
    // Rotation tables are not weights.
    let tables = v0.len() - 4 * 3 * 2;
    Checkpoint::parse(Bytes::new(patched(&v0, tables, &f32::NAN.to_le_bytes()))).unwrap();
}

#[test]
fn llama2c_writer_checks_everything_first() {
    let header = small_header(true);
    let good = small_tensors(&header);
    let attempt = |tensors: &BTreeMap<String, Tensor>, text: &str| {
        let mut out = Vec::new();
        let e = llama2c::write_v1(&mut out, &header, tensors).unwrap_err();
        assert!(e.to_string().contains(text), "{e}");
        assert!(out.is_empty(), "something was written");
    };
    let mut tensors = good.clone();
    tensors.remove("norm.weight");
    attempt(&tensors, "`norm.weight` is missing");
    tensors.insert("norm.weight".to_owned(), Tensor::zeros(DType::F32, &[4]));
    attempt(&tensors, "fp32[4]");
    tensors.insert("norm.weight".to_owned(), Tensor::zeros(DType::F16, &[8]));
    attempt(&tensors, "fp16[8]");
    let nan = [1., 1., 1., 1., 1., 1., 1., f32::INFINITY];
    tensors.insert("norm.weight".to_owned(), Tensor::from_slice(&[8], &nan));
    attempt(&tensors, "inf at flat index 7");
    let mut tensors = good;
    tensors.insert("output.weight".to_owned(), Tensor::zeros(DType::F32, &[5, 8]));
    attempt(&tensors, "no tensor `output.weight`");
}

fn small_safetensors() -> (BTreeMap<String, Tensor>, BTreeMap<String, String>) {
    let tensors = BTreeMap::from([
        ("b".to_owned(), Tensor::from_slice(&[3], &[1u8, 2, 3])),
        ("a \"quoted\"".to_owned(), Tensor::from_slice(&[2, 2], &[1f32, 2.5, -3.0, 4.0])),
        ("empty".to_owned(), Tensor::from_slice(&[0, 7], &[] as &[f32])),
        ("scalar".to_owned(), Tensor::from_f64(DType::BF16, &[], &[0.5])),
    ]);
    let metadata = BTreeMap::from([("format".to_owned(), "pt\n\u{7}".to_owned())]);
    (tensors, metadata)
}

fn write_safetensors(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    bytes_of(|out| safetensors::write(out, tensors.iter().map(|(n, t)| (n.as_str(), t)), metadata))
}

#[test]
fn safetensors_round_trips_deterministically_and_aligned() {
    let (tensors, metadata) = small_safetensors();
    let bytes = write_safetensors(&tensors, &metadata);
    let reversed = bytes_of(|out| {
        let rows = tensors.iter().rev().map(|(n, t)| (n.as_str(), t));
        safetensors::write(out, rows, &metadata)
    });
    assert_eq!(bytes, reversed);
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!((8 + header_len) % 64, 0);
    let read = SafeTensors::parse(Bytes::new(bytes)).unwrap();
    assert_eq!(read, SafeTensors { tensors, metadata });
    assert!(read.tensor("a").unwrap_err().to_string().contains("`a` is missing"));

    let nothing = write_safetensors(&BTreeMap::new(), &BTreeMap::new());
    assert_eq!(SafeTensors::parse(Bytes::new(nothing)).unwrap(), SafeTensors::default());
}

#[test]
fn safetensors_keeps_every_type_it_can_name() {
    for dtype in DType::all() {
        let Some(size) = [1, 2, 4, 8].into_iter().find(|&size| size == dtype.size_bytes()) else {
            continue;
        };
        let t = Tensor::new(dtype, vec![3], Bytes::new(vec![1u8; 3 * size])).unwrap();
        let mut out = Vec::new();
        let written = safetensors::write(&mut out, [("t", &t)], &BTreeMap::new());
        if dtype.is_sub_byte() {
            assert_eq!(written.unwrap_err().kind(), ErrorKind::NotRepresentable);
        } else {
            written.unwrap();
            assert_eq!(SafeTensors::parse(Bytes::new(out)).unwrap().tensors["t"], t);
        }
    }
}

#[test]
fn safetensors_refuses_with_name_and_place() {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.resize(bytes.len() + data, 0);
        Bytes::new(bytes)
    };
    let entry = |name: &str, shape: &str, range: &str| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":{range}}}"#)
    };
    let refuse = |header: &str, data: usize, kind: ErrorKind, text: &str| {
        let e = SafeTensors::parse(file(header, data)).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "`{text}` is not in `{e}`");
    };
    use ErrorKind::*;
    let two = |a: &str, b: &str| format!("{{{},{}}}", entry("a", "[1]", a), entry("b", "[1]", b));
    SafeTensors::parse(file(&two("[0,4]", "[4,8]"), 8)).unwrap();
    refuse(&two("[0,4]", "[2,6]"), 6, Malformed, "overlap: `b` starts at 2");
    refuse(&two("[0,4]", "[0,4]"), 4, Malformed, "overlap: `b`");
    refuse(&two("[0,4]", "[5,9]"), 9, Malformed, "gap: `b` starts at 5");
    refuse(&two("[0,4]", "[4,8]"), 9, TrailingBytes, "9 are there");
    refuse(&two("[0,4]", "[4,8]"), 7, Truncated, "`b` takes bytes 4..8");
    refuse(&two("[0,4]", "[8,4]"), 8, Malformed, "`b`: its data ends at 4");
    let one = |shape: &str, range: &str| format!("{{{}}}", entry("w", shape, range));
    refuse(&one("[2]", "[0,4]"), 4, Malformed, "`w`: a tensor fp32[2] does not fit 4 bytes");
    let huge = "[18446744073709551615,18446744073709551615]";
    refuse(&one(huge, "[0,4]"), 4, Malformed, "`w`");
    refuse(&one("[1]", "[0,18446744073709551615]"), 4, Truncated, "`w`");
    refuse(&one("[-1]", "[0,4]"), 4, Malformed, "`w`");
    refuse(
        "{\"w\":{\"dtype\":\"Q4\",\"shape\":[],\"data_offsets\":[0,0]}}",
        0,
        Unsupported,
        "`Q4`",
    );
    refuse("{\"w\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, Malformed, "data_offsets");
    let twice = format!("{{{},{}}}", entry("w", "[1]", "[0,4]"), entry("w", "[1]", "[4,8]"));
    refuse(&twice, 8, Malformed, "`w` is there twice");
    refuse("hello", 0, WrongFormat, "starts with `{`");
    refuse(&"{".repeat(5000), 0, Malformed, "header");
    refuse(
        &format!("{{\"__metadata__\":{}1{}}}", "[".repeat(5000), "]".repeat(5000)),
        0,
        Malformed,
        "",
    );

    let e = SafeTensors::parse(Bytes::new(vec![1u8, 2, 3])).unwrap_err();
    assert!(e.kind() == Truncated && e.to_string().contains("has 3"), "{e}");
    let e = SafeTensors::parse(Bytes::new(vec![0xffu8; 64])).unwrap_err();
    assert_eq!(e.kind(), WrongFormat, "{e}");

    let nan = Tensor::from_slice(&[2], &[0f32, f32::NAN]);
    let bytes = bytes_of(|out| safetensors::write(out, [("w", &nan)], &BTreeMap::new()));
    SafeTensors::parse_unchecked(Bytes::new(bytes.clone())).unwrap();
    let e = SafeTensors::parse(Bytes::new(bytes)).unwrap_err();
    assert!(e.kind() == NotFinite && e.to_string().contains("`w`"), "{e}");
}

#[test]
fn readers_survive_damage() {
    let (tensors, metadata) = small_safetensors();
    batter_strictly(&write_safetensors(&tensors, &metadata), 4000, |bytes| {
        SafeTensors::parse(Bytes::new(bytes)).is_ok()
    });
    for shared_classifier in [false, true] {
        let header = small_header(shared_classifier);
        let tensors = small_tensors(&header);
        for valid in [
            bytes_of(|out| llama2c::write_v0(out, &header, &tensors)),
            bytes_of(|out| llama2c::write_v1(out, &header, &tensors)),
            small_v2(&header, 4),
        ] {
            batter_strictly(&valid, 2000, |bytes| Checkpoint::parse(Bytes::new(bytes)).is_ok());
        }
    }
}

#[test]
fn opening_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.bin");
    let e = Checkpoint::open(&missing).unwrap_err();
    assert_eq!((e.kind(), e.path()), (ErrorKind::Io, Some(missing.as_path())));
    let e = Checkpoint::open(directory.path()).unwrap_err();
    assert!(e.to_string().contains("directory"), "{e}");
    let empty = directory.path().join("empty.safetensors");
    std::fs::write(&empty, []).unwrap();
    assert!(map_file(&empty).unwrap().is_empty());
    let e = SafeTensors::open(&empty).unwrap_err();
    assert_eq!((e.kind(), e.path()), (ErrorKind::Truncated, Some(empty.as_path())));
    assert!(e.to_string().starts_with(&empty.display().to_string()), "{e}");
}

#[test]
fn mapped_tensors_share_the_mapping() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.bin");
    let header = small_header(true);
    let tensors = small_tensors(&header);
    std::fs::write(&path, bytes_of(|out| llama2c::write_v1(out, &header, &tensors))).unwrap();
    let read = Checkpoint::open(&path).unwrap();
    let addresses: Vec<_> = read.tensors.values().map(|t| t.bytes().as_ptr() as usize).collect();
    let span = addresses.iter().max().unwrap() - addresses.iter().min().unwrap();
    assert!(span < std::fs::metadata(&path).unwrap().len() as usize, "tensors were copied");
    assert_eq!(read.tensors, tensors);
}

#[test]
fn the_real_model_is_the_same_in_every_format() {
    let Some(path) = shared("weights/stories260K.bin") else { return };
    let v0 = Checkpoint::open(&path).unwrap();
    assert_eq!(v0.version, Version::V0);
    assert_eq!(
        v0.header,
        Header {
            dim: 64,
            hidden_dim: 172,
            layers: 5,
            heads: 8,
            kv_heads: 4,
            vocab_size: 512,
            seq_len: 512,
            shared_classifier: true
        }
    );

    let v1_path = shared("weights/stories260K_v1.bin").unwrap();
    let v1 = Checkpoint::open(&v1_path).unwrap();
    assert_eq!((v1.version, v1.header), (Version::V1, v0.header));
    assert_eq!(v1.tensors, v0.tensors);

    // Writing gives back what the reference programs wrote, the rotation tables up to rounding.
    let written = bytes_of(|out| llama2c::write_v1(out, &v0.header, &v0.tensors));
    assert!(written == std::fs::read(&v1_path).unwrap(), "version 1 differs");
    let written = bytes_of(|out| llama2c::write_v0(out, &v0.header, &v0.tensors));
    let original = std::fs::read(&path).unwrap();
    assert_eq!(written.len(), original.len());
    let tables = original.len() - 512 * 8 * 4;
    assert!(written[..tables] == original[..tables], "version 0 differs");
    let floats = |bytes: &[u8]| -> Vec<f64> {
        let words = bytes.chunks_exact(4);
        words.map(|w| f64::from(f32::from_le_bytes(w.try_into().unwrap()))).collect()
    };
    Tolerance::F32Accum.check(&floats(&written[tables..]), &floats(&original[tables..])).unwrap();
}

#[test]
fn the_real_quantised_model_is_near() {
    let Some(path) = shared("weights/stories260K_q80_gs4.bin") else { return };
    let q80 = Checkpoint::open(path).unwrap();
    let v0 = Checkpoint::open(shared("weights/stories260K.bin").unwrap()).unwrap();
    assert_eq!((q80.version, q80.header), (Version::V2 { group_size: 4 }, v0.header));
    assert!(q80.tensors.keys().eq(v0.tensors.keys()));
    for (name, expected) in &v0.tensors {
        let (actual, expected) = (q80.tensors[name].to_f64_vec(), expected.to_f64_vec());
        if name.ends_with("norm.weight") {
            assert_eq!(actual, expected, "{name}");
            continue;
        }
        for (actual, expected) in actual.chunks(4).zip(expected.chunks(4)) {
            // Half of the quantisation step is the definition of rounding to int8.
            let scale = expected.iter().fold(0f64, |m, v| m.max(v.abs())) / 127.0;
            let allowed = 0.5 * scale * (1.0 + Tolerance::Close.relative());
            for (a, e) in actual.iter().zip(expected) {
                let slack = allowed + Tolerance::Close.relative() * e.abs();
                assert!((a - e).abs() <= slack, "{name}: {a} for {e}, scale {scale}");
            }
        }
    }
}

#[test]
fn the_hugging_face_model_is_the_same_after_permutation() {
    let Some(path) = shared("weights/stories260K_hf/model.safetensors") else { return };
    let hf = SafeTensors::open(path).unwrap();
    let v0 = Checkpoint::open(shared("weights/stories260K.bin").unwrap()).unwrap();
    assert_eq!(hf.metadata["format"], "pt");
    let mut compared = 0;
    for (name, tensor) in &v0.tensors {
        let (hf_name, heads) = match name.split('.').collect::<Vec<_>>()[..] {
            ["tok_embeddings", _] => ("model.embed_tokens.weight".to_owned(), 0),
            ["norm", _] => ("model.norm.weight".to_owned(), 0),
            ["layers", layer, ref rest @ ..] => {
                let (module, heads) = match rest.join(".").as_str() {
                    "attention_norm.weight" => ("input_layernorm", 0),
                    "ffn_norm.weight" => ("post_attention_layernorm", 0),
                    "attention.wq.weight" => ("self_attn.q_proj", 8),
                    "attention.wk.weight" => ("self_attn.k_proj", 4),
                    "attention.wv.weight" => ("self_attn.v_proj", 0),
                    "attention.wo.weight" => ("self_attn.o_proj", 0),
                    "feed_forward.w1.weight" => ("mlp.gate_proj", 0),
                    "feed_forward.w2.weight" => ("mlp.down_proj", 0),
                    "feed_forward.w3.weight" => ("mlp.up_proj", 0),
                    other => panic!("{other}"),
                };
                (format!("model.layers.{layer}.{module}.weight"), heads)
            }
            ref other => panic!("{other:?}"),
        };
        let theirs = hf.tensor(&hf_name).unwrap();
        if heads > 0 {
            assert_ne!(tensor, theirs, "{hf_name} is not permuted at all");
            assert_eq!(rope_interleaved_to_half(tensor, heads).unwrap(), *theirs, "{hf_name}");
            assert_eq!(*tensor, rope_half_to_interleaved(theirs, heads).unwrap(), "{hf_name}");
        } else {
            assert_eq!(tensor, theirs, "{hf_name}");
        }
        compared += 1;
    }
    assert_eq!(compared, hf.tensors.len());
}
