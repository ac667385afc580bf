//! Weights of int8 with scales and offsets: products that read them as they come, against the reference,
//! which unpacks them.

use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions, Precision};
use orion_mil::op::Constexpr;
use orion_mil::{Builder, Op, Program, TensorType, ValueId, WEIGHT_FILE, Weights};
use orion_runtime::Device;
use orion_tensor::{DType, Tensor, Tolerance};
use orion_testing::{Random, Tensors, run_once};

/// `[O, I]` of int8 with scales of that shape, perhaps with offsets, and an input `[1, I, 1, N]`.
#[derive(Clone, Copy)]
struct Layer {
    outputs: usize,
    inputs: usize,
    scales: [usize; 2],
    offsets: bool,
    tokens: usize,
}

impl Layer {
    fn weights(&self, seed: u64) -> Weights {
        let mut random = Random::new(seed);
        let mut weights = Weights::new();
        let data: Vec<i8> =
            (0..self.outputs * self.inputs).map(|_| random.uniform(-127.0, 127.0) as i8).collect();
        let scales: Vec<f32> =
            (0..self.scales[0] * self.scales[1]).map(|_| random.uniform(0.5, 2.0) as f32).collect();
        weights.append(WEIGHT_FILE, Tensor::from_slice(&[self.outputs, self.inputs], &data));
        weights.append(WEIGHT_FILE, Tensor::from_slice(&self.scales, &scales));
        if self.offsets {
            // Of few bits, so that both devices round the same numbers to bf16.
            let offsets: Vec<f32> = scales
                .iter()
                .map(|_| random.uniform(-999.0, 999.0).round() as f32 / 64.0)
                .collect();
            weights.append(WEIGHT_FILE, Tensor::from_slice(&self.scales, &offsets));
        }
        weights
    }

    /// `build` makes the result of the input and the unpacked weight.
    fn program(&self, build: impl FnOnce(&mut Builder, ValueId, ValueId) -> ValueId) -> Program {
        let offsets: Vec<u64> = {
            let weights = self.weights(0);
            let (_, tensors) = weights.files().next().unwrap();
            tensors.keys().copied().collect()
        };
        let mut b = Builder::new("main");
        let x = b.input("x", TensorType::new(DType::F32, &[1, self.inputs, 1, self.tokens]));
        let ty = TensorType::new(DType::I8, &[self.outputs, self.inputs]);
        let data = b.blob("data", ty, WEIGHT_FILE, offsets[0]);
        let ty = TensorType::new(DType::F32, &self.scales);
        let scale = b.blob("scale", ty.clone(), WEIGHT_FILE, offsets[1]);
        let offset = self.offsets.then(|| b.blob("offset", ty, WEIGHT_FILE, offsets[2]));
        let weight = b.push(&Op::Constexpr(Constexpr::Blockwise { data, scale, offset }));
        let result = build(&mut b, x, weight);
        b.rename(result, "result");
        Program::with_function(b.finish(&[result]))
    }

    fn input(&self) -> Tensors {
        let mut random = Random::new(5);
        let values: Vec<f64> =
            (0..self.inputs * self.tokens).map(|_| random.uniform(-1.0, 1.0)).collect();
        let x = Tensor::from_f64(DType::F32, &[1, self.inputs, 1, self.tokens], &values);
        Tensors::from([("x".to_owned(), x)])
    }

    fn check(&self, build: impl Fn(&mut Builder, ValueId, ValueId) -> ValueId) {
        let (program, weights, input) = (self.program(build), self.weights(1), self.input());
        let on = |device: &dyn Device| {
            run_once(device, &program, &weights, &input).unwrap()["result"].to_f64_vec()
        };
        for precision in [Precision::F32, Precision::Bf16] {
            let expected = on(&Reference.with_precision(precision));
            let options = CpuOptions::with_threads(2).with_precision(precision);
            Tolerance::F32Accum.check(&on(&Cpu::new(options)), &expected).unwrap_or_else(|e| {
                let Self { scales, offsets, tokens, .. } = self;
                panic!("{scales:?} for {tokens} tokens, offsets {offsets}: {e}")
            });
        }
    }
}

/// One, few and many tokens; blocks of 64, 32 and 16, rows, and one block for all; without offsets
/// and with them.
fn layers() -> impl Iterator<Item = Layer> {
    let by_row = [(40, 128, 2), (21, 128, 4), (7, 96, 3), (33, 48, 3), (5, 64, 4), (12, 172, 1)];
    let by_row = by_row.map(|(outputs, inputs, blocks)| (outputs, inputs, [outputs, blocks]));
    by_row
        .into_iter()
        .chain([(9, 64, [1, 1])])
        .flat_map(|(outputs, inputs, scales)| {
            let offsets = false;
            [1, 3, 8, 45].map(|tokens| Layer { outputs, inputs, scales, offsets, tokens })
        })
        .flat_map(|layer| [layer, Layer { offsets: true, ..layer }])
}

#[test]
fn layers_are_those_of_the_reference() {
    for layer in layers() {
        layer.check(|b, x, weight| b.linear_as_conv(x, weight, None));
        layer.check(|b, x, weight| b.linear_as_matmul(x, weight));
        layer.check(|b, x, weight| {
            let count = layer.outputs;
            let bias = Op::Range { dtype: DType::F32, start: -3.0, step: 0.5, count };
            let bias = b.push(&bias);
            b.linear_as_conv(x, weight, Some(bias))
        });
    }
}

#[test]
fn weights_that_something_else_reads_are_unpacked_for_it() {
    for layer in layers() {
        layer.check(|b, x, weight| {
            let y = b.linear_as_conv(x, weight, None);
            let row = b.reduce(orion_mil::op::Reduction::Sum, weight, &[0, 1], true);
            let row = b.reshape(row, &[1, 1, 1, 1]);
            b.mul(y, row)
        });
        // As the right factor.
        layer.check(|b, x, weight| {
            let x = b.reshape(x, &[layer.inputs, layer.tokens]);
            b.matmul(x, weight, true, true)
        });
    }
}

#[test]
fn no_copy_in_f32_is_kept() {
    for offsets in [false, true] {
        let layer = Layer { outputs: 256, inputs: 128, scales: [256, 2], offsets, tokens: 1 };
        let program = layer.program(|b, x, weight| b.linear_as_conv(x, weight, None));
        let executable = Cpu::default().compile(&program, &layer.weights(1)).unwrap();
        let plan = executable.explain();
        assert!(plan.contains("int8[1, 256, 128] constant"), "{plan}");
        let (_, constants) = plan.split_once("constants ").unwrap();
        let bytes: usize = constants.split(' ').next().unwrap().parse().unwrap();
        // Beside the program's sizes and strides.
        let weights = 256 * 128 + 4 * 256 * 2 * (1 + usize::from(offsets));
        assert!((weights..weights + 1024).contains(&bytes), "{plan}");
    }
}

#[test]
fn new_weights_bring_new_scales_and_offsets() {
    let layer = Layer { outputs: 20, inputs: 64, scales: [20, 1], offsets: true, tokens: 1 };
    let program = layer.program(|b, x, weight| b.linear_as_conv(x, weight, None));
    let (device, input) = (Cpu::default(), layer.input());
    let mut executable = device.compile(&program, &layer.weights(1)).unwrap();
    executable.update_weights(&layer.weights(2)).unwrap();
    let run = |weights: u64| {
        let written = run_once(&device, &program, &layer.weights(weights), &input).unwrap();
        written["result"].to_f64_vec()
    };
    let mut result = orion_runtime::Surface::from_slice(&[1, 20, 1, 1], &[0f32; 20]);
    let x = orion_runtime::Surface::from_tensor(&input["x"]);
    let mut bindings = orion_runtime::Bindings::new();
    bindings.input("x", &x).output("result", &mut result);
    executable.run(&mut bindings).unwrap();
    assert_eq!(result.to_tensor().to_f64_vec(), run(2));
    assert_ne!(run(1), run(2));
}
