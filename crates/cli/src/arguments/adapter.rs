//! The verbs and flags about adapters.

use super::NumberType;
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
