use crate::arguments::{Detokenize, Format, Tokenize};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::printer::Printer;
use orion_engine::open_any_tokenizer;
use orion_tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

pub(crate) fn tokenize(arguments: &Tokenize, printer: &Printer) -> Result {
    let tokenizer = open_any_tokenizer(&arguments.tokenizer)?;
    let ids_of = |text: &str| -> Vec<u32> {
        let ids = match arguments.special {
            true => tokenizer.encode_with_special(text),
            false => tokenizer.encode(text),
        };
        tokenizer.bos().filter(|_| arguments.bos).into_iter().chain(ids).collect()
    };
    let line = |ids: &[u32]| match arguments.format {
        Format::Json => json!({"ids": ids}).to_string(),
        Format::Text => joined(ids),
    };
    let mut input = Input::open(arguments.file.as_deref())?;
    if !arguments.jsonl {
        printer.data_line(line(&ids_of(&input.text()?)))?;
        return Ok(Exit::Success);
    }
    while let Some((row, place)) = input.line()? {
        let text = match serde_json::from_str::<Value>(&row) {
            Ok(row) => {
                row["text"].as_str().map(str::to_owned).ok_or_else(|| "there is no text".to_owned())
            }
            Err(e) => Err(e.to_string()),
        };
        let text = text.map_err(|what| {
            Failure::new(format!("{place}: expected {{\"text\": \"…\"}}: {what}"))
        })?;
        printer.data_line(line(&ids_of(&text)))?;
    }
    Ok(Exit::Success)
}

pub(crate) fn detokenize(arguments: &Detokenize, printer: &Printer) -> Result {
    let tokenizer = open_any_tokenizer(&arguments.tokenizer)?;
    let mut input = Input::open(arguments.file.as_deref())?;
    // Without lines of objects, all lines are one text.
    let mut ids = Vec::new();
    let mut is_one_text = !arguments.jsonl;
    while let Some((row, place)) = input.line()? {
        let is_object = row.starts_with('{');
        let mut row = ids_in(&row, &tokenizer).map_err(|what| {
            Failure::new(format!("{place}: {what}"))
                .hint("ids are numbers separated by spaces, or {\"ids\": […]} on each line")
        })?;
        if is_object || !is_one_text {
            is_one_text = false;
            print_text(&tokenizer, &row, arguments.format, true, printer)?;
        } else {
            ids.append(&mut row);
        }
    }
    if is_one_text {
        print_text(&tokenizer, &ids, arguments.format, false, printer)?;
    }
    Ok(Exit::Success)
}

/// Prints a text, on lines of its own or exactly as it is.
fn print_text(
    tokenizer: &Tokenizer,
    ids: &[u32],
    format: Format,
    own_line: bool,
    printer: &Printer,
) -> Result<()> {
    // After BOS, what encoding put before the text is left out again.
    let bos = tokenizer.bos().filter(|bos| ids.first() != Some(bos));
    let ids: Vec<u32> = bos.into_iter().chain(ids.iter().copied()).collect();
    match format {
        Format::Json => printer.data_line(json!({"text": tokenizer.decode_text(&ids)})),
        Format::Text if own_line => printer.data([&tokenizer.decode(&ids)[..], b"\n"].concat()),
        Format::Text => {
            printer.data(tokenizer.decode(&ids))?;
            printer.end_of_text()
        }
    }
}

/// The ids on a line.
fn ids_in(line: &str, tokenizer: &Tokenizer) -> std::result::Result<Vec<u32>, String> {
    let ids: Vec<u32> = if line.starts_with('{') {
        let row: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
        serde_json::from_value(row["ids"].clone()).map_err(|e| format!("ids: {e}"))?
    } else {
        let words = line.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']'));
        let words = words.filter(|word| !word.is_empty());
        let id = |word: &str| word.parse().map_err(|_| format!("`{word}` is no token id"));
        words.map(id).collect::<std::result::Result<_, _>>()?
    };
    match ids.iter().find(|&&id| id as usize >= tokenizer.vocab_size()) {
        Some(id) => {
            Err(format!("token {id} is outside the vocabulary of {}", tokenizer.vocab_size()))
        }
        None => Ok(ids),
    }
}

fn joined(ids: &[u32]) -> String {
    let mut line = String::with_capacity(ids.len() * 5);
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            line.push(' ');
        }
        line.push_str(&id.to_string());
    }
    line
}

/// A file or standard input.
struct Input {
    reader: Box<dyn BufRead>,
    name: String,
    lines: usize,
}

impl Input {
    fn open(path: Option<&Path>) -> Result<Self> {
        let (reader, name): (Box<dyn BufRead>, _) = match path {
            Some(path) if path != Path::new("-") => {
                let file = File::open(path).context(path.display())?;
                (Box::new(BufReader::new(file)), path.display().to_string())
            }
            _ => (Box::new(std::io::stdin().lock()), "standard input".to_owned()),
        };
        Ok(Self { reader, name, lines: 0 })
    }

    /// Everything, which must be UTF-8.
    fn text(&mut self) -> Result<String> {
        let mut text = String::new();
        self.reader.read_to_string(&mut text).context(&self.name)?;
        Ok(text)
    }

    /// The next line that is not empty, without spaces around it, and where it is.
    fn line(&mut self) -> Result<Option<(String, impl Display)>> {
        loop {
            let mut line = String::new();
            self.lines += 1;
            let place = format!("{}, line {}", self.name, self.lines);
            if self.reader.read_line(&mut line).context(&place)? == 0 {
                return Ok(None);
            }
            let line = line.trim();
            if !line.is_empty() {
                return Ok(Some((line.to_owned(), place)));
            }
        }
    }
}
