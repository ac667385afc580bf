//! The limits by themselves.

use crate::{Limits, MachineRates, Summary, TestResult, Unit};

/// Measures every limit that many times. Gives the medians, and a result for each.
pub fn measure_machine(
    limits: &mut dyn Limits,
    threads: usize,
    repetitions: usize,
) -> (MachineRates, Vec<TestResult>) {
    let mut samples: [Vec<f64>; 4] = Default::default();
    for _ in 0..repetitions.max(1) {
        samples[0].push(limits.f32_flops());
        samples[1].extend(limits.bf16_flops());
        samples[2].push(limits.read_bandwidth());
        samples[3].push(limits.adamw_bandwidth());
    }
    limits.release();
    let names = [
        ("multiply-add", "f32", Unit::Gigaflops),
        ("multiply-add", "bf16", Unit::Gigaflops),
        ("read", "f32", Unit::GigabytesPerSecond),
        ("AdamW stream", "f32", Unit::GigabytesPerSecond),
    ];
    let result = |(values, (test, precision, unit)): (&Vec<f64>, (&str, &str, Unit))| {
        if values.is_empty() {
            return None;
        }
        let values: Vec<f64> = values.iter().map(|v| v / 1e9).collect();
        let summary = Summary::of(&values);
        Some(TestResult {
            test: test.to_owned(),
            model: String::new(),
            precision: precision.to_owned(),
            split: None,
            device: "machine".to_owned(),
            threads,
            batch: None,
            tokens: None,
            median: summary.median,
            best: summary.most,
            spread: summary.spread,
            unit,
            share_of_limit: None,
            unsteady_repetitions: 0,
            peak_rss_bytes: None,
            parameters: None,
            size_bytes: None,
            repetitions: values.len(),
            warm_up: 0,
            samples: values,
            compared: None,
        })
    };
    let results: [Option<TestResult>; 4] = {
        let mut all = samples.iter().zip(names).map(result);
        std::array::from_fn(|_| all.next().flatten())
    };
    let median = |i: usize| results[i].as_ref().map(|r| r.median);
    let rates = MachineRates {
        threads,
        f32_gflops: median(0).unwrap_or_default(),
        bf16_gflops: median(1),
        read_gb_per_s: median(2).unwrap_or_default(),
        adamw_gb_per_s: median(3).unwrap_or_default(),
    };
    (rates, results.into_iter().flatten().collect())
}
