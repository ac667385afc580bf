//! Trains a small Llama on the embedded corpus, through the same doors as `train` and `run`.

use super::run::Streamed;
use crate::arguments::Quickstart;
use crate::devices::{Products, device};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use crate::training::{free_run_directory, grouped, train_visibly};
use orion_engine::{
    ConfigLayers, Generator, Sampler, SamplerConfig, StopStrings, TextRule, TrainConfig, Trainer,
    load_model, network_of_preset,
};
use orion_formats::tokens;
use orion_tokenizer::Tokenizer;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

/// Optimizer steps, half a minute on two fast cores, and less than 90 seconds on slow ones.
pub(crate) const DEFAULT_STEPS: &str = "800";

/// Text to train on and to hold out, in bytes.
const CORPUS_BYTES: usize = 500_000;

/// Every so many stories, one is held out.
const HELD_OUT_EVERY: usize = 20;

/// Where stories begin.
const PROMPT: &str = "Once upon a time";

/// Seed of everything: two runs on one machine tell the same story.
const SEED: u64 = 1;

/// The longest story told, in tokens.
const STORY_TOKENS: usize = 250;

pub(crate) fn quickstart(arguments: &Quickstart, printer: &Printer) -> Result {
    let begin = Instant::now();
    let device = device(&arguments.device, Products::F32)?;
    let directory = arguments.out.clone().unwrap_or_else(|| free_run_directory("quickstart"));
    if directory.join("config.toml").exists() {
        return Err(Failure::new(format!("{}: already holds a run", directory.display()))
            .hint("choose another --out"));
    }
    std::fs::create_dir_all(&directory).context(directory.display())?;
    let directory = std::path::absolute(&directory).context(directory.display())?;

    printer.heading("1. Data");
    let network = network_of_preset("quickstart")?;
    let data = prepare_data(&directory, network.vocab_size())?;
    printer.say(format_args!(
        "   {} stories from the built-in grammar, {} held out; {} tokens of a byte-level BPE \
         trained on them just now",
        grouped(data.stories),
        grouped(data.held_out),
        grouped(data.tokens)
    ));

    printer.heading("2. Training from random weights");
    let config = recipe(&directory, &data.tokenizer, arguments.steps)?;
    printer.say(format_args!(
        "   a Llama of {} parameters on {}, {} tokens a step",
        grouped(network.parameter_count()),
        device.name(),
        grouped(config.train.batch * config.train.seq)
    ));
    let mut trainer = Trainer::new(config, &directory, device.clone())?;
    let interrupt = Interrupt::listen();
    let trained = Instant::now();
    let outcome = train_visibly(&mut trainer, &interrupt, printer)?;
    drop(trainer);
    if outcome.interrupted {
        printer.say(format_args!("stopped after step {}", outcome.step));
        return Ok(Exit::Interrupted);
    }
    let seconds = trained.elapsed().as_secs_f64();
    let (before, after) = match outcome.eval_losses {
        (Some(before), Some(after)) => (before, after),
        _ => return Err(Failure::new("the held-out stories were not evaluated")),
    };
    printer.say(format_args!(
        "   {} steps in {seconds:.0} s, {} tokens/s; held-out loss {before:.3} before, {after:.3} \
         after",
        outcome.step,
        grouped((outcome.tokens as f64 / seconds) as usize)
    ));

    printer.heading("3. A story");
    printer.say("");
    let model = load_model(&directory)?;
    let mut generator = Generator::new(&model, device, None)?;
    let sampling = SamplerConfig { temperature: 0.7, seed: SEED, ..SamplerConfig::greedy() };
    let prompt = data.tokenizer.encode(PROMPT);
    let mut sampler = Sampler::new(sampling);
    let rule = TextRule::new(STORY_TOKENS, data.tokenizer.end_ids());
    let story = Streamed { tokenizer: &data.tokenizer, rule, stop: StopStrings::new([]) };
    story.write(&mut generator, &prompt, &mut sampler, &interrupt, printer)?;
    printer.data("\n")?;
    printer.say("");
    if interrupt.is_asked() {
        return Ok(Exit::Interrupted);
    }
    say_what_next(&directory, outcome.step + 300, begin, printer);
    Ok(Exit::Success)
}

/// What was written for training.
struct Data {
    tokenizer: Tokenizer,
    stories: usize,
    held_out: usize,
    tokens: usize,
}

/// Writes `train.bin`, `held_out.bin` and the tokenizer, which never saw the held-out stories.
fn prepare_data(directory: &Path, vocab_size: usize) -> Result<Data> {
    let stories = orion_corpus::corpus(SEED, CORPUS_BYTES);
    let is_held_out = |i: usize| i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1;
    let part = |held_out: bool| {
        let kept = stories.iter().enumerate().filter(move |(i, _)| is_held_out(*i) == held_out);
        kept.map(|(_, story)| story.as_str())
    };
    let tokenizer = Tokenizer::train_byte_level(part(false), vocab_size)?;
    let write = |name: &str, held_out: bool| -> Result<usize> {
        let mut ids = Vec::new();
        for story in part(held_out) {
            let tokens = tokenizer.bos().into_iter().chain(tokenizer.encode(story));
            for id in tokens {
                ids.push(u16::try_from(id).context("a token id")?);
            }
        }
        let path = directory.join(name);
        let mut out = BufWriter::new(File::create(&path).context(path.display())?);
        tokens::write_shard(&mut out, &ids).context(path.display())?;
        out.flush().context(path.display())?;
        Ok(ids.len())
    };
    let tokens = write("train.bin", false)? + write("held_out.bin", true)?;
    let held_out = part(true).count();
    tokenizer.save_in(directory)?;
    Ok(Data { tokenizer, stories: stories.len(), held_out, tokens })
}

/// The page `train` would get: it is what `config.toml` of the run shows.
fn recipe(directory: &Path, tokenizer: &Tokenizer, steps: u64) -> Result<TrainConfig> {
    let mut layers = ConfigLayers::default();
    layers.set_network(&network_of_preset("quickstart")?);
    let file = |name: &str| {
        let path = directory.join(name).into_os_string().into_string();
        path.map_err(|_| Failure::usage("the run directory is not a UTF-8 path"))
    };
    layers.set("data.train", &file("train.bin")?)?;
    layers.set("data.eval", &file("held_out.bin")?)?;
    layers.set("data.tokenizer", &file(tokenizer.file_name())?)?;
    layers.add_toml(RECIPE)?;
    layers.set("train.steps", &steps.to_string())?;
    // A shortened run has no time for a long warm-up.
    layers.set("optimizer.warmup", &(steps / 10).min(20).to_string())?;
    Ok(layers.finish()?)
}

const RECIPE: &str = "
[data]
order = 'random'
[train]
batch = 4
seq = 256
seed = 1
[optimizer]
lr = 3e-3
min_lr = 3e-4
schedule = 'cosine'
weight_decay = 0.1
[eval]
batches = 0
[sample]
prompt = 'Once upon a time'
";

fn say_what_next(directory: &Path, more_steps: u64, begin: Instant, printer: &Printer) {
    let here = std::env::current_dir().ok();
    let shown = here.and_then(|here| directory.strip_prefix(here).ok()).unwrap_or(directory);
    let shown = shown.display();
    let orion = std::env::args().next().unwrap_or_else(|| "orion".to_owned());
    printer.heading(format_args!("Done in {:.0} s", begin.elapsed().as_secs_f64()));
    printer.say(format_args!(
        "   Every number above came out of MIL programs: forward, backward and optimizer.\n   \
         {shown} holds the recipe (config.toml), a line for every step\n   \
         (metrics.jsonl) and the trained weights (latest)."
    ));
    printer.heading("Try next");
    printer.say(format_args!(
        "   {orion} run {shown} -p \"One sunny day\" --temperature 0.7\n   \
         {orion} train --resume {shown} --steps {more_steps}\n   \
         {orion} eval {shown} --data {shown}/held_out.bin\n   \
         {orion} compile {shown} --out {shown}/programs"
    ));
}
