use super::*;
use crate::Precision;
use crate::kernels::convert::{bf16_to_f32, f32_to_bf16};
use crate::kernels::isa::Isa;
use orion_tensor::{DType, Tolerance};

/// How matrices of a head lie in memory.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    /// `[channels, positions]`
    ChannelFirst,
    /// `[positions, channels]`
    RowMajor,
}

impl Layout {
    /// Distances of positions and of channels.
    fn strides(self, positions: usize, channels: usize) -> (isize, isize) {
        match self {
            Self::ChannelFirst => (1, positions as isize),
            Self::RowMajor => (channels as isize, 1),
        }
    }
}

struct Values {
    layout: Layout,
    positions: usize,
    channels: usize,
    values: Vec<f32>,
}

impl Values {
    fn new(layout: Layout, positions: usize, channels: usize, seed: usize) -> Self {
        // Numbers that bf16 has, without a pattern that makes sums of them small.
        let number = |i: usize| {
            let mixed = ((i + seed) as u32).wrapping_mul(0x9e37_79b1);
            let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca77) >> 16;
            bf16_to_f32(f32_to_bf16(mixed as f32 / 23000.0 - 1.42))
        };
        let values = (0..positions * channels).map(number).collect();
        Self { layout, positions, channels, values }
    }

    fn at(&self, position: usize, channel: usize) -> f64 {
        let (p, c) = self.layout.strides(self.positions, self.channels);
        f64::from(self.values[position * p as usize + channel * c as usize])
    }

    fn matrix(&self) -> Matrix {
        let (row, column) = self.layout.strides(self.positions, self.channels);
        Matrix::new(self.values.as_ptr().cast(), DType::F32, row, column)
    }

    fn target(&mut self) -> Target {
        let (row, column) = self.layout.strides(self.positions, self.channels);
        Target { pointer: self.values.as_mut_ptr(), row, column }
    }

    /// Row by row.
    fn all(&self) -> Vec<f64> {
        let at = |p: usize| (0..self.channels).map(move |c| self.at(p, c));
        (0..self.positions).flat_map(at).collect()
    }
}

enum Masked {
    Nothing,
    Positions(Vec<i32>),
    Added(Vec<f32>),
    Chosen(Vec<u8>),
}

impl Masked {
    fn mask(&self, keys: usize) -> Mask {
        let (query, key) = (keys as isize, 1);
        match self {
            Self::Nothing => Mask::Nothing,
            // Small enough to vanish, and not so large that rounding decides where it does not.
            Self::Positions(p) => {
                Mask::Positions { positions: p.as_ptr(), stride: 1, masked: -30.0 }
            }
            Self::Added(v) => Mask::Added { values: v.as_ptr(), query, key },
            Self::Chosen(v) => {
                let otherwise = f32::NEG_INFINITY;
                Mask::Chosen { values: v.as_ptr(), query, key, otherwise }
            }
        }
    }

    fn apply(&self, score: f64, i: usize, j: usize, keys: usize) -> f64 {
        match self {
            Self::Nothing => score,
            Self::Positions(p) => score + if j as i32 <= p[i] { 0.0 } else { -30.0 },
            Self::Added(v) => score + f64::from(v[i * keys + j]),
            Self::Chosen(v) if v[i * keys + j] == 0 => f64::NEG_INFINITY,
            Self::Chosen(_) => score,
        }
    }
}

/// Forward and backward of one key head read by two query heads, against plain loops.
fn check(a: Arithmetic, layout: Layout, sizes: Sizes, masked: &Masked) {
    let tolerance = match a.precision {
        Precision::F32 => Tolerance::F32Accum,
        Precision::Bf16 => Tolerance::F16Accum,
    };
    // A factor of a product.
    let rounded = |x: f64| match a.precision {
        Precision::F32 => x,
        Precision::Bf16 => f64::from(bf16_to_f32(f32_to_bf16(x as f32))),
    };
    let Sizes { queries: s, keys: t, width: d, value_width: f } = sizes;
    let factor = 0.5 / (d as f32).sqrt();
    let (key, value) = (Values::new(layout, t, d, 5), Values::new(layout, t, f, 11));
    let mut memory = vec![f32::NAN; forward_lanes(sizes).max(backward_lanes(sizes))];
    let mut to_key = Values::new(layout, t, d, 0);
    let mut to_value = Values::new(layout, t, f, 0);
    let mut expected_key = vec![0f64; t * d];
    let mut expected_value = vec![0f64; t * f];
    let mut kept = Vec::new();
    for number in 0..2 {
        let query = Values::new(layout, s, d, 100 * number);
        let gradient = Values::new(layout, s, f, 100 * number + 7);
        let mut result = Values::new(layout, s, f, 0);
        let mut statistics = vec![0f32; 2 * s];
        let head = Head {
            query: query.matrix(),
            key: key.matrix(),
            value: value.matrix(),
            mask: masked.mask(t),
            factor,
        };
        // SAFETY: sizes are those of the vectors.
        unsafe {
            // Two tasks, as threads would have them.
            let middle = (s / 2).next_multiple_of(QUERIES).min(s);
            for part in [0..middle, middle..s].into_iter().filter(|part| !part.is_empty()) {
                let to = Some(statistics.as_mut_ptr());
                attend(a, sizes, &head, part, result.target(), to, memory.as_mut_ptr());
            }
        }
        let mut expected_result = vec![0f64; s * f];
        let mut expected_query = vec![0f64; s * d];
        for i in 0..s {
            let dot = |x: &Values, xi: usize, y: &Values, yi: usize| -> f64 {
                (0..x.channels).map(|c| x.at(xi, c) * y.at(yi, c)).sum()
            };
            let score = |j| masked.apply(dot(&query, i, &key, j) * f64::from(factor), i, j, t);
            let scores: Vec<f64> = (0..t).map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|x| (x - max).exp()).sum();
            let p: Vec<f64> = scores.iter().map(|x| (x - max).exp() / sum).collect();
            for c in 0..f {
                expected_result[i * f + c] = (0..t).map(|j| p[j] * value.at(j, c)).sum();
            }
            let dp: Vec<f64> = (0..t).map(|j| dot(&gradient, i, &value, j)).collect();
            // The result is given to the backward pass.
            let total = dot(&gradient, i, &result, i);
            for j in 0..t {
                let ds = rounded(p[j] * (dp[j] - total)) * f64::from(factor);
                for c in 0..d {
                    expected_query[i * d + c] += ds * key.at(j, c);
                    expected_key[j * d + c] += ds * query.at(i, c);
                }
                for c in 0..f {
                    expected_value[j * f + c] += rounded(p[j]) * gradient.at(i, c);
                }
            }
        }
        tolerance.check(&result.all(), &expected_result).unwrap();
        if s <= 8 {
            let mut memory = vec![f32::NAN; few_lanes(sizes)];
            let mut result = Values::new(layout, s, f, 0);
            // SAFETY: sizes are those of the vectors.
            unsafe { attend_few(a, sizes, &head, 0..s, result.target(), memory.as_mut_ptr()) };
            tolerance.check(&result.all(), &expected_result).unwrap();
        }
        let to_query = Values::new(layout, s, d, 0);
        kept.push((query, gradient, result, statistics, to_query, expected_query, head));
    }
    let heads: Vec<Gradients> = kept
        .iter_mut()
        .map(|(_, gradient, result, statistics, to_query, _, head)| Gradients {
            head: *head,
            result: result.matrix(),
            gradient: gradient.matrix(),
            statistics: statistics.as_ptr(),
            to_query: to_query.target(),
            factor,
        })
        .collect();
    let (to_k, to_v) = (to_key.target(), to_value.target());
    // SAFETY: sizes are those of the vectors.
    unsafe { attend_backward(a, sizes, heads.into_iter(), to_k, to_v, memory.as_mut_ptr()) };
    for (_, _, _, _, to_query, expected, _) in &kept {
        tolerance.check(&to_query.all(), expected).unwrap();
    }
    tolerance.check(&to_key.all(), &expected_key).unwrap();
    tolerance.check(&to_value.all(), &expected_value).unwrap();
}

#[test]
fn attention_and_its_gradients_against_loops() {
    let sizes = |queries, keys, width, value_width| Sizes { queries, keys, width, value_width };
    let precisions = [Precision::F32, Precision::Bf16];
    for (isa, precision) in Isa::available().into_iter().flat_map(|i| precisions.map(|p| (i, p))) {
        let a = Arithmetic { isa, precision };
        for layout in [Layout::ChannelFirst, Layout::RowMajor] {
            for sizes in [
                sizes(1, 1, 1, 1),
                sizes(5, 300, 20, 36),
                sizes(1, 128, 64, 64),
                sizes(33, 70, 8, 8),
                sizes(64, 64, 64, 64),
                sizes(40, 300, 20, 36),
                sizes(150, 150, 48, 12),
            ] {
                let (s, t) = (sizes.queries, sizes.keys);
                let before = (t - s) as i32;
                let causal: Vec<i32> = (0..s as i32).map(|i| i + before).collect();
                // Some see nothing, some all, in no order.
                let any: Vec<i32> = (0..s).map(|i| (i * 37 % (t + 3)) as i32 - 2).collect();
                let added = (0..s * t).map(|i| ((i * 31) % 17) as f32 / 8.0 - 1.0).collect();
                let chosen = (0..s * t).map(|i| u8::from(i % t == 0 || i % 3 == 1)).collect();
                for masked in [
                    Masked::Nothing,
                    Masked::Positions(causal),
                    Masked::Positions(any),
                    Masked::Added(added),
                    Masked::Chosen(chosen),
                ] {
                    check(a, layout, sizes, &masked);
                }
            }
        }
    }
}

#[test]
fn a_query_without_a_key_and_a_score_that_is_no_number() {
    let a = Arithmetic { isa: Isa::detect(), precision: Precision::F32 };
    let sizes = Sizes { queries: 3, keys: 40, width: 4, value_width: 4 };
    let layout = Layout::RowMajor;
    let mut query = Values::new(layout, 3, 4, 1);
    query.values[4] = f32::NAN;
    let (key, value) = (Values::new(layout, 40, 4, 2), Values::new(layout, 40, 4, 3));
    let mut result = Values::new(layout, 3, 4, 0);
    let mask = Masked::Chosen((0..3 * 40).map(|i| u8::from(i >= 40)).collect());
    let head = Head {
        query: query.matrix(),
        key: key.matrix(),
        value: value.matrix(),
        mask: mask.mask(40),
        factor: 1.0,
    };
    let mut memory = vec![0f32; forward_lanes(sizes)];
    // SAFETY: sizes are those of the vectors.
    unsafe { attend(a, sizes, &head, 0..3, result.target(), None, memory.as_mut_ptr()) };
    let all = result.all();
    assert!(all[..8].iter().all(|v| v.is_nan()), "{all:?}");
    assert!(all[8..].iter().all(|v| v.is_finite()), "{all:?}");
}
