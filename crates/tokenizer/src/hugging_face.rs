//! Any `tokenizer.json`, through Hugging Face's library: WordPiece, Unigram and whatever else the
//! readers of this crate do not know.

use crate::{Error, ErrorKind, Result};
use std::sync::Arc;
use tokenizers::Tokenizer as Library;

/// No vocabulary has more ids.
const MOST_IDS: u32 = 1 << 24;

/// Names of tokens that begin and end documents, as families of tokenizers call them.
const BEGINS: [&str; 4] = ["<s>", "<|begin_of_text|>", "<bos>", "[BOS]"];
const ENDS: [&str; 5] = ["</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>", "[EOS]"];

#[derive(Clone)]
pub(crate) struct HuggingFace(Arc<Inner>);

struct Inner {
    file: Vec<u8>,
    /// Takes names of special tokens for text.
    plain: Library,
    /// Takes them for those tokens.
    special: Library,
    /// By id; empty where there is none.
    pieces: Vec<Box<[u8]>>,
    begins_with: Option<u32>,
}

/// What was decoded last, which says how the next ids are written: many decoders leave out the
/// space before the first word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    ids: Vec<u32>,
    /// How many of the ids are told.
    known: usize,
    /// Their text.
    told: String,
}

/// Ids that may wait for those that make a whole character with them.
const MOST_WAITING: usize = 8;

impl HuggingFace {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let refuse = |what: String| Error::new(ErrorKind::Unsupported, what);
        let mut plain = Library::from_bytes(bytes).map_err(|e| refuse(e.to_string()))?;
        plain.with_truncation(None).map_err(|e| refuse(e.to_string()))?;
        plain.with_padding(None);
        let mut special = plain.clone();
        plain.set_encode_special_tokens(true);
        special.set_encode_special_tokens(false);
        let vocabulary = plain.get_vocab(true);
        let last = vocabulary.values().copied().max().unwrap_or(0);
        if vocabulary.is_empty() || last >= MOST_IDS {
            let what = format!("{} pieces with ids up to {last}", vocabulary.len());
            return Err(Error::new(ErrorKind::Malformed, what));
        }
        let mut pieces = vec![Box::default(); last as usize + 1];
        for (piece, id) in vocabulary {
            pieces[id as usize] = piece.into_bytes().into_boxed_slice();
        }
        // A model that has nothing for what it does not know fails at the first such text.
        for unknown in ["\u{10ffff}", "\u{e000}\u{2603}"] {
            plain
                .encode_fast(unknown, false)
                .map_err(|e| refuse(format!("there is no piece for what is unknown: {e}")))?;
        }
        let ids = |add_special: bool| {
            let encoding = plain.encode_fast("a", add_special);
            encoding.map(|e| e.get_ids().to_vec()).unwrap_or_default()
        };
        let (bare, whole) = (ids(false), ids(true));
        let begins_with = whole
            .split_first()
            .filter(|(_, rest)| whole.len() > bare.len() && rest.starts_with(&bare));
        let begins_with = begins_with.map(|(&first, _)| first);
        let file = bytes.to_vec();
        Ok(Self(Arc::new(Inner { file, plain, special, pieces, begins_with })))
    }

    pub(crate) fn file(&self) -> &[u8] {
        &self.0.file
    }

    /// Characters that the tokenizer has nothing for are left out, as the library does for most
    /// kinds.
    pub(crate) fn encode(&self, text: &str, recognized: bool) -> Vec<u32> {
        let library = if recognized { &self.0.special } else { &self.0.plain };
        let ids = |text: &str| library.encode_fast(text, false).map(|e| e.get_ids().to_vec());
        ids(text).unwrap_or_else(|_| {
            let each = text.chars().map(|c| ids(c.encode_utf8(&mut [0; 4])).unwrap_or_default());
            each.flatten().collect()
        })
    }

    /// The text of ids; U+FFFD for one outside the vocabulary.
    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        let runs = ids.split(|&id| id as usize >= self.vocab_size());
        let texts: Vec<String> =
            runs.map(|run| self.0.plain.decode(run, true).unwrap_or_default()).collect();
        texts.join("\u{fffd}")
    }

    /// Adds the text that `id` completes.
    pub(crate) fn append_text(&self, window: &mut Window, id: u32, out: &mut Vec<u8>) {
        if self.is_special(id) {
            return;
        }
        window.ids.push(id);
        let text = self.decode(&window.ids);
        let waits = text.ends_with(char::REPLACEMENT_CHARACTER);
        if waits && window.ids.len() - window.known < MOST_WAITING {
            return;
        }
        let new = untold(&text, &window.told);
        if new.is_empty() {
            return;
        }
        out.extend_from_slice(new.as_bytes());
        window.ids.drain(..window.known);
        window.known = window.ids.len();
        window.told = self.decode(&window.ids);
    }

    /// Adds the text that waited for ids that do not come.
    pub(crate) fn finish(&self, window: &Window, out: &mut Vec<u8>) {
        out.extend_from_slice(untold(&self.decode(&window.ids), &window.told).as_bytes());
    }

    fn is_special(&self, id: u32) -> bool {
        let added = self.0.plain.get_added_vocabulary();
        added.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.0.pieces.len()
    }

    pub(crate) fn piece(&self, id: u32) -> Option<&[u8]> {
        self.0.pieces.get(id as usize).map(|piece| &**piece)
    }

    /// The token that the file puts before every text.
    pub(crate) fn begins_with(&self) -> Option<u32> {
        self.0.begins_with
    }

    pub(crate) fn bos(&self) -> Option<u32> {
        self.0.begins_with.or_else(|| BEGINS.iter().find_map(|name| self.special_token(name)))
    }

    pub(crate) fn eos(&self) -> Option<u32> {
        ENDS.iter().find_map(|name| self.special_token(name))
    }

    pub(crate) fn special_token(&self, name: &str) -> Option<u32> {
        let id = self.0.plain.token_to_id(name)?;
        self.is_special(id).then_some(id)
    }
}

/// What of `text` comes after what was told of it.
fn untold<'a>(text: &'a str, told: &str) -> &'a str {
    // A decoder may have taken back a space before what came now.
    let same = text.chars().zip(told.chars()).take_while(|(a, b)| a == b);
    let common: usize = same.map(|(a, _)| a.len_utf8()).sum();
    &text[common..]
}
