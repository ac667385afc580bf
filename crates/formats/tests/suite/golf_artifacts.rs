//! Artifacts of Parameter Golf against those that its own functions wrote.

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use orion_formats::golf_artifact::{ArtifactTensor, GolfArtifact, is_golf_artifact};
use orion_formats::{ErrorKind, SafeTensors};
use orion_tensor::{Bytes, DType, Tensor};
use orion_testing::{batter, batter_strictly, shared};
use std::collections::BTreeMap;
use std::io::Read;

fn compressed(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ZlibEncoder::new(raw, Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

/// A small tensor of every kind: quantized by rows and as a whole, fp16 and fp32.
fn small() -> Vec<(&'static str, Tensor)> {
    let values: Vec<f32> = (0..257 * 256).map(|i| (i % 1009) as f32 * 0.003 - 1.5).collect();
    let matrix = Tensor::from_slice(&[257, 256], &values);
    vec![
        ("skip_weights", Tensor::from_slice(&[1, 4], &[1.0f32, 0.1, -3.0, 2.0])),
        ("whole", Tensor::from_f64(DType::BF16, &[257 * 256], &matrix.to_f64_vec())),
        ("rows", matrix),
        ("small", Tensor::from_slice(&[2, 2], &[0.1f32, 0.2, 0.3, 0.4])),
        ("narrow", Tensor::from_f64(DType::F16, &[2], &[0.5, 0.25])),
    ]
}

fn artifact(tensors: &[(&'static str, Tensor)]) -> GolfArtifact {
    GolfArtifact::of(tensors.iter().map(|(name, tensor)| (*name, tensor))).unwrap()
}

fn by_name(artifact: GolfArtifact) -> BTreeMap<String, ArtifactTensor> {
    artifact.tensors.into_iter().collect()
}

#[test]
fn what_is_written_is_read() {
    let written = artifact(&small());
    let bytes = written.to_bytes().unwrap();
    assert!(is_golf_artifact(&bytes));
    let read = GolfArtifact::parse(&Bytes::new(bytes)).unwrap();
    assert_eq!(read.payload_bytes(), 2 * 257 * 256 + 2 * 257 + 4 + 4 * 4 + 2 * 4 + 2 * 2);
    let (read, written) = (by_name(read), by_name(written));
    assert_eq!(read, written);
    for (name, tensor) in small() {
        let back = read[name].dequantize();
        assert_eq!((back.shape(), back.dtype()), (tensor.shape(), tensor.dtype()), "{name}");
        // A step is 1/127, the least scale, or the largest magnitude over 127, and half a step is
        // lost; the fp16 scale adds half a thousandth of 1.5.
        let most =
            if read[name].payload_bytes() > 60_000 { 0.5 * 1.53 / 127.0 + 0.001 } else { 2e-4 };
        for (a, b) in back.to_f32_vec().iter().zip(tensor.to_f32_vec()) {
            let rounding = if tensor.dtype() == DType::BF16 { 0.004 } else { 0.0 };
            assert!((a - b).abs() <= most + rounding, "{name}: {b} became {a}");
        }
    }
}

#[test]
fn damaged_artifacts_are_refused() {
    let tensors: Vec<_> = small().into_iter().filter(|(_, t)| t.element_count() < 100).collect();
    let raw = artifact(&tensors).to_torch().unwrap();
    batter_strictly(&raw, 2000, |bytes| GolfArtifact::parse(&Bytes::new(bytes)).is_ok());
    batter(&compressed(&raw), 2000, |bytes| GolfArtifact::parse(&Bytes::new(bytes)).is_ok());
    assert_eq!(
        GolfArtifact::parse(&Bytes::new(b"no zlib".to_vec())).unwrap_err().kind(),
        ErrorKind::WrongFormat
    );
    let numbers = Tensor::from_slice(&[1], &[1i32]);
    let error = GolfArtifact::of([("ids", &numbers)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRepresentable);
}

#[test]
fn the_golden_artifact_is_read_and_written() {
    let Some(path) = shared("golden/golf/baseline_tiny.int8.ptz") else { return };
    let read = GolfArtifact::open(&path).unwrap();
    let beside = |name: &str| path.with_file_name(format!("baseline_tiny{name}"));
    let tensors = |name: &str| SafeTensors::open(beside(name)).unwrap().tensors;

    // What was read is written byte for byte, and what zlib wrote is what was read.
    let golden = std::fs::read(beside(".int8.raw.pt")).unwrap();
    assert!(read.to_torch().unwrap() == golden, "other bytes than PyTorch's");
    let mut expanded = Vec::new();
    ZlibDecoder::new(&read.to_bytes().unwrap()[..]).read_to_end(&mut expanded).unwrap();
    assert!(expanded == golden);

    let parts = tensors("_quant_parts.safetensors");
    let dequantized = tensors("_dequant.safetensors");
    let check = |artifact: &GolfArtifact| {
        let mut count = 0;
        for (name, tensor) in &artifact.tensors {
            match tensor {
                ArtifactTensor::Quantized { data, scale, .. } => {
                    let off =
                        data.to_f32_vec().into_iter().zip(parts[&format!("q.{name}")].to_f32_vec());
                    let off = off.filter(|(a, b)| a != b).count();
                    assert_eq!(off, 0, "{off} numbers of {name} are others");
                    assert_eq!(scale, &parts[&format!("s.{name}")], "{name}");
                    count += 2;
                }
                ArtifactTensor::Plain { tensor, .. } => {
                    assert_eq!(tensor, &parts[&format!("p.{name}")], "{name}");
                    count += 1;
                }
            }
            assert_eq!(tensor.dequantize(), dequantized[name], "{name}");
        }
        assert_eq!(count, parts.len());
    };
    check(&read);

    // Made anew from the weights: the same numbers, and the same bytes but for the number that
    // tells files apart and the checksums of it.
    let weights = tensors("_fp32.safetensors");
    let blocks = (0..2).flat_map(|layer| {
        let parts = [
            "attn_scale",
            "mlp_scale",
            "resid_mix",
            "attn.q_gain",
            "attn.c_q.weight",
            "attn.c_k.weight",
            "attn.c_v.weight",
            "attn.proj.weight",
            "mlp.fc.weight",
            "mlp.proj.weight",
        ];
        parts.map(|part| format!("blocks.{layer}.{part}"))
    });
    let names: Vec<String> = ["tok_emb.weight".to_owned(), "skip_weights".to_owned()]
        .into_iter()
        .chain(blocks)
        .collect();
    let made = GolfArtifact::of(names.iter().map(|name| (&**name, &weights[name]))).unwrap();
    check(&made);
    let written = made.to_torch().unwrap();
    assert_eq!(written.len(), golden.len());
    let serial = b"archive/.data/serialization_id";
    let at = golden.windows(serial.len()).position(|w| w == serial).unwrap();
    assert!(written[..at] == golden[..at], "other bytes before the number");
    let differing = written.iter().zip(&golden).filter(|(a, b)| a != b).count();
    assert!(differing <= 40 + 4 + 4, "{differing} bytes differ");
}
