//! Token data: shards of llm.c and parameter-golf with a header, and headerless u16 streams.
//!
//! Does not interpret ids: documents, epochs and order are the reader's business.

use crate::{Error, ErrorKind, Result, map_file};
use orion_tensor::Bytes;
use std::io::Write;
use std::path::Path;

/// Bytes of the header: 256 little-endian i32.
const HEADER_BYTES: usize = 1024;

const MAGIC_U16: u32 = 20_240_520;
const MAGIC_U32: u32 = 20_240_801;
const MAGIC_EVAL: u32 = 20_240_522;
const VERSION_U16: u32 = 1;
const VERSION_U32: u32 = 7;

/// How ids are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// u16 without a header, as llama2.c writes.
    RawU16,
    /// A header of 1024 bytes, then u16: llm.c's GPT-2 data, parameter-golf shards.
    HeaderedU16,
    /// A header of 1024 bytes, then u32: llm.c's Llama 3 data.
    HeaderedU32,
}

/// A file of token ids, mapped into memory.
#[derive(Debug, Clone)]
pub struct TokenFile {
    encoding: Encoding,
    /// The ids only.
    ids: Bytes,
}

impl TokenFile {
    /// Maps and reads a token file, deciding by its first bytes how it is stored.
    ///
    /// # Errors
    /// As [`TokenFile::parse`], with the path; and when the file cannot be mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        map_file(path).and_then(Self::parse).map_err(|e| e.in_file(path))
    }

    /// Reads the bytes of a token file.
    ///
    /// A file that starts with the magic number of a headered shard is one; anything else is a
    /// stream of u16.
    ///
    /// # Errors
    /// When the file is empty, its size is not what its header says or not a whole number of ids,
    /// or its header is of an unknown version.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        let word = |index: usize| {
            let word = bytes.get(4 * index..4 * index + 4)?;
            Some(u32::from_le_bytes(word.try_into().expect("four bytes")))
        };
        let (encoding, width, version) = match word(0) {
            Some(MAGIC_U16) => (Encoding::HeaderedU16, 2, VERSION_U16),
            Some(MAGIC_U32) => (Encoding::HeaderedU32, 4, VERSION_U32),
            Some(MAGIC_EVAL) => {
                return Err(Error::new(
                    ErrorKind::WrongFormat,
                    "this is an llm.c evaluation file (magic 20240522), expected token data",
                )
                .at(0));
            }
            _ => return Self::parse_raw(bytes),
        };
        if bytes.len() < HEADER_BYTES {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "a token shard has a header of {HEADER_BYTES} bytes, this file has {}",
                    bytes.len()
                ),
            ));
        }
        let found = word(1).expect("the header was measured");
        if found != version {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("token shard of version {found}, expected {version}"),
            )
            .at(4));
        }
        let count = word(2).expect("the header was measured");
        if count == 0 || count > i32::MAX as u32 {
            return Err(Error::new(
                ErrorKind::Malformed,
                format!("token shard of {} tokens, expected at least one", count as i32),
            )
            .at(8));
        }
        let expected = HEADER_BYTES as u64 + u64::from(count) * width;
        if expected != bytes.len() as u64 {
            let kind = if expected > bytes.len() as u64 {
                ErrorKind::Truncated
            } else {
                ErrorKind::TrailingBytes
            };
            return Err(Error::new(
                kind,
                format!(
                    "a token shard of {count} tokens has {expected} bytes, this file has {}",
                    bytes.len()
                ),
            )
            .at(8));
        }
        let ids = bytes.slice(HEADER_BYTES..bytes.len()).expect("the header was measured");
        Ok(Self { encoding, ids })
    }

    /// Ids that were made here.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when there are none.
    pub fn from_ids(ids: &[u32]) -> Result<Self> {
        if ids.is_empty() {
            return Err(Error::new(ErrorKind::Malformed, "there are no tokens"));
        }
        Ok(Self { encoding: Encoding::HeaderedU32, ids: Bytes::from_elements(ids) })
    }

    fn parse_raw(bytes: Bytes) -> Result<Self> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(2) {
            return Err(Error::new(
                ErrorKind::Malformed,
                format!(
                    "a headerless token file is a stream of 2-byte ids, this file has {} bytes",
                    bytes.len()
                ),
            ));
        }
        Ok(Self { encoding: Encoding::RawU16, ids: bytes })
    }

    /// How the ids are stored.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The number of ids; at least one.
    #[expect(clippy::len_without_is_empty, reason = "an empty file is refused")]
    pub fn len(&self) -> usize {
        self.ids.len() / self.width()
    }

    /// The `len` ids from position `start` on.
    ///
    /// # Panics
    /// When the window reaches past [`TokenFile::len`].
    pub fn window(&self, start: usize, len: usize) -> Vec<u32> {
        self.ids(start, len).collect()
    }

    /// Copies the ids from position `start` on into `out`, without allocating.
    ///
    /// # Panics
    /// When the window reaches past [`TokenFile::len`].
    pub fn copy_window(&self, start: usize, out: &mut [u32]) {
        let ids = self.ids(start, out.len());
        for (out, id) in out.iter_mut().zip(ids) {
            *out = id;
        }
    }

    /// Checks that every id is below `vocab_size`.
    ///
    /// # Errors
    /// [`ErrorKind::TokenOutOfRange`] with the position, counted in tokens, and the id of the first
    /// that is not.
    pub fn check_vocab(&self, vocab_size: usize) -> Result<()> {
        let bad = self.ids(0, self.len()).position(|id| id as usize >= vocab_size);
        let Some(position) = bad else { return Ok(()) };
        let id = self.window(position, 1)[0];
        let header = if self.encoding == Encoding::RawU16 { 0 } else { HEADER_BYTES };
        Err(Error::new(
            ErrorKind::TokenOutOfRange,
            format!("token {position} has id {id}, the vocabulary has {vocab_size}"),
        )
        .at((header + position * self.width()) as u64)
        .hint("the data was made with another tokenizer than the model's"))
    }

    fn width(&self) -> usize {
        if self.encoding == Encoding::HeaderedU32 { 4 } else { 2 }
    }

    fn ids(&self, start: usize, len: usize) -> impl Iterator<Item = u32> {
        let end = start.checked_add(len).filter(|&end| end <= self.len());
        let end = end
            .unwrap_or_else(|| panic!("tokens {start}..{start}+{len} of a file of {}", self.len()));
        let width = self.width();
        self.ids[start * width..end * width].chunks_exact(width).map(|id| match *id {
            [a, b] => u32::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
            _ => unreachable!("ids are two or four bytes wide"),
        })
    }
}

/// Writes a shard of u16 ids with a header.
///
/// # Errors
/// [`ErrorKind::NotRepresentable`] when there are no ids or more than the header can count;
/// [`ErrorKind::Io`] when the writer fails.
pub fn write_shard(out: &mut impl Write, ids: &[u16]) -> Result<()> {
    let count = i32::try_from(ids.len()).ok().filter(|&count| count > 0).ok_or_else(|| {
        Error::new(
            ErrorKind::NotRepresentable,
            format!("a token shard holds 1 to {} tokens, not {}", i32::MAX, ids.len()),
        )
    })?;
    let mut header = [0u32; HEADER_BYTES / 4];
    header[..3].copy_from_slice(&[MAGIC_U16, VERSION_U16, count as u32]);
    for word in header {
        out.write_all(&word.to_le_bytes()).map_err(Error::write)?;
    }
    for chunk in ids.chunks(8192) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|id| id.to_le_bytes()).collect();
        out.write_all(&bytes).map_err(Error::write)?;
    }
    Ok(())
}
