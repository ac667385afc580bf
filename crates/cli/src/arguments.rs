//! The command line as types. What the flags do is in `commands`.

mod adapter;
mod artifact;
mod bench;
mod generation;
mod lint;
mod mil;
mod neural_engine;
mod text;
mod train;

pub(crate) use adapter::{AdapterChoice, Finetune, Fuse};
pub(crate) use artifact::{Artifact, ArtifactEval, ArtifactLoad, ArtifactSave};
pub(crate) use bench::{
    Bench, BenchDecode, BenchFormat, BenchGemm, BenchLoad, BenchMachine, BenchOptions,
    BenchPrefill, BenchProgram, BenchTrain, BenchedModel,
};
pub(crate) use generation::{Chat, Run, Sampling};
pub(crate) use lint::{Estimate, EstimateFormat, Lint, LintFormat, ModelTask, OfModel, Residency};
pub(crate) use mil::{
    Mil, MilCheck, MilConvert, MilDiff, MilInfo, MilPrint, MilRun, ToleranceName,
};
pub(crate) use neural_engine::{Doctor, Probe};
pub(crate) use text::{Convert, Detokenize, Init, ModelFormat, NumberType, Tokenize};
pub(crate) use train::{Recipe, Train, TrainConfiguration, TrainDeviceChoice};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Train, run and inspect small language models as MIL programs.
#[derive(Debug, Parser)]
#[command(name = "orion", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Print only data, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Talk")]
    pub(crate) quiet: bool,

    /// Say more about what is being done
    #[arg(short, long, global = true, help_heading = "Talk")]
    pub(crate) verbose: bool,

    /// When to use colour: on a terminal that has no NO_COLOR set, always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Talk")]
    pub(crate) color: Color,
}

/// When to colour what is printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a small Llama from random weights in about a minute and let it tell a story
    Quickstart(Quickstart),
    /// Continue a prompt
    Run(Run),
    /// Talk with a chat model
    Chat(Chat),
    /// Train a model, from random weights or from existing ones
    Train(Box<Train>),
    /// Measure loss and perplexity of a model on a token file
    Eval(Eval),
    /// Turn text into token ids
    Tokenize(Tokenize),
    /// Turn token ids into text
    Detokenize(Detokenize),
    /// Write a model in another format
    Convert(Convert),
    /// Write a model of random weights
    Init(Init),
    /// Write, read or measure an int8 artifact of Parameter Golf, against its limit of 16 MB
    #[command(subcommand)]
    Artifact(Artifact),
    /// Train a small adapter beside a model that stays as it is
    Finetune(Box<Finetune>),
    /// Write a model with an adapter merged into its weights
    Fuse(Fuse),
    /// Write the MIL programs that `run` or `train` would execute, as text and weight files
    Compile(Compile),
    /// Print, check, convert, compare, describe or run a MIL program
    #[command(subcommand)]
    Mil(Mil),
    /// Say what the Apple Neural Engine will refuse, run elsewhere or get wrong
    Lint(Lint),
    /// Say which operations Core ML would run on the Neural Engine, and why
    Residency(Residency),
    /// Say what a program would cost on the Neural Engine: time, traffic and energy
    Estimate(Estimate),
    /// Measure models, programs and this machine, beside what the machine can do at most
    #[command(subcommand)]
    Bench(Bench),
    /// List the devices of this machine
    Devices(Devices),
    /// Say whether the Neural Engine of this Mac works, and which part does not
    Doctor(Doctor),
    /// Run experiments on the Neural Engine of this Mac that nobody has published
    Probe(Probe),
}

/// Where to compute.
#[derive(Debug, Args)]
#[command(next_help_heading = "Device")]
pub(crate) struct DeviceChoice {
    /// Device to use, never replaced silently: auto, cpu, cpu:reference,
    /// ane-model:CHIP, or ane on a Mac
    #[arg(short, long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: String,

    /// Threads to use on the CPU [default: all cores]
    #[arg(short, long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Let other programs go first, so that you can work meanwhile: niceness 10
    #[arg(long)]
    pub(crate) low_priority: bool,
}

/// Where a model runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Device")]
pub(crate) struct ModelDeviceChoice {
    /// Device to use, never replaced silently: auto, cpu, cpu:reference or ane-model:CHIP; or two,
    /// the first for blocks of the model, as in ane-model:m4+cpu, or ane+cpu on a Mac
    #[arg(short, long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: String,

    /// With two devices, what the first one does [default: prefill]
    #[arg(long, value_name = "WHAT")]
    pub(crate) split: Option<SplitChoice>,

    /// Threads to use on the CPU [default: all cores]
    #[arg(short, long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Let other programs go first, so that you can work meanwhile: niceness 10
    #[arg(long)]
    pub(crate) low_priority: bool,
}

/// What the first of two devices does for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitChoice {
    /// It reads prompts; the CPU generates
    Prefill,
    /// It computes norms, projections and MLPs, of every token; the CPU attention
    Attention,
}

/// Arithmetic of matrix products, and how generation keeps the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// fp32 throughout
    F32,
    /// Weights in bf16, products of bf16 numbers summed in fp32
    Bf16,
    /// Weights in fp16, products in fp32
    F16,
    /// Weights in int8 with a scale for every 64, products in fp32
    Int8,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Quickstart {
    /// Run directory to create [default: runs/quickstart-1, or the next free number]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Optimizer steps to train for
    #[arg(long, value_name = "N", default_value = crate::commands::quickstart::DEFAULT_STEPS)]
    pub(crate) steps: u64,

    #[command(flatten)]
    pub(crate) device: DeviceChoice,
}

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// Model to measure: a .gguf, a llama2.c or llm.c .bin, a Hugging Face directory, or a run directory
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// Token file or text to measure on
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,

    /// Sequences at a time; changes speed and memory, not the result
    #[arg(long, value_name = "N", default_value = "4")]
    pub(crate) batch: NonZeroUsize,

    /// Tokens in a sequence [default: what the model was trained for]
    #[arg(long, value_name = "N")]
    pub(crate) seq: Option<NonZeroUsize>,

    /// Begin a sequence every N tokens, and count only what the one before did not [default:
    /// sequences one behind the other]
    #[arg(long, value_name = "N")]
    pub(crate) stride: Option<NonZeroUsize>,

    /// With --stride, what becomes of sequences that reach over the end of the file
    #[arg(long, value_name = "RULE", default_value = "short", requires = "stride")]
    pub(crate) windows: Windows,

    /// Tokenizer of the text or token file, for bits per byte of text too [default: the one beside
    /// the model]
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,

    /// Stop after this many tokens [default: the whole file]
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<usize>,

    /// How weights are kept and products computed [default: as the file has them, in fp32]
    #[arg(long, value_name = "NAME")]
    pub(crate) precision: Option<Precision>,

    /// How to print the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,

    #[command(flatten)]
    pub(crate) adapters: AdapterChoice,

    #[command(flatten)]
    pub(crate) device: ModelDeviceChoice,
}

/// What becomes of windows that reach over the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Windows {
    /// They get shorter, and each counts its last tokens once more: Parameter Golf's records
    Short,
    /// They are left out, so that every token counts once: its submission 801
    Full,
}

#[derive(Debug, Args)]
pub(crate) struct Compile {
    /// Model to compile: a .gguf, a llama2.c or llm.c .bin, a Hugging Face directory, or a run directory
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// Directory to write to, one folder a program
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// What the programs are for
    #[arg(long, default_value = "step")]
    pub(crate) task: Task,

    /// Tokens taken at once by the `step` program [default: the prefill and decode sizes of `run`]
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<NonZeroUsize>,

    /// Length of the key/value caches of the `step` program [default: what the model was made for]
    #[arg(short, long, value_name = "N")]
    pub(crate) context: Option<NonZeroUsize>,

    /// Sequences in a batch of the `loss` and `train` programs
    #[arg(long, value_name = "N", default_value = "4")]
    pub(crate) batch: NonZeroUsize,

    /// Tokens in a sequence of the `loss` and `train` programs [default: at most 128]
    #[arg(long, value_name = "N")]
    pub(crate) seq: Option<NonZeroUsize>,

    /// Print each program to standard output after this pass; may be repeated
    #[arg(long, value_name = "PASS")]
    pub(crate) print_after: Vec<String>,

    /// Run only the first N passes
    #[arg(long, value_name = "N")]
    pub(crate) stop_after: Option<usize>,
}

/// What programs are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    /// Generation: the next tokens over key/value caches
    Step,
    /// Evaluation: the loss of whole sequences
    Loss,
    /// Training: loss, gradients and optimizer
    Train,
}

#[derive(Debug, Args)]
pub(crate) struct Devices {
    /// How to print the list
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}
