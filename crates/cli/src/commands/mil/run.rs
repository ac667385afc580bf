use super::inputs::Inputs;
use super::shapes::sized;
use crate::arguments::{Format, MilRun, ToleranceName};
use crate::devices::{Products, device_named, program_device};
use crate::exit::Exit;
use crate::failure::{Context, Result};
use crate::printer::Printer;
use orion_formats::npy;
use orion_mil::bundle::Bundle;
use orion_mil::{Classes, classes, package};
use orion_runtime::{Bindings, Device, PortKind, Surface};
use orion_tensor::{Tensor, Tolerance};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

/// How many values of an output are shown.
const SHOWN: usize = 8;

pub(crate) fn run(arguments: &MilRun, printer: &Printer) -> Result {
    let inputs = Inputs::parse(&arguments.input)?;
    let mut bundle = package::load(&arguments.file)?;
    let function = arguments.function.as_deref();
    let classes = bundle.program.main().and_then(classes);
    bundle.program = sized(&bundle.program, function, &arguments.shape, &inputs)?;
    let device = program_device(&arguments.device)?;
    let outputs = execute(&*device, &bundle, &inputs, arguments.report, printer)?;
    if let Some(directory) = &arguments.output_dir {
        std::fs::create_dir_all(directory).context(directory.display())?;
        for (name, tensor) in &outputs {
            write_npy(&directory.join(format!("{name}.npy")), tensor)?;
        }
    }
    let Some(against) = &arguments.against else {
        match arguments.format {
            Format::Text => {
                print_text(&outputs, printer)?;
                if let Some((name, label)) = class(classes.as_ref(), &outputs) {
                    printer.data_line(format_args!("{name} is {label}"))?;
                }
            }
            Format::Json => {
                let mut told = json!({ "outputs": summaries(&outputs) });
                if let Some((_, label)) = class(classes.as_ref(), &outputs) {
                    told["class"] = label.into();
                }
                printer.data_line(told)?;
            }
        }
        return Ok(Exit::Success);
    };
    let other = device_named(against, arguments.device.threads, Products::F32)?;
    let expected = execute(&*other, &bundle, &inputs, false, printer)?;
    let tolerance = tolerance(arguments.tolerance);
    let comparisons: Vec<(&str, std::result::Result<(), String>)> = outputs
        .iter()
        .map(|(name, tensor)| {
            let compared = tolerance.check(&tensor.to_f64_vec(), &expected[name].to_f64_vec());
            (name.as_str(), compared.map_err(|mismatch| mismatch.to_string()))
        })
        .collect();
    let equal = comparisons.iter().all(|(_, compared)| compared.is_ok());
    match arguments.format {
        Format::Text => {
            print_text(&outputs, printer)?;
            for (name, compared) in &comparisons {
                match compared {
                    Ok(()) => printer.data_line(format_args!(
                        "{name}: {} and {} agree within {tolerance:?}",
                        device.name(),
                        other.name()
                    ))?,
                    Err(mismatch) => printer.data_line(format_args!("{name}: {mismatch}"))?,
                }
            }
        }
        Format::Json => {
            let rows: Vec<Value> = comparisons
                .iter()
                .map(|(name, compared)| {
                    json!({ "name": name, "equal": compared.is_ok(), "mismatch": compared.as_ref().err() })
                })
                .collect();
            printer.data_line(json!({
                "outputs": summaries(&outputs),
                "against": other.name(),
                "tolerance": format!("{tolerance:?}"),
                "equal": equal,
                "comparisons": rows,
            }))?;
        }
    }
    Ok(if equal { Exit::Success } else { Exit::No })
}

/// The outputs of one run by name; an input that is replaced goes by the name of its output.
fn execute(
    device: &dyn Device,
    bundle: &Bundle,
    inputs: &Inputs,
    report: bool,
    printer: &Printer,
) -> Result<BTreeMap<String, Tensor>> {
    let begin = Instant::now();
    let mut executable = device.compile(&bundle.program, &bundle.weights)?;
    printer.detail(format_args!("{}: compiled in {:.1?}", device.name(), begin.elapsed()));
    printer.detail(executable.explain());
    let signature = executable.signature().clone();
    let tensors = inputs.tensors(&signature)?;
    let mut surfaces: Vec<Surface> = signature
        .ports
        .iter()
        .map(|port| match tensors.get(&port.name) {
            Some(tensor) => Surface::holding(port.layout.clone(), tensor),
            None => Surface::zeros(port.layout.clone()),
        })
        .collect();
    let mut bindings = Bindings::new();
    for (port, surface) in signature.ports.iter().zip(&mut surfaces) {
        match port.kind {
            PortKind::Input => bindings.input(&port.name, surface),
            PortKind::Output => bindings.output(&port.name, surface),
            PortKind::Update { .. } => bindings.update(&port.name, surface),
        };
    }
    let begin = Instant::now();
    if report {
        printer.report(executable.run_reported(&mut bindings)?);
    } else {
        executable.run(&mut bindings)?;
    }
    printer.detail(format_args!("{}: run in {:.1?}", device.name(), begin.elapsed()));
    let outputs = signature.ports.iter().zip(&surfaces).filter_map(|(port, surface)| {
        let name = match &port.kind {
            PortKind::Input => return None,
            PortKind::Update { output: Some(output) } => output,
            PortKind::Output | PortKind::Update { output: None } => &port.name,
        };
        Some((name.clone(), surface.to_tensor()))
    });
    Ok(outputs.collect())
}

/// The class that a classifier chose, and the output that says so.
fn class<'a>(
    classes: Option<&'a Classes>,
    outputs: &BTreeMap<String, Tensor>,
) -> Option<(&'a str, &'a str)> {
    let classes = classes?;
    let place = outputs.get(&classes.label)?.to_f64_vec().first().copied()?;
    Some((&classes.label, classes.names.get(place as usize)?))
}

fn write_npy(path: &Path, tensor: &Tensor) -> Result<()> {
    let mut out = BufWriter::new(File::create(path).context(path.display())?);
    npy::write(&mut out, tensor).context(path.display())?;
    out.flush().context(path.display())
}

/// Least, mean and greatest of the values; `None` when there are none.
fn extent(values: &[f64]) -> Option<[f64; 3]> {
    let low = values.iter().copied().reduce(f64::min)?;
    let high = values.iter().copied().reduce(f64::max)?;
    Some([low, values.iter().sum::<f64>() / values.len() as f64, high])
}

fn print_text(outputs: &BTreeMap<String, Tensor>, printer: &Printer) -> Result<()> {
    for (name, tensor) in outputs {
        let values = tensor.to_f64_vec();
        printer.data_line(format_args!("{name}: {}{:?}", tensor.dtype(), tensor.shape()))?;
        if let Some([low, mean, high]) = extent(&values) {
            printer.data_line(format_args!("  min {low:.6}  mean {mean:.6}  max {high:.6}"))?;
        }
        let not_finite = values.iter().filter(|v| !v.is_finite()).count();
        if not_finite > 0 {
            printer.data_line(format_args!("  {not_finite} values are not finite"))?;
        }
        let first: Vec<String> = values.iter().take(SHOWN).map(f64::to_string).collect();
        let more = if values.len() > SHOWN { ", …" } else { "" };
        printer.data_line(format_args!("  [{}{more}]", first.join(", ")))?;
    }
    Ok(())
}

/// Values that are not finite are `null` in JSON.
fn summaries(outputs: &BTreeMap<String, Tensor>) -> Vec<Value> {
    outputs
        .iter()
        .map(|(name, tensor)| {
            let values = tensor.to_f64_vec();
            let extent = extent(&values);
            json!({
                "name": name,
                "dtype": tensor.dtype().name(),
                "shape": tensor.shape(),
                "min": extent.map(|e| e[0]),
                "mean": extent.map(|e| e[1]),
                "max": extent.map(|e| e[2]),
                "first": &values[..values.len().min(SHOWN)],
            })
        })
        .collect()
}

fn tolerance(name: ToleranceName) -> Tolerance {
    match name {
        ToleranceName::Exact => Tolerance::Exact,
        ToleranceName::Close => Tolerance::Close,
        ToleranceName::F32Accum => Tolerance::F32Accum,
        ToleranceName::F32Network => Tolerance::F32Network,
        ToleranceName::F16Round => Tolerance::F16Round,
        ToleranceName::F16Accum => Tolerance::F16Accum,
    }
}
