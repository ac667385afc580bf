//! `orion estimate`: what a program would cost on the Neural Engine.

mod two_devices;

use super::subject::{is_program, programs};
use crate::arguments::{Estimate, EstimateFormat, ModelTask};
use crate::exit::Exit;
use crate::failure::Result;
use crate::printer::Printer;
use orion_device::{
    Bound, Estimate as Price, Os, PricedOperation, Route, Target, estimate as price,
};
use serde_json::{Value, json};

/// Operations that are printed unless all are asked for.
const SHOWN: usize = 12;

/// One function of one program.
struct Priced {
    program: String,
    price: Price,
}

pub(crate) fn estimate(arguments: &Estimate, printer: &Printer) -> Result {
    let (programs, tokens) = programs(&arguments.file, &arguments.of_model)?;
    let target = Target { chip: arguments.chip.0, os: Os::V27, route: Route::Direct };
    let priced: Vec<Priced> = programs
        .iter()
        .flat_map(|p| {
            let prices = price(&p.program, &target).into_iter();
            prices.map(|price| Priced { program: p.name.clone(), price })
        })
        .collect();
    let is_divided = matches!(arguments.of_model.task, ModelTask::Train | ModelTask::Finetune)
        && !is_program(&arguments.file);
    match arguments.format {
        EstimateFormat::Text => {
            for one in &priced {
                print_text(one, arguments.all, printer)?;
            }
            if let Some(tokens) = tokens {
                print_task(&priced, arguments.of_model.task, tokens, printer)?;
            }
            if is_divided {
                let chip = arguments.chip.0;
                two_devices::print(&arguments.file, &arguments.of_model, chip, printer)?;
            }
            printer.say(format_args!(
                "a model of the {}, not a measurement: docs/cost-model.md says how far it is from published ones",
                target.chip
            ));
        }
        EstimateFormat::Json => {
            let mut report = json!({
                "chip": target.chip.id(),
                "tokens": tokens,
                "us": total(&priced),
                "functions": priced.iter().map(as_json).collect::<Vec<_>>(),
            });
            if is_divided {
                report["two_devices"] = two_devices::as_json(&arguments.file, &arguments.of_model)?;
            }
            printer.data_line(report)?;
        }
        EstimateFormat::Trace => printer.data_line(json!({ "traceEvents": trace(&priced) }))?,
    }
    Ok(Exit::Success)
}

fn total(priced: &[Priced]) -> f64 {
    priced.iter().map(|p| p.price.us()).sum()
}

/// Microseconds of all functions of a program.
fn total_of(prices: &[Price]) -> f64 {
    prices.iter().map(Price::us).sum()
}

fn bound(bound: Option<Bound>) -> &'static str {
    bound.map_or("dispatch", Bound::name)
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us => format!("{us:.1} µs"),
    }
}

fn bytes(count: f64) -> String {
    match count {
        n if n >= 1e9 => format!("{:.2} GB", n / 1e9),
        n if n >= 1e6 => format!("{:.1} MB", n / 1e6),
        n => format!("{:.1} kB", n / 1e3),
    }
}

fn energy(uj: f64) -> String {
    match uj {
        uj if uj >= 1e6 => format!("{:.2} J", uj / 1e6),
        uj if uj >= 1e3 => format!("{:.2} mJ", uj / 1e3),
        uj => format!("{uj:.1} µJ"),
    }
}

fn print_text(one: &Priced, all: bool, printer: &Printer) -> Result<()> {
    let price = &one.price;
    printer.data_line(format_args!("{}, function {}", one.program, price.function))?;
    let line = |name: &str, value: String| printer.data_line(format_args!("  {name:12}{value}"));
    line("time", format!("{}, bound by {}", time(price.us()), bound(price.bound())))?;
    line("dispatch", time(price.dispatch_us))?;
    let operations = price.operations.iter();
    line("weights", bytes(operations.clone().map(|o| o.cost.weight_bytes).sum()))?;
    line("activations", bytes(operations.map(|o| o.cost.activation_bytes).sum()))?;
    line(
        "energy",
        format!(
            "{} in the engine, {} on the host",
            energy(price.engine_uj()),
            energy(price.host_uj())
        ),
    )?;
    let elsewhere = price.operations.iter().filter(|o| o.rule.is_some()).count();
    if elsewhere > 0 {
        line(
            "refused",
            format!(
                "{elsewhere} of {} operations, priced as if the engine had them",
                price.operations.len()
            ),
        )?;
    }
    let mut shown: Vec<&PricedOperation> = price.operations.iter().collect();
    if !all {
        shown.sort_by(|a, b| b.cost.us.total_cmp(&a.cost.us));
        shown.truncate(SHOWN);
    }
    printer.data_line(format_args!(
        "  {:>10} {:>9} {:>10} {:>10} {:>9}  {:11} operation",
        "µs", "MFLOP", "weights kB", "moved kB", "µJ", "bound"
    ))?;
    for o in &shown {
        print_operation(o, printer)?;
    }
    let left = price.operations.len() - shown.len();
    if left > 0 {
        let us: f64 = price.operations.iter().map(|o| o.cost.us).sum::<f64>()
            - shown.iter().map(|o| o.cost.us).sum::<f64>();
        printer
            .data_line(format_args!("  {us:10.1} in {left} operations more; --all lists them"))?;
    }
    Ok(())
}

fn print_operation(o: &PricedOperation, printer: &Printer) -> Result<()> {
    let mut name = format!("{} -> {}", o.operation, o.value);
    if let Some(rule) = o.rule {
        name += &format!(" ({}: not on the Neural Engine)", rule.code);
    }
    printer.data_line(format_args!(
        "  {:10.1} {:9.2} {:10.1} {:10.1} {:9.1}  {:11} {name}",
        o.cost.us,
        o.cost.operations / 1e6,
        o.cost.weight_bytes / 1e3,
        o.cost.activation_bytes / 1e3,
        o.energy_uj,
        o.cost.bound.name(),
    ))
}

fn print_task(priced: &[Priced], task: ModelTask, tokens: usize, printer: &Printer) -> Result<()> {
    let us = total(priced);
    let rate = tokens as f64 / us * 1e6;
    let what = match task {
        ModelTask::Prefill => "prefill",
        ModelTask::Decode => "decode",
        ModelTask::Train => "a training step",
        ModelTask::Finetune => "a training step of an adapter",
    };
    let tokens = if tokens == 1 { "1 token".to_owned() } else { format!("{tokens} tokens") };
    printer.data_line(format_args!(
        "{what}: {tokens} in {}, {} dispatches, {rate:.1} tokens/s",
        time(us),
        priced.len()
    ))
}

fn as_json(one: &Priced) -> Value {
    let price = &one.price;
    let operations: Vec<Value> = price
        .operations
        .iter()
        .map(|o| {
            json!({
                "operation": o.operation,
                "value": o.value,
                "us": o.cost.us,
                "operations": o.cost.operations,
                "weight_bytes": o.cost.weight_bytes,
                "activation_bytes": o.cost.activation_bytes,
                "energy_uj": o.energy_uj,
                "bound": o.cost.bound.name(),
                "rule": o.rule.map(|r| r.code),
            })
        })
        .collect();
    json!({
        "program": one.program,
        "function": price.function,
        "dispatch_us": price.dispatch_us,
        "us": price.us(),
        "engine_uj": price.engine_uj(),
        "host_uj": price.host_uj(),
        "bound": bound(price.bound()),
        "operations": operations,
    })
}

/// Complete events of the trace event format: a process a program, a thread a function.
fn trace(priced: &[Priced]) -> Vec<Value> {
    let mut events = Vec::new();
    for (i, one) in priced.iter().enumerate() {
        let process = i + 1;
        events.push(json!({
            "name": "process_name", "ph": "M", "pid": process, "tid": 1,
            "args": { "name": one.program },
        }));
        events.push(json!({
            "name": "thread_name", "ph": "M", "pid": process, "tid": 1,
            "args": { "name": one.price.function },
        }));
        let mut begin = 0.0;
        let mut event = |name: String, category: &str, duration: f64, arguments: Value| {
            events.push(json!({
                "name": name, "cat": category, "ph": "X", "ts": begin, "dur": duration,
                "pid": process, "tid": 1, "args": arguments,
            }));
            begin += duration;
        };
        event("dispatch".into(), "dispatch", one.price.dispatch_us, json!({}));
        for o in &one.price.operations {
            let arguments = json!({
                "operations": o.cost.operations,
                "weight_bytes": o.cost.weight_bytes,
                "activation_bytes": o.cost.activation_bytes,
                "energy_uj": o.energy_uj,
            });
            let name = format!("{} -> {}", o.operation, o.value);
            event(name, o.cost.bound.name(), o.cost.us, arguments);
        }
    }
    events
}
