//! A program and its weights as a directory: `model.mil` and the weight files it names.
//!
//! A compiled `.mlmodelc` is one of these with more files in it, which are left alone. Other ways
//! to keep a program are [`crate::package`]'s; nothing else of the crate touches the file system.

use crate::blob::{BlobError, blob_references, load_weights, write_blob_file};
use crate::proto::ProtoError;
use crate::text::{ParseError, parse, print};
use crate::{Program, WeightError, Weights};
use orion_tensor::{AlignedBytes, Bytes};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

/// The file that holds the program.
pub const PROGRAM_FILE: &str = "model.mil";

/// What file names in programs start with; it stands for the bundle's directory.
const MODEL_PATH: &str = "@model_path/";

/// A program with its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// The program.
    pub program: Program,
    /// Its weights, in the files and at the offsets the program names.
    pub weights: Weights,
}

impl Bundle {
    /// Reads a bundle's directory, or a program file with the weights beside it.
    ///
    /// # Errors
    /// When a file is missing, no MIL, no weight file, or would be outside the bundle.
    pub fn load(path: &Path) -> Result<Self, BundleError> {
        Self::load_with(path, &read_aligned)
    }

    /// The same with the caller's way of getting at a file's bytes, such as mapping it.
    ///
    /// # Errors
    /// As [`Bundle::load`], and when `read` fails.
    pub fn load_with(
        path: &Path,
        read: &dyn Fn(&Path) -> io::Result<Bytes>,
    ) -> Result<Self, BundleError> {
        let (directory, program_file) = if path.is_dir() {
            (path.to_owned(), path.join(PROGRAM_FILE))
        } else {
            (path.parent().unwrap_or(Path::new("")).to_owned(), path.to_owned())
        };
        let bytes = read(&program_file).map_err(|e| BundleError::io(&program_file, e))?;
        let program = parse_text(&bytes, &program_file)?;
        Self::with_weights_in(program, &directory, &program_file, read)
    }

    /// Finds the weights of a program that was read from a file, in the directory that its
    /// weights' names are relative to.
    pub(crate) fn with_weights_in(
        program: Program,
        directory: &Path,
        program_file: &Path,
        read: &dyn Fn(&Path) -> io::Result<Bytes>,
    ) -> Result<Self, BundleError> {
        for reference in blob_references(&program) {
            inside(reference.file, program_file)?;
        }
        let open = |file: &str| match inside(file, program_file) {
            Ok(relative) => read(&directory.join(relative)),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        let weights = load_weights(&program, open).map_err(|e| {
            BundleError::caused(BundleErrorKind::Weights, directory, Cause::Blob(e))
        })?;
        Ok(Self { program, weights })
    }

    /// Writes the bundle as a new directory, which appears complete or not at all.
    ///
    /// # Errors
    /// When `directory` exists and is not empty, the weights lack a blob the program names, a
    /// weight file's name would be outside the directory, or writing fails.
    pub fn save(&self, directory: &Path) -> Result<(), BundleError> {
        self.check_weights(directory)?;
        write_directory(directory, |partial| self.write_files(partial))
    }

    /// Refuses a program whose weights are not there, or not inside the directory.
    pub(crate) fn check_weights(&self, directory: &Path) -> Result<(), BundleError> {
        for reference in blob_references(&self.program) {
            inside(reference.file, directory)?;
            self.weights.resolve(reference.value).map_err(|e| {
                BundleError::caused(BundleErrorKind::Weights, directory, Cause::Missing(e))
            })?;
        }
        Ok(())
    }

    fn write_files(&self, directory: &Path) -> Result<(), BundleError> {
        self.write_weights(directory)?;
        let path = directory.join(PROGRAM_FILE);
        write_file(&path, print(&self.program).as_bytes())
    }

    /// Writes every weight file to its place in a directory.
    pub(crate) fn write_weights(&self, directory: &Path) -> Result<(), BundleError> {
        for (file, tensors) in self.weights.files() {
            let path = directory.join(inside(file, directory)?);
            if path == directory.join(PROGRAM_FILE) {
                let message = format!("weights cannot be in {PROGRAM_FILE}");
                return Err(BundleError::new(BundleErrorKind::UnsafePath, &path, message));
            }
            write_synced(&path, |out| {
                write_blob_file(tensors, out).map_err(|e| {
                    BundleError::caused(BundleErrorKind::Weights, &path, Cause::Blob(e))
                })
            })?;
        }
        Ok(())
    }
}

/// The program that a file's bytes are the text of.
pub(crate) fn parse_text(bytes: &[u8], file: &Path) -> Result<Program, BundleError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let message = format!("expected UTF-8 text, found other bytes from {}", e.valid_up_to());
        BundleError::new(BundleErrorKind::NotText, file, message)
    })?;
    parse(text).map_err(|e| BundleError::caused(BundleErrorKind::Program, file, Cause::Text(e)))
}

/// Has a new directory written under another name, and then gives it its own: it appears complete
/// or not at all.
pub(crate) fn write_directory(
    directory: &Path,
    write: impl FnOnce(&Path) -> Result<(), BundleError>,
) -> Result<(), BundleError> {
    let Some(name) = directory.file_name() else {
        let message = "the path does not end in a name";
        return Err(BundleError::new(BundleErrorKind::UnsafePath, directory, message));
    };
    if is_occupied(directory).map_err(|e| BundleError::io(directory, e))? {
        let message = "nothing is written over";
        return Err(BundleError::new(BundleErrorKind::AlreadyExists, directory, message));
    }
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let partial = format!(".{}.partial-{}", name.to_string_lossy(), std::process::id());
    let partial = parent.join(partial);
    let written = fs::create_dir_all(&partial)
        .map_err(|e| BundleError::io(&partial, e))
        .and_then(|()| write(&partial))
        .and_then(|()| fs::rename(&partial, directory).map_err(|e| BundleError::io(directory, e)));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    write_synced(path, |out| out.write_all(bytes).map_err(|e| BundleError::io(path, e)))
}

/// Whether something is there that renaming would replace or fail on; an empty directory is not.
fn is_occupied(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => Ok(true),
        Err(e) => Err(e),
    }
}

fn write_synced(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), BundleError>,
) -> Result<(), BundleError> {
    let io = |e| BundleError::io(path, e);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    let mut out = BufWriter::new(File::create_new(path).map_err(io)?);
    write(&mut out)?;
    out.flush().map_err(io)?;
    out.get_ref().sync_all().map_err(io)
}

/// The whole file, aligned so that tensors can be used where they lie.
pub(crate) fn read_aligned(path: &Path) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = AlignedBytes::zeroed(length);
    file.read_exact(&mut bytes)?;
    Ok(Bytes::new(bytes))
}

/// The path, relative to the bundle, of a file name in a program. `place` is for the error.
fn inside(file: &str, place: &Path) -> Result<PathBuf, BundleError> {
    let relative = file.strip_prefix(MODEL_PATH).map(Path::new);
    // A backslash separates on some systems only: a bundle means the same everywhere.
    let is_safe = |path: &&Path| {
        path.components().next().is_some()
            && path.components().all(|c| matches!(c, Component::Normal(_)))
            && !file.contains('\\')
    };
    relative.filter(is_safe).map(Path::to_owned).ok_or_else(|| {
        let message =
            format!("the weight file {file:?} is not {MODEL_PATH} and a path inside the bundle");
        BundleError::new(BundleErrorKind::UnsafePath, place, message)
    })
}

/// Why a bundle could not be read or written, and which file is to blame.
pub struct BundleError(Box<Inner>);

struct Inner {
    kind: BundleErrorKind,
    path: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
pub(crate) enum Cause {
    Message(String),
    Io(io::Error),
    Text(ParseError),
    Proto(ProtoError),
    Blob(BlobError),
    Missing(WeightError),
}

/// The kinds of [`BundleError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BundleErrorKind {
    /// The operating system refused.
    Io,
    /// The program is not text.
    NotText,
    /// The program is not MIL, or cannot be written; the source is a [`ParseError`] or a
    /// [`ProtoError`].
    Program,
    /// A package's list of files is damaged, or lacks the model.
    Manifest,
    /// It holds the several models of a pipeline, not one program.
    Pipeline,
    /// Weights are missing, damaged or not what the program says.
    Weights,
    /// A path leads out of the bundle, or is none that a bundle can have.
    UnsafePath,
    /// Something is in the way and would have to be overwritten.
    AlreadyExists,
}

impl BundleError {
    pub(crate) fn caused(kind: BundleErrorKind, path: &Path, cause: Cause) -> Self {
        Self(Box::new(Inner { kind, path: path.to_owned(), cause }))
    }

    pub(crate) fn new(kind: BundleErrorKind, path: &Path, message: impl Into<String>) -> Self {
        Self::caused(kind, path, Cause::Message(message.into()))
    }

    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        Self::caused(BundleErrorKind::Io, path, Cause::Io(error))
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> BundleErrorKind {
        self.0.kind
    }

    /// The file or directory it is about.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.path.display();
        let phrase = match self.0.kind {
            BundleErrorKind::Io => "cannot access",
            BundleErrorKind::NotText => "not a program",
            BundleErrorKind::AlreadyExists => "already exists",
            BundleErrorKind::UnsafePath => "not a path of a bundle",
            BundleErrorKind::Manifest => "not a package",
            BundleErrorKind::Pipeline => "a pipeline",
            BundleErrorKind::Program | BundleErrorKind::Weights => "",
        };
        let separator = if phrase.is_empty() { "" } else { ": " };
        write!(f, "{path}: {phrase}{separator}")?;
        match &self.0.cause {
            Cause::Message(message) => f.write_str(message),
            Cause::Io(e) => e.fmt(f),
            Cause::Text(e) => e.fmt(f),
            Cause::Proto(e) => e.fmt(f),
            Cause::Blob(e) => e.fmt(f),
            Cause::Missing(e) => e.fmt(f),
        }
    }
}

impl fmt::Debug for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for BundleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            Cause::Message(_) => None,
            Cause::Io(e) => Some(e),
            Cause::Text(e) => Some(e),
            Cause::Proto(e) => Some(e),
            Cause::Blob(e) => Some(e),
            Cause::Missing(e) => Some(e),
        }
    }
}
