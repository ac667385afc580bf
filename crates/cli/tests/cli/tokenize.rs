//! Text to ids and back.

use crate::support::{Place, tiny_run};
use insta::assert_snapshot;
use orion_testing::shared;

fn with_tokenizer() -> Place {
    let place = Place::new();
    let tokenizer =
        orion_tokenizer::Tokenizer::train_byte_level(["the cat sat on the mat"], 262).unwrap();
    tokenizer.save_in(place.path("")).unwrap();
    place
}

#[test]
fn there_and_back() {
    let place = with_tokenizer();
    let text = "the cat\n  \"é\" 日本\n";
    let flags = ["--tokenizer", "tokenizer.json"];
    let ids = place.with_stdin(&[&["tokenize"], &flags[..]].concat(), text).succeeded();
    assert_eq!(ids.lines().count(), 1);
    let back = place.with_stdin(&[&["detokenize"], &flags[..]].concat(), &ids).succeeded();
    assert_eq!(back, text);

    let lines = "{\"text\": \"a\\nb\"}\n\n{\"text\": \"\"}\n{\"text\": \"the\"}\n";
    place.write("texts.jsonl", lines);
    let flags = ["--tokenizer", "tokenizer.json", "--format", "json"];
    let ids = place.orion(&[&["tokenize", "--jsonl", "texts.jsonl"], &flags[..]].concat());
    let ids = ids.succeeded();
    assert_snapshot!(ids, @r#"
    {"ids":[98,11,99]}
    {"ids":[]}
    {"ids":[259]}
    "#);
    let back = place.with_stdin(&[&["detokenize"], &flags[..]].concat(), &ids).succeeded();
    assert_snapshot!(back, @r#"
    {"text":"a\nb"}
    {"text":""}
    {"text":"the"}
    "#);
}

#[test]
fn special_tokens_only_when_asked_for() {
    let place = with_tokenizer();
    let ids = |flags: &[&str]| {
        let arguments = [&["tokenize", "--tokenizer", "."], flags].concat();
        place.with_stdin(&arguments, "<|endoftext|>").succeeded()
    };
    assert!(ids(&[]).split_whitespace().count() > 5);
    assert_eq!(ids(&["--special"]), "0\n");
    assert_eq!(ids(&["--special", "--bos"]), "0 0\n");
}

#[test]
fn a_model_stands_for_its_tokenizer() {
    let place = tiny_run();
    let ids = place.with_stdin(&["tokenize", "--tokenizer", "run"], "the cat").succeeded();
    assert_eq!(ids, place.with_stdin(&["tokenize", "--tokenizer", "."], "the cat").succeeded());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let place = with_tokenizer();
    let tokenizer = ["--tokenizer", "tokenizer.json"];
    let run = |verb: &[&str], text: &str| place.with_stdin(&[verb, &tokenizer].concat(), text);
    assert_snapshot!(run(&["tokenize", "--jsonl"], "{\"text\": \"a\"}\n{\"txt\": 1}\n"), @r#"
    exit: 3
    ----- stdout -----
    98
    ----- stderr -----
    error: standard input, line 2: expected {"text": "…"}: there is no text
    "#);
    assert_snapshot!(run(&["detokenize"], "98\n99 x\n"), @r#"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: standard input, line 2: `x` is no token id
    hint: ids are numbers separated by spaces, or {"ids": […]} on each line
    "#);
    assert_snapshot!(run(&["detokenize"], "98 5000"), @r#"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: standard input, line 1: token 5000 is outside the vocabulary of 262
    hint: ids are numbers separated by spaces, or {"ids": […]} on each line
    "#);
    place.write("notes.txt", "nothing of the kind");
    let ran = place.with_stdin(&["tokenize", "--tokenizer", "notes.txt"], "a");
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("tokenizer.model"), "{ran}");
}

#[test]
fn bare_vocabularies_find_their_merges() {
    let Some(vocab) = shared("data/qwen2_vocab.json") else { return };
    let place = Place::new();
    let vocab = vocab.to_str().unwrap();
    let ids = place.with_stdin(&["tokenize", "--tokenizer", vocab], "Hello, 42!").succeeded();
    assert_eq!(ids, "9707 11 220 19 17 0\n");
}
