//! `orion residency`: where Core ML would run each operation.

use super::subject::programs;
use crate::arguments::{Format, Residency};
use crate::exit::Exit;
use crate::failure::Result;
use crate::printer::Printer;
use orion_device::{Placement, Route, Target, Unit, residency as plan};
use serde_json::{Value, json};

pub(crate) fn residency(arguments: &Residency, printer: &Printer) -> Result {
    let (programs, _) = programs(&arguments.file, &arguments.of_model)?;
    let target = Target { chip: arguments.chip.0, os: arguments.os.into(), route: Route::CoreMl };
    for program in &programs {
        let placements = plan(&program.program, &target);
        match arguments.format {
            Format::Text => {
                if programs.len() > 1 {
                    printer.data_line(&program.name)?;
                }
                print_text(&placements, &target, printer)?;
            }
            Format::Json => printer.data_line(as_json(&placements, &target))?,
        }
    }
    Ok(Exit::Success)
}

fn as_json(placements: &[Placement], target: &Target) -> Value {
    let rows: Vec<Value> = placements
        .iter()
        .map(|p| {
            json!({
                "function": p.function,
                "operation": p.operation,
                "value": p.value,
                "unit": p.unit.name(),
                "rule": p.rule.map(|r| r.code),
                "reason": p.reason,
                "ane_us": p.us[0],
                "cpu_us": p.us[1],
            })
        })
        .collect();
    json!({ "chip": target.chip.id(), "os": target.os.to_string(), "operations": rows })
}

fn print_text(placements: &[Placement], target: &Target, printer: &Printer) -> Result<()> {
    let width = placements.iter().map(|p| p.operation.len() + p.value.len() + 4).max();
    let width = width.unwrap_or(0).min(60);
    for p in placements {
        let name = format!("{} -> {}", p.operation, p.value);
        let code = p.rule.map_or(String::new(), |r| format!("{} ", r.code));
        printer.data_line(format_args!("{:4} {name:width$}  {code}{}", p.unit.name(), p.reason))?;
    }
    let on = placements.iter().filter(|p| p.unit == Unit::Ane).count();
    let refused = placements.iter().filter(|p| p.rule.is_some()).count();
    printer.say(format_args!(
        "{on} of {} operations on the Neural Engine of the {}, {}; it does not take {refused}, and {} are left to the CPU because going there costs more (estimated times; no GPU in the plan)",
        placements.len(),
        target.chip,
        target.os,
        placements.len() - on - refused,
    ));
    Ok(())
}
