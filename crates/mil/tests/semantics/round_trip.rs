//! `encode` and `analyze` are inverse: every op, with parameters away from their defaults.

use crate::support::Fixture;
use orion_mil::op::{
    Binary, Border, BoxForm, Coordinates, Distribution, GeluMode, Grid, PadMode, Pooling, Random,
    Reduction, Sample, Sampling, ScatterMode, Spatial, Suppression, Unary,
};
use orion_mil::{Op, TensorType, Type, Value, typed, verify_function};
use orion_tensor::DType;
use proptest::prelude::*;

/// Builds one op, writes it out, reads it back; its meaning and the output types must be those
/// that went in.
fn round_trip(expected: &[&str], outputs: usize, make: impl FnOnce(&mut Fixture) -> Op) {
    let mut fixture = Fixture::new();
    let op = make(&mut fixture);
    let ids = fixture.builder.push_all(&op, outputs);
    let types: Vec<String> =
        ids.iter().map(|&id| fixture.builder.function().ty(id).to_string()).collect();
    assert_eq!(types, expected, "{op:?}");
    let function = fixture.builder.finish(&ids);
    let ops = typed::analyze(&function).unwrap_or_else(|e| panic!("{op:?}: {e:?}"));
    assert_eq!(ops.last(), Some(&op));
}

fn all_unary() -> Vec<Unary> {
    use Unary::*;
    vec![
        Abs,
        Acos,
        Asin,
        Atan,
        Atanh,
        Ceil,
        Clip { low: -0.5, high: 0.75 },
        Cos,
        Cosh,
        Elu { alpha: 0.5 },
        Erf,
        Exp,
        Exp2,
        Floor,
        Gelu(GeluMode::Exact),
        Gelu(GeluMode::Tanh),
        Gelu(GeluMode::Sigmoid),
        Inverse { epsilon: 0.125 },
        LeakyRelu { alpha: 0.25 },
        LinearActivation { alpha: 2.0, beta: -1.0 },
        Log { epsilon: 0.5 },
        Relu,
        Relu6,
        Round,
        Rsqrt { epsilon: 0.25 },
        ScaledTanh { alpha: 1.5, beta: 0.5 },
        Sigmoid,
        SigmoidHard { alpha: 0.25, beta: 0.5 },
        Sign,
        Silu,
        Sin,
        Sinh,
        Softplus,
        Softsign,
        Sqrt,
        Square,
        Tan,
        Tanh,
        Threshold { alpha: 0.5 },
        ThresholdedRelu { alpha: 1.5 },
    ]
}

#[test]
fn unary_ops() {
    for kind in all_unary() {
        round_trip(&["tensor<fp16, [2, 3]>"], 1, |f| Op::Unary { kind, x: f.f16(&[2, 3]) });
    }
    let kind = Unary::LogicalNot;
    round_trip(&["tensor<bool, [4]>"], 1, |f| Op::Unary { kind, x: f.bool(&[4]) });
    let kind = Unary::Threshold { alpha: 3.0 };
    round_trip(&["tensor<int32, [4]>"], 1, |f| Op::Unary { kind, x: f.i32(&[4]) });
}

#[test]
fn binary_ops() {
    use Binary::*;
    for kind in [Add, Sub, Mul, RealDiv, FloorDiv, Mod, Pow, Maximum, Minimum] {
        let op = |f: &mut Fixture| Op::Binary { kind, x: f.f32(&[2, 1, 3]), y: f.f32(&[4, 1]) };
        round_trip(&["tensor<fp32, [2, 4, 3]>"], 1, op);
    }
    for kind in [Equal, NotEqual, Greater, GreaterEqual, Less, LessEqual] {
        let op = |f: &mut Fixture| Op::Binary { kind, x: f.i32(&[3]), y: f.i32(&[]) };
        round_trip(&["tensor<bool, [3]>"], 1, op);
    }
    for kind in [LogicalAnd, LogicalOr, LogicalXor] {
        let op = |f: &mut Fixture| Op::Binary { kind, x: f.bool(&[3]), y: f.bool(&[2, 1]) };
        round_trip(&["tensor<bool, [2, 3]>"], 1, op);
    }
}

#[test]
fn simple_ops() {
    let value = Value::ints(&[4, 5]);
    round_trip(&["tensor<int32, [2]>"], 1, |_| Op::Const(value));
    round_trip(&["tensor<fp16, [2]>"], 1, |f| Op::Identity { x: f.f16(&[2]) });
    round_trip(&["tensor<fp16, [2]>"], 1, |f| Op::Cast { x: f.i32(&[2]), dtype: DType::F16 });
    round_trip(&["tensor<fp32, [2, 3]>"], 1, |f| Op::Select {
        cond: f.bool(&[2, 1]),
        a: f.f32(&[3]),
        b: f.f32(&[]),
    });
    round_trip(&["fp32"], 1, |f| Op::Select { cond: f.bool(&[]), a: f.f32(&[]), b: f.f32(&[]) });
}

#[test]
fn ops_along_axes() {
    use Reduction::*;
    for kind in [Sum, Mean, Max, Min, Prod, L2Norm, L1Norm, SumSquare, LogSum, LogSumExp] {
        let x = |f: &mut Fixture| f.f32(&[2, 3, 4]);
        let op = |f: &mut Fixture| Op::Reduce { kind, x: x(f), axes: vec![0, 2], keep_dims: true };
        round_trip(&["tensor<fp32, [1, 3, 1]>"], 1, op);
        let op = |f: &mut Fixture| Op::Reduce { kind, x: x(f), axes: vec![1], keep_dims: false };
        round_trip(&["tensor<fp32, [2, 4]>"], 1, op);
    }
    for max in [false, true] {
        round_trip(&["tensor<int32, [2, 1, 4]>"], 1, |f| Op::ArgReduce {
            max,
            x: f.f16(&[2, 3, 4]),
            axis: 1,
            keep_dims: true,
        });
    }
    for (exclusive, reverse) in [(true, false), (false, true)] {
        round_trip(&["tensor<fp32, [2, 3]>"], 1, |f| Op::Cumsum {
            x: f.f32(&[2, 3]),
            axis: 1,
            exclusive,
            reverse,
        });
    }
    round_trip(&["tensor<fp16, [2, 3]>"], 1, |f| Op::Softmax { x: f.f16(&[2, 3]), axis: 0 });
    round_trip(&["tensor<fp16, [2, 3, 4]>"], 1, |f| Op::LayerNorm {
        x: f.f16(&[2, 3, 4]),
        axes: vec![0, 2],
        gamma: Some(f.f16(&[2, 4])),
        beta: None,
        epsilon: 0.5,
    });
    round_trip(&["tensor<fp32, [2, 3, 4]>"], 1, |f| Op::LayerNorm {
        x: f.f32(&[2, 3, 4]),
        axes: vec![1],
        gamma: None,
        beta: Some(f.f32(&[3])),
        epsilon: 0.25,
    });
    round_trip(&["tensor<fp32, [2, 3, 4]>"], 1, |f| Op::BatchNorm {
        x: f.f32(&[2, 3, 4]),
        mean: f.f32(&[3]),
        variance: f.f32(&[3]),
        gamma: Some(f.f32(&[3])),
        beta: None,
        epsilon: 0.25,
    });
}

#[test]
fn contractions() {
    round_trip(&["tensor<fp32, [5, 2, 3, 4]>"], 1, |f| Op::Matmul {
        x: f.f32(&[2, 7, 3]),
        y: f.f32(&[5, 1, 4, 7]),
        transpose_x: true,
        transpose_y: true,
    });
    round_trip(&["tensor<fp32, [2, 4]>"], 1, |f| Op::Matmul {
        x: f.f32(&[7]),
        y: f.f32(&[2, 7, 4]),
        transpose_x: false,
        transpose_y: false,
    });
    round_trip(&["tensor<fp32, [2, 3]>"], 1, |f| Op::Matmul {
        x: f.f32(&[2, 3, 7]),
        y: f.f32(&[7]),
        transpose_x: false,
        transpose_y: false,
    });
    for bias in [false, true] {
        round_trip(&["tensor<fp16, [2, 5]>"], 1, |f| Op::Linear {
            x: f.f16(&[2, 3]),
            weight: f.f16(&[5, 3]),
            bias: bias.then(|| f.f16(&[5])),
        });
        round_trip(&["tensor<fp16, [1, 6, 5, 2]>"], 1, |f| Op::Conv {
            x: f.f16(&[1, 4, 8, 5]),
            weight: f.f16(&[6, 2, 3, 3]),
            bias: bias.then(|| f.f16(&[6])),
            strides: vec![2, 3],
            pads: vec![(1, 2), (0, 4)],
            dilations: vec![1, 2],
            groups: 2,
        });
    }
    round_trip(&["tensor<fp32, [1, 2, 6]>"], 1, |f| Op::Conv {
        x: f.f32(&[1, 4, 8]),
        weight: f.f32(&[2, 4, 3]),
        bias: None,
        strides: vec![1],
        pads: vec![(0, 0)],
        dilations: vec![1],
        groups: 1,
    });
    for mask in [None, Some(DType::Bool), Some(DType::F32)] {
        round_trip(&["tensor<fp32, [2, 3, 5, 7]>"], 1, |f| Op::Attention {
            query: f.f32(&[2, 3, 5, 4]),
            key: f.f32(&[2, 3, 6, 4]),
            value: f.f32(&[2, 3, 6, 7]),
            mask: mask.map(|dtype| f.of(dtype, &[5, 6])),
        });
    }
}

#[test]
fn movements() {
    round_trip(&["tensor<fp32, [3, 2]>"], 1, |f| Op::Reshape {
        x: f.f32(&[2, 3]),
        shape: vec![3, 2],
    });
    round_trip(&["fp32"], 1, |f| Op::Reshape { x: f.f32(&[1, 1]), shape: vec![] });
    round_trip(&["tensor<fp32, [4, 2, 3]>"], 1, |f| Op::Transpose {
        x: f.f32(&[2, 3, 4]),
        perm: vec![2, 0, 1],
    });
    round_trip(&["tensor<fp32, [2, 7]>"], 1, |f| Op::Concat {
        values: vec![f.f32(&[2, 3]), f.f32(&[2, 4])],
        axis: 1,
        interleave: false,
    });
    round_trip(&["tensor<fp32, [4, 3]>"], 1, |f| Op::Concat {
        values: vec![f.f32(&[2, 3]), f.f32(&[2, 3])],
        axis: 0,
        interleave: true,
    });
    round_trip(&["tensor<fp32, [2, 3, 2]>"], 1, |f| Op::Stack {
        values: vec![f.f32(&[2, 3]), f.f32(&[2, 3])],
        axis: 2,
    });
    round_trip(&["tensor<fp32, [2, 1]>", "tensor<fp32, [2, 4]>"], 2, |f| Op::Split {
        x: f.f32(&[2, 5]),
        axis: 1,
        sizes: vec![1, 4],
    });
    round_trip(&["tensor<fp32, [2, 6]>"], 1, |f| Op::Tile { x: f.f32(&[1, 3]), reps: vec![2, 2] });
    for mode in [PadMode::Constant(-1.5), PadMode::Reflect, PadMode::Replicate] {
        round_trip(&["tensor<fp16, [2, 6]>"], 1, |f| Op::Pad {
            x: f.f16(&[2, 3]),
            pads: vec![(0, 0), (1, 2)],
            mode,
        });
    }
    round_trip(&["tensor<fp32, [4, 4]>"], 1, |f| Op::BandPart {
        x: f.f32(&[4, 4]),
        lower: 2,
        upper: -1,
    });
}

#[test]
fn slices() {
    let slice = |begin: &[usize], size: &[usize], stride: &[isize], squeeze: &[bool]| {
        let (begin, size) = (begin.to_vec(), size.to_vec());
        let (stride, squeeze) = (stride.to_vec(), squeeze.to_vec());
        move |f: &mut Fixture| Op::Slice { x: f.f32(&[5, 6]), begin, size, stride, squeeze }
    };
    let keep = [false, false];
    round_trip(&["tensor<fp32, [2, 3]>"], 1, slice(&[1, 3], &[2, 3], &[1, 1], &keep));
    round_trip(&["tensor<fp32, [3, 2]>"], 1, slice(&[0, 1], &[3, 2], &[2, 4], &keep));
    round_trip(&["tensor<fp32, [5, 2]>"], 1, slice(&[4, 5], &[5, 2], &[-1, -2], &keep));
    round_trip(&["tensor<fp32, [6]>"], 1, slice(&[4, 0], &[1, 6], &[1, 1], &[true, false]));
    round_trip(&["fp32"], 1, slice(&[4, 5], &[1, 1], &[1, 1], &[true, true]));
}

#[test]
fn computed_places() {
    round_trip(&["tensor<fp32, [2, 3]>"], 1, |f| Op::DynamicSlice {
        x: f.f32(&[5, 6]),
        begin: f.i32(&[2]),
        size: vec![2, 3],
    });
    round_trip(&["tensor<fp32, [5, 6]>"], 1, |f| Op::SliceUpdate {
        x: f.f32(&[5, 6]),
        update: f.f32(&[5, 2]),
        begin: f.i32(&[2]),
        end: f.i32(&[2]),
        begin_mask: vec![true, false],
        end_mask: vec![true, false],
    });
    round_trip(&["tensor<fp32, [2, 7, 8, 4]>"], 1, |f| Op::Gather {
        x: f.f32(&[2, 3, 4]),
        indices: f.i32(&[2, 7, 8]),
        axis: 1,
        batch_dims: 1,
    });
    round_trip(&["tensor<fp32, [2]>"], 1, |f| Op::Gather {
        x: f.f32(&[2, 3]),
        indices: f.i32(&[]),
        axis: 1,
        batch_dims: 0,
    });
    round_trip(&["tensor<fp32, [2, 7]>"], 1, |f| Op::GatherAlongAxis {
        x: f.f32(&[2, 3]),
        indices: f.i32(&[2, 7]),
        axis: 1,
    });
    use ScatterMode::*;
    for mode in [Update, Add, Sub, Mul, Div, Max, Min] {
        round_trip(&["tensor<fp32, [2, 3]>"], 1, |f| Op::Scatter {
            data: f.f32(&[2, 3]),
            indices: f.i32(&[7, 1]),
            updates: f.f32(&[2, 7, 1]),
            axis: 1,
            mode,
        });
        round_trip(&["tensor<fp32, [2, 3]>"], 1, |f| Op::ScatterAlongAxis {
            data: f.f32(&[2, 3]),
            indices: f.i32(&[2, 7]),
            updates: f.f32(&[2, 7]),
            axis: 1,
            mode,
        });
    }
    for dtype in [DType::F16, DType::I32, DType::Bool] {
        let expected = format!("tensor<{dtype}, [2, 5, 3]>");
        round_trip(&[&expected], 1, |f| Op::OneHot {
            indices: f.i32(&[2, 3]),
            size: 5,
            axis: 1,
            dtype,
            on: 0.0,
            off: 1.0,
        });
    }
    for ascending in [false, true] {
        let top = |f: &mut Fixture| Op::TopK { x: f.f32(&[5, 6]), k: 3, axis: 0, ascending };
        round_trip(&["tensor<fp32, [3, 6]>"], 1, top);
        round_trip(&["tensor<fp32, [3, 6]>", "tensor<int32, [3, 6]>"], 2, top);
    }
}

#[test]
fn the_end_of_a_slice_update_is_written_out() {
    let built = |constant: bool| {
        let mut f = Fixture::new();
        let (x, update) = (f.f32(&[5, 6]), f.f32(&[2, 3]));
        let begin = if constant { f.builder.ints(&[1, 2]) } else { f.i32(&[2]) };
        let y = f.builder.slice_update(x, update, begin);
        let function = f.builder.finish(&[y]);
        let end = function.body.operations.last().expect("the update").inputs["end"].clone();
        let end = end.bindings()[0].value().expect("a value");
        let making = function.body.operations.iter().find(|o| o.outputs == [end]);
        let making = making.expect("the end").clone();
        assert_eq!(verify_function(&function), []);
        making
    };
    assert_eq!(built(true).const_value(), Some(&Value::ints(&[3, 5])));
    assert_eq!(built(false).name, "add");
}

#[test]
fn made_tensors_and_states() {
    for (dtype, value) in [(DType::F16, 0.5), (DType::I32, -3.0), (DType::Bool, 1.0)] {
        let expected = format!("tensor<{dtype}, [2, 3]>");
        round_trip(&[&expected], 1, |_| Op::Fill { dtype, shape: vec![2, 3], value });
    }
    for (dtype, start, step, count) in [
        (DType::I32, 3.0, 2.0, 5),
        (DType::I32, 3.0, -2.0, 4),
        (DType::F32, 0.5, 0.1f32 as f64, 7),
        (DType::F16, 1.0, 1.0, 2000),
    ] {
        let expected = format!("tensor<{dtype}, [{count}]>");
        round_trip(&[&expected], 1, |_| Op::Range { dtype, start, step, count });
    }
    let ty = TensorType::new(DType::F16, &[2, 3]);
    let state = |f: &mut Fixture| f.builder.state("cache", TensorType::new(DType::F16, &[2, 3]));
    round_trip(&[&Type::from(ty).to_string()], 1, |f| Op::ReadState { state: state(f) });
    round_trip(&[], 0, |f| Op::WriteState { state: state(f), data: f.f16(&[2, 3]) });
}

#[test]
fn points_boxes_and_random_numbers() {
    let image = |f: &mut Fixture| f.f16(&[2, 3, 5, 4]);
    let grid = |nearest, border, coordinates, align_corners| Grid {
        nearest,
        border,
        coordinates,
        align_corners,
    };
    for (grid, nearest) in [
        (grid(true, Border::Edge, Coordinates::Pixels, false), "edge"),
        (grid(false, Border::Constant(0.5), Coordinates::MinusOneToOne, true), "constant"),
        (grid(false, Border::Reflection, Coordinates::ZeroToOne, false), "reflection"),
        (grid(false, Border::Symmetric, Coordinates::ZeroToOne, true), "symmetric"),
    ] {
        assert!(!nearest.is_empty());
        round_trip(&["tensor<fp16, [2, 3, 6, 7]>"], 1, |f| {
            let (x, coordinates) = (image(f), f.f16(&[2, 6, 7, 2]));
            Op::Sample(Box::new(Sample::Points { x, coordinates, grid }))
        });
        round_trip(&["tensor<fp16, [2, 3, 8, 9]>"], 1, |f| {
            let (x, matrix) = (image(f), f.f16(&[1, 6]));
            Op::Sample(Box::new(Sample::Affine { x, matrix, size: [8, 9], grid }))
        });
    }
    for (shape, expected) in [
        (&[2, 4][..], "tensor<fp16, [2, 3, 8, 9]>"),
        (&[4, 1, 4, 1, 1], "tensor<fp16, [4, 2, 3, 8, 9]>"),
        (&[4, 1, 5, 1, 1], "tensor<fp16, [4, 1, 3, 8, 9]>"),
    ] {
        round_trip(&[expected], 1, |f| {
            let (x, boxes) = (image(f), f.f16(shape));
            Op::Sample(Box::new(Sample::Crop {
                x,
                boxes,
                box_indices: None,
                size: [8, 9],
                normalized: true,
                scale: 0.5,
                form: BoxForm::CenterWidthFirst,
                sampling: Sampling::OffsetCorners,
                pad_value: -1.0,
            }))
        });
    }
    let suppression = |boxes, scores, score_threshold| {
        Op::Suppression(Suppression {
            boxes,
            scores,
            iou_threshold: 0.25,
            score_threshold,
            max_boxes: 7,
            per_class: true,
        })
    };
    let early = [
        "tensor<fp16, [2, 7, 4]>",
        "tensor<fp16, [2, 7, 3]>",
        "tensor<int32, [2, 7]>",
        "tensor<int32, [2]>",
    ];
    round_trip(&early, 4, |f| suppression(f.f16(&[2, 9, 4]), f.f16(&[2, 9, 3]), Some(0.5)));
    let late = ["tensor<fp16, [2, 4, 7]>", "tensor<fp16, [2, 3, 7]>", "tensor<int32, [2, 7]>"];
    round_trip(&late, 3, |f| suppression(f.f16(&[2, 4, 9]), f.f16(&[2, 3, 9]), None));
    for distribution in [
        Distribution::Uniform { low: -1.0, high: 0.5 },
        Distribution::Normal { mean: 1.0, deviation: 0.25 },
        Distribution::Bernoulli { probability: 0.25 },
    ] {
        round_trip(&["tensor<fp16, [3, 2]>"], 1, |_| {
            let shape = vec![3, 2];
            Op::Random(Box::new(Random {
                dtype: DType::F16,
                shape,
                distribution,
                seed: 5,
                start: 5,
            }))
        });
    }
    round_trip(&["tensor<fp16, [3, 2]>"], 1, |f| {
        let distribution = Distribution::Categorical { x: f.f16(&[3, 5]), logits: false };
        let shape = vec![3, 2];
        Op::Random(Box::new(Random { dtype: DType::F16, shape, distribution, seed: 5, start: 5 }))
    });
    round_trip(&["tensor<fp16, [1, 2, 4]>"], 1, |f| {
        Op::Spatial(Spatial::Pool {
            kind: Pooling::Average,
            x: f.f16(&[1, 2, 9]),
            kernel: vec![3],
            strides: vec![3],
            pads: vec![(1, 2)],
            overhang: vec![1],
            exclude_padding: false,
        })
    });
}

/// What `round_trip` checks, for operations whose output types are only known by inference.
fn survives(outputs: usize, make: impl FnOnce(&mut Fixture) -> Op) {
    let mut fixture = Fixture::new();
    let op = make(&mut fixture);
    let ids = fixture.builder.push_all(&op, outputs);
    let function = fixture.builder.finish(&ids);
    let ops = typed::analyze(&function).unwrap_or_else(|e| panic!("{op:?}: {e:?}"));
    assert_eq!(ops.last(), Some(&op));
}

/// One axis of a slice: length, first position, count, stride, whether it is dropped.
fn any_slice_axis() -> impl Strategy<Value = (usize, usize, usize, isize, bool)> {
    (1usize..9, 1isize..4, any::<bool>(), any::<bool>())
        .prop_flat_map(|(length, step, backwards, squeeze)| {
            let count = 1..=length.div_ceil(step as usize);
            (Just(length), Just(step), Just(backwards), Just(squeeze), count)
        })
        .prop_flat_map(|(length, step, backwards, squeeze, count)| {
            let span = (count - 1) * step as usize;
            (Just((length, step, backwards, squeeze, count, span)), 0..length - span)
        })
        .prop_map(|((length, step, backwards, squeeze, count, span), low)| {
            let (begin, stride) = if backwards { (low + span, -step) } else { (low, step) };
            // One element has no step.
            let stride = if count == 1 { 1 } else { stride };
            (length, begin, count, stride, squeeze && count == 1)
        })
}

/// One spatial axis of a convolution: kernel, stride, pads, dilation, and what is left over.
fn any_conv_axis() -> impl Strategy<Value = (usize, usize, (usize, usize), usize, usize)> {
    (1usize..4, 1usize..4, (0usize..3, 0usize..3), 1usize..3, 0usize..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_slice(axes in prop::collection::vec(any_slice_axis(), 1..5)) {
        survives(1, |f| Op::Slice {
            x: f.f32(&axes.iter().map(|a| a.0).collect::<Vec<_>>()),
            begin: axes.iter().map(|a| a.1).collect(),
            size: axes.iter().map(|a| a.2).collect(),
            stride: axes.iter().map(|a| a.3).collect(),
            squeeze: axes.iter().map(|a| a.4).collect(),
        });
    }

    #[test]
    fn any_conv(
        axes in prop::collection::vec(any_conv_axis(), 1..4),
        (batch, inputs, outputs, groups) in (1usize..3, 1usize..4, 1usize..4, 1usize..4),
        bias: bool,
    ) {
        survives(1, |f| {
            let mut x = vec![batch, inputs * groups];
            x.extend(axes.iter().map(|a| a.3 * (a.0 - 1) + 1 + a.4));
            let mut weight = vec![outputs * groups, inputs];
            weight.extend(axes.iter().map(|a| a.0));
            Op::Conv {
                x: f.f16(&x),
                weight: f.f16(&weight),
                bias: bias.then(|| f.f16(&[outputs * groups])),
                strides: axes.iter().map(|a| a.1).collect(),
                pads: axes.iter().map(|a| a.2).collect(),
                dilations: axes.iter().map(|a| a.3).collect(),
                groups,
            }
        });
    }

    #[test]
    fn any_movement(
        (shape, perm) in prop::collection::vec(1usize..5, 1..5).prop_flat_map(|shape| {
            let axes: Vec<usize> = (0..shape.len()).collect();
            (Just(shape), Just(axes).prop_shuffle())
        }),
        pads in prop::collection::vec((0usize..3, 0usize..3), 4),
        border in -2.0f32..2.0,
        axis in 0usize..4,
        interleave: bool,
    ) {
        let rank = shape.len();
        let axis = axis % rank;
        survives(1, |f| Op::Transpose { x: f.f32(&shape), perm: perm.clone() });
        survives(1, |f| Op::Reshape {
            x: f.f32(&shape),
            shape: perm.iter().map(|&p| shape[p]).collect(),
        });
        let mode = PadMode::Constant(f64::from(border));
        survives(1, |f| Op::Pad { x: f.f32(&shape), pads: pads[..rank].to_vec(), mode });
        survives(1, |f| Op::Concat { values: vec![f.i32(&shape); 3], axis, interleave });
        survives(1, |f| Op::Stack { values: vec![f.i32(&shape); 2], axis: rank - axis });
        survives(shape[axis], |f| Op::Split { x: f.f32(&shape), axis, sizes: vec![1; shape[axis]] });
        survives(1, |f| Op::Gather {
            x: f.f32(&shape),
            indices: f.i32(&shape[..axis]),
            axis,
            batch_dims: axis,
        });
    }

    #[test]
    fn any_range(start in -9i32..9, step in prop_oneof![-5i32..0, 1i32..6], count in 1usize..99) {
        for (dtype, unit) in [(DType::I32, 1.0), (DType::F16, 0.25), (DType::F32, f64::from(0.1f32))] {
            // Numbers as the element type holds them, so that they come back as they went in.
            let held = |v: i32| Value::scalar(dtype, f64::from(v) * unit).as_f64().expect("a number");
            survives(1, |_| Op::Range { dtype, start: held(start), step: held(step), count });
        }
    }
}
