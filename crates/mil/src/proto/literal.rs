//! Literals of a program, in both directions.
//!
//! Numbers are stored in one of seven fields, by element type. Those that have no field of their
//! own are packed into bytes, as in a weight file.

use super::error::{ProtoError, ProtoErrorKind as Kind};
use super::program_messages as message;
use super::types::{read_type, write_type};
use crate::blob::{pack, unpack};
use crate::{Data, Dim, TensorType, Type, Value};
use message::{ImmediateKind, TensorValueKind, ValueKind};
use orion_tensor::{Bytes, DType, Tensor};

type Read<T> = Result<T, ProtoError>;

fn wrong(detail: impl Into<String>) -> ProtoError {
    ProtoError::new(Kind::WrongLiteral, detail)
}

pub(super) fn read_value(value: &message::Value) -> Read<Value> {
    let ty = read_type(value.r#type.as_ref())?;
    let data = read_data(value, &ty)?;
    Ok(Value { ty, data })
}

fn read_data(value: &message::Value, ty: &Type) -> Read<Data> {
    let immediate = match &value.value {
        Some(ValueKind::BlobFile(blob)) => {
            if ty.as_tensor().is_none_or(|t| t.dtype == DType::String) {
                return Err(wrong(format!("a blob file cannot hold a value of type {ty}")));
            }
            return Ok(Data::Blob { file: blob.file_name.clone(), offset: blob.offset });
        }
        Some(ValueKind::Immediate(immediate)) => immediate.value.as_ref(),
        None => None,
    };
    match (ty, immediate) {
        (Type::Tensor(t), Some(ImmediateKind::Tensor(v))) => read_tensor(t, v.value.as_ref()),
        (Type::List { element, length }, Some(ImmediateKind::List(list))) => {
            let found = list.values.len();
            if let Dim::Known(n) = length
                && *n != found
            {
                return Err(wrong(format!("the type says {n} elements, the list has {found}")));
            }
            let items = list.values.iter().map(|item| read_element(item, element));
            items.collect::<Read<_>>().map(Data::List)
        }
        (Type::Tuple(types), Some(ImmediateKind::Tuple(tuple))) => {
            let (wanted, found) = (types.len(), tuple.values.len());
            if wanted != found {
                return Err(wrong(format!("the type says {wanted} items, the tuple has {found}")));
            }
            let items = tuple.values.iter().zip(types).map(|(item, ty)| read_element(item, ty));
            items.collect::<Read<_>>().map(Data::Tuple)
        }
        (Type::Dict(key, value), Some(ImmediateKind::Dictionary(dict))) => {
            let missing = || wrong("a pair without a key or a value");
            let pairs = dict.values.iter().map(|pair| {
                let left = read_element(pair.key.as_ref().ok_or_else(missing)?, key)?;
                let right = read_element(pair.value.as_ref().ok_or_else(missing)?, value)?;
                Ok((left, right))
            });
            pairs.collect::<Read<_>>().map(Data::Dict)
        }
        _ => Err(wrong(format!("there is no literal of type {ty}"))),
    }
}

/// An element of a list, tuple or dictionary. Each has its type with it, and text does not say it
/// again.
fn read_element(value: &message::Value, ty: &Type) -> Read<Value> {
    let element = read_value(value)?;
    if element.ty != *ty {
        return Err(wrong(format!("expected an element of type {ty}, found {}", element.ty)));
    }
    Ok(element)
}

fn read_tensor(ty: &TensorType, value: Option<&TensorValueKind>) -> Read<Data> {
    let dtype = ty.dtype;
    // Packed bytes do not tell how many elements they hold: unknown sizes there cannot be found.
    let unexpected = |field: &str| Err(wrong(format!("elements of {dtype} as {field}")));
    let bytes = match value {
        None if dtype == DType::String => return sized(ty, 0).map(|_| Data::Strings(Vec::new())),
        None => Bytes::new(Vec::new()),
        Some(TensorValueKind::Strings(v)) if dtype == DType::String => {
            return sized(ty, v.values.len()).map(|_| Data::Strings(v.values.clone()));
        }
        Some(TensorValueKind::Floats(v)) if dtype == DType::F32 => Bytes::from_elements(&v.values),
        Some(TensorValueKind::Doubles(v)) if dtype == DType::F64 => Bytes::from_elements(&v.values),
        Some(TensorValueKind::Bools(v)) if dtype == DType::Bool => {
            let bytes: Vec<u8> = v.values.iter().map(|&b| u8::from(b)).collect();
            Bytes::from_elements(&bytes)
        }
        Some(TensorValueKind::Ints(v)) => {
            read_integers(dtype, v.values.iter().map(|&v| i128::from(v)))?
        }
        // Signed in the format; large unsigned numbers wrap around.
        Some(TensorValueKind::LongInts(v)) if dtype == DType::U64 => {
            Bytes::from_elements(&v.values)
        }
        Some(TensorValueKind::LongInts(v)) => {
            read_integers(dtype, v.values.iter().map(|&v| i128::from(v)))?
        }
        Some(TensorValueKind::Bytes(v)) => return read_packed(ty, &v.values),
        Some(TensorValueKind::Floats(_)) => return unexpected("fp32 numbers"),
        Some(TensorValueKind::Doubles(_)) => return unexpected("fp64 numbers"),
        Some(TensorValueKind::Bools(_)) => return unexpected("bools"),
        Some(TensorValueKind::Strings(_)) => return unexpected("strings"),
    };
    let count = bytes.len() / dtype.size_bytes();
    tensor(ty, count, bytes)
}

fn tensor(ty: &TensorType, count: usize, bytes: Bytes) -> Read<Data> {
    let shape = sized(ty, count)?;
    let tensor = Tensor::new(ty.dtype, shape, bytes);
    Ok(Data::Tensor(tensor.expect("as many elements as were counted")))
}

fn read_integers(dtype: DType, values: impl Iterator<Item = i128>) -> Read<Bytes> {
    if !dtype.is_int() {
        return Err(wrong(format!("elements of {dtype} as integers")));
    }
    let bits = dtype.bits();
    let range = if dtype.is_signed_int() {
        -(1i128 << (bits - 1))..1i128 << (bits - 1)
    } else {
        0..1i128 << bits
    };
    let mut bytes = Vec::with_capacity(values.size_hint().0 * dtype.size_bytes());
    for value in values {
        if !range.contains(&value) {
            return Err(wrong(format!("{value} is out of range for {dtype}")));
        }
        bytes.extend_from_slice(&value.to_le_bytes()[..dtype.size_bytes()]);
    }
    Ok(Bytes::from_elements(&bytes))
}

/// Elements as they lie in a weight file.
fn read_packed(ty: &TensorType, bytes: &[u8]) -> Read<Data> {
    let dtype = ty.dtype;
    if dtype == DType::String {
        return Err(wrong("strings as bytes"));
    }
    let count = match ty.element_count() {
        Some(count) => count,
        None if dtype.is_sub_byte() => {
            let detail = format!("packed {dtype} elements of a size that is not known");
            return Err(ProtoError::new(Kind::Unsupported, detail));
        }
        None => bytes.len() / dtype.size_bytes(),
    };
    // The type has been checked: no shape with all sizes known overflows here.
    let expected = dtype.packed_bytes(count);
    if bytes.len() != expected {
        let found = bytes.len();
        return Err(wrong(format!("expected {expected} bytes of {dtype}, found {found}")));
    }
    if dtype == DType::Bool && bytes.iter().any(|&b| b > 1) {
        return Err(wrong("a bool that is neither 0 nor 1"));
    }
    let elements =
        if dtype.is_sub_byte() { unpack(dtype, bytes, count) } else { Bytes::from_elements(bytes) };
    tensor(ty, count, elements)
}

/// The shape of so many elements: the type's, with an unknown size found from the count. Without
/// elements, every unknown size is 0.
fn sized(ty: &TensorType, count: usize) -> Read<Vec<usize>> {
    let unknown = ty.dims.iter().filter(|d| **d == Dim::Unknown).count();
    let size = |d: &Dim| if let Dim::Known(n) = d { *n } else { 0 };
    let known: usize = ty.dims.iter().filter(|d| **d != Dim::Unknown).map(size).product();
    let missing = match unknown {
        1 if known > 0 => count / known,
        _ => 0,
    };
    let size = |d: &Dim| if let Dim::Known(n) = d { *n } else { missing };
    let shape: Vec<usize> = ty.dims.iter().map(size).collect();
    if shape.iter().product::<usize>() == count {
        return Ok(shape);
    }
    if unknown > 1 {
        let detail = format!("a literal of type {}", Type::Tensor(ty.clone()));
        return Err(ProtoError::new(Kind::Unsupported, detail));
    }
    Err(wrong(format!("{count} elements for type {}", Type::Tensor(ty.clone()))))
}

pub(super) fn write_value(value: &Value) -> Result<message::Value, ProtoError> {
    let immediate = |kind| ValueKind::Immediate(message::ImmediateValue { value: Some(kind) });
    let sequence = |items: &[Value]| {
        let values = items.iter().map(write_value).collect::<Result<_, _>>()?;
        Ok::<_, ProtoError>(message::ValueSequence { values })
    };
    let data = match &value.data {
        Data::Blob { file, offset } => {
            ValueKind::BlobFile(message::BlobFileValue { file_name: file.clone(), offset: *offset })
        }
        Data::Tensor(tensor) => {
            check_unknown_sizes(&value.ty, tensor.element_count(), tensor.dtype().is_sub_byte())?;
            immediate(ImmediateKind::Tensor(message::TensorValue {
                value: Some(write_tensor(tensor)),
            }))
        }
        Data::Strings(strings) => {
            check_unknown_sizes(&value.ty, strings.len(), false)?;
            let strings = message::RepeatedStrings { values: strings.clone() };
            immediate(ImmediateKind::Tensor(message::TensorValue {
                value: Some(TensorValueKind::Strings(strings)),
            }))
        }
        Data::List(items) => immediate(ImmediateKind::List(sequence(items)?)),
        Data::Tuple(items) => immediate(ImmediateKind::Tuple(sequence(items)?)),
        Data::Dict(pairs) => {
            let pair = |(key, value): &(Value, Value)| {
                let (key, value) = (Some(write_value(key)?), Some(write_value(value)?));
                Ok::<_, ProtoError>(message::KeyValuePair { key, value })
            };
            let values = pairs.iter().map(pair).collect::<Result<_, _>>()?;
            immediate(ImmediateKind::Dictionary(message::DictionaryValue { values }))
        }
    };
    Ok(message::Value {
        doc_string: String::new(),
        r#type: Some(write_type(&value.ty)?),
        value: Some(data),
    })
}

/// Refuses literals whose shape could not be found again from the number of elements.
fn check_unknown_sizes(ty: &Type, count: usize, is_packed: bool) -> Result<(), ProtoError> {
    let unknown = |t: &TensorType| t.dims.iter().filter(|d| **d == Dim::Unknown).count();
    let is_told = match ty.as_tensor().map(unknown) {
        None | Some(0) => true,
        Some(1) => !is_packed,
        Some(_) => count == 0 && !is_packed,
    };
    if is_told {
        return Ok(());
    }
    let detail = format!("a literal of type {ty}: its size would be forgotten");
    Err(ProtoError::new(Kind::NotRepresentable, detail))
}

fn write_tensor(tensor: &Tensor) -> TensorValueKind {
    let int = |values: Vec<i32>| TensorValueKind::Ints(message::RepeatedInts { values });
    let long = |values: Vec<i64>| TensorValueKind::LongInts(message::RepeatedLongInts { values });
    let packed = |values: Vec<u8>| TensorValueKind::Bytes(message::RepeatedBytes { values });
    match tensor.dtype() {
        DType::Bool => {
            let values = tensor.bytes().iter().map(|&b| b != 0).collect();
            TensorValueKind::Bools(message::RepeatedBools { values })
        }
        DType::F32 => TensorValueKind::Floats(message::RepeatedFloats {
            values: tensor.elements::<f32>().into_owned(),
        }),
        DType::F64 => TensorValueKind::Doubles(message::RepeatedDoubles {
            values: tensor.elements::<f64>().into_owned(),
        }),
        DType::I16 => int(tensor.elements::<i16>().iter().map(|&v| v.into()).collect()),
        DType::U16 => int(tensor.elements::<u16>().iter().map(|&v| v.into()).collect()),
        DType::I32 => int(tensor.elements::<i32>().into_owned()),
        DType::I64 => long(tensor.elements::<i64>().into_owned()),
        DType::U64 => long(tensor.elements::<u64>().iter().map(|&v| v as i64).collect()),
        DType::I4 | DType::U1 | DType::U2 | DType::U3 | DType::U4 | DType::U6 => {
            packed(pack(tensor))
        }
        DType::F16
        | DType::BF16
        | DType::F8E4M3FN
        | DType::F8E5M2
        | DType::I8
        | DType::U8
        | DType::U32 => packed(tensor.bytes().to_vec()),
        DType::String => unreachable!("a Tensor never holds strings"),
    }
}
