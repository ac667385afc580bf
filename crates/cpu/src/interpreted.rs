//! Programs with branches, loops, lists or sizes that depend on numbers: one operation after
//! another, each given its meaning when it is reached.

use crate::Precision;
use orion_mil::{Diagnostic, Function, Interpreter, Program, ValueId, Weights, runnable, verify};
use orion_runtime::{Bindings, Bound, Error, ErrorKind, Executable, PortKind, Signature};
use orion_tensor::Tensor;

/// The function that a device runs.
///
/// # Errors
/// When the program is not valid, or has no `main`.
pub(crate) fn main_function(program: &Program, device: &str) -> Result<Function, Error> {
    let problems = verify(program);
    if !problems.is_empty() {
        return Err(Error::with_diagnostics(ErrorKind::InvalidProgram, device, problems));
    }
    let main = program
        .main()
        .ok_or_else(|| Error::new(ErrorKind::InvalidProgram, device, "no function `main`"))?;
    Ok(runnable(main))
}

/// A program that is interpreted.
pub(crate) struct Interpreted {
    device: &'static str,
    function: String,
    interpreter: Interpreter,
    signature: Signature,
    /// For each port what is written to it.
    written: Vec<Option<Written>>,
    precision: Precision,
    operations: usize,
}

/// What ends up in a surface.
#[derive(Clone, Copy)]
enum Written {
    Result(usize),
    State(ValueId),
}

impl Interpreted {
    /// # Errors
    /// Operations that cannot be computed, constants that are missing, and inputs or outputs whose
    /// sizes are not known.
    pub(crate) fn new(
        function: &Function,
        weights: &Weights,
        precision: Precision,
        device: &'static str,
    ) -> Result<Self, Error> {
        let refused = |d| Error::with_diagnostics(ErrorKind::Unsupported, device, d);
        let signature = Signature::dense(function, device)
            .map_err(|e| Error::new(ErrorKind::Unsupported, device, format!("{e}; {SIZES}")))?;
        let interpreter = Interpreter::new(function, weights).map_err(refused)?;
        let result = |name: &str| {
            let results = &function.body.results;
            results.iter().position(|&v| function.value_name(v) == name).map(Written::Result)
        };
        let state = |name: &str| {
            let mut params = function.params.iter().map(|p| p.value);
            params.find(|&v| function.value_name(v) == name).map(Written::State)
        };
        let written = signature.ports.iter().map(|port| match &port.kind {
            PortKind::Input => None,
            PortKind::Output => result(&port.name),
            PortKind::Update { output: Some(output) } => result(output),
            PortKind::Update { output: None } => state(&port.name),
        });
        let written = written.collect();
        let operations = function.body.operations.len();
        let function = function.name.clone();
        Ok(Self { device, function, interpreter, signature, written, precision, operations })
    }
}

/// The way out for programs with open sizes.
const SIZES: &str = "sizes are chosen before a program is compiled (`orion_mil::specialize`)";

impl Executable for Interpreted {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, bindings: &mut Bindings<'_>) -> Result<(), Error> {
        let surfaces = bindings.in_order(&self.signature, self.device)?;
        let is_parameter = |kind: &PortKind| *kind != PortKind::Output;
        let ports = self.signature.ports.iter().zip(&surfaces);
        let inputs: Vec<Tensor> = ports
            .filter(|(port, _)| is_parameter(&port.kind))
            .map(|(_, bound)| bound.surface().to_tensor())
            .collect();
        let precision = self.precision;
        let mut round = |op: &orion_mil::Op, operands: &mut [Tensor]| {
            precision.round_operands(op, operands);
        };
        let failed = |d| Error::with_diagnostics(ErrorKind::Execution, self.device, vec![d]);
        let outcome = self.interpreter.run(inputs, &mut round).map_err(failed)?;
        for ((port, written), bound) in self.signature.ports.iter().zip(&self.written).zip(surfaces)
        {
            let (Some(written), Bound::Write(surface)) = (written, bound) else { continue };
            let tensor = match *written {
                Written::Result(i) => &outcome.results[i],
                Written::State(id) => {
                    let state = outcome.states.iter().find(|(state, _)| *state == id);
                    &state.expect("every state comes back").1
                }
            };
            if tensor.dtype() != port.layout.dtype || tensor.shape() != port.layout.shape {
                return Err(failed(Diagnostic {
                    function: self.function.clone(),
                    place: "the results".to_owned(),
                    message: format!(
                        "`{}` came out as {}{:?}, it is declared {}{:?}",
                        port.name,
                        tensor.dtype(),
                        tensor.shape(),
                        port.layout.dtype,
                        port.layout.shape
                    ),
                }));
            }
            surface.bytes_mut().copy_from_slice(tensor.bytes());
        }
        Ok(())
    }

    fn update_weights(&mut self, weights: &Weights) -> Result<(), Error> {
        self.interpreter
            .update_weights(weights)
            .map_err(|d| Error::with_diagnostics(ErrorKind::Weights, self.device, d))
    }

    fn explain(&self) -> String {
        format!(
            "{}: {} operations, each given its meaning when it is reached, because the program \
             branches, loops, or has sizes that are computed\n",
            self.device, self.operations
        )
    }
}
