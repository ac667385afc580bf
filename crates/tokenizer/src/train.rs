//! Training a byte-level BPE.
//!
//! Works on distinct words and their counts, not on the text: a step costs the words that hold the
//! merged pair.

use crate::byte_level::{ByteLevel, Entry, Rules};
use crate::{DOCUMENT_SEPARATOR, Error, ErrorKind, Result, Splitter};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

/// Larger vocabularies are a mistake.
const MAX_VOCAB_SIZE: usize = 1 << 24;
/// The id of byte 0; the separator's comes before.
const FIRST_BYTE_ID: u32 = 1;
/// The separator and the bytes.
const MIN_VOCAB_SIZE: usize = 257;

type Pair = (u32, u32);

struct Word {
    ids: Vec<u32>,
    count: u64,
}

/// How often a pair occurs, and in which words; words may have lost it since.
#[derive(Default)]
struct Occurrences {
    count: u64,
    words: HashSet<usize>,
}

pub(crate) fn train<'a>(
    documents: impl IntoIterator<Item = &'a str>,
    vocab_size: usize,
    splitter: Splitter,
) -> Result<ByteLevel> {
    if !(MIN_VOCAB_SIZE..=MAX_VOCAB_SIZE).contains(&vocab_size) {
        return Err(Error::new(
            ErrorKind::Training,
            format!("vocabulary size {vocab_size}, expected {MIN_VOCAB_SIZE} to {MAX_VOCAB_SIZE}"),
        ));
    }
    // Ordered, so that nothing depends on a hash seed.
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for document in documents {
        for word in splitter.split(document) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut words: Vec<Word> = counts
        .into_iter()
        .map(|(word, count)| {
            let ids = word.bytes().map(|byte| FIRST_BYTE_ID + u32::from(byte)).collect();
            Word { ids, count }
        })
        .collect();
    let (pieces, merges) = best_merges(&mut words, vocab_size - 1);
    let spelled = |id: u32| pieces[(id - FIRST_BYTE_ID) as usize].clone();
    let merges: Vec<_> = merges.iter().map(|&(l, r)| (spelled(l), spelled(r))).collect();
    // The separator comes first: its id is `FIRST_BYTE_ID - 1`.
    let mut entries = vec![Entry::Special(DOCUMENT_SEPARATOR.to_owned())];
    entries.extend(pieces.into_iter().map(Entry::Text));
    let mut tokenizer = ByteLevel::new(entries, merges, Rules::of(splitter))?;
    // Who trains a tokenizer trains a model on its documents, which all begin so.
    tokenizer.begin_with(DOCUMENT_SEPARATOR);
    Ok(tokenizer)
}

/// Up to `wanted` pieces, bytes included, and the merges that make them: each time the most
/// frequent pair, of equals the one with the smallest ids.
fn best_merges(words: &mut [Word], wanted: usize) -> (Vec<Vec<u8>>, Vec<Pair>) {
    let mut pairs: HashMap<Pair, Occurrences> = HashMap::new();
    for (index, word) in words.iter().enumerate() {
        for pair in word.ids.windows(2) {
            let occurrences = pairs.entry((pair[0], pair[1])).or_default();
            occurrences.count += word.count;
            occurrences.words.insert(index);
        }
    }
    let mut heap: BinaryHeap<(u64, Reverse<Pair>)> =
        pairs.iter().map(|(pair, occurrences)| (occurrences.count, Reverse(*pair))).collect();
    let mut merges = Vec::new();
    let mut pieces: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    let mut ids: HashMap<Vec<u8>, u32> = HashMap::new();
    while pieces.len() < wanted
        && let Some((count, Reverse(pair))) = heap.pop()
    {
        // Counts change after a pair was pushed; it was then pushed again with the new count.
        if pairs.get(&pair).is_none_or(|occurrences| occurrences.count != count) {
            continue;
        }
        let occurrences = pairs.remove(&pair).unwrap_or_default();
        merges.push(pair);
        let piece = |id: u32| &*pieces[(id - FIRST_BYTE_ID) as usize];
        let spelling = [piece(pair.0), piece(pair.1)].concat();
        // Should another pair spell the same bytes, as "ab" + "c" and "a" + "bc" do, both make one
        // piece: a vocabulary has each spelling once.
        let merged = *ids.entry(spelling.clone()).or_insert_with(|| {
            pieces.push(spelling);
            FIRST_BYTE_ID + pieces.len() as u32 - 1
        });
        let mut changed: HashSet<Pair> = HashSet::new();
        for index in occurrences.words {
            merge_in_word(&mut words[index], index, pair, merged, &mut pairs, &mut changed);
        }
        for pair in changed {
            if let Some(occurrences) = pairs.get(&pair).filter(|o| o.count > 0) {
                heap.push((occurrences.count, Reverse(pair)));
            }
        }
    }
    (pieces, merges)
}

/// Replaces `pair`, which is no longer counted, in a word and keeps the counts of its other pairs.
fn merge_in_word(
    word: &mut Word,
    index: usize,
    pair: Pair,
    merged: u32,
    pairs: &mut HashMap<Pair, Occurrences>,
    changed: &mut HashSet<Pair>,
) {
    let mut ids = Vec::with_capacity(word.ids.len());
    let mut at = 0;
    while at < word.ids.len() {
        if at + 1 < word.ids.len() && (word.ids[at], word.ids[at + 1]) == pair {
            ids.push(merged);
            at += 2;
        } else {
            ids.push(word.ids[at]);
            at += 1;
        }
    }
    if ids.len() == word.ids.len() {
        return;
    }
    for old in word.ids.windows(2).map(|w| (w[0], w[1])) {
        if let Some(occurrences) = pairs.get_mut(&old) {
            occurrences.count -= word.count;
            changed.insert(old);
        }
    }
    for new in ids.windows(2).map(|w| (w[0], w[1])) {
        let occurrences = pairs.entry(new).or_default();
        occurrences.count += word.count;
        occurrences.words.insert(index);
        changed.insert(new);
    }
    word.ids = ids;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: count all pairs anew before every merge.
    fn naive(words: &mut [Word], wanted: usize) -> (Vec<Vec<u8>>, Vec<Pair>) {
        let mut pieces: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        let mut merges = Vec::new();
        while pieces.len() < wanted {
            let mut counts: BTreeMap<Pair, u64> = BTreeMap::new();
            for word in words.iter() {
                for pair in word.ids.windows(2) {
                    *counts.entry((pair[0], pair[1])).or_default() += word.count;
                }
            }
            let best = counts.into_iter().max_by_key(|(pair, count)| (*count, Reverse(*pair)));
            let Some((pair, _)) = best else { break };
            merges.push(pair);
            let piece = |id: u32| pieces[(id - FIRST_BYTE_ID) as usize].clone();
            let spelling = [piece(pair.0), piece(pair.1)].concat();
            let known = pieces.iter().position(|p| *p == spelling);
            let at = known.unwrap_or_else(|| {
                pieces.push(spelling);
                pieces.len() - 1
            });
            for word in words.iter_mut() {
                let mut at_id = 0;
                while at_id + 1 < word.ids.len() {
                    if (word.ids[at_id], word.ids[at_id + 1]) == pair {
                        word.ids[at_id] = FIRST_BYTE_ID + at as u32;
                        word.ids.remove(at_id + 1);
                    }
                    at_id += 1;
                }
            }
        }
        (pieces, merges)
    }

    #[test]
    fn equals_the_definition_on_random_words() {
        let mut state = 0x0dd0_feed_5eed_1234u64;
        let mut random = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        };
        for _ in 0..60 {
            let rows: Vec<(Vec<u32>, u64)> = (0..40)
                .map(|_| {
                    let ids = (0..random(12)).map(|_| 98 + random(3) as u32).collect();
                    (ids, 1 + random(9))
                })
                .collect();
            let words = || -> Vec<Word> {
                rows.iter().map(|(ids, count)| Word { ids: ids.clone(), count: *count }).collect()
            };
            let (fast, slow) = (best_merges(&mut words(), 420), naive(&mut words(), 420));
            assert_eq!(fast, slow);
            assert!(fast.1.len() > 50, "only {} merges", fast.1.len());
        }
    }
}
