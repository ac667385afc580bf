use std::fmt;

/// Why a program could not be compiled, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError(Box<Details>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Details {
    kind: CompileErrorKind,
    function: String,
    op: Option<String>,
    value: Option<String>,
    message: String,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CompileErrorKind {
    /// The program that was given does not verify.
    InvalidProgram,
    /// A pass made a program that does not verify, or changed its inputs or outputs: a bug.
    InvalidRewrite,
    /// No parameter or result of that name.
    UnknownValue,
    /// A value's type does not fit what is asked of it.
    WrongType,
    /// The name of a new input or output is taken.
    NameTaken,
    /// The result depends on a parameter through an op that has no derivative.
    NotDifferentiable,
    /// The op has a derivative, but this compiler does not make it.
    NotSupported,
}

impl CompileError {
    pub(crate) fn new(
        kind: CompileErrorKind,
        function: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Details {
            kind,
            function: function.into(),
            op: None,
            value: None,
            message: message.into(),
        }))
    }

    pub(crate) fn at_op(mut self, op: impl Into<String>) -> Self {
        self.0.op = Some(op.into());
        self
    }

    pub(crate) fn at_value(mut self, value: impl Into<String>) -> Self {
        self.0.value = Some(value.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> CompileErrorKind {
        self.0.kind
    }

    /// Name of the function concerned; empty when it is the program.
    pub fn function(&self) -> &str {
        &self.0.function
    }

    /// MIL name of the operation concerned, such as `conv`.
    pub fn op(&self) -> Option<&str> {
        self.0.op.as_deref()
    }

    /// Name of the value concerned: an input, an output, or the first result of the operation.
    pub fn value(&self) -> Option<&str> {
        self.0.value.as_deref()
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { function, op, value, message, .. } = &*self.0;
        if !function.is_empty() {
            write!(f, "in {function}: ")?;
        }
        match (op, value) {
            (Some(op), Some(value)) => write!(f, "{op} -> {value}: ")?,
            (Some(place), None) | (None, Some(place)) => write!(f, "{place}: ")?,
            (None, None) => {}
        }
        f.write_str(message)
    }
}

impl std::error::Error for CompileError {}
