//! Hugging Face directories as people have them: in shards, in fewer bits, padded, with names and
//! configs of several versions of transformers. Each is made from a small network and must give
//! that network's parameters.

use orion_formats::safetensors;
use orion_models::{
    Gpt2Config, LlamaConfig, Network, Qwen2Config, Qwen3Config, RopeScaling, WeightStorage, load,
    load_for_inference,
};
use orion_tensor::{DType, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use tempfile::TempDir;

type Tensors = BTreeMap<String, Tensor>;

fn llama(tied: bool) -> LlamaConfig {
    LlamaConfig {
        vocab_size: 11,
        hidden_size: 8,
        intermediate_size: 12,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 6,
        max_positions: 32,
        rope_theta: 5e5,
        norm_epsilon: 1e-6,
        tied,
        rope_scaling: None,
        attention_bias: false,
        mlp_bias: false,
    }
}

fn gpt2() -> Network {
    Network::Gpt2(Gpt2Config {
        vocab_size: 11,
        hidden_size: 8,
        intermediate_size: 20,
        n_layers: 2,
        n_heads: 2,
        max_positions: 16,
        norm_epsilon: 1e-5,
        tied: true,
    })
}

fn networks() -> Vec<Network> {
    vec![
        Network::Llama(llama(true)),
        Network::Llama(llama(false)),
        Network::Llama(LlamaConfig {
            rope_scaling: Some(RopeScaling::Llama3 {
                factor: 32.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 16,
            }),
            attention_bias: true,
            mlp_bias: true,
            ..llama(true)
        }),
        Network::Qwen2(Qwen2Config(llama(true))),
        Network::Qwen3(Qwen3Config(llama(true))),
        Network::Qwen3(Qwen3Config(llama(false))),
        gpt2(),
    ]
}

/// A directory before it is written.
struct Draft {
    network: Network,
    /// The parameters that must come out.
    parameters: Tensors,
    config: Value,
    /// What the files hold.
    tensors: Tensors,
}

impl Draft {
    /// Numbers that bf16 and fp16 hold, all different within a tensor.
    fn of(network: &Network) -> Self {
        let parameter = |(i, spec): (usize, orion_models::ParameterSpec)| {
            let count: usize = spec.shape.iter().product();
            let values: Vec<f32> =
                (0..count).map(|n| (n as f32 - 40.0 + i as f32) / 64.0).collect();
            (spec.name, Tensor::from_slice(&spec.shape, &values))
        };
        let parameters: Tensors =
            network.parameters().into_iter().enumerate().map(parameter).collect();
        let turned = |(name, tensor): (&String, &Tensor)| {
            let turned = network.turned_for_files(name, tensor);
            (name.clone(), turned.unwrap_or_else(|| tensor.clone()))
        };
        let tensors = parameters.iter().map(turned).collect();
        let config = network.config_file().to_json().unwrap();
        let config = serde_json::from_slice(&config).unwrap();
        Self { network: network.clone(), parameters, config, tensors }
    }

    fn write_config(&self) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), self.config.to_string()).unwrap();
        directory
    }

    fn write(&self) -> TempDir {
        let directory = self.write_config();
        write(&directory.path().join("model.safetensors"), &self.tensors);
        directory
    }

    /// Loads what was written; it must be this network with these parameters.
    fn check(&self, directory: &TempDir, what: &str) {
        let name = format!("{what} of {:?}", self.network);
        let model = load(directory.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(model.network, self.network, "{name}");
        assert_eq!(model.parameters, self.parameters, "{name}");
    }

    fn refusal(&self) -> String {
        load(self.write().path()).unwrap_err().to_string()
    }

    fn renamed(&self, rename: impl Fn(&str) -> String) -> Tensors {
        self.tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
    }
}

fn write(path: &Path, tensors: &Tensors) {
    let rows = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    safetensors::write(&mut File::create(path).unwrap(), rows, &BTreeMap::new()).unwrap();
}

#[test]
fn whole_and_in_shards() {
    for network in networks() {
        let draft = Draft::of(&network);
        draft.check(&draft.write(), "one file");

        let directory = draft.write_config();
        let mut shards = vec![Tensors::new(); 3];
        let mut map = serde_json::Map::new();
        for (i, (name, tensor)) in draft.tensors.iter().enumerate() {
            shards[i % 3].insert(name.clone(), tensor.clone());
            map.insert(name.clone(), json!(format!("model-{:05}-of-00003.safetensors", i % 3)));
        }
        for (i, shard) in shards.iter().enumerate() {
            write(&directory.path().join(format!("model-{i:05}-of-00003.safetensors")), shard);
        }
        let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
        let path = directory.path().join("model.safetensors.index.json");
        std::fs::write(&path, index.to_string()).unwrap();
        draft.check(&directory, "three files");

        std::fs::remove_file(directory.path().join("model-00001-of-00003.safetensors")).unwrap();
        let error = load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("model-00001-of-00003.safetensors"), "{error}");
    }
}

#[test]
fn in_fewer_bits() {
    for network in networks() {
        for dtype in [DType::F16, DType::BF16] {
            let mut draft = Draft::of(&network);
            let convert =
                |tensor: &Tensor| Tensor::from_f64(dtype, tensor.shape(), &tensor.to_f64_vec());
            for tensors in [&mut draft.tensors, &mut draft.parameters] {
                tensors.values_mut().for_each(|tensor| *tensor = convert(tensor));
            }
            draft.check(&draft.write(), &dtype.to_string());
        }
    }
}

#[test]
fn with_more_rows_than_tokens() {
    for network in networks() {
        let mut draft = Draft::of(&network);
        for name in ["model.embed_tokens.weight", "lm_head.weight", "transformer.wte.weight"] {
            let Some(tensor) = draft.tensors.get_mut(name) else { continue };
            let (columns, mut values) = (tensor.shape()[1], tensor.to_f32_vec());
            values.resize(16 * columns, 9.0);
            *tensor = Tensor::from_slice(&[16, columns], &values);
        }
        draft.check(&draft.write(), "a padded vocabulary");
    }
}

#[test]
fn with_and_without_the_prefix() {
    for network in networks() {
        let mut draft = Draft::of(&network);
        let bare = |name: &str| {
            let rest = name.strip_prefix("model.").or(name.strip_prefix("transformer."));
            rest.unwrap_or(name).to_owned()
        };
        draft.tensors = draft.renamed(bare);
        assert!(!draft.tensors.keys().any(|name| name.starts_with("model.")));
        draft.check(&draft.write(), "names without prefix");
    }
}

#[test]
fn with_tables_and_a_second_classifier() {
    let mut draft = Draft::of(&gpt2());
    let mask = Tensor::from_slice(&[1, 1, 16, 16], &[1f32; 256]);
    draft.tensors.insert("transformer.h.0.attn.bias".into(), mask.clone());
    draft.tensors.insert("transformer.h.1.attn.masked_bias".into(), mask);
    let embedding = draft.tensors["transformer.wte.weight"].clone();
    draft.tensors.insert("lm_head.weight".into(), embedding);
    draft.check(&draft.write(), "masks and a second classifier");

    for network in [Network::Llama(llama(true)), Network::Qwen3(Qwen3Config(llama(true)))] {
        let mut draft = Draft::of(&network);
        let embedding = draft.tensors["model.embed_tokens.weight"].clone();
        draft.tensors.insert("lm_head.weight".into(), embedding);
        let table = Tensor::from_slice(&[3], &[1f32; 3]);
        draft.tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), table);
        draft.check(&draft.write(), "a second classifier and a table");
    }
}

#[test]
fn in_the_spellings_of_transformers_4_and_5() {
    for network in networks() {
        let mut draft = Draft::of(&network);
        let whole = draft.config.as_object().unwrap().clone();
        for gone in [&["rope_parameters", "dtype"][..], &["rope_theta", "torch_dtype"]] {
            draft.config = Value::Object(
                whole
                    .clone()
                    .into_iter()
                    .filter(|(key, _)| !gone.contains(&key.as_str()))
                    .collect(),
            );
            draft.check(&draft.write(), &format!("without {gone:?}"));
        }
    }
    // The first GPT-2 on the hub says neither what it is nor its inner width.
    let mut draft = Draft::of(&gpt2());
    for key in ["model_type", "architectures", "n_positions", "tie_word_embeddings"] {
        draft.config.as_object_mut().unwrap().remove(key);
    }
    draft.check(&draft.write(), "an old config");
}

#[test]
fn the_ids_that_end_texts_are_collected() {
    let mut draft = Draft::of(&Network::Llama(llama(true)));
    draft.config["eos_token_id"] = json!([7, 2]);
    let directory = draft.write();
    let generation = directory.path().join("generation_config.json");
    std::fs::write(&generation, "{\"eos_token_id\": 9, \"top_k\": 50}").unwrap();
    assert_eq!(load(directory.path()).unwrap().end_ids, [2, 7, 9]);
    std::fs::write(&generation, "{}").unwrap();
    assert_eq!(load(directory.path()).unwrap().end_ids, [2, 7]);
}

#[test]
fn what_does_not_fit_is_named() {
    let mut draft = Draft::of(&Network::Llama(llama(true)));
    draft.config["model_type"] = json!("qwen4");
    assert!(draft.refusal().contains("`model_type` of config.json is qwen4"));

    let mut draft = Draft::of(&Network::Llama(llama(true)));
    let bias = Tensor::from_slice(&[24], &[0f32; 24]);
    draft.tensors.insert("model.layers.0.self_attn.q_proj.bias".into(), bias);
    assert!(draft.refusal().contains("self_attn.q_proj.bias is not part"));

    let mut draft = Draft::of(&gpt2());
    draft.tensors.remove("transformer.h.1.mlp.c_fc.weight");
    assert!(draft.refusal().contains("transformer.h.1.mlp.c_fc.weight is missing"));

    let mut draft = Draft::of(&Network::Llama(llama(false)));
    draft.config["intermediate_size"] = json!(13);
    let refusal = draft.refusal();
    assert!(refusal.contains("has shape [8, 12], the sizes ask for [8, 13]"), "{refusal}");

    let mut draft = Draft::of(&Network::Llama(llama(false)));
    let name = "model.norm.weight".to_owned();
    draft.tensors.insert(name, Tensor::from_slice(&[8], &[f32::NAN; 8]));
    assert!(draft.refusal().contains("model.norm.weight"));
}

#[test]
fn matrices_that_are_narrowed_are_turned_like_others() {
    let draft = Draft::of(&gpt2());
    let directory = draft.write();
    for dtype in [DType::F16, DType::BF16] {
        let storage = WeightStorage::Float(dtype);
        let model = load_for_inference(directory.path(), storage).unwrap();
        assert_eq!(model.parameters.len(), draft.parameters.len());
        for (name, wide) in &draft.parameters {
            let narrow = &model.parameters[name];
            assert_eq!(narrow.shape(), wide.shape(), "{name}");
            // Both types hold all of the draft's numbers.
            assert_eq!(narrow.to_f32_vec(), wide.to_f32_vec(), "{name}");
            assert!(narrow.dtype() == dtype || !name.contains("mlp.c_fc.weight"), "{name}");
        }
    }
}
