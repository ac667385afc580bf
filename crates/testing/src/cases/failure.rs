//! Programs that must fail, and in the right kind of way.

use crate::case::{Case, case};
use orion_mil::Op;
use orion_mil::Weights;
use orion_mil::op::{Binary, ScatterMode};
use orion_tensor::{DType, Tolerance};

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for (name, index) in [("above", 5), ("below", -6)] {
        cases.push(case(format!("failure/gather {name}"), Tolerance::Exact, |d| {
            let x = d.any(DType::F32, &[5, 3]);
            let indices = d.given_ints(&[2], &[0, index]);
            vec![d.gather(x, indices, 0)]
        }));
        cases.push(case(format!("failure/gather_along_axis {name}"), Tolerance::Exact, |d| {
            let x = d.any(DType::F32, &[5, 3]);
            let indices = d.given_ints(&[1, 3], &[0, index, 0]);
            vec![d.gather_along_axis(x, indices, 0)]
        }));
        cases.push(case(format!("failure/scatter {name}"), Tolerance::Exact, |d| {
            let data = d.any(DType::F32, &[5, 3]);
            let indices = d.given_ints(&[1], &[index]);
            let updates = d.any(DType::F32, &[1, 3]);
            vec![d.scatter_add(data, indices, updates, 0)]
        }));
        cases.push(case(format!("failure/scatter_along_axis {name}"), Tolerance::Exact, |d| {
            let data = d.any(DType::F32, &[5, 3]);
            let indices = d.given_ints(&[1, 3], &[0, index, 0]);
            let updates = d.any(DType::F32, &[1, 3]);
            let mode = ScatterMode::Update;
            vec![d.push(&Op::ScatterAlongAxis { data, indices, updates, axis: 0, mode })]
        }));
    }
    cases.push(case("failure/slice_update past the end", Tolerance::Exact, |d| {
        let (x, update) = (d.any(DType::F32, &[5, 3]), d.any(DType::F32, &[2, 3]));
        let begin = d.given_ints(&[2], &[4, 0]);
        vec![d.slice_update(x, update, begin)]
    }));
    cases.push(case("failure/dynamic slice past the end", Tolerance::Exact, |d| {
        let x = d.any(DType::F32, &[5, 3]);
        let begin = d.given_ints(&[2], &[4, 0]);
        vec![d.push(&Op::DynamicSlice { x, begin, size: vec![2, 3] })]
    }));
    for kind in [Binary::RealDiv, Binary::FloorDiv, Binary::Mod] {
        let name = format!("failure/{kind:?} of integers by zero").to_lowercase();
        cases.push(case(name, Tolerance::Exact, |d| {
            let x = d.any(DType::I32, &[3]);
            let y = d.given_ints(&[3], &[1, 0, 2]);
            vec![d.binary(kind, x, y)]
        }));
    }
    let mut lost = case("failure/missing weights", Tolerance::Exact, |d| {
        let x = d.any(DType::F32, &[3]);
        let w = d.weight(DType::F32, &[3], 1.0);
        vec![d.add(x, w)]
    });
    lost.weights = Weights::new();
    cases.push(lost);
}
