//! What inference refuses, and how it says so; how unknown sizes go through.

use crate::support::Fixture;
use orion_mil::infer::output_types;
use orion_mil::op::{Binary, PadMode, Reduction, ScatterMode, Unary};
use orion_mil::{Dim, Op, TensorType, Type, Value};
use orion_tensor::{DType, Tensor};

/// Each case: what is refused, with which words.
#[track_caller]
fn refuses(make: impl FnOnce(&mut Fixture) -> Op, message: &str) {
    let mut fixture = Fixture::new();
    let op = make(&mut fixture);
    assert_eq!(output_types(&op, &fixture.builder.function().values), Err(message.to_owned()));
}

fn add(f: &mut Fixture, x: (DType, &[usize]), y: (DType, &[usize])) -> Op {
    Op::Binary { kind: Binary::Add, x: f.of(x.0, x.1), y: f.of(y.0, y.1) }
}

#[test]
fn elementwise() {
    use DType::*;
    refuses(|f| add(f, (F32, &[2, 3]), (F32, &[2])), "x [2, 3] and y [2] do not broadcast");
    refuses(
        |f| add(f, (F32, &[2]), (F16, &[2])),
        "x and y must have one element type, they are tensor<fp32, [2]> and tensor<fp16, [2]>",
    );
    refuses(
        |f| add(f, (Bool, &[2]), (Bool, &[2])),
        "x must be a float or integer tensor, it is tensor<bool, [2]>",
    );
    refuses(
        |f| Op::Binary { kind: Binary::LogicalAnd, x: f.bool(&[2]), y: f.i32(&[]) },
        "y must be a bool tensor, it is int32",
    );
    refuses(
        |f| Op::Unary { kind: Unary::Exp, x: f.i32(&[2]) },
        "x must be a float tensor, it is tensor<int32, [2]>",
    );
    refuses(
        |f| Op::Unary { kind: Unary::LogicalNot, x: f.f32(&[2]) },
        "x must be a bool tensor, it is tensor<fp32, [2]>",
    );
    refuses(
        |f| Op::Select { cond: f.bool(&[2]), a: f.f32(&[3]), b: f.f32(&[]) },
        "cond [2], a [3] and b [] do not broadcast",
    );
    refuses(
        |f| Op::Select { cond: f.f32(&[2]), a: f.f32(&[2]), b: f.f32(&[2]) },
        "cond must be a bool tensor, it is tensor<fp32, [2]>",
    );
    refuses(|f| Op::Cast { x: f.f32(&[2]), dtype: String }, "nothing can be cast to string");
    refuses(
        |f| Op::Unary {
            kind: Unary::Exp,
            x: f.builder.state("s", TensorType::new(DType::F32, &[2])),
        },
        "x must be a tensor, it is state<tensor<fp32, [2]>>",
    );
}

#[test]
fn along_axes() {
    let reduce = |f: &mut Fixture, axes: &[usize]| Op::Reduce {
        kind: Reduction::Sum,
        x: f.f32(&[2, 3]),
        axes: axes.to_vec(),
        keep_dims: false,
    };
    refuses(|f| reduce(f, &[2]), "axis 2 is outside of x, which is tensor<fp32, [2, 3]>");
    refuses(|f| reduce(f, &[]), "there must be at least one axis");
    refuses(|f| reduce(f, &[1, 0]), "axes must be sorted and distinct, they are [1, 0]");
    refuses(|f| reduce(f, &[1, 1]), "axes must be sorted and distinct, they are [1, 1]");
    refuses(
        |f| Op::Reduce { kind: Reduction::LogSum, x: f.i32(&[2]), axes: vec![0], keep_dims: true },
        "x must be a float tensor, it is tensor<int32, [2]>",
    );
    refuses(
        |f| Op::ArgReduce { max: true, x: f.f32(&[]), axis: 0, keep_dims: false },
        "axis 0 is outside of x, which is fp32",
    );
    refuses(
        |f| Op::LayerNorm {
            x: f.f16(&[2, 3, 4]),
            axes: vec![1, 2],
            gamma: Some(f.f16(&[4])),
            beta: None,
            epsilon: 1.0,
        },
        "gamma must be [3, 4] for x tensor<fp16, [2, 3, 4]>, it is tensor<fp16, [4]>",
    );
    refuses(
        |f| Op::BatchNorm {
            x: f.f32(&[2, 3]),
            mean: f.f32(&[3]),
            variance: f.f32(&[2]),
            gamma: None,
            beta: None,
            epsilon: 1.0,
        },
        "variance must be [3] for x tensor<fp32, [2, 3]>, it is tensor<fp32, [2]>",
    );
}

fn matmul(f: &mut Fixture, x: &[usize], y: &[usize], transpose: (bool, bool)) -> Op {
    Op::Matmul { x: f.f32(x), y: f.f32(y), transpose_x: transpose.0, transpose_y: transpose.1 }
}

fn conv(f: &mut Fixture, x: &[usize], weight: &[usize], groups: usize) -> Op {
    let spatial = x.len().saturating_sub(2);
    Op::Conv {
        x: f.f32(x),
        weight: f.f32(weight),
        bias: None,
        strides: vec![1; spatial],
        pads: vec![(0, 0); spatial],
        dilations: vec![2; spatial],
        groups,
    }
}

#[test]
fn contractions() {
    refuses(
        |f| matmul(f, &[2, 3], &[4, 5], (true, false)),
        "x [2, 3] transposed and y [4, 5] do not share the inner size: 2 and 4",
    );
    refuses(
        |f| matmul(f, &[2, 4, 3], &[3, 3, 4], (false, false)),
        "the leading axes of x [2, 4, 3] and y [3, 3, 4] do not broadcast",
    );
    refuses(|f| matmul(f, &[], &[3], (false, false)), "x must not be a scalar, it is fp32");
    refuses(
        |f| matmul(f, &[3, 3], &[3], (false, true)),
        "y has one axis and cannot be transposed, it is tensor<fp32, [3]>",
    );
    refuses(
        |f| Op::Linear { x: f.f32(&[2, 3]), weight: f.f32(&[3, 5]), bias: None },
        "x [2, 3] does not fit weight [3, 5]",
    );
    refuses(
        |f| Op::Linear { x: f.f32(&[3]), weight: f.f32(&[5, 3]), bias: Some(f.f32(&[3])) },
        "bias must be [5], it is tensor<fp32, [3]>",
    );
    refuses(
        |f| conv(f, &[1, 4, 5], &[2, 3, 3], 1),
        "x [1, 4, 5] has 4 channels, weight [2, 3, 3] takes 3 in each of 1 groups",
    );
    refuses(
        |f| conv(f, &[1, 4, 5], &[3, 2, 3], 2),
        "3 output channels do not divide into 2 groups",
    );
    refuses(
        |f| conv(f, &[1, 4, 4], &[3, 4, 3], 1),
        "a kernel of 3 with dilation 2 does not fit spatial axis 0 of 4 padded by 0 and 0",
    );
    refuses(
        |f| conv(f, &[1, 4], &[3, 4], 1),
        "x must be [N, C, spatial…] with one to three spatial axes, it is tensor<fp32, [1, 4]>",
    );
    refuses(|f| conv(f, &[1, 4, 5], &[3, 4, 3], 0), "groups must not be 0");
    refuses(
        |f| Op::Attention {
            query: f.f32(&[2, 5, 4]),
            key: f.f32(&[2, 6, 3]),
            value: f.f32(&[2, 6, 7]),
            mask: None,
        },
        "query [2, 5, 4], key [2, 6, 3] and value [2, 6, 7] do not fit: query and key differ in \
         their last axis",
    );
    refuses(
        |f| Op::Attention {
            query: f.f32(&[2, 5, 4]),
            key: f.f32(&[2, 6, 4]),
            value: f.f32(&[2, 6, 7]),
            mask: Some(f.bool(&[3, 1, 5, 6])),
        },
        "mask [3, 1, 5, 6] does not broadcast to [2, 5, 6]",
    );
}

fn slice(f: &mut Fixture, begin: usize, size: usize, stride: isize, squeeze: bool) -> Op {
    let x = f.f32(&[5]);
    let (begin, size) = (vec![begin], vec![size]);
    Op::Slice { x, begin, size, stride: vec![stride], squeeze: vec![squeeze] }
}

#[test]
fn movements() {
    refuses(
        |f| Op::Reshape { x: f.f32(&[2, 3]), shape: vec![4] },
        "x [2, 3] and the new shape [4] differ in their element count",
    );
    refuses(
        |f| Op::Reshape { x: f.f32(&[2, 3]), shape: vec![usize::MAX, usize::MAX] },
        "x [2, 3] and the new shape [18446744073709551615, 18446744073709551615] differ in their \
         element count",
    );
    refuses(
        |f| Op::Transpose { x: f.f32(&[2, 3]), perm: vec![0, 0] },
        "[0, 0] is not a permutation of the axes of x, which is tensor<fp32, [2, 3]>",
    );
    refuses(
        |f| Op::Concat { values: vec![f.f32(&[2, 3]), f.f32(&[3, 3])], axis: 1, interleave: false },
        "value 0 [2, 3] and value 1 [3, 3] differ in an axis other than 1",
    );
    refuses(
        |f| Op::Concat { values: vec![f.f32(&[2]), f.f32(&[3])], axis: 0, interleave: true },
        "interleaved values must have one size along axis 0, value 0 is [2] and value 1 is [3]",
    );
    refuses(
        |_| Op::Concat { values: vec![], axis: 0, interleave: false },
        "there must be at least one value",
    );
    refuses(
        |f| Op::Stack { values: vec![f.f32(&[2]), f.f32(&[3])], axis: 0 },
        "value 0 [2] and value 1 [3] differ",
    );
    refuses(
        |f| Op::Split { x: f.f32(&[5]), axis: 0, sizes: vec![2, 2] },
        "the parts [2, 2] do not add up to the 5 of axis 0",
    );
    refuses(
        |f| slice(f, 3, 3, 1, false),
        "3 elements from 3 by 1 do not lie within the 5 of axis 0",
    );
    refuses(
        |f| slice(f, 3, 3, -2, false),
        "3 elements from 3 by -2 do not lie within the 5 of axis 0",
    );
    refuses(|f| slice(f, 0, 2, 0, false), "the stride of axis 0 is 0");
    refuses(|f| slice(f, 0, 0, 1, false), "nothing is taken of axis 0 of x tensor<fp32, [5]>");
    refuses(|f| slice(f, 0, 2, 1, true), "axis 0 has 2 elements and cannot be dropped");
    refuses(
        |f| slice(f, 0, usize::MAX, isize::MAX, false),
        "18446744073709551615 elements from 0 by 9223372036854775807 do not lie within the 5 of \
         axis 0",
    );
    refuses(|f| Op::Tile { x: f.f32(&[5]), reps: vec![0] }, "x [5] cannot be repeated [0] times");
    refuses(
        |f| Op::Tile { x: f.f32(&[5]), reps: vec![1 << 40] },
        "the result would be tensor<fp32, [5497558138880]>, which is too large",
    );
    refuses(|f| Op::Tile { x: f.f32(&[5]), reps: vec![1, 1] }, "reps has 2 entries for 1 axes");
    refuses(
        |f| Op::Pad { x: f.f32(&[3]), pads: vec![(0, 3)], mode: PadMode::Reflect },
        "x [3] cannot be padded by [(0, 3)]",
    );
    refuses(
        |f| Op::BandPart { x: f.f32(&[3]), lower: 0, upper: 0 },
        "x must have two axes or more, it is tensor<fp32, [3]>",
    );
}

#[test]
fn indexing() {
    refuses(
        |f| Op::DynamicSlice { x: f.f32(&[5, 6]), begin: f.i32(&[3]), size: vec![1, 1] },
        "begin must have one entry per axis of x [5, 6], it is tensor<int32, [3]>",
    );
    refuses(
        |f| Op::DynamicSlice { x: f.f32(&[5]), begin: f.i32(&[1]), size: vec![6] },
        "6 elements do not lie within the 5 of axis 0",
    );
    refuses(
        |f| Op::SliceUpdate {
            x: f.f32(&[5]),
            update: f.f32(&[6]),
            begin: f.i32(&[1]),
            end: f.i32(&[1]),
            begin_mask: vec![false],
            end_mask: vec![false],
        },
        "update [6] does not fit x [5]",
    );
    refuses(
        |f| Op::SliceUpdate {
            x: f.f32(&[5]),
            update: f.f32(&[4]),
            begin: f.i32(&[1]),
            end: f.i32(&[1]),
            begin_mask: vec![true],
            end_mask: vec![true],
        },
        "axis 0 is replaced from end to end, update has 4 of 5",
    );
    refuses(
        |f| Op::Gather { x: f.f32(&[2, 3]), indices: f.f32(&[2]), axis: 0, batch_dims: 0 },
        "indices must be an integer tensor, it is tensor<fp32, [2]>",
    );
    refuses(
        |f| Op::Gather { x: f.f32(&[2, 3]), indices: f.i32(&[3, 1]), axis: 1, batch_dims: 1 },
        "x [2, 3] and indices [3, 1] do not share 1 leading axes before axis 1",
    );
    refuses(
        |f| Op::GatherAlongAxis { x: f.f32(&[2, 3]), indices: f.i32(&[3, 3]), axis: 1 },
        "x [2, 3] and indices [3, 3] differ in an axis other than 1",
    );
    refuses(
        |f| Op::Scatter {
            data: f.f32(&[2, 3]),
            indices: f.i32(&[4]),
            updates: f.f32(&[2, 3]),
            axis: 1,
            mode: ScatterMode::Add,
        },
        "updates must be [2, 4] for data [2, 3] and indices [4] along axis 1, it is [2, 3]",
    );
    refuses(
        |f| Op::ScatterAlongAxis {
            data: f.f32(&[2, 3]),
            indices: f.i32(&[2, 4]),
            updates: f.f32(&[2, 3]),
            axis: 1,
            mode: ScatterMode::Add,
        },
        "updates [2, 3] and indices [2, 4] must have one shape",
    );
    refuses(
        |f| Op::OneHot {
            indices: f.i32(&[2]),
            size: 3,
            axis: 2,
            dtype: DType::F32,
            on: 1.0,
            off: 0.0,
        },
        "the new axis 2 is outside of the result for indices tensor<int32, [2]>",
    );
    refuses(
        |f| Op::TopK { x: f.f32(&[5]), k: 6, axis: 0, ascending: false },
        "6 elements cannot be chosen along axis 0 of x tensor<fp32, [5]>",
    );
}

#[test]
fn made_tensors_and_states() {
    let value = Value { ty: Type::tensor(DType::F32, &[3]), ..Value::ints(&[1, 2]) };
    refuses(
        |_| Op::Const(value),
        "the value holds 2 int32 elements, its type is tensor<fp32, [3]>",
    );
    let dims = vec![Dim::Unknown];
    let ty = Type::Tensor(TensorType { dtype: DType::I32, dims });
    refuses(
        |_| Op::Const(Value { ty, ..Value::ints(&[1]) }),
        "a constant of type tensor<int32, [?]> has no fixed size",
    );
    refuses(
        |_| Op::Fill { dtype: DType::String, shape: vec![1], value: 0.0 },
        "a tensor of string cannot be filled with a number",
    );
    refuses(
        |_| Op::Fill { dtype: DType::F16, shape: vec![1 << 31, 1 << 31], value: 0.0 },
        "the result would be tensor<fp16, [2147483648, 2147483648]>, which is too large",
    );
    refuses(
        |_| Op::Range { dtype: DType::F16, start: 40000.0, step: 1.0, count: 3 },
        "3 steps of 1 from 40000 cannot be written in fp16",
    );
    refuses(
        |_| Op::Range { dtype: DType::I32, start: 0.0, step: 0.0, count: 2 },
        "2 steps of 0 from 0 cannot be written in int32",
    );
    refuses(
        |f| Op::ReadState { state: f.f32(&[2]) },
        "state must be a state, it is tensor<fp32, [2]>",
    );
    refuses(
        |f| Op::WriteState {
            state: f.builder.state("s", TensorType::new(DType::F32, &[2])),
            data: f.f32(&[3]),
        },
        "the state holds tensor<fp32, [2]>, data is tensor<fp32, [3]>",
    );
}

/// A type with 0 for each unknown size.
fn partly(dtype: DType, sizes: &[usize]) -> TensorType {
    let dims = sizes.iter().map(|&n| if n == 0 { Dim::Unknown } else { Dim::Known(n) });
    TensorType { dtype, dims: dims.collect() }
}

#[test]
fn unknown_sizes_go_through() {
    let mut f = Fixture::new();
    let x = f.builder.input("x", partly(DType::F32, &[0, 3]));
    let y = f.builder.input("y", partly(DType::F32, &[1, 0]));
    let four = f.builder.input("four", partly(DType::F32, &[4, 1]));
    let weight = f.builder.input("weight", partly(DType::F32, &[5, 3]));
    let cases = [
        (Op::Binary { kind: Binary::Add, x, y }, "tensor<fp32, [?, 3]>"),
        (Op::Binary { kind: Binary::Less, x, y: four }, "tensor<bool, [4, 3]>"),
        (Op::Cast { x, dtype: DType::F16 }, "tensor<fp16, [?, 3]>"),
        (Op::Softmax { x, axis: 0 }, "tensor<fp32, [?, 3]>"),
        (Op::Transpose { x, perm: vec![1, 0] }, "tensor<fp32, [3, ?]>"),
        (Op::Linear { x, weight, bias: None }, "tensor<fp32, [?, 5]>"),
        (Op::Matmul { x, y, transpose_x: false, transpose_y: true }, "tensor<fp32, [?, 1]>"),
        (Op::Concat { values: vec![x, x], axis: 0, interleave: false }, "tensor<fp32, [?, 3]>"),
        (Op::Stack { values: vec![x, x], axis: 1 }, "tensor<fp32, [?, 2, 3]>"),
    ];
    for (op, expected) in cases {
        let types = output_types(&op, &f.builder.function().values);
        let types = types.unwrap_or_else(|e| panic!("{op:?}: {e}"));
        assert_eq!(types[0].to_string(), expected, "{op:?}");
    }
    let reshape = Op::Reshape { x, shape: vec![3] };
    assert_eq!(
        output_types(&reshape, &f.builder.function().values).unwrap_err(),
        "the shape of x is not known, it is tensor<fp32, [?, 3]>"
    );
}

#[test]
fn constants_have_their_declared_shape() {
    let value = Value::tensor(Tensor::zeros(DType::F16, &[2, 3]));
    let types = output_types(&Op::Const(value), &Default::default());
    assert_eq!(types, Ok(vec![Type::tensor(DType::F16, &[2, 3])]));
}
