//! `config.json` of every network.

use orion_formats::{
    ConfigFile, ErrorKind, GolfBaselineConfigFile, GolfWideConfigFile, Gpt2ConfigFile,
    LlamaConfigFile, RopeScaling,
};
use orion_testing::{batter_strictly, shared};
use serde_json::{Value, json};

fn config() -> LlamaConfigFile {
    LlamaConfigFile {
        vocab_size: 512,
        hidden_size: 64,
        intermediate_size: 172,
        num_hidden_layers: 5,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 8,
        max_position_embeddings: 512,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        attention_bias: false,
        mlp_bias: false,
        tie_word_embeddings: true,
        bos_token_id: Some(1),
        eos_token_ids: vec![2],
        dtype: Some("float32".to_owned()),
    }
}

fn parse(value: &Value) -> orion_formats::Result<LlamaConfigFile> {
    LlamaConfigFile::parse(value.to_string().as_bytes())
}

#[test]
fn round_trips() {
    for eos_token_ids in [vec![], vec![7], vec![7, 9]] {
        let config = LlamaConfigFile { eos_token_ids, rope_theta: 5e5, ..config() };
        assert_eq!(LlamaConfigFile::parse(&config.to_json().unwrap()).unwrap(), config);
    }
    for scaling in [
        RopeScaling::Linear { factor: 2.5 },
        RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 128,
        },
        RopeScaling::Yarn {
            factor: 4.0,
            original_max_position_embeddings: 128,
            beta_fast: 30.0,
            beta_slow: 2.0,
            attention_factor: 1.25,
            truncate: false,
        },
        RopeScaling::Divisors(vec![1.0, 1.5, 2.0, 8.0]),
    ] {
        let config = LlamaConfigFile {
            rope_scaling: Some(scaling),
            attention_bias: true,
            mlp_bias: true,
            ..config()
        };
        let json = config.to_json().unwrap();
        assert_eq!(LlamaConfigFile::parse(&json).unwrap(), config);
        batter_strictly(json.trim_ascii_end(), 500, |bytes| LlamaConfigFile::parse(&bytes).is_ok());
    }
}

#[test]
fn both_spellings() {
    let old = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 172,
        "max_position_embeddings": 512, "num_attention_heads": 8, "num_hidden_layers": 5,
        "num_key_value_heads": 4, "rms_norm_eps": 1e-5, "rope_theta": 20000.0, "rope_scaling": null,
        "tie_word_embeddings": true, "torch_dtype": "float16", "vocab_size": 512,
        "bos_token_id": 1, "eos_token_id": 2, "use_cache": true
    });
    let expected =
        LlamaConfigFile { rope_theta: 20000.0, dtype: Some("float16".to_owned()), ..config() };
    assert_eq!(parse(&old).unwrap(), expected);

    let mut new = old.clone();
    let object = new.as_object_mut().unwrap();
    for key in ["rope_theta", "torch_dtype", "rope_scaling"] {
        object.remove(key);
    }
    object.insert(
        "rope_parameters".to_owned(),
        json!({"rope_theta": 20000.0, "rope_type": "default"}),
    );
    object.insert("dtype".to_owned(), json!("float16"));
    assert_eq!(parse(&new).unwrap(), expected);
}

#[test]
fn refuses_by_key() {
    let good: Value = serde_json::from_slice(&config().to_json().unwrap()).unwrap();
    use ErrorKind::*;
    for (key, value, kind) in [
        ("model_type", json!("qwen3"), Unsupported),
        ("architectures", json!(["GPT2LMHeadModel"]), Unsupported),
        ("hidden_act", json!("gelu"), Unsupported),
        ("rope_scaling", json!({"type": "linear"}), Malformed),
        ("rope_scaling", json!({"factor": 2.0}), Malformed),
        ("rope_scaling", json!({"type": "linear", "factor": -2.0}), Malformed),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0, "beta": 1}), Unsupported),
        ("rope_scaling", json!({"type": "dynamic", "factor": 2.0}), Unsupported),
        ("rope_scaling", json!(2.0), Malformed),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), Malformed),
        (
            "rope_scaling",
            json!({
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0
            }),
            Malformed,
        ),
        (
            "rope_scaling",
            json!({
                "rope_type": "longrope", "short_factor": [1.0, 2.0, 3.0], "long_factor": [1.0, 2.0, 3.0],
                "factor": 1.0
            }),
            Malformed,
        ),
        (
            "rope_scaling",
            json!({
                "rope_type": "longrope", "short_factor": [1.0, 1.0, 1.0, 1.0], "long_factor": [2.0, 2.0, 2.0, 2.0]
            }),
            Unsupported,
        ),
        (
            "rope_scaling",
            json!({
                "rope_type": "longrope", "short_factor": [1.0, 1.0, 1.0, 1.0], "long_factor": [1.0, 1.0, 1.0, 1.0], "factor": 4.0
            }),
            Unsupported,
        ),
        ("rope_parameters", json!({"rope_type": "llama3"}), Malformed),
        ("rope_parameters", json!({"partial_rotary_factor": 0.5}), Unsupported),
        ("rope_parameters", json!({"full_attention": {"rope_type": "default"}}), Unsupported),
        ("partial_rotary_factor", json!(0.25), Unsupported),
        ("sliding_window", json!(128), Unsupported),
        ("use_sliding_window", json!(true), Unsupported),
        ("layer_types", json!(["full_attention", "sliding_attention"]), Unsupported),
        ("quantization_config", json!({"quant_method": "gptq"}), Unsupported),
        ("residual_multiplier", json!(0.22), Unsupported),
        ("attn_logit_softcapping", json!(50.0), Unsupported),
        ("num_local_experts", json!(8), Unsupported),
        ("vocab_size", json!(0), Malformed),
        ("hidden_size", json!(1u64 << 40), Malformed),
        ("num_key_value_heads", json!(3), Malformed),
        ("head_dim", json!(7), Malformed),
        ("rms_norm_eps", json!(0.0), Malformed),
        ("num_hidden_layers", json!(-1), Malformed),
    ] {
        let mut file = good.clone();
        file[key] = value;
        let e = parse(&file).unwrap_err();
        assert_eq!(e.kind(), kind, "{key}: {e}");
        // serde names the value, not the key, of a negative number.
        let named = if key == "num_hidden_layers" { "`-1`" } else { key };
        assert!(e.to_string().contains(named), "{key}: {e}");
    }
    let mut file = good;
    file.as_object_mut().unwrap().remove("head_dim");
    assert_eq!(parse(&file).unwrap().head_dim, 8);
    file["num_attention_heads"] = json!(0);
    assert_eq!(parse(&file).unwrap_err().kind(), Malformed);
    assert!(LlamaConfigFile { head_dim: 0, ..config() }.to_json().is_err());
}

#[test]
fn what_changes_nothing_is_taken() {
    let good: Value = serde_json::from_slice(&config().to_json().unwrap()).unwrap();
    for (key, value) in [
        ("rope_scaling", json!({"rope_type": "default"})),
        ("rope_parameters", json!({"rope_theta": 10_000.0, "partial_rotary_factor": 1.0})),
        ("hidden_act", json!("swish")),
        ("sliding_window", json!(512)),
        ("sliding_window", Value::Null),
        ("layer_types", json!(["full_attention"])),
        ("quantization_config", Value::Null),
        ("partial_rotary_factor", json!(1.0)),
        ("pretraining_tp", json!(4)),
        ("attention_dropout", json!(0.1)),
    ] {
        let mut file = good.clone();
        file[key] = value;
        assert_eq!(parse(&file).unwrap(), config(), "{key}");
    }
    let mut file = good;
    (file["use_sliding_window"], file["sliding_window"]) = (json!(false), json!(128));
    assert_eq!(parse(&file).unwrap(), config());
}

#[test]
fn survives_damage() {
    let json = config().to_json().unwrap();
    batter_strictly(json.trim_ascii_end(), 3000, |bytes| LlamaConfigFile::parse(&bytes).is_ok());
}

#[test]
fn the_real_one() {
    let Some(path) = shared("weights/stories260K_hf/config.json") else { return };
    assert_eq!(LlamaConfigFile::open(path).unwrap(), config());
}

fn every_network() -> [ConfigFile; 6] {
    let gpt2 = Gpt2ConfigFile {
        vocab_size: 512,
        n_embd: 64,
        n_inner: 200,
        n_layer: 3,
        n_head: 4,
        n_positions: 64,
        layer_norm_epsilon: 1e-5,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_ids: vec![511],
    };
    let baseline = GolfBaselineConfigFile {
        model_type: "golf-baseline".into(),
        vocab_size: 1024,
        hidden_size: 512,
        intermediate_size: 1024,
        num_hidden_layers: 9,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        max_position_embeddings: 1024,
        rms_norm_eps: f64::from(f32::EPSILON),
        rope_theta: 1e4,
        logit_softcap: 30.0,
        tie_word_embeddings: true,
    };
    let wide = GolfWideConfigFile {
        model_type: "golfwide".into(),
        vocab_size: 1024,
        hidden_size: 512,
        intermediate_size: 1024,
        num_hidden_layers: 9,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 64,
        max_position_embeddings: 256,
        rms_norm_eps: 1e-5,
        rope_theta: 1e4,
        head_map: "tile".into(),
    };
    [
        ConfigFile::GolfBaseline(baseline),
        ConfigFile::GolfWide(wide),
        ConfigFile::Gpt2(gpt2),
        ConfigFile::Llama(config()),
        ConfigFile::Qwen2(config()),
        ConfigFile::Qwen3(LlamaConfigFile { head_dim: 32, ..config() }),
    ]
}

#[test]
fn every_network_round_trips_and_survives_damage() {
    for config in every_network() {
        let json = config.to_json().unwrap();
        assert_eq!(ConfigFile::parse(&json).unwrap(), config);
        batter_strictly(json.trim_ascii_end(), 1000, |bytes| ConfigFile::parse(&bytes).is_ok());
    }
}

#[test]
fn the_first_gpt2_had_other_keys() {
    let old = json!({
        "initializer_range": 0.02, "layer_norm_epsilon": 1e-5, "n_ctx": 1024, "n_embd": 768,
        "n_head": 12, "n_layer": 12, "vocab_size": 50257
    });
    let ConfigFile::Gpt2(config) = ConfigFile::parse(old.to_string().as_bytes()).unwrap() else {
        panic!()
    };
    assert_eq!((config.n_positions, config.n_inner), (1024, 3072));
    assert!(config.tie_word_embeddings);
}

#[test]
fn features_that_change_the_network_are_refused_by_key() {
    let [_, _, gpt2, _, _, qwen3] = every_network();
    for (file, key, value) in [
        (&gpt2, "activation_function", json!("relu")),
        (&gpt2, "scale_attn_by_inverse_layer_idx", json!(true)),
        (&gpt2, "scale_attn_weights", json!(false)),
        (&gpt2, "add_cross_attention", json!(true)),
        (&gpt2, "n_head", json!(5)),
        (&qwen3, "use_sliding_window", json!(true)),
        (&qwen3, "layer_types", json!(["full_attention", "sliding_attention"])),
        (&qwen3, "mlp_bias", json!(true)),
        (&qwen3, "model_type", json!("mamba")),
    ] {
        let mut file: Value = serde_json::from_slice(&file.to_json().unwrap()).unwrap();
        file[key] = value;
        let e = ConfigFile::parse(file.to_string().as_bytes()).unwrap_err();
        assert!(e.to_string().contains(key), "{key}: {e}");
    }
    // What transformers takes where the key is absent.
    let mut file: Value = serde_json::from_slice(&qwen3.to_json().unwrap()).unwrap();
    file.as_object_mut().unwrap().remove("head_dim");
    let ConfigFile::Qwen3(config) = ConfigFile::parse(file.to_string().as_bytes()).unwrap() else {
        panic!()
    };
    assert_eq!(config.head_dim, 128);
}
