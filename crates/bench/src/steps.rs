//! Where the time of a program goes, step by step, beside what each step could take at least.
//!
//! Steps that do the same work, as those of a network's layers, are one row.

use crate::{Rates, median};
use orion_runtime::{Executable, StepInfo};
use orion_tensor::DType;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Characters of a row's description; the rest is cut.
const WIDTH: usize = 72;

/// The steps of an executable and the seconds each took in every run.
#[derive(Debug)]
pub(crate) struct StepTimes {
    /// The program's name.
    name: String,
    steps: Vec<StepInfo>,
    runs: Vec<Vec<f64>>,
}

/// Steps that do the same work.
struct Row<'a> {
    step: &'a StepInfo,
    count: usize,
    seconds: f64,
    floor: f64,
}

impl StepTimes {
    pub(crate) fn new(name: &str, executable: &dyn Executable) -> Self {
        Self { name: name.to_owned(), steps: executable.steps(), runs: Vec::new() }
    }

    /// Takes the times of a run.
    pub(crate) fn add(&mut self, seconds: Vec<f64>) {
        self.runs.push(seconds);
    }

    /// The median of each step.
    fn medians(&self) -> Vec<f64> {
        let of = |i: usize| {
            let all: Vec<f64> = self.runs.iter().filter_map(|run| run.get(i).copied()).collect();
            if all.is_empty() { 0.0 } else { median(&all) }
        };
        (0..self.steps.len()).map(of).collect()
    }

    fn rows(&self, rates: &Rates) -> Vec<Row<'_>> {
        let mut places: HashMap<(&str, &str, &str), usize> = HashMap::new();
        let mut rows: Vec<Row<'_>> = Vec::new();
        for (step, seconds) in self.steps.iter().zip(self.medians()) {
            let key = (step.kind, step.form.as_str(), step.reason);
            let place = *places.entry(key).or_insert_with(|| {
                rows.push(Row { step, count: 0, seconds: 0.0, floor: 0.0 });
                rows.len() - 1
            });
            let row = &mut rows[place];
            row.count += 1;
            row.seconds += seconds;
            row.floor += floor(step, rates);
        }
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        rows
    }
}

/// The least seconds for a step whose operands are in memory, not in a cache: its operations or
/// its bytes, whichever take longer. Steps that write are compared with AdamW's mix of reading
/// and writing.
fn floor(step: &StepInfo, rates: &Rates) -> f64 {
    let flops = if step.arithmetic == DType::BF16 { rates.bf16_flops } else { rates.f32_flops };
    let writes = step.written_bytes * 16 > step.read_bytes;
    let bandwidth = if writes { rates.adamw } else { rates.read };
    let bytes = (step.read_bytes + step.written_bytes) as f64;
    (step.flops as f64 / flops).max(bytes / bandwidth)
}

/// A table for a person: all programs, their steps by time, and totals by kind.
pub(crate) fn table(programs: &[StepTimes], rates: &Rates) -> String {
    let mut text = String::new();
    let total: f64 = programs.iter().flat_map(StepTimes::medians).sum();
    let mut kinds: Vec<(&str, usize, f64, f64)> = Vec::new();
    for program in programs {
        let rows = program.rows(rates);
        let seconds: f64 = rows.iter().map(|r| r.seconds).sum();
        let _ = writeln!(
            text,
            "{}: {} steps, {:.2} ms; medians of {} runs",
            program.name,
            program.steps.len(),
            seconds * 1e3,
            program.runs.len()
        );
        let _ = writeln!(
            text,
            "{:>9} {:>6} {:>5} {:>9} {:>9} {:>9} {:>6}  what",
            "ms", "part", "times", "each µs", "GFLOP/s", "GB/s", "share"
        );
        for row in rows {
            let step = row.step;
            let rate =
                |amount: u64| amount as f64 * row.count as f64 / row.seconds.max(1e-12) / 1e9;
            let gflops =
                if step.flops == 0 { String::new() } else { format!("{:.0}", rate(step.flops)) };
            let mut what = format!("{} {}", step.kind, step.form);
            if !step.reason.is_empty() {
                let _ = write!(what, "; apart: {}", step.reason);
            }
            let _ = writeln!(
                text,
                "{:9.3} {:>5.1}% {:5} {:9.1} {gflops:>9} {:9.1} {:6.2}  {} [{}]",
                row.seconds * 1e3,
                100.0 * row.seconds / total,
                row.count,
                row.seconds * 1e6 / row.count as f64,
                rate(step.read_bytes + step.written_bytes),
                row.floor / row.seconds.max(1e-12),
                cut(&what, 2 * WIDTH),
                cut(&step.operations, WIDTH),
            );
            let known = kinds.iter().position(|k| k.0 == step.kind);
            let known = known.unwrap_or_else(|| {
                kinds.push((step.kind, 0, 0.0, 0.0));
                kinds.len() - 1
            });
            let kind = &mut kinds[known];
            (kind.1, kind.2, kind.3) =
                (kind.1 + row.count, kind.2 + row.seconds, kind.3 + row.floor);
        }
        text.push('\n');
    }
    kinds.sort_by(|a, b| b.2.total_cmp(&a.2));
    let all = |f: fn(&(&str, usize, f64, f64)) -> f64| kinds.iter().map(f).sum::<f64>();
    let sum = ("all", kinds.iter().map(|k| k.1).sum(), all(|k| k.2), all(|k| k.3));
    let _ = writeln!(text, "{:>9} {:>6} {:>5} {:>6}  kind", "ms", "part", "times", "share");
    for (name, count, seconds, floor) in kinds.iter().chain([&sum]) {
        let _ = writeln!(
            text,
            "{:9.3} {:>5.1}% {count:5} {:6.2}  {name}",
            seconds * 1e3,
            100.0 * seconds / total,
            floor / seconds.max(1e-12),
        );
    }
    let _ = writeln!(
        text,
        "\nshare: the least time (operations at {:.0} GFLOP/s, or bytes at {:.1} GB/s where only \
         read and {:.1} GB/s where written) over the time taken; more than 1 where data stays in \
         a cache",
        rates.f32_flops / 1e9,
        rates.read / 1e9,
        rates.adamw / 1e9
    );
    text
}

/// The beginning of a text.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: &'static str, form: &str, flops: u64, read_bytes: u64) -> StepInfo {
        StepInfo {
            kind,
            form: form.to_owned(),
            operations: "add_0".to_owned(),
            reason: "",
            flops,
            arithmetic: DType::F32,
            read_bytes,
            written_bytes: 0,
        }
    }

    #[test]
    fn alike_steps_are_one_row_and_totals_add_up() {
        let steps = vec![
            step("product", "2x2x2", 4_000_000, 8),
            step("map", "add", 0, 3_000_000),
            step("product", "2x2x2", 4_000_000, 8),
        ];
        let runs = vec![vec![5e-3, 1e-3, 7e-3], vec![3e-3, 3e-3, 7e-3], vec![5e-3, 2e-3, 9e-3]];
        let times = StepTimes { name: "main".to_owned(), steps, runs };
        let rates = Rates { f32_flops: 1e9, bf16_flops: 2e9, read: 3e9, adamw: 2e9 };
        let text = table(&[times], &rates);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "main: 3 steps, 14.00 ms; medians of 3 runs");
        let words = |i: usize| lines[i].split_whitespace().collect::<Vec<_>>();
        assert_eq!(words(2)[..4], ["12.000", "85.7%", "2", "6000.0"], "{text}");
        // Two times 4 ms of 12.
        assert_eq!(words(2)[6], "0.67", "{text}");
        assert_eq!(words(3)[..3], ["2.000", "14.3%", "1"], "{text}");
        assert_eq!(words(3)[5], "0.50", "{text}");
        assert_eq!(words(8), ["14.000", "100.0%", "3", "0.64", "all"], "{text}");
    }
}
