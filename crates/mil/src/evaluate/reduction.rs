//! Sums and their kin along axes.

use super::numbers::{Number, Numbers, larger, smaller};
use super::offsets::groups;
use crate::op::Reduction;
use orion_tensor::Tensor;

pub(super) fn reduce(kind: Reduction, x: &Tensor, axes: &[usize]) -> Result<Numbers, String> {
    let (starts, members) = groups(x.shape(), axes);
    match Numbers::of(x) {
        Numbers::Int(x) if is_exact(kind) => {
            let reduced = starts.iter().map(|&start| {
                let group = members.iter().map(|&m| x[start + m]);
                integer_reduction(kind, group).ok_or("a reduction of no integers".to_owned())
            });
            reduced.collect::<Result<_, _>>().map(Numbers::Int)
        }
        x => {
            let x = x.into_floats();
            let reduced = starts.iter().map(|&start| {
                let group: Vec<f64> = members.iter().map(|&m| x[start + m]).collect();
                float_reduction(kind, &group)
            });
            Ok(Numbers::Float(reduced.collect()))
        }
    }
}

/// Whether the reduction of integers needs no roots or logarithms.
fn is_exact(kind: Reduction) -> bool {
    !matches!(kind, Reduction::L2Norm | Reduction::LogSum | Reduction::LogSumExp)
}

/// `None` for the mean or an extreme of nothing.
fn integer_reduction(kind: Reduction, mut x: impl ExactSizeIterator<Item = i128>) -> Option<i128> {
    let count = x.len() as i128;
    let sum = |x: &mut dyn Iterator<Item = i128>| x.fold(0, i128::plus);
    match kind {
        Reduction::Sum => Some(sum(&mut x)),
        Reduction::Mean => sum(&mut x).checked_div(count),
        Reduction::Max => x.max(),
        Reduction::Min => x.min(),
        Reduction::Prod => Some(x.fold(1, i128::times)),
        Reduction::L1Norm => Some(sum(&mut x.map(i128::abs))),
        Reduction::SumSquare => Some(sum(&mut x.map(|v| v.times(v)))),
        Reduction::L2Norm | Reduction::LogSum | Reduction::LogSumExp => {
            unreachable!("computed with floats")
        }
    }
}

pub(super) fn float_reduction(kind: Reduction, x: &[f64]) -> f64 {
    let sum = |f: fn(f64) -> f64| x.iter().map(|&v| f(v)).sum::<f64>();
    match kind {
        Reduction::Sum => sum(|v| v),
        Reduction::Mean => sum(|v| v) / x.len() as f64,
        Reduction::Max => x.iter().copied().fold(f64::NEG_INFINITY, larger),
        Reduction::Min => x.iter().copied().fold(f64::INFINITY, smaller),
        Reduction::Prod => x.iter().product(),
        Reduction::L2Norm => sum(|v| v * v).sqrt(),
        Reduction::L1Norm => sum(f64::abs),
        Reduction::SumSquare => sum(|v| v * v),
        Reduction::LogSum => libm::log(sum(|v| v)),
        Reduction::LogSumExp => {
            let max = float_reduction(Reduction::Max, x);
            if max.is_infinite() {
                return max;
            }
            max + libm::log(x.iter().map(|v| libm::exp(v - max)).sum::<f64>())
        }
    }
}

pub(super) fn cumsum(x: &Tensor, axis: usize, exclusive: bool, reverse: bool) -> Numbers {
    match Numbers::of(x) {
        Numbers::Int(v) => Numbers::Int(running_sums(&v, x.shape(), axis, exclusive, reverse)),
        Numbers::Float(v) => Numbers::Float(running_sums(&v, x.shape(), axis, exclusive, reverse)),
    }
}

fn running_sums<T: Number>(
    x: &[T],
    shape: &[usize],
    axis: usize,
    exclusive: bool,
    reverse: bool,
) -> Vec<T> {
    let (starts, mut members) = groups(shape, &[axis]);
    if reverse {
        members.reverse();
    }
    let mut result = vec![T::ZERO; x.len()];
    for start in starts {
        let mut sum = T::ZERO;
        for member in &members {
            let at = start + member;
            let before = sum;
            sum = sum.plus(x[at]);
            result[at] = if exclusive { before } else { sum };
        }
    }
    result
}
