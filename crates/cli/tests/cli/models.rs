use crate::support::{Place, tiny_run};
use insta::assert_snapshot;
use serde_json::Value;

#[test]
fn text_goes_to_stdout_and_talk_to_stderr() {
    let place = tiny_run();
    let arguments = ["run", "run", "-p", "the cat", "-n", "20", "--temperature", "0"];
    let plain = place.orion(&arguments);
    assert_eq!((plain.code, plain.stderr.as_str()), (0, ""));
    assert!(plain.stdout.starts_with("the cat") && plain.stdout.len() > "the cat".len(), "{plain}");
    let with_stats = place.orion(&[&arguments[..], &["--stats"]].concat());
    assert_eq!(with_stats.stdout, plain.stdout);
    for word in ["prompt", "generation", "tokens/s", "stopped", "seed"] {
        assert!(with_stats.stderr.contains(word), "{with_stats}");
    }
}

#[test]
fn the_prompt_comes_from_an_argument_a_file_or_standard_input() {
    let place = tiny_run();
    place.write("prompt.txt", "the dog");
    let rest = ["-n", "12", "--temp", "0"];
    let run = |how: &[&str]| place.orion(&[&["run", "run"], how, &rest].concat()).succeeded();
    let text = run(&["-p", "the dog"]);
    assert_eq!(run(&["-f", "prompt.txt"]), text);
    let arguments = [&["run", "run", "-f", "-"][..], &rest].concat();
    assert_eq!(place.with_stdin(&arguments, "the dog").succeeded(), text);
}

#[test]
fn a_seed_fixes_the_text_and_another_changes_it() {
    let place = tiny_run();
    let text = |seed: &str| place.line(&format!("run run -p the -n 50 --temp 2 -s {seed}"));
    assert_eq!(text("1").succeeded(), text("1").succeeded());
    assert_ne!(text("1").succeeded(), text("2").succeeded());
}

#[test]
fn both_devices_write_the_same_text() {
    let place = tiny_run();
    let text = |device: &str| {
        place.line(&format!("run run -p the -n 40 --temperature 0 -d {device}")).succeeded()
    };
    assert_eq!(text("cpu"), text("cpu:reference"));
    assert_eq!(text("cpu"), text("auto"));
}

#[test]
fn prompts_of_a_file_are_continued_together() {
    let place = tiny_run();
    place.write("prompts.txt", "the cat\n\nthe dog ran\na\n");
    let rest = "-n 12 --temp 0.9 --seed 5";
    let together = |n: usize| -> Vec<Value> {
        let line = format!("run run -f prompts.txt --parallel {n} --format json {rest}");
        let lines = place.line(&line).succeeded();
        let mut texts: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for text in texts.iter_mut().filter_map(Value::as_object_mut) {
            // Time is never the same.
            let times = ["prompt_seconds", "generation_seconds", "tokens_per_second"];
            assert!(times.iter().all(|key| text.remove(*key).is_some()));
        }
        texts
    };
    let texts = together(2);
    assert_eq!(together(1), texts);
    assert_eq!(together(7), texts);
    let prompts: Vec<&str> = texts.iter().map(|t| t["prompt"].as_str().unwrap()).collect();
    assert_eq!(prompts, ["the cat", "the dog ran", "a"]);
    for (i, text) in texts.iter().enumerate() {
        let prompt = text["prompt"].as_str().unwrap();
        let seed = (5 + i).to_string();
        let alone = ["run", "run", "-p", prompt, "-n", "12", "--temp", "0.9", "--seed", &seed];
        let alone = place.orion(&alone).succeeded();
        assert_eq!(alone.trim_end_matches('\n'), text["text"].as_str().unwrap());
        assert_eq!(text["seed"], 5 + i);
    }
    let plain = place.line(&format!("run run -f prompts.txt --parallel 3 {rest}")).succeeded();
    let joined: Vec<&str> = texts.iter().map(|t| t["text"].as_str().unwrap()).collect();
    assert_eq!(plain, joined.join("\n\n") + "\n");
}

#[test]
fn evaluation_does_not_depend_on_the_batch() {
    let place = tiny_run();
    let loss = |arguments: &str| -> f64 {
        let line = format!("eval run --data tokens.bin --seq 16 --format json {arguments}");
        let report: Value = serde_json::from_str(&place.line(&line).succeeded()).unwrap();
        assert!(report["tokens"].as_u64().unwrap().is_multiple_of(16));
        let (loss, perplexity) = (&report["loss"], &report["perplexity"]);
        assert_eq!(loss.as_f64().unwrap().exp(), perplexity.as_f64().unwrap());
        loss.as_f64().unwrap()
    };
    let close = |a: f64, b: f64| orion_tensor::Tolerance::F32Accum.check(&[a], &[b]).unwrap();
    close(loss("--batch 1"), loss("--batch 5"));
    close(loss("--batch 4 --max-tokens 112"), loss("--batch 7 --max-tokens 112"));
    let text = place.line("eval run --data tokens.bin --seq 16").succeeded();
    assert!(text.starts_with("loss ") && text.contains("\nperplexity "), "{text}");
}

#[test]
fn evaluation_says_when_a_sequence_is_too_long() {
    let place = tiny_run();
    assert_snapshot!(place.line("eval run --data tokens.bin --seq 1000"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: sequences of 1000 tokens were asked for; this model takes at most 64
    ");
    assert_snapshot!(place.line("eval run --data tokens.bin --seq 16 --max-tokens 3"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: --max-tokens is 3, but one sequence has 16 tokens
    hint: use shorter sequences with --seq
    ");
}

#[test]
fn compiled_programs_are_the_ones_that_run() {
    let place = tiny_run();
    let listing = place.line("compile run --out programs --context 32").succeeded();
    assert_eq!(listing.lines().count(), 2, "{listing}");
    assert!(listing.starts_with("programs/step_1x32 ("), "{listing}");
    place.line("compile run --out programs/loss --task loss --batch 2 --seq 16").succeeded();
    place.line("compile run --out programs/train --task train --batch 2 --seq 16").succeeded();
    for name in [
        "step_1x32",
        "step_16x32",
        "loss/loss_2x16",
        "train/gradients_2x16",
        "train/accumulate_2x16",
        "train/update",
    ] {
        let checked = place.line(&format!("mil check programs/{name}"));
        assert_eq!(checked.code, 0, "{checked}");
    }
    let compared = place.line(
        "mil run programs/loss/loss_2x16 -i *=random:3:262 --against cpu:reference --tolerance \
         f32-network",
    );
    assert!(compared.succeeded().contains("agree within F32Network"));
    // What a file has in int8 the programs have too.
    place.line("init stories260k --out small").succeeded();
    place.line("convert small --to gguf --dtype q8_0 --out int8.gguf --no-tokenizer").succeeded();
    place.line("compile int8.gguf --out int8 --tokens 1 --context 32").succeeded();
    place.line("mil check int8/step_1x32").succeeded();
    let text = place.read("int8/step_1x32/model.mil");
    assert!(text.contains("constexpr_blockwise_shift_scale("), "{text}");
    assert_snapshot!(place.line("compile run --out programs --context 32").stderr, @"error: programs/step_1x32: already exists: nothing is written over");
}

#[test]
fn passes_can_be_watched_and_stopped() {
    let place = tiny_run();
    let rest = "--tokens 1 --context 32";
    let none = place.line(&format!("compile run --out none --stop-after 0 {rest}")).succeeded();
    let all = place.line(&format!("compile run --out all {rest}")).succeeded();
    assert_ne!(none.replace("none/", "all/"), all, "the passes change the program");
    let watched = place.line(&format!("compile run --out w --print-after dead-code {rest}"));
    let texts = watched.succeeded();
    assert!(texts.starts_with("program(1.3)"), "{texts}");
    let last = &texts[texts.rfind("program(1.3)").unwrap()..];
    assert_eq!(last.trim_end(), place.read("w/step_1x32/model.mil").trim_end());
    assert_snapshot!(place.line("compile run --out x --print-after dead-cod").stderr, @r"
    error: there is no pass `dead-cod`; there are literals, identities, casts, reshapes, transposes, scales, constant-folding, common-subexpressions, dead-code
    hint: did you mean `dead-code`?
    ");
}

#[test]
fn devices_are_listed_for_people_and_programs() {
    let place = Place::new();
    let text = place.line("devices").succeeded();
    assert!(text.starts_with("cpu            "), "{text}");
    let report: Value =
        serde_json::from_str(&place.line("devices --format json").succeeded()).unwrap();
    let names: Vec<&str> =
        report["devices"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cpu", "cpu:reference", "ane-model:m4"]);
    assert!(report["threads"].as_u64().unwrap() >= 1);
}

#[test]
fn a_text_is_measured_as_its_tokens_are() {
    let place = tiny_run();
    let text = "the cat sat on the mat and the dog sat on the log. ".repeat(6);
    place.write("text.txt", &text);
    let tokenizer = orion_tokenizer::Tokenizer::from_file(place.path("tokenizer.json")).unwrap();
    let ids = tokenizer.bos().into_iter().chain(tokenizer.encode(&text));
    let ids: Vec<u8> = ids.flat_map(|id| (id as u16).to_le_bytes()).collect();
    place.write("ids.bin", ids);
    let eval = |data: &str| place.line(&format!("eval run --data {data} --seq 16")).succeeded();
    assert_eq!(eval("text.txt"), eval("ids.bin"));
    // A text that is shorter than what the model takes is one sequence.
    place.write("short.txt", "the cat sat");
    let report = place.line("eval run --data short.txt --format json").succeeded();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["tokens"], tokenizer.encode("the cat sat").len());
    assert_eq!(report["bytes"], "the cat sat".len());
}
