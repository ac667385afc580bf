//! GGUF files of llama.cpp: Llama, Qwen2, Qwen3 and GPT-2 networks.

use super::{LoadError, LoadedModel, ModelFile, Reading, WeightFile};
use crate::{
    Gpt2Config, LlamaConfig, Network, QuantizedMatrix, Qwen2Config, Qwen3Config, WeightStorage,
};
use orion_formats::{Error, Gguf, MappedFile, RopeScaling, rope_interleaved_to_half};
use orion_tensor::Tensor;
use std::path::Path;

/// Opens a file; the tokenizer is inside.
pub(super) fn open(path: &Path) -> Result<ModelFile, LoadError> {
    let opened = MappedFile::open(path);
    let opened = opened.and_then(|map| Ok((Gguf::parse(map.bytes())?, map)));
    let (file, map) = opened.map_err(|e| LoadError::of(path, &e))?;
    let network = network(&file, path)?;
    let tokenizer = file.metadata.contains_key("tokenizer.ggml.tokens").then(|| path.to_owned());
    let end_ids = end_ids(&file);
    let file = ModelFile::new(path, network, WeightFile::Gguf(file, map))?;
    Ok(ModelFile { tokenizer, end_ids, ..file })
}

/// Reads the tensors of a file. With `keep_int8`, quantized matrices become int8 with scales,
/// unless they are to be stored as floating-point numbers.
pub(super) fn load(
    file: &Gguf,
    map: &MappedFile,
    mut reading: Reading<'_>,
    keep_int8: bool,
) -> Result<LoadedModel, LoadError> {
    let (path, network) = (reading.path, reading.network.clone());
    let keep_int8 = keep_int8 && !matches!(reading.storage, WeightStorage::Float(_));
    for (name, stored) in &file.tensors {
        // The network has what this says.
        if name == FREQUENCY_DIVISORS {
            continue;
        }
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
            Some((data, scale, offset)) => {
                let by_block = |tensor: Tensor| in_order(finite(tensor)?);
                let matrix = QuantizedMatrix {
                    data: in_order(data)?,
                    scale: by_block(scale)?,
                    offset: offset.map(by_block).transpose()?,
                };
                reading.take_quantized(parameter.clone(), matrix)?;
            }
            None => reading.take(parameter.clone(), in_order(finite(stored.to_tensor())?)?)?,
        }
        // What was copied need not lie in memory twice.
        if !reading.shares(&parameter, &stored.bytes) {
            map.give_back(&stored.bytes);
        }
    }
    reading.finish()
}

fn network(file: &Gguf, path: &Path) -> Result<Network, LoadError> {
    let architecture = file.text("general.architecture").map_err(|e| LoadError::of(path, &e))?;
    let architecture = architecture.unwrap_or_default().to_owned();
    let of_file = |e: Error| LoadError::of(path, &e);
    let llama = || {
        let mut config = sizes(file, &architecture).map_err(of_file)?;
        config.rope_scaling = rope_scaling(file, path, &config, &architecture)?;
        Ok::<_, LoadError>(config)
    };
    let network = match architecture.as_str() {
        "llama" => Network::Llama(llama()?),
        "qwen2" => Network::Qwen2(Qwen2Config(LlamaConfig { attention_bias: false, ..llama()? })),
        "qwen3" => Network::Qwen3(Qwen3Config(llama()?)),
        "gpt2" => Network::Gpt2(gpt2_sizes(file).map_err(of_file)?),
        other => {
            return Err(LoadError::new(
                path,
                format!("this GGUF file holds a network called `{other}`"),
            )
            .hint("llama, qwen2, qwen3 and gpt2 are known"));
        }
    };
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

/// The tensor that has what each frequency of rotary positions is divided by.
pub const FREQUENCY_DIVISORS: &str = "rope_freqs.weight";

/// What the file says is done to the frequencies of rotary positions.
fn rope_scaling(
    file: &Gguf,
    path: &Path,
    plain: &LlamaConfig,
    architecture: &str,
) -> Result<Option<RopeScaling>, LoadError> {
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    let of_file = |e: Error| LoadError::of(path, &e);
    let unsupported = |key: String, found: String| {
        LoadError::new(path, format!("key `{key}` is {found}"))
            .hint("rotary positions are scaled in the ways linear and yarn, or by rope_freqs")
    };
    let number_at =
        |key: &str| file.number(key).map(|number| number.map(shortest)).map_err(of_file);
    let number = |name: &str| number_at(&key(name));
    let kind_key = key("type");
    let kind = file.text(&kind_key).map_err(of_file)?;
    let old_factor = number_at(&format!("{architecture}.rope.scale_linear"))?;
    let factor = number("factor")?.or(old_factor);
    let scaling = match (kind, factor) {
        // Old files have a factor alone, which is of this kind.
        (Some("linear") | None, Some(factor)) if factor != 1.0 => {
            Some(RopeScaling::Linear { factor })
        }
        (None | Some("none" | "linear"), _) => None,
        (Some("yarn"), Some(factor)) => {
            for (name, neutral) in [("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)] {
                if let Some(other) = number(name)?.filter(|&found| found != neutral) {
                    return Err(unsupported(key(name), other.to_string()));
                }
            }
            let original = file.size_if_any(&key("original_context_length")).map_err(of_file)?;
            let change = number("attn_factor")?.unwrap_or(1.0);
            Some(RopeScaling::Yarn {
                factor,
                original_max_position_embeddings: original.unwrap_or(plain.max_positions),
                beta_fast: number("yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: number("yarn_beta_slow")?.unwrap_or(1.0),
                attention_factor: change * RopeScaling::yarn_attention_factor(factor),
                truncate: true,
            })
        }
        (Some(kind), _) => return Err(unsupported(kind_key, format!("{kind:?}"))),
    };
    let Some(stored) = file.tensors.get(FREQUENCY_DIVISORS) else { return Ok(scaling) };
    if scaling.is_some() {
        return Err(unsupported(kind_key, "set, and there is a rope_freqs.weight".to_owned()));
    }
    let divisors: Vec<f64> = stored.to_tensor().to_f64_vec();
    if divisors.len() != plain.head_dim / 2 {
        let what = format!(
            "tensor {FREQUENCY_DIVISORS} has {} numbers, expected half of head_dim {}",
            divisors.len(),
            plain.head_dim
        );
        return Err(LoadError::new(path, what));
    }
    let known = llama3_of(&divisors, plain);
    Ok(known
        .or_else(|| divisors.iter().any(|&d| d != 1.0).then_some(RopeScaling::Divisors(divisors))))
}

/// The scaling of Llama 3.1 and later that these divisors are of, if they are: the file has the
/// numbers that follow and not those they follow from.
fn llama3_of(divisors: &[f64], plain: &LlamaConfig) -> Option<RopeScaling> {
    let factor = divisors.iter().copied().fold(1.0, f64::max);
    let scaling = RopeScaling::Llama3 {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let config = LlamaConfig { rope_scaling: Some(scaling), ..plain.clone() };
    let same = factor > 1.0
        && config.frequency_divisors().iter().zip(divisors).all(|(a, b)| {
            // The file has numbers in fp32 that were computed in fp32.
            (a - b).abs() <= 1e-5 * a
        });
    config.rope_scaling.filter(|_| same)
}

/// Rows of the embedding.
fn vocab_size(file: &Gguf) -> usize {
    let embedding = file.tensors.get("token_embd.weight");
    embedding.and_then(|tensor| tensor.shape.first().copied()).unwrap_or(0)
}

/// A Llama; what has a bias, the tensors say.
fn sizes(file: &Gguf, architecture: &str) -> Result<LlamaConfig, Error> {
    let key = |name: &str| format!("{architecture}.{name}");
    let hidden_size = file.size(&key("embedding_length"))?;
    let n_heads = file.size(&key("attention.head_count"))?;
    let head_dim = match file.size_if_any(&key("attention.key_length"))? {
        Some(size) => size,
        None => hidden_size / n_heads.max(1),
    };
    let has = |tensor: &str| file.tensors.contains_key(tensor);
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
        tied: !has("output.weight"),
        rope_scaling: None,
        attention_bias: has("blk.0.attn_q.bias"),
        mlp_bias: has("blk.0.ffn_gate.bias"),
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

/// The heads of a parameter whose rows are in the interleaved order of rotary positions in GGUF
/// files: projections of a Llama's queries and keys, but not of a Qwen's.
pub fn interleaved_heads(network: &Network, parameter: &str) -> Option<usize> {
    let Network::Llama(config) = network else { return None };
    let module = parameter.strip_suffix(".weight").or(parameter.strip_suffix(".bias"))?;
    if module.ends_with("self_attn.q_proj") {
        return Some(config.n_heads);
    }
    module.ends_with("self_attn.k_proj").then_some(config.n_kv_heads)
}

const LLAMA_BLOCK: [(&str, &str); 18] = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_q.bias", "self_attn.q_proj.bias"),
    ("attn_k.bias", "self_attn.k_proj.bias"),
    ("attn_v.bias", "self_attn.v_proj.bias"),
    ("attn_q_norm.weight", "self_attn.q_norm.weight"),
    ("attn_k_norm.weight", "self_attn.k_norm.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("attn_output.bias", "self_attn.o_proj.bias"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_gate.weight", "mlp.gate_proj.weight"),
    ("ffn_up.weight", "mlp.up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
    ("ffn_gate.bias", "mlp.gate_proj.bias"),
    ("ffn_up.bias", "mlp.up_proj.bias"),
    ("ffn_down.bias", "mlp.down_proj.bias"),
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
        Network::Llama(_) | Network::Qwen2(_) | Network::Qwen3(_) => {
            Some(("model.layers.", &LLAMA_BLOCK, &LLAMA_REST))
        }
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
