//! What was published, in microseconds, and what the model says of it.

use super::pipelines::{
    GOLFWIDE, GPT_48M, QWEN3_SHAPE, STORIES15M, STORIES110M, constant_weight_forward,
    constant_weight_step, on, packed_weight_passes, packed_weight_step,
};
use super::programs::{
    attention_with_inputs, byte_chain, chain, convolution, gpt2_layer, packed_products,
    row_product, square_convolution, square_product, sum, whole_forward,
};
use super::{Row, Series};
use orion_mil::Program;
use orion_tensor::DType::F32;

fn row(what: impl Into<String>, measured_us: f64, estimated_us: f64) -> Row {
    Row { what: what.into(), measured_us, estimated_us, note: "" }
}

fn noted(row: Row, note: &'static str) -> Row {
    Row { note, ..row }
}

fn run(chip: &str, what: impl Into<String>, measured_us: f64, program: Program) -> Row {
    row(what, measured_us, on(chip, &[program]))
}

/// Every table.
pub(super) fn all() -> Vec<Series> {
    let mut all = chains();
    all.extend(products());
    all.extend(packed());
    all.extend(transformers());
    all.extend(training());
    all
}

fn chains() -> Vec<Series> {
    let deep = |chip: &'static str, rows: &[(usize, usize, f64)]| {
        let one = |&(depth, channels, us): &(usize, usize, f64)| {
            let what = format!("{depth} convolutions of {channels} channels, 64 columns");
            run(chip, what, us, chain(depth, channels, &[1, 64]))
        };
        rows.iter().map(one).collect()
    };
    let single = |&(channels, us): &(usize, f64)| {
        let what = format!("{channels} channels, 64 columns");
        run("m4", what, us, convolution(channels, channels, 64))
    };
    vec![
        Series {
            title: "M4: chains of 1×1 convolutions",
            source: "maderix/ANE issue 3, a Mac mini. All convolutions read one weight: the headers that the benchmark writes point to the same place.",
            rows: deep(
                "m4",
                &[
                    (32, 512, 160.0),
                    (48, 512, 190.0),
                    (64, 512, 223.0),
                    (96, 512, 302.0),
                    (128, 512, 366.0),
                    (64, 256, 124.0),
                    (128, 256, 153.0),
                    (256, 256, 220.0),
                    (64, 384, 163.0),
                    (128, 384, 230.0),
                ],
            ),
        },
        Series {
            title: "M3 Ultra: chains of 1×1 convolutions",
            source: "maderix/ANE issue 42.",
            rows: deep(
                "m3-ultra",
                &[
                    (1, 512, 189.0),
                    (32, 512, 281.0),
                    (48, 512, 315.0),
                    (64, 512, 313.0),
                    (96, 512, 380.0),
                ],
            ),
        },
        Series {
            title: "Other chips: 128 convolutions of 512 channels",
            source: "maderix/ANE, community results and pull requests 28 and 50; given as operations a second.",
            rows: vec![
                run("m3-pro", "M3 Pro, 64 columns", 430.0, chain(128, 512, &[1, 64])),
                run("m3-pro", "M3 Pro, 2048 columns", 8195.0, chain(128, 512, &[1, 2048])),
                run("m5", "M5, 64 columns", 345.0, chain(128, 512, &[1, 64])),
                run("m5", "M5, another machine", 353.0, chain(128, 512, &[1, 64])),
                run("m4-max", "M4 Max, 64 columns", 393.0, chain(128, 512, &[1, 64])),
                run("m4-pro", "M4 Pro, 64 columns", 342.0, chain(128, 512, &[1, 64])),
                run("m5-max", "M5 Max, 64×64", 14_267.0, chain(128, 512, &[64, 64])),
                run("m5-max", "M5 Max, 64×64, in 8 bits", 7720.0, byte_chain(128, 512, 64)),
            ],
        },
        Series {
            title: "M4: 8 bits against fp16",
            source: "maderix/ANE, `ane_int8_bench`.",
            rows: vec![
                run(
                    "m4",
                    "128 convolutions, 512 channels, 64×64",
                    14_800.0,
                    chain(128, 512, &[64, 64]),
                ),
                run("m4", "64 convolutions", 7500.0, chain(64, 512, &[64, 64])),
                run("m4", "128 convolutions in 8 bits", 7800.0, byte_chain(128, 512, 64)),
                run("m4", "64 convolutions in 8 bits", 4000.0, byte_chain(64, 512, 64)),
            ],
        },
        Series {
            title: "M4: one 1×1 convolution, weights of its own",
            source: "maderix/ANE issue 3, the same Mac mini.",
            rows: [
                (4096, 1012.0),
                (3072, 421.0),
                (2048, 237.0),
                (1024, 116.0),
                (512, 84.0),
                (256, 106.0),
            ]
            .iter()
            .map(single)
            .collect(),
        },
    ]
}

fn products() -> Vec<Series> {
    let baked = |from: usize, to: usize, columns: usize, us: f64| {
        let what = format!("{from} to {to} channels, {columns} columns");
        run("m4-max", what, us, convolution(from, to, columns))
    };
    let square = |n: usize, us: f64| run("m4", format!("{n}×{n}"), us, square_product(n));
    let fit = |base: f64, per_operation: f64, operations: f64| base + per_operation * operations;
    let by_row = |n: usize| {
        let measured = fit(79.6, 6.362e-6, 2.0 * (n * n) as f64);
        run("m5-pro", format!("a row of {n} times {n}×{n}"), measured, row_product(n))
    };
    vec![
        Series {
            title: "M4 Max: one 1×1 convolution between fp32 surfaces",
            source: "whiskeypolitik/rustane, `ane_tflops_m4max`.",
            rows: vec![
                baked(3072, 768, 512, 746.1),
                baked(768, 3072, 512, 330.3),
                baked(768, 768, 512, 183.2),
                baked(256, 256, 256, 95.3),
                baked(128, 128, 128, 93.7),
                baked(64, 64, 64, 102.4),
            ],
        },
        Series {
            title: "M4: one product of two square matrices",
            source: "maderix, Inside the M4 Apple Neural Engine, part 2; the larger ones given as operations a second.",
            rows: vec![
                square(4096, 34_360.0),
                square(2048, 3014.0),
                square(1024, 413.0),
                square(256, 101.0),
            ],
        },
        Series {
            title: "M5 Pro: fitted lines",
            source: "ANEForge's `ane_cost_model.json`: lines through its measurements, taken at a few places.",
            rows: vec![
                by_row(2048),
                by_row(1024),
                run(
                    "m5-pro",
                    "3×3 convolution, 256 channels, 64×64",
                    fit(88.2, 5.1e-8, 4.832e9),
                    square_convolution(256, 64, 3),
                ),
                by_row(4096),
                run(
                    "m5-pro",
                    "3×3 convolution, 128 channels, 64×64",
                    fit(88.2, 5.1e-8, 1.208e9),
                    square_convolution(128, 64, 3),
                ),
                run("m5-pro", "a sum of 262,144 elements", 120.0, sum(262_144)),
            ],
        },
        Series {
            title: "M5: one small convolution",
            source: "maderix/ANE, `m5result.md`, mean over eight qualities of service.",
            rows: vec![run("m5", "256 channels, 64 columns", 70.0, chain(1, 256, &[1, 64]))],
        },
    ]
}

fn packed() -> Vec<Series> {
    let d = |what: &str, us: f64, k: usize, outs: &[usize]| {
        run("m4-max", format!("{what}, {k} to {outs:?}"), us, packed_products(k, 512, outs, F32))
    };
    let attention = |dim: usize, us: f64| {
        let what = format!("attention of {dim} with its projections");
        run("m4-max", what, us, attention_with_inputs(dim, dim / 128, 512))
    };
    vec![Series {
        title: "M4 Max: weights as inputs, fp32 surfaces, 512 positions",
        source: "whiskeypolitik/rustane, `forward_utilization` and `bench_conv_vs_matmul`.",
        rows: vec![
            d("output", 150.0, 768, &[768]),
            d("output", 421.0, 1536, &[1536]),
            d("output", 877.0, 2048, &[2048]),
            d("output", 2027.8, 3072, &[3072]),
            d("output", 8388.3, 5120, &[5120]),
            d("down", 3850.7, 5632, &[2048]),
            d("up and gate", 2454.1, 2048, &[5632, 5632]),
            d("up", 4867.6, 3072, &[8192]),
            d("down", 8023.7, 8192, &[3072]),
            d("up", 24_770.2, 5120, &[13_824]),
            d("down", 42_212.8, 13_824, &[5120]),
            attention(2048, 3517.8),
            attention(3072, 7092.9),
            attention(5120, 33_675.4),
        ],
    }]
}

fn transformers() -> Vec<Series> {
    let apart = |sizes| constant_weight_forward("m1-pro", &sizes);
    let forward = |chip: &str, name: &str, ms: f64| {
        row(name, ms * 1e3, constant_weight_forward(chip, &STORIES110M))
    };
    let older = "The M1 Pro's and M1 Max's figures are from macOS 15 and contradict the table above, which has 15.2 ms for the same programs under macOS 26 on an M1 Pro; the model follows that one.";
    let decode = |ms: f64| {
        let [attention, feed_forward] = gpt2_layer(768, 12, 16);
        // The logits are computed on the host, which reads the fp32 table once.
        let logits = 50_257.0 * 768.0 * 4.0 / 100.0 / 1e3;
        let us = 12.0 * on("m4-max", &[attention, feed_forward]) + logits;
        row("GPT-2 124M, one token, 24 programs of 16 positions", ms * 1e3, us)
    };
    vec![
        Series {
            title: "M1 Pro: all layers as one program, and as two a layer",
            source: "maderix/ANE issue 24, macOS 26.2.",
            rows: vec![
                run("m1-pro", "Stories110M, one program", 5081.0, whole_forward(&STORIES110M)),
                run("m1-pro", "Stories15M, one program", 728.0, whole_forward(&STORIES15M)),
                row("Stories110M, 24 programs", 15_227.0, apart(STORIES110M)),
                row("Stories15M, 12 programs", 3039.0, apart(STORIES15M)),
            ],
        },
        Series {
            title: "Stories110M, 24 forward programs with constant weights",
            source: "maderix/ANE, community results; what they count as time on the engine is the forward pass.",
            rows: vec![
                forward("m4-max", "M4 Max", 10.2),
                forward("m4-pro", "M4 Pro", 8.9),
                forward("m3-ultra", "M3 Ultra", 10.0),
                forward("m5", "M5", 9.45),
                noted(forward("m1-pro", "M1 Pro, macOS 15", 33.5), older),
                noted(forward("m1-max", "M1 Max, macOS 15", 40.0), older),
            ],
        },
        Series {
            title: "M4 Max: GPT-2 decoding with constant weights",
            source: "mechramc/Orion's results.",
            rows: vec![decode(5.78)],
        },
    ]
}

fn training() -> Vec<Series> {
    let constant = |chip: &str, name: &str, ms: f64| {
        row(name, ms * 1e3, constant_weight_step(chip, &STORIES110M))
    };
    let step = |chip: &str, name: &str, ms: f64, sizes| {
        row(name, ms * 1e3, packed_weight_step(chip, &sizes))
    };
    let [pass_forward, pass_backward] = packed_weight_passes("m4-max", &GPT_48M);
    let micro_batches = 4.0 * constant_weight_step("m4-max", &STORIES110M);
    // Sixty programs are unloaded (0.5 ms), their weights written (170 MB, once as they are and
    // once transposed, at 1 GB/s), and loaded again (3.8 ms), by the times published for an M5.
    let reload = 60.0 * (500.0 + 3800.0) + 2.0 * 170e6 / 1e3;
    vec![
        Series {
            title: "Stories110M, a training step with constant weights, without compiling",
            source: "maderix/ANE, community results, README of the trainer, pull request 28.",
            rows: vec![
                constant("m4", "M4", 106.7),
                constant("m1-max", "M1 Max", 155.0),
                constant("m4-pro", "M4 Pro", 71.0),
                constant("m3-ultra", "M3 Ultra", 91.0),
                constant("m4-max", "M4 Max", 64.0),
                constant("m3-ultra", "M3 Ultra, another machine", 81.2),
                constant("m1-pro", "M1 Pro", 155.5),
                constant("m5", "M5", 110.0),
            ],
        },
        Series {
            title: "Training steps with weights as inputs",
            source: "maderix/ANE, README of the trainer and pull requests 28 and 50; openai/parameter-golf pull request 801.",
            rows: vec![
                step("m5-max", "Stories110M, M5 Max", 73.5, STORIES110M),
                step("m4", "Stories110M, M4", 111.0, STORIES110M),
                step("m3-ultra", "Stories110M, M3 Ultra", 115.4, STORIES110M),
                step("m4", "Qwen3-0.6B's shape, M4", 412.0, QWEN3_SHAPE),
                step("m4", "Stories110M, M4, later", 91.0, STORIES110M),
                row(
                    "6 layers of 768, 512 positions, M4 Max: backward programs",
                    17_500.0,
                    pass_backward,
                ),
                row(
                    "6 layers of 768, 512 positions, M4 Max: forward programs",
                    16_000.0,
                    pass_forward,
                ),
                step("m4-pro", "GolfWide, M4 Pro", 32.8, GOLFWIDE),
                step("m5-max", "Qwen3-0.6B's shape, M5 Max", 320.0, QWEN3_SHAPE),
            ],
        },
        Series {
            title: "M4 Max: mechramc/Orion's step",
            source: "Its results: four micro-batches, then new weights without compiling.",
            rows: vec![
                noted(
                    row("four micro-batches", 849e3, micro_batches),
                    "Orion's host turns every tensor from [S, C] to [C, S] and back, clamping each number, on the way to and from 72 programs; the model's host is that of maderix/ANE, which keeps one layout.",
                ),
                row("new weights of 60 programs", 494e3, reload),
            ],
        },
    ]
}
