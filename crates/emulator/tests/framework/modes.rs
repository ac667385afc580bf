//! Weight modes and ways of binding memory: which are used, which refused.

use crate::support::{Bench, assert_close, expected, layer, options, run, weights};
use orion_ane::{
    Call, ErrorKind, Options, Order, Outcome, Rows, Scheme, WeightMode, doctor, keep_busy,
};
use orion_emulator::{Behaviour, Donor, StandInSurface, Statistics};
use orion_runtime::Device as _;

#[test]
fn changed_weights_are_used_in_every_mode() {
    for mode in WeightMode::ALL {
        let bench = Bench::new(Behaviour::default());
        let device = bench.open(options(mode)).unwrap();
        let (program, at) = layer("layer");
        let mut executable = device.compile(&program, &weights(at, 1)).unwrap();
        let before = device.counts().compilations;
        for seed in [1, 2, 3, 1] {
            executable.update_weights(&weights(at, seed)).unwrap();
            assert_close(&run(&mut *executable).unwrap(), &expected(at, seed));
        }
        let compiled = device.counts().compilations - before;
        // Going back to weights that were compiled before needs no compiler.
        assert_eq!(compiled, if mode == WeightMode::BakedRecompile { 2 } else { 0 }, "{mode}");
        drop(executable);
        drop(device);
        bench.assert_empty();
    }
}

#[test]
fn weights_that_do_not_fit_change_nothing() {
    for mode in WeightMode::ALL {
        let bench = Bench::new(Behaviour::default());
        let device = bench.open(options(mode)).unwrap();
        let (program, at) = layer("layer");
        let mut executable = device.compile(&program, &weights(at, 1)).unwrap();
        let right = run(&mut *executable).unwrap();
        let error = executable.update_weights(&orion_mil::Weights::new()).unwrap_err();
        assert_eq!(error.kind(), orion_runtime::ErrorKind::Weights);
        assert_eq!(run(&mut *executable).unwrap(), right);
    }
}

#[test]
fn reloading_is_refused_where_it_does_not_change_the_weights() {
    for (donor, evidence) in [
        (
            Donor::Ignored,
            "weights were changed 1 times, the results are those of the weights after 0",
        ),
        (Donor::FirstOnly, "the weights after 0 changes"),
        (Donor::Refused, "the compiled program is not signed"),
    ] {
        let bench = Bench::new(Behaviour { donor, ..Behaviour::default() });
        let error = bench.open(options(WeightMode::BakedReload)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Proof);
        let text = error.to_string();
        assert!(text.contains("baked-reload does not work") && text.contains(evidence), "{text}");
        bench.assert_empty();
        // The other modes do not need it.
        for mode in [WeightMode::Inputs, WeightMode::BakedRecompile] {
            assert!(bench.open(options(mode)).is_ok());
        }
        bench.assert_empty();
    }
}

#[test]
fn every_way_of_binding_memory_is_found() {
    let scheme = |order, rows| Scheme { order, rows };
    let described = Behaviour::default();
    let silent = Behaviour { describes: false, ..described };
    for (behaviour, found) in [
        (described, scheme(Order::Reported, Rows::Reported)),
        (Behaviour { sorts_symbols: false, ..described }, scheme(Order::Reported, Rows::Reported)),
        (Behaviour { packs_rows: true, ..described }, scheme(Order::Reported, Rows::Reported)),
        (silent, scheme(Order::Alphabetical, Rows::Padded)),
        (Behaviour { packs_rows: true, ..silent }, scheme(Order::Alphabetical, Rows::Packed)),
        (Behaviour { sorts_symbols: false, ..silent }, scheme(Order::Written, Rows::Padded)),
        (
            Behaviour { sorts_symbols: false, packs_rows: true, ..silent },
            scheme(Order::Written, Rows::Packed),
        ),
    ] {
        let bench = Bench::new(behaviour);
        for mode in WeightMode::ALL {
            let device = bench.open(options(mode)).unwrap();
            assert_eq!(device.scheme(), found, "{:?}", device.proofs());
            let (program, at) = layer("layer");
            let mut executable = device.compile(&program, &weights(at, 1)).unwrap();
            assert_close(&run(&mut *executable).unwrap(), &expected(at, 1));
        }
        bench.assert_empty();
    }
}

#[test]
fn loading_again_keeps_the_old_weights_unless_the_system_rereads_them() {
    // What the stand-in says of four measurements and of the project that contradicts them.
    use orion_ane::{Descriptor, Framework as _};
    for rereads_weight_files in [false, true] {
        let unloading_removes_files = false;
        let behaviour =
            Behaviour { rereads_weight_files, unloading_removes_files, ..Behaviour::default() };
        let bench = Bench::new(behaviour);
        let framework = &bench.framework;
        let text = "program(1.3)\n{\n    func main<ios18>(tensor<fp16, [1, 1, 1, 32]> x) {\n        tensor<fp16, [1, 1, 1, 32]> w = const()[name = string(\"w\"), val = tensor<fp16, [1, 1, 1, 32]>(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64(64)))];\n        tensor<fp16, [1, 1, 1, 32]> y = add(x = x, y = w)[name = string(\"y\")];\n    } -> (y);\n}\n";
        let file = |value: f64| {
            let tensor = orion_tensor::Tensor::from_f64(
                orion_tensor::DType::F16,
                &[1, 1, 1, 32],
                &[value; 32],
            );
            let mut bytes = Vec::new();
            orion_mil::blob::write_blob_file(&[(64, tensor)].into(), &mut bytes).unwrap();
            bytes
        };
        let descriptor = Descriptor {
            text: text.to_owned(),
            weights: [(orion_mil::WEIGHT_FILE.to_owned(), orion_tensor::Bytes::new(file(1.0)))]
                .into(),
        };
        let model = framework.model(&descriptor).unwrap();
        let directory = bench.directory.path().join(framework.identifier(&model).unwrap());
        std::fs::create_dir_all(directory.join("weights")).unwrap();
        std::fs::write(directory.join("model.mil"), text).unwrap();
        let weights = directory.join("weights/weight.bin");
        std::fs::write(&weights, file(1.0)).unwrap();
        framework.compile(&model).unwrap();
        framework.load(&model, None).unwrap();
        let (x, mut y) = (framework.surface(64).unwrap(), framework.surface(64).unwrap());
        fn bind(surface: &StandInSurface) -> [orion_ane::Binding<'_, StandInSurface>; 1] {
            [orion_ane::Binding { index: 0, surface }]
        }
        let request = framework.request(&bind(&x), &bind(&y), None).unwrap();
        let first = |y: &mut _| {
            framework.release(y).unwrap();
            framework.evaluate(&model, &request).unwrap();
            let bytes = framework.read(y).unwrap();
            orion_tensor::f16::from_le_bytes([bytes[0], bytes[1]]).to_f64()
        };
        assert_eq!(first(&mut y), 1.0);
        std::fs::write(&weights, file(2.0)).unwrap();
        framework.unload(&model).unwrap();
        let error = framework.evaluate(&model, &request).unwrap_err();
        assert!(error.text.contains("NotFound"), "{error}");
        framework.load(&model, None).unwrap();
        assert_eq!(first(&mut y), if rereads_weight_files { 2.0 } else { 1.0 });
        // Memory of another size, and a number that is not there.
        let small = framework.surface(32).unwrap();
        let wrong = framework.request(&bind(&small), &bind(&y), None).unwrap();
        let error = framework.evaluate(&model, &wrong).unwrap_err();
        assert_eq!((error.call, error.code), (Call::Evaluate, Some(0x1d)));
        let second = [orion_ane::Binding { index: 1, surface: &x }];
        let wrong = framework.request(&second, &bind(&y), None).unwrap();
        assert_eq!(framework.evaluate(&model, &wrong).unwrap_err().code, Some(2));
    }
}

#[test]
fn times_of_the_hardware_are_used_where_the_system_gives_them() {
    for (statistics, evidence) in [
        (Statistics::Missing, "the framework has no such statistics"),
        (Statistics::Zeros, "the system gives no times, or zeros"),
        (Statistics::Fail, "the request has no surface for statistics"),
        (Statistics::Times, "an addition takes"),
    ] {
        let bench = Bench::new(Behaviour { statistics, ..Behaviour::default() });
        let options = Options { measure: true, ..options(WeightMode::Inputs) };
        let device = bench.open(options.clone()).unwrap();
        let mut proofs = device.proofs().iter();
        let proof = proofs.find(|p| p.what == "times of the hardware").unwrap();
        assert!(proof.evidence.contains(evidence), "{proof:?}");
        assert_eq!(proof.outcome == Outcome::Proven, statistics == Statistics::Times);
        let (program, at) = layer("layer");
        let mut executable = device.compile(&program, &weights(at, 1)).unwrap();
        assert_close(&run(&mut *executable).unwrap(), &expected(at, 1));
        let time = executable.run_figures().hardware;
        assert_eq!(time.is_some(), statistics == Statistics::Times);
        drop(executable);
        drop(device);
        // Doctor says the same, and nothing that is missing is a failure.
        let report = doctor(bench.framework.clone(), options);
        let seen = report.observations.iter().find(|o| o.name == "statistics").unwrap();
        assert!(seen.answer.contains(evidence) && report.is_well(), "{seen:?}");
        assert_eq!(!seen.figures.is_empty(), statistics == Statistics::Times);
        bench.assert_empty();
    }
}

#[test]
fn the_engine_is_kept_busy_until_it_is_told_to_end() {
    let bench = Bench::new(Behaviour::default());
    let mut left = 2;
    let goes_on = &mut || {
        left -= 1;
        left > 0
    };
    let options = options(WeightMode::Inputs);
    let (runs, seconds) = keep_busy(bench.framework.clone(), options, goes_on).unwrap();
    assert!(runs == 2 && seconds > 0.0);
    bench.assert_empty();
}
