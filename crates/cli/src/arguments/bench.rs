//! `orion bench`.

use super::{DeviceChoice, ModelDeviceChoice, Precision, TrainDeviceChoice};
use clap::{Args, Subcommand, ValueEnum};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// What this machine can do at most: arithmetic and memory, with one thread and with all
    Machine(BenchMachine),
    /// Matrix products of the shapes of three models: forward and both gradients
    Gemm(BenchGemm),
    /// A MIL program with random inputs
    Program(BenchProgram),
    /// Reading a prompt: pp512 is 512 tokens
    Prefill(BenchPrefill),
    /// Generating token by token: tg128 is 128 tokens
    Decode(BenchDecode),
    /// Optimizer steps: forward, backward and AdamW
    Train(BenchTrain),
    /// Getting ready: loading, the first token, compiling a training step
    Load(BenchLoad),
}

/// How every benchmark is run and reported.
#[derive(Debug, Args)]
#[command(next_help_heading = "Measuring")]
pub(crate) struct BenchOptions {
    /// Runs that are measured; the median counts
    #[arg(short, long, value_name = "N", default_value = "5")]
    pub(crate) repetitions: NonZeroUsize,

    /// Runs before, that are not measured
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) warm_up: NonZeroUsize,

    /// Report of an earlier run, in JSON; exits with 1 when something got more than 10 % slower
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,

    /// How to print the report
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: BenchFormat,
}

/// How a report of benchmarks is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchFormat {
    /// For people
    Text,
    /// A Markdown table
    Md,
    /// For programs, and for --compare
    Json,
}

/// Which model is measured, and in which arithmetic.
#[derive(Debug, Args)]
pub(crate) struct BenchedModel {
    /// A preset, which gets random weights, or the path of a model
    #[arg(short, long, value_name = "NAME|PATH")]
    pub(crate) model: String,

    /// What products are computed in, and how generation keeps weights
    #[arg(long, value_name = "NAME", default_value = "f32")]
    pub(crate) precision: Precision,
}

#[derive(Debug, Args)]
pub(crate) struct BenchMachine {
    #[command(flatten)]
    pub(crate) options: BenchOptions,

    #[command(flatten)]
    pub(crate) device: DeviceChoice,
}

#[derive(Debug, Args)]
pub(crate) struct BenchGemm {
    /// Only the shapes of this model [default: of all]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) model: Option<String>,

    /// Arithmetic of the matrix products
    #[arg(long, value_name = "NAME", default_value = "f32")]
    pub(crate) precision: Precision,

    /// Tokens: columns of the activations
    #[arg(short = 'n', long, value_name = "N", default_value = "256")]
    pub(crate) tokens: NonZeroUsize,

    #[command(flatten)]
    pub(crate) options: BenchOptions,

    #[command(flatten)]
    pub(crate) device: DeviceChoice,
}

#[derive(Debug, Args)]
pub(crate) struct BenchProgram {
    /// MIL text, or a bundle directory that holds a `model.mil`
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Print what the device executes: steps, fusions, memory, and where the time goes
    #[arg(long)]
    pub(crate) explain: bool,

    #[command(flatten)]
    pub(crate) options: BenchOptions,

    #[command(flatten)]
    pub(crate) device: DeviceChoice,
}

#[derive(Debug, Args)]
pub(crate) struct BenchPrefill {
    #[command(flatten)]
    pub(crate) model: BenchedModel,

    /// Tokens of the prompt [default: 512, or what the model takes]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) tokens: Option<NonZeroUsize>,

    /// Sequences at once
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) batch: NonZeroUsize,

    #[command(flatten)]
    pub(crate) options: BenchOptions,

    #[command(flatten)]
    pub(crate) device: ModelDeviceChoice,
}

#[derive(Debug, Args)]
pub(crate) struct BenchDecode {
    #[command(flatten)]
    pub(crate) model: BenchedModel,

    /// Tokens to generate [default: 128, or what the model takes]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) tokens: Option<NonZeroUsize>,

    /// Sequences at once
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) batch: NonZeroUsize,

    /// Print where the time of a token goes
    #[arg(long)]
    pub(crate) explain: bool,

    /// Measure with these adapters too, and going from one to another; several with commas
    #[arg(long, value_name = "[NAME=]DIR", value_delimiter = ',', conflicts_with = "explain")]
    pub(crate) adapter: Vec<String>,

    #[command(flatten)]
    pub(crate) options: BenchOptions,

    #[command(flatten)]
    pub(crate) device: ModelDeviceChoice,
}

#[derive(Debug, Args)]
pub(crate) struct BenchTrain {
    #[command(flatten)]
    pub(crate) model: BenchedModel,

    /// Tokens of a sequence [default: 256, or what the model takes]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) tokens: Option<NonZeroUsize>,

    /// Sequences in a step
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) batch: NonZeroUsize,

    /// Print where the time of a step goes
    #[arg(long)]
    pub(crate) explain: bool,

    #[command(flatten)]
    pub(crate) options: BenchOptions,

    #[command(flatten)]
    pub(crate) device: TrainDeviceChoice,
}

#[derive(Debug, Args)]
pub(crate) struct BenchLoad {
    #[command(flatten)]
    pub(crate) model: BenchedModel,

    #[command(flatten)]
    pub(crate) options: BenchOptions,

    #[command(flatten)]
    pub(crate) device: ModelDeviceChoice,
}
