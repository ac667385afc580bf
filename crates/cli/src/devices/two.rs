//! Two devices that work together: `ane-model:m4+cpu`.

use super::{ANE_MODEL, Products, dense_device, device_named, lower_priority, neural_engine};
use crate::arguments::TrainDeviceChoice;
use crate::failure::{Failure, Result};
use orion_compile::partition::WeightForm;
use orion_device::{Chip, Os, Route, Severity, Target, lint};
use orion_engine::{Accelerator, Arithmetic, TrainConfig};
use orion_mil::{Program, Weights};
use orion_runtime::Device;
use orion_tensor::{DType, f16};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// What trains.
pub(crate) struct TrainDevices {
    /// Computes everything, or everything but the layers.
    pub(crate) host: Arc<dyn Device>,
    /// Computes the layers, where there is one.
    pub(crate) accelerator: Option<Accelerator>,
}

/// The parts of a name like `ane+cpu`.
pub(crate) fn names(device: &str) -> (Option<&str>, &str) {
    match device.split_once('+') {
        Some((accelerator, host)) => (Some(accelerator), host),
        None => (None, device),
    }
}

/// Whether the layers of a device are computed in fp16.
pub(crate) fn is_half(device: &str) -> bool {
    names(device).0.is_some_and(|name| !name.starts_with("cpu"))
}

/// What a device computes products in for a run.
fn products(config: &TrainConfig) -> Products {
    match config.train.precision {
        Arithmetic::F32 => Products::F32,
        Arithmetic::Bf16 => Products::Bf16,
    }
}

/// Refuses devices that cannot train a run alone.
fn check_alone(name: &str, config: &TrainConfig) -> Result<()> {
    let is_model = name.starts_with(ANE_MODEL);
    if is_model && name.ends_with(":core-ml") {
        let eps = config.optimizer.eps;
        if f16::from_f64(eps).to_f64() == 0.0 {
            let message = format!(
                "{name} computes AdamW in fp16, in which optimizer.eps of {eps:e} is zero: updates would be no numbers"
            );
            return Err(Failure::usage(message).hint(
                "-d ane-model:m4+cpu computes AdamW on the CPU in fp32; or give --eps 1e-3",
            ));
        }
    } else if is_model || neural_engine::is_meant(name) {
        let message = format!(
            "{name} does not train alone: a Neural Engine takes no look-up of tokens, no loss and no fp32 weights"
        );
        return Err(
            Failure::usage(message).hint(format!("have the CPU do that beside it: -d {name}+cpu"))
        );
    }
    Ok(())
}

/// The devices that were chosen. `is_traced` says whether somebody will look at when what ran.
///
/// # Errors
/// When one of them is not there; neither is ever replaced by another. When they cannot train.
pub(crate) fn devices(
    choice: &TrainDeviceChoice,
    config: &TrainConfig,
    is_traced: bool,
) -> Result<TrainDevices> {
    if choice.low_priority {
        lower_priority()?;
    }
    let products = products(config);
    let (first, host) = names(&choice.device);
    let Some(name) = first else {
        check_alone(host, config)?;
        let host = device_named(host, choice.threads, products)?;
        return Ok(TrainDevices { host, accelerator: None });
    };
    let name = neural_engine::for_training(name);
    let host = cpu_of(&name, host, choice.threads, products)?;
    let accelerator =
        accelerator(&name, choice.threads, products, Purpose::Training { measure: is_traced })?;
    Ok(TrainDevices { host, accelerator: Some(accelerator) })
}

/// The CPU beside an accelerator.
///
/// # Errors
/// When it is another device.
pub(super) fn cpu_of(
    accelerator: &str,
    host: &str,
    threads: Option<NonZeroUsize>,
    products: Products,
) -> Result<Arc<dyn Device>> {
    if !host.starts_with("cpu") {
        return Err(Failure::usage(format!("`{host}` cannot do what layers leave to the CPU"))
            .hint("write DEVICE+cpu, as in ane-model:m4+cpu or ane+cpu"));
    }
    device_named(host, threads_beside(accelerator, threads), products)
}

/// What layers are computed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Training; whether the hardware's time of runs is measured where the system can.
    Training { measure: bool },
    /// Generating and evaluating.
    Inference,
}

/// What computes layers beside a CPU.
///
/// # Errors
/// When there is no such device on this machine.
pub(super) fn accelerator(
    name: &str,
    threads: Option<NonZeroUsize>,
    products: Products,
    purpose: Purpose,
) -> Result<Accelerator> {
    let device = match purpose {
        Purpose::Training { measure } if neural_engine::is_meant(name) => {
            neural_engine::training_device(name, measure)?
        }
        _ => dense_device(name, threads_beside(name, threads), products)?,
    };
    if name.starts_with("cpu") {
        return Ok(Accelerator::plain(device));
    }
    let weights = if name.contains("baked") { WeightForm::Constants } else { WeightForm::Inputs };
    let chips = chips(name);
    let refused =
        Arc::new(move |program: &Program, weights: &Weights| refused(program, weights, &chips));
    Ok(Accelerator { device, numbers: DType::F16, weights, refused })
}

/// On a CPU in the accelerator's place each gets its share of the threads.
fn threads_beside(accelerator: &str, threads: Option<NonZeroUsize>) -> Option<NonZeroUsize> {
    if accelerator.starts_with("cpu") { Some(half_of(threads)) } else { threads }
}

fn half_of(threads: Option<NonZeroUsize>) -> NonZeroUsize {
    let all = threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        NonZeroUsize::get,
    );
    NonZeroUsize::new(all / 2).unwrap_or(NonZeroUsize::MIN)
}

/// The chip in a device's name, or all of them.
fn chips(name: &str) -> Vec<Chip> {
    let named = name.split(':').nth(1).and_then(|chip| chip.parse().ok());
    named.map_or_else(|| Chip::all().collect(), |chip| vec![chip])
}

/// Values that one of the chips does not compute, and what it does not take of the whole.
fn refused(program: &Program, weights: &Weights, chips: &[Chip]) -> BTreeSet<String> {
    let findings = chips.iter().flat_map(|&chip| {
        lint(program, Some(weights), &Target { chip, os: Os::V27, route: Route::Direct })
    });
    findings
        .filter(|f| f.severity == Severity::Refused && f.is_failure())
        .map(|f| f.value.unwrap_or_else(|| format!("{}: {}", f.rule.code, f.rule.title)))
        .collect()
}
