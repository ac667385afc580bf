//! The device.

use crate::directory::remove_abandoned;
use crate::executable::AneProgram;
use crate::memory::SharedMemory;
use crate::placement::is_shareable;
use crate::prepare::{Naming, Prepared};
use crate::programs::{Counts, Programs};
use crate::proof::{self, Proof};
use crate::{Error, Framework, Outcome, Scheme, Waiting};
use orion_device::{Finding, Os, Route, Severity, Target, lint};
use orion_mil::{Diagnostic, Program, Weights};
use orion_runtime as runtime;
use orion_runtime::{Device, Executable, Layout, Surface};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How a program gets its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightMode {
    /// As inputs: nothing is compiled when they change, and layers of one shape share a program.
    Inputs,
    /// As constants. Other weights are put in the place of the compiled ones, without the
    /// compiler.
    BakedReload,
    /// As constants. Other weights are compiled.
    BakedRecompile,
}

impl WeightMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inputs, Self::BakedReload, Self::BakedRecompile];
}

impl fmt::Display for WeightMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["inputs", "baked-reload", "baked-recompile"][*self as usize])
    }
}

impl FromStr for WeightMode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mode| mode.to_string() == name).ok_or_else(|| {
            format!("`{name}` is no weight mode; there are inputs, baked-reload, baked-recompile")
        })
    }
}

/// What is done when calls fail for no lasting reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts at one thing, the first included.
    pub attempts: usize,
    /// The wait before the second. It doubles each time.
    pub first_delay: Duration,
    /// The longest wait.
    pub longest_delay: Duration,
}

impl Retry {
    /// The wait after this many attempts.
    pub(crate) fn delay(&self, attempts: usize) -> Duration {
        let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        self.first_delay.saturating_mul(1 << doublings).min(self.longest_delay)
    }
}

impl Default for Retry {
    /// What a project that compiles many programs found to be enough.
    fn default() -> Self {
        Self {
            attempts: 5,
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(1),
        }
    }
}

/// Where compiled programs are kept for other processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// Where. It is made when something is kept, and nothing else belongs there.
    pub directory: PathBuf,
    /// How much. What was not used for the longest time goes first.
    pub max_bytes: u64,
}

impl CacheOptions {
    /// Up to 4 GiB in a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), max_bytes: 4 << 30 }
    }
}

/// How the device works.
#[derive(Clone)]
pub struct Options {
    /// How programs get their weights.
    pub weights: WeightMode,
    /// Programs loaded at the same time; the one that has not run for the longest time makes room
    /// for another.
    pub live_programs: usize,
    /// Connections to the system's service, with the one that all programs share. Another is
    /// opened when a load is refused, before a program is unloaded; 1 for none.
    pub clients: usize,
    /// Where compiled programs are kept for other processes; `None` for nowhere.
    pub cache: Option<CacheOptions>,
    /// Compilations that this process may do; `None` for any number. Processes that compiled
    /// about 119 programs were refused more.
    pub compile_budget: Option<usize>,
    /// Whether the hardware's time of runs is asked for, where the system gives it.
    pub measure: bool,
    /// What is done when calls fail for no lasting reason.
    pub retry: Retry,
    /// How it waits, [`std::thread::sleep`] but in tests.
    pub wait: fn(Duration),
    /// Gets told when another process that runs the same program has kept this one waiting for
    /// two seconds. The wait goes on, from another thread than the one that tells.
    pub on_waiting: fn(&Waiting),
}

impl Options {
    /// What suits these weights.
    pub fn new(weights: WeightMode) -> Self {
        Self {
            weights,
            // Processes were refused more than 110 to 120, one connection more than about 85.
            live_programs: 110,
            clients: 4,
            cache: None,
            compile_budget: Some(110),
            measure: false,
            retry: Retry::default(),
            wait: std::thread::sleep,
            on_waiting: |_| {},
        }
    }
}

/// The device `ane`, over a framework.
pub struct Ane<F: Framework> {
    name: String,
    programs: Arc<Programs<F>>,
    scheme: Scheme,
    /// Whether surfaces of callers are memory that the engine sees.
    shares: bool,
    proofs: Vec<Proof>,
}

impl<F: Framework> Ane<F> {
    /// Opens the device under a name, and has it prove how memory is bound, that weights change as
    /// its weight mode says, and that surfaces can be shared; where they cannot, everything is
    /// copied. It also finds out whether compiled programs can be kept on disk; where not, they are
    /// not.
    ///
    /// # Errors
    /// When a proof comes out wrong, with what was expected and what was found, and when nothing
    /// can be compiled at all.
    pub fn open(framework: F, name: &str, options: Options) -> Result<Self, Error> {
        remove_abandoned(framework.temporary_directory());
        let programs = Programs::new(framework, options);
        let (scheme, binding) = proof::binding(name, &programs)?;
        let (weights, sharing) = proof::weights(name, &programs, scheme, programs.options.weights)?;
        let shares = sharing.outcome == Outcome::Proven;
        let mut proofs = vec![binding, weights, sharing];
        if programs.options.measure {
            proofs.push(proof::statistics(name, &programs, scheme).0);
        }
        // Last, so that nothing else is proven with programs from there.
        proofs.push(proof::kept(name, &programs, scheme));
        Ok(Self { name: name.to_owned(), programs, scheme, shares, proofs })
    }

    /// How memory is bound.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What was proven.
    pub fn proofs(&self) -> &[Proof] {
        &self.proofs
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.programs.counts()
    }

    /// The framework.
    pub fn framework(&self) -> &F {
        &self.programs.framework
    }

    /// What programs are checked against; an unknown chip is taken for the best known one.
    fn target(&self) -> Target {
        let host = self.programs.framework.host();
        let m4 = "m4".parse().expect("a chip that exists");
        let (chip, os) = (host.chip.unwrap_or(m4), host.os.unwrap_or(Os::V26));
        Target { chip, os, route: Route::Direct }
    }

    fn compiled(&self, program: &Program, weights: &Weights) -> Result<AneProgram<F>, Error> {
        let mode = self.programs.options.weights;
        let as_inputs = mode == WeightMode::Inputs;
        let prepared = Prepared::new(program, as_inputs, Naming::Canonical, &self.name)?;
        let findings = lint(program, Some(weights), &self.target());
        let failures: Vec<&Finding> = findings.iter().filter(|f| f.is_failure()).collect();
        let silent: Vec<Diagnostic> = failures
            .iter()
            .filter(|f| f.severity == Severity::SilentWrongData)
            .map(|f| diagnostic(f))
            .collect();
        if !silent.is_empty() {
            let message = "the program would run and compute something else";
            return Err(Error::new(crate::ErrorKind::Program, message).with_findings(silent));
        }
        let known = failures.into_iter().map(diagnostic).collect();
        AneProgram::new(&self.name, &self.programs, prepared, weights, (mode, self.scheme), known)
    }
}

/// A finding as devices report it.
fn diagnostic(finding: &Finding) -> Diagnostic {
    Diagnostic {
        function: finding.function.clone(),
        place: finding.place.clone(),
        message: format!(
            "{} ({}: {}). {}",
            finding.message, finding.rule.code, finding.rule.title, finding.rule.fix
        ),
    }
}

impl<F: Framework> Device for Ane<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        let host = self.programs.framework.host();
        format!("{}; weights as {}", host.description, self.programs.options.weights)
    }

    /// # Errors
    /// What the compiler refuses, with our rules' findings beside its words; programs that our
    /// rules say would silently compute something else.
    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, runtime::Error> {
        match self.compiled(program, weights) {
            Ok(program) => Ok(Box::new(program)),
            Err(error) => Err(error.for_device(&self.name)),
        }
    }

    /// Memory of the engine where rows lie side by side there too: a last axis of a multiple of 64
    /// bytes.
    fn surface(&self, layout: &Layout) -> Result<Surface, runtime::Error> {
        let shares = self.shares
            && layout.is_dense()
            && is_shareable(layout.dtype, &layout.shape, self.scheme);
        if !shares {
            return Ok(Surface::zeros(layout.clone()));
        }
        let memory = SharedMemory::new(&self.programs, layout.size_bytes)
            .map_err(|e| e.for_device(&self.name))?;
        Ok(Surface::in_device_memory(layout.clone(), Box::new(memory)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_modes_read_back() {
        for mode in WeightMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("baked".parse::<WeightMode>().unwrap_err().contains("baked-reload"));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = Retry::default();
        let waits: Vec<u128> = (1..=6).map(|n| retry.delay(n).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(retry.delay(usize::MAX).as_millis(), 1000);
    }
}
