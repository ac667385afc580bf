//! Gradient programs, as the compiler makes them of the builder's composites: the same numbers as
//! the reference, and planned as few steps.

use orion_compile::autodiff::gradients;
use orion_compile::pipeline::{PipelineOptions, optimize};
use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_mil::composite::HeadShape;
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

/// Causal attention of whole sequences, and a loss whose gradient is no constant.
fn causal(e: &mut Experiment, heads: HeadShape, length: usize) -> (ValueId, ValueId) {
    let tokens = heads.sequences * length;
    let keys = heads.kv_heads * heads.head_dim;
    let q = e.input("query", &[1, keys * heads.group, 1, tokens]);
    let k = e.input("key", &[1, keys, 1, tokens]);
    let v = e.input("value", &[1, keys, 1, tokens]);
    let b = &mut e.builder;
    let positions: Vec<i32> = (0..length as i32).collect();
    let positions = b.ints(&positions);
    let mask = b.causal_mask(positions, length, DType::F32);
    let attended = b.causal_attention(q, k, v, mask, heads);
    let square = b.mul(attended, attended);
    (b.reduce(Reduction::Mean, square, &[0, 1, 2, 3], false), mask)
}

fn heads(sequences: usize, kv_heads: usize, group: usize, head_dim: usize) -> HeadShape {
    HeadShape { sequences, kv_heads, group, head_dim }
}

const QKV: [&str; 3] = ["query", "key", "value"];

#[test]
fn causal_attention_is_two_steps() {
    for (heads, length) in [
        (heads(1, 3, 1, 64), 96),
        (heads(2, 2, 1, 48), 70),
        (heads(1, 2, 3, 16), 133),
        (heads(3, 1, 2, 20), 40),
        (heads(1, 4, 1, 8), 8),
    ] {
        let mut e = Experiment::new(2);
        let (loss, _) = causal(&mut e, heads, length);
        let (program, contents) = e.differentiated(loss, &QKV);
        let plan = check(&program, &contents, Tolerance::F32Accum);
        for (step, count) in [("attention gradient", 1), ("attention", 2), ("softmax]", 0)] {
            let lines = plan.lines().filter(|l| l[4..].trim_start().starts_with(step));
            assert_eq!(lines.count(), count, "{step}: {plan}");
        }
        let square = format!("{length}, {length}]");
        assert!(length < 16 || !plan.contains(&square), "{plan}");
    }
}

#[test]
fn memory_of_attention_grows_with_the_tokens_only() {
    let arena = |sequences: usize, length: usize| -> usize {
        let mut e = Experiment::new(3);
        let (loss, _) = causal(&mut e, heads(sequences, 4, 1, 32), length);
        let (program, _) = e.differentiated(loss, &QKV);
        let executable = Cpu::new(CpuOptions::with_threads(2));
        let plan = executable.compile(&program, &Weights::new()).unwrap().explain();
        let summary = plan.lines().last().unwrap();
        let bytes = |after: &str| -> usize {
            let rest = summary.split(after).nth(1).unwrap();
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        bytes("arena ") + bytes("workspace ")
    };
    let (short, long) = (arena(4, 1024), arena(1, 4096));
    assert!(long <= 2 * short, "{long} bytes instead of {short}");
}

/// Anything else that reads scores or probabilities keeps them.
#[test]
fn attention_whose_insides_are_read_stays_apart() {
    let (s, d) = (40, 16);
    for read in ["scores", "probabilities", "result", "mask gradient"] {
        let mut e = Experiment::new(4);
        let [q, k, v] = QKV.map(|name| e.input(name, &[2, d, s]));
        let mask = e.input("mask", &[s, s]);
        let b = &mut e.builder;
        let scores = b.matmul(q, k, true, false);
        let masked = b.add(scores, mask);
        let p = b.softmax(masked, 2);
        let result = b.matmul(v, p, false, true);
        let mut parts = vec![result];
        parts.extend(match read {
            "scores" => Some(scores),
            "probabilities" => Some(p),
            _ => None,
        });
        let parts: Vec<ValueId> = parts
            .into_iter()
            .map(|x| {
                let square = b.mul(x, x);
                b.reduce(Reduction::Mean, square, &[0, 1, 2], false)
            })
            .collect();
        let loss = parts.into_iter().reduce(|x, y| b.add(x, y)).unwrap();
        let wanted = [&QKV[..], if read == "mask gradient" { &["mask"] } else { &[] }].concat();
        let (program, contents) = e.differentiated(loss, &wanted);
        let plan = check(&program, &contents, Tolerance::F32Accum);
        assert_eq!(plan.contains("attention gradient"), read == "result", "{plan}");
        assert_eq!(plan.contains("reads scores or probabilities"), read != "result", "{plan}");
    }
}

/// Row-major heads behind transposes, as most programs have them, in every way to mask.
#[test]
fn attention_of_other_programs() {
    let (batch, heads, s, t, d) = (2, 3, 50, 70, 24);
    for masking in ["none", "added", "chosen", "scaled last"] {
        let mut e = Experiment::new(5);
        let [q, k, v] = [("query", s), ("key", t), ("value", t)]
            .map(|(name, n)| e.input(name, &[batch, n, heads, d]));
        let mask = e.input("mask", &[batch, 1, s, t]);
        let b = &mut e.builder;
        let [q, k, v] = [q, k, v].map(|x| b.transpose(x, &[0, 2, 1, 3]));
        let scores = b.matmul(q, k, false, true);
        let scores = b.scale(scores, 0.3);
        let scores = match masking {
            "none" => scores,
            "added" => b.add(mask, scores),
            "chosen" => {
                let zero = b.number(mask, 0.0);
                let seen = b.binary(orion_mil::op::Binary::Greater, mask, zero);
                let lowest = b.number(mask, -1e9);
                b.select(seen, scores, lowest)
            }
            _ => {
                let masked = b.add(scores, mask);
                b.scale(masked, 0.7)
            }
        };
        let p = b.softmax(scores, 3);
        let result = b.matmul(p, v, false, false);
        let result = b.transpose(result, &[0, 2, 1, 3]);
        b.rename(result, "result");
        let program = Program::with_function(e.builder.finish(&[result]));
        let plan = check(&program, &e.contents, Tolerance::F32Accum);
        let is_one_step = plan.lines().any(|l| l[4..].trim_start().starts_with("attention"));
        assert_eq!(is_one_step, masking != "scaled last", "{plan}");
    }
}

#[test]
fn cached_attention_reads_what_is_there() {
    let context = 150;
    for (heads, tokens, position) in [
        (heads(1, 2, 3, 16), 1, 0),
        (heads(1, 4, 1, 64), 1, 149),
        (heads(1, 3, 2, 20), 5, 77),
        (heads(1, 3, 1, 32), 40, 33),
    ] {
        let mut e = Experiment::new(6);
        let channels = heads.kv_heads * heads.head_dim;
        let q = e.input("query", &[1, channels * heads.group, 1, tokens]);
        let k = e.input("key", &[1, channels, 1, tokens]);
        let v = e.input("value", &[1, channels, 1, tokens]);
        let cache = [heads.kv_heads, 1, heads.head_dim, context];
        let caches = [e.input("key_cache", &cache), e.input("value_cache", &cache)];
        e.contents.insert("position".to_owned(), Tensor::from_slice(&[1], &[position]));
        let b = &mut e.builder;
        let position = b.input("position", TensorType::new(DType::I32, &[1]));
        let range =
            orion_mil::Op::Range { dtype: DType::I32, start: 0.0, step: 1.0, count: tokens };
        let offsets = b.push(&range);
        let positions = b.add(offsets, position);
        let mask = b.causal_mask(positions, context, DType::F32);
        let zeros = b.ints(&[0, 0, 0]);
        let begin = b.concat(&[zeros, position], 0);
        let (attended, _) = b.cached_attention([q, k, v], caches, begin, mask, heads);
        b.rename(attended, "attended");
        let program = Program::with_function(e.builder.finish(&[attended]));
        let plan = check(&program, &e.contents, Tolerance::F32Accum);
        assert!(plan.lines().any(|l| l[4..].trim_start().starts_with("attention")), "{plan}");
        assert!(!plan.contains("less_equal"), "{plan}");
    }
}
