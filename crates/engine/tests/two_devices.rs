//! Inference on two devices gives what one gives: logits, texts, losses.

mod networks;

use networks::{networks, random_model, wide};
use orion_compile::partition::WeightForm;
use orion_cpu::Cpu;
use orion_device::{Chip, Os, Route, Severity, Target, lint};
use orion_emulator::AneModel;
use orion_engine::{
    Accelerator, EvaluationShape, Generator, LoadedModel, ModelDevices, Random, Sampler,
    SamplerConfig, Split, TextEvent, TextRule, WindowRule, evaluate, generate, load_model,
    load_model_for_inference, open_tokenizer,
};
use orion_formats::{SafeTensors, TokenFile};
use orion_mil::{Program, Weights};
use orion_models::{
    Adapter, GolfBaselineConfig, GolfWideConfig, HeadMap, LowRank, Network, WeightStorage, preset,
};
use orion_runtime::Device;
use orion_tensor::{DType, Tensor, Tolerance};
use orion_testing::{shared_dir, skip};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const SPLITS: [Split; 2] = [Split::Prefill, Split::Attention];

fn cpu() -> Arc<dyn Device> {
    Arc::new(Cpu::default())
}

fn pair(split: Split) -> ModelDevices {
    ModelDevices::pair(Accelerator::plain(cpu()), cpu(), split)
}

/// A chip's model beside the CPU. What any chip refuses is not asked of it.
fn with_model(split: Split) -> ModelDevices {
    let chip: Chip = "m4".parse().unwrap();
    let accelerator = Accelerator {
        device: Arc::new(AneModel::new(chip, Route::Direct).with_dense_surfaces()),
        numbers: DType::F16,
        weights: WeightForm::AsGiven,
        refused: Arc::new(refused),
    };
    ModelDevices::pair(accelerator, cpu(), split)
}

fn refused(program: &Program, weights: &Weights) -> BTreeSet<String> {
    let on = |chip| Target { chip, os: Os::V27, route: Route::Direct };
    let findings = Chip::all().flat_map(|chip| lint(program, Some(weights), &on(chip)));
    findings
        .filter(|f| f.severity == Severity::Refused && f.is_failure())
        .map(|f| f.value.unwrap_or_else(|| f.rule.code.to_owned()))
        .collect()
}

/// What is read in one go: from the start, on a past, and token by token.
fn readings() -> Vec<Vec<u32>> {
    let tokens = |from: u32, count: u32| (from..from + count).map(|i| i * 7 % 96).collect();
    vec![tokens(1, 40), vec![5], vec![9], tokens(50, 20), vec![3], tokens(2, 300), vec![8]]
}

fn read_all(model: &LoadedModel, devices: ModelDevices) -> Vec<Vec<f64>> {
    let mut generator = Generator::new(model, devices, None).unwrap();
    readings().iter().map(|tokens| wide(generator.read(tokens).unwrap())).collect()
}

#[test]
fn every_network_gives_the_logits_of_one_device() {
    for network in networks(96, 600) {
        let model = random_model(network);
        let expected = read_all(&model, cpu().into());
        for split in SPLITS {
            let actual = read_all(&model, pair(split));
            for (i, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
                Tolerance::F32Network
                    .check(actual, expected)
                    .unwrap_or_else(|e| panic!("{:?}, {split:?}, reading {i}: {e}", model.network));
            }
        }
    }
}

/// The mean log-probability of each token of a text after those before it: the first ones are read
/// together, the others one by one.
fn mean_logprob(generator: &mut Generator, tokens: &[u32]) -> f64 {
    let (first, rest) = tokens.split_at(tokens.len() / 2);
    let mut logits = wide(generator.read(first).unwrap());
    let mut sum = 0.0;
    for &token in rest {
        let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
        sum += logits[token as usize] - total.ln();
        logits = wide(generator.read(&[token]).unwrap());
    }
    sum / rest.len() as f64
}

/// A chip's tables of activations move single logits by a percent or two, on one device as on two;
/// how likely a text is stays what it was.
#[test]
fn every_network_finds_a_text_as_likely_with_the_numerics_of_a_chip() {
    let tokens: Vec<u32> = (0..40).map(|i| i * i % 96).collect();
    for network in networks(96, 100) {
        let model = random_model(network);
        let of = |devices: ModelDevices| {
            mean_logprob(&mut Generator::new(&model, devices, None).unwrap(), &tokens)
        };
        let expected = of(cpu().into());
        for split in SPLITS {
            Tolerance::F16Accum
                .check(&[of(with_model(split))], &[expected])
                .unwrap_or_else(|e| panic!("{:?}, {split:?}: {e}", model.network));
        }
    }
}

/// Prompts of any length and texts that outgrow their caches need few programs of an accelerator:
/// its compilations, and what it holds, are limited.
#[test]
fn few_programs_are_compiled_for_the_accelerator() {
    let [network, ..] = networks(96, 2048);
    let model = random_model(network);
    for (split, most) in [(Split::Prefill, 8), (Split::Attention, 6)] {
        let mut generator = Generator::new(&model, pair(split), None).unwrap();
        for length in [1, 2, 30, 33, 300, 900, 1500] {
            generator.reset();
            generator.read(&vec![7; length]).unwrap();
            generator.read(&[1]).unwrap();
            generator.read(&[4; 17]).unwrap();
        }
        let count = generator.accelerator_programs();
        assert!((1..=most).contains(&count), "{split:?} compiled {count} programs");
    }
}

#[test]
fn several_sequences_share_the_programs() {
    for network in networks(96, 100) {
        let model = random_model(network);
        let prompts: [&[u32]; 3] = [&[1, 2, 3], &[9; 33], &[4]];
        for split in SPLITS {
            let mut alone = Generator::with_sequences(&model, cpu(), None, 3).unwrap();
            let mut both = Generator::with_sequences(&model, pair(split), None, 3).unwrap();
            for (i, prompt) in prompts.iter().enumerate() {
                let expected = wide(alone.read_in(i, prompt).unwrap());
                Tolerance::F32Network
                    .check(&wide(both.read_in(i, prompt).unwrap()), &expected)
                    .unwrap();
            }
            for next in [vec![(0, 5), (1, 6), (2, 7)], vec![(2, 8), (0, 1)], vec![(1, 90)]] {
                let expected = wide(alone.read_each(&next).unwrap());
                Tolerance::F32Network
                    .check(&wide(both.read_each(&next).unwrap()), &expected)
                    .unwrap_or_else(|e| panic!("{:?}, {split:?}: {e}", model.network));
            }
        }
    }
}

/// The context is full again and again, down to where no chunk of a prompt fits its end.
#[test]
fn texts_that_slide_out_of_their_context_are_those_of_one_device() {
    for network in networks(96, 48) {
        let model = random_model(network);
        let text = |devices: ModelDevices| {
            let mut generator = Generator::new(&model, devices, None).unwrap();
            let mut sampler = Sampler::new(SamplerConfig::greedy());
            let rule = TextRule { slides: true, ..TextRule::new(120, Vec::new()) };
            let (mut text, mut slid) = (Vec::new(), 0);
            generate(&mut generator, &[3, 1, 4, 1, 5], None, &mut sampler, &rule, &mut |event| {
                match event {
                    TextEvent::Token(token, _) => text.push(token),
                    TextEvent::Slid { .. } => slid += 1,
                    _ => {}
                }
                ControlFlow::Continue(())
            })
            .unwrap();
            (text, slid)
        };
        let expected = text(cpu().into());
        assert!(expected.1 > 1);
        for split in SPLITS {
            assert_eq!(text(pair(split)), expected, "{:?}, {split:?}", model.network);
        }
    }
}

#[test]
fn losses_are_those_of_one_device() {
    let tokens: Vec<u32> = (0..200).map(|i| i * 31 % 96).collect();
    let file = TokenFile::from_ids(&tokens).unwrap();
    let rule = WindowRule::Sliding { stride: 20 };
    let shape = EvaluationShape { batch: 3, seq: 40, rule, max_tokens: None };
    for network in networks(96, 64) {
        let model = random_model(network);
        let loss = |devices: ModelDevices| {
            evaluate(&model, devices, &file, shape, None, &mut |_, _| {}).unwrap().loss
        };
        let expected = loss(cpu().into());
        for split in SPLITS {
            Tolerance::F32Network.check(&[loss(pair(split))], &[expected]).unwrap();
            Tolerance::F16Accum.check(&[loss(with_model(split))], &[expected]).unwrap();
        }
    }
}

/// An adapter for every layer of a network, large enough to matter.
fn random_adapter(network: &Network, seed: u64) -> Adapter {
    let mut random = Random::new(seed);
    let mut matrix = |shape: [usize; 2]| {
        let numbers: Vec<f32> =
            (0..shape[0] * shape[1]).map(|_| (random.normal() * 0.15) as f32).collect();
        Tensor::from_slice(&shape, &numbers)
    };
    let modules = network.linear_layers().into_iter().map(|layer| {
        let (a, b) = (matrix([4, layer.inputs]), matrix([layer.outputs, 4]));
        (layer.module, LowRank { a, b, scale: 0.5 })
    });
    Adapter { modules: modules.collect() }
}

#[test]
fn adapters_go_through_both_devices() {
    for network in networks(96, 100) {
        let model = random_model(network);
        let adapters = [1, 2].map(|seed| random_adapter(&model.network, seed));
        let logits = |devices: ModelDevices, adapted: bool| {
            let mut generator = Generator::new(&model, devices, None).unwrap();
            let numbers = adapters.each_ref().map(|adapter| generator.add_adapter(adapter));
            let (mut all, mut likely) = (Vec::new(), Vec::new());
            for number in numbers {
                generator.reset();
                generator.choose_adapter(0, adapted.then_some(number));
                for tokens in [&[5, 6, 7][..], &[8], &[9, 10]] {
                    all.extend(wide(generator.read(tokens).unwrap()));
                }
                likely.push(mean_logprob(&mut generator, &[7, 3, 9, 41, 90, 2, 17, 66]));
            }
            (all, likely)
        };
        let expected = logits(cpu().into(), true);
        let base = logits(cpu().into(), false);
        for (base, expected) in [(&base.0, &expected.0), (&base.1, &expected.1)] {
            let found = Tolerance::F16Accum.check(base, expected);
            assert!(found.is_err(), "the adapters do nothing");
        }
        for split in SPLITS {
            let actual = logits(pair(split), true);
            Tolerance::F32Network
                .check(&actual.0, &expected.0)
                .unwrap_or_else(|e| panic!("{:?}, {split:?}: {e}", model.network));
            let actual = logits(with_model(split), true);
            Tolerance::F16Accum
                .check(&actual.1, &expected.1)
                .unwrap_or_else(|e| panic!("{:?}, {split:?}, m4: {e}", model.network));
        }
    }
}

/// Sequences with adapters of their own are decoded together where the CPU does that; the columns
/// of the accelerator's programs cannot tell them apart, and that is said.
#[test]
fn adapters_of_several_sequences() {
    let [network, ..] = networks(96, 100);
    let model = random_model(network);
    let read = |devices: ModelDevices| {
        let mut generator = Generator::with_sequences(&model, devices, None, 2).unwrap();
        for seed in [1, 2] {
            let number = generator.add_adapter(&random_adapter(&model.network, seed));
            generator.choose_adapter(number, Some(number));
            generator.read_in(number, &[4, 5, 6]).unwrap();
        }
        generator.read_each(&[(0, 7), (1, 8)]).map(wide).map_err(|e| e.to_string())
    };
    let expected = read(cpu().into()).unwrap();
    let actual = read(pair(Split::Prefill)).unwrap();
    Tolerance::F32Network.check(&actual, &expected).unwrap();
    let error = read(pair(Split::Attention)).unwrap_err();
    assert!(error.contains("columns"), "{error}");
}

/// Both divisions of labour, in fp32 and with the numerics of a chip; how many tokens of a text
/// there is time for.
fn all_pairs() -> [(ModelDevices, usize); 4] {
    [
        (pair(Split::Prefill), 256),
        (pair(Split::Attention), 256),
        (with_model(Split::Prefill), 100),
        (with_model(Split::Attention), 40),
    ]
}

fn greedy_text(model: &LoadedModel, devices: ModelDevices, from: &Path, n: usize) -> String {
    let tokenizer = open_tokenizer(from, model.network.vocab_size()).unwrap();
    let mut generator = Generator::new(model, devices, None).unwrap();
    let mut ids = Vec::new();
    let (prompt, rule) = (tokenizer.encode("Once upon a time"), TextRule::new(n, vec![1, 2]));
    let mut sampler = Sampler::new(SamplerConfig::greedy());
    generate(&mut generator, &prompt, tokenizer.bos(), &mut sampler, &rule, &mut |event| {
        if let TextEvent::Prompt(token) | TextEvent::Token(token, _) = event {
            ids.push(token);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    String::from_utf8(tokenizer.decode(&ids)).unwrap()
}

#[test]
fn greedy_text_is_llama2c_s_and_llama_cpp_s() {
    let Some(shared) = shared_dir() else { return skip("stories260K on two devices") };
    let golden = |path: &str| std::fs::read_to_string(shared.join("golden").join(path)).unwrap();
    let of_run_c = golden("llama2c/stories260K_p1.txt");
    for file in ["stories260K.bin", "stories260K_hf"] {
        let model =
            load_model_for_inference(&shared.join("weights").join(file), WeightStorage::AsGiven)
                .unwrap();
        for (devices, n) in all_pairs() {
            let name = devices.name();
            let text = greedy_text(&model, devices, &shared.join("data/tok512.bin"), n);
            assert!(text.len() > n && of_run_c.starts_with(text.trim()), "{file}, {name}: {text}");
        }
    }
    for kind in ["f32", "f16", "q8_0"] {
        let golden = golden(&format!("gguf/stories260K-{kind}.llama-simple.txt"));
        let golden = golden.trim_start().strip_prefix("<s>").unwrap().trim();
        let path = shared.join(format!("weights/stories260K-{kind}.gguf"));
        let model = load_model_for_inference(&path, WeightStorage::AsGiven).unwrap();
        for (devices, n) in all_pairs() {
            let name = devices.name();
            let text = greedy_text(&model, devices, &path, n.min(90));
            assert!(text.len() > 60 && golden.starts_with(text.trim()), "{kind}, {name}: {text}");
        }
    }
}

/// Logits of other implementations, in chunks and token by token.
fn check_logits(model: &LoadedModel, tokens: &[u32], expected: &[f64]) {
    let vocab = model.network.vocab_size();
    for split in SPLITS {
        let mut generator = Generator::new(model, pair(split), None).unwrap();
        let mut position = 0;
        for (i, chunk) in tokens.chunks(11).enumerate() {
            let (first, rest) = chunk.split_at(if i == 1 { 1 } else { chunk.len() });
            for part in [first, rest].into_iter().filter(|part| !part.is_empty()) {
                position += part.len();
                let logits = wide(generator.read(part).unwrap());
                let expected = &expected[(position - 1) * vocab..position * vocab];
                Tolerance::F32Network
                    .check(&logits, expected)
                    .unwrap_or_else(|e| panic!("{split:?} at {position}: {e}"));
            }
        }
    }
}

#[test]
fn logits_and_losses_are_transformers_s() {
    let Some(shared) = shared_dir() else { return skip("transformers' logits on two devices") };
    for name in ["gpt2_tiny", "qwen3_tiny"] {
        let directory = shared.join("golden/hf").join(name);
        let model = load_model(&directory).unwrap();
        let golden = SafeTensors::open(directory.join("logits.safetensors")).unwrap().tensors;
        let ids = golden["input_ids"].to_f64_vec();
        let length = golden["input_ids"].shape()[1];
        let tokens: Vec<u32> = ids[..length].iter().map(|&id| id as u32).collect();
        check_logits(&model, &tokens, &golden["logits"].to_f64_vec());

        // How well the rows are predicted, with the numerics of a chip.
        let record = std::fs::read(directory.join("golden.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        let expected = record["loss_shifted_mean"].as_f64().unwrap();
        let shape = EvaluationShape {
            batch: 1,
            seq: length - 1,
            rule: WindowRule::Disjoint,
            max_tokens: None,
        };
        for split in SPLITS {
            let rows = ids.chunks(length).map(|row| {
                let row: Vec<u32> = row.iter().map(|&id| id as u32).collect();
                let file = TokenFile::from_ids(&row).unwrap();
                evaluate(&model, with_model(split), &file, shape, None, &mut |_, _| {})
                    .unwrap()
                    .loss
            });
            let losses: Vec<f64> = rows.collect();
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            Tolerance::F16Accum.check(&[mean], &[expected]).unwrap();
        }
    }
}

#[test]
fn logits_of_the_golf_networks_are_pytorch_s() {
    let Some(shared) = shared_dir() else { return skip("PyTorch's logits on two devices") };
    let golf = shared.join("golden/golf");
    let file = TokenFile::open(shared.join("data/fineweb_val_prefix_sp1024.bin")).unwrap();
    let tokens = file.window(0, 24);
    let Network::GolfBaseline(full) = preset("golf-baseline").unwrap().network() else { panic!() };
    let small = GolfBaselineConfig {
        hidden_size: 288,
        intermediate_size: 576,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        ..full
    };
    let weights = SafeTensors::open(golf.join("baseline_tiny_fp32.safetensors")).unwrap();
    let model = LoadedModel::new(Network::GolfBaseline(small), weights.tensors);
    let logits = std::fs::read(golf.join("baseline_tiny_logits_64x1024.f32")).unwrap();
    let logits: Vec<f64> =
        logits.as_chunks::<4>().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect();
    check_logits(&model, &tokens, &logits);

    let Network::GolfWide(full) = preset("golfwide").unwrap().network() else { panic!() };
    let small = GolfWideConfig {
        hidden_size: 64,
        intermediate_size: 128,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 16,
        head_map: HeadMap::Tile,
        ..full
    };
    let open = |name: &str| SafeTensors::open(golf.join(name)).unwrap().tensors;
    let weights = open("golfwide_tiny_weights.safetensors");
    let model = LoadedModel::new(Network::GolfWide(small), weights);
    let golden = open("golfwide_tiny_logits_tile.safetensors");
    let tokens: Vec<u32> = golden["x"].to_f64_vec().iter().map(|&id| id as u32).collect();
    check_logits(&model, &tokens[..24], &golden["logits"].to_f64_vec());
}
