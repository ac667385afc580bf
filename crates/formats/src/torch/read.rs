//! The pickle of a `torch.save` file, as far as dictionaries of tensors go.

use super::SERIAL_ENTRY;
use super::archive::entries;
use crate::{Error, ErrorKind, Result};
use orion_tensor::{Bytes, DType, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Pickles arrange tensors and are small; this is far more than any needs.
const MAX_PICKLE: usize = 4 << 20;
/// How deep dictionaries and tuples may lie in each other; those of a model lie four deep.
const MAX_DEPTH: u8 = 8;

/// What a pickle may hold.
#[derive(Debug, Clone)]
pub(crate) enum Object {
    Text(Rc<str>),
    Int(i64),
    Tensor(Tensor),
    /// In the order of the file.
    Dict {
        items: Vec<(Object, Object)>,
        depth: u8,
    },
    Tuple {
        items: Rc<[Object]>,
        depth: u8,
    },
    /// `True`, `False`, `None` and empty ordered dictionaries, which mean nothing here.
    Other,
    Global(Global),
    Storage(Rc<Storage>),
}

/// The names a pickle may mention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Global {
    RebuildTensor,
    OrderedDict,
    Storage(DType),
}

/// Numbers of a tensor.
#[derive(Debug)]
pub(crate) struct Storage {
    dtype: DType,
    bytes: Bytes,
}

impl Object {
    /// The entries of a dictionary whose keys are texts, in the order of the file.
    pub(crate) fn entries(&self) -> Option<impl Iterator<Item = (&str, &Object)>> {
        let Self::Dict { items, .. } = self else { return None };
        let keyed = items.iter().map(|(key, value)| match key {
            Self::Text(key) => Some((&**key, value)),
            _ => None,
        });
        keyed.collect::<Option<Vec<_>>>().map(Vec::into_iter)
    }

    /// How many dictionaries and tuples lie in each other here.
    fn depth(&self) -> u8 {
        match self {
            Self::Dict { depth, .. } | Self::Tuple { depth, .. } => *depth,
            _ => 0,
        }
    }

    /// The value of a key of a dictionary.
    pub(crate) fn get(&self, key: &str) -> Option<&Object> {
        self.entries()?.find(|(k, _)| *k == key).map(|(_, value)| value)
    }
}

/// Reads a file of `torch.save`: what it holds, and the number by which PyTorch tells files apart.
pub(crate) fn read(archive: &Bytes) -> Result<(Object, Option<String>)> {
    let entries = entries(archive)?;
    let pickle = entries.iter().find(|(name, _)| name.ends_with("/data.pkl"));
    let (name, pickle) = pickle.ok_or_else(|| {
        Error::new(ErrorKind::WrongFormat, "an archive of PyTorch has an entry data.pkl")
    })?;
    let root = name.trim_end_matches("data.pkl");
    if let Some(order) = entries.get(&format!("{root}byteorder"))
        && order.trim_ascii() != b"little"
    {
        return Err(Error::new(ErrorKind::Unsupported, "numbers of the other byte order"));
    }
    if pickle.len() > MAX_PICKLE {
        let detail = format!("a pickle of {} bytes, at most {MAX_PICKLE} are read", pickle.len());
        return Err(Error::new(ErrorKind::Malformed, detail));
    }
    let serial = entries.get(&format!("{root}{SERIAL_ENTRY}"));
    let serial = serial.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let is_serial = |text: &&str| text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit());
    let serial = serial.filter(is_serial).map(str::to_owned);
    Ok((unpickle(pickle, root, &entries)?, serial))
}

/// Reads a pickle whose storages are the entries `{root}data/{key}`.
fn unpickle(pickle: &[u8], root: &str, entries: &BTreeMap<String, Bytes>) -> Result<Object> {
    let mut reader = Reader {
        pickle,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        root,
        entries,
    };
    reader.run().map_err(|e| e.at(reader.at as u64))
}

struct Reader<'a> {
    pickle: &'a [u8],
    at: usize,
    stack: Vec<Object>,
    marks: Vec<usize>,
    memo: HashMap<u32, Object>,
    root: &'a str,
    entries: &'a BTreeMap<String, Bytes>,
}

/// The depth of what holds these; bounded, because nested things are dropped by recursion.
fn depth_around(items: &[Object]) -> Result<u8> {
    let depth = items.iter().map(Object::depth).max().unwrap_or(0) + 1;
    if depth > MAX_DEPTH {
        return Err(malformed(format!("things lie more than {MAX_DEPTH} deep in each other")));
    }
    Ok(depth)
}

fn malformed(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, format!("pickle: {}", detail.into()))
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.pickle.len());
        let end = end.ok_or_else(|| malformed("it is cut short"))?;
        let bytes = &self.pickle[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn number(&mut self, width: usize) -> Result<u32> {
        let bytes = self.take(width)?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)))
    }

    fn line(&mut self) -> Result<&'a str> {
        let length = self.pickle[self.at..].iter().position(|&b| b == b'\n');
        let line = self.take(length.ok_or_else(|| malformed("it is cut short"))? + 1)?;
        std::str::from_utf8(&line[..line.len() - 1]).map_err(|_| malformed("a name is not UTF-8"))
    }

    fn pop(&mut self) -> Result<Object> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(malformed("it takes more than there is"));
        }
        Ok(self.stack.pop().expect("not empty"))
    }

    fn tuple(&mut self, count: usize) -> Result<()> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        items.reverse();
        self.push_tuple(items)
    }

    fn push_tuple(&mut self, items: Vec<Object>) -> Result<()> {
        let depth = depth_around(&items)?;
        self.stack.push(Object::Tuple { items: items.into(), depth });
        Ok(())
    }

    fn take_to_mark(&mut self) -> Result<Vec<Object>> {
        let mark = self.marks.pop().ok_or_else(|| malformed("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn set_items(&mut self, items: Vec<Object>) -> Result<()> {
        let Some(Object::Dict { items: dict, depth }) = self.stack.last_mut() else {
            return Err(malformed("items for what is no dictionary"));
        };
        *depth = depth_around(&items)?.max(*depth);
        if !items.len().is_multiple_of(2) {
            return Err(malformed("a key without a value"));
        }
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            dict.push((key, value));
        }
        Ok(())
    }

    fn run(&mut self) -> Result<Object> {
        loop {
            let opcode = self.take(1)?[0];
            match opcode {
                // PROTO
                0x80 => {
                    let version = self.number(1)?;
                    if version > 5 {
                        return Err(malformed(format!("version {version}")));
                    }
                }
                b'}' => self.stack.push(Object::Dict { items: Vec::new(), depth: 1 }),
                b')' => self.push_tuple(Vec::new())?,
                b'(' => self.marks.push(self.stack.len()),
                b'X' => {
                    let length = self.number(4)? as usize;
                    let text = std::str::from_utf8(self.take(length)?);
                    let text = text.map_err(|_| malformed("a text is not UTF-8"))?;
                    self.stack.push(Object::Text(text.into()));
                }
                b'K' => self.integer(1)?,
                b'M' => self.integer(2)?,
                b'J' => {
                    let number = self.number(4)?.cast_signed();
                    self.stack.push(Object::Int(number.into()));
                }
                // NEWTRUE, NEWFALSE
                0x88 | 0x89 | b'N' => self.stack.push(Object::Other),
                b'q' => self.put(1)?,
                b'r' => self.put(4)?,
                b'h' => self.get(1)?,
                b'j' => self.get(4)?,
                b't' => {
                    let items = self.take_to_mark()?;
                    self.push_tuple(items)?;
                }
                0x85..=0x87 => self.tuple(usize::from(opcode - 0x84))?,
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(vec![key, value])?;
                }
                b'u' => {
                    let items = self.take_to_mark()?;
                    self.set_items(items)?;
                }
                b'c' => {
                    let global = (self.line()?, self.line()?);
                    self.stack.push(Object::Global(known(global.0, global.1)?));
                }
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    let result = self.call(&function, &arguments)?;
                    self.stack.push(result);
                }
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(&id)?;
                    self.stack.push(Object::Storage(Rc::new(storage)));
                }
                b'.' => return self.pop(),
                other => {
                    let detail = format!("opcode {other:#04x} of a pickle");
                    return Err(Error::new(ErrorKind::Unsupported, detail)
                        .hint("only dictionaries of tensors are read; nothing is executed"));
                }
            }
        }
    }

    fn integer(&mut self, width: usize) -> Result<()> {
        let number = self.number(width)?;
        self.stack.push(Object::Int(number.into()));
        Ok(())
    }

    fn put(&mut self, width: usize) -> Result<()> {
        let key = self.number(width)?;
        // A dictionary is filled after it was put; nothing that we read takes one out again.
        if let Some(object) = self.stack.last()
            && !matches!(object, Object::Dict { .. })
        {
            self.memo.insert(key, object.clone());
        }
        Ok(())
    }

    fn get(&mut self, width: usize) -> Result<()> {
        let key = self.number(width)?;
        let object = self.memo.get(&key).cloned();
        self.stack.push(object.ok_or_else(|| malformed(format!("nothing is kept as {key}")))?);
        Ok(())
    }

    fn call(&self, function: &Object, arguments: &Object) -> Result<Object> {
        let Object::Tuple { items: arguments, .. } = arguments else {
            return Err(malformed("arguments are not a tuple"));
        };
        match function {
            Object::Global(Global::OrderedDict) if arguments.is_empty() => Ok(Object::Other),
            Object::Global(Global::RebuildTensor) => rebuild(arguments).map(Object::Tensor),
            _ => Err(malformed("a call of what is no function")),
        }
    }

    fn storage(&self, id: &Object) -> Result<Storage> {
        let Object::Tuple { items: id, .. } = id else {
            return Err(malformed("a reference is no tuple"));
        };
        let [Object::Text(kind), Object::Global(Global::Storage(dtype)), Object::Text(key), _, _] =
            &id[..]
        else {
            return Err(malformed("a reference to what is no storage"));
        };
        if &**kind != "storage" {
            return Err(malformed(format!("a reference to a {kind}")));
        }
        let name = format!("{}data/{key}", self.root);
        let bytes = self.entries.get(&name).cloned();
        let bytes = bytes.ok_or_else(|| malformed(format!("the archive has no entry {name}")))?;
        Ok(Storage { dtype: *dtype, bytes })
    }
}

fn known(module: &str, name: &str) -> Result<Global> {
    Ok(match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch", "CharStorage") => Global::Storage(DType::I8),
        ("torch", "ByteStorage") => Global::Storage(DType::U8),
        ("torch", "IntStorage") => Global::Storage(DType::I32),
        ("torch", "LongStorage") => Global::Storage(DType::I64),
        ("torch", "HalfStorage") => Global::Storage(DType::F16),
        ("torch", "BFloat16Storage") => Global::Storage(DType::BF16),
        ("torch", "FloatStorage") => Global::Storage(DType::F32),
        ("torch", "DoubleStorage") => Global::Storage(DType::F64),
        _ => {
            let detail = format!("the pickle asks for {module}.{name}");
            return Err(Error::new(ErrorKind::Unsupported, detail)
                .hint("only dictionaries of tensors are read; nothing is executed"));
        }
    })
}

/// A dense tensor of a storage.
fn rebuild(arguments: &[Object]) -> Result<Tensor> {
    let [
        Object::Storage(storage),
        Object::Int(offset),
        Object::Tuple { items: shape, .. },
        Object::Tuple { items: strides, .. },
        ..,
    ] = arguments
    else {
        return Err(malformed("a tensor of other arguments"));
    };
    let sizes = |objects: &[Object]| -> Result<Vec<usize>> {
        let size = |object: &Object| match object {
            Object::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        };
        let sizes = objects.iter().map(size).collect::<Option<Vec<usize>>>();
        sizes.ok_or_else(|| malformed("a tensor whose sizes are no numbers"))
    };
    let (shape, strides) = (sizes(shape)?, sizes(strides)?);
    let mut dense = 1usize;
    for (&size, &stride) in shape.iter().zip(&strides).rev() {
        if size != 1 && stride != dense {
            return Err(Error::new(ErrorKind::Unsupported, "a tensor that is not contiguous")
                .hint("call .contiguous() on it before it is saved"));
        }
        dense = dense.checked_mul(size).ok_or_else(|| malformed("a tensor is too large"))?;
    }
    if strides.len() != shape.len() {
        return Err(malformed("a tensor with more strides than sizes"));
    }
    let width = storage.dtype.size_bytes();
    let start = usize::try_from(*offset).ok().and_then(|offset| offset.checked_mul(width));
    let end = dense.checked_mul(width).and_then(|length| start?.checked_add(length));
    let bytes = start.zip(end).and_then(|(start, end)| storage.bytes.slice(start..end));
    let bytes = bytes.ok_or_else(|| malformed("a tensor reaches over its storage"))?;
    Tensor::new(storage.dtype, shape, bytes).map_err(|e| malformed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::Writer;

    #[test]
    fn damaged_pickles_do_not_panic() {
        let tensor = Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let mut writer = Writer::new();
        writer
            .dict(2, |w, i| {
                w.literal(["first", "second"][i]);
                w.tensor(&tensor)
            })
            .unwrap();
        let entries = entries(&Bytes::new(writer.finish(None).unwrap())).unwrap();
        let good = entries["archive/data.pkl"].to_vec();
        let read = |pickle: &[u8]| unpickle(pickle, "archive/", &entries);
        let Object::Tensor(found) = read(&good).unwrap().get("second").unwrap().clone() else {
            panic!("no tensor")
        };
        assert_eq!(found, tensor);
        for len in 0..good.len() {
            assert!(read(&good[..len]).is_err(), "{len}");
        }
        for at in 0..good.len() {
            for byte in [0, 1, 0x7f, 0x80, 0x85, 0xff, b'(', b')', b'R', b'u', b't', b'Q', b'h'] {
                let mut bad = good.clone();
                bad[at] = byte;
                let _ = read(&bad);
            }
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep: Vec<u8> =
            [0x80, 2, b')'].into_iter().chain(std::iter::repeat_n(0x85, 1 << 20)).collect();
        let error = unpickle(&deep, "archive/", &BTreeMap::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        // Dictionaries whose one value is the next, and so on.
        let mut deep: Vec<u8> = vec![0x80, 2];
        deep.extend(b"}N".repeat(20));
        deep.extend(b"}");
        deep.extend(b"s".repeat(20));
        let error = unpickle(&deep, "archive/", &BTreeMap::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }

    #[test]
    fn nothing_is_executed() {
        let evil = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.";
        let error = unpickle(evil, "archive/", &BTreeMap::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("os.system"), "{error}");
    }
}
