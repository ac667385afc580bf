//! SentencePiece models: `tokenizer.model` files of the BPE and the unigram kind.

mod normalizer;
mod proto;
mod unigram;

pub(crate) use proto::{Algorithm, ModelFile, PieceKind, PieceRow};

use crate::merge::merge;
use crate::score::Score;
use crate::trie::Trie;
use crate::{Error, ErrorKind, Result};
use normalizer::{Normalizer, SPACE, character_length};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;
use unigram::Unigram;

#[derive(Debug, Clone)]
pub(crate) struct SentencePiece {
    /// As it was read, so that it is written without loss.
    file: Box<[u8]>,
    pieces: Vec<PieceRow>,
    /// Pieces that text is made of.
    ids: HashMap<Box<[u8]>, u32>,
    /// All others: control tokens, the unknown one and bytes, which text can spell only by being
    /// that one character.
    reserved: HashMap<Box<[u8]>, u32>,
    unknown: u32,
    bos: Option<u32>,
    eos: Option<u32>,
    /// Ids of the 256 bytes, where unknown characters fall back to them.
    bytes: Option<Box<[u32; 256]>>,
    unknown_surface: String,
    normalizer: Normalizer,
    /// Pieces that are always cut out of the text.
    user_defined: Trie,
    /// Names of control tokens.
    control: Trie,
    algorithm: Method,
}

#[derive(Debug, Clone)]
enum Method {
    Bpe {
        longest_piece: usize,
        /// Whether the second byte follows the first in some piece.
        neighbours: Box<[[bool; 256]; 256]>,
    },
    Unigram(Unigram),
}

/// A symbol of a text before merging: a piece, or a character that is none, numbered behind them.
type Symbol = u32;

impl SentencePiece {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let file = ModelFile::parse(bytes)?;
        let malformed = |what: String| Error::new(ErrorKind::Malformed, what);
        let mut ids: HashMap<Box<[u8]>, u32> = HashMap::with_capacity(file.pieces.len());
        let mut reserved: HashMap<Box<[u8]>, u32> = HashMap::new();
        let mut unknown = None;
        let mut byte_ids = [None; 256];
        for (id, row) in (0..).zip(&file.pieces) {
            if row.piece.is_empty() {
                return Err(malformed(format!("piece {id} is empty")));
            }
            let map = match row.kind {
                PieceKind::Normal | PieceKind::UserDefined | PieceKind::Unused => &mut ids,
                PieceKind::Unknown | PieceKind::Control | PieceKind::Byte => &mut reserved,
            };
            if let Some(other) = map.insert(row.piece.as_bytes().into(), id) {
                return Err(malformed(format!("pieces {other} and {id} are both {:?}", row.piece)));
            }
            match row.kind {
                PieceKind::Unknown if unknown.replace(id).is_some() => {
                    return Err(malformed(format!("piece {id} is a second unknown one")));
                }
                PieceKind::Byte => {
                    let byte = crate::llama2c::byte_of(row.piece.as_bytes()).ok_or_else(|| {
                        malformed(format!("piece {id}, {:?}, should name a byte", row.piece))
                    })?;
                    byte_ids[usize::from(byte)] = Some(id);
                }
                _ => {}
            }
        }
        let unknown = unknown.ok_or_else(|| malformed("no piece is the unknown one".to_owned()))?;
        let bytes_of = |kind: PieceKind| {
            let rows = (0..).zip(&file.pieces).filter(move |(_, row)| row.kind == kind);
            rows.map(|(id, row)| (row.piece.as_bytes(), id))
        };
        let all_bytes = file.byte_fallback.then(|| {
            let mut all = Box::new([0; 256]);
            for (byte, slot) in all.iter_mut().enumerate() {
                *slot = byte_ids[byte].ok_or_else(|| {
                    malformed(format!(
                        "characters fall back to bytes, but <0x{byte:02X}> is missing"
                    ))
                })?;
            }
            Ok(all)
        });
        let control = |name: &str| {
            let id = *reserved.get(name.as_bytes())?;
            (file.pieces[id as usize].kind == PieceKind::Control).then_some(id)
        };
        Ok(Self {
            bos: control(&file.bos_piece),
            eos: control(&file.eos_piece),
            bytes: all_bytes.transpose()?,
            normalizer: Normalizer::new(&file)?,
            user_defined: Trie::new(bytes_of(PieceKind::UserDefined)),
            control: Trie::new(bytes_of(PieceKind::Control)),
            algorithm: match file.algorithm {
                Algorithm::Bpe => bpe(&ids),
                Algorithm::Unigram => Method::Unigram(Unigram::new(&file.pieces, unknown)),
            },
            file: bytes.into(),
            ids,
            reserved,
            unknown,
            unknown_surface: file.unknown_surface,
            pieces: file.pieces,
        })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.file.to_vec()
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    pub(crate) fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub(crate) fn eos(&self) -> Option<u32> {
        self.eos
    }

    pub(crate) fn piece(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(id as usize).map(|row| row.piece.as_bytes())
    }

    /// The control token of that name.
    pub(crate) fn special_token(&self, name: &str) -> Option<u32> {
        let id = *self.reserved.get(name.as_bytes())?;
        (self.pieces[id as usize].kind == PieceKind::Control).then_some(id)
    }

    /// Names of control tokens are text unless they are `recognized`.
    pub(crate) fn encode(&self, text: &str, recognized: bool) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        if !recognized {
            self.encode_text(text, &mut ids);
            return ids;
        }
        for part in self.control.cut(text) {
            match part {
                crate::trie::Cut::Found(id) => ids.push(id),
                crate::trie::Cut::Text(text) => self.encode_text(text, &mut ids),
            }
        }
        ids
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) {
        let normalized = self.normalizer.normalize(text, &self.user_defined);
        match &self.algorithm {
            Method::Unigram(unigram) => {
                let mut after_unknown = false;
                for (range, id) in unigram.best_path(&normalized) {
                    self.push(id, &normalized[range], &mut after_unknown, ids);
                }
            }
            Method::Bpe { longest_piece, neighbours } => {
                self.encode_bpe(&normalized, *longest_piece, neighbours, ids);
            }
        }
    }

    /// Adds one piece of the text. Unknown ones become bytes, or one id for all that follow each
    /// other.
    fn push(&self, id: u32, text: &[u8], after_unknown: &mut bool, ids: &mut Vec<u32>) {
        let is_unknown = id == self.unknown;
        match &self.bytes {
            Some(bytes) if is_unknown => {
                ids.extend(text.iter().map(|&byte| bytes[usize::from(byte)]));
            }
            _ if is_unknown && *after_unknown => {}
            _ => ids.push(id),
        }
        *after_unknown = is_unknown;
    }

    fn encode_bpe(
        &self,
        text: &[u8],
        longest_piece: usize,
        neighbours: &[[bool; 256]; 256],
        ids: &mut Vec<u32>,
    ) {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut frozen: Vec<bool> = Vec::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let user_defined = self.user_defined.longest_prefix(rest);
            frozen.push(user_defined.is_some());
            let len = user_defined.map_or_else(|| character_length(rest), |found| found.0);
            let (symbol, after) = rest.split_at(len);
            rest = after;
            symbols.push(match user_defined {
                Some((_, id)) => id,
                None => self.ids.get(symbol).copied().unwrap_or_else(|| self.beyond(symbol)),
            });
        }
        // Where no piece has the bytes side by side that meet here, no merge reaches across, and
        // both sides are merged on their own. The same goes for both ends of a user-defined piece.
        let mut start = 0;
        // Most words of a text occurred in it before.
        let mut seen: HashMap<Box<[Symbol]>, Range<usize>> = HashMap::new();
        let mut merging =
            Merging { of: self, longest_piece, joined: Vec::new(), parts: HashMap::new() };
        let mut word_ids = Vec::new();
        let mut after_unknown = false;
        let mut buffers = ([0; 4], [0; 4]);
        while start < symbols.len() {
            let joins = |at: usize, buffers: &mut ([u8; 4], [u8; 4])| {
                let left = self.symbol_bytes(symbols[at - 1], &mut buffers.0).last().copied();
                let right = self.symbol_bytes(symbols[at], &mut buffers.1).first().copied();
                let (Some(left), Some(right)) = (left, right) else { return false };
                !frozen[at - 1] && !frozen[at] && neighbours[usize::from(left)][usize::from(right)]
            };
            let end = (start + 1..symbols.len()).find(|&at| !joins(at, &mut buffers));
            let end = end.unwrap_or(symbols.len());
            let word = &symbols[start..end];
            start = end;
            // What an unknown character becomes depends on the one before; those words are short.
            let is_plain = !word.iter().any(|&s| s as usize >= self.pieces.len());
            if is_plain && let Some(range) = seen.get(word) {
                ids.extend_from_within(range.clone());
                after_unknown = false;
                continue;
            }
            word_ids.clear();
            word_ids.extend_from_slice(word);
            merge(&mut word_ids, |l, r| merging.joined(l, r));
            let begin = ids.len();
            for &symbol in &word_ids {
                merging.push(symbol, &mut after_unknown, ids);
            }
            if is_plain {
                seen.insert(word.into(), begin..ids.len());
            }
        }
    }

    /// The number of a character that is no piece.
    fn beyond(&self, character: &[u8]) -> Symbol {
        let character = std::str::from_utf8(character).ok().and_then(|text| text.chars().next());
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        self.pieces.len() as u32 + u32::from(character)
    }

    /// The text of a symbol.
    fn symbol_bytes<'a>(&'a self, symbol: Symbol, buffer: &'a mut [u8; 4]) -> &'a [u8] {
        match self.pieces.get(symbol as usize) {
            Some(row) => row.piece.as_bytes(),
            None => {
                let character = char::from_u32(symbol - self.pieces.len() as u32);
                let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
                character.encode_utf8(buffer).as_bytes()
            }
        }
    }

    /// Adds the text of `id` to `out`. At the beginning of a text, spaces that encoding put there
    /// are left out; `begun` says whether that is over.
    pub(crate) fn append_bytes(&self, id: u32, begun: &mut bool, out: &mut Vec<u8>) {
        let row = &self.pieces[id as usize];
        match row.kind {
            PieceKind::Control => {}
            PieceKind::Unknown => {
                out.extend_from_slice(self.unknown_surface.as_bytes());
                *begun = true;
            }
            PieceKind::Byte => {
                out.extend(crate::llama2c::byte_of(row.piece.as_bytes()));
                *begun = true;
            }
            PieceKind::Normal | PieceKind::UserDefined | PieceKind::Unused => {
                let mut piece = row.piece.as_str();
                if !*begun
                    && self.normalizer.drops_first_space()
                    && let Some(shorter) = piece.strip_prefix(SPACE)
                {
                    piece = shorter;
                    // The one space that was added is gone.
                    *begun = !self.normalizer.drops_all_first_spaces();
                }
                *begun |= !piece.is_empty();
                out.extend_from_slice(piece.replace(SPACE, " ").as_bytes());
            }
        }
    }
}

fn bpe(ids: &HashMap<Box<[u8]>, u32>) -> Method {
    let mut neighbours = Box::new([[false; 256]; 256]);
    for pair in ids.keys().flat_map(|piece| piece.windows(2)) {
        neighbours[usize::from(pair[0])][usize::from(pair[1])] = true;
    }
    Method::Bpe { longest_piece: ids.keys().map(|p| p.len()).max().unwrap_or(0), neighbours }
}

/// The merging of one text.
struct Merging<'a> {
    of: &'a SentencePiece,
    longest_piece: usize,
    joined: Vec<u8>,
    /// What unused pieces were made of in this text: those take part in merging, but are taken
    /// apart again.
    parts: HashMap<u32, (Symbol, Symbol)>,
}

impl Merging<'_> {
    /// The piece that both symbols are together, the best score first.
    fn joined(&mut self, left: Symbol, right: Symbol) -> Option<(Reverse<Score>, u32)> {
        let mut buffers = ([0; 4], [0; 4]);
        let left_bytes = self.of.symbol_bytes(left, &mut buffers.0);
        let right_bytes = self.of.symbol_bytes(right, &mut buffers.1);
        if left_bytes.len() + right_bytes.len() > self.longest_piece {
            return None;
        }
        self.joined.clear();
        self.joined.extend_from_slice(left_bytes);
        self.joined.extend_from_slice(right_bytes);
        let id = *self.of.ids.get(self.joined.as_slice())?;
        let row = &self.of.pieces[id as usize];
        if row.kind == PieceKind::Unused {
            self.parts.insert(id, (left, right));
        }
        Some((Reverse(Score(row.score)), id))
    }

    /// Adds what a merged symbol becomes.
    fn push(&self, symbol: Symbol, after_unknown: &mut bool, ids: &mut Vec<u32>) {
        // Parts are shorter than what they make, so this ends.
        let mut stack = vec![symbol];
        while let Some(symbol) = stack.pop() {
            if let Some(&(left, right)) = self.parts.get(&symbol) {
                stack.extend([right, left]);
                continue;
            }
            let mut buffer = [0; 4];
            let text = self.of.symbol_bytes(symbol, &mut buffer);
            let id = if (symbol as usize) < self.of.pieces.len() {
                symbol
            } else {
                self.of.reserved.get(text).copied().unwrap_or(self.of.unknown)
            };
            self.of.push(id, text, after_unknown, ids);
        }
    }
}
