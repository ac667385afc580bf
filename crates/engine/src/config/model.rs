use crate::{Error, ErrorKind, Result};
use orion_models::{
    GolfBaselineConfig, GolfWideConfig, Gpt2Config, HeadMap, LlamaConfig, Network, Qwen2Config,
    Qwen3Config, RopeScaling,
};
use serde::{Deserialize, Serialize};

/// See [`crate::DOCUMENTATION`]. One section for all families, so that there is one list of keys;
/// those that a family has no use for are 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key has its text in DOCUMENTATION")]
pub struct ModelSection {
    pub weights: String,
    pub family: Family,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub max_positions: usize,
    pub rope_theta: f64,
    pub rope_scaling: String,
    pub norm_epsilon: f64,
    pub tied: bool,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    pub logit_softcap: f64,
    pub head_map: Heads,
}

/// Model families that can be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "names of families")]
pub enum Family {
    GolfBaseline,
    #[serde(rename = "golfwide")]
    GolfWide,
    Gpt2,
    Llama,
    Qwen2,
    Qwen3,
}

/// Which query heads share a key head; see [`HeadMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named as in the models")]
pub enum Heads {
    Repeat,
    Tile,
}

impl ModelSection {
    /// The section for random weights of a network's sizes.
    pub fn from_network(network: &Network) -> Self {
        match network {
            Network::GolfBaseline(c) => Self {
                weights: String::new(),
                family: Family::GolfBaseline,
                vocab_size: c.vocab_size,
                hidden_size: c.hidden_size,
                intermediate_size: c.intermediate_size,
                n_layers: c.n_layers,
                n_heads: c.n_heads,
                n_kv_heads: c.n_kv_heads,
                head_dim: c.hidden_size / c.n_heads,
                max_positions: c.max_positions,
                rope_theta: c.rope_theta,
                rope_scaling: String::new(),
                norm_epsilon: c.norm_epsilon,
                tied: c.tied,
                attention_bias: false,
                mlp_bias: false,
                logit_softcap: c.logit_softcap,
                head_map: Heads::Repeat,
            },
            Network::GolfWide(c) => Self {
                weights: String::new(),
                family: Family::GolfWide,
                vocab_size: c.vocab_size,
                hidden_size: c.hidden_size,
                intermediate_size: c.intermediate_size,
                n_layers: c.n_layers,
                n_heads: c.n_heads,
                n_kv_heads: c.n_kv_heads,
                head_dim: c.head_dim,
                max_positions: c.max_positions,
                rope_theta: c.rope_theta,
                rope_scaling: String::new(),
                norm_epsilon: c.norm_epsilon,
                tied: true,
                attention_bias: false,
                mlp_bias: false,
                logit_softcap: 0.0,
                head_map: match c.head_map {
                    HeadMap::Repeat => Heads::Repeat,
                    HeadMap::Tile => Heads::Tile,
                },
            },
            Network::Gpt2(c) => Self {
                weights: String::new(),
                family: Family::Gpt2,
                vocab_size: c.vocab_size,
                hidden_size: c.hidden_size,
                intermediate_size: c.intermediate_size,
                n_layers: c.n_layers,
                n_heads: c.n_heads,
                n_kv_heads: c.n_heads,
                head_dim: c.hidden_size / c.n_heads,
                max_positions: c.max_positions,
                rope_theta: 0.0,
                rope_scaling: String::new(),
                norm_epsilon: c.norm_epsilon,
                tied: c.tied,
                attention_bias: false,
                mlp_bias: false,
                logit_softcap: 0.0,
                head_map: Heads::Repeat,
            },
            Network::Llama(c) => Self::from_llama(Family::Llama, c),
            Network::Qwen2(Qwen2Config(c)) => Self::from_llama(Family::Qwen2, c),
            Network::Qwen3(Qwen3Config(c)) => Self::from_llama(Family::Qwen3, c),
            _ => unreachable!("every family has a section"),
        }
    }

    fn from_llama(family: Family, c: &LlamaConfig) -> Self {
        let scaling = c.rope_scaling.as_ref();
        let rope_scaling = scaling.map(|s| s.to_json(c.max_positions).to_string());
        let rope_scaling = rope_scaling.unwrap_or_default();
        Self {
            weights: String::new(),
            family,
            vocab_size: c.vocab_size,
            hidden_size: c.hidden_size,
            intermediate_size: c.intermediate_size,
            n_layers: c.n_layers,
            n_heads: c.n_heads,
            n_kv_heads: c.n_kv_heads,
            head_dim: c.head_dim,
            max_positions: c.max_positions,
            rope_theta: c.rope_theta,
            rope_scaling,
            norm_epsilon: c.norm_epsilon,
            tied: c.tied,
            attention_bias: c.attention_bias,
            mlp_bias: c.mlp_bias,
            logit_softcap: 0.0,
            head_map: Heads::Repeat,
        }
    }

    fn llama(&self) -> Result<LlamaConfig> {
        let rope_scaling = match self.rope_scaling.as_str() {
            "" => None,
            text => RopeScaling::parse(text, self.max_positions).map_err(|e| {
                Error::new(ErrorKind::Config, format!("model.rope_scaling: {e}"))
                    .hint("write it as in a config.json, in braces")
            })?,
        };
        Ok(LlamaConfig {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            n_layers: self.n_layers,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            max_positions: self.max_positions,
            rope_theta: self.rope_theta,
            norm_epsilon: self.norm_epsilon,
            tied: self.tied,
            rope_scaling,
            attention_bias: self.attention_bias,
            mlp_bias: self.mlp_bias,
        })
    }

    /// The network of these sizes.
    ///
    /// # Errors
    /// When the sizes do not fit together.
    pub fn network(&self) -> Result<Network> {
        let network = match self.family {
            Family::GolfBaseline => Network::GolfBaseline(GolfBaselineConfig {
                vocab_size: self.vocab_size,
                hidden_size: self.hidden_size,
                intermediate_size: self.intermediate_size,
                n_layers: self.n_layers,
                n_heads: self.n_heads,
                n_kv_heads: self.n_kv_heads,
                max_positions: self.max_positions,
                rope_theta: self.rope_theta,
                norm_epsilon: self.norm_epsilon,
                logit_softcap: self.logit_softcap,
                tied: self.tied,
            }),
            Family::GolfWide => Network::GolfWide(GolfWideConfig {
                vocab_size: self.vocab_size,
                hidden_size: self.hidden_size,
                intermediate_size: self.intermediate_size,
                n_layers: self.n_layers,
                n_heads: self.n_heads,
                n_kv_heads: self.n_kv_heads,
                head_dim: self.head_dim,
                max_positions: self.max_positions,
                rope_theta: self.rope_theta,
                norm_epsilon: self.norm_epsilon,
                head_map: match self.head_map {
                    Heads::Repeat => HeadMap::Repeat,
                    Heads::Tile => HeadMap::Tile,
                },
            }),
            Family::Gpt2 => Network::Gpt2(Gpt2Config {
                vocab_size: self.vocab_size,
                hidden_size: self.hidden_size,
                intermediate_size: self.intermediate_size,
                n_layers: self.n_layers,
                n_heads: self.n_heads,
                max_positions: self.max_positions,
                norm_epsilon: self.norm_epsilon,
                tied: self.tied,
            }),
            Family::Llama => Network::Llama(self.llama()?),
            Family::Qwen2 => Network::Qwen2(Qwen2Config(self.llama()?)),
            Family::Qwen3 => Network::Qwen3(Qwen3Config(self.llama()?)),
        };
        let fail = |m: String| Error::new(ErrorKind::Config, format!("model.{m}"));
        network.validate().map_err(|e| fail(e.to_string()))?;
        // Keys that follow from others in this family must say what follows.
        let meant = Self::from_network(&network);
        for (key, is, should_be) in [
            ("n_kv_heads", self.n_kv_heads, meant.n_kv_heads),
            ("head_dim", self.head_dim, meant.head_dim),
        ] {
            if is != should_be {
                return Err(fail(format!(
                    "{key} is {is}; in this family it follows from the other sizes and is {should_be}"
                )));
            }
        }
        if !self.tied && meant.tied {
            return Err(fail(
                "tied is false; in this family the classifier is the embedding".into(),
            ));
        }
        Ok(network)
    }
}
