use super::error::{ParseError, ParseErrorKind, shortened};

/// A piece of MIL text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    /// As it stands in the text, quotes and signs included.
    pub(super) text: &'a str,
    /// Byte offset of its start.
    pub(super) offset: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Identifier,
    Number,
    String,
    /// `->`
    Arrow,
    /// One of the punctuation characters.
    Punctuation(u8),
    /// The end of the text.
    End,
}

impl Token<'_> {
    pub(super) fn is(&self, punctuation: u8) -> bool {
        self.kind == TokenKind::Punctuation(punctuation)
    }

    /// How messages name it.
    pub(super) fn describe(&self) -> String {
        match self.kind {
            TokenKind::End => "the end of the text".to_owned(),
            TokenKind::String => shortened(self.text.to_owned(), 40),
            _ => format!("`{}`", shortened(self.text.to_owned(), 40)),
        }
    }
}

/// Cuts text into tokens, one at a time; space and `//` comments are skipped.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    fn count_while(&self, from: usize, keep: impl Fn(u8) -> bool) -> usize {
        let rest = &self.text.as_bytes()[from..];
        rest.iter().position(|&b| !keep(b)).unwrap_or(rest.len())
    }

    fn skip_space(&mut self) {
        loop {
            self.position += self.count_while(self.position, |b| b.is_ascii_whitespace());
            if !self.text.as_bytes()[self.position..].starts_with(b"//") {
                return;
            }
            self.position += self.count_while(self.position, |b| b != b'\n');
        }
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>, ParseError> {
        self.skip_space();
        let bytes = self.text.as_bytes();
        let start = self.position;
        let Some(&first) = bytes.get(start) else {
            return Ok(Token { kind: TokenKind::End, text: "", offset: start });
        };
        let second = bytes.get(start + 1).copied().unwrap_or(b' ');
        let (kind, length) = match first {
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => {
                (TokenKind::Identifier, self.count_while(start, is_identifier_byte))
            }
            b'-' if second == b'>' => (TokenKind::Arrow, 2),
            b'0'..=b'9' => (TokenKind::Number, self.number_length(start)),
            b'-' if second.is_ascii_alphanumeric() => {
                (TokenKind::Number, 1 + self.number_length(start + 1))
            }
            b'"' => (TokenKind::String, self.string_length(start)?),
            b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b',' | b';' | b'=' | b'?'
            | b'*' | b'.' => (TokenKind::Punctuation(first), 1),
            _ => {
                let character = self.text[start..].chars().next().unwrap_or_default();
                let message = format!("unexpected character {character:?}");
                return Err(self.error(start, message));
            }
        };
        self.position = start + length;
        Ok(Token { kind, text: &self.text[start..start + length], offset: start })
    }

    /// Letters, digits and points; signs only behind an exponent's letter.
    fn number_length(&self, from: usize) -> usize {
        let bytes = &self.text.as_bytes()[from..];
        let hexadecimal = bytes.starts_with(b"0x") || bytes.starts_with(b"0X");
        let mut length = 0;
        for (i, &b) in bytes.iter().enumerate() {
            let signed = matches!(b, b'+' | b'-')
                && i > 0
                && match bytes[i - 1] {
                    b'p' | b'P' => hexadecimal,
                    b'e' | b'E' => !hexadecimal,
                    _ => false,
                };
            if !signed && !b.is_ascii_alphanumeric() && b != b'.' && b != b'_' {
                break;
            }
            length = i + 1;
        }
        length
    }

    fn string_length(&self, start: usize) -> Result<usize, ParseError> {
        let mut at = start + 1;
        loop {
            at += self.count_while(at, |b| b != b'"' && b != b'\\');
            match self.text.as_bytes().get(at) {
                Some(b'"') => return Ok(at + 1 - start),
                Some(_) => {
                    // Only these two are known to be written; guessing at others would change
                    // the string.
                    if !matches!(self.text.as_bytes().get(at + 1), Some(b'"' | b'\\')) {
                        let error = self.error(at, "unknown escape in a string");
                        return Err(error.hint("only `\\\"` and `\\\\` are escaped"));
                    }
                    at += 2;
                }
                None => return Err(self.error(start, "string without an end")),
            }
        }
    }

    fn error(&self, offset: usize, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, offset, ParseErrorKind::Lexical, message)
    }
}

fn is_identifier_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'@'
}

/// The content of a string token.
pub(super) fn unescape(token: &str) -> String {
    let inner = &token[1..token.len() - 1];
    if !inner.contains('\\') {
        return inner.to_owned();
    }
    let mut content = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        content.extend(if c == '\\' { rest.next() } else { Some(c) });
    }
    content
}
