//! The programs that generation, evaluation and training run, as MIL.
//!
//! Each has a `_source`, as models, autodiff and the optimizer write it, and a `_program`, after
//! the passes of [`orion_compile::pipeline`]: what devices get.

use orion_compile::CompileError;
use orion_compile::autodiff::{GradientOptions, gradients_with};
use orion_compile::optimizer::{AdamWConfig, ParameterSpec, adamw};
use orion_compile::partition::{Partition, PartitionOptions, WeightForm, partition};
use orion_compile::pipeline::{PipelineOptions, optimize};
use orion_mil::Program;
use orion_models::{Network, StepShape, WeightIndex, program_name};
use orion_tensor::DType;
use std::collections::BTreeSet;

use crate::OptimizerSection;

pub(crate) fn optimized(program: &Program) -> Program {
    optimize(program, &PipelineOptions::default(), &mut |_, _| {})
        .expect("our own programs are valid")
}

/// The next tokens of one sequence: see [`Network::step`].
pub fn step_source(network: &Network, index: &WeightIndex, shape: StepShape) -> Program {
    network.step(index, shape)
}

/// [`step_source`], optimized.
pub fn step_program(network: &Network, index: &WeightIndex, shape: StepShape) -> Program {
    optimized(&step_source(network, index, shape))
}

/// The loss of whole sequences: see [`Network::loss`].
pub fn loss_source(
    network: &Network,
    index: &WeightIndex,
    sequences: usize,
    length: usize,
) -> Program {
    network.loss(index, sequences, length)
}

/// [`loss_source`], optimized.
pub fn loss_program(
    network: &Network,
    index: &WeightIndex,
    sequences: usize,
    length: usize,
) -> Program {
    optimized(&loss_source(network, index, sequences, length))
}

/// What programs over an index train: the adapters where it has some, else every parameter of the
/// network.
pub fn trained(network: &Network, index: &WeightIndex) -> Vec<orion_models::ParameterSpec> {
    match index.adapters() {
        Some(adapters) => adapters.parameters(network),
        None => network.parameters(),
    }
}

/// Forward and backward: loss and the gradient of everything that is [`trained`].
///
/// Inputs: those of [`Network::loss`], which has to have what is trained as inputs, and
/// `loss_scale` fp32 `[1]`. Results: `loss` and `{parameter}_grad`, multiplied by the loss scale.
/// With `accumulate` the gradients are added in place to the inputs `{parameter}_grad`.
pub fn gradient_source(
    network: &Network,
    index: &WeightIndex,
    sequences: usize,
    length: usize,
    accumulate: bool,
) -> Program {
    let loss = network.loss(index, sequences, length);
    with_gradients(loss, &trained(network, index), accumulate)
}

/// [`gradient_source`] of some of the tokens: see [`Network::weighted_loss`].
pub fn weighted_gradient_source(
    network: &Network,
    index: &WeightIndex,
    sequences: usize,
    length: usize,
    accumulate: bool,
) -> Program {
    let loss = network.weighted_loss(index, sequences, length);
    with_gradients(loss, &trained(network, index), accumulate)
}

fn with_gradients(
    mut program: Program,
    trained: &[orion_models::ParameterSpec],
    accumulate: bool,
) -> Program {
    let function = &mut program.functions[0];
    function.body.results.truncate(1);
    let names: Vec<String> = trained.iter().map(|p| program_name(&p.name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let options = GradientOptions { loss_scale: Some("loss_scale"), accumulate };
    *function =
        gradients_with(function, "loss", &names, &options).expect("our networks differentiate");
    program
}

/// [`gradient_source`], optimized.
pub fn gradient_program(
    network: &Network,
    index: &WeightIndex,
    sequences: usize,
    length: usize,
    accumulate: bool,
) -> Program {
    optimized(&gradient_source(network, index, sequences, length, accumulate))
}

/// [`weighted_gradient_source`], optimized.
pub fn weighted_gradient_program(
    network: &Network,
    index: &WeightIndex,
    sequences: usize,
    length: usize,
    accumulate: bool,
) -> Program {
    optimized(&weighted_gradient_source(network, index, sequences, length, accumulate))
}

/// A gradient program in parts: the layers for an accelerator, which computes in `numbers` and
/// gets weights as `weights` says, but for the values that it refuses; the rest for the host.
/// Where the index has adapters, their matrices are inputs, and `weights` is about what lies
/// under them.
///
/// # Errors
/// See [`partition`].
pub fn gradient_partition(
    network: &Network,
    index: &WeightIndex,
    program: &Program,
    numbers: DType,
    weights: WeightForm,
    refused: &BTreeSet<String>,
) -> Result<Partition, CompileError> {
    let layers: Vec<String> =
        (0..network.layer_count()).map(|layer| format!("layer{layer}")).collect();
    let parameters: Vec<String> =
        trained(network, index).iter().map(|p| program_name(&p.name)).collect();
    let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
    let (weights, tables) = match index.adapters() {
        Some(_) => (WeightForm::Inputs, weights),
        None => (weights, WeightForm::Inputs),
    };
    let options = PartitionOptions {
        layers: &layers,
        together: 1,
        columns: None,
        parameters: &parameters,
        numbers,
        weights,
        tables,
        on_host: &|function, operation| {
            operation.outputs.iter().any(|&v| refused.contains(function.value_name(v)))
        },
    };
    partition(&program.functions[0], &options)
}

/// AdamW with clipping over these parameters: see [`adamw`].
pub fn update_source(
    trained: &[orion_models::ParameterSpec],
    optimizer: &OptimizerSection,
) -> Program {
    Program::with_function(adamw(&adamw_parameters(trained), &adamw_settings(optimizer)))
}

/// Parameters as the optimizer's programs take them.
pub fn adamw_parameters(trained: &[orion_models::ParameterSpec]) -> Vec<ParameterSpec> {
    let specs = trained.iter().map(|p| ParameterSpec {
        name: program_name(&p.name),
        shape: p.shape.clone(),
        weight_decay: p.decays,
    });
    specs.collect()
}

/// The constants of the optimizer's programs.
pub fn adamw_settings(optimizer: &OptimizerSection) -> AdamWConfig {
    AdamWConfig {
        beta1: optimizer.beta1,
        beta2: optimizer.beta2,
        epsilon: optimizer.eps,
        weight_decay: optimizer.weight_decay,
        clip: (optimizer.clip > 0.0).then_some(optimizer.clip),
    }
}

/// [`update_source`], optimized.
pub fn update_program(
    trained: &[orion_models::ParameterSpec],
    optimizer: &OptimizerSection,
) -> Program {
    optimized(&update_source(trained, optimizer))
}
