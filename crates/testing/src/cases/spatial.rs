//! Windows, grids and recurrent layers.

use super::{FLOATS, sum_tolerance};
use crate::case::{Case, Draft, case};
use orion_mil::op::{
    Activation, Cell, CellWeights, Pooling, Rearrangement, Recurrent, Sampling, Spatial,
};
use orion_mil::{Op, ValueId};
use orion_tensor::{DType, Tolerance};

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for dtype in FLOATS {
        let mut add = |name: String, build: &dyn Fn(&mut Draft) -> Vec<Spatial>| {
            cases.push(case(format!("{name}/{dtype}"), sum_tolerance(dtype), |d| {
                let ops = build(d);
                ops.into_iter().map(|op| d.push(&Op::Spatial(op))).collect()
            }));
        };
        for kind in [Pooling::Max, Pooling::Average, Pooling::L2] {
            add(kind.name().to_owned(), &|d| {
                let (image, line) = (d.any(dtype, &[2, 3, 7, 9]), d.any(dtype, &[1, 5, 11]));
                let pool =
                    |x, kernel: &[usize], strides: &[usize], pads: &[_], exclude| Spatial::Pool {
                        kind,
                        x,
                        kernel: kernel.to_vec(),
                        strides: strides.to_vec(),
                        pads: pads.to_vec(),
                        overhang: pads.iter().map(|_| 0).collect(),
                        exclude_padding: exclude && kind == Pooling::Average,
                    };
                vec![
                    pool(image, &[2, 3], &[1, 2], &[(0, 0), (0, 0)], false),
                    pool(image, &[3, 3], &[2, 3], &[(1, 2), (2, 0)], false),
                    pool(image, &[3, 3], &[2, 3], &[(1, 2), (2, 0)], true),
                    pool(line, &[4], &[3], &[(2, 1)], true),
                    Spatial::Pool {
                        kind,
                        x: line,
                        kernel: vec![4],
                        strides: vec![3],
                        pads: vec![(1, 3)],
                        overhang: vec![2],
                        exclude_padding: false,
                    },
                ]
            });
        }
        add("conv_transpose".to_owned(), &|d| {
            let (image, line) = (d.any(dtype, &[2, 4, 3, 5]), d.any(dtype, &[1, 3, 7]));
            let (weight, of_line) = (d.weight(dtype, &[4, 3, 2, 3], 0.3), d.any(dtype, &[3, 2, 3]));
            let (bias, plain) = (d.any(dtype, &[6]), d.any(dtype, &[3]));
            vec![
                Spatial::ConvTranspose {
                    x: image,
                    weight,
                    bias: Some(bias),
                    strides: vec![2, 1],
                    before: vec![0, 1],
                    output: vec![6, 6],
                    dilations: vec![1, 2],
                    groups: 2,
                },
                Spatial::ConvTranspose {
                    x: line,
                    weight: of_line,
                    bias: None,
                    strides: vec![2],
                    before: vec![1],
                    output: vec![16],
                    dilations: vec![1],
                    groups: 1,
                },
                Spatial::ConvTranspose {
                    x: line,
                    weight: d_weight(d, dtype),
                    bias: Some(plain),
                    strides: vec![3],
                    before: vec![0],
                    output: vec![19],
                    dilations: vec![1],
                    groups: 3,
                },
            ]
        });
        for sampling in [
            Sampling::Default,
            Sampling::StrictAlignCorners,
            Sampling::AlignCorners,
            Sampling::OffsetCorners,
            Sampling::UnalignCorners,
        ] {
            add(format!("resize/{}", sampling.name()), &|d| {
                let x = d.any(dtype, &[1, 2, 5, 3]);
                let sizes: [&[usize]; 4] = [&[10, 3], &[3, 7], &[1, 1], &[4]];
                let linear = sizes.map(|size| Spatial::Resize {
                    x,
                    size: size.to_vec(),
                    linear: true,
                    sampling,
                });
                let mut all = linear.to_vec();
                if matches!(sampling, Sampling::Default | Sampling::UnalignCorners) {
                    all.push(Spatial::Resize { x, size: vec![7, 6], linear: false, sampling });
                }
                all
            });
        }
        add("instance_norm".to_owned(), &|d| {
            let x = d.any(dtype, &[2, 3, 5, 7]);
            let (gamma, beta) = (d.any(dtype, &[3]), d.any(dtype, &[3]));
            vec![
                Spatial::InstanceNorm { x, gamma: Some(gamma), beta: Some(beta), epsilon: 0.5 },
                Spatial::InstanceNorm { x, gamma: None, beta: Some(beta), epsilon: 1e-3 },
            ]
        });
        add("l2_norm and local_response_norm".to_owned(), &|d| {
            let x = d.any(dtype, &[2, 5, 3, 4]);
            vec![
                Spatial::L2Norm { x, epsilon: 0.25 },
                Spatial::LocalResponseNorm { x, size: 3, alpha: 0.5, beta: 0.75, k: 2.0 },
                Spatial::LocalResponseNorm { x, size: 4, alpha: 0.5, beta: 1.5, k: 1.0 },
            ]
        });
    }
    for dtype in super::MOVABLE {
        cases.push(case(format!("rearrange/{dtype}"), Tolerance::Exact, |d| {
            let (deep, wide) = (d.any(dtype, &[2, 18, 2, 3]), d.any(dtype, &[1, 2, 6, 9]));
            let mut results = Vec::new();
            for (kind, x) in [
                (Rearrangement::PixelShuffle, deep),
                (Rearrangement::DepthToSpace, deep),
                (Rearrangement::PixelUnshuffle, wide),
                (Rearrangement::SpaceToDepth, wide),
            ] {
                results.push(d.push(&Op::Spatial(Spatial::Rearrange { kind, x, block: 3 })));
            }
            for (axis, size, stride) in [(1, 1, 1), (2, 4, 1), (3, 3, 2)] {
                let windows = Spatial::SlidingWindows { x: wide, axis, size, stride };
                results.push(d.push(&Op::Spatial(windows)));
            }
            results
        }));
    }
    add_recurrent(cases);
}

fn d_weight(d: &mut Draft, dtype: DType) -> ValueId {
    d.weight(dtype, &[3, 1, 1], 1.0)
}

fn add_recurrent(cases: &mut Vec<Case>) {
    let cells = [
        ("lstm", Cell::Lstm),
        ("gru", Cell::Gru { reset_after: false }),
        ("gru/reset after", Cell::Gru { reset_after: true }),
        ("rnn", Cell::Rnn),
    ];
    for (name, cell) in cells {
        for dtype in FLOATS {
            for (way, both, reverse) in [
                ("forward", false, false),
                ("reverse", false, true),
                ("bidirectional", true, false),
            ] {
                if both && cell != Cell::Lstm {
                    continue;
                }
                let name = format!("{name}/{way}/{dtype}");
                cases.push(case(name, sum_tolerance(dtype), |d| {
                    layers(d, cell, dtype, both, reverse)
                }));
            }
        }
    }
}

/// The layer with and without its optional parts.
fn layers(d: &mut Draft, cell: Cell, dtype: DType, both: bool, reverse: bool) -> Vec<ValueId> {
    let (steps, batch, inputs, hidden) = (5, 2, 3, 4);
    let rows = cell.gates() * hidden;
    let width = hidden * (1 + usize::from(both));
    let x = d.any(dtype, &[steps, batch, inputs]);
    let initial_h = d.any(dtype, &[batch, width]);
    let lstm = cell == Cell::Lstm;
    let initial_c = lstm.then(|| d.any(dtype, &[batch, width]));
    let weights = |d: &mut Draft, full: bool| CellWeights {
        input: d.weight(dtype, &[rows, inputs], 0.5),
        hidden: d.weight(dtype, &[rows, hidden], 0.5),
        bias: full.then(|| d.weight(dtype, &[rows], 0.5)),
        input_bias: (full && cell == (Cell::Gru { reset_after: true }))
            .then(|| d.weight(dtype, &[rows], 0.5)),
        peephole: (full && lstm).then(|| d.weight(dtype, &[3 * hidden], 0.5)),
    };
    let mut results = Vec::new();
    for full in [false, true] {
        let layer = Recurrent {
            cell,
            x,
            initial_h,
            initial_c,
            weights: weights(d, full),
            back: both.then(|| weights(d, full)),
            reverse,
            output_sequence: full,
            gate_activation: Activation::Sigmoid,
            cell_activation: if full { Activation::Relu } else { Activation::Tanh },
            activation: if full && lstm { Activation::Linear } else { Activation::Tanh },
        };
        results.extend(d.push_all(&Op::Recurrent(Box::new(layer)), if lstm { 3 } else { 2 }));
    }
    results
}
