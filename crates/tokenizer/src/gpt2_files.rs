//! GPT-2's `vocab.json` and `merges.txt`.

use crate::byte_level::{ByteLevel, Entry, Rules, Unspell};
use crate::json::Pieces;
use crate::{DOCUMENT_SEPARATOR, Error, ErrorKind, Result, Splitter};
use std::collections::BTreeSet;

/// Pieces by id, from a JSON object of ids by spelled piece.
pub(crate) fn parse_vocab(bytes: &[u8], added: &[AddedToken]) -> Result<Vec<Entry>> {
    let vocab: Pieces = serde_json::from_slice(bytes)
        .map_err(|e| Error::new(ErrorKind::Malformed, format!("vocabulary: {e}")))?;
    entries(vocab.0, added)
}

/// A token that merging does not make.
#[derive(Debug, Clone)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) content: String,
    /// Whether it stands for no text.
    pub(crate) special: bool,
}

/// Orders a vocabulary by id. [`DOCUMENT_SEPARATOR`], which GPT-2's own files list like any other
/// piece, stands for no text.
pub(crate) fn entries(vocab: Vec<(String, u32)>, added: &[AddedToken]) -> Result<Vec<Entry>> {
    let malformed = |what: String| Error::new(ErrorKind::Malformed, what);
    // The id, the name or spelling, and for tokens that merging does not make, whether they are
    // special.
    let mut rows: Vec<(u32, String, Option<bool>)> = Vec::with_capacity(vocab.len() + added.len());
    let mut added_ids = BTreeSet::new();
    for AddedToken { id, content, special } in added {
        if !added_ids.insert(*id) {
            return Err(malformed(format!("two added tokens have id {id}")));
        }
        rows.push((*id, content.clone(), Some(*special)));
    }
    rows.extend(vocab.into_iter().map(|(piece, id)| {
        let is_special = (piece == DOCUMENT_SEPARATOR).then_some(true);
        (id, piece, is_special)
    }));
    // Added tokens stay before pieces of the same id. Most files are in order already.
    rows.sort_by_key(|row| row.0);
    if let Some([(id, one, _), (_, other, _)]) =
        rows.array_windows().find(|[a, b]| a.0 == b.0 && a.1 != b.1)
    {
        return Err(malformed(format!("pieces {one:?} and {other:?} both have id {id}")));
    }
    rows.dedup_by_key(|row| row.0);
    let unspell = Unspell::new();
    let mut entries = Vec::with_capacity(rows.len());
    for (expected, (id, piece, is_special)) in rows.into_iter().enumerate() {
        if id as usize != expected {
            return Err(malformed(format!(
                "no piece has id {expected}, the next one is {piece:?} with {id}"
            )));
        }
        entries.push(match is_special {
            Some(true) => Entry::Special(piece),
            Some(false) => Entry::Added(piece),
            None => Entry::Text(unspell.bytes(&piece).ok_or_else(|| {
                malformed(format!("piece {id}, {piece:?}, is not spelled in GPT-2's bytes"))
            })?),
        });
    }
    Ok(entries)
}

/// Adds the merges of a `merges.txt` to a vocabulary.
pub(crate) fn assemble(entries: Vec<Entry>, merges: &[u8], rules: Rules) -> Result<ByteLevel> {
    let text = std::str::from_utf8(merges).map_err(|e| {
        Error::new(ErrorKind::Malformed, "merges are not UTF-8 text").at(e.valid_up_to())
    })?;
    let unspell = Unspell::new();
    let mut pairs = Vec::new();
    let mut at = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let start = at;
        at += line.len();
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() || (index == 0 && line.starts_with("#version")) {
            continue;
        }
        let pair = pair_of(line, &unspell).ok_or_else(|| {
            let what = format!("line {}: expected two pieces, found {line:?}", index + 1);
            Error::new(ErrorKind::Malformed, what).at(start)
        })?;
        pairs.push(pair);
    }
    ByteLevel::new(entries, pairs, rules)
}

/// Two spelled pieces with a space between.
pub(crate) fn pair_of(line: &str, unspell: &Unspell) -> Option<(Vec<u8>, Vec<u8>)> {
    let (left, right) = line.split_once(' ')?;
    if left.is_empty() || right.is_empty() {
        return None;
    }
    Some((unspell.bytes(left)?, unspell.bytes(right)?))
}

/// The splitting rule that a vocabulary was made with. GPT-2's cuts none of its pieces in two,
/// while later ones have many that it would, such as `.com`; those with numbers of three digits
/// follow Llama 3's.
pub(crate) fn splitter_of(entries: &[Entry]) -> Splitter {
    let pieces = || {
        entries.iter().filter_map(|entry| match entry {
            Entry::Text(piece) => std::str::from_utf8(piece).ok(),
            _ => None,
        })
    };
    let cut = |splitter: Splitter| pieces().filter(|p| splitter.split(p).nth(1).is_some()).count();
    if cut(Splitter::Gpt2) <= cut(Splitter::Llama3) {
        return Splitter::Gpt2;
    }
    let is_number = |piece: &str| piece.len() == 3 && piece.bytes().all(|b| b.is_ascii_digit());
    if pieces().any(is_number) { Splitter::Llama3 } else { Splitter::Qwen2 }
}
