use crate::support::{Place, tiny_run};
use insta::assert_snapshot;

#[test]
fn a_misspelt_verb() {
    assert_snapshot!(Place::new().line("trian"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: unrecognized subcommand 'trian'

      tip: a similar subcommand exists: 'train'

    Usage: orion [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn a_missing_model() {
    assert_snapshot!(Place::new().line("run nothing.bin"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: nothing.bin: there is no such file or directory
    ");
}

#[test]
fn a_directory_without_a_model() {
    let place = Place::new();
    assert_snapshot!(place.line("run ."), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: .: there is no config.json in this directory
    hint: a model directory holds config.json and model.safetensors
    ");
}

#[test]
fn a_file_that_is_no_model() {
    let place = Place::new();
    place.write("note.bin", "this is no model, but long enough for a header of one");
    assert_snapshot!(place.line("run note.bin"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: note.bin: this is a text file, no model
    hint: a model is a .gguf file, a .bin file of llama2.c or llm.c, a Hugging Face directory with config.json and safetensors, a Parameter Golf artifact, or a run or checkpoint directory
    ");
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
    assert_snapshot!(place.line("run run --tokenizer other.json -p the"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: other.json: the tokenizer has 275 ids, the model 262; they do not belong together
    ");
}

/// Weights take long to read, so what is wrong with the small file is told before.
#[test]
fn a_broken_tokenizer_is_told_before_weights_are_read() {
    let place = tiny_run();
    let tokenizer = place.path("run/tokenizer.json");
    std::fs::write(&tokenizer, "{").unwrap();
    let weights = place.path("run/latest/model.safetensors");
    std::fs::write(&weights, "no weights").unwrap();
    place.write("text.txt", "the cat sat");
    for line in [
        "run run -p the",
        "chat run",
        "eval run --data text.txt",
        "finetune run --data text.txt --out adapter",
        "convert run --to safetensors --out converted",
    ] {
        let ran = place.line(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{line}: {ran}");
        assert!(ran.stderr.contains("tokenizer.json"), "{line}: {ran}");
        assert!(!ran.stderr.contains("model.safetensors"), "{line}: {ran}");
    }
    // With another tokenizer it is the weights' turn.
    let ran = place.line("run run --tokenizer tokenizer.json -p the");
    assert!(ran.stderr.contains("model.safetensors"), "{ran}");
}

#[test]
fn a_prompt_longer_than_the_model_takes() {
    let place = tiny_run();
    let prompt = "xyz ".repeat(40);
    assert_snapshot!(place.orion(&["run", "run", "-p", &prompt]), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: the prompt has 161 tokens, the context holds 64
    ");
}

#[test]
fn devices_that_are_not_there() {
    let place = Place::new();
    assert_snapshot!(place.line("run nothing.bin -d gpu"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: there is no device `gpu`
    hint: devices are auto, cpu, cpu:reference, ane-model:m4, and on Macs ane
    ");
}

#[test]
fn sampling_out_of_range() {
    let place = Place::new();
    assert_snapshot!(place.line("run nothing.bin --temperature -1"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: --temperature is -1; it must be 0 or more
    ");
    assert_snapshot!(place.line("run nothing.bin --top-p 1.5"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: --top-p is 1.5; it must be between 0 and 1
    ");
}

#[test]
fn presets_and_settings_that_do_not_exist() {
    let place = Place::new();
    assert_snapshot!(place.line("train --init storys15m --data x.bin"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: there is no preset `storys15m`; there are quickstart, stories260k, stories15m, stories42m, stories110m, gpt2-124m, gpt2-medium, gpt2-large, gpt2-xl, qwen3-0.6b, golf-baseline, golfwide
    hint: did you mean `stories15m`?
    ");
    assert_snapshot!(place.line("train --init stories15m --set optimizer.learning=1"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: there is no setting `optimizer.learning`
    hint: did you mean `optimizer.lr`?
    ");
    assert_snapshot!(place.line("train --init stories15m --set steps"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: --set steps: there is no `=`
    hint: write --set checkpoint.every=100
    ");
    assert_snapshot!(place.line("train --init stories15m --batch 0 --data x.bin"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: train.batch is 0; it must be at least 1
    ");
}

#[test]
fn training_on_nothing() {
    let place = Place::new();
    assert_snapshot!(place.line("train --data x.bin"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: there is no model to train
    hint: start from random weights with --init stories15m, or from a model with --model FILE
    ");
    assert_snapshot!(place.line("train --init stories260k"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: there is no data to train on
    hint: name a file of tokens or text with --data
    ");
    assert_snapshot!(place.line("train --init stories260k --data x.bin"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: [HERE]/x.bin: No such file or directory (os error 2)
    ");
    assert_snapshot!(place.line("train --resume nowhere"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: nowhere: not a run directory
    hint: a run directory holds config.toml and checkpoints; --out creates one
    ");
    assert!(!place.path("runs").exists(), "nothing was begun");
}

#[test]
fn data_of_another_tokenizer() {
    let place = tiny_run();
    place.write("large.bin", [1, 0, 2, 0, 0xff, 0x7f].repeat(20));
    let ran = place.line("train --init tiny.toml --data large.bin --seq 16 --out other");
    assert_snapshot!(ran, @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: [HERE]/large.bin: token id out of range: token 2 has id 32767, the vocabulary has 262 (at byte 4)
    hint: was the training file made with this model's tokenizer?
    ");
    assert_snapshot!(place.line("eval run --data large.bin --seq 16"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: large.bin: token id out of range: token 2 has id 32767, the vocabulary has 262 (at byte 4)
    hint: the data was made with another tokenizer than the model's
    ");
}

#[test]
fn a_run_directory_is_not_written_over() {
    let place = tiny_run();
    let before = place.read("run/config.toml");
    let ran = place.line("train --init tiny.toml --data tokens.bin --seq 16 --out run");
    assert_snapshot!(ran, @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: [HERE]/run: this directory already holds a run
    hint: continue it with --resume, or choose another --out
    ");
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
