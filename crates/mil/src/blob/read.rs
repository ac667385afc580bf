use super::{
    ALIGNMENT, BlobError, BlobErrorKind as Kind, DTYPES, HEADER_BYTES, METADATA_BYTES, SENTINEL,
    VERSION,
};
use orion_tensor::{AlignedBytes, Bytes, DType, Tensor};
use std::ops::Range;

/// A weight file in memory. Tensors taken from it share its storage.
#[derive(Debug, Clone)]
pub struct BlobFile {
    bytes: Bytes,
}

/// What the metadata of one blob says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobEntry {
    /// Byte offset of the metadata, which programs name.
    pub offset: u64,
    /// Element type.
    pub dtype: DType,
    /// Number of elements. Shapes are not recorded.
    pub element_count: usize,
    /// Where the data is, in bytes from the start of the file.
    pub data: Range<usize>,
}

impl BlobFile {
    /// Looks at the header of a weight file; blobs are looked at when asked for.
    ///
    /// # Errors
    /// When the file is shorter than its header or of another version.
    pub fn new(bytes: Bytes) -> Result<Self, BlobError> {
        if bytes.len() < HEADER_BYTES {
            let detail = format!("a header takes {HEADER_BYTES} bytes, found {}", bytes.len());
            return Err(BlobError::new(Kind::Truncated, detail));
        }
        let this = Self { bytes };
        match this.u32(4) {
            VERSION => Ok(this),
            other => {
                let detail = format!("expected blob storage version {VERSION}, found {other}");
                Err(BlobError::new(Kind::WrongFormat, detail).at(4))
            }
        }
    }

    /// How many blobs the header says there are. Nothing but [`BlobFile::list`] depends on it.
    pub fn declared_count(&self) -> u32 {
        self.u32(0)
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes[at..at + N].try_into().expect("N bytes")
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    /// The blob whose metadata is at `offset`.
    ///
    /// # Errors
    /// When there is no metadata, it contradicts itself, or its data reaches past the end.
    pub fn entry(&self, offset: u64) -> Result<BlobEntry, BlobError> {
        let file_bytes = self.bytes.len() as u64;
        let fits = |start: u64, length: u64| {
            start.checked_add(length).is_some_and(|end| end <= file_bytes)
        };
        if offset < HEADER_BYTES as u64 {
            let detail = format!("the first blob is at byte {HEADER_BYTES} at the earliest");
            return Err(BlobError::new(Kind::NoBlob, detail).at(offset));
        }
        if !fits(offset, METADATA_BYTES as u64) {
            let detail =
                format!("expected {METADATA_BYTES} bytes of metadata, the file has {file_bytes}");
            return Err(BlobError::new(Kind::Truncated, detail).at(offset));
        }
        let at = offset as usize;
        let sentinel = self.u32(at);
        if sentinel != SENTINEL {
            let detail = format!("expected the mark {SENTINEL:#010x}, found {sentinel:#010x}");
            return Err(BlobError::new(Kind::NoBlob, detail).at(offset));
        }
        let number = self.u32(at + 4);
        let dtype = (number as usize).checked_sub(1).and_then(|i| DTYPES.get(i)).copied();
        let Some(dtype) = dtype else {
            let detail = format!("expected an element type from 1 to 17, found {number}");
            return Err(BlobError::new(Kind::Malformed, detail).at(offset + 4));
        };
        let (size, start) = (self.u64(at + 8), self.u64(at + 16));
        if !fits(start, size) {
            let detail = format!(
                "expected {size} bytes of data from byte {start} on, the file has {file_bytes}"
            );
            return Err(BlobError::new(Kind::Truncated, detail).at(offset + 8));
        }
        let data = start as usize..(start + size) as usize;
        let element_count = if dtype.is_sub_byte() {
            self.packed_count(at, dtype, data.len())?
        } else {
            // Old writers leave garbage in the padding field here, so nobody looks at it.
            let width = dtype.size_bytes();
            if data.len() % width != 0 {
                let detail =
                    format!("expected {dtype} elements of {width} bytes, found {size} bytes");
                return Err(BlobError::new(Kind::Malformed, detail).at(offset + 8));
            }
            data.len() / width
        };
        Ok(BlobEntry { offset, dtype, element_count, data })
    }

    /// The number of packed elements in so many bytes, less the unused bits of the last one.
    fn packed_count(&self, at: usize, dtype: DType, bytes: usize) -> Result<usize, BlobError> {
        let padding = self.u64(at + 24);
        let malformed =
            |detail: String| Err(BlobError::new(Kind::Malformed, detail).at(at as u64 + 24));
        if padding >= 8 {
            return malformed(format!(
                "expected less than a byte of padding, found {padding} bits"
            ));
        }
        let Some(bits) = (bytes as u64).checked_mul(8).and_then(|b| b.checked_sub(padding)) else {
            return malformed(format!("{padding} bits of padding in {bytes} bytes"));
        };
        let width = dtype.bits() as u64;
        if bits % width != 0 {
            return malformed(format!("{bits} bits are no whole number of {dtype} elements"));
        }
        Ok((bits / width) as usize)
    }

    /// The tensor whose metadata is at `offset`, flat. It shares the file's storage unless its
    /// elements are packed.
    ///
    /// # Errors
    /// As [`BlobFile::entry`].
    pub fn tensor_at(&self, offset: u64) -> Result<Tensor, BlobError> {
        let entry = self.entry(offset)?;
        let data = self.bytes.slice(entry.data).expect("checked against the file's size");
        let bytes = if entry.dtype.is_sub_byte() {
            unpack(entry.dtype, &data, entry.element_count)
        } else {
            data
        };
        let tensor = Tensor::new(entry.dtype, vec![entry.element_count], bytes);
        Ok(tensor.expect("as many bytes as elements were counted from"))
    }

    /// Every blob, in the order of the file.
    ///
    /// # Errors
    /// As [`BlobFile::entry`], for any of as many blobs as the header says.
    pub fn list(&self) -> Result<Vec<BlobEntry>, BlobError> {
        let mut entries = Vec::new();
        let mut offset = HEADER_BYTES as u64;
        for _ in 0..self.declared_count() {
            let entry = self.entry(offset)?;
            // Every round moves on, so that a small file cannot keep this loop busy.
            if (entry.data.start as u64) < offset + METADATA_BYTES as u64 {
                let detail = format!("the data, at byte {}, is not behind", entry.data.start);
                return Err(BlobError::new(Kind::Malformed, detail).at(offset + 16));
            }
            offset = (entry.data.end as u64).next_multiple_of(ALIGNMENT);
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// Packed elements, one to a byte; `int4` sign-extended.
pub(crate) fn unpack(dtype: DType, packed: &[u8], count: usize) -> Bytes {
    let width = dtype.bits();
    let mask = (1u16 << width) - 1;
    let mut bytes = AlignedBytes::zeroed(count);
    for (i, element) in bytes.iter_mut().enumerate() {
        let (at, shift) = (i * width / 8, i * width % 8);
        let high = packed.get(at + 1).copied().unwrap_or(0);
        let bits = (u16::from_le_bytes([packed[at], high]) >> shift & mask) as u8;
        *element = if dtype == DType::I4 { ((bits << 4) as i8 >> 4) as u8 } else { bits };
    }
    Bytes::new(bytes)
}
