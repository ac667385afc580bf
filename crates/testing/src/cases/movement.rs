use super::{FLOATS, MOVABLE};
use crate::case::{Case, case};
use orion_mil::Op;
use orion_mil::op::PadMode;
use orion_tensor::{DType, Tolerance};

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for dtype in MOVABLE {
        let mut add = |name: &str, build: &dyn Fn(&mut crate::case::Draft) -> Vec<_>| {
            cases.push(case(format!("{name}/{dtype}"), Tolerance::Exact, |d| build(d)));
        };
        add("identity", &|d| {
            let x = d.any(dtype, &[3, 7]);
            vec![d.push(&Op::Identity { x })]
        });
        add("reshape", &|d| {
            let x = d.any(dtype, &[2, 3, 5]);
            let scalar = d.any(dtype, &[]);
            [&[30][..], &[5, 6], &[1, 2, 3, 5, 1]]
                .map(|shape| (x, shape))
                .into_iter()
                .chain([(scalar, &[1, 1][..])])
                .map(|(x, shape)| d.push(&Op::Reshape { x, shape: shape.to_vec() }))
                .collect()
        });
        add("transpose", &|d| {
            let matrix = d.any(dtype, &[33, 65]);
            let cube = d.any(dtype, &[3, 17, 9]);
            let heads = d.any(dtype, &[2, 5, 3, 33]);
            let mut results = vec![d.transpose(matrix, &[1, 0])];
            for perm in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                results.push(d.transpose(cube, &perm));
            }
            for perm in [[0, 2, 1, 3], [0, 1, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]] {
                results.push(d.transpose(heads, &perm));
            }
            results
        });
        add("concat", &|d| {
            let (a, b, c) =
                (d.any(dtype, &[2, 3, 5]), d.any(dtype, &[2, 1, 5]), d.any(dtype, &[2, 3, 5]));
            let push = |d: &mut crate::case::Draft, values: &[_], axis, interleave| {
                d.push(&Op::Concat { values: values.to_vec(), axis, interleave })
            };
            vec![
                push(d, &[a, b, c], 1, false),
                push(d, &[a, c], 0, false),
                push(d, &[a, c, a], 2, false),
                push(d, &[a, c], 2, true),
                push(d, &[a, c, c], 1, true),
                push(d, &[a], 1, false),
            ]
        });
        add("stack", &|d| {
            let (a, b) = (d.any(dtype, &[3, 5]), d.any(dtype, &[3, 5]));
            let stacks = (0..3).map(|axis| d.push(&Op::Stack { values: vec![a, b, a], axis }));
            stacks.collect()
        });
        add("split", &|d| {
            let x = d.any(dtype, &[4, 9, 6]);
            let mut results = d.split(x, 0, &[2, 2]);
            results.extend(d.split(x, 1, &[1, 5, 3]));
            results.extend(d.split(x, 2, &[6]));
            results
        });
        add("slice", &|d| {
            let x = d.any(dtype, &[5, 7, 9]);
            type Part = ([usize; 3], [usize; 3], [isize; 3], [bool; 3]);
            let parts: [Part; 6] = [
                ([1, 2, 3], [3, 4, 5], [1, 1, 1], [false; 3]),
                ([0, 0, 8], [5, 7, 1], [1, 1, 1], [false, false, true]),
                ([4, 0, 0], [3, 4, 3], [-2, 2, 4], [false; 3]),
                ([2, 6, 8], [1, 7, 9], [1, -1, -1], [true, false, false]),
                ([2, 3, 4], [1, 1, 1], [1, 1, 1], [true; 3]),
                ([0, 0, 0], [5, 7, 9], [1, 1, 1], [false; 3]),
            ];
            parts
                .map(|(begin, size, stride, squeeze)| {
                    d.push(&Op::Slice {
                        x,
                        begin: begin.to_vec(),
                        size: size.to_vec(),
                        stride: stride.to_vec(),
                        squeeze: squeeze.to_vec(),
                    })
                })
                .to_vec()
        });
        add("dynamic_slice", &|d| {
            let x = d.any(dtype, &[5, 7, 9]);
            let begin = d.given_ints(&[3], &[1, 3, 0]);
            let size = vec![4, 4, 9];
            vec![d.push(&Op::DynamicSlice { x, begin, size })]
        });
        add("slice_update", &|d| {
            let x = d.any(dtype, &[5, 7, 9]);
            let update = d.any(dtype, &[2, 7, 3]);
            let begin = d.given_ints(&[3], &[3, 0, 5]);
            let whole = d.any(dtype, &[5, 7, 9]);
            let zero = d.ints(&[0, 0, 0]);
            let updated = d.slice_update(x, update, begin);
            let twice = d.slice_update(updated, update, zero);
            vec![updated, twice, d.slice_update(x, whole, zero)]
        });
        if dtype != DType::Bool {
            add("tile", &|d| {
                let x = d.any(dtype, &[2, 3, 5]);
                [[1, 1, 4], [3, 1, 1], [2, 2, 2], [1, 1, 1]].map(|reps| d.tile(x, &reps)).to_vec()
            });
        }
        add("band_part", &|d| {
            let (x, wide) = (d.any(dtype, &[3, 9, 9]), d.any(dtype, &[5, 17]));
            let mut results = Vec::new();
            for (lower, upper) in [(-1, 0), (0, -1), (2, 1), (0, 0), (-1, -1), (50, 50)] {
                results.push(d.push(&Op::BandPart { x, lower, upper }));
                results.push(d.push(&Op::BandPart { x: wide, lower, upper }));
            }
            results
        });
        add("fill", &|d| {
            let value = if dtype == DType::Bool { 1.0 } else { -3.0 };
            [&[][..], &[1], &[3, 65]].map(|shape| d.fill(dtype, shape, value)).to_vec()
        });
    }
    for dtype in FLOATS {
        cases.push(case(format!("pad/{dtype}"), Tolerance::Exact, |d| {
            let x = d.any(dtype, &[2, 5, 7]);
            let mut results = Vec::new();
            for mode in [PadMode::Constant(0.0), PadMode::Constant(-1.5), PadMode::Replicate] {
                for pads in [vec![(0, 0), (1, 2), (3, 0)], vec![(1, 1), (0, 0), (0, 9)]] {
                    results.push(d.push(&Op::Pad { x, pads, mode }));
                }
            }
            for pads in [vec![(0, 0), (0, 0), (3, 6)], vec![(0, 0), (4, 1), (0, 2)]] {
                results.push(d.push(&Op::Pad { x, pads, mode: PadMode::Reflect }));
            }
            results
        }));
    }
    cases.push(case("range", Tolerance::Close, |d| {
        let ranges = [
            (DType::I32, 0.0, 1.0, 65),
            (DType::I32, 7.0, -3.0, 5),
            (DType::F32, -1.0, 0.25, 33),
            (DType::F16, 0.0, 2.0, 9),
        ];
        ranges
            .map(|(dtype, start, step, count)| d.push(&Op::Range { dtype, start, step, count }))
            .to_vec()
    }));
    cases.push(case("movement/chain", Tolerance::Exact, |d| {
        // Views of views, which a planner may resolve without copying.
        let x = d.any(DType::F32, &[1, 24, 1, 10]);
        let heads = d.reshape(x, &[4, 2, 3, 10]);
        let parts = d.split(heads, 1, &[1, 1]);
        let turned = d.transpose(parts[1], &[0, 1, 3, 2]);
        let flat = d.reshape(turned, &[4, 30]);
        let piece = d.slice(flat, &[1, 3], &[2, 20]);
        let joined = d.concat(&[piece, piece], 0);
        let back = d.transpose(joined, &[1, 0]);
        vec![d.reshape(back, &[80]), d.reshape(parts[0], &[120])]
    }));
}
