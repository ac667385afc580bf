//! Two devices that train together: `ane-model:m4+cpu`.

use super::{Products, dense_device, device_named, lower_priority, neural_engine};
use crate::arguments::TrainDeviceChoice;
use crate::failure::{Failure, Result};
use orion_compile::partition::WeightForm;
use orion_device::{Chip, Os, Route, Severity, Target, lint};
use orion_engine::Accelerator;
use orion_mil::{Program, Weights};
use orion_runtime::Device;
use orion_tensor::DType;
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

/// The devices that were chosen. `is_traced` says whether somebody will look at when what ran.
///
/// # Errors
/// When one of them is not there; neither is ever replaced by another.
pub(crate) fn devices(
    choice: &TrainDeviceChoice,
    products: Products,
    is_traced: bool,
) -> Result<TrainDevices> {
    if choice.low_priority {
        lower_priority()?;
    }
    let (accelerator, host) = names(&choice.device);
    let Some(name) = accelerator else {
        let host = device_named(host, choice.threads, products)?;
        return Ok(TrainDevices { host, accelerator: None });
    };
    if !host.starts_with("cpu") {
        return Err(Failure::usage(format!("`{host}` cannot do what layers leave to the CPU"))
            .hint("write DEVICE+cpu, as in ane-model:m4+cpu or ane+cpu"));
    }
    // On a CPU in the accelerator's place each gets its share of the threads.
    let threads =
        if name.starts_with("cpu") { Some(half_of(choice.threads)) } else { choice.threads };
    let host = device_named(host, threads, products)?;
    let name = neural_engine::for_training(name);
    let device = match neural_engine::is_meant(&name) {
        true => neural_engine::training_device(&name, is_traced)?,
        false => dense_device(&name, threads, products)?,
    };
    let weights = if name.contains("baked") { WeightForm::Constants } else { WeightForm::Inputs };
    let accelerator = if is_half(&choice.device) {
        let chips = chips(&name);
        let refused =
            Arc::new(move |program: &Program, weights: &Weights| refused(program, weights, &chips));
        Accelerator { device, numbers: DType::F16, weights, refused }
    } else {
        Accelerator::plain(device)
    };
    Ok(TrainDevices { host, accelerator: Some(accelerator) })
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

/// Values that one of the chips does not compute.
fn refused(program: &Program, weights: &Weights, chips: &[Chip]) -> BTreeSet<String> {
    let findings = chips.iter().flat_map(|&chip| {
        lint(program, Some(weights), &Target { chip, os: Os::V27, route: Route::Direct })
    });
    findings
        .filter(|f| f.severity == Severity::Refused && f.is_failure())
        .filter_map(|f| f.value)
        .collect()
}
