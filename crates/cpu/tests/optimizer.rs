//! The optimizer's program, as training runs it: the same numbers as the reference, one pass over
//! each parameter, and nothing changed by gradients that are not finite.

use orion_compile::optimizer::{AdamWConfig, ParameterSpec, adamw};
use orion_compile::pipeline::{PipelineOptions, optimize};
use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_mil::{Program, Weights};
use orion_runtime::Device;
use orion_tensor::{DType, Tensor, Tolerance};
use orion_testing::{Random, Tensors, compare, run_once};

fn program(weight_decay: f64, in_place: bool) -> (Program, Tensors) {
    let spec = |name: &str, shape: &[usize], weight_decay| ParameterSpec {
        name: name.to_owned(),
        shape: shape.to_vec(),
        weight_decay,
    };
    let parameters = [spec("a", &[300, 257], true), spec("b", &[5], false), spec("c", &[1], true)];
    let config =
        AdamWConfig { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay, clip: Some(1.0) };
    let mut random = Random::new(3);
    let mut contents = Tensors::new();
    for ParameterSpec { name, shape, .. } in &parameters {
        for suffix in ["", "_grad", "_m", "_v"] {
            let draw = |r: &mut Random| match suffix {
                "_v" => r.uniform(0.01, 0.1),
                _ => r.normal(),
            };
            contents.insert(format!("{name}{suffix}"), random.tensor(DType::F32, shape, draw));
        }
    }
    for (name, value) in [
        ("learning_rate", 1e-2f32),
        ("beta1_correction", 0.1),
        ("beta2_correction", 0.05),
        ("gradient_scale", 0.5),
    ] {
        contents.insert(name.to_owned(), Tensor::from_slice(&[1], &[value]));
    }
    let mut function = adamw(&parameters, &config);
    if !in_place {
        function.set_in_place([]);
    }
    let program = Program::with_function(function);
    let program = optimize(&program, &PipelineOptions::default(), &mut |_, _| {}).unwrap();
    (program, contents)
}

#[test]
fn adamw_is_one_step_a_parameter_and_agrees_with_the_reference() {
    for (weight_decay, in_place, threads) in [(0.1, true, 2), (0.0, true, 1), (0.1, false, 3)] {
        let (program, mut contents) = program(weight_decay, in_place);
        let device = Cpu::new(CpuOptions::with_threads(threads));
        let executable = device.compile(&program, &Weights::new()).unwrap();
        let updates = executable.steps().iter().filter(|s| s.kind == "AdamW").count();
        // One of a single element joins what is computed of the numbers.
        assert_eq!(updates, 2, "{}", executable.explain());
        for finite in [true, false] {
            if !finite {
                contents.insert("b_grad".to_owned(), Tensor::from_slice(&[5], &[f32::NAN; 5]));
            }
            let expected = run_once(&Reference, &program, &Weights::new(), &contents).unwrap();
            let actual = run_once(&device, &program, &Weights::new(), &contents).unwrap();
            assert!(actual.keys().eq(expected.keys()));
            for (name, expected) in &expected {
                let tolerance = if finite { Tolerance::F32Accum } else { Tolerance::Exact };
                compare(&actual[name], expected, tolerance)
                    .unwrap_or_else(|e| panic!("{name}, finite {finite}: {e}"));
            }
        }
    }
}
