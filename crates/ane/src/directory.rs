//! A model's directory: what the compiler reads.

use crate::{Descriptor, Error, ErrorKind};
use orion_mil::bundle::PROGRAM_FILE;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// A second name for all its files. Unloading a model removes its directory, and what was not
    /// compiled in this process cannot be loaded again without it.
    kept: PathBuf,
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
        let kept = parent.join(format!("{identifier}.kept"));
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
                Ok(()) => {
                    // What a process left that was killed.
                    let _ = fs::remove_dir_all(&kept);
                    if !holds(&path, descriptor) {
                        fill(&path, descriptor).map_err(failed)?;
                    }
                }
                // Somebody is there who has filled it.
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            lock.lock_shared().map_err(failed)?;
            // The last user may have removed it meanwhile.
            if !is_same_file(&lock, &lock_path) {
                continue;
            }
            // And where another has unloaded the model, only the directory is gone.
            if !path.exists() {
                fill(&path, descriptor).map_err(failed)?;
            }
            if holds(&path, descriptor) {
                break lock;
            }
        };
        Ok(Self { path, kept, lock_path, lock })
    }

    /// Where its files are under their second name.
    pub(crate) fn kept(&self) -> &Path {
        &self.kept
    }

    /// Puts a file there, whole or not at all. What has its name now is not written to, because it
    /// may have other names.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let partial = self.path.join(format!(".{name}"));
        fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, self.path.join(name)))
    }

    /// Gives all files their second name.
    pub(crate) fn keep(&self) -> Result<(), Error> {
        link_all(&self.path, &self.kept).map_err(|e| self.failed(e))
    }

    /// Makes the directory again if it was removed after [`Directory::keep`].
    pub(crate) fn restore(&self) -> Result<(), Error> {
        if self.path.exists() || !self.kept.exists() {
            return Ok(());
        }
        appear(&self.path, |partial| link_all(&self.kept, partial)).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: io::Error) -> Error {
        let message = format!("cannot write {}: {error}", self.path.display());
        Error::new(ErrorKind::Directory, message)
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
            let _ = fs::remove_dir_all(&self.kept);
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

/// Writes what a descriptor holds.
fn fill(path: &Path, descriptor: &Descriptor) -> io::Result<()> {
    appear(path, |partial| {
        for (name, bytes) in &descriptor.weights {
            let file = partial.join(weight_path(name)?);
            fs::create_dir_all(file.parent().unwrap_or(partial))?;
            fs::write(file, &**bytes)?;
        }
        fs::write(partial.join(PROGRAM_FILE), &descriptor.text)
    })
}

/// Makes a directory appear whole or not at all.
fn appear(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let partial = path.with_file_name(format!(".{name}.{}-{number}", std::process::id()));
    let write = || {
        fs::create_dir_all(&partial)?;
        fill(&partial)?;
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
        // Another user may have been faster.
        fs::rename(&partial, path).or_else(|e| if path.exists() { Ok(()) } else { Err(e) })
    };
    let written = write();
    let _ = fs::remove_dir_all(&partial);
    written
}

/// Links all files of a directory into another, which is made if need be. What is there already
/// stays.
fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_all(&entry.path(), &target)?;
        } else if !target.exists() {
            // Not every file system has second names.
            fs::hard_link(entry.path(), &target)
                .or_else(|_| fs::copy(entry.path(), &target).map(drop))?;
        }
    }
    Ok(())
}
