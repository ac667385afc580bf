//! Which prompts are continued, and with which adapter.

use crate::adapters::Adapters;
use crate::failure::{Failure, Result};
use serde::Deserialize;

/// A text to continue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) text: String,
    /// The number of its adapter.
    pub(super) adapter: Option<usize>,
}

/// A line that says more than the prompt.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: String,
    /// Absent for the first adapter, null for the model alone.
    #[serde(default, deserialize_with = "present")]
    adapter: Option<Option<String>>,
}

/// Tells null from nothing.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A prompt with each adapter, or with none where there are none.
pub(super) fn of_text(text: String, adapters: &Adapters) -> Vec<Prompt> {
    if adapters.is_empty() {
        return vec![Prompt { text, adapter: None }];
    }
    let with_each = (0..adapters.len()).map(|n| Prompt { text: text.clone(), adapter: Some(n) });
    with_each.collect()
}

/// Every line that is not empty. Where there are adapters, a line may be a JSON object with a
/// `prompt` and the name of an `adapter`, or null for the model alone; others have the first.
///
/// # Errors
/// A line that begins as an object and is no such one, or names no adapter that is loaded.
pub(super) fn of_lines(text: &str, adapters: &Adapters) -> Result<Vec<Prompt>> {
    let first = (!adapters.is_empty()).then_some(0);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(i, line)| {
            if adapters.is_empty() || !line.starts_with('{') {
                return Ok(Prompt { text: line.to_owned(), adapter: first });
            }
            let place = format!("line {} of the prompt file", i + 1);
            let Line { prompt, adapter } = serde_json::from_str(line).map_err(|e| {
                Failure::usage(e.to_string())
                    .hint("write {\"prompt\": \"…\", \"adapter\": \"NAME\"}, or just the prompt")
                    .context(&place)
            })?;
            let adapter = match adapter {
                None => first,
                Some(None) => None,
                Some(Some(name)) => {
                    Some(adapters.number(&name).map_err(|failure| failure.context(&place))?)
                }
            };
            Ok(Prompt { text: prompt, adapter })
        })
        .collect()
}
