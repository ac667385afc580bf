//! Writes ops that read between pixels, choose boxes or draw numbers.

use super::{Encoded, int, named};
use crate::op::{Border, Distribution, Grid, Random, Sample, Suppression};
use crate::{Value, ValueId, Values};
use orion_tensor::DType;

pub(super) fn sample(op: &Sample, values: &Values) -> Encoded {
    let like = |id: ValueId, v: f64| {
        Value::scalar(values[id].ty.as_tensor().expect("a tensor operand").dtype, v)
    };
    let grid = |encoded: Encoded, x: ValueId, grid: &Grid| {
        let value = if let Border::Constant(v) = grid.border { v } else { 0.0 };
        encoded
            .parameter(
                "sampling_mode",
                Value::string(if grid.nearest { "nearest" } else { "bilinear" }),
            )
            .parameter("padding_mode", Value::string(grid.border.name()))
            .parameter("padding_value", like(x, value))
            .parameter("coordinates_mode", Value::string(grid.coordinates.name()))
            .parameter("align_corners", Value::bool(grid.align_corners))
    };
    match op {
        Sample::Points { x, coordinates, grid: how } => {
            let encoded = named("resample").operand("x", *x).operand("coordinates", *coordinates);
            grid(encoded, *x, how)
        }
        Sample::Affine { x, matrix, size, grid: how } => {
            let encoded = named("affine")
                .operand("x", *x)
                .operand("transform_matrix", *matrix)
                .parameter("output_height", int(size[0]))
                .parameter("output_width", int(size[1]));
            grid(encoded, *x, how)
        }
        Sample::Crop {
            x,
            boxes,
            box_indices,
            size,
            normalized,
            scale,
            form,
            sampling,
            pad_value,
        } => {
            let rank = values[*boxes].ty.as_tensor().map_or(2, crate::TensorType::rank);
            named("crop_resize")
                .operand("x", *x)
                .operand(if rank == 5 { "roi" } else { "boxes" }, *boxes)
                .optional("box_indices", *box_indices)
                .parameter("target_height", int(size[0]))
                .parameter("target_width", int(size[1]))
                .parameter("normalized_coordinates", Value::bool(*normalized))
                .parameter("spatial_scale", Value::scalar(DType::F32, *scale))
                .parameter("box_coordinate_mode", Value::string(form.name()))
                .parameter("sampling_mode", Value::string(sampling.name()))
                .parameter("pad_value", like(*x, *pad_value))
        }
    }
}

pub(super) fn suppression(op: &Suppression, values: &Values) -> Encoded {
    let dtype = values[op.boxes].ty.as_tensor().expect("a tensor operand").dtype;
    let mut encoded = named("non_maximum_suppression")
        .operand("boxes", op.boxes)
        .operand("scores", op.scores)
        .parameter("iou_threshold", Value::scalar(dtype, op.iou_threshold));
    if let Some(least) = op.score_threshold {
        encoded = encoded.parameter("score_threshold", Value::scalar(dtype, least));
    }
    encoded
        .parameter("max_boxes", int(op.max_boxes))
        .parameter("per_class_suppression", Value::bool(op.per_class))
}

pub(super) fn random(op: &Random) -> Encoded {
    let number = |v: f64| Value::scalar(op.dtype, v);
    let encoded = named(op.distribution.name());
    let encoded = match &op.distribution {
        Distribution::Categorical { x, logits } => {
            let size = op.shape.last().copied().unwrap_or(1);
            return encoded
                .operand("x", *x)
                .parameter("mode", Value::string(if *logits { "logits" } else { "probs" }))
                .parameter("size", int(size))
                .parameter("seed", Value::int(op.seed));
        }
        Distribution::Uniform { low, high } => {
            encoded.parameter("low", number(*low)).parameter("high", number(*high))
        }
        Distribution::Normal { mean, deviation } => {
            encoded.parameter("mean", number(*mean)).parameter("stddev", number(*deviation))
        }
        Distribution::Bernoulli { probability } => encoded.parameter("prob", number(*probability)),
    };
    encoded.parameter("shape", super::ints(&op.shape)).parameter("seed", Value::int(op.seed))
}
