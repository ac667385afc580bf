//! Chat templates: a conversation as the text that a chat model was trained on.

use crate::{Error, ErrorKind, Result};
use minijinja::{Environment, context};
use orion_formats::Gguf;
use orion_tokenizer::Tokenizer;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Steps a template may take; real ones need a few thousand. Templates come with models from
/// strangers.
const FUEL: u64 = 10_000_000;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who says it: `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What is said.
    pub content: String,
}

/// A Jinja template that turns messages into text.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    /// Where it was found.
    file: Option<PathBuf>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// A template of its source. Names of the tokens that begin and end a text are known to it.
    pub fn new(source: impl Into<String>, tokenizer: &Tokenizer) -> Self {
        let name = |id: Option<u32>| {
            let piece = id.and_then(|id| tokenizer.piece(id)).unwrap_or_default();
            String::from_utf8_lossy(piece).trim().to_owned()
        };
        let [bos, eos] = [tokenizer.bos(), tokenizer.eos()].map(name);
        Self { source: source.into(), file: None, bos, eos }
    }

    /// The template that comes with a model: inside a GGUF file, or in a directory's
    /// `chat_template.jinja` or `tokenizer_config.json`. `None` for a base model.
    ///
    /// # Errors
    /// When a file that may have it cannot be read.
    pub fn of_model(path: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let found = of_model(path)?;
        Ok(found.map(|(file, source)| Self { file: Some(file), ..Self::new(source, tokenizer) }))
    }

    /// The source of the template that comes with a model.
    ///
    /// # Errors
    /// As [`ChatTemplate::of_model`].
    pub fn source_of_model(path: &Path) -> Result<Option<String>> {
        Ok(of_model(path)?.map(|(_, source)| source))
    }

    /// The text of a conversation, up to where the assistant's answer begins.
    ///
    /// # Errors
    /// When the template is no Jinja, refuses the messages, or takes too long.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        self.render_as(messages, true)
    }

    /// The text of a conversation that ends with an answer.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_answered(&self, messages: &[Message]) -> Result<String> {
        self.render_as(messages, false)
    }

    fn render_as(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let values = context! {
            messages => messages, add_generation_prompt => add_generation_prompt,
            bos_token => self.bos, eos_token => self.eos,
        };
        let mut jinja = Environment::new();
        // As transformers renders them.
        jinja.set_trim_blocks(true);
        jinja.set_lstrip_blocks(true);
        jinja.set_fuel(Some(FUEL));
        jinja.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        jinja.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<String, minijinja::Error> {
                Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message))
            },
        );
        jinja.render_str(&self.source, values).map_err(|e| {
            let error = Error::new(ErrorKind::File, format!("the model's chat template: {e}"));
            match &self.file {
                Some(file) => error.at(file),
                None => error,
            }
        })
    }
}

/// The template of a model, and the file it is in.
fn of_model(path: &Path) -> Result<Option<(PathBuf, String)>> {
    if path.is_dir() {
        in_directory(path)
    } else if crate::tokenizer::is_gguf(path) {
        let file = Gguf::open(path)?;
        let source = file.text("tokenizer.chat_template");
        let source = source.map_err(|e| Error::new(ErrorKind::File, e.to_string()).at(path))?;
        Ok(source.map(|source| (path.to_owned(), source.to_owned())))
    } else {
        Ok(None)
    }
}

fn in_directory(path: &Path) -> Result<Option<(PathBuf, String)>> {
    let file = path.join("chat_template.jinja");
    if file.is_file() {
        let source = std::fs::read_to_string(&file).map_err(|e| Error::io(&file, e))?;
        return Ok(Some((file, source)));
    }
    let file = path.join("tokenizer_config.json");
    if !file.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&file).map_err(|e| Error::io(&file, e))?;
    let config: Value = serde_json::from_str(&text)
        .map_err(|e| Error::new(ErrorKind::File, e.to_string()).at(&file))?;
    // Some models have several, by name.
    let template = match &config["chat_template"] {
        Value::Array(named) => {
            named.iter().find(|row| row["name"] == "default").map(|row| &row["template"])
        }
        other => Some(other),
    };
    Ok(template.and_then(Value::as_str).map(|source| (file, source.to_owned())))
}

/// Finds strings that end a text while it comes in pieces.
#[derive(Debug, Clone)]
pub struct StopStrings {
    strings: Vec<String>,
    /// What may be the beginning of one.
    held: String,
}

impl StopStrings {
    /// Looks for these; empty ones are left out.
    pub fn new(strings: impl IntoIterator<Item = String>) -> Self {
        let strings = strings.into_iter().filter(|string| !string.is_empty()).collect();
        Self { strings, held: String::new() }
    }

    /// Takes the next piece of text and gives what can be shown, and the string that ended the
    /// text, the first of them in it.
    pub fn feed(&mut self, text: &str) -> (String, Option<String>) {
        self.held.push_str(text);
        let found = self.strings.iter().filter_map(|s| Some((self.held.find(s.as_str())?, s)));
        if let Some((at, string)) = found.min_by_key(|(at, _)| *at) {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), Some(string.clone()));
        }
        let may_begin = |at: &usize| self.strings.iter().any(|s| s.starts_with(&self.held[*at..]));
        let places = self.held.char_indices().map(|place| place.0);
        let keep = places.into_iter().find(may_begin).unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// What was held back when no more text comes.
    pub fn finish(self) -> String {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source, &Tokenizer::train_byte_level([], 257).unwrap())
    }

    fn messages() -> Vec<Message> {
        vec![
            Message { role: "system", content: "Be brief.".into() },
            Message { role: "user", content: " Hi! ".into() },
        ]
    }

    #[test]
    fn chatml_renders_as_transformers_does() {
        let source = "{% for m in messages %}\n    {{- '<|im_start|>' + m.role + '\\n' + \
                      m['content'].strip() + '<|im_end|>\\n' }}\n{%- endfor %}\n\
                      {%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}";
        assert_eq!(
            template(source).render(&messages()).unwrap(),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n\
             <|im_start|>assistant\n"
        );
        assert_eq!(template("{{ bos_token }}").render(&[]).unwrap(), "<|endoftext|>");
    }

    #[test]
    fn templates_fail_in_order() {
        for (source, what) in [
            ("{{ raise_exception('only user and assistant') }}", "only user and assistant"),
            ("{% for", "template"),
            (
                "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
                "fuel",
            ),
        ] {
            let e = template(source).render(&messages()).unwrap_err();
            assert!(e.to_string().contains(what), "`{what}` is not in `{e}`");
        }
    }

    #[test]
    fn the_file_of_a_template_that_is_refused_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let source = "{{ raise_exception('no system message') }}";
        std::fs::write(directory.path().join("chat_template.jinja"), source).unwrap();
        let tokenizer = Tokenizer::train_byte_level([], 257).unwrap();
        let template = ChatTemplate::of_model(directory.path(), &tokenizer).unwrap().unwrap();
        let e = template.render(&messages()).unwrap_err().to_string();
        assert!(e.contains("chat_template.jinja: ") && e.contains("no system message"), "{e}");
    }

    #[test]
    fn stop_strings_are_found_across_pieces() {
        let mut stop = StopStrings::new(["END".into(), "\n\n".into(), String::new()]);
        assert_eq!(stop.feed("one E"), ("one ".into(), None));
        assert_eq!(stop.feed("Nx"), ("ENx".into(), None));
        assert_eq!(stop.feed("\n"), (String::new(), None));
        assert_eq!(stop.feed("é EN"), ("\né ".into(), None));
        assert_eq!(stop.clone().finish(), "EN");
        assert_eq!(stop.feed("D more"), (String::new(), Some("END".into())));
    }
}
