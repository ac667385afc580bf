use orion_formats::peft::{PeftAdapter, PeftConfig, TargetModules};
use orion_formats::{ErrorKind, LoraMatrices};
use orion_tensor::{DType, Tensor};
use orion_testing::{batter_strictly, shared};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn file() -> Value {
    json!({
        "peft_type": "LORA", "r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"],
        "bias": "none", "modules_to_save": null, "use_dora": false, "loftq_config": {},
        "task_type": "CAUSAL_LM", "lora_dropout": 0.1, "base_model_name_or_path": "base",
    })
}

fn parse(file: &Value) -> orion_formats::Result<PeftConfig> {
    PeftConfig::parse(file.to_string().as_bytes())
}

fn with(key: &str, value: Value) -> PeftConfig {
    let mut file = file();
    file[key] = value;
    parse(&file).unwrap()
}

const QUERY: &str = "model.layers.3.self_attn.q_proj";
const DOWN: &str = "model.layers.13.mlp.down_proj";

#[test]
fn names_patterns_and_layers_choose_modules_as_peft_does() {
    let chosen = |config: &PeftConfig| {
        [QUERY, DOWN, "lm_head"].map(|m| config.is_for(m, m == "lm_head").unwrap())
    };
    assert_eq!(chosen(&with("target_modules", json!(["q_proj"]))), [true, false, false]);
    // The end of a name is not the end of a path.
    assert_eq!(chosen(&with("target_modules", json!(["proj", "head"]))), [false; 3]);
    assert_eq!(chosen(&with("target_modules", json!(["lm_head"]))), [false, false, true]);
    assert_eq!(chosen(&with("target_modules", json!("all-linear"))), [true, true, false]);
    assert_eq!(chosen(&with("target_modules", json!(r".*\.(q|down)_proj"))), [true, true, false]);
    // The whole path, from its first to its last letter.
    assert_eq!(chosen(&with("target_modules", json!("q_proj"))), [false; 3]);
    assert_eq!(chosen(&with("target_modules", json!(r".*layers\.\d+\.self"))), [false; 3]);
    let mut config = with("target_modules", json!("all-linear"));
    config.excluded = Some(TargetModules::Names(vec!["down_proj".into()]));
    assert_eq!(chosen(&config), [true, false, false]);
    let mut file = file();
    file["target_modules"] = json!(["q_proj", "down_proj"]);
    for (layers, pattern, expected) in [
        (json!([13]), json!(null), [false, true, false]),
        (json!(3), json!(null), [true, false, false]),
        (json!([1, 3]), json!("layers"), [true, false, false]),
        (json!([3]), json!(["h"]), [false, false, false]),
        (json!([]), json!(null), [true, true, false]),
    ] {
        file["layers_to_transform"] = layers;
        file["layers_pattern"] = pattern;
        assert_eq!(chosen(&parse(&file).unwrap()), expected, "{file}");
    }
}

#[test]
fn ranks_and_factors_follow_patterns_in_the_order_of_the_file() {
    let text = r#"{"peft_type":"LORA","r":4,"lora_alpha":16,"target_modules":"all-linear",
        "rank_pattern":{"layers.3.*":2,"self_attn.q_proj":64,"^q_proj":1},
        "alpha_pattern":{"mlp\\.\\w+":1.5}}"#;
    let config = PeftConfig::parse(text.as_bytes()).unwrap();
    let of = |module: &str| {
        let found = config.of_module(module).unwrap();
        (found.rank, found.scale)
    };
    assert_eq!(of(QUERY), (2, 8.0));
    assert_eq!(of("model.layers.4.self_attn.q_proj"), (64, 0.25));
    assert_eq!(of("model.layers.4.self_attn.qq_proj"), (4, 4.0));
    assert_eq!(of("q_proj"), (1, 16.0));
    assert_eq!(of(DOWN), (4, 0.375));
    let stabilized = with("use_rslora", json!(true));
    assert_eq!(stabilized.of_module(QUERY).unwrap().scale, 8.0);
}

#[test]
fn what_is_not_plain_lora_is_refused_by_name() {
    for (key, value, kind) in [
        ("peft_type", json!("IA3"), ErrorKind::Unsupported),
        ("bias", json!("lora_only"), ErrorKind::Unsupported),
        ("modules_to_save", json!(["score"]), ErrorKind::Unsupported),
        ("use_dora", json!(true), ErrorKind::Unsupported),
        ("use_qalora", json!(true), ErrorKind::Unsupported),
        ("lora_bias", json!(true), ErrorKind::Unsupported),
        ("loftq_config", json!({"loftq_bits": 4}), ErrorKind::Unsupported),
        ("layer_replication", json!([[0, 2]]), ErrorKind::Unsupported),
        ("trainable_token_indices", json!([1]), ErrorKind::Unsupported),
        ("init_lora_weights", json!("pissa_niter_4"), ErrorKind::Unsupported),
        ("of_next_year", json!({"on": 1}), ErrorKind::Unsupported),
        ("target_modules", json!(null), ErrorKind::Unsupported),
        ("r", json!(0), ErrorKind::Malformed),
        ("r", json!(1_000_000_000), ErrorKind::Malformed),
    ] {
        let mut file = file();
        file[key] = value;
        let e = parse(&file).unwrap_err();
        assert_eq!(e.kind(), kind, "{key}: {e}");
        assert!(e.to_string().contains(key), "{key}: {e}");
    }
    let e = with("modules_to_save", json!([])).base_model;
    assert_eq!(e.as_deref(), Some("base"));
    assert!(parse(&json!({"r": 8, "target_modules": ["q"]})).is_err());
}

#[test]
fn patterns_of_strangers_are_bounded() {
    for pattern in [r"(?=q)", r"(a)\1", "(", r"(\w{1000}){1000}"] {
        let e = with("target_modules", json!(pattern)).is_for(QUERY, false).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    }
    let doubling = format!("{}b", "(a*)*".repeat(30));
    assert!(!with("target_modules", json!(doubling)).is_for(&"a".repeat(5000), false).unwrap());
}

#[test]
fn survives_damage() {
    batter_strictly(file().to_string().as_bytes(), 3000, |bytes| PeftConfig::parse(&bytes).is_ok());
}

#[test]
fn what_is_written_is_read() {
    let mut config = PeftConfig::new(8, 12.5, TargetModules::Pattern("all-linear".into()));
    config.base_model = Some("somewhere/base".into());
    config.excluded = Some(TargetModules::Names(vec!["k_proj".into()]));
    config.layers = vec![1, 2];
    config.rank_pattern = vec![("q_proj".into(), 2)];
    config.alpha_pattern = vec![("q_proj".into(), 3.0)];
    config.rank_stabilized = true;
    assert_eq!(PeftConfig::parse(&config.to_json().unwrap()).unwrap(), config);
    config.alpha = f64::NAN;
    assert!(config.to_json().is_err());
}

#[test]
fn tensors_go_in_pairs() {
    let matrix = |rows, columns| Tensor::zeros(DType::F32, &[rows, columns]);
    let name = |module: &str, half: &str| format!("base_model.model.{module}.{half}.weight");
    let good = BTreeMap::from([
        (name(QUERY, "lora_A"), matrix(4, 10)),
        (name(QUERY, "lora_B"), matrix(12, 4)),
    ]);
    let read = |tensors| PeftAdapter::from_tensors(parse(&file()).unwrap(), tensors);
    let adapter = read(good.clone()).unwrap();
    let LoraMatrices { a, b } = &adapter.modules[QUERY];
    assert_eq!((a.shape(), b.shape()), (&[4, 10][..], &[12, 4][..]));
    assert_eq!(adapter.tensors(), good);
    for (key, tensor, what) in [
        (name(DOWN, "lora_A"), matrix(4, 10), "only one"),
        (name(QUERY, "lora_A"), matrix(5, 10), "rank 4"),
        (name(QUERY, "lora_A"), Tensor::zeros(DType::F32, &[4]), "expected a matrix"),
        (name("model.norm", "lora_embedding_A"), matrix(4, 10), "embedding"),
        ("base_model.model.score.weight".to_owned(), matrix(2, 10), "whole weight"),
        ("model.q_proj.lora_A.weight".to_owned(), matrix(4, 10), "base_model.model"),
        (format!("base_model.model.{QUERY}.lora_magnitude_vector"), matrix(1, 4), "DoRA"),
    ] {
        let mut tensors = good.clone();
        tensors.insert(key, tensor);
        let e = read(tensors).unwrap_err().to_string();
        assert!(e.contains(what), "{what}: {e}");
    }
    assert!(read(BTreeMap::new()).is_err());
}

#[test]
fn the_real_one() {
    let Some(path) = shared("golden/hf/gpt2_tiny_lora") else { return };
    let adapter = PeftAdapter::open(path).unwrap();
    assert_eq!((adapter.config.rank, adapter.config.alpha), (4, 16.0));
    assert!(adapter.config.fan_in_fan_out);
    let modules: Vec<&str> = adapter.modules.keys().map(String::as_str).collect();
    let expected = [0, 1, 2].map(|i| format!("transformer.h.{i}.attn.c_attn"));
    assert_eq!(modules, expected);
    assert!(modules.iter().all(|module| adapter.config.is_for(module, false).unwrap()));
    assert_eq!(adapter.modules[modules[0]].b.shape(), [192, 4]);
}
