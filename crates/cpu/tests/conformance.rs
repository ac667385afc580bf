//! Every conformance case on every device of this crate.

use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_runtime::Device;
use orion_testing::{conformance, run_trials};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let reference: Arc<dyn Device> = Arc::new(Reference);
    let one: Arc<dyn Device> = Arc::new(Cpu::new(CpuOptions::with_threads(1)));
    let three: Arc<dyn Device> = Arc::new(Cpu::new(CpuOptions::with_threads(3)));
    let mut trials = conformance("reference", &reference, &[]);
    trials.extend(conformance("cpu with 1 thread", &one, &[]));
    trials.extend(conformance("cpu with 3 threads", &three, &[]));
    run_trials(trials)
}
