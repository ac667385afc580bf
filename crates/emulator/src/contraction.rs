//! Contractions that are products of matrices once their axes are brought into order: `einsum` of
//! two values and transposed convolutions.

use crate::accumulator::{Events, products};
use orion_mil::op::{Equation, Spatial};
use orion_tensor::row_major_strides;

/// `einsum` of two values each of whose axes stands once: axes of both and of the result are a
/// batch of matrices, axes of both alone are summed over. `None` for other equations, about which
/// nothing is known.
pub(crate) fn einsum(
    equation: &Equation,
    (x, x_shape): (&[f32], &[usize]),
    (y, y_shape): (&[f32], &[usize]),
    flushes: bool,
    events: &mut Events,
) -> Option<Vec<f32>> {
    let [left, right] = &equation.operands[..] else { return None };
    let result = &equation.result;
    let once = |axes: &[char]| (1..axes.len()).all(|i| !axes[..i].contains(&axes[i]));
    let is_lost = |a: &char, other: &[char]| !result.contains(a) && !other.contains(a);
    if !once(left)
        || !once(right)
        || left.iter().any(|a| is_lost(a, right))
        || right.iter().any(|a| is_lost(a, left))
    {
        return None;
    }
    let those = |axes: &[char], keep: &dyn Fn(&char) -> bool| -> Vec<char> {
        axes.iter().copied().filter(keep).collect()
    };
    let batch = those(result, &|a| left.contains(a) && right.contains(a));
    let rows = those(result, &|a| !right.contains(a));
    let columns = those(result, &|a| !left.contains(a));
    let summed = those(left, &|a| !result.contains(a));
    let size = |axes: &[char]| -> usize {
        let of = |a: &char| match left.iter().position(|b| b == a) {
            Some(at) => x_shape[at],
            None => y_shape[right.iter().position(|b| b == a).expect("an axis of an operand")],
        };
        axes.iter().map(of).product()
    };
    let x = ordered(x, x_shape, left, &[&batch[..], &rows, &summed].concat());
    let y = ordered(y, y_shape, right, &[&batch[..], &summed, &columns].concat());
    let (m, k, n) = (size(&rows), size(&summed), size(&columns));
    let mut out = Vec::with_capacity(size(&batch) * m * n);
    for i in 0..size(&batch) {
        let (left, right) = (&x[i * m * k..][..m * k], &y[i * k * n..][..k * n]);
        let (values, seen) = products(left, right, None, (k, n), flushes);
        events.add(seen);
        out.extend(values);
    }
    let order = [&batch[..], &rows, &columns].concat();
    let shape: Vec<usize> = order.iter().map(|&a| size(&[a])).collect();
    Some(ordered(&out, &shape, &order, result))
}

/// The elements of a tensor with its axes in another order.
fn ordered(values: &[f32], shape: &[usize], axes: &[char], order: &[char]) -> Vec<f32> {
    let strides = row_major_strides(shape);
    let place = |axis: &char| axes.iter().position(|a| a == axis).expect("the same axes");
    let places: Vec<usize> = order.iter().map(place).collect();
    let sizes: Vec<usize> = places.iter().map(|&p| shape[p]).collect();
    let own = row_major_strides(&sizes);
    (0..values.len())
        .map(|i| {
            let at = places
                .iter()
                .enumerate()
                .map(|(axis, &p)| i / own[axis] % sizes[axis] * strides[p]);
            values[at.sum::<usize>()]
        })
        .collect()
}

/// A transposed convolution as products of its weight with the taps that reach each element; the
/// bias begins the sums.
pub(crate) fn conv_transpose(
    op: &Spatial,
    (x, x_shape): (&[f32], &[usize]),
    (w, w_shape): (&[f32], &[usize]),
    bias: Option<&[f32]>,
    flushes: bool,
    events: &mut Events,
) -> Vec<f32> {
    let Spatial::ConvTranspose { strides, before, output, dilations, groups, .. } = op else {
        unreachable!("not a transposed convolution: {op:?}")
    };
    let (batch, channels, space) = (x_shape[0], x_shape[1], &x_shape[2..]);
    let (o, kernel) = (w_shape[1], &w_shape[2..]);
    let c = channels / groups;
    let (area, taps): (usize, usize) = (space.iter().product(), kernel.iter().product());
    let positions: usize = output.iter().product();
    let (in_strides, out_strides) = (row_major_strides(space), row_major_strides(output));
    let tap_strides = row_major_strides(kernel);
    // Which element of x a tap brings to a position.
    let read = |position: usize, tap: usize| {
        let mut at = 0;
        for a in 0..space.len() {
            let out = position / out_strides[a] % output[a] + before[a];
            let k = tap / tap_strides[a] % kernel[a] * dilations[a];
            let scaled = out.checked_sub(k).filter(|s| s.is_multiple_of(strides[a]))?;
            at += Some(scaled / strides[a]).filter(|&i| i < space[a])? * in_strides[a];
        }
        Some(at)
    };
    let mut result = Vec::with_capacity(batch * groups * o * positions);
    for image in 0..batch {
        for group in 0..*groups {
            let mut columns = vec![0.0; c * taps * positions];
            let mut weight = vec![0.0; o * c * taps];
            for channel in 0..c {
                let from = group * c + channel;
                let plane = &x[(image * channels + from) * area..][..area];
                for tap in 0..taps {
                    let row = &mut columns[(channel * taps + tap) * positions..][..positions];
                    for (position, cell) in row.iter_mut().enumerate() {
                        *cell = read(position, tap).map_or(0.0, |at| plane[at]);
                    }
                    for out in 0..o {
                        weight[(out * c + channel) * taps + tap] = w[(from * o + out) * taps + tap];
                    }
                }
            }
            let bias = bias.map(|b| &b[group * o..][..o]);
            let (out, seen) = products(&weight, &columns, bias, (c * taps, positions), flushes);
            events.add(seen);
            result.extend(out);
        }
    }
    result
}
