//! Checks a program against every rule that holds for a target. Does not change it.

use crate::scope::{Check, Scope, Site, Whole};
use crate::{Confidence, Rule, Severity, Target, rules};
use orion_mil::{Function, Operation, Program, Weights, verify};

/// A place where a program breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// What it means for the target.
    pub severity: Severity,
    /// The function; empty when the program as a whole is meant.
    pub function: String,
    /// The operation, such as `tan -> y`, or a value; empty when the whole is meant.
    pub place: String,
    /// The value that the place defines.
    pub value: Option<String>,
    /// What is wrong, with shapes and numbers.
    pub message: String,
}

impl Finding {
    /// Whether the program should not be used as it is: it is refused or computes something
    /// else, for certain and whatever values it gets.
    pub fn is_failure(&self) -> bool {
        let bad = matches!(
            self.severity,
            Severity::Refused | Severity::EvalFailure | Severity::SilentWrongData
        );
        bad && self.rule.confidence != Confidence::Disputed && !self.rule.depends_on_values
    }
}

/// Everything in a program that breaks a rule on a target: what fails first, then by place.
/// With the weights, more is seen.
pub fn lint(program: &Program, weights: Option<&Weights>, target: &Target) -> Vec<Finding> {
    let mut findings = Vec::new();
    let invalid = crate::rules::invalid();
    for problem in verify(program) {
        findings.push(Finding {
            rule: invalid,
            severity: invalid.severity,
            function: problem.function,
            place: problem.place,
            value: None,
            message: problem.message,
        });
    }
    if !findings.is_empty() {
        // The checks would speak of values that are not there.
        return findings;
    }
    for rule in rules().filter(|rule| rule.holds_for(target)) {
        if let Check::Program(check) = rule.check {
            findings.extend(check(&Whole { program, weights }).into_iter().map(|message| {
                Finding {
                    rule,
                    severity: rule.severity_for(target),
                    function: String::new(),
                    place: String::new(),
                    value: None,
                    message,
                }
            }));
        }
    }
    for function in &program.functions {
        let scope = Scope::new(function, weights, *target);
        findings.extend(in_function(&scope));
    }
    findings.sort_by_key(|f| !f.is_failure());
    findings
}

fn in_function(scope: &Scope<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let holding: Vec<&'static Rule> =
        rules().filter(|rule| rule.holds_for(&scope.target)).collect();
    for rule in &holding {
        if let Check::Function(check) = rule.check {
            for hit in check(scope) {
                let place = match scope.producer(hit.value) {
                    Some(site) => place(scope.function, site.operation),
                    None => scope.name(hit.value).to_owned(),
                };
                let value = Some(scope.name(hit.value).to_owned());
                findings.push(finding(rule, scope, place, value, hit.message));
            }
        }
    }
    for site in scope.sites() {
        let mut off = false;
        for rule in &holding {
            // One reason why an operation is not on the Neural Engine is enough.
            if rule.about_support && off {
                continue;
            }
            let Check::Operation(check) = rule.check else { continue };
            if let Some(message) = check(&site) {
                off |= rule.about_support;
                let place = place(scope.function, site.operation);
                let value = site.outputs().first().map(|&v| scope.name(v).to_owned());
                findings.push(finding(rule, scope, place, value, message));
            }
        }
    }
    findings
}

/// Why an operation does not run on the Neural Engine, if it does not.
pub(crate) fn unsupported(site: &Site<'_>) -> Option<(&'static Rule, String)> {
    rules().filter(|r| r.about_support && r.holds_for(site.target())).find_map(|rule| {
        let Check::Operation(check) = rule.check else { return None };
        Some((rule, check(site)?))
    })
}

fn finding(
    rule: &'static Rule,
    scope: &Scope<'_>,
    place: String,
    value: Option<String>,
    message: String,
) -> Finding {
    let severity = rule.severity_for(&scope.target);
    Finding { rule, severity, function: scope.function.name.clone(), place, value, message }
}

/// `conv -> y`
pub(crate) fn place(function: &Function, operation: &Operation) -> String {
    let outputs: Vec<&str> = operation.outputs.iter().map(|&v| function.value_name(v)).collect();
    match &*outputs {
        [] => operation.name.clone(),
        _ => format!("{} -> {}", operation.name, outputs.join(", ")),
    }
}
