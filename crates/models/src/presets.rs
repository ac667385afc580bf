use crate::{LlamaConfig, Network};

/// A named shape to train from nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// The name on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: &'static str,
    sizes: [usize; 7],
}

/// Every named shape.
pub const PRESETS: &[Preset] = &[
    llama("quickstart", "the model of `orion quickstart`", [1024, 128, 352, 4, 4, 2, 256]),
    llama("stories260k", "llama2.c stories260K", [512, 64, 172, 5, 8, 4, 512]),
    llama("stories15m", "llama2.c stories15M", [32000, 288, 768, 6, 6, 6, 256]),
    llama("stories42m", "llama2.c stories42M", [32000, 512, 1376, 8, 8, 8, 1024]),
    llama("stories110m", "llama2.c stories110M", [32000, 768, 2048, 12, 12, 12, 1024]),
];

/// Sizes: vocabulary, hidden, intermediate, layers, heads, key/value heads, positions.
const fn llama(name: &'static str, summary: &'static str, sizes: [usize; 7]) -> Preset {
    Preset { name, summary, sizes }
}

impl Preset {
    /// The network; all are tied Llamas with θ 10000 and epsilon 1e-5, as llama2.c has them.
    pub fn network(&self) -> Network {
        let [vocab_size, hidden_size, intermediate_size, n_layers, n_heads, n_kv_heads, positions] =
            self.sizes;
        Network::Llama(LlamaConfig {
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
        })
    }
}

/// The preset of that name.
pub fn preset(name: &str) -> Option<Preset> {
    PRESETS.iter().copied().find(|p| p.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_published_ones() {
        let count = |name| preset(name).unwrap().network().parameter_count();
        assert_eq!(count("stories260k"), 260_032);
        assert_eq!(count("stories15m"), 15_191_712);
        assert_eq!(count("stories110m"), 109_529_856);
        for p in PRESETS {
            let Network::Llama(c) = p.network();
            c.validate().unwrap();
        }
    }
}
