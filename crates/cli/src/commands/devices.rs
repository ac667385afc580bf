use crate::arguments::{Devices, Format};
use crate::devices::{Machine, all};
use crate::exit::Exit;
use crate::failure::Result;
use crate::printer::Printer;
use serde_json::{Value, json};

pub(crate) fn devices(arguments: &Devices, printer: &Printer) -> Result {
    let machine = Machine::detect();
    let devices = all(None)?;
    match arguments.format {
        Format::Text => {
            let width = devices.iter().map(|d| d.name().len()).max().unwrap_or(0);
            for device in &devices {
                let line = format_args!("{:width$}  {}", device.name(), device.description());
                printer.data_line(line)?;
            }
            let simd = if machine.simd.is_empty() { "none".into() } else { machine.simd.join(" ") };
            printer.data_line("")?;
            printer.data_line(format_args!("threads  {}", machine.threads))?;
            printer.data_line(format_args!("simd     {simd}"))?;
            if let Some(bytes) = machine.memory_bytes {
                let gibibytes = bytes as f64 / f64::from(1 << 30);
                printer.data_line(format_args!("memory   {gibibytes:.1} GiB"))?;
            }
        }
        Format::Json => {
            let rows: Vec<Value> = devices
                .iter()
                .map(|d| json!({ "name": d.name(), "description": d.description() }))
                .collect();
            printer.data_line(json!({
                "devices": rows,
                "threads": machine.threads,
                "simd": machine.simd,
                "memory_bytes": machine.memory_bytes,
            }))?;
        }
    }
    Ok(Exit::Success)
}
