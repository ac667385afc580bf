//! The safetensors container: named tensors, shapes and string metadata.
//!
//! Reads every element type the container and [`DType`] share; does not judge names or shapes.

use crate::{Error, ErrorKind, MappedFile, Result, check_finite, map_file};
use orion_tensor::{Bytes, DType, Tensor};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::path::Path;

/// A header longer than this is refused; the reference implementation has the same limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Data starts at a multiple of this in files written here, so that mapped tensors whose sizes
/// are multiples of it suit every vector width. The format itself asks for 8.
const DATA_ALIGNMENT: usize = 64;

/// The contents of a safetensors file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SafeTensors {
    /// Tensors by name; their storage is the file's memory.
    pub tensors: BTreeMap<String, Tensor>,
    /// The `__metadata__` entry.
    pub metadata: BTreeMap<String, String>,
}

impl SafeTensors {
    /// Maps and reads a file of weights.
    ///
    /// # Errors
    /// As [`SafeTensors::parse`], with the path; and when the file cannot be mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        map_file(path).and_then(Self::parse).map_err(|e| e.in_file(path))
    }

    /// Reads weights from the bytes of a file and checks that all of them are finite.
    ///
    /// # Errors
    /// As [`SafeTensors::parse_unchecked`], and [`ErrorKind::NotFinite`] for the first NaN or
    /// infinity.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        let this = Self::parse_unchecked(bytes)?;
        for (name, tensor) in &this.tensors {
            check_finite(name, tensor)?;
        }
        Ok(this)
    }

    /// Reads tensors from the bytes of a file, whatever their values are.
    ///
    /// # Errors
    /// When the header is not what the format asks for, an element type is unknown, a tensor's
    /// range does not fit its shape, or the ranges do not tile the data exactly.
    pub fn parse_unchecked(bytes: Bytes) -> Result<Self> {
        let truncated = |what: String| Error::new(ErrorKind::Truncated, what);
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(truncated(format!(
                "a safetensors file starts with 8 bytes of header length, this one has {}",
                bytes.len()
            )));
        };
        let header_len = u64::from_le_bytes(*length);
        if header_len > MAX_HEADER_BYTES {
            return Err(Error::new(
                ErrorKind::WrongFormat,
                format!(
                    "a safetensors header has at most {MAX_HEADER_BYTES} bytes, the first 8 bytes \
                     of this file say {header_len}"
                ),
            )
            .at(0));
        }
        let header_len = header_len as usize;
        let Some(header) = rest.get(..header_len) else {
            return Err(truncated(format!(
                "the safetensors header should have {header_len} bytes, {} are there",
                rest.len()
            ))
            .at(8));
        };
        if header.first() != Some(&b'{') {
            return Err(
                Error::new(ErrorKind::WrongFormat, "a safetensors header starts with `{`").at(8)
            );
        }
        let header: Header = serde_json::from_slice(header).map_err(|e| {
            Error::new(ErrorKind::Malformed, format!("safetensors header: {e}")).at(8)
        })?;
        let data_start = 8 + header_len;
        let data = bytes.slice(data_start..bytes.len()).expect("the header lies inside the file");
        Ok(Self { tensors: tensors(header.tensors, &data, data_start)?, metadata: header.metadata })
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when there is none.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors
            .get(name)
            .ok_or_else(|| Error::new(ErrorKind::Malformed, format!("tensor `{name}` is missing")))
    }
}

/// The most files that an index may name.
const MAX_SHARDS: usize = 10_000;

/// Maps and reads the weights of several files that lie beside an index, as
/// `model.safetensors.index.json` is one: an object whose `weight_map` says which file each tensor
/// is in. Numbers are not looked at, as in [`SafeTensors::parse_unchecked`]. Gives the files too,
/// for memory to be given back.
///
/// # Errors
/// As [`SafeTensors::parse_unchecked`] for each file; and when the index is not JSON, names a file outside
/// its directory, or a tensor that its file lacks, or lacks a tensor that a file has.
pub fn open_sharded(
    index: impl AsRef<Path>,
) -> Result<(BTreeMap<String, Tensor>, Vec<MappedFile>)> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index = index.as_ref();
    let malformed = |what: String| Error::new(ErrorKind::Malformed, what).in_file(index);
    let map: Index = map_file(index).and_then(|bytes| {
        serde_json::from_slice(&bytes).map_err(|e| malformed(format!("not an index: {e}")))
    })?;
    let files: BTreeSet<&str> = map.weight_map.values().map(String::as_str).collect();
    if files.len() > MAX_SHARDS {
        return Err(malformed(format!("{} files, at most {MAX_SHARDS} are read", files.len())));
    }
    let directory = index.parent().unwrap_or(Path::new("."));
    let (mut tensors, mut maps) = (BTreeMap::new(), Vec::new());
    for file in files {
        if Path::new(file).file_name() != Some(file.as_ref()) {
            return Err(malformed(format!("`{file}` is not the name of a file beside the index")));
        }
        let path = directory.join(file);
        let mapped = MappedFile::open(&path)?;
        let shard = SafeTensors::parse_unchecked(mapped.bytes()).map_err(|e| e.in_file(&path))?;
        maps.push(mapped);
        for (name, tensor) in shard.tensors {
            match map.weight_map.get(&name) {
                Some(home) if home == file => tensors.insert(name, tensor),
                Some(home) => {
                    let what = format!("tensor `{name}` is in {file}, the index says {home}");
                    return Err(malformed(what));
                }
                None => return Err(malformed(format!("tensor `{name}` of {file} is not in it"))),
            };
        }
    }
    match map.weight_map.iter().find(|(name, _)| !tensors.contains_key(*name)) {
        Some((name, file)) => Err(malformed(format!("tensor `{name}` is not in {file}"))),
        None => Ok((tensors, maps)),
    }
}

fn tensors(
    entries: Vec<(String, Entry)>,
    data: &Bytes,
    data_start: usize,
) -> Result<BTreeMap<String, Tensor>> {
    let mut ranges = Vec::with_capacity(entries.len());
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries {
        let malformed =
            |what: String| Error::new(ErrorKind::Malformed, format!("tensor `{name}`: {what}"));
        let dtype = dtype_of(&entry.dtype).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!("tensor `{name}` has element type `{}`", entry.dtype),
            )
        })?;
        let [start, end] = entry.data_offsets;
        if start > end {
            return Err(malformed(format!("its data ends at {end}, before it starts at {start}")));
        }
        if end > data.len() as u64 {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "tensor `{name}` takes bytes {start}..{end} of the data, {} are there",
                    data.len()
                ),
            )
            .at(data_start as u64));
        }
        let bytes = data.slice(start as usize..end as usize).expect("the range was checked");
        let shape = entry
            .shape
            .iter()
            .map(|&d| usize::try_from(d))
            .collect::<Result<Vec<usize>, _>>()
            .map_err(|_| malformed(format!("shape {:?} is too large", entry.shape)))?;
        let tensor = Tensor::new(dtype, shape, bytes)
            .map_err(|e| malformed(e.to_string()).at(data_start as u64 + start))?;
        ranges.push((start, end, name.clone()));
        tensors.insert(name, tensor);
    }
    ranges.sort();
    let mut covered = 0;
    let mut previous = "the start of the data";
    for (start, end, name) in &ranges {
        if *start != covered {
            let what = if *start < covered { "overlap" } else { "leave a gap" };
            return Err(Error::new(
                ErrorKind::Malformed,
                format!("tensors {what}: `{name}` starts at {start}, {previous} ends at {covered}"),
            )
            .at(data_start as u64 + start));
        }
        covered = *end;
        previous = name;
    }
    if covered != data.len() as u64 {
        return Err(Error::new(
            ErrorKind::TrailingBytes,
            format!("tensors take {covered} bytes of data, {} are there", data.len()),
        )
        .at(data_start as u64 + covered));
    }
    Ok(tensors)
}

const DTYPES: [(&str, DType); 16] = [
    ("BOOL", DType::Bool),
    ("U8", DType::U8),
    ("I8", DType::I8),
    ("F8_E5M2", DType::F8E5M2),
    ("F8_E4M3", DType::F8E4M3FN),
    ("I16", DType::I16),
    ("U16", DType::U16),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("I32", DType::I32),
    ("U32", DType::U32),
    ("F32", DType::F32),
    ("F64", DType::F64),
    ("I64", DType::I64),
    ("U64", DType::U64),
    // Another spelling some writers use.
    ("F8_E4M3FN", DType::F8E4M3FN),
];

fn dtype_of(name: &str) -> Option<DType> {
    DTYPES.iter().find(|row| row.0 == name).map(|row| row.1)
}

struct Header {
    tensors: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header { tensors: Vec::new(), metadata: BTreeMap::new() };
                let mut seen = BTreeSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    // serde_json would let the last of two equal names win.
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("`{name}` is there twice")));
                    }
                    if name == "__metadata__" {
                        header.metadata = map.next_value()?;
                    } else {
                        let entry = map
                            .next_value()
                            .map_err(|e| A::Error::custom(format!("tensor `{name}`: {e}")))?;
                        header.tensors.push((name, entry));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Writes tensors and metadata. The same input gives the same bytes: wider elements come first, so
/// that every tensor is aligned, then names in byte order.
///
/// # Errors
/// [`ErrorKind::NotRepresentable`] for an element type the container lacks or the reserved name
/// `__metadata__`; [`ErrorKind::Io`] when the writer fails.
pub fn write<'a>(
    out: &mut impl Write,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut rows: Vec<(&str, &Tensor)> = tensors.into_iter().collect();
    rows.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.dtype().size_bytes()), *name));
    let mut header = Vec::new();
    header.push(b'{');
    if !metadata.is_empty() {
        header.extend(b"\"__metadata__\":");
        header.extend(serde_json::to_vec(metadata).expect("strings are always valid JSON"));
    }
    let mut offset = 0;
    for (name, tensor) in &rows {
        let dtype = DTYPES.iter().find(|row| row.1 == tensor.dtype());
        let Some((dtype, _)) = dtype.filter(|_| *name != "__metadata__") else {
            return Err(Error::new(
                ErrorKind::NotRepresentable,
                format!("tensor `{name}` of type {} in safetensors", tensor.dtype()),
            ));
        };
        let end = offset + tensor.bytes().len();
        let shape: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
        if header.len() > 1 {
            header.push(b',');
        }
        header.extend(serde_json::to_vec(name).expect("strings are always valid JSON"));
        header.extend(
            format!(
                ":{{\"dtype\":\"{dtype}\",\"shape\":[{}],\"data_offsets\":[{offset},{end}]}}",
                shape.join(",")
            )
            .bytes(),
        );
        offset = end;
    }
    header.push(b'}');
    header.resize((header.len() + 8).next_multiple_of(DATA_ALIGNMENT) - 8, b' ');
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(Error::write)?;
    out.write_all(&header).map_err(Error::write)?;
    for (_, tensor) in &rows {
        out.write_all(tensor.bytes()).map_err(Error::write)?;
    }
    Ok(())
}
