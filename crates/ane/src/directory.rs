//! A model's directory: what the compiler reads.

use crate::{Descriptor, Error, ErrorKind};
use orion_mil::bundle::PROGRAM_FILE;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// What names of weight files start with; it stands for the model's directory.
const MODEL_PATH: &str = "@model_path/";

/// The files in which a compiled program is kept, from which another can be made without the
/// compiler.
pub(crate) const COMPILED_FILES: [&str; 2] = ["net.plist", "data"];

/// The directory of one model, removed when its last user in any process is gone.
///
/// The name comes from the content, so that processes that run the same program share it. Each
/// holds a lock on a file beside it; the system lets go of it even when a process is killed.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    lock_path: PathBuf,
    lock: File,
}

impl Directory {
    /// Writes what a descriptor holds to where the framework looks for it. A directory that is
    /// there already and holds just this is left alone.
    pub(crate) fn write(
        parent: &Path,
        identifier: &str,
        descriptor: &Descriptor,
    ) -> Result<Self, Error> {
        let path = parent.join(identifier);
        let lock_path = parent.join(format!("{identifier}.lock"));
        let failed = |e: io::Error| {
            Error::new(ErrorKind::Directory, format!("cannot write {}: {e}", path.display()))
        };
        if identifier.is_empty()
            || !identifier.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            let message = format!("{identifier:?} is no name of a directory");
            return Err(Error::new(ErrorKind::Directory, message));
        }
        fs::create_dir_all(parent).map_err(failed)?;
        let lock = loop {
            let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
            let lock = lock.map_err(failed)?;
            match lock.try_lock() {
                Ok(()) if !holds(&path, descriptor) => {
                    fill(parent, &path, descriptor).map_err(failed)?;
                }
                // Nobody else is there, or somebody who has filled it.
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            lock.lock_shared().map_err(failed)?;
            // The last user may have removed it meanwhile.
            if is_same_file(&lock, &lock_path) && holds(&path, descriptor) {
                break lock;
            }
        };
        Ok(Self { path, lock_path, lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Whoever is alone removes it. There is nobody to tell when that fails.
        let _ = self.lock.unlock();
        if self.lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&self.path);
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

#[cfg(unix)]
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(open), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

#[cfg(not(unix))]
fn is_same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

/// The file of a directory that a weight file's name means.
fn weight_path(name: &str) -> io::Result<&Path> {
    let path = name.strip_prefix(MODEL_PATH).map(Path::new);
    path.ok_or_else(|| io::Error::other(format!("{name:?} does not start with {MODEL_PATH}")))
}

/// Whether a directory holds the program and weights of this descriptor. The name comes from the
/// content, so sizes of weights are enough to see that a file is whole.
fn holds(path: &Path, descriptor: &Descriptor) -> bool {
    let program = fs::read(path.join(PROGRAM_FILE));
    program.is_ok_and(|text| text == descriptor.text.as_bytes())
        && descriptor.weights.iter().all(|(name, bytes)| {
            let written = weight_path(name).and_then(|file| fs::metadata(path.join(file)));
            written.is_ok_and(|m| m.len() == bytes.len() as u64)
        })
}

/// Makes the directory appear whole or not at all.
fn fill(parent: &Path, path: &Path, descriptor: &Descriptor) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = parent.join(format!(".{name}.{}", std::process::id()));
    let write = || {
        fs::create_dir_all(&partial)?;
        for (name, bytes) in &descriptor.weights {
            let file = partial.join(weight_path(name)?);
            fs::create_dir_all(file.parent().unwrap_or(&partial))?;
            fs::write(file, &**bytes)?;
        }
        fs::write(partial.join(PROGRAM_FILE), &descriptor.text)?;
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
        fs::rename(&partial, path)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    written
}
