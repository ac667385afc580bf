//! Where a model runs: one device, or two.

use super::two::{Purpose, accelerator, cpu_of, names};
use super::{Products, dense_device, lower_priority, neural_engine};
use crate::arguments::{ModelDeviceChoice, SplitChoice};
use crate::failure::{Failure, Result};
use crate::printer::Printer;
use orion_emulator::AneModel;
use orion_engine::{ModelDevices, Split};
use std::sync::Arc;

/// The devices that were chosen, for the programs of a model. These look up tokens and write caches
/// at computed places, which the Neural Engine refuses: beside it, or a model of it, the CPU does
/// that, and it is said.
///
/// # Errors
/// When one of them is not there, or cannot do what is asked; neither is ever replaced by another.
pub(crate) fn model_devices(
    choice: &ModelDeviceChoice,
    products: Products,
    printer: &Printer,
) -> Result<ModelDevices> {
    let (first, last) = names(&choice.device);
    let Some(name) = first else {
        return one_device(choice, last, products, printer);
    };
    if choice.low_priority {
        lower_priority()?;
    }
    let threads = choice.threads;
    let host = cpu_of(name, last, threads, products)?;
    let accelerator = accelerator(name, threads, products, Purpose::Inference)?;
    let (split, on_first, on_last) = match choice.split {
        None | Some(SplitChoice::Prefill) => {
            let rest = "looks up tokens, keeps the caches and generates";
            (Split::Prefill, "reads prompts", rest)
        }
        Some(SplitChoice::Attention) => {
            let rest = "attention and what is outside of blocks";
            (Split::Attention, "computes norms, projections and MLPs", rest)
        }
    };
    printer.say(format_args!("{}: {name} {on_first}, {last} {on_last}", choice.device));
    Ok(ModelDevices::pair(accelerator, host, split))
}

fn one_device(
    choice: &ModelDeviceChoice,
    name: &str,
    products: Products,
    printer: &Printer,
) -> Result<ModelDevices> {
    if choice.split.is_some() {
        return Err(Failure::usage(format!("--split is about two devices, and `{name}` is one"))
            .hint("name two with -d, as in ane+cpu, or leave --split out"));
    }
    if neural_engine::is_meant(name) {
        return Err(Failure::usage(format!(
            "`{name}` cannot run a model alone: the Neural Engine refuses the look-up of tokens and \
             the writing of caches"
        ))
        .hint(format!("write -d {name}+cpu")));
    }
    if choice.low_priority {
        lower_priority()?;
    }
    if let Some(Ok(chip)) = name.strip_prefix("ane-model:").map(str::parse) {
        printer.say(format_args!(
            "{name}: what the Neural Engine refuses runs on the CPU beside it; orion lint says what \
             and why"
        ));
        let model: Arc<dyn orion_runtime::Device> = Arc::new(AneModel::with_host_part(chip));
        return Ok(model.into());
    }
    Ok(dense_device(name, choice.threads, products)?.into())
}
