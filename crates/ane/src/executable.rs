//! A program that can be run.

use crate::placement::{Placed, place};
use crate::prepare::{DevicePort, Prepared, resolve};
use crate::programs::{Handle, Programs, Source};
use crate::requests::Requests;
use crate::{Error, ErrorKind, Framework, Scheme, WeightMode};
use orion_mil::{Diagnostic, Weights};
use orion_runtime as runtime;
use orion_runtime::{Bindings, Bound, Executable, Port, PortKind, RunFigures, Signature};
use orion_tensor::Tensor;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// A compiled program. It reads and writes surfaces in memory that the engine sees where they
/// are; what is in others is copied to and from memory of its own.
pub(crate) struct AneProgram<F: Framework> {
    device: String,
    programs: Arc<Programs<F>>,
    prepared: Prepared,
    mode: WeightMode,
    scheme: Scheme,
    /// Goes before the program that it is bound to.
    memory: Memory<F>,
    handle: Handle<F>,
    /// Whether all weights that are inputs are of one update.
    is_staged: bool,
    /// Of the last run.
    figures: RunFigures,
    /// What our rules say, in case the compiler refuses it with other weights.
    findings: Vec<Diagnostic>,
}

/// Where everything is. Requests go first, because they are bound to what comes after them.
struct Memory<F: Framework> {
    requests: Requests<F::Request>,
    inputs: Vec<Placed<F>>,
    weights: Vec<Placed<F>>,
    outputs: Vec<Placed<F>>,
}

impl<F: Framework> AneProgram<F> {
    /// Compiles and loads a program, and writes weights that are inputs.
    pub(crate) fn new(
        device: &str,
        programs: &Arc<Programs<F>>,
        prepared: Prepared,
        weights: &Weights,
        (mode, scheme): (WeightMode, Scheme),
        findings: Vec<Diagnostic>,
    ) -> Result<Self, Error> {
        let tensors = weight_tensors(&prepared, weights)?;
        let descriptor = prepared.descriptor(weights)?;
        let source = match mode {
            WeightMode::BakedReload => Source::WithFiles,
            WeightMode::Inputs | WeightMode::BakedRecompile => Source::Any,
        };
        let handle = programs.get(&descriptor, &source, &|| findings.clone())?;
        let memory = Memory::new(&handle, &prepared, scheme)?;
        let mut program = Self {
            device: device.to_owned(),
            programs: programs.clone(),
            prepared,
            mode,
            scheme,
            handle,
            memory,
            is_staged: false,
            figures: RunFigures::default(),
            findings,
        };
        program.stage(&tensors)?;
        Ok(program)
    }

    /// Writes weights to the inputs that take them.
    fn stage(&mut self, tensors: &[Tensor]) -> Result<(), Error> {
        let mut weights = self.memory.weights.iter_mut().zip(tensors);
        self.is_staged = false;
        weights.try_for_each(|(placed, tensor)| placed.copy_in(&self.programs, tensor.bytes()))?;
        self.is_staged = true;
        Ok(())
    }

    /// Runs once on the bound surfaces.
    fn run_once(&mut self, bindings: &mut Bindings<'_>) -> Result<(), runtime::Error> {
        let mut surfaces = bindings.matched(&self.prepared.signature, &self.device)?;
        self.run_on(&mut surfaces).map_err(|e| e.for_device(&self.device))
    }

    fn run_on(&mut self, surfaces: &mut [&mut Bound<'_>]) -> Result<(), Error> {
        if !self.is_staged {
            let message = "the last update of its weights failed halfway";
            return Err(Error::new(ErrorKind::Weights, message).hint("update them again"));
        }
        let programs = &*self.programs;
        let ports = &self.prepared.signature.ports;
        let memory = &mut self.memory;
        let shared = [
            memory.hand_over_inputs(programs, ports, surfaces)?,
            memory.hand_over_outputs(programs, ports, surfaces)?,
        ]
        .concat();
        let request = memory.request(programs, ports, surfaces, &shared)?;
        let evaluated = self.handle.evaluate(request)?;
        for (position, placed) in written(ports).zip(&memory.outputs) {
            let Bound::Write(surface) = &mut *surfaces[position] else { continue };
            if !shared.contains(&position) {
                surface.ready_to_write().map_err(Error::of_memory)?;
                placed.copy_out(programs, surface.bytes_mut())?;
            }
        }
        let copied = read(ports).chain(written(ports)).filter(|p| !shared.contains(p));
        self.figures = RunFigures {
            hardware: evaluated.hardware_ns.map(Duration::from_nanos),
            copied_bytes: copied.map(|p| ports[p].layout.size_bytes as u64).sum(),
        };
        Ok(())
    }

    /// Replaces the compiled program by one with other weights.
    fn replace(&mut self, weights: &Weights) -> Result<(), Error> {
        let descriptor = self.prepared.descriptor(weights)?;
        let source = match self.mode {
            WeightMode::BakedReload => Source::Donor(self.handle.directory()),
            WeightMode::Inputs | WeightMode::BakedRecompile => Source::System,
        };
        let handle = self.programs.get(&descriptor, &source, &|| self.findings.clone())?;
        let memory = Memory::new(&handle, &self.prepared, self.scheme)?;
        // The memory goes before the program it is bound to.
        self.memory = memory;
        self.handle = handle;
        Ok(())
    }
}

/// The weights that are staged in inputs.
fn weight_tensors(prepared: &Prepared, weights: &Weights) -> Result<Vec<Tensor>, Error> {
    prepared.weight_inputs.iter().map(|input| resolve(weights, &input.value)).collect()
}

impl<F: Framework> Memory<F> {
    fn new(handle: &Handle<F>, prepared: &Prepared, scheme: Scheme) -> Result<Self, Error> {
        let description = handle.description();
        let staged = prepared.weight_inputs.iter().map(|w| &w.port);
        let all: Vec<&DevicePort> = prepared.inputs.iter().chain(staged).collect();
        let mut inputs = place(&all, &description.inputs, scheme)?;
        let weights = inputs.split_off(prepared.inputs.len());
        let outputs: Vec<&DevicePort> = prepared.outputs.iter().collect();
        let outputs = place(&outputs, &description.outputs, scheme)?;
        Ok(Self { requests: Requests::new(), inputs, weights, outputs })
    }

    /// Gives the engine what it reads, by copies where it must be. Returns the positions of ports
    /// that it reads where they are.
    fn hand_over_inputs(
        &mut self,
        programs: &Programs<F>,
        ports: &[Port],
        surfaces: &[&mut Bound<'_>],
    ) -> Result<Vec<usize>, Error> {
        let mut shared = Vec::new();
        for (position, placed) in read(ports).zip(&mut self.inputs) {
            let surface = surfaces[position].surface();
            // Nothing promises that the engine takes the same memory twice, or that it has read
            // all of an input before it writes what replaces it.
            let is_bound =
                shared.iter().any(|&p: &usize| std::ptr::eq(surfaces[p].surface(), surface));
            let is_input = ports[position].kind == PortKind::Input;
            match placed.shared(surface).filter(|_| is_input && !is_bound) {
                Some(memory) => {
                    memory.let_engine_read().map_err(|e| {
                        Error::of_call(ErrorKind::Surface, "an input cannot be handed over", e)
                    })?;
                    shared.push(position);
                }
                None => {
                    surface.ready_to_read().map_err(Error::of_memory)?;
                    placed.copy_in(programs, surface.bytes())?;
                }
            }
        }
        Ok(shared)
    }

    /// Makes room for what the engine writes. Returns the positions of ports that it writes where
    /// they are.
    fn hand_over_outputs(
        &mut self,
        programs: &Programs<F>,
        ports: &[Port],
        surfaces: &mut [&mut Bound<'_>],
    ) -> Result<Vec<usize>, Error> {
        let mut shared = Vec::new();
        for (position, placed) in written(ports).zip(&mut self.outputs) {
            let is_output = ports[position].kind == PortKind::Output;
            let Bound::Write(surface) = &mut *surfaces[position] else { continue };
            match placed.shared_mut(surface).filter(|_| is_output) {
                Some(memory) => {
                    memory.let_engine_write().map_err(|e| {
                        Error::of_call(ErrorKind::Surface, "an output cannot be handed over", e)
                    })?;
                    shared.push(position);
                }
                None => placed.make_room(programs)?,
            }
        }
        Ok(shared)
    }

    /// The request for these surfaces, of which the ports at some positions are shared.
    fn request(
        &mut self,
        programs: &Programs<F>,
        ports: &[Port],
        surfaces: &[&mut Bound<'_>],
        shared: &[usize],
    ) -> Result<&F::Request, Error> {
        let Self { requests, inputs, weights, outputs } = self;
        let with_memory = |position: usize, placed: &'_ Placed<F>| {
            let surface = surfaces[position].surface();
            shared.contains(&position).then(|| placed.shared(surface)).flatten()
        };
        let inputs = read(ports).zip(&*inputs).map(|(p, placed)| (with_memory(p, placed), placed));
        let outputs =
            written(ports).zip(&*outputs).map(|(p, placed)| (with_memory(p, placed), placed));
        let memories: Vec<_> =
            inputs.clone().chain(outputs.clone()).map(|(m, _)| m.map(|m| m.identity())).collect();
        requests.get(&memories, || {
            let weights = weights.iter().map(|placed| (None, placed));
            let read: Vec<_> = inputs.chain(weights).map(|(m, placed)| placed.binding(m)).collect();
            let written: Vec<_> = outputs.map(|(m, placed)| placed.binding(m)).collect();
            programs.again(|| programs.framework.request(&read, &written, None)).map_err(|e| {
                Error::of_call(ErrorKind::Binding, "memory cannot be bound to the program", e)
            })
        })
    }
}

/// Positions of ports that are read, in the order of a program's inputs.
fn read(ports: &[Port]) -> impl Iterator<Item = usize> + Clone {
    (0..ports.len()).filter(|&p| ports[p].kind != PortKind::Output)
}

/// Positions of ports that are written, in the order of a program's outputs.
fn written(ports: &[Port]) -> impl Iterator<Item = usize> + Clone {
    (0..ports.len()).filter(|&p| ports[p].kind != PortKind::Input)
}

impl<F: Framework> Executable for AneProgram<F> {
    fn signature(&self) -> &Signature {
        &self.prepared.signature
    }

    /// Runs once. Surfaces are written when the engine is done; a run that fails changes none of
    /// them, unless the outputs cannot be read.
    fn run(&mut self, bindings: &mut Bindings<'_>) -> Result<(), runtime::Error> {
        self.run_once(bindings)
    }

    /// Weights that are inputs are written there; when that fails halfway, the program does not run
    /// before an update that works. Others change as the weight mode says; the program goes on with
    /// the old ones when that fails.
    fn update_weights(&mut self, weights: &Weights) -> Result<(), runtime::Error> {
        let failed = |e: Error| e.for_device(&self.device);
        let tensors = weight_tensors(&self.prepared, weights).map_err(failed)?;
        if self.prepared.has_baked_weights() {
            self.replace(weights).map_err(|e| e.for_device(&self.device))?;
        }
        self.stage(&tensors).map_err(|e| e.for_device(&self.device))
    }

    fn run_figures(&self) -> RunFigures {
        self.figures
    }

    fn explain(&self) -> String {
        let mut text = format!(
            "{}: weights as {}, numbers of inputs and outputs {}, rows {}\n",
            self.device, self.mode, self.scheme.order, self.scheme.rows
        );
        let mut line = |kind: &str, port: &DevicePort, placed: &Placed<F>| {
            writeln!(
                text,
                "  {kind} {} {}{:?}: {} bytes{}",
                placed.index,
                port.dtype,
                port.shape,
                placed.rows.size_bytes(),
                if placed.rows.is_dense() { "" } else { ", rows apart" }
            )
            .expect("writing to a string");
        };
        self.prepared.inputs.iter().zip(&self.memory.inputs).for_each(|(p, m)| line("input", p, m));
        let weights = self.prepared.weight_inputs.iter().zip(&self.memory.weights);
        weights.for_each(|(w, m)| line("weight", &w.port, m));
        let outputs = self.prepared.outputs.iter().zip(&self.memory.outputs);
        outputs.for_each(|(p, m)| line("output", p, m));
        let RunFigures { hardware, copied_bytes } = self.figures;
        writeln!(text, "  the last run copied {copied_bytes} bytes").expect("a string");
        if let Some(time) = hardware {
            writeln!(text, "  the engine worked {} ns in it", time.as_nanos()).expect("a string");
        }
        text
    }
}
