//! Gradient programs, as the compiler makes them of the builder's composites: the same numbers as
//! the reference, and planned as few steps.

use orion_compile::autodiff::gradients;
use orion_compile::pipeline::{PipelineOptions, optimize};
use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_mil::op::Reduction;
use orion_mil::{Builder, Program, TensorType, ValueId, Weights};
use orion_runtime::Device;
use orion_tensor::{DType, Tensor, Tolerance};
use orion_testing::{Random, Tensors, compare, run_once};

struct Experiment {
    builder: Builder,
    contents: Tensors,
    random: Random,
}

impl Experiment {
    fn new(seed: u64) -> Self {
        Self { builder: Builder::new("main"), contents: Tensors::new(), random: Random::new(seed) }
    }

    fn input(&mut self, name: &str, shape: &[usize]) -> ValueId {
        let content = self.random.tensor(DType::F32, shape, |r| r.normal());
        self.contents.insert(name.to_owned(), content);
        self.builder.input(name, TensorType::new(DType::F32, shape))
    }

    fn indices(&mut self, name: &str, count: usize, below: usize) -> ValueId {
        let values: Vec<i32> =
            (0..count).map(|_| self.random.uniform(0.0, below as f64) as i32).collect();
        self.contents.insert(name.to_owned(), Tensor::from_slice(&[count], &values));
        self.builder.input(name, TensorType::new(DType::I32, &[count]))
    }

    /// The program of a loss, which is one number, and its gradients.
    fn differentiated(self, loss: ValueId, with_respect_to: &[&str]) -> (Program, Tensors) {
        let Self { mut builder, contents, .. } = self;
        builder.rename(loss, "loss");
        let function = builder.finish(&[loss]);
        let function = gradients(&function, "loss", with_respect_to).unwrap();
        let program = Program::with_function(function);
        let program = optimize(&program, &PipelineOptions::default(), &mut |_, _| {}).unwrap();
        (program, contents)
    }
}

fn compare_all(actual: &Tensors, expected: &Tensors, tolerance: Tolerance) {
    assert!(actual.keys().eq(expected.keys()));
    for (name, expected) in expected {
        compare(&actual[name], expected, tolerance).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// Runs a program with one to three threads, compares it with the reference, and gives its plan.
fn check(program: &Program, contents: &Tensors, tolerance: Tolerance) -> String {
    let weights = Weights::new();
    let expected = run_once(&Reference, program, &weights, contents).unwrap();
    let mut plan = String::new();
    for threads in 1..=3 {
        let device = Cpu::new(CpuOptions::with_threads(threads));
        let actual = run_once(&device, program, &weights, contents).unwrap();
        compare_all(&actual, &expected, tolerance);
        let again = run_once(&device, program, &weights, contents).unwrap();
        compare_all(&again, &actual, Tolerance::Exact);
        plan = device.compile(program, &weights).unwrap().explain();
    }
    plan
}

#[test]
fn cross_entropy_reads_the_logits_twice() {
    for (words, tokens) in [(7, 3), (40, 1), (3000, 70), (700, 300)] {
        let mut e = Experiment::new(1);
        let logits = e.input("logits", &[1, words, 1, tokens]);
        let scale = e.input("scale", &[words]);
        let targets = e.indices("targets", tokens, words);
        let b = &mut e.builder;
        let scale = b.reshape(scale, &[1, words, 1, 1]);
        // So that the logits are an intermediate value, which may be written over.
        let logits = b.mul(logits, scale);
        let losses = b.cross_entropy(logits, targets);
        let loss = b.reduce(Reduction::Mean, losses, &[0], true);
        let (program, contents) = e.differentiated(loss, &["logits", "scale"]);
        let plan = check(&program, &contents, Tolerance::F32Accum);
        let statistics = plan.lines().filter(|l| l.contains("log-sum-exp")).count();
        assert_eq!(statistics, 1, "{plan}");
        let gradient = plan.lines().find(|l| l.contains("softmax")).unwrap();
        assert!(gradient.contains("  map  ") && gradient.contains("in place"), "{plan}");
        assert!(tokens == 1 || gradient.contains("softmax+mul"), "{plan}");
    }
}
