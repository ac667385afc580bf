//! `cargo xtask score estimate`: the prices of `orion estimate` beside published measurements.

mod measured;
mod pipelines;
mod programs;

use std::fmt::Write as _;

/// Rows of one table that somebody published.
struct Series {
    /// What was measured, and on what chip.
    title: &'static str,
    /// Who published it.
    source: &'static str,
    rows: Vec<Row>,
}

/// One measurement.
struct Row {
    what: String,
    measured_us: f64,
    estimated_us: f64,
    /// Why it is far off, where it is.
    note: &'static str,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.estimated_us / self.measured_us
    }
}

/// Whether a row was used to choose the model's numbers: every second of a table, beginning with
/// the first. A table of one row is never used.
fn is_fitted(series: &Series, row: usize) -> bool {
    series.rows.len() > 1 && row.is_multiple_of(2)
}

/// How far estimates are from measurements that were not used to make them.
pub(crate) struct Score {
    /// Measurements that were not used.
    pub(crate) checked: usize,
    /// Their median distance, as a part of the measurement.
    pub(crate) median: f64,
    /// The median distance of those that were used.
    pub(crate) fitted_median: f64,
    /// Rows, used or not, that are more than a factor of two off and have no explanation.
    pub(crate) unexplained: Vec<String>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

fn score_of(all: &[Series]) -> Score {
    let (mut checked, mut fitted, mut unexplained) = (Vec::new(), Vec::new(), Vec::new());
    for series in all {
        for (i, row) in series.rows.iter().enumerate() {
            let off = (row.ratio() - 1.0).abs();
            if is_fitted(series, i) {
                fitted.push(off)
            } else {
                checked.push(off)
            };
            if !(0.5..=2.0).contains(&row.ratio()) && row.note.is_empty() {
                unexplained.push(format!("{}: {}", series.title, row.what));
            }
        }
    }
    Score {
        checked: checked.len(),
        median: median(checked),
        fitted_median: median(fitted),
        unexplained,
    }
}

/// The score, and `docs/cost-model.md`.
pub(crate) fn score() -> (Score, String) {
    let all = measured::all();
    let score = score_of(&all);
    let page = page(&all, &score);
    (score, page)
}

fn page(all: &[Series], score: &Score) -> String {
    let mut text = include_str!("cost-model-head.md").to_owned();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        writeln!(text, "{arguments}").expect("writing to a string");
    };
    let rows: usize = all.iter().map(|s| s.rows.len()).sum();
    line(format_args!("\n## How good it is\n"));
    line(format_args!(
        "Of {rows} published measurements {} were used to choose the numbers above and {} were not.\nThe median distance is {:.0} % for those that were not used, and {:.0} % for those that were.\n",
        rows - score.checked,
        score.checked,
        score.median * 100.0,
        score.fitted_median * 100.0,
    ));
    line(format_args!(
        "Every second row of each table was used, beginning with the first; a table of one row never was.\n`cargo xtask score estimate` prints this page, and a test compares it.\n"
    ));
    for series in all {
        line(format_args!("### {}\n\n{}\n", series.title, series.source));
        line(format_args!("| | measured | estimated | ratio | used |"));
        line(format_args!("|---|---:|---:|---:|---|"));
        for (i, row) in series.rows.iter().enumerate() {
            let used = if is_fitted(series, i) { "yes" } else { "" };
            line(format_args!(
                "| {} | {} | {} | {:.2} | {used} |",
                row.what,
                time(row.measured_us),
                time(row.estimated_us),
                row.ratio()
            ));
        }
        line(format_args!(""));
        let mut notes: Vec<&str> = series.rows.iter().map(|r| r.note).collect();
        notes.dedup();
        for note in notes.into_iter().filter(|n| !n.is_empty()) {
            line(format_args!("{note}\n"));
        }
    }
    format!("{}\n", text.trim_end())
}

fn time(us: f64) -> String {
    if us >= 9999.5 { format!("{:.1} ms", us / 1e3) } else { format!("{us:.0} µs") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_near_measurements() {
        let (score, page) = score();
        assert!(score.checked >= 30, "{}", score.checked);
        assert!(score.median < 0.15, "{}", score.median);
        assert!(score.unexplained.is_empty(), "{:#?}", score.unexplained);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cost-model.md");
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            page,
            "docs/cost-model.md is not what `cargo xtask score estimate` writes"
        );
    }

    #[test]
    fn halves_and_medians() {
        let row =
            |estimated_us| Row { what: String::new(), measured_us: 10.0, estimated_us, note: "" };
        let series = |rows| Series { title: "t", source: "s", rows };
        let score =
            score_of(&[series(vec![row(10.0), row(11.0), row(30.0)]), series(vec![row(14.0)])]);
        assert_eq!((score.checked, score.unexplained.len()), (2, 1));
        assert!((score.median - 0.25).abs() < f64::EPSILON);
        assert!((score.fitted_median - 1.0).abs() < f64::EPSILON);
    }
}
