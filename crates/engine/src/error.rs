use std::fmt;
use std::path::{Path, PathBuf};

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is unknown or out of range.
    Config,
    /// A file is missing, damaged or of another kind than asked for.
    File,
    /// Files that are sound by themselves do not fit together.
    Mismatch,
    /// A device refused or failed.
    Device,
    /// A device compiles nothing more in this process. A new process can go on.
    CompileBudget,
    /// Training cannot go on: the loss is not a number any more.
    Diverged,
    /// What a model computes is not a number.
    NotFinite,
    /// The prompt or the text is longer than the model takes.
    Length,
}

/// Why generation, training or evaluation stopped.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner { kind, message, path: None, hint: None, source: None }))
    }

    /// What devices of this name gave cannot be used: it is infinite or NaN. `first` is what
    /// [`LayerSchedule::first_not_finite`](crate::LayerSchedule::first_not_finite) says.
    pub(crate) fn not_finite(what: &str, devices: &str, first: Option<String>) -> Self {
        let begins = first.map(|part| format!("; it begins in {part}")).unwrap_or_default();
        Self::new(
            ErrorKind::NotFinite,
            format!("{what} on {devices}: infinity, or not a number{begins}"),
        )
        .hint(
            "numbers became too large for this device's sums or number type: `-d cpu` without \
             --precision has room for the largest; if it fails too, the weights are damaged",
        )
    }

    /// Adds the file that is meant.
    pub fn at(mut self, path: &Path) -> Self {
        self.0.path = Some(path.to_owned());
        self
    }

    /// Adds a way out.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// An error about a file operation.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        let mut this = Self::new(ErrorKind::File, source.to_string()).at(path);
        this.0.source = Some(source.into());
        this
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file that is meant.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// What to do about it.
    pub fn way_out(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}

impl From<orion_runtime::Error> for Error {
    fn from(e: orion_runtime::Error) -> Self {
        let kind = match e.kind() {
            orion_runtime::ErrorKind::CompileBudget => ErrorKind::CompileBudget,
            _ => ErrorKind::Device,
        };
        Self::new(kind, e.to_string())
    }
}

impl From<orion_formats::Error> for Error {
    fn from(e: orion_formats::Error) -> Self {
        let hint = e.way_out().map(str::to_owned);
        let mut this = Self::new(ErrorKind::File, e.to_string());
        this.0.hint = hint;
        this
    }
}
