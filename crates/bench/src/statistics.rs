//! What a handful of repeated measurements say.

use serde::{Deserialize, Serialize};

/// Median, best and spread of repeated measurements of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// Half the distance between the quartiles: half of all values are about this near the
    /// median. One that was disturbed does not change it much.
    pub spread: f64,
}

impl Summary {
    /// # Panics
    /// When there are no values.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            median: quantile(&sorted, 0.5),
            least: sorted[0],
            most: sorted[sorted.len() - 1],
            spread: (quantile(&sorted, 0.75) - quantile(&sorted, 0.25)) / 2.0,
        }
    }
}

/// The middle value, or the mean of the two in the middle.
///
/// # Panics
/// When there are no values.
pub fn median(values: &[f64]) -> f64 {
    Summary::of(values).median
}

/// Linear between the values around the place.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles() {
        let s = Summary::of(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(s, Summary { median: 3.0, least: 1.0, most: 5.0, spread: 1.0 });
        let s = Summary::of(&[1.0, 2.0]);
        assert_eq!(s, Summary { median: 1.5, least: 1.0, most: 2.0, spread: 0.25 });
        let s = Summary::of(&[7.0]);
        assert_eq!(s, Summary { median: 7.0, least: 7.0, most: 7.0, spread: 0.0 });
    }

    #[test]
    fn one_disturbed_value_does_not_show() {
        let s = Summary::of(&[1.0, 1.0, 1.0, 1.0, 900.0]);
        assert_eq!((s.median, s.spread), (1.0, 0.0));
    }
}
