//! Products summed over an axis: matmul, linear, convolution, attention.
//!
//! Letters: `M` rows, `N` columns, `K` summed over; `N` of a convolution is the batch,
//! `C` input channels, `O` output channels.

use super::normalization::softmax_of;
use super::numbers::{Number, Numbers};
use super::offsets::{broadcast, broadcast_strides, offsets, strides};
use orion_tensor::{Tensor, broadcast_shapes, element_count};

/// How one operand's last two axes are read.
struct Matrices<'a, T> {
    values: &'a [T],
    /// Where each matrix of the broadcast batch begins.
    starts: Vec<usize>,
    row_stride: usize,
    column_stride: usize,
}

fn products<T: Number>(x: &Matrices<'_, T>, y: &Matrices<'_, T>, [m, k, n]: [usize; 3]) -> Vec<T> {
    let mut result = Vec::with_capacity(x.starts.len() * m * n);
    for (&x_start, &y_start) in x.starts.iter().zip(&y.starts) {
        for row in 0..m {
            for column in 0..n {
                let mut sum = T::ZERO;
                let mut x_at = x_start + row * x.row_stride;
                let mut y_at = y_start + column * y.column_stride;
                for _ in 0..k {
                    sum = sum.plus(x.values[x_at].times(y.values[y_at]));
                    x_at += x.column_stride;
                    y_at += y.row_stride;
                }
                result.push(sum);
            }
        }
    }
    result
}

pub(super) fn matmul(x: &Tensor, y: &Tensor, transpose_x: bool, transpose_y: bool) -> Numbers {
    let (mut x_shape, mut y_shape) = (x.shape().to_vec(), y.shape().to_vec());
    if x_shape.len() == 1 {
        x_shape.insert(usize::from(transpose_x), 1);
    }
    if y_shape.len() == 1 {
        y_shape.insert(usize::from(!transpose_y), 1);
    }
    match (Numbers::of(x), Numbers::of(y)) {
        (Numbers::Int(x), Numbers::Int(y)) => {
            Numbers::Int(matrix_product(&x, &x_shape, transpose_x, &y, &y_shape, transpose_y))
        }
        (x, y) => {
            let (x, y) = (x.into_floats(), y.into_floats());
            Numbers::Float(matrix_product(&x, &x_shape, transpose_x, &y, &y_shape, transpose_y))
        }
    }
}

fn matrix_product<T: Number>(
    x: &[T],
    x_shape: &[usize],
    transpose_x: bool,
    y: &[T],
    y_shape: &[usize],
    transpose_y: bool,
) -> Vec<T> {
    let (x_batch, x_matrix) = x_shape.split_at(x_shape.len() - 2);
    let (y_batch, y_matrix) = y_shape.split_at(y_shape.len() - 2);
    let batch = broadcast_shapes(x_batch, y_batch).expect("leading axes broadcast");
    let view = |values, own: &[usize], [rows, columns]: [usize; 2], transposed: bool| {
        let (row_stride, column_stride) = if transposed { (1, columns) } else { (columns, 1) };
        let starts = broadcast(own, &batch).into_iter().map(|i| i * rows * columns).collect();
        Matrices { values, starts, row_stride, column_stride }
    };
    let pair = |m: &[usize]| [m[0], m[1]];
    let [m, k] = if transpose_x { [x_matrix[1], x_matrix[0]] } else { pair(x_matrix) };
    let [k_of_y, n] = if transpose_y { [y_matrix[1], y_matrix[0]] } else { pair(y_matrix) };
    assert_eq!(k, k_of_y, "matmul of {x_shape:?} and {y_shape:?}");
    products(
        &view(x, x_batch, pair(x_matrix), transpose_x),
        &view(y, y_batch, pair(y_matrix), transpose_y),
        [m, k, n],
    )
}

pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Numbers {
    let inputs = *x.shape().last().expect("x has an axis");
    let rows = x.element_count().checked_div(inputs).unwrap_or(0);
    let product = matmul(&x.reshaped(&[rows, inputs]), weight, false, true);
    let Some(bias) = bias else { return product };
    let outputs = bias.element_count();
    match (product, Numbers::of(bias)) {
        (Numbers::Int(p), Numbers::Int(b)) => {
            Numbers::Int(p.iter().enumerate().map(|(i, &v)| v.plus(b[i % outputs])).collect())
        }
        (p, b) => {
            let b = b.into_floats();
            let sums = p.into_floats().into_iter().enumerate().map(|(i, v)| v + b[i % outputs]);
            Numbers::Float(sums.collect())
        }
    }
}

/// How a convolution's window moves.
pub(super) struct Window<'a> {
    pub(super) strides: &'a [usize],
    pub(super) pads: &'a [(usize, usize)],
    pub(super) dilations: &'a [usize],
    pub(super) groups: usize,
}

/// `output` is the spatial part of the output shape.
pub(super) fn conv(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: &Window<'_>,
    output: &[usize],
) -> Numbers {
    let (batch, channels) = (x.shape()[0], x.shape()[1]);
    let (out_channels, group_channels) = (weight.shape()[0], weight.shape()[1]);
    let kernel = &weight.shape()[2..];
    let (x, padded) = pad_spatial(x, window.pads);
    let weight = weight.to_f64_vec();
    let bias = bias.map(Tensor::to_f64_vec);

    let plane = element_count(&padded);
    let steps = |factors: &[usize]| -> Vec<isize> {
        strides(&padded).iter().zip(factors).map(|(&s, &f)| s * f as isize).collect()
    };
    let corners = offsets(0, output, &steps(window.strides));
    let taps = offsets(0, kernel, &steps(window.dilations));
    let per_group = out_channels / window.groups;

    let mut result = Vec::with_capacity(batch * out_channels * corners.len());
    for n in 0..batch {
        for o in 0..out_channels {
            let first_channel = n * channels + o / per_group * group_channels;
            for &corner in &corners {
                let mut sum = 0.0;
                for c in 0..group_channels {
                    let x_start = (first_channel + c) * plane + corner;
                    let w_start = (o * group_channels + c) * taps.len();
                    for (w, tap) in taps.iter().enumerate() {
                        sum += x[x_start + tap] * weight[w_start + w];
                    }
                }
                result.push(sum + bias.as_ref().map_or(0.0, |b| b[o]));
            }
        }
    }
    Numbers::Float(result)
}

/// The values of `x` `[N, C, spatial…]` with zeros around, and the spatial sizes they then have.
fn pad_spatial(x: &Tensor, pads: &[(usize, usize)]) -> (Vec<f64>, Vec<usize>) {
    let spatial = &x.shape()[2..];
    let padded: Vec<usize> = spatial.iter().zip(pads).map(|(n, (b, a))| b + n + a).collect();
    let mut shape = x.shape()[..2].to_vec();
    shape.extend(&padded);
    let into = strides(&shape);
    let base: isize = into[2..].iter().zip(pads).map(|(s, (before, _))| s * *before as isize).sum();
    let mut values = vec![0.0; element_count(&shape)];
    for (at, v) in offsets(base, x.shape(), &into).into_iter().zip(x.to_f64_vec()) {
        values[at] = v;
    }
    (values, padded)
}

/// `shape` is the output's, `[…, L, F]`.
pub(super) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Tensor>,
    shape: &[usize],
) -> Numbers {
    let rank = shape.len();
    let (batch, length) = (&shape[..rank - 2], shape[rank - 2]);
    let last_two = |t: &Tensor| [t.shape()[t.shape().len() - 2], t.shape()[t.shape().len() - 1]];
    let [sources, width] = last_two(key);
    let features = last_two(value)[1];
    let scores_shape = [batch, &[length, sources]].concat();

    let expanded = |t: &Tensor| {
        let to = [batch, &last_two(t)].concat();
        let all = t.to_f64_vec();
        let at = offsets(0, &to, &broadcast_strides(t.shape(), &to));
        (at.into_iter().map(|i| all[i]).collect::<Vec<f64>>(), to)
    };
    let (q, q_shape) = expanded(query);
    let (k, k_shape) = expanded(key);
    let (v, v_shape) = expanded(value);

    let mut scores = matrix_product(&q, &q_shape, false, &k, &k_shape, true);
    scores.iter_mut().for_each(|s| *s /= (width as f64).sqrt());
    if let Some(mask) = mask {
        let is_bool = mask.dtype() == orion_tensor::DType::Bool;
        let values = mask.to_f64_vec();
        for (score, at) in scores.iter_mut().zip(broadcast(mask.shape(), &scores_shape)) {
            match (is_bool, values[at] != 0.0) {
                (true, true) => {}
                (true, false) => *score = f64::NEG_INFINITY,
                (false, _) => *score += values[at],
            }
        }
    }
    if sources > 0 {
        scores.chunks_mut(sources).for_each(softmax_of);
    }
    let result = matrix_product(&scores, &scores_shape, false, &v, &v_shape, false);
    debug_assert_eq!(result.len(), element_count(batch) * length * features);
    Numbers::Float(result)
}
