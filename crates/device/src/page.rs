//! Rules as text for people: the page of one, and the table of all.

use crate::{Applies, Confidence, Generation, Os, Rule, rules};
use std::fmt::Write;

fn chips(rule: &Rule) -> String {
    match rule.chips {
        (Generation::M1, Generation::M5) => "M1 to M5".to_owned(),
        (first, last) if first == last => format!("{} only", first.name()),
        (first, last) => format!("{} to {}", first.name(), last.name()),
    }
}

fn systems(rule: &Rule) -> String {
    match rule.systems {
        (Os::V15, Os::V27) => "macOS 15 to 27".to_owned(),
        (first, last) if first == last => format!("{first} only"),
        (first, last) => format!("{first} to {last}"),
    }
}

fn route(rule: &Rule) -> &'static str {
    match rule.applies {
        Applies::Direct => "when the Neural Engine's compiler gets the whole program",
        Applies::CoreMl => "through Core ML",
        Applies::Everywhere => "always",
    }
}

fn sureness(rule: &Rule) -> &'static str {
    match rule.confidence {
        Confidence::Measured => "measured on hardware",
        Confidence::Reported => "reported, without the measurement",
        Confidence::Disputed => "disputed: sources disagree",
        Confidence::Inferred => "concluded from other facts",
    }
}

/// One rule in full, in Markdown that also reads well on a terminal.
pub fn page(rule: &Rule) -> String {
    let mut text = format!("{}: {}\n\n", rule.code, rule.title);
    let mut severity = rule.severity.name().to_owned();
    if rule.about_support && rule.severity == crate::Severity::Refused {
        severity += "; through Core ML: falls-back";
    }
    if rule.depends_on_values {
        severity += " (depends on the values)";
    }
    let checked = if rule.is_checked_on_programs() {
        "`orion lint` sees it in a program"
    } else {
        "shows only when a program is read or run"
    };
    for (name, value) in [
        ("Severity", severity.as_str()),
        ("Holds", route(rule)),
        ("Chips", &chips(rule)),
        ("Systems", &systems(rule)),
        ("Confidence", sureness(rule)),
        ("Check", checked),
    ] {
        writeln!(text, "- {name}: {value}").expect("writing to a string");
    }
    for (name, body) in [("What", rule.what), ("Fix", rule.fix), ("Evidence", rule.evidence)] {
        write!(text, "\n{name}:\n{body}\n").expect("writing to a string");
    }
    text
}

/// All rules, as `docs/rules.md` has them.
pub fn catalogue() -> String {
    let mut text = String::from(
        "# Rules of the Apple Neural Engine\n\n\
         What `orion lint` checks, and what the device model enforces. `orion lint --explain ANE040` prints one of them.\n\n\
         Nothing here was run on a Neural Engine by this project: every rule is what others measured or reported, with its source. \
         A rule that sources disagree on says so, and does not make `orion lint` fail; nor does one that depends on the values a program is run with.\n\n\
         This page is generated from `crates/device/src/rules`: `cargo test -p orion-device` fails when it is out of date and says how to renew it.\n\n\
         | code | severity | chips | confidence | rule |\n|---|---|---|---|---|\n",
    );
    for rule in rules() {
        writeln!(
            text,
            "| [{0}](#{1}) | {2} | {3} | {4} | {5} |",
            rule.code,
            rule.code.to_lowercase(),
            rule.severity,
            chips(rule),
            rule.confidence.name(),
            rule.title
        )
        .expect("writing to a string");
    }
    for rule in rules() {
        let page = page(rule);
        let body = page.split_once("\n\n").map_or("", |(_, body)| body);
        let body = body.replace("\nWhat:\n", "\n").replace("\nFix:\n", "\n**Fix.** ");
        let body = body.replace("\nEvidence:\n", "\n**Evidence.** ");
        let code = rule.code;
        write!(text, "\n## {code}\n\n**{}**\n\n{body}", rule.title).expect("writing to a string");
    }
    text
}
