//! Rotary positions: by which angle a pair of channels turns (Su et al., "RoFormer: Enhanced
//! Transformer with Rotary Position Embedding", 2021).

use crate::WeightIndex;
use orion_formats::RopeScaling;
use orion_mil::composite::RotaryPairs;
use orion_tensor::Tensor;
use std::f64::consts::TAU;

pub(crate) const COSINES: &str = "rotary.cosines";
pub(crate) const SINES: &str = "rotary.sines";

/// How heads are turned by their position.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rotary {
    /// Base of the frequencies.
    pub(crate) theta: f64,
    /// What is done to the frequencies.
    pub(crate) scaling: Option<RopeScaling>,
    /// Channels that turn, all of a head.
    pub(crate) head_dim: usize,
    /// Which channels turn together.
    pub(crate) pairs: RotaryPairs,
    /// Whether heads turn the other way: `(x₁ cos + x₂ sin, x₂ cos - x₁ sin)`.
    pub(crate) reversed: bool,
}

impl Rotary {
    /// Adds the cosines and sines of positions up to `positions`, `[positions, D/2]`.
    pub(crate) fn add_tables(&self, index: &mut WeightIndex, positions: usize) {
        let frequencies = frequencies(self.theta, self.head_dim, self.scaling.as_ref());
        let size = match &self.scaling {
            Some(RopeScaling::Yarn { attention_factor, .. }) => *attention_factor,
            _ => 1.0,
        };
        let sizes = [size, if self.reversed { -size } else { size }];
        let tables = turns(&frequencies, positions, sizes);
        for (name, values) in [COSINES, SINES].into_iter().zip(tables) {
            index.insert(name, Tensor::from_slice(&[positions, frequencies.len()], &values));
        }
    }
}

/// Positions from one exact angle to the next.
const EXACT_EVERY: usize = 64;

/// Cosines and sines of `position · frequency` times `sizes`, position after position. Models for
/// long texts have millions of them, so that most are the ones before turned a step further, which
/// costs 1e-14.
fn turns(frequencies: &[f64], positions: usize, sizes: [f64; 2]) -> [Vec<f32>; 2] {
    let steps: Vec<(f64, f64)> = frequencies.iter().map(|w| w.sin_cos()).collect();
    let count = positions * frequencies.len();
    let (mut cosines, mut sines) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut now: Vec<(f64, f64)> = Vec::new();
    for position in 0..positions {
        if position % EXACT_EVERY == 0 {
            now = frequencies.iter().map(|w| (position as f64 * w).sin_cos()).collect();
        }
        for ((sine, cosine), (step_sine, step_cosine)) in now.iter_mut().zip(&steps) {
            cosines.push((sizes[0] * *cosine) as f32);
            sines.push((sizes[1] * *sine) as f32);
            let next = *sine * step_cosine + *cosine * step_sine;
            *cosine = *cosine * step_cosine - *sine * step_sine;
            *sine = next;
        }
    }
    [cosines, sines]
}

/// The angle of each of the `D/2` pairs of channels from one position to the next.
///
/// # Panics
/// When there are not as many divisors as pairs.
pub(crate) fn frequencies(theta: f64, head_dim: usize, scaling: Option<&RopeScaling>) -> Vec<f64> {
    let half = head_dim / 2;
    let plain = (0..half).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64));
    // What is between stays by `share`, the rest of it is divided by `factor`.
    let mixed = |w: f64, factor: f64, share: f64| (1.0 - share) * w / factor + share * w;
    match scaling {
        None => plain.collect(),
        Some(RopeScaling::Linear { factor }) => plain.map(|w| w / factor).collect(),
        Some(RopeScaling::Divisors(divisors)) => {
            assert_eq!(divisors.len(), half, "a divisor for each frequency");
            plain.zip(divisors).map(|(w, divisor)| w / divisor).collect()
        }
        Some(&RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        }) => {
            // How often a pair turns over the original length.
            let turns = |w: f64| original as f64 * w / TAU;
            plain
                .map(|w| mixed(w, factor, ((turns(w) - low) / (high - low)).clamp(0.0, 1.0)))
                .collect()
        }
        Some(&RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: original,
            beta_fast,
            beta_slow,
            truncate,
            ..
        }) => {
            // The pair that turns so often over the original length; no whole number.
            let pair = |turns: f64| {
                head_dim as f64 * (original as f64 / (turns * TAU)).ln() / (2.0 * theta.ln())
            };
            let (mut first, mut last) = (pair(beta_fast), pair(beta_slow));
            if truncate {
                (first, last) = (first.floor(), last.ceil());
            }
            (first, last) = (first.max(0.0), last.min(head_dim as f64 - 1.0));
            if first == last {
                last += 0.001;
            }
            let share = |i: usize| 1.0 - ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
            plain.enumerate().map(|(i, w)| mixed(w, factor, share(i))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_tensor::Tolerance;

    #[test]
    fn turning_on_is_turning_from_the_beginning() {
        let frequencies = frequencies(5e5, 64, None);
        let positions = 20 * EXACT_EVERY + 7;
        let [cosines, sines] = turns(&frequencies, positions, [1.0, -2.0]);
        assert_eq!((cosines.len(), sines.len()), (positions * 32, positions * 32));
        let angle = |at: usize| (at / 32) as f64 * frequencies[at % 32];
        let exact = |f: fn(f64) -> f64| (0..positions * 32).map(|at| f(angle(at))).collect();
        let wide = |values: Vec<f32>, factor: f64| -> Vec<f64> {
            values.into_iter().map(|v| f64::from(v) * factor).collect()
        };
        let (cosine, sine): (Vec<f64>, Vec<f64>) = (exact(f64::cos), exact(f64::sin));
        Tolerance::Close.check(&wide(cosines, 1.0), &cosine).unwrap();
        Tolerance::Close.check(&wide(sines, -0.5), &sine).unwrap();
    }
}
