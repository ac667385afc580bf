use crate::programs::step_program;
use crate::{Error, ErrorKind, LoadedModel, Result, Sampler};
use orion_models::{Network, StepShape, WeightIndex};
use orion_runtime::{Bindings, Device, Layout, ProgramCache, Surface};
use orion_tensor::DType;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many tokens a prefill program takes at once. A prompt goes through in chunks of these;
/// the last chunk may be filled up with tokens whose results are not used.
pub const PREFILL_SIZES: [usize; 3] = [16, 64, 256];

/// The shortest key/value cache. Caches double when they are full.
const SHORTEST_CONTEXT: usize = 128;

/// One sequence being read and continued by a model on a device.
///
/// Programs are compiled per number of tokens and cache length when first needed; the caller
/// never sees these buckets.
pub struct Generator {
    network: Network,
    index: WeightIndex,
    programs: ProgramCache,
    caches: Vec<(String, Surface)>,
    context: usize,
    limit: usize,
    position: usize,
    logits: Surface,
}

impl Generator {
    /// A generator at the start of a sequence. `limit` is the longest sequence in tokens; the
    /// model's own limit when not given.
    ///
    /// # Errors
    /// When `limit` is 0 or beyond what the model was made for.
    pub fn new(model: &LoadedModel, device: Arc<dyn Device>, limit: Option<usize>) -> Result<Self> {
        let network = model.network.clone();
        let most = network.max_positions();
        let limit = limit.unwrap_or(most);
        if limit == 0 || limit > most {
            return Err(Error::new(
                ErrorKind::Length,
                format!("a context of {limit} tokens was asked for; this model takes 1 to {most}"),
            ));
        }
        let index = model.index(most);
        let programs = ProgramCache::new(device, index.weights().clone());
        let logits = Surface::zeros(Layout::dense(DType::F32, &[1, network.vocab_size(), 1, 1]));
        let mut this = Self {
            network,
            index,
            programs,
            caches: Vec::new(),
            context: 0,
            limit,
            position: 0,
            logits,
        };
        this.grow(1);
        Ok(this)
    }

    /// The longest sequence, in tokens.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many tokens have been read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Back to the start of a sequence; compiled programs stay.
    pub fn reset(&mut self) {
        self.position = 0;
    }

    /// Makes the caches hold at least `needed` tokens, keeping what is in them.
    fn grow(&mut self, needed: usize) {
        if needed <= self.context {
            return;
        }
        let context =
            needed.next_power_of_two().max(SHORTEST_CONTEXT).min(self.network.max_positions());
        let old = std::mem::take(&mut self.caches);
        for (i, (name, shape)) in self.network.caches(context).into_iter().enumerate() {
            let mut surface = Surface::zeros(Layout::dense(DType::F32, &shape));
            if let Some((_, before)) = old.get(i) {
                let (from, to) = (before.elements::<f32>(), surface.elements_mut::<f32>());
                for (from, to) in from.chunks(self.context).zip(to.chunks_mut(context)) {
                    to[..self.position].copy_from_slice(&from[..self.position]);
                }
            }
            self.caches.push((name, surface));
        }
        self.context = context;
    }

    /// Reads tokens and gives the logits `[V]` that follow the last of them.
    ///
    /// # Errors
    /// When a token is outside the vocabulary, the sequence gets longer than the limit, or the
    /// device fails.
    ///
    /// # Panics
    /// When there are no tokens.
    pub fn read(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        assert!(!tokens.is_empty(), "nothing to read");
        if self.position + tokens.len() > self.limit {
            return Err(Error::new(
                ErrorKind::Length,
                format!(
                    "{} tokens after {} are more than the context of {}",
                    tokens.len(),
                    self.position,
                    self.limit
                ),
            ));
        }
        let vocab_size = self.network.vocab_size();
        if let Some(bad) = tokens.iter().find(|&&t| t as usize >= vocab_size) {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("token {bad} is outside the model's vocabulary of {vocab_size}"),
            )
            .hint("is this the tokenizer the model was trained with?"));
        }
        self.grow(self.position + tokens.len());
        let mut rest = tokens;
        while !rest.is_empty() {
            let room = self.context - self.position;
            let size = chunk_size(rest.len(), room);
            let (chunk, after) = rest.split_at(rest.len().min(size));
            self.step(chunk, size)?;
            rest = after;
        }
        Ok(self.logits.elements())
    }

    /// Runs one program of `size` tokens on `chunk`, which may be shorter.
    fn step(&mut self, chunk: &[u32], size: usize) -> Result<()> {
        let shape = StepShape { sequences: 1, tokens: size, context: self.context };
        let mut ids: Vec<i32> = chunk.iter().map(|&t| t as i32).collect();
        ids.resize(size, 0);
        let tokens = Surface::from_slice(&[size], &ids);
        let position = Surface::from_slice(&[1], &[self.position as i32]);
        let last = Surface::from_slice(&[1], &[chunk.len() as i32 - 1]);
        let (network, index) = (&self.network, &self.index);
        let key = format!("step {} {}", shape.tokens, shape.context);
        let executable = self.programs.get(&key, || step_program(network, index, shape))?;
        let mut bindings = Bindings::new();
        bindings.input("tokens", &tokens).input("position", &position);
        if size > 1 {
            bindings.input("last", &last);
        }
        bindings.output("logits", &mut self.logits);
        for (name, cache) in &mut self.caches {
            bindings.update(name, cache);
        }
        executable.run(&mut bindings)?;
        self.position += chunk.len();
        Ok(())
    }
}

/// The program size for the next chunk of a prompt with `rest` tokens to go and `room` columns
/// left in the caches: the smallest that takes all, or the largest there is.
fn chunk_size(rest: usize, room: usize) -> usize {
    if rest == 1 {
        return 1;
    }
    let fitting = || PREFILL_SIZES.iter().copied().filter(|&n| n <= room);
    fitting().find(|&n| n >= rest).or_else(|| fitting().next_back()).unwrap_or(1)
}

/// When a continuation ends, besides the model ending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRule {
    /// Ends the text when it is this many tokens long, prompt included, BOS not.
    pub max_tokens: usize,
    /// Ends the text before any of these ids.
    pub stop_ids: Vec<u32>,
}

/// Why a continuation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The text is as long as was asked for.
    MaxTokens,
    /// The model gave a stop id.
    StopId(u32),
    /// The context is full.
    ContextFull,
    /// The caller asked to stop.
    Interrupted,
}

/// What a continuation took.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationStats {
    /// Tokens of the prompt, BOS included.
    pub prompt_tokens: usize,
    /// Time to read them, compilation included.
    pub prompt_time: Duration,
    /// Tokens chosen.
    pub generated_tokens: usize,
    /// Time for them, without the prompt.
    pub generation_time: Duration,
    /// Why it ended.
    pub stopped: StopReason,
}

/// Reads a prompt and continues it. `on_token` gets every token of the text: the prompt's, BOS
/// not included, then each chosen one as soon as it is known.
///
/// # Errors
/// When the prompt is empty or too long, or the device fails.
pub fn generate(
    generator: &mut Generator,
    prompt: &[u32],
    bos: Option<u32>,
    sampler: &mut Sampler,
    stop: &StopRule,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<GenerationStats> {
    let sequence: Vec<u32> = bos.into_iter().chain(prompt.iter().copied()).collect();
    if sequence.is_empty() {
        return Err(Error::new(ErrorKind::Length, "the prompt is empty")
            .hint("this tokenizer has no token that begins a text; give a prompt with -p"));
    }
    let begin = Instant::now();
    let mut stats = GenerationStats {
        prompt_tokens: sequence.len(),
        prompt_time: Duration::ZERO,
        generated_tokens: 0,
        generation_time: Duration::ZERO,
        stopped: StopReason::MaxTokens,
    };
    for &token in prompt.iter().take(stop.max_tokens) {
        if on_token(token).is_break() {
            stats.stopped = StopReason::Interrupted;
            return Ok(stats);
        }
    }
    if prompt.len() >= stop.max_tokens {
        return Ok(stats);
    }
    let mut next = sampler.sample(generator.read(&sequence)?);
    stats.prompt_time = begin.elapsed();
    let begin = Instant::now();
    stats.stopped = loop {
        if stop.stop_ids.contains(&next) {
            break StopReason::StopId(next);
        }
        stats.generated_tokens += 1;
        if on_token(next).is_break() {
            break StopReason::Interrupted;
        }
        if prompt.len() + stats.generated_tokens >= stop.max_tokens {
            break StopReason::MaxTokens;
        }
        if generator.position() >= generator.limit() {
            break StopReason::ContextFull;
        }
        next = sampler.sample(generator.read(&[next])?);
    };
    stats.generation_time = begin.elapsed();
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_fit_the_room() {
        assert_eq!(chunk_size(1, 500), 1);
        assert_eq!(chunk_size(2, 500), 16);
        assert_eq!(chunk_size(17, 500), 64);
        assert_eq!(chunk_size(1000, 500), 256);
        assert_eq!(chunk_size(100, 70), 64);
        assert_eq!(chunk_size(5, 15), 1);
    }
}
