//! Language models as descriptions that build MIL programs.
//!
//! A [`Network`] knows its parameters, by their Hugging Face names, and writes forward programs:
//! the loss of whole sequences for training and evaluation, and the next tokens over a
//! key/value cache for generation. It contains no gradient; the compiler derives those.

mod graph;
mod llama;
mod load;
mod network;
mod presets;
mod storage;

pub use graph::{Graph, WeightIndex};
pub use llama::{ConfigError, LlamaConfig};
pub use load::{LoadError, LoadedModel, hugging_face_name, load};
pub use network::{Initialization, Network, ParameterSpec, StepShape, program_name};
pub use presets::{PRESETS, Preset, preset};
pub use storage::{QuantizedMatrix, WeightStorage, quantize_rows};
