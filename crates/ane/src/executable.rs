//! A program that can be run.

use crate::description::Symbol;
use crate::prepare::{DevicePort, Prepared, resolve};
use crate::programs::{Handle, Programs, Source};
use crate::rows::RowLayout;
use crate::{Binding, Error, ErrorKind, Framework, Order, Rows, Scheme, WeightMode};
use orion_device::SurfaceLayout;
use orion_mil::{Diagnostic, Weights};
use orion_runtime as runtime;
use orion_runtime::{Bindings, Bound, Executable, PortKind, Signature};
use orion_tensor::{Tensor, element_count};
use std::fmt::Write as _;
use std::sync::Arc;

/// A compiled program with memory of its own for its inputs and outputs.
pub(crate) struct AneProgram<F: Framework> {
    device: String,
    programs: Arc<Programs<F>>,
    prepared: Prepared,
    mode: WeightMode,
    scheme: Scheme,
    handle: Handle<F>,
    memory: Memory<F>,
    /// Nanoseconds the engine was at work in the last run, where the system says.
    hardware_ns: Option<u64>,
    /// What our rules say, in case the compiler refuses it with other weights.
    findings: Vec<Diagnostic>,
}

struct Memory<F: Framework> {
    inputs: Vec<Placed<F>>,
    weights: Vec<Placed<F>>,
    outputs: Vec<Placed<F>>,
    request: F::Request,
}

struct Placed<F: Framework> {
    rows: RowLayout,
    surface: F::Surface,
    index: usize,
}

impl<F: Framework> AneProgram<F> {
    /// Compiles and loads a program and takes memory for it.
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
        let memory = Memory::new(programs, &handle, &prepared, scheme)?;
        let program = Self {
            device: device.to_owned(),
            programs: programs.clone(),
            prepared,
            mode,
            scheme,
            handle,
            memory,
            hardware_ns: None,
            findings,
        };
        program.stage(&tensors)?;
        Ok(program)
    }

    /// Writes weights to the inputs that take them.
    fn stage(&self, tensors: &[Tensor]) -> Result<(), Error> {
        for (placed, tensor) in self.memory.weights.iter().zip(tensors) {
            self.write(placed, tensor.bytes())?;
        }
        Ok(())
    }

    fn write(&self, placed: &Placed<F>, dense: &[u8]) -> Result<(), Error> {
        let programs = &self.programs;
        programs
            .again(|| {
                let fill = &mut |bytes: &mut [u8]| placed.rows.spread(dense, bytes);
                programs.framework.write(&placed.surface, fill)
            })
            .map_err(|e| Error::of_call(ErrorKind::Surface, "an input cannot be written", e))
    }

    /// Runs once on the bound surfaces.
    fn run_once(&mut self, bindings: &mut Bindings<'_>) -> Result<(), runtime::Error> {
        let signature = &self.prepared.signature;
        let mut surfaces = bindings.in_order(signature, &self.device)?;
        let with_ports = || signature.ports.iter();
        let failed = |e: Error| e.for_device(&self.device);
        let read = with_ports().zip(&surfaces).filter(|(port, _)| port.kind != PortKind::Output);
        for ((_, bound), placed) in read.zip(&self.memory.inputs) {
            self.write(placed, bound.surface().bytes()).map_err(failed)?;
        }
        let evaluated = self.handle.evaluate(&self.memory.request).map_err(failed)?;
        let written =
            with_ports().zip(&mut surfaces).filter(|(port, _)| port.kind != PortKind::Input);
        for ((_, bound), placed) in written.zip(&self.memory.outputs) {
            let Bound::Write(surface) = &mut **bound else { continue };
            let programs = &self.programs;
            programs
                .again(|| {
                    let look = &mut |bytes: &[u8]| placed.rows.gather(bytes, surface.bytes_mut());
                    programs.framework.read(&placed.surface, look)
                })
                .map_err(|e| {
                    failed(Error::of_call(ErrorKind::Surface, "an output cannot be read", e))
                })?;
        }
        self.hardware_ns = evaluated.hardware_ns;
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
        let memory = Memory::new(&self.programs, &handle, &self.prepared, self.scheme)?;
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
    fn new(
        programs: &Programs<F>,
        handle: &Handle<F>,
        prepared: &Prepared,
        scheme: Scheme,
    ) -> Result<Self, Error> {
        let description = handle.description();
        let staged = prepared.weight_inputs.iter().map(|w| &w.port);
        let all: Vec<&DevicePort> = prepared.inputs.iter().chain(staged).collect();
        let mut inputs = place(programs, &all, &description.inputs, scheme)?;
        let weights = inputs.split_off(prepared.inputs.len());
        let outputs: Vec<&DevicePort> = prepared.outputs.iter().collect();
        let outputs = place(programs, &outputs, &description.outputs, scheme)?;
        let read: Vec<_> = inputs.iter().chain(&weights).map(Placed::binding).collect();
        let written: Vec<_> = outputs.iter().map(Placed::binding).collect();
        let request = programs.again(|| programs.framework.request(&read, &written));
        let request = request.map_err(|e| {
            Error::of_call(ErrorKind::Binding, "memory cannot be bound to the program", e)
        })?;
        Ok(Self { inputs, weights, outputs, request })
    }
}

impl<F: Framework> Placed<F> {
    fn binding(&self) -> Binding<'_, F::Surface> {
        Binding { index: self.index, surface: &self.surface }
    }
}

/// Memory for every port, with its number and rows.
fn place<F: Framework>(
    programs: &Programs<F>,
    ports: &[&DevicePort],
    symbols: &[Symbol],
    scheme: Scheme,
) -> Result<Vec<Placed<F>>, Error> {
    let mut names: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    let mut placed = Vec::with_capacity(ports.len());
    for (position, port) in ports.iter().enumerate() {
        let symbol = symbols.iter().find(|s| s.name == port.name);
        let missing = |what: &str| {
            let message = format!("the compiled program does not say {what} of `{}`", port.name);
            Error::new(ErrorKind::Binding, message)
        };
        let index = match scheme.order {
            Order::Reported => symbol.ok_or_else(|| missing("the number"))?.index,
            Order::Alphabetical => names.binary_search(&port.name.as_str()).unwrap_or(position),
            Order::Written => position,
        };
        let rows = match scheme.rows {
            Rows::Reported => {
                let layout = symbol.and_then(|s| s.layout).ok_or_else(|| missing("the layout"))?;
                layout.rows(&port.shape, port.dtype.size_bytes())
            }
            Rows::Padded => padded(port),
            Rows::Packed => packed(port),
        };
        let rows = rows.map_err(|e| {
            let message = format!("the memory of `{}` is not understood: {e}", port.name);
            Error::new(ErrorKind::Binding, message)
        })?;
        let surface = programs.surface(rows.size_bytes())?;
        placed.push(Placed { rows, surface, index });
    }
    Ok(placed)
}

/// Rows at multiples of 64 bytes.
fn padded(port: &DevicePort) -> Result<RowLayout, String> {
    let layout = SurfaceLayout::of(port.dtype, &port.shape)
        .ok_or_else(|| format!("{:?} does not fit memory", port.shape))?;
    let size = port.dtype.size_bytes();
    let outer = port.shape.len().saturating_sub(1);
    let strides: Vec<usize> = layout.strides[..outer].iter().map(|s| s * size).collect();
    RowLayout::new(&port.shape, size, &strides, layout.size_bytes)
}

/// Rows side by side.
fn packed(port: &DevicePort) -> Result<RowLayout, String> {
    let size = port.dtype.size_bytes();
    let strides = orion_tensor::row_major_strides(&port.shape);
    let outer = port.shape.len().saturating_sub(1);
    let strides: Vec<usize> = strides[..outer].iter().map(|s| s * size).collect();
    RowLayout::new(&port.shape, size, &strides, (element_count(&port.shape) * size).max(64))
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

    /// Weights that are inputs are written there. Others change as the weight mode says; the
    /// program goes on with the old ones when that fails.
    fn update_weights(&mut self, weights: &Weights) -> Result<(), runtime::Error> {
        let failed = |e: Error| e.for_device(&self.device);
        let tensors = weight_tensors(&self.prepared, weights).map_err(failed)?;
        if self.prepared.has_baked_weights() {
            self.replace(weights).map_err(|e| e.for_device(&self.device))?;
        }
        self.stage(&tensors).map_err(|e| e.for_device(&self.device))
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
        if let Some(ns) = self.hardware_ns {
            writeln!(text, "  the engine worked {ns} ns in the last run").expect("a string");
        }
        text
    }
}
