//! How many programs the system loads at the same time.

use crate::laboratory::{Laboratory, program};
use crate::prepare::{Naming, Prepared};
use crate::{CallError, Descriptor, Error, ErrorKind, Framework};
use orion_mil::Weights;
use orion_mil::op::Unary;
use std::time::Instant;

/// What was counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Programs through the connection that all models share.
    pub(crate) of_connection: usize,
    /// Programs of the process, through that and another.
    pub(crate) of_process: usize,
    /// Seconds of a load in the middle of all.
    pub(crate) load_seconds: f64,
}

/// Loads one compiled program again and again, up to `most` times, and unloads everything.
///
/// # Errors
/// When nothing is loaded at all, or something cannot be unloaded.
pub(crate) fn count<F: Framework>(
    laboratory: &Laboratory<F>,
    most: usize,
) -> Result<Limits, Error> {
    let framework = &laboratory.programs.framework;
    let relu = program(&[1, 1, 1, 32], |b, x| b.unary(Unary::Relu, x));
    let prepared = Prepared::new(&relu, false, Naming::Canonical, "doctor")?;
    let descriptor = prepared.descriptor(&Weights::new())?;
    let failed = |e| Error::of_call(ErrorKind::Load, "programs cannot be counted", e);
    // The directory of all, which are one program.
    let first = laboratory.model(&descriptor)?;
    framework.compile(&first.model).map_err(failed)?;

    let mut tally = Tally { framework, descriptor, models: Vec::new(), seconds: Vec::new() };
    let loaded = tally.fill(None, most);
    let of_connection = tally.models.len();
    if loaded.is_err() && of_connection > 0 {
        // Another that takes nothing tells that the process is full, or that it is of no use.
        if let Ok(client) = framework.client() {
            let _ = tally.fill(Some(&client), most);
        }
    }
    let of_process = tally.models.len();
    let seconds = &mut tally.seconds;
    seconds.sort_by(f64::total_cmp);
    let load_seconds = seconds.get(seconds.len() / 2).copied().unwrap_or(0.0);
    tally.unload_all().map_err(failed)?;
    match loaded {
        Err(e) if of_connection == 0 => Err(failed(e)),
        _ => Ok(Limits { of_connection, of_process, load_seconds }),
    }
}

/// Models that are loaded.
struct Tally<'a, F: Framework> {
    framework: &'a F,
    descriptor: Descriptor,
    models: Vec<F::Model>,
    seconds: Vec<f64>,
}

impl<F: Framework> Tally<'_, F> {
    /// Loads until there are `most`. What fails is tried once more.
    fn fill(&mut self, client: Option<&F::Client>, most: usize) -> Result<(), CallError> {
        while self.models.len() < most {
            let model = self.framework.model(&self.descriptor)?;
            let start = Instant::now();
            self.framework.load(&model, client).or_else(|_| self.framework.load(&model, client))?;
            self.seconds.push(start.elapsed().as_secs_f64());
            self.models.push(model);
        }
        Ok(())
    }

    /// Unloads everything, whatever fails. What fails is tried once more.
    fn unload_all(&mut self) -> Result<(), CallError> {
        let mut outcome = Ok(());
        for model in self.models.drain(..) {
            let unload = || self.framework.unload(&model);
            outcome = outcome.and(unload().or_else(|_| unload()));
        }
        outcome
    }
}
