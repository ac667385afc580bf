//! A stand-in for the Neural Engine's framework, on any machine.
//!
//! It answers the calls of [`orion_ane::Framework`] as the framework is known to: it compiles
//! what lies in the model's directory, keeps weights in the compiled program and not in the
//! weight files, numbers inputs and outputs by name, and checks the size of memory. What sources
//! disagree on is a [`Behaviour`]. Runs are computed by [`crate::AneModel`]. Nothing here was
//! compared with a Neural Engine.

mod artifact;
mod behaviour;
mod ledger;
mod memory;

pub use behaviour::{Behaviour, CompiledFiles, Donor, Instances, OwnClients, Statistics};
pub use ledger::{Fault, Living};
pub use memory::StandInSurface;

use crate::AneModel;
use artifact::Artifact;
use ledger::{Kind, Ledger, Token};
use memory::{EngineMemory, gather, spread};
use orion_ane::{
    Attribute, Binding, Call, CallError, Descriptor, Evaluated, Framework, Hold, Host, WeightFile,
};
use orion_device::{Chip, Os, Route};
use orion_runtime::{Bindings, Device, Executable, PortKind, Surface};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The stand-in. Clones are the same one.
#[derive(Clone)]
pub struct StandIn {
    shared: Arc<Shared>,
}

struct Shared {
    chip: Chip,
    host: Host,
    directory: PathBuf,
    behaviour: Behaviour,
    ledger: Arc<Ledger>,
    /// Whether requests are measured that are made now.
    measures: AtomicBool,
    /// What the system's service has compiled, by identifier.
    cache: Mutex<HashMap<String, Artifact>>,
    /// What this process has had compiled, whether the service still has it or not.
    compiled: Mutex<HashSet<String>>,
}

/// A connection of the stand-in.
pub struct StandInClient {
    number: usize,
    _token: Token,
}

/// A model of the stand-in.
pub struct StandInModel {
    descriptor: Descriptor,
    identifier: String,
    loaded: Mutex<Option<Loaded>>,
    _token: Token,
}

/// A compiled program that is loaded.
struct Loaded {
    runnable: Runnable,
    /// The connection it was loaded through; 0 is the one that all models share.
    client: usize,
    _token: Token,
}

struct Runnable {
    program: Box<dyn Executable>,
    /// Positions in the signature, by the numbers of the inputs and of the outputs.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

/// A request of the stand-in.
pub struct StandInRequest {
    inputs: Vec<(usize, Arc<EngineMemory>)>,
    outputs: Vec<(usize, Arc<EngineMemory>)>,
    is_measured: bool,
    _token: Token,
}

impl StandIn {
    /// A stand-in for the framework on a chip, whose temporary directory is `directory`.
    pub fn new(chip: Chip, directory: &Path, behaviour: Behaviour) -> Self {
        let host = Host {
            description: format!(
                "stand-in for the framework of the {chip}'s Neural Engine; no hardware"
            ),
            chip: Some(chip),
            os: Some(Os::V26),
            facts: vec![("hardware".to_owned(), "none".to_owned())],
        };
        let shared = Shared {
            chip,
            host,
            directory: directory.to_owned(),
            behaviour,
            ledger: Arc::default(),
            measures: AtomicBool::new(false),
            cache: Mutex::default(),
            compiled: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The objects that exist.
    pub fn living(&self) -> Living {
        self.shared.ledger.living()
    }

    /// The calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.ledger.calls()
    }

    /// Has a call fail, counted from 0 over all calls.
    pub fn fail_at(&self, number: usize, fault: Fault) {
        self.shared.ledger.fail_at(number, fault);
    }

    /// Closes a connection for good, by its number: 0 is the one that all models share, the others
    /// count from 1 as they were opened.
    pub fn close(&self, client: usize) {
        self.shared.ledger.close(client);
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, HashMap<String, Artifact>> {
        self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compiled(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.shared.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is loaded of compiled files that the service knows nothing of.
    fn of_files(&self, files: Artifact) -> Result<Artifact, String> {
        let behaviour = &self.shared.behaviour;
        if !files.is_whole() {
            let donor = self.cache().values().find(|a| a.donor() == files.donor()).cloned();
            return behaviour.donor.loaded(files, donor);
        }
        let is_own = self.compiled().contains(files.donor());
        match behaviour.compiled_files {
            CompiledFiles::Loaded => Ok(files),
            CompiledFiles::OwnOnly | CompiledFiles::Mistaken if is_own => Ok(files),
            CompiledFiles::OwnOnly => Err("it was compiled by another process".to_owned()),
            CompiledFiles::Refused => Err("it is not in the cache".to_owned()),
            CompiledFiles::Mistaken => files.without_weights(),
        }
    }

    fn model_directory(&self, model: &StandInModel) -> PathBuf {
        self.shared.directory.join(&model.identifier)
    }

    /// A compiled program as something that runs.
    fn runnable(&self, artifact: &Artifact) -> Result<Runnable, String> {
        let bundle = artifact.bundle()?;
        let device = AneModel::new(self.shared.chip, Route::Direct).with_dense_surfaces();
        let program =
            device.compile(&bundle.program, &bundle.weights).map_err(|e| e.to_string())?;
        let ports = &program.signature().ports;
        let [inputs, outputs] = [true, false].map(|input| -> Vec<usize> {
            let positions = 0..ports.len();
            let mut side: Vec<usize> =
                positions.filter(|&p| (ports[p].kind == PortKind::Input) == input).collect();
            if self.shared.behaviour.sorts_symbols {
                side.sort_by_key(|&p| &ports[p].name);
            }
            side
        });
        Ok(Runnable { program, inputs, outputs })
    }
}

impl Framework for StandIn {
    type Client = StandInClient;
    type Model = StandInModel;
    type Surface = StandInSurface;
    type Request = StandInRequest;

    fn host(&self) -> &Host {
        &self.shared.host
    }

    fn temporary_directory(&self) -> &Path {
        &self.shared.directory
    }

    fn client(&self) -> Result<StandInClient, CallError> {
        self.shared.ledger.call(Call::Client)?;
        if self.shared.behaviour.own_clients == OwnClients::Missing {
            return Err(CallError::new(Call::Client, "there is no client"));
        }
        let number = self.shared.ledger.next_client();
        Ok(StandInClient { number, _token: self.shared.ledger.token(Kind::Client) })
    }

    fn measure(&self, wanted: bool) -> bool {
        self.shared.measures.store(wanted, Ordering::Relaxed);
        self.shared.behaviour.statistics != Statistics::Missing
    }

    fn model(&self, descriptor: &Descriptor) -> Result<StandInModel, CallError> {
        self.shared.ledger.call(Call::Model)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(descriptor.text.as_bytes());
        for (name, bytes) in &descriptor.weights {
            hasher.write(name.as_bytes());
            if !self.shared.behaviour.identifier_ignores_weights {
                hasher.write(bytes);
            }
        }
        Ok(StandInModel {
            descriptor: descriptor.clone(),
            identifier: format!("{:016X}", hasher.finish()),
            loaded: Mutex::default(),
            _token: self.shared.ledger.token(Kind::Model),
        })
    }

    fn identifier(&self, model: &StandInModel) -> Result<String, CallError> {
        self.shared.ledger.call(Call::Identifier)?;
        Ok(model.identifier.clone())
    }

    fn compiled_model_exists(&self, model: &StandInModel) -> Result<bool, CallError> {
        self.shared.ledger.call(Call::CompiledModelExists)?;
        Ok(self.cache().contains_key(&model.identifier))
    }

    fn compile(&self, model: &StandInModel) -> Result<(), CallError> {
        self.shared.ledger.call(Call::Compile)?;
        self.shared.ledger.reach(Call::Compile, 0)?;
        let refuse = |reason: &str, detail: &str| {
            let text = format!("_ANECompiler : ANECCompile() FAILED err=({reason}) {detail}");
            Err(CallError::new(Call::Compile, text))
        };
        let most = self.shared.behaviour.compilations;
        if most.is_some_and(|most| self.shared.ledger.count(Call::Compile) > most) {
            return refuse("CompilationFailure", "");
        }
        let directory = self.model_directory(model);
        let artifact = match Artifact::compile(&directory, &model.descriptor) {
            Ok(artifact) => artifact,
            Err(message) => return refuse("InvalidMILProgram", &message),
        };
        if let Err(message) = self.runnable(&artifact) {
            return refuse("InvalidMILProgram", &message);
        }
        if let Err(e) = artifact.write(&directory) {
            return refuse("CompilationFailure", &e.to_string());
        }
        self.compiled().insert(artifact.donor().to_owned());
        self.cache().insert(model.identifier.clone(), artifact);
        Ok(())
    }

    fn load(&self, model: &StandInModel, client: Option<&StandInClient>) -> Result<(), CallError> {
        self.shared.ledger.call(Call::Load)?;
        let number = client.map_or(0, |c| c.number);
        self.shared.ledger.reach(Call::Load, number)?;
        let refuse = |message: String| {
            let text = format!("programLoadError: {message}");
            CallError { call: Call::Load, code: Some(5), text }
        };
        let mut loaded = model.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.as_ref().is_some_and(|l| l.client == number) {
            return Ok(());
        }
        let behaviour = &self.shared.behaviour;
        if client.is_some() && behaviour.own_clients == OwnClients::Refused {
            return Err(refuse("Entitlement com.apple.ane.iokit-user-access".to_owned()));
        }
        if self.living().loaded >= behaviour.loaded_programs
            || self.shared.ledger.loaded_through(number) >= behaviour.loaded_per_client
        {
            return Err(refuse("no room".to_owned()));
        }
        let directory = self.model_directory(model);
        let cached = self.cache().get(&model.identifier).cloned();
        let artifact = match (Artifact::read(&directory), cached) {
            // The compiled program counts, not the weight files beside it.
            (Ok(artifact), Some(_)) => artifact,
            (Err(_), Some(cached)) => cached,
            (Ok(files), None) => self.of_files(files).map_err(refuse)?,
            (Err(message), None) => return Err(refuse(message)),
        };
        let artifact = if self.shared.behaviour.rereads_weight_files {
            artifact.with_weights_of(&directory).map_err(refuse)?
        } else {
            artifact
        };
        let runnable = self.runnable(&artifact).map_err(refuse)?;
        let token = self.shared.ledger.token(Kind::Loaded(number));
        *loaded = Some(Loaded { runnable, client: number, _token: token });
        Ok(())
    }

    fn load_instance(
        &self,
        model: &StandInModel,
        base: &StandInModel,
        weights: &WeightFile<'_>,
    ) -> Result<(), CallError> {
        self.shared.ledger.call(Call::LoadInstance)?;
        let refuse = |text: String| CallError::new(Call::LoadInstance, text);
        let of_base = base.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let client = of_base.as_ref().map_or(0, |loaded| loaded.client);
        if client == 0 {
            return Err(refuse("the program has no connection of its own".to_owned()));
        }
        self.shared.ledger.reach(Call::LoadInstance, client)?;
        let compiled = self.cache().get(&base.identifier).cloned();
        let compiled = compiled.ok_or_else(|| refuse("the base model is not known".to_owned()))?;
        let artifact = self.shared.behaviour.instances.loaded(compiled, weights)?;
        let runnable = self.runnable(&artifact).map_err(refuse)?;
        let token = self.shared.ledger.token(Kind::Loaded(client));
        let mut loaded = model.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        *loaded = Some(Loaded { runnable, client, _token: token });
        Ok(())
    }

    fn unload(&self, model: &StandInModel) -> Result<(), CallError> {
        self.shared.ledger.call(Call::Unload)?;
        let loaded = model.loaded.lock().unwrap_or_else(PoisonError::into_inner).take();
        let number = loaded.map_or(0, |l| l.client);
        // A program does not outlive its connection.
        self.shared.ledger.reach(Call::Unload, number)?;
        if self.shared.behaviour.unloading_removes_files && number == 0 {
            // As with the framework, it is no error when there is none.
            let _ = std::fs::remove_dir_all(self.model_directory(model));
        }
        Ok(())
    }

    fn purge(&self, model: &StandInModel) -> Result<(), CallError> {
        self.shared.ledger.call(Call::Purge)?;
        self.cache().remove(&model.identifier);
        Ok(())
    }

    fn attributes(&self, model: &StandInModel) -> Result<Option<Attribute>, CallError> {
        self.shared.ledger.call(Call::Attributes)?;
        let loaded = model.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(loaded) = loaded.as_ref().filter(|_| self.shared.behaviour.describes) else {
            return Ok(None);
        };
        Ok(Some(self.describe(&loaded.runnable)))
    }

    fn surface(&self, size_bytes: usize) -> Result<StandInSurface, CallError> {
        self.shared.ledger.call(Call::Surface)?;
        Ok(StandInSurface::new(size_bytes, &self.shared.ledger))
    }

    fn read<'a>(&self, surface: &'a StandInSurface) -> Result<&'a [u8], CallError> {
        surface.read()
    }

    fn write<'a>(&self, surface: &'a mut StandInSurface) -> Result<&'a mut [u8], CallError> {
        surface.write()
    }

    fn finish_writing(&self, surface: &StandInSurface) -> Result<(), CallError> {
        surface.finish_writing()
    }

    fn release(&self, surface: &mut StandInSurface) -> Result<(), CallError> {
        surface.release()
    }

    fn request(
        &self,
        inputs: &[Binding<'_, StandInSurface>],
        outputs: &[Binding<'_, StandInSurface>],
        // C45: it does not reach constants.
        _: Option<&StandInSurface>,
    ) -> Result<StandInRequest, CallError> {
        self.shared.ledger.call(Call::Request)?;
        let keep = |bindings: &[Binding<'_, StandInSurface>]| {
            bindings.iter().map(|b| (b.index, b.surface.shared().clone())).collect()
        };
        let token = self.shared.ledger.token(Kind::Request);
        Ok(StandInRequest {
            inputs: keep(inputs),
            outputs: keep(outputs),
            is_measured: self.shared.measures.load(Ordering::Relaxed),
            _token: token,
        })
    }

    fn evaluate(
        &self,
        model: &StandInModel,
        request: &StandInRequest,
    ) -> Result<Evaluated, CallError> {
        self.shared.ledger.call(Call::Evaluate)?;
        let mut loaded = model.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(loaded) = loaded.as_mut() else {
            return Err(CallError::new(Call::Evaluate, "programInferenceProgramNotFound"));
        };
        self.shared.ledger.reach(Call::Evaluate, loaded.client)?;
        if loaded.client > 0 && self.shared.behaviour.own_clients == OwnClients::Silent {
            return Ok(Evaluated::default());
        }
        let statistics = self.shared.behaviour.statistics;
        if request.is_measured && statistics == Statistics::Fail {
            return Err(CallError::new(
                Call::Evaluate,
                "the request has no surface for statistics",
            ));
        }
        let start = Instant::now();
        self.run(&mut loaded.runnable, request)?;
        let times = request.is_measured && statistics == Statistics::Times;
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(Evaluated { hardware_ns: times.then_some(nanoseconds) })
    }
}

impl StandIn {
    /// Runs once. Memory of other sizes than the program's gives status 0x1d, numbers that it does
    /// not have 0x2.
    fn run(&self, loaded: &mut Runnable, request: &StandInRequest) -> Result<(), CallError> {
        let status = |status: u32, why: String| CallError {
            call: Call::Evaluate,
            code: Some(i64::from(status)),
            text: format!(
                "ANEProgramProcessRequestDirect() Failed with status={status:#x} : {why}"
            ),
        };
        let signature = loaded.program.signature().clone();
        let mut surfaces: Vec<Surface> =
            signature.ports.iter().map(|p| Surface::zeros(p.layout.clone())).collect();
        let sides = [(&request.inputs, &loaded.inputs), (&request.outputs, &loaded.outputs)];
        let mut at_work = Vec::new();
        for (side, (bound, numbered)) in sides.into_iter().enumerate() {
            if bound.len() != numbered.len() {
                return Err(status(0x1d, format!("{} surfaces", bound.len())));
            }
            for (index, surface) in bound {
                if surface.held() == Hold::Read && !self.shared.behaviour.reads_locked_memory {
                    return Err(status(0x3, "the surface is locked".to_owned()));
                }
                at_work.push(surface.engine_turn(side == 1)?);
                let Some(&position) = numbered.get(*index) else {
                    return Err(status(0x2, format!("number {index}")));
                };
                let layout = &signature.ports[position].layout;
                let (actual, wanted) = (
                    surface.bytes().len(),
                    memory::size_bytes(layout, self.shared.behaviour.packs_rows),
                );
                if actual != wanted {
                    return Err(status(0x1d, format!("{actual} bytes, expected {wanted}")));
                }
                if side == 0 {
                    let dense = &mut surfaces[position];
                    gather(&surface.bytes(), self.shared.behaviour.packs_rows, dense);
                }
            }
        }
        let mut bindings = Bindings::new();
        for (port, surface) in signature.ports.iter().zip(&mut surfaces) {
            match port.kind {
                PortKind::Input => bindings.input(&port.name, surface),
                _ => bindings.output(&port.name, surface),
            };
        }
        loaded.program.run(&mut bindings).map_err(|e| status(0x3, e.to_string()))?;
        for (index, memory) in &request.outputs {
            let surface = &surfaces[loaded.outputs[*index]];
            spread(surface, self.shared.behaviour.packs_rows, &mut memory.bytes());
        }
        Ok(())
    }

    /// The dictionary that describes a loaded program.
    fn describe(&self, loaded: &Runnable) -> Attribute {
        let ports = &loaded.program.signature().ports;
        let names = |side: &[usize], suffix: &str| {
            let name = |&p: &usize| Attribute::Text(format!("{}{suffix}", ports[p].name));
            Attribute::List(side.iter().map(name).collect())
        };
        let numbers =
            |side: &[usize]| Attribute::List((0..side.len()).map(Attribute::from).collect());
        let live = |side: &[usize]| {
            let entry =
                |&p: &usize| memory::describe(&ports[p].layout, self.shared.behaviour.packs_rows);
            Attribute::List(side.iter().map(entry).collect())
        };
        let (inputs, outputs) = (&loaded.inputs, &loaded.outputs);
        let procedure = Attribute::from([
            ("ANEFModelInputSymbolIndexArray", numbers(inputs)),
            ("ANEFModelOutputSymbolIndexArray", numbers(outputs)),
            ("ANEFModelProcedureID", 0.into()),
        ]);
        let description = Attribute::from([
            ("ANEFModelProcedures", Attribute::List(vec![procedure])),
            ("kANEFModelInputSymbolsArrayKey", names(inputs, "")),
            ("kANEFModelOutputSymbolsArrayKey", names(outputs, "@output")),
            ("kANEFModelProcedureNameToIDMapKey", Attribute::from([("main", 0.into())])),
        ]);
        let status =
            Attribute::from([("LiveInputList", live(inputs)), ("LiveOutputList", live(outputs))]);
        Attribute::from([
            ("ANEFModelDescription", description),
            ("NetworkStatusList", Attribute::List(vec![status])),
        ])
    }
}
