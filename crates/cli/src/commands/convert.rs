use crate::arguments::{Convert, ModelFormat, NumberType};
use crate::exit::Exit;
use crate::failure::Result;
use crate::printer::Printer;
use crate::tokenizer::tokenizer_of;
use orion_engine::{
    ChatTemplate, Companions, LoadedModel, ModelFile, Numbers, Target, model_bytes,
};
use std::num::NonZeroUsize;
use std::path::Path;

/// Length of caches unless asked otherwise, or shorter when the model takes less.
const DEFAULT_CONTEXT: usize = 512;

pub(crate) fn convert(arguments: &Convert, printer: &Printer) -> Result {
    let model = ModelFile::open(&arguments.model)?;
    let most = model.network.max_positions();
    let target = match arguments.to {
        ModelFormat::Safetensors => Target::SafeTensors,
        ModelFormat::Gguf => Target::Gguf,
        ModelFormat::Llama2c => Target::Llama2c,
        ModelFormat::Llmc => Target::Llmc,
        ModelFormat::Mlpackage => Target::MlPackage {
            context: arguments.context.map_or(most.min(DEFAULT_CONTEXT), NonZeroUsize::get),
        },
    };
    let tokenizer = match arguments.no_tokenizer {
        true => None,
        false => tokenizer_of(arguments.tokenizer.as_deref(), &model)?,
    };
    let template = ChatTemplate::source_of_model(&arguments.model)?;
    let model = model.load()?;
    let companions = Companions { tokenizer: tokenizer.as_ref(), template: template.as_deref() };
    let numbers = arguments.dtype.map(NumberType::numbers);
    for what in write(&model, companions, target, numbers, &arguments.out, printer)? {
        printer.warn(format_args!("left out: {what}"));
    }
    if tokenizer.is_none() && !arguments.no_tokenizer {
        printer.say("without a tokenizer: none lies beside the model; name one with --tokenizer");
    }
    Ok(Exit::Success)
}

/// Writes a model while a bar shows how far it is, and prints where to. Gives what was left out.
pub(crate) fn write(
    model: &LoadedModel,
    companions: Companions<'_>,
    target: Target,
    numbers: Option<Numbers>,
    out: &Path,
    printer: &Printer,
) -> Result<Vec<String>> {
    let bar = printer.progress(model_bytes(model), "{bar:40.cyan} {bytes}/{total_bytes} {msg}");
    let mut progress = |bytes| bar.set(bytes, out.display().to_string());
    let written = orion_engine::convert(model, companions, target, numbers, out, &mut progress);
    drop(bar);
    let left_out = written?;
    printer.data_line(out.display())?;
    Ok(left_out)
}
