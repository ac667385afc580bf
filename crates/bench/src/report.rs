//! What a run of benchmarks writes down. The structs are the JSON, key by key.

use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// The machine and everything measured on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Where it was measured.
    pub machine: MachineInfo,
    /// What was measured, in order.
    pub results: Vec<TestResult>,
}

/// A machine at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// What the processor calls itself, where the system says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Such as `x86_64`.
    pub architecture: String,
    /// Such as `linux`.
    pub system: String,
    /// The instruction set the limits were measured with.
    pub instructions: String,
    /// Threads that run at the same time.
    pub threads: usize,
    /// Version of what measured.
    pub version: String,
    /// Its commit, where the build was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// When, in seconds since 1970.
    pub unix_time: u64,
    /// What the machine could do at most then.
    pub limits: Vec<MachineRates>,
}

/// The limits of a number of threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineRates {
    /// Threads working together.
    pub threads: usize,
    /// fp32 multiply-adds, 10⁹ operations a second.
    pub f32_gflops: f64,
    /// bf16 products summed in fp32, 10⁹ operations a second; absent where there is no
    /// instruction for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bf16_gflops: Option<f64>,
    /// Reading from memory, 10⁹ bytes a second.
    pub read_gb_per_s: f64,
    /// The memory accesses of AdamW, 28 bytes a parameter, 10⁹ bytes a second.
    pub adamw_gb_per_s: f64,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Milliseconds of one run.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds of one run.
    #[serde(rename = "us")]
    Microseconds,
    /// Tokens a second.
    #[serde(rename = "tokens/s")]
    TokensPerSecond,
    /// 10⁹ operations a second; a multiply-add is two.
    #[serde(rename = "GFLOP/s")]
    Gigaflops,
    /// 10⁹ bytes a second.
    #[serde(rename = "GB/s")]
    GigabytesPerSecond,
}

impl Unit {
    /// Whether a smaller number is the better one.
    pub fn less_is_better(self) -> bool {
        matches!(self, Self::Milliseconds | Self::Microseconds)
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::TokensPerSecond => "tokens/s",
            Self::Gigaflops => "GFLOP/s",
            Self::GigabytesPerSecond => "GB/s",
        }
    }
}

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// What: `pp512`, `tg128`, `train 1x256`, `gemm dX 768x768x256`.
    pub test: String,
    /// Of which model; empty where there is none.
    pub model: String,
    /// Arithmetic of the matrix products.
    pub precision: String,
    /// What ran it.
    pub device: String,
    /// With two devices, what the first one did: `prefill` or `attention`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Threads of the device.
    pub threads: usize,
    /// Sequences at once, where that means something.
    pub batch: Option<usize>,
    /// Tokens of a sequence, where that means something.
    pub tokens: Option<usize>,
    /// The median of the repetitions.
    pub median: f64,
    /// The best of them.
    pub best: f64,
    /// Half the distance between their quartiles.
    pub spread: f64,
    /// What the numbers count.
    pub unit: Unit,
    /// The least possible time over the time taken, by limits measured beside each repetition;
    /// null where no limit is known.
    pub share_of_limit: Option<f64>,
    /// Repetitions whose share does not count because the limits before and after were more than
    /// 1.3x apart.
    pub unsteady_repetitions: usize,
    /// The most memory the process had; absent where the system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
    /// Numbers that the model was trained to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// Bytes of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Runs measured.
    pub repetitions: usize,
    /// Runs before.
    pub warm_up: usize,
    /// Every repetition, in order.
    pub samples: Vec<f64>,
    /// Beside an earlier report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
}

/// A result beside the one of an earlier report.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The earlier median.
    pub median_before: f64,
    /// Speed now over speed then: above 1 is faster.
    pub ratio: f64,
    /// More than 10 % slower, by more than both spreads.
    pub slower: bool,
}

impl Report {
    /// Reads what [`Report::to_json`] wrote.
    ///
    /// # Errors
    /// When it is not JSON, or keys are missing or of another kind, with the place.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|e| Error::new(ErrorKind::Report, format!("not a report of benchmarks: {e}")))
    }

    /// One line of JSON without a line break.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, strings and lists")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn result(test: &str) -> TestResult {
        TestResult {
            test: test.to_owned(),
            model: "m".to_owned(),
            precision: "f32".to_owned(),
            device: "cpu".to_owned(),
            split: None,
            threads: 2,
            batch: Some(1),
            tokens: Some(256),
            median: 10.0,
            best: 9.0,
            spread: 0.5,
            unit: Unit::Milliseconds,
            share_of_limit: Some(0.75),
            unsteady_repetitions: 0,
            peak_rss_bytes: Some(1 << 30),
            parameters: Some(109_529_856),
            size_bytes: Some(4 * 109_529_856),
            repetitions: 3,
            warm_up: 1,
            samples: vec![9.0, 10.0, 11.0],
            compared: None,
        }
    }

    pub(crate) fn report(results: Vec<TestResult>) -> Report {
        let machine = MachineInfo {
            cpu: Some("Some CPU".to_owned()),
            architecture: "x86_64".to_owned(),
            system: "linux".to_owned(),
            instructions: "AVX2".to_owned(),
            threads: 2,
            version: "0.1.0".to_owned(),
            commit: None,
            unix_time: 1,
            limits: vec![MachineRates {
                threads: 2,
                f32_gflops: 500.0,
                bf16_gflops: None,
                read_gb_per_s: 70.0,
                adamw_gb_per_s: 60.0,
            }],
        };
        Report { machine, results }
    }

    #[test]
    fn json_has_the_keys_that_were_promised() {
        let json: serde_json::Value =
            serde_json::from_str(&report(vec![result("t")]).to_json()).unwrap();
        assert!(json["machine"].is_object());
        let keys: Vec<&str> =
            json["results"][0].as_object().unwrap().keys().map(String::as_str).collect();
        for key in [
            "test",
            "model",
            "precision",
            "threads",
            "batch",
            "tokens",
            "median",
            "best",
            "unit",
            "share_of_limit",
            "peak_rss_bytes",
        ] {
            assert!(keys.contains(&key), "{key} is missing: {keys:?}");
        }
        assert_eq!(json["results"][0]["unit"], "ms");
    }

    #[test]
    fn json_comes_back() {
        let mut one = report(vec![result("t"), result("u")]);
        one.results[1].peak_rss_bytes = None;
        one.results[1].share_of_limit = None;
        let text = one.to_json();
        assert_eq!(Report::from_json(text.as_bytes()).unwrap(), one);
        assert_eq!(text.matches("peak_rss_bytes").count(), 1);
        assert_eq!(text.matches("\"share_of_limit\":null").count(), 1);
    }

    #[test]
    fn other_files_are_refused_with_the_place() {
        for (text, expected) in [
            ("", "line 1 column 0"),
            ("{\"results\": []}", "machine"),
            ("[1]", "invalid"),
            (&report(vec![result("t")]).to_json().replace("\"ms\"", "\"hours\""), "hours"),
        ] {
            let error = Report::from_json(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Report);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
