//! Models from one format to another and back.

use crate::support::{Place, tiny_run};
use orion_testing::shared;
use std::path::Path;

fn bytes(place: &Place, name: &str) -> Vec<u8> {
    std::fs::read(place.path(name)).unwrap()
}

/// Greedy text of a model with a tokenizer of its own.
fn says(place: &Place, model: &str) -> String {
    let flags = ["-p", "the cat", "-n", "20", "--temperature", "0"];
    place.orion(&[&["run", model], &flags[..]].concat()).succeeded()
}

#[test]
fn every_way_round_gives_the_same_weights() {
    let place = tiny_run();
    let convert = |line: &str| {
        let ran = place.line(&format!("convert {line}"));
        let out = line.split_whitespace().last().unwrap();
        assert_eq!(ran.succeeded(), format!("{out}\n"));
    };
    convert("run --to safetensors -o hf");
    convert("hf --to gguf -o model.gguf");
    convert("model.gguf --to safetensors -o from_gguf");
    convert("run --to llama2c -o model.bin");
    convert("model.bin --to safetensors --no-tokenizer -o from_llama2c");
    convert("model.bin --to gguf --tokenizer tokenizer.json -o again.gguf");
    let weights = bytes(&place, "hf/model.safetensors");
    assert!(weights == bytes(&place, "from_gguf/model.safetensors"));
    assert!(weights == bytes(&place, "from_llama2c/model.safetensors"));
    assert!(bytes(&place, "model.gguf").len() > weights.len());
    assert_eq!(place.read("hf/config.json"), place.read("from_gguf/config.json"));
    assert!(bytes(&place, "hf/tokenizer.json") == bytes(&place, "from_gguf/tokenizer.json"));

    let text = says(&place, "run");
    assert!(text.len() > 20, "{text}");
    for same in ["hf", "model.gguf", "again.gguf", "from_gguf"] {
        assert_eq!(says(&place, same), text, "{same}");
    }
    // Fewer bits are written and can be run.
    let size = |dtype: &str| {
        convert(&format!("run --to gguf --dtype {dtype} -o {dtype}.gguf"));
        assert!(says(&place, &format!("{dtype}.gguf")).starts_with("the cat"));
        bytes(&place, &format!("{dtype}.gguf")).len()
    };
    assert!(size("f16") < bytes(&place, "model.gguf").len());
    assert!(size("bf16") == bytes(&place, "f16.gguf").len());
    assert!(size("q8_0") <= bytes(&place, "f16.gguf").len());
}

#[test]
fn a_package_is_written() {
    let place = tiny_run();
    place.line("convert run --to mlpackage --context 32 -o step.mlpackage").succeeded();
    let info = place.line("mil info step.mlpackage").succeeded();
    assert!(info.contains("logits") && info.contains("32"), "{info}");
}

#[test]
fn what_cannot_be_written_is_named() {
    let place = tiny_run();
    let refuse = |line: &str, text: &str| {
        let ran = place.line(&format!("convert run {line} -o out"));
        assert_eq!(ran.code, 3, "{ran}");
        assert!(ran.stderr.contains(text), "`{text}` is not in {ran}");
        assert!(!Path::new(&place.path("out")).exists(), "something was left");
    };
    refuse("--to llmc", "GPT-2 networks only");
    refuse("--to llama2c --dtype f16", "are fp32, not fp16");
    refuse("--to safetensors --dtype q8_0", "no Q8_0");
    refuse("--to mlpackage --context 5000", "this model takes 1 to 64");
    place.write("there.gguf", "mine");
    let ran = place.line("convert run --to gguf -o there.gguf");
    assert!(ran.code == 3 && ran.stderr.contains("is there already"), "{ran}");
    assert_eq!(place.read("there.gguf"), "mine");
}

#[test]
fn what_is_no_model_is_called_what_it_is() {
    let place = tiny_run();
    place.write("notes.txt", "a story");
    for (path, what) in [
        ("tokenizer.json", "a JSON file"),
        ("notes.txt", "a text file"),
        ("nowhere", "no such file"),
        (".", "no config.json"),
    ] {
        let ran = place.line(&format!("convert {path} --to gguf -o out.gguf"));
        assert!(ran.code == 3 && ran.stderr.contains(what), "{ran}");
    }
}

#[test]
fn gpt2_goes_to_llmc_and_gguf_and_back() {
    let Some(model) = shared("golden/hf/gpt2_tiny") else { return };
    let place = Place::new();
    let model = model.to_str().unwrap();
    let convert = |line: &str| place.line(&format!("convert {line}")).succeeded();
    convert(&format!("{model} --to safetensors -o hf"));
    convert(&format!("{model} --to llmc -o model.bin"));
    convert(&format!("{model} --to gguf -o model.gguf"));
    convert("model.bin --to safetensors -o from_llmc");
    convert("model.gguf --to safetensors -o from_gguf");
    let weights = bytes(&place, "hf/model.safetensors");
    assert!(weights == bytes(&place, "from_llmc/model.safetensors"));
    assert!(weights == bytes(&place, "from_gguf/model.safetensors"));
}

#[test]
fn stories260k_is_written_as_llama2c_s_own_file() {
    let (Some(gguf), Some(expected)) =
        (shared("weights/stories260K-f32.gguf"), shared("weights/stories260K.bin"))
    else {
        return;
    };
    let place = Place::new();
    let gguf = gguf.to_str().unwrap();
    place.line(&format!("convert {gguf} --to llama2c -o model.bin")).succeeded();
    let (ours, theirs) = (bytes(&place, "model.bin"), std::fs::read(expected).unwrap());
    assert_eq!(ours.len(), theirs.len());
    // The tables of rotations at the end are computed, not copied.
    let weights = theirs.len() - 2 * 512 * 4 * 4;
    assert!(ours[..weights] == theirs[..weights]);
}

#[test]
fn the_chat_template_and_the_ends_of_turns_go_along() {
    let place = tiny_run();
    let convert = |line: &str| place.line(&format!("convert {line}"));
    convert("run --to safetensors -o hf").succeeded();
    let template = "{% for m in messages %}{{ m.content }} {% endfor %}é:";
    place.write("hf/chat_template.jinja", template);
    place.write("hf/generation_config.json", "{\"eos_token_id\": [4, 9]}");
    convert("hf --to gguf -o model.gguf").succeeded();
    convert("model.gguf --to safetensors -o back").succeeded();
    assert_eq!(place.read("back/chat_template.jinja"), template);
    assert_eq!(place.read("back/tokenizer_config.json"), place.read("hf/tokenizer_config.json"));
    let config: serde_json::Value = serde_json::from_str(&place.read("back/config.json")).unwrap();
    let ends: Vec<u32> = serde_json::from_value(config["eos_token_id"].clone()).unwrap();
    assert!(ends.contains(&4) || ends.contains(&9), "{ends:?}");
    let answer = |model: &str| {
        let flags = ["chat", model, "--temperature", "0", "-n", "4"];
        place.with_stdin(&flags, "the cat\n").succeeded()
    };
    assert_eq!(answer("model.gguf"), answer("hf"));
    assert_eq!(answer("back"), answer("hf"));

    let ran = convert("hf --to llama2c -o model.bin");
    assert!(ran.stderr.contains("left out: the chat template"), "{ran}");
    assert!(ran.stderr.contains("llama2.c has no byte-level BPE"), "{ran}");
    assert_eq!(ran.code, 0);
}

#[test]
fn llama2c_gets_its_tokenizer_beside_the_model() {
    let (Some(gguf), Some(expected)) =
        (shared("weights/stories260K-f32.gguf"), shared("data/tok512.bin"))
    else {
        return;
    };
    let place = Place::new();
    let line = format!("convert {} --to llama2c -o model.bin", gguf.to_str().unwrap());
    let ran = place.line(&line);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let ours = orion_tokenizer::Tokenizer::from_file(place.path("tokenizer.bin")).unwrap();
    let theirs = orion_tokenizer::Tokenizer::from_file(expected).unwrap();
    for text in ["Once upon a time", " two  spaces", "été\n"] {
        assert_eq!(ours.encode(text), theirs.encode(text), "{text}");
    }
    // It is found there.
    let run = |model: &str| place.line(&format!("run {model} -p Once -n 20 --temp 0")).succeeded();
    assert_eq!(run("model.bin"), run(gguf.to_str().unwrap()));
}
