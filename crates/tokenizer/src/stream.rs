use crate::{Place, Tokenizer};

/// Turns ids into text one by one, holding back bytes until they make whole characters.
///
/// Bytes that cannot become UTF-8 are replaced by U+FFFD: each of them by SentencePiece, the
/// beginning of a character by one in all other kinds, as their own libraries do.
#[derive(Debug, Clone)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    place: Place,
    /// Bytes that may still become a character; at most three after each id.
    pending: Vec<u8>,
}

impl<'a> DecodeStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, place: Place::default(), pending: Vec::new() }
    }

    /// The text that `id` completes; often a word, empty in the middle of a character.
    ///
    /// Ids that stand for nothing, such as BOS, must be fed too: what follows may depend on them.
    pub fn feed(&mut self, id: u32) -> String {
        let mut bytes = Vec::new();
        self.tokenizer.append_bytes(&mut self.place, id, &mut bytes);
        self.text_of(&bytes)
    }

    /// The text of what is pending with these bytes behind it; what may still become a character
    /// stays pending.
    pub(crate) fn text_of(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(e) => {
                    let (valid, after) = rest.split_at(e.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).expect("it was just checked"));
                    rest = after;
                    let Some(bad) = e.error_len() else { break };
                    for _ in 0..self.tokenizer.replacements(bad) {
                        text.push(char::REPLACEMENT_CHARACTER);
                    }
                    rest = &rest[bad..];
                }
            }
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
        text
    }

    /// What is left when no more ids come: empty, or replacement characters.
    pub fn finish(mut self) -> String {
        let mut waiting = Vec::new();
        self.tokenizer.append_waiting(&self.place, &mut waiting);
        let mut text = self.text_of(&waiting);
        // What is still pending is the beginning of a character.
        let cut = self.pending.len();
        let count = if cut == 0 { 0 } else { self.tokenizer.replacements(cut) };
        text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, count));
        text
    }
}
