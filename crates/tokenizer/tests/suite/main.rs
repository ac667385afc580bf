//! Tests of the crate through its public interface.

mod byte_level;
mod files;
mod hugging_face;
mod llama2c;
mod qwen2;
mod sentencepiece;
mod streams;
mod support;
