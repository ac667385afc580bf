//! What only shows in the messages themselves.

use super::model_messages::ModelKind;
use super::program_messages as message;
use super::{decode, literal, read, write};
use crate::{Dialect, Value};
use orion_tensor::{Bytes, DType, Tensor};
use prost::Message;
use std::path::{Path, PathBuf};

#[expect(clippy::print_stderr, reason = "a test that looks at nothing must not look like a pass")]
fn shared(test: &str) -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("ORION_SHARED").map_or_else(default, PathBuf::from).join("mil");
    let present = folder.is_dir();
    if !present {
        eprintln!("SKIPPED: {test}: no reference files at {}", folder.display());
    }
    present.then_some(folder)
}

fn models(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            models(&path, found);
        } else if path.extension().is_some_and(|e| e == "mlmodel") {
            found.push(path);
        }
    }
}

/// Nothing of the program part of a real model is lost: the messages written from the program are
/// those that were read. Compared as bytes, since a NaN differs from itself.
#[test]
fn real_messages_come_back() {
    let Some(folder) = shared("real_messages_come_back") else { return };
    let mut files = Vec::new();
    models(&folder, &mut files);
    assert!(files.len() >= 30, "only {} models", files.len());
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        let program = match decode(&bytes).unwrap().kind {
            Some(ModelKind::MlProgram(program)) => program,
            Some(ModelKind::Pipeline(pipeline)) => {
                match decode(&pipeline.models[0]).unwrap().kind {
                    Some(ModelKind::MlProgram(program)) => program,
                    _ => panic!("{}: no program", path.display()),
                }
            }
            _ => panic!("{}: no program", path.display()),
        };
        let read = read::read_program(&program, Dialect::V1_3).unwrap();
        let written = write::write_program(&read).unwrap();
        for (name, function) in &program.functions {
            let again = &written.functions[name];
            for (opset, block) in &function.block_specializations {
                let operations =
                    block.operations.iter().zip(&again.block_specializations[opset].operations);
                for (a, b) in operations {
                    assert!(
                        a.encode_to_vec() == b.encode_to_vec(),
                        "{}: {a:?}\n{b:?}",
                        path.display()
                    );
                }
            }
        }
        assert!(written.encode_to_vec() == program.encode_to_vec(), "{}", path.display());
    }
}

fn value(ty: &message::ValueType, kind: message::TensorValueKind) -> message::Value {
    let tensor = message::TensorValue { value: Some(kind) };
    let immediate = message::ImmediateValue { value: Some(message::ImmediateKind::Tensor(tensor)) };
    message::Value {
        doc_string: String::new(),
        r#type: Some(ty.clone()),
        value: Some(message::ValueKind::Immediate(immediate)),
    }
}

/// Which field holds the elements of a type, and that it holds them as the format says.
#[test]
fn every_element_type_has_its_field() {
    use message::TensorValueKind as Field;
    for dtype in DType::all().filter(|d| *d != DType::String) {
        let width = dtype.size_bytes();
        // Three elements, the last of them with every bit set that it can have.
        let mut bytes = vec![0u8; 3 * width];
        bytes[0] = 1;
        let top = if dtype == DType::Bool { 1 } else { u8::MAX >> (8 - dtype.bits().min(8)) };
        let top = if dtype == DType::I4 { u8::MAX } else { top };
        bytes[2 * width..].fill(top);
        let tensor = Tensor::new(dtype, vec![3], Bytes::from_elements(&bytes)).unwrap();
        let original = Value::tensor(tensor);
        let written = literal::write_value(&original).unwrap();
        let Some(message::ValueKind::Immediate(immediate)) = &written.value else { panic!() };
        let Some(message::ImmediateKind::Tensor(tensor)) = &immediate.value else { panic!() };
        let packed_bytes = match tensor.value.as_ref().unwrap() {
            Field::Floats(_) => (dtype == DType::F32).then_some(12),
            Field::Doubles(_) => (dtype == DType::F64).then_some(24),
            Field::Bools(v) => (v.values == [true, false, true]).then_some(3),
            Field::Ints(v) => {
                let is_right = matches!(dtype, DType::I16 | DType::U16 | DType::I32)
                    && v.values[2] == if dtype == DType::U16 { 65535 } else { -1 };
                is_right.then_some(3 * width)
            }
            Field::LongInts(v) => (v.values == [1, 0, -1]).then_some(24),
            Field::Bytes(v) => {
                assert_eq!(v.values[0] & 1, 1, "{dtype}: the first element lies lowest");
                assert!(!matches!(dtype, DType::I16 | DType::U16), "{dtype}");
                Some(v.values.len())
            }
            Field::Strings(_) => None,
        };
        let expected = if dtype.is_sub_byte() { (3 * dtype.bits()).div_ceil(8) } else { 3 * width };
        assert_eq!(packed_bytes, Some(expected), "{dtype}");
        assert_eq!(literal::read_value(&written).unwrap(), original, "{dtype}");
    }
}

#[test]
fn literals_that_are_not_what_their_type_says_are_refused() {
    use message::TensorValueKind as Field;
    let ty = |dtype, shape: &[usize]| {
        super::types::write_type(&crate::Type::tensor(dtype, shape)).unwrap()
    };
    let bytes = |values: &[u8]| Field::Bytes(message::RepeatedBytes { values: values.to_vec() });
    let ints = |values: &[i32]| Field::Ints(message::RepeatedInts { values: values.to_vec() });
    for (dtype, shape, field, part) in [
        (DType::F16, &[2][..], bytes(&[0; 5]), "expected 4 bytes of fp16, found 5"),
        (DType::U3, &[3], bytes(&[0]), "expected 2 bytes of uint3, found 1"),
        (DType::U8, &[1], ints(&[256]), "256 is out of range for uint8"),
        (DType::U8, &[1], ints(&[-1]), "-1 is out of range for uint8"),
        (DType::F16, &[1], ints(&[1]), "elements of fp16 as integers"),
        (DType::I32, &[2], ints(&[1]), "1 elements for type tensor<int32, [2]>"),
        (DType::I32, &[], ints(&[]), "0 elements for type int32"),
        (DType::Bool, &[1], bytes(&[2]), "neither 0 nor 1"),
        (DType::F32, &[1 << 40], bytes(&[0]), "bytes of fp32, found 1"),
        (DType::String, &[1], bytes(&[0]), "strings as bytes"),
    ] {
        let error = literal::read_value(&value(&ty(dtype, shape), field)).unwrap_err().to_string();
        assert!(error.contains(part), "{dtype}{shape:?}: {error}");
    }
    // Other fields than the usual ones are read, when they hold the type.
    for (dtype, field) in [(DType::U8, ints(&[200])), (DType::U16, bytes(&[200, 0]))] {
        let read = literal::read_value(&value(&ty(dtype, &[1]), field)).unwrap();
        assert_eq!(read.as_int(), Some(200));
    }
}
