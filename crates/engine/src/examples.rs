//! Training data that is text: plain, or lines of JSON with prompts and answers.

use crate::data::Passes;
use crate::{Batch, ChatTemplate, DataPosition, Error, ErrorKind, Message, Order, Result};
use orion_formats::TokenFile;
use orion_tokenizer::Tokenizer;
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How much of a file is looked at to see what it is.
const LOOKED_AT: u64 = 1 << 16;

/// What a training file holds.
#[derive(Debug, Clone)]
pub(crate) enum Corpus {
    /// Ids, or text that became ids.
    Tokens(TokenFile),
    /// Texts of which a part is to be learned.
    Examples(Vec<Example>),
}

/// A text of which the tokens from `learned_from` on are to be predicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) tokens: Vec<u32>,
    pub(crate) learned_from: usize,
}

/// What turns text into tokens.
pub(crate) struct Reader<'a> {
    pub(crate) tokenizer: Option<&'a Tokenizer>,
    /// Gives the template when a conversation asks for it.
    pub(crate) template: &'a dyn Fn() -> Result<Option<ChatTemplate>>,
}

/// A line of JSON.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Answer { prompt: String, completion: String },
    Chat { messages: Vec<Said> },
    Text { text: String },
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
}

impl Corpus {
    /// Reads a file of token ids, text, or lines of JSON: what it is, its first bytes say.
    ///
    /// # Errors
    /// When it cannot be read, is text and there is no tokenizer, or has a line that is none of
    /// those known.
    pub(crate) fn open(path: &Path, reader: &Reader<'_>) -> Result<Self> {
        let mut start = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LOOKED_AT).read_to_end(&mut start));
        read.map_err(|e| Error::io(path, e))?;
        if !is_text(&start) {
            return Ok(Self::Tokens(TokenFile::open(path)?));
        }
        let Some(tokenizer) = reader.tokenizer else {
            return Err(Error::new(ErrorKind::Config, "this is text, and there is no tokenizer")
                .at(path)
                .hint("name the model's with --tokenizer"));
        };
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        if start.trim_ascii_start().first() != Some(&b'{') {
            let ends = [tokenizer.bos(), tokenizer.eos()];
            let ids: Vec<u32> =
                ends[0].into_iter().chain(tokenizer.encode(&text)).chain(ends[1]).collect();
            return Ok(Self::Tokens(TokenFile::from_ids(&ids)?));
        }
        let mut examples = Vec::new();
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        for (i, line) in lines {
            let in_line = |message: String| {
                Error::new(ErrorKind::File, format!("line {}: {message}", i + 1)).at(path)
            };
            let line: Line = serde_json::from_str(line).map_err(|e| {
                let problem = match e.classify() {
                    serde_json::error::Category::Data => "this is no example".to_owned(),
                    _ => e.to_string(),
                };
                in_line(problem).hint(
                    "a line is {\"prompt\": …, \"completion\": …}, {\"messages\": [{\"role\": …, \
                     \"content\": …}, …]} or {\"text\": …}",
                )
            })?;
            reader.add(line, tokenizer, &mut examples).map_err(|e| {
                let told = in_line(e.to_string());
                match e.way_out() {
                    Some(hint) => told.hint(hint),
                    None => told,
                }
            })?;
        }
        Ok(Self::Examples(examples))
    }

    /// How many tokens there are.
    pub(crate) fn tokens(&self) -> u64 {
        match self {
            Self::Tokens(file) => file.len() as u64,
            Self::Examples(examples) => examples.iter().map(|e| e.tokens.len() as u64).sum(),
        }
    }

    /// Checks that every id is below `vocab_size`.
    pub(crate) fn check_vocab(
        &self,
        vocab_size: usize,
    ) -> std::result::Result<(), orion_formats::Error> {
        match self {
            Self::Tokens(file) => file.check_vocab(vocab_size),
            // Those come from a tokenizer, which was checked.
            Self::Examples(_) => Ok(()),
        }
    }
}

/// Whether these bytes begin a text. Ids of two bytes have zeros, or are no UTF-8.
fn is_text(start: &[u8]) -> bool {
    let whole = match std::str::from_utf8(start) {
        Ok(_) => true,
        // The last character may be cut off.
        Err(e) => e.error_len().is_none() && start.len() as u64 == LOOKED_AT,
    };
    whole && !start.is_empty() && !start.contains(&0)
}

impl Reader<'_> {
    fn add(&self, line: Line, tokenizer: &Tokenizer, to: &mut Vec<Example>) -> Result<()> {
        match line {
            Line::Text { text } => {
                let (bos, eos) = (tokenizer.bos(), tokenizer.eos());
                let tokens = bos.into_iter().chain(tokenizer.encode(&text)).chain(eos).collect();
                to.push(Example { tokens, learned_from: 0 });
            }
            Line::Answer { prompt, completion } => {
                let bos = tokenizer.bos();
                let whole = tokenizer.encode(&(prompt.clone() + &completion));
                // What the prompt alone becomes, as far as it is the same within the whole.
                let same = common(&tokenizer.encode(&prompt), &whole);
                let learned_from = same + usize::from(bos.is_some());
                let tokens = bos.into_iter().chain(whole).chain(tokenizer.eos()).collect();
                to.push(Example { tokens, learned_from });
            }
            Line::Chat { messages } => self.add_chat(&messages, tokenizer, to)?,
        }
        Ok(())
    }

    /// An example for every answer of a conversation, each as the model sees it when it answers:
    /// templates may write earlier answers in another way than the last.
    fn add_chat(&self, said: &[Said], tokenizer: &Tokenizer, to: &mut Vec<Example>) -> Result<()> {
        let refuse = |message: String| Error::new(ErrorKind::File, message);
        let template = (self.template)()?.ok_or_else(|| {
            refuse("this is a conversation, and the model has no chat template".to_owned())
                .hint("write it as {\"prompt\": …, \"completion\": …}")
        })?;
        let mut messages = Vec::new();
        let mut answers = 0;
        for Said { role, content } in said {
            let role = match role.as_str() {
                "system" => "system",
                "user" => "user",
                "assistant" => "assistant",
                other => {
                    return Err(refuse(format!(
                        "the role is {other:?}, expected system, user or assistant"
                    )));
                }
            };
            let asked = messages.clone();
            messages.push(Message { role, content: content.clone() });
            if role != "assistant" {
                continue;
            }
            let question = template.render(&asked)?;
            let whole = template.render_answered(&messages)?;
            let question = tokenizer.encode_with_special(&question);
            let tokens = tokenizer.encode_with_special(&whole);
            let learned_from = common(&question, &tokens);
            to.push(Example { tokens, learned_from });
            answers += 1;
        }
        if answers == 0 {
            return Err(refuse(
                "no message is the assistant's, so there is nothing to learn".to_owned(),
            ));
        }
        Ok(())
    }
}

/// How many tokens two texts begin with in common.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Examples in sequences of one length, the rest of each filled with tokens that nobody sees.
#[derive(Debug, Clone)]
pub(crate) struct Examples {
    examples: Vec<Example>,
    seq: usize,
    passes: Passes,
    /// How many were longer and are cut off.
    pub(crate) cut: usize,
    /// How many have nothing left to learn, and are left out.
    pub(crate) left_out: usize,
}

impl Examples {
    /// Examples in sequences of `seq` tokens from `position` on.
    ///
    /// # Errors
    /// When none is left, or the position is outside a pass.
    pub(crate) fn new(
        examples: Vec<Example>,
        seq: usize,
        order: Order,
        seed: u64,
        position: DataPosition,
    ) -> Result<Self> {
        let all = examples.len();
        let cut = examples.iter().filter(|e| e.tokens.len() > seq + 1).count();
        let examples: Vec<Example> = examples
            .into_iter()
            .filter_map(|mut example| {
                example.tokens.truncate(seq + 1);
                // The first token is predicted by nothing.
                let learned = example.learned_from.max(1) < example.tokens.len();
                learned.then_some(example)
            })
            .collect();
        if examples.is_empty() {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("of {all} examples none has anything to learn within {} tokens", seq + 1),
            )
            .hint("use longer sequences with --seq"));
        }
        let left_out = all - examples.len();
        let passes = Passes::new(examples.len(), order, seed, position)?;
        Ok(Self { examples, seq, passes, cut, left_out })
    }

    /// Examples in one pass.
    pub(crate) fn count(&self) -> usize {
        self.examples.len()
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> DataPosition {
        self.passes.position()
    }

    /// The next `sequences` examples.
    pub(crate) fn next_batch(&mut self, sequences: usize) -> Batch {
        let mut batch = Batch::default();
        let mut counted = Vec::new();
        for _ in 0..sequences {
            let Example { tokens, learned_from } = &self.examples[self.passes.advance()];
            let padding = self.seq + 1 - tokens.len();
            let filled = |tokens: &[u32]| -> Vec<i32> {
                let zeros = std::iter::repeat_n(0, padding);
                tokens.iter().map(|&t| t as i32).chain(zeros).collect()
            };
            batch.tokens.extend(filled(&tokens[..tokens.len() - 1]));
            batch.targets.extend(filled(&tokens[1..]));
            counted.extend((1..=self.seq).map(|i| i >= *learned_from && i < tokens.len()));
            batch.read += tokens.len() - 1;
        }
        batch.counted = Some(counted);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::train_byte_level(["the cat sat on the mat, the dog too"], 270).unwrap()
    }

    fn read(text: &str, template: Option<&str>) -> Result<Corpus> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        std::fs::write(&path, text).unwrap();
        let tokenizer = tokenizer();
        let template = || Ok(template.map(|source| ChatTemplate::new(source, &tokenizer)));
        Corpus::open(&path, &Reader { tokenizer: Some(&tokenizer), template: &template })
    }

    fn examples(text: &str, template: Option<&str>) -> Vec<Example> {
        match read(text, template).unwrap() {
            Corpus::Examples(examples) => examples,
            Corpus::Tokens(_) => panic!("{text} was taken for a text"),
        }
    }

    /// What is learned, as text.
    fn learned(example: &Example) -> String {
        let text = tokenizer().decode(&example.tokens[example.learned_from..]);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn prompts_are_not_learned() {
        let found = examples(
            "{\"prompt\": \"the cat\", \"completion\": \" sat\"}\n\n{\"text\": \"the dog\"}\n",
            None,
        );
        let end = tokenizer().eos().into_iter().collect::<Vec<_>>();
        let end = String::from_utf8(tokenizer().decode(&end)).unwrap();
        assert_eq!(learned(&found[0]), format!(" sat{end}"));
        assert_eq!(found[1].learned_from, 0);
    }

    #[test]
    fn of_a_conversation_the_answers_are_learned() {
        let template = "{% for m in messages %}{{ m.role }}:\n{{ m.content }}\n{% endfor %}\
                        {% if add_generation_prompt %}assistant:\n{% endif %}";
        let line = "{\"messages\": [{\"role\": \"system\", \"content\": \"dog\"}, \
                    {\"role\": \"user\", \"content\": \"cat?\"}, \
                    {\"role\": \"assistant\", \"content\": \"the mat\"}, \
                    {\"role\": \"user\", \"content\": \"on?\"}, \
                    {\"role\": \"assistant\", \"content\": \"sat\"}]}";
        let found = examples(line, Some(template));
        let answers: Vec<String> = found.iter().map(learned).collect();
        assert_eq!(answers, ["the mat\n", "sat\n"]);
        let whole = String::from_utf8(tokenizer().decode(&found[1].tokens)).unwrap();
        assert!(whole.starts_with("system:\ndog\nuser:\ncat?\nassistant:\nthe mat\nuser:\non?\n"));
        let e = read(line, None).unwrap_err().to_string();
        assert!(e.contains("line 1: this is a conversation"), "{e}");
    }

    #[test]
    fn lines_that_are_no_examples_are_named() {
        for (line, what) in [
            ("{\"prompt\": \"a\"}", "line 2: this is no example"),
            ("{\"prompt\": \"a\", ", "line 2: EOF"),
            (
                "{\"messages\": [{\"role\": \"tool\", \"content\": \"\"}]}",
                "line 2: the role is \"tool\"",
            ),
            ("{\"messages\": [{\"role\": \"user\", \"content\": \"\"}]}", "nothing to learn"),
            ("[1]", "line 2"),
        ] {
            let e =
                read(&format!("{{\"text\": \"a\"}}\n{line}"), Some("")).unwrap_err().to_string();
            assert!(e.contains(what), "`{what}` is not in `{e}`");
        }
    }

    #[test]
    fn text_is_told_from_ids() {
        assert!(is_text("a text. é".as_bytes()) && is_text(b"{}"));
        assert!(!is_text(&[1, 0, 2, 0]) && !is_text(&[0xff, 0xfe, 1, 1]) && !is_text(&[]));
        let long = format!("{}é", "a".repeat(LOOKED_AT as usize - 1));
        assert!(is_text(&long.as_bytes()[..LOOKED_AT as usize]));
        let Corpus::Tokens(file) = read("the cat sat", None).unwrap() else { panic!() };
        let ids = tokenizer().encode("the cat sat");
        let begin = usize::from(tokenizer().bos().is_some());
        assert_eq!(file.window(begin, ids.len()), ids);
    }

    #[test]
    fn sequences_are_filled_up_and_count_what_is_learned() {
        let example = |n: u32, learned_from| Example { tokens: (1..=n).collect(), learned_from };
        let all = vec![example(3, 2), example(7, 1), example(9, 6), example(1, 0)];
        let start = DataPosition::default();
        let mut examples = Examples::new(all.clone(), 4, Order::Sequential, 0, start).unwrap();
        assert_eq!((examples.count(), examples.cut, examples.left_out), (2, 2, 2));
        let batch = examples.next_batch(2);
        assert_eq!(batch.tokens, [1, 2, 0, 0, 1, 2, 3, 4]);
        assert_eq!(batch.targets, [2, 3, 0, 0, 2, 3, 4, 5]);
        let counted = [false, true, false, false, true, true, true, true];
        assert_eq!((batch.counted, batch.read), (Some(counted.to_vec()), 6));
        assert_eq!(examples.next_batch(3).tokens.len(), 12);
        assert_eq!(examples.position(), DataPosition { epoch: 2, window: 1 });
        assert!(Examples::new(all[3..].to_vec(), 4, Order::Sequential, 0, start).is_err());
    }
}
