//! GPT-2's `vocab.json` and `merges.txt`.

use crate::byte_level::{ByteLevel, Entry, Unspell};
use crate::{DOCUMENT_SEPARATOR, Error, ErrorKind, Result, Splitter};
use std::collections::BTreeMap;

/// Pieces by id, from a JSON object of ids by spelled piece.
pub(crate) fn parse_vocab(bytes: &[u8]) -> Result<Vec<Entry>> {
    let vocab: BTreeMap<String, u32> = serde_json::from_slice(bytes)
        .map_err(|e| Error::new(ErrorKind::Malformed, format!("vocabulary: {e}")))?;
    entries(vocab, &[])
}

/// Orders a vocabulary by id. Pieces named in `special` stand for no text; so does
/// [`DOCUMENT_SEPARATOR`], which GPT-2's own files list like any other piece.
pub(crate) fn entries(
    vocab: BTreeMap<String, u32>,
    special: &[(String, u32)],
) -> Result<Vec<Entry>> {
    let malformed = |what: String| Error::new(ErrorKind::Malformed, what);
    let mut rows: BTreeMap<u32, (String, bool)> = BTreeMap::new();
    for (name, id) in special {
        if rows.insert(*id, (name.clone(), true)).is_some() {
            return Err(malformed(format!("two special tokens have id {id}")));
        }
    }
    for (piece, id) in vocab {
        let is_special = piece == DOCUMENT_SEPARATOR;
        if let Some((other, _)) = rows.get(&id)
            && *other != piece
        {
            return Err(malformed(format!("pieces {other:?} and {piece:?} both have id {id}")));
        }
        rows.entry(id).or_insert((piece, is_special));
    }
    let unspell = Unspell::new();
    let mut entries = Vec::with_capacity(rows.len());
    for (expected, (id, (piece, is_special))) in rows.into_iter().enumerate() {
        if id as usize != expected {
            return Err(malformed(format!(
                "no piece has id {expected}, the next one is {piece:?} with {id}"
            )));
        }
        entries.push(if is_special {
            Entry::Special(piece)
        } else {
            let bytes = unspell.bytes(&piece).ok_or_else(|| {
                malformed(format!("piece {id}, {piece:?}, is not spelled in GPT-2's bytes"))
            })?;
            Entry::Text(bytes)
        });
    }
    Ok(entries)
}

/// Adds the merges of a `merges.txt` to a vocabulary.
pub(crate) fn assemble(
    entries: Vec<Entry>,
    merges: &[u8],
    splitter: Splitter,
) -> Result<ByteLevel> {
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
    ByteLevel::new(entries, pairs, splitter)
}

/// Two spelled pieces with a space between.
pub(crate) fn pair_of(line: &str, unspell: &Unspell) -> Option<(Vec<u8>, Vec<u8>)> {
    let (left, right) = line.split_once(' ')?;
    if left.is_empty() || right.is_empty() {
        return None;
    }
    Some((unspell.bytes(left)?, unspell.bytes(right)?))
}
