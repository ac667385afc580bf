//! Operations whose definition is easily misread, on the CPU devices, against PyTorch:
//! `tests/oracles/ops.py` wrote programs, inputs and outputs.

use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_mil::Weights;
use orion_mil::text::parse;
use orion_runtime::Device;
use orion_tensor::{Tensor, Tolerance};
use orion_testing::{Tensors, run_once};
use serde_json::Value;

/// Only as many as there are; fewer would be a file that was cut.
const CASES: usize = 150;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn pytorch_says_the_same() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oracles/results/ops.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= CASES, "only {} cases", cases.len());
    let cpu = Cpu::new(CpuOptions::with_threads(2));
    let mut failures = Vec::new();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let program = parse(case["program"].as_str().unwrap()).unwrap();
        let main = program.main().unwrap();
        let param = |(name, given): (&String, &Value)| {
            let param = main.params.iter().find(|p| main.value_name(p.value) == name).unwrap();
            let ty = main.ty(param.value).as_tensor().unwrap();
            let tensor =
                Tensor::from_f64(ty.dtype, &ty.shape().unwrap(), &numbers(&given["values"]));
            (name.clone(), tensor)
        };
        let inputs: Tensors = case["inputs"].as_object().unwrap().iter().map(param).collect();
        for device in [&Reference as &dyn Device, &cpu] {
            let written = match run_once(device, &program, &Weights::new(), &inputs) {
                Ok(written) => written,
                Err(e) => {
                    failures.push(format!("{name} on {}: {e}", device.name()));
                    continue;
                }
            };
            for (output, expected) in case["outputs"].as_object().unwrap() {
                let shape: Vec<f64> = written[output].shape().iter().map(|&n| n as f64).collect();
                assert_eq!(shape, numbers(&expected["shape"]), "{name}: {output}");
                let actual = written[output].to_f64_vec();
                let compared = Tolerance::F32Accum.check(&actual, &numbers(&expected["values"]));
                if let Err(e) = compared {
                    failures.push(format!("{name}, {output} on {}: {e}", device.name()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} do not agree:\n{}", failures.len(), failures.join("\n"));
}
