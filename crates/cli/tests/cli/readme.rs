//! The commands of the README and of pages of documentation do what they say.

use crate::support::Place;
use crate::train::words;

const README: &str = include_str!("../../../../README.md");
const ADAPTERS: &str = include_str!("../../../../docs/adapters.md");

/// Lines of the fenced `sh` blocks of a page, comments left out.
fn commands(page: &str) -> Vec<&str> {
    let mut inside = false;
    let mut commands = Vec::new();
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside && !line.is_empty() && !line.starts_with('#') => commands.push(line),
            _ => {}
        }
    }
    assert!(!inside, "a block is not closed");
    commands
}

#[test]
fn commands_work_in_the_order_written() {
    let place = Place::new();
    let mut tried = 0;
    for command in commands(README) {
        let arguments = if let Some(rest) = command.strip_prefix("cargo run --release -- ") {
            rest
        } else if let Some(rest) = command.strip_prefix("orion ") {
            rest
        } else if ["cargo test ", "cargo install "].iter().any(|c| command.starts_with(c)) {
            // The tests cannot run themselves, and installing is not theirs to do.
            continue;
        } else {
            panic!("the README has a command that nothing tests: {command}");
        };
        // What takes minutes in a build for tests is shortened; nothing else is changed.
        let shortened = match arguments.split_once("--steps ") {
            Some((before, after)) => {
                let rest = after.split_once(' ').map_or("", |(_, rest)| rest);
                format!("{before}--steps 3 {rest}")
            }
            None if arguments.starts_with("quickstart") => format!("{arguments} --steps 2"),
            None => arguments.to_owned(),
        };
        let words = words(&shortened);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = place.orion(&words);
        assert_eq!(ran.code, 0, "{command}: {ran}");
        tried += 1;
    }
    assert!(tried >= 5, "{tried} commands were tried");
}

#[test]
fn commands_about_adapters_work_in_the_order_written() {
    let place = Place::new();
    place.line("quickstart --steps 2 -q").succeeded();
    let answers = ADAPTERS.split_once("```jsonl\n").and_then(|(_, rest)| rest.split_once("```"));
    place.write("answers.jsonl", answers.expect("a jsonl block").0);
    let mut tried = 0;
    for command in commands(ADAPTERS) {
        let words = words(command.strip_prefix("orion ").expect("a command of orion"));
        let ran = place.orion(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ran.code, 0, "{command}: {ran}");
        tried += 1;
    }
    assert!(tried >= 9, "{tried} commands were tried");
}

#[test]
fn both_commands_of_the_first_page_are_there() {
    let exactly = |line: &str| commands(README).iter().filter(|c| **c == line).count();
    assert_eq!(exactly("cargo run --release -- quickstart"), 1);
    assert_eq!(exactly("cargo test --workspace"), 1);
}

#[test]
fn the_settings_in_the_documentation_are_those_there_are() {
    let page = include_str!("../../../../docs/training.md");
    let block = page.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```"));
    let (documented, _) = block.expect("a toml block");
    let printed = Place::new().line("train --print-config").succeeded();
    assert_eq!(documented, printed, "paste the output of `orion train --print-config`");
}
