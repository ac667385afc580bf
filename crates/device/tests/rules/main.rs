//! Every rule that is checked on programs, on a program that breaks it and on one that hardly
//! does not.

mod cases;
mod programs;

use cases::cases;
use orion_device::{Finding, Os, Route, Target, lint, rules};
use orion_mil::{Weights, text};
use orion_tensor::{Tensor, f16};
use programs::{F, body, conv, unary};

fn target(chip: &str, route: Route) -> Target {
    Target { chip: chip.parse().unwrap(), os: Os::V27, route }
}

fn findings(source: &str, weights: Option<&Weights>, target: &Target) -> Vec<Finding> {
    let program = text::parse(source).unwrap_or_else(|e| panic!("{e}\n{source}"));
    lint(&program, weights, target)
}

fn codes(source: &str, target: &Target) -> Vec<&'static str> {
    findings(source, None, target).iter().map(|f| f.rule.code).collect()
}

/// Rules that only show when a program runs or its weights are there, and where they are tested.
const ELSEWHERE: [(&str, &str); 6] = [
    ("ANE026", "emulator: a_surface_of_another_size_gives_0x1d"),
    ("ANE079", "emulator: too_many_programs_are_refused_until_one_is_dropped"),
    ("ANE086", "weights_are_looked_into"),
    ("ANE101", "weights_are_looked_into"),
    // These say what a host must not believe; no program breaks them.
    ("ANE102", "nothing: about weight files that change behind a compiled program"),
    ("ANE103", "nothing: about patching compiled programs"),
];

#[test]
fn every_rule_has_a_program_that_breaks_it() {
    let cases = cases();
    for rule in rules() {
        let broken = cases.iter().any(|(code, ..)| *code == rule.code);
        let elsewhere = ELSEWHERE.iter().any(|(code, _)| *code == rule.code);
        assert!(broken != elsewhere, "{} is broken by no case, or twice on the lists", rule.code);
    }
    for (code, _) in ELSEWHERE {
        assert!(orion_device::rule(code).is_some(), "there is no {code}");
    }
}

#[test]
fn rules_see_what_breaks_them_and_nothing_else() {
    let mut wrong = Vec::new();
    for (code, chip, route, bad, good) in cases() {
        // The logical operations run from macOS 27 on.
        let os = if code == "ANE043" { Os::V26 } else { Os::V27 };
        let target = Target { os, ..target(chip, route) };
        let seen = codes(&bad, &target);
        if !seen.contains(&code) {
            wrong.push(format!("{code} is not seen: {seen:?}\n{bad}"));
        }
        let seen = codes(&good, &target);
        if seen.contains(&code) || (code != "ANE001" && seen.contains(&"ANE001")) {
            wrong.push(format!("{code} or ANE001 is seen in\n{good}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rules_hold_where_they_say() {
    let sin = unary("sin", F, "");
    let on = |chip, os| {
        let target =
            Target { chip: std::str::FromStr::from_str(chip).unwrap(), os, route: Route::CoreMl };
        codes(&sin, &target)
    };
    assert!(on("m2", Os::V26).contains(&"ANE042"));
    assert!(!on("m3", Os::V26).contains(&"ANE042"));
    // Only an operation that Core ML can run elsewhere is spared.
    let tan = unary("tan", F, "");
    let direct = findings(&tan, None, &target("m4", Route::Direct));
    let core_ml = findings(&tan, None, &target("m4", Route::CoreMl));
    assert!(direct.iter().any(|f| f.rule.code == "ANE040" && f.is_failure()));
    assert!(core_ml.iter().all(|f| !f.is_failure()));
}

#[test]
fn findings_name_the_place() {
    let found = findings(&unary("tan", F, ""), None, &target("m4", Route::Direct));
    let finding = found.iter().find(|f| f.rule.code == "ANE040").unwrap();
    assert_eq!((finding.function.as_str(), finding.place.as_str()), ("main", "tan -> b"));
    assert_eq!(finding.value.as_deref(), Some("b"));
    assert!(found[0].is_failure(), "what fails stands first");
}

#[test]
fn weights_are_looked_into() {
    let program = conv("tensor<fp16, [2, 4, 1, 1]>", "tensor<fp16, [1, 2, 64, 128]>", "");
    let with = |shape: &[usize], number: f64| {
        let count = shape.iter().product();
        let mut weights = Weights::new();
        let tensor = Tensor::from_slice(shape, &vec![f16::from_f64(number); count]);
        weights.append("@model_path/weights/weight.bin", tensor);
        let found = findings(&program, Some(&weights), &target("m4", Route::CoreMl));
        found.iter().map(|f| f.rule.code).collect::<Vec<_>>()
    };
    assert_eq!(with(&[8], 0.5), [""; 0]);
    assert_eq!(with(&[8], 1e-6), ["ANE086"]);
    assert_eq!(with(&[7], 0.5), ["ANE101"]);
}

#[test]
fn an_invalid_program_breaks_the_first_rule_only() {
    let source = body("        tensor<fp16, [1, 64, 8, 63]> b = tan(x = a)[name = string(\"b\")];");
    assert_eq!(codes(&source, &target("m4", Route::Direct)), ["ANE001"]);
}

#[test]
fn the_page_of_rules_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rules.md");
    let text = orion_device::catalogue();
    if std::env::var_os("ORION_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == text,
        "docs/rules.md is not what the rules say: run ORION_BLESS=1 cargo test -p orion-device"
    );
    assert!(rules().count() > 60);
}
