//! Every benchmark at tiny sizes on the real device: what they report, and that it adds up.

use orion_bench::{
    Bench, BenchModel, GemmKind, GemmShape, Limits, LoadTest, MachineInfo, Precision, Report,
    Settings, TestResult, Unit, compare, markdown, measure_machine, model_work, text,
};
use orion_cpu::Cpu;
use orion_engine::{Accelerator, Adapter, ModelDevices, Split};
use orion_mil::{Builder, Program, TensorType, Weights};
use orion_models::LowRank;
use orion_runtime::Device;
use orion_tensor::{DType, Tensor};
use std::sync::Arc;

/// A machine of known rates, so slow that every share is tiny but known.
struct SlowMachine;

impl Limits for SlowMachine {
    fn f32_flops(&mut self) -> f64 {
        1e9
    }
    fn bf16_flops(&mut self) -> Option<f64> {
        Some(2e9)
    }
    fn read_bandwidth(&mut self) -> f64 {
        1e9
    }
    fn adamw_bandwidth(&mut self) -> f64 {
        1e9
    }
    fn release(&mut self) {}
}

fn with_bench<T>(work: impl FnOnce(&mut Bench<'_>) -> T) -> T {
    with_bench_on(cpu().into(), work)
}

fn cpu() -> Arc<dyn Device> {
    Arc::new(Cpu::default())
}

fn with_bench_on<T>(devices: ModelDevices, work: impl FnOnce(&mut Bench<'_>) -> T) -> T {
    work(&mut Bench {
        precision: Precision::F32,
        devices,
        threads: 2,
        settings: Settings { repetitions: 3, warm_up: 1 },
        limits: &mut SlowMachine,
    })
}

fn tiny() -> BenchModel {
    BenchModel::random("tiny", orion_models::preset("stories260k").unwrap().network())
}

fn check(result: &TestResult, floor_seconds: Option<f64>, seconds_of: impl Fn(f64) -> f64) {
    assert_eq!((result.threads, result.device.as_str()), (2, "cpu"));
    assert_eq!((result.samples.len(), result.repetitions), (3, 3));
    assert!(result.samples.iter().all(|s| *s > 0.0 && s.is_finite()));
    assert!(result.samples.contains(&result.median) && result.samples.contains(&result.best));
    assert_eq!(result.peak_rss_bytes.is_some(), cfg!(target_os = "linux"));
    // The machine is always the same, so the share is that of the median run.
    let expected = floor_seconds.map(|floor| floor / seconds_of(result.median));
    match (result.share_of_limit, expected) {
        (Some(share), Some(expected)) => {
            orion_tensor::Tolerance::Close.check(&[share], &[expected]).unwrap();
        }
        (share, expected) => assert_eq!(share, expected),
    }
}

#[test]
fn training_reading_and_generating() {
    let size = model_work(&tiny().loaded.network).unwrap();
    assert_eq!(size.parameters, 260_032);
    let (blocks, classifier) = (5 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 172), 512 * 64);
    let products = blocks + classifier;
    assert_eq!(size.in_products, products);

    let train = with_bench(|b| b.train(tiny(), None, 2, 16)).unwrap();
    let floor = (6.0 * products as f64 * 32.0 + 28.0 * 260_032.0) / 1e9;
    check(&train, Some(floor), |ms| ms / 1e3);
    assert_eq!((train.test.as_str(), train.unit), ("train 2x16", Unit::Milliseconds));
    assert_eq!((train.batch, train.tokens), (Some(2), Some(16)));
    assert_eq!(train.size_bytes, Some(4 * 260_032));

    let prefill = with_bench(|b| b.prefill(&tiny(), 1, 20)).unwrap();
    // The classifier is for the last token only.
    let floor = 2.0 * (blocks as f64 * 20.0 + classifier as f64) / 1e9;
    check(&prefill, Some(floor), |rate| 20.0 / rate);
    assert_eq!((prefill.test.as_str(), prefill.unit), ("pp20", Unit::TokensPerSecond));

    let decode = with_bench(|b| b.decode(tiny(), 1, 6)).unwrap();
    let bytes = 4.0 * (products + 11 * 64) as f64;
    check(&decode, Some(6.0 * bytes / 1e9), |rate| 6.0 / rate);
    assert_eq!((decode.test.as_str(), decode.tokens), ("tg6", Some(6)));
}

#[test]
fn generating_with_adapters() {
    let model = tiny();
    let layers = model.loaded.network.linear_layers();
    let adapter = |scale: f64| {
        let layers = layers.iter().filter(|layer| layer.module.ends_with("q_proj"));
        let modules = layers.map(|layer| {
            let a = Tensor::from_slice(&[2, layer.inputs], &vec![0.1f32; 2 * layer.inputs]);
            let b = Tensor::from_slice(&[layer.outputs, 2], &vec![0.1f32; 2 * layer.outputs]);
            (layer.module.clone(), LowRank { a, b, scale })
        });
        Adapter { modules: modules.collect() }
    };
    let adapters = [adapter(1.0), adapter(2.0)];
    let results = with_bench(|b| b.decode_with_adapters(&model, &adapters, 2, 6)).unwrap();
    let names: Vec<&str> = results.iter().map(|r| r.test.as_str()).collect();
    assert_eq!(names, ["tg6", "tg6 adapter", "tg6 turns", "adapter swap"]);
    assert_eq!(results[3].unit, Unit::Microseconds);
    // It is a small part of a token's time, and not nothing.
    let token = 2.0 * 1e6 / results[2].median;
    assert!(results[3].median > 0.0 && results[3].median < token, "{results:?}");
    let error = with_bench(|b| b.decode_with_adapters(&model, &adapters[..1], 1, 6)).unwrap_err();
    assert!(error.to_string().contains("at least two"), "{error}");
}

#[test]
fn reading_and_generating_on_two_devices() {
    for (split, name) in [(Split::Prefill, "prefill"), (Split::Attention, "attention")] {
        let pair = ModelDevices::pair(Accelerator::plain(cpu()), cpu(), split);
        let results = with_bench_on(pair.clone(), |b| {
            assert_eq!(b.load(&tiny(), LoadTest::CompileTraining).unwrap(), None);
            [
                b.prefill(&tiny(), 1, 40).unwrap(),
                b.decode(tiny(), 2, 6).unwrap(),
                b.load(&tiny(), LoadTest::FirstToken).unwrap().unwrap(),
            ]
        });
        for (result, test) in results.iter().zip(["pp40", "tg6", "first token"]) {
            assert_eq!((result.test.as_str(), result.device.as_str()), (test, "cpu+cpu"));
            assert_eq!(result.split.as_deref(), Some(name));
            // The limits are those of one device.
            assert_eq!(result.share_of_limit, None);
            assert!(result.median > 0.0);
        }
        let errors = with_bench_on(pair, |b| {
            let shape = GemmShape { model: "tiny", outputs: 24, inputs: 40 };
            [
                b.train(tiny(), None, 1, 16).err(),
                b.explain_decoding(&tiny(), 1, 6).err(),
                b.gemm(&shape, GemmKind::Forward, 16).err(),
            ]
        });
        for error in errors {
            let error = error.unwrap();
            assert_eq!(error.kind(), orion_bench::ErrorKind::Devices);
            assert!(error.to_string().contains("cpu+cpu are two devices"), "{error}");
        }
    }
}

#[test]
fn training_on_two_devices() {
    let accelerator = || Some(Accelerator::plain(cpu()));
    let train = with_bench(|b| b.train(tiny(), accelerator(), 2, 16)).unwrap();
    assert_eq!((train.test.as_str(), train.device.as_str()), ("train 2x16", "cpu+cpu"));
    assert_eq!((train.share_of_limit, train.samples.len()), (None, 3));
    assert!(train.samples.iter().all(|ms| *ms > 0.0));
    assert_eq!((train.batch, train.tokens, train.split), (Some(2), Some(16), None));
    let error = with_bench(|b| b.train(tiny(), accelerator(), 1, 513)).unwrap_err();
    assert_eq!(error.kind(), orion_bench::ErrorKind::Size);
}

#[test]
fn sizes_that_a_model_does_not_take() {
    let errors = with_bench(|b| {
        [
            b.train(tiny(), None, 1, 513).err(),
            b.prefill(&tiny(), 1, 0).err(),
            b.decode(tiny(), 1, 513).err(),
        ]
    });
    for error in errors {
        let error = error.unwrap();
        assert_eq!(error.kind(), orion_bench::ErrorKind::Size);
        assert!(error.to_string().contains("tiny takes 1 to 512"), "{error}");
    }
}

#[test]
fn getting_ready() {
    let model = tiny();
    let load = |test| with_bench(|b| b.load(&model, test)).unwrap();
    assert_eq!(load(LoadTest::File), None, "the weights are in no file");
    let first = load(LoadTest::FirstToken).unwrap();
    check(&first, None, |ms| ms / 1e3);
    let compile = load(LoadTest::CompileTraining).unwrap();
    check(&compile, None, |ms| ms / 1e3);
    assert_eq!(compile.test, "compile train 1x256");
}

#[test]
fn products_and_programs() {
    let shape = GemmShape { model: "tiny", outputs: 24, inputs: 40 };
    for kind in GemmKind::ALL {
        let result = with_bench(|b| b.gemm(&shape, kind, 16)).unwrap();
        let flops = 2.0 * 24.0 * 40.0 * 16.0;
        check(&result, Some(flops / 1e9), |rate| flops / rate / 1e9);
        assert_eq!(result.test, format!("gemm {} 24x40x16", kind.name()));
    }

    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F32, &[4, 8]));
    let y = b.matmul(x, x, false, true);
    let y = b.softmax(y, 1);
    let program = Program::with_function(b.finish(&[y]));
    let (result, plan) =
        with_bench(|b| b.program("mine", &program, &Weights::new(), true)).unwrap();
    // 2 · 4 · 4 · 8 operations take longer there than 4 · (32 + 16) bytes.
    check(&result, Some(256e-9), |ms| ms / 1e3);
    assert!(plan.contains("softmax"), "{plan}");
}

#[test]
fn a_report_goes_to_json_and_back_and_is_compared_with_itself() {
    let results = vec![with_bench(|b| b.decode(tiny(), 1, 4)).unwrap()];
    let machine = MachineInfo {
        cpu: None,
        architecture: "any".into(),
        system: "any".into(),
        instructions: "none".into(),
        threads: 2,
        version: "0".into(),
        commit: Some("abc".into()),
        unix_time: 0,
        limits: Vec::new(),
    };
    let report = Report { machine, results };
    let mut again = Report::from_json(report.to_json().as_bytes()).unwrap();
    assert_eq!(again, report);
    assert_eq!(compare(&report, &mut again), 1);
    assert_eq!(again.results[0].compared.map(|c| (c.ratio, c.slower)), Some((1.0, false)));
    for table in [text(&again), markdown(&again)] {
        assert!(table.contains("tg4") && table.contains("1.00x"), "{table}");
    }
}

#[test]
fn the_machine_by_itself() {
    let (rates, results) = measure_machine(&mut SlowMachine, 2, 3);
    assert_eq!((rates.f32_gflops, rates.bf16_gflops), (1.0, Some(2.0)));
    assert_eq!((rates.read_gb_per_s, rates.adamw_gb_per_s), (1.0, 1.0));
    let rows: Vec<_> = results.iter().map(|r| (r.precision.as_str(), r.median, r.unit)).collect();
    let (flops, bytes) = (Unit::Gigaflops, Unit::GigabytesPerSecond);
    let expected =
        [("f32", 1.0, flops), ("bf16", 2.0, flops), ("f32", 1.0, bytes), ("f32", 1.0, bytes)];
    assert_eq!(rows, expected);
}
