//! The device `cpu`: compiles a program to a plan, and runs plans.
#![expect(unsafe_code, reason = "computes pointers into the arena and into bound surfaces")]

use crate::interpreted::{Interpreted, main_function};
use crate::kernels::Pointers;
use crate::kernels::gemm::{Lent, Workspace};
use crate::kernels::isa::Isa;
use crate::plan::{Home, Plan, plan};
use crate::pool::Pool;
use crate::precision::Precision;
use crate::steps::Context;
use orion_mil::typed::{analyze, is_static};
use orion_mil::{Diagnostic, Function, Program, Weights};
use orion_runtime::{
    Bindings, Bound, Device, Error, ErrorKind, Executable, PortKind, Signature, StepInfo,
};
use orion_tensor::{AlignedBytes, Bytes, Tensor};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

const NAME: &str = "cpu";

/// How the device works.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CpuOptions {
    /// Threads, the caller's included; `None` for as many as the machine runs at once.
    pub threads: Option<usize>,
    /// What the operands of matrix products are rounded to.
    pub precision: Precision,
}

impl CpuOptions {
    /// With that many threads.
    pub fn with_threads(threads: usize) -> Self {
        Self { threads: Some(threads), ..Self::default() }
    }

    /// The same, with matrix products in that precision.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }
}

/// The device `cpu`: any program on any processor, as fast as it can.
///
/// Results are the same, bit for bit, from run to run; with another number of threads or another
/// instruction set they may differ within the named tolerances.
pub struct Cpu {
    isa: Isa,
    pool: Arc<Pool>,
    precision: Precision,
}

impl Cpu {
    /// A device with threads of its own.
    pub fn new(options: CpuOptions) -> Self {
        let all = || thread::available_parallelism().map_or(1, usize::from);
        let threads = options.threads.unwrap_or_else(all);
        let CpuOptions { precision, .. } = options;
        Self { isa: Isa::detect(), pool: Arc::new(Pool::new(threads)), precision }
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new(CpuOptions::default())
    }
}

impl Device for Cpu {
    fn name(&self) -> &str {
        NAME
    }

    fn description(&self) -> String {
        let products = match self.precision {
            Precision::F32 => "sums in f32",
            Precision::Bf16 => "products of bf16, sums in f32",
        };
        format!("{} threads, {}; {products}", self.pool.threads(), self.isa.name())
    }

    fn compile(&self, program: &Program, weights: &Weights) -> Result<Box<dyn Executable>, Error> {
        let function = main_function(program, NAME)?;
        if !is_static(&function) {
            let program = Interpreted::new(&function, weights, self.precision, NAME)?;
            return Ok(Box::new(program));
        }
        let ops = analyze(&function)
            .map_err(|d| Error::with_diagnostics(ErrorKind::InvalidProgram, NAME, d))?;
        let signature = Signature::dense(&function, NAME)?;
        let plan =
            plan(&function, &ops, &signature, weights, self.precision).map_err(|problems| {
                let at = |(i, message)| at(&function, i, message);
                let problems = problems.into_iter().map(at).collect();
                Error::with_diagnostics(ErrorKind::Weights, NAME, problems)
            })?;
        Ok(Box::new(Planned::new(self, function.name, signature, plan)))
    }
}

/// A diagnostic about an operation of the body.
fn at(function: &Function, operation: usize, message: String) -> Diagnostic {
    let operation = &function.body.operations[operation];
    let outputs: Vec<&str> = operation.outputs.iter().map(|&v| function.value_name(v)).collect();
    let place = format!("{} -> {}", operation.name, outputs.join(", "));
    Diagnostic { function: function.name.clone(), place, message }
}

/// A plan with its memory.
struct Planned {
    isa: Isa,
    pool: Arc<Pool>,
    function: String,
    signature: Signature,
    plan: Plan,
    pointers: Pointers,
    arena: AlignedBytes,
    workspace: Workspace,
    /// `workspace.shared` floats, then `workspace.per_thread` for each thread.
    lent: AlignedBytes,
    /// Buffers that are surfaces, with their ports.
    surfaces: Vec<(usize, usize)>,
}

impl Planned {
    fn new(device: &Cpu, function: String, signature: Signature, plan: Plan) -> Self {
        let sizes = plan.steps.iter().map(|s| s.kind.workspace(device.isa, device.pool.threads()));
        let mut workspace = sizes.fold(Workspace::default(), Workspace::max);
        // Whole cache lines for each thread.
        workspace.shared = workspace.shared.next_multiple_of(16);
        workspace.per_thread = workspace.per_thread.next_multiple_of(16);
        let lanes = workspace.shared + device.pool.threads() * workspace.per_thread;
        let surfaces = plan.homes.iter().enumerate().filter_map(|(buffer, home)| match home {
            Home::Port(port) => Some((buffer, *port)),
            _ => None,
        });
        let mut this = Self {
            isa: device.isa,
            pool: device.pool.clone(),
            function,
            signature,
            pointers: Pointers::new(plan.homes.len()),
            arena: AlignedBytes::zeroed(plan.arena_bytes),
            workspace,
            lent: AlignedBytes::zeroed(lanes * 4),
            surfaces: surfaces.collect(),
            plan,
        };
        this.plan.constants.iter_mut().for_each(|c| c.tensor = aligned(&c.tensor));
        this.point();
        this
    }

    /// Computes the pointers that stay from run to run.
    fn point(&mut self) {
        for (buffer, home) in self.plan.homes.iter().enumerate() {
            match *home {
                Home::Arena(offset) => {
                    self.pointers.set(buffer, self.arena.as_mut_ptr().wrapping_add(offset));
                }
                Home::Constant(i) => {
                    let bytes = self.plan.constants[i].tensor.bytes();
                    self.pointers.set(buffer, bytes.as_ptr().cast_mut());
                }
                Home::Port(_) | Home::Window | Home::Nowhere => {}
            }
        }
    }

    /// Points the buffers that are surfaces at what is bound. False when something does not fit.
    fn bind(&mut self, bindings: &mut Bindings<'_>) -> Result<bool, Error> {
        if bindings.len() != self.signature.ports.len() {
            return Ok(false);
        }
        for &(buffer, port) in &self.surfaces {
            let port = &self.signature.ports[port];
            let pointer = match bindings.get_mut(&port.name) {
                Some(Bound::Read(surface)) => {
                    if port.kind != PortKind::Input || *surface.layout() != port.layout {
                        return Ok(false);
                    }
                    surface.ready_to_read()?;
                    surface.bytes().as_ptr().cast_mut()
                }
                Some(Bound::Write(surface)) => {
                    if port.kind == PortKind::Input || *surface.layout() != port.layout {
                        return Ok(false);
                    }
                    surface.ready_to_write()?;
                    surface.bytes_mut().as_mut_ptr()
                }
                None => return Ok(false),
            };
            self.pointers.set(buffer, pointer);
        }
        Ok(true)
    }

    /// Runs the steps, and calls `after` after each.
    fn run_steps(
        &mut self,
        bindings: &mut Bindings<'_>,
        mut after: impl FnMut(),
    ) -> Result<(), Error> {
        if !self.bind(bindings)? {
            bindings.in_order(&self.signature, NAME)?;
        }
        let shared = self.lent.as_mut_ptr().cast::<f32>();
        let lent = Lent {
            shared,
            // SAFETY: the workspace begins with the shared part.
            threads: unsafe { shared.add(self.workspace.shared) },
            per_thread: self.workspace.per_thread,
        };
        for step in &self.plan.steps {
            let placed = step.kind.place(&mut self.pointers);
            let context =
                Context { isa: self.isa, pool: &self.pool, pointers: &self.pointers, lent };
            placed.and_then(|()| step.kind.run(&context)).map_err(|message| {
                let (function, place) = (self.function.clone(), step.place.clone());
                let diagnostic = Diagnostic { function, place, message };
                Error::with_diagnostics(ErrorKind::Execution, NAME, vec![diagnostic])
            })?;
            after();
        }
        Ok(())
    }
}

/// A tensor whose elements are aligned in memory; shares storage when they already are.
fn aligned(tensor: &Tensor) -> Tensor {
    let size = tensor.dtype().size_bytes();
    if (tensor.bytes().as_ptr() as usize).is_multiple_of(size) {
        return tensor.clone();
    }
    let bytes = Bytes::new(AlignedBytes::copy_of(tensor.bytes()));
    Tensor::new(tensor.dtype(), tensor.shape().to_vec(), bytes).expect("the sizes agree")
}

impl Executable for Planned {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, bindings: &mut Bindings<'_>) -> Result<(), Error> {
        self.run_steps(bindings, || {})
    }

    fn run_timed(
        &mut self,
        bindings: &mut Bindings<'_>,
        seconds: &mut Vec<f64>,
    ) -> Result<(), Error> {
        seconds.clear();
        let mut last = Instant::now();
        self.run_steps(bindings, || {
            let now = Instant::now();
            seconds.push((now - last).as_secs_f64());
            last = now;
        })
    }

    fn steps(&self) -> Vec<StepInfo> {
        self.plan.steps.iter().map(crate::explain::info).collect()
    }

    fn update_weights(&mut self, weights: &Weights) -> Result<(), Error> {
        let mut tensors = Vec::new();
        let mut problems = Vec::new();
        for (i, constant) in self.plan.constants.iter().enumerate() {
            let Some(source) = &constant.source else { continue };
            match source.resolve(weights) {
                Ok(tensor) => tensors.push((i, aligned(&tensor))),
                Err(e) => problems.push(Diagnostic {
                    function: self.function.clone(),
                    place: String::new(),
                    message: e,
                }),
            }
        }
        if !problems.is_empty() {
            return Err(Error::with_diagnostics(ErrorKind::Weights, NAME, problems));
        }
        for (i, tensor) in tensors {
            self.plan.constants[i].tensor = tensor;
        }
        self.point();
        Ok(())
    }

    fn explain(&self) -> String {
        crate::explain::explain(&self.plan, &self.signature, self.workspace, self.pool.threads())
    }
}

// SAFETY: the pointers are into memory this value owns, or are set anew by every run.
unsafe impl Send for Planned {}
