//! From meaning back to an operation as MIL writes it.

mod compressed;
mod sample;
mod spatial;

use crate::infer::range_end;
use crate::op::{PadMode, Unary};
use crate::{Argument, Attributes, Binding, Op, Value, ValueId, Values};
use orion_tensor::DType;
use std::collections::BTreeMap;

/// An op's name, operand arguments and constant parameters.
pub struct Encoded {
    /// MIL's name, such as `conv`.
    pub name: &'static str,
    /// Arguments that are values.
    pub operands: BTreeMap<String, Argument>,
    /// Arguments that must be constants; the caller binds them to `const` operations.
    pub parameters: BTreeMap<String, Value>,
    /// Attributes; `val` for a `const`.
    pub attributes: Attributes,
}

/// Writes out an op with every parameter of its newest (iOS18) signature spelled out, the
/// optional ones too: compilers for the Neural Engine refuse omitted ones.
/// `output_count` tells `topk` how many results are wanted.
///
/// Numbers take the element type of the operand they belong to and are rounded to it.
///
/// # Panics
/// When type inference does not accept the op.
pub fn encode(op: &Op, values: &Values, output_count: usize) -> Encoded {
    let dtype = |id: ValueId| values[id].ty.as_tensor().expect("a tensor operand").dtype;
    match op {
        Op::Const(value) => {
            let mut encoded = named("const");
            encoded.attributes.insert("val".to_owned(), value.clone());
            encoded
        }
        Op::Identity { x } => named("identity").operand("x", *x),
        Op::Cast { x, dtype } => {
            named("cast").operand("x", *x).parameter("dtype", Value::string(dtype.name()))
        }
        Op::Unary { kind, x } => unary(*kind, *x, dtype(*x)),
        Op::Binary { kind, x, y } => named(kind.name()).operand("x", *x).operand("y", *y),
        Op::Select { cond, a, b } => {
            named("select").operand("cond", *cond).operand("a", *a).operand("b", *b)
        }
        Op::Reduce { kind, x, axes, keep_dims } => named(kind.name())
            .operand("x", *x)
            .parameter("axes", ints(axes))
            .parameter("keep_dims", Value::bool(*keep_dims)),
        Op::ArgReduce { max, x, axis, keep_dims } => {
            named(if *max { "reduce_argmax" } else { "reduce_argmin" })
                .operand("x", *x)
                .parameter("axis", int(*axis))
                .parameter("keep_dims", Value::bool(*keep_dims))
                .parameter("output_dtype", Value::string("int32"))
        }
        Op::Cumsum { x, axis, exclusive, reverse } => named("cumsum")
            .operand("x", *x)
            .parameter("axis", int(*axis))
            .parameter("exclusive", Value::bool(*exclusive))
            .parameter("reverse", Value::bool(*reverse)),
        Op::Matmul { x, y, transpose_x, transpose_y } => named("matmul")
            .operand("x", *x)
            .operand("y", *y)
            .parameter("transpose_x", Value::bool(*transpose_x))
            .parameter("transpose_y", Value::bool(*transpose_y)),
        Op::Linear { x, weight, bias } => {
            named("linear").operand("x", *x).operand("weight", *weight).optional("bias", *bias)
        }
        Op::Conv { x, weight, bias, strides, pads, dilations, groups } => {
            let valid = pads.iter().all(|&pad| pad == (0, 0));
            named("conv")
                .operand("x", *x)
                .operand("weight", *weight)
                .optional("bias", *bias)
                .parameter("strides", ints(strides))
                .parameter("pad_type", Value::string(if valid { "valid" } else { "custom" }))
                .parameter("pad", pairs(pads))
                .parameter("dilations", ints(dilations))
                .parameter("groups", int(*groups))
        }
        Op::Attention { query, key, value, mask } => named("scaled_dot_product_attention")
            .operand("query", *query)
            .operand("key", *key)
            .operand("value", *value)
            .optional("attn_mask", *mask),
        Op::Softmax { x, axis } => named("softmax").operand("x", *x).parameter("axis", int(*axis)),
        Op::LayerNorm { x, axes, gamma, beta, epsilon } => named("layer_norm")
            .operand("x", *x)
            .parameter("axes", ints(axes))
            .optional("gamma", *gamma)
            .optional("beta", *beta)
            .parameter("epsilon", Value::scalar(dtype(*x), *epsilon)),
        Op::BatchNorm { x, mean, variance, gamma, beta, epsilon } => named("batch_norm")
            .operand("x", *x)
            .operand("mean", *mean)
            .operand("variance", *variance)
            .optional("gamma", *gamma)
            .optional("beta", *beta)
            .parameter("epsilon", Value::scalar(dtype(*x), *epsilon)),
        Op::Reshape { x, shape } => {
            named("reshape").operand("x", *x).parameter("shape", ints(shape))
        }
        Op::Transpose { x, perm } => {
            named("transpose").operand("x", *x).parameter("perm", ints(perm))
        }
        Op::Concat { values, axis, interleave } => named("concat")
            .operands("values", values)
            .parameter("axis", int(*axis))
            .parameter("interleave", Value::bool(*interleave)),
        Op::Stack { values, axis } => {
            named("stack").operands("values", values).parameter("axis", int(*axis))
        }
        Op::Split { x, axis, sizes } => named("split")
            .operand("x", *x)
            .parameter("axis", int(*axis))
            .parameter("split_sizes", ints(sizes)),
        Op::Slice { x, begin, size, stride, squeeze } => slice(*x, begin, size, stride, squeeze),
        Op::DynamicSlice { x, begin, size } => named("slice_by_size")
            .operand("x", *x)
            .operand("begin", *begin)
            .parameter("size", ints(size)),
        Op::SliceUpdate { x, update, begin, end, begin_mask, end_mask } => {
            let rank = begin_mask.len();
            named("slice_update")
                .operand("x", *x)
                .operand("update", *update)
                .operand("begin", *begin)
                .operand("end", *end)
                .parameter("stride", ints(&vec![1; rank]))
                .parameter("begin_mask", Value::bools(begin_mask))
                .parameter("end_mask", Value::bools(end_mask))
                .parameter("squeeze_mask", Value::bools(&vec![false; rank]))
        }
        Op::Tile { x, reps } => named("tile").operand("x", *x).parameter("reps", ints(reps)),
        Op::Pad { x, pads, mode } => {
            let (mode, value) = match mode {
                PadMode::Constant(value) => ("constant", *value),
                PadMode::Reflect => ("reflect", 0.0),
                PadMode::Replicate => ("replicate", 0.0),
            };
            named("pad")
                .operand("x", *x)
                .parameter("pad", pairs(pads))
                .parameter("mode", Value::string(mode))
                .parameter("constant_val", Value::scalar(dtype(*x), value))
        }
        Op::Gather { x, indices, axis, batch_dims } => named("gather")
            .operand("x", *x)
            .operand("indices", *indices)
            .parameter("axis", int(*axis))
            .parameter("batch_dims", int(*batch_dims))
            .parameter("validate_indices", Value::bool(false)),
        Op::GatherAlongAxis { x, indices, axis } => named("gather_along_axis")
            .operand("x", *x)
            .operand("indices", *indices)
            .parameter("axis", int(*axis))
            .parameter("validate_indices", Value::bool(false)),
        Op::Scatter { data, indices, updates, axis, mode }
        | Op::ScatterAlongAxis { data, indices, updates, axis, mode } => {
            let along = matches!(op, Op::ScatterAlongAxis { .. });
            named(if along { "scatter_along_axis" } else { "scatter" })
                .operand("data", *data)
                .operand("indices", *indices)
                .operand("updates", *updates)
                .parameter("axis", int(*axis))
                .parameter("mode", Value::string(mode.name()))
                .parameter("validate_indices", Value::bool(false))
        }
        Op::Fill { dtype, shape, value } => named("fill")
            .parameter("shape", ints(shape))
            .parameter("value", Value::scalar(*dtype, *value)),
        Op::Range { dtype, start, step, count } => {
            let end = range_end(*dtype, *start, *step, *count).expect("a range that fits its type");
            named("range_1d")
                .parameter("start", Value::scalar(*dtype, *start))
                .parameter("end", Value::scalar(*dtype, end))
                .parameter("step", Value::scalar(*dtype, *step))
        }
        Op::BandPart { x, lower, upper } => named("band_part")
            .operand("x", *x)
            .parameter("lower", Value::int(int32(*lower)))
            .parameter("upper", Value::int(int32(*upper))),
        Op::OneHot { indices, size, axis, dtype, on, off } => named("one_hot")
            .operand("indices", *indices)
            .parameter("one_hot_vector_size", int(*size))
            .parameter("axis", int(*axis))
            .parameter("on_value", Value::scalar(*dtype, *on))
            .parameter("off_value", Value::scalar(*dtype, *off)),
        Op::TopK { x, k, axis, ascending } => named("topk")
            .operand("x", *x)
            .parameter("k", int(*k))
            .parameter("axis", int(*axis))
            .parameter("ascending", Value::bool(*ascending))
            .parameter("sort", Value::bool(true))
            .parameter("return_indices", Value::bool(output_count > 1))
            .parameter("output_indices_dtype", Value::string("int32")),
        Op::Einsum { values, equation } => named("einsum")
            .operands("values", values)
            .parameter("equation", Value::string(equation.to_string())),
        Op::Prelu { x, alpha } => named("prelu").operand("x", *x).operand("alpha", *alpha),
        Op::GatherNd { x, indices, batch_dims } => named("gather_nd")
            .operand("x", *x)
            .operand("indices", *indices)
            .parameter("batch_dims", int(*batch_dims))
            .parameter("validate_indices", Value::bool(false)),
        Op::ScatterNd { data, indices, updates, mode } => named("scatter_nd")
            .operand("data", *data)
            .operand("indices", *indices)
            .operand("updates", *updates)
            .parameter("mode", Value::string(mode.name()))
            .parameter("validate_indices", Value::bool(false)),
        Op::ArgSort { x, axis, ascending } => named("argsort")
            .operand("x", *x)
            .parameter("axis", int(*axis))
            .parameter("ascending", Value::bool(*ascending)),
        Op::Quantize { x, scale, zero_point, axis, .. }
        | Op::Dequantize { x, scale, zero_point, axis } => {
            let to = match op {
                Op::Quantize { dtype, .. } => Some(dtype),
                _ => None,
            };
            let mut encoded = named(if to.is_some() { "quantize" } else { "dequantize" })
                .operand("input", *x)
                .operand("scale", *scale)
                .optional("zero_point", *zero_point);
            if let Some(axis) = axis {
                encoded = encoded.parameter("axis", int(*axis));
            }
            if let Some(dtype) = to {
                encoded = encoded.parameter("output_dtype", Value::string(dtype.name()));
            }
            encoded
        }
        Op::Spatial(op) => spatial::spatial(op, values),
        Op::Sample(op) => sample::sample(op, values),
        Op::Suppression(op) => sample::suppression(op, values),
        Op::Random(op) => sample::random(op),
        Op::Recurrent(op) => spatial::recurrent(op),
        Op::Constexpr(op) => compressed::constexpr(op),
        Op::ReadState { state } => named("read_state").operand("input", *state),
        Op::WriteState { state, data } => {
            named("write_state").operand("input", *state).operand("data", *data)
        }
    }
}

fn unary(kind: Unary, x: ValueId, dtype: DType) -> Encoded {
    let encoded = named(kind.name()).operand("x", x);
    let number = |v: f64| Value::scalar(dtype, v);
    match kind {
        Unary::Clip { low, high } => {
            encoded.parameter("alpha", number(low)).parameter("beta", number(high))
        }
        Unary::LinearActivation { alpha, beta }
        | Unary::ScaledTanh { alpha, beta }
        | Unary::SigmoidHard { alpha, beta } => {
            encoded.parameter("alpha", number(alpha)).parameter("beta", number(beta))
        }
        Unary::Elu { alpha }
        | Unary::LeakyRelu { alpha }
        | Unary::Threshold { alpha }
        | Unary::ThresholdedRelu { alpha } => encoded.parameter("alpha", number(alpha)),
        Unary::Inverse { epsilon } | Unary::Log { epsilon } | Unary::Rsqrt { epsilon } => {
            encoded.parameter("epsilon", number(epsilon))
        }
        Unary::Gelu(mode) => encoded.parameter("mode", Value::string(mode.name())),
        _ => encoded,
    }
}

/// A dense part is `slice_by_size`, everything else `slice_by_index`.
fn slice(
    x: ValueId,
    begin: &[usize],
    size: &[usize],
    stride: &[isize],
    squeeze: &[bool],
) -> Encoded {
    if stride.iter().all(|&s| s == 1) && !squeeze.contains(&true) {
        return named("slice_by_size")
            .operand("x", x)
            .parameter("begin", ints(begin))
            .parameter("size", ints(size));
    }
    // One past the last element taken; before the first element of the axis there is no such
    // position (-1 counts from the end), so `end_mask` stands in.
    let end: Vec<Option<usize>> = (0..begin.len())
        .map(|a| {
            let last = begin[a].wrapping_add_signed((size[a] as isize - 1) * stride[a]);
            if stride[a] > 0 { Some(last + 1) } else { last.checked_sub(1) }
        })
        .collect();
    let ends: Vec<usize> = end.iter().map(|e| e.unwrap_or(0)).collect();
    let end_mask: Vec<bool> = end.iter().map(Option::is_none).collect();
    let stride: Vec<i32> = stride.iter().map(|&s| int32(s)).collect();
    named("slice_by_index")
        .operand("x", x)
        .parameter("begin", ints(begin))
        .parameter("end", ints(&ends))
        .parameter("stride", Value::ints(&stride))
        .parameter("begin_mask", Value::bools(&vec![false; begin.len()]))
        .parameter("end_mask", Value::bools(&end_mask))
        .parameter("squeeze_mask", Value::bools(squeeze))
}

fn named(name: &'static str) -> Encoded {
    Encoded {
        name,
        operands: BTreeMap::new(),
        parameters: BTreeMap::new(),
        attributes: Attributes::new(),
    }
}

impl Encoded {
    fn operand(mut self, name: &str, id: ValueId) -> Self {
        self.operands.insert(name.to_owned(), id.into());
        self
    }

    fn optional(self, name: &str, id: Option<ValueId>) -> Self {
        match id {
            Some(id) => self.operand(name, id),
            None => self,
        }
    }

    fn operands(mut self, name: &str, ids: &[ValueId]) -> Self {
        let bindings = ids.iter().map(|&id| Binding::Value(id)).collect();
        self.operands.insert(name.to_owned(), Argument::Many(bindings));
        self
    }

    fn parameter(mut self, name: &str, value: Value) -> Self {
        self.parameters.insert(name.to_owned(), value);
        self
    }
}

/// MIL's sizes are int32; type inference has refused larger ones.
fn int32(n: impl TryInto<i32>) -> i32 {
    n.try_into().unwrap_or_else(|_| panic!("a size or stride beyond int32"))
}

fn int(n: usize) -> Value {
    Value::int(int32(n))
}

fn ints(sizes: &[usize]) -> Value {
    let sizes: Vec<i32> = sizes.iter().map(|&n| int32(n)).collect();
    Value::ints(&sizes)
}

/// before, after, before, after, …
fn pairs(pads: &[(usize, usize)]) -> Value {
    let flat: Vec<usize> = pads.iter().flat_map(|&(before, after)| [before, after]).collect();
    ints(&flat)
}
