use crate::{Error, ErrorKind, Result};
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use orion_tensor::Bytes;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// The contents of a regular file, mapped read-only into memory.
///
/// Pages are read when first touched, so opening a large file costs nothing. A file must not be
/// changed in place while it is mapped; everything in Orion that replaces a file writes a new one
/// and renames it, which leaves the mapped one alone.
///
/// # Errors
/// [`ErrorKind::Io`] when the file cannot be opened, is not a regular file or cannot be mapped.
pub fn map_file(path: impl AsRef<Path>) -> Result<Bytes> {
    MappedFile::open(path).map(|file| file.bytes())
}

/// A file mapped into memory whose pages can be given back.
#[derive(Debug, Clone)]
pub struct MappedFile(Option<Arc<Mmap>>);

/// Bytes that keep their mapping.
struct Kept(Arc<Mmap>);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl MappedFile {
    /// Maps a file as [`map_file`] does.
    ///
    /// # Errors
    /// As [`map_file`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        map(path.as_ref()).map(Self)
    }

    /// The contents.
    pub fn bytes(&self) -> Bytes {
        match &self.0 {
            Some(map) => Bytes::new(Kept(map.clone())),
            None => Bytes::new(Vec::new()),
        }
    }

    /// Gives memory back in which `part` of this file lies, after it was copied: whoever reads it
    /// again reads it from the file. Says whether it is a part of this file.
    pub fn give_back(&self, part: &Bytes) -> bool {
        let Some(map) = &self.0 else { return false };
        let start = part.as_ptr().addr().checked_sub(map.as_ptr().addr());
        let Some(start) = start.filter(|&start| start + part.len() <= map.len()) else {
            return false;
        };
        #[cfg(unix)]
        {
            #[expect(unsafe_code, reason = "pages can be given back by no other means")]
            // SAFETY: the range lies inside the mapping, which is a file's, shared and never
            // written to, so that pages that are dropped come back with the same contents.
            let given =
                unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, part.len()) };
            // Where the system does not take the advice, the memory stays in use; nothing else.
            drop(given);
        }
        true
    }
}

fn map(path: &Path) -> Result<Option<Arc<Mmap>>> {
    let file = File::open(path).map_err(|e| Error::io("opening", path, e))?;
    let metadata = file.metadata().map_err(|e| Error::io("reading the size", path, e))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "not a regular file" };
        return Err(
            Error::new(ErrorKind::Io, format!("expected a file, this is {what}")).in_file(path)
        );
    }
    if metadata.len() == 0 {
        return Ok(None);
    }
    #[expect(unsafe_code, reason = "memory mapping has no safe interface")]
    // SAFETY: the mapping is private to this process's reads and lives as long as the `Bytes` that
    // own it. Another process that truncates or rewrites the file while it is mapped would break
    // the promise that a `&[u8]` does not change; that is documented above and cannot be ruled out
    // by any program that maps files.
    let map = unsafe { Mmap::map(&file) };
    map.map(|map| Some(Arc::new(map))).map_err(|e| Error::io("mapping into memory", path, e))
}
