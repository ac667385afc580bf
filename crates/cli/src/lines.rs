//! What a person types, line by line.

use crate::failure::{Context, Failure, Result};
use crate::printer::Printer;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::io::IsTerminal;

/// Lines from a terminal, which can be edited and called back, or from a pipe or file.
pub(crate) enum Lines {
    /// With the lines typed so far. They are not written anywhere.
    Terminal(Box<DefaultEditor>),
    /// As they come.
    Plain,
}

impl Lines {
    pub(crate) fn open(printer: &Printer) -> Self {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Self::Plain;
        }
        match DefaultEditor::new() {
            Ok(editor) => Self::Terminal(Box::new(editor)),
            Err(error) => {
                printer.warn(format_args!("lines cannot be edited on this terminal: {error}"));
                Self::Plain
            }
        }
    }

    /// The next line, without its end; `None` when there are no more.
    pub(crate) fn next(&mut self, printer: &Printer) -> Result<Option<String>> {
        match self {
            Self::Plain => {
                printer.ask();
                let mut line = String::new();
                let read = std::io::stdin().read_line(&mut line);
                let count = read.context("reading standard input")?;
                Ok((count > 0).then_some(line))
            }
            Self::Terminal(editor) => {
                let mut asked_to_end = false;
                loop {
                    match editor.readline("> ") {
                        Ok(line) => {
                            // Only fails where a history is full, and this one has no end.
                            let _ = editor.add_history_entry(line.as_str());
                            return Ok(Some(line));
                        }
                        Err(ReadlineError::Eof) => return Ok(None),
                        Err(ReadlineError::Interrupted) if asked_to_end => return Ok(None),
                        Err(ReadlineError::Interrupted) => {
                            asked_to_end = true;
                            printer.say("Ctrl-C again, Ctrl-D or /exit ends");
                        }
                        Err(error) => {
                            return Err(Failure::new(format!("reading a line: {error}")));
                        }
                    }
                }
            }
        }
    }
}
