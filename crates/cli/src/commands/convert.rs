use crate::arguments::{Convert, ModelFormat, NumberType};
use crate::exit::Exit;
use crate::failure::Result;
use crate::printer::Printer;
use orion_engine::{ChatTemplate, Companions, Target, load_model, model_bytes, open_tokenizer};
use std::num::NonZeroUsize;

/// Length of caches unless asked otherwise, or shorter when the model takes less.
const DEFAULT_CONTEXT: usize = 512;

pub(crate) fn convert(arguments: &Convert, printer: &Printer) -> Result {
    let model = load_model(&arguments.model)?;
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
    let path = arguments.tokenizer.as_deref().or(model.tokenizer.as_deref());
    let tokenizer = path
        .filter(|_| !arguments.no_tokenizer)
        .map(|path| open_tokenizer(path, model.network.vocab_size()))
        .transpose()?;
    let template = ChatTemplate::source_of_model(&arguments.model)?;
    let companions = Companions { tokenizer: tokenizer.as_ref(), template: template.as_deref() };
    let numbers = arguments.dtype.map(NumberType::numbers);
    let bar = printer.progress(model_bytes(&model), "{bar:40.cyan} {bytes}/{total_bytes} {msg}");
    let written =
        orion_engine::convert(&model, companions, target, numbers, &arguments.out, &mut |bytes| {
            bar.set(bytes, arguments.out.display().to_string())
        });
    drop(bar);
    let left_out = written?;
    printer.data_line(arguments.out.display())?;
    for what in left_out {
        printer.warn(format_args!("left out: {what}"));
    }
    if tokenizer.is_none() && !arguments.no_tokenizer {
        printer.say("without a tokenizer: none lies beside the model; name one with --tokenizer");
    }
    Ok(Exit::Success)
}
