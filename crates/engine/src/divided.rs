//! Inference on two devices: which programs are cut, and how.

use crate::layers::{Accelerator, LargeActivation, LayerSchedule};
use crate::programs::optimized;
use orion_compile::partition::{
    Columns, Partition, PartitionOptions, Unit, WeightForm, attention, partition,
};
use orion_mil::{Data, Function, Program, Type, Weights};
use orion_models::{LoadedModel, Network, StepShape, WeightIndex, WeightStorage};
use orion_runtime::{
    Bindings, Device, Error, ErrorKind, Executable, NumericEvents, RunFigures, Signature,
};
use orion_tensor::{DType, Tensor, f16};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many tokens of a prompt an accelerator takes at once, and how many columns its programs
/// have. Few, because each is compiled; rows of 32 numbers in fp16 are the shortest that the
/// Neural Engine does not pad.
pub const ACCELERATED_SIZES: [usize; 2] = [32, 256];

/// The shortest key/value cache beside an accelerator, whose programs are for one length.
pub(crate) const SHORTEST_ACCELERATED_CONTEXT: usize = 512;

/// What an accelerator does for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// It reads prompts: all blocks as a whole. The other device looks up tokens, writes caches,
    /// computes logits, and does everything when tokens come one at a time.
    Prefill,
    /// It computes what has weights in blocks, norms, projections and MLPs, of prompts and of
    /// single tokens. The other device does attention with positions and caches, and what is
    /// outside of blocks.
    Attention,
}

impl Split {
    /// The word it is chosen by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Attention => "attention",
        }
    }
}

/// The devices that run a model: one for everything, or one beside which an accelerator computes
/// what a [`Split`] says.
#[derive(Clone)]
pub struct ModelDevices {
    /// Runs what the accelerator does not.
    pub device: Arc<dyn Device>,
    /// What computes blocks.
    pub accelerator: Option<(Accelerator, Split)>,
}

impl From<Arc<dyn Device>> for ModelDevices {
    fn from(device: Arc<dyn Device>) -> Self {
        Self { device, accelerator: None }
    }
}

impl From<&Arc<dyn Device>> for ModelDevices {
    fn from(device: &Arc<dyn Device>) -> Self {
        device.clone().into()
    }
}

impl From<&ModelDevices> for ModelDevices {
    fn from(devices: &ModelDevices) -> Self {
        devices.clone()
    }
}

impl ModelDevices {
    /// Two devices.
    pub fn pair(accelerator: Accelerator, device: Arc<dyn Device>, split: Split) -> Self {
        let accelerator = Accelerator { weights: WeightForm::AsGiven, ..accelerator };
        Self { device, accelerator: Some((accelerator, split)) }
    }

    /// The devices, what runs blocks first.
    pub fn each(&self) -> impl Iterator<Item = &dyn Device> {
        let accelerator = self.accelerator.iter().map(|(accelerator, _)| &*accelerator.device);
        accelerator.chain([&*self.device])
    }

    /// Whether blocks are cut at attention, so that what is not of each token alone, such as the
    /// adapters of several sequences, cannot go to the accelerator.
    pub fn is_split_at_attention(&self) -> bool {
        matches!(self.accelerator, Some((_, Split::Attention)))
    }

    /// The name that they are chosen by, such as `ane+cpu`.
    pub fn name(&self) -> String {
        match &self.accelerator {
            Some((accelerator, _)) => {
                format!("{}+{}", accelerator.device.name(), self.device.name())
            }
            None => self.device.name().to_owned(),
        }
    }
}

/// Cuts programs of one model, and keeps what is compiled of them.
pub(crate) struct Divider {
    network: Network,
    index: WeightIndex,
    accelerator: Accelerator,
    split: Split,
    host: Arc<dyn Device>,
    shared: SharedPrograms,
    divided: HashMap<String, LayerSchedule>,
}

/// What of a step is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// [`Network::chunk`], which reads so many columns of the caches.
    Chunk { past: usize },
    /// [`Network::step`].
    Step,
}

impl Divider {
    pub(crate) fn new(
        model: &LoadedModel,
        positions: usize,
        devices: &ModelDevices,
    ) -> Option<Self> {
        let (accelerator, split) = devices.accelerator.clone()?;
        let blocks = match accelerator.numbers {
            DType::F16 => WeightStorage::Float(DType::F16),
            _ => model.storage,
        };
        let index = model.index_with(positions, blocks);
        let shared = SharedPrograms::new(&accelerator, index.weights());
        Some(Self {
            network: model.network.clone(),
            index,
            accelerator,
            split,
            host: devices.device.clone(),
            shared,
            divided: HashMap::new(),
        })
    }

    /// The constants of programs that are cut.
    pub(crate) fn index(&self) -> &WeightIndex {
        &self.index
    }

    /// How many programs of the accelerator are compiled.
    pub(crate) fn compiled_programs(&self) -> usize {
        self.shared.lock().programs.len()
    }

    /// Whether and how a step is cut for the accelerator, of sequences at this position.
    pub(crate) fn cut(&self, shape: StepShape, position: usize) -> Option<Cut> {
        match self.split {
            Split::Attention => Some(Cut::Step),
            Split::Prefill if shape.sequences == 1 && ACCELERATED_SIZES.contains(&shape.tokens) => {
                let past = if position == 0 { 0 } else { shape.context - shape.tokens };
                Some(Cut::Chunk { past })
            }
            Split::Prefill => None,
        }
    }

    /// The step that was cut in this way, by a key that tells it from others.
    ///
    /// # Errors
    /// When it cannot be cut, or the accelerator refuses its parts.
    pub(crate) fn step(
        &mut self,
        key: &str,
        index: &WeightIndex,
        shape: StepShape,
        cut: Cut,
    ) -> Result<&mut dyn Executable, Error> {
        if !self.divided.contains_key(key) {
            let program = match cut {
                Cut::Chunk { past } => self.network.chunk(index, shape, past),
                Cut::Step => self.network.step(index, shape),
            };
            let given = shape.sequences * shape.tokens;
            let divided = self.divide(&program, Some(given))?;
            self.divided.insert(key.to_owned(), divided);
        }
        Ok(self.divided.get_mut(key).expect("just inserted"))
    }

    /// Where the last run of the step with that key, if it was cut, first made what is no number:
    /// see [`LayerSchedule::first_not_finite`].
    pub(crate) fn first_not_finite(&self, key: &str) -> Option<String> {
        self.divided.get(key)?.first_not_finite()
    }

    /// [`LayerSchedule::large_activation`] of the same.
    pub(crate) fn large_activation(&self, key: &str) -> Option<LargeActivation> {
        self.divided.get(key)?.large_activation()
    }

    /// Cuts a program of the network, whose columns are so many where the accelerator may have
    /// more.
    ///
    /// # Errors
    /// As [`Divider::step`].
    pub(crate) fn divide(
        &self,
        source: &Program,
        columns: Option<usize>,
    ) -> Result<LayerSchedule, Error> {
        let program = optimized(source);
        let function = &program.functions[0];
        let parameters = self.parameters(function);
        let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
        let count = self.network.layer_count();
        let layers: Vec<String> = (0..count).map(|layer| format!("layer{layer}")).collect();
        let failed = |message: String| {
            let name = format!("{}+{}", self.accelerator.device.name(), self.host.name());
            Error::new(ErrorKind::Unsupported, &name, message)
        };
        let mut host_s = (self.accelerator.refused)(&program, self.index.weights());
        if self.split == Split::Attention {
            let found = attention(function, &layers, &parameters, "tokens");
            host_s.extend(found.map_err(|e| failed(e.to_string()))?);
        }
        let columns = columns.filter(|_| self.split == Split::Attention).map(|given| Columns {
            given,
            at_accelerator: ACCELERATED_SIZES
                .into_iter()
                .find(|&size| size >= given)
                .unwrap_or_else(|| given.next_multiple_of(ACCELERATED_SIZES[0])),
        });
        let mut together = count;
        loop {
            let options = PartitionOptions {
                layers: &layers,
                together,
                columns,
                parameters: &parameters,
                numbers: self.accelerator.numbers,
                weights: WeightForm::AsGiven,
                tables: WeightForm::Inputs,
                on_host: &|function, operation| {
                    let mut outputs = operation.outputs.iter();
                    outputs.any(|&v| host_s.contains(function.value_name(v)))
                },
            };
            let parts = partition(function, &options)
                .map_err(|e| failed(format!("the model cannot be divided: {e}")))?;
            let refused = self.refused(&parts);
            if refused.is_empty() {
                let (weights, host) = (self.index.weights(), self.host.clone());
                let (accelerator, shared) = (self.accelerator.clone(), Some(self.shared.clone()));
                return LayerSchedule::of(&program, parts, weights, accelerator, host, shared);
            }
            if together == 1 {
                let names = Vec::from_iter(refused).join(", ");
                return Err(failed(format!("the accelerator does not take {names} of one block")));
            }
            // Programs may be too long or have too many weights, but not those of one block.
            together = together.div_ceil(2);
        }
    }

    /// What the accelerator refuses of its parts.
    fn refused(&self, parts: &Partition) -> BTreeSet<String> {
        let programs = parts.programs_of(Unit::Accelerator).into_iter();
        programs.flat_map(|p| (self.accelerator.refused)(p, &self.shared.weights(p))).collect()
    }

    /// Inputs that are the same in every step: the matrices of adapters and their factors.
    fn parameters(&self, function: &Function) -> Vec<String> {
        let names = function.params.iter().map(|p| function.value_name(p.value));
        let replaced: BTreeSet<&str> = function.in_place().into_values().collect();
        let changing = ["tokens", "position", "last", "targets"];
        let same = names.filter(|name| !changing.contains(name) && !replaced.contains(name));
        same.map(str::to_owned).collect()
    }
}

/// Programs of an accelerator that are compiled once, however many schedules they are part of.
#[derive(Clone)]
pub(crate) struct SharedPrograms(Arc<Mutex<Compiled>>);

struct Compiled {
    device: Arc<dyn Device>,
    /// The weights, in fp16 where a program says so.
    weights: Weights,
    programs: Vec<(Program, SharedExecutable)>,
}

impl SharedPrograms {
    fn new(accelerator: &Accelerator, weights: &Weights) -> Self {
        let (device, weights) = (accelerator.device.clone(), weights.clone());
        Self(Arc::new(Mutex::new(Compiled { device, weights, programs: Vec::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Compiled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The executable of a program.
    ///
    /// # Errors
    /// When the device refuses it.
    pub(crate) fn get(&self, program: &Program) -> Result<impl Executable + use<>, Error> {
        let weights = self.weights(program);
        let mut compiled = self.lock();
        if let Some((_, known)) = compiled.programs.iter().find(|(p, _)| p == program) {
            return Ok(known.clone());
        }
        let executable = compiled.device.compile(program, &weights)?;
        let signature = executable.signature().clone();
        let shared = SharedExecutable { signature, inner: Arc::new(Mutex::new(executable)) };
        compiled.programs.push((program.clone(), shared.clone()));
        Ok(shared)
    }

    /// The weights of a program: those that it says are fp16 are rounded where they are not.
    fn weights(&self, program: &Program) -> Weights {
        let mut compiled = self.lock();
        for operation in &program.functions[0].body.operations {
            let Some(value) = operation.const_value() else { continue };
            let (Data::Blob { file, offset }, Type::Tensor(ty)) = (&value.data, &value.ty) else {
                continue;
            };
            let given = compiled.weights.get(file, *offset);
            let wide = given.filter(|t| ty.dtype == DType::F16 && t.dtype() != DType::F16);
            if let Some(wide) = wide {
                let numbers: Vec<f16> = wide.to_f32_vec().into_iter().map(f16::from_f32).collect();
                let half = Tensor::from_slice(wide.shape(), &numbers);
                compiled.weights.insert(file, *offset, half);
            }
        }
        compiled.weights.clone()
    }
}

/// An executable of several schedules, which do not run at the same time.
#[derive(Clone)]
struct SharedExecutable {
    signature: Signature,
    inner: Arc<Mutex<Box<dyn Executable>>>,
}

impl SharedExecutable {
    fn lock(&self) -> MutexGuard<'_, Box<dyn Executable>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Executable for SharedExecutable {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, bindings: &mut Bindings<'_>) -> Result<(), Error> {
        self.lock().run(bindings)
    }

    fn update_weights(&mut self, weights: &Weights) -> Result<(), Error> {
        self.lock().update_weights(weights)
    }

    fn explain(&self) -> String {
        self.lock().explain()
    }

    fn numeric_events(&self) -> NumericEvents {
        self.lock().numeric_events()
    }

    fn run_figures(&self) -> RunFigures {
        self.lock().run_figures()
    }
}
