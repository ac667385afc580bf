use crate::support::{Place, tiny_run};
use insta::assert_snapshot;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Flags of a run whose learning rate does not depend on where it ends.
const RECIPE: &str = "--init tiny.toml --data tokens.bin --batch 2 --seq 16 --warmup 3 --schedule \
                      constant --order random -t 1 -q --set checkpoint.every=25";

fn metrics(place: &Place, run: &str) -> Vec<Value> {
    let text = place.read(&format!("{run}/metrics.jsonl"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn weights(place: &Place, run: &str) -> Vec<u8> {
    std::fs::read(place.path(run).join("latest/model.safetensors")).unwrap()
}

fn losses(place: &Place, run: &str) -> Vec<(u64, f64)> {
    let steps = metrics(place, run).into_iter().filter(|m| m["type"] == "step");
    steps.map(|m| (m["step"].as_u64().unwrap(), m["loss"].as_f64().unwrap())).collect()
}

#[test]
fn a_run_directory_holds_what_is_promised() {
    let place = tiny_run();
    for name in [
        "config.toml",
        "metrics.jsonl",
        "tokenizer.json",
        "latest/model.safetensors",
        "latest/optimizer.safetensors",
        "latest/state.json",
        "latest/DONE",
    ] {
        assert!(place.path("run").join(name).exists(), "{name}");
    }
    let link = std::fs::read_link(place.path("run/latest")).unwrap();
    assert_eq!(link, Path::new("checkpoints/step_00000002"));
    let metrics = metrics(&place, "run");
    let steps: Vec<&Value> = metrics.iter().filter(|m| m["type"] == "step").collect();
    assert_eq!(steps.len(), 2);
    for key in ["step", "loss", "grad_norm", "lr", "tokens", "tokens_per_s", "ms"] {
        assert!(steps.iter().all(|s| s[key].is_number()), "{key}: {steps:?}");
    }
    assert_eq!(steps[1]["tokens"], 64);
    let evaluated: Vec<u64> = metrics
        .iter()
        .filter(|m| m["eval_loss"].is_number())
        .map(|m| m["step"].as_u64().unwrap())
        .collect();
    assert_eq!(evaluated, [0, 2]);
}

#[test]
fn the_configuration_is_printed_with_its_documentation() {
    let place = tiny_run();
    let page =
        place.line("train --init tiny.toml --seq 16 --lr 5e-4 --set eval.every=7 --print-config");
    let page = page.succeeded();
    for expected in
        ["# Learning rate after warm-up.\nlr = 0.0005\n", "\nevery = 7\n", "hidden_size = 16\n"]
    {
        assert!(page.contains(expected), "{expected:?} in {page}");
    }
    place.write("page.toml", &page);
    let again = place.line("train --config page.toml --print-config").succeeded();
    assert_eq!(again, page, "what is printed can be read");
    let flags_win = place.line("train --config page.toml --lr 0.25 --print-config").succeeded();
    assert_eq!(flags_win, page.replace("lr = 0.0005", "lr = 0.25"));
    let set_wins = place.line("train --lr 0.5 --set optimizer.lr=0.25 --print-config").succeeded();
    assert!(set_wins.contains("\nlr = 0.25\n"), "{set_wins}");
}

#[test]
fn talk_goes_to_stderr_only() {
    let place = tiny_run();
    let ran = place.line(&format!("{} --out talk --steps 3", RECIPE.replace("-q", "")).replacen(
        "--init",
        "train --init",
        1,
    ));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran}");
    for expected in ["training ", "step 1/3: loss ", "done; the model is in talk"] {
        assert!(ran.stderr.contains(expected), "{ran}");
    }
    assert!(!ran.stderr.contains('\r') && !ran.stderr.contains('\x1b'), "no bar, no colour: {ran}");
}

#[test]
fn a_run_learns_and_goes_on_where_it_ended_bit_for_bit() {
    let place = tiny_run();
    place.line(&format!("train {RECIPE} --out whole --steps 60")).succeeded();
    let whole = losses(&place, "whole");
    assert!(whole[59].1 < 0.8 * whole[0].1, "{whole:?}");
    place.line(&format!("train {RECIPE} --out parts --steps 23")).succeeded();
    place.line("train --resume parts --steps 60 -t 1 -q").succeeded();
    assert_eq!(losses(&place, "parts"), whole);
    assert!(weights(&place, "parts") == weights(&place, "whole"), "weights differ");
}

/// Starts a long run and waits for its first checkpoint.
fn started(place: &Place, name: &str) -> std::process::Child {
    let line = format!("train {RECIPE} --out {name} --steps 400");
    let child = place
        .command(&line.split_whitespace().collect::<Vec<_>>())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !place.path(name).join("latest").exists() {
        assert!(begin.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

#[test]
fn a_killed_run_goes_on_bit_for_bit() {
    let place = tiny_run();
    place.line(&format!("train {RECIPE} --out whole --steps 400")).succeeded();
    let mut child = started(&place, "killed");
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was over before it was killed");
    place.line("train --resume killed -t 1 -q").succeeded();
    assert_eq!(losses(&place, "killed"), losses(&place, "whole"));
    assert!(weights(&place, "killed") == weights(&place, "whole"), "weights differ");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_with_a_checkpoint() {
    let place = tiny_run();
    let mut child = started(&place, "stopped");
    let signal = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(signal.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let done = losses(&place, "stopped").len();
    assert!((25..400).contains(&done), "{done}");
    let link = std::fs::read_link(place.path("stopped/latest")).unwrap();
    assert_eq!(link, Path::new(&format!("checkpoints/step_{done:08}")));
}

#[test]
fn a_run_without_a_checkpoint_cannot_go_on() {
    let place = tiny_run();
    std::fs::create_dir(place.path("empty")).unwrap();
    std::fs::copy(place.path("run/config.toml"), place.path("empty/config.toml")).unwrap();
    assert_snapshot!(place.line("train --resume empty"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: [HERE]/empty: there is no checkpoint to resume from
    ");
}

#[test]
fn quickstart_trains_evaluates_and_tells_a_story() {
    let place = Place::new();
    let ran = place.line("quickstart --steps 3");
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stdout.starts_with("Once upon a time"), "{ran}");
    for expected in ["1. Data", "held-out loss", "3. A story", "Try next", "runs/quickstart-1"] {
        assert!(ran.stderr.contains(expected), "{expected}: {ran}");
    }
    let evaluated = metrics(&place, "runs/quickstart-1");
    let evaluated: Vec<f64> = evaluated.iter().filter_map(|m| m["eval_loss"].as_f64()).collect();
    assert!(evaluated.len() == 2 && evaluated[1] < evaluated[0], "{evaluated:?}");
    // What it says to try next works as it stands, but for what would take long.
    let commands: Vec<&str> = ran
        .stderr
        .lines()
        .map(str::trim)
        .filter_map(|line| line.strip_prefix(env!("CARGO_BIN_EXE_orion")))
        .collect();
    assert_eq!(commands.len(), 4, "{ran}");
    for command in commands {
        let command = command.replace("--steps 303", "--steps 4");
        let words: Vec<String> = words(&command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let tried = place.orion(&words);
        assert_eq!(tried.code, 0, "{command}: {tried}");
    }
}

/// The words of a shell command with nothing but double quotes in it.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split('"')
        .enumerate()
        .flat_map(|(i, part)| match i % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}
