//! Tests of the crate through its public interface.

mod support;
mod token_files;
mod weights;
