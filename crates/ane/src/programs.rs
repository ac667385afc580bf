//! The programs of a process: which exist, which are loaded, what is tried again.

use crate::description::Description;
use crate::directory::{COMPILED_FILES, Directory};
use crate::{
    Call, CallError, Descriptor, Error, ErrorKind, Evaluated, Failure, Framework, Options,
};
use orion_mil::Diagnostic;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Every program of one framework.
pub(crate) struct Programs<F: Framework> {
    pub(crate) framework: F,
    pub(crate) options: Options,
    /// The engine runs one program at a time, so one lock is enough, and nothing is unloaded
    /// while it runs.
    state: Mutex<State<F>>,
}

struct State<F: Framework> {
    slots: HashMap<u64, Slot<F>>,
    /// Programs by what they were made of.
    by_text: HashMap<String, u64>,
    /// Counts programs and runs.
    clock: u64,
    counts: Counts,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls of the compiler.
    pub compilations: usize,
    /// Programs loaded now.
    pub loaded: usize,
    /// Programs that exist now, loaded or not.
    pub programs: usize,
    /// Programs unloaded to make room for others.
    pub evictions: usize,
    /// Calls that were made again after they had failed.
    pub retries: usize,
}

struct Slot<F: Framework> {
    model: F::Model,
    text: String,
    users: usize,
    loaded: bool,
    /// When it ran last.
    used: u64,
    description: Description,
    /// Held until the model is gone.
    directory: Directory,
}

/// A user of a program, which goes with its last one.
pub(crate) struct Handle<F: Framework> {
    programs: Arc<Programs<F>>,
    id: u64,
}

/// Where a compiled program comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The system's cache or its compiler.
    Any,
    /// The same, and the compiled files are in the model's directory afterwards, for
    /// [`Source::Donor`]. What the system has in its cache does not bring them.
    WithFiles,
    /// The compiled files of another program of the same text, with the weight file in the place
    /// of its compiled weights.
    Donor(PathBuf),
}

impl<F: Framework> Programs<F> {
    pub(crate) fn new(framework: F, options: Options) -> Arc<Self> {
        let state = State {
            slots: HashMap::new(),
            by_text: HashMap::new(),
            clock: 0,
            counts: Counts::default(),
        };
        Arc::new(Self { framework, options, state: Mutex::new(state) })
    }

    /// What happened so far.
    pub(crate) fn counts(&self) -> Counts {
        let state = self.lock();
        let loaded = state.slots.values().filter(|s| s.loaded).count();
        Counts { loaded, programs: state.slots.len(), ..state.counts }
    }

    fn lock(&self) -> MutexGuard<'_, State<F>> {
        // A panic while it was held left slots as they were: each is changed in one place.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A program that is loaded, shared with others of the same text and weights. `findings` are
    /// what is known to be wrong with it; then a failed compilation is not tried again.
    pub(crate) fn get(
        self: &Arc<Self>,
        descriptor: &Descriptor,
        source: &Source,
        findings: &dyn Fn() -> Vec<Diagnostic>,
    ) -> Result<Handle<F>, Error> {
        let mut state = self.lock();
        if let Some(&id) = state.by_text.get(&descriptor.text) {
            state.slots.get_mut(&id).expect("named by its text").users += 1;
            return Ok(Handle { programs: self.clone(), id });
        }
        let mut attempt = 0;
        let mut slot = loop {
            let error = match self.make(&mut state, descriptor, source) {
                Ok(slot) => break slot,
                Err(error) => error,
            };
            let refused =
                matches!(error.failure(), Some(Failure::Compilation | Failure::InvalidProgram));
            let found = if refused { findings() } else { Vec::new() };
            attempt += 1;
            let again = error.failure().is_some_and(Failure::is_transient)
                && found.is_empty()
                && attempt < self.options.retry.attempts;
            if !again {
                return Err(error.with_findings(found));
            }
            self.pause(&mut state, attempt);
        };
        state.clock += 1;
        let id = state.clock;
        slot.used = id;
        state.by_text.insert(descriptor.text.clone(), id);
        state.slots.insert(id, slot);
        Ok(Handle { programs: self.clone(), id })
    }

    /// Waits before the next attempt.
    fn pause(&self, state: &mut State<F>, attempt: usize) {
        state.counts.retries += 1;
        (self.options.wait)(self.options.retry.delay(attempt));
    }

    /// One attempt at a loaded program. Leaves nothing behind when it fails.
    fn make(
        &self,
        state: &mut State<F>,
        descriptor: &Descriptor,
        source: &Source,
    ) -> Result<Slot<F>, Error> {
        let what = "the program cannot be handed to the Neural Engine";
        let failed = |e| Error::of_call(ErrorKind::Compile, what, e);
        let model = self.framework.model(descriptor).map_err(failed)?;
        let identifier = self.framework.identifier(&model).map_err(failed)?;
        let parent = self.framework.temporary_directory();
        let directory = Directory::write(parent, &identifier, descriptor)?;
        let mut slot = Slot {
            model,
            text: descriptor.text.clone(),
            users: 1,
            loaded: false,
            used: 0,
            description: Description::default(),
            directory,
        };
        let made = match source {
            Source::Any => self.compile(state, &mut slot, false),
            Source::WithFiles => self.compile(state, &mut slot, true),
            Source::Donor(donor) => copy_compiled(donor, &slot.directory, descriptor)
                .and_then(|()| self.load(state, &mut slot)),
        };
        let described = made.and_then(|()| {
            let attributes = self.framework.attributes(&slot.model).map_err(|e| {
                Error::of_call(ErrorKind::Load, "the loaded program does not say what it is", e)
            })?;
            slot.description =
                attributes.as_ref().map_or_else(Description::default, Description::read);
            Ok(())
        });
        if let Err(error) = described {
            self.discard(state, slot);
            return Err(error);
        }
        Ok(slot)
    }

    /// Takes the compiled program from the system's cache, or has it compiled.
    fn compile(
        &self,
        state: &mut State<F>,
        slot: &mut Slot<F>,
        with_files: bool,
    ) -> Result<(), Error> {
        let what = "the Neural Engine's compiler refuses the program";
        let failed = |e| Error::of_call(ErrorKind::Compile, what, e);
        let usable = !with_files || has_compiled_files(slot.directory.path());
        if usable && self.framework.compiled_model_exists(&slot.model).map_err(failed)? {
            if self.load(state, slot).is_ok() {
                return Ok(());
            }
            // What is in the cache is of no use.
            self.framework.purge(&slot.model).map_err(failed)?;
        }
        let used = state.counts.compilations;
        if self.options.compile_budget.is_some_and(|most| used >= most) {
            return Err(Error::new(
                ErrorKind::CompileBudget,
                format!("this process has compiled {used} programs; about 119 is what the system allows one"),
            )
            .hint("start a new process, or keep weights as inputs, which never compiles again"));
        }
        state.counts.compilations += 1;
        self.framework.compile(&slot.model).map_err(failed)?;
        self.load(state, slot)
    }

    /// Loads a program. Others are unloaded for it while there is no room.
    fn load(&self, state: &mut State<F>, slot: &mut Slot<F>) -> Result<(), Error> {
        let loaded = |state: &State<F>| state.slots.values().filter(|s| s.loaded).count();
        while loaded(state) >= self.options.live_programs.max(1) {
            self.evict(state)?;
        }
        loop {
            match self.framework.load(&slot.model) {
                Ok(()) => {
                    slot.loaded = true;
                    return Ok(());
                }
                // The limit is not known for sure: it may be reached.
                Err(e) if e.failure().is_transient() && loaded(state) > 0 => self.evict(state)?,
                Err(e) => {
                    let what = "the compiled program cannot be loaded";
                    return Err(Error::of_call(ErrorKind::Load, what, e));
                }
            }
        }
    }

    /// Unloads the program that has not run for the longest time.
    fn evict(&self, state: &mut State<F>) -> Result<(), Error> {
        let oldest = state.slots.iter().filter(|(_, s)| s.loaded).min_by_key(|(_, s)| s.used);
        let Some(id) = oldest.map(|(&id, _)| id) else { return Ok(()) };
        let mut slot = state.slots.remove(&id).expect("just found");
        let unloaded = self.unload(state, &mut slot);
        state.slots.insert(id, slot);
        state.counts.evictions += 1;
        unloaded
            .map_err(|e| Error::of_call(ErrorKind::Load, "there is no room for another program", e))
    }

    fn unload(&self, state: &mut State<F>, slot: &mut Slot<F>) -> Result<(), CallError> {
        let mut attempt = 0;
        loop {
            let error = match self.framework.unload(&slot.model) {
                Ok(()) => {
                    slot.loaded = false;
                    return Ok(());
                }
                Err(error) => error,
            };
            attempt += 1;
            if attempt >= self.options.retry.attempts {
                return Err(error);
            }
            self.pause(state, attempt);
        }
    }

    fn discard(&self, state: &mut State<F>, mut slot: Slot<F>) {
        if slot.loaded {
            // Nobody is interested any more; releasing the object is all that is left.
            let _ = self.unload(state, &mut slot);
        }
    }

    /// Has a new surface made, again if need be.
    pub(crate) fn surface(&self, size_bytes: usize) -> Result<F::Surface, Error> {
        self.again(|| self.framework.surface(size_bytes)).map_err(|e| {
            let what = format!("no surface of {size_bytes} bytes");
            Error::of_call(ErrorKind::Surface, &what, e)
        })
    }

    /// A call that does not touch programs, made again while it fails for no lasting reason.
    pub(crate) fn again<T>(
        &self,
        mut call: impl FnMut() -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let mut attempt = 0;
        loop {
            let error = match call() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            attempt += 1;
            if !error.failure().is_transient() || attempt >= self.options.retry.attempts {
                return Err(error);
            }
            let mut state = self.lock();
            self.pause(&mut state, attempt);
        }
    }
}

fn has_compiled_files(directory: &Path) -> bool {
    COMPILED_FILES.iter().all(|name| directory.join(name).exists())
}

/// Puts a donor's compiled program beside the weights of another.
fn copy_compiled(
    donor: &Path,
    directory: &Directory,
    descriptor: &Descriptor,
) -> Result<(), Error> {
    let [network, weights] = COMPILED_FILES;
    let failed = |e: std::io::Error| {
        let message = format!("cannot take the compiled program from {}: {e}", donor.display());
        Error::new(ErrorKind::Directory, message)
    };
    fs::copy(donor.join(network), directory.path().join(network)).map_err(failed)?;
    let bytes = descriptor.weights.values().next().map_or(&[][..], |b| b);
    fs::write(directory.path().join(weights), bytes).map_err(failed)
}

impl<F: Framework> Handle<F> {
    /// What the compiled program says about its inputs and outputs.
    pub(crate) fn description(&self) -> Description {
        self.programs.lock().slots[&self.id].description.clone()
    }

    /// Where the compiled files are.
    pub(crate) fn directory(&self) -> PathBuf {
        self.programs.lock().slots[&self.id].directory.path().to_owned()
    }

    /// Runs once, after loading it if it was unloaded for others. A run that fails for no lasting
    /// reason is made again, from the second time on by a program that was loaded anew.
    pub(crate) fn evaluate(&self, request: &F::Request) -> Result<Evaluated, Error> {
        let programs = &*self.programs;
        let mut state = programs.lock();
        state.clock += 1;
        let now = state.clock;
        // Not in the table while it runs, so that it is not unloaded for itself.
        let mut slot = state.slots.remove(&self.id).expect("a handle keeps it");
        slot.used = now;
        let result = programs.run(&mut state, &mut slot, request);
        state.slots.insert(self.id, slot);
        result
    }
}

impl<F: Framework> Programs<F> {
    fn run(
        &self,
        state: &mut State<F>,
        slot: &mut Slot<F>,
        request: &F::Request,
    ) -> Result<Evaluated, Error> {
        let mut attempt = 0;
        loop {
            let loaded = if slot.loaded { Ok(()) } else { self.load(state, slot) };
            let error = match loaded {
                Ok(()) => match self.framework.evaluate(&slot.model, request) {
                    Ok(evaluated) => return Ok(evaluated),
                    Err(e) => Error::of_call(ErrorKind::Evaluate, "the run failed", e),
                },
                Err(error) => error,
            };
            attempt += 1;
            let transient = error.failure().is_some_and(Failure::is_transient);
            if !transient || attempt >= self.options.retry.attempts {
                return Err(error);
            }
            self.pause(state, attempt);
            if attempt > 1 && slot.loaded {
                self.unload(state, slot).map_err(|e| {
                    Error::of_call(ErrorKind::Evaluate, "the program cannot be loaded anew", e)
                })?;
            }
        }
    }
}

impl<F: Framework> Drop for Handle<F> {
    fn drop(&mut self) {
        let mut state = self.programs.lock();
        // It is gone only after a panic inside the framework.
        let Some(slot) = state.slots.get_mut(&self.id) else { return };
        slot.users -= 1;
        if slot.users > 0 {
            return;
        }
        if let Some(slot) = state.slots.remove(&self.id) {
            state.by_text.remove(&slot.text);
            self.programs.discard(&mut state, slot);
        }
    }
}

impl<F: Framework> std::fmt::Debug for Handle<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.id)
    }
}

/// The call that is missing where a framework cannot be opened.
impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let kind = if error.call == Call::Open { ErrorKind::Absent } else { ErrorKind::Evaluate };
        Self::of_call(kind, "the Neural Engine cannot be reached", error)
    }
}
