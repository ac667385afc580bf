//! GGUF files, written here and by others.

use orion_formats::gguf::{Entry, TensorKind, Value, ValueKind, write};
use orion_formats::{ErrorKind, Gguf, SafeTensors};
use orion_tensor::{Bytes, DType, Tensor};
use orion_testing::{batter, shared};

fn tensor(shape: &[usize]) -> Tensor {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i: usize| (i as f32 * 0.37).sin()).collect();
    Tensor::from_slice(shape, &values)
}

fn metadata() -> Vec<(String, Value)> {
    let list = Value::texts(["a", "é"].map(str::to_owned));
    let nested = Value::Array(ValueKind::Array, vec![list.clone()]);
    [
        ("general.architecture", Value::Text("llama".into())),
        ("bool", Value::Bool(true)),
        ("u8", Value::U8(7)),
        ("i8", Value::I8(-7)),
        ("u16", Value::U16(700)),
        ("i16", Value::I16(-700)),
        ("u32", Value::U32(70_000)),
        ("i32", Value::I32(-70_000)),
        ("u64", Value::U64(1 << 40)),
        ("i64", Value::I64(-(1 << 40))),
        ("f32", Value::F32(0.5)),
        ("f64", Value::F64(0.25)),
        ("list", list),
        ("nested", nested),
        ("nothing", Value::Array(ValueKind::F32, Vec::new())),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn entry(name: &str, shape: &[usize], kind: TensorKind) -> Entry {
    Entry { name: name.into(), tensor: tensor(shape), kind }
}

fn file() -> Vec<u8> {
    let entries = [
        entry("f32", &[3, 5], TensorKind::F32),
        entry("f16", &[7], TensorKind::F16),
        entry("bf16", &[2, 3], TensorKind::BF16),
        entry("q8", &[2, 64], TensorKind::Q8_0),
    ];
    let mut out = Vec::new();
    write(&mut out, &metadata(), &entries).unwrap();
    out
}

fn parse(bytes: &[u8]) -> orion_formats::Result<Gguf> {
    Gguf::parse(Bytes::from_elements(bytes))
}

#[test]
fn what_is_written_is_read() {
    let read = parse(&file()).unwrap();
    assert_eq!(read.metadata.into_iter().collect::<Vec<_>>(), {
        let mut expected = metadata();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        expected
    });
    let names: Vec<_> = read.tensors.keys().map(String::as_str).collect();
    assert_eq!(names, ["bf16", "f16", "f32", "q8"]);
    assert_eq!(read.tensors["f32"].to_tensor(), tensor(&[3, 5]));
    let half = read.tensors["f16"].to_tensor();
    assert_eq!((half.dtype(), half.shape()), (DType::F16, &[7][..]));
    assert_eq!(half, Tensor::from_f64(DType::F16, &[7], &tensor(&[7]).to_f64_vec()));
    let brain = read.tensors["bf16"].to_tensor();
    assert_eq!(brain, Tensor::from_f64(DType::BF16, &[2, 3], &tensor(&[2, 3]).to_f64_vec()));
    let quantized = read.tensors["q8"].to_tensor();
    assert_eq!((quantized.dtype(), quantized.shape()), (DType::F32, &[2, 64][..]));
    assert_eq!(file(), file(), "writing is not stable");
}

#[test]
fn version_2_is_read() {
    let mut bytes = file();
    bytes[4] = 2;
    assert_eq!(parse(&bytes).unwrap().tensors.len(), 4);
}

#[test]
fn damage_is_named() {
    let refuse = |change: &dyn Fn(&mut Vec<u8>), kind: ErrorKind, text: &str| {
        let mut bytes = file();
        change(&mut bytes);
        let e = parse(&bytes).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "`{text}` is not in `{e}`");
    };
    let find = |bytes: &[u8], text: &str| {
        bytes.windows(text.len()).position(|w| w == text.as_bytes()).unwrap()
    };
    use ErrorKind::*;
    refuse(&|b| b[0] = b'X', WrongFormat, "letters GGUF");
    refuse(&|b| b[4] = 1, Unsupported, "version 1");
    refuse(&|b| b[4..8].reverse(), Unsupported, "big-endian");
    refuse(&|b| b[8..16].fill(255), Malformed, "tensors");
    refuse(&|b| b.truncate(b.len() - 100), Truncated, "`q8`");
    refuse(&|b| b.truncate(60), Truncated, "are left");
    // Behind the name of tensor q8: 2 axes, 8 bytes each, the kind, the offset.
    let at = |b: &[u8], offset: usize| find(b, "q8") + 2 + offset;
    refuse(
        &|b| {
            let i = at(b, 20);
            b[i] = 10
        },
        Unsupported,
        "`q8` is Q2_K",
    );
    refuse(
        &|b| {
            let i = at(b, 20);
            b[i] = 200
        },
        Unsupported,
        "unknown kind 200",
    );
    refuse(
        &|b| {
            let i = at(b, 4);
            b[i] = 63
        },
        Malformed,
        "blocks of 32",
    );
    refuse(
        &|b| {
            let i = at(b, 24);
            b[i] += 1
        },
        Malformed,
        "multiple of 32",
    );
    refuse(
        &|b| {
            let i = at(b, 12);
            b[i + 7] = 255
        },
        Malformed,
        "which no file holds",
    );
    refuse(
        &|b| {
            let i = at(b, 12);
            b[i + 4] = 1
        },
        Truncated,
        "behind the file",
    );
    refuse(
        &|b| {
            let i = find(b, "i16");
            b[i] = b'u';
        },
        Malformed,
        "`u16` is there twice",
    );
}

#[test]
fn survives_damage() {
    let bytes = file();
    // The padding behind the last tensor may be missing.
    batter(&bytes, 20_000, |bytes| {
        let Ok(file) = parse(&bytes) else { return false };
        for tensor in file.tensors.values() {
            assert_eq!(tensor.to_tensor().shape(), tensor.shape);
            assert!(tensor.to_scaled().is_none_or(|(data, ..)| data.shape() == tensor.shape));
        }
        true
    });
    let last = bytes.len() - 32;
    assert!((0..last).all(|len| parse(&bytes[..len]).is_err()), "a cut was accepted");
}

#[test]
fn what_does_not_fit_is_not_written() {
    let refuse = |entry: Entry, kind: ErrorKind, text: &str| {
        let e = write(&mut Vec::new(), &[], &[entry]).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "`{text}` is not in `{e}`");
    };
    let large = Tensor::from_slice(&[1], &[1e6f32]);
    let large = |kind| Entry { name: "w".into(), tensor: large.clone(), kind };
    refuse(large(TensorKind::F16), ErrorKind::NotRepresentable, "1000000 is too large");
    refuse(entry("w", &[2, 5], TensorKind::Q8_0), ErrorKind::NotRepresentable, "rows of 5");
    refuse(entry("w", &[2, 32], TensorKind::Q4_0), ErrorKind::NotRepresentable, "Q4_0");
    let bad = Tensor::from_slice(&[1], &[f32::NAN]);
    let bad = Entry { name: "w".into(), tensor: bad, kind: TensorKind::F32 };
    refuse(bad, ErrorKind::NotFinite, "w");
}

#[test]
fn files_of_llama_cpp_hold_the_same_weights() {
    let (Some(hf), Some(f32), Some(f16), Some(q8)) = (
        shared("weights/stories260K_hf/model.safetensors"),
        shared("weights/stories260K-f32.gguf"),
        shared("weights/stories260K-f16.gguf"),
        shared("weights/stories260K-q8_0.gguf"),
    ) else {
        return;
    };
    let expected = SafeTensors::open(hf).unwrap();
    let up = |file: &Gguf| file.tensors["blk.3.ffn_up.weight"].to_tensor();
    let expected = expected.tensor("model.layers.3.mlp.up_proj.weight").unwrap().clone();
    let [f32, f16, q8] = [f32, f16, q8].map(|path| Gguf::open(path).unwrap());
    assert_eq!(up(&f32), expected);
    assert_eq!(up(&f16), Tensor::from_f64(DType::F16, expected.shape(), &expected.to_f64_vec()));
    // llama.cpp's quantization is ours, bit for bit.
    let stored = &q8.tensors["blk.3.ffn_up.weight"];
    assert_eq!(stored.kind, TensorKind::Q8_0);
    let mut out = Vec::new();
    let entry = Entry { name: "w".into(), tensor: expected, kind: TensorKind::Q8_0 };
    write(&mut out, &[], &[entry]).unwrap();
    assert!(parse(&out).unwrap().tensors["w"].bytes == stored.bytes);
}
