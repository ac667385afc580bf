use super::{MOVABLE, NUMBERS, elementwise_tolerance};
use crate::case::{Case, case};
use orion_mil::Op;
use orion_mil::op::ScatterMode;
use orion_tensor::{DType, Tolerance};

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    gathers(cases);
    scatters(cases);
    for dtype in MOVABLE {
        cases.push(case(format!("one_hot/{dtype}"), Tolerance::Exact, |d| {
            // Some indices are outside on purpose.
            let indices = d.within(DType::I32, &[3, 17], -3.0, 12.0);
            let (on, off) = if dtype == DType::Bool { (1.0, 0.0) } else { (2.0, -1.0) };
            (0..3)
                .map(|axis| d.push(&Op::OneHot { indices, size: 9, axis, dtype, on, off }))
                .collect()
        }));
    }
}

fn gathers(cases: &mut Vec<Case>) {
    for dtype in [DType::F32, DType::F16, DType::I32] {
        cases.push(case(format!("gather/{dtype}"), Tolerance::Exact, |d| {
            let mut results = Vec::new();
            let shapes: [(&[usize], &[usize], usize, usize); 8] = [
                (&[65, 33], &[9], 0, 0),
                (&[65, 33], &[9], 1, 0),
                (&[5, 7, 9], &[2, 3], 1, 0),
                (&[5, 7, 9], &[], 1, 0),
                (&[2, 7, 9], &[2, 4], 1, 1),
                (&[2, 7, 9], &[2, 4], 2, 1),
                (&[2, 3, 9], &[2, 3, 4], 2, 2),
                (&[1, 1], &[1], 0, 0),
            ];
            for (shape, index_shape, axis, batch_dims) in shapes {
                let x = d.any(dtype, shape);
                let indices = d.indices(index_shape, shape[axis]);
                results.push(d.push(&Op::Gather { x, indices, axis, batch_dims }));
            }
            let x = d.any(dtype, &[5, 3]);
            let negative = d.given_ints(&[4], &[-1, 0, -5, 4]);
            results.push(d.gather(x, negative, 0));
            results
        }));
        cases.push(case(format!("gather_along_axis/{dtype}"), Tolerance::Exact, |d| {
            let mut results = Vec::new();
            let shapes: [(&[usize], &[usize], usize); 4] = [
                (&[65], &[9], 0),
                (&[5, 129], &[5, 3], 1),
                (&[33, 5], &[9, 5], 0),
                (&[1, 65, 1, 33], &[1, 1, 1, 33], 1),
            ];
            for (shape, index_shape, axis) in shapes {
                let x = d.any(dtype, shape);
                let indices = d.indices(index_shape, shape[axis]);
                results.push(d.gather_along_axis(x, indices, axis));
            }
            results
        }));
    }
}

fn scatters(cases: &mut Vec<Case>) {
    use ScatterMode::*;
    for dtype in NUMBERS {
        for mode in [Update, Add, Sub, Mul, Div, Max, Min] {
            // Integers divide with truncation at every step, floats round once at the end.
            let tolerance = match mode {
                Update | Max | Min => Tolerance::Exact,
                Mul | Div => elementwise_tolerance(dtype),
                Add | Sub => super::sum_tolerance(dtype),
            };
            let name = format!("scatter/{mode:?}/{dtype}").to_lowercase();
            cases.push(case(name, tolerance, |d| {
                let mut results = Vec::new();
                type Sizes = (&'static [usize], &'static [usize], &'static [usize], usize);
                let shapes: [Sizes; 3] = [
                    (&[9, 33], &[5], &[5, 33], 0),
                    (&[5, 9], &[7], &[5, 7], 1),
                    (&[3, 4, 5], &[2, 3], &[3, 2, 3, 5], 1),
                ];
                let factor = matches!(mode, Mul | Div);
                for (shape, index_shape, update_shape, axis) in shapes {
                    let data = d.any(dtype, shape);
                    let indices = d.indices(index_shape, shape[axis]);
                    let updates = if factor {
                        d.within(dtype, update_shape, 1.0, 2.5)
                    } else {
                        d.any(dtype, update_shape)
                    };
                    results.push(d.push(&Op::Scatter { data, indices, updates, axis, mode }));
                }
                for (shape, index_shape, axis) in
                    [([9, 33], [5, 33], 0), ([9, 33], [9, 40], 1), ([1, 1], [3, 1], 0)]
                {
                    let data = d.any(dtype, &shape);
                    let indices = d.indices(&index_shape, shape[axis]);
                    let updates = if factor {
                        d.within(dtype, &index_shape, 1.0, 2.5)
                    } else {
                        d.any(dtype, &index_shape)
                    };
                    let op = Op::ScatterAlongAxis { data, indices, updates, axis, mode };
                    results.push(d.push(&op));
                }
                results
            }));
        }
    }
    cases.push(case("scatter/embedding gradient", Tolerance::F32Accum, |d| {
        let table = d.fill(DType::F32, &[129, 64], 0.0);
        let tokens = d.indices(&[200], 129);
        let gradients = d.any(DType::F32, &[200, 64]);
        vec![d.scatter_add(table, tokens, gradients, 0)]
    }));
}
