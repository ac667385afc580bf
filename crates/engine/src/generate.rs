use crate::{Error, ErrorKind, Generator, Result, Sampler};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

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
    let sequence = beginning(bos, prompt)?;
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

/// What the model reads before it continues a prompt.
fn beginning(bos: Option<u32>, prompt: &[u32]) -> Result<Vec<u32>> {
    let sequence: Vec<u32> = bos.into_iter().chain(prompt.iter().copied()).collect();
    if sequence.is_empty() {
        return Err(Error::new(ErrorKind::Length, "the prompt is empty")
            .hint("this tokenizer has no token that begins a text; give a prompt with -p"));
    }
    Ok(sequence)
}

/// What happens to one of several texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextEvent {
    /// It has another token.
    Token(u32),
    /// It is complete.
    End(StopReason),
}

/// A prompt being continued in one of a generator's sequences.
struct Continued {
    /// Which prompt.
    index: usize,
    /// Which sequence of the generator.
    sequence: usize,
    /// The token chosen last.
    next: u32,
    /// Tokens of the text so far.
    length: usize,
}

/// Reads prompts and continues them, as many together as the generator has sequences; when one
/// ends, the next prompt takes its place. Every prompt has a sampler of its own, so that its text
/// does not depend on the others, and an adapter by the generator's number, or none. `on_text` gets the number of a prompt with every token of its
/// text: the prompt's, BOS not included, then each chosen one as soon as it is known; and with
/// why the text ended. When it breaks, all texts stay as they are.
///
/// # Errors
/// When a prompt is empty or too long, or the device fails.
///
/// # Panics
/// When there are fewer samplers or adapters than prompts.
pub fn generate_each(
    generator: &mut Generator,
    prompts: &[Vec<u32>],
    adapters: &[Option<usize>],
    bos: Option<u32>,
    samplers: &mut [Sampler],
    stop: &StopRule,
    on_text: &mut dyn FnMut(usize, TextEvent) -> ControlFlow<()>,
) -> Result<()> {
    let mut waiting: VecDeque<usize> = (0..prompts.len()).collect();
    let mut free: Vec<usize> = (0..generator.sequences()).rev().collect();
    let mut running: Vec<Continued> = Vec::new();
    loop {
        while let Some(&sequence) = free.last()
            && let Some(index) = waiting.pop_front()
        {
            let prompt = &prompts[index];
            for &token in prompt.iter().take(stop.max_tokens) {
                if on_text(index, TextEvent::Token(token)).is_break() {
                    return Ok(());
                }
            }
            if prompt.len() >= stop.max_tokens {
                if on_text(index, TextEvent::End(StopReason::MaxTokens)).is_break() {
                    return Ok(());
                }
                continue;
            }
            free.pop();
            generator.reset_sequence(sequence);
            generator.choose_adapter(sequence, adapters[index]);
            let logits = generator.read_in(sequence, &beginning(bos, prompt)?)?;
            let next = samplers[index].sample(logits);
            running.push(Continued { index, sequence, next, length: prompt.len() });
        }
        let mut interrupted = false;
        running.retain_mut(|text| {
            if interrupted {
                return true;
            }
            let ended = if stop.stop_ids.contains(&text.next) {
                Some(StopReason::StopId(text.next))
            } else {
                text.length += 1;
                interrupted = on_text(text.index, TextEvent::Token(text.next)).is_break();
                if text.length >= stop.max_tokens {
                    Some(StopReason::MaxTokens)
                } else if generator.position_of(text.sequence) >= generator.limit() {
                    Some(StopReason::ContextFull)
                } else {
                    None
                }
            };
            if let Some(reason) = ended {
                interrupted |= on_text(text.index, TextEvent::End(reason)).is_break();
                free.push(text.sequence);
            }
            ended.is_none()
        });
        if interrupted || running.is_empty() && waiting.is_empty() {
            return Ok(());
        }
        if running.is_empty() {
            continue;
        }
        let next: Vec<(usize, u32)> = running.iter().map(|t| (t.sequence, t.next)).collect();
        let logits = generator.read_each(&next)?;
        let rows = logits.chunks_exact(logits.len() / running.len());
        for (text, row) in running.iter_mut().zip(rows) {
            text.next = samplers[text.index].sample(row);
        }
    }
}
