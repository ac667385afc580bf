use super::source::require_program;
use crate::arguments::{Format, MilInfo};
use crate::exit::Exit;
use crate::failure::Result;
use crate::printer::Printer;
use orion_mil::blob::declared_weight_bytes;
use orion_mil::package::load_program_with_sizes;
use orion_mil::{Dialect, Function, Program, Type, ValueId, flexible_inputs};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn info(arguments: &MilInfo, printer: &Printer) -> Result {
    require_program(&arguments.file)?;
    let program = load_program_with_sizes(&arguments.file)?;
    match arguments.format {
        Format::Text => print_text(&program, printer)?,
        Format::Json => printer.data_line(json!({
            "dialect": dialect(&program),
            "weight_bytes": declared_weight_bytes(&program),
            "functions": program.functions.iter().map(function_json).collect::<Vec<_>>(),
        }))?,
    }
    Ok(Exit::Success)
}

fn dialect(program: &Program) -> &'static str {
    match program.dialect {
        Dialect::V1_0 => "1.0",
        Dialect::V1_3 => "1.3",
    }
}

/// What a function takes, keeps and gives.
fn ports(function: &Function) -> Vec<(&'static str, ValueId)> {
    let params = function.params.iter().map(|p| match function.ty(p.value) {
        Type::State(_) => ("state", p.value),
        _ => ("input", p.value),
    });
    params.chain(function.body.results.iter().map(|&id| ("output", id))).collect()
}

/// How often each op is there, nested blocks included; the most frequent first.
fn histogram(function: &Function) -> Vec<(&str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for operation in function.body.all_operations() {
        *counts.entry(&operation.name).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    counts
}

fn print_text(program: &Program, printer: &Printer) -> Result<()> {
    printer.data_line(format_args!("program({})", dialect(program)))?;
    printer.data_line(format_args!("weights     {} bytes", declared_weight_bytes(program)))?;
    for function in &program.functions {
        printer.data_line(format_args!("function    {}<{}>", function.name, function.opset))?;
        let sizes = flexible_inputs(function);
        for (kind, id) in ports(function) {
            let (name, ty) = (function.value_name(id), function.ty(id));
            let sizes = sizes.get(name).filter(|_| kind == "input");
            let sizes = sizes.map_or(String::new(), |s| format!(", may be {s}"));
            printer.data_line(format_args!("  {kind:<10}{name}: {ty}{sizes}"))?;
        }
        let counts = histogram(function);
        let total: usize = counts.iter().map(|row| row.1).sum();
        printer.data_line(format_args!("  operations {total}"))?;
        for (name, count) in counts {
            printer.data_line(format_args!("    {count:>6}  {name}"))?;
        }
    }
    Ok(())
}

fn function_json(function: &Function) -> Value {
    let of = |wanted: &str| -> Vec<Value> {
        let ports = ports(function).into_iter().filter(|(kind, _)| *kind == wanted);
        let port = |(_, id)| json!({ "name": function.value_name(id), "type": function.ty(id).to_string() });
        ports.map(port).collect()
    };
    let operations: serde_json::Map<String, Value> =
        histogram(function).into_iter().map(|(name, count)| (name.into(), count.into())).collect();
    json!({
        "name": function.name,
        "opset": function.opset,
        "inputs": of("input"),
        "states": of("state"),
        "outputs": of("output"),
        "operations": operations,
    })
}
