//! The only place that prints. Data goes to standard output, talk to standard error.

use crate::failure::{Failure, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use orion_engine::RangeReport;
use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// How much talk there is. Data and errors are always printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// What a person wants to know.
    Normal,
    /// What somebody looking for a cause wants to know.
    Verbose,
}

/// Prints according to [`Verbosity`] and where the streams lead.
#[derive(Debug)]
pub(crate) struct Printer {
    verbosity: Verbosity,
}

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

impl Printer {
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity }
    }

    /// The flags that make another process as talkative.
    pub(crate) fn flags(&self) -> &'static [&'static str] {
        match self.verbosity {
            Verbosity::Quiet => &["--quiet"],
            Verbosity::Normal => &[],
            Verbosity::Verbose => &["--verbose"],
        }
    }

    /// Writes data to standard output as it is and at once.
    pub(crate) fn data(&self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes.as_ref()).and_then(|()| out.flush()).map_err(Failure::from_stdout)
    }

    /// Writes a line of data to standard output.
    pub(crate) fn data_line(&self, line: impl Display) -> Result<()> {
        self.data(format!("{line}\n"))
    }

    /// Ends a stream of text: a terminal gets the line break that the text itself lacks, a pipe
    /// or file gets exactly the text.
    pub(crate) fn end_of_text(&self) -> Result<()> {
        if std::io::stdout().is_terminal() { self.data("\n") } else { Ok(()) }
    }

    /// Says on a terminal that something can be typed.
    pub(crate) fn ask(&self) {
        if std::io::stdin().is_terminal() {
            let _ = write!(anstream::stderr(), "{BOLD}> {PLAIN}");
        }
    }

    /// A line a person wants to know.
    pub(crate) fn say(&self, line: impl Display) {
        if self.verbosity >= Verbosity::Normal {
            self.to_stderr(line);
        }
    }

    /// A heading among such lines.
    pub(crate) fn heading(&self, line: impl Display) {
        self.say(format_args!("{BOLD}{line}{PLAIN}"));
    }

    /// A line for somebody looking for a cause.
    pub(crate) fn detail(&self, line: impl Display) {
        if self.verbosity >= Verbosity::Verbose {
            self.to_stderr(line);
        }
    }

    /// Something that was asked for explicitly, such as `--stats`: printed even when quiet.
    pub(crate) fn report(&self, line: impl Display) {
        self.to_stderr(line);
    }

    /// Something that may be a mistake.
    pub(crate) fn warn(&self, line: impl Display) {
        self.to_stderr(format_args!("{YELLOW}warning{PLAIN}: {line}"));
    }

    /// What may have made results wrong, where there is something.
    pub(crate) fn warn_of(&self, range: &RangeReport) {
        if let Some(concern) = range.concern() {
            self.warn(format_args!(
                "numbers are too large for the accelerator: {concern}. Results may be wrong \
                 without another sign; -d cpu computes in fp32"
            ));
        }
    }

    /// Why the command stopped.
    pub(crate) fn failure(&self, failure: &Failure) {
        let Failure::Told { messages, hint, .. } = failure else { return };
        for (i, message) in messages.iter().enumerate() {
            match i {
                0 => self.to_stderr(format_args!("{RED}error{PLAIN}: {message}")),
                _ => self.to_stderr(format_args!("  caused by: {message}")),
            }
        }
        if let Some(hint) = hint {
            self.to_stderr(format_args!("{CYAN}hint{PLAIN}: {hint}"));
        }
    }

    /// A progress bar on standard error; draws nothing unless that is a terminal.
    pub(crate) fn progress(&self, length: u64, template: &str) -> Progress {
        let target = match self.verbosity {
            Verbosity::Quiet => ProgressDrawTarget::hidden(),
            _ => ProgressDrawTarget::stderr(),
        };
        let style = ProgressStyle::with_template(template).expect("templates are constants");
        let bar = ProgressBar::with_draw_target(Some(length), target);
        bar.set_style(style.progress_chars("━╸─"));
        Progress { bar }
    }

    /// Standard error may be closed; there is nobody to tell that to.
    fn to_stderr(&self, line: impl Display) {
        let _ = writeln!(anstream::stderr(), "{line}");
    }
}

/// A running progress bar. Vanishes when dropped, so that errors do not print into it.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Whether nothing is drawn, so that lines have to do.
    pub(crate) fn is_hidden(&self) -> bool {
        self.bar.is_hidden()
    }

    /// Sets how far there is to go.
    pub(crate) fn set_length(&self, length: u64) {
        self.bar.set_length(length);
    }

    /// Moves to a position and replaces the text behind the bar.
    pub(crate) fn set(&self, position: u64, message: String) {
        self.bar.set_position(position);
        self.bar.set_message(message);
    }

    /// Prints something that stays, above the bar.
    pub(crate) fn above(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
