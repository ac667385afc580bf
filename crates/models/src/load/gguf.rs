//! GGUF files of llama.cpp: Llama, Qwen3 and GPT-2 networks.

use super::{LoadError, LoadedModel, match_all};
use crate::{Gpt2Config, LlamaConfig, Network, QuantizedMatrix, Qwen3Config};
use orion_formats::{Error, Gguf, MappedFile, rope_interleaved_to_half};
use orion_tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// Loads a file; the tokenizer is inside. With `keep_int8`, matrices that are exactly int8 with
/// scales stay so.
pub(super) fn load(path: &Path, keep_int8: bool) -> Result<LoadedModel, LoadError> {
    let opened = MappedFile::open(path);
    let opened = opened.and_then(|map| Ok((Gguf::parse(map.bytes())?, map)));
    let (file, map) = opened.map_err(|e| LoadError::of(path, &e))?;
    let network = network(&file, path)?;
    let (mut tensors, mut quantized) = (BTreeMap::new(), BTreeMap::new());
    for (name, stored) in &file.tensors {
        let Some(parameter) = parameter_name(&network, name) else {
            return Err(LoadError::new(
                path,
                format!("the tensor {name} is not part of a network that is known here"),
            ));
        };
        let in_order = |tensor: Tensor| {
            let Some(heads) = interleaved_heads(&network, &parameter) else { return Ok(tensor) };
            rope_interleaved_to_half(&tensor, heads)
                .map_err(|e| LoadError::new(path, format!("{name}: {e}")))
        };
        let finite = |tensor: Tensor| {
            orion_formats::check_finite(name, &tensor).map_err(|e| LoadError::of(path, &e))?;
            Ok(tensor)
        };
        let scaled = if keep_int8 { stored.to_scaled() } else { None };
        match scaled {
            Some((data, scale)) => {
                let (data, scale) = (in_order(data)?, in_order(finite(scale)?)?);
                quantized.insert(parameter.clone(), QuantizedMatrix { data, scale });
            }
            None => {
                let tensor = in_order(finite(stored.to_tensor())?)?;
                tensors.insert(parameter.clone(), tensor);
            }
        }
        // What was copied need not lie in memory twice.
        let shared = tensors.get(&parameter).is_some_and(|t| t.bytes().is_same(&stored.bytes));
        if !shared {
            map.give_back(&stored.bytes);
        }
    }
    let parameters = match_all(path, &network, tensors, &quantized)?;
    let tokenizer = file.metadata.contains_key("tokenizer.ggml.tokens").then(|| path.to_owned());
    Ok(LoadedModel {
        quantized,
        tokenizer,
        end_ids: end_ids(&file),
        ..LoadedModel::new(network, parameters)
    })
}

fn network(file: &Gguf, path: &Path) -> Result<Network, LoadError> {
    let architecture = file.text("general.architecture").map_err(|e| LoadError::of(path, &e))?;
    let architecture = architecture.unwrap_or_default().to_owned();
    let sized = match architecture.as_str() {
        "llama" => sizes(file, &architecture).map(Network::Llama),
        "qwen3" => sizes(file, &architecture).map(|c| Network::Qwen3(Qwen3Config(c))),
        "gpt2" => gpt2_sizes(file).map(Network::Gpt2),
        other => {
            return Err(LoadError::new(
                path,
                format!("this GGUF file holds a network called `{other}`"),
            )
            .hint("llama, qwen3 and gpt2 are known"));
        }
    };
    let network = sized.map_err(|e| LoadError::of(path, &e))?;
    if let Some((key, value)) = changed_rotation(file, &architecture) {
        return Err(LoadError::new(path, format!("key `{key}` is {value:?}"))
            .hint("rotary positions that are scaled are not computed here"));
    }
    network.validate().map_err(|e| LoadError::new(path, e.to_string()))?;
    Ok(network)
}

/// The ids that end texts, turns and messages.
fn end_ids(file: &Gguf) -> Vec<u32> {
    let keys = ["eos_token_id", "eot_token_id", "eom_token_id"];
    let ids = keys.into_iter().filter_map(|key| {
        let id = file.size_if_any(&format!("tokenizer.ggml.{key}")).ok()??;
        u32::try_from(id).ok()
    });
    ids.collect()
}

/// A key that asks for other rotary positions than the plain ones.
fn changed_rotation(file: &Gguf, architecture: &str) -> Option<(String, String)> {
    let key = format!("{architecture}.rope.scaling.type");
    let value = file.text(&key).ok()??;
    (value != "none").then(|| (key, value.to_owned()))
}

/// Rows of the embedding.
fn vocab_size(file: &Gguf) -> usize {
    let embedding = file.tensors.get("token_embd.weight");
    embedding.and_then(|tensor| tensor.shape.first().copied()).unwrap_or(0)
}

fn sizes(file: &Gguf, architecture: &str) -> Result<LlamaConfig, Error> {
    let key = |name: &str| format!("{architecture}.{name}");
    let hidden_size = file.size(&key("embedding_length"))?;
    let n_heads = file.size(&key("attention.head_count"))?;
    let head_dim = match file.size_if_any(&key("attention.key_length"))? {
        Some(size) => size,
        None => hidden_size / n_heads.max(1),
    };
    Ok(LlamaConfig {
        vocab_size: vocab_size(file),
        hidden_size,
        intermediate_size: file.size(&key("feed_forward_length"))?,
        n_layers: file.size(&key("block_count"))?,
        n_heads,
        n_kv_heads: file.size_if_any(&key("attention.head_count_kv"))?.unwrap_or(n_heads),
        head_dim,
        max_positions: file.size(&key("context_length"))?,
        rope_theta: file.number(&key("rope.freq_base"))?.map_or(10_000.0, shortest),
        norm_epsilon: file.number(&key("attention.layer_norm_rms_epsilon"))?.map_or(1e-5, shortest),
        tied: !file.tensors.contains_key("output.weight"),
    })
}

fn gpt2_sizes(file: &Gguf) -> Result<Gpt2Config, Error> {
    Ok(Gpt2Config {
        vocab_size: vocab_size(file),
        hidden_size: file.size("gpt2.embedding_length")?,
        intermediate_size: file.size("gpt2.feed_forward_length")?,
        n_layers: file.size("gpt2.block_count")?,
        n_heads: file.size("gpt2.attention.head_count")?,
        max_positions: file.size("gpt2.context_length")?,
        norm_epsilon: file.number("gpt2.attention.layer_norm_epsilon")?.map_or(1e-5, shortest),
        tied: !file.tensors.contains_key("output.weight"),
    })
}

/// The shortest decimal number that is the same in fp32, which is what the writer meant: 1e-5, not
/// 9.999999747378752e-6.
fn shortest(number: f64) -> f64 {
    (number as f32).to_string().parse().unwrap_or(number)
}

/// The heads of a projection whose rows are in the interleaved order of rotary positions: queries
/// and keys of `llama`, but not of `qwen3`.
fn interleaved_heads(network: &Network, parameter: &str) -> Option<usize> {
    let Network::Llama(config) = network else { return None };
    if parameter.ends_with("self_attn.q_proj.weight") {
        return Some(config.n_heads);
    }
    parameter.ends_with("self_attn.k_proj.weight").then_some(config.n_kv_heads)
}

const LLAMA_BLOCK: [(&str, &str); 11] = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_q_norm.weight", "self_attn.q_norm.weight"),
    ("attn_k_norm.weight", "self_attn.k_norm.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_gate.weight", "mlp.gate_proj.weight"),
    ("ffn_up.weight", "mlp.up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
];
const LLAMA_REST: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];
const GPT2_BLOCK: [(&str, &str); 12] = [
    ("attn_norm.weight", "ln_1.weight"),
    ("attn_norm.bias", "ln_1.bias"),
    ("attn_qkv.weight", "attn.c_attn.weight"),
    ("attn_qkv.bias", "attn.c_attn.bias"),
    ("attn_output.weight", "attn.c_proj.weight"),
    ("attn_output.bias", "attn.c_proj.bias"),
    ("ffn_norm.weight", "ln_2.weight"),
    ("ffn_norm.bias", "ln_2.bias"),
    ("ffn_up.weight", "mlp.c_fc.weight"),
    ("ffn_up.bias", "mlp.c_fc.bias"),
    ("ffn_down.weight", "mlp.c_proj.weight"),
    ("ffn_down.bias", "mlp.c_proj.bias"),
];
const GPT2_REST: [(&str, &str); 5] = [
    ("token_embd.weight", "transformer.wte.weight"),
    ("position_embd.weight", "transformer.wpe.weight"),
    ("output_norm.weight", "transformer.ln_f.weight"),
    ("output_norm.bias", "transformer.ln_f.bias"),
    ("output.weight", "lm_head.weight"),
];

/// Prefix of blocks, their parts and the parts of no block, as (GGUF, Hugging Face).
type Names = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
);

fn names(network: &Network) -> Option<Names> {
    match network {
        Network::Llama(_) | Network::Qwen3(_) => Some(("model.layers.", &LLAMA_BLOCK, &LLAMA_REST)),
        Network::Gpt2(_) => Some(("transformer.h.", &GPT2_BLOCK, &GPT2_REST)),
        Network::GolfBaseline(_) | Network::GolfWide(_) => None,
    }
}

/// The Hugging Face name of what a GGUF file calls `name`.
fn parameter_name(network: &Network, name: &str) -> Option<String> {
    let (prefix, block, rest) = names(network)?;
    if let Some((layer, part)) = name.strip_prefix("blk.").and_then(|n| n.split_once('.')) {
        let row = block.iter().find(|row| row.0 == part)?;
        return Some(format!("{prefix}{layer}.{}", row.1));
    }
    rest.iter().find(|row| row.0 == name).map(|row| row.1.to_owned())
}

/// What a GGUF file calls the parameter with that Hugging Face name; `None` where the format knows
/// no such network or tensor.
pub fn gguf_name(network: &Network, parameter: &str) -> Option<String> {
    let (prefix, block, rest) = names(network)?;
    if let Some((layer, part)) = parameter.strip_prefix(prefix).and_then(|n| n.split_once('.')) {
        let row = block.iter().find(|row| row.1 == part)?;
        return Some(format!("blk.{layer}.{}", row.0));
    }
    rest.iter().find(|row| row.1 == parameter).map(|row| row.0.to_owned())
}
