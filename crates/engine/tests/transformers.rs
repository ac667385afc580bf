//! Small networks of every variant against transformers: `tests/oracles/networks.py` wrote configs,
//! tokens, logits, losses and sizes of gradients, and says by which rule the weights are made.

use orion_cpu::Cpu;
use orion_cpu::reference::Reference;
use orion_engine::{Companions, Generator, LoadedModel, Target, convert, load_model, programs};
use orion_formats::safetensors;
use orion_models::{Network, WeightIndex, program_name};
use orion_runtime::{Bindings, Device, Layout, Surface};
use orion_tensor::{DType, Tensor, Tolerance};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Only as many as there are; fewer would be a file that was cut.
const CASES: usize = 13;
/// The tokens whose logits were kept.
const KEPT: [usize; 6] = [0, 7, 15, 23, 31, 39];

fn cases() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oracles/results/networks.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = cases.as_array().unwrap().clone();
    assert_eq!(cases.len(), CASES);
    cases
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Number `i` of the oracle's sequence `salt`, from -0.5 to 0.5.
fn number(i: usize, salt: usize) -> f64 {
    let mut h = (i as u32).wrapping_add((salt as u32).wrapping_mul(1_000_003));
    for (shift, factor) in [(16, 0x85EB_CA6B), (13, 0xC2B2_AE35)] {
        h = (h ^ (h >> shift)).wrapping_mul(factor);
    }
    h ^= h >> 16;
    f64::from(h >> 8) / f64::from(1 << 24) - 0.5
}

/// The oracle's weights; `salt` counts parameters in the order of their names.
fn weight(name: &str, shape: &[usize], salt: usize) -> Tensor {
    let value = |i: usize| {
        let x = number(i, salt);
        let value = match shape {
            _ if name.ends_with("embed_tokens.weight") => 2.0 * x,
            _ if name.ends_with(".bias") => x,
            [_, columns] => 5.0 * x / (*columns as f64).sqrt(),
            _ => 1.0 + 0.5 * x,
        };
        value as f32
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_slice(shape, &values)
}

/// The directory that transformers would have written, loaded.
fn model_of(config: &Value, directory: &Path) -> LoadedModel {
    let json = config.to_string();
    let file = orion_formats::ConfigFile::parse(json.as_bytes()).unwrap();
    let network = Network::from_config_file(&file).unwrap();
    let shapes: BTreeMap<String, Vec<usize>> =
        network.parameters().into_iter().map(|p| (p.name, p.shape)).collect();
    let rows = shapes.iter().enumerate();
    let tensors: BTreeMap<&String, Tensor> =
        rows.map(|(salt, (name, shape))| (name, weight(name, shape, salt))).collect();
    std::fs::write(directory.join("config.json"), json).unwrap();
    let mut out = File::create(directory.join("model.safetensors")).unwrap();
    let rows = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    safetensors::write(&mut out, rows, &BTreeMap::new()).unwrap();
    load_model(directory).unwrap()
}

fn check_logits(model: &LoadedModel, case: &Value, what: &str) {
    let tokens: Vec<u32> = numbers(&case["tokens"]).iter().map(|&id| id as u32).collect();
    let devices: [Arc<dyn Device>; 2] = [Arc::new(Cpu::default()), Arc::new(Reference)];
    for device in devices {
        // The second way reads what is kept at the end of every chunk.
        for chunk in [1, 8] {
            let mut generator = Generator::new(model, device.clone(), None).unwrap();
            for (i, tokens) in tokens.chunks(chunk).enumerate() {
                let logits = wide(generator.read(tokens).unwrap());
                let last = (i + 1) * chunk - 1;
                let Some(kept) = KEPT.iter().position(|&k| k == last) else { continue };
                let expected = numbers(&case["logits"][kept]);
                Tolerance::F32Network.check(&logits, &expected).unwrap_or_else(|e| {
                    panic!("{}, {what}, {} at {last}: {e}", case["name"], device.name())
                });
            }
        }
    }
}

/// Loss and the sizes of all gradients.
fn check_gradients(model: &LoadedModel, case: &Value) {
    let all: Vec<i32> = numbers(&case["tokens"]).iter().map(|&id| id as i32).collect();
    let length = all.len() - 1;
    let mut index = WeightIndex::new();
    model.network.add_tables(&mut index, length);
    let program = programs::gradient_program(&model.network, &index, 1, length, false);
    let mut executable = Cpu::default().compile(&program, index.weights()).unwrap();
    let tokens = Surface::from_slice(&[length], &all[..length]);
    let targets = Surface::from_slice(&[length], &all[1..]);
    let one = Surface::from_slice(&[1], &[1f32]);
    let mut loss = Surface::from_slice(&[1], &[0f32]);
    let surface = |(name, tensor): (&String, &Tensor)| {
        let value = Surface::from_slice(tensor.shape(), &tensor.to_f32_vec());
        let gradient = Surface::zeros(Layout::dense(DType::F32, tensor.shape()));
        (name.clone(), program_name(name), value, gradient)
    };
    let mut parameters: Vec<_> = model.parameters.iter().map(surface).collect();
    let names: Vec<String> = parameters.iter().map(|p| format!("{}_grad", p.1)).collect();
    let mut bindings = Bindings::new();
    bindings.input("tokens", &tokens).input("targets", &targets).input("loss_scale", &one);
    bindings.output("loss", &mut loss);
    for ((_, name, value, gradient), gradient_name) in parameters.iter_mut().zip(&names) {
        bindings.input(name, value).output(gradient_name, gradient);
    }
    executable.run(&mut bindings).unwrap();
    let loss = f64::from(loss.elements::<f32>()[0]);
    Tolerance::F32Network.check(&[loss], &[case["loss"].as_f64().unwrap()]).unwrap();
    assert_eq!(case["gradient_norms"].as_object().unwrap().len(), parameters.len());
    for (name, _, _, gradient) in parameters {
        let squares = gradient.to_tensor().to_f64_vec().iter().map(|g| g * g).sum::<f64>();
        let expected = case["gradient_norms"][&name].as_f64().unwrap();
        Tolerance::F32Network
            .check(&[squares.sqrt()], &[expected])
            .unwrap_or_else(|e| panic!("{}, {name}: {e}", case["name"]));
    }
}

#[test]
fn logits_losses_and_gradients_are_transformers_s() {
    for case in cases() {
        let directory = tempfile::tempdir().unwrap();
        let model = model_of(&case["config"], directory.path());
        check_logits(&model, &case, "its directory");
        check_gradients(&model, &case);
    }
}

#[test]
fn the_spelling_of_transformers_4_is_the_same_network() {
    for mut case in cases() {
        let directory = tempfile::tempdir().unwrap();
        let network = model_of(&case["config"], directory.path()).network;
        let config = case["config"].as_object_mut().unwrap();
        let mut rope = config.remove("rope_parameters").unwrap();
        config.insert(
            "rope_theta".into(),
            rope.as_object_mut().unwrap().remove("rope_theta").unwrap(),
        );
        let scaled = rope["rope_type"] != json!("default");
        // Before 4.43 the key had this name.
        let kind = rope.as_object_mut().unwrap().remove("rope_type").unwrap();
        rope["type"] = kind;
        config.insert("rope_scaling".into(), if scaled { rope } else { Value::Null });
        assert_eq!(model_of(&case["config"], directory.path()).network, network, "{case}");
    }
}

#[test]
fn every_format_keeps_the_network_or_names_what_it_cannot() {
    for case in cases() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = model_of(&case["config"], from.path());
        let name = case["name"].as_str().unwrap();
        for (file, target) in [("hf", Target::SafeTensors), ("model.gguf", Target::Gguf)] {
            let path = to.path().join(file);
            let written = convert(&model, Companions::default(), target, None, &path, &mut |_| {});
            let refused = match (name, target) {
                ("llama, yarn with all its keys", Target::Gguf) => Some("truncate is false"),
                ("qwen3, attention bias", Target::Gguf) => Some("biases of a Qwen3's attention"),
                ("qwen3, llama3", Target::Gguf) => Some("in Llama networks only"),
                _ => None,
            };
            match (written, refused) {
                (Ok(_), None) => check_logits(&load_model(&path).unwrap(), &case, file),
                (Err(e), Some(words)) => assert!(e.to_string().contains(words), "{e}"),
                (other, _) => panic!("{name} as {file}: {other:?}"),
            }
        }
        let path = to.path().join("llama2c.bin");
        let e = convert(&model, Companions::default(), Target::Llama2c, None, &path, &mut |_| {});
        assert!(e.is_err(), "{name}: llama2.c has another epsilon");
    }
}

/// GGUF has what each frequency is divided by, and Llama 3's own numbers are recognised in it.
#[test]
fn the_scaling_of_llama_3_comes_back_from_gguf() {
    let mut config = cases()[0]["config"].clone();
    config["rope_parameters"] = json!({
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192
    });
    let directory = tempfile::tempdir().unwrap();
    let model = model_of(&config, directory.path());
    let path = directory.path().join("model.gguf");
    convert(&model, Companions::default(), Target::Gguf, None, &path, &mut |_| {}).unwrap();
    assert_eq!(load_model(&path).unwrap().network, model.network);
}
