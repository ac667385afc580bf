use super::convert::write;
use crate::arguments::{Fuse, NumberType};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::printer::Printer;
use crate::tokenizer::tokenizer_of;
use orion_engine::{ChatTemplate, Companions, ModelFile, Target, load_adapter};

pub(crate) fn fuse(arguments: &Fuse, printer: &Printer) -> Result {
    let model = ModelFile::open(&arguments.model)?;
    let tokenizer = tokenizer_of(arguments.tokenizer.as_deref(), &model)?;
    let adapter = load_adapter(&arguments.adapter, &model.network)?;
    let model = model.load()?;
    let merged = adapter.merged_into(&model).map_err(|e| {
        Failure::new(e.to_string())
            .hint("run it beside the model with --adapter, or train without lm_head")
    })?;
    let numbers = arguments.dtype.map(NumberType::numbers);
    let template = ChatTemplate::source_of_model(&arguments.model)?;
    let companions = Companions { tokenizer: tokenizer.as_ref(), template: template.as_deref() };
    write(&merged, companions, Target::SafeTensors, numbers, &arguments.out, printer)?;
    printer.say(format_args!("{} layers were changed", adapter.modules.len()));
    if tokenizer.is_none() {
        printer.say("without a tokenizer: none lies beside the model; name one with --tokenizer");
    }
    Ok(Exit::Success)
}
