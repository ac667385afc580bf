//! The verbs between text and token ids.

use super::Format;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Tokenize {
    /// File with the text; standard input when absent or `-`
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Tokenizer file, or a model that has one
    #[arg(long, value_name = "FILE|MODEL")]
    pub(crate) tokenizer: PathBuf,

    /// Read one text a line, as {"text": …}
    #[arg(long)]
    pub(crate) jsonl: bool,

    /// Put the token that begins a document before every text
    #[arg(long)]
    pub(crate) bos: bool,

    /// Read names of special tokens, such as <|im_end|>, as those tokens, not as text
    #[arg(long)]
    pub(crate) special: bool,

    /// How to print the ids: separated by spaces, or as {"ids": […]}; one line a text
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Detokenize {
    /// File with ids, separated by spaces or line breaks, or lines of {"ids": […]}; standard input
    /// when absent or `-`
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Tokenizer file, or a model that has one
    #[arg(long, value_name = "FILE|MODEL")]
    pub(crate) tokenizer: PathBuf,

    /// Every line is a text of its own, not only lines of {"ids": […]}
    #[arg(long)]
    pub(crate) jsonl: bool,

    /// How to print texts: as they are, or as {"text": …} lines
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}
