//! Tests of the crate through its public interface.

mod configs;
mod run_directories;
mod support;
mod token_files;
mod weights;
