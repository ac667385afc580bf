//! The commands of `docs/programs.md` print what stands there. `ORION_BLESS=1` writes the page anew.

use crate::support::Place;
use std::fmt::Write as _;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/programs.md");
const EXAMPLE: &str = include_str!("../../../../docs/example.mil");

/// The page with what its commands print behind each block of them.
fn with_output(page: &str, place: &Place) -> String {
    let mut written = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        writeln!(written, "{line}").expect("a string");
        if line != "```sh" {
            continue;
        }
        let mut output = String::new();
        for command in lines.by_ref() {
            writeln!(written, "{command}").expect("a string");
            let Some(arguments) = command.strip_prefix("orion ") else {
                assert_eq!(command, "```", "a command of the page");
                break;
            };
            let ran = place.line(arguments);
            assert!(ran.code < 2 || ran.stderr.starts_with("error: "), "{command}: {ran}");
            output += &ran.stdout;
            output += &ran.stderr;
        }
        // What stood there before.
        let mut rest = lines.clone();
        if (rest.next(), rest.next()) == (Some(""), Some("```text")) {
            lines.by_ref().find(|l| l.starts_with("```text"));
            while lines.next().is_some_and(|l| l != "```") {}
        }
        if !output.is_empty() {
            write!(written, "\n```text\n{output}```\n").expect("a string");
        }
    }
    written
}

#[test]
fn commands_print_what_the_page_says() {
    let place = Place::new();
    place.write("example.mil", EXAMPLE);
    let page = std::fs::read_to_string(PAGE).unwrap();
    let written = with_output(&page, &place);
    if std::env::var_os("ORION_BLESS").is_some() {
        std::fs::write(PAGE, &written).unwrap();
    }
    assert!(
        page == written,
        "docs/programs.md is not current: ORION_BLESS=1 cargo test -p orion programs_page"
    );
}
