//! Generation and training of a real trained model against independent implementations:
//! llama2.c for text and logits, PyTorch for losses, gradients and weights.

use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_engine::{
    ConfigLayers, EvaluationShape, Event, Generator, Sampler, SamplerConfig, StopReason, TextEvent,
    TextRule, TrainConfig, Trainer, WindowRule, evaluate, generate, load_model,
    load_model_for_inference, open_tokenizer,
};
use orion_formats::{SafeTensors, TokenFile, rope_interleaved_to_half};
use orion_models::{ModelFile, WeightStorage};
use orion_runtime::Device;
use orion_tensor::{Tensor, Tolerance};
use orion_testing::{shared_dir, skip};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn devices() -> Vec<Arc<dyn Device>> {
    vec![Arc::new(Cpu::new(CpuOptions::default())), Arc::new(Reference)]
}

fn cpu() -> Arc<dyn Device> {
    Arc::new(Cpu::new(CpuOptions::default()))
}

fn text(device: Arc<dyn Device>, shared: &Path, weights: &str, prompt: &str, n: usize) -> Vec<u8> {
    let model = load_model(&shared.join(weights)).unwrap();
    let tokenizer = open_tokenizer(&shared.join("data/tok512.bin"), 512).unwrap();
    let mut generator = Generator::new(&model, device, None).unwrap();
    let prompt = tokenizer.encode(prompt);
    let mut ids = vec![tokenizer.bos().unwrap()];
    let stop = TextRule::new(n, vec![1, 2]);
    let mut sampler = Sampler::new(SamplerConfig::greedy());
    let stats =
        generate(&mut generator, &prompt, tokenizer.bos(), &mut sampler, &stop, &mut |event| {
            if let TextEvent::Prompt(token) | TextEvent::Token(token, _) = event {
                ids.push(token);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(stats.stopped, StopReason::MaxTokens);
    tokenizer.decode(&ids)
}

#[test]
fn greedy_text_is_llama2c_s() {
    let Some(shared) = shared_dir() else { return skip("stories260K greedy text") };
    // The files hold 256 tokens, the prompt's included.
    for (prompt, golden) in [("", "p0"), ("Once upon a time", "p1")] {
        let golden = shared.join(format!("golden/llama2c/stories260K_{golden}.txt"));
        let golden = std::fs::read(golden).unwrap();
        let all = text(cpu(), &shared, "weights/stories260K.bin", prompt, 256);
        assert_eq!(String::from_utf8_lossy(&all), String::from_utf8_lossy(&golden));
        for same in ["weights/stories260K_v1.bin", "weights/stories260K_hf"] {
            let part = text(cpu(), &shared, same, prompt, 60);
            assert!(part.len() > 100 && golden.starts_with(&part), "{same}");
        }
        let part = text(Arc::new(Reference), &shared, "weights/stories260K.bin", prompt, 40);
        assert!(part.len() > 60 && golden.starts_with(&part));
    }
}

#[test]
fn logits_are_llama2c_s() {
    let Some(shared) = shared_dir() else { return skip("stories260K logits") };
    let golden = std::fs::read(shared.join("golden/llama2c/stories260K_p1.logits.f32")).unwrap();
    let golden: Vec<f32> =
        golden.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let record = std::fs::read(shared.join("golden/llama2c/stories260K_p1.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let inputs: Vec<u32> = record["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["in"].as_u64().unwrap() as u32)
        .take(64)
        .collect();
    let model = load_model(&shared.join("weights/stories260K.bin")).unwrap();
    for device in devices() {
        // One token at a time, and the same tokens in chunks that use the prefill programs.
        for chunk in [1, 7, 33] {
            let mut generator = Generator::new(&model, device.clone(), None).unwrap();
            let mut position = 0;
            for tokens in inputs.chunks(chunk) {
                let logits = generator.read(tokens).unwrap();
                position += tokens.len();
                let logits: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
                let expected: Vec<f64> = golden[(position - 1) * 512..position * 512]
                    .iter()
                    .map(|&l| f64::from(l))
                    .collect();
                Tolerance::F32Network.check(&logits, &expected).unwrap();
            }
        }
    }
}

/// The command of the golden file, as settings.
fn golden_config(shared: &Path, steps: u64, accumulate: usize) -> TrainConfig {
    let mut layers = ConfigLayers::default();
    let path = |p: &str| shared.join(p).to_string_lossy().into_owned();
    for (key, value) in [
        ("model.weights", path("weights/stories260K.bin")),
        ("data.train", path("data/tinystories_tok512_data00.bin")),
        ("data.order", "sequential".into()),
        ("train.steps", steps.to_string()),
        ("train.batch", (4 / accumulate).to_string()),
        ("train.grad_accum", accumulate.to_string()),
        ("train.seq", "128".into()),
        ("optimizer.lr", "1e-3".into()),
        ("optimizer.schedule", "constant".into()),
        ("optimizer.warmup", "0".into()),
        ("optimizer.beta1", "0.9".into()),
        ("optimizer.beta2", "0.95".into()),
        ("optimizer.eps", "1e-8".into()),
        ("optimizer.weight_decay", "0.1".into()),
        ("optimizer.clip", "1.0".into()),
    ] {
        layers.set(key, &value).unwrap();
    }
    layers.finish().unwrap()
}

fn train(config: TrainConfig, device: Arc<dyn Device>) -> (Trainer, Vec<(f64, f64)>) {
    let directory = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::new(config, &directory.path().join("run"), device).unwrap();
    let mut steps = Vec::new();
    trainer
        .run(&mut |event| {
            if let Event::Step(report) = event {
                steps.push((report.loss, report.grad_norm));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    (trainer, steps)
}

/// A golden tensor under Orion's name and row order.
fn golden_tensors(path: PathBuf) -> Vec<(String, Tensor)> {
    let file = SafeTensors::open(path).unwrap();
    file.tensors
        .iter()
        .map(|(name, tensor)| {
            let tensor = if name.ends_with("wq.weight") {
                rope_interleaved_to_half(tensor, 8).unwrap()
            } else if name.ends_with("wk.weight") {
                rope_interleaved_to_half(tensor, 4).unwrap()
            } else {
                tensor.clone()
            };
            (orion_models::hugging_face_name(name), tensor)
        })
        .collect()
}

#[test]
fn five_steps_are_pytorch_s() {
    let Some(shared) = shared_dir() else { return skip("stories260K training golden") };
    let golden = std::fs::read(shared.join("golden/train/stories260K_train.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
    let after = load_model(&shared.join("golden/train/stories260K_after5.bin")).unwrap().parameters;
    // AdamW moves a weight by about the learning rate however small its gradient is. Where even
    // sums in f64 do not come close to PyTorch's, rounding decides which way.
    let exact = train(golden_config(&shared, 5, 1), Arc::new(Reference)).0.model().parameters;
    for accumulate in [1, 2] {
        let config = golden_config(&shared, 5, accumulate);
        let learning_rate = config.optimizer.lr;
        let (trainer, steps) = train(config, cpu());
        for (i, (loss, grad_norm)) in steps.iter().enumerate() {
            let expected = &golden["steps"][i];
            // The bound, absolute.
            let difference = (loss - expected["loss"].as_f64().unwrap()).abs();
            assert!(difference < 1e-4, "step {i}: loss off by {difference}");
            let expected = expected["grad_norm"].as_f64().unwrap();
            Tolerance::F32Network.check(&[*grad_norm], &[expected]).unwrap();
        }
        assert_eq!(steps.len(), 5);
        let trained = trainer.model().parameters;
        let (mut beyond, mut count) = (0, 0);
        for (name, expected) in &after {
            let (mut trained, expected) = (trained[name].to_f64_vec(), expected.to_f64_vec());
            let squares: f64 = expected.iter().map(|v| v * v).sum();
            let scale = (squares / expected.len() as f64).sqrt();
            for ((trained, &expected), exact) in
                trained.iter_mut().zip(&expected).zip(exact[name].to_f64_vec())
            {
                let allowed = Tolerance::F32Network.relative() * expected.abs().max(scale);
                if (exact - expected).abs() > allowed {
                    let off = (*trained - expected).abs();
                    assert!(off < learning_rate, "{name}: {trained}, not {expected}");
                    *trained = expected;
                    beyond += 1;
                }
            }
            Tolerance::Trained.check(&trained, &expected).unwrap_or_else(|e| panic!("{name}: {e}"));
            let closer = Tolerance::F32Network.check(&trained, &expected);
            beyond += closer.map_or_else(|e| e.failing, |()| 0);
            count += expected.len();
        }
        assert!(beyond * 1000 < count, "{beyond} of {count} weights are not close");
    }
}

#[test]
fn first_gradients_are_pytorch_s() {
    let Some(shared) = shared_dir() else { return skip("stories260K gradient golden") };
    let golden = golden_tensors(shared.join("golden/train/stories260K_grads_step0.safetensors"));
    for device in devices() {
        let name = device.name().to_owned();
        let (trainer, _) = train(golden_config(&shared, 1, 1), device);
        let gradients = trainer.gradients();
        assert_eq!(gradients.len(), golden.len());
        for (parameter, expected) in &golden {
            Tolerance::F32Network
                .check(&gradients[parameter].to_f64_vec(), &expected.to_f64_vec())
                .unwrap_or_else(|e| panic!("{name}, {parameter}: {e}"));
        }
    }
}

#[test]
fn evaluation_is_pytorch_s() {
    let Some(shared) = shared_dir() else { return skip("stories260K evaluation golden") };
    let model = load_model(&shared.join("weights/stories260K.bin")).unwrap();
    let file = TokenFile::open(shared.join("data/tinystories_tok512_data00.bin")).unwrap();
    let shape = EvaluationShape {
        batch: 4,
        seq: 128,
        rule: WindowRule::Disjoint,
        max_tokens: Some(16 * 4 * 128),
    };
    let result = evaluate(&model, cpu(), &file, shape, None, &mut |_, _| {}).unwrap();
    assert_eq!(result.tokens, 16 * 4 * 128);
    Tolerance::F32Network.check(&[result.loss], &[1.3927693367004395]).unwrap();
}

#[test]
fn gguf_files_give_llama_cpp_s_text() {
    let Some(shared) = shared_dir() else { return skip("stories260K from GGUF files") };
    for kind in ["f32", "f16", "q8_0"] {
        let golden = shared.join(format!("golden/gguf/stories260K-{kind}.llama-simple.txt"));
        let golden = std::fs::read_to_string(golden).unwrap();
        // The program prints BOS by its name.
        let golden = golden.trim_start().strip_prefix("<s>").unwrap().trim();
        let path = shared.join(format!("weights/stories260K-{kind}.gguf"));
        let model = load_model_for_inference(&path, WeightStorage::AsGiven).unwrap();
        assert_eq!(model.quantized.is_empty(), kind != "q8_0");
        assert_eq!(ModelFile::open(&path).unwrap().tokenizer.as_ref(), Some(&path));
        let tokenizer = open_tokenizer(&path, 512).unwrap();
        let prompt = "Once upon a time";
        for (device, n) in devices().into_iter().zip([100, 30]) {
            let mut generator = Generator::new(&model, device, None).unwrap();
            let mut ids = vec![];
            let stop = TextRule::new(n, vec![1, 2]);
            let mut sampler = Sampler::new(SamplerConfig::greedy());
            generate(
                &mut generator,
                &tokenizer.encode(prompt),
                tokenizer.bos(),
                &mut sampler,
                &stop,
                &mut |event| {
                    if let TextEvent::Prompt(token) | TextEvent::Token(token, _) = event {
                        ids.push(token);
                    }
                    ControlFlow::Continue(())
                },
            )
            .unwrap();
            let text = String::from_utf8(tokenizer.decode(&ids)).unwrap();
            assert!(
                text.len() > prompt.len() + 40 && golden.starts_with(text.trim()),
                "{kind}: {text}"
            );
            if n == 100 {
                assert!(text.len() + 12 > golden.len(), "{kind}: {text}");
            }
        }
    }
}
