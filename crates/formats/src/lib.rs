//! Weights, token data, configs and checkpoints on disk.
//!
//! Files are untrusted: a reader checks sizes before it allocates, and answers a file that is
//! truncated, of another kind or inconsistent with an [`Error`] that names the file, the place
//! and what was expected. Readers take [`orion_tensor::Bytes`] (`parse`) or a path (`open`, which
//! maps the file into memory); tensors share that memory.
//!
//! This crate knows how numbers lie in files, not what a network does with them.

mod error;
mod finite;
pub mod gguf;
pub mod golf_artifact;
mod hf_config;
pub mod llama2c;
pub mod llmc;
mod mapped;
pub mod npy;
pub mod peft;
mod rope;
pub mod run_directory;
pub mod safetensors;
mod state;
pub mod tokens;
mod torch;
mod transpose;

pub use error::{Error, ErrorKind, Result};
pub use finite::check_finite;
pub use gguf::Gguf;
pub use golf_artifact::GolfArtifact;
pub use hf_config::{
    ConfigFile, GolfBaselineConfigFile, GolfWideConfigFile, Gpt2ConfigFile, LlamaConfigFile,
    RopeScaling, end_ids_of_generation_config,
};
pub use mapped::{MappedFile, map_file};
pub use peft::{LoraMatrices, PeftAdapter, PeftConfig, TargetModules};
pub use rope::{rope_half_to_interleaved, rope_interleaved_to_half};
pub use run_directory::{Checkpoint, CheckpointWriter, RunDirectory};
pub use safetensors::SafeTensors;
pub use state::{CheckpointState, DataState, HexU64, LossScaleState, ScheduleState};
pub use tokens::TokenFile;
pub use transpose::transposed;
