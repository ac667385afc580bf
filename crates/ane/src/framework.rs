//! The framework's own calls.

use crate::{Attribute, CallError};
use orion_device::{Chip, Os};
use orion_tensor::Bytes;
use std::collections::BTreeMap;
use std::path::Path;

/// What a model is made of.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// MIL text.
    pub text: String,
    /// Whole weight files, by the names that the text uses.
    pub weights: BTreeMap<String, Bytes>,
}

/// Memory for one input or output.
#[derive(Debug)]
pub struct Binding<'a, S> {
    /// The number of the input or output in the compiled program.
    pub index: usize,
    /// The memory.
    pub surface: &'a S,
}

/// What the system says about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evaluated {
    /// Nanoseconds the engine was at work, where the system measures them.
    pub hardware_ns: Option<u64>,
}

/// A file for a constant of a program.
#[derive(Debug, Clone, Copy)]
pub struct WeightFile<'a> {
    /// What stands for the constant.
    pub symbol: &'a str,
    /// A weight file.
    pub file: &'a Path,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// One line for a person: what answers, on what machine.
    pub description: String,
    /// The chip, where it is known to us.
    pub chip: Option<Chip>,
    /// The system, where it is known to us.
    pub os: Option<Os>,
    /// What else the system says of itself, by name, for reports.
    pub facts: Vec<(String, String)>,
}

/// The calls of the Neural Engine's framework, or of something that answers as it does.
///
/// Objects are released when they are dropped. A method does one call and nothing else: what is
/// tried again, checked or remembered is the client's business.
pub trait Framework: Send + Sync + 'static {
    /// `_ANEClient`, a connection to the system's service.
    type Client: Send + Sync;
    /// `_ANEInMemoryModel`.
    type Model: Send + Sync;
    /// An `IOSurface`. Whoever has it can lock it; it is unlocked when it is dropped.
    type Surface: Send + Sync;
    /// `_ANERequest`; keeps its surfaces alive.
    type Request: Send + Sync;

    /// The machine.
    fn host(&self) -> &Host;

    /// Where directories of models are, `NSTemporaryDirectory()`. The compiler reads
    /// `model.mil` and the weight files from `IDENTIFIER/` in it, which the caller fills.
    fn temporary_directory(&self) -> &Path;

    /// Opens a connection besides the one that all models share.
    ///
    /// # Errors
    /// When the framework gives none.
    fn client(&self) -> Result<Self::Client, CallError>;

    /// From now on programs are compiled and loaded and requests made so that runs are measured, or
    /// no longer. What was made before stays as it is. False where the system cannot measure.
    fn measure(&self, wanted: bool) -> bool;

    /// A descriptor, and a model of it.
    ///
    /// # Errors
    /// When the framework gives none.
    fn model(&self, descriptor: &Descriptor) -> Result<Self::Model, CallError>;

    /// The name of the model's directory.
    ///
    /// # Errors
    /// When the framework gives none.
    fn identifier(&self, model: &Self::Model) -> Result<String, CallError>;

    /// Whether the system has the compiled program already, so that it can be loaded at once.
    ///
    /// # Errors
    /// When the framework fails.
    fn compiled_model_exists(&self, model: &Self::Model) -> Result<bool, CallError>;

    /// Compiles.
    ///
    /// # Errors
    /// What the compiler says.
    fn compile(&self, model: &Self::Model) -> Result<(), CallError>;

    /// Loads what was compiled, through a connection of its own or, without one, the one that all
    /// models share. Until it is unloaded, the other calls on the model go the same way.
    ///
    /// # Errors
    /// What the system says.
    fn load(&self, model: &Self::Model, client: Option<&Self::Client>) -> Result<(), CallError>;

    /// Loads an instance of `base`, which is loaded through a connection of its own, as `model`,
    /// which is of the same descriptor: the same program with a file in the place of a constant.
    /// Nobody has shown it to work without an entitlement: only experiments call it.
    ///
    /// # Errors
    /// What the system says; [`Failure::Absent`](crate::Failure::Absent) where it has no such call.
    fn load_instance(
        &self,
        model: &Self::Model,
        base: &Self::Model,
        weights: &WeightFile<'_>,
    ) -> Result<(), CallError>;

    /// Unloads.
    ///
    /// # Errors
    /// What the system says.
    fn unload(&self, model: &Self::Model) -> Result<(), CallError>;

    /// Removes the compiled program from the system's cache.
    ///
    /// # Errors
    /// What the system says.
    fn purge(&self, model: &Self::Model) -> Result<(), CallError>;

    /// What the system says of a loaded program; `None` when it says nothing.
    ///
    /// # Errors
    /// When the framework fails.
    fn attributes(&self, model: &Self::Model) -> Result<Option<Attribute>, CallError>;

    /// Zeroed memory that the engine can see.
    ///
    /// # Errors
    /// When there is none.
    fn surface(&self, size_bytes: usize) -> Result<Self::Surface, CallError>;

    /// The first `size_bytes` given to [`Framework::surface`], locked for the host to read until it
    /// writes them or they are released.
    ///
    /// # Errors
    /// When they cannot be locked, or the engine is at work on them.
    fn read<'a>(&self, surface: &'a Self::Surface) -> Result<&'a [u8], CallError>;

    /// The same to be written, until they are read or released.
    ///
    /// # Errors
    /// When they cannot be locked, or the engine is at work on them.
    fn write<'a>(&self, surface: &'a mut Self::Surface) -> Result<&'a mut [u8], CallError>;

    /// Unlocks what the host wrote, so that the engine may read it. What it only reads stays
    /// locked. By the rules of references nobody writes any more who has written before.
    ///
    /// # Errors
    /// When it cannot be unlocked.
    fn finish_writing(&self, surface: &Self::Surface) -> Result<(), CallError>;

    /// Unlocks, so that the engine may write.
    ///
    /// # Errors
    /// When it cannot be unlocked.
    fn release(&self, surface: &mut Self::Surface) -> Result<(), CallError>;

    /// Binds memory. `weights` is the request's weights buffer, which nobody has seen do anything
    /// for constants: only experiments give one.
    ///
    /// # Errors
    /// When the framework gives no request.
    fn request(
        &self,
        inputs: &[Binding<'_, Self::Surface>],
        outputs: &[Binding<'_, Self::Surface>],
        weights: Option<&Self::Surface>,
    ) -> Result<Self::Request, CallError>;

    /// Runs once.
    ///
    /// # Errors
    /// What the system says; that the host holds memory which the engine is to use
    /// ([`Turns`](crate::Turns)).
    fn evaluate(
        &self,
        model: &Self::Model,
        request: &Self::Request,
    ) -> Result<Evaluated, CallError>;
}
