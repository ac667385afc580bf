//! Weight files: exact bytes, real files, and damaged ones.

use crate::support::{Random, mil_files, shared};
use orion_mil::blob::{BlobErrorKind as Kind, BlobFile, load_weights, write_blob_file};
use orion_mil::text::parse;
use orion_mil::{Program, Weights};
use orion_tensor::{Bytes, DType, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILE: &str = "@model_path/weights/weight.bin";

const STORABLE: [DType; 17] = [
    DType::F16,
    DType::F32,
    DType::U8,
    DType::I8,
    DType::BF16,
    DType::I16,
    DType::U16,
    DType::I4,
    DType::U1,
    DType::U2,
    DType::U4,
    DType::U3,
    DType::U6,
    DType::I32,
    DType::U32,
    DType::F8E4M3FN,
    DType::F8E5M2,
];

/// A tensor of random bits that its element type can hold.
fn random_tensor(dtype: DType, count: usize, random: &mut Random) -> Tensor {
    let mut byte = || match dtype {
        DType::I4 => ((random.next() << 4) as u8 as i8 >> 4) as u8,
        _ if dtype.is_sub_byte() => random.next() as u8 & ((1u16 << dtype.bits()) - 1) as u8,
        _ => random.next() as u8,
    };
    let bytes: Vec<u8> = (0..count * dtype.size_bytes()).map(|_| byte()).collect();
    Tensor::new(dtype, vec![count], Bytes::from_elements(&bytes)).unwrap()
}

fn written(tensors: &BTreeMap<u64, Tensor>) -> Vec<u8> {
    let mut out = Vec::new();
    write_blob_file(tensors, &mut out).unwrap();
    out
}

fn opened(bytes: Vec<u8>) -> BlobFile {
    BlobFile::new(Bytes::new(bytes)).unwrap()
}

#[test]
fn bytes_are_those_of_the_format() {
    let mut weights = Weights::new();
    let first = weights.append(FILE, Tensor::from_slice(&[3], &[1u8, 2, 3]));
    let nibbles = Tensor::new(DType::I4, vec![3], Bytes::new(vec![1u8, 0xf8, 7])).unwrap();
    let second = weights.append(FILE, nibbles);
    assert_eq!((first, second), (64, 192));
    let bytes = written(weights.files().next().unwrap().1);

    let mut expected = vec![0; 192 + 64 + 2];
    expected[0] = 2;
    expected[4] = 2;
    expected[64..72].copy_from_slice(&[0xef, 0xbe, 0xad, 0xde, 3, 0, 0, 0]);
    expected[72] = 3;
    expected[80] = 128;
    expected[128..131].copy_from_slice(&[1, 2, 3]);
    expected[192..200].copy_from_slice(&[0xef, 0xbe, 0xad, 0xde, 8, 0, 0, 0]);
    expected[200] = 2;
    expected[209] = 1; // 256, little-endian
    expected[216] = 4; // unused bits of the last byte
    expected[256..258].copy_from_slice(&[0x81, 0x07]);
    assert_eq!(bytes, expected);
}

#[test]
fn every_type_survives_at_the_offsets_given() {
    let mut random = Random::new(3);
    for round in 0..50 {
        let mut weights = Weights::new();
        let mut offsets = Vec::new();
        for _ in 0..random.below(6) {
            let dtype = STORABLE[random.below(STORABLE.len())];
            let count = if round % 5 == 0 { 0 } else { random.below(200) };
            offsets.push(weights.append(FILE, random_tensor(dtype, count, &mut random)));
        }
        let Some((_, tensors)) = weights.files().next() else { continue };
        let file = opened(written(tensors));
        let listed: Vec<u64> = file.list().unwrap().iter().map(|e| e.offset).collect();
        assert_eq!(listed, offsets);
        for (&offset, tensor) in tensors {
            assert_eq!(file.tensor_at(offset).unwrap(), *tensor);
        }
    }
}

#[test]
fn tensors_share_the_storage_of_the_file() {
    let tensors = BTreeMap::from([(64, Tensor::from_slice(&[4], &[1.0f32, 2.0, 3.0, 4.0]))]);
    let bytes = Bytes::new(written(&tensors));
    let tensor = BlobFile::new(bytes.clone()).unwrap().tensor_at(64).unwrap();
    assert!(tensor.bytes().is_same(&bytes.slice(128..144).unwrap()));
}

#[test]
fn gaps_are_filled_so_that_the_file_can_be_listed() {
    let tensors = BTreeMap::from([
        (128, Tensor::from_slice(&[1], &[1i32])),
        (1024, Tensor::from_slice(&[1], &[2i32])),
    ]);
    let file = opened(written(&tensors));
    let listed = file.list().unwrap();
    let entries: Vec<_> = listed.iter().map(|e| (e.offset, e.dtype, e.element_count)).collect();
    assert_eq!(
        entries,
        [(64, DType::U8, 0), (128, DType::I32, 1), (256, DType::U8, 704), (1024, DType::I32, 1)]
    );
    assert_eq!(file.tensor_at(1024).unwrap(), tensors[&1024]);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let one = || Tensor::from_slice(&[1], &[1i32]);
    let refused = |tensors: BTreeMap<u64, Tensor>, message: &str| {
        let error = write_blob_file(&tensors, Vec::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::NotRepresentable);
        assert_eq!(error.to_string(), format!("cannot be written to a weight file: {message}"));
    };
    refused(BTreeMap::from([(65, one())]), "the offset is no multiple of 64 (at byte 65)");
    refused(
        BTreeMap::from([(0, one())]),
        "the blob before it, or the header, ends at byte 64 (at byte 0)",
    );
    refused(
        BTreeMap::from([(64, one()), (128, one())]),
        "the blob before it, or the header, ends at byte 192 (at byte 128)",
    );
    refused(
        BTreeMap::from([(64, Tensor::from_slice(&[1], &[1i64]))]),
        "the format has no number for int64 (at byte 64)",
    );
}

/// A file with one uint4 blob of 5 elements.
fn nibbles() -> Vec<u8> {
    let tensor = Tensor::new(DType::U4, vec![5], Bytes::new(vec![1u8, 2, 3, 4, 5])).unwrap();
    written(&BTreeMap::from([(64, tensor)]))
}

#[test]
fn damage_is_named_with_its_place() {
    let refused = |change: &dyn Fn(&mut Vec<u8>), offset: u64, kind: Kind, message: &str| {
        let mut bytes = nibbles();
        change(&mut bytes);
        let result = BlobFile::new(Bytes::new(bytes)).and_then(|file| file.tensor_at(offset));
        let error = result.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.to_string(), message);
    };
    use Kind::*;
    refused(
        &|b| b.truncate(63),
        64,
        Truncated,
        "the weight file is truncated: a header takes 64 bytes, found 63",
    );
    refused(
        &|b| b[4] = 1,
        64,
        WrongFormat,
        "not a weight file: expected blob storage version 2, found 1 (at byte 4)",
    );
    refused(
        &|_| (),
        0,
        NoBlob,
        "no blob there: the first blob is at byte 64 at the earliest (at byte 0)",
    );
    refused(
        &|_| (),
        u64::MAX,
        Truncated,
        "the weight file is truncated: expected 64 bytes of metadata, the file has 131 \
         (at byte 18446744073709551615)",
    );
    refused(
        &|_| (),
        65,
        NoBlob,
        "no blob there: expected the mark 0xdeadbeef, found 0x0bdeadbe (at byte 65)",
    );
    refused(
        &|b| b[68] = 18,
        64,
        Malformed,
        "the weight file is malformed: expected an element type from 1 to 17, found 18 \
         (at byte 68)",
    );
    refused(
        &|b| b.truncate(130),
        64,
        Truncated,
        "the weight file is truncated: expected 3 bytes of data from byte 128 on, the file has \
         130 (at byte 72)",
    );
    refused(
        &|b| b[80..88].fill(0xff),
        64,
        Truncated,
        "the weight file is truncated: expected 3 bytes of data from byte 18446744073709551615 \
         on, the file has 131 (at byte 72)",
    );
    refused(
        &|b| b[88] = 8,
        64,
        Malformed,
        "the weight file is malformed: expected less than a byte of padding, found 8 bits \
         (at byte 88)",
    );
    refused(
        &|b| b[88] = 3,
        64,
        Malformed,
        "the weight file is malformed: 21 bits are no whole number of uint4 elements (at byte 88)",
    );
    refused(
        &|b| b[68] = 2,
        64,
        Malformed,
        "the weight file is malformed: expected fp32 elements of 4 bytes, found 3 bytes \
         (at byte 72)",
    );
}

#[test]
fn garbage_in_fields_nobody_uses_is_ignored() {
    let tensor = Tensor::from_slice(&[2], &[1.5f32, -2.0]);
    let mut bytes = written(&BTreeMap::from([(64, tensor.clone())]));
    bytes[8..64].fill(0xaa);
    bytes[88..128].fill(0xaa);
    let file = opened(bytes);
    assert_eq!(file.tensor_at(64).unwrap(), tensor);
    assert_eq!(file.list().unwrap().len(), 1);
}

#[test]
fn listing_ends_whatever_the_header_says() {
    let mut bytes = nibbles();
    bytes[..4].fill(0xff);
    assert_eq!(opened(bytes.clone()).list().unwrap_err().kind(), Kind::Truncated);
    // Data that lies before its metadata would send the walk back.
    bytes[80] = 0;
    let error = opened(bytes).list().unwrap_err();
    assert_eq!(error.kind(), Kind::Malformed, "{error}");
}

#[test]
fn truncation_and_mutation_never_panic() {
    let mut random = Random::new(9);
    let mut weights = Weights::new();
    for dtype in STORABLE {
        weights.append(FILE, random_tensor(dtype, 11, &mut random));
    }
    let original = written(weights.files().next().unwrap().1);
    let all: Vec<u64> = opened(original.clone()).list().unwrap().iter().map(|e| e.offset).collect();
    let mut survivors = 0;
    for _ in 0..3000 {
        let mut bytes = original.clone();
        for _ in 0..1 + random.below(4) {
            let at = 64 * random.below(bytes.len() / 64) + random.below(32);
            if at < bytes.len() {
                bytes[at] = if random.below(2) == 0 { 0xff } else { random.next() as u8 };
            }
        }
        if random.below(2) == 0 {
            bytes.truncate(random.below(bytes.len() + 1));
        }
        let length = bytes.len();
        let Ok(file) = BlobFile::new(Bytes::new(bytes)) else { continue };
        let _ = file.list();
        for offset in &all {
            if let Ok(tensor) = file.tensor_at(*offset) {
                survivors += 1;
                assert!(tensor.element_count() <= length * 8);
            }
        }
    }
    assert!(survivors > 1000, "only {survivors} blobs survive: the test looks at too little");
}

fn program(constants: &str) -> Program {
    parse(&format!(
        "program(1.3)\n{{\n    func main<ios18>() {{\n{constants}\n        }} -> ();\n}}"
    ))
    .unwrap()
}

fn constant(name: &str, ty: &str, offset: u64) -> String {
    format!(
        "{ty} {name} = const()[val = {ty}(BLOBFILE(path = string(\"{FILE}\"), offset = \
         uint64({offset})))];"
    )
}

#[test]
fn a_program_gets_the_blobs_it_names() {
    let bytes = Bytes::new(nibbles());
    let twice =
        constant("a", "tensor<uint4, [5]>", 64) + &constant("b", "tensor<uint4, [5, 1]>", 64);
    let mut opened = 0;
    let weights = load_weights(&program(&twice), |file| {
        assert_eq!(file, FILE);
        opened += 1;
        Ok(bytes.clone())
    })
    .unwrap();
    assert_eq!(opened, 1);
    assert_eq!(weights.get(FILE, 64).unwrap().bytes()[..], [1, 2, 3, 4, 5]);

    let refused = |ty: &str, offset: u64| {
        let program = program(&constant("w", ty, offset));
        load_weights(&program, |_| Ok(bytes.clone())).unwrap_err()
    };
    let error = refused("tensor<uint4, [6]>", 64);
    assert_eq!(error.kind(), Kind::Mismatch);
    assert_eq!(
        error.to_string(),
        "@model_path/weights/weight.bin: weights of `w`: the blob is not what the program says: \
         it holds 5 uint4 elements, the program says tensor<uint4, [6]> (at byte 64)"
    );
    assert_eq!(refused("tensor<uint8, [5]>", 64).kind(), Kind::Mismatch);
    assert_eq!(refused("tensor<uint4, [?]>", 64).kind(), Kind::Mismatch);
    let error = refused("tensor<uint4, [5]>", 128);
    assert_eq!((error.value(), error.offset()), (Some("w"), Some(128)));

    let error = load_weights(&program(&twice), |_| Err(std::io::Error::other("gone"))).unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert_eq!((error.value(), error.file()), (Some("a"), Some(FILE)));
}

#[test]
fn blobs_over_each_other_do_not_multiply() {
    // Every blob's data is the whole file: unpacked, far more than the file could hold.
    let count = 200;
    let mut bytes = vec![0u8; 64 + 64 * count];
    bytes[4] = 2;
    let size = bytes.len() as u64;
    let mut constants = String::new();
    for i in 0..count {
        let at = 64 + 64 * i;
        bytes[at..at + 8].copy_from_slice(&[0xef, 0xbe, 0xad, 0xde, 9, 0, 0, 0]);
        bytes[at + 8..at + 16].copy_from_slice(&size.to_le_bytes());
        constants +=
            &constant(&format!("w{i}"), &format!("tensor<uint1, [{}]>", size * 8), at as u64);
    }
    let error = load_weights(&program(&constants), |_| Ok(Bytes::new(bytes.clone()))).unwrap_err();
    assert_eq!((error.kind(), error.value()), (Kind::Malformed, Some("w1")));
}

fn weight_file(package: &Path) -> PathBuf {
    package.join("Data/com.apple.CoreML/weights/weight.bin")
}

#[test]
fn real_weight_files_can_be_read_and_written() {
    let Some(shared) = shared("real_weight_files_can_be_read_and_written") else { return };
    let synthetic = shared.join("mil/synthetic");
    let mut same = 0;
    for (name, text) in mil_files(&synthetic) {
        let package = synthetic.join(name.replace(".mil", ".mlpackage"));
        let Ok(bytes) = std::fs::read(weight_file(&package)) else { continue };
        let program = parse(&text).unwrap();
        let bytes = Bytes::new(bytes);
        let weights =
            load_weights(&program, |_| Ok(bytes.clone())).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (_, tensors) = weights.files().next().expect("a file");
        assert_eq!(BlobFile::new(bytes.clone()).unwrap().list().unwrap().len(), tensors.len());
        assert!(written(tensors)[..] == bytes[..], "{name}: written back, it differs");
        same += 1;
    }
    assert!(same >= 7, "only {same} weight files");

    // Written by older tools, with garbage in the fields that nobody uses.
    let bundles = std::fs::read_dir(shared.join("mil/bundles")).unwrap();
    let mut listed = 0;
    for package in bundles.map(|e| e.unwrap().path()) {
        let Ok(bytes) = std::fs::read(weight_file(&package)) else { continue };
        let file = opened(bytes);
        let entries = file.list().unwrap_or_else(|e| panic!("{}: {e}", package.display()));
        assert_eq!(entries.len(), file.declared_count() as usize);
        entries.iter().for_each(|e| drop(file.tensor_at(e.offset).unwrap()));
        listed += entries.len();
    }
    assert!(listed > 20, "only {listed} blobs");
}
