//! Speed of the kernels that decide how fast models run, each measured next to the machine's
//! peak: `cargo run --release -p orion-cpu --example kernels [threads]`.
#![expect(clippy::print_stdout, reason = "a program that reports")]
#![expect(unsafe_code, reason = "measures the peak with vector instructions")]

use orion_cpu::{Cpu, CpuOptions};
use orion_mil::op::Unary;
use orion_mil::{Builder, Program, TensorType, ValueId, WEIGHT_FILE, Weights};
use orion_runtime::{Bindings, Device, PortKind, Surface};
use orion_tensor::{DType, Tensor};
use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// Rounds of interleaved measurements; medians are reported.
const ROUNDS: usize = 7;

fn main() {
    let threads = std::env::args().nth(1).and_then(|a| a.parse().ok());
    let threads = threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let device = Cpu::new(CpuOptions::with_threads(threads));
    println!("{}", device.description());
    println!("{:<34} {:>10} {:>10} {:>7}", "product (forward, fp32)", "GFLOP/s", "peak", "share");
    for (o, i, n) in
        [(768, 768, 256), (2048, 768, 256), (768, 2048, 256), (32000, 768, 256), (3072, 768, 256)]
    {
        let flops = 2.0 * (o * i * n) as f64;
        products(&device, threads, &format!("conv {o}x{i} · {n}"), flops, |b| {
            let w = input(b, "w", &[o, i, 1, 1]);
            let x = input(b, "x", &[1, i, 1, n]);
            b.conv_1x1(x, w, None)
        });
        products(&device, threads, &format!("dX   {i}x{o} · {n}"), flops, |b| {
            let w = input(b, "w", &[o, i]);
            let x = input(b, "x", &[o, n]);
            b.matmul(w, x, true, false)
        });
        products(&device, threads, &format!("dW   {o}x{n} · {i}"), flops, |b| {
            let y = input(b, "y", &[o, n]);
            let x = input(b, "x", &[i, n]);
            b.matmul(y, x, false, true)
        });
    }
    println!("{:<34} {:>10} {:>10} {:>7}", "attention, 12 heads of 64", "GFLOP/s", "peak", "share");
    products(&device, threads, "scores qᵀk, 256 x 256", 2.0 * 12.0 * 256.0 * 256.0 * 64.0, |b| {
        let q = input(b, "q", &[12, 64, 256]);
        let k = input(b, "k", &[12, 64, 256]);
        b.matmul(q, k, true, false)
    });
    products(&device, threads, "v pᵀ, 64 x 256", 2.0 * 12.0 * 256.0 * 256.0 * 64.0, |b| {
        let v = input(b, "v", &[12, 64, 256]);
        let p = input(b, "p", &[12, 256, 256]);
        b.matmul(v, p, false, true)
    });

    println!("{:<34} {:>10} {:>10} {:>7}", "memory-bound", "GB/s", "read", "share");
    for (name, dtype, o, i) in [
        ("decode layer fp32", DType::F32, 32000, 768),
        ("decode layer fp16", DType::F16, 64000, 768),
        ("decode layer bf16", DType::BF16, 64000, 768),
        ("decode 768x768 fp32", DType::F32, 768, 768),
    ] {
        let bytes = (o * i * dtype.size_bytes()) as f64;
        let mut weights = Weights::new();
        let w = weights.append(WEIGHT_FILE, Tensor::zeros(dtype, &[o, i, 1, 1]));
        measure(&device, threads, name, bytes, &weights, |b| {
            let ty = TensorType::new(dtype, &[o, i, 1, 1]);
            let w = b.blob("w", ty, WEIGHT_FILE, w);
            let x = b.input("x", TensorType::new(dtype, &[1, i, 1, 1]));
            vec![b.conv_1x1(x, w, None)]
        });
    }
    let count = 16_000_000;
    measure(
        &device,
        threads,
        "AdamW in place, 28 B a parameter",
        28.0 * count as f64,
        &Weights::new(),
        |b| adamw(b, count),
    );
    for (name, shape, axis) in [
        ("softmax rows 3072x256", [3072, 256, 1], 1),
        ("softmax columns 32000x256", [1, 32000, 256], 1),
    ] {
        let bytes = 8.0 * shape.iter().product::<usize>() as f64;
        measure(&device, threads, name, bytes, &Weights::new(), |b| {
            let x = input(b, "x", &shape);
            vec![b.softmax(x, axis)]
        });
    }
    measure(&device, threads, "gelu 3072x256", 8.0 * 3072.0 * 256.0, &Weights::new(), |b| {
        let x = input(b, "x", &[3072, 256]);
        vec![b.gelu(x, orion_mil::op::GeluMode::Exact)]
    });
    measure(&device, threads, "transpose 2048x2048", 8.0 * 2048.0 * 2048.0, &Weights::new(), |b| {
        let x = input(b, "x", &[2048, 2048]);
        vec![b.transpose(x, &[1, 0])]
    });
}

fn input(b: &mut Builder, name: &str, shape: &[usize]) -> ValueId {
    b.input(name, TensorType::new(DType::F32, shape))
}

fn adamw(b: &mut Builder, count: usize) -> Vec<ValueId> {
    let [p, m, v, g] = ["p", "m", "v", "g"].map(|name| input(b, name, &[count]));
    let rate = input(b, "rate", &[]);
    let (old, new) = (b.scale(m, 0.9), b.scale(g, 0.1));
    let m = b.add(old, new);
    let square = b.mul(g, g);
    let (old, new) = (b.scale(v, 0.99), b.scale(square, 0.01));
    let v = b.add(old, new);
    let root = b.unary(Unary::Sqrt, v);
    let bottom = b.offset(root, 1e-8);
    let step = b.div(m, bottom);
    let decay = b.scale(p, 0.1);
    let step = b.add(step, decay);
    let step = b.mul(step, rate);
    let p = b.sub(p, step);
    for (value, name) in [(p, "next_p"), (m, "next_m"), (v, "next_v")] {
        b.rename(value, name);
    }
    vec![p, m, v]
}

/// Times a program of one product next to the peak rate of multiply-adds.
fn products(
    device: &Cpu,
    threads: usize,
    name: &str,
    flops: f64,
    build: impl FnOnce(&mut Builder) -> ValueId,
) {
    let seconds = run(device, &Weights::new(), |b| vec![build(b)], || peak_flops(threads));
    report(name, flops, seconds);
}

/// Times a program next to the bandwidth of reading.
fn measure(
    device: &Cpu,
    threads: usize,
    name: &str,
    bytes: f64,
    weights: &Weights,
    build: impl FnOnce(&mut Builder) -> Vec<ValueId>,
) {
    let data = vec![1f32; 1 << 26];
    let seconds = run(device, weights, build, || read_bandwidth(threads, &data));
    report(name, bytes, seconds);
}

fn report(name: &str, work: f64, (seconds, limit): (f64, f64)) {
    let rate = work / seconds / 1e9;
    println!("{name:<34} {rate:>10.1} {:>10.1} {:>7.2}", limit / 1e9, rate * 1e9 / limit);
}

/// Median time of a run, and the median of the limit measured between runs.
fn run(
    device: &Cpu,
    weights: &Weights,
    build: impl FnOnce(&mut Builder) -> Vec<ValueId>,
    limit: impl Fn() -> f64,
) -> (f64, f64) {
    let mut builder = Builder::new("main");
    let results = build(&mut builder);
    let mut function = builder.finish(&results);
    let pairs: Vec<(String, String)> = results
        .iter()
        .map(|&r| function.value_name(r).to_owned())
        .filter_map(|name| name.strip_prefix("next_").map(|i| (name.clone(), i.to_owned())))
        .collect();
    function.set_in_place(pairs.iter().map(|(o, i)| (o.as_str(), i.as_str())));
    let program = Program::with_function(function);
    let mut executable = device.compile(&program, weights).expect("the program is valid");
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
        limits.extend([limit(), limit(), limit()]);
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

fn on_threads(threads: usize, work: impl Fn(usize) -> f64 + Sync) -> f64 {
    thread::scope(|scope| {
        let work = &work;
        let all: Vec<_> = (0..threads).map(|i| scope.spawn(move || work(i))).collect();
        all.into_iter().map(|t| t.join().expect("the measurement does not panic")).sum()
    })
}

/// Multiply-adds of all threads, in operations a second.
fn peak_flops(threads: usize) -> f64 {
    on_threads(threads, |_| {
        let rounds = 200_000;
        let start = Instant::now();
        #[cfg(target_arch = "x86_64")]
        let lanes = if is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has the instructions.
            unsafe { chains_avx512(rounds) };
            16 * 16
        } else {
            chains(rounds);
            16 * 16
        };
        #[cfg(not(target_arch = "x86_64"))]
        let lanes = {
            chains(rounds);
            16 * 16
        };
        2.0 * f64::from(rounds) * f64::from(lanes) / start.elapsed().as_secs_f64()
    })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn chains_avx512(rounds: u32) {
    use std::arch::x86_64::*;
    let mut sums = [_mm512_set1_ps(1.0); 16];
    let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, a, b);
        }
    }
    black_box(sums);
}

/// The same for machines without AVX-512.
fn chains(rounds: u32) {
    let mut sums = [[1f32; 16]; 16];
    let (a, b) = (black_box(0.999f32), black_box(0.001f32));
    for _ in 0..rounds {
        for sum in &mut sums {
            for s in sum {
                *s = s.mul_add(a, b);
            }
        }
    }
    black_box(sums);
}

/// Bytes a second that all threads read together.
fn read_bandwidth(threads: usize, data: &[f32]) -> f64 {
    let part = data.len() / threads;
    on_threads(threads, |i| {
        let data = &data[i * part..][..part];
        let start = Instant::now();
        let mut sums = [0f32; 256];
        for block in data.as_chunks::<256>().0 {
            for (sum, &v) in sums.iter_mut().zip(block) {
                *sum += v;
            }
        }
        black_box(sums);
        (part * 4) as f64 / start.elapsed().as_secs_f64()
    })
}
