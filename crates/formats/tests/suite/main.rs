//! Tests of the crate through its public interface.

mod configs;
mod gguf;
mod golf_artifacts;
mod llmc;
mod peft;
mod run_directories;
mod token_files;
mod weights;
