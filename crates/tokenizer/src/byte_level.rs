//! Byte-level BPE: every text is bytes, bytes are the first pieces, merges join adjacent pieces
//! within a word.

use crate::merge::merge;
use crate::splitter::Splitter;
use crate::trie::{Cut, Trie};
use crate::{DOCUMENT_SEPARATOR, Error, ErrorKind, Result};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

#[derive(Debug, Clone)]
pub(crate) struct ByteLevel {
    rules: Rules,
    pieces: Vec<Box<[u8]>>,
    kinds: Vec<Kind>,
    /// Tokens that are cut out of every text.
    added: Trie,
    /// Those, and the tokens that are no text.
    added_and_special: Trie,
    separator: Option<u32>,
    begins_with: Option<u32>,
    byte_ids: Box<[u32; 256]>,
    /// Pieces that become themselves before anything is merged, where the rules say so.
    whole_words: HashMap<Box<[u8]>, u32>,
    /// By id pair: rank and id of the joined piece.
    merges: HashMap<(u32, u32), (u32, u32)>,
}

/// What happens to a text before pieces are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) splitter: Splitter,
    /// Whether the text is brought into Unicode's composed form (NFC).
    pub(crate) nfc: bool,
    /// Whether a word that is a piece as a whole becomes it, whatever the merges say.
    pub(crate) whole_words: bool,
}

impl Rules {
    /// The rules that a splitting rule comes with.
    pub(crate) fn of(splitter: Splitter) -> Self {
        Self {
            splitter,
            nfc: splitter == Splitter::Qwen2,
            whole_words: splitter == Splitter::Llama3,
        }
    }
}

/// One entry of a vocabulary; its index is its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A piece that merging makes.
    Text(Vec<u8>),
    /// Text that is always one token.
    Added(String),
    /// Stands for no text, but has a name.
    Special(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Added,
    Special,
}

impl ByteLevel {
    /// `merges` are pairs of pieces, best first.
    pub(crate) fn new(
        entries: Vec<Entry>,
        merges: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
        rules: Rules,
    ) -> Result<Self> {
        let malformed = |what: String| Error::new(ErrorKind::Malformed, what);
        let mut ids: HashMap<&[u8], u32> = HashMap::with_capacity(entries.len());
        let mut separator = None;
        for (id, entry) in entries.iter().enumerate() {
            match entry {
                Entry::Special(name) if name == DOCUMENT_SEPARATOR => separator = Some(id as u32),
                Entry::Special(_) | Entry::Added(_) => {}
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
        let merges = merges.into_iter();
        let mut table = HashMap::with_capacity(merges.size_hint().0.min(entries.len()));
        let mut both = Vec::new();
        for (rank, (left, right)) in merges.enumerate() {
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
            both.clear();
            both.extend_from_slice(&left);
            both.extend_from_slice(&right);
            let joined = id_of(&both)?;
            // A pair that is listed twice keeps its better rank.
            table.entry((id_of(&left)?, id_of(&right)?)).or_insert((rank as u32, joined));
        }
        let mut whole_words = HashMap::new();
        if rules.whole_words {
            whole_words.extend(ids.iter().map(|(&piece, &id)| (Box::from(piece), id)));
        }
        let added = Trie::new(entries.iter().zip(0..).filter_map(|(entry, id)| match entry {
            Entry::Added(name) => Some((name.as_bytes(), id)),
            _ => None,
        }));
        let added_and_special = entries.iter().zip(0..).filter_map(|(entry, id)| match entry {
            Entry::Added(name) | Entry::Special(name) => Some((name.as_bytes(), id)),
            Entry::Text(_) => None,
        });
        let added_and_special = Trie::new(added_and_special);
        let (pieces, kinds) = entries
            .into_iter()
            .map(|entry| match entry {
                Entry::Text(piece) => (piece.into_boxed_slice(), Kind::Text),
                Entry::Added(name) => (name.into_bytes().into_boxed_slice(), Kind::Added),
                Entry::Special(name) => (name.into_bytes().into_boxed_slice(), Kind::Special),
            })
            .unzip();
        Ok(Self {
            rules,
            pieces,
            kinds,
            added,
            added_and_special,
            separator,
            begins_with: None,
            byte_ids,
            whole_words,
            merges: table,
        })
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// What begins a document: what the file says, else GPT-2's separator.
    pub(crate) fn bos(&self) -> Option<u32> {
        let separator = self
            .separator
            .filter(|_| matches!(self.rules.splitter, Splitter::Gpt2 | Splitter::Gpt2Digits));
        self.begins_with.or(separator)
    }

    /// What ends a document.
    pub(crate) fn eos(&self) -> Option<u32> {
        let chat = || ["<|im_end|>", "<|end_of_text|>"].iter().find_map(|n| self.special_token(n));
        self.separator.or_else(chat)
    }

    /// The token that the file puts before every text.
    pub(crate) fn begins_with(&self) -> Option<u32> {
        self.begins_with
    }

    /// Says what every text begins with: the special token of that name, `None` if there is none.
    pub(crate) fn begin_with(&mut self, name: &str) -> Option<u32> {
        self.begins_with = self.special_token(name);
        self.begins_with
    }

    /// The special token of that name.
    pub(crate) fn special_token(&self, name: &str) -> Option<u32> {
        let (len, id) = self.added_and_special.longest_prefix(name.as_bytes())?;
        (len == name.len() && self.is_special(id)).then_some(id)
    }

    pub(crate) fn piece(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(id as usize).map(|p| &**p)
    }

    /// Whether an id has a name that stands for no text.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.kinds[id as usize] == Kind::Special
    }

    /// Whether an id is text that is always one token.
    pub(crate) fn is_added(&self, id: u32) -> bool {
        self.kinds[id as usize] == Kind::Added
    }

    /// The id pairs that merge, best first.
    pub(crate) fn merges_by_rank(&self) -> Vec<(u32, u32)> {
        let mut rows: Vec<_> = self.merges.iter().map(|(pair, (rank, _))| (*rank, *pair)).collect();
        rows.sort_unstable();
        rows.into_iter().map(|row| row.1).collect()
    }

    /// The ids of `text`; names of special tokens are text unless they are `recognized`.
    pub(crate) fn encode(&self, text: &str, recognized: bool) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let names = if recognized { &self.added_and_special } else { &self.added };
        for part in names.cut(text) {
            match part {
                Cut::Found(id) => ids.push(id),
                Cut::Text(text) => self.encode_text(&self.normalized(text), &mut ids),
            }
        }
        ids
    }

    fn normalized<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.rules.nfc || is_nfc_quick(text.chars()) == IsNormalized::Yes {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.nfc().collect())
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) {
        // Most words of a text occurred in it before.
        let mut seen: HashMap<&str, Range<usize>> = HashMap::new();
        let mut word_ids = Vec::new();
        for word in self.rules.splitter.split(text) {
            if let Some(range) = seen.get(word) {
                ids.extend_from_within(range.clone());
                continue;
            }
            word_ids.clear();
            match self.whole_words.get(word.as_bytes()) {
                Some(&id) => word_ids.push(id),
                None => {
                    word_ids.extend(word.bytes().map(|byte| self.byte_ids[usize::from(byte)]));
                    merge(&mut word_ids, |l, r| self.merges.get(&(l, r)).copied());
                }
            }
            let start = ids.len();
            ids.extend_from_slice(&word_ids);
            seen.insert(word, start..ids.len());
        }
    }

    pub(crate) fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        if !self.is_special(id) {
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
