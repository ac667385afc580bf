//! The naive interpreter: one op after another, each by its definition in [`orion_mil::evaluate`].
//!
//! No planning, no threads, no sharing of memory between values. It is what other executors are
//! compared with, so it has nothing in it that would have to be compared with something else.

use crate::Precision;
use crate::interpreted::{Interpreted, main_function};
use orion_mil::evaluate::evaluate;
use orion_mil::typed::{analyze, is_static};
use orion_mil::{
    Block, Diagnostic, Function, Op, Operation, Program, TensorType, ValueId, Weights, fold,
};
use orion_runtime::{Bindings, Bound, Device, Error, ErrorKind, Executable, PortKind, Signature};
use orion_tensor::Tensor;
use std::fmt::Write as _;

const NAME: &str = "cpu:reference";

/// The device `cpu:reference`: slow, and right by definition.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference;

impl Reference {
    /// The same with the operands of matrix products rounded first: what devices that compute
    /// products in that precision are compared with.
    pub fn with_precision(self, precision: Precision) -> RoundingReference {
        RoundingReference { precision }
    }
}

/// [`Reference`] with matrix products in a chosen precision.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundingReference {
    precision: Precision,
}

impl Device for Reference {
    fn name(&self) -> &str {
        NAME
    }

    fn description(&self) -> String {
        RoundingReference::default().description()
    }

    fn compile(&self, program: &Program, weights: &Weights) -> Result<Box<dyn Executable>, Error> {
        RoundingReference::default().compile(program, weights)
    }
}

impl Device for RoundingReference {
    fn name(&self) -> &str {
        NAME
    }

    fn description(&self) -> String {
        let products = match self.precision {
            Precision::F32 => "",
            Precision::Bf16 => "; products of bf16",
        };
        format!("naive interpreter on one core; sums in f64, the definition of every op{products}")
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
        let output_types = known_types(&function)?;
        let constants = resolve(&function, &ops, weights)?;
        let dead_after = last_uses(&function.body, &ops, function.values.len());
        let precision = self.precision;
        Ok(Box::new(Interpreter {
            function,
            ops,
            signature,
            output_types,
            constants,
            dead_after,
            precision,
        }))
    }
}

struct Interpreter {
    function: Function,
    /// What each operation of the body means.
    ops: Vec<Op>,
    signature: Signature,
    /// Of each operation's outputs; empty for constants, which may be strings.
    output_types: Vec<Vec<TensorType>>,
    constants: Vec<(ValueId, Tensor)>,
    /// The values that no operation after this one reads.
    dead_after: Vec<Vec<ValueId>>,
    precision: Precision,
}

/// A diagnostic about one operation.
fn at(function: &Function, operation: &Operation, message: impl Into<String>) -> Diagnostic {
    let outputs: Vec<&str> = operation.outputs.iter().map(|&v| function.value_name(v)).collect();
    let place = format!("{} -> {}", operation.name, outputs.join(", "));
    Diagnostic { function: function.name.clone(), place, message: message.into() }
}

/// The tensors of all numeric constants, unpacked ones too, and of no others.
fn resolve(
    function: &Function,
    ops: &[Op],
    weights: &Weights,
) -> Result<Vec<(ValueId, Tensor)>, Error> {
    fold::constants(function, ops, weights).map_err(|problems| {
        let problems = problems
            .into_iter()
            .map(|(i, message)| at(function, &function.body.operations[i], message))
            .collect();
        Error::with_diagnostics(ErrorKind::Weights, NAME, problems)
    })
}

fn known_types(function: &Function) -> Result<Vec<Vec<TensorType>>, Error> {
    let mut problems = Vec::new();
    let mut types_of = |operation: &Operation| {
        if operation.const_value().is_some() {
            return Vec::new();
        }
        let mut types = Vec::new();
        for &output in &operation.outputs {
            match function.ty(output).as_tensor() {
                Some(ty) if ty.shape().is_some() => types.push(ty.clone()),
                _ => {
                    let message = format!(
                        "the size of `{}`, {}, is not known before running",
                        function.value_name(output),
                        function.ty(output)
                    );
                    problems.push(at(function, operation, message));
                }
            }
        }
        types
    };
    let types = function.body.operations.iter().map(&mut types_of).collect();
    if problems.is_empty() {
        Ok(types)
    } else {
        Err(Error::with_diagnostics(ErrorKind::Unsupported, NAME, problems))
    }
}

fn last_uses(body: &Block, ops: &[Op], value_count: usize) -> Vec<Vec<ValueId>> {
    let mut used_later = vec![false; value_count];
    body.results.iter().for_each(|v| used_later[v.index()] = true);
    let mut dead_after = vec![Vec::new(); ops.len()];
    for (i, op) in ops.iter().enumerate().rev() {
        for value in op.operands().into_iter().chain(body.operations[i].outputs.iter().copied()) {
            if !std::mem::replace(&mut used_later[value.index()], true) {
                dead_after[i].push(value);
            }
        }
    }
    dead_after
}

impl Interpreter {
    /// Runs the operations over `values`, which hold parameters (for states: their content), and
    /// leaves results and states in it.
    fn interpret(&self, values: &mut [Option<Tensor>]) -> Result<(), Diagnostic> {
        for (id, tensor) in &self.constants {
            values[id.index()] = Some(tensor.clone());
        }
        for (i, (op, operation)) in self.ops.iter().zip(&self.function.body.operations).enumerate()
        {
            let mut operands = op.operands().into_iter().map(|v| {
                values[v.index()]
                    .clone()
                    .unwrap_or_else(|| panic!("`{}` has no value", self.function.value_name(v)))
            });
            match op {
                Op::Const(_) => {}
                // Unpacked when compiling.
                Op::Constexpr(_)
                    if operation.outputs.iter().all(|v| values[v.index()].is_some()) => {}
                Op::ReadState { .. } => {
                    values[operation.outputs[0].index()] = operands.next();
                }
                Op::WriteState { state, .. } => {
                    values[state.index()] = operands.nth(1);
                }
                _ => {
                    let mut operands: Vec<Tensor> = operands.collect();
                    self.precision.round_operands(op, &mut operands);
                    let results = evaluate(op, &operands, &self.output_types[i])
                        .map_err(|message| at(&self.function, operation, message))?;
                    for (output, result) in operation.outputs.iter().zip(results) {
                        values[output.index()] = Some(result);
                    }
                }
            }
            for value in &self.dead_after[i] {
                // States outlive the run.
                if self.function.params.iter().all(|p| p.value != *value) {
                    values[value.index()] = None;
                }
            }
        }
        Ok(())
    }

    /// The value that ends up in the surface of a port.
    fn written_value(&self, port: &orion_runtime::Port) -> Option<ValueId> {
        let mut params = self.function.params.iter().map(|p| p.value);
        let mut results = self.function.body.results.iter().copied();
        let is = |name: &str, v: ValueId| self.function.value_name(v) == name;
        let value = match &port.kind {
            PortKind::Input => return None,
            PortKind::Output => results.find(|&v| is(&port.name, v)),
            PortKind::Update { output: Some(output) } => results.find(|&v| is(output, v)),
            PortKind::Update { output: None } => params.find(|&v| is(&port.name, v)),
        };
        Some(value.expect("the signature names values"))
    }
}

impl Executable for Interpreter {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, bindings: &mut Bindings<'_>) -> Result<(), Error> {
        let surfaces = bindings.in_order(&self.signature, NAME)?;
        let mut values = vec![None; self.function.values.len()];
        // Ports begin with the parameters.
        for (param, bound) in self.function.params.iter().zip(&surfaces) {
            values[param.value.index()] = Some(bound.surface().to_tensor());
        }
        self.interpret(&mut values).map_err(|diagnostic| {
            Error::with_diagnostics(ErrorKind::Execution, NAME, vec![diagnostic])
        })?;
        for (port, bound) in self.signature.ports.iter().zip(surfaces) {
            if let (Some(value), Bound::Write(surface)) = (self.written_value(port), bound) {
                let tensor = values[value.index()].as_ref().expect("results are kept");
                surface.bytes_mut().copy_from_slice(tensor.bytes());
            }
        }
        Ok(())
    }

    fn update_weights(&mut self, weights: &Weights) -> Result<(), Error> {
        self.constants = resolve(&self.function, &self.ops, weights)?;
        Ok(())
    }

    fn explain(&self) -> String {
        let steps: Vec<&Operation> = self
            .function
            .body
            .operations
            .iter()
            .filter(|operation| operation.const_value().is_none())
            .collect();
        let constant_bytes: usize = self.constants.iter().map(|(_, t)| t.bytes().len()).sum();
        let mut text = format!(
            "{NAME}: {} operations one after another; {} constants of {constant_bytes} bytes; \
             every value has memory of its own until its last use\n",
            steps.len(),
            self.constants.len(),
        );
        for operation in steps {
            let outputs: Vec<String> = operation
                .outputs
                .iter()
                .map(|&v| format!("{}: {}", self.function.value_name(v), self.function.ty(v)))
                .collect();
            let operands: Vec<&str> =
                operation.operands().map(|v| self.function.value_name(v)).collect();
            let (name, outputs, operands) =
                (&operation.name, outputs.join(", "), operands.join(", "));
            writeln!(text, "  {name}({operands}) -> {outputs}").expect("writing to a string");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_mil::{Builder, WEIGHT_FILE};
    use orion_runtime::Surface;
    use orion_tensor::DType;

    fn floats(shape: &[usize]) -> TensorType {
        TensorType::new(DType::F32, shape)
    }

    fn compile(function: Function, weights: &Weights) -> Result<Box<dyn Executable>, Error> {
        Reference.compile(&Program::with_function(function), weights)
    }

    fn surface(values: &[f32]) -> Surface {
        Surface::from_slice(&[values.len()], values)
    }

    #[test]
    fn an_input_replaced_in_place_is_read_until_the_end() {
        let mut b = Builder::new("main");
        let x = b.input("x", floats(&[2]));
        let next = b.scale(x, 2.0);
        b.rename(next, "next");
        let sum = b.add(next, x);
        b.rename(sum, "sum");
        let mut function = b.finish(&[next, sum]);
        function.set_in_place([("next", "x")]);
        let mut executable = compile(function, &Weights::new()).unwrap();

        let (mut x, mut sum) = (surface(&[1.0, -3.0]), surface(&[0.0; 2]));
        for _ in 0..2 {
            let mut bindings = Bindings::new();
            bindings.update("x", &mut x).output("sum", &mut sum);
            executable.run(&mut bindings).unwrap();
        }
        assert_eq!(x.elements::<f32>(), [4.0, -12.0]);
        assert_eq!(sum.elements::<f32>(), [6.0, -18.0]);
    }

    #[test]
    fn states_are_read_and_written_in_program_order() {
        let mut b = Builder::new("main");
        let state = b.state("count", floats(&[1]));
        let before = b.push(&Op::ReadState { state });
        let data = b.offset(before, 1.0);
        b.push_all(&Op::WriteState { state, data }, 0);
        let after = b.push(&Op::ReadState { state });
        let both = b.concat(&[before, after], 0);
        b.rename(both, "both");
        let mut executable = compile(b.finish(&[both]), &Weights::new()).unwrap();

        let (mut count, mut both) = (surface(&[5.0]), surface(&[0.0; 2]));
        let mut bindings = Bindings::new();
        bindings.update("count", &mut count).output("both", &mut both);
        executable.run(&mut bindings).unwrap();
        assert_eq!(both.elements::<f32>(), [5.0, 6.0]);
        assert_eq!(count.elements::<f32>(), [6.0]);
    }

    fn weighted() -> (Function, Weights) {
        let mut weights = Weights::new();
        let offset = weights.append(WEIGHT_FILE, Tensor::from_slice(&[2], &[10f32, 20.0]));
        let mut b = Builder::new("main");
        let x = b.input("x", floats(&[2]));
        let w = b.blob("w", floats(&[2]), WEIGHT_FILE, offset);
        let y = b.add(x, w);
        b.rename(y, "y");
        (b.finish(&[y]), weights)
    }

    #[test]
    fn weights_are_resolved_and_replaced() {
        let (function, weights) = weighted();
        let error = compile(function.clone(), &Weights::new()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Weights);
        assert!(error.to_string().contains("const -> w"), "{error}");

        let mut executable = compile(function, &weights).unwrap();
        let (x, mut y) = (surface(&[1.0, 2.0]), surface(&[0.0; 2]));
        let mut run = |executable: &mut Box<dyn Executable>| {
            let mut bindings = Bindings::new();
            bindings.input("x", &x).output("y", &mut y);
            executable.run(&mut bindings).unwrap();
            y.elements::<f32>().to_vec()
        };
        assert_eq!(run(&mut executable), [11.0, 22.0]);

        let mut wrong = Weights::new();
        wrong.append(WEIGHT_FILE, Tensor::from_slice(&[3], &[0f32; 3]));
        assert_eq!(executable.update_weights(&wrong).unwrap_err().kind(), ErrorKind::Weights);
        assert_eq!(run(&mut executable), [11.0, 22.0]);

        let mut other = Weights::new();
        other.append(WEIGHT_FILE, Tensor::from_slice(&[2], &[0f32, -2.0]));
        executable.update_weights(&other).unwrap();
        assert_eq!(run(&mut executable), [1.0, 0.0]);
    }

    #[test]
    fn explains_what_it_will_do() {
        let (function, weights) = weighted();
        let text = compile(function, &weights).unwrap().explain();
        assert!(text.contains("1 operations") && text.contains("8 bytes"), "{text}");
        assert!(text.contains("add(x, w) -> y: tensor<fp32, [2]>"), "{text}");
    }

    #[test]
    fn errors_name_operation_and_value() {
        let mut b = Builder::new("main");
        let x = b.input("x", floats(&[3]));
        let i = b.input("i", TensorType::new(DType::I32, &[1]));
        let y = b.gather(x, i, 0);
        b.rename(y, "y");
        let mut executable = compile(b.finish(&[y]), &Weights::new()).unwrap();
        let (x, i, mut y) = (surface(&[0.0; 3]), Surface::from_slice(&[1], &[3]), surface(&[0.0]));
        let mut bindings = Bindings::new();
        bindings.input("x", &x).input("i", &i).output("y", &mut y);
        let error = executable.run(&mut bindings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Execution);
        let message = error.to_string();
        assert!(message.contains("gather -> y") && message.contains("index 3"), "{message}");
    }

    #[test]
    fn surfaces_that_do_not_fit_are_refused() {
        let (function, weights) = weighted();
        let mut executable = compile(function, &weights).unwrap();
        let (x, mut y) = (surface(&[1.0]), surface(&[0.0; 2]));
        let mut bindings = Bindings::new();
        bindings.input("x", &x).output("y", &mut y);
        assert_eq!(executable.run(&mut bindings).unwrap_err().kind(), ErrorKind::Binding);
    }
}
