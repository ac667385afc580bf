//! Weight files: what `BLOBFILE` values point into, in storage version 2.
//!
//! Reads and writes bytes; which files a program has, and where, is [`crate::bundle`]'s business.
//!
//! A file is a header of 64 bytes and then blobs, each 64 bytes of metadata at a multiple of 64
//! and its data right behind. The offset a program names is that of the metadata. All numbers are
//! little-endian. Elements narrower than a byte are packed from the low bits up and may straddle
//! bytes.

mod error;
mod load;
mod read;
mod write;

pub use error::{BlobError, BlobErrorKind};
pub(crate) use load::blob_references;
pub use load::{declared_weight_bytes, load_weights};
pub(crate) use read::unpack;
pub use read::{BlobEntry, BlobFile};
pub(crate) use write::pack;
pub use write::write_blob_file;

use orion_tensor::DType;

const VERSION: u32 = 2;
const SENTINEL: u32 = 0xdead_beef;
const HEADER_BYTES: usize = 64;
const METADATA_BYTES: usize = 64;
/// What metadata and data are aligned to.
const ALIGNMENT: u64 = 64;

/// Element types by their number in a blob's metadata, from 1.
const DTYPES: [DType; 17] = [
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
