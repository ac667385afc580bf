//! A whole step of training, large enough for every kernel to use its threads: against the
//! reference, the same bits every time, and without allocating once it is compiled.
#![expect(unsafe_code, reason = "an allocator that counts has to be one")]

use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_mil::op::{Binary, Reduction, Unary};
use orion_mil::{Builder, Program, TensorType, ValueId, Weights};
use orion_runtime::{Bindings, Device, PortKind};
use orion_tensor::{DType, Tensor, Tolerance};
use orion_testing::{Random, Surfaces, Tensors, compare};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const CHANNELS: usize = 72;
const HEADS: usize = 4;
const TOKENS: usize = 300;
const WORDS: usize = 700;

struct Step {
    builder: Builder,
    contents: Tensors,
    random: Random,
}

impl Step {
    fn input(&mut self, name: &str, dtype: DType, shape: &[usize], scale: f64) -> ValueId {
        let content = self.random.tensor(dtype, shape, |r| scale * r.normal());
        self.given(name, content)
    }

    fn given(&mut self, name: &str, content: Tensor) -> ValueId {
        let ty = TensorType::new(content.dtype(), content.shape());
        self.contents.insert(name.to_owned(), content);
        self.builder.input(name, ty)
    }

    /// Root mean square norm over channels.
    fn norm(&mut self, x: ValueId, gain: ValueId) -> ValueId {
        let b = &mut self.builder;
        let squares = b.mul(x, x);
        let mean = b.reduce(Reduction::Mean, squares, &[1], true);
        let scale = b.unary(Unary::Rsqrt { epsilon: 1e-5 }, mean);
        let normal = b.mul(x, scale);
        b.mul(normal, gain)
    }

    /// AdamW, in place on the parameter and both moments.
    fn update(
        &mut self,
        name: &str,
        parameter: ValueId,
        gradient: ValueId,
        pairs: &mut Vec<(String, String)>,
    ) -> Vec<ValueId> {
        let shape = self.builder.shape(parameter);
        let m = self.input(&format!("{name}_m"), DType::F32, &shape, 0.01);
        let v = self.random.tensor(DType::F32, &shape, |r| 0.01 + r.uniform(0.0, 0.1));
        let v = self.given(&format!("{name}_v"), v);
        let b = &mut self.builder;
        let (old, new) = (b.scale(m, 0.9), b.scale(gradient, 0.1));
        let m = b.add(old, new);
        let square = b.mul(gradient, gradient);
        let (old, new) = (b.scale(v, 0.99), b.scale(square, 0.01));
        let v = b.add(old, new);
        let root = b.unary(Unary::Sqrt, v);
        let bottom = b.offset(root, 1e-8);
        let step = b.div(m, bottom);
        let step = b.scale(step, 0.003);
        let decayed = b.scale(parameter, 0.999);
        let p = b.sub(decayed, step);
        let mut results = Vec::new();
        for (value, suffix) in [(p, ""), (m, "_m"), (v, "_v")] {
            let output = format!("next_{name}{suffix}");
            b.rename(value, &output);
            pairs.push((output, format!("{name}{suffix}")));
            results.push(value);
        }
        results
    }
}

fn training_step() -> (Program, Tensors) {
    let mut s = Step {
        builder: Builder::new("main"),
        contents: Tensors::new(),
        random: Random::named("training step"),
    };
    let mut random = Random::named("tokens");
    let ids = |random: &mut Random, shape: &[usize]| {
        random.tensor(DType::I32, shape, |r| r.below(WORDS) as f64)
    };
    let tokens = ids(&mut random, &[TOKENS]);
    let labels = ids(&mut random, &[1, 1, 1, TOKENS]);
    let tokens = s.given("tokens", tokens);
    let labels = s.given("labels", labels);
    let embedding = s.input("embedding", DType::F32, &[WORDS, CHANNELS], 0.3);
    let gain = s.input("gain", DType::F32, &[1, CHANNELS, 1, 1], 1.0);
    let w = s.input("w", DType::F32, &[CHANNELS, CHANNELS, 1, 1], 0.1);
    let mask = s
        .random
        .tensor(DType::F32, &[1, 1, TOKENS, TOKENS], |r| if r.one_in(3) { -1e4 } else { 0.0 });
    let mask = s.given("mask", mask);

    let b = &mut s.builder;
    let rows = b.gather(embedding, tokens, 0);
    let x = b.transpose(rows, &[1, 0]);
    let x = b.reshape(x, &[1, CHANNELS, 1, TOKENS]);
    let n = s.norm(x, gain);
    let b = &mut s.builder;
    let q = b.conv_1x1(n, w, None);
    let depth = CHANNELS / HEADS;
    let heads = b.reshape(q, &[1, HEADS, depth, TOKENS]);
    // Rotary embedding's slices and joins, at one angle.
    let low = b.slice(heads, &[0, 0, 0, 0], &[1, HEADS, depth / 2, TOKENS]);
    let high = b.slice(heads, &[0, 0, depth / 2, 0], &[1, HEADS, depth / 2, TOKENS]);
    let (a, c) = (b.scale(low, 0.8), b.scale(high, 0.6));
    let first = b.sub(a, c);
    let (a, c) = (b.scale(high, 0.8), b.scale(low, 0.6));
    let second = b.add(a, c);
    let turned = b.concat(&[first, second], 2);
    let scores = b.matmul(turned, heads, true, false);
    let scores = b.scale(scores, 0.2);
    let scores = b.add(scores, mask);
    let weights = b.softmax(scores, 3);
    let mixed = b.matmul(heads, weights, false, true);
    let mixed = b.reshape(mixed, &[1, CHANNELS, 1, TOKENS]);
    let y = b.add(x, mixed);
    let y = b.unary(Unary::Silu, y);
    let table = b.reshape(embedding, &[WORDS, CHANNELS, 1, 1]);
    let logits = b.conv_1x1(y, table, None);
    let log_sum = b.reduce(Reduction::LogSumExp, logits, &[1], true);
    let chosen = b.gather_along_axis(logits, labels, 1);
    let losses = b.sub(log_sum, chosen);
    let loss = b.reduce(Reduction::Mean, losses, &[0, 1, 2, 3], false);
    b.rename(loss, "loss");

    // The gradient of the loss by the logits, and from there into the tables.
    let p = b.softmax(logits, 1);
    let minus = b.fill(DType::F32, &[1, 1, 1, TOKENS], -1.0);
    let d_logits = b.push(&orion_mil::Op::ScatterAlongAxis {
        data: p,
        indices: labels,
        updates: minus,
        axis: 1,
        mode: orion_mil::op::ScatterMode::Add,
    });
    let d_logits = b.scale(d_logits, 1.0 / TOKENS as f64);
    let d_flat = b.reshape(d_logits, &[WORDS, TOKENS]);
    let y_flat = b.reshape(y, &[CHANNELS, TOKENS]);
    let d_table = b.matmul(d_flat, y_flat, false, true);
    let d_y = b.matmul(embedding, d_flat, true, false);
    let d_rows = b.transpose(d_y, &[1, 0]);
    let none = b.fill(DType::F32, &[WORDS, CHANNELS], 0.0);
    let d_embedding = b.scatter_add(none, tokens, d_rows, 0);
    let d_embedding = b.add(d_embedding, d_table);
    let n_flat = b.reshape(n, &[CHANNELS, TOKENS]);
    let d_w = b.matmul(d_y, n_flat, false, true);
    let d_w = b.reshape(d_w, &[CHANNELS, CHANNELS, 1, 1]);
    let d_full = b.reshape(d_y, &[1, CHANNELS, 1, TOKENS]);
    let d_gain = b.mul(d_full, x);
    let d_gain = b.reduce(Reduction::Sum, d_gain, &[3], true);
    // Clipped by their common norm.
    let mut norm = None;
    for gradient in [d_embedding, d_w, d_gain] {
        let axes: Vec<usize> = (0..b.shape(gradient).len()).collect();
        let square = b.reduce(Reduction::SumSquare, gradient, &axes, false);
        norm = Some(norm.map_or(square, |n| b.add(n, square)));
    }
    let norm = b.unary(Unary::Sqrt, norm.expect("three gradients"));
    let one = b.number(norm, 1.0);
    let over = b.binary(Binary::Maximum, norm, one);
    let mut pairs = Vec::new();
    let mut results = vec![loss];
    for (name, parameter, gradient) in
        [("embedding", embedding, d_embedding), ("w", w, d_w), ("gain", gain, d_gain)]
    {
        let clipped = s.builder.div(gradient, over);
        results.extend(s.update(name, parameter, clipped, &mut pairs));
    }
    let mut function = s.builder.finish(&results);
    function.set_in_place(pairs.iter().map(|(o, i)| (o.as_str(), i.as_str())));
    (Program::with_function(function), s.contents)
}

/// The contents after each of two runs.
fn two_steps(device: &dyn Device, program: &Program, contents: &Tensors) -> [Tensors; 2] {
    let mut executable = device.compile(program, &Weights::new()).unwrap();
    let mut surfaces = Surfaces::new(&*executable, contents);
    std::array::from_fn(|_| {
        surfaces.run(&mut *executable).unwrap();
        surfaces.written(&*executable)
    })
}

fn allocations_of_the_second_run(
    device: &dyn Device,
    program: &Program,
    contents: &Tensors,
) -> usize {
    let mut executable = device.compile(program, &Weights::new()).unwrap();
    let ports = executable.signature().ports.clone();
    let mut surfaces: Vec<_> = ports
        .iter()
        .map(|p| match contents.get(&p.name) {
            Some(content) => orion_runtime::Surface::from_tensor(content),
            None => orion_runtime::Surface::zeros(p.layout.clone()),
        })
        .collect();
    let mut bindings = Bindings::new();
    for (port, surface) in ports.iter().zip(&mut surfaces) {
        match port.kind {
            PortKind::Input => bindings.input(&port.name, surface),
            _ => bindings.update(&port.name, surface),
        };
    }
    executable.run(&mut bindings).unwrap();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    executable.run(&mut bindings).unwrap();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// One test, because allocations of others would be counted.
#[test]
fn a_training_step() {
    let (program, contents) = training_step();
    let expected = two_steps(&Reference, &program, &contents);
    for threads in 1..=3 {
        let device = Cpu::new(CpuOptions::with_threads(threads));
        let steps = two_steps(&device, &program, &contents);
        for (actual, expected) in steps.iter().zip(&expected) {
            for (name, expected) in expected {
                compare(&actual[name], expected, Tolerance::F32Network)
                    .unwrap_or_else(|e| panic!("{name} with {threads} threads: {e}"));
            }
        }
        assert_eq!(steps, two_steps(&device, &program, &contents), "the same bits every time");
        assert_eq!(allocations_of_the_second_run(&device, &program, &contents), 0);

        let executable = device.compile(&program, &Weights::new()).unwrap();
        let plan = executable.explain();
        let updates =
            plan.lines().filter(|l| l.contains("+sqrt+add+real_div") && l.contains("(in place)"));
        // The two small ones are one step.
        let parameters = updates.map(|l| if l.contains("(2 together)") { 2 } else { 1 });
        assert_eq!(parameters.sum::<usize>(), 3, "one for each parameter, in place:\n{plan}");
    }
}
