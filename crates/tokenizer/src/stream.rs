use crate::{Place, Tokenizer};

/// Turns ids into text one by one, holding back bytes until they make whole characters.
///
/// Bytes that cannot become UTF-8 are replaced by U+FFFD.
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
        self.tokenizer.append_bytes(&mut self.place, id, &mut self.pending);
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
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad..];
                }
            }
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
        text
    }

    /// What is left when no more ids come: empty, or replacement characters.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}
