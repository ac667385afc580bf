use crate::{Error, ErrorKind, Result};
use orion_tensor::Bytes;
use std::fs::File;
use std::path::Path;

/// The contents of a regular file, mapped read-only into memory.
///
/// Pages are read when first touched, so opening a large file costs nothing. A file must not be
/// changed in place while it is mapped; everything in Orion that replaces a file writes a new one
/// and renames it, which leaves the mapped one alone.
///
/// # Errors
/// [`ErrorKind::Io`] when the file cannot be opened, is not a regular file or cannot be mapped.
pub fn map_file(path: impl AsRef<Path>) -> Result<Bytes> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|e| Error::io("opening", path, e))?;
    let metadata = file.metadata().map_err(|e| Error::io("reading the size", path, e))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "not a regular file" };
        return Err(
            Error::new(ErrorKind::Io, format!("expected a file, this is {what}")).in_file(path)
        );
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new(Vec::new()));
    }
    #[expect(unsafe_code, reason = "memory mapping has no safe interface")]
    // SAFETY: the mapping is private to this process's reads and lives as long as the `Bytes` that
    // own it. Another process that truncates or rewrites the file while it is mapped would break
    // the promise that a `&[u8]` does not change; that is documented above and cannot be ruled out
    // by any program that maps files.
    let map = unsafe { memmap2::Mmap::map(&file) };
    Ok(Bytes::new(map.map_err(|e| Error::io("mapping into memory", path, e))?))
}
