//! Runs that are stopped, and what they wrote.

use orion_cpu::{Cpu, CpuOptions};
use orion_engine::{Event, Outcome, Trainer};
use orion_runtime::Device;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Two threads, as the order of sums depends on their number.
pub(crate) fn cpu() -> Arc<dyn Device> {
    Arc::new(Cpu::new(CpuOptions::with_threads(2)))
}

/// Runs on until `stop_after` steps were made in all; 0 is to the end.
pub(crate) fn run_until(trainer: &mut Trainer, stop_after: u64) -> Outcome {
    trainer
        .run(&mut |event| match event {
            Event::Step(report) if report.step + 1 == stop_after => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .unwrap()
}

/// Step, loss and evaluation loss of every line of metrics.
pub(crate) fn losses(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            format!("{} {} {}", object["step"], object["loss"], object["eval_loss"])
        })
        .collect()
}
