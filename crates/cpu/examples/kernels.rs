//! Speed of the kernels that decide how fast models run, each measured next to the machine's
//! peak: `cargo run --release -p orion-cpu --example kernels [threads [name [bf16]]]`, where only
//! what has `name` in its name is measured.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use orion_compile::autodiff::gradients;
use orion_compile::optimizer::{AdamWConfig, ParameterSpec};
use orion_compile::pipeline::{PipelineOptions, optimize};
use orion_cpu::machine::Meter;
use orion_cpu::{Cpu, CpuOptions, Precision};
use orion_mil::composite::HeadShape;
use orion_mil::op::{Constexpr, Reduction, Unary};
use orion_mil::{Builder, Function, Op, Program, TensorType, ValueId, WEIGHT_FILE, Weights};
use orion_runtime::{Bindings, Device, PortKind, Surface};
use orion_tensor::{Bytes, DType, Tensor};
use std::thread;
use std::time::Instant;

/// Rounds of interleaved measurements; medians are reported.
const ROUNDS: usize = 7;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().and_then(|a| a.parse().ok());
    let threads = threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let name = arguments.next().unwrap_or_default();
    let precision = match arguments.next().as_deref() {
        Some("bf16") => Precision::Bf16,
        _ => Precision::F32,
    };
    let device = Cpu::new(CpuOptions::with_threads(threads).with_precision(precision));
    println!("{}", device.description());
    let meter = Meter::new(threads);
    let mut kernels = Kernels { device, meter, name, precision };
    kernels.products_of_models();
    kernels.attention();
    kernels.memory_bound();
}

/// What measures, and what is to be measured.
struct Kernels {
    device: Cpu,
    meter: Meter,
    name: String,
    precision: Precision,
}

impl Kernels {
    fn products_of_models(&mut self) {
        println!("{:<34} {:>10} {:>10} {:>7}", "product", "GFLOP/s", "peak", "share");
        for (o, i, n) in [
            (768, 768, 256),
            (2048, 768, 256),
            (768, 2048, 256),
            (32000, 768, 256),
            (512, 512, 256),
            (256, 512, 256),
            (1024, 512, 256),
            (512, 1024, 256),
            (2304, 768, 256),
            (3072, 768, 256),
            (768, 3072, 256),
            (50257, 768, 256),
        ] {
            let flops = 2.0 * (o * i * n) as f64;
            self.products(&format!("conv {o}x{i} · {n}"), flops, |b| {
                let w = input(b, "w", &[o, i, 1, 1]);
                let x = input(b, "x", &[1, i, 1, n]);
                b.conv_1x1(x, w, None)
            });
            self.products(&format!("dX   {i}x{o} · {n}"), flops, |b| {
                let w = input(b, "w", &[o, i]);
                let x = input(b, "x", &[o, n]);
                b.matmul(w, x, true, false)
            });
            self.products(&format!("dW   {o}x{n} · {i}"), flops, |b| {
                let y = input(b, "y", &[o, n]);
                let x = input(b, "x", &[i, n]);
                b.matmul(y, x, false, true)
            });
        }
    }

    fn attention(&mut self) {
        println!(
            "{:<34} {:>10} {:>10} {:>7}",
            "attention, 12 heads of 64", "GFLOP/s", "peak", "share"
        );
        self.products("scores qᵀk, 256 x 256", 2.0 * 12.0 * 256.0 * 256.0 * 64.0, |b| {
            let q = input(b, "q", &[12, 64, 256]);
            let k = input(b, "k", &[12, 64, 256]);
            b.matmul(q, k, true, false)
        });
        self.products("v pᵀ, 64 x 256", 2.0 * 12.0 * 256.0 * 256.0 * 64.0, |b| {
            let v = input(b, "v", &[12, 64, 256]);
            let p = input(b, "p", &[12, 256, 256]);
            b.matmul(v, p, false, true)
        });
        for length in [256, 1024] {
            // Half of all pairs of queries and keys are seen.
            let flops = 2.0 * 12.0 * 64.0 * (length * length) as f64;
            self.products(&format!("causal, {length} tokens"), flops, |b| causal(b, length));
            let name = format!("causal and gradients, {length} tokens");
            if name.contains(&self.name) {
                let (program, weights) = (causal_gradients(length), Weights::new());
                let peak = || self.meter.f32_flops();
                report(&name, 3.5 * flops, run_program(&self.device, &program, &weights, peak));
            }
        }
    }

    fn memory_bound(&mut self) {
        println!("{:<34} {:>10} {:>10} {:>7}", "memory-bound", "GB/s", "read", "share");
        for (name, dtype, o, i, n) in [
            ("decode layer fp32", DType::F32, 32000, 768, 1),
            ("decode layer fp16", DType::F16, 64000, 768, 1),
            ("decode layer bf16", DType::BF16, 64000, 768, 1),
            ("decode 768x768 fp32", DType::F32, 768, 768, 1),
            ("decode layer fp32, 8 together", DType::F32, 32000, 768, 8),
            ("decode layer bf16, 8 together", DType::BF16, 64000, 768, 8),
        ] {
            let bytes = (o * i * dtype.size_bytes()) as f64;
            let mut weights = Weights::new();
            // Not zeros, which the system may keep in one shared page.
            let halves = vec![0x3c00u16; o * i * dtype.size_bytes() / 2];
            let stored = Tensor::new(dtype, vec![o, i, 1, 1], Bytes::from_elements(&halves));
            let w = weights.append(WEIGHT_FILE, stored.expect("the sizes agree"));
            self.measure(name, bytes, &weights, |b| {
                let ty = TensorType::new(dtype, &[o, i, 1, 1]);
                let w = b.blob("w", ty, WEIGHT_FILE, w);
                let x = b.input("x", TensorType::new(dtype, &[1, i, 1, n]));
                vec![b.conv_1x1(x, w, None)]
            });
        }
        for (name, offsets, n) in [
            ("decode layer int8 by 32", false, 1),
            ("decode layer int8 by 32, offsets", true, 1),
            ("decode layer int8 by 32, 8 together", false, 8),
            ("the same with offsets", true, 8),
        ] {
            let (o, i, block) = (128_000, 768, 32);
            let mut weights = Weights::new();
            let data = weights.append(WEIGHT_FILE, Tensor::from_slice(&[o, i], &vec![3i8; o * i]));
            let mut bytes = o * i;
            let by_block = [1.0f32, 1.5].map(|value| {
                let values = vec![value; o * i / block];
                weights.append(WEIGHT_FILE, Tensor::from_slice(&[o, i / block], &values))
            });
            bytes += 4 * (1 + usize::from(offsets)) * o * i / block;
            self.measure(name, bytes as f64, &weights, |b| {
                let ty = TensorType::new(DType::I8, &[o, i]);
                let data = b.blob("data", ty, WEIGHT_FILE, data);
                let ty = TensorType::new(DType::F32, &[o, i / block]);
                let scale = b.blob("scale", ty.clone(), WEIGHT_FILE, by_block[0]);
                let offset = offsets.then(|| b.blob("offset", ty, WEIGHT_FILE, by_block[1]));
                let w = b.push(&Op::Constexpr(Constexpr::Blockwise { data, scale, offset }));
                let x = b.input("x", TensorType::new(DType::F32, &[1, i, 1, n]));
                vec![b.linear_as_conv(x, w, None)]
            });
        }
        self.measure("sum of squares", 4.0 * 16e6, &Weights::new(), |b| {
            let x = input(b, "x", &[16_000_000]);
            vec![b.reduce(Reduction::SumSquare, x, &[0], false)]
        });
        // The gradient is read once more for its norm.
        self.updates("AdamW and norm, 32 B a parameter", 32.0 * 16e6, adamw(16_000_000));
        for (name, shape, axis) in [
            ("softmax rows 3072x256", [3072, 256, 1], 1),
            ("softmax columns 32000x256", [1, 32000, 256], 1),
        ] {
            let bytes = 8.0 * shape.iter().product::<usize>() as f64;
            self.measure(name, bytes, &Weights::new(), |b| {
                let x = input(b, "x", &shape);
                vec![b.softmax(x, axis)]
            });
        }
        self.writes("gelu 3072x256", 8.0 * 3072.0 * 256.0, |b| {
            let x = input(b, "x", &[3072, 256]);
            vec![b.gelu(x, orion_mil::op::GeluMode::Exact)]
        });
        self.writes("silu and its gradient 2048x256", 16.0 * 2048.0 * 256.0, |b| {
            let (x, y) = (input(b, "x", &[2048, 256]), input(b, "y", &[2048, 256]));
            let silu = b.unary(Unary::Silu, x);
            let forward = b.mul(silu, y);
            let gate = b.unary(Unary::Sigmoid, x);
            let rest = b.sub(gate, silu);
            let part = b.mul(silu, rest);
            let slope = b.add(gate, part);
            vec![forward, slope]
        });
        self.writes("rotary embedding 12x64x256", 8.0 * 12.0 * 64.0 * 256.0, |b| {
            let x = input(b, "x", &[12, 64, 256]);
            let (cos, sin) = (input(b, "cos", &[1, 32, 256]), input(b, "sin", &[1, 32, 256]));
            let low = b.slice(x, &[0, 0, 0], &[12, 32, 256]);
            let high = b.slice(x, &[0, 32, 0], &[12, 32, 256]);
            let (a, c) = (b.mul(low, cos), b.mul(high, sin));
            let (d, e) = (b.mul(low, sin), b.mul(high, cos));
            let (first, second) = (b.sub(a, c), b.add(d, e));
            vec![b.concat(&[first, second], 1)]
        });
        self.writes("sum scaled by row and column", 12.0 * 768.0 * 256.0, |b| {
            let (x, y) = (input(b, "x", &[768, 256]), input(b, "y", &[768, 256]));
            let (row, column) = (input(b, "row", &[1, 256]), input(b, "column", &[768, 1]));
            let sum = b.add(x, y);
            let scaled = b.mul(sum, row);
            vec![b.mul(scaled, column)]
        });
        self.writes("transpose 2048x2048", 8.0 * 2048.0 * 2048.0, |b| {
            let x = input(b, "x", &[2048, 2048]);
            vec![b.transpose(x, &[1, 0])]
        });
    }

    /// Times a program that writes what it reads next to the bandwidth of both.
    fn writes(&mut self, name: &str, bytes: f64, build: impl FnOnce(&mut Builder) -> Vec<ValueId>) {
        self.updates(name, bytes, built(build));
    }

    /// The same of a whole function.
    fn updates(&mut self, name: &str, bytes: f64, function: Function) {
        if !name.contains(&self.name) {
            return;
        }
        let Self { device, meter, .. } = self;
        let limit = || meter.adamw_bandwidth();
        report(name, bytes, run(device, &Weights::new(), function, limit));
    }

    /// Times a program of one product next to the peak rate of multiply-adds.
    fn products(&mut self, name: &str, flops: f64, build: impl FnOnce(&mut Builder) -> ValueId) {
        if !name.contains(&self.name) {
            return;
        }
        let Self { device, meter, precision, .. } = self;
        let limit = || match precision {
            Precision::Bf16 => meter.bf16_flops().unwrap_or_else(|| meter.f32_flops()),
            _ => meter.f32_flops(),
        };
        report(name, flops, run(device, &Weights::new(), built(|b| vec![build(b)]), limit));
    }

    /// Times a program next to the bandwidth of reading.
    fn measure(
        &mut self,
        name: &str,
        bytes: f64,
        weights: &Weights,
        build: impl FnOnce(&mut Builder) -> Vec<ValueId>,
    ) {
        if !name.contains(&self.name) {
            return;
        }
        let Self { device, meter, .. } = self;
        report(name, bytes, run(device, weights, built(build), || meter.read_bandwidth()));
    }
}

fn input(b: &mut Builder, name: &str, shape: &[usize]) -> ValueId {
    b.input(name, TensorType::new(DType::F32, shape))
}

/// AdamW as training runs it.
fn adamw(count: usize) -> Function {
    let name = "w".to_owned();
    let parameter = ParameterSpec { name, shape: vec![count], weight_decay: true };
    let config =
        AdamWConfig { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, clip: Some(1.0) };
    orion_compile::optimizer::adamw(&[parameter], &config)
}

fn built(build: impl FnOnce(&mut Builder) -> Vec<ValueId>) -> Function {
    let mut builder = Builder::new("main");
    let results = build(&mut builder);
    builder.finish(&results)
}

/// Causal attention of one sequence, 12 heads of 64.
fn causal(b: &mut Builder, length: usize) -> ValueId {
    let [q, k, v] = ["q", "k", "v"].map(|name| input(b, name, &[1, 768, 1, length]));
    let positions: Vec<i32> = (0..length as i32).collect();
    let positions = b.ints(&positions);
    let mask = b.causal_mask(positions, length, DType::F32);
    let heads = HeadShape { sequences: 1, kv_heads: 12, group: 1, head_dim: 64 };
    b.causal_attention(q, k, v, mask, heads)
}

/// [`causal`] and the gradients of a loss that is its sum.
fn causal_gradients(length: usize) -> Program {
    let mut b = Builder::new("main");
    let attended = causal(&mut b, length);
    let loss = b.reduce(Reduction::Sum, attended, &[0, 1, 2, 3], false);
    b.rename(loss, "loss");
    let function = b.finish(&[loss]);
    let function = gradients(&function, "loss", &["q", "k", "v"]).expect("it differentiates");
    let program = Program::with_function(function);
    optimize(&program, &PipelineOptions::default(), &mut |_, _| {}).expect("it is valid")
}

fn report(name: &str, work: f64, (seconds, limit): (f64, f64)) {
    let rate = work / seconds / 1e9;
    println!("{name:<34} {rate:>10.1} {:>10.1} {:>7.2}", limit / 1e9, rate * 1e9 / limit);
}

/// Median time of a run, and the median of the limit measured between runs.
fn run(
    device: &Cpu,
    weights: &Weights,
    function: Function,
    limit: impl FnMut() -> f64,
) -> (f64, f64) {
    run_program(device, &Program::with_function(function), weights, limit)
}

/// The same of a program.
fn run_program(
    device: &Cpu,
    program: &Program,
    weights: &Weights,
    mut limit: impl FnMut() -> f64,
) -> (f64, f64) {
    let mut executable = device.compile(program, weights).expect("the program is valid");
    let ports = executable.signature().ports.clone();
    let mut surfaces: Vec<Surface> = ports
        .iter()
        .map(|p| {
            let mut surface = Surface::zeros(p.layout.clone());
            if p.layout.dtype == DType::F32 {
                surface.elements_mut::<f32>().fill(0.25);
            }
            surface
        })
        .collect();
    let mut bindings = Bindings::new();
    for (port, surface) in ports.iter().zip(&mut surfaces) {
        match port.kind {
            PortKind::Input => bindings.input(&port.name, surface),
            _ => bindings.update(&port.name, surface),
        };
    }
    let (mut times, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        limits.push(limit());
        executable.run(&mut bindings).expect("the program runs");
        // Each run by itself, so that a moment lost to another process is one bad value.
        let start = Instant::now();
        let mut runs = 0;
        while runs < 3 || start.elapsed().as_millis() < 20 {
            let run = Instant::now();
            executable.run(&mut bindings).expect("the program runs");
            times.push(run.elapsed().as_secs_f64());
            runs += 1;
        }
    }
    (median(times), median(limits))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
