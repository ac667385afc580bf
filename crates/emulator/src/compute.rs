//! One operation as the engine computes it.

use crate::accumulator::{Events, products};
use crate::activation;
use crate::contraction::{conv_transpose, einsum};
use crate::number::round_to_f16;
use orion_mil::evaluate::evaluate;
use orion_mil::op::{Binary, Reduction, Spatial};
use orion_mil::{Op, TensorType, Type};
use orion_tensor::{DType, Tensor, row_major_strides};

/// What differs between engines and ways to them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Engine {
    /// Whether it adds up as the M1's does.
    pub(crate) is_m1: bool,
    /// Whether masks given to attention count: Core ML takes it apart before.
    pub(crate) reads_masks: bool,
}

/// Computes one operation. Operands stand in the order of [`Op::operands`]. Floats are fp16
/// whatever their declared type; results are stored in the declared one.
///
/// # Errors
/// An index out of range and whatever else the operation's definition refuses.
pub(crate) fn compute(
    op: &Op,
    operands: &[Tensor],
    types: &[TensorType],
    engine: Engine,
) -> Result<(Vec<Tensor>, Events), String> {
    let flushes = engine.is_m1;
    let narrow: Vec<Tensor> = operands.iter().map(to_f16_range).collect();
    let floats = |i: usize| narrow[i].to_f32_vec();
    let one = |values: Vec<f32>| vec![tensor(&types[0], &values)];
    let mut events = Events::default();
    let results = match op {
        // What only moves numbers moves them as they are.
        Op::Identity { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Concat { .. }
        | Op::Slice { .. }
        | Op::Split { .. }
        | Op::Stack { .. }
        | Op::Tile { .. }
        | Op::Gather { .. }
        | Op::GatherAlongAxis { .. }
        | Op::Constexpr(_) => {
            return Ok((evaluate(op, operands, types)?, events));
        }
        Op::Matmul { transpose_x, transpose_y, .. } => {
            let (x, y) = (matrices(&narrow[0], *transpose_x), matrices(&narrow[1], *transpose_y));
            one(batched(&x, &y, &types[0], flushes, &mut events))
        }
        Op::Linear { bias, .. } => {
            // Outputs as rows: the bias is one for each.
            let shape = narrow[1].shape().to_vec();
            let (o, i) = (shape[0], shape[1]);
            let x = transposed(&floats(0), i);
            let columns = x.len() / i.max(1);
            let bias = bias.map(|_| floats(2));
            let (out, seen) = products(&floats(1), &x, bias.as_deref(), (i, columns), flushes);
            events.add(seen);
            debug_assert_eq!(out.len(), o * columns);
            one(transposed(&out, columns))
        }
        Op::Conv { strides, pads, dilations, groups, bias, .. } => {
            let bias = bias.map(|_| floats(2));
            let window = Window { strides, pads, dilations };
            let (x, w) = ((floats(0), narrow[0].shape()), (floats(1), narrow[1].shape()));
            one(convolution(x, w, bias.as_deref(), &window, *groups, flushes, &mut events))
        }
        Op::Einsum { values, equation } => {
            let (x, shape) = (floats(0), narrow[0].shape());
            let computed = (values.len() == 2)
                .then(|| {
                    let y = floats(1);
                    einsum(equation, (&x, shape), (&y, narrow[1].shape()), flushes, &mut events)
                })
                .flatten();
            match computed {
                Some(values) => one(values),
                None => otherwise(op, &narrow, types)?,
            }
        }
        Op::Spatial(spatial @ Spatial::ConvTranspose { bias, .. }) => {
            let bias = bias.map(|_| floats(2));
            let (x, w) = (floats(0), floats(1));
            let (x, w) = ((&x[..], narrow[0].shape()), (&w[..], narrow[1].shape()));
            one(conv_transpose(spatial, x, w, bias.as_deref(), flushes, &mut events))
        }
        Op::Attention { mask, .. } => {
            let mask = mask.filter(|_| engine.reads_masks).map(|_| &operands[3]);
            return attention(&narrow, mask, types, flushes);
        }
        Op::Softmax { axis, .. } => {
            let shape = narrow[0].shape().to_vec();
            one(softmax(&floats(0), &shape, *axis, &mut events))
        }
        Op::Reduce { kind: kind @ (Reduction::Sum | Reduction::Mean), axes, .. } => {
            one(narrow_sum(&floats(0), narrow[0].shape(), axes, *kind == Reduction::Mean))
        }
        Op::Unary { kind, .. } if activation::unary(*kind, 0.5).is_some() => {
            let x = floats(0);
            let apply = |&x: &f32| activation::unary(*kind, x).expect("it is a table's");
            let out: Vec<f32> = x.iter().map(apply).collect();
            events.flushed +=
                out.iter().zip(&x).filter(|&(y, x)| *y == 0.0 && *x != 0.0).count() as u64;
            one(out)
        }
        _ => {
            let mut results = otherwise(op, &narrow, types)?;
            special_values(op, &narrow, &mut results);
            results
        }
    };
    Ok((results, events))
}

/// By the definition, in f32, each result rounded once.
fn otherwise(op: &Op, operands: &[Tensor], types: &[TensorType]) -> Result<Vec<Tensor>, String> {
    let wide: Vec<TensorType> = types
        .iter()
        .map(|t| match t.dtype {
            d if d.is_float() => TensorType { dtype: DType::F32, ..t.clone() },
            _ => t.clone(),
        })
        .collect();
    let results = evaluate(op, operands, &wide)?;
    let round = |(result, ty): (Tensor, &TensorType)| match ty.dtype {
        d if d.is_float() => {
            let values: Vec<f32> = result.to_f32_vec().into_iter().map(round_to_f16).collect();
            tensor(ty, &values)
        }
        _ => result,
    };
    Ok(results.into_iter().zip(types).map(round).collect())
}

/// Results that were measured to be otherwise than any definition has them.
fn special_values(op: &Op, operands: &[Tensor], results: &mut [Tensor]) {
    let (infinite, replace): (fn(f32) -> bool, f32) = match op {
        Op::Binary { kind: Binary::Mul, .. } => (|x| x == f32::INFINITY, -52416.0),
        Op::Binary { kind: Binary::Add, .. } => (f32::is_nan, f32::INFINITY),
        Op::Unary { kind, .. } if activation::unary(*kind, f32::INFINITY).is_some() => {
            (|x| x == f32::INFINITY, 0.0)
        }
        _ => return,
    };
    let x = operands[0].to_f32_vec();
    // Where the first operand is broadcast nothing was measured.
    if x.len() != results[0].element_count() || !x.iter().any(|&v| infinite(v)) {
        return;
    }
    let old = results[0].to_f32_vec();
    let new: Vec<f32> =
        x.iter().zip(old).map(|(&x, y)| if infinite(x) { replace } else { y }).collect();
    let ty = TensorType::new(results[0].dtype(), results[0].shape());
    results[0] = tensor(&ty, &new);
}

/// Floats as f32 that fp16 holds, other types as they are.
fn to_f16_range(tensor: &Tensor) -> Tensor {
    if !tensor.dtype().is_float() {
        return tensor.clone();
    }
    let values: Vec<f32> = tensor.to_f32_vec().into_iter().map(round_to_f16).collect();
    Tensor::from_slice(tensor.shape(), &values)
}

fn tensor(ty: &TensorType, values: &[f32]) -> Tensor {
    let shape = ty.shape().expect("sizes are checked when compiling");
    let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    Tensor::from_f64(ty.dtype, &shape, &values)
}

/// `[rows, columns]` to `[columns, rows]`.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len().checked_div(columns).unwrap_or(0);
    (0..values.len()).map(|i| values[(i % rows) * columns + i / rows]).collect()
}

/// The matrices of the last two axes, each row-major.
struct Matrices {
    leading: Vec<usize>,
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

fn matrices(tensor: &Tensor, transpose: bool) -> Matrices {
    let shape = tensor.shape();
    // A single axis is a row on the left; on the right the caller's type says a column.
    let (leading, rows, columns) = match shape {
        [leading @ .., rows, columns] => (leading.to_vec(), *rows, *columns),
        [n] => (vec![], 1, *n),
        [] => (vec![], 1, 1),
    };
    let values = tensor.to_f32_vec();
    if !transpose || shape.len() < 2 {
        return Matrices { leading, rows, columns, values };
    }
    let each = (rows * columns).max(1);
    let values = values.chunks(each).flat_map(|m| transposed(m, columns)).collect();
    Matrices { leading, rows: columns, columns: rows, values }
}

/// Products of matrices, leading axes broadcast.
fn batched(
    x: &Matrices,
    y: &Matrices,
    ty: &TensorType,
    flushes: bool,
    events: &mut Events,
) -> Vec<f32> {
    // A right operand of one axis is a column.
    let (k, n) = if y.rows == x.columns { (y.rows, y.columns) } else { (y.columns, y.rows) };
    let shape = ty.shape().expect("sizes are checked when compiling");
    let dims = x.leading.len().max(y.leading.len());
    let leading = &shape[..dims.min(shape.len())];
    let strides = row_major_strides(leading);
    let position = |m: &Matrices, index: usize| {
        let own = row_major_strides(&m.leading);
        let skip = leading.len() - m.leading.len();
        (0..m.leading.len())
            .map(|a| {
                let at = index / strides[skip + a] % leading[skip + a];
                if m.leading[a] == 1 { 0 } else { at * own[a] }
            })
            .sum::<usize>()
    };
    let mut out = Vec::new();
    for index in 0..leading.iter().product() {
        let left = &x.values[position(x, index) * x.rows * k..][..x.rows * k];
        let right = &y.values[position(y, index) * k * n..][..k * n];
        let (values, seen) = products(left, right, None, (k, n), flushes);
        events.add(seen);
        out.extend(values);
    }
    out
}

struct Window<'a> {
    strides: &'a [usize],
    pads: &'a [(usize, usize)],
    dilations: &'a [usize],
}

/// A convolution as products of the weight with columns of windows.
fn convolution(
    (x, x_shape): (Vec<f32>, &[usize]),
    (w, w_shape): (Vec<f32>, &[usize]),
    bias: Option<&[f32]>,
    window: &Window<'_>,
    groups: usize,
    flushes: bool,
    events: &mut Events,
) -> Vec<f32> {
    let (batch, channels, space) = (x_shape[0], x_shape[1], &x_shape[2..]);
    let (outputs, kernel) = (w_shape[0], &w_shape[2..]);
    let out_space: Vec<usize> = (0..space.len())
        .map(|a| {
            let (before, after) = window.pads[a];
            let reach = (kernel[a] - 1) * window.dilations[a] + 1;
            (space[a] + before + after - reach) / window.strides[a] + 1
        })
        .collect();
    let positions: usize = out_space.iter().product();
    let taps: usize = kernel.iter().product();
    let in_strides = row_major_strides(space);
    let (out_strides, tap_strides) = (row_major_strides(&out_space), row_major_strides(kernel));
    let area: usize = space.iter().product();
    // Where a tap of a window reads within a channel; nothing in the padding.
    let read = |position: usize, tap: usize| {
        let mut at = 0;
        for a in 0..space.len() {
            let out = position / out_strides[a] % out_space[a];
            let k = tap / tap_strides[a] % kernel[a];
            let padded = out * window.strides[a] + k * window.dilations[a];
            let place = padded.checked_sub(window.pads[a].0).filter(|&p| p < space[a])?;
            at += place * in_strides[a];
        }
        Some(at)
    };
    let (c, o) = (channels / groups, outputs / groups);
    let mut result = Vec::with_capacity(batch * outputs * positions);
    // A 1×1 kernel that goes over every element reads the input as it lies.
    let is_plain = taps == 1
        && window.strides.iter().all(|&s| s == 1)
        && window.pads.iter().all(|&p| p == (0, 0));
    let mut gathered = vec![0.0; if is_plain { 0 } else { c * taps * positions }];
    for image in 0..batch {
        for group in 0..groups {
            let first = (image * channels + group * c) * area;
            for channel in 0..if is_plain { 0 } else { c } {
                let plane = &x[first + channel * area..][..area];
                for tap in 0..taps {
                    let row = &mut gathered[(channel * taps + tap) * positions..][..positions];
                    for (position, cell) in row.iter_mut().enumerate() {
                        *cell = read(position, tap).map_or(0.0, |at| plane[at]);
                    }
                }
            }
            let columns = if is_plain { &x[first..][..c * area] } else { &gathered[..] };
            let weight = &w[group * o * c * taps..][..o * c * taps];
            let bias = bias.map(|b| &b[group * o..][..o]);
            let (out, seen) = products(weight, columns, bias, (c * taps, positions), flushes);
            events.add(seen);
            result.extend(out);
        }
    }
    result
}

/// Maximum, difference, exponential by table, sum, reciprocal by table, product.
fn softmax(x: &[f32], shape: &[usize], axis: usize, events: &mut Events) -> Vec<f32> {
    let n = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    let mut out = vec![0.0; x.len()];
    for start in (0..x.len()).filter(|i| (i / inner).is_multiple_of(n)) {
        let at = |i: usize| start + i * inner;
        let most = (0..n).map(|i| x[at(i)]).fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0f32;
        for i in 0..n {
            let difference = round_to_f16(x[at(i)] - most);
            let power = activation::exp2(difference * std::f32::consts::LOG2_E);
            events.flushed += u64::from(power == 0.0);
            out[at(i)] = power;
            sum += power;
        }
        let scale = activation::reciprocal(round_to_f16(sum));
        (0..n).for_each(|i| out[at(i)] = round_to_f16(out[at(i)] * scale));
    }
    out
}

/// Sums in fp16, one element after the other.
fn narrow_sum(x: &[f32], shape: &[usize], axes: &[usize], mean: bool) -> Vec<f32> {
    let kept: Vec<usize> =
        shape.iter().enumerate().map(|(a, &n)| if axes.contains(&a) { 1 } else { n }).collect();
    let (strides, places) = (row_major_strides(shape), row_major_strides(&kept));
    let mut sums = vec![0.0f32; kept.iter().product()];
    for (i, &value) in x.iter().enumerate() {
        let place = (0..shape.len())
            .filter(|a| !axes.contains(a))
            .map(|a| i / strides[a] % shape[a] * places[a])
            .sum::<usize>();
        sums[place] = round_to_f16(sums[place] + value);
    }
    if mean {
        let count: usize = axes.iter().map(|&a| shape[a]).product();
        let share = round_to_f16(1.0 / count as f32);
        sums.iter_mut().for_each(|s| *s = round_to_f16(*s * share));
    }
    sums
}

/// Taken apart as the compiler does, which ignores the mask, or as Core ML does, which adds it.
fn attention(
    operands: &[Tensor],
    mask: Option<&Tensor>,
    types: &[TensorType],
    flushes: bool,
) -> Result<(Vec<Tensor>, Events), String> {
    let mut events = Events::default();
    let (q, k, v) = (&operands[0], &operands[1], &operands[2]);
    let shape = types[0].shape().expect("sizes are checked when compiling");
    let (leading, last) = shape.split_at(shape.len() - 2);
    let keys = k.shape()[k.shape().len() - 2];
    let scores_type = TensorType::new(DType::F32, &[leading, &[last[0], keys]].concat());
    let depth = *q.shape().last().expect("attention has axes");
    let scale = round_to_f16(1.0 / (depth as f32).sqrt());
    let scaled: Vec<f32> = q.to_f32_vec().iter().map(|x| round_to_f16(x * scale)).collect();
    let q = Tensor::from_slice(q.shape(), &scaled);
    let scores =
        batched(&matrices(&q, false), &matrices(k, true), &scores_type, flushes, &mut events);
    let scores_shape = scores_type.shape().expect("just made");
    let scores = match mask {
        Some(mask) => masked(&scores, &scores_shape, mask),
        None => scores,
    };
    let weights = softmax(&scores, &scores_shape, scores_shape.len() - 1, &mut events);
    let weights = Tensor::from_slice(&scores_shape, &weights);
    let out =
        batched(&matrices(&weights, false), &matrices(v, false), &types[0], flushes, &mut events);
    Ok((vec![tensor(&types[0], &out)], events))
}

/// Scores with a mask added, broadcast; where it is a bool and false, the smallest number.
fn masked(scores: &[f32], shape: &[usize], mask: &Tensor) -> Vec<f32> {
    let added: Vec<f32> = match mask.dtype() {
        DType::Bool => mask.to_f32_vec().iter().map(|&m| (m - 1.0) * 65504.0).collect(),
        _ => mask.to_f32_vec().into_iter().map(round_to_f16).collect(),
    };
    let (strides, own) = (row_major_strides(shape), row_major_strides(mask.shape()));
    let skip = shape.len() - mask.shape().len();
    let place = |i: usize| {
        let axes = mask.shape().iter().enumerate();
        axes.map(|(a, &n)| if n == 1 { 0 } else { i / strides[skip + a] % n * own[a] })
            .sum::<usize>()
    };
    let sum = |(i, &score): (usize, &f32)| round_to_f16(score + added[place(i)]).max(-65504.0);
    scores.iter().enumerate().map(sum).collect()
}

/// A convolution of whole numbers times two scales: sums are exact, and infinite from 2^31 on.
pub(crate) struct ByteConvolution<'a> {
    /// Activations without their zero point, and their scale.
    pub(crate) x: (Vec<f32>, f32),
    /// Weights without theirs, and the scale of all or of each output channel.
    pub(crate) weight: (Vec<f32>, Vec<f32>),
    pub(crate) x_shape: &'a [usize],
    pub(crate) weight_shape: &'a [usize],
    pub(crate) bias: Option<Vec<f32>>,
}

/// The result of a convolution of bytes, in the type of the operation.
///
/// # Errors
/// What the definition of `conv` refuses.
pub(crate) fn convolve_bytes(
    op: &Op,
    bytes: &ByteConvolution<'_>,
    ty: &TensorType,
) -> Result<(Vec<Tensor>, Events), String> {
    let mut without_bias = op.clone();
    if let Op::Conv { bias, .. } = &mut without_bias {
        *bias = None;
    }
    let operands = [
        Tensor::from_slice(bytes.x_shape, &bytes.x.0),
        Tensor::from_slice(bytes.weight_shape, &bytes.weight.0),
    ];
    let wide = TensorType { dtype: DType::F32, ..ty.clone() };
    // The definition adds up in f64, where these sums are exact.
    let sums = evaluate(&without_bias, &operands, std::slice::from_ref(&wide))?;
    let sums = sums[0].to_f32_vec();
    let area: usize = sums.len() / (bytes.x_shape[0] * bytes.weight_shape[0]).max(1);
    let mut events = Events::default();
    let scaled: Vec<f32> = sums
        .iter()
        .enumerate()
        .map(|(i, &sum)| {
            let channel = i / area.max(1) % bytes.weight_shape[0];
            let scale = bytes.weight.1[if bytes.weight.1.len() == 1 { 0 } else { channel }];
            if sum.abs() >= 2_147_483_648.0 {
                events.overflowed += 1;
                return f32::INFINITY.copysign(sum);
            }
            let bias = bytes.bias.as_ref().map_or(0.0, |b| b[channel]);
            round_to_f16(sum * bytes.x.1 * scale + bias)
        })
        .collect();
    Ok((vec![tensor(ty, &scaled)], events))
}

/// The tensor type of a value, when all sizes are known.
pub(crate) fn known(ty: &Type) -> Option<TensorType> {
    ty.as_tensor().filter(|t| t.shape().is_some()).cloned()
}
