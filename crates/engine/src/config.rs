//! The settings of a training run: one flat TOML page.
//!
//! [`TrainConfig`] is the page, [`DOCUMENTATION`] says what each key means; a test keeps the two
//! together. Values come from defaults, then files, then `key=value` overrides, each checked
//! against the key's type, so that a typo is an error with a suggestion and never ignored.

mod model;

pub use model::{Family, Heads, ModelSection};

use crate::{Error, ErrorKind, Result};
use orion_models::{Network, PRESETS, preset};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Everything that decides how a run goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the sections are documented by their keys")]
pub struct TrainConfig {
    pub model: ModelSection,
    pub adapter: AdapterSection,
    pub data: DataSection,
    pub train: TrainSection,
    pub optimizer: OptimizerSection,
    pub checkpoint: CheckpointSection,
    pub eval: EvalSection,
    pub sample: SampleSection,
}

/// See [`DOCUMENTATION`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key has its text in DOCUMENTATION")]
pub struct AdapterSection {
    pub rank: usize,
    pub alpha: f64,
    pub targets: String,
}

/// See [`DOCUMENTATION`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key has its text in DOCUMENTATION")]
pub struct DataSection {
    pub train: String,
    pub eval: String,
    pub tokenizer: String,
    pub order: Order,
}

/// The order in which windows of tokens are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As they lie in the file, again and again.
    Sequential,
    /// Each once per pass over the file, in an order drawn anew for every pass.
    Random,
}

/// See [`DOCUMENTATION`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key has its text in DOCUMENTATION")]
pub struct TrainSection {
    pub steps: u64,
    pub batch: usize,
    pub seq: usize,
    pub grad_accum: usize,
    pub seed: u64,
    pub precision: Arithmetic,
    pub loss_scale: f64,
    pub dynamic_loss_scale: bool,
}

/// What matrix products are computed in. The device has to be made so; the engine only keeps the
/// choice, so that a run is resumed as it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// fp32.
    F32,
    /// Factors rounded to bf16, sums in fp32.
    Bf16,
}

/// See [`DOCUMENTATION`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key has its text in DOCUMENTATION")]
pub struct OptimizerSection {
    pub lr: f64,
    pub schedule: Schedule,
    pub warmup: u64,
    pub min_lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub clip: f64,
}

/// How the learning rate goes on after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Stays.
    Constant,
    /// Half a cosine from `lr` to `min_lr` at the last step.
    Cosine,
    /// A straight line from `lr` to `min_lr` at the last step.
    Linear,
}

/// See [`DOCUMENTATION`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key has its text in DOCUMENTATION")]
pub struct CheckpointSection {
    pub every: u64,
    pub keep: usize,
}

/// See [`DOCUMENTATION`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key has its text in DOCUMENTATION")]
pub struct EvalSection {
    pub every: u64,
    pub batches: usize,
}

/// See [`DOCUMENTATION`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key has its text in DOCUMENTATION")]
pub struct SampleSection {
    pub every: u64,
    pub prompt: String,
    pub tokens: usize,
}

/// What every key means, in the order of the page.
pub const DOCUMENTATION: &[(&str, &str)] = &[
    (
        "model.weights",
        "Weights to start from: a path that `orion run` takes. Empty starts from random weights of the sizes below.",
    ),
    ("model.family", "Kind of network: llama, qwen2, qwen3, gpt2, golf-baseline or golfwide."),
    ("model.vocab_size", "Number of token ids."),
    ("model.hidden_size", "Width of the residual stream, in channels."),
    ("model.intermediate_size", "Width of the MLP, in channels."),
    ("model.n_layers", "Number of blocks."),
    ("model.n_heads", "Number of query heads."),
    (
        "model.n_kv_heads",
        "Number of key/value heads; divides n_heads. For gpt2 the same as n_heads.",
    ),
    (
        "model.head_dim",
        "Channels of one head; even. For gpt2 and golf-baseline hidden_size / n_heads.",
    ),
    ("model.max_positions", "Longest sequence the model is made for, in tokens."),
    (
        "model.rope_theta",
        "Base of the rotary frequencies; gpt2, whose positions are learned, has none.",
    ),
    (
        "model.rope_scaling",
        "What is done to these frequencies, written as in a config.json: {\"rope_type\": \"linear\", \"factor\": 2.0}. Empty for nothing.",
    ),
    ("model.norm_epsilon", "Added to the mean square in RMSNorm, to the variance in LayerNorm."),
    ("model.tied", "Whether the classifier is the embedding; always for golfwide."),
    (
        "model.attention_bias",
        "For llama and qwen3: whether the projections of attention have biases; qwen2 has three always.",
    ),
    ("model.mlp_bias", "For llama: whether the projections of the MLP have biases."),
    ("model.logit_softcap", "For golf-baseline: logits stay between this and its negative."),
    (
        "model.head_map",
        "For golfwide: whether query heads that share a key head follow each other (repeat) or alternate (tile).",
    ),
    (
        "adapter.rank",
        "Rank of a LoRA adapter to train over model.weights, which stay as they are; 0 trains the weights.",
    ),
    ("adapter.alpha", "What the adapter adds is multiplied by alpha / rank."),
    (
        "adapter.targets",
        "Layers it changes, with commas: q, k, v, o, gate, up and down, or their names; all but the classifier with all.",
    ),
    (
        "data.train",
        "File to train on: token ids (raw uint16, or with the llm.c header), text, or JSON lines of prompts and answers.",
    ),
    ("data.eval", "The same to evaluate on. Empty for none."),
    (
        "data.tokenizer",
        "Tokenizer that token files were made with or text is read with; copied into the run directory. Empty for none.",
    ),
    (
        "data.order",
        "sequential, or random: each window once per pass, in an order drawn from the seed.",
    ),
    ("train.steps", "Optimizer updates until the run is done, those before a resume included."),
    ("train.batch", "Sequences per micro-batch."),
    ("train.seq", "Tokens per sequence."),
    ("train.grad_accum", "Micro-batches per optimizer update."),
    ("train.seed", "Seed of the first weights and of the random order."),
    (
        "train.precision",
        "Arithmetic of matrix products: f32, or bf16 with sums in fp32. Weights, norms, softmax, loss and optimizer stay fp32.",
    ),
    (
        "train.loss_scale",
        "Factor on the loss before differentiation, taken off again before the update.",
    ),
    (
        "train.dynamic_loss_scale",
        "Halve the loss scale when a gradient is not finite, double it after 2000 finite steps.",
    ),
    ("optimizer.lr", "Learning rate after warm-up."),
    ("optimizer.schedule", "constant, cosine or linear, down to min_lr at the last step."),
    ("optimizer.warmup", "Steps over which the learning rate rises from near zero."),
    ("optimizer.min_lr", "Learning rate at the last step of cosine and linear."),
    ("optimizer.beta1", "Decay of AdamW's first moment."),
    ("optimizer.beta2", "Decay of AdamW's second moment."),
    ("optimizer.eps", "Added to the root of AdamW's second moment."),
    ("optimizer.weight_decay", "Decoupled weight decay on matrices; norms have none."),
    ("optimizer.clip", "Largest global gradient norm; 0 for no clipping."),
    ("checkpoint.every", "Steps between checkpoints; 0 for one at the end only."),
    ("checkpoint.keep", "How many checkpoints stay; 0 for all."),
    ("eval.every", "Steps between evaluations; 0 for one before and one after. Needs data.eval."),
    ("eval.batches", "Micro-batches per evaluation; 0 for the whole file."),
    ("sample.every", "Steps between sample texts; 0 for none. Needs data.tokenizer."),
    ("sample.prompt", "How sample texts begin."),
    ("sample.tokens", "Length of sample texts, in tokens."),
];

impl Default for TrainConfig {
    fn default() -> Self {
        let network = preset("quickstart").expect("a preset").network();
        Self {
            model: ModelSection::from_network(&network),
            adapter: AdapterSection { rank: 0, alpha: 16.0, targets: "q,v".to_owned() },
            data: DataSection {
                train: String::new(),
                eval: String::new(),
                tokenizer: String::new(),
                order: Order::Random,
            },
            train: TrainSection {
                steps: 1000,
                batch: 8,
                seq: 128,
                grad_accum: 1,
                seed: 42,
                precision: Arithmetic::F32,
                loss_scale: 1.0,
                dynamic_loss_scale: false,
            },
            optimizer: OptimizerSection {
                lr: 1e-3,
                schedule: Schedule::Cosine,
                warmup: 50,
                min_lr: 1e-4,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                clip: 1.0,
            },
            checkpoint: CheckpointSection { every: 500, keep: 3 },
            eval: EvalSection { every: 0, batches: 16 },
            sample: SampleSection { every: 0, prompt: String::new(), tokens: 100 },
        }
    }
}

/// The page under construction: defaults with files and overrides put over them.
#[derive(Debug, Clone)]
pub struct ConfigLayers {
    table: Table,
}

impl Default for ConfigLayers {
    fn default() -> Self {
        Self::over(&TrainConfig::default())
    }
}

impl ConfigLayers {
    /// Layers over a given page.
    pub fn over(config: &TrainConfig) -> Self {
        Self { table: Table::try_from(config).expect("the page is a table") }
    }

    /// Puts a TOML page over what is there. Only keys that it names change.
    ///
    /// # Errors
    /// When the text is not TOML, or has a key that does not exist or a value of another type.
    pub fn add_toml(&mut self, text: &str) -> Result<()> {
        let page: Table = toml::from_str(text)
            .map_err(|e| Error::new(ErrorKind::Config, format!("not a TOML file: {e}")))?;
        for (section, keys) in page {
            match keys {
                Value::Table(keys) => {
                    for (key, value) in keys {
                        self.set_value(&format!("{section}.{key}"), value)?;
                    }
                }
                _ => return Err(unknown(&section)),
            }
        }
        Ok(())
    }

    /// Sets one key from text, as `--set key=value` gives it. Strings need no quotes.
    ///
    /// # Errors
    /// When the key does not exist or the value has another type.
    pub fn set(&mut self, key: &str, text: &str) -> Result<()> {
        let as_string = || Value::String(text.to_owned());
        let value = match self.slot(key)? {
            Value::String(_) => as_string(),
            _ => toml::from_str::<Table>(&format!("v = {text}"))
                .ok()
                .and_then(|mut t| t.remove("v"))
                .unwrap_or_else(as_string),
        };
        self.set_value(key, value)
    }

    /// Takes the model sizes of a network.
    pub fn set_network(&mut self, network: &Network) {
        let mut section =
            Table::try_from(ModelSection::from_network(network)).expect("a section is a table");
        if let Some(Value::Table(model)) = self.table.get("model")
            && let Some(weights) = model.get("weights")
        {
            section.insert("weights".into(), weights.clone());
        }
        self.table.insert("model".into(), Value::Table(section));
    }

    fn slot(&mut self, key: &str) -> Result<&mut Value> {
        let (section, name) = key.split_once('.').ok_or_else(|| unknown(key))?;
        let section = self.table.get_mut(section).and_then(Value::as_table_mut);
        section.and_then(|s| s.get_mut(name)).ok_or_else(|| unknown(key))
    }

    fn set_value(&mut self, key: &str, value: Value) -> Result<()> {
        let slot = self.slot(key)?;
        let value = match (&*slot, value) {
            (Value::Float(_), Value::Integer(i)) => Value::Float(i as f64),
            (_, v) => v,
        };
        if slot.type_str() != value.type_str() {
            let message =
                format!("{key} takes a {}, not the {} {value}", slot.type_str(), value.type_str());
            return Err(Error::new(ErrorKind::Config, message));
        }
        *slot = value;
        Ok(())
    }

    /// The finished page.
    ///
    /// # Errors
    /// When a value is not one of those a key allows, or out of range.
    pub fn finish(self) -> Result<TrainConfig> {
        let config: TrainConfig = Value::Table(self.table)
            .try_into()
            .map_err(|e: toml::de::Error| Error::new(ErrorKind::Config, e.message().to_owned()))?;
        config.check()?;
        Ok(config)
    }

    /// The network of the finished page, whatever the rest says.
    ///
    /// # Errors
    /// When sizes do not fit together.
    pub fn finish_model(self) -> Result<Network> {
        let config: TrainConfig = Value::Table(self.table)
            .try_into()
            .map_err(|e: toml::de::Error| Error::new(ErrorKind::Config, e.message().to_owned()))?;
        config.model.network()
    }
}

fn unknown(key: &str) -> Error {
    let nearest = DOCUMENTATION.iter().map(|(k, _)| *k).min_by_key(|k| edit_distance(k, key));
    let error = Error::new(ErrorKind::Config, format!("there is no setting `{key}`"));
    match nearest {
        Some(k) if edit_distance(k, key) <= 1 + key.len() / 3 => {
            error.hint(format!("did you mean `{k}`?"))
        }
        _ => error.hint("`orion train --print-config` lists every setting"),
    }
}

/// Insertions, deletions and replacements that turn one text into the other (Levenshtein, 1966).
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// The network a name or the text of a TOML page stands for.
///
/// # Errors
/// When there is no such preset.
pub fn network_of_preset(name: &str) -> Result<Network> {
    if let Some(p) = preset(name) {
        return Ok(p.network());
    }
    let names: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
    let nearest = names.iter().min_by_key(|n| edit_distance(n, name)).copied();
    Err(Error::new(
        ErrorKind::Config,
        format!("there is no preset `{name}`; there are {}", names.join(", ")),
    )
    .hint(format!("did you mean `{}`?", nearest.unwrap_or_default())))
}

impl TrainConfig {
    fn check(&self) -> Result<()> {
        let fail = |m: String| Err(Error::new(ErrorKind::Config, m));
        self.model.network()?;
        if self.adapter.rank > 0 && self.model.weights.is_empty() {
            return fail(
                "adapter.rank asks for an adapter, and model.weights names no model to train it over"
                    .to_owned(),
            );
        }
        let t = &self.train;
        for (key, n) in
            [("train.batch", t.batch), ("train.seq", t.seq), ("train.grad_accum", t.grad_accum)]
        {
            if n == 0 {
                return fail(format!("{key} is 0; it must be at least 1"));
            }
        }
        if t.seq > self.model.max_positions {
            return fail(format!(
                "train.seq is {}, but the model takes at most {} tokens (model.max_positions)",
                t.seq, self.model.max_positions
            ));
        }
        if t.batch.saturating_mul(t.seq) > 1 << 24 {
            return fail(format!(
                "train.batch × train.seq is {}; at most {} tokens fit a micro-batch",
                t.batch.saturating_mul(t.seq),
                1 << 24
            ));
        }
        let o = &self.optimizer;
        for (key, v, low, high) in [
            ("train.loss_scale", t.loss_scale, f64::MIN_POSITIVE, 1e9),
            ("optimizer.lr", o.lr, 0.0, 1e3),
            ("optimizer.min_lr", o.min_lr, 0.0, 1e3),
            ("optimizer.beta1", o.beta1, 0.0, 1.0 - 1e-9),
            ("optimizer.beta2", o.beta2, 0.0, 1.0 - 1e-9),
            ("optimizer.eps", o.eps, 0.0, 1.0),
            ("optimizer.weight_decay", o.weight_decay, 0.0, 1e3),
            ("optimizer.clip", o.clip, 0.0, 1e9),
        ] {
            if !(low..=high).contains(&v) {
                return fail(format!("{key} is {v}; it must be between {low} and {high}"));
            }
        }
        Ok(())
    }

    /// The learning rate of a step, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        let o = &self.optimizer;
        if step < o.warmup {
            return o.lr * (step + 1) as f64 / o.warmup as f64;
        }
        let span = self.train.steps.saturating_sub(o.warmup + 1).max(1);
        let progress = ((step - o.warmup) as f64 / span as f64).min(1.0);
        let share = match o.schedule {
            Schedule::Constant => return o.lr,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Linear => 1.0 - progress,
        };
        o.min_lr + (o.lr - o.min_lr) * share
    }

    /// The page as TOML, with what every key means above it.
    pub fn to_documented_toml(&self) -> String {
        let table = Table::try_from(self).expect("the page is a table");
        let mut text = String::new();
        let mut current = "";
        for (key, meaning) in DOCUMENTATION {
            let (section, name) = key.split_once('.').expect("section.key");
            if section != current {
                text += &format!("{}[{section}]\n", if current.is_empty() { "" } else { "\n" });
                current = section;
            }
            text += &format!("# {meaning}\n{name} = {}\n", table[section][name]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_covers_every_key() {
        let page = TrainConfig::default().to_documented_toml();
        let parsed: TrainConfig = toml::from_str(&page).unwrap();
        assert_eq!(parsed, TrainConfig::default());
        let keys: usize = Table::try_from(TrainConfig::default())
            .unwrap()
            .values()
            .map(|s| s.as_table().unwrap().len())
            .sum();
        assert_eq!(keys, DOCUMENTATION.len());
    }

    #[test]
    fn overrides_are_checked() {
        let mut layers = ConfigLayers::default();
        layers.set("optimizer.lr", "3e-4").unwrap();
        layers.set("optimizer.weight_decay", "0").unwrap();
        layers.set("data.train", "some/file.bin").unwrap();
        layers.add_toml("[train]\nsteps = 7\n").unwrap();
        let e = layers.set("optimizer.learning_rat", "1").unwrap_err();
        assert_eq!(e.to_string(), "there is no setting `optimizer.learning_rat`");
        let e = layers.set("optimiser.lr", "1").unwrap_err();
        assert_eq!(e.way_out(), Some("did you mean `optimizer.lr`?"));
        let e = layers.set("train.steps", "many").unwrap_err();
        assert_eq!(e.to_string(), "train.steps takes a integer, not the string \"many\"");
        assert!(layers.add_toml("steps = 1").is_err());
        let config = layers.finish().unwrap();
        assert_eq!((config.optimizer.lr, config.train.steps), (3e-4, 7));
        assert_eq!(config.data.train, "some/file.bin");
    }

    #[test]
    fn values_are_checked() {
        for (key, value) in [
            ("train.batch", "0"),
            ("train.seq", "100000"),
            ("optimizer.beta2", "1"),
            ("optimizer.lr", "nan"),
            ("optimizer.schedule", "steps"),
            ("model.n_kv_heads", "3"),
            ("train.steps", "-1"),
        ] {
            let mut layers = ConfigLayers::default();
            let result = layers.set(key, value).and_then(|()| layers.finish());
            assert!(result.is_err(), "{key}={value}");
        }
    }

    #[test]
    fn schedules() {
        let mut c = TrainConfig::default();
        c.train.steps = 111;
        c.optimizer.warmup = 10;
        c.optimizer.lr = 1.0;
        c.optimizer.min_lr = 0.1;
        assert_eq!(c.learning_rate(0), 0.1);
        assert_eq!(c.learning_rate(9), 1.0);
        assert_eq!(c.learning_rate(10), 1.0);
        assert!((c.learning_rate(110) - 0.1).abs() < 1e-12);
        assert!((c.learning_rate(60) - 0.55).abs() < 1e-12);
        c.optimizer.schedule = Schedule::Linear;
        assert!((c.learning_rate(35) - 0.775).abs() < 1e-12);
        c.optimizer.schedule = Schedule::Constant;
        assert_eq!(c.learning_rate(100), 1.0);
    }

    #[test]
    fn presets_by_name() {
        assert!(network_of_preset("stories15m").is_ok());
        let e = network_of_preset("storys15m").unwrap_err();
        assert_eq!(e.way_out(), Some("did you mean `stories15m`?"));
    }
}
