//! Runs a function by the definition of its ops.

use orion_mil::{
    Data, Function, Op, TensorType, Weights, evaluate::evaluate, typed, verify_function,
};
use orion_tensor::{Tensor, Tolerance};
use std::collections::{BTreeMap, HashMap};

/// A function made ready to run many times.
pub(crate) struct Runnable<'a> {
    function: &'a Function,
    ops: Vec<Op>,
}

impl<'a> Runnable<'a> {
    pub(crate) fn new(function: &'a Function) -> Self {
        let diagnostics = verify_function(function);
        let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
        let ops = typed::analyze(function).expect("a verified function");
        Self { function, ops }
    }

    /// Results by name.
    pub(crate) fn run(&self, inputs: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
        self.run_with(inputs, &Weights::new())
    }

    /// The same with constants that lie in files.
    pub(crate) fn run_with(
        &self,
        inputs: &BTreeMap<String, Tensor>,
        weights: &Weights,
    ) -> BTreeMap<String, Tensor> {
        let f = self.function;
        let mut values: HashMap<_, Tensor> = HashMap::new();
        for param in &f.params {
            let name = f.value_name(param.value);
            let tensor = inputs.get(name).unwrap_or_else(|| panic!("no input {name}"));
            values.insert(param.value, tensor.clone());
        }
        for (operation, op) in f.body.operations.iter().zip(&self.ops) {
            let results = match op {
                Op::Const(value) if matches!(value.data, Data::Blob { .. }) => {
                    vec![weights.resolve(value).expect("a weight")]
                }
                Op::Const(value) if value.as_tensor().is_none() => continue,
                Op::Const(value) => vec![value.as_tensor().expect("numbers").clone()],
                op => {
                    let operands: Vec<Tensor> =
                        op.operands().iter().map(|v| values[v].clone()).collect();
                    let types: Vec<TensorType> = operation
                        .outputs
                        .iter()
                        .map(|&o| f.ty(o).as_tensor().expect("a tensor").clone())
                        .collect();
                    evaluate(op, &operands, &types)
                        .unwrap_or_else(|e| panic!("{} of {op:?}: {e}", operation.name))
                }
            };
            for (&output, tensor) in operation.outputs.iter().zip(results) {
                let ty = f.ty(output).as_tensor().expect("a tensor");
                assert_eq!(ty.shape().as_deref(), Some(tensor.shape()), "{op:?}");
                assert_eq!(ty.dtype, tensor.dtype(), "{op:?}");
                values.insert(output, tensor);
            }
        }
        let results = f.body.results.iter();
        results.map(|r| (f.value_name(*r).to_owned(), values[r].clone())).collect()
    }
}

pub(crate) fn run(
    function: &Function,
    inputs: &BTreeMap<String, Tensor>,
) -> BTreeMap<String, Tensor> {
    Runnable::new(function).run(inputs)
}

/// Panics unless both have the same results, bit for bit; a NaN is a NaN.
pub(crate) fn assert_same(
    name: &str,
    actual: &BTreeMap<String, Tensor>,
    expected: &BTreeMap<String, Tensor>,
) {
    let bits = |t: &Tensor| -> Vec<u64> {
        let numbers = t.to_f64_vec().into_iter();
        numbers.map(|v| if v.is_nan() { f64::NAN } else { v }.to_bits()).collect()
    };
    assert!(actual.keys().eq(expected.keys()), "{name}: names of results");
    for (result, tensor) in expected {
        let other = &actual[result];
        assert_eq!((other.dtype(), other.shape()), (tensor.dtype(), tensor.shape()), "{result}");
        if bits(other) != bits(tensor) {
            let mismatch = Tolerance::Exact.check(&other.to_f64_vec(), &tensor.to_f64_vec());
            panic!(
                "{name}: {result}: {}",
                mismatch.map_or_else(|m| m.to_string(), |()| "signs of zero".into())
            );
        }
    }
}
