//! The programs that generation, evaluation and training run, as MIL.

use orion_compile::autodiff::{GradientOptions, gradients_with};
use orion_compile::optimizer::{AdamWConfig, ParameterSpec, adamw};
use orion_mil::Program;
use orion_models::{Network, StepShape, WeightIndex, program_name};

use crate::OptimizerSection;

fn optimized(program: &Program) -> Program {
    program.clone()
}

/// The next tokens of one sequence: see [`Network::step`].
pub fn step_program(network: &Network, index: &WeightIndex, shape: StepShape) -> Program {
    optimized(&network.step(index, shape))
}

/// The loss of whole sequences: see [`Network::loss`].
pub fn loss_program(
    network: &Network,
    index: &WeightIndex,
    sequences: usize,
    length: usize,
) -> Program {
    optimized(&network.loss(index, sequences, length))
}

/// Forward and backward: loss and the gradient of every parameter.
///
/// Inputs: those of [`Network::loss`] with all parameters as inputs, and `loss_scale` fp32 `[1]`.
/// Results: `loss` and `{parameter}_grad`, multiplied by the loss scale. With `accumulate` the
/// gradients are added in place to the inputs `{parameter}_grad`.
pub fn gradient_program(
    network: &Network,
    index: &WeightIndex,
    sequences: usize,
    length: usize,
    accumulate: bool,
) -> Program {
    let mut program = network.loss(index, sequences, length);
    let function = &mut program.functions[0];
    function.body.results.truncate(1);
    let names: Vec<String> = network.parameters().iter().map(|p| program_name(&p.name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let options = GradientOptions { loss_scale: Some("loss_scale"), accumulate };
    *function =
        gradients_with(function, "loss", &names, &options).expect("our networks differentiate");
    optimized(&program)
}

/// AdamW with clipping over every parameter: see [`adamw`].
pub fn update_program(network: &Network, optimizer: &OptimizerSection) -> Program {
    let parameters: Vec<ParameterSpec> = network
        .parameters()
        .into_iter()
        .map(|p| ParameterSpec {
            name: program_name(&p.name),
            shape: p.shape,
            weight_decay: p.decays,
        })
        .collect();
    let config = AdamWConfig {
        beta1: optimizer.beta1,
        beta2: optimizer.beta2,
        epsilon: optimizer.eps,
        weight_decay: optimizer.weight_decay,
        clip: (optimizer.clip > 0.0).then_some(optimizer.clip),
    };
    optimized(&Program::with_function(adamw(&parameters, &config)))
}
