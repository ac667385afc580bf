use std::fmt;
use std::io;

/// Why weights could not be read or written, and where.
pub struct BlobError(Box<Inner>);

struct Inner {
    kind: BlobErrorKind,
    file: Option<String>,
    value: Option<String>,
    offset: Option<u64>,
    detail: String,
    source: Option<io::Error>,
}

/// The kinds of [`BlobError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlobErrorKind {
    /// The operating system, or the caller's reader, refused.
    Io,
    /// The file ends before what its metadata promises.
    Truncated,
    /// The file is not blob storage version 2.
    WrongFormat,
    /// There is no blob at the offset a program names.
    NoBlob,
    /// Metadata contradicts itself.
    Malformed,
    /// A blob's element type or count is not what the program says.
    Mismatch,
    /// Tensors that a blob file cannot hold, or not at these offsets.
    NotRepresentable,
}

impl BlobErrorKind {
    fn phrase(self) -> &'static str {
        match self {
            Self::Io => "cannot access the weight file",
            Self::Truncated => "the weight file is truncated",
            Self::WrongFormat => "not a weight file",
            Self::NoBlob => "no blob there",
            Self::Malformed => "the weight file is malformed",
            Self::Mismatch => "the blob is not what the program says",
            Self::NotRepresentable => "cannot be written to a weight file",
        }
    }
}

impl BlobError {
    pub(super) fn new(kind: BlobErrorKind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self(Box::new(Inner { kind, file: None, value: None, offset: None, detail, source: None }))
    }

    pub(super) fn io(source: io::Error) -> Self {
        let mut this = Self::new(BlobErrorKind::Io, source.to_string());
        this.0.source = Some(source);
        this
    }

    pub(super) fn at(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    pub(super) fn in_file(mut self, file: &str) -> Self {
        self.0.file.get_or_insert_with(|| file.to_owned());
        self
    }

    pub(super) fn of_value(mut self, value: &str) -> Self {
        self.0.value = Some(value.to_owned());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> BlobErrorKind {
        self.0.kind
    }

    /// The file as the program names it, where known.
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// The value of the program whose weights these are, where known.
    pub fn value(&self) -> Option<&str> {
        self.0.value.as_deref()
    }

    /// The byte offset in the file, where one place is to blame.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.0.file {
            write!(f, "{file}: ")?;
        }
        if let Some(value) = &self.0.value {
            write!(f, "weights of `{value}`: ")?;
        }
        write!(f, "{}: {}", self.0.kind.phrase(), self.0.detail)?;
        match self.0.offset {
            Some(offset) => write!(f, " (at byte {offset})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for BlobError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}
