//! Softmax and the normalizations.

use super::numbers::Numbers;
use super::offsets::groups;
use super::reduction::float_reduction;
use crate::op::Reduction;
use orion_tensor::Tensor;

pub(super) fn softmax(x: &Tensor, axis: usize) -> Numbers {
    let mut values = x.to_f64_vec();
    let (starts, members) = groups(x.shape(), &[axis]);
    for start in starts {
        let mut group: Vec<f64> = members.iter().map(|&m| values[start + m]).collect();
        softmax_of(&mut group);
        for (&m, v) in members.iter().zip(group) {
            values[start + m] = v;
        }
    }
    Numbers::Float(values)
}

/// Replaces a vector by its softmax. A vector of nothing but -inf has none: it becomes NaN.
pub(super) fn softmax_of(x: &mut [f64]) {
    let max = float_reduction(Reduction::Max, x);
    for v in x.iter_mut() {
        *v = libm::exp(*v - max);
    }
    let sum: f64 = x.iter().sum();
    for v in x.iter_mut() {
        *v /= sum;
    }
}

pub(super) fn layer_norm(
    x: &Tensor,
    axes: &[usize],
    gamma: Option<&Tensor>,
    beta: Option<&Tensor>,
    epsilon: f64,
) -> Numbers {
    let mut values = x.to_f64_vec();
    let (gamma, beta) = (gamma.map(Tensor::to_f64_vec), beta.map(Tensor::to_f64_vec));
    let (starts, members) = groups(x.shape(), axes);
    let count = members.len() as f64;
    for start in starts {
        let mean = members.iter().map(|m| values[start + m]).sum::<f64>() / count;
        let squares = members.iter().map(|m| (values[start + m] - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count + epsilon).sqrt();
        for (i, m) in members.iter().enumerate() {
            let normal = (values[start + m] - mean) / deviation;
            let scale = gamma.as_ref().map_or(1.0, |g| g[i]);
            values[start + m] = normal * scale + beta.as_ref().map_or(0.0, |b| b[i]);
        }
    }
    Numbers::Float(values)
}

pub(super) fn batch_norm(
    x: &Tensor,
    mean: &Tensor,
    variance: &Tensor,
    gamma: Option<&Tensor>,
    beta: Option<&Tensor>,
    epsilon: f64,
) -> Numbers {
    let mut values = x.to_f64_vec();
    let (mean, variance) = (mean.to_f64_vec(), variance.to_f64_vec());
    let (gamma, beta) = (gamma.map(Tensor::to_f64_vec), beta.map(Tensor::to_f64_vec));
    let (channels, members) = {
        let every_other_axis: Vec<usize> = (0..x.shape().len()).filter(|&a| a != 1).collect();
        groups(x.shape(), &every_other_axis)
    };
    for (c, start) in channels.into_iter().enumerate() {
        let scale = gamma.as_ref().map_or(1.0, |g| g[c]) / (variance[c] + epsilon).sqrt();
        for m in &members {
            let centred = values[start + m] - mean[c];
            values[start + m] = centred * scale + beta.as_ref().map_or(0.0, |b| b[c]);
        }
    }
    Numbers::Float(values)
}
