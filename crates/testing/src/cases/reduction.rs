use super::{FLOATS, NUMBERS, elementwise_tolerance, sum_tolerance};
use crate::case::{Case, case};
use orion_mil::Op;
use orion_mil::op::Reduction;
use orion_tensor::{DType, Tensor, Tolerance};

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    reductions(cases);
    positions(cases);
    running_sums(cases);
    normalizations(cases);
    top_k(cases);
}

const AXES: [(&[usize], &[usize]); 9] = [
    (&[1], &[0]),
    (&[5, 129], &[1]),
    (&[5, 129], &[0]),
    (&[3, 5, 7], &[1]),
    (&[3, 5, 7], &[0, 2]),
    (&[3, 5, 7], &[0, 1, 2]),
    (&[2, 1, 9], &[1]),
    (&[1, 65, 1, 33], &[1]),
    (&[2, 3, 4, 5], &[1, 2]),
];

fn reductions(cases: &mut Vec<Case>) {
    use Reduction::*;
    for dtype in NUMBERS {
        for kind in [Sum, Mean, Max, Min, Prod, L2Norm, L1Norm, SumSquare, LogSum, LogSumExp] {
            if dtype == DType::I32 && matches!(kind, L2Norm | LogSum | LogSumExp) {
                continue;
            }
            let exact = matches!(kind, Max | Min);
            let tolerance = if exact { Tolerance::Exact } else { sum_tolerance(dtype) };
            let name = format!("reduce/{kind:?}/{dtype}").to_lowercase();
            cases.push(case(name, tolerance, |d| {
                let inputs = AXES.map(|(shape, axes)| {
                    let x = match kind {
                        // Factors whose products stay within fp16.
                        Prod if dtype.is_float() => d.within(dtype, shape, 0.95, 1.05),
                        LogSum => d.within(dtype, shape, 0.5, 2.0),
                        _ => d.any(dtype, shape),
                    };
                    (x, axes)
                });
                let mut results = Vec::new();
                for (x, axes) in inputs {
                    results.push(d.reduce(kind, x, axes, false));
                    results.push(d.reduce(kind, x, axes, true));
                }
                results
            }));
        }
    }
    cases.push(case("reduce/sum/large", Tolerance::F32Accum, |d| {
        let x = d.any(DType::F32, &[2, 100_001]);
        let last = d.reduce(Sum, x, &[1], false);
        let all = d.reduce(SumSquare, x, &[0, 1], false);
        let first = d.reduce(Mean, x, &[0], false);
        vec![last, all, first]
    }));
    cases.push(case("reduce/logsumexp/extreme", Tolerance::Close, |d| {
        let inf = f64::INFINITY;
        let values = [1000.0, 1000.0, 1000.0, -inf, -inf, -inf, -inf, 3.0, -inf, -1e4, -1e4, -2e4];
        let x = d.given(Tensor::from_f64(DType::F32, &[4, 3], &values));
        vec![d.reduce(LogSumExp, x, &[1], false)]
    }));
}

fn positions(cases: &mut Vec<Case>) {
    for dtype in NUMBERS {
        for max in [true, false] {
            let name = format!("{}/{dtype}", if max { "argmax" } else { "argmin" });
            cases.push(case(name, Tolerance::Exact, |d| {
                let shapes: [(&[usize], usize); 4] =
                    [(&[1], 0), (&[5, 129], 1), (&[5, 129], 0), (&[3, 5, 7], 1)];
                // Few distinct values: ties must go to the first.
                let inputs = shapes.map(|(shape, axis)| {
                    let content = d.random.tensor(dtype, shape, |random| random.below(7) as f64);
                    (d.given(content), axis)
                });
                let mut results = Vec::new();
                for (x, axis) in inputs {
                    for keep_dims in [true, false] {
                        results.push(d.push(&Op::ArgReduce { max, x, axis, keep_dims }));
                    }
                }
                results
            }));
        }
    }
}

fn running_sums(cases: &mut Vec<Case>) {
    for dtype in NUMBERS {
        // Every partial sum of an fp16 result is rounded once, however it is computed.
        cases.push(case(format!("cumsum/{dtype}"), sum_tolerance(dtype), |d| {
            let x = d.any(dtype, &[3, 17, 5]);
            let mut results = Vec::new();
            for axis in 0..3 {
                for (exclusive, reverse) in
                    [(false, false), (true, false), (false, true), (true, true)]
                {
                    results.push(d.push(&Op::Cumsum { x, axis, exclusive, reverse }));
                }
            }
            results
        }));
    }
}

fn normalizations(cases: &mut Vec<Case>) {
    for dtype in FLOATS {
        let tolerance = elementwise_tolerance(dtype);
        let sums = sum_tolerance(dtype);
        cases.push(case(format!("softmax/{dtype}"), tolerance, |d| {
            let shapes: [(&[usize], usize); 7] = [
                (&[1], 0),
                (&[5, 129], 1),
                (&[5, 129], 0),
                (&[3, 5, 7], 1),
                (&[2, 3, 9, 33], 3),
                (&[4, 1], 1),
                (&[1, 65, 1, 33], 1),
            ];
            let inputs = shapes.map(|(shape, axis)| (d.within(dtype, shape, -5.0, 5.0), axis));
            inputs.map(|(x, axis)| d.softmax(x, axis)).to_vec()
        }));
        cases.push(case(format!("softmax/masked/{dtype}"), tolerance, |d| {
            let x = d.random.tensor(dtype, &[9, 33], |random| {
                if random.one_in(3) { -3e4 } else { random.normal() }
            });
            let x = d.given(x);
            let y = d.given(Tensor::from_f64(
                dtype,
                &[2, 3],
                &[f64::NEG_INFINITY, 0.0, 1.0, 6e4, 6e4, f64::NEG_INFINITY],
            ));
            vec![d.softmax(x, 1), d.softmax(y, 1)]
        }));
        cases.push(case(format!("layer_norm/{dtype}"), sums, |d| {
            let shapes: [(&[usize], &[usize]); 5] = [
                (&[5, 129], &[1]),
                (&[3, 5, 7], &[1, 2]),
                (&[1, 65, 1, 33], &[1]),
                (&[3, 5, 7], &[0]),
                (&[2, 33, 9], &[2]),
            ];
            let mut results = Vec::new();
            for (i, (shape, axes)) in shapes.into_iter().enumerate() {
                let x = d.any(dtype, shape);
                let size: Vec<usize> = axes.iter().map(|&a| shape[a]).collect();
                let gamma = (i % 2 == 0).then(|| d.weight(dtype, &size, 1.0));
                let beta = (i < 3).then(|| d.weight(dtype, &size, 1.0));
                let axes = axes.to_vec();
                results.push(d.push(&Op::LayerNorm { x, axes, gamma, beta, epsilon: 1e-3 }));
            }
            results
        }));
        cases.push(case(format!("batch_norm/{dtype}"), sums, |d| {
            let shapes: [&[usize]; 3] = [&[2, 5, 7], &[1, 33, 3, 9], &[1, 3, 2, 2, 2]];
            let mut results = Vec::new();
            for (i, shape) in shapes.into_iter().enumerate() {
                let channels = [shape[1]];
                let x = d.any(dtype, shape);
                let mean = d.weight(dtype, &channels, 1.0);
                let spread = d.random.tensor(dtype, &channels, |random| random.uniform(0.5, 2.0));
                let variance = d.constant(spread);
                let gamma = (i != 1).then(|| d.weight(dtype, &channels, 1.0));
                let beta = (i != 2).then(|| d.weight(dtype, &channels, 1.0));
                let op = Op::BatchNorm { x, mean, variance, gamma, beta, epsilon: 1e-3 };
                results.push(d.push(&op));
            }
            results
        }));
    }
}

fn top_k(cases: &mut Vec<Case>) {
    for dtype in NUMBERS {
        cases.push(case(format!("topk/{dtype}"), Tolerance::Exact, |d| {
            let shapes: [(&[usize], usize, usize); 4] =
                [(&[9], 0, 9), (&[5, 129], 1, 10), (&[33, 5], 0, 3), (&[3, 1], 1, 1)];
            let inputs = shapes.map(|(shape, axis, k)| {
                let content = d.random.tensor(dtype, shape, |random| random.below(20) as f64);
                (d.given(content), axis, k)
            });
            let mut results = Vec::new();
            for (x, axis, k) in inputs {
                for ascending in [false, true] {
                    results.extend(d.push_all(&Op::TopK { x, k, axis, ascending }, 2));
                }
            }
            results
        }));
    }
    cases.push(case("topk/without indices", Tolerance::Exact, |d| {
        let x = d.any(DType::F32, &[4, 19]);
        vec![d.push(&Op::TopK { x, k: 5, axis: 1, ascending: false })]
    }));
}
