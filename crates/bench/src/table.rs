//! Reports for people, with the columns of llama-bench and some more.

use crate::{MachineInfo, Report, Summary, TestResult, UNSTEADY};
use std::fmt::Write as _;

/// Results with a share from which on their median is worth a line.
const MANY: usize = 4;

/// Columns lined up with spaces.
pub fn text(report: &Report) -> String {
    render(report, "", "  ", "")
}

/// A Markdown table that can stand below one of llama-bench.
pub fn markdown(report: &Report) -> String {
    render(report, "| ", " | ", " |")
}

fn render(report: &Report, before: &str, between: &str, after: &str) -> String {
    let is_markdown = !before.is_empty();
    let mut out = String::new();
    for line in machine_lines(&report.machine) {
        out += &line;
        // Two spaces are a line break in Markdown.
        out += if is_markdown { "  \n" } else { "\n" };
    }
    out.push('\n');
    let columns = columns(&report.results);
    let widths: Vec<usize> = columns
        .iter()
        .map(|c| c.cells.iter().map(|s| s.chars().count()).max().unwrap_or(0).max(c.title.len()))
        .collect();
    let mut row = |cells: Vec<&str>| {
        let padded: Vec<String> =
            columns
                .iter()
                .zip(cells.iter().zip(&widths))
                .map(|(c, (cell, &width))| {
                    if c.is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                })
                .collect();
        let line = format!("{before}{}{after}", padded.join(between));
        out += line.trim_end();
        out.push('\n');
    };
    row(columns.iter().map(|c| c.title).collect());
    if is_markdown {
        let rules: Vec<String> = columns
            .iter()
            .zip(&widths)
            .map(|(c, &width)| {
                let dashes = "-".repeat(width - 1);
                if c.is_number { format!("{dashes}:") } else { format!("{dashes}-") }
            })
            .collect();
        row(rules.iter().map(String::as_str).collect());
    }
    for i in 0..report.results.len() {
        row(columns.iter().map(|c| c.cells[i].as_str()).collect());
    }
    let notes = notes(&report.results);
    if !notes.is_empty() {
        let _ = write!(out, "\n{}\n", notes.join("\n"));
    }
    out
}

fn machine_lines(machine: &MachineInfo) -> Vec<String> {
    let cpu = machine.cpu.as_deref().unwrap_or(&machine.architecture);
    let commit = machine.commit.as_ref().map_or(String::new(), |c| format!(" ({c})"));
    let mut lines = vec![format!(
        "{cpu}, {}, {} threads, {}; orion {}{commit}",
        machine.instructions, machine.threads, machine.system, machine.version
    )];
    for rates in &machine.limits {
        let bf16 = rates.bf16_gflops.map_or(String::new(), |r| format!(", bf16 {r:.0} GFLOP/s"));
        lines.push(format!(
            "limits of {} {}: fp32 {:.0} GFLOP/s{bf16}, reading {:.1} GB/s, AdamW {:.1} GB/s",
            rates.threads,
            if rates.threads == 1 { "thread" } else { "threads" },
            rates.f32_gflops,
            rates.read_gb_per_s,
            rates.adamw_gb_per_s
        ));
    }
    lines
}

struct Column {
    title: &'static str,
    is_number: bool,
    cells: Vec<String>,
}

/// Columns in which every cell is empty are left out.
fn columns(results: &[TestResult]) -> Vec<Column> {
    let column = |title, is_number, cell: fn(&TestResult) -> String| Column {
        title,
        is_number,
        cells: results.iter().map(cell).collect(),
    };
    let mebibytes = |bytes: Option<u64>| {
        bytes.map_or(String::new(), |b| format!("{:.2} MiB", b as f64 / f64::from(1 << 20)))
    };
    let mut columns = vec![
        column("model", false, |r| r.model.clone()),
        Column {
            title: "size",
            is_number: true,
            cells: results.iter().map(|r| mebibytes(r.size_bytes)).collect(),
        },
        column("params", true, |r| {
            r.parameters.map_or(String::new(), |p| format!("{:.2} M", p as f64 / 1e6))
        }),
        column("precision", false, |r| r.precision.clone()),
        column("device", false, |r| r.device.clone()),
        column("split", false, |r| r.split.clone().unwrap_or_default()),
        column("threads", true, |r| r.threads.to_string()),
        column("test", false, |r| r.test.clone()),
        column("result", true, |r| format!("{:.2} ± {:.2} {}", r.median, r.spread, r.unit.name())),
        column("share", true, |r| {
            let mark = if r.unsteady_repetitions > 0 { "*" } else { "" };
            r.share_of_limit.map_or(String::new(), |s| format!("{s:.2}{mark}"))
        }),
        Column {
            title: "peak memory",
            is_number: true,
            cells: results.iter().map(|r| mebibytes(r.peak_rss_bytes)).collect(),
        },
        column("ratio", true, |r| {
            r.compared.map_or(String::new(), |c| {
                format!("{:.2}x{}", c.ratio, if c.slower { " slower" } else { "" })
            })
        }),
    ];
    columns.retain(|c| c.cells.iter().any(|cell| !cell.is_empty()));
    columns
}

fn notes(results: &[TestResult]) -> Vec<String> {
    let mut notes = Vec::new();
    let shares: Vec<f64> = results.iter().filter_map(|r| r.share_of_limit).collect();
    if shares.len() >= MANY {
        let summary = Summary::of(&shares);
        notes.push(format!("share: median {:.2}, least {:.2}", summary.median, summary.least));
    }
    let unsteady: usize = results.iter().map(|r| r.unsteady_repetitions).sum();
    if unsteady > 0 {
        let all: usize = results.iter().map(|r| r.repetitions).sum();
        notes.push(format!(
            "* the limits before and after {unsteady} of {all} repetitions were more than \
             {UNSTEADY}x apart; those do not count where others do"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{report, result};
    use crate::{Compared, Unit};

    fn example() -> Report {
        let train = TestResult { unsteady_repetitions: 1, ..result("train 1x256") };
        let compared = Some(Compared { median_before: 9.0, ratio: 0.5, slower: true });
        let decode = TestResult {
            unit: Unit::TokensPerSecond,
            share_of_limit: None,
            compared,
            ..result("tg128")
        };
        report(vec![train, decode])
    }

    #[test]
    fn a_table_of_spaces() {
        assert_eq!(
            text(&example()),
            "\
Some CPU, AVX2, 2 threads, linux; orion 0.1.0
limits of 2 threads: fp32 500 GFLOP/s, reading 70.0 GB/s, AdamW 60.0 GB/s

model        size    params  precision  device  threads  test                        result  share  peak memory         ratio
m      417.82 MiB  109.53 M  f32        cpu           2  train 1x256        10.00 ± 0.50 ms  0.75*  1024.00 MiB
m      417.82 MiB  109.53 M  f32        cpu           2  tg128        10.00 ± 0.50 tokens/s         1024.00 MiB  0.50x slower

* the limits before and after 1 of 6 repetitions were more than 1.3x apart; those do not count where others do
"
        );
    }

    #[test]
    fn a_table_of_markdown() {
        let text = markdown(&example());
        let rows: Vec<&str> = text.lines().filter(|l| l.starts_with('|')).collect();
        assert_eq!(rows.len(), 4);
        let bars = |row: &str| row.matches('|').count();
        assert!(rows.iter().all(|row| bars(row) == bars(rows[0])), "{text}");
        assert!(rows[0].starts_with("| model |"), "{text}");
        assert!(rows[1].starts_with("| ----- | ---------: |"), "{text}");
    }
}
