//! The verbs and flags about adapters.

use super::{NumberType, Recipe, TrainConfiguration, TrainDeviceChoice};
use clap::Args;
use std::path::PathBuf;

/// Adapters to load beside the model.
#[derive(Debug, Args)]
pub(crate) struct AdapterChoice {
    /// Adapter to load beside the model, a directory as PEFT writes it or a run of `finetune`;
    /// several with commas or by repeating this
    #[arg(long = "adapter", value_name = "[NAME=]DIR", value_delimiter = ',')]
    pub(crate) adapter: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Fuse {
    /// Model that the adapter was made for
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// Adapter to merge: a directory as PEFT writes it, or a run of `finetune`
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: PathBuf,

    /// Directory to create, as Hugging Face's libraries read it
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// How numbers are kept: f32, f16 or bf16 [default: as in the model]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<NumberType>,

    /// Tokenizer to write with the model [default: the model's own]
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Finetune {
    /// Model to train an adapter for; its weights stay as they are
    #[arg(value_name = "MODEL", conflicts_with = "resume")]
    pub(crate) model: Option<PathBuf>,

    /// File to learn from: text; lines of {"prompt": …, "completion": …}, {"messages": […]} or
    /// {"text": …}; or token ids as for `train`
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// The same to evaluate on
    #[arg(long, value_name = "FILE")]
    pub(crate) eval_data: Option<PathBuf>,

    /// Rank of the adapter [default: 8]
    #[arg(long, value_name = "N")]
    pub(crate) rank: Option<usize>,

    /// What the adapter adds is multiplied by alpha / rank [default: 16]
    #[arg(long, value_name = "X")]
    pub(crate) alpha: Option<f64>,

    /// Layers to change: q, k, v, o, gate, up, down, names of modules, or all [default: q,v]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) targets: Vec<String>,

    /// Write when things run to a file that Perfetto opens, one track a device; with --resume the
    /// file that is there goes on
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,

    /// Run directory to create [default: runs/finetune-1, or the next free number]
    #[arg(short, long, value_name = "DIR", conflicts_with = "resume")]
    pub(crate) out: Option<PathBuf>,

    /// Run directory to continue from its latest checkpoint
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub(crate) resume: Option<PathBuf>,

    /// Tokenizer file [default: the one beside the model]
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) config: TrainConfiguration,

    #[command(flatten)]
    pub(crate) recipe: Recipe,

    #[command(flatten)]
    pub(crate) device: TrainDeviceChoice,
}
