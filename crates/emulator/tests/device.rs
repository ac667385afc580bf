//! The device as a whole: what it refuses, and what it computes beside the definition.

use orion_device::Route;
use orion_emulator::AneModel;
use orion_mil::op::{Binary, Equation, GeluMode, Reduction, Spatial, Unary};
use orion_mil::{Builder, Function, Op, Program, TensorType, ValueId, WEIGHT_FILE, Weights};
use orion_runtime::{Bindings, Device, ErrorKind, Surface};
use orion_tensor::{DType, Tensor, Tolerance, f16};
use orion_testing::{Random, Tensors, run_once};

fn device(name: &str) -> AneModel {
    AneModel::from_name(name).unwrap()
}

/// A function of inputs `in_0`, `in_1`, … with the result `out_0`.
fn function(shapes: &[&[usize]], body: impl Fn(&mut Builder, &[ValueId]) -> ValueId) -> Function {
    let mut b = Builder::new("main");
    let inputs: Vec<ValueId> = shapes
        .iter()
        .enumerate()
        .map(|(i, s)| b.input(&format!("in_{i}"), TensorType::new(DType::F16, s)))
        .collect();
    let out = body(&mut b, &inputs);
    b.rename(out, "out_0");
    b.finish(&[out])
}

fn contents(values: &[(&[usize], Vec<f64>)]) -> Tensors {
    let tensors = values.iter().enumerate().map(|(i, (shape, values))| {
        (format!("in_{i}"), Tensor::from_f64(DType::F16, shape, values))
    });
    tensors.collect()
}

fn run(name: &str, function: Function, contents: &Tensors) -> Vec<f64> {
    let program = Program::with_function(function);
    let written = run_once(&device(name), &program, &Weights::new(), contents).unwrap();
    written["out_0"].to_f64_vec()
}

fn random(seed: u64, shape: &[usize]) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..shape.iter().product()).map(|_| random.uniform(-1.0, 1.0)).collect()
}

#[test]
fn names_of_devices() {
    assert_eq!(device("ane-model:m4").name(), "ane-model:m4");
    assert_eq!(device("ane-model:M4 Pro:core-ml").name(), "ane-model:m4-pro:core-ml");
    assert!(AneModel::from_name("ane-model:m9").is_err());
    assert!(AneModel::from_name("ane-model:m4:other").is_err());
}

#[test]
fn what_the_engine_refuses_is_refused_with_the_rule() {
    let tan = || function(&[&[1, 4, 8, 64]], |b, x| b.unary(Unary::Tan, x[0]));
    let program = Program::with_function(tan());
    let error = device("ane-model:m4").compile(&program, &Weights::new()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(text.contains("InvalidMILProgram") && text.contains("ANE040"), "{text}");
    assert!(text.contains("tan -> out_0"), "{text}");

    let shape: &[usize] = &[1, 4, 8, 64];
    let x = vec![0.5; 4 * 8 * 64];
    let out = run("ane-model:m4:core-ml", tan(), &contents(&[(shape, x)]));
    assert_eq!(out[0], f16::from_f64(0.5f64.tan()).to_f64());
}

#[test]
fn too_many_programs_are_refused_until_one_is_dropped() {
    let model = device("ane-model:m4");
    let program = Program::with_function(function(&[&[1, 32]], |b, x| b.unary(Unary::Relu, x[0])));
    let compile = || model.compile(&program, &Weights::new());
    let mut programs: Vec<_> = (0..119).map(|_| compile().unwrap()).collect();
    for _ in 0..2 {
        let text = compile().err().unwrap().to_string();
        assert!(text.contains("ANECCompile() FAILED"), "{text}");
    }
    programs.pop();
    assert!(compile().is_ok());
}

#[test]
fn a_surface_of_another_size_gives_0x1d() {
    let program = Program::with_function(function(&[&[1, 32]], |b, x| b.unary(Unary::Relu, x[0])));
    let mut executable = device("ane-model:m4").compile(&program, &Weights::new()).unwrap();
    // Rows of 64 bytes, and none of fewer: the same shape without them does not fit either.
    let layouts = executable.signature().ports.iter().map(|p| p.layout.clone());
    assert_eq!(
        layouts.map(|l| (l.strides, l.size_bytes)).collect::<Vec<_>>(),
        vec![(vec![32, 1], 64); 2]
    );
    let (x, mut y) = (
        Surface::from_slice(&[1, 16], &[f16::ZERO; 16]),
        Surface::from_slice(&[1, 32], &[f16::ZERO; 32]),
    );
    let mut bindings = Bindings::new();
    bindings.input("in_0", &x).output("out_0", &mut y);
    let error = executable.run(&mut bindings).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Binding);
    assert!(error.to_string().contains("status=0x1d"), "{error}");
}

#[test]
fn surfaces_are_those_of_compiled_models() {
    // One element a row takes 64 bytes, and numbers go by names, not by places in the text.
    let mut b = Builder::new("main");
    let z = b.input("z", TensorType::new(DType::F16, &[1, 4, 1, 1]));
    let a = b.input("a", TensorType::new(DType::F16, &[1, 4, 1, 1]));
    let (sum, product) = (b.add(z, a), b.mul(z, a));
    b.rename(sum, "y");
    b.rename(product, "c");
    let program = Program::with_function(b.finish(&[sum, product]));
    let mut executable = device("ane-model:m4").compile(&program, &Weights::new()).unwrap();
    let ports = executable.signature().ports.clone();
    assert_eq!(ports.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["a", "z", "c", "y"]);
    for port in &ports {
        assert_eq!(
            (&port.layout.strides[..], port.layout.size_bytes),
            (&[128, 32, 32, 1][..], 256)
        );
    }
    let numbers = |v: [f64; 4]| Tensor::from_f64(DType::F16, &[1, 4, 1, 1], &v);
    let layout = &ports[0].layout;
    let (a, z) = (
        Surface::holding(layout.clone(), &numbers([1.0, 2.0, 3.0, 4.0])),
        Surface::holding(layout.clone(), &numbers([0.5; 4])),
    );
    assert_eq!(a.elements::<f16>()[32], f16::from_f64(2.0), "the second channel's row");
    let (mut c, mut y) = (Surface::zeros(layout.clone()), Surface::zeros(layout.clone()));
    let mut bindings = Bindings::new();
    bindings.input("a", &a).input("z", &z).output("c", &mut c).output("y", &mut y);
    executable.run(&mut bindings).unwrap();
    assert_eq!(c.to_tensor(), numbers([0.5, 1.0, 1.5, 2.0]));
    assert_eq!(y.to_tensor(), numbers([1.5, 2.5, 3.5, 4.5]));

    let dense = Surface::from_tensor(&numbers([0.0; 4]));
    let mut bindings = Bindings::new();
    bindings.input("a", &dense).input("z", &z).output("c", &mut c).output("y", &mut y);
    let text = executable.run(&mut bindings).unwrap_err().to_string();
    assert!(text.contains("status=0x1d") && text.contains("8 bytes instead of"), "{text}");
}

/// Both are sums in fixed point: they pass the limit, and drop what is small.
#[test]
fn einsum_and_transposed_convolutions_are_fixed_point_sums() {
    let equation = Equation::parse("bij,bkj->bik").unwrap();
    let product = |value: f64| {
        let einsum = function(&[&[1, 2, 64], &[1, 3, 64]], |b, x| {
            b.push(&Op::Einsum { values: x.to_vec(), equation: equation.clone() })
        });
        let given = contents(&[(&[1, 2, 64], vec![value; 128]), (&[1, 3, 64], vec![value; 192])]);
        run("ane-model:m4", einsum, &given)
    };
    assert_eq!(product(2.0), [256.0; 6]);
    assert_eq!(product(32.0), [f64::INFINITY; 6]);
    assert_eq!(product(f64::powi(2.0, -9)), [0.0; 6]);

    let taps = |value: f64| {
        let conv = function(&[&[1, 64, 1, 32], &[64, 1, 1, 2]], |b, x| {
            b.push(&Op::Spatial(Spatial::ConvTranspose {
                x: x[0],
                weight: x[1],
                bias: None,
                strides: vec![1, 2],
                before: vec![0, 0],
                output: vec![1, 64],
                dilations: vec![1, 1],
                groups: 1,
            }))
        });
        let x = vec![value; 64 * 32];
        let given = contents(&[(&[1, 64, 1, 32], x), (&[64, 1, 1, 2], vec![value; 128])]);
        run("ane-model:m4:core-ml", conv, &given)
    };
    assert_eq!(taps(2.0), [256.0; 64]);
    assert_eq!(taps(32.0), [f64::INFINITY; 64]);
}

fn close(actual: &[f64], expected: &[f64]) {
    Tolerance::F16Accum.check(actual, expected).unwrap();
}

#[test]
fn products_agree_with_plain_loops() {
    let (m, k, n) = (5, 48, 7);
    let (a, b) = (random(1, &[2, m, k]), random(2, &[k, n]));
    let rounded = |v: &[f64]| v.iter().map(|&v| f16::from_f64(v).to_f64()).collect::<Vec<_>>();
    let (ra, rb) = (rounded(&a), rounded(&b));
    let mut expected = Vec::new();
    for i in 0..2 * m {
        for j in 0..n {
            expected.push((0..k).map(|l| ra[i * k + l] * rb[l * n + j]).sum());
        }
    }
    let shapes: [&[usize]; 2] = [&[2, m, k], &[k, n]];
    let product = |transpose: bool| {
        let right: &[usize] = if transpose { &[n, k] } else { &[k, n] };
        function(&[shapes[0], right], |b, x| b.matmul(x[0], x[1], false, transpose))
    };
    let plain = run(
        "ane-model:m4",
        product(false),
        &contents(&[(shapes[0], a.clone()), (shapes[1], b.clone())]),
    );
    close(&plain, &expected);
    let turned: Vec<f64> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
    let transposed =
        run("ane-model:m4", product(true), &contents(&[(shapes[0], a), (&[n, k], turned)]));
    assert_eq!(plain, transposed);
}

#[test]
fn convolutions_are_the_same_sums() {
    // 3 × 3 over two groups with stride, padding and dilation, against plain loops.
    let (c, o, h, w, groups) = (4, 6, 9, 32, 2);
    let x = random(3, &[1, c, h, w]);
    let weight = random(4, &[o, c / groups, 3, 3]);
    let rounded = |v: &[f64]| v.iter().map(|&v| f16::from_f64(v).to_f64()).collect::<Vec<_>>();
    let (rx, rw) = (rounded(&x), rounded(&weight));
    let (oh, ow): (usize, usize) = (4, 15);
    let mut expected = Vec::new();
    for oc in 0..o {
        for i in 0..oh {
            for j in 0..ow {
                let mut sum = 0.0;
                for ic in 0..c / groups {
                    for (ky, kx) in (0..9usize).map(|t| (t / 3, t % 3)) {
                        let (y, z) =
                            ((i * 2 + ky * 2).wrapping_sub(1), (j * 2 + kx * 2).wrapping_sub(1));
                        if y < h && z < w {
                            let channel = oc / (o / groups) * (c / groups) + ic;
                            sum += rx[(channel * h + y) * w + z]
                                * rw[((oc * c / groups + ic) * 3 + ky) * 3 + kx];
                        }
                    }
                }
                expected.push(sum);
            }
        }
    }
    let mut weights = Weights::new();
    let tensor = Tensor::from_f64(DType::F16, &[o, c / groups, 3, 3], &weight);
    let offset = weights.append(WEIGHT_FILE, tensor);
    let shape: &[usize] = &[1, c, h, w];
    let conv = function(&[shape], |b, x| {
        let ty = TensorType::new(DType::F16, &[o, c / groups, 3, 3]);
        let weight = b.blob("weight_0", ty, WEIGHT_FILE, offset);
        b.push(&Op::Conv {
            x: x[0],
            weight,
            bias: None,
            strides: vec![2, 2],
            pads: vec![(1, 1), (1, 1)],
            dilations: vec![2, 2],
            groups,
        })
    });
    let program = Program::with_function(conv);
    let written =
        run_once(&device("ane-model:m4"), &program, &weights, &contents(&[(shape, x)])).unwrap();
    close(&written["out_0"].to_f64_vec(), &expected);
}

#[test]
fn silent_wrongness_shows() {
    let shape: &[usize] = &[1, 1, 1, 3000];
    let ones = contents(&[(shape, vec![1.0; 3000])]);
    // From 2048 on fp16 counts by twos, and ties go up: every further one adds two.
    let sum = function(&[shape], |b, x| b.reduce(Reduction::Sum, x[0], &[3], true));
    assert_eq!(run("ane-model:m4", sum, &ones), [2048.0 + 2.0 * 952.0]);
    // The same sum as a product is exact.
    let product = function(&[&[1, 4096], &[4096, 1]], |b, x| b.matmul(x[0], x[1], false, false));
    let both = contents(&[(&[1, 4096], vec![1.0; 4096]), (&[4096, 1], vec![1.0; 4096])]);
    assert_eq!(run("ane-model:m4", product, &both), [4096.0]);
    // Every gelu is one table.
    let zero = contents(&[(&[1, 32], vec![0.0; 32])]);
    for mode in [GeluMode::Exact, GeluMode::Tanh] {
        let gelu = function(&[&[1, 32]], |b, x| b.gelu(x[0], mode));
        assert!((run("ane-model:m4", gelu, &zero)[0] + 0.000754).abs() < 1e-6);
    }
    // An infinity times anything is a number.
    let infinite = contents(&[(&[1, 32], vec![f64::INFINITY; 32]), (&[1, 32], vec![1.0; 32])]);
    let mul = function(&[&[1, 32], &[1, 32]], |b, x| b.binary(Binary::Mul, x[0], x[1]));
    assert_eq!(run("ane-model:m4", mul, &infinite)[0], -52416.0);
}

#[test]
fn masks_of_any_size_are_zero_after_softmax() {
    let shape: &[usize] = &[1, 1, 1, 32];
    let soft = |mask: f64| {
        let mut x = vec![0.0; 32];
        x[31] = mask;
        let softmax = function(&[shape], |b, x| b.softmax(x[0], 3));
        run("ane-model:m4", softmax, &contents(&[(shape, x)]))
    };
    assert_eq!(soft(-10000.0), soft(-65504.0));
    assert_eq!((soft(-17.5)[31], soft(-65504.0)[31]), (0.0, 0.0));
    assert!(soft(-17.0)[31] == 0.0 || soft(-10.0)[31] > 0.0);
    close(&soft(0.0), &[1.0 / 32.0; 32]);
}

#[test]
fn elementwise_functions_have_the_range_of_fp16() {
    // No limit at 32768 there, subnormal numbers stay, and halves go away from zero.
    let shape: &[usize] = &[1, 32];
    let mut x = vec![0.0; 32];
    let mut y = vec![0.0; 32];
    let tiny = f64::powi(2.0, -24);
    (x[0], y[0]) = (32752.0, 32752.0);
    (x[1], y[1]) = (tiny, tiny);
    (x[2], y[2]) = (2048.0, 1.0);
    (x[3], y[3]) = (f64::NAN, 1.0);
    (x[4], y[4]) = (60000.0, 60000.0);
    let add = function(&[shape, shape], |b, x| b.add(x[0], x[1]));
    let out = run("ane-model:m4", add, &contents(&[(shape, x), (shape, y)]));
    assert_eq!(out[..5], [65504.0, 2.0 * tiny, 2050.0, f64::INFINITY, f64::INFINITY]);
}

/// A 1×1 convolution of `k` bytes with `k` bytes, each with a scale.
fn byte_convolution(k: usize, x_scale: &str, w_scale: &str) -> Program {
    let text = format!(
        r#"program(1.3)
[buildInfo = dict<string, string>({{{{"coremlc-version", "1"}}}})]
{{
    func main<ios18>(tensor<fp16, [1, {k}, 1, 32]> in_0) {{
        fp16 xs = const()[name = string("xs"), val = fp16({x_scale})];
        int8 zero = const()[name = string("zero"), val = int8(0)];
        string kind = const()[name = string("kind"), val = string("int8")];
        string valid = const()[name = string("valid"), val = string("valid")];
        tensor<int32, [2]> ones = const()[name = string("ones"), val = tensor<int32, [2]>([1, 1])];
        tensor<int32, [4]> pads = const()[name = string("pads"), val = tensor<int32, [4]>([0, 0, 0, 0])];
        int32 groups = const()[name = string("groups"), val = int32(1)];
        tensor<fp16, [1, {k}, 1, 1]> w = constexpr_affine_dequantize()[axis = int32(0), name = string("w"), quantized_data = tensor<int8, [1, {k}, 1, 1]>(BLOBFILE(path = string("@model_path/weights/weight.bin"), offset = uint64(64))), scale = fp16({w_scale}), zero_point = int8(0)];
        tensor<int8, [1, {k}, 1, 32]> q = quantize(input = in_0, output_dtype = kind, scale = xs, zero_point = zero)[name = string("q")];
        tensor<fp16, [1, {k}, 1, 32]> d = dequantize(input = q, scale = xs, zero_point = zero)[name = string("d")];
        tensor<fp16, [1, 1, 1, 32]> out_0 = conv(dilations = ones, groups = groups, pad = pads, pad_type = valid, strides = ones, weight = w, x = d)[name = string("out_0")];
    }} -> (out_0);
}}
"#
    );
    orion_mil::text::parse(&text).unwrap()
}

#[test]
fn sums_of_bytes_are_whole_numbers_that_are_scaled_once() {
    let k = 1024;
    let mut weights = Weights::new();
    weights.append(WEIGHT_FILE, Tensor::from_slice(&[1, k, 1, 1], &vec![127i8; k]));
    let all = |value: f64| contents(&[(&[1, k, 1, 32], vec![value; k * 32])]);
    let on = |chip: &str, program: &Program, value: f64| {
        let written = run_once(&device(chip), program, &weights, &all(value)).unwrap();
        written["out_0"].to_f64_vec()[0]
    };
    // 1024 · 127 · 127 = 16,516,096 passes every limit of the fp16 sums, and 2^-9 of it does not
    // pass fp16's own.
    let program = byte_convolution(k, "0x1p+0", "0x1p-9");
    assert_eq!(on("ane-model:m4", &program, 127.0), 32_256.0);
    let program = byte_convolution(k, "0x1p+0", "0x1p-8");
    assert_eq!(on("ane-model:m4", &program, 127.0), 64_512.0);
    // The M1 unpacks bytes to fp16 first, where the same sum is too large.
    assert_eq!(on("ane-model:m1", &program, 127.0), f64::INFINITY);
    // 127 · 2^-18 drops out of fp16 sums altogether.
    let program = byte_convolution(k, "0x1p-9", "0x1p-9");
    assert_eq!(on("ane-model:m4", &program, 1.0 / 512.0), f64::from(k as u32) * 127.0 / 262_144.0);
}

#[test]
fn core_ml_reads_the_mask_of_attention_and_the_engine_does_not() {
    let text = r#"program(1.3)
[buildInfo = dict<string, string>({{"coremlc-version", "1"}})]
{
    func main<ios18>(tensor<fp16, [1, 1, 2, 32]> in_0, tensor<fp16, [2, 2]> in_1) {
        tensor<fp16, [1, 1, 2, 32]> out_0 = scaled_dot_product_attention(attn_mask = in_1, key = in_0, query = in_0, value = in_0)[name = string("out_0")];
    } -> (out_0);
}
"#;
    let program = orion_mil::text::parse(text).unwrap();
    let rows: Vec<f64> = (0..64).map(|i| if i < 32 { 0.0 } else { 1.0 }).collect();
    // The first position sees itself only.
    let mask = vec![0.0, -10000.0, 0.0, 0.0];
    let given = contents(&[(&[1, 1, 2, 32], rows), (&[2, 2], mask)]);
    let first = |name: &str| {
        let written = run_once(&device(name), &program, &Weights::new(), &given).unwrap();
        written["out_0"].to_f64_vec()[0]
    };
    assert_eq!(first("ane-model:m4:core-ml"), 0.0);
    assert_eq!(first("ane-model:m4"), 0.5);
}

#[test]
fn a_report_counts_what_went_wrong() {
    let product = function(&[&[1, 64], &[64, 1]], |b, x| b.matmul(x[0], x[1], false, false));
    let program = Program::with_function(product);
    let model = AneModel::new("m4".parse().unwrap(), Route::Direct);
    let mut executable = model.compile(&program, &Weights::new()).unwrap();
    let ports = executable.signature().ports.clone();
    let of = |port: usize, v: f64| {
        let layout = ports[port].layout.clone();
        let count = layout.shape.iter().product();
        Surface::holding(
            layout.clone(),
            &Tensor::from_f64(DType::F16, &layout.shape, &vec![v; count]),
        )
    };
    let (x, y, mut out) = (of(0, 1000.0), of(1, 100.0), of(2, 0.0));
    let mut bindings = Bindings::new();
    bindings.input("in_0", &x).input("in_1", &y).output("out_0", &mut out);
    let text = executable.run_reported(&mut bindings).unwrap();
    assert_eq!(out.elements::<f16>()[0], f16::INFINITY);
    assert!(
        text.contains("matmul -> out_0; 1 sums became infinite; at most inf from f32"),
        "{text}"
    );
    let (x, y, mut out) = (of(0, 1.0), of(1, 3.0), of(2, 0.0));
    let mut bindings = Bindings::new();
    bindings.input("in_0", &x).input("in_1", &y).output("out_0", &mut out);
    let text = executable.run_reported(&mut bindings).unwrap();
    assert!(
        text.contains("matmul -> out_0; at most 0.00e0 from f32, 0.000 % of its size"),
        "{text}"
    );
}
