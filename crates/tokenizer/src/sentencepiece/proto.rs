//! `tokenizer.model`: the parts of SentencePiece's `ModelProto` that encoding and decoding need.
//!
//! Field numbers are those of `sentencepiece_model.proto`.

use crate::{Error, ErrorKind, Result};

/// What a file says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelFile {
    pub(crate) pieces: Vec<PieceRow>,
    pub(crate) algorithm: Algorithm,
    pub(crate) byte_fallback: bool,
    /// Whether the space that is added goes behind the text.
    pub(crate) space_behind: bool,
    pub(crate) bos_piece: String,
    pub(crate) eos_piece: String,
    /// What an unknown id decodes to.
    pub(crate) unknown_surface: String,
    /// Rules that replace characters, as [`super::normalizer`] reads them; empty for none.
    pub(crate) charsmap: Vec<u8>,
    pub(crate) add_dummy_prefix: bool,
    pub(crate) remove_extra_whitespaces: bool,
    pub(crate) escape_whitespaces: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Unigram,
    Bpe,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PieceRow {
    pub(crate) piece: String,
    pub(crate) score: f32,
    pub(crate) kind: PieceKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PieceKind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

impl PieceKind {
    pub(crate) fn of(number: u64) -> Option<Self> {
        use PieceKind::*;
        [Normal, Unknown, Control, UserDefined, Unused, Byte]
            .into_iter()
            .find(|&kind| kind as u64 == number)
    }
}

impl Default for ModelFile {
    /// What absent fields mean.
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            algorithm: Algorithm::Unigram,
            byte_fallback: false,
            space_behind: false,
            bos_piece: "<s>".to_owned(),
            eos_piece: "</s>".to_owned(),
            unknown_surface: " \u{2047} ".to_owned(),
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        }
    }
}

impl ModelFile {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut this = Self::default();
        for field in Fields::new(bytes, 0) {
            let field = field?;
            match field.number {
                1 => {
                    let row = piece(&field, this.pieces.len())?;
                    this.pieces.push(row);
                }
                2 => this.read_trainer(field.message()?)?,
                3 => this.read_normalizer(field.message()?)?,
                5 => refuse_denormalizer(field.message()?)?,
                _ => {}
            }
        }
        if this.pieces.is_empty() {
            return Err(Error::new(ErrorKind::WrongFormat, "it has no pieces"));
        }
        Ok(this)
    }

    fn read_trainer(&mut self, fields: Fields<'_>) -> Result<()> {
        for field in fields {
            let field = field?;
            match field.number {
                3 => {
                    self.algorithm = match field.integer()? {
                        1 => Algorithm::Unigram,
                        2 => Algorithm::Bpe,
                        other => {
                            let name = match other {
                                3 => "whole words",
                                4 => "single characters",
                                _ => "an unknown method",
                            };
                            return Err(Error::new(
                                ErrorKind::Unsupported,
                                format!(
                                    "this SentencePiece model is of {name} (model_type {other})"
                                ),
                            )
                            .at(field.offset));
                        }
                    }
                }
                24 => self.space_behind = field.integer()? != 0,
                35 => self.byte_fallback = field.integer()? != 0,
                44 => self.unknown_surface = field.text()?.to_owned(),
                46 => self.bos_piece = field.text()?.to_owned(),
                47 => self.eos_piece = field.text()?.to_owned(),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, fields: Fields<'_>) -> Result<()> {
        for field in fields {
            let field = field?;
            match field.number {
                2 => self.charsmap = field.bytes()?.to_vec(),
                3 => self.add_dummy_prefix = field.integer()? != 0,
                4 => self.remove_extra_whitespaces = field.integer()? != 0,
                5 => self.escape_whitespaces = field.integer()? != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// The bytes of a file that [`ModelFile::parse`] and SentencePiece read as this.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for row in &self.pieces {
            let mut message = Vec::new();
            put_bytes(&mut message, 1, row.piece.as_bytes());
            message.push(2 << 3 | 5);
            message.extend(row.score.to_le_bytes());
            if row.kind != PieceKind::Normal {
                put_integer(&mut message, 3, row.kind as u64);
            }
            put_bytes(&mut out, 1, &message);
        }
        let mut trainer = Vec::new();
        let algorithm = if self.algorithm == Algorithm::Bpe { 2 } else { 1 };
        put_integer(&mut trainer, 3, algorithm);
        put_integer(&mut trainer, 4, self.pieces.len() as u64);
        put_integer(&mut trainer, 24, u64::from(self.space_behind));
        put_integer(&mut trainer, 35, u64::from(self.byte_fallback));
        let position = |name: &str, kind: PieceKind| {
            self.pieces.iter().position(|row| row.kind == kind && row.piece == name)
        };
        let unknown = self.pieces.iter().position(|row| row.kind == PieceKind::Unknown);
        let bos = position(&self.bos_piece, PieceKind::Control);
        let eos = position(&self.eos_piece, PieceKind::Control);
        for (number, id) in [(40, unknown), (41, bos), (42, eos)] {
            // Absent ids are written as -1.
            put_integer(&mut trainer, number, id.map_or(u64::MAX, |id| id as u64));
        }
        put_bytes(&mut trainer, 44, self.unknown_surface.as_bytes());
        put_bytes(&mut trainer, 46, self.bos_piece.as_bytes());
        put_bytes(&mut trainer, 47, self.eos_piece.as_bytes());
        put_bytes(&mut out, 2, &trainer);
        let mut normalizer = Vec::new();
        if !self.charsmap.is_empty() {
            put_bytes(&mut normalizer, 2, &self.charsmap);
        }
        put_integer(&mut normalizer, 3, u64::from(self.add_dummy_prefix));
        put_integer(&mut normalizer, 4, u64::from(self.remove_extra_whitespaces));
        put_integer(&mut normalizer, 5, u64::from(self.escape_whitespaces));
        put_bytes(&mut out, 3, &normalizer);
        out
    }
}

fn piece(field: &Field<'_>, id: usize) -> Result<PieceRow> {
    let mut row = PieceRow { piece: String::new(), score: 0.0, kind: PieceKind::Normal };
    for part in field.message()? {
        let part = part?;
        match part.number {
            1 => row.piece = part.text()?.to_owned(),
            2 => row.score = f32::from_bits(part.fixed32()?),
            3 => {
                let number = part.integer()?;
                row.kind = PieceKind::of(number).ok_or_else(|| {
                    malformed(format!("piece {id} is of the unknown kind {number}"), part.offset)
                })?;
            }
            _ => {}
        }
    }
    if !row.score.is_finite() {
        let what = format!("piece {id} has score {}, expected a number", row.score);
        return Err(malformed(what, field.offset));
    }
    Ok(row)
}

/// Rules for decoded text are a part of the format that hardly any file uses.
fn refuse_denormalizer(fields: Fields<'_>) -> Result<()> {
    for field in fields {
        let field = field?;
        if field.number == 2 && !field.bytes()?.is_empty() {
            let what = "this SentencePiece model rewrites decoded text (denormalizer_spec)";
            return Err(Error::new(ErrorKind::Unsupported, what).at(field.offset));
        }
    }
    Ok(())
}

fn malformed(what: String, at: usize) -> Error {
    Error::new(ErrorKind::Malformed, what).at(at)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_integer(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// One field of a protobuf message.
struct Field<'a> {
    number: u64,
    value: Value<'a>,
    /// Of the value in the file.
    offset: usize,
}

enum Value<'a> {
    Integer(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Field<'a> {
    fn wrong(&self, expected: &str) -> Error {
        malformed(format!("field {} is not {expected}", self.number), self.offset)
    }

    fn integer(&self) -> Result<u64> {
        match self.value {
            Value::Integer(value) => Ok(value),
            _ => Err(self.wrong("an integer")),
        }
    }

    fn fixed32(&self) -> Result<u32> {
        match self.value {
            Value::Fixed32(value) => Ok(value),
            _ => Err(self.wrong("a 32-bit number")),
        }
    }

    fn bytes(&self) -> Result<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong("a string of bytes")),
        }
    }

    fn text(&self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.wrong("UTF-8 text"))
    }

    fn message(&self) -> Result<Fields<'a>> {
        Ok(Fields::new(self.bytes()?, self.offset))
    }
}

/// The fields of a message, in the order of the file.
struct Fields<'a> {
    rest: &'a [u8],
    /// Of `rest` in the file.
    offset: usize,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { rest: bytes, offset }
    }

    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            let what = format!("{what} takes {len} bytes, {} are there", self.rest.len());
            return Err(Error::new(ErrorKind::Truncated, what).at(self.offset));
        };
        self.rest = rest;
        self.offset += len;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let start = self.offset;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1, "a number")?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed("a number does not end".to_owned(), start))
    }

    fn field(&mut self) -> Result<Field<'a>> {
        let start = self.offset;
        let tag = self.varint()?;
        let number = tag >> 3;
        let mut offset = self.offset;
        let value = match tag & 7 {
            0 => Value::Integer(self.varint()?),
            1 => {
                self.take(8, "a field")?;
                Value::Fixed64
            }
            2 => {
                let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                offset = self.offset;
                Value::Bytes(self.take(len, &format!("field {number}"))?)
            }
            5 => {
                let bytes = self.take(4, "a field")?;
                Value::Fixed32(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
            }
            other => return Err(malformed(format!("there is no wire type {other}"), start)),
        };
        Ok(Field { number, value, offset })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}
