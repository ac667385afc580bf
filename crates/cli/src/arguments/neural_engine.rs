//! The verbs about the Neural Engine of this machine.

use clap::Args;
use std::path::PathBuf;

/// What `orion doctor` takes.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print the whole report as JSON, for a bug report
    #[arg(long)]
    pub(crate) json: bool,

    /// Measure power too, as root or where sudo asks for no password
    #[arg(long)]
    pub(crate) power: bool,

    /// What answers: ane, or ane-stand-in:CHIP, which is no hardware
    #[arg(short, long, value_name = "DEVICE", default_value = "ane", hide = true)]
    pub(crate) device: String,
}

/// What `orion probe` takes.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// File to write the results to
    #[arg(short, long, value_name = "FILE", default_value = "orion-probe.json")]
    pub(crate) out: PathBuf,

    /// What answers: ane, or ane-stand-in:CHIP, which is no hardware
    #[arg(short, long, value_name = "DEVICE", default_value = "ane", hide = true)]
    pub(crate) device: String,
}
