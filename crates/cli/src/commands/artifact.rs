//! Artifacts of Parameter Golf.

use crate::arguments::{Artifact, ArtifactEval, ArtifactLoad, ArtifactSave, Format};
use crate::commands::convert::write;
use crate::commands::eval::measure;
use crate::exit::Exit;
use crate::failure::{Context, Result};
use crate::printer::Printer;
use crate::tokenizer::tokenizer_of;
use orion_engine::{Companions, Target, load_model, open_artifact, quantize_model};
use orion_formats::GolfArtifact;
use orion_formats::golf_artifact::{SIZE_LIMIT, is_golf_artifact};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

pub(crate) fn artifact(arguments: &Artifact, printer: &Printer) -> Result {
    match arguments {
        Artifact::Save(arguments) => save(arguments, printer),
        Artifact::Load(arguments) => load(arguments, printer),
        Artifact::Eval(arguments) => eval(arguments, printer),
    }
}

/// What counts towards the limit, in bytes.
struct Size {
    model: u64,
    code: u64,
}

impl Size {
    fn of(model: u64, code: &[PathBuf]) -> Result<Self> {
        let mut bytes = 0;
        for path in code {
            bytes += std::fs::metadata(path).context(path.display())?.len();
        }
        Ok(Self { model, code: bytes })
    }

    fn total(&self) -> u64 {
        self.model + self.code
    }

    fn fits(&self) -> bool {
        self.total() <= SIZE_LIMIT
    }

    fn print(&self, printer: &Printer) -> Result<()> {
        let total = self.total();
        printer.data_line(format_args!("model       {} bytes", self.model))?;
        printer.data_line(format_args!("code        {} bytes", self.code))?;
        printer.data_line(format_args!("total       {total} bytes"))?;
        match SIZE_LIMIT.checked_sub(total) {
            Some(left) => {
                printer.data_line(format_args!("limit       {SIZE_LIMIT} bytes, {left} left"))
            }
            None => printer.data_line(format_args!(
                "limit       {SIZE_LIMIT} bytes, {} too many",
                total - SIZE_LIMIT
            )),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "bytes_model": self.model,
            "bytes_code": self.code,
            "bytes_total": self.total(),
            "bytes_limit": SIZE_LIMIT,
            "fits": self.fits(),
        })
    }

    fn exit(&self) -> Exit {
        if self.fits() { Exit::Success } else { Exit::No }
    }
}

fn save(arguments: &ArtifactSave, printer: &Printer) -> Result {
    let mut start = [0; 4];
    let is_artifact = File::open(&arguments.model)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok_and(|()| is_golf_artifact(&start));
    // Weights that were quantized once are not quantized again.
    let artifact = match is_artifact {
        true => GolfArtifact::open(&arguments.model)?,
        false => quantize_model(&load_model(&arguments.model)?)?,
    };
    let raw = artifact.to_torch()?;
    let bytes = if arguments.raw { raw } else { artifact.to_bytes()? };
    let out = &arguments.out;
    let mut file = File::create_new(out).context(out.display())?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).context(out.display())?;
    let size = Size::of(bytes.len() as u64, &arguments.code)?;
    match arguments.format {
        Format::Text => {
            printer.data_line(out.display())?;
            size.print(printer)?;
        }
        Format::Json => {
            let mut report = size.to_json();
            report["path"] = json!(out);
            report["bytes_payload"] = json!(artifact.payload_bytes());
            report["compressed"] = json!(!arguments.raw);
            printer.data_line(report)?;
        }
    }
    if arguments.raw {
        printer.say("not compressed: zlib makes it smaller, and what it makes counts");
    } else if !size.fits() {
        printer.warn("this is too large for Parameter Golf");
    }
    Ok(size.exit())
}

fn load(arguments: &ArtifactLoad, printer: &Printer) -> Result {
    let model = open_artifact(&arguments.file, arguments.config.as_deref())?;
    let tokenizer = tokenizer_of(arguments.tokenizer.as_deref(), &model)?;
    let model = model.load()?;
    let companions = Companions { tokenizer: tokenizer.as_ref(), template: None };
    write(&model, companions, Target::SafeTensors, None, &arguments.out, printer)?;
    if tokenizer.is_none() {
        printer.say("without a tokenizer: none lies beside it; name one with --tokenizer");
    }
    Ok(Exit::Success)
}

fn eval(arguments: &ArtifactEval, printer: &Printer) -> Result {
    let path = &arguments.eval.model;
    let model = open_artifact(path, arguments.config.as_deref())?;
    let bytes = std::fs::metadata(path).context(path.display())?.len();
    let size = Size::of(bytes, &arguments.code)?;
    for measured in measure(&arguments.eval, model, printer)? {
        match arguments.eval.format {
            Format::Text => {
                measured.print(printer)?;
                size.print(printer)?;
            }
            Format::Json => {
                let mut report = measured.to_json();
                if let (Some(report), Value::Object(size)) =
                    (report.as_object_mut(), size.to_json())
                {
                    report.extend(size);
                }
                printer.data_line(report)?;
            }
        }
    }
    Ok(size.exit())
}
