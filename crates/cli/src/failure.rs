use crate::exit::Exit;
use std::error::Error;
use std::fmt::Display;
use std::io;

/// What a command returns.
pub(crate) type Result<T = Exit> = std::result::Result<T, Failure>;

/// Why a command stopped.
///
/// Not an [`Error`] itself, so that `?` takes every library's error.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads standard output any more, as in `orion … | head`. Nothing to tell anyone.
    PipeClosed,
    /// Something to tell a person.
    Told {
        /// [`Exit::Usage`] or [`Exit::Failure`].
        exit: Exit,
        /// What happened, then what led to it.
        messages: Vec<String>,
        /// A way out.
        hint: Option<String>,
    },
}

impl Failure {
    /// The command could not be carried out.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Told { exit: Exit::Failure, messages: vec![message.into()], hint: None }
    }

    /// The command line does not make sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Told { exit: Exit::Usage, messages: vec![message.into()], hint: None }
    }

    /// Adds a way out, unless a library already gave one.
    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Told { hint, .. } = &mut self {
            hint.get_or_insert_with(|| text.into());
        }
        self
    }

    /// Puts what was being done before what went wrong.
    pub(crate) fn context(mut self, what: impl Display) -> Self {
        if let Self::Told { messages, .. } = &mut self {
            messages[0] = format!("{what}: {}", messages[0]);
        }
        self
    }

    /// How the process ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::PipeClosed => Exit::Success,
            Self::Told { exit, .. } => *exit,
        }
    }

    /// A failure to write to standard output.
    pub(crate) fn from_stdout(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::new(format!("writing to standard output: {error}")),
        }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let text = error.to_string();
        // Some libraries print their hint behind the message, others keep it apart.
        let (message, hint) = match text.split_once("\nhint: ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (text, way_out(&error).map(str::to_owned)),
        };
        let engine = (&error as &dyn Error).downcast_ref::<orion_engine::Error>();
        // Settings come from the command line, or from files it names for that purpose.
        let is_setting = engine.is_some_and(|e| e.kind() == orion_engine::ErrorKind::Config);
        let bench = (&error as &dyn Error).downcast_ref::<orion_bench::Error>();
        let is_size = bench.is_some_and(|e| e.kind() == orion_bench::ErrorKind::Size);
        let exit = if is_setting || is_size { Exit::Usage } else { Exit::Failure };
        let mut messages = vec![message];
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Many errors repeat their cause in their own text.
            if !messages.iter().any(|m| m.contains(&cause_text)) {
                messages.push(cause_text);
            }
            source = cause.source();
        }
        Self::Told { exit, messages, hint }
    }
}

/// The hint of the libraries' errors that keep it apart.
fn way_out<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a str> {
    let engine = error.downcast_ref().and_then(orion_engine::Error::way_out);
    engine
        .or_else(|| error.downcast_ref().and_then(orion_formats::Error::way_out))
        .or_else(|| error.downcast_ref().and_then(orion_models::LoadError::way_out))
}

/// Naming the file or the activity that an error belongs to.
pub(crate) trait Context<T> {
    /// Puts `what` before the message.
    fn context(self, what: impl Display) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|e| e.into().context(what))
    }
}
