//! Networks against other implementations: logits, losses, gradients and greedy text of small
//! models, on every CPU device.

use orion_compile::partition::WeightForm;
use orion_cpu::Cpu;
use orion_cpu::reference::Reference;
use orion_engine::{
    Accelerator, ByteCounts, Companions, EvaluationShape, Generator, LayerSchedule, LoadedModel,
    Numbers, Target, WindowRule, convert, evaluate, load_model, load_model_for_inference,
    open_tokenizer, programs,
};
use orion_formats::SafeTensors;
use orion_models::{
    GolfBaselineConfig, GolfWideConfig, HeadMap, Network, WeightIndex, WeightStorage, preset,
    program_name,
};
use orion_runtime::{Bindings, Device, Executable, Layout, Surface};
use orion_tensor::{DType, Tensor, Tolerance};
use orion_testing::{shared_dir, skip};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn devices() -> [Arc<dyn Device>; 2] {
    [Arc::new(Cpu::default()), Arc::new(Reference)]
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Ids of a golden file, row after row.
fn ids(tensor: &Tensor) -> Vec<i32> {
    tensor.to_f64_vec().into_iter().map(|id| id as i32).collect()
}

/// Compiles the gradient program of a network for so many sequences and tokens.
type Compile = Box<dyn Fn(&Network, &WeightIndex, [usize; 2]) -> Box<dyn Executable>>;

/// Loss and gradients of a training program.
fn differentiate(
    model: &LoadedModel,
    executable: &Compile,
    tokens: &[i32],
    targets: &[i32],
    sequences: usize,
) -> (f64, BTreeMap<String, Tensor>) {
    let (network, length) = (&model.network, tokens.len() / sequences);
    let mut index = WeightIndex::new();
    network.add_tables(&mut index, length);
    let mut executable = executable(network, &index, [sequences, length]);
    let tokens = Surface::from_slice(&[tokens.len()], tokens);
    let targets = Surface::from_slice(&[targets.len()], targets);
    let one = Surface::from_slice(&[1], &[1f32]);
    let mut loss = Surface::from_slice(&[1], &[0f32]);
    let specs = network.parameters();
    let names: Vec<String> = specs.iter().map(|p| program_name(&p.name)).collect();
    let values: Vec<Surface> = specs
        .iter()
        .map(|p| Surface::from_slice(&p.shape, &model.parameters[&p.name].to_f32_vec()))
        .collect();
    let mut gradients: Vec<(String, Surface)> = specs
        .iter()
        .zip(&names)
        .map(|(p, name)| {
            (format!("{name}_grad"), Surface::zeros(Layout::dense(DType::F32, &p.shape)))
        })
        .collect();
    let mut bindings = Bindings::new();
    bindings.input("tokens", &tokens).input("targets", &targets).input("loss_scale", &one);
    bindings.output("loss", &mut loss);
    for (name, value) in names.iter().zip(&values) {
        bindings.input(name, value);
    }
    for (name, gradient) in &mut gradients {
        bindings.output(name, gradient);
    }
    executable.run(&mut bindings).unwrap();
    let gradients = specs.into_iter().zip(gradients);
    let gradients = gradients.map(|(p, (_, g))| (p.name, g.to_tensor())).collect();
    (f64::from(loss.elements::<f32>()[0]), gradients)
}

/// Logits of one sequence, token after token and in chunks.
fn check_logits(model: &LoadedModel, tokens: &[i32], expected: &[f64]) {
    let tokens: Vec<u32> = tokens.iter().map(|&id| id as u32).collect();
    let vocab = model.network.vocab_size();
    for device in devices() {
        for chunk in [1, 17] {
            let mut generator = Generator::new(model, device.clone(), None).unwrap();
            let mut position = 0;
            for tokens in tokens.chunks(chunk) {
                position += tokens.len();
                let logits = wide(generator.read(tokens).unwrap());
                let expected = &expected[(position - 1) * vocab..position * vocab];
                Tolerance::F32Network
                    .check(&logits, expected)
                    .unwrap_or_else(|e| panic!("{} at {position}: {e}", device.name()));
            }
        }
    }
}

fn check_gradients(
    model: &LoadedModel,
    [tokens, targets]: [&[i32]; 2],
    sequences: usize,
    loss: f64,
    expected: &BTreeMap<String, Tensor>,
) {
    let mut ways: Vec<(String, Compile)> = Vec::new();
    for device in devices() {
        let name = device.name().to_owned();
        let whole =
            move |network: &Network, index: &WeightIndex, [sequences, length]: [usize; 2]| {
                let program = programs::gradient_program(network, index, sequences, length, false);
                device.compile(&program, index.weights()).unwrap()
            };
        ways.push((name, Box::new(whole)));
    }
    for weights in [WeightForm::Inputs, WeightForm::Constants] {
        let divided = move |network: &Network, index: &WeightIndex, shape: [usize; 2]| {
            let host: Arc<dyn Device> = Arc::new(Cpu::default());
            let accelerator = Accelerator { weights, ..Accelerator::plain(host.clone()) };
            let program = programs::gradient_program(network, index, shape[0], shape[1], false);
            let layers = LayerSchedule::new(network, index, &program, accelerator, host);
            Box::new(layers.unwrap()) as Box<dyn Executable>
        };
        ways.push((format!("cpu+cpu, {weights:?}"), Box::new(divided)));
    }
    for (way, executable) in ways {
        let (actual, gradients) = differentiate(model, &executable, tokens, targets, sequences);
        Tolerance::F32Network.check(&[actual], &[loss]).unwrap();
        assert_eq!(gradients.len(), expected.len());
        for (name, gradient) in gradients {
            let expected = &expected[&name];
            let gradient = model.network.turned_for_files(&name, &gradient).unwrap_or(gradient);
            assert_eq!(gradient.shape(), expected.shape(), "{name}");
            let (gradient, width) = (gradient.to_f64_vec(), *expected.shape().last().unwrap());
            // Rows of an embedding belong to tokens, whose gradients differ by orders of
            // magnitude: each is measured by its own size.
            let row =
                if name.contains("emb") || name.contains("wte") { width } else { gradient.len() };
            for (row, expected) in gradient.chunks(row).zip(expected.to_f64_vec().chunks(row)) {
                Tolerance::F32Network
                    .check(row, expected)
                    .unwrap_or_else(|e| panic!("{way}, {name}: {e}"));
            }
        }
    }
}

/// A model as it comes back from every format that holds it in fp32.
fn in_every_format(model: &LoadedModel) -> Vec<LoadedModel> {
    let directory = tempfile::tempdir().unwrap();
    let targets = [
        ("hf", Target::SafeTensors),
        ("model.gguf", Target::Gguf),
        ("llama2c.bin", Target::Llama2c),
        ("llmc.bin", Target::Llmc),
    ];
    let mut models = Vec::new();
    for (name, target) in targets {
        let path = directory.path().join(name);
        let (none, fp32) = (Companions::default(), Some(Numbers::Float(DType::F32)));
        match convert(model, none, target, fp32, &path, &mut |_| {}) {
            Ok(_) => models.push(load_model_for_inference(&path, WeightStorage::AsGiven).unwrap()),
            // llama2.c has Llamas only, llm.c GPT-2 only.
            Err(e) => assert!(matches!(target, Target::Llama2c | Target::Llmc), "{e}"),
        }
    }
    assert!(models.len() >= 2);
    models
}

/// A directory of transformers with what transformers computed.
fn check_transformers(shared: &Path, name: &str) {
    let directory = shared.join("golden/hf").join(name);
    let model = load_model(&directory).unwrap();
    let golden = SafeTensors::open(directory.join("logits.safetensors")).unwrap();
    let all_tokens = ids(&golden.tensors["input_ids"]);
    let logits = golden.tensors["logits"].to_f64_vec();
    let [sequences, length] = golden.tensors["input_ids"].shape()[..] else { panic!() };
    let vocab = model.network.vocab_size();
    for model in [vec![model.clone()], in_every_format(&model)].concat() {
        for i in 0..sequences {
            let range = i * length..(i + 1) * length;
            check_logits(
                &model,
                &all_tokens[range.clone()],
                &logits[range.start * vocab..range.end * vocab],
            );
        }
    }

    let record = std::fs::read(directory.join("golden.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let rows = || all_tokens.chunks(length);
    let tokens: Vec<i32> = rows().flat_map(|row| row[..length - 1].to_vec()).collect();
    let targets: Vec<i32> = rows().flat_map(|row| row[1..].to_vec()).collect();
    let expected = SafeTensors::open(directory.join("grads.safetensors")).unwrap().tensors;
    let loss = record["loss_shifted_mean"].as_f64().unwrap();
    check_gradients(&model, [&tokens, &targets], sequences, loss, &expected);

    let greedy: Vec<u32> =
        record["greedy"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let prompt = record["greedy_prompt_len"].as_u64().unwrap() as usize;
    for device in devices() {
        let mut generator = Generator::new(&model, device, None).unwrap();
        let mut text = greedy[..prompt].to_vec();
        let mut unread = text.clone();
        while text.len() < greedy.len() {
            let logits = generator.read(&unread).unwrap();
            let best = (0..vocab).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            unread = vec![best as u32];
            text.push(best as u32);
        }
        assert_eq!(text, greedy);
    }
}

#[test]
fn gpt2_is_transformers_s() {
    let Some(shared) = shared_dir() else { return skip("GPT-2 goldens") };
    check_transformers(&shared, "gpt2_tiny");
}

#[test]
fn qwen3_is_transformers_s() {
    let Some(shared) = shared_dir() else { return skip("Qwen3 goldens") };
    check_transformers(&shared, "qwen3_tiny");
}

/// The small golf baseline of the golden files.
fn small_baseline() -> Network {
    let Network::GolfBaseline(full) = preset("golf-baseline").unwrap().network() else { panic!() };
    Network::GolfBaseline(GolfBaselineConfig {
        hidden_size: 288,
        intermediate_size: 576,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        ..full
    })
}

fn first_tokens(shared: &Path, count: usize) -> Vec<i32> {
    let path = shared.join("data/fineweb_val_prefix_sp1024.bin");
    let file = orion_formats::TokenFile::open(path).unwrap();
    file.window(0, count).into_iter().map(|id| id as i32).collect()
}

#[test]
fn the_golf_baseline_is_pytorch_s() {
    let Some(shared) = shared_dir() else { return skip("golf baseline goldens") };
    let golden = shared.join("golden/golf");
    let weights = SafeTensors::open(golden.join("baseline_tiny_fp32.safetensors")).unwrap();
    let model = LoadedModel::new(small_baseline(), weights.tensors);
    let tokens = first_tokens(&shared, 129);
    let logits = std::fs::read(golden.join("baseline_tiny_logits_64x1024.f32")).unwrap();
    let logits: Vec<f64> = logits
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&bytes| f64::from(f32::from_le_bytes(bytes)))
        .collect();
    check_logits(&model, &tokens[..64], &logits);

    let record = std::fs::read(golden.join("baseline_tiny.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let expected = SafeTensors::open(golden.join("baseline_tiny_grads.safetensors")).unwrap();
    let loss = record["grad_loss"].as_f64().unwrap();
    check_gradients(&model, [&tokens[..128], &tokens[1..]], 2, loss, &expected.tensors);
}

#[test]
fn golfwide_is_pytorch_s_with_both_head_maps() {
    let Some(shared) = shared_dir() else { return skip("GolfWide goldens") };
    let golden = shared.join("golden/golf");
    let open = |name: &str| SafeTensors::open(golden.join(name)).unwrap().tensors;
    let record = std::fs::read(golden.join("golfwide.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let Network::GolfWide(full) = preset("golfwide").unwrap().network() else { panic!() };
    for (name, head_map) in [("repeat", HeadMap::Repeat), ("tile", HeadMap::Tile)] {
        let network = Network::GolfWide(GolfWideConfig {
            hidden_size: 64,
            intermediate_size: 128,
            n_layers: 2,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 16,
            head_map,
            ..full.clone()
        });
        let model = LoadedModel::new(network, open("golfwide_tiny_weights.safetensors"));
        let expected = open(&format!("golfwide_tiny_logits_{name}.safetensors"));
        let (tokens, targets) = (ids(&expected["x"]), ids(&expected["y"]));
        let logits = expected["logits"].to_f64_vec();
        for i in 0..2 {
            check_logits(&model, &tokens[i * 32..][..32], &logits[i * 32 * 1024..][..32 * 1024]);
        }
        let loss = record[format!("tiny_loss_{name}")].as_f64().unwrap();
        let gradients = open(&format!("golfwide_tiny_grads_{name}.safetensors"));
        check_gradients(&model, [&tokens, &targets], 2, loss, &gradients);
    }
}

#[test]
fn bytes_of_tokens_are_the_golf_repository_s() {
    let Some(shared) = shared_dir() else { return skip("golf byte counts") };
    let tokenizer = open_tokenizer(&shared.join("data/fineweb_1024_bpe.model"), 1024).unwrap();
    let counts = ByteCounts::of(&tokenizer);
    let tables = std::fs::read(shared.join("golden/golf/sp1024_luts.json")).unwrap();
    let tables: serde_json::Value = serde_json::from_slice(&tables).unwrap();
    for token in 0..1024 {
        let flag = |key: &str| tables[key][token] == 1;
        let base = tables["base_bytes"][token].as_u64().unwrap();
        let (id, text, boundary) = (token as u32, 300, 1);
        assert_eq!(counts.bytes(boundary, id), base, "{token}");
        let behind_text = base + u64::from(flag("has_leading_space"));
        assert_eq!(counts.bytes(text, id), behind_text, "{token}");
        assert_eq!(flag("is_boundary"), base == 0 && !flag("has_leading_space"), "{token}");
        // A space is written behind every token but a boundary.
        let space = (0..1024).find(|&t| tables["has_leading_space"][t] == 1).unwrap();
        let behind = counts.bytes(id, space as u32) - counts.bytes(boundary, space as u32);
        assert_eq!(behind, u64::from(!flag("is_boundary")), "{token}");
    }
    let path = shared.join("data/fineweb_val_prefix_sp1024.bin");
    let file = orion_formats::TokenFile::open(path).unwrap();
    assert_eq!(counts.bytes_in(&file, 1, 524_287), 1_256_688);
    // The loss and the bits that submission 801 published.
    let published = orion_engine::Evaluation {
        range: orion_engine::RangeReport::default(),
        loss: 5.4222,
        tokens: 524_288,
        windows: 8189,
        bytes: Some(1_256_688),
    };
    assert_eq!(format!("{:.4}", published.bits_per_byte().unwrap()), "3.2636");
}

#[test]
fn bits_per_byte_are_the_golf_repository_s() {
    let Some(shared) = shared_dir() else { return skip("golf evaluation") };
    let golden = shared.join("golden/golf");
    let tokenizer = open_tokenizer(&shared.join("data/fineweb_1024_bpe.model"), 1024).unwrap();
    let counts = ByteCounts::of(&tokenizer);
    let file = shared.join("data/fineweb_val_prefix_sp1024.bin");
    let file = orion_formats::TokenFile::open(file).unwrap();
    let record = std::fs::read(golden.join("baseline_tiny.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let device: Arc<dyn Device> = Arc::new(Cpu::default());
    for (name, weights, rule, tokens) in [
        ("fp32", "fp32", WindowRule::Disjoint, 1024),
        ("dequant", "dequant", WindowRule::Disjoint, 1024),
        ("fp32_sliding16", "fp32", WindowRule::Sliding { stride: 16 }, 512),
    ] {
        let weights = golden.join(format!("baseline_tiny_{weights}.safetensors"));
        let weights = SafeTensors::open(weights).unwrap().tensors;
        let model = LoadedModel::new(small_baseline(), weights);
        let expected = &record[name];
        for batch in [1, 7] {
            let shape = EvaluationShape { batch, seq: 64, rule, max_tokens: Some(tokens) };
            let result =
                evaluate(&model, &device, &file, shape, Some(&counts), &mut |_, _| {}).unwrap();
            assert_eq!(result.bytes, expected["bytes"].as_f64().map(|b| b as u64), "{name}");
            if let Some(windows) = expected["windows"].as_u64() {
                let tokens = expected["tokens"].as_f64().unwrap() as u64;
                assert_eq!((result.windows, result.tokens), (windows, tokens));
            }
            let expected = ["val_loss", "val_bpb"].map(|key| expected[key].as_f64().unwrap());
            let actual = [result.loss, result.bits_per_byte().unwrap()];
            Tolerance::F32Network.check(&actual, &expected).unwrap();
        }
    }
}
