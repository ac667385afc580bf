//! Every conformance case, and random programs, on every device of this crate.

use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_runtime::Device;
use orion_testing::{Ignored, conformance, random_programs, run_trials};
use std::process::ExitCode;
use std::sync::Arc;

/// Cases that `cpu` is known to fail. The reference fails none: it is what they are compared with.
const IGNORED: &[Ignored] = &[];

fn main() -> ExitCode {
    let reference: Arc<dyn Device> = Arc::new(Reference);
    // Against itself, to catch crashes.
    let mut trials = conformance("cpu:reference", &reference, &[]);
    for threads in 1..=3 {
        let device: Arc<dyn Device> = Arc::new(Cpu::new(CpuOptions::with_threads(threads)));
        let label = format!("cpu -t {threads}");
        trials.extend(conformance(&label, &device, IGNORED));
        // Each thread count its own programs, and one batch they share.
        let first = 100 * threads as u64;
        trials.extend(random_programs(&label, &device, 0..50));
        trials.extend(random_programs(&label, &device, first..first + 100));
    }
    run_trials(trials)
}
