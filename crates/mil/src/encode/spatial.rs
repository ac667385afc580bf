//! Writes ops over windows and grids, and recurrent layers.

use super::{Encoded, int, ints, named, pairs};
use crate::op::{Cell, Pooling, Rearrangement, Recurrent, Spatial};
use crate::{Value, ValueId, Values};
use orion_tensor::DType;

pub(super) fn spatial(op: &Spatial, values: &Values) -> Encoded {
    let tensor = |id: ValueId| values[id].ty.as_tensor().expect("a tensor operand");
    let like = |id: ValueId, v: f64| Value::scalar(tensor(id).dtype, v);
    match op {
        Spatial::Pool { kind, x, kernel, strides, pads, overhang, exclude_padding } => {
            let given: Vec<(usize, usize)> =
                pads.iter().zip(overhang).map(|(&(b, a), over)| (b, a - over)).collect();
            let runs_off = overhang.iter().any(|&n| n > 0);
            let encoded = named(kind.name())
                .operand("x", *x)
                .parameter("kernel_sizes", ints(kernel))
                .parameter("strides", ints(strides))
                .parameter("pad_type", Value::string("custom"))
                .parameter("pad", pairs(&given))
                .parameter("ceil_mode", Value::bool(runs_off));
            match kind {
                Pooling::Average => {
                    encoded.parameter("exclude_padding_from_average", Value::bool(*exclude_padding))
                }
                _ => encoded,
            }
        }
        Spatial::ConvTranspose { x, weight, bias, strides, before, output, dilations, groups } => {
            let (of_x, of_weight) = (tensor(*x).shape(), tensor(*weight).shape());
            let (of_x, of_weight) = of_x.zip(of_weight).expect("known shapes");
            let shape = [&[of_x[0], of_weight[1] * groups], output.as_slice()].concat();
            let pads: Vec<(usize, usize)> = before.iter().map(|&b| (b, 0)).collect();
            named("conv_transpose")
                .operand("x", *x)
                .operand("weight", *weight)
                .optional("bias", *bias)
                .parameter("pad", pairs(&pads))
                .parameter("output_shape", ints(&shape))
                .parameter("pad_type", Value::string("custom"))
                .parameter("strides", ints(strides))
                .parameter("dilations", ints(dilations))
                .parameter("groups", int(*groups))
        }
        Spatial::Resize { x, size, linear, sampling } => {
            // The axes that keep their sizes are named too.
            let rank = tensor(*x).rank();
            let mut shape = tensor(*x).shape().expect("a known shape");
            shape.splice(rank - size.len().., size.iter().copied());
            let count = Value::scalar(DType::U32, size.len() as f64);
            let mode = if *linear { "LINEAR" } else { "NEAREST_NEIGHBOR" };
            named("resize")
                .operand("x", *x)
                .parameter("shape", ints(&shape))
                .parameter("resized_dims", count)
                .parameter("interpolation_mode", Value::string(mode))
                .parameter("sampling_mode", Value::string(sampling.name()))
        }
        Spatial::Rearrange { kind, x, block } => {
            let (name, factor, value) = match kind {
                Rearrangement::PixelShuffle => ("pixel_shuffle", "upscale_factor", int(*block)),
                Rearrangement::PixelUnshuffle => {
                    let factor = Value::scalar(DType::U32, *block as f64);
                    ("pixel_unshuffle", "downscale_factor", factor)
                }
                Rearrangement::DepthToSpace => ("depth_to_space", "block_size", int(*block)),
                Rearrangement::SpaceToDepth => ("space_to_depth", "block_size", int(*block)),
            };
            named(name).operand("x", *x).parameter(factor, value)
        }
        Spatial::SlidingWindows { x, axis, size, stride } => named("sliding_windows")
            .operand("x", *x)
            .parameter("axis", int(*axis))
            .parameter("size", int(*size))
            .parameter("stride", int(*stride)),
        Spatial::InstanceNorm { x, gamma, beta, epsilon } => named("instance_norm")
            .operand("x", *x)
            .optional("gamma", *gamma)
            .optional("beta", *beta)
            .parameter("epsilon", like(*x, *epsilon)),
        Spatial::L2Norm { x, epsilon } => {
            named("l2_norm").operand("x", *x).parameter("epsilon", like(*x, *epsilon))
        }
        Spatial::LocalResponseNorm { x, size, alpha, beta, k } => named("local_response_norm")
            .operand("x", *x)
            .parameter("size", int(*size))
            .parameter("alpha", like(*x, *alpha))
            .parameter("beta", like(*x, *beta))
            .parameter("k", like(*x, *k)),
    }
}

pub(super) fn recurrent(op: &Recurrent) -> Encoded {
    let name = match op.cell {
        Cell::Lstm => "lstm",
        Cell::Gru { .. } => "gru",
        Cell::Rnn => "rnn",
    };
    let direction = match (&op.back, op.reverse) {
        (Some(_), _) => "bidirectional",
        (None, true) => "reverse",
        (None, false) => "forward",
    };
    let mut encoded = named(name)
        .operand("x", op.x)
        .operand("initial_h", op.initial_h)
        .optional("initial_c", op.initial_c)
        .operand("weight_ih", op.weights.input)
        .operand("weight_hh", op.weights.hidden)
        .optional("bias", op.weights.bias)
        .optional("input_bias", op.weights.input_bias)
        .optional("peephole", op.weights.peephole)
        .parameter("direction", Value::string(direction))
        .parameter("output_sequence", Value::bool(op.output_sequence))
        .parameter("activation", Value::string(op.activation.name()));
    if let Some(back) = &op.back {
        encoded = encoded
            .operand("weight_ih_back", back.input)
            .operand("weight_hh_back", back.hidden)
            .optional("bias_back", back.bias)
            .optional("peephole_back", back.peephole);
    }
    if op.cell != Cell::Rnn {
        let gates = Value::string(op.gate_activation.name());
        encoded = encoded.parameter("recurrent_activation", gates);
    }
    match op.cell {
        Cell::Lstm => {
            encoded.parameter("cell_activation", Value::string(op.cell_activation.name()))
        }
        Cell::Gru { reset_after } => encoded.parameter("reset_after", Value::bool(reset_after)),
        Cell::Rnn => encoded,
    }
}
