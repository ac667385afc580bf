//! Programs of other people: those that are known to run are not called failures, those that are
//! malformed on purpose are.

use orion_device::{Os, Route, Target, lint, residency};
use orion_mil::package::load_program;
use std::path::{Path, PathBuf};

fn entries(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let wanted =
        |p: &PathBuf| p.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.contains(&e));
    let mut found: Vec<PathBuf> = all.filter(wanted).collect();
    found.sort();
    found
}

fn target(route: Route) -> Target {
    Target { chip: "m4".parse().unwrap(), os: Os::V27, route }
}

/// The rules that make a program a failure; `None` when it does not even parse.
fn failures(path: &Path, route: Route) -> Option<Vec<&'static str>> {
    let program = load_program(path).ok()?;
    let findings = lint(&program, None, &target(route));
    Some(findings.iter().filter(|f| f.is_failure()).map(|f| f.rule.code).collect())
}

#[test]
fn generated_texts_that_ran_on_hardware_pass() {
    let Some(shared) = orion_testing::shared_dir() else {
        return orion_testing::skip("texts of other generators");
    };
    let mut malformed = 0;
    for path in entries(&shared.join("mil/generated"), &["mil"]) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match failures(&path, Route::Direct) {
            None => malformed += 1,
            // Parses, and is not a program.
            Some(codes) if codes.contains(&"ANE001") => malformed += 1,
            Some(codes) => assert_eq!(codes, [""; 0], "{name}"),
        }
    }
    assert_eq!(malformed, 3);
}

#[test]
fn models_that_core_ml_runs_pass() {
    let Some(shared) = orion_testing::shared_dir() else {
        return orion_testing::skip("models of other people");
    };
    let mil = shared.join("mil");
    let mut paths = entries(&mil.join("text"), &["mil"]);
    paths.extend(entries(&mil.join("proto"), &["mlmodel"]));
    paths.extend(entries(&mil.join("bundles"), &["mlmodelc", "mlpackage"]));
    paths.extend(entries(&mil.join("synthetic"), &["mlpackage"]));
    assert!(paths.len() > 30);
    for path in paths {
        // One protobuf is a pipeline, whose models are to be read one by one.
        let Some(codes) = failures(&path, Route::CoreMl) else {
            assert!(path.ends_with("john-rocky__CoreML-Models__1.mlmodel"), "{}", path.display());
            continue;
        };
        assert_eq!(codes, [""; 0], "{}", path.display());
        let placements = residency(&load_program(&path).unwrap(), &target(Route::CoreMl));
        assert!(!placements.is_empty() && placements.iter().all(|p| !p.reason.is_empty()));
    }
}
