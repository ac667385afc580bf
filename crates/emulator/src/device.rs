use crate::accumulator::Events;
use crate::bytes::{InBytes, byte_convolutions};
use crate::compute::{Engine, compute, convolve_bytes, known};
use orion_device::{Chip, Finding, Generation, Os, Route, Severity, Target, lint};
use orion_mil::evaluate::evaluate;
use orion_mil::typed::analyze;
use orion_mil::{
    Diagnostic, Function, Op, Operation, Program, TensorType, ValueId, Weights, fold,
    hoist_literals, verify,
};
use orion_runtime::{
    Bindings, Bound, Device, Error, ErrorKind, Executable, NumericEvents, Port, PortKind,
    Signature, Surface,
};
use orion_tensor::Tensor;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The device `ane-model:CHIP`.
///
/// As `ane-model:m4` it takes whole programs and refuses what the engine's compiler refuses. As
/// `ane-model:m4:core-ml` operations that the engine does not take are computed by their
/// definition, as Core ML would on the CPU; `explain` says which.
pub struct AneModel {
    name: String,
    target: Target,
    /// Programs that are compiled and not dropped.
    live: Arc<AtomicUsize>,
}

impl AneModel {
    /// The model of a chip under the newest system that is known.
    pub fn new(chip: Chip, route: Route) -> Self {
        let suffix = if route == Route::CoreMl { ":core-ml" } else { "" };
        let name = format!("ane-model:{}{suffix}", chip.id());
        Self { name, target: Target { chip, os: Os::V27, route }, live: Arc::default() }
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
        let refused: Vec<&Finding> =
            findings.iter().filter(|f| f.severity == Severity::Refused && f.is_failure()).collect();
        if !refused.is_empty() {
            return Err(self.refusal(&refused));
        }
        let main = program.main().ok_or_else(|| {
            Error::new(ErrorKind::InvalidProgram, &self.name, "no function `main`")
        })?;
        let function = hoist_literals(main);
        let ops = analyze(&function)
            .map_err(|d| Error::with_diagnostics(ErrorKind::Unsupported, &self.name, d))?;
        let signature = Signature::dense(&function, &self.name)?;
        let elsewhere = elsewhere(&function, &findings);
        let mut program = Emulated {
            name: self.name.clone(),
            engine: Engine {
                is_m1: self.target.chip.generation == Generation::M1,
                reads_masks: self.target.route == Route::CoreMl,
            },
            in_bytes: byte_convolutions(&ops, &function, self.target.chip),
            output_types: types(&function, &self.name)?,
            events: vec![Events::default(); ops.len()],
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

/// Which operations Core ML runs elsewhere, by the first value they define.
fn elsewhere(function: &Function, findings: &[Finding]) -> Vec<bool> {
    let off: Vec<&str> = findings
        .iter()
        .filter(|f| f.severity == Severity::FallsBack)
        .filter_map(|f| f.value.as_deref())
        .collect();
    let is_off =
        |o: &Operation| o.outputs.first().is_some_and(|&v| off.contains(&function.value_name(v)));
    function.body.operations.iter().map(is_off).collect()
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

struct Emulated {
    name: String,
    function: Function,
    ops: Vec<Op>,
    signature: Signature,
    output_types: Vec<Vec<TensorType>>,
    constants: Vec<(ValueId, Tensor)>,
    /// Whether an operation is not the engine's.
    elsewhere: Vec<bool>,
    /// Of the last run, by operation.
    events: Vec<Events>,
    engine: Engine,
    /// Convolutions whose operands are both bytes, by operation.
    in_bytes: Vec<Option<InBytes>>,
    _live: Live,
}

impl Emulated {
    fn interpret(&mut self, values: &mut [Option<Tensor>]) -> Result<(), Diagnostic> {
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
                    for (output, result) in operation.outputs.iter().zip(results) {
                        values[output.index()] = Some(result);
                    }
                }
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
        let signature = self.signature.clone();
        let surfaces = bindings.in_order(&signature, &self.name).map_err(|e| {
            let status = "ANEProgramProcessRequestDirect() Failed with status=0x1d";
            let reasons: Vec<String> = e.diagnostics().iter().map(ToString::to_string).collect();
            let message = format!("{status}: {} (ANE026)", reasons.join("; "));
            Error::new(ErrorKind::Binding, &self.name, message)
        })?;
        let mut values = vec![None; self.function.values.len()];
        for (param, bound) in self.function.params.iter().zip(&surfaces) {
            let surface: &Surface = match &**bound {
                Bound::Read(surface) => surface,
                Bound::Write(surface) => surface,
            };
            values[param.value.index()] = Some(surface.to_tensor());
        }
        self.interpret(&mut values).map_err(|diagnostic| {
            Error::with_diagnostics(ErrorKind::Execution, &self.name, vec![diagnostic])
        })?;
        for (port, bound) in signature.ports.iter().zip(surfaces) {
            if let (Some(value), Bound::Write(surface)) = (self.written_value(port), bound) {
                let tensor = values[value.index()].as_ref().expect("results are computed");
                surface.bytes_mut().copy_from_slice(tensor.bytes());
            }
        }
        Ok(())
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
        for &Events { overflowed, flushed, .. } in &self.events {
            sum.add(NumericEvents { overflowed, flushed });
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
            let Events { overflowed, dropped, flushed } = self.events[i];
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
            text.push('\n');
        }
        text
    }
}
