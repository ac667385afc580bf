//! Norms and other chains of elementwise operations and reductions: the same numbers as the
//! reference, whatever the sizes, and in one step.

use orion_compile::autodiff::gradients;
use orion_compile::pipeline::{PipelineOptions, optimize};
use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_mil::op::{Reduction, Unary};
use orion_mil::{Builder, Program, TensorType, ValueId, Weights};
use orion_runtime::Device;
use orion_tensor::{DType, Tolerance};
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

    /// Names results `y0`, `y1`, and so on.
    fn check(mut self, results: &[ValueId], tolerance: Tolerance) -> String {
        for (i, &result) in results.iter().enumerate() {
            self.builder.rename(result, &format!("y{i}"));
        }
        let program = Program::with_function(self.builder.finish(results));
        check(&program, &self.contents, tolerance)
    }

    /// Of the sum of `y` with random weights, the gradients.
    fn check_gradients(mut self, y: ValueId, with_respect_to: &[&str]) -> String {
        let shape = self.builder.shape(y);
        let weights = self.input("weights", &shape);
        let product = self.builder.mul(y, weights);
        let axes: Vec<usize> = (0..shape.len()).collect();
        let loss = self.builder.reduce(Reduction::Sum, product, &axes, false);
        self.builder.rename(loss, "loss");
        let function = self.builder.finish(&[loss]);
        let function = gradients(&function, "loss", with_respect_to).unwrap();
        let program = Program::with_function(function);
        let program = optimize(&program, &PipelineOptions::default(), &mut |_, _| {}).unwrap();
        check(&program, &self.contents, Tolerance::F32Network)
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
        for (name, expected) in &expected {
            compare(&actual[name], expected, tolerance).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        plan = device.compile(program, &weights).unwrap().explain();
    }
    plan
}

fn steps(plan: &str, kind: &str) -> usize {
    plan.lines().filter(|line| line.split_whitespace().nth(1) == Some(kind)).count()
}

/// Channels and tokens: whole bands, parts of one, one row more than fits, and few of either.
const SIZES: [(usize, usize); 6] = [(96, 256), (37, 100), (130, 16), (3, 65), (2, 17), (700, 64)];

#[test]
fn norms_are_one_step() {
    for (channels, tokens) in SIZES {
        let mut e = Experiment::new(1);
        let x = e.input("x", &[1, channels, 1, tokens]);
        let more = e.input("more", &[1, channels, 1, tokens]);
        let weight = e.input("weight", &[channels]);
        let bias = e.input("bias", &[channels]);
        let sum = e.builder.add(x, more);
        let y = e.builder.rms_norm(sum, weight, 1e-5);
        let z = e.builder.layer_norm(y, weight, bias, 1e-5);
        let plan = e.check(&[sum, y, z], Tolerance::F32Accum);
        assert_eq!(steps(&plan, "map-reduce"), 1, "{plan}");
        assert!(plan.contains("\n1 steps;"), "{plan}");
    }
}

#[test]
fn gradients_of_norms_with_those_of_their_gains() {
    for (channels, tokens) in SIZES {
        for layer_norm in [false, true] {
            let mut e = Experiment::new(2);
            let x = e.input("x", &[1, channels, 1, tokens]);
            let weight = e.input("weight", &[channels]);
            let bias = e.input("bias", &[channels]);
            let mut with_respect_to = vec!["x", "weight"];
            let y = if layer_norm {
                with_respect_to.push("bias");
                e.builder.layer_norm(x, weight, bias, 1e-5)
            } else {
                e.builder.rms_norm(x, weight, 1e-5)
            };
            let plan = e.check_gradients(y, &with_respect_to);
            assert_eq!(steps(&plan, "map-reduce"), 1, "{plan}");
            // The loss, and the gradient of the bias, which reads nothing that is computed here.
            assert_eq!(steps(&plan, "reduce"), 1 + usize::from(layer_norm), "{plan}");
        }
    }
}

#[test]
fn norms_of_heads_and_of_expensive_maps() {
    for (heads, channels, tokens) in [(3, 16, 70), (8, 64, 256), (2, 5, 16)] {
        let mut e = Experiment::new(3);
        let x = e.input("x", &[heads, channels, 1, tokens]);
        // Computed twice it would cost more than a place in memory.
        let curved = e.builder.unary(Unary::Tanh, x);
        let y = e.builder.rms_normalize(curved, 1e-5);
        let plan = e.check_gradients(y, &["x"]);
        assert!(steps(&plan, "map-reduce") >= 1, "{plan}");
    }
}

#[test]
fn every_reduction_between_maps() {
    use Reduction::{L1Norm, Max, Mean, Min, Sum, SumSquare};
    for (channels, tokens) in SIZES {
        for kind in [Sum, Mean, Max, Min, SumSquare, L1Norm] {
            let mut e = Experiment::new(4);
            let x = e.input("x", &[1, channels, 1, tokens]);
            let scaled = e.builder.scale(x, 0.5);
            let down = e.builder.reduce(kind, scaled, &[1], true);
            let slope = e.builder.unary(Unary::Sigmoid, down);
            let y = e.builder.mul(scaled, slope);
            let along = e.builder.reduce(kind, y, &[3], false);
            let again = e.builder.reduce(Max, y, &[1], true);
            let z = e.builder.sub(y, again);
            let plan = e.check(&[z, down, along], Tolerance::F32Accum);
            let expected = if kind == L1Norm { 0 } else { 1 };
            assert!(steps(&plan, "map-reduce") >= expected, "{plan}");
        }
    }
}

#[test]
fn parts_of_a_concatenation_and_broadcast_operands() {
    let (channels, tokens) = (24, 80);
    let mut e = Experiment::new(5);
    let x = e.input("x", &[1, channels, 1, tokens]);
    let row = e.input("row", &[1, 1, 1, tokens]);
    let number = e.input("number", &[1]);
    let x = e.builder.mul(x, row);
    let normal = e.builder.rms_normalize(x, 1e-5);
    let normal = e.builder.mul(normal, number);
    let whole = e.builder.concat(&[normal, x], 1);
    let plan = e.check(&[whole], Tolerance::F32Accum);
    assert_eq!(steps(&plan, "map-reduce"), 1, "{plan}");
}

#[test]
fn what_is_cheap_is_computed_where_it_is_read() {
    let (channels, inner, tokens) = (48, 96, 128);
    let mut e = Experiment::new(6);
    let x = e.input("x", &[1, channels, 1, tokens]);
    let gain = e.input("gain", &[channels]);
    let up = e.input("up", &[inner, channels, 1, 1]);
    let gate = e.input("gate", &[inner, channels, 1, 1]);
    let down = e.input("down", &[channels, inner, 1, 1]);
    let b = &mut e.builder;
    let normal = b.rms_norm(x, gain, 1e-5);
    let (gate, up) = (b.conv_1x1(normal, gate, None), b.conv_1x1(normal, up, None));
    let gate = b.unary(Unary::Silu, gate);
    let hidden = b.mul(gate, up);
    let y = b.conv_1x1(hidden, down, None);
    let y = b.add(y, x);
    // So that gradients wait for the result.
    let y = b.unary(Unary::Square, y);
    let plan = e.check_gradients(y, &["x", "gain", "up", "gate", "down"]);
    // Forward, the gate and its slope are not written: only what the next product reads is.
    let line = plan.lines().find(|line| line.contains("silu")).unwrap();
    let (_, written) = line.split_once(" -> [").unwrap();
    assert_eq!(written.matches("fp32[").count(), 1, "{plan}");
    // The norm leaves its factor for every token and what products read.
    let norm = plan.lines().find(|line| line.contains("rsqrt")).unwrap();
    let (_, written) = norm.split_once(" -> [").unwrap();
    assert_eq!(written.matches(&format!("fp32[1, {channels}, 1, {tokens}]")).count(), 1, "{plan}");
}
