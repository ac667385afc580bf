//! Continues several prompts together, and prints each text when it is complete.

use super::prompts::Prompt;
use super::{reason, report_swap};
use crate::adapters::Adapters;
use crate::arguments::Format;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use orion_engine::{
    Generator, Sampler, SamplerConfig, StopReason, StopRule, TextEvent, generate_each,
};
use orion_tokenizer::{DecodeStream, Tokenizer};
use serde_json::json;
use std::ops::ControlFlow;
use std::time::Instant;

/// What to write.
pub(super) struct Texts {
    pub(super) prompts: Vec<Prompt>,
    pub(super) adapters: Adapters,
    /// Of the first prompt; the others have the seeds that follow.
    pub(super) sampler: SamplerConfig,
    pub(super) most: usize,
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
        let bos = tokenizer.bos();
        let encoded: Vec<Vec<u32>> =
            self.prompts.iter().map(|p| tokenizer.encode(&p.text)).collect();
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
        let stop_ids = bos.into_iter().chain(tokenizer.eos()).collect();
        let stop = StopRule { max_tokens: self.most, stop_ids };
        let seeds = (0..encoded.len()).map(|i| self.sampler.seed.wrapping_add(i as u64));
        let mut samplers: Vec<Sampler> = seeds
            .map(|seed| Sampler::new(SamplerConfig { seed, ..self.sampler.clone() }))
            .collect();
        let interrupt = Interrupt::listen();
        let begin = Instant::now();
        let mut texts: Vec<Text> = encoded.iter().map(|_| Text::new(tokenizer)).collect();
        let (mut complete, mut printed, mut generated) = (0, Ok(()), 0);
        let mut on_text = |i: usize, event: TextEvent| {
            match event {
                TextEvent::Token(token) => {
                    texts[i].push(token);
                    generated += usize::from(texts[i].tokens > encoded[i].len());
                }
                TextEvent::End(reason) => texts[i].end(reason),
            }
            // In the order of the prompts.
            while printed.is_ok()
                && let Some(reason) = texts.get(complete).and_then(|text| text.ended)
            {
                printed = self.print(
                    complete,
                    &texts[complete],
                    encoded[complete].len(),
                    reason,
                    printer,
                );
                complete += 1;
            }
            match printed {
                Ok(()) if !interrupt.is_asked() => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        };
        generate_each(
            &mut generator,
            &encoded,
            &adapters,
            bos,
            &mut samplers,
            &stop,
            &mut on_text,
        )?;
        printed?;
        let seconds = begin.elapsed().as_secs_f64();
        if stats {
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
        prompt_tokens: usize,
        stopped: StopReason,
        printer: &Printer,
    ) -> Result<()> {
        match self.format {
            Format::Text => {
                // A blank line between texts.
                if index > 0 {
                    printer.data_line("")?;
                }
                printer.data_line(&text.text)
            }
            Format::Json => {
                let prompt = &self.prompts[index];
                let mut line = json!({
                    "prompt": prompt.text,
                    "text": text.text,
                    "prompt_tokens": prompt_tokens,
                    "generated_tokens": text.tokens.saturating_sub(prompt_tokens),
                    "stopped": reason(stopped),
                    "seed": self.sampler.seed.wrapping_add(index as u64),
                });
                if !self.adapters.is_empty() {
                    line["adapter"] = json!(self.adapters.name(prompt.adapter));
                }
                printer.data_line(line)
            }
        }
    }
}

/// A text as far as it has come.
struct Text<'a> {
    /// Until it has ended.
    stream: Option<DecodeStream<'a>>,
    text: String,
    tokens: usize,
    ended: Option<StopReason>,
}

impl<'a> Text<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Self {
        let mut stream = tokenizer.decode_stream();
        if let Some(bos) = tokenizer.bos() {
            stream.feed(bos);
        }
        Self { stream: Some(stream), text: String::new(), tokens: 0, ended: None }
    }

    fn push(&mut self, token: u32) {
        if let Some(stream) = &mut self.stream {
            self.text += &stream.feed(token);
        }
        self.tokens += 1;
    }

    fn end(&mut self, reason: StopReason) {
        self.text += &self.stream.take().map(DecodeStream::finish).unwrap_or_default();
        self.ended = Some(reason);
    }
}
