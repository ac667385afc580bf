//! A conversation on the terminal.

use crate::adapters::Adapters;
use crate::arguments::Chat;
use crate::commands::run::{end_ids, sampler};
use crate::devices::{kept, model_devices};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::lines::Lines;
use crate::printer::Printer;
use crate::tokenizer::require_tokenizer;
use orion_engine::{ChatTemplate, Generator, Message, ModelFile, Sampler, StopStrings};
use orion_tokenizer::Tokenizer;

const HELP: &str = "\
/system TEXT   say who the assistant is, and begin again
/clear         begin again
/adapter NAME  answer with this adapter from now on, or with none; without a name lists them
/history       show the conversation
/help          show this
/exit          end; so does Ctrl-D. Ctrl-C ends an answer, twice ends everything
Arrow keys go through what was typed before; Ctrl-R looks for it";

pub(crate) fn chat(arguments: &Chat, printer: &Printer) -> Result {
    let config = sampler(&arguments.sampling)?;
    let (products, storage) = kept(arguments.precision);
    let devices = model_devices(&arguments.device, products, printer)?;
    let model = ModelFile::open(&arguments.model)?;
    let named = arguments.tokenizer.as_deref();
    let tokenizer = require_tokenizer(named, &model, &arguments.model, printer)?;
    let template = ChatTemplate::of_model(&arguments.model, &tokenizer)?.ok_or_else(|| {
        Failure::new(format!(
            "{} has no chat template: it is a base model, which continues text and was not \
             trained to answer",
            arguments.model.display()
        ))
        .hint(format!("orion run {} -p \"…\" continues a text", arguments.model.display()))
    })?;
    let adapters = Adapters::open(&arguments.adapters.adapter, &model.network)?;
    let model = model.load_for_inference(storage)?;
    let mut generator = Generator::new(&model, devices, arguments.context)?;
    adapters.load_into(&mut generator);
    generator.choose_adapter(0, (!adapters.is_empty()).then_some(0));
    let mut conversation = Conversation {
        generator,
        adapters,
        tokenizer: &tokenizer,
        template,
        sampler: Sampler::new(config),
        ends: end_ids(&model, &tokenizer),
        messages: Vec::new(),
        known: Vec::new(),
        stop: arguments.stop.clone(),
        most: arguments.max_tokens.unwrap_or(usize::MAX),
        interrupt: Interrupt::listen(),
        told_of_range: false,
    };
    conversation.begin(arguments.system.as_deref());
    printer.say("/help lists what else can be typed");
    conversation.talk(printer)?;
    Ok(Exit::Success)
}

struct Conversation<'a> {
    generator: Generator,
    adapters: Adapters,
    tokenizer: &'a Tokenizer,
    template: ChatTemplate,
    sampler: Sampler,
    /// Ids that end an answer.
    ends: Vec<u32>,
    messages: Vec<Message>,
    /// Tokens that the generator has read.
    known: Vec<u32>,
    stop: Vec<String>,
    most: usize,
    interrupt: Interrupt,
    /// Whether it was said that numbers are too large.
    told_of_range: bool,
}

impl Conversation<'_> {
    fn begin(&mut self, system: Option<&str>) {
        self.messages.clear();
        if let Some(text) = system {
            self.messages.push(Message { role: "system", content: text.to_owned() });
        }
    }

    fn choose_adapter(&mut self, name: &str, printer: &Printer) {
        let number = match name {
            "" => {
                let names: Vec<&str> = self.adapters.iter().map(|(name, _)| name).collect();
                printer.say(format_args!("adapters: {}", names.join(", ")));
                return;
            }
            "none" => None,
            name => match self.adapters.number(name) {
                Ok(number) => Some(number),
                Err(_) => {
                    printer.warn(format_args!("there is no adapter {name}; /adapter lists them"));
                    return;
                }
            },
        };
        // What was read before was read with another.
        self.generator.reset();
        self.known.clear();
        self.generator.choose_adapter(0, number);
    }

    fn talk(&mut self, printer: &Printer) -> Result<()> {
        let mut lines = Lines::open(printer);
        while let Some(line) = lines.next(printer)? {
            self.interrupt.clear();
            let line = line.trim();
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "" => {}
                "/exit" | "/quit" => return Ok(()),
                "/help" => printer.say(HELP),
                "/clear" => {
                    let system = self.messages.first().filter(|m| m.role == "system");
                    let system = system.map(|message| message.content.clone());
                    self.begin(system.as_deref());
                }
                "/adapter" => self.choose_adapter(rest.trim(), printer),
                "/system" => self.begin(Some(rest).filter(|text| !text.is_empty())),
                "/history" => {
                    for Message { role, content } in &self.messages {
                        printer.say(format_args!("{role}: {content}"));
                    }
                }
                _ if word.starts_with('/') => {
                    printer.warn(format_args!("there is no command {word}; /help lists them"));
                }
                _ => {
                    self.messages.push(Message { role: "user", content: line.to_owned() });
                    let content = self.answer(printer)?;
                    self.messages.push(Message { role: "assistant", content });
                }
            }
        }
        Ok(())
    }

    /// The tokens of the conversation, the oldest turns left out until an answer has room.
    fn tokens(&mut self, printer: &Printer) -> Result<Vec<u32>> {
        let limit = self.generator.limit();
        let mut said = false;
        loop {
            let text = self.template.render(&self.messages)?;
            let ids = self.tokenizer.encode_with_special(&text);
            if ids.is_empty() {
                return Err(Failure::new("the chat template makes no text of this conversation"));
            }
            // A quarter of the context is for the answer.
            if ids.len() <= limit - limit / 4 {
                return Ok(ids);
            }
            let first = usize::from(self.messages[0].role == "system");
            if self.messages.len() <= first + 1 {
                return Err(Failure::new(format!(
                    "the message has {} tokens, the context holds {limit}",
                    ids.len()
                )));
            }
            // A question goes with its answer.
            let turn = 2.min(self.messages.len() - first - 1);
            self.messages.drain(first..first + turn);
            if !said {
                printer.say(format_args!(
                    "the oldest messages are left out now: the context holds {limit} tokens"
                ));
                said = true;
            }
        }
    }

    fn answer(&mut self, printer: &Printer) -> Result<String> {
        let ids = self.tokens(printer)?;
        // Most of the conversation was read for the last answer.
        let rest = match ids.strip_prefix(&self.known[..]) {
            Some(rest) if !rest.is_empty() => rest,
            _ => {
                self.generator.reset();
                &ids[..]
            }
        };
        let mut next = self.sampler.sample(self.generator.read(rest)?);
        self.known.clone_from(&ids);
        let mut stream = self.tokenizer.decode_stream();
        ids.iter().for_each(|&id| drop(stream.feed(id)));
        let mut stop = StopStrings::new(self.stop.iter().cloned());
        let mut answer = String::new();
        let mut stopped = None;
        for _ in 0..self.most {
            if self.ends.contains(&next) || self.interrupt.is_asked() {
                break;
            }
            let text;
            (text, stopped) = stop.feed(&stream.feed(next));
            printer.data(&text)?;
            answer.push_str(&text);
            if stopped.is_some() {
                break;
            }
            if self.generator.position() >= self.generator.limit() {
                printer.warn("the context is full; the answer ends here");
                break;
            }
            self.known.push(next);
            next = self.sampler.sample(self.generator.read(&[next])?);
        }
        if stopped.is_none() {
            let (mut text, ended) = stop.feed(&stream.finish());
            if ended.is_none() {
                text.push_str(&stop.finish());
            }
            printer.data(&text)?;
            answer.push_str(&text);
        }
        printer.data("\n")?;
        if !self.told_of_range && self.generator.range().concern().is_some() {
            self.told_of_range = true;
            printer.warn_of(self.generator.range());
        }
        Ok(answer)
    }
}
