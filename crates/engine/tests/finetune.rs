//! Training adapters: what is computed, what stays as it is, and that runs resume.

mod runs;

use orion_compile::partition::WeightForm;
use orion_cpu::Cpu;
use orion_cpu::reference::Reference;
use orion_engine::{
    Accelerator, Companions, ConfigLayers, EvaluationShape, Generator, LoadedModel, Random, Target,
    TrainConfig, Trainer, WindowRule, convert, evaluate_adapted, initialize, load_adapter,
    load_model, programs,
};
use orion_formats::TokenFile;
use orion_mil::{Op, typed};
use orion_models::{
    AdapterShape, LlamaConfig, LowRank, Network, WeightIndex, matrix_names, program_name,
};
use orion_runtime::{Bindings, Device, Layout, Surface};
use orion_tensor::{DType, Tensor, Tolerance};
use orion_tokenizer::Tokenizer;
use runs::{cpu, losses, run_until};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// No two sizes are the same, so that shapes tell values apart.
fn network() -> Network {
    Network::Llama(LlamaConfig {
        vocab_size: 271,
        hidden_size: 24,
        intermediate_size: 44,
        n_layers: 3,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        max_positions: 40,
        rope_theta: 1e4,
        norm_epsilon: 1e-5,
        tied: false,
        rope_scaling: None,
        attention_bias: false,
        mlp_bias: false,
    })
}

fn model() -> LoadedModel {
    let network = network();
    let mut parameters = initialize(&network, 3);
    for tensor in parameters.values_mut().filter(|t| t.shape().len() == 2) {
        let values: Vec<f32> = tensor.to_f32_vec().iter().map(|v| v * 8.0).collect();
        *tensor = Tensor::from_slice(tensor.shape(), &values);
    }
    LoadedModel::new(network, parameters)
}

fn shape(network: &Network, rank: usize) -> AdapterShape {
    let layers = network.linear_layers().into_iter();
    let chosen = layers.filter(|l| l.module.ends_with("q_proj") || l.module.ends_with("down_proj"));
    AdapterShape { rank, modules: chosen.map(|layer| layer.module).collect() }
}

const TOKENS: usize = 7;

/// The program that trains an adapter has no gradient of any other weight in it: nothing of a
/// weight's size is computed, and nothing is asked for or given but what belongs to the adapter.
#[test]
fn weights_under_an_adapter_get_no_gradient() {
    let model = model();
    let adapters = shape(&model.network, 5);
    let index = model.index(TOKENS).with_adapters(adapters.clone());
    let own: BTreeSet<String> =
        adapters.parameters(&model.network).iter().map(|spec| program_name(&spec.name)).collect();
    assert_eq!(own.len(), 12);
    let matrices: BTreeSet<Vec<usize>> = model
        .network
        .parameters()
        .into_iter()
        .filter(|p| p.shape.len() == 2)
        .flat_map(|p| [p.shape.clone(), p.shape.into_iter().rev().collect()])
        .collect();
    for (accumulate, optimize) in [(false, false), (false, true), (true, true)] {
        let make = if optimize { programs::gradient_program } else { programs::gradient_source };
        let program = make(&model.network, &index, 1, TOKENS, accumulate);
        let function = program.main().unwrap();
        let name = |id| function.value_name(id).to_owned();
        let inputs: BTreeSet<String> = function.params.iter().map(|p| name(p.value)).collect();
        let mut expected: BTreeSet<String> = own.clone();
        let others = ["tokens", "targets", "loss_scale", AdapterShape::SCALE];
        expected.extend(others.map(str::to_owned));
        let gradients: BTreeSet<String> = own.iter().map(|p| format!("{p}_grad")).collect();
        if accumulate {
            expected.extend(gradients.clone());
        }
        assert_eq!(inputs, expected);
        let results: BTreeSet<String> = function.body.results.iter().map(|&id| name(id)).collect();
        let suffix = if accumulate { "_next" } else { "" };
        let mut expected: BTreeSet<String> =
            gradients.iter().map(|gradient| format!("{gradient}{suffix}")).collect();
        expected.insert("loss".to_owned());
        assert_eq!(results, expected);

        // Everything that follows from constants alone is no gradient.
        let mut constant = BTreeSet::new();
        let mut products = 0;
        let ops = typed::analyze(function).unwrap();
        for (operation, op) in function.body.operations.iter().zip(&ops) {
            let is_constant = op.operands().iter().all(|id| constant.contains(id));
            for &output in &operation.outputs {
                if is_constant {
                    constant.insert(output);
                    continue;
                }
                let Some(shape) = function.ty(output).as_tensor().and_then(|ty| ty.shape()) else {
                    continue;
                };
                let long: Vec<usize> = shape.iter().copied().filter(|&n| n != 1).collect();
                assert!(
                    !matrices.contains(&long),
                    "{} has the shape of a weight: {shape:?}",
                    name(output)
                );
            }
            products += usize::from(matches!(op, Op::Matmul { .. } | Op::Conv { .. }));
        }
        assert!(products > 40, "{products} products were looked at");
    }
    // The test would find one: training all weights computes them.
    let mut all = WeightIndex::new();
    model.network.add_tables(&mut all, TOKENS);
    let program = programs::gradient_program(&model.network, &all, 1, TOKENS, false);
    let function = program.main().unwrap();
    let found = function.values.iter().any(|(_, value)| {
        value.name.ends_with("_grad")
            && value.ty.as_tensor().and_then(|ty| ty.shape()) == Some(vec![44, 24])
    });
    assert!(found);
}

/// Random values for parameters, none of them zero.
fn values(network: &Network, adapters: &AdapterShape) -> BTreeMap<String, Tensor> {
    let mut random = Random::new(8);
    let specs = adapters.parameters(network).into_iter();
    let tensors = specs.map(|spec| {
        let count = spec.shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| (random.normal() * 0.2) as f32).collect();
        (spec.name, Tensor::from_slice(&spec.shape, &values))
    });
    tensors.collect()
}

/// Loss and gradients of a program with these inputs.
fn differentiate(
    device: &dyn Device,
    program: &orion_mil::Program,
    index: &WeightIndex,
    inputs: &BTreeMap<String, Surface>,
    trained: &BTreeMap<String, Tensor>,
) -> (f64, BTreeMap<String, Tensor>) {
    let mut executable = device.compile(program, index.weights()).unwrap();
    let mut loss = Surface::zeros(Layout::dense(DType::F32, &[1]));
    let mut gradients: BTreeMap<String, Surface> = trained
        .iter()
        .map(|(name, t)| {
            let zeros = Surface::zeros(Layout::dense(DType::F32, t.shape()));
            (format!("{}_grad", program_name(name)), zeros)
        })
        .collect();
    let bound: BTreeMap<String, Surface> = trained
        .iter()
        .map(|(name, t)| (program_name(name), Surface::from_slice(t.shape(), &t.to_f32_vec())))
        .collect();
    let mut bindings = Bindings::new();
    bindings.output("loss", &mut loss);
    for (name, surface) in inputs.iter().chain(&bound) {
        bindings.input(name, surface);
    }
    for (name, surface) in &mut gradients {
        bindings.output(name, surface);
    }
    executable.run(&mut bindings).unwrap();
    let gradients = gradients.into_iter().map(|(name, surface)| (name, surface.to_tensor()));
    (f64::from(loss.elements::<f32>()[0]), gradients.collect())
}

/// `a · b` of row-major matrices, `a` turned first where asked.
fn product(a: &[f64], b: &[f64], [rows, inner, columns]: [usize; 3], turned: bool) -> Vec<f64> {
    let mut result = vec![0.0; rows * columns];
    for i in 0..rows {
        for j in 0..columns {
            let at = |k: usize| if turned { a[k * rows + i] } else { a[i * inner + k] };
            result[i * columns + j] = (0..inner).map(|k| at(k) * b[k * columns + j]).sum();
        }
    }
    result
}

fn turned(a: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    (0..rows * columns).map(|i| a[i % rows * columns + i / rows]).collect()
}

/// The gradients of A and B are those of the merged weight, by the chain rule: with
/// `W' = W + s·B·A`, `dB = s·dW'·Aᵀ` and `dA = s·Bᵀ·dW'`.
#[test]
fn gradients_follow_from_those_of_the_merged_weights() {
    let model = model();
    let (rank, scale) = (5, 0.75);
    let adapters = shape(&model.network, rank);
    let trained = values(&model.network, &adapters);
    let adapter = orion_engine::Adapter::of_tensors(&trained, &adapters.modules, scale);
    let merged = adapter.merged_into(&model).unwrap();
    let tokens: Vec<i32> = (0..2 * TOKENS as i32).map(|i| i * 37 % 271).collect();
    let targets: Vec<i32> = tokens.iter().map(|t| (t * 5 + 3) % 271).collect();
    let ids = |ids: &[i32]| Surface::from_slice(&[ids.len()], ids);
    let inputs = BTreeMap::from([
        ("tokens".to_owned(), ids(&tokens)),
        ("targets".to_owned(), ids(&targets)),
        ("loss_scale".to_owned(), Surface::from_slice(&[1], &[1f32])),
    ]);
    for device in [Arc::new(Cpu::default()) as Arc<dyn Device>, Arc::new(Reference)] {
        let mut all = WeightIndex::new();
        model.network.add_tables(&mut all, TOKENS);
        let program = programs::gradient_program(&model.network, &all, 2, TOKENS, false);
        let (loss, whole) = differentiate(&*device, &program, &all, &inputs, &merged.parameters);

        let index = model.index(TOKENS).with_adapters(adapters.clone());
        let program = programs::gradient_program(&model.network, &index, 2, TOKENS, false);
        let mut with_scale = inputs.clone();
        let scales = Surface::from_slice(&[rank, 1], &vec![scale as f32; rank]);
        with_scale.insert(AdapterShape::SCALE.to_owned(), scales);
        let (same, gradients) = differentiate(&*device, &program, &index, &with_scale, &trained);
        Tolerance::F32Network.check(&[same], &[loss]).unwrap();
        for module in &adapters.modules {
            let LowRank { a, b, .. } = &adapter.modules[module];
            let dw = &whole[&format!("{}_grad", program_name(&format!("{module}.weight")))];
            let [o, i] = [dw.shape()[0], dw.shape()[1]];
            let (a, b, dw) = (a.to_f64_vec(), b.to_f64_vec(), dw.to_f64_vec());
            let da = product(&b, &dw, [rank, o, i], true);
            let db = product(&dw, &turned(&a, [rank, i]), [o, i, rank], false);
            for (name, expected) in matrix_names(module).into_iter().zip([da, db]) {
                let expected: Vec<f64> = expected.iter().map(|v| v * scale).collect();
                let found = gradients[&format!("{}_grad", program_name(&name))].to_f64_vec();
                Tolerance::F32Network
                    .check(&found, &expected)
                    .unwrap_or_else(|e| panic!("{}, {name}: {e}", device.name()));
            }
        }
        // Of some tokens: the same as the sum over these alone.
        let program = programs::weighted_gradient_program(&model.network, &index, 2, TOKENS, false);
        let shares: Vec<f32> =
            (0..2 * TOKENS).map(|i| if i % 3 == 0 { 0.5 } else { 0.0 }).collect();
        with_scale.insert("weights".into(), Surface::from_slice(&[2 * TOKENS], &shares));
        let (part, partial) = differentiate(&*device, &program, &index, &with_scale, &trained);
        let each = vec![1.0 / (2 * TOKENS) as f32; 2 * TOKENS];
        with_scale.insert("weights".into(), Surface::from_slice(&[2 * TOKENS], &each));
        let (mean, all) = differentiate(&*device, &program, &index, &with_scale, &trained);
        Tolerance::F32Network.check(&[mean], &[loss]).unwrap();
        assert_ne!(part, mean);
        for (name, gradient) in &all {
            let (found, expected) = (gradient.to_f64_vec(), gradients[name].to_f64_vec());
            Tolerance::F32Network.check(&found, &expected).unwrap();
            assert!(Tolerance::F32Network.check(&partial[name].to_f64_vec(), &expected).is_err());
        }
    }
}

/// A model directory with a tokenizer and a chat template, and data of every kind.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    let story = "the cat sat on the mat and the dog sat on the log. ";
    let tokenizer = Tokenizer::train_byte_level([story], 271).unwrap();
    let companions = Companions { tokenizer: Some(&tokenizer), ..Companions::default() };
    convert(&model(), companions, Target::SafeTensors, None, &path, &mut |_| {}).unwrap();
    fs::write(
        path.join("chat_template.jinja"),
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
         {% if add_generation_prompt %}assistant: {% endif %}",
    )
    .unwrap();
    let write = |name: &str, text: String| fs::write(directory.path().join(name), text).unwrap();
    write("story.txt", story.repeat(40));
    let answers = ["mat", "log", "cat", "dog", "the end"];
    let lines = answers.map(|a| format!("{{\"prompt\": \"the \", \"completion\": \"{a}\"}}\n"));
    write("answers.jsonl", lines.concat());
    let lines = answers.map(|a| {
        format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"cat\"}}, \
             {{\"role\": \"assistant\", \"content\": \"{a}\"}}]}}\n"
        )
    });
    write("chat.jsonl", lines.concat());
    (directory, path)
}

fn page(model: &Path, data: &Path, overrides: &[(&str, &str)]) -> TrainConfig {
    let mut layers = ConfigLayers::default();
    layers.set_network(&load_model(model).unwrap().network);
    let (model, data) = (model.to_string_lossy().into_owned(), data.to_string_lossy().into_owned());
    for (key, value) in [
        ("model.weights", model.as_str()),
        ("adapter.rank", "3"),
        ("adapter.alpha", "6"),
        ("adapter.targets", "q,v,up,down"),
        ("data.train", &data),
        ("data.eval", &data),
        ("train.steps", "12"),
        ("train.batch", "2"),
        ("train.grad_accum", "2"),
        ("train.seq", "24"),
        ("optimizer.lr", "1e-2"),
        ("optimizer.warmup", "3"),
        ("checkpoint.every", "4"),
        ("checkpoint.keep", "0"),
        ("eval.every", "5"),
        ("sample.every", "6"),
        ("sample.tokens", "5"),
        ("sample.prompt", "the"),
    ]
    .iter()
    .chain(overrides)
    {
        layers.set(key, value).unwrap();
    }
    layers.finish().unwrap()
}

/// The configuration that a run keeps.
fn written_page(run: &Path) -> TrainConfig {
    let mut layers = ConfigLayers::default();
    layers.add_toml(&fs::read_to_string(run.join("config.toml")).unwrap()).unwrap();
    layers.finish().unwrap()
}

fn written(run: &Path) -> Vec<Vec<u8>> {
    [
        "latest/adapter_model.safetensors",
        "latest/optimizer.safetensors",
        "latest/adapter_config.json",
    ]
    .map(|name| fs::read(run.join(name)).unwrap())
    .into()
}

#[test]
fn interrupted_runs_resume_bit_for_bit_from_every_kind_of_data() {
    let (directory, model) = place();
    let directory = directory.path();
    for kind in ["story.txt", "answers.jsonl", "chat.jsonl"] {
        let config = page(&model, &directory.join(kind), &[]);
        let whole = directory.join(format!("{kind} whole"));
        let outcome = run_until(&mut Trainer::new(config.clone(), &whole, cpu()).unwrap(), 0);
        assert_eq!((outcome.step, outcome.interrupted), (12, false));
        let (before, after) = outcome.eval_losses;
        assert!(after.unwrap() < 0.95 * before.unwrap(), "{kind}: {before:?} {after:?}");
        for stop in [1, 4, 7] {
            let run = directory.join(format!("{kind} {stop}"));
            let mut trainer = Trainer::new(config.clone(), &run, cpu()).unwrap();
            assert!(run_until(&mut trainer, stop).interrupted);
            assert!(!run.join("adapter").exists());
            let mut resumed = Trainer::resume(written_page(&run), &run, cpu()).unwrap();
            assert_eq!(resumed.step(), stop);
            run_until(&mut resumed, 0);
            assert_eq!(written(&run), written(&whole), "{kind}, stopped at {stop}");
            assert_eq!(losses(&run), losses(&whole), "{kind}, stopped at {stop}");
        }
        // Checkpoints and the end are adapters, the first of them another than the last.
        assert!(!whole.join("latest/model.safetensors").exists());
        let base = load_model(&model).unwrap();
        let load = |name: &str| load_adapter(&whole.join(name), &base.network).unwrap();
        let last = load("adapter");
        assert_eq!(load(""), last);
        assert_eq!(load("checkpoints/step_00000012"), last);
        assert_ne!(load("checkpoints/step_00000004"), last);
        assert_eq!((last.rank(), last.modules.len()), (3, 12));
    }
}

/// A CPU in the accelerator's place gives the same run, whatever the data and however the weights
/// under the adapter get to it.
#[test]
fn two_devices_train_adapters_like_one() {
    let (directory, model) = place();
    let directory = directory.path();
    for kind in ["story.txt", "answers.jsonl", "chat.jsonl"] {
        let config = page(&model, &directory.join(kind), &[]);
        let one = directory.join(format!("{kind} one"));
        run_until(&mut Trainer::new(config.clone(), &one, cpu()).unwrap(), 0);
        for weights in [WeightForm::Inputs, WeightForm::Constants] {
            let two = directory.join(format!("{kind} {weights:?}"));
            let mut trainer = Trainer::new(config.clone(), &two, cpu()).unwrap();
            let accelerator = Accelerator { weights, ..Accelerator::plain(cpu()) };
            trainer.use_accelerator(accelerator.clone()).unwrap();
            assert!(run_until(&mut trainer, 7).interrupted);
            let mut trainer = Trainer::resume(written_page(&two), &two, cpu()).unwrap();
            trainer.use_accelerator(accelerator).unwrap();
            run_until(&mut trainer, 0);
            let [found, expected] = [&two, &one].map(|run| {
                let text = losses(run).join(" ");
                text.split(' ').filter_map(|word| word.parse().ok()).collect::<Vec<f64>>()
            });
            assert!(expected.len() > 24, "{expected:?}");
            Tolerance::Trained.check(&found, &expected).unwrap();
        }
    }
}

/// What a run says of its adapter, the adapter does beside the model and merged into it.
#[test]
fn the_loss_of_a_run_is_that_of_its_adapter() {
    let (directory, path) = place();
    let directory = directory.path();
    let tokens: Vec<u8> = (0..400u32).flat_map(|i| ((i * i % 271) as u16).to_le_bytes()).collect();
    let data = directory.join("tokens.bin");
    fs::write(&data, tokens).unwrap();
    let config = page(&path, &data, &[("eval.batches", "0")]);
    let run = directory.join("run");
    let mut trainer = Trainer::new(config, &run, cpu()).unwrap();
    let outcome = run_until(&mut trainer, 0);
    let model = load_model(&path).unwrap();
    assert_eq!(trainer.model().parameters, model.parameters);
    let adapter = load_adapter(&run, &model.network).unwrap();
    assert_eq!(trainer.adapter().unwrap(), adapter);
    assert_eq!(trainer.trained_count(), adapter.parameter_count());
    let file = TokenFile::open(&data).unwrap();
    let rule = WindowRule::Disjoint;
    let shape = EvaluationShape { batch: 2, seq: 24, rule, max_tokens: None };
    let loss = |model: &LoadedModel, adapter| {
        evaluate_adapted(model, adapter, cpu(), &file, shape, None, &mut |_, _| {}).unwrap().loss
    };
    let beside = loss(&model, Some(&adapter));
    Tolerance::F32Network.check(&[beside], &[outcome.eval_losses.1.unwrap()]).unwrap();
    let merged = adapter.merged_into(&model).unwrap();
    Tolerance::F32Network.check(&[loss(&merged, None)], &[beside]).unwrap();
    assert!(loss(&model, None) > beside);
    assert!(Generator::new(&merged, cpu(), None).is_ok());
}

#[test]
fn what_makes_no_adapter_is_refused() {
    let (directory, model) = place();
    let data = directory.path().join("story.txt");
    let begin = |overrides: &[(&str, &str)]| {
        let run = directory.path().join("refused");
        Trainer::new(page(&model, &data, overrides), &run, cpu()).err().unwrap().to_string()
    };
    let e = begin(&[("adapter.targets", "q,embed_tokens")]);
    assert!(e.contains("no linear layer is called embed_tokens"), "{e}");
    let e = begin(&[("adapter.targets", " ")]);
    assert!(e.contains("names no layer"), "{e}");
    let e = begin(&[("adapter.rank", "100000")]);
    assert!(e.contains("expected 1 to 65536"), "{e}");
    let mut layers = ConfigLayers::default();
    layers.set("adapter.rank", "4").unwrap();
    let e = layers.finish().unwrap_err().to_string();
    assert!(e.contains("model.weights"), "{e}");
}
