use crate::{Error, LargeActivation, Result};
use orion_runtime::NumericEvents;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// `metrics.jsonl` of a run directory: one JSON object a line, appended and flushed as things
/// happen. It is the source of truth for every display.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Updates made before this one.
    pub step: u64,
    /// Mean loss of the step's tokens before the update, in nats.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Tokens trained on since the run began, this step included.
    pub tokens: u64,
    /// Tokens of this step over its time.
    pub tokens_per_s: f64,
    /// Time of the step in milliseconds.
    pub ms: f64,
    /// Whether the update was left out because a gradient was not finite.
    pub skipped: bool,
    /// Factor the loss was scaled by.
    pub loss_scale: f64,
    /// What a device that counts it did to numbers in the step.
    pub numbers: NumericEvents,
    /// Of a step on two devices, the first of which counts them: the share of products in backward
    /// passes of layers that were too small to enter their sum.
    pub dropped: Option<f64>,
    /// Of a step on two devices: which part first had a sum outside the accumulator's range.
    pub overflowed_in: Option<String>,
    /// Of a skipped step on two devices: which part first made what is no number.
    pub not_finite: Option<String>,
    /// Of a step on two devices: the first activations that are too large for norms in fp16.
    pub large: Option<LargeActivation>,
}

/// JSON has no NaN or infinity; they become null.
fn number(v: f64) -> Value {
    serde_json::Number::from_f64(v).map_or(Value::Null, Value::Number)
}

impl MetricsFile {
    /// Opens the file of a run that stands at `step`. Lines of steps that are still to come, and
    /// a last line that was cut by a crash, are dropped.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let io = |e| Error::io(path, e);
        if path.exists() {
            let text = fs::read_to_string(path).map_err(io)?;
            let kept: String = text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n') && is_before(line, step))
                .collect();
            if kept.len() != text.len() {
                let temporary = path.with_extension("jsonl.tmp");
                fs::write(&temporary, kept).map_err(io)?;
                fs::rename(&temporary, path).map_err(io)?;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn append(&mut self, object: &Value) -> Result<()> {
        let line = format!("{object}\n");
        self.file.write_all(line.as_bytes()).map_err(|e| Error::io(&self.path, e))
    }

    /// Appends a step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn step(&mut self, r: &StepReport) -> Result<()> {
        let mut line = json!({
            "type": "step",
            "step": r.step,
            "loss": number(r.loss),
            "grad_norm": number(r.grad_norm),
            "lr": r.lr,
            "tokens": r.tokens,
            "tokens_per_s": number(r.tokens_per_s),
            "ms": r.ms,
            "skipped": r.skipped,
            "loss_scale": r.loss_scale,
        });
        if r.numbers != NumericEvents::default() {
            line["overflowed"] = r.numbers.overflowed.into();
            line["flushed"] = r.numbers.flushed.into();
        }
        if let Some(share) = r.dropped {
            line["dropped"] = share.into();
        }
        for (key, part) in [("overflowed_in", &r.overflowed_in), ("not_finite", &r.not_finite)] {
            if let Some(part) = part {
                line[key] = part.as_str().into();
            }
        }
        if let Some(large) = &r.large {
            line["large"] = number(large.value);
            line["large_in"] = large.part.as_str().into();
        }
        self.append(&line)
    }

    /// Appends an evaluation of the weights after `step` updates.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn evaluation(&mut self, step: u64, loss: f64) -> Result<()> {
        self.append(&json!({"type": "eval", "step": step, "eval_loss": number(loss)}))
    }
}

/// Whether a line tells of something before `step`; an evaluation at `step` itself is kept, it
/// was of the weights the run stands at.
fn is_before(line: &str, step: u64) -> bool {
    let Ok(object) = serde_json::from_str::<Value>(line) else { return false };
    match (object["type"].as_str(), object["step"].as_u64()) {
        (Some("eval"), Some(s)) => s <= step,
        (_, Some(s)) => s < step,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reopening_drops_what_is_to_come_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let mut m = MetricsFile::open(&path, 0).unwrap();
        let mut report = StepReport {
            step: 0,
            loss: 2.0,
            grad_norm: f64::NAN,
            lr: 0.1,
            tokens: 8,
            tokens_per_s: 1.0,
            ms: 1.0,
            skipped: true,
            loss_scale: 1.0,
            numbers: NumericEvents::default(),
            dropped: None,
            overflowed_in: None,
            not_finite: None,
            large: None,
        };
        for step in 0..4 {
            report.step = step;
            m.step(&report).unwrap();
        }
        m.evaluation(2, 1.5).unwrap();
        m.file.write_all(b"{\"type\":\"step\",\"st").unwrap();
        drop(m);
        MetricsFile::open(&path, 2).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let kept: Vec<_> = lines
            .iter()
            .map(|l| (l["type"].as_str().unwrap(), l["step"].as_u64().unwrap()))
            .collect();
        assert_eq!(kept, [("step", 0), ("step", 1), ("eval", 2)]);
        assert!(lines[0]["grad_norm"].is_null());
    }
}
