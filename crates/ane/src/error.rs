use crate::{CallError, Failure};
use orion_mil::Diagnostic;
use orion_runtime as runtime;
use std::fmt;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no Neural Engine, or the system is not one this was written for.
    Absent,
    /// The program breaks a rule of the language or of the engine.
    Program,
    /// The compiler refused, without a reason or with one.
    Compile,
    /// The process may not compile any more; a new process may.
    CompileBudget,
    /// A compiled program could not be loaded.
    Load,
    /// Memory is missing, unknown, or of another type than the program's.
    Binding,
    /// A run failed.
    Evaluate,
    /// No memory that the engine can see.
    Surface,
    /// A weight is missing or of another type.
    Weights,
    /// A model's directory could not be written.
    Directory,
    /// Something that was to be proven when the device was opened came out wrong.
    Proof,
}

/// Why the device failed, with what the system said and what our own rules say beside it.
#[derive(Debug, Clone)]
pub struct Error {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) call: Option<Box<CallError>>,
    pub(crate) findings: Vec<Diagnostic>,
    pub(crate) hint: Option<String>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), call: None, findings: Vec::new(), hint: None }
    }

    /// A failed call, while `what` was done.
    pub(crate) fn of_call(kind: ErrorKind, what: &str, call: CallError) -> Self {
        let hint = Some(call.failure().hint().to_owned());
        Self {
            kind,
            message: what.to_owned(),
            call: Some(Box::new(call)),
            findings: Vec::new(),
            hint,
        }
    }

    /// Memory of a caller that cannot be had.
    pub(crate) fn of_memory(error: runtime::Error) -> Self {
        let words = error.diagnostics().iter().map(|d| d.message.as_str());
        Self::new(ErrorKind::Surface, words.collect::<Vec<_>>().join("; "))
    }

    pub(crate) fn with_findings(mut self, findings: Vec<Diagnostic>) -> Self {
        self.findings = findings;
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The call that failed, in the system's words.
    pub fn call(&self) -> Option<&CallError> {
        self.call.as_deref()
    }

    /// What the failed call means.
    pub fn failure(&self) -> Option<Failure> {
        self.call().map(CallError::failure)
    }

    /// What our rules say about the program.
    pub fn findings(&self) -> &[Diagnostic] {
        &self.findings
    }

    /// The same as an error of every device.
    pub(crate) fn for_device(self, device: &str) -> runtime::Error {
        let kind = match self.kind {
            ErrorKind::Program => runtime::ErrorKind::InvalidProgram,
            ErrorKind::Compile | ErrorKind::Proof => runtime::ErrorKind::Unsupported,
            ErrorKind::CompileBudget => runtime::ErrorKind::CompileBudget,
            ErrorKind::Binding => runtime::ErrorKind::Binding,
            ErrorKind::Weights => runtime::ErrorKind::Weights,
            ErrorKind::Evaluate => runtime::ErrorKind::Execution,
            ErrorKind::Absent | ErrorKind::Load | ErrorKind::Surface | ErrorKind::Directory => {
                runtime::ErrorKind::System
            }
        };
        let message = self.to_string_without_findings();
        let whole = Diagnostic { function: String::new(), place: String::new(), message };
        let diagnostics = std::iter::once(whole).chain(self.findings).collect();
        let error = runtime::Error::with_diagnostics(kind, device, diagnostics);
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    fn to_string_without_findings(&self) -> String {
        match &self.call {
            Some(call) => format!("{}: {call}", self.message),
            None => self.message.clone(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string_without_findings())?;
        self.findings.iter().try_for_each(|d| write!(f, "\n  {d}"))?;
        self.hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for Error {}
