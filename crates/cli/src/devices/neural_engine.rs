//! The Neural Engine, and what stands in for it where there is none.

use crate::failure::{Failure, Result};
use crate::printer::{Printer, Verbosity};
#[cfg(target_os = "macos")]
use orion_ane::System;
use orion_ane::{
    Ane, CacheOptions, Error, Observation, Options, Outcome, Report, Waiting, WeightMode,
};
use orion_emulator::{Behaviour, StandIn};
use orion_runtime::Device;
use std::sync::{Arc, Once};

/// What devices over the framework's calls are called: `ane`, and the stand-in, which is no
/// hardware and says so in its name.
const STAND_IN: &str = "ane-stand-in:";

/// Whether a device's name means the Neural Engine or its stand-in.
pub(crate) fn is_meant(name: &str) -> bool {
    name == "ane" || name.starts_with("ane:") || name.starts_with(STAND_IN)
}

/// The name of a device that trains: weights are inputs unless another way is asked for.
pub(crate) fn for_training(name: &str) -> String {
    let has_mode = match name.strip_prefix(STAND_IN) {
        Some(rest) => rest.contains(':'),
        None => name != "ane",
    };
    if is_meant(name) && !has_mode { format!("{name}:inputs") } else { name.to_owned() }
}

/// What answers the framework's calls.
enum Framework {
    #[cfg(target_os = "macos")]
    System,
    StandIn(StandIn),
}

/// A device's name taken apart.
struct Choice {
    framework: Framework,
    options: Options,
}

impl Choice {
    /// `ane`, `ane:MODE`, `ane-stand-in:CHIP`, `ane-stand-in:CHIP:MODE`, or with the number of
    /// compilations that a process may do: `ane-stand-in:CHIP:MODE:N`.
    fn named(name: &str) -> Result<Self> {
        let usage = |message: String| {
            Failure::usage(format!("{name}: {message}"))
                .hint("write ane or ane:MODE; modes are inputs, baked-reload and baked-recompile")
        };
        let mode = |text: Option<&str>| match text {
            None => Ok(WeightMode::BakedRecompile),
            Some(text) => text.parse().map_err(usage),
        };
        if let Some(rest) = name.strip_prefix(STAND_IN) {
            let (chip, text) = match rest.split_once(':') {
                Some((chip, text)) => (chip, Some(text)),
                None => (rest, None),
            };
            let (text, budget) = match text.and_then(|text| text.split_once(':')) {
                Some((text, budget)) => (Some(text), Some(budget)),
                None => (text, None),
            };
            let mut options = options(mode(text)?);
            if let Some(budget) = budget {
                let budget = budget.parse().map_err(|e| usage(format!("`{budget}`: {e}")))?;
                options.compile_budget = Some(budget);
            }
            let chip = chip.parse().map_err(usage)?;
            options.cache = named_cache();
            let directory = std::env::temp_dir().join("orion-ane-stand-in");
            let framework = StandIn::new(chip, &directory, Behaviour::default());
            return Ok(Self { framework: Framework::StandIn(framework), options });
        }
        let weights = mode(name.strip_prefix("ane:"))?;
        let cache = named_cache().or_else(usual_cache);
        let options = Options { cache, ..options(weights) };
        Ok(Self { framework: system(name)?, options })
    }
}

fn options(weights: WeightMode) -> Options {
    Options { on_waiting: tell_of_waiting, ..Options::new(weights) }
}

/// Says once that this process does nothing because another one is at work, which may take as long
/// as it takes to compile.
fn tell_of_waiting(waiting: &Waiting) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        let other = match waiting.process {
            Some(number) => format!("process {number}"),
            None => "another process".to_owned(),
        };
        // Warnings do not depend on how much else is said.
        Printer::new(Verbosity::Quiet).warn(format_args!(
            "waiting for {other}, which compiles or loads the same program ({}): only one can at \
             a time. If it hangs, end it",
            waiting.directory.display()
        ));
    });
}

/// The variable that names where compiled programs are kept; nowhere if it is empty.
const CACHE: &str = "ORION_ANE_CACHE";

/// Where compiled programs are kept if that was said.
fn named_cache() -> Option<CacheOptions> {
    std::env::var_os(CACHE).filter(|path| !path.is_empty()).map(CacheOptions::new)
}

/// Where programs of a Mac keep what can be made again.
fn usual_cache() -> Option<CacheOptions> {
    if std::env::var_os(CACHE).is_some() {
        return None;
    }
    let home = std::env::home_dir().filter(|home| home.is_absolute())?;
    Some(CacheOptions::new(home.join("Library/Caches/orion/ane")))
}

#[cfg(target_os = "macos")]
fn system(_: &str) -> Result<Framework> {
    Ok(Framework::System)
}

#[cfg(not(target_os = "macos"))]
fn system(name: &str) -> Result<Framework> {
    Err(Failure::usage(format!("the device `{name}` needs macOS on Apple silicon")).hint(
        "`cpu` runs the same programs here; `ane-model:m4` runs them under the Neural Engine's rules and numerics",
    ))
}

/// The device of that name.
///
/// # Errors
/// When there is none on this machine, or it does not do what it must.
pub(crate) fn device(name: &str) -> Result<Arc<dyn Device>> {
    open(name, Choice::named(name)?)
}

/// The same to train on, which measures the hardware's time of runs where that is wanted and the
/// system can. Programs with weights in them are of no use to another process then.
///
/// # Errors
/// Those of [`device`].
pub(crate) fn training_device(name: &str, measure: bool) -> Result<Arc<dyn Device>> {
    let mut choice = Choice::named(name)?;
    choice.options.measure = measure;
    if choice.options.weights != WeightMode::Inputs {
        choice.options.cache = None;
    }
    open(name, choice)
}

fn open(name: &str, choice: Choice) -> Result<Arc<dyn Device>> {
    let options = choice.options;
    let opened: std::result::Result<Arc<dyn Device>, Error> = match choice.framework {
        #[cfg(target_os = "macos")]
        Framework::System => System::open()
            .map_err(Error::from)
            .and_then(|system| Ok(Arc::new(Ane::open(system, name, options)?) as _)),
        Framework::StandIn(stand_in) => {
            Ane::open(stand_in, name, options).map(|device| Arc::new(device) as _)
        }
    };
    Ok(opened?)
}

/// What is found out about a system.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Examination {
    /// Whether everything works that the device needs.
    Doctor,
    /// What nobody has published.
    Probe,
}

/// Examines what a device's name means.
///
/// # Errors
/// When it is no name of the Neural Engine, or means none on this machine.
pub(crate) fn examine(name: &str, examination: Examination) -> Result<Report> {
    if !is_meant(name) {
        return Err(Failure::usage(format!("`{name}` is not the Neural Engine"))
            .hint("leave --device out on a Mac"));
    }
    let choice = Choice::named(name)?;
    let options = choice.options;
    Ok(match choice.framework {
        #[cfg(target_os = "macos")]
        Framework::System => match System::open() {
            Ok(system) => with(system, options, examination),
            Err(error) => absent(&error.to_string()),
        },
        Framework::StandIn(stand_in) => with(stand_in, options, examination),
    })
}

fn with<F: orion_ane::Framework>(framework: F, options: Options, what: Examination) -> Report {
    match what {
        Examination::Doctor => orion_ane::doctor(framework, options),
        Examination::Probe => orion_ane::probe(framework, options),
    }
}

/// Has what a device's name means run a product, for as long as it is asked for: how often, and in
/// how many seconds.
///
/// # Errors
/// When there is none on this machine, or it does not work.
pub(crate) fn keep_busy(name: &str, goes_on: &mut dyn FnMut() -> bool) -> Result<(usize, f64)> {
    let choice = Choice::named(name)?;
    let options = choice.options;
    let ran: std::result::Result<_, Error> = match choice.framework {
        #[cfg(target_os = "macos")]
        Framework::System => System::open()
            .map_err(Error::from)
            .and_then(|system| orion_ane::keep_busy(system, options, goes_on)),
        Framework::StandIn(stand_in) => orion_ane::keep_busy(stand_in, options, goes_on),
    };
    Ok(ran?)
}

/// The report of a system whose framework is not there, or another one.
#[cfg(target_os = "macos")]
fn absent(error: &str) -> Report {
    Report {
        host: orion_ane::Host {
            description: "no framework that this was written for".to_owned(),
            chip: None,
            os: None,
            facts: Vec::new(),
        },
        observations: vec![Observation {
            name: "framework".to_owned(),
            question: "is the framework there, with the classes and methods of the table?"
                .to_owned(),
            outcome: Outcome::Refuted,
            answer: error.to_owned(),
            figures: Vec::new(),
            attributes: None,
        }],
    }
}

/// How an outcome is called in reports.
pub(crate) fn outcome_name(observation: &Observation) -> &'static str {
    match observation.outcome {
        Outcome::Proven => "ok",
        Outcome::Refuted => "failed",
        Outcome::NotTried => "not tried",
    }
}
