//! What a person sees of a training run.

use crate::failure::Result;
use crate::interrupt::Interrupt;
use crate::printer::{Printer, Progress};
use orion_engine::{Event, Outcome, StepReport, Trainer};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// How much of the average a new step is, in what the progress bar shows.
const NEWEST_SHARE: f64 = 0.1;

/// The share of products in backward passes that may be too small for the accelerator's sums before
/// a person is told. Measured with the M4's numerics on 9 layers of 512: gradients are 18 % off
/// where half of the products are, 3 % with four times the scale, and 1 %, which is fp16's own part,
/// where 14 % are.
const DROPPED: f64 = 0.4;

/// The largest scale of the loss that is proposed: a dynamic one goes no higher.
const LARGEST_SCALE: f64 = 65536.0;

/// Lines about steps that a whole run prints where there is no progress bar.
const LINES: u64 = 20;

/// Trains to the end, showing how it goes, and stops in order when somebody asks.
pub(crate) fn train_visibly(
    trainer: &mut Trainer,
    interrupt: &Interrupt,
    printer: &Printer,
) -> Result<Outcome> {
    let steps = trainer.config().train.steps;
    let bar = printer.progress(steps, "{bar:24} {pos}/{len} steps  {msg}  {eta} left");
    bar.set(trainer.step(), "compiling".to_owned());
    let mut view = View {
        steps,
        printer,
        bar,
        loss: Average(None),
        speed: Average(None),
        told: false,
        told_of_large: false,
    };
    let outcome = trainer.run(&mut |event| {
        view.show(event);
        if interrupt.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(view);
    Ok(outcome?)
}

struct View<'a> {
    steps: u64,
    printer: &'a Printer,
    bar: Progress,
    loss: Average,
    speed: Average,
    /// Whether it was said that gradients are too small.
    told: bool,
    /// Whether it was said that activations are too large.
    told_of_large: bool,
}

impl View<'_> {
    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Step(report) => self.step(report),
            Event::Evaluation { step, loss } => {
                self.say(&format!("step {step}: held-out loss {loss:.4}"));
            }
            Event::Sample { step, text } => self.say(&format!("step {step}: {text}")),
            Event::Checkpoint { step, path } => {
                let line = format!("step {step}: checkpoint {}", path.display());
                self.bar.above(|| self.printer.detail(line));
            }
        }
    }

    fn step(&mut self, report: &StepReport) {
        let loss = self.loss.add(report.loss);
        // The first step contains compilation.
        let speed = match report.step {
            0 => report.tokens_per_s,
            _ => self.speed.add(report.tokens_per_s),
        };
        let done = report.step + 1;
        self.bar.set(done, format!("loss {loss:.3}  {speed:.0} tokens/s"));
        if report.skipped {
            let place = report.not_finite.as_ref();
            let place = place.map(|p| format!(", first in {p}")).unwrap_or_default();
            let line = format!("step {done} was left out: its gradients were not finite{place}");
            self.bar.above(|| self.printer.warn(line));
        }
        let is_news = !self.told && report.loss_scale < LARGEST_SCALE;
        if let Some(share) = report.dropped.filter(|&share| share > DROPPED && is_news) {
            self.told = true;
            let scale = (16.0 * report.loss_scale).min(LARGEST_SCALE);
            let line = format!(
                "gradients are too small for the accelerator: in the backward pass of step {done} it \
                 counted {:.0} % of products as zero; begin with a larger scale, which comes down \
                 where it is too large: --set train.loss_scale={scale} --set \
                 train.dynamic_loss_scale=true",
                100.0 * share,
            );
            self.bar.above(|| self.printer.warn(line));
        }
        if let Some(large) = report.large.as_ref().filter(|_| !self.told_of_large) {
            self.told_of_large = true;
            let line = format!(
                "activations are too large for the accelerator in step {done}: {large}. What comes \
                 behind may be wrong without another sign: lower optimizer.lr and begin again from \
                 a checkpoint before this, or train with -d cpu, in fp32"
            );
            self.bar.above(|| self.printer.warn(line));
        }
        if self.bar.is_hidden() && (done.is_multiple_of(self.interval()) || done == self.steps) {
            self.printer.say(format_args!(
                "step {done}/{}: loss {:.4}, gradient norm {:.3}, lr {:.2e}, {:.0} tokens/s",
                self.steps, report.loss, report.grad_norm, report.lr, report.tokens_per_s
            ));
        }
    }

    fn interval(&self) -> u64 {
        self.steps.div_ceil(LINES).max(1)
    }

    fn say(&self, line: &str) {
        self.bar.above(|| self.printer.say(line));
    }
}

/// An average in which older values fade.
struct Average(Option<f64>);

impl Average {
    fn add(&mut self, value: f64) -> f64 {
        let next = match self.0 {
            Some(before) if before.is_finite() => before + NEWEST_SHARE * (value - before),
            _ => value,
        };
        self.0 = Some(next);
        next
    }
}

/// The first of `runs/{name}-1`, `runs/{name}-2`, … that does not exist.
pub(crate) fn free_run_directory(name: &str) -> PathBuf {
    let mut candidates = (1..).map(|n| Path::new("runs").join(format!("{name}-{n}")));
    candidates.find(|path| !path.exists()).expect("there are enough numbers")
}

/// A count with its thousands set apart.
pub(crate) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
