//! Continues several prompts together, and prints each text when it is complete.

use super::prompts::Prompt;
use super::{prompt_start, reason, report_swap, say_slid};
use crate::adapters::Adapters;
use crate::arguments::Format;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use orion_engine::{
    Flow, Generator, Logprobs, Sampler, SamplerConfig, StopReason, StopStrings, TextEvent,
    TextRule, generate_each,
};
use orion_tokenizer::{DecodeStream, Tokenizer};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What to write.
pub(super) struct Texts {
    pub(super) prompts: Vec<Prompt>,
    pub(super) adapters: Adapters,
    /// Of the first prompt; the others have the seeds that follow.
    pub(super) sampler: SamplerConfig,
    pub(super) rule: TextRule,
    /// Strings that end a text.
    pub(super) stop: Vec<String>,
    pub(super) format: Format,
}

impl Texts {
    pub(super) fn write(
        &self,
        mut generator: Generator,
        tokenizer: &Tokenizer,
        stats: bool,
        printer: &Printer,
    ) -> Result {
        let encoded: Vec<Vec<u32>> =
            self.prompts.iter().map(|p| tokenizer.encode(&p.text)).collect();
        // Only a single prompt can be empty.
        let bos = prompt_start(tokenizer, encoded.iter().all(Vec::is_empty));
        let adapters: Vec<Option<usize>> = self.prompts.iter().map(|p| p.adapter).collect();
        for (i, prompt) in encoded.iter().enumerate() {
            let beginning = prompt.len() + usize::from(bos.is_some());
            if beginning > generator.limit() {
                return Err(Failure::new(format!(
                    "prompt {} has {beginning} tokens, the context holds {}",
                    i + 1,
                    generator.limit()
                )));
            }
        }
        let seeds = (0..encoded.len()).map(|i| self.sampler.seed.wrapping_add(i as u64));
        let mut samplers: Vec<Sampler> = seeds
            .map(|seed| Sampler::new(SamplerConfig { seed, ..self.sampler.clone() }))
            .collect();
        let interrupt = Interrupt::listen();
        let begin = Instant::now();
        let stop = StopStrings::new(self.stop.iter().cloned());
        let mut texts: Vec<Text> =
            self.prompts.iter().map(|_| Text::new(tokenizer, bos, stop.clone())).collect();
        let (mut complete, mut printed) = (0, Ok(()));
        let mut on_text = |i: usize, event: TextEvent| {
            if let TextEvent::Slid { left_out } = event {
                say_slid(left_out, printer);
            }
            texts[i].take(event);
            // In the order of the prompts.
            while printed.is_ok()
                && let Some(text) = texts.get(complete)
                && let Some(reason) = text.ended
            {
                printed = self.print(complete, text, reason, tokenizer, printer);
                complete += 1;
            }
            match printed {
                Ok(()) if !interrupt.is_asked() => texts[i].flow(),
                _ => Flow::EndAll,
            }
        };
        generate_each(
            &mut generator,
            &encoded,
            &adapters,
            bos,
            &mut samplers,
            &self.rule,
            &mut on_text,
        )?;
        printed?;
        // What was interrupted is not thrown away.
        for (i, text) in texts.iter_mut().enumerate().skip(complete) {
            if let Some(reason) = text.end() {
                self.print(i, text, reason, tokenizer, printer)?;
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        printer.warn_of(generator.range());
        if stats {
            let generated: usize = texts.iter().map(|text| text.chosen.len()).sum();
            printer.report(format_args!(
                "generation  {generated} tokens of {} texts in {seconds:.3} s, {:.1} tokens/s, \
                 prompts and compilation included",
                encoded.len(),
                generated as f64 / seconds.max(1e-9)
            ));
            printer.report(format_args!("seed        {}", self.sampler.seed));
            report_swap(&generator, printer);
        }
        Ok(if interrupt.is_asked() { Exit::Interrupted } else { Exit::Success })
    }

    fn print(
        &self,
        index: usize,
        text: &Text<'_>,
        stopped: StopReason,
        tokenizer: &Tokenizer,
        printer: &Printer,
    ) -> Result<()> {
        if self.format == Format::Text {
            // A blank line between texts.
            if index > 0 {
                printer.data_line("")?;
            }
            return printer.data_line(&text.text);
        }
        let prompt = &self.prompts[index];
        let generated = text.chosen.len();
        let (prompt_time, generation_time) = text.times();
        let mut report = json!({
            "prompt": prompt.text,
            "text": text.text,
            "continuation": &text.text[text.prompt_length..],
            "prompt_tokens": text.prompt.len(),
            "generated_tokens": generated,
            "prompt_ids": text.prompt,
            "ids": text.chosen,
            "finish_reason": text.finish_reason(stopped),
            "stopped": match &text.stopped_by {
                Some(string) => format!("at {string:?}"),
                None => reason(stopped),
            },
            "left_out_tokens": text.left_out,
            "seed": self.sampler.seed.wrapping_add(index as u64),
            "prompt_seconds": prompt_time.as_secs_f64(),
            "generation_seconds": generation_time.as_secs_f64(),
            "tokens_per_second":
                generated.saturating_sub(1) as f64 / generation_time.as_secs_f64().max(1e-9),
        });
        if !self.adapters.is_empty() {
            report["adapter"] = json!(self.adapters.name(prompt.adapter));
        }
        if self.rule.logprobs.is_some() {
            let chosen = text.chosen.iter().zip(&text.logprobs);
            report["logprobs"] = chosen.map(|(&id, found)| row(tokenizer, id, found)).collect();
        }
        printer.data_line(report)
    }
}

/// A token with what the model gave it and the likeliest others.
fn row(tokenizer: &Tokenizer, id: u32, logprobs: &Logprobs) -> Value {
    let token = |id: u32, logprob: f64| {
        let piece = tokenizer.piece(id).unwrap_or_default();
        json!({"id": id, "piece": String::from_utf8_lossy(piece), "logprob": logprob})
    };
    let mut row = token(id, logprobs.chosen);
    row["top"] = logprobs.top.iter().map(|&(id, logprob)| token(id, logprob)).collect();
    row
}

/// A text as far as it has come.
struct Text<'a> {
    /// Until it has ended.
    stream: Option<DecodeStream<'a>>,
    stop: StopStrings,
    stopped_by: Option<String>,
    text: String,
    /// Bytes of the text that are the prompt's.
    prompt_length: usize,
    prompt: Vec<u32>,
    chosen: Vec<u32>,
    logprobs: Vec<Logprobs>,
    left_out: usize,
    ended: Option<StopReason>,
    begin: Option<Instant>,
    was_read: Option<Instant>,
    end: Option<Instant>,
}

impl<'a> Text<'a> {
    fn new(tokenizer: &'a Tokenizer, bos: Option<u32>, stop: StopStrings) -> Self {
        let mut stream = tokenizer.decode_stream();
        if let Some(bos) = bos {
            stream.feed(bos);
        }
        Self {
            stream: Some(stream),
            stop,
            stopped_by: None,
            text: String::new(),
            prompt_length: 0,
            prompt: Vec::new(),
            chosen: Vec::new(),
            logprobs: Vec::new(),
            left_out: 0,
            ended: None,
            begin: None,
            was_read: None,
            end: None,
        }
    }

    fn take(&mut self, event: TextEvent) {
        let now = Instant::now();
        self.begin.get_or_insert(now);
        if !matches!(event, TextEvent::Prompt(_)) {
            self.was_read.get_or_insert(now);
        }
        match event {
            TextEvent::Prompt(token) => {
                if let Some(stream) = &mut self.stream {
                    self.text += &stream.feed(token);
                }
                self.prompt_length = self.text.len();
                self.prompt.push(token);
            }
            TextEvent::Token(token, logprobs) => {
                if let Some(stream) = &mut self.stream {
                    let (piece, stopped_by) = self.stop.feed(&stream.feed(token));
                    self.text += &piece;
                    self.stopped_by = stopped_by;
                }
                self.chosen.push(token);
                self.logprobs.extend(logprobs);
            }
            TextEvent::Slid { left_out } => self.left_out += left_out,
            TextEvent::End(reason) => {
                let last = self.stream.take().map(DecodeStream::finish).unwrap_or_default();
                if self.stopped_by.is_none() {
                    let (piece, stopped_by) = self.stop.feed(&last);
                    self.text += &piece;
                    self.stopped_by = stopped_by;
                }
                if self.stopped_by.is_none() {
                    self.text += &self.stop.clone().finish();
                }
                self.ended = Some(reason);
                self.end = Some(now);
            }
        }
    }

    /// Why it ended, which is now unless it was before; `None` for one that never began.
    fn end(&mut self) -> Option<StopReason> {
        self.begin?;
        if self.ended.is_none() {
            self.take(TextEvent::End(StopReason::Interrupted));
        }
        self.ended
    }

    fn flow(&self) -> Flow {
        if self.stopped_by.is_some() && self.ended.is_none() {
            return Flow::EndText;
        }
        Flow::Continue
    }

    /// One of four words for programs.
    fn finish_reason(&self, reason: StopReason) -> &'static str {
        match reason {
            _ if self.stopped_by.is_some() => "stop",
            StopReason::StopId(_) => "stop",
            StopReason::MaxTokens => "length",
            StopReason::ContextFull => "context",
            StopReason::Interrupted => "interrupted",
        }
    }

    /// For the prompt, and for what came after it.
    fn times(&self) -> (Duration, Duration) {
        let (Some(begin), Some(was_read)) = (self.begin, self.was_read) else {
            return (Duration::ZERO, Duration::ZERO);
        };
        (was_read - begin, self.end.unwrap_or(was_read) - was_read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that waited for an earlier one when all were interrupted were ended twice: they lost
    /// their reason, and what was held back for a stop string came out again.
    #[test]
    fn a_text_ends_once() {
        let tokenizer = Tokenizer::train_byte_level(["the cat"], 260).unwrap();
        let tokens = tokenizer.encode("the c");
        let stop = StopStrings::new(["cat".to_owned()]);
        for reason in [None, Some(StopReason::MaxTokens)] {
            let mut text = Text::new(&tokenizer, None, stop.clone());
            assert_eq!(text.end(), None);
            tokens.iter().for_each(|&token| text.take(TextEvent::Token(token, None)));
            if let Some(reason) = reason {
                text.take(TextEvent::End(reason));
            }
            for _ in 0..2 {
                assert_eq!(text.end(), Some(reason.unwrap_or(StopReason::Interrupted)));
                assert_eq!(text.text, "the c");
            }
        }
    }
}
