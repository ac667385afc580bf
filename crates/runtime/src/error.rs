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
    /// An index or another value computed by the program is outside what its op allows, or the
    /// device failed while it ran.
    Execution,
    /// The system or the hardware behind the device failed; the program is not to blame.
    System,
    /// The device compiles no further program in this process. A new process can go on.
    CompileBudget,
}

/// Why a device refused or failed, with every diagnostic it has.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    device: String,
    diagnostics: Vec<Diagnostic>,
    hint: Option<String>,
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
        Self { kind, device: device.to_owned(), diagnostics, hint: None }
    }

    /// Adds a way out.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
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
            ErrorKind::System => "the device does not work",
            ErrorKind::CompileBudget => "nothing more is compiled in this process",
        };
        write!(f, "{}: {what}", self.device)?;
        match &*self.diagnostics {
            [only] => write!(f, ": {only}"),
            many => many.iter().try_for_each(|d| write!(f, "\n  {d}")),
        }?;
        self.hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for Error {}
