//! Every arm of autodiff.

use crate::gradient_checks::Checks;
use orion_mil::op::{
    Binary, Equation, GeluMode, PadMode, Rearrangement, Reduction, ScatterMode, Spatial, Unary,
};
use orion_mil::{Builder, Op, ValueId};
use orion_tensor::{DType, Tensor};
use std::collections::BTreeSet;

/// The names of an enum's variants, and which one a value is. A new variant does not compile
/// until it is listed here.
macro_rules! variants {
    ($names:ident, $of:ident, $ty:ident: $($variant:ident)*) => {
        const $names: &[&str] = &[$(concat!(stringify!($ty), "::", stringify!($variant))),*];
        fn $of(value: &$ty) -> &'static str {
            match value {
                $($ty::$variant { .. } => concat!(stringify!($ty), "::", stringify!($variant)),)*
            }
        }
    };
}

variants!(OPS, op_label, Op: Const Identity Cast Unary Binary Select Reduce ArgReduce Cumsum
    Matmul Linear Conv Attention Softmax LayerNorm BatchNorm Reshape Transpose Concat Stack Split
    Slice DynamicSlice SliceUpdate Tile Pad Gather GatherAlongAxis Scatter ScatterAlongAxis Fill
    Range BandPart OneHot TopK Einsum Prelu GatherNd ScatterNd ArgSort Quantize Dequantize Spatial Sample Suppression Random Recurrent Constexpr ReadState WriteState);
variants!(SPATIALS, spatial_label, Spatial: Pool ConvTranspose Resize Rearrange SlidingWindows
    InstanceNorm L2Norm LocalResponseNorm);
variants!(UNARIES, unary_label, Unary: Abs Acos Asin Atan Atanh Ceil Clip Cos Cosh Elu Erf Exp Exp2
    Floor Gelu Inverse LeakyRelu LinearActivation Log LogicalNot Relu Relu6 Round Rsqrt ScaledTanh
    Sigmoid SigmoidHard Sign Silu Sin Sinh Softplus Softsign Sqrt Square Tan Tanh Threshold
    ThresholdedRelu);
variants!(BINARIES, binary_label, Binary: Add Sub Mul RealDiv FloorDiv Mod Pow Maximum Minimum
    Equal NotEqual Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr LogicalXor);
variants!(REDUCTIONS, reduction_label, Reduction: Sum Mean Max Min Prod L2Norm L1Norm SumSquare
    LogSum LogSumExp);
variants!(GELUS, gelu_label, GeluMode: Exact Tanh Sigmoid);
variants!(PADS, pad_label, PadMode: Constant Reflect Replicate);
variants!(SCATTERS, scatter_label, ScatterMode: Update Add Sub Mul Div Max Min);

/// What a check of a function with this op covers.
pub(crate) fn labels(op: &Op) -> Vec<String> {
    let mut labels = vec![op_label(op)];
    match op {
        Op::Unary { kind, .. } => {
            labels.push(unary_label(kind));
            if let Unary::Gelu(mode) = kind {
                labels.push(gelu_label(mode));
            }
        }
        Op::Spatial(op) => labels.push(spatial_label(op)),
        Op::Binary { kind, .. } => labels.push(binary_label(kind)),
        Op::Reduce { kind, .. } => labels.push(reduction_label(kind)),
        Op::Pad { mode, .. } => labels.push(pad_label(mode)),
        Op::Scatter { mode, .. } => labels.push(scatter_label(mode)),
        _ => {}
    }
    let mut labels: Vec<String> = labels.into_iter().map(str::to_owned).collect();
    if let Op::ScatterAlongAxis { mode, .. } = op {
        labels.push(format!("along {}", scatter_label(mode)));
    }
    labels
}

/// What has no gradient, or none that this compiler makes; each has a test in `gradient_promises` or is never
/// handed one.
const NOT_DIFFERENTIABLE: &[&str] = &[
    // No operands, or none that are floats.
    "Op::Const",
    "Op::Fill",
    "Op::Range",
    "Op::OneHot",
    // Results are integers or bools: gradients end.
    "Op::ArgReduce",
    "Op::ArgSort",
    "Op::Quantize",
    "Unary::LogicalNot",
    "Binary::Equal",
    "Binary::NotEqual",
    "Binary::Greater",
    "Binary::GreaterEqual",
    "Binary::Less",
    "Binary::LessEqual",
    "Binary::LogicalAnd",
    "Binary::LogicalOr",
    "Binary::LogicalXor",
    // Refused.
    "Op::ReadState",
    "Op::WriteState",
    // Constants: trained in full precision, packed afterwards.
    "Op::Constexpr",
    // Which boxes are chosen and which numbers are drawn does not change smoothly.
    "Op::Suppression",
    "Op::Random",
    "Op::Dequantize",
    // Not written yet; refused by name.
    "Op::Recurrent",
    "Op::Sample",
    "Spatial::Pool",
    "Spatial::ConvTranspose",
    "Spatial::Resize",
    "Spatial::SlidingWindows",
    "Spatial::LocalResponseNorm",
    "ScatterMode::Mul",
    "ScatterMode::Div",
    "ScatterMode::Max",
    "ScatterMode::Min",
    "along ScatterMode::Mul",
    "along ScatterMode::Div",
    "along ScatterMode::Max",
    "along ScatterMode::Min",
];

#[test]
fn every_op_has_a_gradient_check_or_a_reason() {
    let mut checks = Checks::dry();
    for family in [elementwise, binary, reductions, linear_algebra, normalization, shapes, indices]
    {
        family(&mut checks);
    }
    let along: Vec<String> = SCATTERS.iter().map(|s| format!("along {s}")).collect();
    let all = [OPS, SPATIALS, UNARIES, BINARIES, REDUCTIONS, GELUS, PADS, SCATTERS].concat();
    let all: BTreeSet<&str> = all.into_iter().chain(along.iter().map(String::as_str)).collect();
    let excused: BTreeSet<&str> = NOT_DIFFERENTIABLE.iter().copied().collect();
    let missing: Vec<&&str> = all
        .iter()
        .filter(|label| !checks.covered.contains(**label) && !excused.contains(**label))
        .collect();
    assert!(missing.is_empty(), "no gradient check and no reason: {missing:?}");
    let unknown: Vec<&&str> = excused.difference(&all).collect();
    assert!(unknown.is_empty(), "no such op: {unknown:?}");
}

const ANY: (f64, f64) = (-2.0, 2.0);
const POSITIVE: (f64, f64) = (0.3, 2.5);
const INNER: (f64, f64) = (-0.8, 0.8);

fn elementwise(c: &mut Checks) {
    let everywhere = [
        Unary::Abs,
        Unary::Atan,
        Unary::Ceil,
        Unary::Clip { low: -0.7, high: 1.1 },
        Unary::Cos,
        Unary::Cosh,
        Unary::Elu { alpha: 0.7 },
        Unary::Erf,
        Unary::Exp,
        Unary::Exp2,
        Unary::Floor,
        Unary::Gelu(GeluMode::Exact),
        Unary::Gelu(GeluMode::Tanh),
        Unary::Gelu(GeluMode::Sigmoid),
        Unary::LeakyRelu { alpha: 0.3 },
        Unary::LinearActivation { alpha: -1.5, beta: 0.4 },
        Unary::Relu,
        Unary::Round,
        Unary::ScaledTanh { alpha: 1.7, beta: 0.6 },
        Unary::Sigmoid,
        Unary::SigmoidHard { alpha: 0.4, beta: 0.45 },
        Unary::Sign,
        Unary::Silu,
        Unary::Sin,
        Unary::Sinh,
        Unary::Softplus,
        Unary::Softsign,
        Unary::Square,
        Unary::Tanh,
        Unary::Threshold { alpha: 0.4 },
        Unary::ThresholdedRelu { alpha: 0.5 },
    ];
    let positive = [
        Unary::Inverse { epsilon: 0.1 },
        Unary::Log { epsilon: 0.2 },
        Unary::Log { epsilon: 0.0 },
        Unary::Rsqrt { epsilon: 0.3 },
        Unary::Sqrt,
    ];
    let inner = [Unary::Acos, Unary::Asin, Unary::Atanh, Unary::Tan];
    let ranged = everywhere.iter().map(|k| (*k, ANY));
    let ranged = ranged.chain(positive.iter().map(|k| (*k, POSITIVE)));
    for (kind, range) in ranged.chain(inner.iter().map(|k| (*k, INNER))) {
        c.check(&format!("{kind:?}"), &[("x", &[3, 5], range)], |b, v| b.unary(kind, v[0]));
    }
    c.check("Relu6", &[("x", &[4, 6], (-3.0, 9.0))], |b, v| b.unary(Unary::Relu6, v[0]));
    c.check("Identity", &[("x", &[2, 3], ANY)], |b, v| b.push(&Op::Identity { x: v[0] }));
    // fp32 in between makes steps that finite differences would see; a cast to the same type
    // written out does not.
    c.check("Cast", &[("x", &[2, 3], ANY)], |b, v| {
        b.push(&Op::Cast { x: v[0], dtype: DType::F64 })
    });
    c.check("Select", &[("a", &[2, 3], ANY), ("b", &[3], ANY), ("x", &[2, 1], ANY)], |b, v| {
        let zero = b.number(v[2], 0.0);
        let cond = b.binary(Binary::Greater, v[2], zero);
        b.select(cond, v[0], v[1])
    });
    c.check("a broadcast condition", &[("a", &[3], ANY), ("b", &[1], ANY)], |b, v| {
        let cond = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let cond = b.constant(Tensor::from_f64(DType::Bool, &[2, 3], &cond));
        b.select(cond, v[0], v[1])
    });
}

fn binary(c: &mut Checks) {
    let shapes: [(&[usize], &[usize]); 6] = [
        (&[2, 3], &[2, 3]),
        (&[2, 3], &[3]),
        (&[1, 3], &[2, 1]),
        (&[4], &[2, 3, 1]),
        (&[2, 1, 3], &[1, 1, 1]),
        (&[], &[2, 2]),
    ];
    let kinds = [
        (Binary::Add, ANY, ANY),
        (Binary::Sub, ANY, ANY),
        (Binary::Mul, ANY, ANY),
        (Binary::RealDiv, ANY, POSITIVE),
        (Binary::FloorDiv, ANY, POSITIVE),
        (Binary::Mod, ANY, POSITIVE),
        (Binary::Pow, POSITIVE, ANY),
        (Binary::Maximum, ANY, ANY),
        (Binary::Minimum, ANY, ANY),
    ];
    for (kind, x_range, y_range) in kinds {
        for (x_shape, y_shape) in shapes {
            let name = format!("{kind:?} of {x_shape:?} and {y_shape:?}");
            c.check(&name, &[("x", x_shape, x_range), ("y", y_shape, y_range)], |b, v| {
                b.binary(kind, v[0], v[1])
            });
        }
    }
    c.check("one value twice", &[("x", &[2, 3], ANY)], |b, v| b.mul(v[0], v[0]));
}

fn reductions(c: &mut Checks) {
    use Reduction::*;
    for kind in [Sum, Mean, Max, Min, Prod, L2Norm, L1Norm, SumSquare, LogSum, LogSumExp] {
        let range = if kind == LogSum { POSITIVE } else { ANY };
        for (axes, keep_dims) in
            [(&[1usize][..], true), (&[1], false), (&[0, 2], false), (&[0, 1, 2], true)]
        {
            let name = format!("{kind:?} over {axes:?}, keep_dims {keep_dims}");
            c.check(&name, &[("x", &[2, 3, 4], range)], |b, v| {
                b.reduce(kind, v[0], axes, keep_dims)
            });
        }
    }
    for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
        let name = format!("Cumsum, exclusive {exclusive}, reverse {reverse}");
        for axis in [0, 1] {
            c.check(&name, &[("x", &[3, 4], ANY)], |b, v| {
                b.push(&Op::Cumsum { x: v[0], axis, exclusive, reverse })
            });
        }
    }
    for axis in [0, 1, 2] {
        c.check("Softmax", &[("x", &[2, 3, 4], ANY)], |b, v| b.softmax(v[0], axis));
    }
}

fn linear_algebra(c: &mut Checks) {
    for (text, x, y) in [
        ("bqd,bkd->bqk", &[2, 3, 4][..], &[2, 5, 4][..]),
        ("ij,kj->ki", &[2, 3], &[4, 3]),
        ("i,j->ij", &[2], &[3]),
    ] {
        let equation = Equation::parse(text).expect("a good equation");
        c.check(text, &[("x", x, ANY), ("y", y, ANY)], |b, v| {
            b.push(&Op::Einsum { values: v.to_vec(), equation: equation.clone() })
        });
    }
    let batches: [(&[usize], &[usize]); 6] =
        [(&[], &[]), (&[2], &[2]), (&[2], &[]), (&[], &[3]), (&[2, 1], &[1, 3]), (&[2, 2], &[1])];
    for (transpose_x, transpose_y) in [(false, false), (false, true), (true, false), (true, true)] {
        for (x_batch, y_batch) in batches {
            let swap = |[a, b]: [usize; 2], swapped| if swapped { [b, a] } else { [a, b] };
            let x_shape = [x_batch, &swap([2, 3], transpose_x)].concat();
            let y_shape = [y_batch, &swap([3, 4], transpose_y)].concat();
            let name = format!("Matmul {x_shape:?} {transpose_x} {y_shape:?} {transpose_y}");
            c.check(&name, &[("x", &x_shape, ANY), ("y", &y_shape, ANY)], |b, v| {
                b.matmul(v[0], v[1], transpose_x, transpose_y)
            });
        }
    }
    let vectors: [(&[usize], &[usize], bool, bool); 5] = [
        (&[3], &[3, 2], false, false),
        (&[3], &[2, 3], false, true),
        (&[2, 3], &[3], false, false),
        (&[2, 3, 2], &[3], true, false),
        (&[3], &[3], false, false),
    ];
    for (x_shape, y_shape, transpose_x, transpose_y) in vectors {
        let name = format!("Matmul {x_shape:?} {transpose_x} {y_shape:?} {transpose_y}");
        c.check(&name, &[("x", x_shape, ANY), ("y", y_shape, ANY)], |b, v| {
            b.matmul(v[0], v[1], transpose_x, transpose_y)
        });
    }
    for x_shape in [&[3][..], &[2, 3], &[2, 2, 3]] {
        let inputs = [("x", x_shape, ANY), ("w", &[4, 3][..], ANY), ("bias", &[4], ANY)];
        c.check("Linear", &inputs, |b, v| b.linear(v[0], v[1], Some(v[2])));
        c.check("Linear without bias", &inputs[..2], |b, v| b.linear(v[0], v[1], None));
    }
    for batch in [1, 2] {
        let x_shape = [batch, 3, 1, 4];
        let inputs = [("x", &x_shape[..], ANY), ("w", &[2, 3, 1, 1][..], ANY), ("bias", &[2], ANY)];
        c.check("Conv", &inputs, |b, v| b.conv_1x1(v[0], v[1], Some(v[2])));
        c.check("Conv without bias", &inputs[..2], |b, v| b.conv_1x1(v[0], v[1], None));
        c.check("Conv over one axis", &[("x", &[batch, 3, 4], ANY), ("w", &[2, 3, 1], ANY)], {
            |b, v| {
                b.push(&Op::Conv {
                    x: v[0],
                    weight: v[1],
                    bias: None,
                    strides: vec![1],
                    pads: vec![(0, 0)],
                    dilations: vec![1],
                    groups: 1,
                })
            }
        });
    }
    let heads: [[&[usize]; 3]; 2] = [
        [&[2, 3, 4], &[2, 5, 4], &[2, 5, 2]],
        // Two query heads a key head, by broadcasting.
        [&[3, 2, 2, 4], &[3, 1, 5, 4], &[3, 1, 5, 2]],
    ];
    for [q, k, v] in heads {
        let scores = [&q[..q.len() - 1], &[5]].concat();
        let inputs = [("q", q, ANY), ("k", k, ANY), ("v", v, ANY), ("mask", &[5][..], ANY)];
        let attend = |b: &mut Builder, v: &[ValueId], mask| {
            b.push(&Op::Attention { query: v[0], key: v[1], value: v[2], mask })
        };
        c.check("Attention", &inputs[..3], |b, v| attend(b, v, None));
        c.check("Attention with a mask", &inputs, |b, v| attend(b, v, Some(v[3])));
        c.check("Attention with a bool mask", &inputs[..3], |b, v| {
            let visible: Vec<f64> =
                (0..scores.iter().product()).map(|i| f64::from(u8::from(i % 3 != 1))).collect();
            let mask = b.constant(Tensor::from_f64(DType::Bool, &scores, &visible));
            attend(b, v, Some(mask))
        });
    }
}

fn normalization(c: &mut Checks) {
    let inputs = [("x", &[2, 3, 2][..], ANY), ("alpha", &[3][..], ANY)];
    c.check("Prelu", &inputs, |b, v| b.push(&Op::Prelu { x: v[0], alpha: v[1] }));
    let inputs = [("x", &[2, 3, 2][..], ANY), ("alpha", &[1][..], ANY)];
    c.check("Prelu with one alpha", &inputs, |b, v| b.push(&Op::Prelu { x: v[0], alpha: v[1] }));
    let inputs = [("x", &[2, 3, 2, 3][..], ANY), ("gamma", &[3], ANY), ("beta", &[3], ANY)];
    c.check("InstanceNorm", &inputs, |b, v| {
        let (gamma, beta) = (Some(v[1]), Some(v[2]));
        b.push(&Op::Spatial(Spatial::InstanceNorm { x: v[0], gamma, beta, epsilon: 0.3 }))
    });
    c.check("L2Norm", &inputs[..1], |b, v| {
        b.push(&Op::Spatial(Spatial::L2Norm { x: v[0], epsilon: 0.3 }))
    });
    for (kind, shape) in [
        (Rearrangement::PixelShuffle, [2, 8, 2, 3]),
        (Rearrangement::DepthToSpace, [2, 8, 2, 3]),
        (Rearrangement::PixelUnshuffle, [1, 2, 4, 6]),
        (Rearrangement::SpaceToDepth, [1, 2, 4, 6]),
    ] {
        c.check(&format!("{kind:?}"), &[("x", &shape, ANY)], |b, v| {
            b.push(&Op::Spatial(Spatial::Rearrange { kind, x: v[0], block: 2 }))
        });
    }
    let affine =
        |shape| [("x", &[2, 3, 4][..], ANY), ("gamma", shape, POSITIVE), ("beta", shape, ANY)];
    for (axes, shape) in [(vec![2], &[4][..]), (vec![1, 2], &[3, 4]), (vec![1], &[3])] {
        let inputs = affine(shape);
        let norm = |b: &mut Builder, x, gamma, beta| {
            b.push(&Op::LayerNorm { x, axes: axes.clone(), gamma, beta, epsilon: 0.2 })
        };
        c.check("LayerNorm", &inputs, |b, v| norm(b, v[0], Some(v[1]), Some(v[2])));
        c.check("LayerNorm with gamma", &inputs[..2], |b, v| norm(b, v[0], Some(v[1]), None));
        c.check("LayerNorm plain", &inputs[..1], |b, v| norm(b, v[0], None, None));
    }
    let inputs = [
        ("x", &[2, 3, 4][..], ANY),
        ("mean", &[3], ANY),
        ("variance", &[3], POSITIVE),
        ("gamma", &[3], POSITIVE),
        ("beta", &[3], ANY),
    ];
    let norm = |b: &mut Builder, v: &[ValueId], gamma, beta| {
        let (x, mean, variance) = (v[0], v[1], v[2]);
        b.push(&Op::BatchNorm { x, mean, variance, gamma, beta, epsilon: 0.2 })
    };
    c.check("BatchNorm", &inputs, |b, v| norm(b, v, Some(v[3]), Some(v[4])));
    c.check("BatchNorm plain", &inputs[..3], |b, v| norm(b, v, None, None));
}

fn shapes(c: &mut Checks) {
    for shape in [&[6, 4][..], &[2, 1, 3, 4, 1], &[24], &[4, 3, 2]] {
        c.check("Reshape", &[("x", &[2, 3, 4], ANY)], |b, v| {
            b.push(&Op::Reshape { x: v[0], shape: shape.to_vec() })
        });
    }
    c.check("Reshape to less axes", &[("x", &[2, 1, 4], ANY)], |b, v| b.reshape(v[0], &[2, 4]));
    for perm in [[1, 0, 2], [2, 0, 1], [0, 1, 2]] {
        c.check("Transpose", &[("x", &[2, 3, 4], ANY)], |b, v| {
            b.push(&Op::Transpose { x: v[0], perm: perm.to_vec() })
        });
    }
    for axis in [0, 1] {
        let three = |n: usize| if axis == 0 { [n, 3] } else { [3, n] };
        let (a, b, d) = (three(2), three(1), three(4));
        let inputs = [("a", &a[..], ANY), ("b", &b[..], ANY), ("c", &d[..], ANY)];
        c.check("Concat", &inputs, |b, v| b.concat(v, axis));
        c.check("Concat of one twice", &inputs[..2], |b, v| b.concat(&[v[0], v[1], v[0]], axis));
        let inputs = [("a", &[2, 3][..], ANY), ("b", &[2, 3], ANY)];
        c.check("Concat interleaved", &inputs, |b, v| {
            b.push(&Op::Concat { values: v.to_vec(), axis, interleave: true })
        });
    }
    for axis in [0, 1, 2] {
        c.check("Stack", &[("a", &[2, 3], ANY), ("b", &[2, 3], ANY)], |b, v| {
            b.push(&Op::Stack { values: v.to_vec(), axis })
        });
    }
    c.check("Split", &[("x", &[2, 6, 3], ANY)], |b, v| {
        let parts = b.split(v[0], 1, &[1, 2, 3]);
        let product = b.mul(parts[0], parts[1]);
        b.concat(&[parts[2], product], 1)
    });
    c.check("Split with a part unused", &[("x", &[6], ANY)], |b, v| {
        let parts = b.split(v[0], 0, &[2, 2, 2]);
        b.mul(parts[0], parts[2])
    });
    let mut slice =
        |begin: [usize; 3], size: [usize; 3], stride: [isize; 3], squeeze: [bool; 3]| {
            c.check("Slice", &[("x", &[3, 4, 5], ANY)], |b, v| {
                b.push(&Op::Slice {
                    x: v[0],
                    begin: begin.to_vec(),
                    size: size.to_vec(),
                    stride: stride.to_vec(),
                    squeeze: squeeze.to_vec(),
                })
            });
        };
    slice([1, 0, 1], [2, 4, 2], [1, 1, 1], [false; 3]);
    slice([0, 1, 0], [3, 2, 5], [1, 1, 1], [false; 3]);
    slice([0, 3, 0], [3, 1, 5], [1, 1, 1], [false, true, false]);
    slice([0, 0, 4], [3, 4, 3], [1, 1, -2], [false; 3]);
    slice([2, 0, 1], [1, 2, 2], [1, 3, 2], [true, false, false]);
    slice([0, 0, 0], [3, 4, 5], [1, 1, 1], [false; 3]);
    c.check("slices that overlap", &[("x", &[2, 5], ANY)], |b, v| {
        let left = b.slice(v[0], &[0, 0], &[2, 3]);
        let right = b.slice(v[0], &[0, 2], &[2, 3]);
        b.mul(left, right)
    });
    c.check("slices with a gap", &[("x", &[2, 7], ANY)], |b, v| {
        let left = b.slice(v[0], &[0, 1], &[2, 2]);
        let right = b.slice(v[0], &[0, 4], &[2, 2]);
        b.mul(left, right)
    });
    for reps in [[1, 2, 3], [2, 1, 1], [3, 2, 1]] {
        c.check("Tile", &[("x", &[2, 1, 3], ANY)], |b, v| b.tile(v[0], &reps));
    }
    for mode in [PadMode::Constant(1.5), PadMode::Reflect, PadMode::Replicate] {
        c.check(&format!("Pad {mode:?}"), &[("x", &[3, 1, 4], ANY)], |b, v| {
            b.push(&Op::Pad { x: v[0], pads: vec![(2, 1), (0, 0), (1, 3)], mode })
        });
    }
    for (lower, upper) in [(-1, 0), (1, 1), (0, -1)] {
        c.check("BandPart", &[("x", &[2, 3, 4], ANY)], |b, v| {
            b.push(&Op::BandPart { x: v[0], lower, upper })
        });
    }
}

fn indices(c: &mut Checks) {
    c.check("GatherNd", &[("x", &[3, 4, 2], ANY)], |b, v| {
        let indices = b.constant(Tensor::from_slice(&[3, 2], &[2i32, 1, 0, 3, 2, 1]));
        b.push(&Op::GatherNd { x: v[0], indices, batch_dims: 0 })
    });
    for mode in [ScatterMode::Add, ScatterMode::Sub] {
        c.check("ScatterNd", &[("data", &[3, 4], ANY), ("updates", &[3, 4], ANY)], |b, v| {
            let indices = b.constant(Tensor::from_slice(&[3, 1], &[2i32, 0, 2]));
            b.push(&Op::ScatterNd { data: v[0], indices, updates: v[1], mode })
        });
    }
    let ints = |b: &mut Builder, shape: &[usize], numbers: &[i32]| {
        b.constant(Tensor::from_slice(shape, numbers))
    };
    c.check("DynamicSlice", &[("x", &[3, 4], ANY)], |b, v| {
        let begin = ints(b, &[2], &[1, 2]);
        // Computed, so that it does not become a constant slice.
        let begin = b.add(begin, begin);
        let two = b.number(begin, 2.0);
        let begin = b.binary(Binary::FloorDiv, begin, two);
        b.push(&Op::DynamicSlice { x: v[0], begin, size: vec![2, 2] })
    });
    c.check("SliceUpdate", &[("x", &[3, 4], ANY), ("u", &[2, 3], ANY)], |b, v| {
        let begin = ints(b, &[2], &[1, 0]);
        b.slice_update(v[0], v[1], begin)
    });
    c.check("SliceUpdate masked", &[("x", &[3, 4], ANY), ("u", &[3, 2], ANY)], |b, v| {
        let begin = ints(b, &[2], &[2, 1]);
        let end = ints(b, &[2], &[3, 3]);
        b.push(&Op::SliceUpdate {
            x: v[0],
            update: v[1],
            begin,
            end,
            begin_mask: vec![true, false],
            end_mask: vec![true, false],
        })
    });
    for axis in [0, 1, 2] {
        c.check("Gather", &[("x", &[3, 3, 3], ANY)], |b, v| {
            let indices = ints(b, &[2, 2], &[2, 0, -1, 1]);
            b.gather(v[0], indices, axis)
        });
    }
    for (axis, batch_dims) in [(1, 1), (2, 1), (2, 2)] {
        let index_shape: &[usize] = if batch_dims == 1 { &[2, 3] } else { &[2, 3, 1] };
        c.check("Gather in batches", &[("x", &[2, 3, 4, 2], ANY)], |b, v| {
            let indices = ints(b, index_shape, &[2, 0, 2, -1, 1, 0]);
            b.push(&Op::Gather { x: v[0], indices, axis, batch_dims })
        });
    }
    c.check("two reads of a table", &[("x", &[4, 2], ANY)], |b, v| {
        let first = ints(b, &[3], &[0, 2, 2]);
        let second = ints(b, &[3], &[3, 2, 0]);
        let first = b.gather(v[0], first, 0);
        let second = b.gather(v[0], second, 0);
        let product = b.mul(first, second);
        let square = b.unary(Unary::Square, v[0]);
        b.concat(&[product, square], 0)
    });
    c.check("GatherAlongAxis", &[("x", &[3, 4], ANY)], |b, v| {
        let indices = ints(b, &[3, 2], &[0, 3, 1, 1, -1, 2]);
        b.gather_along_axis(v[0], indices, 1)
    });
    for mode in [ScatterMode::Update, ScatterMode::Add, ScatterMode::Sub] {
        for axis in [0, 1] {
            let shape: &[usize] = if axis == 0 { &[2, 2, 4] } else { &[3, 2, 2] };
            let inputs = [("data", &[3, 4][..], ANY), ("updates", shape, ANY)];
            c.check(&format!("Scatter {mode:?}"), &inputs, |b, v| {
                // Position 1 is written twice.
                let indices = ints(b, &[2, 2], &[1, 2, -2, 1]);
                b.push(&Op::Scatter { data: v[0], indices, updates: v[1], axis, mode })
            });
        }
        let inputs = [("data", &[3, 4][..], ANY), ("updates", &[3, 3], ANY)];
        c.check(&format!("ScatterAlongAxis {mode:?}"), &inputs, |b, v| {
            let indices = ints(b, &[3, 3], &[1, 2, 1, 0, 0, -1, 3, 2, 1]);
            b.push(&Op::ScatterAlongAxis { data: v[0], indices, updates: v[1], axis: 1, mode })
        });
    }
    for outputs in [1, 2] {
        for ascending in [false, true] {
            c.check("TopK", &[("x", &[3, 5], ANY)], |b, v| {
                b.push_all(&Op::TopK { x: v[0], k: 2, axis: 1, ascending }, outputs)[0]
            });
        }
    }
}

#[test]
fn elementwise_gradients() {
    elementwise(&mut Checks::new());
}

#[test]
fn binary_gradients() {
    binary(&mut Checks::new());
}

#[test]
fn reduction_gradients() {
    reductions(&mut Checks::new());
}

#[test]
fn linear_algebra_gradients() {
    linear_algebra(&mut Checks::new());
}

#[test]
fn normalization_gradients() {
    normalization(&mut Checks::new());
}

#[test]
fn shape_gradients() {
    shapes(&mut Checks::new());
}

#[test]
fn index_gradients() {
    indices(&mut Checks::new());
}
