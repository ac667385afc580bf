//! The unigram kind: of all ways to cut a text into pieces, the likeliest.

use super::normalizer::character_length;
use super::proto::{PieceKind, PieceRow};
use crate::trie::Trie;
use std::ops::Range;

/// How much less likely than the rarest piece an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.0;

#[derive(Debug, Clone)]
pub(super) struct Unigram {
    trie: Trie,
    /// By id; `None` for user-defined pieces, which win over everything.
    scores: Vec<Option<f32>>,
    best_score: f32,
    unknown_score: f32,
    unknown: u32,
}

/// The best way to get to a place in the text.
#[derive(Clone, Copy)]
struct Best {
    score: f32,
    start: usize,
    id: u32,
}

impl Unigram {
    pub(super) fn new(pieces: &[PieceRow], unknown: u32) -> Self {
        let normal = || pieces.iter().filter(|row| row.kind == PieceKind::Normal).map(|r| r.score);
        let usable = (0..)
            .zip(pieces)
            .filter(|(_, row)| matches!(row.kind, PieceKind::Normal | PieceKind::UserDefined));
        let score = |row: &PieceRow| (row.kind != PieceKind::UserDefined).then_some(row.score);
        Self {
            trie: Trie::new(usable.map(|(id, row)| (row.piece.as_bytes(), id))),
            scores: pieces.iter().map(score).collect(),
            best_score: normal().reduce(f32::max).unwrap_or(0.0),
            unknown_score: normal().reduce(f32::min).unwrap_or(0.0) - UNKNOWN_PENALTY,
            unknown,
        }
    }

    /// The pieces of the likeliest way, as ranges of the text, with their ids.
    pub(super) fn best_path(&self, text: &[u8]) -> Vec<(Range<usize>, u32)> {
        let mut ends: Vec<Option<Best>> = vec![None; text.len() + 1];
        // Sums are rounded to fp32 where SentencePiece rounds them, so that ties fall alike.
        let reach = |ends: &mut Vec<Option<Best>>, end: usize, score: f32, start, id| {
            let best = &mut ends[end];
            if best.is_none_or(|best| score > best.score) {
                *best = Some(Best { score, start, id });
            }
        };
        let mut start = 0;
        while start < text.len() {
            let here = ends[start].map_or(0.0, |best| best.score);
            let character = character_length(&text[start..]);
            let mut has_character = false;
            for (len, id) in self.trie.prefixes(&text[start..]) {
                let score = match self.scores[id as usize] {
                    Some(score) => score,
                    None => (f64::from(len as f32 * self.best_score) - 0.1) as f32,
                };
                reach(&mut ends, start + len, score + here, start, id);
                has_character |= len == character;
            }
            if !has_character {
                let score = self.unknown_score + here;
                reach(&mut ends, start + character, score, start, self.unknown);
            }
            start += character;
        }
        let mut path = Vec::new();
        let mut end = text.len();
        while end > 0 {
            let Some(best) = ends[end] else { break };
            path.push((best.start..end, best.id));
            end = best.start;
        }
        path.reverse();
        path
    }
}
