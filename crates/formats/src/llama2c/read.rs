use super::layout::{Group, Header, LONG_HEADER_BYTES, MAGIC, Name, Version, malformed};
use crate::{Error, ErrorKind, Result, check_finite, map_file};
use orion_tensor::{AlignedBytes, Bytes, DType, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// A llama2.c checkpoint.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// How it was stored.
    pub version: Version,
    /// The model's sizes.
    pub header: Header,
    /// Weights by name, all f32; see the [module documentation](super). In versions 0 and 1 their
    /// storage is the file's memory, in version 2 they were dequantised.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Maps and reads a checkpoint of any version.
    ///
    /// # Errors
    /// As [`Checkpoint::parse`], with the path; and when the file cannot be mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        map_file(path).and_then(Self::parse).map_err(|e| e.in_file(path))
    }

    /// Reads a checkpoint of any version from the bytes of its file.
    ///
    /// # Errors
    /// When the header is not sane, the size of the file is not exactly what the header asks for,
    /// or a weight is NaN or infinite.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        let (version, header) = parse_header(&bytes)?;
        let expected = header.file_bytes(version);
        if expected != bytes.len() as u128 {
            let kind = if expected > bytes.len() as u128 {
                ErrorKind::Truncated
            } else {
                ErrorKind::TrailingBytes
            };
            return Err(Error::new(
                kind,
                format!(
                    "a llama2.c checkpoint ({version:?}) with dim {}, hidden_dim {}, n_layers {}, \
                     n_heads {}, n_kv_heads {}, vocab_size {}, seq_len {} has {expected} bytes, \
                     this file has {}",
                    header.dim,
                    header.hidden_dim,
                    header.layers,
                    header.heads,
                    header.kv_heads,
                    header.vocab_size,
                    header.seq_len,
                    bytes.len()
                ),
            ));
        }
        let mut offset = if version == Version::V0 { 28 } else { LONG_HEADER_BYTES };
        let mut tensors = BTreeMap::new();
        for group in header.groups(version) {
            // The file has exactly the expected size, so every size fits a usize from here on.
            let size = group.bytes(version) as usize;
            if let Name::RotationTables = group.name {
                offset += size;
            }
            for name in group.names(header.layers) {
                let stored = bytes.slice(offset..offset + size).expect("the file size was checked");
                let tensor = match group.group_size(version) {
                    Some(group_size) => dequantise(&stored, group, group_size),
                    None => stored,
                };
                let tensor = Tensor::new(DType::F32, group.shape(), tensor)
                    .expect("the size follows from the shape");
                check_finite(&name, &tensor).map_err(|e| e.at(offset as u64))?;
                tensors.insert(name, tensor);
                offset += size;
            }
        }
        Ok(Self { version, header, tensors })
    }
}

fn parse_header(bytes: &[u8]) -> Result<(Version, Header)> {
    let truncated = |expected: usize| {
        Error::new(
            ErrorKind::Truncated,
            format!(
                "a llama2.c checkpoint starts with a header of {expected} bytes, this file has {}",
                bytes.len()
            ),
        )
    };
    let word = |at: usize| {
        let word = bytes.get(at..at + 4).ok_or_else(|| truncated(28))?;
        Ok(u32::from_le_bytes(word.try_into().expect("four bytes")))
    };
    let first = word(0)?;
    if first == MAGIC.swap_bytes() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a llama2.c checkpoint with its magic number in big-endian order",
        )
        .at(0)
        .hint("export it again with the current llama2.c export.py"));
    }
    if first == MAGIC {
        if bytes.len() < LONG_HEADER_BYTES {
            return Err(truncated(LONG_HEADER_BYTES));
        }
        let shared_classifier = match bytes[36] {
            byte @ (0 | 1) => byte == 1,
            byte => {
                return Err(malformed(format!(
                    "the shared-classifier flag is {byte}, expected 0 or 1"
                ))
                .at(36));
            }
        };
        let header = sizes(&word, 8, shared_classifier)?;
        let version = match word(4)? {
            1 => Version::V1,
            2 => Version::V2 { group_size: group_size(word(37)?, &header)? },
            version => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("llama2.c checkpoint of version {version}, expected 0, 1 or 2"),
                )
                .at(4));
            }
        };
        return Ok((version, header));
    }
    let vocab_size = word(20)? as i32;
    let mut header = sizes(&word, 0, vocab_size > 0).map_err(|e| {
        e.hint("a file without the llama2.c magic number is read as a version 0 checkpoint")
    })?;
    header.vocab_size = vocab_size.unsigned_abs() as usize;
    Ok((Version::V0, header))
}

/// The seven sizes at `start`. A negative vocabulary is the caller's business, every other
/// negative number is refused by [`Header::check`] because it is huge.
fn sizes(
    word: &impl Fn(usize) -> Result<u32>,
    start: usize,
    shared_classifier: bool,
) -> Result<Header> {
    let size = |index: usize| word(start + 4 * index).map(|w| w as usize);
    let header = Header {
        dim: size(0)?,
        hidden_dim: size(1)?,
        layers: size(2)?,
        heads: size(3)?,
        kv_heads: size(4)?,
        vocab_size: size(5)?,
        seq_len: size(6)?,
        shared_classifier,
    };
    // In version 0 a negative vocabulary is legal, so it is made positive for this check.
    let signed_vocab = header.vocab_size as u32 as i32;
    let vocab_size =
        if start == 0 { signed_vocab.unsigned_abs() as usize } else { header.vocab_size };
    Header { vocab_size, ..header }.check().map_err(|e| e.at(start as u64))?;
    Ok(header)
}

fn group_size(group_size: u32, header: &Header) -> Result<usize> {
    let group_size = group_size as usize;
    for (name, size) in [("dim", header.dim), ("hidden_dim", header.hidden_dim)] {
        if group_size == 0 || !size.is_multiple_of(group_size) {
            return Err(malformed(format!(
                "{name} {size} is not a multiple of the group size {group_size}"
            ))
            .at(37)
            .hint("export with a group size that divides both dim and hidden_dim"));
        }
    }
    Ok(group_size)
}

/// int8 elements followed by one f32 scale per group, as f32.
fn dequantise(stored: &[u8], group: Group, group_size: usize) -> Bytes {
    let (elements, scales) = stored.split_at(group.elements() as usize);
    let mut out = AlignedBytes::zeroed(4 * elements.len());
    let groups = elements.chunks_exact(group_size).zip(scales.chunks_exact(4));
    for (out, (elements, scale)) in out.chunks_exact_mut(4 * group_size).zip(groups) {
        let scale = f32::from_le_bytes(scale.try_into().expect("four bytes"));
        for (out, &element) in out.chunks_exact_mut(4).zip(elements) {
            out.copy_from_slice(&(f32::from(element as i8) * scale).to_le_bytes());
        }
    }
    Bytes::new(out)
}
