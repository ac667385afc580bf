//! Against reference files that are not part of the repository.

use crate::support::Place;
use orion_tensor::Tolerance;
use orion_testing::shared;
use serde_json::Value;
use std::path::PathBuf;

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("a UTF-8 path")
}

#[test]
fn stories260k_is_continued_as_llama2c_does() {
    let Some(model) = shared("weights/stories260K.bin").map(text) else { return };
    let tokenizer = text(shared("data/tok512.bin").unwrap());
    let place = Place::new();
    for (golden, prompt) in [("stories260K_p1", "Once upon a time"), ("stories260K_p0", "")] {
        let expected = shared(&format!("golden/llama2c/{golden}.txt")).unwrap();
        let expected = std::fs::read_to_string(expected).unwrap();
        let text = |tokens: &str| {
            let prompt = ["-p", prompt, "-n", tokens, "--temperature", "0"];
            place.orion(&[&["run", &model, "--tokenizer", &tokenizer], &prompt[..]].concat())
        };
        // The stored text is 256 tokens long, prompt included; 200 tokens are its beginning.
        assert_eq!(text("256").succeeded(), expected, "{golden}");
        let beginning = text("200").succeeded();
        assert!(beginning.len() > 400 && expected.starts_with(&beginning), "{beginning}");
    }
}

#[test]
fn five_steps_of_training_are_those_of_pytorch() {
    let Some(golden) = shared("golden/train/stories260K_train.json") else { return };
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    let model = text(shared("weights/stories260K.bin").unwrap());
    let data = text(shared("data/tinystories_tok512_data00.bin").unwrap());
    let place = Place::new();
    let flags = "--out run --steps 5 --batch 4 --seq 128 --lr 1e-3 --schedule constant --warmup 0 \
                 --beta1 0.9 --beta2 0.95 --eps 1e-8 --weight-decay 0.1 --clip 1.0 --grad-accum 1 \
                 --order sequential";
    let mut arguments = vec!["train", "--model", &model, "--data", &data];
    arguments.extend(flags.split_whitespace());
    place.orion(&arguments).succeeded();
    let metrics = place.read("run/metrics.jsonl");
    let steps: Vec<Value> = metrics.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let column = |rows: &[Value], key: &str| -> Vec<f64> {
        rows.iter().filter_map(|row| row[key].as_f64()).collect()
    };
    let expected = golden["steps"].as_array().unwrap();
    for key in ["loss", "grad_norm"] {
        let (actual, expected) = (column(&steps, key), column(expected, key));
        assert_eq!(actual.len(), 5);
        Tolerance::F32Network.check(&actual, &expected).unwrap_or_else(|e| panic!("{key}: {e}"));
    }
}

#[test]
fn the_loss_of_stories260k_is_that_of_pytorch() {
    let Some(golden) = shared("golden/train/stories260K_train.json") else { return };
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    let model = text(shared("weights/stories260K.bin").unwrap());
    let data = text(shared("data/tinystories_tok512_data00.bin").unwrap());
    let place = Place::new();
    let ran = place.orion(&[
        "eval",
        &model,
        "--data",
        &data,
        "--seq",
        "128",
        "--max-tokens",
        "8192",
        "--format",
        "json",
    ]);
    let report: Value = serde_json::from_str(&ran.succeeded()).unwrap();
    assert_eq!(report["tokens"], 8192);
    let (actual, expected) = (&report["loss"], &golden["eval_loss_16x4x128"]);
    Tolerance::F32Network
        .check(&[actual.as_f64().unwrap()], &[expected.as_f64().unwrap()])
        .unwrap();
}

#[test]
fn programs_of_other_compilers_are_sound() {
    let Some(folder) = shared("mil/text") else { return };
    let place = Place::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = text(entry.unwrap().path());
        if path.ends_with(".mil") {
            let checked = place.orion(&["mil", "check", &path]);
            assert_eq!(checked.code, 0, "{checked}");
            count += 1;
        }
    }
    assert_eq!(count, 13);
}
