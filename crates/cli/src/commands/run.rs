mod parallel;
mod prompts;

use crate::adapters::Adapters;
use crate::arguments::{Format, Run, Sampling};
use crate::devices::{kept, model_devices};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use crate::tokenizer::require_tokenizer;
use orion_engine::{
    GenerationStats, Generator, LoadedModel, ModelFile, Sampler, SamplerConfig, StopReason,
    StopStrings, TextEvent, TextRule, generate,
};
use orion_tokenizer::Tokenizer;
use std::io::Read;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

pub(crate) fn run(arguments: &Run, printer: &Printer) -> Result {
    let sampler = sampler(&arguments.sampling)?;
    if arguments.logprobs.is_some() && arguments.format != Format::Json {
        return Err(
            Failure::usage("--logprobs says nothing in plain text").hint("add --format json")
        );
    }
    let prompt = prompt(arguments)?;
    let (products, storage) = kept(arguments.precision);
    let devices = model_devices(&arguments.device, products, printer)?;
    let model = ModelFile::open(&arguments.model)?;
    let named = arguments.tokenizer.as_deref();
    let tokenizer = require_tokenizer(named, &model, &arguments.model, printer)?;
    let adapters = Adapters::open(&arguments.adapters.adapter, &model.network)?;
    let model = model.load_for_inference(storage)?;
    for device in devices.each() {
        printer.detail(format_args!("device {}: {}", device.name(), device.description()));
    }
    printer.detail(format_args!("seed {}", sampler.seed));
    let rule = TextRule {
        max_tokens: arguments.max_tokens.unwrap_or(usize::MAX),
        stop_ids: end_ids(&model, &tokenizer),
        // Without a length, the context is what ends a text.
        slides: arguments.max_tokens.is_some(),
        logprobs: arguments.logprobs,
    };
    if arguments.parallel.is_some() || arguments.format == Format::Json || adapters.len() > 1 {
        let prompts = match arguments.parallel {
            Some(_) => prompts::of_lines(&prompt, &adapters)?,
            None => prompts::of_text(prompt, &adapters),
        };
        let count = arguments.parallel.map_or(1, NonZeroUsize::get).min(prompts.len()).max(1);
        if count > 1 && !adapters.is_empty() && devices.is_split_at_attention() {
            return Err(Failure::usage(
                "several sequences with adapters cannot go through the first device of two with \
                 --split attention",
            )
            .hint("use --split prefill, or leave --parallel out"));
        }
        let mut generator = Generator::with_sequences(&model, devices, arguments.context, count)?;
        adapters.load_into(&mut generator);
        let (stop, format) = (arguments.stop.clone(), arguments.format);
        let texts = parallel::Texts { prompts, adapters, sampler, rule, stop, format };
        return texts.write(generator, &tokenizer, arguments.stats, printer);
    }
    let mut generator = Generator::new(&model, devices, arguments.context)?;
    adapters.load_into(&mut generator);
    generator.choose_adapter(0, (!adapters.is_empty()).then_some(0));
    let prompt = tokenizer.encode(&prompt);
    let start = prompt_start(&tokenizer, prompt.is_empty());
    let beginning = prompt.len() + usize::from(start.is_some());
    if beginning > generator.limit() {
        return Err(Failure::new(format!(
            "the prompt has {beginning} tokens, the context holds {}",
            generator.limit()
        )));
    }
    let (interrupt, seed) = (Interrupt::listen(), sampler.seed);
    let mut sampler = Sampler::new(sampler);
    let stop = StopStrings::new(arguments.stop.iter().cloned());
    let text = Streamed { tokenizer: &tokenizer, rule, stop };
    let (stats, stopped_by) =
        text.write(&mut generator, &prompt, &mut sampler, &interrupt, printer)?;
    printer.end_of_text()?;
    printer.warn_of(generator.range());
    if arguments.stats {
        let why = stopped_by.map_or_else(|| reason(stats.stopped), |s| format!("at {s:?}"));
        report(&stats, &why, seed, printer);
        report_swap(&generator, printer);
    }
    Ok(if interrupt.is_asked() { Exit::Interrupted } else { Exit::Success })
}

/// Every id that ends a text: those that the model's files name and those that the tokenizer has
/// names for.
pub(crate) fn end_ids(model: &LoadedModel, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut ids = tokenizer.end_ids();
    ids.extend(&model.end_ids);
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What the model reads before a prompt. One that is empty needs something, and the token that
/// begins documents is it.
fn prompt_start(tokenizer: &Tokenizer, prompt_is_empty: bool) -> Option<u32> {
    tokenizer.prompt_start().or_else(|| tokenizer.bos().filter(|_| prompt_is_empty))
}

/// A text that is written to standard output as it comes.
pub(crate) struct Streamed<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) rule: TextRule,
    pub(crate) stop: StopStrings,
}

impl Streamed<'_> {
    /// Continues a prompt until a rule or the model ends it. Gives the stop string that did it,
    /// where one did.
    pub(crate) fn write(
        self,
        generator: &mut Generator,
        prompt: &[u32],
        sampler: &mut Sampler,
        interrupt: &Interrupt,
        printer: &Printer,
    ) -> Result<(GenerationStats, Option<String>)> {
        let Self { tokenizer, rule, mut stop } = self;
        let bos = prompt_start(tokenizer, prompt.is_empty());
        let mut text = tokenizer.decode_stream();
        if let Some(bos) = bos {
            text.feed(bos);
        }
        let (mut printed, mut stopped_by) = (Ok(()), None);
        let stats = generate(generator, prompt, bos, sampler, &rule, &mut |event| {
            match event {
                TextEvent::Prompt(token) => printed = printer.data(text.feed(token)),
                TextEvent::Token(token, _) => {
                    let piece;
                    (piece, stopped_by) = stop.feed(&text.feed(token));
                    printed = printer.data(piece);
                }
                TextEvent::Slid { left_out } => say_slid(left_out, printer),
                TextEvent::End(_) => {}
            }
            match printed {
                Ok(()) if stopped_by.is_none() && !interrupt.is_asked() => {
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Break(()),
            }
        })?;
        printed?;
        if stopped_by.is_none() {
            let piece;
            (piece, stopped_by) = stop.feed(&text.finish());
            printer.data(piece)?;
        }
        if stopped_by.is_none() {
            printer.data(stop.finish())?;
        }
        Ok((stats, stopped_by))
    }
}

/// Says that the model has forgotten the beginning.
fn say_slid(left_out: usize, printer: &Printer) {
    printer.warn(format_args!(
        "the context is full; the first {left_out} tokens are left out from here on"
    ));
}

fn prompt(arguments: &Run) -> Result<String> {
    let Some(path) = &arguments.prompt_file else {
        return Ok(arguments.prompt.clone().unwrap_or_default());
    };
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).context(path.display())
}

pub(crate) fn sampler(arguments: &Sampling) -> Result<SamplerConfig> {
    let Sampling { temperature, top_k, top_p, min_p, seed } = *arguments;
    let wrong = |flag: &str, value: f64, allowed: &str| {
        Err(Failure::usage(format!("{flag} is {value}; it must be {allowed}")))
    };
    if !temperature.is_finite() || temperature < 0.0 {
        return wrong("--temperature", temperature, "0 or more");
    }
    for (flag, value) in [("--top-p", top_p), ("--min-p", min_p)] {
        if let Some(value) = value
            && !(0.0..=1.0).contains(&value)
        {
            return wrong(flag, value, "between 0 and 1");
        }
    }
    Ok(SamplerConfig {
        temperature,
        top_k: top_k.map_or(0, NonZeroUsize::get),
        top_p: top_p.unwrap_or(1.0),
        min_p: min_p.unwrap_or(0.0),
        seed: seed.unwrap_or_else(seed_of_the_moment),
    })
}

/// Another number each time.
fn seed_of_the_moment() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32
}

fn report(stats: &GenerationStats, stopped: &str, seed: u64, printer: &Printer) {
    let rate = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
    printer.report(format_args!(
        "prompt      {} tokens in {:.3} s, compilation included",
        stats.prompt_tokens,
        stats.prompt_time.as_secs_f64()
    ));
    // The first token comes out of reading the prompt.
    let decoded = stats.generated_tokens.saturating_sub(1);
    printer.report(format_args!(
        "generation  {decoded} tokens in {:.3} s, {:.1} tokens/s",
        stats.generation_time.as_secs_f64(),
        rate(decoded, stats.generation_time)
    ));
    printer.report(format_args!("stopped     {stopped}"));
    printer.report(format_args!("seed        {seed}"));
}

/// How long the last change of adapters took.
fn report_swap(generator: &Generator, printer: &Printer) {
    if let Some(time) = generator.adapter_swap_time() {
        let micros = time.as_secs_f64() * 1e6;
        printer
            .report(format_args!("adapter     chosen in {micros:.1} µs, nothing compiled for it"));
    }
}

fn reason(stopped: StopReason) -> String {
    match stopped {
        StopReason::MaxTokens => "as long as asked for".to_owned(),
        StopReason::StopId(id) => format!("the model ended the text (token {id})"),
        StopReason::ContextFull => "the context is full".to_owned(),
        StopReason::Interrupted => "interrupted".to_owned(),
    }
}
