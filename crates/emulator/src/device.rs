use crate::accumulator::Events;
use crate::bytes::{InBytes, byte_convolutions};
use crate::compute::{Engine, compute, convolve_bytes, known};
use orion_device::{Chip, Finding, Generation, Os, Route, Severity, SurfaceLayout, Target, lint};
use orion_mil::evaluate::evaluate;
use orion_mil::typed::analyze;
use orion_mil::{
    Diagnostic, Function, Op, Operation, Program, TensorType, ValueId, Weights, fold, runnable,
    verify,
};
use orion_runtime::{
    Bindings, Bound, Device, Error, ErrorKind, Executable, NumericEvents, Port, PortKind, Signature,
};
use orion_tensor::{DType, Tensor};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The device `ane-model:CHIP`.
///
/// As `ane-model:m4` it takes whole programs and refuses what the engine's compiler refuses; its
/// surfaces are those of compiled models, rows of 64 bytes in the order of names. As
/// `ane-model:m4:core-ml` operations that the engine does not take are computed by their
/// definition, as Core ML would on the CPU; `explain` says which.
pub struct AneModel {
    name: String,
    target: Target,
    surfaces: Surfaces,
    /// Whether operations that the engine refuses are computed beside it, on the host.
    has_host_part: bool,
    /// Programs that are compiled and not dropped.
    live: Arc<AtomicUsize>,
}

/// The rule about types of inputs and outputs.
const PORT_TYPE: &str = "ANE022";

/// What memory programs are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surfaces {
    /// Row-major without gaps, in the order of the program: somebody else moves them.
    Dense,
    /// As the compiled model has them.
    Hardware,
}

impl AneModel {
    /// The model of a chip under the newest system that is known.
    pub fn new(chip: Chip, route: Route) -> Self {
        let (suffix, surfaces) = match route {
            Route::CoreMl => (":core-ml", Surfaces::Dense),
            Route::Direct => ("", Surfaces::Hardware),
        };
        let name = format!("ane-model:{}{suffix}", chip.id());
        let target = Target { chip, os: Os::V27, route };
        Self { name, target, surfaces, has_host_part: false, live: Arc::default() }
    }

    /// The same with what the engine refuses computed by a host beside it: whole numbers, lookups
    /// and slices at computed places. Programs of models have those. `explain` says which.
    pub fn with_host_part(chip: Chip) -> Self {
        Self { has_host_part: true, ..Self::new(chip, Route::Direct).with_dense_surfaces() }
    }

    /// The same bound to dense memory, in the order of the program: for a host that moves rows
    /// itself.
    pub fn with_dense_surfaces(self) -> Self {
        Self { surfaces: Surfaces::Dense, ..self }
    }

    /// From a device's name, such as `ane-model:m4` or `ane-model:m4-pro:core-ml`.
    ///
    /// # Errors
    /// When there is no such chip or way, with those there are.
    pub fn from_name(name: &str) -> Result<Self, String> {
        let rest = name.strip_prefix("ane-model:").unwrap_or("");
        let (chip, route) = match rest.split_once(':') {
            None => (rest, Route::Direct),
            Some((chip, "core-ml")) => (chip, Route::CoreMl),
            Some((_, other)) => return Err(format!("`{other}` is not `core-ml`")),
        };
        Ok(Self::new(chip.parse()?, route))
    }

    fn refusal(&self, findings: &[&Finding]) -> Error {
        let diagnostics = findings
            .iter()
            .map(|f| Diagnostic {
                function: f.function.clone(),
                place: f.place.clone(),
                message: format!(
                    "InvalidMILProgram: {} ({}: {}). {}",
                    f.message, f.rule.code, f.rule.title, f.rule.fix
                ),
            })
            .collect();
        Error::with_diagnostics(ErrorKind::Unsupported, &self.name, diagnostics)
    }

    /// Whether a host beside the engine does what a finding is about: an operation that is not
    /// supported, or an input of a type that the engine does not take.
    fn is_host_s(&self, finding: &Finding) -> bool {
        let of_operation = finding.rule.about_support && finding.value.is_some();
        self.has_host_part && (of_operation || finding.rule.code == PORT_TYPE)
    }

    /// Which operations do not run on the engine, by the first value they define.
    fn elsewhere(&self, function: &Function, findings: &[Finding]) -> Vec<bool> {
        let is_off = |f: &&Finding| {
            f.severity == Severity::FallsBack
                || (f.severity == Severity::Refused && f.is_failure() && self.is_host_s(f))
        };
        let off: HashSet<&str> =
            findings.iter().filter(is_off).filter_map(|f| f.value.as_deref()).collect();
        let is_off = |o: &Operation| {
            o.outputs.first().is_some_and(|&v| off.contains(function.value_name(v)))
        };
        function.body.operations.iter().map(is_off).collect()
    }

    /// Counts a program, unless there are too many.
    fn admit(&self) -> Result<Live, Error> {
        let most = self.target.chip.parameters().live_programs;
        let live = Live(self.live.clone());
        if live.0.fetch_add(1, Ordering::Relaxed) >= most {
            // Dropping `live` takes it off again.
            let message = format!(
                "_ANECompiler : ANECCompile() FAILED err=(CompilationFailure): {most} programs are \
                 loaded already (ANE079)"
            );
            return Err(Error::new(ErrorKind::Unsupported, &self.name, message));
        }
        Ok(live)
    }
}

/// One program that is loaded.
struct Live(Arc<AtomicUsize>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Device for AneModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        let rest = match self.target.route {
            Route::Direct if self.has_host_part => "what its compiler refuses runs on the CPU",
            Route::Direct => "refuses what its compiler refuses",
            Route::CoreMl => "the rest as Core ML would on the CPU",
        };
        format!("model of the {}'s Neural Engine: its numerics; {rest}", self.target.chip)
    }

    /// # Errors
    /// What a rule of severity `refused` sees is [`ErrorKind::Unsupported`], with the rule; so is
    /// a program beyond the number that can be loaded.
    fn compile(&self, program: &Program, weights: &Weights) -> Result<Box<dyn Executable>, Error> {
        let invalid = |diagnostics| {
            Error::with_diagnostics(ErrorKind::InvalidProgram, &self.name, diagnostics)
        };
        let problems = verify(program);
        if !problems.is_empty() {
            return Err(invalid(problems));
        }
        let findings = lint(program, Some(weights), &self.target);
        let refused = findings.iter().filter(|f| f.severity == Severity::Refused && f.is_failure());
        let refused: Vec<&Finding> = refused.filter(|f| !self.is_host_s(f)).collect();
        if !refused.is_empty() {
            return Err(self.refusal(&refused));
        }
        let main = program.main().ok_or_else(|| {
            Error::new(ErrorKind::InvalidProgram, &self.name, "no function `main`")
        })?;
        let function = runnable(main);
        let ops = analyze(&function)
            .map_err(|d| Error::with_diagnostics(ErrorKind::Unsupported, &self.name, d))?;
        let mut signature = Signature::dense(&function, &self.name)?;
        if self.surfaces == Surfaces::Hardware {
            as_hardware(&mut signature);
        }
        let elsewhere = self.elsewhere(&function, &findings);
        let mut program = Emulated {
            name: self.name.clone(),
            engine: Engine {
                is_m1: self.target.chip.generation == Generation::M1,
                reads_masks: self.target.route == Route::CoreMl,
            },
            in_bytes: byte_convolutions(&ops, &function, self.target.chip),
            output_types: types(&function, &self.name)?,
            events: vec![Events::default(); ops.len()],
            distances: Vec::new(),
            params: function
                .params
                .iter()
                .map(|p| (function.value_name(p.value).to_owned(), p.value))
                .collect(),
            signature,
            ops,
            elsewhere,
            constants: Vec::new(),
            _live: self.admit()?,
            function,
        };
        program.update_weights(weights)?;
        Ok(Box::new(program))
    }
}

/// The layouts of a compiled model, inputs and outputs each in the order of their names.
fn as_hardware(signature: &mut Signature) {
    signature.ports.sort_by(|a, b| {
        let is_output = |port: &Port| port.kind == PortKind::Output;
        (is_output(a), &a.name).cmp(&(is_output(b), &b.name))
    });
    for Port { layout, .. } in &mut signature.ports {
        if let Some(surface) = SurfaceLayout::of(layout.dtype, &layout.shape) {
            (layout.strides, layout.size_bytes) = (surface.strides, surface.size_bytes);
        }
    }
}

fn types(function: &Function, device: &str) -> Result<Vec<Vec<TensorType>>, Error> {
    let of = |operation: &Operation| -> Result<Vec<TensorType>, Error> {
        if operation.const_value().is_some() {
            return Ok(Vec::new());
        }
        let each = operation.outputs.iter().map(|&v| {
            known(function.ty(v)).ok_or_else(|| {
                let message = format!("the size of `{}` is not known", function.value_name(v));
                Error::new(ErrorKind::Unsupported, device, message)
            })
        });
        each.collect()
    };
    function.body.operations.iter().map(of).collect()
}

/// An operation by its definition, floats as f32. Operands are those in f32, or what the engine got
/// where there are none: inputs and constants.
fn in_f32(
    op: &Op,
    given: &[Tensor],
    exact: &[Option<Tensor>],
    types: &[TensorType],
) -> Result<Vec<Tensor>, String> {
    let wide = |tensor: &Tensor| match tensor.dtype() {
        d if d.is_float() => Tensor::from_slice(tensor.shape(), &tensor.to_f32_vec()),
        _ => tensor.clone(),
    };
    let operands = op.operands().into_iter().zip(given);
    let operands = operands.map(|(v, given)| match &exact[v.index()] {
        Some(exact) => exact.clone(),
        None => wide(given),
    });
    let types = types.iter().map(|t| match t.dtype {
        d if d.is_float() => TensorType { dtype: DType::F32, ..t.clone() },
        _ => t.clone(),
    });
    evaluate(op, &operands.collect::<Vec<_>>(), &types.collect::<Vec<_>>())
}

/// How far numbers are from those in f32.
#[derive(Debug, Clone, Copy)]
struct Distance {
    /// The largest difference.
    most: f64,
    /// The root mean square of differences over that of the numbers in f32.
    relative: f64,
}

impl Distance {
    fn between(actual: &Tensor, exact: &Tensor) -> Self {
        let (actual, exact) = (actual.to_f64_vec(), exact.to_f64_vec());
        let (mut most, mut squares, mut size) = (0.0f64, 0.0, 0.0);
        for (a, e) in actual.iter().zip(&exact) {
            // Where both are the same infinity there is no difference.
            let difference = if a == e { 0.0 } else { (a - e).abs() };
            most = if difference.is_nan() { f64::INFINITY } else { most.max(difference) };
            squares += difference * difference;
            size += e * e;
        }
        let relative = if squares == 0.0 { 0.0 } else { (squares / size).sqrt() };
        Self { most, relative }
    }
}

struct Emulated {
    name: String,
    function: Function,
    ops: Vec<Op>,
    signature: Signature,
    params: HashMap<String, ValueId>,
    output_types: Vec<Vec<TensorType>>,
    constants: Vec<(ValueId, Tensor)>,
    /// Whether an operation is not the engine's.
    elsewhere: Vec<bool>,
    /// Of the last run, by operation.
    events: Vec<Events>,
    /// How far results of the last run that was reported are from those in f32, by operation.
    distances: Vec<Option<Distance>>,
    engine: Engine,
    /// Convolutions whose operands are both bytes, by operation.
    in_bytes: Vec<Option<InBytes>>,
    _live: Live,
}

impl Emulated {
    /// Computes all values; beside them, where there is a place for them, those in f32.
    fn interpret(
        &mut self,
        values: &mut [Option<Tensor>],
        mut exact: Option<&mut Vec<Option<Tensor>>>,
    ) -> Result<(), Diagnostic> {
        self.distances = vec![None; if exact.is_some() { self.ops.len() } else { 0 }];
        for (id, tensor) in &self.constants {
            values[id.index()] = Some(tensor.clone());
        }
        for (i, (op, operation)) in self.ops.iter().zip(&self.function.body.operations).enumerate()
        {
            self.events[i] = Events::default();
            let value =
                |v: ValueId| values[v.index()].clone().expect("values are computed in order");
            match op {
                Op::Const(_) => {}
                Op::Constexpr(_) if values[operation.outputs[0].index()].is_some() => {}
                Op::ReadState { state } => {
                    values[operation.outputs[0].index()] = Some(value(*state));
                }
                Op::WriteState { state, data } => {
                    values[state.index()] = Some(value(*data));
                }
                _ => {
                    let operands: Vec<Tensor> = op.operands().into_iter().map(value).collect();
                    let types = &self.output_types[i];
                    let computed = if let Some(bytes) = &self.in_bytes[i] {
                        let given = bytes.operands(values);
                        convolve_bytes(op, &given.convolution(&operands), &types[0])
                    } else if self.elsewhere[i] {
                        evaluate(op, &operands, types).map(|r| (r, Events::default()))
                    } else {
                        compute(op, &operands, types, self.engine)
                    };
                    let (results, events) =
                        computed.map_err(|message| self.diagnostic(operation, message))?;
                    self.events[i] = events;
                    if let Some(exact) = exact.as_deref_mut() {
                        let computed = in_f32(op, &operands, exact, types);
                        let wide = computed.map_err(|m| self.diagnostic(operation, m))?;
                        if wide[0].dtype().is_float() {
                            self.distances[i] = Some(Distance::between(&results[0], &wide[0]));
                        }
                        for (output, result) in operation.outputs.iter().zip(wide) {
                            exact[output.index()] = Some(result);
                        }
                    }
                    for (output, result) in operation.outputs.iter().zip(results) {
                        values[output.index()] = Some(result);
                    }
                }
            }
        }
        Ok(())
    }

    fn run_with(&mut self, bindings: &mut Bindings<'_>, reported: bool) -> Result<(), Error> {
        let signature = self.signature.clone();
        let surfaces = bindings.in_order(&signature, &self.name).map_err(|e| {
            if e.kind() != ErrorKind::Binding {
                return e;
            }
            let status = "ANEProgramProcessRequestDirect() Failed with status=0x1d";
            let reasons: Vec<String> = e.diagnostics().iter().map(ToString::to_string).collect();
            let message = format!("{status}: {} (ANE026)", reasons.join("; "));
            Error::new(ErrorKind::Binding, &self.name, message)
        })?;
        let mut values = vec![None; self.function.values.len()];
        for (port, bound) in signature.ports.iter().zip(&surfaces) {
            if let Some(&param) = self.params.get(&port.name) {
                values[param.index()] = Some(bound.surface().to_tensor());
            }
        }
        let mut exact = reported.then(|| vec![None; values.len()]);
        self.interpret(&mut values, exact.as_mut()).map_err(|diagnostic| {
            Error::with_diagnostics(ErrorKind::Execution, &self.name, vec![diagnostic])
        })?;
        for (port, bound) in signature.ports.iter().zip(surfaces) {
            if let (Some(value), Bound::Write(surface)) = (self.written_value(port), bound) {
                let tensor = values[value.index()].as_ref().expect("results are computed");
                surface.store(tensor);
            }
        }
        Ok(())
    }

    fn diagnostic(&self, operation: &Operation, message: String) -> Diagnostic {
        Diagnostic { function: self.function.name.clone(), place: self.place(operation), message }
    }

    fn place(&self, operation: &Operation) -> String {
        let outputs: Vec<&str> =
            operation.outputs.iter().map(|&v| self.function.value_name(v)).collect();
        format!("{} -> {}", operation.name, outputs.join(", "))
    }

    /// The value that ends up in the surface of a port.
    fn written_value(&self, port: &Port) -> Option<ValueId> {
        let is = |name: &str, v: &ValueId| self.function.value_name(*v) == name;
        let mut results = self.function.body.results.iter().copied();
        match &port.kind {
            PortKind::Input => None,
            PortKind::Output => results.find(|v| is(&port.name, v)),
            PortKind::Update { output: Some(output) } => results.find(|v| is(output, v)),
            PortKind::Update { output: None } => {
                self.function.params.iter().map(|p| p.value).find(|v| is(&port.name, v))
            }
        }
    }
}

impl Executable for Emulated {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// # Errors
    /// Surfaces of another size are refused with the engine's status 0x1d.
    fn run(&mut self, bindings: &mut Bindings<'_>) -> Result<(), Error> {
        self.run_with(bindings, false)
    }

    fn run_reported(&mut self, bindings: &mut Bindings<'_>) -> Result<String, Error> {
        self.run_with(bindings, true)?;
        Ok(self.explain())
    }

    fn update_weights(&mut self, weights: &Weights) -> Result<(), Error> {
        self.constants =
            fold::constants(&self.function, &self.ops, weights).map_err(|problems| {
                let problems = problems
                    .into_iter()
                    .map(|(i, message)| self.diagnostic(&self.function.body.operations[i], message))
                    .collect();
                Error::with_diagnostics(ErrorKind::Weights, &self.name, problems)
            })?;
        Ok(())
    }

    fn numeric_events(&self) -> NumericEvents {
        let mut sum = NumericEvents::default();
        for &Events { overflowed, products, dropped, flushed } in &self.events {
            sum.add(NumericEvents { overflowed, flushed, products, dropped });
        }
        sum
    }

    /// The operations, where they run, and what the last run did to numbers.
    fn explain(&self) -> String {
        let mut text = format!("{}:\n", self.name);
        for (i, operation) in self.function.body.operations.iter().enumerate() {
            if operation.const_value().is_some() {
                continue;
            }
            let unit = if self.elsewhere[i] { "cpu" } else { "ane" };
            let Events { overflowed, dropped, flushed, .. } = self.events[i];
            write!(text, "  {unit} {}", self.place(operation)).expect("writing to a string");
            for (count, what) in [
                (overflowed, "sums became infinite"),
                (dropped, "products dropped"),
                (flushed, "results became zero"),
            ] {
                if count > 0 {
                    write!(text, "; {count} {what}").expect("writing to a string");
                }
            }
            if let Some(Some(Distance { most, relative })) = self.distances.get(i) {
                let percent = 100.0 * relative;
                write!(text, "; at most {most:.2e} from f32, {percent:.3} % of its size")
                    .expect("writing to a string");
            }
            text.push('\n');
        }
        text
    }
}
