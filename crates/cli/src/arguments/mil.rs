//! The verbs about a MIL program.

use super::{DeviceChoice, Format};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

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

    /// The sizes of an input that the program leaves open, as in `audio=1x16000`; may be repeated
    #[arg(long, value_name = "NAME=SIZES")]
    pub(crate) shape: Vec<String>,

    /// Which function to run, of several
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,

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
