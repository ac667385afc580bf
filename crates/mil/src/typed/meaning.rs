//! One arm per op name.

use super::arguments::{Arguments, missing};
use super::{Constants, Refusal, compressed, placement, rare, spatial};
use crate::infer::{range_count, rounded};
use crate::op::{Binary, GeluMode, PadMode, Pooling, Rearrangement, Reduction, ScatterMode, Unary};
use crate::{Argument, Binding, Function, Op, Operation, Value, ValueId, op_table};
use orion_tensor::DType;

pub(super) fn of(
    function: &Function,
    constants: &Constants<'_>,
    operation: &Operation,
) -> Result<Op, Refusal> {
    let mut arguments = Arguments::new(function, constants, operation);
    let op = match operation.name.as_str() {
        "const" => {
            let value = operation.const_value();
            Op::Const(value.ok_or_else(|| Refusal::invalid("missing attribute `val`"))?.clone())
        }
        name => read(name, &mut arguments)?,
    };
    arguments.finish()?;
    Ok(op)
}

/// `topk` leaves out the indices when it is told so.
pub(super) fn topk_outputs(constants: &Constants<'_>, operation: &Operation) -> usize {
    let wanted = match operation.inputs.get("return_indices") {
        Some(Argument::One(Binding::Literal(value))) => value.as_bool(),
        Some(Argument::One(Binding::Value(id))) => constants.get(*id).and_then(Value::as_bool),
        _ => None,
    };
    if wanted.unwrap_or(true) { 2 } else { 1 }
}

fn read(name: &str, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    if let Some(&kind) = Unary::PLAIN.iter().find(|k| k.name() == name) {
        return Ok(Op::Unary { kind, x: a.value("x")? });
    }
    if let Some(&kind) = Binary::ALL.iter().find(|k| k.name() == name) {
        return Ok(Op::Binary { kind, x: a.value("x")?, y: a.value("y")? });
    }
    if let Some(&kind) = Reduction::ALL.iter().find(|k| k.name() == name) {
        let x = a.value("x")?;
        let rank = a.tensor("x", x)?.rank();
        let axes = a.axes("axes", rank)?.unwrap_or_else(|| (0..rank).collect());
        let keep_dims = a.bool("keep_dims")?.unwrap_or(false);
        return Ok(Op::Reduce { kind, x, axes, keep_dims });
    }
    match name {
        "clip" | "elu" | "gelu" | "inverse" | "leaky_relu" | "linear_activation" | "log"
        | "rsqrt" | "scaled_tanh" | "sigmoid_hard" | "threshold" | "thresholded_relu" => {
            unary(name, a)
        }
        "identity" => Ok(Op::Identity { x: a.value("x")? }),
        "cast" => cast(a),
        "select" => Ok(Op::Select { cond: a.value("cond")?, a: a.value("a")?, b: a.value("b")? }),
        "reduce_argmax" | "reduce_argmin" => arg_reduce(name == "reduce_argmax", a),
        "cumsum" => {
            let (x, axis) = x_and_axis(a, 0)?;
            let exclusive = a.bool("exclusive")?.unwrap_or(false);
            let reverse = a.bool("reverse")?.unwrap_or(false);
            Ok(Op::Cumsum { x, axis, exclusive, reverse })
        }
        "matmul" => Ok(Op::Matmul {
            x: a.value("x")?,
            y: a.value("y")?,
            transpose_x: a.bool("transpose_x")?.unwrap_or(false),
            transpose_y: a.bool("transpose_y")?.unwrap_or(false),
        }),
        "linear" => Ok(Op::Linear {
            x: a.value("x")?,
            weight: a.value("weight")?,
            bias: a.optional_value("bias")?,
        }),
        "conv" => placement::conv(a),
        "scaled_dot_product_attention" => Ok(Op::Attention {
            query: a.value("query")?,
            key: a.value("key")?,
            value: a.value("value")?,
            mask: a.optional_value("attn_mask")?,
        }),
        "softmax" => {
            let (x, axis) = x_and_axis(a, -1)?;
            Ok(Op::Softmax { x, axis })
        }
        "layer_norm" => {
            let x = a.value("x")?;
            let rank = a.tensor("x", x)?.rank();
            Ok(Op::LayerNorm {
                x,
                axes: a.axes("axes", rank)?.unwrap_or_else(|| (0..rank).collect()),
                gamma: a.optional_value("gamma")?,
                beta: a.optional_value("beta")?,
                epsilon: epsilon(a, x, 1e-5)?,
            })
        }
        "batch_norm" => {
            let x = a.value("x")?;
            Ok(Op::BatchNorm {
                x,
                mean: a.value("mean")?,
                variance: a.value("variance")?,
                gamma: a.optional_value("gamma")?,
                beta: a.optional_value("beta")?,
                epsilon: epsilon(a, x, 1e-5)?,
            })
        }
        "reshape" => placement::reshape(a),
        "expand_dims" => placement::expand_dims(a),
        "squeeze" => placement::squeeze(a),
        "transpose" => transpose(a),
        "concat" => {
            let values = a.values("values")?;
            let rank = first_rank(a, &values)?;
            let axis = required_axis(a, rank)?;
            let interleave = a.bool("interleave")?.unwrap_or(false);
            Ok(Op::Concat { values, axis, interleave })
        }
        "stack" => {
            let values = a.values("values")?;
            let rank = first_rank(a, &values)? + 1;
            let axis = required_axis(a, rank)?;
            Ok(Op::Stack { values, axis })
        }
        "split" => placement::split(a),
        "slice_by_index" => placement::slice_by_index(a),
        "slice_by_size" => placement::slice_by_size(a),
        "slice_update" => placement::slice_update(a),
        "tile" => {
            let x = a.value("x")?;
            let reps = a.sizes("reps")?.ok_or_else(|| missing("reps"))?;
            Ok(Op::Tile { x, reps })
        }
        "pad" => pad(a),
        "gather" => {
            let (x, axis) = x_and_axis(a, 0)?;
            let indices = a.value("indices")?;
            let batch_dims = a.size("batch_dims")?.unwrap_or(0);
            // Indices are always validated here, whatever the program asks for.
            a.bool("validate_indices")?;
            Ok(Op::Gather { x, indices, axis, batch_dims })
        }
        "gather_along_axis" => {
            let (x, axis) = x_and_axis(a, 0)?;
            let indices = a.value("indices")?;
            a.bool("validate_indices")?;
            Ok(Op::GatherAlongAxis { x, indices, axis })
        }
        "scatter" | "scatter_along_axis" => scatter(name, a),
        "fill" => {
            let shape = a.sizes("shape")?.ok_or_else(|| missing("shape"))?;
            let (dtype, value) = a.typed_number("value")?.unwrap_or((DType::F32, 0.0));
            Ok(Op::Fill { dtype, shape, value })
        }
        "fill_like" => {
            let reference = a.value("ref_tensor")?;
            let shape = a.shape("ref_tensor", reference)?;
            let (dtype, value) = a.typed_number("value")?.unwrap_or((DType::F32, 0.0));
            Ok(Op::Fill { dtype, shape, value })
        }
        "range_1d" => range(a),
        "shape" => {
            let x = a.value("x")?;
            let shape = a.shape("x", x)?;
            let sizes = shape.iter().map(|&n| i32::try_from(n)).collect::<Result<Vec<_>, _>>();
            let sizes = sizes.map_err(|_| Refusal::invalid("x has an axis beyond int32"))?;
            Ok(Op::Const(Value::ints(&sizes)))
        }
        "band_part" => Ok(Op::BandPart {
            x: a.value("x")?,
            lower: a.int("lower")?.unwrap_or(-1).max(-1),
            upper: a.int("upper")?.unwrap_or(-1).max(-1),
        }),
        "one_hot" => one_hot(a),
        "topk" => topk(a),
        "max_pool" => spatial::pool(Pooling::Max, a),
        "avg_pool" => spatial::pool(Pooling::Average, a),
        "l2_pool" => spatial::pool(Pooling::L2, a),
        "conv_transpose" => spatial::conv_transpose(a),
        "upsample_nearest_neighbor" => spatial::upsample(false, a),
        "upsample_bilinear" => spatial::upsample(true, a),
        "resize_nearest_neighbor" => spatial::resize_to(false, a),
        "resize_bilinear" => spatial::resize_to(true, a),
        "resize" => spatial::resize(a),
        "pixel_shuffle" => spatial::rearrange(Rearrangement::PixelShuffle, "upscale_factor", a),
        "pixel_unshuffle" => {
            spatial::rearrange(Rearrangement::PixelUnshuffle, "downscale_factor", a)
        }
        "depth_to_space" => spatial::rearrange(Rearrangement::DepthToSpace, "block_size", a),
        "space_to_depth" => spatial::rearrange(Rearrangement::SpaceToDepth, "block_size", a),
        "sliding_windows" => spatial::sliding_windows(a),
        "instance_norm" | "l2_norm" | "local_response_norm" => spatial::norm(name, a),
        "lstm" | "gru" | "rnn" => spatial::recurrent(name, a),
        name if name.starts_with("constexpr_") && op_table::is_known(name) => {
            compressed::read(name, a)
        }
        "read_state" => Ok(Op::ReadState { state: a.value("input")? }),
        "write_state" => Ok(Op::WriteState { state: a.value("input")?, data: a.value("data")? }),
        _ if op_table::is_known(name) => rare::read(name, a),
        _ => Err(Refusal::invalid(format!("there is no op `{name}`"))),
    }
}

/// An axis without a default.
pub(super) fn required_axis(a: &mut Arguments<'_>, rank: usize) -> Result<usize, Refusal> {
    let given = a.int("axis")?.ok_or_else(|| missing("axis"))?;
    a.axis("axis", rank, given)
}

fn x_and_axis(a: &mut Arguments<'_>, default: i64) -> Result<(ValueId, usize), Refusal> {
    let x = a.value("x")?;
    let rank = a.tensor("x", x)?.rank();
    Ok((x, a.axis("axis", rank, default)?))
}

fn first_rank(a: &Arguments<'_>, values: &[ValueId]) -> Result<usize, Refusal> {
    let first = values.first().ok_or_else(|| Refusal::invalid("argument `values` is empty"))?;
    Ok(a.tensor("values", *first)?.rank())
}

/// An epsilon; its default has x's element type and is rounded to it.
pub(super) fn epsilon(a: &mut Arguments<'_>, x: ValueId, default: f64) -> Result<f64, Refusal> {
    let given = a.number("epsilon")?;
    let dtype = a.tensor("x", x)?.dtype;
    match given {
        Some(epsilon) => Ok(epsilon),
        None if dtype.is_float() && dtype.bits() >= 16 => Ok(rounded(dtype, default)),
        None => Err(Refusal::invalid(format!("x must be a float tensor, it is of {dtype}"))),
    }
}

fn unary(name: &str, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let number =
        |a: &mut Arguments<'_>, name: &'static str| a.number(name)?.ok_or_else(|| missing(name));
    let kind = match name {
        "clip" => Unary::Clip { low: number(a, "alpha")?, high: number(a, "beta")? },
        "elu" => Unary::Elu { alpha: number(a, "alpha")? },
        "gelu" => {
            let mode = a.string("mode")?.unwrap_or("EXACT");
            let known = GeluMode::ALL.into_iter().find(|m| m.name() == mode);
            Unary::Gelu(known.ok_or_else(|| unknown_choice("mode", mode))?)
        }
        "inverse" => Unary::Inverse { epsilon: epsilon(a, x, 1e-4)? },
        "leaky_relu" => Unary::LeakyRelu { alpha: number(a, "alpha")? },
        "linear_activation" => {
            Unary::LinearActivation { alpha: number(a, "alpha")?, beta: number(a, "beta")? }
        }
        "log" => Unary::Log { epsilon: epsilon(a, x, 1e-45)? },
        "rsqrt" => Unary::Rsqrt { epsilon: epsilon(a, x, 1e-12)? },
        "scaled_tanh" => Unary::ScaledTanh { alpha: number(a, "alpha")?, beta: number(a, "beta")? },
        "sigmoid_hard" => {
            Unary::SigmoidHard { alpha: number(a, "alpha")?, beta: number(a, "beta")? }
        }
        "threshold" => Unary::Threshold { alpha: number(a, "alpha")? },
        "thresholded_relu" => Unary::ThresholdedRelu { alpha: number(a, "alpha")? },
        _ => unreachable!("`{name}` is not a parametrised activation"),
    };
    Ok(Op::Unary { kind, x })
}

pub(super) fn unknown_choice(name: &str, choice: &str) -> Refusal {
    Refusal::invalid(format!("argument `{name}` has the unknown value \"{choice}\""))
}

fn cast(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let name = a.string("dtype")?.ok_or_else(|| missing("dtype"))?;
    let dtype = name.parse().map_err(|()| unknown_choice("dtype", name))?;
    Ok(Op::Cast { x, dtype })
}

fn arg_reduce(max: bool, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let (x, axis) = x_and_axis(a, -1)?;
    let keep_dims = a.bool("keep_dims")?.unwrap_or(false);
    require_int32(a, "output_dtype")?;
    Ok(Op::ArgReduce { max, x, axis, keep_dims })
}

fn require_int32(a: &mut Arguments<'_>, name: &'static str) -> Result<(), Refusal> {
    match a.string(name)? {
        None | Some("int32") => Ok(()),
        Some(other) => Err(Refusal::unsupported(format!(
            "argument `{name}` is \"{other}\", only \"int32\" can be executed here yet"
        ))),
    }
}

fn transpose(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let rank = a.tensor("x", x)?.rank() as i64;
    let perm = a.ints("perm")?.ok_or_else(|| missing("perm"))?;
    let from_start = perm.iter().map(|&p| if p < 0 { p.saturating_add(rank) } else { p });
    let resolved: Result<Vec<usize>, _> = from_start.map(usize::try_from).collect();
    let perm = resolved.map_err(|_| {
        Refusal::invalid(format!("argument `perm` {perm:?} is not a permutation of {rank} axes"))
    })?;
    Ok(Op::Transpose { x, perm })
}

fn pad(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let rank = a.tensor("x", x)?.rank();
    let flat = a.sizes("pad")?.ok_or_else(|| missing("pad"))?;
    let mode = a.string("mode")?.unwrap_or("constant");
    let value = a.number("constant_val")?.unwrap_or(0.0);
    let mode = match mode {
        "constant" => PadMode::Constant(value),
        "reflect" => PadMode::Reflect,
        "replicate" => PadMode::Replicate,
        _ => return Err(unknown_choice("mode", mode)),
    };
    if flat.len() % 2 != 0 || flat.len() / 2 > rank {
        return Err(Refusal::invalid(format!(
            "argument `pad` has {} entries, it must have two for each of the last of {rank} axes",
            flat.len()
        )));
    }
    let mut pads = vec![(0, 0); rank - flat.len() / 2];
    pads.extend(flat.chunks_exact(2).map(|p| (p[0], p[1])));
    Ok(Op::Pad { x, pads, mode })
}

fn scatter(name: &str, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let data = a.value("data")?;
    let indices = a.value("indices")?;
    let updates = a.value("updates")?;
    let rank = a.tensor("data", data)?.rank();
    let axis = a.axis("axis", rank, 0)?;
    let mode = a.string("mode")?.unwrap_or("add");
    let known = ScatterMode::ALL.into_iter().find(|m| m.name() == mode);
    let mode = known.ok_or_else(|| unknown_choice("mode", mode))?;
    a.bool("validate_indices")?;
    Ok(match name {
        "scatter" => Op::Scatter { data, indices, updates, axis, mode },
        _ => Op::ScatterAlongAxis { data, indices, updates, axis, mode },
    })
}

fn range(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let mut bound = |name: &'static str| a.typed_number(name)?.ok_or_else(|| missing(name));
    let (dtype, start) = bound("start")?;
    let (end_dtype, end) = bound("end")?;
    let (step_dtype, step) = bound("step")?;
    if dtype != end_dtype || dtype != step_dtype {
        return Err(Refusal::invalid(format!(
            "`start`, `end` and `step` must have one element type, they are {dtype}, {end_dtype} \
             and {step_dtype}"
        )));
    }
    let count = range_count(start, end, step).filter(|&n| n > 0).ok_or_else(|| {
        Refusal::invalid(format!("steps of {step} from {start} do not lead to {end}"))
    })?;
    Ok(Op::Range { dtype, start, step, count })
}

fn one_hot(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let indices = a.value("indices")?;
    let rank = a.tensor("indices", indices)?.rank() + 1;
    let size = a.size("one_hot_vector_size")?.ok_or_else(|| missing("one_hot_vector_size"))?;
    let axis = a.axis("axis", rank, -1)?;
    let on = a.typed_number("on_value")?;
    let off = a.typed_number("off_value")?;
    let (dtype, on, off) = match (on, off) {
        (Some((dtype, on)), Some((off_dtype, off))) if dtype == off_dtype => (dtype, on, off),
        (Some((dtype, on)), None) => (dtype, on, 0.0),
        (None, Some((dtype, off))) => (dtype, 1.0, off),
        (None, None) => (DType::I32, 1.0, 0.0),
        (Some((on, _)), Some((off, _))) => {
            return Err(Refusal::invalid(format!(
                "`on_value` and `off_value` must have one element type, they are {on} and {off}"
            )));
        }
    };
    Ok(Op::OneHot { indices, size, axis, dtype, on, off })
}

fn topk(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let (x, axis) = x_and_axis(a, -1)?;
    let k = a.size("k")?.unwrap_or(1);
    let ascending = a.bool("ascending")?.unwrap_or(false);
    // Without `sort` any order will do, so the sorted one does.
    a.bool("sort")?;
    a.bool("return_indices")?;
    require_int32(a, "output_indices_dtype")?;
    Ok(Op::TopK { x, k, axis, ascending })
}
