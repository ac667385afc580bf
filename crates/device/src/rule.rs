use crate::{Generation, Os, Target, scope::Check};
use std::fmt;

/// What happens to a program that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It does not compile.
    Refused,
    /// It compiles, and fails when it runs.
    EvalFailure,
    /// It runs and gives wrong numbers without a word.
    SilentWrongData,
    /// A part of it runs on CPU or GPU.
    FallsBack,
    /// It runs slower than it could.
    Slow,
}

impl Severity {
    /// As in reports, such as `silent-wrong-data`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::EvalFailure => "eval-failure",
            Self::SilentWrongData => "silent-wrong-data",
            Self::FallsBack => "falls-back",
            Self::Slow => "slow",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How sure the rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confidence {
    /// Measured on hardware by at least one source, contradicted by none.
    Measured,
    /// Written down by a source that does not show the measurement.
    Reported,
    /// Sources contradict each other; the evidence says how.
    Disputed,
    /// Concluded from other facts.
    Inferred,
}

impl Confidence {
    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Reported => "reported",
            Self::Disputed => "disputed",
            Self::Inferred => "inferred",
        }
    }
}

/// On which way to the Neural Engine a rule holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Applies {
    /// Only when its compiler gets the whole program.
    Direct,
    /// Only under Core ML.
    CoreMl,
    /// On both.
    Everywhere,
}

/// One thing that the Neural Engine does not do, or does otherwise than one thinks.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// `ANE` and three digits; never given to another rule.
    pub code: &'static str,
    /// One line.
    pub title: &'static str,
    /// What happens to a program that breaks it.
    pub severity: Severity,
    /// The way to the Neural Engine.
    pub applies: Applies,
    /// First and last generation of chips.
    pub chips: (Generation, Generation),
    /// First and last system.
    pub systems: (Os, Os),
    /// Whether what breaks the rule keeps an operation off the Neural Engine, so that Core ML
    /// runs it elsewhere.
    pub about_support: bool,
    /// Whether it depends on the values a program is run with.
    pub depends_on_values: bool,
    /// How sure it is.
    pub confidence: Confidence,
    /// What the rule is, for a person who meets it for the first time.
    pub what: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// Who found out and how; where sources disagree, how.
    pub evidence: &'static str,
    pub(crate) check: Check,
}

/// What most rules have in common.
pub(crate) const RULE: Rule = Rule {
    code: "",
    title: "",
    severity: Severity::Refused,
    applies: Applies::Everywhere,
    chips: (Generation::M1, Generation::M5),
    systems: (Os::V15, Os::V27),
    about_support: false,
    depends_on_values: false,
    confidence: Confidence::Measured,
    what: "",
    fix: "",
    evidence: "",
    check: Check::Device,
};

impl Rule {
    /// Whether the rule holds for a target.
    pub fn holds_for(&self, target: &Target) -> bool {
        let generation = target.chip.generation;
        let route = match self.applies {
            Applies::Direct => target.route == crate::Route::Direct,
            Applies::CoreMl => target.route == crate::Route::CoreMl,
            Applies::Everywhere => true,
        };
        route
            && self.chips.0 <= generation
            && generation <= self.chips.1
            && self.systems.0 <= target.os
            && target.os <= self.systems.1
    }

    /// What breaking it means on a target: under Core ML an operation that the Neural Engine
    /// does not take runs elsewhere.
    pub fn severity_for(&self, target: &Target) -> Severity {
        match (self.severity, target.route) {
            (Severity::Refused, crate::Route::CoreMl) if self.about_support => Severity::FallsBack,
            (severity, _) => severity,
        }
    }

    /// Whether it is seen on a program; others only show when one runs.
    pub fn is_checked_on_programs(&self) -> bool {
        !matches!(self.check, Check::Device)
    }
}

/// Two rules are the same when they have the same code.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
    }
}

impl Eq for Rule {}
