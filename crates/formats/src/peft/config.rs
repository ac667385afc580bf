//! `adapter_config.json`.

use super::targets::{TargetModules, key_matches, layer_of};
use crate::{Error, ErrorKind, Result};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use std::fmt;
use std::marker::PhantomData;

/// No sane adapter has more.
const MAX_RANK: usize = 1 << 16;

/// What PEFT takes where the file says nothing.
const DEFAULT_RANK: usize = 8;

/// Keys that say nothing about what the adapter computes once it is trained.
const SAYS_NOTHING: [&str; 11] = [
    "auto_mapping",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// How matrices may have begun without the base having been changed for them.
const INITIALIZATIONS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Rank and factor of the matrices of one module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankScale {
    /// `r`
    pub rank: usize,
    /// What `B A x` is multiplied by: `α/r`, or `α/√r` where the adapter is rank-stabilized.
    pub scale: f64,
}

/// The settings of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftConfig {
    /// The model it was trained on, as its maker called it.
    pub base_model: Option<String>,
    /// `r`, where no pattern says otherwise.
    pub rank: usize,
    /// `lora_alpha`, where no pattern says otherwise.
    pub alpha: f64,
    /// Which modules it is for.
    pub targets: TargetModules,
    /// Which of these it is not for.
    pub excluded: Option<TargetModules>,
    /// The blocks it is for; all where there are none. For names only, as in PEFT.
    pub layers: Vec<usize>,
    /// What stands before a block's number; anything where there are none.
    pub layers_pattern: Vec<String>,
    /// Ranks of modules whose path ends in a pattern; the first that fits.
    pub rank_pattern: Vec<(String, usize)>,
    /// `α` of modules whose path ends in a pattern; the first that fits.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Rank-stabilized (Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with
    /// LoRA", 2023): the factor is `α/√r`.
    pub rank_stabilized: bool,
    /// Whether the base keeps these weights as `[in, out]`, as GPT-2 does. The matrices of the
    /// adapter lie the same either way.
    pub fan_in_fan_out: bool,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    fn list(this: Option<Self>) -> Vec<T> {
        match this {
            None => Vec::new(),
            Some(Self::One(one)) => vec![one],
            Some(Self::More(more)) => more,
        }
    }
}

/// A JSON object in the order of the file, which decides between patterns.
struct InOrder<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = InOrder<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(
                self,
                mut map: M,
            ) -> std::result::Result<Self::Value, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(InOrder(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[derive(serde::Deserialize)]
struct Raw {
    peft_type: Option<String>,
    base_model_name_or_path: Option<String>,
    r: Option<usize>,
    lora_alpha: Option<f64>,
    target_modules: Option<TargetModules>,
    exclude_modules: Option<TargetModules>,
    layers_to_transform: Option<OneOrMore<usize>>,
    layers_pattern: Option<OneOrMore<String>>,
    rank_pattern: Option<InOrder<usize>>,
    alpha_pattern: Option<InOrder<f64>>,
    use_rslora: Option<bool>,
    fan_in_fan_out: Option<bool>,
    bias: Option<String>,
    modules_to_save: Option<Vec<String>>,
    init_lora_weights: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl PeftConfig {
    /// Settings of an adapter with one rank for all of its modules.
    pub fn new(rank: usize, alpha: f64, targets: TargetModules) -> Self {
        Self {
            base_model: None,
            rank,
            alpha,
            targets,
            excluded: None,
            layers: Vec::new(),
            layers_pattern: Vec::new(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            rank_stabilized: false,
            fan_in_fan_out: false,
        }
    }

    /// Reads the bytes of an `adapter_config.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when a key is of another type or out of bounds;
    /// [`ErrorKind::Unsupported`] for what is not plain LoRA, naming the key;
    /// [`ErrorKind::Truncated`] when the file ends in the middle.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| {
            let kind = if e.is_eof() { ErrorKind::Truncated } else { ErrorKind::Malformed };
            Error::new(kind, format!("adapter_config.json: {e}"))
        })?;
        check_features(&raw)?;
        let targets = raw.target_modules.ok_or_else(|| {
            unsupported("target_modules", "missing", "names of modules or a pattern")
        })?;
        let this = Self {
            base_model: raw.base_model_name_or_path.filter(|name| !name.is_empty()),
            rank: raw.r.unwrap_or(DEFAULT_RANK),
            alpha: raw.lora_alpha.unwrap_or(DEFAULT_RANK as f64),
            targets,
            excluded: raw.exclude_modules,
            layers: OneOrMore::list(raw.layers_to_transform),
            layers_pattern: OneOrMore::list(raw.layers_pattern),
            rank_pattern: raw.rank_pattern.map_or_else(Vec::new, |entries| entries.0),
            alpha_pattern: raw.alpha_pattern.map_or_else(Vec::new, |entries| entries.0),
            rank_stabilized: raw.use_rslora.unwrap_or(false),
            fan_in_fan_out: raw.fan_in_fan_out.unwrap_or(false),
        };
        this.check()?;
        Ok(this)
    }

    fn check(&self) -> Result<()> {
        let ranks = self.rank_pattern.iter().map(|(_, rank)| *rank).chain([self.rank]);
        if let Some(rank) = ranks.into_iter().find(|rank| !(1..=MAX_RANK).contains(rank)) {
            return Err(malformed("r", &format!("{rank}, expected 1 to {MAX_RANK}")));
        }
        let alphas = self.alpha_pattern.iter().map(|(_, alpha)| *alpha).chain([self.alpha]);
        match alphas.into_iter().find(|alpha| !alpha.is_finite()) {
            Some(alpha) => Err(malformed("lora_alpha", &format!("{alpha}, expected a number"))),
            None => Ok(()),
        }
    }

    /// Whether the adapter is for the linear layer of that path; `classifier` says whether that
    /// layer gives the logits.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a pattern that is not understood.
    pub fn is_for(&self, module: &str, classifier: bool) -> Result<bool> {
        if let Some(excluded) = &self.excluded
            && excluded.contain(module)?
        {
            return Ok(false);
        }
        if self.targets.is_all_linear() {
            return Ok(!classifier);
        }
        if !self.targets.contain(module)? {
            return Ok(false);
        }
        if self.layers.is_empty() || matches!(self.targets, TargetModules::Pattern(_)) {
            return Ok(true);
        }
        let layer = layer_of(module, &self.layers_pattern)?;
        Ok(layer.is_some_and(|layer| self.layers.contains(&layer)))
    }

    /// Rank and factor of a module's matrices.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a pattern that is not understood.
    pub fn of_module(&self, module: &str) -> Result<RankScale> {
        let rank = first_match(&self.rank_pattern, module)?.unwrap_or(self.rank);
        let alpha = first_match(&self.alpha_pattern, module)?.unwrap_or(self.alpha);
        let divisor = if self.rank_stabilized { (rank as f64).sqrt() } else { rank as f64 };
        Ok(RankScale { rank, scale: alpha / divisor })
    }

    /// Writes an `adapter_config.json` that PEFT reads, for a causal language model.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] for a rank or `α` that makes no adapter.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        self.check()?;
        // A whole number where it is one: PEFT's own type of lora_alpha.
        let number =
            |v: f64| if v.fract() == 0.0 && v.abs() < 1e15 { json!(v as i64) } else { json!(v) };
        let list = |empty: bool, value: Value| if empty { Value::Null } else { value };
        let ranks: Map<String, Value> =
            self.rank_pattern.iter().map(|(key, rank)| (key.clone(), json!(rank))).collect();
        let alphas: Map<String, Value> =
            self.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), number(*alpha))).collect();
        let mut json = serde_json::to_vec_pretty(&json!({
            "alpha_pattern": alphas,
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "exclude_modules": self.excluded,
            "fan_in_fan_out": self.fan_in_fan_out,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": list(self.layers_pattern.is_empty(), json!(self.layers_pattern)),
            "layers_to_transform": list(self.layers.is_empty(), json!(self.layers)),
            "lora_alpha": number(self.alpha),
            "lora_dropout": 0.0,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.rank,
            "rank_pattern": ranks,
            "target_modules": self.targets,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.rank_stabilized,
        }))
        .expect("finite numbers and strings are JSON");
        json.push(b'\n');
        Ok(json)
    }
}

fn first_match<T: Copy>(patterns: &[(String, T)], module: &str) -> Result<Option<T>> {
    for (key, value) in patterns {
        if key_matches(key, module)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

/// Refuses what would make the adapter compute something else.
fn check_features(raw: &Raw) -> Result<()> {
    let kind = raw.peft_type.as_deref().unwrap_or("missing");
    if kind != "LORA" {
        return Err(unsupported("peft_type", kind, "LORA"));
    }
    if let Some(bias) = raw.bias.as_deref().filter(|&bias| bias != "none") {
        return Err(unsupported("bias", &format!("{bias:?}"), "\"none\"")
            .hint("biases trained with the adapter are not run; train it with bias=\"none\""));
    }
    if let Some(names) = raw.modules_to_save.as_ref().filter(|names| !names.is_empty()) {
        return Err(unsupported("modules_to_save", &names.join(", "), "nothing").hint(
            "whole modules that were trained with the adapter are not run; merge it with PEFT's \
             merge_and_unload and give the merged model",
        ));
    }
    if let Some(Value::String(how)) = &raw.init_lora_weights
        && !INITIALIZATIONS.iter().any(|known| how.eq_ignore_ascii_case(known))
    {
        return Err(unsupported("init_lora_weights", &format!("{how:?}"), "true").hint(
            "this way of beginning changes the base's weights; save the adapter with \
             path_initial_model_for_weight_conversion, or merge it with PEFT",
        ));
    }
    for (key, value) in &raw.rest {
        let off = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => false,
        };
        if !off && !SAYS_NOTHING.contains(&key.as_str()) {
            let mut shown = value.to_string();
            if let Some((end, _)) = shown.char_indices().nth(60) {
                shown.truncate(end);
            }
            return Err(unsupported(key, &shown, "plain LoRA without it")
                .hint("merge the adapter with PEFT's merge_and_unload and give the merged model"));
        }
    }
    Ok(())
}

fn malformed(key: &str, what: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("key `{key}` of adapter_config.json is {what}"))
}

fn unsupported(key: &str, found: &str, expected: &str) -> Error {
    let detail = format!("key `{key}` of adapter_config.json is {found}, expected {expected}");
    Error::new(ErrorKind::Unsupported, detail)
}
