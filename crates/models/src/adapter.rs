//! Low-rank adapters of linear layers: Hu et al., "LoRA: Low-Rank Adaptation of Large Language
//! Models", 2021.

use crate::{Initialization, LoadedModel, Network, ParameterSpec};
use orion_tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// The input of programs that holds the factors of adapters.
pub(crate) const SCALE: &str = "adapter_scale";

/// Which linear layers of a program take adapters, and of what rank.
///
/// Such a layer computes `W x + B (scale ⊙ A x)` with two inputs called as [`matrix_names`] says,
/// in the way of [`crate::program_name`]: `A` fp32 `[R, I]` and `B` fp32 `[O, R]`. The input
/// [`AdapterShape::SCALE`], fp32 `[R, B]`, has a factor for every row of `A` and every sequence;
/// programs over whole sequences have one column for all of them. Rows of several adapters may lie
/// behind each other, with zeros in the columns of sequences that they are not for; rows that
/// nobody needs have zeros everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterShape {
    /// `R`, rows of all adapters together.
    pub rank: usize,
    /// Paths of the modules, such as `model.layers.0.self_attn.q_proj`.
    pub modules: BTreeSet<String>,
}

/// A linear layer of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearLayer {
    /// Its path, as Hugging Face's networks call it.
    pub module: String,
    /// Its weight `[O, I]`; of the classifier this may be the embedding.
    pub parameter: String,
    /// `O`
    pub outputs: usize,
    /// `I`
    pub inputs: usize,
}

impl LinearLayer {
    /// Whether the layer gives the logits.
    pub fn is_classifier(&self) -> bool {
        self.module == "lm_head"
    }
}

/// What the matrices `A` and `B` of a module are called.
pub fn matrix_names(module: &str) -> [String; 2] {
    ["A", "B"].map(|half| format!("{module}.lora_{half}.weight"))
}

impl AdapterShape {
    /// The name of the input with the factors.
    pub const SCALE: &str = SCALE;

    /// The matrices as they are trained, `A` and `B` of every module in the order of the network:
    /// as PEFT, `A` begins as PyTorch's linear layers do and `B` with zeros.
    pub fn parameters(&self, network: &Network) -> Vec<ParameterSpec> {
        let layers = network.linear_layers();
        let adapted = layers.iter().filter(|layer| self.modules.contains(&layer.module));
        let specs = adapted.flat_map(|layer| {
            let [a, b] = matrix_names(&layer.module);
            let bound = 1.0 / (layer.inputs as f64).sqrt();
            let zero = Initialization::Constant { value: 0.0 };
            [
                ParameterSpec::uniform(a, &[self.rank, layer.inputs], bound),
                ParameterSpec {
                    name: b,
                    shape: vec![layer.outputs, self.rank],
                    initialization: zero,
                    decays: true,
                },
            ]
        });
        specs.collect()
    }
}

/// The change to one linear layer: `scale · B A`.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// fp32 `[r, I]`
    pub a: Tensor,
    /// fp32 `[O, r]`
    pub b: Tensor,
    /// The factor.
    pub scale: f64,
}

impl LowRank {
    /// `r`
    pub fn rank(&self) -> usize {
        self.a.shape()[0]
    }
}

/// Changes to linear layers of a network, by the path of their module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Adapter {
    /// The changes; modules that are not named stay as they are.
    pub modules: BTreeMap<String, LowRank>,
}

/// Why an adapter cannot become part of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MergeError(String);

impl Adapter {
    /// The largest rank of a module.
    pub fn rank(&self) -> usize {
        self.modules.values().map(LowRank::rank).max().unwrap_or(0)
    }

    /// How many numbers it has.
    pub fn parameter_count(&self) -> usize {
        self.modules.values().map(|m| m.a.element_count() + m.b.element_count()).sum()
    }

    /// The model with `W + scale · B A` in place of every weight `W` that the adapter changes, in
    /// the element type that the weight had. Sums are taken in f64.
    ///
    /// # Errors
    /// When the adapter is for the classifier of a model whose classifier is the embedding, which
    /// would change too; or for a module that the network does not have or has with other sizes.
    pub fn merged_into(&self, model: &LoadedModel) -> Result<LoadedModel, MergeError> {
        let layers = model.network.linear_layers();
        let mut merged = model.clone();
        for (module, change) in &self.modules {
            let layer = layers.iter().find(|layer| layer.module == *module);
            let layer = layer
                .filter(|l| change.a.shape()[1] == l.inputs && change.b.shape()[0] == l.outputs);
            let layer = layer.ok_or_else(|| {
                MergeError(format!(
                    "the network has no linear layer {module} of this adapter's sizes"
                ))
            })?;
            if layer.is_classifier() && layer.parameter != "lm_head.weight" {
                return Err(MergeError(
                    "the adapter changes lm_head, whose weight is the embedding's in this model: \
                     merging it would change the embedding too"
                        .to_owned(),
                ));
            }
            let weight = &model.parameters[&layer.parameter];
            merged.parameters.insert(layer.parameter.clone(), sum(weight, change));
        }
        Ok(merged)
    }
}

/// `W + scale · B A`.
fn sum(weight: &Tensor, change: &LowRank) -> Tensor {
    let (a, b, rank) = (change.a.to_f32_vec(), change.b.to_f32_vec(), change.rank());
    let inputs = change.a.shape()[1];
    let weights = weight.to_f32_vec();
    let mut result = Vec::with_capacity(weights.len());
    let mut row = vec![0f64; inputs];
    for (weights, b) in weights.chunks_exact(inputs).zip(b.chunks_exact(rank)) {
        row.fill(0.0);
        for (a, &b) in a.chunks_exact(inputs).zip(b) {
            let factor = change.scale * f64::from(b);
            row.iter_mut().zip(a).for_each(|(to, &a)| *to += factor * f64::from(a));
        }
        result.extend(weights.iter().zip(&row).map(|(&w, change)| (f64::from(w) + change) as f32));
    }
    crate::storage::convert(&Tensor::from_slice(weight.shape(), &result), weight.dtype())
}
