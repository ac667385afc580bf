//! How `config.json` says that rotary positions are scaled: `rope_scaling` in transformers 4,
//! `rope_parameters` in 5.

use super::{malformed, unsupported};
use crate::Result;
use serde_json::{Map, Value, json};

/// What is done to the frequencies `θ^(-2i/D)` of rotary positions, so that a model goes on beyond
/// the length it was first trained on; fields are named as the files' keys.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are the format's")]
pub enum RopeScaling {
    /// Every frequency is divided by `factor` (Chen et al., "Extending Context Window of Large
    /// Language Models via Positional Interpolation", 2023).
    Linear { factor: f64 },
    /// Low frequencies are divided by `factor`, high ones stay, those between are mixed (Llama 3.1).
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: usize,
    },
    /// As Llama 3's with other bounds, and cosines and sines are multiplied by `attention_factor`
    /// (Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023).
    Yarn {
        factor: f64,
        original_max_position_embeddings: usize,
        beta_fast: f64,
        beta_slow: f64,
        attention_factor: f64,
        /// Whether the bounds are rounded to whole frequencies.
        truncate: bool,
    },
    /// A divisor for each frequency, as GGUF files have them; `config.json` has them as `longrope`
    /// with one list for short and long texts.
    Divisors(Vec<f64>),
}

/// Divisors of frequencies are as many as half a head has channels.
const MOST_DIVISORS: usize = 1 << 12;

impl RopeScaling {
    /// The factor on cosines and sines that YaRN takes where nothing else is said.
    pub fn yarn_attention_factor(factor: f64) -> f64 {
        if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 }
    }

    /// Reads the text of [`RopeScaling::to_json`], or of `rope_scaling` in a `config.json`, for a
    /// model of `max_positions`; `None` for `{"rope_type": "default"}` and `null`.
    ///
    /// # Errors
    /// When the text is no JSON, or as for a `config.json`.
    pub fn parse(text: &str, max_positions: usize) -> Result<Option<Self>> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| malformed("rope_scaling", &e.to_string()))?;
        Self::from_value("rope_scaling", &value, max_positions, None)
    }

    /// Reads the value of `key`, where `positions` is what the file has beside it for
    /// `original_max_position_embeddings`, which goes before.
    pub(super) fn from_value(
        key: &str,
        value: &Value,
        max_positions: usize,
        positions: Option<usize>,
    ) -> Result<Option<Self>> {
        let object = match value {
            Value::Null => return Ok(None),
            Value::Object(object) => object,
            other => return Err(malformed(key, &format!("{other}, expected an object"))),
        };
        let reader = Reader { key, object };
        let kind = match object.get("rope_type").or(object.get("type")) {
            None | Some(Value::Null) if !object.contains_key("factor") => "default",
            Some(Value::String(kind)) => kind.as_str(),
            _ => return Err(reader.wrong("rope_type", "the name of a kind")),
        };
        let original = || match positions {
            Some(positions) => Ok(positions),
            None => reader.positions("original_max_position_embeddings", max_positions),
        };
        const ORIGINAL: &str = "original_max_position_embeddings";
        let (scaling, keys): (_, &[&str]) = match kind {
            "default" => (None, &[]),
            "linear" => (Some(Self::Linear { factor: reader.needed("factor")? }), &["factor"]),
            "llama3" => {
                let scaling = Self::Llama3 {
                    factor: reader.needed("factor")?,
                    low_freq_factor: reader.needed("low_freq_factor")?,
                    high_freq_factor: reader.needed("high_freq_factor")?,
                    original_max_position_embeddings: original()?,
                };
                (Some(scaling), &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL])
            }
            "yarn" => {
                let original = original()?;
                let factor = match reader.number("factor")? {
                    Some(factor) => factor,
                    None => max_positions as f64 / original as f64,
                };
                let scaling = Self::Yarn {
                    factor,
                    original_max_position_embeddings: original,
                    beta_fast: reader.number("beta_fast")?.unwrap_or(32.0),
                    beta_slow: reader.number("beta_slow")?.unwrap_or(1.0),
                    attention_factor: reader.yarn_attention_factor(factor)?,
                    truncate: reader.flag("truncate", true)?,
                };
                let keys = &[
                    "factor",
                    ORIGINAL,
                    "beta_fast",
                    "beta_slow",
                    "attention_factor",
                    "mscale",
                    "mscale_all_dim",
                    "truncate",
                ];
                (Some(scaling), keys)
            }
            "longrope" => {
                let (short, long) = (reader.list("short_factor")?, reader.list("long_factor")?);
                if short != long {
                    let name = format!("{key}.long_factor");
                    return Err(unsupported(&name, "not the short_factor", "one list for both"));
                }
                // What is absent follows from the lengths, as in transformers.
                let factor = match reader.number("factor")? {
                    Some(factor) => factor,
                    None => max_positions as f64 / original()? as f64,
                };
                let attention = reader.number("attention_factor")?;
                if attention.unwrap_or(if factor <= 1.0 { 1.0 } else { factor }) != 1.0 {
                    let found = attention.map_or("absent".to_owned(), |a| a.to_string());
                    return Err(unsupported(&format!("{key}.attention_factor"), &found, "1"));
                }
                let keys = &["short_factor", "long_factor", "factor", "attention_factor", ORIGINAL];
                (Some(Self::Divisors(short)), keys)
            }
            other => {
                let expected = "default, linear, llama3, yarn or longrope";
                return Err(unsupported(&format!("{key}.rope_type"), other, expected));
            }
        };
        // The rest changes something that is not known here, but for what stands elsewhere too.
        let general = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
        let unknown = object.iter().find(|(name, value)| {
            let known = general.contains(&name.as_str()) || keys.contains(&name.as_str());
            !known && if scaling.is_some() { !value.is_null() } else { value.is_object() }
        });
        if let Some((name, value)) = unknown {
            let found = value.to_string();
            let expected = format!("no such key for {kind}");
            return Err(unsupported(&format!("{key}.{name}"), &found, &expected));
        }
        if let Some(scaling) = &scaling {
            scaling.check()?;
        }
        Ok(scaling)
    }

    /// Checks that the numbers give frequencies.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) naming the first that does not.
    pub fn check(&self) -> Result<()> {
        let bad = |what: &str| Err(malformed("rope_scaling", what));
        let positive = |numbers: &[(&str, f64)]| match numbers
            .iter()
            .find(|(_, number)| !number.is_finite() || *number <= 0.0)
        {
            Some((name, number)) => bad(&format!("of {name} {number}, expected a positive number")),
            None => Ok(()),
        };
        match self {
            Self::Linear { factor } => positive(&[("factor", *factor)]),
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            } => {
                positive(&[
                    ("factor", *factor),
                    ("low_freq_factor", *low),
                    ("high_freq_factor", *high),
                    ("original_max_position_embeddings", *original as f64),
                ])?;
                if high <= low {
                    return bad(&format!("of high_freq_factor {high}, expected more than {low}"));
                }
                Ok(())
            }
            Self::Yarn {
                factor,
                original_max_position_embeddings: original,
                beta_fast,
                beta_slow,
                attention_factor,
                ..
            } => positive(&[
                ("factor", *factor),
                ("original_max_position_embeddings", *original as f64),
                ("beta_fast", *beta_fast),
                ("beta_slow", *beta_slow),
                ("attention_factor", *attention_factor),
            ]),
            Self::Divisors(divisors) if divisors.len() > MOST_DIVISORS => {
                bad(&format!("of {} factors, expected at most {MOST_DIVISORS}", divisors.len()))
            }
            Self::Divisors(divisors) => {
                let row: Vec<_> = divisors.iter().map(|&d| ("a factor", d)).collect();
                positive(&row)
            }
        }
    }

    /// The value of `rope_scaling` of a model of `max_positions`, as transformers reads it.
    pub fn to_json(&self, max_positions: usize) -> Value {
        match self {
            Self::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
            Self::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
            } => json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original_max_position_embeddings,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "attention_factor": attention_factor,
                "truncate": truncate,
            }),
            Self::Divisors(divisors) => json!({
                "rope_type": "longrope",
                "short_factor": divisors,
                "long_factor": divisors,
                "attention_factor": 1.0,
                "factor": 1.0,
                "original_max_position_embeddings": max_positions,
            }),
        }
    }
}

/// The keys of one object, with errors that name it.
struct Reader<'a> {
    key: &'a str,
    object: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| self.wrong(name, "a number")),
        }
    }

    fn needed(&self, name: &str) -> Result<f64> {
        self.number(name)?.ok_or_else(|| self.wrong(name, "a number"))
    }

    fn flag(&self, name: &str, absent: bool) -> Result<bool> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(absent),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(name, "true or false")),
        }
    }

    fn positions(&self, name: &str, absent: usize) -> Result<usize> {
        let Some(number) = self.number(name)? else { return Ok(absent) };
        let whole = number.fract() == 0.0 && (1.0..=(1u64 << 32) as f64).contains(&number);
        if whole { Ok(number as usize) } else { Err(self.wrong(name, "a number of tokens")) }
    }

    fn list(&self, name: &str) -> Result<Vec<f64>> {
        let wrong = || self.wrong(name, "a list of numbers");
        let list = self.object.get(name).and_then(Value::as_array).ok_or_else(wrong)?;
        if list.len() > MOST_DIVISORS {
            return Err(wrong());
        }
        list.iter().map(|value| value.as_f64().ok_or_else(wrong)).collect()
    }

    /// As transformers takes it: said, or from `mscale` and `mscale_all_dim`, or from the factor.
    fn yarn_attention_factor(&self, factor: f64) -> Result<f64> {
        if let Some(said) = self.number("attention_factor")? {
            return Ok(said);
        }
        let scales = [self.number("mscale")?, self.number("mscale_all_dim")?];
        let [Some(one), Some(all)] = scales.map(|scale| scale.filter(|&scale| scale != 0.0)) else {
            return Ok(RopeScaling::yarn_attention_factor(factor));
        };
        let of = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        Ok(of(one) / of(all))
    }

    fn wrong(&self, name: &str, expected: &str) -> crate::Error {
        let found = self.object.get(name).map_or("absent".to_owned(), Value::to_string);
        let found: String = found.chars().take(60).collect();
        malformed(&format!("{}.{name}", self.key), &format!("{found}, expected {expected}"))
    }
}
