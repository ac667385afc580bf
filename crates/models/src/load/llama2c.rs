//! llama2.c checkpoints.

use super::{LoadError, ModelFile, WeightFile};
use crate::{LlamaConfig, Network};
use orion_formats::{llama2c, rope_interleaved_to_half};
use std::collections::BTreeMap;
use std::path::Path;

/// Opens a checkpoint, and finds the tokenizer beside it.
pub(super) fn open(path: &Path) -> Result<ModelFile, LoadError> {
    let checkpoint = llama2c::Checkpoint::open(path).map_err(|e| {
        let error = LoadError::of(path, &e);
        match e.way_out() {
            Some(_) => error,
            None => error.hint(super::MODELS),
        }
    })?;
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
        rope_scaling: None,
        norm_epsilon: 1e-5,
        tied: h.shared_classifier,
        attention_bias: false,
        mlp_bias: false,
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
    let file = ModelFile::new(path, network, WeightFile::Checked(tensors))?;
    Ok(file.with_tokenizer([path.with_file_name("tokenizer.bin")]))
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

/// A Llama parameter's name in Meta's files from its Hugging Face name: the inverse of
/// [`hugging_face_name`].
pub fn meta_name(name: &str) -> String {
    const PARTS: [&str; 9] = [
        "attention_norm.weight",
        "attention.wq.weight",
        "attention.wk.weight",
        "attention.wv.weight",
        "attention.wo.weight",
        "ffn_norm.weight",
        "feed_forward.w1.weight",
        "feed_forward.w2.weight",
        "feed_forward.w3.weight",
    ];
    let layer = name.strip_prefix("model.layers.").and_then(|n| n.split_once('.'));
    let candidates: Vec<String> = match layer {
        Some((layer, _)) => PARTS.iter().map(|part| format!("layers.{layer}.{part}")).collect(),
        None => ["tok_embeddings.weight", "norm.weight", "output.weight"].map(str::to_owned).into(),
    };
    let found = candidates.into_iter().find(|candidate| hugging_face_name(candidate) == name);
    found.unwrap_or_else(|| name.to_owned())
}
