//! Ops over windows and grids, and recurrent layers.

use super::Refusal;
use super::arguments::{Arguments, missing};
use super::meaning::{epsilon, unknown_choice};
use super::placement::paddings;
use crate::op::{
    Activation, Cell, CellWeights, Pooling, Rearrangement, Recurrent, Sampling, Spatial,
};
use crate::{Op, ValueId};

pub(super) fn pool(kind: Pooling, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let spatial = a.tensor("x", x)?.rank().saturating_sub(2);
    let kernel = a.sizes("kernel_sizes")?.ok_or_else(|| missing("kernel_sizes"))?;
    let strides = a.sizes("strides")?.unwrap_or_else(|| vec![1; spatial]);
    let ceil = a.bool("ceil_mode")?.unwrap_or(false);
    let exclude = a.bool("exclude_padding_from_average")?;
    if exclude.is_some() && kind != Pooling::Average {
        return Err(Refusal::invalid("unknown argument `exclude_padding_from_average`"));
    }
    let exclude_padding = exclude.unwrap_or(false);
    let mut pads = paddings(a, x, Ok(kernel.clone()), &strides, &vec![1; spatial])?;
    let fits = [kernel.len(), strides.len()] == [spatial; 2] && !strides.contains(&0);
    let mut overhang = vec![0; spatial];
    if ceil && fits {
        let shape = a.shape("x", x)?;
        for axis in 0..spatial {
            let (n, k, stride) = (shape[axis + 2], kernel[axis], strides[axis]);
            let (before, after) = pads[axis];
            let wrong =
                || Refusal::invalid(format!("windows of {k} do not fit axis {axis} of {n}"));
            let padded = before.checked_add(after).and_then(|p| p.checked_add(n));
            let span = padded.and_then(|p| p.checked_sub(k)).ok_or_else(wrong)?;
            let mut last = span.div_ceil(stride);
            // The last window begins inside x or the padding before it.
            if last * stride >= n + before {
                last -= 1;
            }
            overhang[axis] = (last * stride).saturating_sub(span);
            pads[axis].1 += overhang[axis];
        }
    }
    Ok(Op::Spatial(Spatial::Pool { kind, x, kernel, strides, pads, overhang, exclude_padding }))
}

pub(super) fn conv_transpose(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let weight = a.value("weight")?;
    let bias = a.optional_value("bias")?;
    let shape = a.shape("x", x)?;
    let spatial = shape.len().saturating_sub(2);
    let kernel = a.shape("weight", weight)?;
    let strides = a.sizes("strides")?.unwrap_or_else(|| vec![1; spatial]);
    let dilations = a.sizes("dilations")?.unwrap_or_else(|| vec![1; spatial]);
    let groups = a.size("groups")?.unwrap_or(1);
    let pad_type = a.string("pad_type")?.unwrap_or("valid");
    let flat = a.sizes("pad")?.unwrap_or_else(|| vec![0; 2 * spatial]);
    let wanted = a.sizes("output_shape")?;
    let lengths = [strides.len(), dilations.len()] == [spatial; 2]
        && kernel.len() == shape.len()
        && flat.len() == 2 * spatial
        && wanted.as_ref().is_none_or(|w| w.len() == shape.len());
    if !lengths {
        return Err(Refusal::invalid(format!(
            "x {shape:?}, weight {kernel:?}, strides {strides:?}, dilations {dilations:?}, pad \
             {flat:?} and output_shape {wanted:?} do not fit"
        )));
    }
    let (mut before, mut output) = (Vec::new(), Vec::new());
    for axis in 0..spatial {
        let (n, k, stride) = (shape[axis + 2], kernel[axis + 2], strides[axis]);
        let full = full_size(n, k, stride, dilations[axis]);
        let all = full.ok_or_else(|| Refusal::invalid("the result is empty or too large"))?;
        let same = n.saturating_mul(stride);
        let cut = all.saturating_sub(wanted.as_ref().map_or(same, |w| w[axis + 2]));
        let (first, size) = match pad_type {
            "valid" => (0, Some(all)),
            "custom" => {
                let (first, last) = (flat[2 * axis], flat[2 * axis + 1]);
                (first, all.checked_sub(first).and_then(|n| n.checked_sub(last)))
            }
            "same" => (cut / 2, Some(same)),
            "same_lower" => (cut - cut / 2, Some(same)),
            _ => return Err(unknown_choice("pad_type", pad_type)),
        };
        let size = wanted.as_ref().map(|w| w[axis + 2]).or(size);
        before.push(first);
        output.push(size.ok_or_else(|| Refusal::invalid("argument `pad` cuts everything off"))?);
    }
    Ok(Op::Spatial(Spatial::ConvTranspose {
        x,
        weight,
        bias,
        strides,
        before,
        output,
        dilations,
        groups,
    }))
}

/// The size of a transposed convolution's result before anything is cut off.
fn full_size(n: usize, kernel: usize, stride: usize, dilation: usize) -> Option<usize> {
    let extent = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    n.checked_sub(1)?.checked_mul(stride)?.checked_add(extent)
}

/// `upsample_…`, by factors of the last two axes.
pub(super) fn upsample(linear: bool, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let shape = a.shape("x", x)?;
    let factors = [a.number("scale_factor_height")?, a.number("scale_factor_width")?];
    if shape.len() < 3 {
        return Err(Refusal::invalid(format!("x must have three axes or more, it is {shape:?}")));
    }
    let mut size = Vec::new();
    for (&n, factor) in shape[shape.len() - 2..].iter().zip(factors) {
        let scaled = (n as f64 * factor.unwrap_or(1.0)).floor();
        if !(1.0..=f64::from(i32::MAX)).contains(&scaled) {
            return Err(Refusal::invalid(format!("a scale makes {scaled} of {n} elements")));
        }
        size.push(scaled as usize);
    }
    let sampling = if linear {
        let align = a.bool("align_corners")?.unwrap_or(true);
        let half_pixel = a.bool("half_pixel_centers")?.unwrap_or(!align);
        match (align, half_pixel) {
            (true, false) => Sampling::AlignCorners,
            (false, true) => Sampling::UnalignCorners,
            (false, false) => Sampling::Default,
            (true, true) => {
                return Err(Refusal::invalid(
                    "`align_corners` and `half_pixel_centers` contradict each other",
                ));
            }
        }
    } else {
        Sampling::Default
    };
    Ok(Op::Spatial(Spatial::Resize { x, size, linear, sampling }))
}

fn sampling(a: &mut Arguments<'_>) -> Result<Sampling, Refusal> {
    let mode = a.string("sampling_mode")?.unwrap_or("DEFAULT");
    let known = Sampling::ALL.into_iter().find(|s| s.name() == mode);
    known.ok_or_else(|| unknown_choice("sampling_mode", mode))
}

/// `resize_bilinear` and `resize_nearest_neighbor`.
pub(super) fn resize_to(linear: bool, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let size = [a.size("target_size_height")?, a.size("target_size_width")?];
    let size = size.map(|n| n.unwrap_or(1)).to_vec();
    let sampling = if linear { sampling(a)? } else { Sampling::Default };
    Ok(Op::Spatial(Spatial::Resize { x, size, linear, sampling }))
}

pub(super) fn resize(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let shape = a.shape("x", x)?;
    let mut size = a.sizes("shape")?.ok_or_else(|| missing("shape"))?;
    let count = a.size("resized_dims")?.ok_or_else(|| missing("resized_dims"))?;
    let mode = a.string("interpolation_mode")?.unwrap_or("LINEAR");
    let linear = match mode {
        "LINEAR" => true,
        "NEAREST_NEIGHBOR" => false,
        _ => return Err(unknown_choice("interpolation_mode", mode)),
    };
    if count > size.len() || count > shape.len() {
        return Err(Refusal::invalid(format!(
            "{count} axes of x {shape:?} cannot get the sizes {size:?}"
        )));
    }
    size.drain(..size.len() - count);
    for (n, &old) in size.iter_mut().zip(&shape[shape.len() - count..]) {
        if *n == 0 {
            *n = old;
        }
    }
    let sampling = sampling(a)?;
    Ok(Op::Spatial(Spatial::Resize { x, size, linear, sampling }))
}

pub(super) fn rearrange(
    kind: Rearrangement,
    factor: &'static str,
    a: &mut Arguments<'_>,
) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let block = a.size(factor)?.ok_or_else(|| missing(factor))?;
    Ok(Op::Spatial(Spatial::Rearrange { kind, x, block }))
}

pub(super) fn sliding_windows(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let rank = a.tensor("x", x)?.rank();
    let axis = super::meaning::required_axis(a, rank)?;
    let size = a.size("size")?.ok_or_else(|| missing("size"))?;
    let stride = a.size("stride")?.unwrap_or(1);
    Ok(Op::Spatial(Spatial::SlidingWindows { x, axis, size, stride }))
}

pub(super) fn norm(name: &str, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    Ok(Op::Spatial(match name {
        "instance_norm" => Spatial::InstanceNorm {
            x,
            gamma: a.optional_value("gamma")?,
            beta: a.optional_value("beta")?,
            epsilon: epsilon(a, x, 1e-5)?,
        },
        "l2_norm" => Spatial::L2Norm { x, epsilon: epsilon(a, x, 1e-6)? },
        _ => Spatial::LocalResponseNorm {
            x,
            size: a.size("size")?.ok_or_else(|| missing("size"))?,
            alpha: a.number("alpha")?.unwrap_or(1e-4),
            beta: a.number("beta")?.unwrap_or(0.75),
            k: a.number("k")?.unwrap_or(1.0),
        },
    }))
}

fn activation(
    a: &mut Arguments<'_>,
    name: &'static str,
    default: Activation,
) -> Result<Activation, Refusal> {
    let Some(wanted) = a.string(name)? else { return Ok(default) };
    let known = Activation::ALL.into_iter().find(|a| a.name() == wanted);
    known.ok_or_else(|| {
        Refusal::unsupported(format!(
            "argument `{name}` is \"{wanted}\", an activation that cannot be executed here yet"
        ))
    })
}

pub(super) fn recurrent(name: &str, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let (x, initial_h) = (a.value("x")?, a.value("initial_h")?);
    let direction = a.string("direction")?.unwrap_or("forward");
    let output_sequence = a.bool("output_sequence")?.unwrap_or(false);
    let both = name == "lstm" && direction == "bidirectional";
    if !both && !["forward", "reverse"].contains(&direction) {
        return Err(unknown_choice("direction", direction));
    }
    let activation_of_output = activation(a, "activation", Activation::Tanh)?;
    let cell = match name {
        "lstm" => Cell::Lstm,
        "gru" => Cell::Gru { reset_after: a.bool("reset_after")?.unwrap_or(false) },
        _ => Cell::Rnn,
    };
    let mut gate_activation = Activation::Sigmoid;
    if cell != Cell::Rnn {
        gate_activation = activation(a, "recurrent_activation", Activation::Sigmoid)?;
    }
    let (mut initial_c, mut cell_activation, mut peephole) = (None, Activation::Tanh, None);
    if cell == Cell::Lstm {
        initial_c = Some(a.value("initial_c")?);
        cell_activation = activation(a, "cell_activation", Activation::Tanh)?;
        peephole = a.optional_value("peephole")?;
        if a.number("clip")?.is_some() {
            return Err(Refusal::unsupported("argument `clip` cannot be executed here yet"));
        }
    }
    let gru = matches!(cell, Cell::Gru { .. });
    let weights = CellWeights {
        input: a.value("weight_ih")?,
        hidden: a.value("weight_hh")?,
        bias: a.optional_value("bias")?,
        input_bias: if gru { a.optional_value("input_bias")? } else { None },
        peephole,
    };
    if weights.input_bias.is_some() && cell != (Cell::Gru { reset_after: true }) {
        return Err(Refusal::invalid("argument `input_bias` belongs to `reset_after`"));
    }
    let back = match both {
        true => Some(CellWeights {
            input: a.value("weight_ih_back")?,
            hidden: a.value("weight_hh_back")?,
            bias: a.optional_value("bias_back")?,
            input_bias: None,
            peephole: a.optional_value("peephole_back")?,
        }),
        false => {
            if cell == Cell::Lstm {
                ignored(a)?;
            }
            None
        }
    };
    Ok(Op::Recurrent(Box::new(Recurrent {
        cell,
        x,
        initial_h,
        initial_c,
        weights,
        back,
        reverse: direction == "reverse",
        output_sequence,
        gate_activation,
        cell_activation,
        activation: activation_of_output,
    })))
}

/// Weights of a direction that is not run.
fn ignored(a: &mut Arguments<'_>) -> Result<(), Refusal> {
    for name in ["weight_ih_back", "weight_hh_back", "bias_back", "peephole_back"] {
        let _: Option<ValueId> = a.optional_value(name)?;
    }
    Ok(())
}
