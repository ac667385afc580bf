//! Pooling, transposed convolution, resizing, and what normalises over windows.

use super::movement::{take, transpose};
use super::normalization::layer_norm;
use super::numbers::Numbers;
use super::offsets::{groups, offsets, strides};
use crate::op::{Pooling, Sampling, Spatial};
use orion_tensor::{DType, Tensor, element_count};

/// `shape` and `dtype` are the output's.
pub(super) fn spatial(
    op: &Spatial,
    operands: &[Tensor],
    dtype: DType,
    shape: &[usize],
) -> Result<Tensor, String> {
    let x = &operands[0];
    let floats = |v: Vec<f64>| Numbers::Float(v).into_tensor(dtype, shape);
    match op {
        Spatial::Pool { kind, kernel, strides, pads, overhang, exclude_padding, .. } => {
            let window = Windows { kernel, strides, pads, overhang };
            floats(pool(*kind, x, &window, *exclude_padding, &shape[2..]))
        }
        Spatial::ConvTranspose { bias, .. } => {
            let bias = bias.map(|_| &operands[2]);
            floats(conv_transpose(op, x, &operands[1], bias, shape))
        }
        Spatial::Resize { size, linear: true, sampling, .. } => {
            floats(interpolated(x, size, *sampling))
        }
        Spatial::Resize { size, linear: false, sampling, .. } => {
            let kept = shape.len() - size.len();
            let mut sources = vec![0];
            for (axis, &m) in shape.iter().enumerate() {
                let n = x.shape()[axis];
                let at = |i: usize| match sampling {
                    _ if axis < kept => i,
                    Sampling::UnalignCorners => (2 * i + 1) * n / (2 * m),
                    Sampling::Default => i * n / m,
                    _ => (position(*sampling, i, n as f64, m) + 0.5).floor() as usize,
                };
                sources =
                    sources.iter().flat_map(|&s| (0..m).map(move |i| s * n + at(i))).collect();
            }
            Ok(take(x, shape, sources))
        }
        Spatial::Rearrange { kind, block, .. } => {
            let (split, perm, joined) =
                kind.steps(x.shape(), *block).ok_or("blocks do not divide x")?;
            Ok(transpose(&x.reshaped(&split), &perm).reshaped(&joined))
        }
        Spatial::SlidingWindows { axis, stride, .. } => {
            let mut steps = strides(x.shape());
            steps.insert(axis + 1, steps[*axis]);
            steps[*axis] *= *stride as isize;
            Ok(take(x, shape, offsets(0, shape, &steps)))
        }
        Spatial::InstanceNorm { gamma, beta, epsilon, .. } => {
            let axes: Vec<usize> = (2..shape.len()).collect();
            let mut values = layer_norm(x, &axes, None, None, *epsilon).into_floats();
            let gamma_values = gamma.map(|_| operands[1].to_f64_vec());
            let beta = beta.map(|_| operands[1 + usize::from(gamma.is_some())].to_f64_vec());
            let plane = element_count(&shape[2..]);
            for (i, v) in values.iter_mut().enumerate() {
                let c = i / plane % shape[1];
                *v = *v * gamma_values.as_ref().map_or(1.0, |g| g[c])
                    + beta.as_ref().map_or(0.0, |b| b[c]);
            }
            floats(values)
        }
        Spatial::L2Norm { epsilon, .. } => {
            let mut values = x.to_f64_vec();
            let each = element_count(&shape[shape.len() - 3..]).max(1);
            for part in values.chunks_mut(each) {
                let sum: f64 = part.iter().map(|v| v * v).sum();
                part.iter_mut().for_each(|v| *v /= (sum + epsilon).sqrt());
            }
            floats(values)
        }
        Spatial::LocalResponseNorm { size, alpha, beta, k, .. } => {
            let values = x.to_f64_vec();
            let mut result = values.clone();
            let (starts, channels) = groups(shape, &[1]);
            for start in starts {
                for (c, &at) in channels.iter().enumerate() {
                    let first = c.saturating_sub(size / 2);
                    let end = (c + size.div_ceil(2)).min(channels.len());
                    let squares = channels[first..end].iter().map(|o| values[start + o].powi(2));
                    let sum: f64 = squares.sum();
                    let base = k + alpha / *size as f64 * sum;
                    result[start + at] /= libm::pow(base, *beta);
                }
            }
            floats(result)
        }
    }
}

struct Windows<'a> {
    kernel: &'a [usize],
    strides: &'a [usize],
    pads: &'a [(usize, usize)],
    overhang: &'a [usize],
}

fn pool(
    kind: Pooling,
    x: &Tensor,
    windows: &Windows<'_>,
    exclude_padding: bool,
    output: &[usize],
) -> Vec<f64> {
    let values = x.to_f64_vec();
    let spatial = &x.shape()[2..];
    let plane = element_count(spatial);
    let into = strides(spatial);
    let mut result = Vec::new();
    for start in (0..element_count(&x.shape()[..2])).map(|i| i * plane) {
        for corner in positions(output) {
            let mut inside = Vec::new();
            for tap in positions(windows.kernel) {
                let at: Option<usize> = (0..spatial.len())
                    .map(|a| {
                        let padded = corner[a] * windows.strides[a] + tap[a];
                        let position = padded.checked_sub(windows.pads[a].0)?;
                        (position < spatial[a]).then(|| position * into[a] as usize)
                    })
                    .sum();
                inside.extend(at.map(|at| values[start + at]));
            }
            result.push(match kind {
                Pooling::Max => inside.into_iter().fold(f64::NEG_INFINITY, super::numbers::larger),
                Pooling::Average => {
                    let within = |a: usize| {
                        let (before, after) = windows.pads[a];
                        let end = before + spatial[a] + after - windows.overhang[a];
                        let start = corner[a] * windows.strides[a];
                        windows.kernel[a].min(end.saturating_sub(start))
                    };
                    let all: usize = (0..spatial.len()).map(within).product();
                    let count = if exclude_padding { inside.len() } else { all } as f64;
                    inside.iter().sum::<f64>() / count
                }
                Pooling::L2 => inside.iter().map(|v| v * v).sum::<f64>().sqrt(),
            });
        }
    }
    result
}

/// Every position within `shape`, row-major.
fn positions(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for &n in shape {
        let longer = |p: &Vec<usize>| (0..n).map(|i| [p.as_slice(), &[i]].concat()).collect();
        all = all.iter().flat_map::<Vec<Vec<usize>>, _>(longer).collect();
    }
    all
}

fn conv_transpose(
    op: &Spatial,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    shape: &[usize],
) -> Vec<f64> {
    let Spatial::ConvTranspose { strides: steps, before, dilations, groups, .. } = op else {
        unreachable!("not a transposed convolution: {op:?}")
    };
    let (batch, channels) = (x.shape()[0], x.shape()[1]);
    let spatial = &x.shape()[2..];
    let kernel = &weight.shape()[2..];
    let per_group = weight.shape()[1];
    let (from, taps) = (positions(spatial), positions(kernel));
    let output = &shape[2..];
    let (plane, into) = (element_count(output), strides(output));
    let (x, weight) = (x.to_f64_vec(), weight.to_f64_vec());
    let mut result = vec![0.0; element_count(shape)];
    for n in 0..batch {
        for c in 0..channels {
            let group = c / (channels / groups);
            for (i, position) in from.iter().enumerate() {
                for (t, tap) in taps.iter().enumerate() {
                    let at: Option<usize> = (0..output.len())
                        .map(|a| {
                            let to = position[a] * steps[a] + tap[a] * dilations[a];
                            let to = to.checked_sub(before[a])?;
                            (to < output[a]).then(|| to * into[a] as usize)
                        })
                        .sum();
                    let Some(at) = at else { continue };
                    let v = x[(n * channels + c) * from.len() + i];
                    for o in 0..per_group {
                        let w = weight[(c * per_group + o) * taps.len() + t];
                        result[(n * shape[1] + group * per_group + o) * plane + at] += v * w;
                    }
                }
            }
        }
    }
    if let Some(bias) = bias.map(Tensor::to_f64_vec) {
        for (i, v) in result.iter_mut().enumerate() {
            *v += bias[i / plane % shape[1]];
        }
    }
    result
}

/// Linear along each of the last axes, one after another.
fn interpolated(x: &Tensor, size: &[usize], sampling: Sampling) -> Vec<f64> {
    let mut values = x.to_f64_vec();
    let mut shape = x.shape().to_vec();
    let kept = shape.len() - size.len();
    for (axis, &m) in (kept..).zip(size) {
        let n = shape[axis];
        let inner = element_count(&shape[axis + 1..]);
        let outer = element_count(&shape[..axis]);
        let mut next = Vec::with_capacity(outer * m * inner);
        for o in 0..outer {
            for i in 0..m {
                let at = position(sampling, i, n as f64, m);
                let low = at.floor() as usize;
                let high = (low + 1).min(n - 1);
                let weight = at - low as f64;
                for k in 0..inner {
                    let value = |p: usize| values[(o * n + p) * inner + k];
                    // Without a share the neighbour does not count, even if it is infinite.
                    next.push(match weight {
                        0.0 => value(low),
                        w => value(low) * (1.0 - w) + value(high) * w,
                    });
                }
            }
        }
        shape[axis] = m;
        values = next;
    }
    values
}

/// Where point `i` of `m` lies in an axis of `n` elements, or in a part of one of that length.
pub(super) fn position(sampling: Sampling, i: usize, n: f64, m: usize) -> f64 {
    let last = n - 1.0;
    let (i, m) = (i as f64, m as f64);
    let at = match sampling {
        Sampling::Default => i * n / m,
        Sampling::StrictAlignCorners if m == 1.0 => 0.0,
        Sampling::AlignCorners if m == 1.0 => last / 2.0,
        Sampling::StrictAlignCorners | Sampling::AlignCorners => i * last / (m - 1.0),
        Sampling::OffsetCorners => (i + 0.5) * last.max(1.0) / m,
        Sampling::UnalignCorners => (i + 0.5) * n / m - 0.5,
    };
    // A box whose end stands before its beginning is read backwards.
    at.clamp(last.min(0.0), last.max(0.0))
}
