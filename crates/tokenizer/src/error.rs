use std::fmt;
use std::path::{Path, PathBuf};

/// What fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a tokenizer could not be read, trained or written, and where.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    offset: Option<u64>,
    detail: String,
    hint: Option<String>,
    source: Option<std::io::Error>,
}

/// The kinds of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    Io,
    /// The file ends in the middle of an entry.
    Truncated,
    /// The file is of another kind than the reader's.
    WrongFormat,
    /// The file asks for something this crate does not do.
    Unsupported,
    /// Values in the file contradict each other or are out of bounds.
    Malformed,
    /// A tokenizer of the wanted size cannot be trained.
    Training,
}

impl ErrorKind {
    fn phrase(self) -> &'static str {
        match self {
            Self::Io => "cannot access",
            Self::Truncated => "tokenizer is truncated",
            Self::WrongFormat => "not a tokenizer of this kind",
            Self::Unsupported => "tokenizer is not supported",
            Self::Malformed => "tokenizer is malformed",
            Self::Training => "cannot train a tokenizer",
        }
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let (path, offset, hint, source) = (None, None, None, None);
        Self(Box::new(Inner { kind, path, offset, detail, hint, source }))
    }

    pub(crate) fn io(what: &str, path: &Path, source: std::io::Error) -> Self {
        let mut this = Self::new(ErrorKind::Io, format!("{what}: {source}")).in_file(path);
        this.0.source = Some(source);
        this
    }

    pub(crate) fn at(mut self, offset: usize) -> Self {
        self.0.offset = Some(offset as u64);
        self
    }

    /// Says what to do about it.
    #[cfg(not(feature = "tokenizers"))]
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

    /// What to do about it.
    pub fn way_out(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The byte offset in the file, where one place is to blame.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "{}: ", path.display())?;
        }
        write!(f, "{}: {}", self.0.kind.phrase(), self.0.detail)?;
        match self.0.offset {
            Some(offset) => write!(f, " (at byte {offset})"),
            None => Ok(()),
        }
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
