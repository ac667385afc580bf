use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// The version of `state.json` that is written and read.
const FORMAT_VERSION: u32 = 1;

/// Everything but tensors that a run needs to go on as if it had never stopped: the contents of
/// `state.json` in a checkpoint. Unknown keys are refused, because a key that is ignored is a run
/// that goes on differently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointState {
    /// Always the version this program writes; other versions are refused.
    pub format_version: u32,
    /// Optimizer steps made.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Forward and backward passes made; those since the last step are not part of a checkpoint.
    pub micro_batches: u64,
    /// Where the next training sequence comes from.
    pub data: DataState,
    /// Random generators by what they are for, as the words of their state.
    pub random: BTreeMap<String, Vec<HexU64>>,
    /// The loss scale and what decides about it.
    pub loss_scale: LossScaleState,
    /// The learning rate schedule, so that a resumed run can see whether it still follows it.
    pub schedule: ScheduleState,
    /// Sizes in bytes of the other files of the checkpoint. Filled in when it is written.
    #[serde(default)]
    pub files: BTreeMap<String, u64>,
}

/// A position in training data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataState {
    /// The token file, as the configuration names it.
    pub file: String,
    /// Tokens in that file, so that a changed file is noticed.
    pub file_tokens: u64,
    /// Tokens of one training sequence, which is what positions count in.
    pub window_tokens: u64,
    /// Passes over the file that are complete.
    pub epoch: u64,
    /// Sequences of this pass already given.
    pub window: u64,
    /// The order of sequences within a pass, as the configuration names it.
    pub order: String,
    /// With [`DataState::epoch`], decides the permutation of a pass.
    pub seed: HexU64,
}

/// The loss scale and what decides about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScaleState {
    /// What the loss is multiplied by.
    pub scale: f64,
    /// Finite steps since the scale changed or a step was skipped.
    pub finite_steps: u64,
    /// Steps skipped because a gradient was not finite.
    pub skipped_steps: u64,
}

/// A learning rate schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleState {
    /// Its kind, as the configuration names it.
    pub kind: String,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps until that is reached.
    pub warmup_steps: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// The last learning rate as a part of the highest.
    pub final_fraction: f64,
}

/// 64 bits, written as `0x` and 16 hexadecimal digits: other programs read JSON numbers as f64,
/// which does not hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HexU64(pub u64);

impl Serialize for HexU64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#018x}", self.0))
    }
}

impl<'de> Deserialize<'de> for HexU64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text
            .strip_prefix("0x")
            .filter(|d| d.len() == 16 && d.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        value.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "expected 0x and 16 hexadecimal digits, found {text:?}"
            ))
        })
    }
}

impl CheckpointState {
    /// The version that [`CheckpointState::format_version`] has.
    pub const FORMAT_VERSION: u32 = FORMAT_VERSION;

    /// Reads `state.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for another format version; [`ErrorKind::Malformed`], naming the
    /// key and line, when keys are missing, unknown or of another type; [`ErrorKind::Truncated`]
    /// when the file ends in the middle.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let error = |e: serde_json::Error| {
            let kind = if e.is_eof() { ErrorKind::Truncated } else { ErrorKind::Malformed };
            Error::new(kind, format!("state.json: {e}"))
        };
        // First, because the keys of another version would be reported as unknown.
        let Version { format_version } = serde_json::from_slice(bytes).map_err(error)?;
        if format_version != FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("state.json of format version {format_version}, expected {FORMAT_VERSION}"),
            ));
        }
        serde_json::from_slice(bytes).map_err(error)
    }

    /// Writes `state.json`. Numbers survive exactly.
    ///
    /// # Errors
    /// [`ErrorKind::NotRepresentable`] when a number is NaN or infinite, which JSON lacks.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        for (name, value) in [
            ("loss_scale.scale", self.loss_scale.scale),
            ("schedule.learning_rate", self.schedule.learning_rate),
            ("schedule.final_fraction", self.schedule.final_fraction),
        ] {
            if !value.is_finite() {
                return Err(Error::new(
                    ErrorKind::NotRepresentable,
                    format!("{name} of the checkpoint state is {value}"),
                ));
            }
        }
        let mut json =
            serde_json::to_vec_pretty(self).expect("finite numbers and strings are JSON");
        json.push(b'\n');
        Ok(json)
    }
}
