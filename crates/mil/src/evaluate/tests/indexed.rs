use super::*;
use crate::op::ScatterMode;

fn gather(axis: usize, batch_dims: usize) -> impl Fn(&[ValueId]) -> Op {
    move |v| Op::Gather { x: v[0], indices: v[1], axis, batch_dims }
}

#[test]
fn gathers_slices() {
    let x = floats(&[2, 3], &[0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
    let i = ints(&[2], &[2, -3]);
    check(gather(1, 0), &[x.clone(), i], &[floats(&[2, 2], &[2.0, 0.0, 12.0, 10.0])]);
    check(
        gather(0, 0),
        &[x.clone(), ints(&[1, 2], &[1, 0])],
        &[floats(&[1, 2, 3], &[10.0, 11.0, 12.0, 0.0, 1.0, 2.0])],
    );
    check(gather(1, 0), &[x, ints(&[], &[1])], &[floats(&[2], &[1.0, 11.0])]);
}

#[test]
fn gathers_within_batches() {
    let x = counting(&[2, 2, 2]);
    let i = ints(&[2, 1], &[1, 0]);
    // Axis 1: batch 0 takes row 1, batch 1 takes row 0.
    check(gather(1, 1), &[x.clone(), i.clone()], &[floats(&[2, 1, 2], &[2.0, 3.0, 4.0, 5.0])]);
    // Axis 2: batch 0 takes column 1 of both rows, batch 1 column 0.
    check(gather(2, 1), &[x, i], &[floats(&[2, 2, 1], &[1.0, 3.0, 4.0, 6.0])]);
}

#[test]
fn indices_outside_are_errors_that_name_them() {
    let x = counting(&[2, 3]);
    let error = run(gather(1, 0), &[x.clone(), ints(&[1, 2], &[0, 3])]).unwrap_err();
    assert_eq!(error, "index 3 at [0, 1] is outside an axis of 3 elements");
    let error = run(gather(0, 0), &[x.clone(), ints(&[1], &[-3])]).unwrap_err();
    assert_eq!(error, "index -3 at [0] is outside an axis of 2 elements");
    let along = |v: &[ValueId]| Op::GatherAlongAxis { x: v[0], indices: v[1], axis: 0 };
    let error = run(along, &[x.clone(), ints(&[1, 3], &[0, 2, 0])]).unwrap_err();
    assert_eq!(error, "index 2 at [0, 1] is outside an axis of 2 elements");
    let op = |v: &[ValueId]| scatter_op(v, 0, ScatterMode::Add);
    let error = run(op, &[x, ints(&[1], &[7]), floats(&[1, 3], &[0.0; 3])]).unwrap_err();
    assert_eq!(error, "index 7 at [0] is outside an axis of 2 elements");
}

#[test]
fn gathers_elements() {
    let along = |axis| move |v: &[ValueId]| Op::GatherAlongAxis { x: v[0], indices: v[1], axis };
    let x = floats(&[2, 3], &[0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
    check(along(1), &[x.clone(), ints(&[2, 1], &[2, -1])], &[floats(&[2, 1], &[2.0, 12.0])]);
    check(along(0), &[x, ints(&[1, 3], &[1, 0, 1])], &[floats(&[1, 3], &[10.0, 1.0, 12.0])]);
}

fn scatter_op(v: &[ValueId], axis: usize, mode: ScatterMode) -> Op {
    Op::Scatter { data: v[0], indices: v[1], updates: v[2], axis, mode }
}

#[test]
fn scatters_slices_in_every_mode() {
    let data = floats(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let indices = ints(&[2], &[2, 2]);
    let updates = floats(&[2, 2], &[2.0, 8.0, 10.0, 2.0]);
    let is = |mode, a: f64, b: f64| {
        let expected = floats(&[3, 2], &[1.0, 2.0, 3.0, 4.0, a, b]);
        let op = |v: &[ValueId]| scatter_op(v, 0, mode);
        check(op, &[data.clone(), indices.clone(), updates.clone()], &[expected]);
    };
    is(ScatterMode::Update, 10.0, 2.0);
    is(ScatterMode::Add, 17.0, 16.0);
    is(ScatterMode::Sub, -7.0, -4.0);
    is(ScatterMode::Mul, 100.0, 96.0);
    is(ScatterMode::Div, 0.25, 0.375);
    is(ScatterMode::Max, 10.0, 8.0);
    is(ScatterMode::Min, 2.0, 2.0);
}

#[test]
fn scatters_columns_and_integers() {
    check(
        |v| scatter_op(v, 1, ScatterMode::Update),
        &[ints(&[2, 3], &[0; 6]), ints(&[1], &[-1]), ints(&[2, 1], &[7, 8])],
        &[ints(&[2, 3], &[0, 0, 7, 0, 0, 8])],
    );
    check(
        |v| scatter_op(v, 0, ScatterMode::Div),
        &[ints(&[2], &[-7, 5]), ints(&[1], &[0]), ints(&[1], &[2])],
        &[ints(&[2], &[-3, 5])],
    );
    let by_zero = [ints(&[1], &[1]), ints(&[1], &[0]), ints(&[1], &[0])];
    let error = run(|v| scatter_op(v, 0, ScatterMode::Div), &by_zero).unwrap_err();
    assert_eq!(error, "update 0 divides by zero");
}

#[test]
fn scatters_elements() {
    check(
        |v| Op::ScatterAlongAxis {
            data: v[0],
            indices: v[1],
            updates: v[2],
            axis: 1,
            mode: ScatterMode::Add,
        },
        &[
            floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            ints(&[2, 2], &[1, 1, 0, 1]),
            floats(&[2, 2], &[10.0, 20.0, 30.0, 40.0]),
        ],
        &[floats(&[2, 2], &[1.0, 32.0, 33.0, 44.0])],
    );
}

#[test]
fn one_hot() {
    let op = |axis, dtype| {
        move |v: &[ValueId]| Op::OneHot { indices: v[0], size: 3, axis, dtype, on: 2.0, off: -1.0 }
    };
    let i = [ints(&[2], &[1, 3])];
    check(op(1, DType::I32), &i, &[ints(&[2, 3], &[-1, 2, -1, -1, -1, -1])]);
    check(op(0, DType::F16), &i, &[halves(&[3, 2], &[-1.0, -1.0, 2.0, -1.0, -1.0, -1.0])]);
}
