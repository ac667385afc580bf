//! Training runs by name: a network, and how the projects that trained it on the Neural Engine
//! did.

use crate::{Result, config::ConfigLayers};
use orion_models::{LlamaConfig, Network, preset};

/// A named training run. The data is the user's.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainRecipe {
    /// The name on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: &'static str,
    settings: &'static [(&'static str, &'static str)],
}

/// What the trainers on the Neural Engine share: maderix/ANE and those who took it up.
/// Micro-batches of one sequence, AdamW with β 0.9 and 0.95 and decay 0.1, clipping at 1, 100
/// steps of warm-up, and a cosine down to a tenth.
macro_rules! settings {
    ($seq:literal, $accumulated:literal, $rate:literal, $least:literal) => {
        &[
            ("train.batch", "1"),
            ("train.seq", $seq),
            ("train.grad_accum", $accumulated),
            ("train.loss_scale", "256"),
            ("optimizer.lr", $rate),
            ("optimizer.min_lr", $least),
            ("optimizer.schedule", "cosine"),
            ("optimizer.warmup", "100"),
            ("optimizer.beta1", "0.9"),
            ("optimizer.beta2", "0.95"),
            ("optimizer.weight_decay", "0.1"),
            ("optimizer.clip", "1.0"),
        ]
    };
}

/// Every named training run.
pub const RECIPES: &[TrainRecipe] = &[
    TrainRecipe {
        name: "stories110m",
        summary: "llama2.c's 110 million parameters on TinyStories, as maderix/ANE trains them",
        settings: settings!("256", "10", "3e-4", "3e-5"),
    },
    TrainRecipe {
        name: "golfwide",
        summary: "submission 801 to Parameter Golf: 9 layers of 512, branches scaled by 1/√18",
        settings: settings!("256", "20", "3e-4", "3e-5"),
    },
    TrainRecipe {
        name: "qwen3-0.6b",
        summary: "the shape of Qwen3-0.6B with its norms of heads and θ of a million",
        settings: settings!("256", "10", "3e-4", "3e-5"),
    },
    TrainRecipe {
        name: "single-layer",
        summary: "one layer of 768 over 512 tokens, to measure one layer",
        settings: settings!("512", "1", "3e-4", "3e-5"),
    },
];

impl TrainRecipe {
    /// The recipe of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        RECIPES.iter().find(|r| r.name == name)
    }

    /// Its network.
    pub fn network(&self) -> Network {
        match preset(self.name) {
            Some(preset) => preset.network(),
            None => Network::Llama(LlamaConfig {
                vocab_size: 32000,
                hidden_size: 768,
                intermediate_size: 2048,
                n_layers: 1,
                n_heads: 12,
                n_kv_heads: 12,
                head_dim: 64,
                max_positions: 512,
                rope_theta: 1e4,
                norm_epsilon: 1e-5,
                tied: true,
                rope_scaling: None,
                attention_bias: false,
                mlp_bias: false,
            }),
        }
    }

    /// Puts the network and the settings into a configuration.
    ///
    /// # Errors
    /// None for the recipes there are; a setting that does not exist would be one.
    pub fn add_to(&self, layers: &mut ConfigLayers) -> Result<()> {
        layers.set("model.weights", "")?;
        layers.set_network(&self.network());
        self.settings.iter().try_for_each(|(key, value)| layers.set(key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_a_configuration() {
        for recipe in RECIPES {
            let mut layers = ConfigLayers::default();
            recipe.add_to(&mut layers).unwrap();
            let config = layers.finish().unwrap();
            assert_eq!(config.train.loss_scale, 256.0, "{}", recipe.name);
            let network = config.model.network().unwrap();
            assert_eq!(network, recipe.network(), "{}", recipe.name);
            assert!(network.max_positions() >= config.train.seq, "{}", recipe.name);
        }
    }
}
