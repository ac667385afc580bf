use std::process::{ExitCode, Termination};

/// How the process ends. Every code a person or a script can see is listed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for was done.
    Success = 0,
    /// It was done, and the answer is no: a program has errors, a comparison failed.
    No = 1,
    /// The command line does not make sense.
    Usage = 2,
    /// It could not be done.
    Failure = 3,
    /// It was stopped from the keyboard, after leaving everything in order.
    Interrupted = 130,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}
