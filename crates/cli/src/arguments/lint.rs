use clap::{Args, ValueEnum};
use orion_device::{Chip, Os, Route};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// What `orion lint` takes.
#[derive(Debug, Args)]
pub(crate) struct Lint {
    /// MIL text, a .mlmodel, or a .mlpackage, .mlmodelc or bundle directory; or a model or preset
    #[arg(value_name = "FILE|MODEL", required_unless_present = "explain")]
    pub(crate) file: Option<PathBuf>,

    /// Chip to check for: m1 to m5, also m4-pro, m4-max, m3-ultra and so on
    #[arg(long, value_name = "CHIP", default_value = "m4")]
    pub(crate) chip: ChipName,

    /// Version of macOS to check for
    #[arg(long, value_name = "VERSION", default_value = "27")]
    pub(crate) os: SystemVersion,

    /// Who gives the program to the Neural Engine [default: core-ml for models that Core ML
    /// reads, direct for MIL text and Orion's bundles]
    #[arg(long, value_name = "WAY")]
    pub(crate) through: Option<Way>,

    /// How to print the findings
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: LintFormat,

    /// Also write the program to OUTPUT with everything rewritten that has a safe fix; it
    /// computes the same
    #[arg(long, value_name = "OUTPUT")]
    pub(crate) fix: Option<PathBuf>,

    /// Explain a rule, such as ANE040, and do nothing else
    #[arg(long, value_name = "CODE", exclusive = true)]
    pub(crate) explain: Option<String>,

    #[command(flatten)]
    pub(crate) of_model: OfModel,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LintFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// For code review: SARIF 2.1.0
    Sarif,
}

/// A chip by name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChipName(pub(crate) Chip);

impl std::str::FromStr for ChipName {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        s.parse().map(Self)
    }
}

/// A version of macOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SystemVersion {
    #[value(name = "15")]
    V15,
    #[value(name = "26")]
    V26,
    #[value(name = "27")]
    V27,
}

impl From<SystemVersion> for Os {
    fn from(version: SystemVersion) -> Self {
        match version {
            SystemVersion::V15 => Self::V15,
            SystemVersion::V26 => Self::V26,
            SystemVersion::V27 => Self::V27,
        }
    }
}

/// Who gives a program to the Neural Engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// Its own compiler gets the whole program; what it does not take, fails
    Direct,
    /// Core ML cuts it up; what the Neural Engine does not take runs on CPU or GPU
    CoreMl,
}

impl From<Way> for Route {
    fn from(way: Way) -> Self {
        match way {
            Way::Direct => Self::Direct,
            Way::CoreMl => Self::CoreMl,
        }
    }
}

/// What `orion residency` takes.
#[derive(Debug, Args)]
pub(crate) struct Residency {
    /// MIL text, a .mlmodel, or a .mlpackage, .mlmodelc or bundle directory; or a model or preset
    #[arg(value_name = "FILE|MODEL")]
    pub(crate) file: PathBuf,

    /// Chip to plan for: m1 to m5, also m4-pro, m4-max, m3-ultra and so on
    #[arg(long, value_name = "CHIP", default_value = "m4")]
    pub(crate) chip: ChipName,

    /// Version of macOS to plan for
    #[arg(long, value_name = "VERSION", default_value = "27")]
    pub(crate) os: SystemVersion,

    /// How to print the plan
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: super::Format,

    #[command(flatten)]
    pub(crate) of_model: OfModel,
}

/// What `orion estimate` takes.
#[derive(Debug, Args)]
pub(crate) struct Estimate {
    /// MIL text, a .mlmodel, or a .mlpackage, .mlmodelc or bundle directory; or a model or preset
    #[arg(value_name = "FILE|MODEL")]
    pub(crate) file: PathBuf,

    /// Chip to price for: m1 to m5, also m4-pro, m4-max, m3-ultra and so on
    #[arg(long, value_name = "CHIP", default_value = "m4")]
    pub(crate) chip: ChipName,

    /// How to print the prices
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: EstimateFormat,

    /// Print every operation in order, not only those that take longest
    #[arg(long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) of_model: OfModel,
}

/// Which programs of a model are meant. Programs in files are what they are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Programs of a model")]
pub(crate) struct OfModel {
    /// What the model does
    #[arg(long, value_name = "TASK", default_value = "decode")]
    pub(crate) task: ModelTask,

    /// Tokens of the prompt, of the context while decoding, or of a training sequence [default:
    /// at most 256]
    #[arg(long, value_name = "N")]
    pub(crate) seq: Option<NonZeroUsize>,

    /// Sequences at a time
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) batch: NonZeroUsize,
}

/// What a model does with its programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelTask {
    /// Reads a prompt, all tokens at once
    Prefill,
    /// Gives one token more
    Decode,
    /// Makes a training step of one micro-batch: loss, gradients and optimizer
    Train,
    /// The same for an adapter of rank 8 on queries and values, the weights as they are
    Finetune,
}

/// How prices are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EstimateFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// Trace events, for ui.perfetto.dev
    Trace,
}
