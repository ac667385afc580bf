//! A report beside an earlier one.

use crate::{Compared, Report, TestResult};

/// How much slower is worth telling.
const SLOWER: f64 = 1.1;

/// Fills in [`TestResult::compared`] wherever `before` has the same test of the same model with
/// the same devices and split, precision, threads, batch and tokens. Returns how many there were.
pub fn compare(before: &Report, after: &mut Report) -> usize {
    let mut found = 0;
    for result in &mut after.results {
        result.compared =
            before.results.iter().find(|b| is_same_test(b, result)).map(|b| beside(b, result));
        found += usize::from(result.compared.is_some());
    }
    found
}

fn is_same_test(a: &TestResult, b: &TestResult) -> bool {
    fn key(r: &TestResult) -> impl PartialEq {
        let names = (r.test.clone(), r.model.clone(), r.precision.clone(), r.device.clone());
        (names, (r.split.clone(), r.threads, r.batch, r.tokens, r.unit.name()))
    }
    key(a) == key(b)
}

/// The slowest and fastest that median and spread allow for.
fn speeds(result: &TestResult) -> [f64; 2] {
    let (low, high) = (result.median - result.spread, result.median + result.spread);
    if result.unit.less_is_better() { [1.0 / high, 1.0 / low] } else { [low, high] }
}

fn beside(before: &TestResult, after: &TestResult) -> Compared {
    let quotient = after.median / before.median;
    let ratio = if after.unit.less_is_better() { quotient.recip() } else { quotient };
    let ([slowest_before, _], [_, fastest_now]) = (speeds(before), speeds(after));
    let slower = ratio * SLOWER < 1.0 && fastest_now < slowest_before;
    Compared { median_before: before.median, ratio, slower }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{report, result};
    use crate::{TestResult, Unit};

    fn compared(unit: Unit, before: (f64, f64), after: (f64, f64)) -> Compared {
        let one = |(median, spread)| TestResult { median, spread, unit, ..result("t") };
        let mut now = report(vec![one(after)]);
        assert_eq!(compare(&report(vec![one(before)]), &mut now), 1);
        now.results[0].compared.unwrap()
    }

    #[test]
    fn slower_needs_ten_percent_and_more_than_the_spreads() {
        let time = |before, after| compared(Unit::Milliseconds, before, after);
        let speed = |before, after| compared(Unit::TokensPerSecond, before, after);
        // (before, after, ratio, slower)
        assert_eq!(
            time((100.0, 0.0), (125.0, 0.0)),
            Compared { median_before: 100.0, ratio: 0.8, slower: true }
        );
        assert_eq!(
            speed((100.0, 0.0), (80.0, 0.0)),
            Compared { median_before: 100.0, ratio: 0.8, slower: true }
        );
        // Not 10 %.
        assert!(!time((100.0, 0.0), (109.0, 0.0)).slower);
        assert!(!speed((100.0, 0.0), (92.0, 0.0)).slower);
        // The spreads meet.
        assert!(!time((100.0, 15.0), (125.0, 15.0)).slower);
        assert!(!speed((100.0, 12.0), (80.0, 10.0)).slower);
        assert!(time((100.0, 10.0), (125.0, 10.0)).slower);
        // Faster.
        let faster = time((100.0, 0.0), (50.0, 0.0));
        assert_eq!((faster.ratio, faster.slower), (2.0, false));
        assert!(!speed((100.0, 0.0), (200.0, 0.0)).slower);
    }

    #[test]
    fn only_the_same_test_is_compared() {
        let one = result("t");
        let others = [
            TestResult { test: "other".into(), ..one.clone() },
            TestResult { model: "other".into(), ..one.clone() },
            TestResult { precision: "bf16".into(), ..one.clone() },
            TestResult { device: "other".into(), ..one.clone() },
            TestResult { split: Some("attention".into()), ..one.clone() },
            TestResult { threads: 64, ..one.clone() },
            TestResult { batch: Some(64), ..one.clone() },
            TestResult { tokens: Some(64), ..one.clone() },
            TestResult { unit: Unit::GigabytesPerSecond, ..one.clone() },
        ];
        let mut now = report(vec![one.clone()]);
        assert_eq!(compare(&report(others.to_vec()), &mut now), 0);
        assert_eq!(now.results[0].compared, None);
        assert_eq!(compare(&report(vec![one]), &mut now), 1);
        assert_eq!(now.results[0].compared.map(|c| c.ratio), Some(1.0));
    }
}
