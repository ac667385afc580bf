use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What a reader or writer of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file could not be read or written, and where.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    offset: Option<u64>,
    detail: String,
    hint: Option<String>,
    source: Option<io::Error>,
}

/// The kinds of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    Io,
    /// The file ends before what its header promises.
    Truncated,
    /// The file is longer than what its header promises.
    TrailingBytes,
    /// The file is of another kind than the reader's.
    WrongFormat,
    /// The format is known, but not this version or feature of it.
    Unsupported,
    /// Values in the file contradict each other or are out of bounds.
    Malformed,
    /// A weight is NaN or infinite.
    NotFinite,
    /// A token id is not in the vocabulary.
    TokenOutOfRange,
    /// A checkpoint was not written to its end.
    Incomplete,
    /// Something is in the way and would have to be overwritten.
    AlreadyExists,
    /// What is to be written does not fit the format.
    NotRepresentable,
}

impl ErrorKind {
    fn phrase(self) -> &'static str {
        match self {
            Self::Io => "cannot access",
            Self::Truncated => "file is truncated",
            Self::TrailingBytes => "file is too long",
            Self::WrongFormat => "not a file of this kind",
            Self::Unsupported => "not supported",
            Self::Malformed => "file is malformed",
            Self::NotFinite => "value is not finite",
            Self::TokenOutOfRange => "token id out of range",
            Self::Incomplete => "checkpoint is not complete",
            Self::AlreadyExists => "already exists",
            Self::NotRepresentable => "cannot be written in this format",
        }
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self(Box::new(Inner { kind, path: None, offset: None, detail, hint: None, source: None }))
    }

    pub(crate) fn io(what: &str, path: &Path, source: io::Error) -> Self {
        let mut this = Self::new(ErrorKind::Io, format!("{what}: {source}")).in_file(path);
        this.0.source = Some(source);
        this
    }

    /// Wraps a failure of a writer whose file is not known here.
    pub(crate) fn write(source: io::Error) -> Self {
        let mut this = Self::new(ErrorKind::Io, format!("writing: {source}"));
        this.0.source = Some(source);
        this
    }

    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Names the file, unless an inner layer already did.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.0.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file, where one was opened by path.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The byte offset in the file, where one place is to blame.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// A way out, where there is one.
    pub fn way_out(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "{}: ", path.display())?;
        }
        write!(f, "{}: {}", self.0.kind.phrase(), self.0.detail)?;
        if let Some(offset) = self.0.offset {
            write!(f, " (at byte {offset})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}
