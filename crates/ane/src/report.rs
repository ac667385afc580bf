//! What is tried on a system and what comes of it: for `orion doctor`, `orion probe`, and bugs.

use crate::{Attribute, Host, Outcome};

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// A short name, such as `C43` or `binding`.
    pub name: String,
    /// What was asked.
    pub question: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was seen, in a sentence.
    pub answer: String,
    /// Numbers, with their units in the names, such as `run_us`.
    pub figures: Vec<(String, f64)>,
    /// The system's own words, where they are worth keeping whole.
    pub attributes: Option<Attribute>,
}

impl Observation {
    pub(crate) fn new(name: &str, question: &str, outcome: Outcome, answer: String) -> Self {
        Self {
            name: name.to_owned(),
            question: question.to_owned(),
            outcome,
            answer,
            figures: Vec::new(),
            attributes: None,
        }
    }

    pub(crate) fn figure(mut self, name: &str, value: f64) -> Self {
        self.figures.push((name.to_owned(), value));
        self
    }
}

/// Everything that was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The machine.
    pub host: Host,
    /// What was tried, in order.
    pub observations: Vec<Observation>,
}

impl Report {
    /// Whether everything that was tried came out as it should.
    pub fn is_well(&self) -> bool {
        self.observations.iter().all(|o| o.outcome != Outcome::Refuted)
    }
}
