//! From files to a network with its parameters.

use crate::{LlamaConfig, Network, ParameterSpec, WeightIndex, WeightStorage};
use orion_formats::{LlamaConfigFile, SafeTensors, llama2c, rope_interleaved_to_half};
use orion_tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A network with its parameters, by their Hugging Face names.
#[derive(Debug, Clone)]
pub struct LoadedModel {
    /// Family and sizes.
    pub network: Network,
    /// Parameters; storage is shared with the file where the format allows it.
    pub parameters: BTreeMap<String, Tensor>,
    /// The tokenizer that lies beside the weights, if one does.
    pub tokenizer: Option<PathBuf>,
    /// How the matrices are to be kept in programs.
    pub storage: WeightStorage,
}

impl LoadedModel {
    /// A network with its parameters, and nothing beside them.
    pub fn new(network: Network, parameters: BTreeMap<String, Tensor>) -> Self {
        Self { network, parameters, tokenizer: None, storage: WeightStorage::AsGiven }
    }

    /// The constants of programs for sequences of up to `positions` tokens: the parameters, kept
    /// as the model says, and tables.
    pub fn index(&self, positions: usize) -> WeightIndex {
        let mut index = WeightIndex::new();
        for (name, tensor) in &self.parameters {
            index.insert_parameter(name, tensor, self.storage);
        }
        self.network.add_tables(&mut index, positions);
        index
    }
}

/// Why a path gave no model.
#[derive(Debug)]
pub struct LoadError {
    path: PathBuf,
    message: String,
    hint: Option<String>,
}

impl LoadError {
    fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into(), hint: None }
    }

    /// The file or directory that is meant.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to do about it.
    pub fn way_out(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Errors of `formats` name their file themselves.
        if self.message.starts_with(&*self.path.to_string_lossy()) {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path.display(), self.message)
        }
    }
}

impl std::error::Error for LoadError {}

/// Loads a model from a llama2.c `.bin`, a directory with `config.json` and
/// `model.safetensors`, or a run directory (its newest complete checkpoint).
///
/// # Errors
/// When the path is none of these, a file is damaged, or parameters are missing, left over, of
/// another shape, or not finite.
pub fn load(path: &Path) -> Result<LoadedModel, LoadError> {
    if path.is_dir() {
        return load_directory(path);
    }
    if !path.exists() {
        return Err(LoadError::new(path, "there is no such file or directory"));
    }
    let checkpoint = llama2c::Checkpoint::open(path).map_err(|e| LoadError {
        path: path.to_owned(),
        message: e.to_string(),
        hint: e.way_out().map(str::to_owned).or_else(|| {
            Some(
                "a model is a llama2.c .bin file, a Hugging Face directory or a run directory"
                    .into(),
            )
        }),
    })?;
    from_llama2c(path, checkpoint)
}

fn load_directory(path: &Path) -> Result<LoadedModel, LoadError> {
    let latest = path.join("latest");
    let weights = if latest.exists() { latest } else { path.to_owned() };
    let config_path = weights.join("config.json");
    if !config_path.exists() {
        let mut error = LoadError::new(path, "there is no config.json in this directory");
        let run = path.join("config.toml").exists();
        error.hint = Some(if run {
            "this run has no complete checkpoint yet".into()
        } else {
            "a model directory holds config.json and model.safetensors".into()
        });
        return Err(error);
    }
    let of = |p: &Path, e: orion_formats::Error| LoadError {
        path: p.to_owned(),
        message: e.to_string(),
        hint: e.way_out().map(str::to_owned),
    };
    let config = LlamaConfigFile::open(&config_path).map_err(|e| of(&config_path, e))?;
    let network = Network::Llama(LlamaConfig {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        n_layers: config.num_hidden_layers,
        n_heads: config.num_attention_heads,
        n_kv_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        max_positions: config.max_position_embeddings,
        rope_theta: config.rope_theta,
        norm_epsilon: config.rms_norm_eps,
        tied: config.tie_word_embeddings,
    });
    let file = weights.join("model.safetensors");
    let tensors = SafeTensors::open(&file).map_err(|e| of(&file, e))?.tensors;
    let parameters = match_parameters(&file, &network, tensors.into_iter().collect())?;
    let tokenizer = [path, &*weights]
        .into_iter()
        .flat_map(|d| ["tokenizer.json", "tokenizer.bin"].map(|f| d.join(f)))
        .chain(["tokenizer.json", "tokenizer.bin"].map(|f| path.join("../..").join(f)))
        .find(|f| f.exists());
    Ok(LoadedModel { tokenizer, ..LoadedModel::new(network, parameters) })
}

fn from_llama2c(path: &Path, checkpoint: llama2c::Checkpoint) -> Result<LoadedModel, LoadError> {
    let h = checkpoint.header;
    let network = Network::Llama(LlamaConfig {
        vocab_size: h.vocab_size,
        hidden_size: h.dim,
        intermediate_size: h.hidden_dim,
        n_layers: h.layers,
        n_heads: h.heads,
        n_kv_heads: h.kv_heads,
        head_dim: h.head_dim(),
        max_positions: h.seq_len,
        // llama2.c's C code has these two fixed.
        rope_theta: 10000.0,
        norm_epsilon: 1e-5,
        tied: h.shared_classifier,
    });
    let mut tensors = BTreeMap::new();
    for (name, tensor) in checkpoint.tensors {
        let heads = match name.rsplit_once("attention.") {
            Some((_, "wq.weight")) => Some(h.heads),
            Some((_, "wk.weight")) => Some(h.kv_heads),
            _ => None,
        };
        let tensor = match heads {
            Some(heads) => rope_interleaved_to_half(&tensor, heads)
                .map_err(|e| LoadError::new(path, format!("{name}: {e}")))?,
            None => tensor,
        };
        tensors.insert(hugging_face_name(&name), tensor);
    }
    let parameters = match_parameters(path, &network, tensors)?;
    let beside = path.parent().unwrap_or(Path::new(".")).join("tokenizer.bin");
    let tokenizer = Some(beside).filter(|f| f.exists());
    Ok(LoadedModel { tokenizer, ..LoadedModel::new(network, parameters) })
}

/// A Llama parameter's Hugging Face name from Meta's, which llama2.c keeps.
pub fn hugging_face_name(name: &str) -> String {
    let Some((layer, part)) = name.strip_prefix("layers.").and_then(|n| n.split_once('.')) else {
        return match name {
            "tok_embeddings.weight" => "model.embed_tokens.weight",
            "norm.weight" => "model.norm.weight",
            "output.weight" => "lm_head.weight",
            other => other,
        }
        .to_owned();
    };
    let part = match part {
        "attention_norm.weight" => "input_layernorm.weight",
        "attention.wq.weight" => "self_attn.q_proj.weight",
        "attention.wk.weight" => "self_attn.k_proj.weight",
        "attention.wv.weight" => "self_attn.v_proj.weight",
        "attention.wo.weight" => "self_attn.o_proj.weight",
        "ffn_norm.weight" => "post_attention_layernorm.weight",
        "feed_forward.w1.weight" => "mlp.gate_proj.weight",
        "feed_forward.w2.weight" => "mlp.down_proj.weight",
        "feed_forward.w3.weight" => "mlp.up_proj.weight",
        other => other,
    };
    format!("model.layers.{layer}.{part}")
}

/// Keeps exactly the network's parameters.
fn match_parameters(
    path: &Path,
    network: &Network,
    mut tensors: BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>, LoadError> {
    let Network::Llama(config) = network;
    config.validate().map_err(|e| LoadError::new(path, e.to_string()))?;
    if config.tied {
        // Some writers store the tied classifier a second time.
        tensors.remove("lm_head.weight");
    }
    let mut parameters = BTreeMap::new();
    for ParameterSpec { name, shape, .. } in network.parameters() {
        let tensor = tensors
            .remove(&name)
            .ok_or_else(|| LoadError::new(path, format!("the tensor {name} is missing")))?;
        if tensor.shape() != shape {
            return Err(LoadError::new(
                path,
                format!("{name} has shape {:?}, the sizes ask for {shape:?}", tensor.shape()),
            ));
        }
        if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) {
            return Err(LoadError::new(
                path,
                format!("{name} has element type {}; fp32, fp16 and bf16 are read", tensor.dtype()),
            ));
        }
        parameters.insert(name, tensor);
    }
    if let Some(name) = tensors.keys().find(|n| !n.ends_with("rotary_emb.inv_freq")) {
        return Err(LoadError::new(
            path,
            format!("the tensor {name} is not part of a Llama network of these sizes"),
        ));
    }
    Ok(parameters)
}
