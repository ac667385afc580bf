//! Byte-level BPE: every text is bytes, bytes are the first pieces, merges join adjacent pieces
//! within a word.

use crate::merge::merge;
use crate::splitter::Splitter;
use crate::{DOCUMENT_SEPARATOR, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::ops::Range;

#[derive(Debug, Clone)]
pub(crate) struct ByteLevel {
    splitter: Splitter,
    pieces: Vec<Box<[u8]>>,
    /// Whether an id stands for no text.
    special: Vec<bool>,
    separator: Option<u32>,
    byte_ids: Box<[u32; 256]>,
    /// By id pair: rank and id of the joined piece.
    merges: HashMap<(u32, u32), (u32, u32)>,
}

/// One entry of a vocabulary; its index is its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Text(Vec<u8>),
    Special(String),
}

impl ByteLevel {
    /// `merges` are pairs of pieces, best first.
    pub(crate) fn new(
        entries: Vec<Entry>,
        merges: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
        splitter: Splitter,
    ) -> Result<Self> {
        let malformed = |what: String| Error::new(ErrorKind::Malformed, what);
        let mut ids: HashMap<&[u8], u32> = HashMap::with_capacity(entries.len());
        let mut separator = None;
        for (id, entry) in entries.iter().enumerate() {
            match entry {
                Entry::Special(name) if name == DOCUMENT_SEPARATOR => separator = Some(id as u32),
                Entry::Special(_) => {}
                Entry::Text(piece) => {
                    if let Some(other) = ids.insert(piece, id as u32) {
                        return Err(malformed(format!(
                            "pieces {other} and {id} are both {}",
                            show(piece)
                        )));
                    }
                }
            }
        }
        let mut byte_ids = Box::new([0; 256]);
        for (byte, slot) in byte_ids.iter_mut().enumerate() {
            *slot = *ids.get(&[byte as u8][..]).ok_or_else(|| {
                malformed(format!("the vocabulary has no piece for the single byte 0x{byte:02x}"))
            })?;
        }
        let mut table = HashMap::new();
        for (rank, (left, right)) in merges.into_iter().enumerate() {
            let id_of = |piece: &[u8]| {
                ids.get(piece).copied().ok_or_else(|| {
                    malformed(format!(
                        "merge {rank}, {} and {}: {} is not in the vocabulary",
                        show(&left),
                        show(&right),
                        show(piece)
                    ))
                })
            };
            let joined = id_of(&[&*left, &*right].concat())?;
            // A pair that is listed twice keeps its better rank.
            table.entry((id_of(&left)?, id_of(&right)?)).or_insert((rank as u32, joined));
        }
        let special = entries.iter().map(|e| matches!(e, Entry::Special(_))).collect();
        let bytes_of = |entry| match entry {
            Entry::Text(piece) => piece.into_boxed_slice(),
            Entry::Special(name) => name.into_bytes().into_boxed_slice(),
        };
        let pieces = entries.into_iter().map(bytes_of).collect();
        Ok(Self { splitter, pieces, special, separator, byte_ids, merges: table })
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    pub(crate) fn separator(&self) -> Option<u32> {
        self.separator
    }

    pub(crate) fn piece(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(id as usize).map(|p| &**p)
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special[id as usize]
    }

    /// The id pairs that merge, best first.
    pub(crate) fn merges_by_rank(&self) -> Vec<(u32, u32)> {
        let mut rows: Vec<_> = self.merges.iter().map(|(pair, (rank, _))| (*rank, *pair)).collect();
        rows.sort_unstable();
        rows.into_iter().map(|row| row.1).collect()
    }

    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        // Most words of a text occurred in it before.
        let mut seen: HashMap<&str, Range<usize>> = HashMap::new();
        let mut word_ids = Vec::new();
        for word in self.splitter.split(text) {
            if let Some(range) = seen.get(word) {
                ids.extend_from_within(range.clone());
                continue;
            }
            word_ids.clear();
            word_ids.extend(word.bytes().map(|byte| self.byte_ids[usize::from(byte)]));
            merge(&mut word_ids, |left, right| self.merges.get(&(left, right)).copied());
            let start = ids.len();
            ids.extend_from_slice(&word_ids);
            seen.insert(word, start..ids.len());
        }
        ids
    }

    pub(crate) fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        if !self.special[id as usize] {
            out.extend_from_slice(&self.pieces[id as usize]);
        }
    }
}

fn show(piece: &[u8]) -> String {
    format!("\"{}\"", piece.escape_ascii())
}

/// The printable stand-ins that GPT-2's files spell bytes with: most of Latin-1 for itself, the
/// others moved behind it.
pub(crate) fn spelling() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut moved = 0;
    for (byte, slot) in table.iter_mut().enumerate() {
        *slot = match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte as u8),
            _ => {
                moved += 1;
                char::from_u32(0xff + moved).unwrap_or('\0')
            }
        };
    }
    table
}

/// `bytes` as a file of GPT-2 spells them.
pub(crate) fn spell(table: &[char; 256], bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| table[usize::from(byte)]).collect()
}

/// Reads [`spell`]'s spelling.
pub(crate) struct Unspell(HashMap<char, u8>);

impl Unspell {
    pub(crate) fn new() -> Self {
        Self(spelling().into_iter().zip(0..=255).collect())
    }

    /// The bytes that are spelled `text`; `None` where a character stands for none.
    pub(crate) fn bytes(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|character| self.0.get(&character).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_is_gpt2s() {
        let table = spelling();
        assert_eq!(table[usize::from(b' ')], 'Ġ');
        assert_eq!(table[usize::from(b'\n')], 'Ċ');
        assert_eq!((table[0], table[0x7f], table[0xad], table[0xff]), ('Ā', 'ġ', 'Ń', 'ÿ'));
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(Unspell::new().bytes(&spell(&table, &all)), Some(all));
        assert_eq!(Unspell::new().bytes("a b"), None);
    }
}
