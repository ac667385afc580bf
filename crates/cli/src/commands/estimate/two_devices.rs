//! What a training step would cost on a Neural Engine and the CPU beside it together.

use super::{time, total_of};
use crate::arguments::{ModelTask, OfModel};
use crate::commands::subject::{DEFAULT_SEQ, model, usual_adapter};
use crate::failure::{Failure, Result};
use crate::printer::Printer;
use orion_compile::partition::{Occasion, Part, Partition, Unit, UpdateParts, WeightForm, Work};
use orion_device::{Chip, HostRates, Os, PUBLISHED_STEPS, Route, Target, estimate as price};
use orion_engine::TrainConfig;
use orion_engine::programs::{
    adamw_parameters, adamw_settings, gradient_partition, gradient_program, trained,
};
use orion_mil::Program;
use orion_models::WeightIndex;
use orion_tensor::DType;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::path::Path;

/// The two ways in which a step can be cut.
struct Cuts {
    /// Whether they are an adapter's, over weights that stay.
    of_adapter: bool,
    inputs: Partition,
    constants: Partition,
}

/// Microseconds of a micro-batch on one chip.
struct Step {
    chip: Chip,
    /// Of the Neural Engine, and of the host, when neither waits.
    accelerator: f64,
    host: f64,
    /// Everything one behind the other, and as the schedule has it, with weights as inputs.
    serial: f64,
    overlapped: f64,
    /// The same with what the engine is given as constants of its programs.
    baked: f64,
    /// What new weights add to the schedule, as inputs, reloaded, and recompiled.
    renewal: [f64; 3],
    /// The optimizer, once a step.
    update: f64,
    /// A step of one micro-batch with new weights as inputs and the optimizer, everything one
    /// behind the other and as the schedule has it.
    step: [f64; 2],
}

fn cuts(subject: &Path, of: &OfModel) -> Result<Cuts> {
    let (loaded, _) = model(subject)?;
    let network = &loaded.network;
    let seq = of.seq.map_or(network.max_positions().min(DEFAULT_SEQ), NonZeroUsize::get);
    let of_adapter = of.task == ModelTask::Finetune;
    let index = if of_adapter {
        loaded.index(seq).with_adapters(usual_adapter(network))
    } else {
        let mut index = WeightIndex::new();
        network.add_tables(&mut index, seq);
        index
    };
    let trained = adamw_parameters(&trained(network, &index));
    let optimizer = adamw_settings(&TrainConfig::default().optimizer);
    let program = gradient_program(network, &index, of.batch.get(), seq, false);
    let cut = |weights| {
        gradient_partition(network, &index, &program, DType::F16, weights, &BTreeSet::new())
            .and_then(|parts| parts.with_update(&trained, &optimizer))
            .map_err(|e| Failure::new(format!("the step cannot be divided: {e}")))
    };
    let (inputs, constants) = (cut(WeightForm::Inputs)?, cut(WeightForm::Constants)?);
    Ok(Cuts { of_adapter, inputs, constants })
}

/// Microseconds of every program on a host: its products at one rate, the bytes of its inputs and
/// outputs at another.
fn on_host(program: &Program, target: &Target, rates: &HostRates) -> f64 {
    let products: f64 = price(program, target)
        .iter()
        .flat_map(|e| &e.operations)
        .filter(|o| ["conv", "matmul", "linear"].contains(&o.operation.as_str()))
        .map(|o| o.cost.operations)
        .sum();
    let function = &program.functions[0];
    let ports = function.params.iter().map(|p| p.value).chain(function.body.results.clone());
    let bytes: usize = ports
        .filter_map(|v| {
            let ty = function.ty(v).as_tensor()?;
            Some(ty.element_count()? * ty.dtype.size_bytes())
        })
        .sum();
    products / rates.products_tflops / 1e6 + bytes as f64 / rates.copy_gb_per_s / 1e3
}

/// The parts of a cut's optimizer that run once a step.
fn optimizer_of(cut: &Partition) -> Vec<&Part> {
    let UpdateParts { updates, squares, norm, .. } = cut.update.as_ref().expect("it was added");
    updates.iter().chain(squares).map(|a| &a.part).chain([norm]).collect()
}

impl Step {
    fn of(cuts: &Cuts, chip: Chip) -> Self {
        let target = Target { chip, os: Os::V27, route: Route::Direct };
        let rates = HostRates::of(chip);
        let times = |cut: &Partition| -> HashMap<(usize, Unit), f64> {
            let all = cut.parts.iter().chain(&cut.staging).chain(optimizer_of(cut));
            let mut times = HashMap::new();
            for part in all {
                times.entry((part.program, part.unit)).or_insert_with(|| {
                    let program = &cut.programs[part.program];
                    match part.unit {
                        Unit::Accelerator => total_of(&price(program, &target)),
                        Unit::Host => on_host(program, &target, &rates),
                    }
                });
            }
            times
        };
        let (by_inputs, by_constants) = (times(&cuts.inputs), times(&cuts.constants));
        let end = |cut: &Partition, times: &HashMap<_, f64>, occasion: Occasion, new_ms: f64| {
            let time = |work, part: &Part| match work {
                Work::Renew => new_ms * 1e3,
                _ => times[&(part.program, part.unit)],
            };
            let planned = cut.timeline(occasion, &time);
            planned.iter().map(|p| p.end).fold(0.0, f64::max)
        };
        let same = Occasion::default();
        let renewed = Occasion { new_parameters: true, ..same };
        let updated = Occasion { update: true, measure: true, ..renewed };
        let alone = |unit| -> f64 {
            let parts = cuts.inputs.parts.iter().filter(|p| p.unit == unit);
            parts.map(|p| by_inputs[&(p.program, p.unit)]).sum()
        };
        let overlapped = end(&cuts.inputs, &by_inputs, same, 0.0);
        let baked = end(&cuts.constants, &by_constants, same, 0.0);
        let with_inputs = end(&cuts.inputs, &by_inputs, renewed, 0.0);
        let with_constants = |ms| end(&cuts.constants, &by_constants, renewed, ms) - baked;
        let (accelerator, host) = (alone(Unit::Accelerator), alone(Unit::Host));
        let host_time = |part: &Part| by_inputs[&(part.program, part.unit)];
        let update: f64 = optimizer_of(&cuts.inputs).into_iter().map(host_time).sum();
        let staging: f64 = cuts.inputs.staging.iter().map(host_time).sum();
        Self {
            chip,
            accelerator,
            host,
            serial: accelerator + host,
            overlapped,
            baked,
            renewal: [
                with_inputs - overlapped,
                with_constants(rates.reload_ms),
                with_constants(rates.compile_ms),
            ],
            update,
            step: [
                accelerator + host + staging + update,
                end(&cuts.inputs, &by_inputs, updated, 0.0),
            ],
        }
    }

    fn published(&self, model: &str) -> Option<String> {
        let step = PUBLISHED_STEPS.iter().find(|s| s.model == model && s.chip == self.chip.id())?;
        Some(format!("{} ms ({})", step.ms, step.source))
    }
}

/// Prints a step on a chip and a line for each of the others.
pub(super) fn print(subject: &Path, of: &OfModel, chip: Chip, printer: &Printer) -> Result<()> {
    let cuts = cuts(subject, of)?;
    let runs = |unit| cuts.inputs.parts.iter().filter(|p| p.unit == unit).count();
    let step = Step::of(&cuts, chip);
    printer
        .data_line(format_args!("\non two devices, one micro-batch on ane+cpu of the {chip}"))?;
    let line = |name: &str, value: String| printer.data_line(format_args!("  {name:12}{value}"));
    line(
        "layers",
        format!(
            "{} in the Neural Engine, {} runs of {} programs",
            time(step.accelerator),
            runs(Unit::Accelerator),
            cuts.inputs.programs_of(Unit::Accelerator).len()
        ),
    )?;
    line("the rest", format!("{} on the host, {} runs", time(step.host), runs(Unit::Host)))?;
    line("in turns", format!("{}, as when the host waits for the engine", time(step.serial)))?;
    line(
        "at once",
        format!(
            "{} by our schedule, {:.0} % less",
            time(step.overlapped),
            (1.0 - step.overlapped / step.serial) * 100.0
        ),
    )?;
    let [inputs, reload, recompile] = step.renewal.map(time);
    if cuts.of_adapter {
        line("compiled in", format!("{} with weights as constants", time(step.baked)))?;
        line("new A and B", format!("{inputs}, once a step"))?;
    } else {
        line(
            "new weights",
            format!("{inputs} as inputs, {reload} reloaded, {recompile} recompiled, once a step"),
        )?;
    }
    line("update", format!("{} on the host, once a step", time(step.update)))?;
    let [serial, overlapped] = step.step;
    line(
        "a step",
        format!(
            "{} in turns, {} by our schedule, of one micro-batch with new {} and its update",
            time(serial),
            time(overlapped),
            if cuts.of_adapter { "A and B" } else { "weights as inputs" }
        ),
    )?;
    if cuts.of_adapter {
        printer.data_line(format_args!(
            "\n  {:10} {:>11} {:>11} {:>11}",
            "chip", "in turns", "at once", "compiled in"
        ))?;
        for chip in Chip::all() {
            let step = Step::of(&cuts, chip);
            printer.data_line(format_args!(
                "  {:10} {:>11} {:>11} {:>11}",
                chip.to_string(),
                time(step.serial),
                time(step.overlapped),
                time(step.baked)
            ))?;
        }
        return Ok(());
    }
    printer.data_line(format_args!(
        "\n  {:10} {:>11} {:>11} {:>9} {:>11} {:>11}  published",
        "chip", "in turns", "at once", "inputs", "reload", "recompile"
    ))?;
    let name = subject.to_string_lossy();
    for chip in Chip::all() {
        let step = Step::of(&cuts, chip);
        let [inputs, reload, recompile] = step.renewal.map(|us| time(step.overlapped + us));
        printer.data_line(format_args!(
            "  {:10} {:>11} {:>11} {inputs:>9} {reload:>11} {recompile:>11}  {}",
            chip.to_string(),
            time(step.serial),
            time(step.overlapped),
            step.published(&name).unwrap_or_default()
        ))?;
    }
    printer.data_line(
        "  `inputs`, `reload` and `recompile` are micro-batches with new weights; `at once` has the weights of the one before",
    )
}

/// The same for programs.
pub(super) fn as_json(subject: &Path, of: &OfModel) -> Result<Value> {
    let cuts = cuts(subject, of)?;
    let name = subject.to_string_lossy();
    let steps = Chip::all().map(|chip| {
        let step = Step::of(&cuts, chip);
        let [inputs, reload, recompile] = step.renewal;
        let new = if cuts.of_adapter {
            json!({ "inputs": inputs })
        } else {
            json!({ "inputs": inputs, "baked-reload": reload, "baked-recompile": recompile })
        };
        json!({
            "chip": chip.id(),
            "engine_us": step.accelerator,
            "host_us": step.host,
            "serial_us": step.serial,
            "overlapped_us": step.overlapped,
            "baked_us": step.baked,
            "new_weights_us": new,
            "update_us": step.update,
            "step_us": { "serial": step.step[0], "overlapped": step.step[1] },
            "published": step.published(&name).filter(|_| !cuts.of_adapter),
        })
    });
    Ok(steps.collect())
}
