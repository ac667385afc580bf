//! Small models of every family, with random weights.

use orion_engine::{LoadedModel, initialize};
use orion_models::{
    GolfBaselineConfig, GolfWideConfig, Gpt2Config, HeadMap, LlamaConfig, Network, Qwen2Config,
    Qwen3Config, RopeScaling,
};
use orion_tensor::Tensor;

/// One small network of every family.
pub(crate) fn networks(vocab_size: usize, max_positions: usize) -> [Network; 6] {
    let llama = LlamaConfig {
        vocab_size,
        hidden_size: 24,
        intermediate_size: 40,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        max_positions,
        rope_theta: 1e4,
        norm_epsilon: 1e-5,
        tied: false,
        rope_scaling: None,
        attention_bias: false,
        mlp_bias: false,
    };
    [
        Network::Qwen3(Qwen3Config(LlamaConfig { tied: true, ..llama.clone() })),
        Network::Llama(LlamaConfig {
            rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }),
            ..llama.clone()
        }),
        Network::Gpt2(Gpt2Config {
            vocab_size,
            hidden_size: 24,
            intermediate_size: 40,
            n_layers: 2,
            n_heads: 3,
            max_positions,
            norm_epsilon: 1e-5,
            tied: false,
        }),
        Network::Qwen2(Qwen2Config(llama)),
        Network::GolfBaseline(GolfBaselineConfig {
            vocab_size,
            hidden_size: 24,
            intermediate_size: 40,
            n_layers: 3,
            n_heads: 3,
            n_kv_heads: 3,
            max_positions,
            rope_theta: 1e4,
            norm_epsilon: 1e-6,
            logit_softcap: 30.0,
            tied: true,
        }),
        Network::GolfWide(GolfWideConfig {
            vocab_size,
            hidden_size: 24,
            intermediate_size: 40,
            n_layers: 2,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 8,
            max_positions,
            rope_theta: 1e4,
            norm_epsilon: 1e-5,
            head_map: HeadMap::Tile,
        }),
    ]
}

/// Weights larger than training begins with, so that tokens matter.
pub(crate) fn random_model(network: Network) -> LoadedModel {
    let mut parameters = initialize(&network, 3);
    for tensor in parameters.values_mut().filter(|t| t.shape().len() == 2) {
        let values: Vec<f32> = tensor.to_f32_vec().iter().map(|v| v * 10.0).collect();
        *tensor = Tensor::from_slice(tensor.shape(), &values);
    }
    LoadedModel::new(network, parameters)
}

/// Logits as tolerances compare them.
pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}
