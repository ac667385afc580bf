//! Generation, training, evaluation and checkpoints over any device.
//!
//! Nothing here names a concrete device or prints: callers hand in a device and listen to events.

mod adapters;
mod artifact;
mod byte_counts;
mod chat;
mod checkpoint;
mod config;
mod convert;
mod data;
mod divided;
mod error;
mod evaluate;
mod examples;
mod finetune;
mod generate;
mod generator;
mod gguf_metadata;
mod gguf_tokenizer;
mod layers;
mod load;
mod metrics;
mod parameters;
pub mod programs;
mod random;
mod recipe;
mod sampler;
mod tokenizer;
mod trace;
mod train;
mod training_data;

pub use adapters::load_adapter;
pub use artifact::{open_artifact, quantize_model};
pub use byte_counts::ByteCounts;
pub use chat::{ChatTemplate, Message, StopStrings};
pub use checkpoint::newest_checkpoint;
pub use config::{
    AdapterSection, Arithmetic, CheckpointSection, ConfigLayers, DOCUMENTATION, DataSection,
    EvalSection, Family, Heads, ModelSection, OptimizerSection, Order, SampleSection, Schedule,
    TrainConfig, TrainSection, edit_distance, network_of_preset,
};
pub use convert::{Companions, Numbers, Target, convert, model_bytes};
pub use data::{Batch, DataPosition, Windows};
pub use divided::{ACCELERATED_SIZES, ModelDevices, Split};
pub use error::{Error, ErrorKind, Result};
pub use evaluate::{Evaluation, EvaluationShape, WindowRule, evaluate, evaluate_adapted};
pub use generate::{
    Flow, GenerationStats, Logprobs, StopReason, TextEvent, TextRule, generate, generate_each,
};
pub use generator::{Generator, PREFILL_SIZES};
pub use layers::{
    Accelerator, HALF_LOSS_SCALE, LARGE_ACTIVATION, LargeActivation, LayerSchedule, PartSpan,
    RangeReport, Refused,
};
pub use load::{load_model, load_model_for_inference};
pub use metrics::{MetricsFile, StepReport};
pub use orion_models::{Adapter, LoadedModel, ModelFile};
pub use parameters::{initial_values, initialize};
pub use random::Random;
pub use recipe::{RECIPES, TrainRecipe};
pub use sampler::{Sampler, SamplerConfig};
pub use tokenizer::{open_any_tokenizer, open_tokenizer};
pub use train::{Event, Outcome, Trainer};
