//! The programs of a process: which exist, which are loaded, what is tried again.

use crate::cache::Cache;
use crate::clients::Clients;
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

pub(crate) struct State<F: Framework> {
    pub(crate) slots: HashMap<u64, Slot<F>>,
    pub(crate) clients: Clients<F::Client>,
    /// Compiled programs on disk, when that is known to work.
    cache: Option<Arc<Cache>>,
    /// Why the last program from there was not loaded.
    refusal: String,
    /// Programs by what they were made of.
    by_text: HashMap<String, u64>,
    /// Counts programs and runs.
    clock: u64,
    pub(crate) counts: Counts,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls of the compiler.
    pub compilations: usize,
    /// Programs loaded now.
    pub loaded: usize,
    /// Connections to the system's service now, with the one that all programs share.
    pub clients: usize,
    /// Programs that exist now, loaded or not.
    pub programs: usize,
    /// Programs unloaded to make room for others.
    pub evictions: usize,
    /// Calls that were made again after they had failed.
    pub retries: usize,
    /// Programs that were kept on disk by this or another process, and loaded without the
    /// compiler.
    pub kept_loaded: usize,
    /// The same that the system refused to load, and that were compiled again.
    pub kept_refused: usize,
}

pub(crate) struct Slot<F: Framework> {
    pub(crate) model: F::Model,
    text: String,
    users: usize,
    /// The connection that it is loaded through, if it is.
    pub(crate) client: Option<usize>,
    /// When it ran last.
    pub(crate) used: u64,
    description: Description,
    /// Held until the model is gone.
    pub(crate) directory: Directory,
}

/// A user of a program, which goes with its last one.
pub(crate) struct Handle<F: Framework> {
    programs: Arc<Programs<F>>,
    id: u64,
}

/// Where a compiled program comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// What the system has compiled, what was kept on disk, or the compiler.
    Any,
    /// The same without what was kept: for weights that are replaced often.
    System,
    /// The compiler, which leaves the compiled files for [`Source::Donor`]. What the system has in
    /// its cache does not bring them.
    WithFiles,
    /// The compiled files of another program of the same text, with the weight file in the place
    /// of its compiled weights.
    Donor(PathBuf),
}

impl<F: Framework> Programs<F> {
    pub(crate) fn new(framework: F, options: Options) -> Arc<Self> {
        let state = State {
            slots: HashMap::new(),
            clients: Clients::new(),
            cache: None,
            refusal: String::new(),
            by_text: HashMap::new(),
            clock: 0,
            counts: Counts::default(),
        };
        Arc::new(Self { framework, options, state: Mutex::new(state) })
    }

    /// What happened so far.
    pub(crate) fn counts(&self) -> Counts {
        let state = self.lock();
        let (loaded, clients) = (state.clients.loaded(), state.clients.len());
        Counts { loaded, clients, programs: state.slots.len(), ..state.counts }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<F>> {
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
    pub(crate) fn pause(&self, state: &mut State<F>, attempt: usize) {
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
        let mut slot = self.slot(descriptor)?;
        let made = match source {
            Source::Any | Source::System | Source::WithFiles => {
                self.compile(state, &mut slot, descriptor, source)
            }
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

    /// A model in its directory, with nothing compiled.
    pub(crate) fn slot(&self, descriptor: &Descriptor) -> Result<Slot<F>, Error> {
        let what = "the program cannot be handed to the Neural Engine";
        let failed = |e| Error::of_call(ErrorKind::Compile, what, e);
        let model = self.framework.model(descriptor).map_err(failed)?;
        let identifier = self.framework.identifier(&model).map_err(failed)?;
        let parent = self.framework.temporary_directory();
        let directory = Directory::write(parent, &identifier, descriptor, self.options.on_waiting)?;
        Ok(Slot {
            model,
            text: descriptor.text.clone(),
            users: 1,
            client: None,
            used: 0,
            description: Description::default(),
            directory,
        })
    }

    /// Takes the compiled program from where it is, or has it compiled.
    fn compile(
        &self,
        state: &mut State<F>,
        slot: &mut Slot<F>,
        descriptor: &Descriptor,
        source: &Source,
    ) -> Result<(), Error> {
        let what = "what the system has compiled cannot be used";
        let failed = |e| Error::of_call(ErrorKind::Compile, what, e);
        if !matches!(source, Source::WithFiles)
            && self.framework.compiled_model_exists(&slot.model).map_err(failed)?
        {
            if self.load(state, slot).is_ok() {
                return Ok(());
            }
            // What is in the cache is of no use.
            self.framework.purge(&slot.model).map_err(failed)?;
        }
        let cache = state.cache.clone().filter(|_| matches!(source, Source::Any));
        if let Some(cache) = &cache
            && self.load_kept(state, slot, descriptor, cache)
        {
            return Ok(());
        }
        self.have_compiled(state, slot)?;
        self.load(state, slot)?;
        if let Some(cache) = &cache {
            cache.keep(descriptor, slot.directory.own());
        }
        Ok(())
    }

    /// Loads what was kept on disk. Says whether there is any that loads; what does not is removed.
    fn load_kept(
        &self,
        state: &mut State<F>,
        slot: &mut Slot<F>,
        descriptor: &Descriptor,
        cache: &Cache,
    ) -> bool {
        if !cache.take(descriptor, |name, bytes| slot.directory.put(name, bytes)) {
            return false;
        }
        let loaded = self.load(state, slot).or_else(|error| {
            if !error.failure().is_some_and(Failure::is_transient) {
                return Err(error);
            }
            self.pause(state, 1);
            self.load(state, slot)
        });
        match loaded {
            Ok(()) => state.counts.kept_loaded += 1,
            Err(error) => {
                state.counts.kept_refused += 1;
                state.refusal = error.to_string();
                cache.remove(descriptor);
                COMPILED_FILES.iter().for_each(|name| slot.directory.remove(name));
            }
        }
        slot.client.is_some()
    }

    /// Why the system did not load the last program that was kept on disk.
    pub(crate) fn refusal(&self) -> String {
        self.lock().refusal.clone()
    }

    /// Where compiled programs are kept from now on.
    pub(crate) fn use_cache(&self, cache: Option<Arc<Cache>>) {
        self.lock().cache = cache;
    }

    /// Removes what the system has compiled of a program.
    pub(crate) fn purge(&self, descriptor: &Descriptor) -> Result<(), Error> {
        let mut state = self.lock();
        self.retried(&mut state, |_| {
            let slot = self.slot(descriptor)?;
            let what = "what the system has compiled cannot be removed";
            let purged = self.framework.purge(&slot.model);
            purged.map_err(|e| Error::of_call(ErrorKind::Compile, what, e))
        })
    }

    /// Calls the compiler, if the process may.
    pub(crate) fn have_compiled(&self, state: &mut State<F>, slot: &Slot<F>) -> Result<(), Error> {
        let used = state.counts.compilations;
        if self.options.compile_budget.is_some_and(|most| used >= most) {
            return Err(Error::new(
                ErrorKind::CompileBudget,
                format!("this process has compiled {used} programs; about 119 is what the system allows one"),
            )
            .hint("start a new process, or keep weights as inputs, which never compiles again"));
        }
        state.counts.compilations += 1;
        let what = "the Neural Engine's compiler refuses the program";
        let turn = slot.directory.turn()?;
        let compiled = self.framework.compile(&slot.model);
        compiled.map_err(|e| Error::of_call(ErrorKind::Compile, what, e))?;
        slot.directory.take(&turn)
    }

    /// Has a new surface made, again if need be.
    pub(crate) fn surface(&self, size_bytes: usize) -> Result<F::Surface, Error> {
        self.again(|| self.framework.surface(size_bytes)).map_err(|e| {
            let what = format!("no surface of {size_bytes} bytes");
            Error::of_call(ErrorKind::Surface, &what, e)
        })
    }

    /// Something made again while it fails for no lasting reason.
    pub(crate) fn retried<T>(
        &self,
        state: &mut State<F>,
        mut attempt: impl FnMut(&mut State<F>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut attempts = 0;
        loop {
            let error = match attempt(state) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            attempts += 1;
            let transient = error.failure().is_some_and(Failure::is_transient);
            if !transient || attempts >= self.options.retry.attempts {
                return Err(error);
            }
            self.pause(state, attempts);
        }
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
    let compiled = fs::read(donor.join(network)).map_err(failed)?;
    directory.put(network, &compiled).map_err(failed)?;
    let bytes = descriptor.weights.values().next().map_or(&[][..], |b| b);
    directory.put(weights, bytes).map_err(failed)
}

impl<F: Framework> Handle<F> {
    /// What the compiled program says about its inputs and outputs.
    pub(crate) fn description(&self) -> Description {
        self.programs.lock().slots[&self.id].description.clone()
    }

    /// Where the compiled files are, whether the program is loaded or not.
    pub(crate) fn directory(&self) -> PathBuf {
        self.programs.lock().slots[&self.id].directory.own().to_owned()
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
            let loaded = match slot.client {
                Some(_) => Ok(()),
                None => self.load(state, slot),
            };
            let error = match loaded {
                Ok(()) => match self.framework.evaluate(&slot.model, request) {
                    Ok(evaluated) => return Ok(evaluated),
                    Err(e) => Error::of_call(ErrorKind::Evaluate, "the run failed", e),
                },
                Err(error) => error,
            };
            attempt += 1;
            let transient = error.failure().is_some_and(Failure::is_transient);
            // What is loaded through a closed connection is loaded anew through another.
            let closed = error.failure() == Some(Failure::Disconnected) && slot.client.is_some();
            if !(transient || closed) || attempt >= self.options.retry.attempts {
                return Err(error);
            }
            self.pause(state, attempt);
            if let (true, Some(client)) = (closed, slot.client) {
                state.clients.close(client);
            }
            if (closed || attempt > 1) && slot.client.is_some() {
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
