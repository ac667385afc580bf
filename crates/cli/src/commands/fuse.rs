use crate::arguments::{Fuse, NumberType};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::printer::Printer;
use orion_engine::{
    ChatTemplate, Companions, Target, convert, load_adapter, load_model, model_bytes,
    open_tokenizer,
};

pub(crate) fn fuse(arguments: &Fuse, printer: &Printer) -> Result {
    let model = load_model(&arguments.model)?;
    let adapter = load_adapter(&arguments.adapter, &model.network)?;
    let merged = adapter.merged_into(&model).map_err(|e| {
        Failure::new(e.to_string())
            .hint("run it beside the model with --adapter, or train without lm_head")
    })?;
    let path = arguments.tokenizer.as_deref().or(model.tokenizer.as_deref());
    let tokenizer =
        path.map(|path| open_tokenizer(path, model.network.vocab_size())).transpose()?;
    let numbers = arguments.dtype.map(NumberType::numbers);
    let bar = printer.progress(model_bytes(&merged), "{bar:40.cyan} {bytes}/{total_bytes} {msg}");
    let out = &arguments.out;
    let mut progress = |bytes| bar.set(bytes, out.display().to_string());
    let template = ChatTemplate::source_of_model(&arguments.model)?;
    let companions = Companions { tokenizer: tokenizer.as_ref(), template: template.as_deref() };
    let written = convert(&merged, companions, Target::SafeTensors, numbers, out, &mut progress);
    drop(bar);
    written?;
    printer.data_line(out.display())?;
    printer.say(format_args!("{} layers were changed", adapter.modules.len()));
    if tokenizer.is_none() {
        printer.say("without a tokenizer: none lies beside the model; name one with --tokenizer");
    }
    Ok(Exit::Success)
}
