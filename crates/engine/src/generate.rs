//! Texts from prompts: one, or several together.

use crate::{Error, ErrorKind, Generator, Result, Sampler};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// When a continuation ends, besides the model ending it, and what is said of its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextRule {
    /// Ends the text when it is this many tokens long, prompt included, BOS not.
    pub max_tokens: usize,
    /// Ends the text before any of these ids.
    pub stop_ids: Vec<u32>,
    /// Whether the text goes on when the context is full: its older half is left out then, and the
    /// newer half is read again.
    pub slides: bool,
    /// With how many others' log-probabilities chosen tokens come; without any when absent.
    pub logprobs: Option<usize>,
}

impl TextRule {
    /// A text of at most so many tokens that ends with these ids or with the context.
    pub fn new(max_tokens: usize, stop_ids: Vec<u32>) -> Self {
        Self { max_tokens, stop_ids, slides: false, logprobs: None }
    }
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

/// Natural logarithms of what the model gave tokens as probabilities, before temperature and
/// filters.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub chosen: f64,
    /// The likeliest tokens, the likeliest first.
    pub top: Vec<(u32, f64)>,
}

impl Logprobs {
    fn of(logits: &[f32], chosen: u32, count: usize) -> Self {
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|&l| (f64::from(l) - largest).exp()).sum();
        let total = largest + sum.ln();
        let of = |token: u32| f64::from(logits[token as usize]) - total;
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        let order =
            |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        let count = count.min(ids.len());
        if count < ids.len() {
            ids.select_nth_unstable_by(count, order);
            ids.truncate(count);
        }
        ids.sort_unstable_by(order);
        Self { chosen: of(chosen), top: ids.into_iter().map(|id| (id, of(id))).collect() }
    }
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

/// What happens to one of several texts.
#[derive(Debug, Clone, PartialEq)]
pub enum TextEvent {
    /// It begins with another token of its prompt.
    Prompt(u32),
    /// It has another token.
    Token(u32, Option<Logprobs>),
    /// The context was full: so many tokens at its beginning are not looked back on any more.
    Slid {
        /// Tokens that were left out.
        left_out: usize,
    },
    /// It is complete.
    End(StopReason),
}

/// What becomes of a text after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Continue,
    /// It ends here; the others go on.
    EndText,
    /// All texts stay as they are.
    EndAll,
}

/// Reads a prompt and continues it, with the adapter that the generator's first sequence has.
/// `on_text` gets every event of the text, the last one too.
///
/// # Errors
/// When the prompt is empty or too long, or the device fails.
pub fn generate(
    generator: &mut Generator,
    prompt: &[u32],
    bos: Option<u32>,
    sampler: &mut Sampler,
    rule: &TextRule,
    on_text: &mut dyn FnMut(TextEvent) -> ControlFlow<()>,
) -> Result<GenerationStats> {
    let begin = Instant::now();
    let mut stats = GenerationStats {
        prompt_tokens: prompt.len() + usize::from(bos.is_some()),
        prompt_time: Duration::ZERO,
        generated_tokens: 0,
        generation_time: Duration::ZERO,
        stopped: StopReason::Interrupted,
    };
    let mut was_read = None;
    let prompts = [prompt.to_vec()];
    let adapter = [generator.adapter_of(0)];
    generate_each(
        generator,
        &prompts,
        &adapter,
        bos,
        std::slice::from_mut(sampler),
        rule,
        &mut |_, event| {
            match &event {
                TextEvent::Prompt(_) => {}
                TextEvent::Token(..) | TextEvent::Slid { .. } | TextEvent::End(_) => {
                    was_read.get_or_insert_with(Instant::now);
                }
            }
            match &event {
                TextEvent::Token(..) => stats.generated_tokens += 1,
                TextEvent::End(reason) => stats.stopped = *reason,
                _ => {}
            }
            match on_text(event) {
                ControlFlow::Continue(()) => Flow::Continue,
                ControlFlow::Break(()) => Flow::EndAll,
            }
        },
    )?;
    if let Some(was_read) = was_read {
        stats.prompt_time = was_read - begin;
        stats.generation_time = was_read.elapsed();
    }
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

/// A prompt being continued in one of a generator's sequences.
struct Continued {
    /// Which prompt.
    index: usize,
    /// Which sequence of the generator.
    sequence: usize,
    /// The tokens of the text, BOS not included.
    tokens: Vec<u32>,
    /// The token chosen last, which is not in the text yet.
    next: u32,
    logprobs: Option<Logprobs>,
}

impl Continued {
    /// How many of its tokens are not looked back on when a context of so many is full.
    fn left_out(&self, limit: usize) -> usize {
        self.tokens.len().saturating_sub((limit / 2).max(1))
    }

    fn choose(&mut self, sampler: &mut Sampler, logits: &[f32], rule: &TextRule) {
        self.next = sampler.sample(logits);
        self.logprobs = rule.logprobs.map(|count| Logprobs::of(logits, self.next, count));
    }
}

/// Reads prompts and continues them, as many together as the generator has sequences; when one
/// ends, the next prompt takes its place. Every prompt has a sampler of its own, so that its text
/// does not depend on the others, and an adapter by the generator's number, or none. `on_text`
/// gets the number of a prompt with every token of its text: the prompt's, BOS not included, then
/// each chosen one as soon as it is known; and with why the text ended, unless it said itself that
/// all do.
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
    rule: &TextRule,
    on_text: &mut dyn FnMut(usize, TextEvent) -> Flow,
) -> Result<()> {
    let mut waiting: VecDeque<usize> = (0..prompts.len()).collect();
    let mut free: Vec<usize> = (0..generator.sequences()).rev().collect();
    let mut running: Vec<Continued> = Vec::new();
    loop {
        while let Some(&sequence) = free.last()
            && let Some(index) = waiting.pop_front()
        {
            let prompt = &prompts[index];
            let mut flow = Flow::Continue;
            for &token in prompt.iter().take(rule.max_tokens) {
                flow = on_text(index, TextEvent::Prompt(token));
                if flow != Flow::Continue {
                    break;
                }
            }
            let ended = match flow {
                Flow::EndAll => return Ok(()),
                Flow::EndText => Some(StopReason::Interrupted),
                Flow::Continue => {
                    (prompt.len() >= rule.max_tokens).then_some(StopReason::MaxTokens)
                }
            };
            if let Some(reason) = ended {
                if on_text(index, TextEvent::End(reason)) == Flow::EndAll {
                    return Ok(());
                }
                continue;
            }
            free.pop();
            generator.reset_sequence(sequence);
            generator.choose_adapter(sequence, adapters[index]);
            let logits = generator.read_in(sequence, &beginning(bos, prompt)?)?;
            let tokens = prompt.clone();
            let mut text = Continued { index, sequence, tokens, next: 0, logprobs: None };
            text.choose(&mut samplers[index], logits, rule);
            running.push(text);
        }
        let mut end_all = false;
        running.retain_mut(|text| {
            if end_all {
                return true;
            }
            let ended = take_up(text, generator, rule, on_text, &mut end_all);
            if let Some(reason) = ended {
                end_all |= on_text(text.index, TextEvent::End(reason)) == Flow::EndAll;
                free.push(text.sequence);
            }
            ended.is_none()
        });
        if end_all || running.is_empty() && waiting.is_empty() {
            return Ok(());
        }
        // Those whose context is full read what they keep of it, each for itself.
        let (full, next): (Vec<_>, Vec<_>) = running
            .iter_mut()
            .partition(|text| generator.position_of(text.sequence) >= generator.limit());
        for text in full {
            let limit = generator.limit();
            let kept = &text.tokens[text.left_out(limit)..];
            let bos = bos.filter(|_| kept.len() < limit);
            generator.reset_sequence(text.sequence);
            let logits = generator.read_in(text.sequence, &beginning(bos, kept)?)?;
            text.choose(&mut samplers[text.index], logits, rule);
        }
        if next.is_empty() {
            continue;
        }
        let pairs: Vec<(usize, u32)> = next.iter().map(|t| (t.sequence, t.next)).collect();
        let logits = generator.read_each(&pairs)?;
        let rows = logits.chunks_exact(logits.len() / pairs.len());
        for (text, row) in next.into_iter().zip(rows) {
            text.choose(&mut samplers[text.index], row, rule);
        }
    }
}

/// Puts the chosen token into its text, and says when the context is full with it; gives why the
/// text ends with it or before it.
fn take_up(
    text: &mut Continued,
    generator: &Generator,
    rule: &TextRule,
    on_text: &mut dyn FnMut(usize, TextEvent) -> Flow,
    end_all: &mut bool,
) -> Option<StopReason> {
    if rule.stop_ids.contains(&text.next) {
        return Some(StopReason::StopId(text.next));
    }
    text.tokens.push(text.next);
    let mut interrupted = |event| {
        let flow = on_text(text.index, event);
        *end_all |= flow == Flow::EndAll;
        (flow != Flow::Continue).then_some(StopReason::Interrupted)
    };
    let ended = interrupted(TextEvent::Token(text.next, text.logprobs.take()));
    if ended.is_some() {
        ended
    } else if text.tokens.len() >= rule.max_tokens {
        Some(StopReason::MaxTokens)
    } else if generator.position_of(text.sequence) < generator.limit() {
        None
    } else if rule.slides {
        interrupted(TextEvent::Slid { left_out: text.left_out(generator.limit()) })
    } else {
        Some(StopReason::ContextFull)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_tensor::Tolerance;

    #[test]
    fn logprobs_are_of_the_whole_distribution() {
        let found = Logprobs::of(&[1.0, 3.0, -1e30, 3.0], 0, 3);
        let total = (1f64.exp() + 2.0 * 3f64.exp()).ln();
        let ids: Vec<u32> = found.top.iter().map(|row| row.0).collect();
        assert_eq!(ids, [1, 3, 0]);
        let mut numbers: Vec<f64> = found.top.iter().map(|row| row.1).collect();
        numbers.push(found.chosen);
        let expected = [3.0, 3.0, 1.0, 1.0].map(|logit| logit - total);
        Tolerance::F32Accum.check(&numbers, &expected).unwrap();
        assert_eq!(Logprobs::of(&[0.0, 0.0], 1, 9).top.len(), 2);
        assert!(Logprobs::of(&[0.0, 0.0], 1, 0).top.is_empty());
    }
}
