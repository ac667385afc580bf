use crate::support::{Place, tiny_run};
use insta::assert_snapshot;

#[test]
fn a_misspelt_verb() {
    assert_snapshot!(Place::new().line("trian"), @"");
}

#[test]
fn a_missing_model() {
    assert_snapshot!(Place::new().line("run nothing.bin"), @"");
}

#[test]
fn a_directory_without_a_model() {
    let place = Place::new();
    assert_snapshot!(place.line("run ."), @"");
}

#[test]
fn a_file_that_is_no_model() {
    let place = Place::new();
    place.write("note.bin", "this is no model, but long enough for a header of one");
    assert_snapshot!(place.line("run note.bin"), @"");
}

#[test]
fn a_truncated_checkpoint() {
    let place = tiny_run();
    let weights = place.path("run/latest/model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let ran = place.line("run run -p the");
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran}");
    assert!(ran.stderr.contains("model.safetensors"), "{ran}");
    assert!(ran.stderr.contains("error: "), "{ran}");
}

#[test]
fn a_tokenizer_of_another_model() {
    let place = tiny_run();
    let story = "sun moon star sky sea sand ".repeat(9);
    let other = orion_tokenizer::Tokenizer::train_byte_level([&*story], 275).unwrap();
    place.write("other.json", other.to_bytes());
    assert_snapshot!(place.line("run run --tokenizer other.json -p the"), @"");
}

#[test]
fn a_prompt_longer_than_the_model_takes() {
    let place = tiny_run();
    let prompt = "xyz ".repeat(40);
    assert_snapshot!(place.orion(&["run", "run", "-p", &prompt]), @"");
}

#[test]
fn devices_that_are_not_there() {
    let place = Place::new();
    assert_snapshot!(place.line("run nothing.bin -d gpu"), @"");
    assert_snapshot!(place.line("run nothing.bin -d ane"), @"");
}

#[test]
fn sampling_out_of_range() {
    let place = Place::new();
    assert_snapshot!(place.line("run nothing.bin --temperature -1"), @"");
    assert_snapshot!(place.line("run nothing.bin --top-p 1.5"), @"");
}

#[test]
fn presets_and_settings_that_do_not_exist() {
    let place = Place::new();
    assert_snapshot!(place.line("train --init storys15m --data x.bin"), @"");
    assert_snapshot!(place.line("train --init stories15m --set optimizer.learning=1"), @"");
    assert_snapshot!(place.line("train --init stories15m --set steps"), @"");
    assert_snapshot!(place.line("train --init stories15m --batch 0 --data x.bin"), @"");
}

#[test]
fn training_on_nothing() {
    let place = Place::new();
    assert_snapshot!(place.line("train --data x.bin"), @"");
    assert_snapshot!(place.line("train --init stories260k"), @"");
    assert_snapshot!(place.line("train --init stories260k --data x.bin"), @"");
    assert_snapshot!(place.line("train --resume nowhere"), @"");
    assert!(!place.path("runs").exists(), "nothing was begun");
}

#[test]
fn data_of_another_tokenizer() {
    let place = tiny_run();
    place.write("large.bin", [1, 0, 2, 0, 0xff, 0x7f].repeat(20));
    let ran = place.line("train --init tiny.toml --data large.bin --seq 16 --out other");
    assert_snapshot!(ran, @"");
    assert_snapshot!(place.line("eval run --data large.bin --seq 16"), @"");
}

#[test]
fn a_run_directory_is_not_written_over() {
    let place = tiny_run();
    let before = place.read("run/config.toml");
    let ran = place.line("train --init tiny.toml --data tokens.bin --seq 16 --out run");
    assert_snapshot!(ran, @"");
    assert_eq!(place.read("run/config.toml"), before);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let place = tiny_run();
    let mut child = place
        .command(&["run", "run", "-p", "the cat", "-n", "60", "--temperature", "0"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
