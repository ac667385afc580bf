use std::fmt;

/// Longest message kept; types and names in hostile text may be megabytes long.
const MESSAGE_LIMIT: usize = 400;

/// Why a text is not a MIL program, and where.
#[derive(Clone, PartialEq, Eq)]
pub struct ParseError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: ParseErrorKind,
    line: usize,
    column: usize,
    message: String,
    hint: Option<String>,
}

/// The kinds of [`ParseError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// A character or string that belongs to no token.
    Lexical,
    /// A token in a place where another was expected.
    Syntax,
    /// An argument without a name.
    PositionalArgument,
    /// A literal without its type where one must stand.
    UntypedLiteral,
    /// A name that is no type, or a type that is not supported.
    UnknownType,
    /// A value that is not defined, or not yet.
    UndefinedValue,
    /// A name that is taken.
    DuplicateName,
    /// A literal that does not have the structure or element count its type asks for.
    WrongLiteral,
    /// A number that its element type cannot hold.
    OutOfRange,
    /// Blocks or types nested deeper, or sizes larger, than any program needs.
    TooLarge,
}

impl ParseError {
    pub(super) fn new(
        text: &str,
        offset: usize,
        kind: ParseErrorKind,
        message: impl Into<String>,
    ) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        // Continuation bytes do not start a character.
        let column = before[line_start..].iter().filter(|&&b| b & 0xc0 != 0x80).count() + 1;
        let message = shortened(message.into(), MESSAGE_LIMIT);
        Self(Box::new(Inner { kind, line, column, message, hint: None }))
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(shortened(hint.into(), MESSAGE_LIMIT));
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ParseErrorKind {
        self.0.kind
    }

    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        self.0.line
    }

    /// The column, counted in characters from 1.
    pub fn column(&self) -> usize {
        self.0.column
    }

    /// A way out, where there is one.
    pub fn way_out(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.0.line, self.0.column, self.0.message)?;
        if let Some(hint) = &self.0.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for ParseError {}

/// At most `limit` bytes of `text`, cut at a character, with an ellipsis where something is cut.
pub(crate) fn shortened(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
    text
}
