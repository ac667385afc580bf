//! Compares gradients with central finite differences, all in f64.

use crate::interpreter::{Runnable, assert_same, run};
use crate::random::Random;
use orion_compile::autodiff::gradients;
use orion_compile::pipeline::{PipelineOptions, optimize};
use orion_mil::op::Reduction;
use orion_mil::{Builder, Function, Program, TensorType, ValueId, typed};
use orion_tensor::{DType, Tensor, Tolerance, element_count};
use std::collections::{BTreeMap, BTreeSet};

/// Name, shape, and the range of its numbers.
pub(crate) type Input<'a> = (&'a str, &'a [usize], (f64, f64));

/// Checks, and what they covered.
pub(crate) struct Checks {
    random: Random,
    dry: bool,
    pub(crate) covered: BTreeSet<String>,
}

/// How a tensor becomes a loss. What an op's arm gets differs: a gradient of full shape, or one
/// that is constant along axes.
#[derive(Debug, Clone, Copy)]
enum Loss {
    WeightedSum,
    Sum,
    SumOverLastThenWeighted,
}

impl Checks {
    pub(crate) fn new() -> Self {
        Self { random: Random::new(7), dry: false, covered: BTreeSet::new() }
    }

    /// Only notes which ops are covered.
    pub(crate) fn dry() -> Self {
        Self { dry: true, ..Self::new() }
    }

    /// Checks the gradients of all inputs through what `build` makes of them.
    pub(crate) fn check(
        &mut self,
        name: &str,
        inputs: &[Input<'_>],
        build: impl Fn(&mut Builder, &[ValueId]) -> ValueId,
    ) {
        let numbers: BTreeMap<String, Tensor> = inputs
            .iter()
            .map(|(name, shape, (low, high))| {
                let numbers = self.random.numbers(element_count(shape), *low, *high);
                ((*name).to_owned(), Tensor::from_slice(shape, &numbers))
            })
            .collect();
        for kind in [Loss::WeightedSum, Loss::Sum, Loss::SumOverLastThenWeighted] {
            let mut b = Builder::new("main");
            let ids: Vec<ValueId> = inputs
                .iter()
                .map(|(name, shape, _)| b.input(name, TensorType::new(DType::F64, shape)))
                .collect();
            let out = build(&mut b, &ids);
            let loss = self.loss(&mut b, kind, out);
            b.rename(loss, "loss");
            let function = b.finish(&[loss]);
            for op in typed::analyze(&function).expect("a valid function") {
                self.covered.extend(crate::gradients::labels(&op));
            }
            if self.dry {
                return;
            }
            compare(&format!("{name}, {kind:?}"), &function, inputs, &numbers);
        }
    }

    fn loss(&mut self, b: &mut Builder, kind: Loss, out: ValueId) -> ValueId {
        let shape = b.shape(out);
        if shape.is_empty() {
            return b.offset(out, 0.5);
        }
        let out = match (kind, shape.len()) {
            (Loss::SumOverLastThenWeighted, rank) => {
                b.reduce(Reduction::Sum, out, &[rank - 1], true)
            }
            _ => out,
        };
        let shape = b.shape(out);
        let out = match kind {
            Loss::Sum => out,
            _ => {
                let weights = self.random.numbers(element_count(&shape), -1.0, 1.0);
                let weights = b.constant(Tensor::from_slice(&shape, &weights));
                b.mul(out, weights)
            }
        };
        let axes: Vec<usize> = (0..shape.len()).collect();
        b.reduce(Reduction::Sum, out, &axes, false)
    }
}

/// Gradients of `loss` by all inputs against finite differences; and by each alone.
pub(crate) fn compare(
    name: &str,
    function: &Function,
    inputs: &[Input<'_>],
    numbers: &BTreeMap<String, Tensor>,
) {
    let wanted: Vec<&str> = inputs.iter().map(|i| i.0).collect();
    let with = gradients(function, "loss", &wanted).unwrap_or_else(|e| panic!("{name}: {e}"));
    let results = run(&with, numbers);
    // Gradients have all the patterns that passes look for.
    let program = Program::with_function(with);
    let optimized = optimize(&program, &PipelineOptions::default(), &mut |_, _| {}).unwrap();
    assert_same(name, &run(&optimized.functions[0], numbers), &results);

    let forward = Runnable::new(function);
    for (input, ..) in inputs {
        let expected = finite_differences(&forward, numbers, input);
        let actual = &results[&format!("{input}_grad")];
        assert_eq!(actual.shape(), numbers[*input].shape(), "{name}: shape of {input}_grad");
        Tolerance::Close
            .check(&actual.to_f64_vec(), &expected)
            .unwrap_or_else(|e| panic!("{name}: {input}_grad: {e}"));
        if inputs.len() > 1 {
            let alone = gradients(function, "loss", &[input]).expect("gradients of one input");
            let alone = &run(&alone, numbers)[&format!("{input}_grad")];
            assert_eq!(alone.to_f64_vec(), actual.to_f64_vec(), "{name}: {input} alone");
        }
    }
}

/// `(L(p + h) - L(p - h)) / 2h` per element.
pub(crate) fn finite_differences(
    forward: &Runnable<'_>,
    inputs: &BTreeMap<String, Tensor>,
    parameter: &str,
) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let tensor = inputs[parameter].clone();
    assert_eq!(tensor.dtype(), DType::F64);
    let numbers = tensor.to_f64_vec();
    let mut inputs = inputs.clone();
    let mut loss_at = |index: usize, number: f64| {
        let mut moved = numbers.clone();
        moved[index] = number;
        inputs.insert(parameter.to_owned(), Tensor::from_slice(tensor.shape(), &moved));
        forward.run(&inputs)["loss"].to_f64_vec()[0]
    };
    (0..numbers.len())
        .map(|i| {
            let (above, below) = (numbers[i] + STEP, numbers[i] - STEP);
            (loss_at(i, above) - loss_at(i, below)) / (above - below)
        })
        .collect()
}
