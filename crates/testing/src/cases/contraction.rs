use super::{FLOATS, sum_tolerance};
use crate::case::{Case, case};
use orion_mil::Op;
use orion_tensor::{DType, Tolerance};

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    matmul(cases);
    linear(cases);
    conv(cases);
    attention(cases);
}

fn matmul(cases: &mut Vec<Case>) {
    for dtype in FLOATS {
        let tolerance = sum_tolerance(dtype);
        for (transpose_x, transpose_y) in
            [(false, false), (true, false), (false, true), (true, true)]
        {
            let name = format!("matmul/{}{}/{dtype}", u8::from(transpose_x), u8::from(transpose_y));
            cases.push(case(name, tolerance, |d| {
                let sizes = [
                    [1, 1, 1],
                    [1, 7, 33],
                    [65, 1, 3],
                    [3, 5, 7],
                    [16, 16, 16],
                    [33, 65, 17],
                    [64, 31, 129],
                ];
                let mut results = Vec::new();
                for [m, k, n] in sizes {
                    let x_shape = if transpose_x { [k, m] } else { [m, k] };
                    let y_shape = if transpose_y { [n, k] } else { [k, n] };
                    let (x, y) = (d.any(dtype, &x_shape), d.any(dtype, &y_shape));
                    results.push(d.matmul(x, y, transpose_x, transpose_y));
                    // The other side a constant, as weights are.
                    let w = d.weight(dtype, &y_shape, 0.5);
                    results.push(d.matmul(x, w, transpose_x, transpose_y));
                }
                results
            }));
        }
        cases.push(case(format!("matmul/batches/{dtype}"), tolerance, |d| {
            let shapes: [(&[usize], &[usize]); 6] = [
                (&[3, 5, 7], &[3, 7, 9]),
                (&[3, 5, 7], &[7, 9]),
                (&[5, 7], &[3, 7, 9]),
                (&[2, 1, 5, 7], &[1, 3, 7, 9]),
                (&[2, 3, 17, 9], &[2, 1, 9, 33]),
                (&[2, 3, 1, 9], &[3, 9, 65]),
            ];
            let pairs = shapes.map(|(x, y)| (d.any(dtype, x), d.any(dtype, y)));
            pairs.map(|(x, y)| d.matmul(x, y, false, false)).to_vec()
        }));
        cases.push(case(format!("matmul/head groups/{dtype}"), tolerance, |d| {
            // G groups of R query heads share one key and value head: axis 1 broadcasts.
            let (g, r, dim, s, t) = (3, 2, 8, 5, 33);
            let q = d.any(dtype, &[g, r, dim, s]);
            let (k, v) = (d.any(dtype, &[g, 1, dim, t]), d.any(dtype, &[g, 1, dim, t]));
            let scores = d.matmul(q, k, true, false);
            let mixed = d.matmul(v, scores, false, true);
            vec![scores, mixed]
        }));
        cases.push(case(format!("matmul/vectors/{dtype}"), tolerance, |d| {
            let (m, v) = (d.any(dtype, &[9, 33]), d.any(dtype, &[33]));
            let (batch, u) = (d.any(dtype, &[2, 9, 33]), d.any(dtype, &[9]));
            vec![
                d.matmul(m, v, false, false),
                d.matmul(u, m, false, false),
                d.matmul(batch, v, false, false),
                d.matmul(u, batch, false, false),
            ]
        }));
    }
    cases.push(case("matmul/large", Tolerance::F32Accum, |d| {
        let (x, y) = (d.any(DType::F32, &[512, 257]), d.any(DType::F32, &[257, 129]));
        vec![d.matmul(x, y, false, false)]
    }));
    cases.push(case("matmul/of a product with itself", Tolerance::F32Accum, |d| {
        let x = d.any(DType::F32, &[33, 65]);
        let gram = d.matmul(x, x, false, true);
        vec![d.matmul(gram, x, false, false)]
    }));
    cases.push(case("matmul/int32", Tolerance::Exact, |d| {
        let (x, y) = (d.any(DType::I32, &[3, 1, 5, 7]), d.any(DType::I32, &[2, 9, 7]));
        vec![d.matmul(x, y, false, true)]
    }));
}

fn linear(cases: &mut Vec<Case>) {
    for dtype in FLOATS {
        cases.push(case(format!("linear/{dtype}"), sum_tolerance(dtype), |d| {
            let shapes: [(&[usize], usize); 4] =
                [(&[1, 7], 5), (&[3, 5, 33], 65), (&[129, 64], 3), (&[2, 1, 9], 1)];
            let mut results = Vec::new();
            for (shape, outputs) in shapes {
                let x = d.any(dtype, shape);
                let weight = d.weight(dtype, &[outputs, shape[shape.len() - 1]], 0.5);
                let bias = d.weight(dtype, &[outputs], 1.0);
                results.push(d.linear(x, weight, None));
                results.push(d.linear(x, weight, Some(bias)));
            }
            results
        }));
    }
}

fn conv(cases: &mut Vec<Case>) {
    for dtype in FLOATS {
        let tolerance = sum_tolerance(dtype);
        cases.push(case(format!("conv/pointwise/{dtype}"), tolerance, |d| {
            let mut results = Vec::new();
            // Batch, input channels, output channels, positions.
            for [n, i, o, s] in [[1, 65, 17, 33], [1, 1, 1, 1], [1, 64, 129, 1], [3, 5, 7, 9]] {
                let x = d.any(dtype, &[n, i, 1, s]);
                let weight = d.weight(dtype, &[o, i, 1, 1], 0.5);
                let bias = d.weight(dtype, &[o], 1.0);
                results.push(d.conv_1x1(x, weight, None));
                results.push(d.conv_1x1(x, weight, Some(bias)));
            }
            results
        }));
        cases.push(case(format!("conv/computed weight/{dtype}"), tolerance, |d| {
            let (x, w) = (d.any(dtype, &[1, 33, 1, 9]), d.any(dtype, &[17, 33]));
            let kernel = d.reshape(w, &[17, 33, 1, 1]);
            vec![d.conv_1x1(x, kernel, None)]
        }));
        cases.push(case(format!("conv/windows/{dtype}"), tolerance, |d| {
            struct Window {
                x: &'static [usize],
                weight: &'static [usize],
                strides: &'static [usize],
                pads: &'static [(usize, usize)],
                dilations: &'static [usize],
                groups: usize,
            }
            let windows = [
                Window {
                    x: &[2, 3, 17],
                    weight: &[5, 3, 4],
                    strides: &[2],
                    pads: &[(1, 2)],
                    dilations: &[3],
                    groups: 1,
                },
                Window {
                    x: &[1, 6, 9],
                    weight: &[6, 1, 3],
                    strides: &[1],
                    pads: &[(2, 0)],
                    dilations: &[1],
                    groups: 6,
                },
                Window {
                    x: &[1, 4, 9, 11],
                    weight: &[6, 2, 3, 2],
                    strides: &[2, 3],
                    pads: &[(1, 1), (0, 1)],
                    dilations: &[1, 2],
                    groups: 2,
                },
                Window {
                    x: &[2, 3, 8, 8],
                    weight: &[7, 3, 3, 3],
                    strides: &[1, 1],
                    pads: &[(1, 1), (1, 1)],
                    dilations: &[1, 1],
                    groups: 1,
                },
                Window {
                    x: &[1, 2, 4, 5, 6],
                    weight: &[3, 2, 2, 3, 2],
                    strides: &[1, 2, 1],
                    pads: &[(0, 1), (1, 0), (1, 1)],
                    dilations: &[2, 1, 1],
                    groups: 1,
                },
            ];
            let mut results = Vec::new();
            for (i, window) in windows.into_iter().enumerate() {
                let x = d.any(dtype, window.x);
                let weight = d.weight(dtype, window.weight, 0.5);
                let bias = (i % 2 == 0).then(|| d.weight(dtype, &window.weight[..1], 1.0));
                results.push(d.push(&Op::Conv {
                    x,
                    weight,
                    bias,
                    strides: window.strides.to_vec(),
                    pads: window.pads.to_vec(),
                    dilations: window.dilations.to_vec(),
                    groups: window.groups,
                }));
            }
            results
        }));
    }
    cases.push(case("conv/pointwise/large", Tolerance::F32Accum, |d| {
        let x = d.any(DType::F32, &[1, 128, 1, 300]);
        let weight = d.weight(DType::F32, &[257, 128, 1, 1], 0.1);
        vec![d.conv_1x1(x, weight, None)]
    }));
}

fn attention(cases: &mut Vec<Case>) {
    for dtype in FLOATS {
        cases.push(case(format!("attention/{dtype}"), sum_tolerance(dtype), |d| {
            let q = d.any(dtype, &[2, 3, 5, 8]);
            let (k, v) = (d.any(dtype, &[2, 3, 33, 8]), d.any(dtype, &[2, 3, 33, 7]));
            let additive = d.within(dtype, &[1, 1, 5, 33], -4.0, 0.0);
            let mut content = d.random.suitable(DType::Bool, &[5, 33]).to_f64_vec();
            // Every query sees something.
            content.iter_mut().step_by(33).for_each(|v| *v = 1.0);
            let content = orion_tensor::Tensor::from_f64(DType::Bool, &[5, 33], &content);
            let allowed = d.given(content);
            [None, Some(additive), Some(allowed)]
                .map(|mask| d.push(&Op::Attention { query: q, key: k, value: v, mask }))
                .to_vec()
        }));
    }
}
