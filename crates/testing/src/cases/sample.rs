//! Images between pixels, chosen boxes, random numbers.

use super::{FLOATS, sum_tolerance};
use crate::case::{Case, case};
use orion_mil::Op;
use orion_mil::op::{
    Border, BoxForm, Coordinates, Distribution, Grid, Random, Sample, Sampling, Suppression,
};
use orion_tensor::{DType, Tolerance};

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for dtype in FLOATS {
        cases.push(case(format!("resample/{dtype}"), sum_tolerance(dtype), |d| {
            let x = d.any(dtype, &[2, 3, 5, 4]);
            let coordinates = d.within(dtype, &[2, 3, 6, 2], -1.5, 1.5);
            [Border::Constant(0.5), Border::Edge, Border::Reflection, Border::Symmetric]
                .map(|border| {
                    let grid = Grid {
                        nearest: border == Border::Edge,
                        border,
                        coordinates: Coordinates::MinusOneToOne,
                        align_corners: border == Border::Reflection,
                    };
                    d.push(&Op::Sample(Box::new(Sample::Points { x, coordinates, grid })))
                })
                .to_vec()
        }));
        cases.push(case(format!("affine/{dtype}"), sum_tolerance(dtype), |d| {
            let (x, matrix) = (d.any(dtype, &[2, 3, 5, 4]), d.any(dtype, &[2, 6]));
            let grid = Grid {
                nearest: false,
                border: Border::Constant(0.0),
                coordinates: Coordinates::MinusOneToOne,
                align_corners: true,
            };
            let op = Sample::Affine { x, matrix, size: [6, 7], grid };
            vec![d.push(&Op::Sample(Box::new(op)))]
        }));
        cases.push(case(format!("crop_resize/{dtype}"), sum_tolerance(dtype), |d| {
            let x = d.any(dtype, &[2, 3, 6, 8]);
            let boxes = d.within(dtype, &[3, 4], -0.2, 1.2);
            let indices = d.given_ints(&[3], &[1, 0, 1]);
            let op = Sample::Crop {
                x,
                boxes,
                box_indices: Some(indices),
                size: [3, 4],
                normalized: true,
                scale: 1.0,
                form: BoxForm::CornersHeightFirst,
                sampling: Sampling::AlignCorners,
                pad_value: 0.25,
            };
            vec![d.push(&Op::Sample(Box::new(op)))]
        }));
        cases.push(case(format!("random/{dtype}"), Tolerance::Exact, |d| {
            let x = d.any(dtype, &[4, 5]);
            let of = |distribution, shape: &[usize]| {
                let shape = shape.to_vec();
                Op::Random(Box::new(Random { dtype, shape, distribution, seed: 9, start: 9 }))
            };
            vec![
                d.push(&of(Distribution::Uniform { low: -1.0, high: 2.0 }, &[3, 5])),
                d.push(&of(Distribution::Normal { mean: 0.5, deviation: 2.0 }, &[7])),
                d.push(&of(Distribution::Bernoulli { probability: 0.25 }, &[9])),
                d.push(&of(Distribution::Categorical { x, logits: true }, &[4, 6])),
            ]
        }));
    }
    cases.push(case("non_maximum_suppression", Tolerance::Exact, |d| {
        let boxes = d.within(DType::F32, &[2, 9, 4], 0.5, 3.0);
        let scores = d.within(DType::F32, &[2, 9, 2], 0.0, 1.0);
        d.push_all(
            &Op::Suppression(Suppression {
                boxes,
                scores,
                iou_threshold: 0.25,
                score_threshold: Some(0.25),
                max_boxes: 5,
                per_class: false,
            }),
            4,
        )
    }));
}
