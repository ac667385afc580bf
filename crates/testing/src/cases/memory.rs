//! Where values live: results, states, surfaces replaced in place, weights, and memory that a
//! planner gives to several values.

use crate::case::{Case, case};
use orion_mil::Op;
use orion_mil::op::{Reduction, Unary};
use orion_tensor::{DType, Tensor, Tolerance};

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    results(cases);
    in_place(cases);
    states(cases);
    weights(cases);
    reuse(cases);
}

fn results(cases: &mut Vec<Case>) {
    cases.push(case("results/copies of an input", Tolerance::Exact, |d| {
        let x = d.any(DType::F32, &[3, 7]);
        let y = d.scale(x, 2.0);
        let copies = [x, x, y, y].map(|x| d.push(&Op::Identity { x }));
        copies.into_iter().chain([y]).collect()
    }));
    cases.push(case("results/views of an input", Tolerance::Exact, |d| {
        let x = d.any(DType::F32, &[4, 6]);
        let tall = d.reshape(x, &[24]);
        let deep = d.reshape(x, &[2, 2, 6]);
        let part = d.slice(x, &[1, 0], &[2, 6]);
        let parts = d.split(x, 0, &[1, 3]);
        vec![tall, deep, part, parts[0], parts[1]]
    }));
    cases.push(case("results/views of a value that is a result", Tolerance::Close, |d| {
        let x = d.any(DType::F32, &[4, 6]);
        let y = d.unary(Unary::Tanh, x);
        let flat = d.reshape(y, &[24]);
        let turned = d.transpose(y, &[1, 0]);
        let later = d.unary(Unary::Exp, flat);
        vec![y, flat, turned, later]
    }));
    cases.push(case("results/constants", Tolerance::Exact, |d| {
        let constant = d.constant(Tensor::from_slice(&[3], &[1i32, -2, 3]));
        let weight = d.weight(DType::F32, &[2, 3], 1.0);
        let view = d.reshape(weight, &[6]);
        vec![constant, weight, view]
    }));
    cases.push(case("results/unused input and dead operations", Tolerance::Close, |d| {
        let x = d.any(DType::F32, &[5]);
        d.any(DType::I32, &[7]);
        let dead = d.unary(Unary::Exp, x);
        d.add(dead, x);
        vec![d.offset(x, 1.0)]
    }));
    cases.push(
        case("results/run again", Tolerance::F32Accum, |d| {
            let x = d.any(DType::F32, &[9, 33]);
            let w = d.weight(DType::F32, &[17, 33], 0.5);
            let y = d.linear(x, w, None);
            vec![d.softmax(y, 1)]
        })
        .runs(3),
    );
}

/// Surfaces that are replaced by results: nothing may be written over them while the old content
/// is still to be read.
fn in_place(cases: &mut Vec<Case>) {
    cases.push(
        case("in place/read after the result is computed", Tolerance::F32Accum, |d| {
            let x = d.any(DType::F32, &[5, 33]);
            let next = d.scale(x, 0.5);
            let difference = d.sub(x, next);
            let sum = d.reduce(Reduction::Sum, x, &[1], true);
            vec![next, difference, sum]
        })
        .in_place(&[("y0", "x0")])
        .runs(3),
    );
    cases.push(
        case("in place/elementwise", Tolerance::Close, |d| {
            let x = d.any(DType::F32, &[9, 129]);
            let g = d.any(DType::F32, &[9, 129]);
            let step = d.scale(g, -0.1);
            vec![d.add(x, step)]
        })
        .in_place(&[("y0", "x0")])
        .runs(3),
    );
    cases.push(
        case("in place/swap", Tolerance::Exact, |d| {
            let (a, b) = (d.any(DType::F32, &[33]), d.any(DType::F32, &[33]));
            vec![d.push(&Op::Identity { x: b }), d.push(&Op::Identity { x: a })]
        })
        .in_place(&[("y0", "x0"), ("y1", "x1")])
        .runs(3),
    );
    cases.push(
        case("in place/rotation of three", Tolerance::Close, |d| {
            let inputs = [0; 3].map(|_| d.any(DType::F32, &[17]));
            (0..3).map(|i| d.offset(inputs[(i + 1) % 3], 1.0)).collect()
        })
        .in_place(&[("y0", "x0"), ("y1", "x1"), ("y2", "x2")])
        .runs(4),
    );
    cases.push(
        // Larger than what a device holds in registers or a tile at once.
        case("in place/reversed and transposed", Tolerance::Exact, |d| {
            let x = d.any(DType::F32, &[67, 67]);
            let y = d.any(DType::F32, &[4099]);
            let turned = d.transpose(x, &[1, 0]);
            let reversed = d.push(&Op::Slice {
                x: y,
                begin: vec![4098],
                size: vec![4099],
                stride: vec![-1],
                squeeze: vec![false],
            });
            vec![turned, reversed]
        })
        .in_place(&[("y0", "x0"), ("y1", "x1")])
        .runs(3),
    );
    cases.push(
        case("in place/shifted both ways", Tolerance::Close, |d| {
            let inputs = [d.any(DType::F32, &[3001]), d.any(DType::F32, &[3001])];
            let [right, left] = [1, 3000].map(|first| (first, 3001 - first));
            [(inputs[0], right), (inputs[1], left)]
                .map(|(x, (first, rest))| {
                    let parts = d.split(x, 0, &[first, rest]);
                    let rolled = d.concat(&[parts[1], parts[0]], 0);
                    let half = d.scale(rolled, 0.5);
                    d.sub(half, x)
                })
                .to_vec()
        })
        .in_place(&[("y0", "x0"), ("y1", "x1")])
        .runs(3),
    );
    cases.push(
        case("in place/broadcast over the whole", Tolerance::Close, |d| {
            // A row of x meets every row of it.
            let x = d.any(DType::F32, &[65, 67]);
            let row = d.slice(x, &[31, 0], &[1, 67]);
            vec![d.sub(x, row)]
        })
        .in_place(&[("y0", "x0")])
        .runs(2),
    );
    cases.push(
        case("in place/broadcast of itself", Tolerance::F32Accum, |d| {
            let x = d.any(DType::F32, &[5, 65]);
            let max = d.reduce(Reduction::Max, x, &[1], true);
            let centred = d.sub(x, max);
            let mean = d.reduce(Reduction::Mean, centred, &[0], true);
            vec![d.sub(x, mean)]
        })
        .in_place(&[("y0", "x0")])
        .runs(2),
    );
    cases.push(
        case("in place/product with itself", Tolerance::F32Accum, |d| {
            let x = d.within(DType::F32, &[65, 65], -0.2, 0.2);
            vec![d.matmul(x, x, false, true)]
        })
        .in_place(&[("y0", "x0")])
        .runs(2),
    );
    cases.push(
        case("in place/unchanged", Tolerance::Exact, |d| {
            let x = d.any(DType::I32, &[4]);
            vec![d.push(&Op::Identity { x })]
        })
        .in_place(&[("y0", "x0")]),
    );
    cases.push(
        case("in place/cache with a moving position", Tolerance::Exact, |d| {
            let cache = d.any(DType::F32, &[2, 1, 3, 8]);
            let column = d.any(DType::F32, &[2, 1, 3, 1]);
            let begin = d.given_ints(&[4], &[0, 0, 0, 2]);
            let updated = d.slice_update(cache, column, begin);
            let one = d.ints(&[0, 0, 0, 1]);
            let moved = d.add(begin, one);
            let old = d.reduce(Reduction::Max, cache, &[3], true);
            vec![updated, moved, old]
        })
        .in_place(&[("y0", "x0"), ("y1", "x2")])
        .runs(5),
    );
    cases.push(
        case("in place/view of the input", Tolerance::Close, |d| {
            let x = d.any(DType::F32, &[4, 6]);
            let flat = d.reshape(x, &[24]);
            let doubled = d.scale(flat, 2.0);
            let next = d.reshape(doubled, &[4, 6]);
            let top = d.slice(x, &[0, 0], &[1, 6]);
            vec![next, top]
        })
        .in_place(&[("y0", "x0")])
        .runs(2),
    );
    cases.push(
        case("in place/of a result that is read again", Tolerance::Close, |d| {
            let x = d.any(DType::F32, &[33]);
            let a = d.scale(x, 1.5);
            let b = d.unary(Unary::Tanh, a);
            let c = d.mul(b, x);
            vec![a, d.add(c, a)]
        })
        .in_place(&[("y0", "x0")])
        .runs(2),
    );
}

fn states(cases: &mut Vec<Case>) {
    cases.push(
        case("state/counter", Tolerance::Exact, |d| {
            let state = d.random_state(DType::F32, &[1]);
            let before = d.push(&Op::ReadState { state });
            let data = d.offset(before, 1.0);
            d.push_all(&Op::WriteState { state, data }, 0);
            let after = d.push(&Op::ReadState { state });
            vec![d.push(&Op::Identity { x: before }), d.scale(after, 2.0)]
        })
        .runs(4),
    );
    cases.push(
        case("state/read before write, used after", Tolerance::Close, |d| {
            let state = d.random_state(DType::F32, &[3, 33]);
            let x = d.any(DType::F32, &[3, 33]);
            let old = d.push(&Op::ReadState { state });
            d.push_all(&Op::WriteState { state, data: x }, 0);
            let new = d.push(&Op::ReadState { state });
            vec![d.sub(new, old)]
        })
        .runs(3),
    );
    cases.push(
        case("state/cache written by parts", Tolerance::Exact, |d| {
            let state = d.random_state(DType::F16, &[1, 2, 5]);
            let x = d.any(DType::F16, &[1, 2, 1]);
            for position in [3, 1] {
                let cache = d.push(&Op::ReadState { state });
                let begin = d.ints(&[0, 0, position]);
                let data = d.slice_update(cache, x, begin);
                d.push_all(&Op::WriteState { state, data }, 0);
            }
            let cache = d.push(&Op::ReadState { state });
            vec![d.reduce(Reduction::Max, cache, &[2], false)]
        })
        .runs(2),
    );
    cases.push(
        case("state/exchange", Tolerance::Exact, |d| {
            let (a, b) = (d.random_state(DType::I32, &[5]), d.random_state(DType::I32, &[5]));
            let old_a = d.push(&Op::ReadState { state: a });
            let old_b = d.push(&Op::ReadState { state: b });
            d.push_all(&Op::WriteState { state: a, data: old_b }, 0);
            d.push_all(&Op::WriteState { state: b, data: old_a }, 0);
            vec![d.add(old_a, old_b)]
        })
        .runs(3),
    );
}

fn weights(cases: &mut Vec<Case>) {
    for dtype in [DType::F32, DType::F16] {
        let tolerance = super::sum_tolerance(dtype);
        cases.push(
            case(format!("weights/updated/{dtype}"), tolerance, |d| {
                let x = d.any(dtype, &[1, 33, 1, 17]);
                let kernel = d.weight(dtype, &[65, 33, 1, 1], 0.5);
                let bias = d.weight(dtype, &[65], 1.0);
                let y = d.conv_1x1(x, kernel, Some(bias));
                // The same weight in another role: packed copies must follow.
                let flat = d.reshape(kernel, &[65, 33]);
                let columns = d.any(dtype, &[17, 33]);
                let z = d.matmul(columns, flat, false, true);
                let sum = d.reduce(Reduction::Sum, kernel, &[1], false);
                vec![y, z, sum]
            })
            .runs(2)
            .then_other_weights(),
        );
    }
    cases.push(
        case("weights/computed from weights", Tolerance::F32Accum, |d| {
            let w = d.weight(DType::F32, &[9, 33], 1.0);
            let scale = d.weight(DType::F32, &[9, 1], 1.0);
            let scaled = d.mul(w, scale);
            let x = d.any(DType::F32, &[5, 33]);
            vec![d.matmul(x, scaled, false, true)]
        })
        .then_other_weights(),
    );
}

/// Many values of different sizes and lives, so that memory is given out again and again.
fn reuse(cases: &mut Vec<Case>) {
    cases.push(
        case("reuse/long life beside short ones", Tolerance::F32Accum, |d| {
            let x = d.any(DType::F32, &[33, 65]);
            let early = d.unary(Unary::Tanh, x);
            let mut value = early;
            for i in 0..12 {
                let sums = d.reduce(Reduction::Mean, value, &[i % 2], true);
                let centred = d.sub(value, sums);
                value = d.unary(Unary::Softsign, centred);
            }
            vec![d.add(value, early), d.add(early, x)]
        })
        .runs(2),
    );
    cases.push(case("reuse/sizes that change", Tolerance::F32Accum, |d| {
        let x = d.any(DType::F32, &[4, 16]);
        let mut kept = Vec::new();
        let mut value = x;
        for i in 1..6 {
            let wide = d.tile(value, &[1, 2]);
            let width = d.shape(wide)[1];
            let parts = d.split(wide, 1, &[width - i, i]);
            kept.push(d.reduce(Reduction::Sum, parts[1], &[1], true));
            value = d.unary(Unary::Tanh, parts[0]);
        }
        let kept = d.concat(&kept, 1);
        vec![kept, d.reduce(Reduction::Sum, value, &[1], false)]
    }));
    cases.push(case("reuse/residual ladder", Tolerance::F32Network, |d| {
        let mut x = d.any(DType::F32, &[1, 33, 1, 17]);
        let mut kept = Vec::new();
        for _ in 0..6 {
            let weight = d.weight(DType::F32, &[33, 33, 1, 1], 0.2);
            let y = d.conv_1x1(x, weight, None);
            let y = d.unary(Unary::Silu, y);
            x = d.add(x, y);
            kept.push(x);
        }
        kept
    }));
}
