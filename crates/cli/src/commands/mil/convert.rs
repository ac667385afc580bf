use crate::arguments::MilConvert;
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::printer::Printer;
use orion_compile::for_core_ml;
use orion_mil::bundle::Bundle;
use orion_mil::proto::encode_model;
use orion_mil::{package, text};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// What a package that we write says about itself.
const SUMMARY: &str = "Written by orion mil convert";

pub(crate) fn convert(arguments: &MilConvert, printer: &Printer) -> Result {
    write(&package::load(&arguments.input)?, &arguments.output, printer)
}

/// Writes a bundle in the format that the name says.
pub(in crate::commands) fn write(bundle: &Bundle, output: &Path, printer: &Printer) -> Result {
    match output.extension().and_then(|e| e.to_str()) {
        Some("mlpackage") => {
            let program = for_core_ml(&bundle.program);
            let bundle = Bundle { program, weights: bundle.weights.clone() };
            package::save_mlpackage(&bundle, output, SUMMARY)?;
        }
        Some("mil") => {
            refuse_weights(bundle, output)?;
            write_new(output, text::print(&bundle.program).as_bytes())?;
        }
        Some("mlmodel") => {
            refuse_weights(bundle, output)?;
            let model = encode_model(&bundle.program, SUMMARY).context(output.display())?;
            write_new(output, &model)?;
        }
        _ => bundle.save(output)?,
    }
    printer.say(format_args!("wrote {}", output.display()));
    Ok(Exit::Success)
}

/// A single file has no place for them, and leaving them behind would break the program.
fn refuse_weights(bundle: &Bundle, output: &Path) -> Result<()> {
    if bundle.weights.files().next().is_none() {
        return Ok(());
    }
    let place = output.display();
    let message = format!("{place}: the program has weights, which need a directory");
    Err(Failure::new(message).hint("write a .mlpackage, or a name without an extension"))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.context(path.display())
}
