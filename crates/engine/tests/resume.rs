//! A run that is stopped and resumed is the run that was never stopped, bit for bit.

mod runs;

use orion_engine::{
    Accelerator, ConfigLayers, ErrorKind, Event, Random, TrainConfig, Trainer, load_model,
};
use orion_tensor::{DType, Tolerance};
use orion_tokenizer::Tokenizer;
use runs::{cpu, losses, run_until};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

fn write_tokens(path: &Path, count: usize, vocab_size: u64) {
    let mut random = Random::new(5);
    let ids: Vec<u8> =
        (0..count).flat_map(|_| (random.below(vocab_size) as u16).to_le_bytes()).collect();
    fs::write(path, ids).unwrap();
}

/// A network of a few thousand parameters with grouped heads, on a file of a few windows so that
/// passes over it end within the run.
fn tiny(directory: &Path, overrides: &[(&str, &str)]) -> TrainConfig {
    let tokens = directory.join("tokens.bin");
    if !tokens.exists() {
        write_tokens(&tokens, 300, 48);
    }
    let mut layers = ConfigLayers::default();
    let tokens = tokens.to_string_lossy().into_owned();
    for (key, value) in [
        ("model.vocab_size", "48"),
        ("model.hidden_size", "16"),
        ("model.intermediate_size", "40"),
        ("model.n_layers", "2"),
        ("model.n_heads", "4"),
        ("model.n_kv_heads", "2"),
        ("model.head_dim", "4"),
        ("model.max_positions", "32"),
        ("data.train", &tokens),
        ("data.eval", &tokens),
        ("train.steps", "12"),
        ("train.batch", "2"),
        ("train.grad_accum", "2"),
        ("train.seq", "16"),
        ("optimizer.warmup", "3"),
        ("checkpoint.every", "4"),
        ("eval.every", "5"),
    ]
    .iter()
    .chain(overrides)
    {
        layers.set(key, value).unwrap();
    }
    layers.finish().unwrap()
}

fn weights(run: &Path) -> Vec<u8> {
    let mut bytes = fs::read(run.join("latest/model.safetensors")).unwrap();
    bytes.extend(fs::read(run.join("latest/optimizer.safetensors")).unwrap());
    bytes
}

#[test]
fn interrupted_runs_resume_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let whole = directory.join("whole");
    let config = tiny(directory, &[]);
    let outcome = run_until(&mut Trainer::new(config.clone(), &whole, cpu()).unwrap(), 0);
    assert_eq!((outcome.step, outcome.interrupted, outcome.skipped), (12, false, 0));
    assert!(outcome.eval_losses.1 < outcome.eval_losses.0);
    for stop in [1, 4, 7] {
        let run = directory.join(format!("stopped at {stop}"));
        let outcome = run_until(&mut Trainer::new(config.clone(), &run, cpu()).unwrap(), stop);
        assert!(outcome.interrupted && outcome.step == stop);
        assert_ne!(weights(&run), weights(&whole));
        let page = fs::read_to_string(run.join("config.toml")).unwrap();
        let mut layers = ConfigLayers::default();
        layers.add_toml(&page).unwrap();
        let mut resumed = Trainer::resume(layers.finish().unwrap(), &run, cpu()).unwrap();
        assert_eq!(resumed.step(), stop);
        assert_eq!(run_until(&mut resumed, 0).step, 12);
        assert_eq!(weights(&run), weights(&whole), "stopped at {stop}");
        assert_eq!(losses(&run), losses(&whole), "stopped at {stop}");
    }
}

/// The update of a step is made beside the forward pass of the next one, or before whatever asks
/// for weights. Either way gives the same bits, and so does stopping and going on.
#[test]
fn an_update_that_is_put_off_is_the_same_update() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let train = |name: &str, accumulated: &str, every: &str, stops: &[u64]| {
        let run = directory.join(format!("{name} {accumulated}"));
        let seldom =
            [("checkpoint.every", every), ("eval.every", "0"), ("train.grad_accum", accumulated)];
        let config = tiny(directory, &seldom);
        let accelerator = || Accelerator::plain(cpu());
        let mut trainer = Trainer::new(config.clone(), &run, cpu()).unwrap();
        for &stop in stops {
            trainer.use_accelerator(accelerator()).unwrap();
            assert!(run_until(&mut trainer, stop).interrupted);
            trainer = Trainer::resume(config.clone(), &run, cpu()).unwrap();
        }
        trainer.use_accelerator(accelerator()).unwrap();
        run_until(&mut trainer, 0);
        let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let metrics: Vec<[String; 3]> = metrics
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                ["loss", "grad_norm", "eval_loss"].map(|key| line[key].to_string())
            })
            .collect();
        (weights(&run), metrics)
    };
    for accumulated in ["1", "3"] {
        let put_off = train("put off", accumulated, "0", &[]);
        let at_once = train("at once", accumulated, "1", &[]);
        assert!(put_off == at_once, "{accumulated} micro-batches");
        let stopped = train("stopped", accumulated, "0", &[7, 9]);
        assert!(put_off == stopped, "{accumulated} micro-batches, stopped");
    }
}

/// Activations begin small here, so that `r³` of their norms is no number of fp16, neither that of
/// a block's input nor that between its halves.
#[test]
fn gradients_of_small_activations_are_numbers_of_fp16() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let norms = |name: &str, accelerator: Accelerator| {
        let config = tiny(directory, &[("train.loss_scale", "256"), ("train.steps", "3")]);
        let mut trainer = Trainer::new(config, &directory.join(name), cpu()).unwrap();
        trainer.use_accelerator(accelerator).unwrap();
        let mut norms = Vec::new();
        let run = trainer.run(&mut |event| {
            if let Event::Step(report) = event {
                norms.push(report.grad_norm);
            }
            ControlFlow::Continue(())
        });
        assert_eq!(run.unwrap().skipped, 0, "{name}");
        norms
    };
    let single = norms("single", Accelerator::plain(cpu()));
    let half = norms("half", Accelerator { numbers: DType::F16, ..Accelerator::plain(cpu()) });
    Tolerance::F16Accum.check(&half, &single).unwrap();
}

/// What a kill leaves behind: a newer checkpoint without its end, and metrics past it.
#[test]
fn an_incomplete_checkpoint_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let config = tiny(directory, &[]);
    let (whole, run) = (directory.join("whole"), directory.join("run"));
    run_until(&mut Trainer::new(config.clone(), &whole, cpu()).unwrap(), 0);
    run_until(&mut Trainer::new(config.clone(), &run, cpu()).unwrap(), 10);
    fs::remove_file(run.join("checkpoints/step_00000010/DONE")).unwrap();
    let mut resumed = Trainer::resume(config.clone(), &run, cpu()).unwrap();
    assert_eq!(resumed.step(), 8);
    assert!(resumed.passed_over()[0].contains("step_00000010"));
    run_until(&mut resumed, 0);
    assert_eq!(weights(&run), weights(&whole));
    assert_eq!(losses(&run), losses(&whole));
}

#[test]
fn runs_are_refused_with_reasons() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let run = directory.join("run");
    let config = tiny(directory, &[("train.steps", "2")]);
    run_until(&mut Trainer::new(config.clone(), &run, cpu()).unwrap(), 0);
    let error = Trainer::new(config.clone(), &run, cpu()).err().unwrap();
    assert!(error.to_string().contains("already holds a run"), "{error}");

    let wider = tiny(directory, &[("model.hidden_size", "32")]);
    let error = Trainer::resume(wider, &run, cpu()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Mismatch);

    let narrow = tiny(directory, &[("model.vocab_size", "40")]);
    let error = Trainer::new(narrow, &directory.join("other"), cpu()).err().unwrap();
    assert!(error.way_out().unwrap().contains("tokenizer"), "{error}");
    assert!(!directory.join("other").exists(), "a refused run leaves nothing behind");

    let error = Trainer::resume(config, &directory.join("none"), cpu()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::File);
    let model = load_model(&run).unwrap();
    assert_eq!(model.network.vocab_size(), 48);
}

/// Gradients that overflow: the step changes nothing, is counted, and the run gives up at last.
#[test]
fn steps_that_are_not_finite_are_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let config = tiny(directory, &[("train.loss_scale", "1e9"), ("train.steps", "30")]);
    let mut config = config;
    // Beyond what a page may ask for: the scaled gradients leave the range of f32.
    config.train.loss_scale = 1e39;
    let run = directory.join("run");
    let mut trainer = Trainer::new(config, &run, cpu()).unwrap();
    let before = trainer.model().parameters;
    let mut skipped = 0;
    let error = trainer
        .run(&mut |event| {
            if let Event::Step(report) = event {
                skipped += u64::from(report.skipped);
            }
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged);
    assert!(error.way_out().unwrap().contains("lower train.loss_scale"));
    assert_eq!(skipped, 9);
    assert_eq!(trainer.model().parameters, before);
}

#[test]
fn samples_are_written_as_the_run_goes() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let tokenizer = Tokenizer::train_byte_level(["a small cat sat on a small mat"], 270).unwrap();
    let tokenizer = tokenizer.save_in(directory).unwrap();
    let config = tiny(
        directory,
        &[
            ("model.vocab_size", "270"),
            ("data.tokenizer", &tokenizer.to_string_lossy()),
            ("sample.every", "5"),
            ("sample.prompt", "a small"),
            ("sample.tokens", "12"),
            ("checkpoint.every", "2"),
        ],
    );
    let run = directory.join("run");
    let mut samples = Vec::new();
    Trainer::new(config, &run, cpu())
        .unwrap()
        .run(&mut |event| {
            if let Event::Sample { step, text } = event {
                samples.push((*step, (*text).to_owned()));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(samples.iter().map(|s| s.0).collect::<Vec<_>>(), [5, 10]);
    let file = fs::read_to_string(run.join("samples.txt")).unwrap();
    for (step, text) in &samples {
        assert!(text.starts_with("a small") && text.len() > "a small".len(), "{text}");
        assert!(file.contains(&format!("after {step} steps")) && file.contains(text.as_str()));
    }
    assert!(run.join("tokenizer.json").exists(), "the run keeps its tokenizer");
    // Six checkpoints were written; the page keeps three.
    assert_eq!(fs::read_dir(run.join("checkpoints")).unwrap().count(), 3);
}
