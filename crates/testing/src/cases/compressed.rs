//! Constants held in fewer bits, and integers that stand for floats.

use super::FLOATS;
use crate::case::{Case, Draft, case};
use orion_mil::op::Constexpr;
use orion_mil::{Op, ValueId};
use orion_tensor::{DType, Tensor, Tolerance};

/// A constant of whole numbers of `0..limit`, less `below`.
fn codes(d: &mut Draft, dtype: DType, shape: &[usize], limit: f64, below: f64) -> ValueId {
    let content = d.random.tensor(dtype, shape, |r| (r.uniform(0.0, limit) - below).floor());
    d.constant(content)
}

/// A mask with that many ones, and how many.
fn mask(d: &mut Draft, shape: &[usize]) -> (ValueId, usize) {
    let content = d.random.tensor(DType::U1, shape, |r| f64::from(r.uniform(0.0, 1.0) < 0.4));
    let ones = content.bytes().iter().filter(|&&b| b != 0).count();
    (d.constant(content), ones)
}

/// The unpacked constant, and what is computed from it.
fn results(d: &mut Draft, op: Constexpr) -> Vec<ValueId> {
    let unpacked = d.push(&Op::Constexpr(op));
    let doubled = d.scale(unpacked, 2.0);
    vec![unpacked, doubled]
}

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for dtype in FLOATS {
        let mut add = |name: &str, build: &dyn Fn(&mut Draft) -> Vec<ValueId>| {
            let name = format!("constexpr/{name}/{dtype}");
            cases.push(case(name, Tolerance::Exact, |d| build(d)));
        };
        add("affine", &|d| {
            let data = codes(d, DType::I8, &[3, 5, 7], 256.0, 128.0);
            let scale = d.weight(dtype, &[5], 0.1);
            let zero_point = codes(d, DType::I8, &[5], 9.0, 4.0);
            results(d, Constexpr::Affine { data, scale, zero_point, axis: 1 })
        });
        add("affine/scalar", &|d| {
            let data = codes(d, DType::U8, &[33], 256.0, 0.0);
            let scale = d.weight(dtype, &[], 0.1);
            let zero_point = codes(d, DType::U8, &[], 200.0, 0.0);
            results(d, Constexpr::Affine { data, scale, zero_point, axis: 0 })
        });
        add("lut/packed", &|d| {
            let stream = codes(d, DType::U8, &[(5 * 7 * 6usize).div_ceil(8)], 256.0, 0.0);
            let lut = d.weight(dtype, &[64], 1.0);
            let packed = Some(vec![5, 7]);
            results(d, Constexpr::Lut { indices: stream, lut, vector_axis: None, packed })
        });
        add("lut/blocks", &|d| {
            let indices = codes(d, DType::U2, &[6, 10], 4.0, 0.0);
            let lut = d.weight(dtype, &[3, 2, 4, 1], 1.0);
            results(d, Constexpr::Lut { indices, lut, vector_axis: None, packed: None })
        });
        add("lut/vectors", &|d| {
            let indices = codes(d, DType::U3, &[4, 3, 5], 8.0, 0.0);
            let lut = d.weight(dtype, &[2, 1, 1, 8, 2], 1.0);
            results(d, Constexpr::Lut { indices, lut, vector_axis: Some(1), packed: None })
        });
        add("sparse", &|d| {
            let (mask, ones) = mask(d, &[5, 9]);
            let data = d.weight(dtype, &[ones], 1.0);
            results(d, Constexpr::Sparse { data, mask, packed: None })
        });
        add("sparse/packed", &|d| {
            let bytes = [0b1010_0110u8, 0b0000_0101];
            let mask = d.constant(Tensor::from_slice(&[2], &bytes));
            let data = d.weight(dtype, &[6], 1.0);
            results(d, Constexpr::Sparse { data, mask, packed: Some(vec![3, 4]) })
        });
        for with_offset in [false, true] {
            add(&format!("blockwise/offset={with_offset}"), &|d| {
                let data = codes(d, DType::I4, &[6, 10], 16.0, 8.0);
                let scale = d.weight(dtype, &[2, 5], 0.1);
                let offset = with_offset.then(|| codes(d, DType::I4, &[2, 5], 8.0, 4.0));
                results(d, Constexpr::Blockwise { data, scale, offset })
            });
        }
        add("sparse/palette and scale", &|d| {
            let (mask, ones) = mask(d, &[6, 9]);
            let indices = codes(d, DType::U4, &[ones], 16.0, 0.0);
            let lut = d.weight(dtype, &[2, 3, 16, 1], 1.0);
            let op = Op::Constexpr(Constexpr::SparseLut { mask, indices, lut });
            let palette = d.push_all(&op, 2);
            let data = codes(d, DType::I8, &[ones], 256.0, 128.0);
            let scale = d.weight(dtype, &[3, 1], 0.1);
            let offset = Some(codes(d, DType::I8, &[3, 1], 8.0, 4.0));
            let op = Op::Constexpr(Constexpr::SparseBlockwise { mask, data, scale, offset });
            let scaled = d.push_all(&op, 2);
            let mut all = Vec::new();
            for [mask, data] in [[palette[0], palette[1]], [scaled[0], scaled[1]]] {
                all.extend(results(d, Constexpr::Sparse { data, mask, packed: None }));
            }
            all
        });
    }
    let update = case("constexpr/other weights", Tolerance::Exact, |d| {
        let data = codes(d, DType::I8, &[4, 6], 256.0, 128.0);
        let scale = d.weight(DType::F32, &[4, 2], 0.1);
        results(d, Constexpr::Blockwise { data, scale, offset: None })
    });
    cases.push(update.then_other_weights());
    cases.push(case("constexpr/mask of another count", Tolerance::Exact, |d| {
        let bytes = d.constant(Tensor::from_slice(&[1], &[7u8]));
        let data = d.weight(DType::F32, &[2], 1.0);
        results(d, Constexpr::Sparse { data, mask: bytes, packed: Some(vec![8]) })
    }));
}
