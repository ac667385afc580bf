//! What commands about programs are asked about: a file with a program, or a model, whose
//! programs are written first.

use super::mil::source::{read_program, require_program};
use crate::arguments::{ModelTask, OfModel};
use crate::failure::{Failure, Result};
use orion_engine::programs::{gradient_program, step_program, trained, update_program};
use orion_engine::{LoadedModel, TrainConfig, edit_distance, load_model};
use orion_formats::PeftConfig;
use orion_mil::{Program, Weights};
use orion_models::{AdapterShape, Network, PRESETS, StepShape, WeightIndex, preset};
use orion_tensor::{DType, Tensor};
use std::num::NonZeroUsize;
use std::path::Path;

/// Sequences are this long unless asked otherwise, or shorter when the model takes less.
pub(crate) const DEFAULT_SEQ: usize = 256;

/// A program of a model.
pub(crate) struct ModelProgram {
    /// Such as `decode_1x256`.
    pub(crate) name: String,
    pub(crate) program: Program,
}

/// The programs of a model, as a device gets them.
pub(crate) struct ModelPrograms {
    pub(crate) programs: Vec<ModelProgram>,
    /// What their constants are. Of a preset they are zeros, which say nothing.
    pub(crate) weights: Weights,
    /// Whether the weights are a model's own.
    pub(crate) has_values: bool,
    /// Tokens that the programs together go through.
    pub(crate) tokens: usize,
}

/// Whether a path holds a program, or what was meant to be one, rather than a model.
pub(crate) fn is_program(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    match extension {
        Some("mil" | "mlmodel" | "mlpackage" | "mlmodelc") => true,
        Some("gguf" | "bin" | "safetensors") => false,
        _ => path.exists() && read_program(path).is_ok(),
    }
}

/// Every program that is meant: the one in a file, or those of a model, with their names.
pub(crate) fn programs(subject: &Path, of: &OfModel) -> Result<(Vec<ModelProgram>, Option<usize>)> {
    if is_program(subject) {
        let program = require_program(subject)?;
        let name = subject.display().to_string();
        return Ok((vec![ModelProgram { name, program }], None));
    }
    let model = model_programs(subject, of)?;
    Ok((model.programs, Some(model.tokens)))
}

/// The programs of a model or preset for a task.
pub(crate) fn model_programs(subject: &Path, of: &OfModel) -> Result<ModelPrograms> {
    let (model, has_values) = model(subject)?;
    let most = model.network.max_positions();
    let seq = of.seq.map_or(most.min(DEFAULT_SEQ), NonZeroUsize::get);
    if seq > most {
        return Err(Failure::usage(format!(
            "--seq is {seq}; this model takes at most {most} tokens"
        )));
    }
    let batch = of.batch.get();
    let network = &model.network;
    let step = |task: &str, tokens: usize| {
        let index = model.index(most);
        let shape = StepShape { sequences: batch, tokens, context: seq };
        let program = step_program(network, &index, shape);
        let name = format!("{task}_{tokens}x{seq}");
        (vec![ModelProgram { name, program }], index, tokens)
    };
    let (programs, index, tokens) = match of.task {
        ModelTask::Prefill => step("prefill", seq),
        ModelTask::Decode => step("decode", 1),
        ModelTask::Train => {
            // Parameters are inputs here: they change every step.
            let mut index = WeightIndex::new();
            network.add_tables(&mut index, seq);
            let gradients = gradient_program(network, &index, batch, seq, false);
            let update = update_program(&network.parameters(), &TrainConfig::default().optimizer);
            let programs = vec![
                ModelProgram { name: format!("gradients_{batch}x{seq}"), program: gradients },
                ModelProgram { name: "update".to_owned(), program: update },
            ];
            (programs, index, seq)
        }
        ModelTask::Finetune => {
            // The weights are constants: nothing changes but the adapter.
            let index = model.index(seq).with_adapters(usual_adapter(network));
            let gradients = gradient_program(network, &index, batch, seq, false);
            let update =
                update_program(&trained(network, &index), &TrainConfig::default().optimizer);
            let programs = vec![
                ModelProgram {
                    name: format!("adapter_gradients_{batch}x{seq}"),
                    program: gradients,
                },
                ModelProgram { name: "adapter_update".to_owned(), program: update },
            ];
            (programs, index, seq)
        }
    };
    let weights = index.weights().clone();
    Ok(ModelPrograms { programs, weights, has_values, tokens: tokens * batch })
}

/// What `finetune` trains unless asked otherwise: rank 8 on queries and values; on all layers where
/// they are called otherwise.
pub(crate) fn usual_adapter(network: &Network) -> AdapterShape {
    let targets = network
        .adapter_targets(&["q", "v"])
        .or_else(|_| network.adapter_targets(&["all"]))
        .expect("every network has linear layers");
    let config = PeftConfig::new(8, 16.0, targets);
    let modules = network.adapted_modules(&config).expect("names are no patterns");
    AdapterShape { rank: config.rank, modules }
}

/// A model from a path, or a preset with zeros for weights.
pub(crate) fn model(subject: &Path) -> Result<(LoadedModel, bool)> {
    if subject.exists() {
        return Ok((load_model(subject)?, true));
    }
    let name = subject.to_string_lossy();
    if let Some(preset) = preset(&name) {
        return Ok((without_values(preset.network()), false));
    }
    Err(neither_file_nor_preset(&name))
}

/// The error for what should have been a model, with the preset that is called most like it.
pub(crate) fn neither_file_nor_preset(name: &str) -> Failure {
    let names: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
    let nearest = names.iter().min_by_key(|n| edit_distance(n, name)).copied();
    let message = format!("{name} is neither a file nor a preset; there are {}", names.join(", "));
    Failure::usage(message).hint(format!("did you mean `{}`?", nearest.unwrap_or_default()))
}

fn without_values(network: Network) -> LoadedModel {
    let parameters = network.parameters().into_iter();
    let zeros = parameters.map(|p| (p.name, Tensor::zeros(DType::F32, &p.shape))).collect();
    LoadedModel::new(network, zeros)
}
