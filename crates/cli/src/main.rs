//! The command `orion`.
//!
//! `arguments` says what can be typed, `commands` does it with one file a verb, `printer` is the
//! only place that prints, `exit` lists how the process can end. Logic that another front end
//! would need lives in the libraries.

mod adapters;
mod arguments;
mod commands;
mod devices;
mod exit;
mod failure;
mod interrupt;
mod lines;
mod power;
mod printer;
mod tokenizer;
mod training;

use arguments::{Arguments, Color, Command};
use clap::Parser;
use exit::Exit;
use printer::{Printer, Verbosity};

fn main() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody may be reading; there is nothing better to do about that than to end.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    anstream::ColorChoice::write_global(match arguments.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    });
    let printer = Printer::new(match (arguments.quiet, arguments.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    });
    let result = match arguments.command {
        Command::Quickstart(a) => commands::quickstart::quickstart(&a, &printer),
        Command::Run(a) => commands::run::run(&a, &printer),
        Command::Chat(a) => commands::chat::chat(&a, &printer),
        Command::Train(a) => commands::train::train(&a, &printer),
        Command::Eval(a) => commands::eval::eval(&a, &printer),
        Command::Tokenize(a) => commands::tokenize::tokenize(&a, &printer),
        Command::Detokenize(a) => commands::tokenize::detokenize(&a, &printer),
        Command::Convert(a) => commands::convert::convert(&a, &printer),
        Command::Init(a) => commands::init::init(&a, &printer),
        Command::Artifact(a) => commands::artifact::artifact(&a, &printer),
        Command::Finetune(a) => commands::finetune::finetune(&a, &printer),
        Command::Fuse(a) => commands::fuse::fuse(&a, &printer),
        Command::Compile(a) => commands::compile::compile(&a, &printer),
        Command::Mil(a) => commands::mil::mil(&a, &printer),
        Command::Lint(a) => commands::lint::lint(&a, &printer),
        Command::Residency(a) => commands::residency::residency(&a, &printer),
        Command::Estimate(a) => commands::estimate::estimate(&a, &printer),
        Command::Bench(a) => commands::bench::bench(&a, &printer),
        Command::Devices(a) => commands::devices::devices(&a, &printer),
        Command::Doctor(a) => commands::doctor::doctor(&a, &printer),
        Command::Probe(a) => commands::doctor::probe(&a, &printer),
    };
    result.unwrap_or_else(|failure| {
        printer.failure(&failure);
        failure.exit()
    })
}
