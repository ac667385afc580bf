//! The verbs of Parameter Golf's artifacts.

use super::{Eval, Format};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to do with an artifact.
#[derive(Debug, Subcommand)]
pub(crate) enum Artifact {
    /// Quantize a model to int8, write it as the baseline does, and report its size
    Save(ArtifactSave),
    /// Turn an artifact back into a Hugging Face directory
    Load(ArtifactLoad),
    /// Measure loss and bits per byte of an artifact, and report its size
    Eval(ArtifactEval),
}

#[derive(Debug, Args)]
pub(crate) struct ArtifactSave {
    /// Model to quantize, or an artifact to write again as it is
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// File to create, such as final_model.int8.ptz
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// Leave the file as torch.save writes it, not compressed
    #[arg(long)]
    pub(crate) raw: bool,

    /// Code that counts towards the limit, such as train_gpt.py; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) code: Vec<PathBuf>,

    /// How to print the sizes
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ArtifactLoad {
    /// Artifact to read, compressed or not
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Directory to create
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// The config.json of the network [default: the baseline, its sizes from the shapes]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Tokenizer to write with the model [default: the one beside the artifact]
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ArtifactEval {
    /// The config.json of the network [default: the baseline, its sizes from the shapes]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Code that counts towards the limit, such as train_gpt.py; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) code: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) eval: Eval,
}
