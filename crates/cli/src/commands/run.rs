mod parallel;
mod prompts;

use crate::adapters::Adapters;
use crate::arguments::{Format, Run, Sampling};
use crate::devices::{device, kept};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use orion_engine::{
    GenerationStats, Generator, LoadedModel, Sampler, SamplerConfig, StopReason, StopRule,
    generate, load_model, open_tokenizer,
};
use orion_tokenizer::Tokenizer;
use std::io::Read;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

pub(crate) fn run(arguments: &Run, printer: &Printer) -> Result {
    let sampler = sampler(&arguments.sampling)?;
    let prompt = prompt(arguments)?;
    let (products, storage) = kept(arguments.precision);
    let device = device(&arguments.device, products)?;
    let model = LoadedModel { storage, ..load_model(&arguments.model)? };
    let tokenizer_path = arguments.tokenizer.as_deref().or(model.tokenizer.as_deref());
    let tokenizer_path = tokenizer_path.ok_or_else(|| {
        Failure::usage(format!("no tokenizer lies beside {}", arguments.model.display()))
            .hint("name one with --tokenizer")
    })?;
    let tokenizer = open_tokenizer(tokenizer_path, model.network.vocab_size())?;
    printer.detail(format_args!("tokenizer {}", tokenizer_path.display()));
    printer.detail(format_args!("device {}: {}", device.name(), device.description()));
    printer.detail(format_args!("seed {}", sampler.seed));
    let most = arguments.max_tokens.unwrap_or(usize::MAX);
    let adapters = Adapters::open(&arguments.adapters.adapter, &model.network)?;
    if arguments.parallel.is_some() || arguments.format == Format::Json || adapters.len() > 1 {
        let prompts = match arguments.parallel {
            Some(_) => prompts::of_lines(&prompt, &adapters)?,
            None => prompts::of_text(prompt, &adapters),
        };
        let count = arguments.parallel.map_or(1, NonZeroUsize::get).min(prompts.len()).max(1);
        let mut generator = Generator::with_sequences(&model, device, arguments.context, count)?;
        adapters.load_into(&mut generator);
        let texts = parallel::Texts { prompts, adapters, sampler, most, format: arguments.format };
        return texts.write(generator, &tokenizer, arguments.stats, printer);
    }
    let mut generator = Generator::new(&model, device, arguments.context)?;
    adapters.load_into(&mut generator);
    generator.choose_adapter(0, (!adapters.is_empty()).then_some(0));
    let prompt = tokenizer.encode(&prompt);
    let beginning = prompt.len() + usize::from(tokenizer.bos().is_some());
    if beginning > generator.limit() {
        return Err(Failure::new(format!(
            "the prompt has {beginning} tokens, the context holds {}",
            generator.limit()
        )));
    }
    let (interrupt, seed) = (Interrupt::listen(), sampler.seed);
    let mut sampler = Sampler::new(sampler);
    let stats =
        stream(&mut generator, &tokenizer, &prompt, &mut sampler, most, &interrupt, printer)?;
    printer.end_of_text()?;
    if arguments.stats {
        report(&stats, seed, printer);
        report_swap(&generator, printer);
    }
    Ok(if interrupt.is_asked() { Exit::Interrupted } else { Exit::Success })
}

/// Continues a prompt to standard output until the text has `most` tokens or the model ends it.
pub(crate) fn stream(
    generator: &mut Generator,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    sampler: &mut Sampler,
    most: usize,
    interrupt: &Interrupt,
    printer: &Printer,
) -> Result<GenerationStats> {
    let bos = tokenizer.bos();
    let stop =
        StopRule { max_tokens: most, stop_ids: bos.into_iter().chain(tokenizer.eos()).collect() };
    let mut text = tokenizer.decode_stream();
    if let Some(bos) = bos {
        text.feed(bos);
    }
    let mut printed = Ok(());
    let stats = generate(generator, prompt, bos, sampler, &stop, &mut |token| {
        printed = printer.data(text.feed(token));
        match printed {
            Ok(()) if !interrupt.is_asked() => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })?;
    printed?;
    printer.data(text.finish())?;
    Ok(stats)
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

fn report(stats: &GenerationStats, seed: u64, printer: &Printer) {
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
    printer.report(format_args!("stopped     {}", reason(stats.stopped)));
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
