//! Other people's models, run on the CPU devices, against an evaluation with numpy and PyTorch:
//! `tests/oracles/evaluate_bundle.py` wrote the expected numbers.

use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_mil::package::load;
use orion_mil::{Type, flexible_inputs, specialize};
use orion_runtime::Device;
use orion_tensor::{Tensor, Tolerance};
use orion_testing::{Tensors, run_once, shared_dir, skip};
use serde_json::Value;

/// Element `i` of the input at place `p`, in the order of names, is `offset + sin(0.37 i + p) / 2`.
fn waves(function: &orion_mil::Function, offset: f64) -> Tensors {
    let mut params: Vec<_> = function.params.iter().map(|p| p.value).collect();
    params.sort_by_key(|&v| function.value_name(v).to_owned());
    let wave = |(place, &value): (usize, &orion_mil::ValueId)| {
        let Type::Tensor(ty) = function.ty(value) else { panic!("inputs are tensors") };
        let shape = ty.shape().expect("sizes are known");
        let count: usize = shape.iter().product();
        let numbers: Vec<f64> =
            (0..count).map(|i| offset + (0.37 * i as f64 + place as f64).sin() / 2.0).collect();
        let tensor = Tensor::from_f64(ty.dtype, &shape, &numbers);
        (function.value_name(value).to_owned(), tensor)
    };
    params.iter().enumerate().map(wave).collect()
}

fn agrees(bundle: &str, results: &str, offset: f64) {
    let Some(shared) = shared_dir() else { return skip(bundle) };
    let mut bundle = load(&shared.join("mil/bundles").join(bundle)).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oracles/results/");
    let text = std::fs::read_to_string(format!("{path}{results}.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    // Open sizes are those that the model names as its own.
    let main = bundle.program.main().unwrap();
    let defaults = flexible_inputs(main).into_iter().map(|(name, f)| (name, f.default)).collect();
    bundle.program.functions = vec![specialize(main, &defaults).unwrap()];
    let inputs = waves(bundle.program.main().unwrap(), offset);
    let cpu = Cpu::new(CpuOptions::with_threads(2));
    for device in [&Reference as &dyn Device, &cpu] {
        let written = run_once(device, &bundle.program, &bundle.weights, &inputs).unwrap();
        let outputs = expected.as_object().unwrap();
        assert_eq!(written.len(), outputs.len());
        for (name, expected) in outputs {
            let numbers = written[name].to_f64_vec();
            let list = |key: &str| -> Vec<f64> {
                expected[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
            };
            let shape: Vec<f64> = written[name].shape().iter().map(|&n| n as f64).collect();
            assert_eq!(shape, list("shape"), "{name}");
            let step = expected["step"].as_u64().unwrap() as usize;
            let some: Vec<f64> = numbers.iter().copied().step_by(step).collect();
            let check = |actual: &[f64], expected: &[f64]| {
                Tolerance::F16Accum
                    .check(actual, expected)
                    .unwrap_or_else(|e| panic!("{results}, {} on {}: {e}", name, device.name()));
            };
            check(&some, &list("every"));
            let squares: f64 = numbers.iter().map(|v| v * v).sum();
            let rms = (squares / numbers.len() as f64).sqrt();
            check(&[rms], &[expected["rms"].as_f64().unwrap()]);
        }
    }
}

#[test]
fn silero_vad() {
    agrees("FluidInference__mobius__silero-vad-unified-v6.0.0.mlmodelc", "silero_vad", 0.0);
}

#[test]
fn silero_vad_with_weights_of_4_bits() {
    agrees("FluidInference__mobius__unified_palette_4bit.mlmodelc", "silero_vad_palette", 0.0);
}

#[test]
fn basic_pitch() {
    agrees("spotify__basic-pitch__nmp.mlpackage", "basic_pitch", 0.0);
}

/// Two LSTMs as loops over lists. Its inputs are magnitudes, so none may be below zero.
#[test]
fn dtln() {
    agrees("adamsro__dtln-aec-coreml__DTLN_AEC_128_Part1.mlpackage", "dtln", 1.0);
}
