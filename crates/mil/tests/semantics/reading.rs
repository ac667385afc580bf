//! Operations as other people write them: defaults, negative axes, masks, and what is refused.

use crate::support::program;
use orion_mil::typed::analyze;
use orion_mil::{Function, Op, hoist_literals};

const PARAMS: &str = "tensor<fp32, [2, 3, 4]> x, tensor<fp32, [1, 3, 1]> y, \
    tensor<fp32, [1, 4, 8, 7]> image, tensor<fp32, [6, 4, 3, 3]> kernel, tensor<int32, [3]> i, \
    tensor<bool, [4]> b, tensor<fp32, [?, 4]> flexible, state<tensor<fp16, [2, 3]>> cache";

/// The last operation of a function with literals hoisted.
fn read(ty: &str, expression: &str) -> (Function, Result<Op, String>) {
    let program = program(PARAMS, &format!("{ty} r = {expression};"), "r");
    let function = hoist_literals(&program.functions[0]);
    let op = match analyze(&function) {
        Ok(ops) => Ok(ops.into_iter().next_back().expect("an operation")),
        Err(mut diagnostics) => {
            assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
            Err(diagnostics.remove(0).to_string())
        }
    };
    (function, op)
}

/// The op's debug form, values by name.
#[track_caller]
fn reads(ty: &str, expression: &str, expected: &str) {
    let (function, op) = read(ty, expression);
    let op = op.unwrap_or_else(|e| panic!("{expression}: {e}"));
    let mut shown = format!("{op:?}");
    let ids: Vec<_> = function.values.iter().collect();
    for (id, value) in ids.into_iter().rev() {
        shown = shown.replace(&format!("{id:?}"), &value.name);
    }
    assert_eq!(shown, expected, "{expression}");
}

#[track_caller]
fn refuses(ty: &str, expression: &str, message: &str) {
    let (_, op) = read(ty, expression);
    assert_eq!(op.unwrap_err(), message, "{expression}");
}

const X: &str = "tensor<fp32, [2, 3, 4]>";

#[test]
fn defaults_are_filled_in() {
    reads(X, "softmax(x = x)", "Softmax { x: x, axis: 2 }");
    reads(X, "cumsum(x = x)", "Cumsum { x: x, axis: 0, exclusive: false, reverse: false }");
    reads(
        "fp32",
        "reduce_sum(x = x)",
        "Reduce { kind: Sum, x: x, axes: [0, 1, 2], keep_dims: false }",
    );
    reads(
        "tensor<int32, [2, 3]>",
        "reduce_argmin(x = x)",
        "ArgReduce { max: false, x: x, axis: 2, keep_dims: false }",
    );
    reads(X, "rsqrt(x = x)", "Unary { kind: Rsqrt { epsilon: 9.999999960041972e-13 }, x: x }");
    reads(X, "inverse(x = x)", "Unary { kind: Inverse { epsilon: 9.999999747378752e-5 }, x: x }");
    reads(X, "log(x = x)", "Unary { kind: Log { epsilon: 1.401298464324817e-45 }, x: x }");
    reads(X, "gelu(x = x)", "Unary { kind: Gelu(Exact), x: x }");
    reads(
        X,
        "layer_norm(x = x)",
        "LayerNorm { x: x, axes: [0, 1, 2], gamma: None, beta: None, epsilon: 9.999999747378752e-6 }",
    );
    reads(
        "tensor<fp32, [1, 6, 6, 5]>",
        "conv(x = image, weight = kernel)",
        "Conv { x: image, weight: kernel, bias: None, strides: [1, 1], pads: [(0, 0), (0, 0)], \
         dilations: [1, 1], groups: 1 }",
    );
    reads(
        "tensor<fp32, [3, 3, 4]>",
        "gather(x = x, indices = i)",
        "Gather { x: x, indices: i, axis: 0, batch_dims: 0 }",
    );
}

#[test]
fn paddings_are_resolved() {
    let conv = |pads: &str, strides: &str| {
        format!(
            "Conv {{ x: image, weight: kernel, bias: None, strides: {strides}, pads: {pads}, \
             dilations: [1, 1], groups: 1 }}"
        )
    };
    let strides = "strides = tensor<int32, [2]>([2, 2])";
    reads(
        "tensor<fp32, [1, 6, 4, 4]>",
        &format!("conv(x = image, weight = kernel, pad_type = string(\"same\"), {strides})"),
        &conv("[(0, 1), (1, 1)]", "[2, 2]"),
    );
    reads(
        "tensor<fp32, [1, 6, 4, 4]>",
        &format!("conv(x = image, weight = kernel, pad_type = string(\"same_lower\"), {strides})"),
        &conv("[(1, 0), (1, 1)]", "[2, 2]"),
    );
    reads(
        "tensor<fp32, [1, 6, 9, 12]>",
        "conv(x = image, weight = kernel, pad_type = string(\"custom\"), \
         pad = tensor<int32, [4]>([1, 2, 3, 4]))",
        &conv("[(1, 2), (3, 4)]", "[1, 1]"),
    );
    // `pad` says nothing unless `pad_type` is `custom`.
    reads(
        "tensor<fp32, [1, 6, 6, 5]>",
        "conv(x = image, weight = kernel, pad_type = string(\"valid\"), \
         pad = tensor<int32, [4]>([1, 2, 3, 4]))",
        &conv("[(0, 0), (0, 0)]", "[1, 1]"),
    );
    reads(
        "tensor<fp32, [2, 4, 9]>",
        "pad(x = x, pad = tensor<int32, [4]>([0, 1, 2, 3]), mode = string(\"constant\"), \
         constant_val = fp32(0x1p-1))",
        "Pad { x: x, pads: [(0, 0), (0, 1), (2, 3)], mode: Constant(0.5) }",
    );
}

#[test]
fn shapes_are_resolved() {
    let reshaped = "Reshape { x: x, shape: [2, 12] }";
    reads("tensor<fp32, [2, 12]>", "reshape(x = x, shape = tensor<int32, [2]>([0, -1]))", reshaped);
    reads(
        "tensor<fp32, [1, 2, 3, 4, 1]>",
        "expand_dims(x = x, axes = tensor<int32, [2]>([-1, 0]))",
        "Reshape { x: x, shape: [1, 2, 3, 4, 1] }",
    );
    reads(
        "tensor<fp32, [3, 1]>",
        "squeeze(x = y, axes = tensor<int32, [1]>([0]))",
        "Reshape { x: y, shape: [3, 1] }",
    );
    reads("tensor<fp32, [3]>", "squeeze(x = y)", "Reshape { x: y, shape: [3] }");
    reads(
        "tensor<fp32, [4, 2, 3]>",
        "transpose(x = x, perm = tensor<int32, [3]>([-1, 0, 1]))",
        "Transpose { x: x, perm: [2, 0, 1] }",
    );
    reads(
        "tensor<int32, [3]>",
        "shape(x = x)",
        "Const(Value { ty: Tensor(TensorType { dtype: I32, dims: [Known(3)] }), \
         data: Tensor(Tensor(int32[3])) })",
    );
    reads(
        X,
        "fill_like(ref_tensor = x, value = fp32(0x1p+1))",
        "Fill { dtype: F32, shape: [2, 3, 4], value: 2.0 }",
    );
    reads(
        "tensor<fp32, [5]>",
        "fill(shape = tensor<int32, [1]>([5]))",
        "Fill { dtype: F32, shape: [5], value: 0.0 }",
    );
    reads(
        "tensor<int32, [3]>",
        "range_1d(start = int32(1), end = int32(6), step = int32(2))",
        "Range { dtype: I32, start: 1.0, step: 2.0, count: 3 }",
    );
    reads(
        "tensor<int32, [3, 5]>",
        "one_hot(indices = i, one_hot_vector_size = int32(5))",
        "OneHot { indices: i, size: 5, axis: 1, dtype: I32, on: 1.0, off: 0.0 }",
    );
}

#[test]
fn slices_are_resolved() {
    reads(
        "tensor<fp32, [3, 2]>",
        "slice_by_index(x = x, begin = tensor<int32, [3]>([-1, 1, 7]), \
         end = tensor<int32, [3]>([0, -9, 0]), stride = tensor<int32, [3]>([1, 1, -2]), \
         begin_mask = tensor<bool, [3]>([false, true, true]), \
         end_mask = tensor<bool, [3]>([false, true, true]), \
         squeeze_mask = tensor<bool, [3]>([true, false, false]))",
        "Slice { x: x, begin: [1, 0, 3], size: [1, 3, 2], stride: [1, 1, -2], \
         squeeze: [true, false, false] }",
    );
    // Ends beyond the tensor are cut, as in Python.
    reads(
        "tensor<fp32, [2, 1, 4]>",
        "slice_by_index(x = x, begin = tensor<int32, [3]>([-5, -2, 0]), \
         end = tensor<int32, [3]>([9, -1, 4]))",
        "Slice { x: x, begin: [0, 1, 0], size: [2, 1, 4], stride: [1, 1, 1], \
         squeeze: [false, false, false] }",
    );
    reads(
        "tensor<fp32, [2, 2, 1]>",
        "slice_by_size(x = x, begin = tensor<int32, [3]>([0, 1, 2]), \
         size = tensor<int32, [3]>([-1, -1, 1]))",
        "Slice { x: x, begin: [0, 1, 2], size: [2, 2, 1], stride: [1, 1, 1], \
         squeeze: [false, false, false] }",
    );
    reads(
        "tensor<fp32, [1, 1, 2]>",
        "slice_by_size(x = x, begin = i, size = tensor<int32, [3]>([1, 1, 2]))",
        "DynamicSlice { x: x, begin: i, size: [1, 1, 2] }",
    );
    reads(
        X,
        "slice_update(x = x, update = y, begin = i, end = i)",
        "SliceUpdate { x: x, update: y, begin: i, end: i, begin_mask: [false, false, false], \
         end_mask: [false, false, false] }",
    );
}

#[test]
fn splits_and_choices() {
    let (_, op) = read("tensor<fp32, [2, 3, 2]>", "band_part(x = x)");
    assert_eq!(
        op.unwrap_err(),
        "in main, band_part -> r (operation 0): output `r` is declared tensor<fp32, [2, 3, 2]>, \
         it is tensor<fp32, [2, 3, 4]>"
    );
    let body = "tensor<fp32, [2, 3, 2]> p, tensor<fp32, [2, 3, 2]> q = \
         split(x = x, axis = int32(-1), num_splits = int32(2));";
    let program = program(PARAMS, body, "p, q");
    let ops = analyze(&hoist_literals(&program.functions[0])).unwrap();
    let shown = format!("{:?}", ops.last().unwrap());
    assert_eq!(shown, "Split { x: %0, axis: 2, sizes: [2, 2] }");
}

#[test]
fn refusals_name_the_argument() {
    let at = |op: &str, n: usize, message: &str| {
        format!("in main, {op} -> r (operation {n}): {message}")
    };
    refuses(X, "softmax(axis = int32(0))", &at("softmax", 1, "missing argument `x`"));
    refuses(
        X,
        "softmax(x = x, dim = int32(0))",
        &at("softmax", 1, "unknown argument `dim`: `softmax` takes `x`, `axis`"),
    );
    refuses(
        X,
        "softmax(x = x, axis = int32(3))",
        &at("softmax", 1, "argument `axis`: axis 3 is outside of 3 axes"),
    );
    refuses(
        X,
        "softmax(x = x, axis = string(\"last\"))",
        &at("softmax", 1, "argument `axis` must be an integer, it is string"),
    );
    refuses(
        X,
        "cumsum(x = x, exclusive = int32(1))",
        &at("cumsum", 1, "argument `exclusive` must be a bool, it is int32"),
    );
    refuses(
        X,
        "reshape(x = x, shape = i)",
        &at("reshape", 0, "argument `shape` must be constant, it is the computed value `i`"),
    );
    refuses(
        X,
        "reduce_sum(x = x, axes = tensor<int32, [2]>([0, -3]))",
        &at("reduce_sum", 1, "argument `axes` names axis 0 twice"),
    );
    refuses(
        X,
        "gelu(x = x, mode = string(\"FAST\"))",
        &at("gelu", 1, "argument `mode` has the unknown value \"FAST\""),
    );
    refuses(
        X,
        "batch_to_space(x = x)",
        &at("batch_to_space", 0, "`batch_to_space` cannot be executed here yet"),
    );
    refuses(X, "frobnicate(x = x)", &at("frobnicate", 0, "there is no op `frobnicate`"));
    refuses(X, "exp(x = (x, y))", &at("exp", 0, "argument `x` must be one value, not several"));
    refuses(
        X,
        "squeeze(x = x, axes = tensor<int32, [1]>([1]))",
        &at("squeeze", 1, "axis 1 of x [2, 3, 4] has not the size 1 and cannot be dropped"),
    );
    refuses(
        X,
        "slice_by_index(x = x, begin = tensor<int32, [3]>([0, 2, 0]), \
         end = tensor<int32, [3]>([2, 2, 4]))",
        &at("slice_by_index", 2, "nothing is taken of axis 1 of x [2, 3, 4]"),
    );
    refuses(
        X,
        "slice_update(x = x, update = y, begin = tensor<int32, [3]>([0, 0, 0]), \
         end = tensor<int32, [3]>([1, 3, 2]))",
        &at("slice_update", 2, "positions 0 to 2 of the 4 of axis 2 do not take an update of 1"),
    );
    refuses(
        "tensor<fp32, [8]>",
        "reshape(x = flexible, shape = tensor<int32, [1]>([8]))",
        &at("reshape", 1, "the shape of x is not known, it is tensor<fp32, [?, 4]>"),
    );
    refuses(
        X,
        "add(x = x, y = i)",
        &at(
            "add",
            0,
            "x and y must have one element type, they are tensor<fp32, [2, 3, 4]> and \
             tensor<int32, [3]>",
        ),
    );
    refuses(X, "topk(x = x)", &at("topk", 0, "`topk` has 2 outputs here, 1 are declared"));
}

#[test]
fn declared_unknown_sizes_fit_inferred_ones() {
    reads("tensor<fp32, [2, ?, 4]>", "exp(x = x)", "Unary { kind: Exp, x: x }");
    reads("tensor<fp32, [7, 4]>", "exp(x = flexible)", "Unary { kind: Exp, x: flexible }");
}
