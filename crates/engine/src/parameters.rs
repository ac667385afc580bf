//! Tensors that are trained.

use crate::Random;
use crate::checkpoint::{first_moment_name, second_moment_name};
use orion_models::{Initialization, Network, ParameterSpec, program_name};
use orion_runtime::{Bindings, Layout, Surface};
use orion_tensor::{DType, Tensor};
use std::collections::BTreeMap;

/// One trained tensor and what the optimizer keeps for it, fp32.
pub(crate) struct Parameter {
    pub(crate) spec: ParameterSpec,
    pub(crate) names: Names,
    pub(crate) value: Surface,
    pub(crate) gradient: Surface,
    pub(crate) first_moment: Surface,
    pub(crate) second_moment: Surface,
}

/// The names a parameter's surfaces have in the programs.
pub(crate) struct Names {
    pub(crate) value: String,
    pub(crate) gradient: String,
    pub(crate) first_moment: String,
    pub(crate) second_moment: String,
}

impl Parameter {
    /// # Panics
    /// When `initial` lacks the parameter.
    pub(crate) fn new(
        spec: ParameterSpec,
        initial: &BTreeMap<String, Tensor>,
        moments: &BTreeMap<String, Tensor>,
    ) -> Self {
        let layout = Layout::dense(DType::F32, &spec.shape);
        let moment = |name: String| {
            moments.get(&name).map_or_else(|| Surface::zeros(layout.clone()), Surface::from_tensor)
        };
        let base = program_name(&spec.name);
        let tensor = initial.get(&spec.name).expect("a tensor for every parameter");
        let value = match tensor.dtype() {
            DType::F32 => Surface::from_tensor(tensor),
            _ => Surface::from_slice(&spec.shape, &tensor.to_f32_vec()),
        };
        Self {
            first_moment: moment(first_moment_name(&spec.name)),
            second_moment: moment(second_moment_name(&spec.name)),
            gradient: Surface::zeros(layout.clone()),
            value,
            names: Names {
                gradient: format!("{base}_grad"),
                first_moment: format!("{base}_m"),
                second_moment: format!("{base}_v"),
                value: base,
            },
            spec,
        }
    }
}

impl Parameter {
    /// Binds everything that an update reads and writes.
    pub(crate) fn bind_update<'a>(&'a mut self, bindings: &mut Bindings<'a>) {
        bindings
            .update(&self.names.value, &mut self.value)
            .update(&self.names.gradient, &mut self.gradient)
            .update(&self.names.first_moment, &mut self.first_moment)
            .update(&self.names.second_moment, &mut self.second_moment);
    }
}

/// Random first weights. Every parameter has a stream of its own, drawn from the seed and its
/// position, so that adding a layer does not change those before it.
pub fn initialize(network: &Network, seed: u64) -> BTreeMap<String, Tensor> {
    initialize_each(network.parameters(), seed)
}

/// [`initialize`] for any parameters.
pub(crate) fn initialize_each(specs: Vec<ParameterSpec>, seed: u64) -> BTreeMap<String, Tensor> {
    let mut seeds = Random::new(seed);
    specs
        .into_iter()
        .map(|p| {
            let values = initial_values(&p, &mut Random::new(seeds.next_u64()));
            (p.name, Tensor::from_slice(&p.shape, &values))
        })
        .collect()
}

/// What a parameter begins with.
pub fn initial_values(spec: &ParameterSpec, random: &mut Random) -> Vec<f32> {
    let count = spec.shape.iter().product();
    match spec.initialization {
        Initialization::Constant { value } => vec![value as f32; count],
        Initialization::Normal { deviation } => {
            (0..count).map(|_| (random.normal() * deviation) as f32).collect()
        }
        Initialization::Uniform { bound } => {
            (0..count).map(|_| ((2.0 * random.uniform() - 1.0) * bound) as f32).collect()
        }
        Initialization::FirstRow => {
            let row = count / spec.shape[0];
            (0..count).map(|i| if i < row { 1.0 } else { 0.0 }).collect()
        }
    }
}
