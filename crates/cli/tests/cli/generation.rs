//! What ends a text, and what is said of its tokens.

use crate::support::{Place, tiny_run};
use orion_tensor::Tolerance;
use serde_json::Value;

fn report(place: &Place, rest: &[&str]) -> Value {
    let arguments = [&["run", "run", "-p", "the cat", "--format", "json"], rest].concat();
    serde_json::from_str(&place.orion(&arguments).succeeded()).unwrap()
}

#[test]
fn a_stop_string_ends_the_text_and_is_left_out() {
    let place = tiny_run();
    let whole = report(&place, &["-n", "40", "--temp", "0"]);
    let continuation = whole["continuation"].as_str().unwrap();
    let middle: Vec<char> = continuation.chars().skip(4).take(3).collect();
    let stop: String = middle.into_iter().collect();
    let before = &continuation[..continuation.find(&stop).unwrap()];

    let rest = ["-n", "40", "--temp", "0", "--stop", "never there", "--stop", &stop];
    let stopped = report(&place, &rest);
    assert_eq!(stopped["continuation"], before);
    assert_eq!(stopped["text"], format!("the cat{before}"));
    assert_eq!(stopped["finish_reason"], "stop");
    assert!(stopped["stopped"].as_str().unwrap().contains(&format!("{stop:?}")));
    let plain = place.orion(&[&["run", "run", "-p", "the cat"], &rest[..]].concat()).succeeded();
    assert_eq!(plain, stopped["text"].as_str().unwrap());
}

#[test]
fn json_says_all_there_is() {
    let place = tiny_run();
    let report = report(&place, &["-n", "15", "--temp", "0", "--logprobs", "3"]);
    let tokenizer = orion_tokenizer::Tokenizer::from_file(place.path("tokenizer.json")).unwrap();
    let ids = |key: &str| -> Vec<u32> { serde_json::from_value(report[key].clone()).unwrap() };
    let (prompt, chosen) = (ids("prompt_ids"), ids("ids"));
    assert_eq!(prompt, tokenizer.encode("the cat"));
    assert_eq!(prompt.len() + chosen.len(), 15);
    assert_eq!(report["generated_tokens"], chosen.len());
    assert_eq!(report["finish_reason"], "length");
    assert!(report["generation_seconds"].as_f64().unwrap() > 0.0);
    assert!(report["prompt_seconds"].as_f64().unwrap() > 0.0);
    let rows = report["logprobs"].as_array().unwrap();
    assert_eq!(rows.len(), chosen.len());
    for (row, id) in rows.iter().zip(chosen) {
        let top = row["top"].as_array().unwrap();
        assert_eq!((top.len(), &row["id"], &top[0]["id"]), (3, &id.into(), &id.into()));
        // Greedy takes the likeliest, so that both ways to say how likely it was agree.
        let of = |row: &Value| row["logprob"].as_f64().unwrap();
        Tolerance::Exact.check(&[of(row)], &[of(&top[0])]).unwrap();
        assert!(of(&top[0]) >= of(&top[1]) && of(&top[1]) >= of(&top[2]) && of(row) < 0.0);
    }
    let ran = place.line("run run -p x --logprobs 2");
    assert!(ran.code == 2 && ran.stderr.contains("--format json"), "{ran}");
}

#[test]
fn a_text_longer_than_the_context_goes_on_and_says_so() {
    let place = tiny_run();
    // 64 positions, as the model was made for.
    let long = report(&place, &["-n", "150", "--temp", "0"]);
    assert_eq!(
        long["generated_tokens"].as_u64().unwrap() + long["prompt_tokens"].as_u64().unwrap(),
        150
    );
    assert!(long["left_out_tokens"].as_u64().unwrap() > 0);
    let plain = place.orion(&["run", "run", "-p", "the cat", "-n", "150", "--temp", "0"]);
    assert!(plain.stderr.contains("the context is full"), "{plain}");
    assert_eq!(plain.succeeded(), long["text"].as_str().unwrap());
    // Without a length, the context ends the text.
    let short = report(&place, &["--temp", "0"]);
    assert_eq!(
        (&short["finish_reason"], &short["left_out_tokens"]),
        (&"context".into(), &0.into())
    );
    // Together with others, each for itself.
    place.write("prompts.txt", "the cat\nthe dog sat on the log\na\n");
    let line = "run run -f prompts.txt --parallel 3 --format json -n 150 --temp 0";
    let together = place.line(line).succeeded();
    let first: Value = serde_json::from_str(together.lines().next().unwrap()).unwrap();
    assert_eq!(first["text"], long["text"]);
    assert_eq!(together.lines().count(), 3);
}

#[test]
fn ids_that_the_model_names_end_a_text() {
    let place = tiny_run();
    place.line("convert run --to safetensors -o hf").succeeded();
    let run = |model: &str| -> Value {
        let line = format!("run {model} -p the -n 30 --temp 0 --format json");
        serde_json::from_str(&place.line(&line).succeeded()).unwrap()
    };
    let whole = run("hf");
    let third = whole["ids"][2].clone();
    let first_of =
        |id: &Value| whole["ids"].as_array().unwrap().iter().position(|other| other == id).unwrap();
    place.write("hf/generation_config.json", format!("{{\"eos_token_id\": [9999, {third}]}}"));
    let ended = run("hf");
    assert_eq!(ended["finish_reason"], "stop");
    assert_eq!(ended["ids"].as_array().unwrap().len(), first_of(&third));
    place.write("hf/generation_config.json", "{\"eos_token_id\": \"two\"}");
    let ran = place.line("run hf -p the");
    assert!(ran.code == 3 && ran.stderr.contains("generation_config.json"), "{ran}");
}
