//! How networks are called and kept in Hugging Face's files, and in ours, which are the same.

use crate::gpt2::is_transposed_in_files;
use crate::{
    ConfigError, GolfBaselineConfig, GolfWideConfig, Gpt2Config, HeadMap, LlamaConfig, Network,
    Qwen2Config, Qwen3Config,
};
use orion_formats::{
    ConfigFile, GolfBaselineConfigFile, GolfWideConfigFile, Gpt2ConfigFile, LlamaConfigFile,
    transposed,
};
use orion_tensor::Tensor;

impl Network {
    /// The network a `config.json` describes.
    ///
    /// # Errors
    /// When its sizes do not fit together.
    pub fn from_config_file(file: &ConfigFile) -> Result<Self, ConfigError> {
        let network = match file {
            ConfigFile::GolfBaseline(c) => Self::GolfBaseline(GolfBaselineConfig {
                vocab_size: c.vocab_size,
                hidden_size: c.hidden_size,
                intermediate_size: c.intermediate_size,
                n_layers: c.num_hidden_layers,
                n_heads: c.num_attention_heads,
                n_kv_heads: c.num_key_value_heads,
                max_positions: c.max_position_embeddings,
                rope_theta: c.rope_theta,
                norm_epsilon: c.rms_norm_eps,
                logit_softcap: c.logit_softcap,
                tied: c.tie_word_embeddings,
            }),
            ConfigFile::GolfWide(c) => Self::GolfWide(GolfWideConfig {
                vocab_size: c.vocab_size,
                hidden_size: c.hidden_size,
                intermediate_size: c.intermediate_size,
                n_layers: c.num_hidden_layers,
                n_heads: c.num_attention_heads,
                n_kv_heads: c.num_key_value_heads,
                head_dim: c.head_dim,
                max_positions: c.max_position_embeddings,
                rope_theta: c.rope_theta,
                norm_epsilon: c.rms_norm_eps,
                head_map: if c.head_map == "tile" { HeadMap::Tile } else { HeadMap::Repeat },
            }),
            ConfigFile::Gpt2(c) => Self::Gpt2(Gpt2Config {
                vocab_size: c.vocab_size,
                hidden_size: c.n_embd,
                intermediate_size: c.n_inner,
                n_layers: c.n_layer,
                n_heads: c.n_head,
                max_positions: c.n_positions,
                norm_epsilon: c.layer_norm_epsilon,
                tied: c.tie_word_embeddings,
            }),
            ConfigFile::Llama(c) => Self::Llama(llama_of(c)),
            ConfigFile::Qwen2(c) => Self::Qwen2(Qwen2Config(llama_of(c))),
            ConfigFile::Qwen3(c) => Self::Qwen3(Qwen3Config(llama_of(c))),
        };
        network.validate()?;
        Ok(network)
    }

    /// The `config.json` that describes this network.
    pub fn config_file(&self) -> ConfigFile {
        match self {
            Self::GolfBaseline(c) => ConfigFile::GolfBaseline(GolfBaselineConfigFile {
                model_type: "golf-baseline".into(),
                vocab_size: c.vocab_size,
                hidden_size: c.hidden_size,
                intermediate_size: c.intermediate_size,
                num_hidden_layers: c.n_layers,
                num_attention_heads: c.n_heads,
                num_key_value_heads: c.n_kv_heads,
                max_position_embeddings: c.max_positions,
                rms_norm_eps: c.norm_epsilon,
                rope_theta: c.rope_theta,
                logit_softcap: c.logit_softcap,
                tie_word_embeddings: c.tied,
            }),
            Self::GolfWide(c) => ConfigFile::GolfWide(GolfWideConfigFile {
                model_type: "golfwide".into(),
                vocab_size: c.vocab_size,
                hidden_size: c.hidden_size,
                intermediate_size: c.intermediate_size,
                num_hidden_layers: c.n_layers,
                num_attention_heads: c.n_heads,
                num_key_value_heads: c.n_kv_heads,
                head_dim: c.head_dim,
                max_position_embeddings: c.max_positions,
                rms_norm_eps: c.norm_epsilon,
                rope_theta: c.rope_theta,
                head_map: match c.head_map {
                    HeadMap::Repeat => "repeat".into(),
                    HeadMap::Tile => "tile".into(),
                },
            }),
            Self::Gpt2(c) => ConfigFile::Gpt2(Gpt2ConfigFile {
                vocab_size: c.vocab_size,
                n_embd: c.hidden_size,
                n_inner: c.intermediate_size,
                n_layer: c.n_layers,
                n_head: c.n_heads,
                n_positions: c.max_positions,
                layer_norm_epsilon: c.norm_epsilon,
                tie_word_embeddings: c.tied,
                bos_token_id: None,
                eos_token_ids: Vec::new(),
            }),
            Self::Llama(c) => ConfigFile::Llama(file_of(c)),
            Self::Qwen2(Qwen2Config(c)) => ConfigFile::Qwen2(file_of(c)),
            Self::Qwen3(Qwen3Config(c)) => ConfigFile::Qwen3(file_of(c)),
        }
    }

    /// A parameter as files keep it, or from a file as the network wants it; `None` where that is
    /// the same. GPT-2's files have the matrices of blocks as `[in, out]`.
    pub fn turned_for_files(&self, name: &str, tensor: &Tensor) -> Option<Tensor> {
        self.is_turned_in_files(name, tensor).then(|| transposed(tensor))
    }

    /// Whether [`Network::turned_for_files`] is another matrix.
    pub(crate) fn is_turned_in_files(&self, name: &str, tensor: &Tensor) -> bool {
        let turned = matches!(self, Self::Gpt2(_)) && is_transposed_in_files(name);
        turned && tensor.shape().len() == 2
    }

    /// The name of the parameter that a file calls `name`; `None` for what is none: tables that
    /// follow from the sizes, and the classifier where it is the embedding.
    pub(crate) fn parameter_of_file(&self, name: &str) -> Option<String> {
        let with_prefix = |prefix: &str, first: &[&str]| {
            let bare = first.iter().any(|part| name.starts_with(part));
            if bare { format!("{prefix}{name}") } else { name.to_owned() }
        };
        let (name, tied) = match self {
            Self::GolfBaseline(c) => (name.to_owned(), c.tied),
            Self::GolfWide(_) => (name.to_owned(), true),
            Self::Gpt2(c) => {
                if name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") {
                    return None;
                }
                (with_prefix("transformer.", &["wte.", "wpe.", "h.", "ln_f."]), c.tied)
            }
            Self::Llama(c) | Self::Qwen2(Qwen2Config(c)) | Self::Qwen3(Qwen3Config(c)) => {
                if name.ends_with("rotary_emb.inv_freq") {
                    return None;
                }
                (with_prefix("model.", &["embed_tokens.", "layers.", "norm."]), c.tied)
            }
        };
        // Some writers store the tied classifier a second time.
        (!(tied && name == "lm_head.weight")).then_some(name)
    }
}

fn llama_of(c: &LlamaConfigFile) -> LlamaConfig {
    LlamaConfig {
        vocab_size: c.vocab_size,
        hidden_size: c.hidden_size,
        intermediate_size: c.intermediate_size,
        n_layers: c.num_hidden_layers,
        n_heads: c.num_attention_heads,
        n_kv_heads: c.num_key_value_heads,
        head_dim: c.head_dim,
        max_positions: c.max_position_embeddings,
        rope_theta: c.rope_theta,
        norm_epsilon: c.rms_norm_eps,
        tied: c.tie_word_embeddings,
        rope_scaling: c.rope_scaling.clone(),
        attention_bias: c.attention_bias,
        mlp_bias: c.mlp_bias,
    }
}

fn file_of(c: &LlamaConfig) -> LlamaConfigFile {
    LlamaConfigFile {
        vocab_size: c.vocab_size,
        hidden_size: c.hidden_size,
        intermediate_size: c.intermediate_size,
        num_hidden_layers: c.n_layers,
        num_attention_heads: c.n_heads,
        num_key_value_heads: c.n_kv_heads,
        head_dim: c.head_dim,
        max_position_embeddings: c.max_positions,
        rms_norm_eps: c.norm_epsilon,
        rope_theta: c.rope_theta,
        rope_scaling: c.rope_scaling.clone(),
        attention_bias: c.attention_bias,
        mlp_bias: c.mlp_bias,
        tie_word_embeddings: c.tied,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
        dtype: Some("float32".to_owned()),
    }
}
