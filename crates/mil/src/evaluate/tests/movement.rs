use super::*;
use crate::op::PadMode;

#[test]
fn reshape() {
    let x = counting(&[2, 3]);
    check(
        |v| Op::Reshape { x: v[0], shape: vec![3, 2] },
        std::slice::from_ref(&x),
        &[counting(&[3, 2])],
    );
}

#[test]
fn transpose() {
    check(
        |v| Op::Transpose { x: v[0], perm: vec![2, 0, 1] },
        &[counting(&[2, 1, 3])],
        &[floats(&[3, 2, 1], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0])],
    );
    check(
        |v| Op::Transpose { x: v[0], perm: vec![1, 0] },
        &[bools(&[1, 2], &[0, 1])],
        &[bools(&[2, 1], &[0, 1])],
    );
}

#[test]
fn concat_and_stack() {
    let concat =
        |axis, interleave| move |v: &[ValueId]| Op::Concat { values: v.to_vec(), axis, interleave };
    let (a, b) = (ints(&[1, 2], &[1, 2]), ints(&[1, 2], &[3, 4]));
    let both = [a.clone(), b];
    check(concat(0, false), &both, &[ints(&[2, 2], &[1, 2, 3, 4])]);
    check(concat(1, false), &both, &[ints(&[1, 4], &[1, 2, 3, 4])]);
    check(concat(1, true), &both, &[ints(&[1, 4], &[1, 3, 2, 4])]);
    check(concat(1, false), &[a, ints(&[1, 1], &[9])], &[ints(&[1, 3], &[1, 2, 9])]);
    let stack = |axis| move |v: &[ValueId]| Op::Stack { values: v.to_vec(), axis };
    check(stack(0), &both, &[ints(&[2, 1, 2], &[1, 2, 3, 4])]);
    check(stack(2), &both, &[ints(&[1, 2, 2], &[1, 3, 2, 4])]);
}

#[test]
fn split() {
    check(
        |v| Op::Split { x: v[0], axis: 1, sizes: vec![1, 2] },
        &[counting(&[2, 3])],
        &[floats(&[2, 1], &[0.0, 3.0]), floats(&[2, 2], &[1.0, 2.0, 4.0, 5.0])],
    );
}

#[test]
fn slices_with_strides_both_ways() {
    let slice = |begin: [usize; 2], size: [usize; 2], stride: [isize; 2], squeeze: [bool; 2]| {
        move |v: &[ValueId]| Op::Slice {
            x: v[0],
            begin: begin.to_vec(),
            size: size.to_vec(),
            stride: stride.to_vec(),
            squeeze: squeeze.to_vec(),
        }
    };
    let x = [counting(&[3, 4])];
    let none = [false; 2];
    check(slice([1, 1], [2, 2], [1, 1], none), &x, &[floats(&[2, 2], &[5.0, 6.0, 9.0, 10.0])]);
    check(slice([0, 1], [2, 2], [2, 2], none), &x, &[floats(&[2, 2], &[1.0, 3.0, 9.0, 11.0])]);
    check(
        slice([2, 3], [3, 2], [-1, -3], none),
        &x,
        &[floats(&[3, 2], &[11.0, 8.0, 7.0, 4.0, 3.0, 0.0])],
    );
    check(slice([1, 0], [1, 4], [1, 1], [true, false]), &x, &[floats(&[4], &[4.0, 5.0, 6.0, 7.0])]);
    check(slice([1, 2], [1, 1], [1, 1], [true, true]), &x, &[floats(&[], &[6.0])]);
}

#[test]
fn dynamic_slices() {
    let op = |v: &[ValueId]| Op::DynamicSlice { x: v[0], begin: v[1], size: vec![1, 2] };
    let x = counting(&[2, 3]);
    check(op, &[x.clone(), ints(&[2], &[1, 0])], &[floats(&[1, 2], &[3.0, 4.0])]);
    check(op, &[x.clone(), ints(&[2], &[-1, -2])], &[floats(&[1, 2], &[4.0, 5.0])]);
    let error = run(op, &[x, ints(&[2], &[0, 2])]).unwrap_err();
    assert_eq!(error, "begin 2 of axis 1 leaves no room for 2 of 3 elements");
}

#[test]
fn slice_updates() {
    let op = |begin_mask: [bool; 2]| {
        move |v: &[ValueId]| Op::SliceUpdate {
            x: v[0],
            update: v[1],
            begin: v[2],
            end: v[3],
            begin_mask: begin_mask.to_vec(),
            end_mask: vec![false; 2],
        }
    };
    let operands = |begin: [i32; 2]| {
        let end = ints(&[2], &[begin[0] + 1, begin[1] + 2]);
        [counting(&[2, 3]), floats(&[1, 2], &[8.0, 9.0]), ints(&[2], &begin), end]
    };
    let none = [false; 2];
    check(op(none), &operands([1, 1]), &[floats(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 8.0, 9.0])]);
    check(
        op([false, true]),
        &operands([1, 1]),
        &[floats(&[2, 3], &[0.0, 1.0, 2.0, 8.0, 9.0, 5.0])],
    );
    let error = run(op(none), &operands([2, 0])).unwrap_err();
    assert_eq!(error, "begin 2 of axis 0 leaves no room for 1 of 2 elements");
}

#[test]
fn tile() {
    check(
        |v| Op::Tile { x: v[0], reps: vec![2, 3] },
        &[ints(&[1, 2], &[1, 2])],
        &[ints(&[2, 6], &[1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2])],
    );
}

#[test]
fn pad_modes() {
    let pad =
        |pads: Vec<(usize, usize)>, mode| move |v: &[ValueId]| Op::Pad { x: v[0], pads, mode };
    let x = [floats(&[3], &[1.0, 2.0, 3.0])];
    check(
        pad(vec![(1, 2)], PadMode::Constant(9.0)),
        &x,
        &[floats(&[6], &[9.0, 1.0, 2.0, 3.0, 9.0, 9.0])],
    );
    check(
        pad(vec![(2, 2)], PadMode::Reflect),
        &x,
        &[floats(&[7], &[3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0])],
    );
    check(
        pad(vec![(2, 1)], PadMode::Replicate),
        &x,
        &[floats(&[6], &[1.0, 1.0, 1.0, 2.0, 3.0, 3.0])],
    );
    check(
        pad(vec![(0, 1), (1, 0)], PadMode::Constant(0.0)),
        &[floats(&[1, 2], &[1.0, 2.0])],
        &[floats(&[2, 3], &[0.0, 1.0, 2.0, 0.0, 0.0, 0.0])],
    );
    check(
        pad(vec![(1, 0), (0, 1)], PadMode::Reflect),
        &[counting(&[2, 2])],
        &[floats(&[3, 3], &[2.0, 3.0, 2.0, 0.0, 1.0, 0.0, 2.0, 3.0, 2.0])],
    );
}

#[test]
fn band_part() {
    let band = |lower, upper| move |v: &[ValueId]| Op::BandPart { x: v[0], lower, upper };
    let x = [ints(&[3, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9])];
    check(band(-1, 0), &x, &[ints(&[3, 3], &[1, 0, 0, 4, 5, 0, 7, 8, 9])]);
    check(band(0, -1), &x, &[ints(&[3, 3], &[1, 2, 3, 0, 5, 6, 0, 0, 9])]);
    check(band(1, 0), &x, &[ints(&[3, 3], &[1, 0, 0, 4, 5, 0, 0, 8, 9])]);
    check(band(-1, -1), &x, &x);
    check(band(0, 0), &[ints(&[2, 1, 2], &[1, 2, 3, 4])], &[ints(&[2, 1, 2], &[1, 0, 3, 0])]);
}

#[test]
fn fill_and_range() {
    let shape = || vec![2, 2];
    check(
        |_| Op::Fill { dtype: DType::F16, shape: shape(), value: 0.1 },
        &[],
        &[halves(&[2, 2], &[0.1; 4])],
    );
    check(
        |_| Op::Fill { dtype: DType::I32, shape: shape(), value: -3.0 },
        &[],
        &[ints(&[2, 2], &[-3; 4])],
    );
    check(
        |_| Op::Range { dtype: DType::I32, start: 5.0, step: -2.0, count: 3 },
        &[],
        &[ints(&[3], &[5, 3, 1])],
    );
    check(
        |_| Op::Range { dtype: DType::F32, start: 0.0, step: 0.1, count: 4 },
        &[],
        &[floats(&[4], &[0.0, 0.1, 0.2, 0.30000000000000004])],
    );
}
