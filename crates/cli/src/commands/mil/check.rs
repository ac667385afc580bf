use super::source::{Malformed, read_program};
use crate::arguments::{Format, MilCheck};
use crate::exit::Exit;
use crate::failure::Result;
use crate::printer::Printer;
use orion_mil::bundle::{BundleError, BundleErrorKind};
use orion_mil::package;
use orion_mil::text::ParseError;
use orion_mil::{Diagnostic, verify};
use serde_json::{Value, json};
use std::path::Path;

/// One thing that is wrong.
enum Problem {
    Text(ParseError),
    Model(BundleError),
    Program(Diagnostic),
    Weights(String),
}

/// Everything that is wrong: with the text first, then with the program, and where a whole bundle
/// is given, with its weights.
fn problems(path: &Path) -> Result<Vec<Problem>> {
    let program = match read_program(path)? {
        Ok(program) => program,
        Err(Malformed::Text(error)) => return Ok(vec![Problem::Text(error)]),
        Err(Malformed::Model(error)) => return Ok(vec![Problem::Model(error)]),
    };
    let mut problems: Vec<Problem> = verify(&program).into_iter().map(Problem::Program).collect();
    if path.is_dir() {
        match package::load(path) {
            Err(e)
                if matches!(e.kind(), BundleErrorKind::Weights | BundleErrorKind::UnsafePath) =>
            {
                problems.push(Problem::Weights(e.to_string()));
            }
            loaded => drop(loaded?),
        }
    }
    Ok(problems)
}

pub(crate) fn check(arguments: &MilCheck, printer: &Printer) -> Result {
    let problems = problems(&arguments.file)?;
    match arguments.format {
        Format::Text => {
            let path = arguments.file.display();
            for problem in &problems {
                match problem {
                    Problem::Text(e) => printer.data_line(format_args!(
                        "{path}:{}:{}: {e}",
                        e.line(),
                        e.column()
                    ))?,
                    Problem::Program(d) => printer.data_line(format_args!("{path}: {d}"))?,
                    Problem::Model(e) => printer.data_line(e)?,
                    Problem::Weights(message) => {
                        printer.data_line(format_args!("{path}: {message}"))?;
                    }
                }
            }
            match problems.len() {
                0 => printer.say(format_args!("{path}: nothing wrong")),
                n => printer.say(format_args!("{path}: {n} wrong")),
            }
        }
        Format::Json => {
            let rows: Vec<Value> = problems
                .iter()
                .map(|problem| match problem {
                    Problem::Text(e) => {
                        json!({ "line": e.line(), "column": e.column(), "message": e.to_string() })
                    }
                    Problem::Program(d) => {
                        json!({ "function": d.function, "place": d.place, "message": d.message })
                    }
                    Problem::Model(e) => json!({ "message": e.to_string() }),
                    Problem::Weights(message) => json!({ "message": message }),
                })
                .collect();
            printer.data_line(json!({ "diagnostics": rows }))?;
        }
    }
    Ok(if problems.is_empty() { Exit::Success } else { Exit::No })
}
