//! `tokenizer.bin` of llama2.c: SentencePiece-like pieces with scores.

use crate::merge::merge;
use crate::score::Score;
use crate::{Error, ErrorKind, Result};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

const UNKNOWN: u32 = 0;
const BOS: u32 = 1;
const EOS: u32 = 2;
/// The id of byte 0, where the vocabulary has bytes.
const FIRST_BYTE: u32 = 3;
/// No real piece is longer; guards the header field.
const MAX_PIECE_BYTES: u32 = 1 << 16;
/// Pairs at or below this score are never merged.
const MIN_SCORE: f32 = -1e10;

#[derive(Debug, Clone)]
pub(crate) struct Llama2c {
    max_token_length: u32,
    pieces: Vec<Box<[u8]>>,
    scores: Vec<Score>,
    ids: HashMap<Box<[u8]>, u32>,
    longest_piece: usize,
    has_bytes: bool,
    /// Whether the second byte follows the first in some piece.
    neighbours: Box<[[bool; 256]; 256]>,
}

impl Llama2c {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let truncated = |at: usize, what: String| {
            Error::new(ErrorKind::Truncated, format!("{what}, the file ends at {}", bytes.len()))
                .at(at)
        };
        let word = |at: usize, what: &str| {
            let word = at.checked_add(4).and_then(|end| bytes.get(at..end));
            let word = word.ok_or_else(|| truncated(at, format!("expected 4 bytes of {what}")))?;
            Ok(<[u8; 4]>::try_from(word).expect("four bytes"))
        };
        let max_token_length = u32::from_le_bytes(word(0, "the longest piece's length")?);
        if max_token_length == 0 || max_token_length > MAX_PIECE_BYTES {
            return Err(Error::new(
                ErrorKind::WrongFormat,
                format!(
                    "a llama2.c tokenizer starts with its longest piece's length, \
                     1 to {MAX_PIECE_BYTES}, this file with {max_token_length}"
                ),
            )
            .at(0));
        }
        let mut pieces: Vec<Box<[u8]>> = Vec::new();
        let mut scores = Vec::new();
        let mut at = 4;
        while at < bytes.len() {
            let id = pieces.len();
            let malformed = |at: usize, what: String| {
                Error::new(ErrorKind::Malformed, format!("piece {id} {what}")).at(at)
            };
            let score = f32::from_le_bytes(word(at, &format!("the score of piece {id}"))?);
            if !score.is_finite() {
                return Err(malformed(at, format!("has score {score}, expected a number")));
            }
            let len = i32::from_le_bytes(word(at + 4, &format!("the length of piece {id}"))?);
            if len < 0 || len as u32 > max_token_length {
                return Err(malformed(
                    at + 4,
                    format!("has {len} bytes, expected 0 to {max_token_length}"),
                ));
            }
            let start = at + 8;
            let piece = bytes.get(start..start + len as usize).ok_or_else(|| {
                truncated(start, format!("expected the {len} bytes of piece {id}"))
            })?;
            pieces.push(piece.into());
            scores.push(Score(score));
            at = start + len as usize;
        }
        Self::new(max_token_length, pieces, scores)
    }

    /// A tokenizer of pieces with their scores, as its file has them.
    pub(crate) fn of_pieces<'a>(rows: impl Iterator<Item = (Vec<u8>, &'a f32)>) -> Result<Self> {
        let (pieces, scores): (Vec<Box<[u8]>>, Vec<Score>) =
            rows.map(|(piece, score)| (piece.into_boxed_slice(), Score(*score))).unzip();
        let longest = pieces.iter().map(|piece| piece.len()).max().unwrap_or(0);
        Self::new(longest as u32, pieces, scores)
    }

    fn new(max_token_length: u32, pieces: Vec<Box<[u8]>>, scores: Vec<Score>) -> Result<Self> {
        for (id, expected) in [(BOS, "\n<s>\n"), (EOS, "\n</s>\n")] {
            if pieces.get(id as usize).map(|p| &**p) != Some(expected.as_bytes()) {
                return Err(Error::new(
                    ErrorKind::WrongFormat,
                    format!("piece {id} of a llama2.c tokenizer is {expected:?}"),
                ));
            }
        }
        // Another program writes the same layout with word starts as U+2581. Reading it as if they
        // were spaces would silently tokenize badly.
        if let Some(id) = pieces.iter().position(|p| p.starts_with("\u{2581}".as_bytes())) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("piece {id} starts with U+2581, llama2.c writes a space there"),
            ));
        }
        let mut ids = HashMap::with_capacity(pieces.len());
        for (id, piece) in pieces.iter().enumerate() {
            ids.entry(piece.clone()).or_insert(id as u32);
        }
        let has_bytes = (0..=255u8).all(|byte| {
            let piece = pieces.get(FIRST_BYTE as usize + usize::from(byte));
            piece.and_then(|p| byte_of(p)) == Some(byte)
        });
        let mut neighbours = Box::new([[false; 256]; 256]);
        for pair in pieces.iter().flat_map(|piece| piece.windows(2)) {
            neighbours[usize::from(pair[0])][usize::from(pair[1])] = true;
        }
        let longest_piece = pieces.iter().map(|p| p.len()).max().unwrap_or(0);
        Ok(Self { max_token_length, pieces, scores, ids, longest_piece, has_bytes, neighbours })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.max_token_length.to_le_bytes().to_vec();
        for (piece, score) in self.pieces.iter().zip(&self.scores) {
            out.extend(score.0.to_le_bytes());
            out.extend((piece.len() as i32).to_le_bytes());
            out.extend(&**piece);
        }
        out
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    pub(crate) fn bos(&self) -> u32 {
        BOS
    }

    pub(crate) fn eos(&self) -> u32 {
        EOS
    }

    pub(crate) fn unknown(&self) -> u32 {
        UNKNOWN
    }

    pub(crate) fn score(&self, id: u32) -> f32 {
        self.scores[id as usize].0
    }

    pub(crate) fn piece(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(id as usize).map(|p| &**p)
    }

    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        let symbols = self.symbols(text);
        let mut ids = Vec::with_capacity(symbols.len() / 2);
        // Most words of a text occurred in it before.
        let mut seen: HashMap<&[u32], Range<usize>> = HashMap::new();
        let mut word_ids = Vec::new();
        for word in symbols.chunk_by(|&left, &right| self.may_join(left, right)) {
            if let Some(range) = seen.get(word) {
                ids.extend_from_within(range.clone());
                continue;
            }
            word_ids.clear();
            word_ids.extend_from_slice(word);
            self.merge_all(&mut word_ids);
            let start = ids.len();
            ids.extend_from_slice(&word_ids);
            seen.insert(word, start..ids.len());
        }
        ids
    }

    fn merge_all(&self, ids: &mut Vec<u32>) {
        let mut joined = Vec::with_capacity(self.longest_piece);
        merge(ids, |left, right| {
            self.merged(left, right, &mut joined).map(|(score, id)| (Reverse(score), id))
        });
    }

    /// Whether some piece has the bytes side by side that meet where `left` and `right` do. Where
    /// none has, no merge can ever reach across, and both sides can be merged on their own.
    fn may_join(&self, left: u32, right: u32) -> bool {
        match (self.pieces[left as usize].last(), self.pieces[right as usize].first()) {
            (Some(&last), Some(&first)) => self.neighbours[usize::from(last)][usize::from(first)],
            _ => true,
        }
    }

    /// One id per code point, after a space that every text starts with.
    fn symbols(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() + 1);
        if !text.is_empty() {
            ids.extend(self.ids.get(" ".as_bytes()));
        }
        let mut buffer = [0; 4];
        for character in text.chars() {
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            match self.ids.get(bytes) {
                Some(&id) => ids.push(id),
                None if self.has_bytes => {
                    ids.extend(bytes.iter().map(|&byte| FIRST_BYTE + u32::from(byte)));
                }
                None => ids.push(UNKNOWN),
            }
        }
        ids
    }

    /// The piece that is both pieces joined, and its score.
    fn merged(&self, left: u32, right: u32, joined: &mut Vec<u8>) -> Option<(Score, u32)> {
        let (left, right) = (&self.pieces[left as usize], &self.pieces[right as usize]);
        if left.len() + right.len() > self.longest_piece {
            return None;
        }
        joined.clear();
        joined.extend_from_slice(left);
        joined.extend_from_slice(right);
        let id = *self.ids.get(joined.as_slice())?;
        let score = self.scores[id as usize];
        (score.0 > MIN_SCORE).then_some((score, id))
    }

    pub(crate) fn append_bytes(&self, previous: Option<u32>, id: u32, out: &mut Vec<u8>) {
        if id == BOS || id == EOS {
            return;
        }
        let piece = &self.pieces[id as usize];
        match byte_of(piece) {
            Some(byte) => out.push(byte),
            None => {
                let stripped = piece.strip_prefix(b" ").filter(|_| previous == Some(BOS));
                out.extend_from_slice(stripped.unwrap_or(piece));
            }
        }
    }
}

/// The byte that a piece like `<0x0A>` stands for.
pub(crate) fn byte_of(piece: &[u8]) -> Option<u8> {
    let digits = piece.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(with_bytes: bool, words: &[(&str, f32)]) -> Llama2c {
        let mut rows: Vec<(String, f32)> =
            ["<unk>", "\n<s>\n", "\n</s>\n"].map(|p| (p.to_owned(), 0.0)).into();
        if with_bytes {
            rows.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0)));
        }
        rows.extend(words.iter().map(|(piece, score)| ((*piece).to_owned(), *score)));
        let pieces = rows.iter().map(|row| row.0.as_bytes().into()).collect();
        Llama2c::new(16, pieces, rows.iter().map(|row| Score(row.1)).collect()).unwrap()
    }

    #[test]
    fn the_best_score_wins_and_the_leftmost_of_equals() {
        let t = tokenizer(
            false,
            &[(" ", -9.0), ("a", -9.0), ("b", -9.0), ("ab", -2.0), ("ba", -1.0), ("aa", -3.0)],
        );
        let text = |ids: Vec<u32>| -> Vec<String> {
            let piece = |&id| String::from_utf8(t.pieces[id as usize].to_vec()).unwrap();
            ids.iter().map(piece).collect()
        };
        assert_eq!(text(t.encode("abab")), [" ", "a", "ba", "b"]);
        assert_eq!(text(t.encode("aaa")), [" ", "aa", "a"]);
    }

    #[test]
    fn without_byte_pieces_the_unknown_id_stands_in() {
        let t = tokenizer(false, &[(" ", 0.0)]);
        assert_eq!(t.encode("é "), [3, 0, 3]);
        assert!(t.encode("").is_empty());
        let t = tokenizer(true, &[]);
        assert_eq!(t.encode("é"), [3 + 0xc3, 3 + 0xa9]);
    }

    #[test]
    fn cutting_into_words_changes_nothing() {
        // Pieces with a space inside, bytes, and an empty unknown piece whose neighbours are
        // anybody's guess.
        let words = [" ", "a", "b", "ab", "b ", "b a", " a", "aa", "aab", ".", "a.", "<"];
        let words: Vec<(&str, f32)> =
            words.into_iter().enumerate().map(|(i, w)| (w, -((i * 7 % 5) as f32))).collect();
        let mut state = 0x5eed_0000_1111_2222u64;
        for with_bytes in [true, false] {
            let mut t = tokenizer(with_bytes, &words);
            if !with_bytes {
                t.pieces[UNKNOWN as usize] = Box::default();
            }
            for _ in 0..1000 {
                let text: String = (0..40)
                    .map(|_| {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        ['a', 'a', 'b', ' ', '.', '<', 'é', '\n'][(state % 8) as usize]
                    })
                    .collect();
                let mut whole = t.symbols(&text);
                t.merge_all(&mut whole);
                assert_eq!(t.encode(&text), whole, "{text:?}");
            }
        }
    }

    #[test]
    fn hopeless_scores_never_merge() {
        let t = tokenizer(false, &[("a", 0.0), ("aa", -1e10), ("aaa", 0.0)]);
        assert_eq!(t.encode("aaa"), [3, 3, 3]);
    }

    #[test]
    fn byte_pieces() {
        assert_eq!(byte_of(b"<0x0A>"), Some(10));
        assert_eq!(byte_of(b"<0xff>"), Some(255));
        for other in ["<0x+A>", "<0x0A", "<0x00A>", "0x0A", "<0x>"] {
            assert_eq!(byte_of(other.as_bytes()), None, "{other}");
        }
    }
}
