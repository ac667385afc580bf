//! Images between pixels, chosen boxes, random numbers.

use super::Refusal;
use super::arguments::{Arguments, missing};
use super::meaning::unknown_choice;
use crate::Op;
use crate::op::{
    Border, BoxForm, Coordinates, Distribution, Grid, Random, Sample, Sampling, Suppression,
};
use orion_tensor::DType;

pub(super) fn resample(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let (x, coordinates) = (a.value("x")?, a.value("coordinates")?);
    let grid = grid(a)?;
    Ok(Op::Sample(Box::new(Sample::Points { x, coordinates, grid })))
}

pub(super) fn affine(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let (x, matrix) = (a.value("x")?, a.value("transform_matrix")?);
    let height = a.size("output_height")?.ok_or_else(|| missing("output_height"))?;
    let width = a.size("output_width")?.ok_or_else(|| missing("output_width"))?;
    let grid = grid(a)?;
    Ok(Op::Sample(Box::new(Sample::Affine { x, matrix, size: [height, width], grid })))
}

fn grid(a: &mut Arguments<'_>) -> Result<Grid, Refusal> {
    let value = a.number("padding_value")?.unwrap_or(0.0);
    let mut choice = |name: &'static str| a.string(name)?.ok_or_else(|| missing(name));
    let nearest = match choice("sampling_mode")? {
        "nearest" => true,
        "bilinear" => false,
        other => return Err(unknown_choice("sampling_mode", other)),
    };
    let border = match choice("padding_mode")? {
        "constant" => Border::Constant(value),
        "border" => Border::Edge,
        "reflection" => Border::Reflection,
        "symmetric" => Border::Symmetric,
        other => return Err(unknown_choice("padding_mode", other)),
    };
    let mode = choice("coordinates_mode")?;
    let coordinates = Coordinates::ALL.into_iter().find(|c| c.name() == mode);
    let coordinates = coordinates.ok_or_else(|| unknown_choice("coordinates_mode", mode))?;
    let align_corners = a.bool("align_corners")?.ok_or_else(|| missing("align_corners"))?;
    Ok(Grid { nearest, border, coordinates, align_corners })
}

pub(super) fn crop_resize(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    // Up to iOS16 the boxes are `roi`, and say themselves which image they are of.
    let (boxes, box_indices) = match a.optional_value("roi")? {
        Some(roi) => (roi, None),
        None => (a.value("boxes")?, a.optional_value("box_indices")?),
    };
    let size = [a.size("target_height")?.unwrap_or(1), a.size("target_width")?.unwrap_or(1)];
    let form = a.string("box_coordinate_mode")?.unwrap_or("CORNERS_HEIGHT_FIRST");
    let known = BoxForm::ALL.into_iter().find(|f| f.name() == form);
    let form = known.ok_or_else(|| unknown_choice("box_coordinate_mode", form))?;
    let sampling = a.string("sampling_mode")?.unwrap_or("DEFAULT");
    let known = Sampling::ALL.into_iter().find(|s| s.name() == sampling);
    let sampling = known.ok_or_else(|| unknown_choice("sampling_mode", sampling))?;
    Ok(Op::Sample(Box::new(Sample::Crop {
        x,
        boxes,
        box_indices,
        size,
        normalized: a.bool("normalized_coordinates")?.unwrap_or(false),
        scale: a.number("spatial_scale")?.unwrap_or(1.0),
        form,
        sampling,
        pad_value: a.number("pad_value")?.unwrap_or(0.0),
    })))
}

pub(super) fn suppression(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let (boxes, scores) = (a.value("boxes")?, a.value("scores")?);
    let iou_threshold = a.number("iou_threshold")?.ok_or_else(|| missing("iou_threshold"))?;
    Ok(Op::Suppression(Suppression {
        boxes,
        scores,
        iou_threshold,
        score_threshold: a.number("score_threshold")?,
        max_boxes: a.size("max_boxes")?.ok_or_else(|| missing("max_boxes"))?,
        per_class: a.bool("per_class_suppression")?.unwrap_or(false),
    }))
}

pub(super) fn random(name: &str, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let seed = a.int("seed")?.unwrap_or(-1);
    let seed = i32::try_from(seed)
        .map_err(|_| Refusal::invalid(format!("argument `seed`: {seed} is not an int32")))?;
    let start = if seed < 0 { a.name_as_number() } else { seed as u64 };
    let (dtype, shape, distribution) = if name == "random_categorical" {
        let x = a.value("x")?;
        let mut shape = a.shape("x", x)?;
        let size = a.size("size")?.unwrap_or(1);
        let last = shape.last_mut().ok_or_else(|| Refusal::invalid("x must have an axis"))?;
        *last = size;
        let logits = match a.string("mode")?.unwrap_or("logits") {
            "logits" => true,
            "probs" => false,
            other => return Err(unknown_choice("mode", other)),
        };
        (a.tensor("x", x)?.dtype, shape, Distribution::Categorical { x, logits })
    } else {
        let shape = a.sizes("shape")?.ok_or_else(|| missing("shape"))?;
        let mut dtype = None;
        let mut number = |name: &'static str, default: f64| {
            let given = a.typed_number(name)?;
            dtype = dtype.or(given.map(|(dtype, _)| dtype));
            Ok::<f64, Refusal>(given.map_or(default, |(_, v)| v))
        };
        let distribution = match name {
            "random_uniform" => {
                Distribution::Uniform { low: number("low", 0.0)?, high: number("high", 1.0)? }
            }
            "random_normal" => {
                let (mean, deviation) = (number("mean", 0.0)?, number("stddev", 1.0)?);
                Distribution::Normal { mean, deviation }
            }
            _ => Distribution::Bernoulli { probability: number("prob", 0.5)? },
        };
        (dtype.unwrap_or(DType::F32), shape, distribution)
    };
    Ok(Op::Random(Box::new(Random { dtype, shape, distribution, seed, start })))
}
