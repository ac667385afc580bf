//! Every case on a device, compared with `cpu:reference`.

use crate::{Case, all_cases};
use libtest_mimic::{Arguments, Failed, Trial};
use orion_runtime::Device;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

/// A case that a device is known to fail, and why.
#[derive(Debug, Clone, Copy)]
pub struct Ignored {
    /// The case's name.
    pub case: &'static str,
    /// Why it fails, for a person.
    pub reason: &'static str,
}

/// One test for each case on one device. An ignored case is run as well, and fails when it passes
/// or does not exist: then it has no place in the list.
///
/// `label` tells devices apart that have the same name, such as `cpu with 2 threads`.
pub fn conformance(label: &str, device: &Arc<dyn Device>, ignored: &[Ignored]) -> Vec<Trial> {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    let cases = CASES.get_or_init(all_cases);
    let mut trials = Vec::new();
    for case in cases {
        let device = device.clone();
        let reason = ignored.iter().find(|i| i.case == case.name).map(|i| i.reason);
        let test = move || verdict(case.check(&*device), reason).map_err(Failed::from);
        trials.push(Trial::test(format!("{label}: {}", case.name), test));
    }
    for case in without_case(ignored, cases) {
        let test = move || Err(Failed::from("the ignore list names a case that is not there"));
        trials.push(Trial::test(format!("{label}: {case}"), test));
    }
    trials
}

/// The names on the ignore list that no case has.
fn without_case(ignored: &[Ignored], cases: &[Case]) -> Vec<&'static str> {
    let names = ignored.iter().map(|i| i.case);
    names.filter(|name| cases.iter().all(|c| c.name != *name)).collect()
}

/// Whether a case that came out like this is as it should be.
fn verdict(outcome: Result<(), String>, ignored_because: Option<&str>) -> Result<(), String> {
    match (outcome, ignored_because) {
        (Ok(()), None) | (Err(_), Some(_)) => Ok(()),
        (Err(difference), None) => Err(difference),
        (Ok(()), Some(reason)) => Err(format!(
            "this case passes now; take it off the ignore list, where it stands because: {reason}"
        )),
    }
}

/// Runs tests as a test binary's `main`, with the usual command line.
pub fn run_trials(trials: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_case_must_fail() {
        let different = || Err("different".to_owned());
        assert!(verdict(Ok(()), None).is_ok());
        assert!(verdict(different(), None).is_err());
        assert!(verdict(different(), Some("a reason")).is_ok());
        assert!(verdict(Ok(()), Some("a reason")).unwrap_err().contains("a reason"));
    }

    #[test]
    fn an_ignored_case_must_exist() {
        let cases = all_cases();
        let named = |case| Ignored { case, reason: "a reason" };
        let ignored = [named("matmul/large"), named("no such case")];
        assert_eq!(without_case(&ignored, &cases), ["no such case"]);
    }
}
