//! Every conformance case on every device of this crate.

use orion_cpu::reference::Reference;
use orion_runtime::Device;
use orion_testing::{conformance, run_trials};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let reference: Arc<dyn Device> = Arc::new(Reference);
    run_trials(conformance("reference", &reference, &[]))
}
