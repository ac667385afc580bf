use crate::Failure;
use std::fmt;

/// A call of the framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// Opening the framework and finding its classes and methods.
    Open,
    /// Opening a connection to the system's service.
    Client,
    /// Making a descriptor and a model of it.
    Model,
    /// A model's identifier, which names its directory.
    Identifier,
    /// Whether the system has the compiled program already.
    CompiledModelExists,
    /// Compiling.
    Compile,
    /// Loading.
    Load,
    /// Loading an instance of a program with other weights.
    LoadInstance,
    /// Unloading.
    Unload,
    /// Removing the compiled program from the system's cache.
    Purge,
    /// The dictionary that describes a loaded program.
    Attributes,
    /// Making memory that the engine can see.
    Surface,
    /// Locking that memory to read or write it.
    Lock,
    /// Unlocking it.
    Unlock,
    /// Binding memory to a program's inputs and outputs.
    Request,
    /// Running.
    Evaluate,
}

impl Call {
    /// The method, as the framework names it.
    pub fn selector(self) -> &'static str {
        match self {
            Self::Open => "dlopen",
            Self::Client => "initWithRestrictedAccessAllowed:",
            Self::Model => "modelWithMILText:weights:optionsPlist:",
            Self::Identifier => "hexStringIdentifier",
            Self::CompiledModelExists => "compiledModelExists",
            Self::Compile => "compileWithQoS:options:error:",
            Self::Load => "loadWithQoS:options:error:",
            Self::LoadInstance => "loadModelNewInstance:options:modelInstParams:qos:error:",
            Self::Unload => "unloadWithQoS:error:",
            Self::Purge => "purgeCompiledModel",
            Self::Attributes => "modelAttributes",
            Self::Surface => "IOSurfaceCreate",
            Self::Lock => "IOSurfaceLock",
            Self::Unlock => "IOSurfaceUnlock",
            Self::Request => {
                "requestWithInputs:inputIndices:outputs:outputIndices:weightsBuffer:perfStats:procedureIndex:"
            }
            Self::Evaluate => "evaluateWithQoS:options:request:error:",
        }
    }
}

/// How the text of an exception begins.
const THROWN: &str = "the framework threw";

/// A call that failed, in the system's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// Which.
    pub call: Call,
    /// The system's number for it, where it gives one.
    pub code: Option<i64>,
    /// What the system says, or what was found missing.
    pub text: String,
}

impl CallError {
    /// A failure without a number.
    pub fn new(call: Call, text: impl Into<String>) -> Self {
        Self { call, code: None, text: text.into() }
    }

    /// An exception of Objective-C, in its own words.
    pub fn thrown(call: Call, exception: &str) -> Self {
        Self::new(call, format!("{THROWN} {exception}"))
    }

    /// Whether it is an exception, not an error that the system returned.
    pub(crate) fn is_exception(&self) -> bool {
        self.text.starts_with(THROWN)
    }

    /// What it means, as far as that is known.
    pub fn failure(&self) -> Failure {
        Failure::of(self)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.call.selector(), self.text)?;
        if let Some(code) = self.code {
            write!(f, " (code {code})")?;
        }
        Ok(())
    }
}

impl std::error::Error for CallError {}
