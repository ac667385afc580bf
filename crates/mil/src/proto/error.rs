use crate::text::shortened;
use std::fmt;

/// Longest detail kept; names in hostile files may be megabytes long.
const MESSAGE_LIMIT: usize = 400;

/// Why a protobuf is no program, or a program cannot be one, and where.
#[derive(Clone, PartialEq, Eq)]
pub struct ProtoError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: ProtoErrorKind,
    function: Option<String>,
    place: Option<String>,
    detail: String,
}

/// The kinds of [`ProtoError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtoErrorKind {
    /// The bytes are not a Core ML model: damaged, cut short, or something else.
    Decode,
    /// The model is a pipeline of models.
    Pipeline,
    /// The model is of a kind without a program, such as a neural network of the old format.
    NoProgram,
    /// Something that must be there is not, or contradicts something else.
    Malformed,
    /// Types, opsets or annotations that [`crate::Program`] cannot hold.
    Unsupported,
    /// A value that is not defined, or not yet.
    UndefinedValue,
    /// A name that is taken.
    DuplicateName,
    /// A literal whose content is not what its type says.
    WrongLiteral,
    /// Blocks nested deeper, or sizes larger, than any program needs.
    TooLarge,
    /// A program that Core ML's format cannot hold.
    NotRepresentable,
}

impl ProtoErrorKind {
    fn phrase(self) -> &'static str {
        match self {
            Self::Decode => "not a Core ML model",
            Self::Pipeline => "the model is a pipeline",
            Self::NoProgram => "the model has no MIL program",
            Self::Malformed => "malformed",
            Self::Unsupported => "not supported",
            Self::UndefinedValue => "undefined value",
            Self::DuplicateName => "defined twice",
            Self::WrongLiteral => "wrong literal",
            Self::TooLarge => "too large",
            Self::NotRepresentable => "Core ML's format cannot hold this",
        }
    }
}

impl ProtoError {
    pub(super) fn new(kind: ProtoErrorKind, detail: impl Into<String>) -> Self {
        let detail = shortened(detail.into(), MESSAGE_LIMIT);
        Self(Box::new(Inner { kind, function: None, place: None, detail }))
    }

    pub(super) fn in_function(mut self, function: &str) -> Self {
        self.0.function = Some(shortened(function.to_owned(), MESSAGE_LIMIT));
        self
    }

    /// Adds a place around the one that is known.
    pub(super) fn at(mut self, place: impl FnOnce() -> String) -> Self {
        let place = match self.0.place.take() {
            Some(inner) => format!("{}, {inner}", place()),
            None => place(),
        };
        self.0.place = Some(shortened(place, MESSAGE_LIMIT));
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ProtoErrorKind {
        self.0.kind
    }

    /// The function, where it is in one.
    pub fn function(&self) -> Option<&str> {
        self.0.function.as_deref()
    }

    /// The operation, value or attribute, where it is in one, from the outside in.
    pub fn place(&self) -> Option<&str> {
        self.0.place.as_deref()
    }
}

impl fmt::Display for ProtoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = &self.0.function {
            write!(f, "in {function}, ")?;
        }
        if let Some(place) = &self.0.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}: {}", self.0.kind.phrase(), self.0.detail)
    }
}

impl fmt::Debug for ProtoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for ProtoError {}
