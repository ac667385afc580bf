//! Whole training steps and tokens of other projects: their programs on the Neural Engine, and
//! what they do on the host meanwhile.

use super::programs::{LayerPrograms, Sizes, constant_weights, packed_weights};
use orion_device::{HostRates, Os, Route, Target, estimate};
use orion_mil::Program;
use orion_tensor::DType;

pub(super) const STORIES110M: Sizes =
    Sizes { layers: 12, dim: 768, hidden: 2048, heads: 12, kv: 768, seq: 256, vocab: 32_000 };
pub(super) const STORIES15M: Sizes =
    Sizes { layers: 6, dim: 288, hidden: 768, heads: 6, kv: 288, seq: 256, vocab: 32_000 };
pub(super) const QWEN3_SHAPE: Sizes =
    Sizes { layers: 28, dim: 1024, hidden: 3072, heads: 16, kv: 1024, seq: 256, vocab: 151_936 };
pub(super) const GOLFWIDE: Sizes =
    Sizes { layers: 9, dim: 512, hidden: 1024, heads: 8, kv: 256, seq: 256, vocab: 1024 };
pub(super) const GPT_48M: Sizes =
    Sizes { layers: 6, dim: 768, hidden: 2048, heads: 6, kv: 768, seq: 512, vocab: 32_768 };

/// Microseconds of programs one after another.
pub(super) fn on(chip: &str, programs: &[Program]) -> f64 {
    let target = Target { chip: chip.parse().expect("a chip"), os: Os::V26, route: Route::Direct };
    programs.iter().flat_map(|p| estimate(p, &target)).map(|e| e.us()).sum()
}

/// What a chip's host does for a trainer.
fn host(chip: &str) -> HostRates {
    HostRates::of(chip.parse().expect("a chip"))
}

/// Microseconds of products on a host.
fn products(host: &HostRates, operations: f64) -> f64 {
    operations / host.products_tflops / 1e6
}

/// The forward pass of a layer's programs in all layers.
pub(super) fn forward(chip: &str, sizes: &Sizes, layer: &LayerPrograms) -> f64 {
    on(chip, &layer.forward) * sizes.layers as f64
}

/// One micro-batch: forward and backward programs, the classifier and the loss on the host, and
/// the gradients of weights there, while the Neural Engine does the backward pass.
fn micro_batch(chip: &str, sizes: &Sizes, layer: &LayerPrograms, words: usize) -> f64 {
    let host = host(chip);
    let (seq, dim, hidden) = (sizes.seq as f64, sizes.dim as f64, sizes.hidden as f64);
    let layers = sizes.layers as f64;
    let classifier = 2.0 * words as f64 * dim * seq;
    let gradients = 2.0 * sizes.layer_weights() * layers * seq + classifier;
    // Six passes over the logits, and for each layer what goes to and from the programs.
    let bytes = 24.0 * words as f64 * seq + 6.0 * layers * seq * (20.0 * dim + 12.0 * hidden);
    let backward = on(chip, &layer.backward) * layers;
    forward(chip, sizes, layer)
        + products(&host, 2.0 * classifier)
        + bytes / host.copy_gb_per_s / 1e3
        + backward.max(products(&host, gradients))
}

/// maderix/ANE's pipeline with weights in the programs, which are compiled anew every ten steps;
/// the step without that.
pub(super) fn constant_weight_step(chip: &str, sizes: &Sizes) -> f64 {
    micro_batch(chip, sizes, &constant_weights(sizes), sizes.vocab)
}

/// Its pipeline with weights in the inputs: the words of a text are a part of the vocabulary.
pub(super) fn packed_weight_step(chip: &str, sizes: &Sizes) -> f64 {
    let words = sizes.vocab.min(9_200);
    micro_batch(chip, sizes, &packed_weights(sizes, DType::F16), words)
}

/// Forward programs alone, as the first pipeline's counter has them.
pub(super) fn constant_weight_forward(chip: &str, sizes: &Sizes) -> f64 {
    forward(chip, sizes, &constant_weights(sizes))
}

/// Forward and backward programs of the second pipeline in fp32, without the host.
pub(super) fn packed_weight_passes(chip: &str, sizes: &Sizes) -> [f64; 2] {
    let layer = packed_weights(sizes, DType::F32);
    [forward(chip, sizes, &layer), on(chip, &layer.backward) * sizes.layers as f64]
}
