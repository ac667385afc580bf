use crate::adapters::Adapters;
use crate::arguments::{Eval, Format, Windows};
use crate::devices::{kept, model_devices};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::printer::Printer;
use crate::tokenizer::tokenizer_of;
use orion_engine::{
    ByteCounts, Evaluation, EvaluationShape, LoadedModel, ModelFile, WindowRule, evaluate_adapted,
};
use orion_formats::{TokenFile, map_file};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::Path;

pub(crate) fn eval(arguments: &Eval, printer: &Printer) -> Result {
    let model = ModelFile::open(&arguments.model)?;
    for measured in measure(arguments, model, printer)? {
        match arguments.format {
            Format::Text => measured.print(printer)?,
            Format::Json => printer.data_line(measured.to_json())?,
        }
    }
    Ok(Exit::Success)
}

/// What came out, and how.
pub(crate) struct Measured {
    adapter: Option<String>,
    result: Evaluation,
    seq: usize,
    device: String,
}

/// Measures a model as the arguments say, with each adapter where they name some.
pub(crate) fn measure(
    arguments: &Eval,
    model: ModelFile,
    printer: &Printer,
) -> Result<Vec<Measured>> {
    let (products, storage) = kept(arguments.precision);
    let devices = model_devices(&arguments.device, products, printer)?;
    let tokenizer = tokenizer_of(arguments.tokenizer.as_deref(), &model)?;
    let most = model.network.max_positions();
    let (file, longest) = match text(&arguments.data)? {
        Some(text) => {
            let tokenizer = tokenizer.as_ref().ok_or_else(|| {
                Failure::usage(format!(
                    "{} is a text, and no tokenizer lies beside the model",
                    arguments.data.display()
                ))
                .hint("name one with --tokenizer")
            })?;
            let ids: Vec<u32> =
                tokenizer.bos().into_iter().chain(tokenizer.encode(&text)).collect();
            printer.detail(format_args!("the text has {} tokens", ids.len()));
            // A short text is one sequence. Every token is to be followed by one.
            (TokenFile::from_ids(&ids)?, most.min(ids.len() - 1).max(1))
        }
        None => (TokenFile::open(&arguments.data)?, most),
    };
    file.check_vocab(model.network.vocab_size()).context(arguments.data.display())?;
    let seq = arguments.seq.map_or(longest, NonZeroUsize::get);
    if let Some(most) = arguments.max_tokens.filter(|&most| most < seq) {
        return Err(Failure::usage(format!(
            "--max-tokens is {most}, but one sequence has {seq} tokens"
        ))
        .hint("use shorter sequences with --seq"));
    }
    let rule = match (arguments.stride.map(NonZeroUsize::get), arguments.windows) {
        (None, _) => WindowRule::Disjoint,
        (Some(stride), Windows::Short) => WindowRule::Sliding { stride },
        (Some(stride), Windows::Full) => WindowRule::SlidingFull { stride },
    };
    let (batch, max_tokens) = (arguments.batch.get(), arguments.max_tokens);
    let shape = EvaluationShape { batch, seq, rule, max_tokens };
    let counts = tokenizer.as_ref().map(ByteCounts::of);
    let adapters = Adapters::open(&arguments.adapters.adapter, &model.network)?;
    let model = LoadedModel { storage, ..model.load_for_inference(storage)? };
    let mut cases: Vec<_> =
        adapters.iter().map(|(name, adapter)| (Some(name.to_owned()), Some(adapter))).collect();
    if cases.is_empty() {
        cases.push((None, None));
    }
    let mut all = Vec::new();
    for (name, adapter) in cases {
        let progress = printer.progress(0, "{bar:30} {pos}/{len} sequences  {eta} left");
        let counts = counts.as_ref();
        let mut show = |done, all| {
            progress.set_length(all);
            progress.set(done, String::new());
        };
        let result = evaluate_adapted(&model, adapter, &devices, &file, shape, counts, &mut show)?;
        printer.warn_of(&result.range);
        all.push(Measured { adapter: name, result, seq, device: devices.name() });
    }
    Ok(all)
}

/// What is in a file of text; `None` for a file of ids, which has bytes of 0 that no text has.
fn text(path: &Path) -> Result<Option<String>> {
    let bytes = map_file(path)?;
    let text = if bytes.contains(&0) { None } else { std::str::from_utf8(&bytes).ok() };
    Ok(text.filter(|text| !text.is_empty()).map(str::to_owned))
}

impl Measured {
    pub(crate) fn print(&self, printer: &Printer) -> Result<()> {
        let result = &self.result;
        if let Some(name) = &self.adapter {
            printer.data_line(format_args!("adapter     {name}"))?;
        }
        printer.data_line(format_args!("loss        {:.6}", result.loss))?;
        printer.data_line(format_args!("perplexity  {:.4}", result.perplexity()))?;
        printer.data_line(format_args!("tokens      {}", result.tokens))?;
        if let (Some(bytes), Some(bits)) = (result.bytes, result.bits_per_byte()) {
            printer.data_line(format_args!("bytes       {bytes}"))?;
            printer.data_line(format_args!("bits/byte   {bits:.6}"))?;
        }
        Ok(())
    }

    pub(crate) fn to_json(&self) -> Value {
        let result = &self.result;
        let mut report = json!({
            "loss": result.loss,
            "perplexity": result.perplexity(),
            "tokens": result.tokens,
            "windows": result.windows,
            "bytes": result.bytes,
            "bits_per_byte": result.bits_per_byte(),
            "seq": self.seq,
            "device": self.device,
        });
        if let Some(name) = &self.adapter {
            report["adapter"] = json!(name);
        }
        report
    }
}
