//! The verbs that generate text.

use super::{AdapterChoice, Format, ModelDeviceChoice, Precision};
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

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
    pub(crate) device: ModelDeviceChoice,
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
    pub(crate) device: ModelDeviceChoice,
}
