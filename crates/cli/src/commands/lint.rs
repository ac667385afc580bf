//! `orion lint`: what the Neural Engine will make of a program.

use super::mil::source::{Malformed, read_program};
use super::mil::{convert, source};
use super::subject::{is_program, model_programs};
use crate::arguments::{Lint, LintFormat, OfModel};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::printer::Printer;
use orion_device::{Finding, Route, Rule, Severity, Target, fix, invalid, lint as check, page};
use orion_mil::bundle::{Bundle, BundleErrorKind};
use orion_mil::{Program, Weights, package, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A finding and where in the text it is.
struct Located {
    finding: Finding,
    line: Option<usize>,
    column: Option<usize>,
}

pub(crate) fn lint(arguments: &Lint, printer: &Printer) -> Result {
    if let Some(code) = &arguments.explain {
        let rule = orion_device::rule(code).ok_or_else(|| {
            Failure::usage(format!("there is no rule `{code}`"))
                .hint("rules are ANE001 and so on; docs/rules.md lists them")
        })?;
        printer.data(page(rule))?;
        return Ok(Exit::Success);
    }
    let file = arguments.file.as_ref().expect("clap asks for it unless a rule is explained");
    let route = arguments.through.map_or_else(|| usual_route(file), Route::from);
    let target = Target { chip: arguments.chip.0, os: arguments.os.into(), route };
    let is_model = !is_program(file);
    let found = if is_model {
        in_model(file, &arguments.of_model, &target)?
    } else {
        vec![(file.clone(), located(file, &target)?)]
    };
    match arguments.format {
        LintFormat::Text => {
            for (name, located) in &found {
                print_text(name, &target, located, printer)?;
            }
        }
        LintFormat::Json => {
            for (name, located) in &found {
                printer.data_line(json!({
                    "file": name.display().to_string(),
                    "chip": target.chip.id(),
                    "os": target.os.to_string(),
                    "through": through(route),
                    "findings": located.iter().map(as_json).collect::<Vec<_>>(),
                }))?;
            }
        }
        LintFormat::Sarif => printer.data_line(sarif(&found))?,
    }
    if let Some(output) = &arguments.fix {
        if is_model {
            return Err(Failure::usage("--fix rewrites programs in files, not models")
                .hint("`orion compile` writes a model's programs"));
        }
        write_fixed(file, output, &target, printer)?;
    }
    let failed = found.iter().flat_map(|(_, l)| l).any(|l| l.finding.is_failure());
    Ok(if failed { Exit::No } else { Exit::Success })
}

/// What is found in each program of a model, under the model's name and the program's.
fn in_model(model: &Path, of: &OfModel, target: &Target) -> Result<Vec<(PathBuf, Vec<Located>)>> {
    let model_programs = model_programs(model, of)?;
    // Zeros in place of weights would be taken for weights.
    let weights = model_programs.has_values.then_some(&model_programs.weights);
    let found = model_programs.programs.iter().map(|p| {
        let findings = check(&p.program, weights, target).into_iter();
        let located = findings.map(|finding| Located { finding, line: None, column: None });
        (PathBuf::from(format!("{}: {}", model.display(), p.name)), located.collect())
    });
    Ok(found.collect())
}

/// Models in Core ML's own formats get there through Core ML; texts and our bundles are programs
/// that somebody hands to the compiler.
fn usual_route(file: &Path) -> Route {
    match file.extension().and_then(|e| e.to_str()) {
        Some("mlpackage" | "mlmodel" | "mlmodelc") => Route::CoreMl,
        _ => Route::Direct,
    }
}

fn through(route: Route) -> &'static str {
    match route {
        Route::Direct => "direct",
        Route::CoreMl => "core-ml",
    }
}

fn located(file: &Path, target: &Target) -> Result<Vec<Located>> {
    let (program, weights) = match read_program(file)? {
        Ok(program) => {
            let weights = weights_of(file)?;
            (program, weights)
        }
        Err(malformed) => return Ok(vec![not_valid(malformed)]),
    };
    let lines = source_lines(file, &program);
    let at = |finding: Finding| {
        let key = finding.value.as_ref().map(|v| (finding.function.clone(), v.clone()));
        let line = key.and_then(|key| lines.get(&key).copied());
        Located { finding, line, column: None }
    };
    Ok(check(&program, weights.as_ref(), target).into_iter().map(at).collect())
}

/// The weights of a model, or those beside a text. Nothing where there are none; a package whose
/// weights are missing or damaged has no weights in it, which is a finding.
fn weights_of(file: &Path) -> Result<Option<Weights>> {
    match package::load(file) {
        Ok(bundle) => Ok(Some(bundle.weights)),
        Err(_) if !file.is_dir() => Ok(None),
        Err(e) if matches!(e.kind(), BundleErrorKind::Weights | BundleErrorKind::UnsafePath) => {
            Ok(Some(Weights::new()))
        }
        Err(e) => Err(e.into()),
    }
}

fn not_valid(malformed: Malformed) -> Located {
    let (message, line, column) = match malformed {
        Malformed::Text(e) => (e.to_string(), Some(e.line()), Some(e.column())),
        Malformed::Model(e) => (e.to_string(), None, None),
    };
    let rule = invalid();
    let finding = Finding {
        rule,
        severity: rule.severity,
        function: String::new(),
        place: String::new(),
        value: None,
        message,
    };
    Located { finding, line, column }
}

/// Where a text defines each value, by function and name. Empty for protobufs.
fn source_lines(file: &Path, program: &Program) -> BTreeMap<(String, String), usize> {
    let inside = if file.is_dir() { file.join("model.mil") } else { file.to_owned() };
    match std::fs::read_to_string(inside) {
        Ok(source) => text::definition_lines(&source, program),
        Err(_) => BTreeMap::new(),
    }
}

fn print_text(file: &Path, target: &Target, located: &[Located], printer: &Printer) -> Result<()> {
    // Under one rule all places, so that a reason is read once.
    let mut by_rule: Vec<(&Rule, Vec<&Located>)> = Vec::new();
    for one in located {
        match by_rule.iter_mut().find(|(rule, _)| *rule == one.finding.rule) {
            Some((_, places)) => places.push(one),
            None => by_rule.push((one.finding.rule, vec![one])),
        }
    }
    const SHOWN: usize = 5;
    for (rule, places) in &by_rule {
        let severity = places[0].finding.severity;
        let level = if places[0].finding.is_failure() { "error" } else { "warning" };
        let mut may = String::new();
        if rule.depends_on_values {
            may += ", depending on the values";
        }
        if rule.confidence == orion_device::Confidence::Disputed {
            may += ", disputed";
        }
        let mut block =
            format!("{level}[{}]: {}\n  = {}{may}\n", rule.code, rule.title, meaning(severity));
        for one in places.iter().take(SHOWN) {
            writeln!(block, "  --> {}", place(file, one)).expect("writing to a string");
        }
        if places.len() > SHOWN {
            writeln!(block, "  ... and {} more; --format json lists all", places.len() - SHOWN)
                .expect("writing to a string");
        }
        write!(block, "  why: {}\n  fix: {}\n", rule.what, rule.fix).expect("writing to a string");
        printer.data_line(block)?;
    }
    let errors = located.iter().filter(|l| l.finding.is_failure()).count();
    let way = match target.route {
        Route::Direct => "its compiler getting the whole program (--through direct)",
        Route::CoreMl => "Core ML (--through core-ml)",
    };
    printer.say(format_args!(
        "{}: {errors} errors and {} warnings for the Neural Engine of the {}, {}, through {way}",
        file.display(),
        located.len() - errors,
        target.chip,
        target.os,
    ));
    if !by_rule.is_empty() {
        let code = by_rule[0].0.code;
        printer.say(format_args!("`orion lint --explain {code}` says where a rule comes from"));
    }
    Ok(())
}

fn meaning(severity: Severity) -> &'static str {
    match severity {
        Severity::Refused => "refused: the program will not compile",
        Severity::EvalFailure => "eval-failure: it compiles and fails when it runs",
        Severity::SilentWrongData => "silent-wrong-data: it runs and computes something else",
        Severity::FallsBack => "falls-back: it runs on CPU or GPU, not on the Neural Engine",
        Severity::Slow => "slow: it works and takes longer than it has to",
    }
}

fn place(file: &Path, one: &Located) -> String {
    let mut place = file.display().to_string();
    for number in [one.line, one.column].into_iter().flatten() {
        write!(place, ":{number}").expect("writing to a string");
    }
    let Finding { function, place: operation, message, .. } = &one.finding;
    match (function.as_str(), operation.as_str()) {
        ("", "") => format!("{place}: {message}"),
        ("", operation) => format!("{place}: {operation}: {message}"),
        (function, "") => format!("{place}: in {function}: {message}"),
        (function, operation) => format!("{place}: in {function}, {operation}: {message}"),
    }
}

fn as_json(one: &Located) -> Value {
    let Finding { rule, severity, function, place, value, message } = &one.finding;
    json!({
        "code": rule.code,
        "title": rule.title,
        "severity": severity.name(),
        "error": one.finding.is_failure(),
        "confidence": rule.confidence.name(),
        "depends_on_values": rule.depends_on_values,
        "function": function,
        "operation": place,
        "value": value,
        "line": one.line,
        "message": message,
        "why": rule.what,
        "fix": rule.fix,
        "evidence": rule.evidence,
    })
}

/// The Static Analysis Results Interchange Format 2.1.0 (OASIS).
fn sarif(found: &[(PathBuf, Vec<Located>)]) -> Value {
    let located = || found.iter().flat_map(|(file, all)| all.iter().map(move |one| (file, one)));
    let mut rules: Vec<&Rule> = located().map(|(_, l)| l.finding.rule).collect();
    rules.sort_by_key(|rule| rule.code);
    rules.dedup();
    let described: Vec<Value> = rules
        .iter()
        .map(|rule| {
            json!({
                "id": rule.code,
                "shortDescription": { "text": rule.title },
                "fullDescription": { "text": rule.what },
                "help": { "text": format!("{}\n\n{}", rule.fix, rule.evidence) },
            })
        })
        .collect();
    let results: Vec<Value> = located()
        .map(|(file, one)| {
            let Finding { rule, severity, function, place, message, .. } = &one.finding;
            let level = match (one.finding.is_failure(), severity) {
                (true, _) => "error",
                (false, Severity::Slow) => "note",
                (false, _) => "warning",
            };
            let mut physical = json!({ "artifactLocation": { "uri": file.display().to_string() } });
            if let Some(line) = one.line {
                physical["region"] = json!({ "startLine": line });
            }
            json!({
                "ruleId": rule.code,
                "level": level,
                "message": { "text": format!("{place}: {message}") },
                "locations": [{
                    "physicalLocation": physical,
                    "logicalLocations": [{ "fullyQualifiedName": format!("{function}/{place}") }],
                }],
                "properties": { "severity": severity.name(), "confidence": rule.confidence.name() },
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "orion lint",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": described,
            } },
            "results": results,
        }],
    })
}

fn write_fixed(file: &Path, output: &Path, target: &Target, printer: &Printer) -> Result<()> {
    let program = source::require_program(file)?;
    let bundle = Bundle { program, weights: weights_of(file)?.unwrap_or_default() };
    let fixed = fix(&bundle.program, target);
    for (rule, count) in &fixed.rewritten {
        printer.say(format_args!("{}: rewrote {count} places: {}", rule.code, rule.title));
    }
    if fixed.rewritten.is_empty() {
        printer.say("nothing that was found has a fix which is safe");
    }
    let bundle = Bundle { program: fixed.program, ..bundle };
    convert::write(&bundle, output, printer)?;
    Ok(())
}
