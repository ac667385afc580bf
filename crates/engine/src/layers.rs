//! Forward and backward on two devices: an accelerator computes the layers, the host everything
//! else, at the same time where one does not wait for the other.

use crate::divided::SharedPrograms;
use crate::programs::gradient_partition;
use orion_compile::partition::{Access, Part, Partition, Role, Unit, WeightForm, Work};
use orion_mil::{Program, WEIGHT_FILE, Weights};
use orion_models::{Network, WeightIndex};
use orion_runtime::{
    Action, Bindings, Bound, Device, Error, ErrorKind, Executable, Lane, Layout, NumericEvents,
    RunFigures, Schedule, Signature, Surface, Task,
};
use orion_tensor::{DType, f16};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The lane of everything but layers, and the lane of layers.
const HOST: usize = 0;
const ACCELERATOR: usize = 1;

/// Names of values of a program that a device refuses to compute.
pub type Refused = dyn Fn(&Program, &Weights) -> BTreeSet<String> + Send + Sync;

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

/// The gradient program of a network in parts; an executable with the same ports.
///
/// Surfaces between parts are kept from one run to the next. What the accelerator reads of
/// parameters is brought up to date in the run after [`LayerSchedule::parameters_changed`], by
/// the host, layer by layer, while the accelerator is at work on the layers before.
pub struct LayerSchedule {
    host: Arc<dyn Device>,
    accelerator: Accelerator,
    tables: Weights,
    signature: Signature,
    partition: Partition,
    /// By position in the partition's surfaces: memory of our own, or the name of a port.
    memory: Vec<Memory>,
    prepared: Option<Prepared>,
    is_current: bool,
    /// Where the accelerator's programs come from when they have the weights of the whole.
    shared: Option<SharedPrograms>,
    began: Instant,
    spans: Vec<PartSpan>,
}

enum Memory {
    Own(Surface),
    Port(String),
}

/// What is compiled.
struct Prepared {
    lanes: [Lane; 2],
    /// With new parameters, and with the same as before.
    renewed: Planned,
    unchanged: Planned,
}

/// A schedule and what its tasks are.
struct Planned {
    schedule: Schedule,
    work: Vec<Work>,
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
        let port_of = |s: &orion_compile::partition::PartSurface| match s.role {
            Role::Input | Role::Result => signature.port(&s.name).is_some().then(|| s.name.clone()),
            Role::Staged | Role::Table | Role::Inner => None,
        };
        let accelerated = partition.parts.iter().filter(|part| part.unit == Unit::Accelerator);
        let shared: HashSet<usize> =
            accelerated.flat_map(|part| part.ports.iter().map(|c| c.surface)).collect();
        let memory = partition
            .surfaces
            .iter()
            .enumerate()
            .map(|(i, s)| {
                if let Some(port) = port_of(s) {
                    return Ok(Memory::Port(port));
                }
                let shape = s.ty.shape().expect("parts are of known shapes");
                let layout = Layout::dense(s.ty.dtype, &shape);
                let surface = match shared.contains(&i) {
                    true => accelerator.device.surface(&layout)?,
                    false => Surface::zeros(layout),
                };
                Ok(Memory::Own(surface))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            host,
            accelerator,
            tables: weights.clone(),
            signature,
            partition,
            memory,
            prepared: None,
            is_current: true,
            shared,
            began: Instant::now(),
            spans: Vec::new(),
        })
    }

    /// Says that parameters are others than in the run before.
    pub fn parameters_changed(&mut self) {
        self.is_current = false;
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
        schedule.run(&mut compiler.lanes, bound(&mut self.memory, bindings, &self.signature)?)?;

        let mut renewed = Tasks::default();
        for (work, part) in parts.sequence(true) {
            let known = renewed.runs.get(&part.name).cloned();
            let task = match (known, part.unit) {
                (Some(known), _) => known,
                (None, Unit::Host) => compiler.task(part, &*self.host, &self.tables)?,
                (None, Unit::Accelerator) if let Some(shared) = &self.shared => {
                    compiler.shared_task(part, shared)?
                }
                (None, Unit::Accelerator) => {
                    let surfaces = bound(&mut self.memory, bindings, &self.signature)?;
                    let weights = constants(part, &surfaces);
                    compiler.task(part, &*self.accelerator.device, &weights)?
                }
            };
            renewed.runs.insert(part.name.clone(), task.clone());
            let task = match work {
                Work::Run | Work::Stage => task,
                Work::Renew => {
                    let constants = part.constants.iter().map(|c| (c.offset, c.surface)).collect();
                    let name = format!("weights of {}", part.name);
                    Task { name, action: Action::UpdateWeights(constants), ..task }
                }
            };
            renewed.add(task, work);
        }
        let mut unchanged = Tasks::default();
        for (work, part) in parts.sequence(false) {
            unchanged.add(renewed.runs[&part.name].clone(), work);
        }
        let lanes = compiler.lanes;
        let (renewed, unchanged) = (renewed.planned(&lanes), unchanged.planned(&lanes));
        self.prepared = Some(Prepared { lanes, renewed, unchanged });
        self.is_current = true;
        Ok(())
    }
}

/// What two devices are called.
fn pair_name(accelerator: &Accelerator, host: &dyn Device) -> String {
    format!("{}+{}", accelerator.device.name(), host.name())
}

/// All memory of a partition for one run.
fn bound<'a>(
    memory: &'a mut [Memory],
    bindings: &'a mut Bindings<'_>,
    signature: &Signature,
) -> Result<Vec<Bound<'a>>, Error> {
    let ordered = bindings.matched(signature, "two devices")?;
    let names = signature.ports.iter().map(|p| p.name.as_str());
    let mut ports: HashMap<&str, Bound<'a>> = names
        .zip(ordered)
        .map(|(name, bound)| {
            let bound = match bound {
                Bound::Read(surface) => Bound::Read(surface),
                Bound::Write(surface) => Bound::Write(surface),
            };
            (name, bound)
        })
        .collect();
    Ok(memory
        .iter_mut()
        .map(|memory| match memory {
            Memory::Own(surface) => Bound::Write(surface),
            Memory::Port(name) => ports.remove(name.as_str()).expect("a surface for each port"),
        })
        .collect())
}

/// The weight file of a part's program.
fn constants(part: &Part, surfaces: &[Bound<'_>]) -> Weights {
    let mut weights = Weights::new();
    for constant in &part.constants {
        let tensor = surfaces[constant.surface].surface().to_tensor();
        weights.insert(WEIGHT_FILE, constant.offset, tensor);
    }
    weights
}

/// Tasks under construction, with what each is.
#[derive(Default)]
struct Tasks {
    tasks: Vec<Task>,
    work: Vec<Work>,
    /// Runs of parts, by their names.
    runs: HashMap<String, Task>,
}

impl Tasks {
    fn add(&mut self, task: Task, work: Work) {
        self.tasks.push(task);
        self.work.push(work);
    }

    fn planned(self, lanes: &[Lane]) -> Planned {
        Planned { schedule: Schedule::new(self.tasks, lanes), work: self.work }
    }
}

struct Compiler<'a> {
    partition: &'a Partition,
    lanes: [Lane; 2],
    /// Executables by lane and program.
    known: HashMap<(usize, usize), usize>,
}

impl Compiler<'_> {
    /// A run of a part of the accelerator, whose program others may have compiled.
    fn shared_task(&mut self, part: &Part, shared: &SharedPrograms) -> Result<Task, Error> {
        let executables = &mut self.lanes[ACCELERATOR].executables;
        let executable = match self.known.get(&(ACCELERATOR, part.program)) {
            Some(&known) => known,
            None => {
                let program = &self.partition.programs[part.program];
                executables.push(Box::new(shared.get(program)?));
                self.known.insert((ACCELERATOR, part.program), executables.len() - 1);
                executables.len() - 1
            }
        };
        let ports = part.ports.iter().map(|c| (c.port.clone(), c.surface)).collect();
        let (name, action) = (part.name.clone(), Action::Run(ports));
        Ok(Task { name, lane: ACCELERATOR, executable, action })
    }

    /// A run of a part, whose program is compiled when it is new, or has constants of its own.
    fn task(&mut self, part: &Part, device: &dyn Device, weights: &Weights) -> Result<Task, Error> {
        let lane = if part.unit == Unit::Host { HOST } else { ACCELERATOR };
        let known = self.known.get(&(lane, part.program)).copied();
        let executable = match known.filter(|_| part.constants.is_empty()) {
            Some(known) => known,
            None => {
                let program = &self.partition.programs[part.program];
                let executables = &mut self.lanes[lane].executables;
                executables.push(device.compile(program, weights)?);
                self.known.insert((lane, part.program), executables.len() - 1);
                executables.len() - 1
            }
        };
        let ports = part.ports.iter().map(|c| (c.port.clone(), c.surface)).collect();
        Ok(Task { name: part.name.clone(), lane, executable, action: Action::Run(ports) })
    }
}

impl Executable for LayerSchedule {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// # Errors
    /// Those of both devices. Gradients may then hold anything; parameters are only read.
    fn run(&mut self, bindings: &mut Bindings<'_>) -> Result<(), Error> {
        if self.prepared.is_none() {
            self.prepare(bindings)?;
        }
        let prepared = self.prepared.as_mut().expect("it was prepared");
        let Prepared { lanes, renewed, unchanged } = prepared;
        let planned = if self.is_current { unchanged } else { renewed };
        let surfaces = bound(&mut self.memory, bindings, &self.signature)?;
        self.began = Instant::now();
        let spans = planned.schedule.run(lanes, surfaces)?;
        self.is_current = self.shared.is_none() || self.partition.staging.is_empty();
        let tasks = planned.schedule.tasks();
        self.spans = spans
            .into_iter()
            .map(|span| {
                let task = &tasks[span.task];
                let unit = if task.lane == HOST { Unit::Host } else { Unit::Accelerator };
                PartSpan {
                    name: task.name.clone(),
                    unit,
                    work: planned.work[span.task],
                    begin: span.begin,
                    end: span.end,
                    events: span.events,
                    figures: span.figures,
                }
            })
            .collect();
        Ok(())
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
