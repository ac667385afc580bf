//! Training on two devices: the same loss, seen overlap, and nothing lost when a process ends.

use crate::support::{Place, tiny_run};
use orion_corpus::corpus;
use serde_json::Value;

/// A small run whose learning rate does not depend on where it ends.
const TINY: &str = "--init tiny.toml --data tokens.bin --batch 1 --seq 32 --warmup 0 --schedule \
                    constant -t 1 -q --set checkpoint.every=1 --set checkpoint.keep=2";

/// A model of bytes.
const SIZES: &str = "[model]\nvocab_size = 256\nhidden_size = 32\nintermediate_size = 64\n\
                     n_layers = 2\nn_heads = 4\nn_kv_heads = 2\nhead_dim = 8\nmax_positions = 64\n";

fn metrics(place: &Place, run: &str) -> Vec<Value> {
    let text = place.read(&format!("{run}/metrics.jsonl"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn losses(place: &Place, run: &str) -> Vec<(u64, f64)> {
    let steps = metrics(place, run).into_iter().filter(|m| m["type"] == "step");
    steps.map(|m| (m["step"].as_u64().unwrap(), m["loss"].as_f64().unwrap())).collect()
}

fn weights(place: &Place, run: &str) -> Vec<u8> {
    std::fs::read(place.path(run).join("latest/model.safetensors")).unwrap()
}

/// Stories of the corpus as tokens of one byte each.
fn story_tokens(place: &Place) {
    let text = corpus(1, 100_000).join("\n");
    let bytes: Vec<u8> = text.bytes().flat_map(|byte| u16::from(byte).to_le_bytes()).collect();
    let (held_out, train) = bytes.split_at(4096);
    place.write("train.bin", train);
    place.write("held_out.bin", held_out);
}

/// Loss on held-out text before and after, and the steps' lines.
fn train(place: &Place, device: &str, more: &str) -> ([f64; 2], Vec<Value>) {
    let run = device.replace([':', '+'], "-");
    let line = format!(
        "train --init sizes.toml --data train.bin --eval-data held_out.bin --out {run} -d {device} \
         --steps 200 --batch 1 --seq 64 --lr 3e-3 --warmup 10 -t 2 -q --set checkpoint.every=0 \
         --set eval.batches=0 {more}"
    );
    place.line(&line).succeeded();
    let all = metrics(place, &run);
    let evaluated: Vec<f64> = all.iter().filter_map(|m| m["eval_loss"].as_f64()).collect();
    let steps = all.into_iter().filter(|m| m["type"] == "step").collect();
    ([evaluated[0], evaluated[1]], steps)
}

#[test]
fn two_hundred_steps_with_the_numerics_of_the_m4_end_where_those_in_f32_do() {
    let place = Place::new();
    story_tokens(&place);
    place.write("sizes.toml", SIZES);
    let (single, _) = train(&place, "cpu", "");
    let (half, steps) = train(&place, "ane-model:m4+cpu", "");
    assert!(single[1] < single[0] - 1.5, "it learns: {single:?}");
    let difference = (half[1] - single[1]).abs() / single[1];
    assert!(difference < 0.02, "{half:?} and {single:?}");
    assert_eq!(steps.len(), 200);
    for step in &steps {
        // A gradient that is no number is never applied.
        assert_eq!(step["skipped"].as_bool().unwrap(), step["grad_norm"].is_null(), "{step}");
        assert_eq!(step["loss_scale"], 256.0);
    }
    let skipped = steps.iter().filter(|s| s["skipped"] == true).count();
    assert!(skipped <= 2, "{skipped} of 200 steps left out");
}

/// Products below 2^-16 do not enter a sum of the M4: with the scale that recipes of others have,
/// that is a large part of a backward pass over 256 tokens.
#[test]
fn gradients_that_are_too_small_for_the_accelerator_are_reported() {
    let place = tiny_run();
    let run = |out: &str, more: &str| {
        let line = format!("train {TINY} --steps 2 --out {out} -d ane-model:m4+cpu {more}");
        let ran = place.line(&line);
        let warnings = ran.stderr.matches("gradients are too small").count();
        let hint = ran.stderr.contains("--set train.loss_scale=16 --set");
        ran.succeeded();
        let shares: Vec<f64> =
            metrics(&place, out).iter().filter_map(|m| m["dropped"].as_f64()).collect();
        (warnings, hint, shares)
    };
    let (warnings, hint, without) = run("without", "--set train.loss_scale=1");
    assert_eq!((warnings, hint), (1, true), "once, and with what to do next");
    let (warnings, _, usual) = run("usual", "");
    assert_eq!(warnings, 0);
    assert_eq!((without.len(), usual.len()), (2, 2));
    for (without, usual) in without.into_iter().zip(usual) {
        assert!(without > 0.5 && usual < 0.4, "{without} and {usual}");
    }
}

/// Begins where gradients are too large for fp16.
#[test]
fn a_loss_scale_that_adapts_comes_down_until_gradients_are_numbers() {
    let place = tiny_run();
    let line = format!(
        "train {TINY} --out run2 --steps 8 -d ane-model:m4+cpu --set train.loss_scale=16777216 \
         --set train.dynamic_loss_scale=true"
    );
    place.line(&line).succeeded();
    let steps: Vec<Value> =
        metrics(&place, "run2").into_iter().filter(|m| m["type"] == "step").collect();
    let skipped = |s: &Value| s["skipped"].as_bool().unwrap();
    let first = steps.iter().position(|s| !skipped(s)).expect("a step that is taken");
    assert!(first > 2, "{steps:?}");
    for (i, step) in steps[..=first].iter().enumerate() {
        assert_eq!(step["loss_scale"].as_f64().unwrap(), 16_777_216.0 / f64::from(1 << i));
    }
    for step in &steps[..first] {
        assert!(step["not_finite"].as_str().unwrap().contains("layer"), "{step}");
    }
    assert!(steps.iter().all(|s| skipped(s) == s["grad_norm"].is_null()), "{steps:?}");
}

/// Steps that are left out have no update that could be put off.
#[test]
fn left_out_steps_change_nothing_whenever_updates_are_made() {
    let place = tiny_run();
    let run = |out: &str, every: u32| {
        let line = format!(
            "train {TINY} --out {out} --steps 8 --grad-accum 2 -d ane-model:m4+cpu --set \
             train.loss_scale=262144 --set train.dynamic_loss_scale=true --set \
             checkpoint.every={every}"
        );
        place.line(&line).succeeded();
        let lines = metrics(&place, out).into_iter();
        let skipped: Vec<bool> = lines.map(|m| m["skipped"] == true).collect();
        (weights(&place, out), losses(&place, out), skipped)
    };
    let (put_off, at_once) = (run("off", 0), run("once", 1));
    assert!(put_off.2.contains(&true) && put_off.2.contains(&false), "{:?}", put_off.2);
    assert!(put_off == at_once);
}

/// Begin and end of each span of a track, by its category.
fn spans(trace: &Value, track: &str, category: &str, name: &str) -> Vec<(f64, f64)> {
    let events = trace.as_array().unwrap();
    let tid = events
        .iter()
        .find(|e| {
            e["name"] == "thread_name" && e["args"]["name"].as_str().unwrap().starts_with(track)
        })
        .expect("a track")["tid"]
        .clone();
    events
        .iter()
        .filter(|e| e["ph"] == "X" && e["tid"] == tid && e["cat"] == category)
        .filter(|e| e["name"].as_str().unwrap().contains(name))
        .map(|e| {
            let begin = e["ts"].as_f64().unwrap();
            (begin, begin + e["dur"].as_f64().unwrap())
        })
        .collect()
}

#[test]
fn the_trace_shows_that_gradients_of_weights_run_beside_the_accelerator() {
    let place = Place::new();
    story_tokens(&place);
    place.write(
        "sizes.toml",
        "[model]\nvocab_size = 256\nhidden_size = 96\nintermediate_size = 192\nn_layers = 4\n\
         n_heads = 4\nn_kv_heads = 2\nhead_dim = 24\nmax_positions = 64\n",
    );
    let train = |attempt: usize| -> Value {
        let line = format!(
            "train --init sizes.toml --data train.bin --out run{attempt} --steps 8 --batch 1 --seq 64 \
             -t 1 -q -d ane-model:m4+cpu --trace trace{attempt}.json"
        );
        place.line(&line).succeeded();
        serde_json::from_str(&place.read(&format!("trace{attempt}.json"))).unwrap()
    };
    // What of the host's work ran beside none of the accelerator's.
    let alone = |trace: &Value| -> Vec<&str> {
        let accelerator = spans(trace, "accelerator", "part", "");
        let of_host = [("part", "gradients"), ("norm", ""), ("update", "")];
        let is_alone = |(category, name): &(&str, &str)| {
            let host = spans(trace, "host", category, name);
            assert!(!host.is_empty(), "{category}");
            !host.iter().any(|h| accelerator.iter().any(|a| h.0 < a.1 && a.0 < h.1))
        };
        of_host.into_iter().filter(is_alone).map(|(category, _)| category).collect()
    };
    // On a busy machine the threads of the two may have to take turns.
    let mut trace = train(0);
    for attempt in 1..4 {
        if !alone(&trace).is_empty() {
            trace = train(attempt);
        }
    }
    assert_eq!(alone(&trace), [""; 0]);
    let accelerator = spans(&trace, "accelerator", "part", "");
    // A layer is updated when the next step has begun, before the accelerator wants it.
    let updates = spans(&trace, "host", "update", "");
    let update = spans(&trace, "host", "update", "layer3");
    let embedding = spans(&trace, "host", "part", "outside gradients 2");
    let forward = spans(&trace, "accelerator", "part", "layer3 forward");
    assert_eq!([update.len(), embedding.len(), forward.len()], [8; 3]);
    for step in 0..7 {
        assert!(embedding[step].1 <= update[step].0, "{step}");
        assert!(update[step].1 <= forward[step + 1].0, "{step}");
    }
    // The first step's weights are staged before it; those of the others are a part of the step.
    assert_eq!(spans(&trace, "host", "staging", "").len(), 7 * 4);
    assert_eq!(accelerator.len(), 8 * 8, "four layers, there and back");
    // Of the embedding, four layers, and the last norm.
    assert_eq!(updates.len(), 8 * 6);
}

#[test]
fn nothing_is_copied_between_the_cpu_and_the_framework() {
    let place = Place::new();
    story_tokens(&place);
    place.write("sizes.toml", SIZES);
    // Bytes that the accelerator's tasks copied, by their names, and losses.
    let train = |device: &str, tokens: usize| {
        let out = format!("{}-{tokens}", device.replace([':', '+'], "-"));
        let line = format!(
            "train --init sizes.toml --data train.bin --out {out} --steps 3 --batch 1 \
             --seq {tokens} -t 1 -q -d {device} --trace {out}.json"
        );
        place.line(&line).succeeded();
        let trace: Value = serde_json::from_str(&place.read(&format!("{out}.json"))).unwrap();
        let tasks =
            trace.as_array().unwrap().iter().filter(|e| !e["args"]["copied_bytes"].is_null());
        let copied: Vec<(String, u64)> = tasks
            .map(|e| (e["name"].to_string(), e["args"]["copied_bytes"].as_u64().unwrap()))
            .collect();
        (copied, losses(&place, &out))
    };
    let (_, expected) = train("ane-model:m4+cpu", 64);
    for mode in ["inputs", "baked-reload"] {
        let device = format!("ane-stand-in:m4:{mode}+cpu");
        let (copied, losses) = train(&device, 64);
        // Three steps, forward and backward, of two layers; weights as constants are tasks too.
        assert!(copied.len() >= 12, "{copied:?}");
        assert!(copied.iter().all(|(_, bytes)| *bytes == 0), "{copied:?}");
        for ((_, actual), (_, expected)) in losses.iter().zip(&expected) {
            orion_tensor::Tolerance::Trained.check(&[*actual], &[*expected]).unwrap();
        }
    }
    // Rows of 96 bytes have gaps where the engine reads them.
    let (copied, _) = train("ane-stand-in:m4:inputs+cpu", 48);
    assert!(copied.len() == 12 && copied.iter().all(|(_, bytes)| *bytes > 0), "{copied:?}");
}

#[test]
fn a_cpu_in_the_accelerators_place_trains_like_one() {
    let place = tiny_run();
    for accumulated in [1, 3] {
        let common = format!("train {TINY} --steps 6 --grad-accum {accumulated}");
        place.line(&format!("{common} --out one{accumulated}")).succeeded();
        place.line(&format!("{common} --out two{accumulated} -d cpu+cpu")).succeeded();
        let one = losses(&place, &format!("one{accumulated}"));
        let two = losses(&place, &format!("two{accumulated}"));
        assert_eq!(one.len(), 6);
        for ((_, one), (_, two)) in one.into_iter().zip(two) {
            orion_tensor::Tolerance::Trained.check(&[two], &[one]).unwrap();
        }
        let again = format!("again{accumulated}");
        place.line(&format!("{common} --out {again} -d cpu+cpu")).succeeded();
        assert!(
            weights(&place, &again) == weights(&place, &format!("two{accumulated}")),
            "the same run gives the same bits"
        );
    }
}

/// Every mode, on the stand-in: with constants the process compiles until it may not, and another
/// goes on in its place.
#[cfg(unix)]
#[test]
fn a_run_outlives_what_a_process_may_compile() {
    let place = tiny_run();
    let run = |out: &str, device: &str| {
        place.line(&format!("train {TINY} --out {out} --steps 5 -d {device}")).succeeded();
    };
    run("inputs", "ane-stand-in:m4+cpu");
    assert_eq!(losses(&place, "inputs").len(), 5);
    run("whole", "ane-stand-in:m4:baked-recompile+cpu");
    run("reloaded", "ane-stand-in:m4:baked-reload+cpu");
    assert_eq!(losses(&place, "reloaded"), losses(&place, "whole"));
    // Opening the device takes some, and every step four: two layers, there and back.
    run("restarted", "ane-stand-in:m4:baked-recompile:16+cpu --trace trace.json");
    assert_eq!(losses(&place, "restarted"), losses(&place, "whole"));
    assert!(weights(&place, "restarted") == weights(&place, "whole"), "weights differ");
    // One trace of all processes, whose times go on.
    let trace: Value = serde_json::from_str(&place.read("trace.json")).unwrap();
    let parts = trace.as_array().unwrap().iter().filter(|e| e["cat"] == "part");
    let parts = parts.filter(|e| e["name"] == "layer0 forward");
    let parts: Vec<(u64, f64)> =
        parts.map(|e| (e["args"]["step"].as_u64().unwrap(), e["ts"].as_f64().unwrap())).collect();
    let steps: Vec<u64> = parts.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4]);
    assert!(parts.windows(2).all(|p| p[0].1 < p[1].1), "{parts:?}");
    // Cut off in the middle of an event, it goes on behind the last whole one.
    let text = place.read("trace.json");
    place.write("trace.json", &text[..text.len() - 20]);
    place.line("train --resume restarted --steps 6 -t 1 -q --trace trace.json").succeeded();
    let trace: Value = serde_json::from_str(&place.read("trace.json")).unwrap();
    assert_eq!(trace.as_array().unwrap().last().unwrap()["args"]["step"], 5);
    place.write("other.json", "[1, 2]");
    let ran = place.line("train --resume restarted --steps 7 -t 1 -q --trace other.json");
    assert!(ran.code == 3 && ran.stderr.contains("no trace of a run"), "{ran}");
    let ran = place.line(&format!(
        "train {TINY} --out never --steps 5 -d ane-stand-in:m4:baked-recompile:6+cpu"
    ));
    assert_eq!(ran.code, 3, "{ran}");
    assert!(ran.stderr.contains("one process cannot compile what a training step"), "{ran}");
}

/// Killed after every step in turn, the run goes on and ends with the same weights.
#[cfg(unix)]
#[test]
fn a_run_that_is_killed_at_each_step_loses_nothing() {
    let place = tiny_run();
    let device = "-d ane-stand-in:m4:baked-recompile:16+cpu";
    place.line(&format!("train {TINY} --out whole --steps 5 {device}")).succeeded();
    // All are kept, so that none is gone before it was seen.
    let killed = format!("train {TINY} --out killed --steps 5 {device} --set checkpoint.keep=5");
    let words: Vec<&str> = killed.split_whitespace().collect();
    let mut child = place.command(&words).spawn().unwrap();
    for step in 1..5 {
        let checkpoint = format!("killed/checkpoints/step_{step:08}/DONE");
        let latest = place.path(&checkpoint);
        while !latest.exists() {
            assert!(child.try_wait().unwrap().is_none(), "it was over before it was killed");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let resume = format!("train --resume killed -t 1 -q {device}");
        let words: Vec<&str> = resume.split_whitespace().collect();
        child = place.command(&words).spawn().unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(losses(&place, "killed"), losses(&place, "whole"));
    assert!(weights(&place, "killed") == weights(&place, "whole"), "weights differ");
}

#[test]
fn devices_that_cannot_train_together_are_refused() {
    let place = tiny_run();
    for (device, expected) in [
        ("cpu+ane-model:m4", "cannot do what layers leave to the CPU"),
        ("gpu+cpu", "there is no device `gpu`"),
        ("ane-model:m99+cpu", "m99"),
    ] {
        let ran = place.line(&format!("train {TINY} --out no --steps 1 -d {device}"));
        assert_eq!(ran.code, 2, "{ran}");
        assert!(ran.stderr.contains(expected), "{ran}");
    }
    for (device, expected) in [
        ("ane-model:m4", "have the CPU do that beside it: -d ane-model:m4+cpu"),
        ("ane-stand-in:m4", "-d ane-stand-in:m4+cpu"),
        ("ane-model:m4:core-ml", "-d ane-model:m4+cpu computes AdamW on the CPU in fp32"),
    ] {
        for verb in [format!("train {TINY} --out no"), "finetune run --data tokens.bin".to_owned()]
        {
            let ran = place.line(&format!("{verb} --steps 1 -d {device}"));
            assert_eq!(ran.code, 2, "{ran}");
            assert!(ran.stderr.contains(expected), "{ran}");
        }
    }
    let large = "train --init tiny.toml --data tokens.bin --seq 16 --set model.n_layers=200 --set \
                 model.intermediate_size=16777216 --out no";
    let ran = place.line(large);
    if cfg!(target_os = "linux") {
        assert!(ran.code == 3 && ran.stderr.contains("GB of memory are free"), "{ran}");
    }
    let ran = place.line("train --recipe gulfwide --data tokens.bin");
    assert!(ran.stderr.contains("recipes are stories110m, golfwide, qwen3-0.6b"), "{ran}");
}

/// Held-out loss at the end of a run.
fn end_loss(place: &Place, run: &str) -> f64 {
    metrics(place, run).iter().filter_map(|m| m["eval_loss"].as_f64()).next_back().unwrap()
}

/// Prompts are masked and lines filled up, as on one device.
#[test]
fn two_devices_train_on_examples() {
    let place = tiny_run();
    place.write(
        "examples.jsonl",
        "{\"prompt\": \"the cat\", \"completion\": \" sat on the log\"}\n\
         {\"prompt\": \"the dog sat\", \"completion\": \" on the mat\"}\n",
    );
    let common = "train --init tiny.toml --data examples.jsonl --eval-data examples.jsonl --tokenizer \
                  tokenizer.json --batch 2 --seq 16 --steps 6 --warmup 0 -t 1 -q";
    for device in ["cpu", "cpu+cpu", "ane-model:m4+cpu"] {
        place.line(&format!("{common} -d {device} --out {}", device.replace(':', "-"))).succeeded();
    }
    let one = losses(&place, "cpu");
    assert_eq!(one.len(), 6);
    for ((_, one), (_, two)) in one.into_iter().zip(losses(&place, "cpu+cpu")) {
        orion_tensor::Tolerance::Trained.check(&[two], &[one]).unwrap();
    }
    let (single, half) = (end_loss(&place, "cpu"), end_loss(&place, "ane-model-m4+cpu"));
    assert!((half - single).abs() / single < 0.02, "{half} and {single}");
}

/// The base is trained on lower case, the adapter on upper case. However the weights under it get
/// to the accelerator, it ends where one in f32 does; no program is compiled after the first step,
/// so that a small number of compilations is enough.
#[test]
fn an_adapter_is_trained_with_the_numerics_of_the_m4() {
    let place = Place::new();
    story_tokens(&place);
    let upper: Vec<u8> = std::fs::read(place.path("train.bin")).unwrap();
    let upper: Vec<u8> = upper.into_iter().map(|byte| byte.to_ascii_uppercase()).collect();
    place.write("upper.bin", upper);
    place.write("sizes.toml", SIZES);
    let train = "train --init sizes.toml --data train.bin --out base --steps 60 --batch 2 --seq 64 \
                 --lr 3e-3 --warmup 0 -t 2 -q";
    place.line(train).succeeded();
    let devices = [
        "cpu",
        "cpu+cpu",
        "ane-model:m4+cpu",
        "ane-stand-in:m4+cpu",
        "ane-stand-in:m4:baked-recompile:16+cpu",
    ];
    let mut ends = Vec::new();
    for device in devices {
        let out = device.replace(':', "-");
        let line = format!(
            "finetune base --data upper.bin --eval-data upper.bin --steps 12 --batch 2 --lr 1e-2 \
             --rank 4 --targets all --seq 64 --warmup 0 -t 2 -q -d {device} --out {out}"
        );
        place.line(&line).succeeded();
        assert!(place.path(&out).join("adapter/adapter_model.safetensors").exists());
        let all = metrics(&place, &out);
        assert!(all.iter().all(|m| m["skipped"] != true), "{device}");
        let begin = all.iter().find_map(|m| m["eval_loss"].as_f64()).unwrap();
        let end = end_loss(&place, &out);
        assert!(end < begin - 0.5, "{device}: it learns: {begin} to {end}");
        ends.push(end);
    }
    orion_tensor::Tolerance::Trained.check(&[ends[1]], &[ends[0]]).unwrap();
    for (end, device) in ends.iter().zip(devices) {
        assert!((end - ends[0]).abs() / ends[0] < 0.02, "{device}: {end}, {}", ends[0]);
    }
}

/// Each of them, smaller, in every way in which weights get to the engine.
#[test]
fn recipes_train_in_every_weight_mode() {
    let place = tiny_run();
    for (recipe, key_heads) in
        [("stories110m", 4), ("golfwide", 2), ("qwen3-0.6b", 2), ("single-layer", 4)]
    {
        let layers = if recipe == "single-layer" { 1 } else { 2 };
        let common = format!(
            "train --recipe {recipe} --data tokens.bin --steps 3 --seq 32 --grad-accum 2 --warmup 0 \
             -t 1 -q --set model.vocab_size=262 --set model.hidden_size=32 --set \
             model.intermediate_size=48 --set model.n_layers={layers} --set model.n_heads=4 --set \
             model.n_kv_heads={key_heads} --set model.head_dim=8 --set model.max_positions=32"
        );
        let run = |device: &str| -> Vec<f64> {
            let out = format!("{recipe}-{}", device.replace(':', "-"));
            place.line(&format!("{common} --out {out} -d {device}")).succeeded();
            losses(&place, &out).into_iter().map(|(_, loss)| loss).collect()
        };
        let single = run("cpu");
        assert!(single[2] < single[0], "{recipe} learns: {single:?}");
        orion_tensor::Tolerance::Trained.check(&run("cpu+cpu"), &single).unwrap();
        for mode in ["m4:inputs", "m4:baked-reload", "m4:baked-recompile", "m1:baked-reload"] {
            let half = run(&format!("ane-stand-in:{mode}+cpu"));
            for (half, single) in half.iter().zip(&single) {
                let difference = (half - single).abs() / single;
                assert!(difference < 0.02, "{recipe}, {mode}: {half} and {single}");
            }
        }
    }
}

#[test]
fn recipes_set_what_their_projects_do() {
    let place = tiny_run();
    let page = place.line("train --recipe golfwide --lr 1e-4 --print-config").succeeded();
    for expected in [
        "family = \"golfwide\"",
        "n_layers = 9",
        "grad_accum = 20",
        "loss_scale = 256.0",
        "lr = 0.0001",
    ] {
        assert!(page.contains(expected), "{expected:?} in {page}");
    }
}
