use orion_mil::Diagnostic;
use std::fmt;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The program breaks a rule of the language or of the device.
    InvalidProgram,
    /// The program is legal, but this device has no way to run it.
    Unsupported,
    /// A weight file does not hold what the program names.
    Weights,
    /// A surface is missing, unknown, or of another type than the program's.
    Binding,
    /// An index or another value computed by the program is outside what its op allows.
    Execution,
}

/// Why a device refused or failed, with every diagnostic it has.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    device: String,
    diagnostics: Vec<Diagnostic>,
}

impl Error {
    /// An error with one message about the program as a whole.
    pub fn new(kind: ErrorKind, device: &str, message: impl Into<String>) -> Self {
        let diagnostic =
            Diagnostic { function: String::new(), place: String::new(), message: message.into() };
        Self::with_diagnostics(kind, device, vec![diagnostic])
    }

    /// An error with places in the program.
    pub fn with_diagnostics(kind: ErrorKind, device: &str, diagnostics: Vec<Diagnostic>) -> Self {
        Self { kind, device: device.to_owned(), diagnostics }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Everything that is wrong.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::InvalidProgram => "the program is not valid",
            ErrorKind::Unsupported => "the program cannot run here",
            ErrorKind::Weights => "the program's weights do not fit",
            ErrorKind::Binding => "the surfaces do not fit the program",
            ErrorKind::Execution => "the program failed",
        };
        write!(f, "{}: {what}", self.device)?;
        match &*self.diagnostics {
            [only] => write!(f, ": {only}"),
            many => many.iter().try_for_each(|d| write!(f, "\n  {d}")),
        }
    }
}

impl std::error::Error for Error {}
