use std::fmt;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A size was asked for that the model does not take.
    Size,
    /// Two devices were given for what is measured on one.
    Devices,
    /// The model or the device failed.
    Run,
    /// What was measured computes nothing sensible, so its time says nothing.
    NotFinite,
    /// A file is not a report of benchmarks.
    Report,
}

/// Why a benchmark gave no result.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<orion_runtime::Error> for Error {
    fn from(e: orion_runtime::Error) -> Self {
        Self::new(ErrorKind::Run, e.to_string())
    }
}

impl From<orion_engine::Error> for Error {
    fn from(e: orion_engine::Error) -> Self {
        let message = match e.way_out() {
            Some(hint) => format!("{e}\nhint: {hint}"),
            None => e.to_string(),
        };
        Self::new(ErrorKind::Run, message)
    }
}
