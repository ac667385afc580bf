//! Conversations, typed or piped.

use crate::support::{Place, tiny_run};
use insta::assert_snapshot;

/// A model with a template; it was not trained to answer, but says something.
fn place() -> Place {
    let place = tiny_run();
    place.line("convert run --to safetensors -o hf").succeeded();
    place.write(
        "hf/chat_template.jinja",
        "{% for m in messages %}{{ m.role[0] }}:{{ m.content }} {% endfor %}a:",
    );
    place
}

const FLAGS: [&str; 6] = ["chat", "hf", "--temperature", "0", "-n", "4"];

#[test]
fn answers_and_remembers() {
    let place = place();
    let ran = place.with_stdin(&FLAGS, "the cat\n/history\nsat\n/clear\nthe cat\n/exit\nnever\n");
    let told = ran.stderr.clone();
    let answers = ran.succeeded();
    let lines: Vec<&str> = answers.lines().collect();
    assert!(lines.len() >= 3, "{answers}");
    assert_eq!(lines.first(), lines.last(), "begun again, it says the same");
    assert!(told.contains("user: the cat\nassistant: "), "{told}");
    assert!(!told.contains("never"), "{told}");
}

/// The second question is read behind what the first one left in the caches.
#[test]
fn two_devices_answer_as_one() {
    let place = place();
    let script = "the cat sat on the mat\nand the dog\n/clear\nthe log\n";
    let expected = place.with_stdin(&[&FLAGS[..], &["-d", "cpu"]].concat(), script).succeeded();
    assert_eq!(expected.lines().count(), 3, "{expected}");
    for (pair, said) in [
        (&["-d", "cpu+cpu", "--split", "attention"][..], "cpu computes norms"),
        (&["-d", "ane-stand-in:m4+cpu"], "ane-stand-in:m4 reads prompts"),
        (&["-d", "ane-stand-in:m4+cpu", "--split", "attention"], "cpu attention"),
    ] {
        let ran = place.with_stdin(&[&FLAGS[..], pair].concat(), script);
        assert!(ran.stderr.contains(said), "{ran}");
        assert_eq!(ran.succeeded(), expected, "{pair:?}");
    }
}

#[test]
fn stop_strings_end_an_answer() {
    let place = place();
    let whole = place.with_stdin(&FLAGS, "the cat\n").succeeded();
    let stop: String = whole.trim_end().chars().skip(1).take(1).collect();
    let ran = place.with_stdin(&[&FLAGS[..], &["--stop", &stop]].concat(), "the cat\n");
    let expected = whole.split(&stop).next().unwrap();
    assert_eq!(ran.succeeded(), format!("{expected}\n"));
}

#[test]
fn the_oldest_messages_make_room() {
    let place = place();
    let ran = place.with_stdin(&FLAGS, &"the cat sat on the mat\n".repeat(12));
    assert!(ran.stderr.contains("oldest messages are left out"), "{ran}");
    assert_eq!(ran.code, 0);
}

#[test]
fn a_base_model_has_no_template() {
    let place = tiny_run();
    assert_snapshot!(place.line("chat run"), @r#"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: run has no chat template: it is a base model, which continues text and was not trained to answer
    hint: orion run run -p "…" continues a text
    "#);
}
