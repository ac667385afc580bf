use super::blocks::TensorKind;
use super::value::{Value, ValueKind};
use super::{DEFAULT_ALIGNMENT, Gguf, GgufTensor, MAGIC};
use crate::{Error, ErrorKind, Result};
use orion_tensor::Bytes;
use std::collections::BTreeMap;

/// More keys or tensors than this are a mistake.
const MAX_COUNT: u64 = 1 << 20;
/// Elements of all arrays together; bounds the memory that a file of small elements takes.
const MAX_ELEMENTS: u64 = 1 << 24;
/// Arrays inside arrays.
const MAX_DEPTH: u32 = 4;
/// Axes of a tensor; ggml has four.
const MAX_AXES: u32 = 8;

pub(super) fn parse(bytes: Bytes) -> Result<Gguf> {
    let mut cursor = Cursor { bytes: &bytes, at: 0, elements_left: MAX_ELEMENTS };
    let magic = cursor.array::<4>("the magic")?;
    if magic != MAGIC {
        let what = "a GGUF file starts with the letters GGUF";
        return Err(Error::new(ErrorKind::WrongFormat, what).at(0));
    }
    let version = cursor.u32("the version")?;
    if !matches!(version, 2 | 3) {
        let what = match version.swap_bytes() {
            2 | 3 => "this GGUF file is big-endian".to_owned(),
            _ => format!("this GGUF file is of version {version}; 2 and 3 are read"),
        };
        return Err(Error::new(ErrorKind::Unsupported, what).at(4));
    }
    let tensor_count = cursor.count("tensors")?;
    let key_count = cursor.count("keys")?;
    let mut metadata = BTreeMap::new();
    for index in 0..key_count {
        let at = cursor.at;
        let key = cursor.text(&format!("key {index}"))?;
        let number = cursor.u32(&format!("the type of key `{key}`"))?;
        let value = cursor.value(number, &format!("key `{key}`"), MAX_DEPTH)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(malformed(format!("key `{key}` is there twice"), at));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(value) => value
            .as_unsigned()
            .filter(|&n| n.is_power_of_two() && n <= 1 << 20)
            .ok_or_else(|| malformed("key `general.alignment` is no power of two".to_owned(), 0))?,
    };
    let mut infos = Vec::new();
    for index in 0..tensor_count {
        infos.push(Info::read(&mut cursor, index)?);
    }
    let data_start = (cursor.at as u64).next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for info in infos {
        let (name, tensor) = info.locate(&bytes, data_start, alignment)?;
        if tensors.insert(name.clone(), tensor).is_some() {
            let what = format!("tensor `{name}` is there twice");
            return Err(Error::new(ErrorKind::Malformed, what));
        }
    }
    Ok(Gguf { metadata, tensors })
}

fn malformed(what: String, at: usize) -> Error {
    Error::new(ErrorKind::Malformed, what).at(at as u64)
}

/// What the file says about a tensor before its data.
struct Info {
    name: String,
    kind: TensorKind,
    shape: Vec<usize>,
    elements: u64,
    offset: u64,
    /// Of the entry in the file.
    at: usize,
}

impl Info {
    fn read(cursor: &mut Cursor<'_>, index: u64) -> Result<Self> {
        let at = cursor.at;
        let name = cursor.text(&format!("the name of tensor {index}"))?;
        let axes = cursor.u32(&format!("the number of axes of tensor `{name}`"))?;
        if axes > MAX_AXES {
            return Err(malformed(format!("tensor `{name}` has {axes} axes"), at));
        }
        let mut shape = Vec::with_capacity(axes as usize);
        let mut elements = 1u64;
        for _ in 0..axes {
            let size = cursor.u64(&format!("the shape of tensor `{name}`"))?;
            elements = elements.checked_mul(size).filter(|_| size > 0).ok_or_else(|| {
                malformed(format!("tensor `{name}` has an axis of {size}, which no file holds"), at)
            })?;
            shape.push(usize::try_from(size).unwrap_or(usize::MAX));
        }
        // The file has the axis whose elements lie side by side first.
        shape.reverse();
        let number = cursor.u32(&format!("the kind of tensor `{name}`"))?;
        let kind = TensorKind::from_number(number).ok_or_else(|| {
            let what = match TensorKind::name_of(number) {
                Some(kind) => format!("tensor `{name}` is {kind}"),
                None => format!("tensor `{name}` is of the unknown kind {number}"),
            };
            let known = TensorKind::ALL.map(TensorKind::name).join(", ");
            Error::new(ErrorKind::Unsupported, what)
                .at(at as u64)
                .hint(format!("{known} are read; convert the file with llama.cpp's tools"))
        })?;
        let offset = cursor.u64(&format!("the offset of tensor `{name}`"))?;
        Ok(Self { name, kind, shape, elements, offset, at })
    }

    fn locate(
        self,
        bytes: &Bytes,
        data_start: u64,
        alignment: u64,
    ) -> Result<(String, GgufTensor)> {
        let Self { name, kind, shape, elements, offset, at } = self;
        let row = shape.last().map_or(1, |&n| n as u64);
        let block = kind.block_elements() as u64;
        if row % block != 0 {
            let what = format!(
                "tensor `{name}` is {}, whose blocks of {block} do not fill its rows of {row}",
                kind.name()
            );
            return Err(malformed(what, at));
        }
        if offset % alignment != 0 {
            let what =
                format!("tensor `{name}` starts at {offset}, not at a multiple of {alignment}");
            return Err(malformed(what, at));
        }
        let size = (elements / block).checked_mul(kind.block_bytes() as u64);
        let start = data_start.checked_add(offset);
        let end = start.zip(size).and_then(|(start, size)| start.checked_add(size));
        let range = start.zip(end).filter(|&(_, end)| end <= bytes.len() as u64);
        let Some((start, end)) = range else {
            let what = format!(
                "the data of tensor `{name}` ends behind the file, which has {} bytes",
                bytes.len()
            );
            return Err(Error::new(ErrorKind::Truncated, what).at(at as u64));
        };
        let bytes = bytes.slice(start as usize..end as usize).expect("the range was checked");
        Ok((name, GgufTensor { kind, shape, bytes }))
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    elements_left: u64,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or_else(|| {
            let what = format!("{what} takes {len} bytes, {} are left", rest.len());
            Error::new(ErrorKind::Truncated, what).at(self.at as u64)
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        Ok(self.take(N as u64, what)?.try_into().expect("as many as asked for"))
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &str) -> Result<u64> {
        let at = self.at;
        let count = self.u64(&format!("the number of {what}"))?;
        if count > MAX_COUNT {
            return Err(malformed(format!("there are {count} {what}, at most {MAX_COUNT}"), at));
        }
        Ok(count)
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let len = self.u64(&format!("the length of {what}"))?;
        let at = self.at;
        let bytes = self.take(len, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(e) => Err(malformed(format!("{what} is not UTF-8 text"), at + e.valid_up_to())),
        }
    }

    fn value(&mut self, number: u32, what: &str, depth: u32) -> Result<Value> {
        let at = self.at;
        let kind = ValueKind::from_number(number)
            .ok_or_else(|| malformed(format!("{what} is of the unknown type {number}"), at))?;
        Ok(match kind {
            ValueKind::U8 => Value::U8(self.array::<1>(what)?[0]),
            ValueKind::I8 => Value::I8(i8::from_le_bytes(self.array(what)?)),
            ValueKind::U16 => Value::U16(u16::from_le_bytes(self.array(what)?)),
            ValueKind::I16 => Value::I16(i16::from_le_bytes(self.array(what)?)),
            ValueKind::U32 => Value::U32(self.u32(what)?),
            ValueKind::I32 => Value::I32(i32::from_le_bytes(self.array(what)?)),
            ValueKind::F32 => Value::F32(f32::from_le_bytes(self.array(what)?)),
            ValueKind::U64 => Value::U64(self.u64(what)?),
            ValueKind::I64 => Value::I64(i64::from_le_bytes(self.array(what)?)),
            ValueKind::F64 => Value::F64(f64::from_le_bytes(self.array(what)?)),
            ValueKind::Bool => match self.array::<1>(what)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => {
                    return Err(malformed(format!("{what} is {other}, expected 0 or 1"), at));
                }
            },
            ValueKind::Text => Value::Text(self.text(what)?),
            ValueKind::Array => {
                let number = self.u32(&format!("the element type of {what}"))?;
                let element = ValueKind::from_number(number).ok_or_else(|| {
                    malformed(format!("{what} has elements of the unknown type {number}"), at)
                })?;
                let len = self.u64(&format!("the length of {what}"))?;
                if depth == 0 || len > self.elements_left {
                    return Err(malformed(
                        format!("{what} has {len} elements, more than anything needs"),
                        at,
                    ));
                }
                self.elements_left -= len;
                // Every element has at least a byte.
                let mut elements = Vec::with_capacity(len.min(self.bytes.len() as u64) as usize);
                for _ in 0..len {
                    elements.push(self.value(number, what, depth - 1)?);
                }
                Value::Array(element, elements)
            }
        })
    }
}
