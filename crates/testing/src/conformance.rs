//! Every case on a device, compared with `cpu:reference`.

use crate::cases::all_cases;
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
    static CASES: OnceLock<Vec<crate::Case>> = OnceLock::new();
    let cases = CASES.get_or_init(all_cases);
    let mut trials = Vec::new();
    for case in cases {
        let device = device.clone();
        let reason = ignored.iter().find(|i| i.case == case.name).map(|i| i.reason);
        let test = move || match (case.check(&*device), reason) {
            (Ok(()), None) | (Err(_), Some(_)) => Ok(()),
            (Err(difference), None) => Err(Failed::from(difference)),
            (Ok(()), Some(reason)) => Err(Failed::from(format!(
                "this case passes now; take it off the ignore list, where it stands because: \
                 {reason}"
            ))),
        };
        trials.push(Trial::test(format!("{label}: {}", case.name), test));
    }
    for Ignored { case, .. } in ignored {
        if cases.iter().all(|c| c.name != *case) {
            let test = move || Err(Failed::from("the ignore list names a case that is not there"));
            trials.push(Trial::test(format!("{label}: {case}"), test));
        }
    }
    trials
}

/// Runs tests as a test binary's `main`, with the usual command line.
pub fn run_trials(trials: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
