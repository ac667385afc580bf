//! `orion doctor` and `orion probe`: what the Neural Engine of a system does.

use crate::arguments::{Doctor, Probe};
use crate::devices::neural_engine::{Examination, examine, keep_busy, outcome_name};
use crate::exit::Exit;
use crate::failure::{Context as _, Result};
use crate::power;
use crate::printer::Printer;
use orion_ane::{Attribute, Observation, Report};
use serde_json::{Map, Value, json};

pub(crate) fn doctor(arguments: &Doctor, printer: &Printer) -> Result {
    let mut report = examine(&arguments.device, Examination::Doctor)?;
    if arguments.power && report.is_well() {
        let seen = power::measured(|goes_on| keep_busy(&arguments.device, goes_on))?;
        report.observations.push(seen);
    }
    if arguments.json {
        printer.data_line(format_args!("{:#}", as_json(&report)))?;
    } else {
        print_text(&report, printer)?;
    }
    Ok(if report.is_well() { Exit::Success } else { Exit::No })
}

pub(crate) fn probe(arguments: &Probe, printer: &Printer) -> Result {
    let report = examine(&arguments.device, Examination::Probe)?;
    let text = format!("{:#}\n", as_json(&report));
    std::fs::write(&arguments.out, text).context(arguments.out.display())?;
    print_text(&report, printer)?;
    printer.say(format_args!("wrote {}", arguments.out.display()));
    Ok(Exit::Success)
}

fn print_text(report: &Report, printer: &Printer) -> Result<()> {
    printer.data_line(&report.host.description)?;
    for (name, value) in &report.host.facts {
        printer.data_line(format_args!("{name:14}{value}"))?;
    }
    for observation in &report.observations {
        let outcome = outcome_name(observation);
        let Observation { name, question, .. } = observation;
        // An error's hint is a line of its own.
        let answer = observation.answer.replace('\n', "\n          ");
        printer.data_line(format_args!("\n{outcome:9} {name}: {question}\n          {answer}"))?;
        for (name, value) in &observation.figures {
            printer.data_line(format_args!("          {name} {}", rounded(*value)))?;
        }
    }
    Ok(())
}

/// Whole numbers as they are, others with three digits behind the point.
fn rounded(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") }
}

fn as_json(report: &Report) -> Value {
    let facts: Map<String, Value> =
        report.host.facts.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let observations: Vec<Value> = report.observations.iter().map(observation_as_json).collect();
    json!({
        "orion": env!("CARGO_PKG_VERSION"),
        "machine": report.host.description,
        "chip": report.host.chip.map(|c| c.id()),
        "os": report.host.os.map(|o| o.to_string()),
        "facts": facts,
        "observations": observations,
    })
}

fn observation_as_json(observation: &Observation) -> Value {
    let figures: Map<String, Value> =
        observation.figures.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "name": observation.name,
        "question": observation.question,
        "outcome": outcome_name(observation),
        "answer": observation.answer,
        "figures": figures,
        "attributes": observation.attributes.as_ref().map(attribute_as_json),
    })
}

fn attribute_as_json(attribute: &Attribute) -> Value {
    match attribute {
        Attribute::Number(number) => json!(number),
        Attribute::Text(text) => json!(text),
        Attribute::List(elements) => elements.iter().map(attribute_as_json).collect(),
        Attribute::Dictionary(entries) => {
            let pairs = entries.iter().map(|(k, v)| (k.clone(), attribute_as_json(v)));
            Value::Object(pairs.collect())
        }
        Attribute::Other(class) => json!({ "class": class }),
    }
}
