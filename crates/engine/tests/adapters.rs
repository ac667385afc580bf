//! Adapters as inputs of programs: the numbers of PEFT, and those of merged weights.

mod networks;

use networks::{networks, random_model, wide};
use orion_cpu::Cpu;
use orion_cpu::reference::Reference;
use orion_engine::{Adapter, Generator, LoadedModel, Random, load_adapter, load_model};
use orion_formats::{PeftAdapter, PeftConfig, SafeTensors, TargetModules, safetensors};
use orion_models::{Gpt2Config, LowRank, Network};
use orion_runtime::Device;
use orion_tensor::{Tensor, Tolerance};
use orion_testing::{shared_dir, skip};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn devices() -> [Arc<dyn Device>; 2] {
    [Arc::new(Cpu::default()), Arc::new(Reference)]
}

/// A matrix of numbers around 0.
fn random(shape: [usize; 2], size: f64, random: &mut Random) -> Tensor {
    let values: Vec<f32> =
        (0..shape[0] * shape[1]).map(|_| (random.normal() * size) as f32).collect();
    Tensor::from_slice(&shape, &values)
}

/// An adapter for every layer of which `chosen` is true, large enough to matter.
fn random_adapter(
    network: &Network,
    rank: usize,
    scale: f64,
    seed: u64,
    chosen: impl Fn(&str) -> bool,
) -> Adapter {
    let mut numbers = Random::new(seed);
    let layers = network.linear_layers().into_iter().filter(|layer| chosen(&layer.module));
    let modules: BTreeMap<String, LowRank> = layers
        .map(|layer| {
            let a = random([rank, layer.inputs], 0.3, &mut numbers);
            let b = random([layer.outputs, rank], 0.3, &mut numbers);
            (layer.module, LowRank { a, b, scale })
        })
        .collect();
    assert!(!modules.is_empty());
    Adapter { modules }
}

/// The logits after every part of a text.
fn logits(generator: &mut Generator, sequence: usize, parts: &[&[u32]]) -> Vec<f64> {
    let mut all = Vec::new();
    for part in parts {
        all.extend(wide(generator.read_in(sequence, part).unwrap()));
    }
    all
}

const TEXT: [&[u32]; 3] = [&[3, 1, 4, 1, 5, 9, 2, 6], &[5], &[35, 8]];

fn of_model(model: &LoadedModel, device: &Arc<dyn Device>) -> Vec<f64> {
    logits(&mut Generator::new(model, device.clone(), None).unwrap(), 0, &TEXT)
}

/// Logits of transformers with PEFT, token by token and in chunks.
#[test]
fn gpt2_with_an_adapter_is_peft_s() {
    let Some(shared) = shared_dir() else { return skip("PEFT goldens") };
    let directory = shared.join("golden/hf/gpt2_tiny_lora");
    let model = load_model(&shared.join("golden/hf/gpt2_tiny")).unwrap();
    let adapter = load_adapter(&directory, &model.network).unwrap();
    let golden = SafeTensors::open(directory.join("logits.safetensors")).unwrap().tensors;
    let tokens: Vec<u32> =
        golden["input_ids"].to_f64_vec().into_iter().map(|id| id as u32).collect();
    let expected = golden["logits"].to_f64_vec();
    let vocab = model.network.vocab_size();
    for device in devices() {
        let base =
            Generator::new(&model, device.clone(), None).unwrap().read(&tokens).unwrap().to_vec();
        let last = &expected[(tokens.len() - 1) * vocab..];
        assert!(
            Tolerance::F32Network.check(&wide(&base), last).is_err(),
            "the adapter does nothing"
        );
        for chunk in [1, 17] {
            let mut generator = Generator::new(&model, device.clone(), None).unwrap();
            let number = generator.add_adapter(&adapter);
            generator.choose_adapter(0, Some(number));
            let mut position = 0;
            for tokens in tokens.chunks(chunk) {
                position += tokens.len();
                let logits = wide(generator.read(tokens).unwrap());
                Tolerance::F32Network
                    .check(&logits, &expected[(position - 1) * vocab..position * vocab])
                    .unwrap_or_else(|e| panic!("{} at {position}: {e}", device.name()));
            }
        }
        let merged = adapter.merged_into(&model).unwrap();
        let mut generator = Generator::new(&merged, device.clone(), None).unwrap();
        let logits = wide(generator.read(&tokens).unwrap());
        Tolerance::F32Network.check(&logits, last).unwrap();
    }
}

/// Writes an adapter's directory with a configuration that may be anything.
fn write(directory: &Path, config: &serde_json::Value, tensors: &BTreeMap<String, Tensor>) {
    std::fs::write(directory.join("adapter_config.json"), config.to_string()).unwrap();
    let mut file = std::fs::File::create(directory.join("adapter_model.safetensors")).unwrap();
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    safetensors::write(&mut file, named, &BTreeMap::from([("format".into(), "pt".into())]))
        .unwrap();
}

/// A Qwen3 adapter as transformers and PEFT name it, beside weights merged here, element by
/// element and by the rules of PEFT's documentation.
#[test]
fn qwen3_with_a_file_of_peft_s_names_is_the_merged_model() {
    let Some(shared) = shared_dir() else { return skip("Qwen3 goldens") };
    let model = load_model(&shared.join("golden/hf/qwen3_tiny")).unwrap();
    let mut numbers = Random::new(11);
    let mut tensors = BTreeMap::new();
    let mut merged = model.clone();
    let sizes = [
        ("self_attn.q_proj", 128, 64, 4, 16.0),
        ("self_attn.k_proj", 64, 64, 4, 16.0),
        ("self_attn.v_proj", 64, 64, 2, 16.0),
        ("self_attn.o_proj", 64, 128, 4, 16.0),
        ("mlp.gate_proj", 160, 64, 4, 16.0),
        ("mlp.up_proj", 160, 64, 4, 8.0),
        ("mlp.down_proj", 64, 160, 4, 16.0),
    ];
    for layer in 0..3 {
        for (part, outputs, inputs, rank, alpha) in sizes {
            let module = format!("model.layers.{layer}.{part}");
            let a = random([rank, inputs], 0.2, &mut numbers);
            let b = random([outputs, rank], 0.2, &mut numbers);
            let (x, y) = (a.to_f64_vec(), b.to_f64_vec());
            let weight = &model.parameters[&format!("{module}.weight")];
            let sum: Vec<f32> = weight
                .to_f64_vec()
                .iter()
                .enumerate()
                .map(|(at, w)| {
                    let (o, i) = (at / inputs, at % inputs);
                    let product: f64 = (0..rank).map(|r| y[o * rank + r] * x[r * inputs + i]).sum();
                    (w + alpha / rank as f64 * product) as f32
                })
                .collect();
            merged
                .parameters
                .insert(format!("{module}.weight"), Tensor::from_slice(&[outputs, inputs], &sum));
            tensors.insert(format!("base_model.model.{module}.lora_A.weight"), a);
            tensors.insert(format!("base_model.model.{module}.lora_B.weight"), b);
        }
    }
    let names: Vec<&str> = sizes.iter().map(|s| s.0.rsplit('.').next().unwrap()).collect();
    let directory = tempfile::tempdir().unwrap();
    let mut config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 16,
        "target_modules": names, "rank_pattern": {"v_proj": 2},
        "alpha_pattern": {".*mlp.up_proj": 8}, "bias": "none", "fan_in_fan_out": false,
        "lora_dropout": 0.05, "base_model_name_or_path": "Qwen/Qwen3-0.6B",
    });
    let pattern = r".*\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj";
    for targets in [json!(names), json!("all-linear"), json!(pattern)] {
        config["target_modules"] = targets;
        write(directory.path(), &config, &tensors);
        let adapter = load_adapter(directory.path(), &model.network).unwrap();
        assert_eq!(adapter.modules.len(), 21);
        for device in devices() {
            let mut generator = Generator::new(&model, device.clone(), None).unwrap();
            let base = logits(&mut generator, 0, &TEXT);
            generator.reset();
            let number = generator.add_adapter(&adapter);
            generator.choose_adapter(0, Some(number));
            let adapted = logits(&mut generator, 0, &TEXT);
            let expected = of_model(&merged, &device);
            Tolerance::F32Network.check(&adapted, &expected).unwrap();
            assert!(Tolerance::F32Network.check(&adapted, &base).is_err());
        }
    }
    // Names without the prefix of the causal model, as of a bare transformer.
    let bare: BTreeMap<String, Tensor> = tensors
        .iter()
        .map(|(name, t)| (name.replace("model.model.", "model."), t.clone()))
        .collect();
    config["target_modules"] = json!(names);
    write(directory.path(), &config, &bare);
    assert_eq!(load_adapter(directory.path(), &model.network).unwrap().modules.len(), 21);
    for (change, what) in [
        (json!(["q_proj"]), "target_modules does not name"),
        (json!([&names[..], &["lm_head"]].concat()), "no matrices for it"),
    ] {
        config["target_modules"] = change;
        write(directory.path(), &config, &tensors);
        let e = load_adapter(directory.path(), &model.network).unwrap_err().to_string();
        assert!(e.contains(what), "{e}");
    }
}

#[test]
fn every_linear_layer_of_every_family_is_adapted() {
    for network in networks(48, 64) {
        let model = random_model(network);
        let all = random_adapter(&model.network, 3, 0.5, 5, |module| module != "lm_head");
        let merged = all.merged_into(&model).unwrap();
        let head = random_adapter(&model.network, 3, 0.5, 6, |module| module == "lm_head");
        for device in devices() {
            let mut generator = Generator::new(&model, device.clone(), None).unwrap();
            let number = generator.add_adapter(&all);
            generator.choose_adapter(0, Some(number));
            let adapted = logits(&mut generator, 0, &TEXT);
            Tolerance::F32Network.check(&adapted, &of_model(&merged, &device)).unwrap();
            generator.reset();
            let number = generator.add_adapter(&head);
            generator.choose_adapter(0, Some(number));
            let with_head = logits(&mut generator, 0, &TEXT);
            let base = of_model(&model, &device);
            assert!(Tolerance::F32Network.check(&with_head, &base).is_err());
        }
        match head.merged_into(&model) {
            Ok(merged) => assert!(merged.parameters.contains_key("lm_head.weight")),
            Err(e) => assert!(e.to_string().contains("embedding"), "{e}"),
        }
    }
}

/// Going from one adapter to another compiles nothing, and a batch may mix them.
#[test]
fn adapters_are_chosen_for_each_sequence_without_compiling() {
    for network in networks(48, 64).into_iter().take(4) {
        let model = random_model(network);
        let attention = |module: &str| module.contains("attn");
        let adapters = [
            random_adapter(&model.network, 2, 1.5, 1, attention),
            random_adapter(&model.network, 11, 0.25, 2, |module| {
                !attention(module) && module != "lm_head"
            }),
            random_adapter(&model.network, 4, -1.0, 3, |module| module != "lm_head"),
        ];
        for device in devices() {
            let alone: Vec<Vec<f64>> = [None, Some(0), Some(1), Some(2)]
                .into_iter()
                .map(|choice| match choice {
                    None => of_model(&model, &device),
                    Some(i) => {
                        of_model(&adapters[i as usize].merged_into(&model).unwrap(), &device)
                    }
                })
                .collect();
            let mut generator = Generator::with_sequences(&model, device.clone(), None, 5).unwrap();
            let numbers = adapters.each_ref().map(|adapter| generator.add_adapter(adapter));
            assert_eq!(numbers, [0, 1, 2]);
            let choices = [Some(2), None, Some(0), Some(1), Some(0)];
            // One after another: one program for the adapters, one for the base.
            for (sequence, choice) in choices.into_iter().enumerate() {
                generator.choose_adapter(sequence, choice);
            }
            let mut compiled = Vec::new();
            for sequence in [0, 2, 3, 4, 1, 0] {
                generator.reset_sequence(sequence);
                let found = logits(&mut generator, sequence, &TEXT);
                let expected = &alone[choices[sequence].map_or(0, |i| i + 1)];
                Tolerance::F32Network.check(&found, expected).unwrap();
                compiled.push(generator.compiled_programs());
            }
            assert_eq!(compiled[0], compiled[3], "another adapter compiled something");
            assert_eq!(compiled[4], compiled[5]);
            assert!(generator.adapter_swap_time().is_some());
            // Together, the last token of the text in one program for all.
            generator.reset();
            let vocab = model.network.vocab_size();
            let (&last, rest) = TEXT[2].split_last().unwrap();
            for sequence in 0..5 {
                logits(&mut generator, sequence, &[TEXT[0], TEXT[1], rest]);
            }
            for taking_part in [vec![0, 1, 2, 3, 4], vec![4, 2], vec![3, 1, 2]] {
                let next: Vec<(usize, u32)> = taking_part.iter().map(|&i| (i, last)).collect();
                let found = wide(generator.read_each(&next).unwrap());
                for (row, &sequence) in found.chunks(vocab).zip(&taking_part) {
                    let expected = &alone[choices[sequence].map_or(0, |i| i + 1)];
                    Tolerance::F32Network
                        .check(row, &expected[expected.len() - vocab..])
                        .unwrap_or_else(|e| panic!("{taking_part:?}, {sequence}: {e}"));
                }
                for &sequence in &taking_part {
                    generator.reset_sequence(sequence);
                    logits(&mut generator, sequence, &[TEXT[0], TEXT[1], rest]);
                }
            }
        }
    }
}

#[test]
fn what_is_written_is_read_and_other_models_adapters_are_refused() {
    let [qwen, llama, gpt2, ..] = networks(48, 64);
    let adapter = random_adapter(&gpt2, 4, 4.0, 9, |module| module.ends_with("c_attn"));
    let directory = tempfile::tempdir().unwrap();
    let targets = gpt2.adapter_targets(&["q", "v"]).unwrap();
    assert_eq!(targets, TargetModules::Names(vec!["c_attn".into()]));
    let config = PeftConfig { fan_in_fan_out: true, ..PeftConfig::new(4, 16.0, targets) };
    assert_eq!(gpt2.adapted_modules(&config).unwrap(), adapter.modules.keys().cloned().collect());
    let PeftAdapter { config, modules } = adapter.to_file(config);
    let tensors = PeftAdapter { config: config.clone(), modules }.tensors();
    let json = serde_json::from_slice(&config.to_json().unwrap()).unwrap();
    write(directory.path(), &json, &tensors);
    assert_eq!(load_adapter(directory.path(), &gpt2).unwrap(), adapter);
    let e = load_adapter(directory.path(), &llama).unwrap_err();
    assert!(e.to_string().contains("no linear layer of this model"), "{e}");
    assert!(e.way_out().unwrap().contains("another model"));
    let other_size = random_model(gpt2.clone());
    let Network::Gpt2(config) = other_size.network else { panic!() };
    let wider = Network::Gpt2(Gpt2Config { hidden_size: 48, ..config });
    let e = load_adapter(directory.path(), &wider).unwrap_err().to_string();
    assert!(e.contains("24 and gives 72 numbers in the adapter, 48 and 144"), "{e}");
    let empty = tempfile::tempdir().unwrap();
    let e = load_adapter(empty.path(), &gpt2).unwrap_err().to_string();
    assert!(e.contains("no adapter_config.json"), "{e}");
    let e = qwen.adapter_targets(&["q", "wte"]).unwrap_err();
    assert!(e.contains("wte") && e.contains("q_proj"), "{e}");
    let targets = qwen.adapter_targets(&["all"]).unwrap();
    assert!(targets.is_all_linear());
}
