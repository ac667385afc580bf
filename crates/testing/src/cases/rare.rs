//! Ops that few programs have.

use super::{FLOATS, NUMBERS, sum_tolerance};
use crate::case::{Case, case};
use orion_mil::Op;
use orion_mil::op::{Equation, ScatterMode};
use orion_tensor::{DType, Tolerance};

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for dtype in NUMBERS {
        cases.push(case(format!("einsum/{dtype}"), sum_tolerance(dtype), |d| {
            let (q, k) = (d.any(dtype, &[2, 5, 3, 4]), d.any(dtype, &[2, 7, 3, 4]));
            let (square, row, third) =
                (d.any(dtype, &[4, 4]), d.any(dtype, &[4]), d.any(dtype, &[3, 4]));
            [
                ("bqhd,bkhd->bhqk", vec![q, k]),
                ("nhwc,nkwc->nkwh", vec![q, k]),
                ("ij->ji", vec![square]),
                ("ii->i", vec![square]),
                ("ij->", vec![square]),
                ("ij,kj,j->ik", vec![square, third, row]),
                ("i,j->ij", vec![row, row]),
            ]
            .into_iter()
            .map(|(text, values)| {
                let equation = Equation::parse(text).expect("a good equation");
                d.push(&Op::Einsum { values, equation })
            })
            .collect()
        }));
        cases.push(case(format!("gather_nd/{dtype}"), Tolerance::Exact, |d| {
            let x = d.any(dtype, &[2, 3, 4, 5]);
            let pairs = d.given_ints(&[3, 2], &[1, 2, 0, -1, 1, 0]);
            let whole = d.given_ints(&[2, 1, 4], &[1, 2, 3, 4, 0, 0, -1, 0]);
            let batched = d.given_ints(&[2, 2, 1], &[2, 0, 1, 1]);
            [(pairs, 0), (whole, 0), (batched, 1)]
                .map(|(indices, batch_dims)| d.push(&Op::GatherNd { x, indices, batch_dims }))
                .to_vec()
        }));
        cases.push(case(format!("scatter_nd/{dtype}"), Tolerance::Exact, |d| {
            let data = d.any(dtype, &[3, 4, 2]);
            let indices = d.given_ints(&[3, 2], &[2, 1, 0, 3, 2, 1]);
            let updates = d.any(dtype, &[3, 2]);
            use ScatterMode::{Add, Max, Min, Sub, Update};
            [Update, Add, Sub, Max, Min]
                .map(|mode| d.push(&Op::ScatterNd { data, indices, updates, mode }))
                .to_vec()
        }));
        cases.push(case(format!("argsort/{dtype}"), Tolerance::Exact, |d| {
            let x = d.any(dtype, &[3, 7, 2]);
            [(0, true), (1, false), (2, true)]
                .map(|(axis, ascending)| d.push(&Op::ArgSort { x, axis, ascending }))
                .to_vec()
        }));
    }
    cases.push(case("gather_nd/outside", Tolerance::Exact, |d| {
        let x = d.any(DType::F32, &[2, 3]);
        let indices = d.given_ints(&[1, 2], &[1, 3]);
        vec![d.push(&Op::GatherNd { x, indices, batch_dims: 0 })]
    }));
    for dtype in FLOATS {
        cases.push(case(format!("prelu/{dtype}"), Tolerance::Exact, |d| {
            let x = d.any(dtype, &[2, 5, 3, 3]);
            let (alpha, one) = (d.any(dtype, &[5]), d.any(dtype, &[1]));
            vec![d.push(&Op::Prelu { x, alpha }), d.push(&Op::Prelu { x, alpha: one })]
        }));
        cases.push(case(format!("quantize/{dtype}"), Tolerance::Exact, |d| {
            let x = d.within(dtype, &[3, 5, 2], -30.0, 30.0);
            let (scales, scale) =
                (d.within(dtype, &[5], 0.1, 0.3), d.within(dtype, &[], 0.01, 0.2));
            let zero_points = d.any(DType::I8, &[5]);
            let mut results = Vec::new();
            for (scale, zero_point, axis, to) in
                [(scales, Some(zero_points), Some(1), DType::I8), (scale, None, None, DType::U8)]
            {
                let codes = d.push(&Op::Quantize { x, scale, zero_point, axis, dtype: to });
                let back = d.push(&Op::Dequantize { x: codes, scale, zero_point, axis });
                results.extend([codes, back]);
            }
            results
        }));
    }
}
