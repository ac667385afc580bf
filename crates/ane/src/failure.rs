//! What the system's messages mean.

use crate::{Call, CallError};

/// What a failed call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The framework, a class or a method is not on this system.
    Absent,
    /// The text is not a program that the compiler reads.
    InvalidProgram,
    /// The compiler gives no reason. It may work when tried again.
    Compilation,
    /// A compiled program could not be loaded.
    Load,
    /// Memory of another size, or bound to another input or output, than the program expects.
    SurfaceMismatch,
    /// Rows of a surface are too short.
    RowTooShort,
    /// An input or output number that the program does not have.
    WrongIndex,
    /// The system keeps the call for Apple's own programs.
    NotPermitted,
    /// The host or another run is at work on memory that the run needs.
    InUse,
    /// No memory that the engine can see was given.
    OutOfSurfaces,
    /// The system's service did not answer.
    Timeout,
    /// The connection to the system's service is closed for good; another may be opened.
    Disconnected,
    /// The framework threw an exception of Objective-C: the call is not made as it wants it.
    Exception,
    /// Something of which nothing is known.
    Other,
}

/// Foundation's numbers for connections to services (`NSXPCConnectionInterrupted`, `…Invalid` and
/// `…ReplyInvalid`), and what they mean. A connection that was interrupted is made again by the
/// next call.
const CONNECTION_CODES: [(i64, Failure); 3] =
    [(4097, Failure::Timeout), (4099, Failure::Disconnected), (4101, Failure::Timeout)];

/// Words in the system's messages, and what they mean. The first that is found counts.
const WORDS: [(&str, Failure); 23] = [
    ("InvalidMILProgram", Failure::InvalidProgram),
    ("InvalidNetworkSyntax", Failure::InvalidProgram),
    ("InvalidNetwork", Failure::InvalidProgram),
    ("InvalidCompilationParam", Failure::InvalidProgram),
    ("InvalidUnit", Failure::InvalidProgram),
    ("InvalidMachOFileName", Failure::Compilation),
    ("InvalidJITShapesFileName", Failure::Compilation),
    ("CompilationFailure", Failure::Compilation),
    ("ANECCompile() FAILED", Failure::Compilation),
    ("status=0x1d", Failure::SurfaceMismatch),
    ("statusType=0x9", Failure::RowTooShort),
    ("status=0x9", Failure::RowTooShort),
    ("status=0x2", Failure::WrongIndex),
    ("error 0x2", Failure::WrongIndex),
    ("the host still holds the memory", Failure::InUse),
    ("another run is at work on", Failure::InUse),
    ("the engine is at work on", Failure::InUse),
    ("ntitlement", Failure::NotPermitted),
    ("not permitted", Failure::NotPermitted),
    ("denied", Failure::NotPermitted),
    ("imed out", Failure::Timeout),
    ("imeout", Failure::Timeout),
    ("interrupted", Failure::Timeout),
];

impl Failure {
    pub(crate) fn of(error: &CallError) -> Self {
        // An exception's reason may have any words in it.
        if error.is_exception() {
            return Self::Exception;
        }
        if error.text.contains("NSCocoaErrorDomain")
            && let Some((_, failure)) =
                CONNECTION_CODES.iter().find(|(code, _)| error.code == Some(*code))
        {
            return *failure;
        }
        if let Some((_, failure)) = WORDS.iter().find(|(word, _)| error.text.contains(word)) {
            return *failure;
        }
        match error.call {
            Call::Open => Self::Absent,
            Call::Compile => Self::Compilation,
            Call::Load | Call::LoadInstance => Self::Load,
            Call::Surface | Call::Lock | Call::Unlock => Self::OutOfSurfaces,
            _ => Self::Other,
        }
    }

    /// Whether the same call may succeed a moment later. Projects that compile many programs
    /// report failures that go away (Espresso tries 5 times, tmc/apple loads twice); the others
    /// say what is wrong with the call.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Compilation | Self::Load | Self::OutOfSurfaces | Self::Timeout | Self::Other
        )
    }

    /// What a person can do.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Absent => {
                "this needs a Mac with Apple silicon; `-d cpu` runs the same programs anywhere, `-d ane-model:m4` under the Neural Engine's rules"
            }
            Self::InvalidProgram => {
                "`orion lint` names what the Neural Engine's compiler does not take"
            }
            Self::Compilation => {
                "the compiler gives no reason; `orion lint` lists what is known to make it fail, `orion doctor` whether it compiles anything at all"
            }
            Self::Load => {
                "other programs may hold the engine; `orion doctor` shows whether anything can be loaded"
            }
            Self::SurfaceMismatch => {
                "this is a mistake in how memory was bound, or another operation left the engine in a bad state: start again, and report it with the output of `orion doctor --json`"
            }
            Self::RowTooShort => "report this with the output of `orion doctor --json`",
            Self::WrongIndex => "report this with the output of `orion doctor --json`",
            Self::NotPermitted => {
                "the system keeps this for Apple's own programs; run outside a sandbox and see `orion doctor`"
            }
            Self::InUse => "report this with the output of `orion doctor --json`",
            Self::OutOfSurfaces => "free memory, or use a smaller model",
            Self::Timeout => "the system's service is busy or restarted; try again",
            Self::Disconnected => {
                "the system's service has closed the connection of this process: start the command again"
            }
            Self::Exception => {
                "this is a mistake in how Orion calls the system, and trying again does not help: report it with the output of `orion doctor --json`"
            }
            Self::Other => "report this with the output of `orion doctor --json`",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_were_published_are_understood() {
        let failure = |call, text: &str| CallError::new(call, text).failure();
        let compile = "_ANECompiler : ANECCompile() FAILED err=(CompilationFailure)";
        assert_eq!(failure(Call::Compile, compile), Failure::Compilation);
        assert_eq!(
            failure(Call::Compile, "_ANECompiler : ANECCompile() FAILED err=(InvalidMILProgram)"),
            Failure::InvalidProgram
        );
        let direct = "ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9";
        assert_eq!(failure(Call::Evaluate, direct), Failure::SurfaceMismatch);
        assert_eq!(failure(Call::Evaluate, "statusType=0x9"), Failure::RowTooShort);
        assert_eq!(failure(Call::Load, "who knows"), Failure::Load);
        assert_eq!(failure(Call::Evaluate, "who knows"), Failure::Other);
        assert_eq!(failure(Call::Open, "no such file"), Failure::Absent);
        assert!(Failure::Compilation.is_transient() && !Failure::SurfaceMismatch.is_transient());
        let of_code = |code, domain: &str| {
            let text = format!("Couldn't communicate with a helper application. ({domain})");
            CallError { call: Call::Evaluate, code: Some(code), text }.failure()
        };
        assert_eq!(of_code(4097, "NSCocoaErrorDomain"), Failure::Timeout);
        assert_eq!(of_code(4099, "NSCocoaErrorDomain"), Failure::Disconnected);
        assert_eq!(of_code(4101, "NSCocoaErrorDomain"), Failure::Timeout);
        assert_eq!(of_code(4099, "com.apple.appleneuralengine"), Failure::Other);
        assert_eq!(of_code(4, "NSCocoaErrorDomain"), Failure::Other);
        assert!(Failure::Timeout.is_transient() && !Failure::Disconnected.is_transient());
        let thrown = CallError::thrown(Call::Load, "NSInvalidArgumentException: denied, timeout");
        assert_eq!(thrown.failure(), Failure::Exception);
        assert!(!Failure::Exception.is_transient());
    }
}
