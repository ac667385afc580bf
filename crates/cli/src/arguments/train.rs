//! The verb that trains, and the settings that training an adapter has too.

use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// Model to start from: a .gguf, a llama2.c or llm.c .bin, a Hugging Face directory, or a run directory
    #[arg(short, long, value_name = "MODEL", conflicts_with = "init")]
    pub(crate) model: Option<PathBuf>,

    /// Start from random weights of this shape: a preset, or a TOML file with the sizes
    #[arg(long, value_name = "PRESET|FILE")]
    pub(crate) init: Option<String>,

    /// Start from random weights with the shape and settings of a known training run: stories110m,
    /// golfwide, qwen3-0.6b or single-layer
    #[arg(long = "recipe", value_name = "NAME", conflicts_with_all = ["model", "init"])]
    pub(crate) named: Option<String>,

    /// File to train on: token ids of u16, with or without a shard header; or text, or JSON lines
    /// of examples, with --tokenizer
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// The same to evaluate on
    #[arg(long, value_name = "FILE")]
    pub(crate) eval_data: Option<PathBuf>,

    /// Write when things run to a file that Perfetto opens, one track a device; with --resume the
    /// file that is there goes on
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,

    /// Run directory to create
    #[arg(short, long, value_name = "DIR", conflicts_with = "resume")]
    pub(crate) out: Option<PathBuf>,

    /// Run directory to continue from its latest checkpoint
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "init", "named", "config"])]
    pub(crate) resume: Option<PathBuf>,

    /// Tokenizer file; copied to the run directory and used for sample texts
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) config: TrainConfiguration,

    #[command(flatten)]
    pub(crate) recipe: Recipe,

    #[command(flatten)]
    pub(crate) device: TrainDeviceChoice,
}

/// Where to train.
#[derive(Debug, Args)]
#[command(next_help_heading = "Device")]
pub(crate) struct TrainDeviceChoice {
    /// Device to use, never replaced silently: auto, cpu or cpu:reference; or two, the first for
    /// the layers and the second for the rest, as in ane-model:m4+cpu, or ane+cpu on a Mac
    #[arg(short, long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: String,

    /// Threads to use on the CPU [default: all cores]
    #[arg(short, long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Let other programs go first, so that you can work meanwhile: niceness 10
    #[arg(long)]
    pub(crate) low_priority: bool,
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
