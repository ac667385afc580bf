//! Programs on two devices, training's and inference's: an accelerator computes the layers, the
//! host everything else, at the same time where one does not wait for the other.

mod compiled;
mod memory;
mod range;

pub use range::{LARGE_ACTIVATION, LargeActivation, RangeReport};

use crate::OptimizerSection;
use crate::divided::SharedPrograms;
use crate::programs::{adamw_parameters, adamw_settings, gradient_partition};
use compiled::{Compiler, Prepared, Tasks};
use memory::{Memory, bound, constants};
use orion_compile::partition::{
    Access, Attached, Occasion, Partition, Pass, Unit, WeightForm, Work,
};
use orion_mil::{Program, Weights};
use orion_models::{Network, ParameterSpec, WeightIndex};
use orion_runtime::{
    Action, Bindings, Device, Error, ErrorKind, Executable, Lane, Layout, NumericEvents, Port,
    PortKind, RunFigures, Schedule, Signature, Surface, Task,
};
use orion_tensor::{DType, f16};
use range::activations;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names of values of a program that a device refuses to compute.
pub type Refused = dyn Fn(&Program, &Weights) -> BTreeSet<String> + Send + Sync;

/// What the loss is multiplied by where layers are computed in fp16, unless somebody says otherwise:
/// what the trainers on the Neural Engine use.
pub const HALF_LOSS_SCALE: f32 = 256.0;

/// A device that computes layers.
#[derive(Clone)]
pub struct Accelerator {
    /// The device.
    pub device: Arc<dyn Device>,
    /// What it computes in: `F16`, or `F32`.
    pub numbers: DType,
    /// How it gets weights.
    pub weights: WeightForm,
    /// What the host computes in its place.
    pub refused: Arc<Refused>,
}

impl Accelerator {
    /// A device that takes every operation, in fp32, with weights as inputs: a test double.
    pub fn plain(device: Arc<dyn Device>) -> Self {
        Self {
            device,
            numbers: DType::F32,
            weights: WeightForm::Inputs,
            refused: Arc::new(|_, _| BTreeSet::new()),
        }
    }
}

/// When a part ran.
#[derive(Debug, Clone, PartialEq)]
pub struct PartSpan {
    /// Such as `layer3 backward`.
    pub name: String,
    /// Where.
    pub unit: Unit,
    /// Of which pass over the layers.
    pub pass: Pass,
    /// What was done with it.
    pub work: Work,
    /// Since the run began.
    pub begin: Duration,
    /// Since the run began.
    pub end: Duration,
    /// What it did to numbers.
    pub events: NumericEvents,
    /// What it took of the accelerator.
    pub figures: RunFigures,
}

/// A program of a network in parts: its gradients, or a step or chunk of inference. An executable
/// with the same ports.
///
/// Surfaces between parts are kept from one run to the next.
///
/// With an optimizer ([`LayerSchedule::with_update`]) the norm of the gradient is found in the
/// last micro-batch of a step, layer by layer, and the update is put off to the first one of the
/// step after: the host updates and stages the parameters of a layer while the accelerator is at
/// work on the layers before. Who wants to see parameters asks for
/// [`LayerSchedule::finish_update`] first.
pub struct LayerSchedule {
    host: Arc<dyn Device>,
    accelerator: Accelerator,
    tables: Weights,
    signature: Signature,
    partition: Partition,
    /// By position in the partition's surfaces: memory of our own, or the name of a port.
    memory: Vec<Memory>,
    /// See [`activations`].
    activations: Vec<(usize, usize)>,
    prepared: Option<Prepared>,
    /// Parameters, their gradients and moments, as far as an update needs them bound.
    update_signature: Signature,
    /// Whether gradients are added to.
    accumulates: bool,
    /// Whether the accelerator has the parameters as they are.
    is_current: bool,
    /// Where the accelerator's programs come from when they have the weights of the whole.
    shared: Option<SharedPrograms>,
    update: Update,
    began: Instant,
    spans: Vec<PartSpan>,
}

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Update {
    /// Every parameter has it.
    Done,
    /// No parameter has it.
    Due,
    /// It is being made, or was when something failed.
    Begun,
}

impl LayerSchedule {
    /// Cuts a gradient program over an index: see
    /// [`gradient_program`](crate::programs::gradient_program). Nothing is compiled before the
    /// first run, because programs with weights as constants are compiled with those.
    ///
    /// # Errors
    /// When the network cannot be cut so that the accelerator takes its parts.
    pub fn new(
        network: &Network,
        index: &WeightIndex,
        program: &Program,
        accelerator: Accelerator,
        host: Arc<dyn Device>,
    ) -> Result<Self, Error> {
        let name = pair_name(&accelerator, &*host);
        let refused = (accelerator.refused)(program, index.weights());
        let (numbers, weights) = (accelerator.numbers, accelerator.weights);
        let partition = gradient_partition(network, index, program, numbers, weights, &refused)
            .map_err(|e| {
                let message = format!("the training step cannot be divided: {e}");
                Error::new(ErrorKind::Unsupported, &name, message)
            })?;
        Self::of(program, partition, index.weights(), accelerator, host, None)
    }

    /// A program and its parts, with the weights that they name. With `shared` programs, whatever
    /// is staged is staged in every run.
    pub(crate) fn of(
        program: &Program,
        partition: Partition,
        weights: &Weights,
        accelerator: Accelerator,
        host: Arc<dyn Device>,
        shared: Option<SharedPrograms>,
    ) -> Result<Self, Error> {
        let name = pair_name(&accelerator, &*host);
        let signature = Signature::dense(&program.functions[0], &name)?;
        let accelerated = partition.parts.iter().filter(|part| part.unit == Unit::Accelerator);
        let seen: HashSet<usize> =
            accelerated.flat_map(|part| part.ports.iter().map(|c| c.surface)).collect();
        let surfaces = partition.surfaces.iter().enumerate();
        let memory = surfaces
            .map(|(i, s)| {
                Memory::of(s, &signature, seen.contains(&i).then_some(&*accelerator.device))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            host,
            accelerator,
            tables: weights.clone(),
            signature,
            activations: activations(&partition),
            partition,
            memory,
            prepared: None,
            update_signature: Signature::default(),
            accumulates: false,
            is_current: true,
            shared,
            update: Update::Done,
            began: Instant::now(),
            spans: Vec::new(),
        })
    }

    /// Adds AdamW over what is trained. Then parameters and gradients are bound to be updated, and
    /// so are moments, as `{p}_m` and `{p}_v`; `accumulates` says whether the gradient program
    /// adds.
    ///
    /// # Errors
    /// When the optimizer's programs cannot be written, which is a bug.
    pub fn with_update(
        mut self,
        trained: &[ParameterSpec],
        optimizer: &OptimizerSection,
        accumulates: bool,
    ) -> Result<Self, Error> {
        let parameters = adamw_parameters(trained);
        let name = format!("{}+{}", self.accelerator_name(), self.host.name());
        let config = adamw_settings(optimizer);
        self.partition = self.partition.with_update(&parameters, &config).map_err(|e| {
            Error::new(ErrorKind::Unsupported, &name, format!("the update cannot be divided: {e}"))
        })?;
        for spec in &parameters {
            for suffix in ["", "_grad", "_m", "_v"] {
                let name = format!("{}{suffix}", spec.name);
                let (kind, layout) =
                    (PortKind::Update { output: None }, Layout::dense(DType::F32, &spec.shape));
                self.signature.ports.retain(|port| port.name != name);
                let port = Port { name, kind, layout };
                self.update_signature.ports.push(port.clone());
                self.signature.ports.push(port);
            }
        }
        let added = &self.partition.surfaces[self.memory.len()..];
        let added: Vec<Memory> = added
            .iter()
            .map(|s| Memory::of(s, &self.signature, None))
            .collect::<Result<_, Error>>()?;
        self.memory.extend(added);
        self.accumulates = accumulates;
        Ok(self)
    }

    /// Runs one micro-batch of a step. In the first one gradients of the step before are no longer
    /// wanted, and the update that is due is made; in the last one the norm is found, of gradients
    /// times `gradient_scale`.
    ///
    /// # Errors
    /// Those of both devices. If an update had been due, parameters then are of no step.
    pub fn run_micro_batch(
        &mut self,
        bindings: &mut Bindings<'_>,
        [is_first, is_last]: [bool; 2],
        gradient_scale: f64,
    ) -> Result<(), Error> {
        self.set("gradient_scale", gradient_scale);
        let update = self.update != Update::Done;
        self.run_on(
            bindings,
            Occasion {
                new_parameters: !self.is_current,
                update,
                clear: is_first && self.accumulates,
                measure: is_last,
            },
        )
    }

    /// The norm that the last micro-batch found; not finite where a gradient is not.
    pub fn gradient_norm(&self) -> f64 {
        f64::from(self.number("gradient_norm").elements::<f32>()[0])
    }

    /// Has the gradients that were measured last applied before parameters are read again.
    pub fn update_later(&mut self, learning_rate: f64, [beta1, beta2]: [f64; 2]) {
        self.set("learning_rate", learning_rate);
        self.set("beta1_correction", beta1);
        self.set("beta2_correction", beta2);
        self.update = Update::Due;
    }

    /// Whether a run may make the update of the step before. Where programs are compiled again with
    /// new parameters it may not: compilations may run out in the middle, after which the step
    /// before has to be whole.
    pub fn overlaps_update(&self) -> bool {
        self.accelerator.weights == WeightForm::Inputs
    }

    /// Whether parameters are not yet what the last step makes of them.
    pub fn is_update_due(&self) -> bool {
        self.update != Update::Done
    }

    /// Makes an update that is due, without a run. Bindings need to have parameters, gradients and
    /// moments.
    ///
    /// # Errors
    /// Those of the host; and when something failed in the middle of an update.
    pub fn finish_update(&mut self, bindings: &mut Bindings<'_>) -> Result<(), Error> {
        let (Update::Due, Some(optimizer)) = (self.update_state()?, &self.partition.update) else {
            return Ok(());
        };
        let prepared = self.prepared.as_mut().expect("gradients were computed before");
        let mut tasks = Tasks::default();
        for Attached { part, .. } in &optimizer.updates {
            let task = prepared.tasks[&(Work::Update, part.name.clone())].clone();
            tasks.add(task, Work::Update, part.pass);
        }
        let planned = tasks.planned(&prepared.lanes);
        self.update = Update::Begun;
        let nothing = Surface::zeros(Layout::dense(DType::F32, &[1]));
        let surfaces = bound(&mut self.memory, bindings, &self.update_signature, &nothing)?;
        self.began = Instant::now();
        let spans = planned.schedule.run(&mut prepared.lanes, surfaces)?;
        self.spans = planned.spans(spans);
        self.update = Update::Done;
        self.is_current = false;
        Ok(())
    }

    fn update_state(&self) -> Result<Update, Error> {
        if self.update == Update::Begun {
            let name = format!("{}+{}", self.accelerator_name(), self.host.name());
            let message = "an update was cut off: parameters are of no step";
            return Err(Error::new(ErrorKind::Execution, &name, message));
        }
        Ok(self.update)
    }

    fn number(&self, name: &str) -> &Surface {
        let named = self.partition.surfaces.iter().position(|s| s.name == name);
        match named.map(|i| &self.memory[i]) {
            Some(Memory::Own(surface)) => surface,
            _ => panic!("`{name}` is a number of the optimizer"),
        }
    }

    fn set(&mut self, name: &str, value: f64) {
        let named = self.partition.surfaces.iter().position(|s| s.name == name);
        match named.map(|i| &mut self.memory[i]) {
            Some(Memory::Own(surface)) => surface.elements_mut::<f32>()[0] = value as f32,
            _ => panic!("`{name}` is a number of the optimizer"),
        }
    }

    fn run_on(&mut self, bindings: &mut Bindings<'_>, occasion: Occasion) -> Result<(), Error> {
        self.update_state()?;
        if self.prepared.is_none() {
            self.prepare(bindings)?;
        }
        let occasion = Occasion { new_parameters: !self.is_current, ..occasion };
        let Prepared { lanes, tasks, schedules } = self.prepared.as_mut().expect("it was prepared");
        let planned = schedules.entry(occasion).or_insert_with(|| {
            let mut planned = Tasks::default();
            for (work, part) in self.partition.sequence(occasion) {
                planned.add(tasks[&(work, part.name.clone())].clone(), work, part.pass);
            }
            planned.planned(&*lanes)
        });
        let nothing = Surface::zeros(Layout::dense(DType::F32, &[1]));
        let surfaces = bound(&mut self.memory, bindings, &self.signature, &nothing)?;
        if occasion.update {
            self.update = Update::Begun;
        }
        self.began = Instant::now();
        let spans = planned.schedule.run(lanes, surfaces)?;
        self.spans = planned.spans(spans);
        self.update = Update::Done;
        self.is_current = self.shared.is_none() || self.partition.staging.is_empty();
        Ok(())
    }

    /// The name of the device that computes layers.
    pub fn accelerator_name(&self) -> &str {
        self.accelerator.device.name()
    }

    /// The first part of the last run that made a number that is none, and the name of the value
    /// in the gradient program: `layer0 backward, d_layer0_mul_1`. Gradients of parameters, which
    /// are the caller's, are not looked at.
    pub fn first_not_finite(&self) -> Option<String> {
        let is_finite = |surface: &Surface| match surface.layout().dtype {
            _ if surface.ready_to_read().is_err() => true,
            DType::F16 => surface.elements::<f16>().iter().all(|v| v.is_finite()),
            DType::F32 => surface.elements::<f32>().iter().all(|v| v.is_finite()),
            _ => true,
        };
        self.partition.parts.iter().find_map(|part| {
            let written = part.ports.iter().filter(|c| c.access != Access::Read);
            let mut named =
                written.map(|c| (&self.memory[c.surface], &self.partition.surfaces[c.surface]));
            let (_, surface) = named.find(|(memory, _)| match memory {
                Memory::Own(surface) => !is_finite(surface),
                Memory::Port(_) => false,
            })?;
            Some(format!("{}, {}", part.name, surface.name))
        })
    }

    /// The first part of the last run with a sum that left the accumulator's range.
    pub fn first_overflowed(&self) -> Option<String> {
        let overflowed = self.spans.iter().find(|span| span.events.overflowed > 0);
        overflowed.map(|span| span.name.clone())
    }

    /// What the last run did to numbers in backward passes of layers, where gradients may be too
    /// small for the accelerator.
    pub fn backward_events(&self) -> NumericEvents {
        let mut sum = NumericEvents::default();
        let of_layers = self.spans.iter().filter(|span| span.unit == Unit::Accelerator);
        of_layers.filter(|span| span.pass == Pass::Backward).for_each(|span| sum.add(span.events));
        sum
    }

    /// When each part of the last run ran.
    pub fn spans(&self) -> &[PartSpan] {
        &self.spans
    }

    /// When the last run began, compilation left out.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Compiles everything, and computes tables and the accelerator's parameters.
    fn prepare(&mut self, bindings: &mut Bindings<'_>) -> Result<(), Error> {
        let mut compiler = Compiler {
            partition: &self.partition,
            lanes: [Lane::default(), Lane::default()],
            known: HashMap::new(),
        };
        let parts = &self.partition;
        let first: Vec<Task> = parts
            .tables
            .iter()
            .chain(&parts.staging)
            .map(|part| compiler.task(part, &*self.host, &self.tables))
            .collect::<Result<_, _>>()?;
        let schedule = Schedule::new(first, &compiler.lanes);
        let nothing = Surface::zeros(Layout::dense(DType::F32, &[1]));
        let surfaces = bound(&mut self.memory, bindings, &self.signature, &nothing)?;
        schedule.run(&mut compiler.lanes, surfaces)?;

        let everything =
            Occasion { new_parameters: true, update: true, clear: self.accumulates, measure: true };
        // Runs by the names of parts, and everything.
        let mut runs: HashMap<&str, Task> = HashMap::new();
        let mut tasks = HashMap::new();
        for (work, part) in parts.sequence(everything) {
            let known = runs.get(&*part.name).cloned();
            let task = match (known, part.unit) {
                (Some(known), _) => known,
                (None, Unit::Host) => compiler.task(part, &*self.host, &self.tables)?,
                (None, Unit::Accelerator) if let Some(shared) = &self.shared => {
                    compiler.shared_task(part, shared)?
                }
                (None, Unit::Accelerator) => {
                    let surfaces = bound(&mut self.memory, bindings, &self.signature, &nothing)?;
                    let weights = constants(part, &surfaces);
                    compiler.task(part, &*self.accelerator.device, &weights)?
                }
            };
            runs.insert(&part.name, task.clone());
            let task = match work {
                Work::Renew => {
                    let constants = part.constants.iter().map(|c| (c.offset, c.surface)).collect();
                    let name = format!("weights of {}", part.name);
                    Task { name, action: Action::UpdateWeights(constants), ..task }
                }
                _ => task,
            };
            tasks.insert((work, part.name.clone()), task);
        }
        let lanes = compiler.lanes;
        self.prepared = Some(Prepared { lanes, tasks, schedules: HashMap::new() });
        self.is_current = true;
        Ok(())
    }
}

/// What two devices are called.
fn pair_name(accelerator: &Accelerator, host: &dyn Device) -> String {
    format!("{}+{}", accelerator.device.name(), host.name())
}

impl Executable for LayerSchedule {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// # Errors
    /// Those of both devices. Gradients may then hold anything; parameters are only read.
    fn run(&mut self, bindings: &mut Bindings<'_>) -> Result<(), Error> {
        self.run_on(bindings, Occasion::default())
    }

    /// Tables are constants of this program, and do not change.
    fn update_weights(&mut self, _: &Weights) -> Result<(), Error> {
        Ok(())
    }

    fn explain(&self) -> String {
        let mut text = String::new();
        for part in &self.partition.parts {
            let unit = if part.unit == Unit::Host { "host" } else { "accelerator" };
            let line = format!("{unit:12} {}: program {}", part.name, part.program);
            writeln!(text, "{line}").expect("writing to a string");
        }
        text
    }

    fn run_figures(&self) -> RunFigures {
        let known = self.spans.iter().filter_map(|span| span.figures.hardware);
        RunFigures {
            hardware: known.reduce(|sum, time| sum + time),
            copied_bytes: self.spans.iter().map(|span| span.figures.copied_bytes).sum(),
        }
    }

    fn numeric_events(&self) -> NumericEvents {
        let mut sum = NumericEvents::default();
        self.spans.iter().for_each(|span| sum.add(span.events));
        sum
    }
}
