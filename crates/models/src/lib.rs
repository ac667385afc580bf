//! Language models as descriptions that build MIL programs.
//!
//! A [`Network`] knows its parameters, by their Hugging Face names, and writes forward programs:
//! the loss of whole sequences for training and evaluation, and the next tokens over a
//! key/value cache for generation. It contains no gradient; the compiler derives those.

mod adapter;
mod files;
mod forward;
mod golf_baseline;
mod golfwide;
mod gpt2;
mod graph;
mod llama;
mod load;
mod network;
mod presets;
mod qwen2;
mod qwen3;
mod rotary;
mod storage;

pub use adapter::{Adapter, AdapterShape, LinearLayer, LowRank, MergeError, matrix_names};
pub use forward::cache_of;
pub use golf_baseline::GolfBaselineConfig;
pub use golfwide::{GolfWideConfig, HeadMap};
pub use gpt2::Gpt2Config;
pub use graph::{Graph, WeightIndex};
pub use llama::LlamaConfig;
pub use load::{
    FREQUENCY_DIVISORS, LoadError, LoadedModel, ModelFile, gguf_name, hugging_face_name,
    interleaved_heads, load, load_for_inference, meta_name,
};
pub use network::{ConfigError, Initialization, Network, ParameterSpec, StepShape, program_name};
pub use orion_formats::RopeScaling;
pub use presets::{PRESETS, Preset, preset};
pub use qwen2::Qwen2Config;
pub use qwen3::Qwen3Config;
pub use storage::{QuantizedMatrix, WeightStorage, quantize_rows};
