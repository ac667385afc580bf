//! The verbs between text and token ids, and between formats of models.

use super::Format;
use clap::{Args, ValueEnum};
use orion_engine::Numbers;
use orion_tensor::DType;
use std::num::NonZeroUsize;
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

#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// Model to convert: a .gguf, a llama2.c or llm.c .bin, a Hugging Face directory, or a run
    /// directory
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// Format to write
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: ModelFormat,

    /// File or directory to create
    #[arg(short, long, value_name = "PATH")]
    pub(crate) out: PathBuf,

    /// How numbers are kept [default: as in the model]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<NumberType>,

    /// Tokenizer to write with the model [default: the model's own]
    #[arg(long, value_name = "FILE", conflicts_with = "no_tokenizer")]
    pub(crate) tokenizer: Option<PathBuf>,

    /// Leave the tokenizer out
    #[arg(long)]
    pub(crate) no_tokenizer: bool,

    /// Length of the key/value caches of an mlpackage [default: at most 512]
    #[arg(short, long, value_name = "N")]
    pub(crate) context: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Shape of the model: a preset such as gpt2-124m, or a TOML file with the sizes
    #[arg(value_name = "PRESET|FILE")]
    pub(crate) shape: String,

    /// Directory to create, as Hugging Face's libraries read it
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Seed of the weights
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,

    /// How numbers are kept [default: f32]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<NumberType>,

    /// Tokenizer to write with the model
    #[arg(long, value_name = "FILE|MODEL")]
    pub(crate) tokenizer: Option<PathBuf>,
}

/// Formats that models are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelFormat {
    /// A directory as Hugging Face's libraries read it
    Safetensors,
    /// A file of llama.cpp
    Gguf,
    /// A file of llama2.c, version 0
    Llama2c,
    /// A model file of llm.c
    Llmc,
    /// A Core ML package of the program that takes one token at a time
    Mlpackage,
}

impl NumberType {
    /// The same for the library that writes them.
    pub(crate) fn numbers(self) -> Numbers {
        match self {
            Self::F32 => Numbers::Float(DType::F32),
            Self::F16 => Numbers::Float(DType::F16),
            Self::Bf16 => Numbers::Float(DType::BF16),
            Self::Q8_0 => Numbers::Q8_0,
        }
    }
}

/// How numbers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NumberType {
    /// fp32
    F32,
    /// fp16
    F16,
    /// bf16
    Bf16,
    /// Matrices in int8 with a scale for every 32; GGUF only
    #[value(name = "q8_0")]
    Q8_0,
}
