//! Repetitions interleaved with measurements of the machine.

use crate::{Error, ErrorKind, Limits, Precision, Rates, Result, Summary, TestResult};
use crate::{UNSTEADY, Unit, Work, median};
use crate::{peak_rss_bytes, reset_peak_rss};
use orion_engine::ModelDevices;
use orion_runtime::Device;
use std::sync::Arc;

/// How often things are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Measured runs; at least one is made.
    pub repetitions: usize,
    /// Runs before, whose time does not count; at least one is made.
    pub warm_up: usize,
}

/// What is needed to measure anything.
pub struct Bench<'a> {
    /// What runs the programs. Reading prompts, generating and the first token are measured on two
    /// devices as well as on one, everything else on one; [`Bench::train`] gets its second device
    /// by itself, because weights get to it in another way.
    pub devices: ModelDevices,
    /// Threads the devices work with.
    pub threads: usize,
    /// What the device computes products in, and how models are kept.
    pub precision: Precision,
    /// How often things are run.
    pub settings: Settings,
    /// What the machine is measured with, for as many threads as the device has.
    pub limits: &'a mut dyn Limits,
}

/// Repeated runs of one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// Seconds of each run.
    pub seconds: Vec<f64>,
    /// The least seconds the work could take, by the limits right before and right after each.
    pub floors: Vec<(f64, f64)>,
    /// The most memory the process had until the warm-up was over: after that, memory for
    /// measuring the limits may be in it.
    pub peak_rss_bytes: Option<u64>,
}

impl Bench<'_> {
    /// The device, where what is measured is not divided.
    ///
    /// # Errors
    /// When there are two.
    pub(crate) fn one_device(&self) -> Result<Arc<dyn Device>> {
        if self.devices.accelerator.is_none() {
            return Ok(self.devices.device.clone());
        }
        let message = format!("{} are two devices; this is measured on one", self.devices.name());
        Err(Error::new(ErrorKind::Devices, message))
    }

    /// The floor of work, where it is the machine's: an accelerator has limits of its own.
    pub(crate) fn limited(&self, work: Work) -> Work {
        if self.devices.accelerator.is_some() { Work::default() } else { work }
    }

    /// Calls `build`, then what it gives again and again; each call returns the seconds that
    /// count. The limits that `work` depends on are measured before and after every repetition.
    ///
    /// # Errors
    /// Those of `build` and of the calls.
    pub fn measure<Run: FnMut() -> Result<f64>>(
        &mut self,
        work: Work,
        build: impl FnOnce() -> Result<Run>,
    ) -> Result<Measurement> {
        self.limits.release();
        reset_peak_rss();
        let mut run = build()?;
        for _ in 0..self.settings.warm_up.max(1) {
            run()?;
        }
        let peak_rss_bytes = peak_rss_bytes();
        let repetitions = self.settings.repetitions.max(1);
        let mut seconds = Vec::with_capacity(repetitions);
        let mut floors = Vec::with_capacity(repetitions);
        let mut before = self.floor(&work);
        for _ in 0..repetitions {
            seconds.push(run()?);
            let after = self.floor(&work);
            floors.push((before, after));
            before = after;
        }
        self.limits.release();
        Ok(Measurement { seconds, floors, peak_rss_bytes })
    }

    fn floor(&mut self, work: &Work) -> f64 {
        let rates: Rates = work.measure(&mut *self.limits);
        work.floor(&rates)
    }

    /// A result with everything that this bench knows; `value` turns seconds into the unit.
    pub(crate) fn result(
        &self,
        test: String,
        model: &str,
        unit: Unit,
        measurement: &Measurement,
        value: impl Fn(f64) -> f64,
    ) -> TestResult {
        let samples: Vec<f64> = measurement.seconds.iter().map(|&s| value(s)).collect();
        let summary = Summary::of(&samples);
        TestResult {
            test,
            model: model.to_owned(),
            precision: self.precision.name().to_owned(),
            device: self.devices.name(),
            split: self.devices.accelerator.as_ref().map(|(_, split)| split.name().to_owned()),
            threads: self.threads,
            batch: None,
            tokens: None,
            median: summary.median,
            best: if unit.less_is_better() { summary.least } else { summary.most },
            spread: summary.spread,
            unit,
            share_of_limit: measurement.share_of_limit(),
            unsteady_repetitions: measurement.unsteady(),
            peak_rss_bytes: measurement.peak_rss_bytes,
            parameters: None,
            size_bytes: None,
            repetitions: samples.len(),
            warm_up: self.settings.warm_up.max(1),
            samples,
            compared: None,
        }
    }
}

impl Measurement {
    /// The median of floor / time over the repetitions beside which the limits held still, or
    /// over all where they never did. `None` where the work has no floor.
    pub fn share_of_limit(&self) -> Option<f64> {
        let shares = |steady: bool| -> Vec<f64> {
            let pairs = self.seconds.iter().zip(&self.floors);
            let kept = pairs.filter(|(_, floors)| !steady || is_steady(floors));
            kept.map(|(seconds, (before, after))| (before + after) / 2.0 / seconds).collect()
        };
        if self.floors.iter().all(|(before, after)| before + after == 0.0) {
            return None;
        }
        let steady = shares(true);
        Some(median(if steady.is_empty() { shares(false) } else { steady }.as_slice()))
    }

    /// Repetitions beside which the limits moved by more than [`UNSTEADY`].
    pub fn unsteady(&self) -> usize {
        self.floors.iter().filter(|f| !is_steady(f)).count()
    }
}

fn is_steady((before, after): &(f64, f64)) -> bool {
    before.max(*after) <= UNSTEADY * before.min(*after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(runs: &[(f64, f64, f64)]) -> Measurement {
        Measurement {
            seconds: runs.iter().map(|r| r.0).collect(),
            floors: runs.iter().map(|r| (r.1, r.2)).collect(),
            peak_rss_bytes: None,
        }
    }

    #[test]
    fn shares_use_the_limits_beside_each_run() {
        // The machine was half as fast during the second run: the share is the same.
        let m = measurement(&[(4.0, 2.0, 2.0), (8.0, 4.0, 4.0), (4.0, 3.0, 3.0)]);
        assert_eq!((m.share_of_limit(), m.unsteady()), (Some(0.5), 0));
        let between = measurement(&[(4.0, 2.0, 2.5)]);
        assert_eq!(between.share_of_limit(), Some(2.25 / 4.0));
    }

    #[test]
    fn runs_beside_limits_that_moved_do_not_count() {
        let m = measurement(&[(4.0, 2.0, 2.0), (4.0, 2.0, 4.0), (4.0, 4.0, 2.0)]);
        assert_eq!((m.share_of_limit(), m.unsteady()), (Some(0.5), 2));
        let never = measurement(&[(4.0, 2.0, 4.0)]);
        assert_eq!((never.share_of_limit(), never.unsteady()), (Some(0.75), 1));
    }

    #[test]
    fn work_without_a_floor_has_no_share() {
        let m = measurement(&[(4.0, 0.0, 0.0)]);
        assert_eq!((m.share_of_limit(), m.unsteady()), (None, 0));
    }
}
