//! The command line as types. What the flags do is in `commands`.

mod adapter;
mod artifact;
mod bench;
mod lint;
mod neural_engine;
mod text;

pub(crate) use adapter::{AdapterChoice, Fuse};
pub(crate) use artifact::{Artifact, ArtifactEval, ArtifactLoad, ArtifactSave};
pub(crate) use bench::{
    Bench, BenchDecode, BenchFormat, BenchGemm, BenchLoad, BenchMachine, BenchOptions,
    BenchPrefill, BenchProgram, BenchTrain, BenchedModel,
};
pub(crate) use lint::{Estimate, EstimateFormat, Lint, LintFormat, ModelTask, OfModel, Residency};
pub(crate) use neural_engine::{Doctor, Probe};
pub(crate) use text::{Convert, Detokenize, Init, ModelFormat, NumberType, Tokenize};

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
pub(crate) struct Run {
    /// Model to run: a .gguf, a llama2.c or llm.c .bin, a Hugging Face directory, or a run directory
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// Tokenizer file [default: the one beside the model]
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,

    /// Text to continue
    #[arg(short, long, value_name = "TEXT", conflicts_with = "prompt_file")]
    pub(crate) prompt: Option<String>,

    /// File with the text to continue; `-` is standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,

    /// Continue every line of --prompt-file as a prompt of its own, up to N of them together
    #[arg(long, value_name = "N", requires = "prompt_file")]
    pub(crate) parallel: Option<NonZeroUsize>,

    /// How to print: text as it comes, or a line of JSON for each prompt when its text is complete
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,

    /// With --format json, say how likely each chosen token was, and the N likeliest
    #[arg(long, value_name = "N")]
    pub(crate) logprobs: Option<usize>,

    /// Text that ends the continuation and is left out; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,

    /// Length of the text in tokens, prompt included; when that is more than the context, the
    /// oldest tokens are left out on the way [default: as long as the context]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) max_tokens: Option<usize>,

    /// Positions the model may look back on [default: what it was trained for]
    #[arg(short, long, value_name = "N")]
    pub(crate) context: Option<usize>,

    /// How weights are kept and products computed [default: as the file has them, in fp32]
    #[arg(long, value_name = "NAME")]
    pub(crate) precision: Option<Precision>,

    /// Print time to first token and tokens per second to standard error
    #[arg(long)]
    pub(crate) stats: bool,

    #[command(flatten)]
    pub(crate) adapters: AdapterChoice,

    #[command(flatten)]
    pub(crate) sampling: Sampling,

    #[command(flatten)]
    pub(crate) device: DeviceChoice,
}

/// How the next token is chosen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct Sampling {
    /// Randomness; 0 always takes the most likely token
    #[arg(
        long,
        visible_alias = "temp",
        value_name = "T",
        default_value_t = 0.8,
        allow_negative_numbers = true
    )]
    pub(crate) temperature: f64,

    /// Consider only the K most likely tokens [default: all]
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<NonZeroUsize>,

    /// Consider only the most likely tokens that together have probability P [default: all]
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f64>,

    /// Consider only tokens at least P times as likely as the most likely one [default: all]
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<f64>,

    /// Seed of the choice; the same seed gives the same text [default: another one each time]
    #[arg(short, long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// Model to talk with, one that has a chat template: a .gguf or a Hugging Face directory
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// Tokenizer file [default: the one beside the model]
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,

    /// Who the assistant is and how it answers
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    /// Tokens of an answer at most [default: until the model ends it]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) max_tokens: Option<usize>,

    /// Text that ends an answer; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,

    /// Positions the model may look back on [default: what it was trained for]
    #[arg(short, long, value_name = "N")]
    pub(crate) context: Option<usize>,

    /// How weights are kept and products computed [default: as the file has them, in fp32]
    #[arg(long, value_name = "NAME")]
    pub(crate) precision: Option<Precision>,

    #[command(flatten)]
    pub(crate) adapters: AdapterChoice,

    #[command(flatten)]
    pub(crate) sampling: Sampling,

    #[command(flatten)]
    pub(crate) device: DeviceChoice,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// Model to start from: a .gguf, a llama2.c or llm.c .bin, a Hugging Face directory, or a run directory
    #[arg(short, long, value_name = "MODEL", conflicts_with = "init")]
    pub(crate) model: Option<PathBuf>,

    /// Start from random weights of this shape: a preset, or a TOML file with the sizes
    #[arg(long, value_name = "PRESET|FILE")]
    pub(crate) init: Option<String>,

    /// Token file to train on: u16 ids, with or without a shard header
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// Token file to evaluate on
    #[arg(long, value_name = "FILE")]
    pub(crate) eval_data: Option<PathBuf>,

    /// Run directory to create
    #[arg(short, long, value_name = "DIR", conflicts_with = "resume")]
    pub(crate) out: Option<PathBuf>,

    /// Run directory to continue from its latest checkpoint
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "init", "config"])]
    pub(crate) resume: Option<PathBuf>,

    /// Tokenizer file; copied to the run directory and used for sample texts
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) config: TrainConfiguration,

    #[command(flatten)]
    pub(crate) recipe: Recipe,

    #[command(flatten)]
    pub(crate) device: DeviceChoice,
}

/// Where settings come from; later ones win: file, flags, `--set`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct TrainConfiguration {
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Set a key of the configuration, such as checkpoint.every=100; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,

    /// Print the configuration that results, with every key explained, and stop
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// Settings that have a flag of their own.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recipe")]
pub(crate) struct Recipe {
    /// Optimizer steps in all
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<u64>,
    /// Sequences in a micro-batch
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<usize>,
    /// Tokens in a sequence
    #[arg(long, value_name = "N")]
    pub(crate) seq: Option<usize>,
    /// Micro-batches in a step
    #[arg(long, value_name = "N")]
    pub(crate) grad_accum: Option<usize>,
    /// Learning rate, the highest of its schedule
    #[arg(long, value_name = "X")]
    pub(crate) lr: Option<f64>,
    /// How the learning rate falls after the warm-up: constant, linear or cosine
    #[arg(long, value_name = "NAME")]
    pub(crate) schedule: Option<String>,
    /// Steps in which the learning rate rises from zero
    #[arg(long, value_name = "N")]
    pub(crate) warmup: Option<u64>,
    /// AdamW: decay of the mean of gradients
    #[arg(long, value_name = "X")]
    pub(crate) beta1: Option<f64>,
    /// AdamW: decay of the mean of squared gradients
    #[arg(long, value_name = "X")]
    pub(crate) beta2: Option<f64>,
    /// AdamW: added to the root of the squares
    #[arg(long, value_name = "X")]
    pub(crate) eps: Option<f64>,
    /// AdamW: decoupled decay of matrices; norms never decay
    #[arg(long, value_name = "X")]
    pub(crate) weight_decay: Option<f64>,
    /// Largest global norm of the gradients; 0 does not clip
    #[arg(long, value_name = "X")]
    pub(crate) clip: Option<f64>,
    /// Arithmetic of matrix products: f32, or bf16 with sums in fp32
    #[arg(long, value_name = "NAME")]
    pub(crate) precision: Option<String>,
    /// Order of the sequences: sequential or random
    #[arg(long, value_name = "NAME")]
    pub(crate) order: Option<String>,
    /// Seed of the initial weights and of the order
    #[arg(short, long, value_name = "N")]
    pub(crate) seed: Option<u64>,
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
    pub(crate) device: DeviceChoice,
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

#[derive(Debug, Subcommand)]
pub(crate) enum Mil {
    /// Print a program in canonical form
    Print(MilPrint),
    /// List everything that is wrong with a program
    Check(MilCheck),
    /// Write a program and its weights in another format
    Convert(MilConvert),
    /// Show how two programs differ
    Diff(MilDiff),
    /// Describe a program: its functions, their inputs and outputs, operations and weights
    Info(MilInfo),
    /// Run a program once and describe its outputs
    Run(MilRun),
}

#[derive(Debug, Args)]
pub(crate) struct MilPrint {
    /// MIL text, a .mlmodel, or a .mlpackage, .mlmodelc or bundle directory
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct MilConvert {
    /// MIL text, a .mlmodel, or a .mlpackage, .mlmodelc or bundle directory
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,

    /// What to write: NAME.mlpackage, NAME.mil or NAME.mlmodel (programs without weights), or any
    /// other name for a directory with a `model.mil` and the weights
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct MilDiff {
    /// MIL text, a .mlmodel, or a .mlpackage, .mlmodelc or bundle directory
    #[arg(value_name = "OLD")]
    pub(crate) old: PathBuf,

    /// The same
    #[arg(value_name = "NEW")]
    pub(crate) new: PathBuf,

    /// Also compare what changes nothing: names of values inside, and the writer's version
    #[arg(long)]
    pub(crate) names: bool,

    /// Lines around a difference
    #[arg(short = 'U', long, value_name = "N", default_value_t = 3)]
    pub(crate) unified: usize,
}

#[derive(Debug, Args)]
pub(crate) struct MilInfo {
    /// MIL text, a .mlmodel, or a .mlpackage, .mlmodelc or bundle directory
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// How to print the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct MilCheck {
    /// MIL text, a .mlmodel, or a directory as for `print`, whose weights are checked too
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// How to print the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct MilRun {
    /// Say of each operation what it did to numbers, on devices that watch that: ane-model:CHIP
    #[arg(long)]
    pub(crate) report: bool,

    /// MIL text, a .mlmodel, or a .mlpackage, .mlmodelc or bundle directory
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// An input: `NAME=zeros`, `NAME=random:SEED`, `NAME=[1,2,3]` or `NAME=FILE.npy`; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) input: Vec<String>,

    /// Write every output to this directory as NAME.npy
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,

    /// Run on this device too and compare; it is the one that is right
    #[arg(long, value_name = "DEVICE")]
    pub(crate) against: Option<String>,

    /// How far results may be apart
    #[arg(long, value_name = "NAME", default_value = "f32-accum", requires = "against")]
    pub(crate) tolerance: ToleranceName,

    /// How to print the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,

    #[command(flatten)]
    pub(crate) device: DeviceChoice,
}

/// The named tolerances of the project.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ToleranceName {
    /// The same bits
    Exact,
    /// Elementwise fp32 work in another order
    Close,
    /// fp32 sums in another order
    F32Accum,
    /// A whole fp32 network
    F32Network,
    /// Rounded to fp16 once
    F16Round,
    /// A whole fp16 network
    F16Accum,
}

#[derive(Debug, Args)]
pub(crate) struct Devices {
    /// How to print the list
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}
