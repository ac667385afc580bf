use crate::{
    GolfBaselineConfig, GolfWideConfig, Gpt2Config, HeadMap, LlamaConfig, Network, Qwen3Config,
};

/// A named shape to train from nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// The name on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: &'static str,
    network: Network,
}

/// Every named shape.
pub const PRESETS: &[Preset] = &[
    stories("quickstart", "the model of `orion quickstart`", [1024, 128, 352, 4, 4, 2, 256]),
    stories("stories260k", "llama2.c stories260K", [512, 64, 172, 5, 8, 4, 512]),
    stories("stories15m", "llama2.c stories15M", [32000, 288, 768, 6, 6, 6, 256]),
    stories("stories42m", "llama2.c stories42M", [32000, 512, 1376, 8, 8, 8, 1024]),
    stories("stories110m", "llama2.c stories110M", [32000, 768, 2048, 12, 12, 12, 1024]),
    gpt2("gpt2-124m", "GPT-2", [768, 12, 12]),
    gpt2("gpt2-medium", "GPT-2 of 355 million parameters", [1024, 24, 16]),
    gpt2("gpt2-large", "GPT-2 of 774 million parameters", [1280, 36, 20]),
    gpt2("gpt2-xl", "GPT-2 of 1.6 billion parameters", [1600, 48, 25]),
    Preset {
        name: "qwen3-0.6b",
        summary: "Qwen3 of 0.6 billion parameters",
        network: Network::Qwen3(Qwen3Config(LlamaConfig {
            vocab_size: 151936,
            hidden_size: 1024,
            intermediate_size: 3072,
            n_layers: 28,
            n_heads: 16,
            n_kv_heads: 8,
            head_dim: 128,
            max_positions: 40960,
            rope_theta: 1e6,
            norm_epsilon: 1e-6,
            tied: true,
            rope_scaling: None,
            attention_bias: false,
            mlp_bias: false,
        })),
    },
    Preset {
        name: "golf-baseline",
        summary: "the baseline of OpenAI's Parameter Golf",
        network: Network::GolfBaseline(GolfBaselineConfig {
            vocab_size: 1024,
            hidden_size: 512,
            intermediate_size: 1024,
            n_layers: 9,
            n_heads: 8,
            n_kv_heads: 4,
            max_positions: 1024,
            rope_theta: 10000.0,
            norm_epsilon: f32::EPSILON as f64,
            logit_softcap: 30.0,
            tied: true,
        }),
    },
    Preset {
        name: "golfwide",
        summary: "GolfWide, submission 801 to OpenAI's Parameter Golf",
        network: Network::GolfWide(GolfWideConfig {
            vocab_size: 1024,
            hidden_size: 512,
            intermediate_size: 1024,
            n_layers: 9,
            n_heads: 8,
            n_kv_heads: 4,
            head_dim: 64,
            max_positions: 256,
            rope_theta: 10000.0,
            norm_epsilon: 1e-5,
            head_map: HeadMap::Repeat,
        }),
    },
];

/// A tied Llama with θ 10000 and epsilon 1e-5, as llama2.c has them. Sizes: vocabulary, hidden,
/// intermediate, layers, heads, key/value heads, positions.
const fn stories(name: &'static str, summary: &'static str, sizes: [usize; 7]) -> Preset {
    let [vocab_size, hidden_size, intermediate_size, n_layers, n_heads, n_kv_heads, positions] =
        sizes;
    let network = Network::Llama(LlamaConfig {
        vocab_size,
        hidden_size,
        intermediate_size,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim: hidden_size / n_heads,
        max_positions: positions,
        rope_theta: 10000.0,
        norm_epsilon: 1e-5,
        tied: true,
        rope_scaling: None,
        attention_bias: false,
        mlp_bias: false,
    });
    Preset { name, summary, network }
}

/// Sizes: hidden, layers, heads.
const fn gpt2(name: &'static str, summary: &'static str, sizes: [usize; 3]) -> Preset {
    let [hidden_size, n_layers, n_heads] = sizes;
    let network = Network::Gpt2(Gpt2Config {
        vocab_size: 50257,
        hidden_size,
        intermediate_size: 4 * hidden_size,
        n_layers,
        n_heads,
        max_positions: 1024,
        norm_epsilon: 1e-5,
        tied: true,
    });
    Preset { name, summary, network }
}

impl Preset {
    /// The network.
    pub fn network(&self) -> Network {
        self.network.clone()
    }
}

/// The preset of that name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|p| p.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_published_ones() {
        for (name, count) in [
            ("stories260k", 260_032),
            ("stories15m", 15_191_712),
            ("stories110m", 109_529_856),
            ("gpt2-124m", 124_439_808),
            ("gpt2-medium", 354_823_168),
            ("gpt2-large", 774_030_080),
            ("gpt2-xl", 1_557_611_200),
            ("qwen3-0.6b", 596_049_920),
            ("golf-baseline", 17_059_912),
            ("golfwide", 21_767_680),
        ] {
            assert_eq!(preset(name).unwrap().network().parameter_count(), count, "{name}");
        }
        for p in PRESETS {
            p.network().validate().unwrap();
        }
    }
}
