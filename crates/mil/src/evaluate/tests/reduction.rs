use super::*;
use crate::op::Reduction;

fn reduce(kind: Reduction, x: &Tensor, axes: &[usize], keep_dims: bool, expected: &Tensor) {
    let op = |v: &[ValueId]| Op::Reduce { kind, x: v[0], axes: axes.to_vec(), keep_dims };
    check(op, std::slice::from_ref(x), std::slice::from_ref(expected));
}

#[test]
fn reductions_along_rows() {
    let x = floats(&[2, 3], &[1.0, 2.0, 3.0, -4.0, 0.5, 6.0]);
    let is = |kind, a, b| {
        reduce(kind, &x, &[1], false, &floats(&[2], &[a, b]));
        reduce(kind, &x, &[1], true, &floats(&[2, 1], &[a, b]));
    };
    is(Reduction::Sum, 6.0, 2.5);
    is(Reduction::Mean, 2.0, 2.5 / 3.0);
    is(Reduction::Max, 3.0, 6.0);
    is(Reduction::Min, 1.0, -4.0);
    is(Reduction::Prod, 6.0, -12.0);
    is(Reduction::L2Norm, 3.7416573867739413, 7.228416147400481);
    is(Reduction::L1Norm, 6.0, 10.5);
    is(Reduction::SumSquare, 14.0, 52.25);
    is(Reduction::LogSum, 1.791759469228055, 0.9162907318741551);
    is(Reduction::LogSumExp, 3.4076059644443806, 6.0041237532);
}

#[test]
fn axes_in_the_middle_and_all_axes() {
    let x = counting(&[2, 3, 2]);
    reduce(Reduction::Sum, &x, &[1], false, &floats(&[2, 2], &[6.0, 9.0, 24.0, 27.0]));
    reduce(Reduction::Sum, &x, &[0, 2], true, &floats(&[1, 3, 1], &[14.0, 22.0, 30.0]));
    reduce(Reduction::Sum, &x, &[0, 1, 2], false, &floats(&[], &[66.0]));
}

#[test]
fn integers_reduce_exactly() {
    let x = ints(&[2, 2], &[i32::MAX, 1, -3, -4]);
    let is = |kind, a, b| reduce(kind, &x, &[1], false, &ints(&[2], &[a, b]));
    is(Reduction::Sum, i32::MIN, -7);
    is(Reduction::Mean, 1 << 30, -3);
    is(Reduction::Max, i32::MAX, -3);
    is(Reduction::Min, 1, -4);
    is(Reduction::Prod, i32::MAX, 12);
    is(Reduction::L1Norm, i32::MIN, 7);
    is(Reduction::SumSquare, 2, 25);
}

#[test]
fn extremes() {
    let inf = f64::INFINITY;
    let row = |v: &[f64]| floats(&[v.len()], v);
    let scalar = |v| floats(&[], &[v]);
    reduce(Reduction::LogSumExp, &row(&[1000.0, 1000.0]), &[0], false, &scalar(1000.6931471805599));
    reduce(Reduction::LogSumExp, &row(&[-inf, -inf]), &[0], false, &scalar(-inf));
    reduce(Reduction::Max, &row(&[1.0, f64::NAN, 2.0]), &[0], false, &scalar(f64::NAN));
    reduce(Reduction::Min, &row(&[f64::NAN, 1.0]), &[0], false, &scalar(f64::NAN));
    // f32 would lose the small terms.
    reduce(Reduction::Sum, &row(&[1e8, 1.0, -1e8]), &[0], false, &scalar(1.0));
}

#[test]
fn positions_of_extremes() {
    let arg =
        |max, axis, keep_dims| move |v: &[ValueId]| Op::ArgReduce { max, x: v[0], axis, keep_dims };
    let x = floats(&[2, 3], &[5.0, 7.0, 7.0, 1.0, 0.0, 0.0]);
    check(arg(true, 1, false), std::slice::from_ref(&x), &[ints(&[2], &[1, 0])]);
    check(arg(false, 1, true), std::slice::from_ref(&x), &[ints(&[2, 1], &[0, 1])]);
    check(arg(true, 0, false), std::slice::from_ref(&x), &[ints(&[3], &[0, 0, 0])]);
    let x = floats(&[3], &[1.0, f64::NAN, 9.0]);
    check(arg(true, 0, true), std::slice::from_ref(&x), &[ints(&[1], &[1])]);
    check(arg(false, 0, true), std::slice::from_ref(&x), &[ints(&[1], &[1])]);
}

#[test]
fn running_sums() {
    let cumsum = |axis, exclusive, reverse| {
        move |v: &[ValueId]| Op::Cumsum { x: v[0], axis, exclusive, reverse }
    };
    let x = || vec![floats(&[3], &[1.0, 2.0, 4.0])];
    check(cumsum(0, false, false), &x(), &[floats(&[3], &[1.0, 3.0, 7.0])]);
    check(cumsum(0, true, false), &x(), &[floats(&[3], &[0.0, 1.0, 3.0])]);
    check(cumsum(0, false, true), &x(), &[floats(&[3], &[7.0, 6.0, 4.0])]);
    check(cumsum(0, true, true), &x(), &[floats(&[3], &[6.0, 4.0, 0.0])]);
    check(
        cumsum(0, false, false),
        &[ints(&[2, 2], &[1, 2, 3, 4])],
        &[ints(&[2, 2], &[1, 2, 4, 6])],
    );
    check(
        cumsum(1, false, false),
        &[ints(&[2, 2], &[1, 2, 3, 4])],
        &[ints(&[2, 2], &[1, 3, 3, 7])],
    );
}

#[test]
fn top_k_breaks_ties_by_position() {
    let top = |k, axis, ascending| move |v: &[ValueId]| Op::TopK { x: v[0], k, axis, ascending };
    let x = floats(&[5], &[3.0, 1.0, 3.0, 2.0, 1.0]);
    check(
        top(3, 0, false),
        std::slice::from_ref(&x),
        &[floats(&[3], &[3.0, 3.0, 2.0]), ints(&[3], &[0, 2, 3])],
    );
    check(
        top(3, 0, true),
        std::slice::from_ref(&x),
        &[floats(&[3], &[1.0, 1.0, 2.0]), ints(&[3], &[1, 4, 3])],
    );
    let x = floats(&[3, 2], &[1.0, 6.0, 2.0, 5.0, 3.0, 4.0]);
    check(
        top(2, 0, false),
        std::slice::from_ref(&x),
        &[floats(&[2, 2], &[3.0, 6.0, 2.0, 5.0]), ints(&[2, 2], &[2, 0, 1, 1])],
    );
    check(
        top(1, 1, false),
        &[ints(&[1, 2], &[-5, -9])],
        &[ints(&[1, 1], &[-5]), ints(&[1, 1], &[0])],
    );
    check(
        top(2, 0, true),
        &[floats(&[3], &[2.0, f64::NAN, 1.0])],
        &[floats(&[2], &[f64::NAN, 1.0]), ints(&[2], &[1, 2])],
    );
}

#[test]
fn softmax() {
    let softmax = |axis| move |v: &[ValueId]| Op::Softmax { x: v[0], axis };
    let third = 1.0 / 3.0;
    let ln2 = std::f64::consts::LN_2;
    check(
        softmax(1),
        &[floats(&[2, 2], &[0.0, ln2, 1000.0, 1000.0])],
        &[floats(&[2, 2], &[third, 2.0 * third, 0.5, 0.5])],
    );
    check(
        softmax(0),
        &[floats(&[2, 2], &[0.0, 5.0, ln2, 5.0])],
        &[floats(&[2, 2], &[third, 0.5, 2.0 * third, 0.5])],
    );
    let masked = f64::NEG_INFINITY;
    check(softmax(0), &[floats(&[2], &[3.0, masked])], &[floats(&[2], &[1.0, 0.0])]);
    check(softmax(0), &[floats(&[2], &[masked; 2])], &[floats(&[2], &[f64::NAN; 2])]);
}

#[test]
fn layer_norm() {
    // Mean 2 and variance 1 along rows, epsilon 3 makes the divisor 2.
    let x = floats(&[1, 2], &[1.0, 3.0]);
    check(
        |v| Op::LayerNorm { x: v[0], axes: vec![1], gamma: None, beta: None, epsilon: 3.0 },
        std::slice::from_ref(&x),
        &[floats(&[1, 2], &[-0.5, 0.5])],
    );
    check(
        |v| Op::LayerNorm {
            x: v[0],
            axes: vec![1],
            gamma: Some(v[1]),
            beta: Some(v[2]),
            epsilon: 3.0,
        },
        &[x.clone(), floats(&[2], &[2.0, 4.0]), floats(&[2], &[10.0, 20.0])],
        &[floats(&[1, 2], &[9.0, 22.0])],
    );
    check(
        |v| Op::LayerNorm { x: v[0], axes: vec![0], gamma: None, beta: Some(v[1]), epsilon: 3.0 },
        &[floats(&[2, 1], &[1.0, 3.0]), floats(&[2], &[10.0, 20.0])],
        &[floats(&[2, 1], &[9.5, 20.5])],
    );
}

#[test]
fn batch_norm() {
    let x = floats(&[1, 2, 2], &[1.0, 3.0, 10.0, 20.0]);
    let (mean, variance) = (floats(&[2], &[2.0, 10.0]), floats(&[2], &[3.0, 24.0]));
    check(
        |v| Op::BatchNorm {
            x: v[0],
            mean: v[1],
            variance: v[2],
            gamma: None,
            beta: None,
            epsilon: 1.0,
        },
        &[x.clone(), mean.clone(), variance.clone()],
        &[floats(&[1, 2, 2], &[-0.5, 0.5, 0.0, 2.0])],
    );
    let (gamma, beta) = (floats(&[2], &[2.0, 3.0]), floats(&[2], &[1.0, -1.0]));
    check(
        |v| Op::BatchNorm {
            x: v[0],
            mean: v[1],
            variance: v[2],
            gamma: Some(v[3]),
            beta: Some(v[4]),
            epsilon: 1.0,
        },
        &[x, mean, variance, gamma, beta],
        &[floats(&[1, 2, 2], &[0.0, 2.0, -1.0, 5.0])],
    );
}
