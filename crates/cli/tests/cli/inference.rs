//! Generating and evaluating on two devices.

use crate::support::{Place, tiny_run};
use orion_formats::{SafeTensors, safetensors};
use orion_tensor::{Tensor, Tolerance};
use serde_json::Value;

/// What runs blocks, without a Mac: fp32 on the CPU, the model of a chip, and the client over the
/// stand-in for the framework, each in both divisions of labour.
const PAIRS: [&str; 6] = [
    "cpu+cpu",
    "cpu+cpu --split attention",
    "ane-model:m4+cpu --split prefill",
    "ane-model:m4+cpu --split attention",
    "ane-stand-in:m4+cpu",
    "ane-stand-in:m4+cpu --split attention",
];

fn text(place: &Place, rest: &str) -> String {
    place.line(&format!("run run -p cat -n 40 --temp 0 {rest}")).succeeded()
}

#[test]
fn texts_are_those_of_the_cpu() {
    let place = tiny_run();
    let expected = text(&place, "-d cpu");
    for pair in PAIRS {
        assert_eq!(text(&place, &format!("-d {pair}")), expected, "{pair}");
    }
    // The context of 64 tokens is left behind on the way.
    let long = |device: &str| {
        place.line(&format!("run run -p cat -n 100 --temp 0 -d {device}")).succeeded()
    };
    assert_eq!(long("ane-model:m4+cpu"), long("cpu"));
}

/// A process may compile so many programs, of which a handful prove the device when it is opened.
/// The two blocks of a prompt are one more, what lies between attention three.
#[test]
fn few_programs_are_compiled() {
    let place = tiny_run();
    let expected = text(&place, "-d cpu");
    for split in ["prefill", "attention"] {
        let device = format!("-d ane-stand-in:m4:baked-recompile:10+cpu --split {split}");
        assert_eq!(text(&place, &device), expected, "{split}");
    }
}

#[test]
fn what_runs_where_is_said_in_a_line() {
    let place = tiny_run();
    let said = |rest: &str| {
        let ran = place.line(&format!("run run -p cat -n 5 --temp 0 -d {rest}"));
        assert_eq!(ran.code, 0, "{ran}");
        ran.stderr
    };
    let prefill = said("ane-model:m4+cpu");
    assert!(prefill.contains("ane-model:m4 reads prompts, cpu looks up tokens"), "{prefill}");
    let attention = said("ane-model:m4+cpu --split attention");
    assert!(
        attention.contains("ane-model:m4 computes norms, projections and MLPs, cpu attention"),
        "{attention}"
    );
}

#[test]
fn several_prompts_and_json_are_those_of_the_cpu() {
    let place = tiny_run();
    place.write("prompts.txt", "the cat\nthe dog sat on the log and the cat sat on it too\na\n");
    let rows = |device: &str| -> Vec<Value> {
        let line = format!(
            "run run -f prompts.txt --parallel 2 --format json --logprobs 1 -n 30 --temp 0 --stop \
             never -d {device}"
        );
        let text = place.line(&line).succeeded();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let expected = rows("cpu");
    let logprobs = |row: &Value| -> Vec<f64> {
        let rows = row["logprobs"].as_array().unwrap();
        rows.iter().map(|row| row["logprob"].as_f64().unwrap()).collect()
    };
    for pair in &PAIRS[..4] {
        for (row, expected) in rows(pair).iter().zip(&expected) {
            assert_eq!(
                (&row["ids"], &row["text"]),
                (&expected["ids"], &expected["text"]),
                "{pair}"
            );
            Tolerance::F16Accum.check(&logprobs(row), &logprobs(expected)).unwrap();
        }
    }
}

#[test]
fn losses_are_those_of_the_cpu() {
    let place = tiny_run();
    let loss = |device: &str| -> f64 {
        let line = format!("eval run --data tokens.bin --seq 32 --format json -d {device}");
        let report: Value = serde_json::from_str(&place.line(&line).succeeded()).unwrap();
        assert_eq!(report["device"], device.split(' ').next().unwrap());
        report["loss"].as_f64().unwrap()
    };
    let expected = loss("cpu");
    for pair in PAIRS {
        Tolerance::F16Accum.check(&[loss(pair)], &[expected]).unwrap();
    }
}

#[test]
fn devices_that_cannot_run_a_model_together_are_refused() {
    let place = tiny_run();
    for (rest, expected, hint) in [
        ("-d cpu --split attention", "`cpu` is one", "ane+cpu"),
        ("-d ane-stand-in:m4", "cannot run a model alone", "-d ane-stand-in:m4+cpu"),
        ("-d cpu+ane-model:m4", "cannot do what layers leave to the CPU", "DEVICE+cpu"),
        ("-d gpu+cpu", "there is no device `gpu`", "devices are"),
        ("-d ane-model:m99+cpu", "m99", "ane-model:CHIP"),
    ] {
        let ran = place.line(&format!("run run -p cat {rest}"));
        assert_eq!(ran.code, 2, "{ran}");
        assert!(ran.stderr.contains(expected) && ran.stderr.contains(hint), "{ran}");
    }
}

/// Multiplies the weights in whose names this is.
fn scale_weights(place: &Place, part: &str, factor: f32) {
    let path = place.path("run/latest/model.safetensors");
    let mut file = SafeTensors::open(&path).unwrap();
    for (name, tensor) in &mut file.tensors {
        if name.contains(part) {
            let scaled: Vec<f32> = tensor.to_f32_vec().into_iter().map(|x| x * factor).collect();
            *tensor = Tensor::from_slice(tensor.shape(), &scaled);
        }
    }
    let tensors = file.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let mut bytes = Vec::new();
    safetensors::write(&mut bytes, tensors, &file.metadata).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Weights that f32 can compute with and the Neural Engine's sums cannot; then some that nothing
/// can. No token is ever chosen from what is no number.
#[test]
fn what_is_no_number_ends_the_command() {
    let place = tiny_run();
    scale_weights(&place, ".mlp.", 3e3);
    text(&place, "-d cpu");
    place.line("eval run --data tokens.bin --seq 32 -d cpu").succeeded();
    let fails = |line: &str, device: &str| {
        let ran = place.line(line);
        // The prompt is printed at once.
        let printed = if line.starts_with("run run -p cat -n 5 -d") { "cat" } else { "" };
        assert_eq!((ran.code, ran.stdout.as_str()), (3, printed), "{line}: {ran}");
        assert!(ran.stderr.contains(&format!("on {device}: infinity, or not a number")), "{ran}");
        assert!(ran.stderr.contains("hint: numbers became too large"), "{ran}");
        ran.stderr
    };
    for device in &PAIRS[2..] {
        let name = device.split(' ').next().unwrap();
        let run = fails(&format!("run run -p cat -n 5 -d {device}"), name);
        let rows = format!("run run -p cat -n 5 --parallel 2 --format json -d {device}");
        fails(&rows, name);
        let eval = fails(&format!("eval run --data tokens.bin --seq 32 -d {device}"), name);
        assert!(run.contains("it begins in layer0"), "{run}");
        assert!(eval.contains("it begins in layer0"), "{eval}");
    }
    // Alone, the model of the chip goes on as the hardware does, and has counted.
    for line in ["run run -p cat -n 5", "eval run --data tokens.bin --seq 32"] {
        let ran = place.line(&format!("{line} -d ane-model:m4"));
        let said = ran.stderr.matches("sums left the accelerator's range").count();
        assert_eq!((ran.code, said), (0, 1), "{ran}");
    }
    scale_weights(&place, ".mlp.", 1e16);
    fails("run run -p cat -n 5 -d cpu", "cpu");
    fails("run run -p cat -n 5 -d cpu:reference", "cpu:reference");
    fails("eval run --data tokens.bin --seq 32 -d cpu", "cpu");
}

/// Their squares are infinite in fp16, the normed values zero, and nothing else tells.
#[test]
fn activations_that_are_too_large_for_norms_in_fp16_are_told_once() {
    let place = tiny_run();
    let lines = [
        "run run -p cat -n 5 --temp 0",
        "run run -p cat -n 5 --parallel 2 --format json",
        "eval run --data tokens.bin --seq 32",
        "train --model run --data tokens.bin --steps 2 --batch 1 --seq 32 --warmup 0 --out DEVICE",
    ];
    let told = |line: &str, device: &str| {
        let out = format!("{}-{}", line.len(), device.replace([':', '+', ' '], "-"));
        let ran = place.line(&format!("{} -d {device}", line.replace("DEVICE", &out)));
        assert_eq!(ran.code, 0, "{line} on {device}: {ran}");
        ran.stderr.matches("too large for the accelerator").count()
    };
    for pair in &PAIRS[..4] {
        assert_eq!(told(lines[0], pair), 0, "{pair}");
    }
    assert_eq!(told(lines[3], "ane-model:m4+cpu"), 0);
    scale_weights(&place, "embed_tokens", 3e4);
    for line in &lines[..3] {
        for pair in &PAIRS[2..] {
            assert_eq!(told(line, pair), 1, "{line} on {pair}");
        }
        assert_eq!([told(line, "cpu"), told(line, "cpu+cpu")], [0, 0], "{line}");
    }
    assert_eq!(told(lines[3], "cpu+cpu"), 0);
    assert_eq!(told(&lines[3].replace("--steps", "--seed 2 --steps"), "ane-model:m4+cpu"), 1);
}
