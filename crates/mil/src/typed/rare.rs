//! Ops that few programs have, and those without a meaning here, with the reason.

use super::arguments::{Arguments, missing};
use super::meaning::unknown_choice;
use super::{Refusal, sample};
use crate::op::{Equation, ScatterMode};
use crate::{Op, Value, ValueId};

pub(super) fn read(name: &str, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    match name {
        "einsum" => {
            let values = a.values("values")?;
            let text = a.string("equation")?.ok_or_else(|| missing("equation"))?;
            let equation = Equation::parse(text).map_err(Refusal::unsupported)?;
            Ok(Op::Einsum { values, equation })
        }
        "prelu" => Ok(Op::Prelu { x: a.value("x")?, alpha: a.value("alpha")? }),
        "gather_nd" => {
            let (x, indices) = (a.value("x")?, a.value("indices")?);
            let batch_dims = a.size("batch_dims")?.unwrap_or(0);
            a.bool("validate_indices")?;
            Ok(Op::GatherNd { x, indices, batch_dims })
        }
        "scatter_nd" => {
            let (data, indices, updates) =
                (a.value("data")?, a.value("indices")?, a.value("updates")?);
            let mode = a.string("mode")?.unwrap_or("add");
            let known = ScatterMode::ALL.into_iter().find(|m| m.name() == mode);
            let mode = known.ok_or_else(|| unknown_choice("mode", mode))?;
            a.bool("validate_indices")?;
            Ok(Op::ScatterNd { data, indices, updates, mode })
        }
        "argsort" => {
            let x = a.value("x")?;
            let rank = a.tensor("x", x)?.rank();
            let axis = a.axis("axis", rank, -1)?;
            let ascending = a.bool("ascending")?.unwrap_or(false);
            Ok(Op::ArgSort { x, axis, ascending })
        }
        "quantize" | "dequantize" => {
            let x = a.value("input")?;
            let (scale, zero_point) = (a.value("scale")?, a.optional_value("zero_point")?);
            let rank = a.tensor("input", x)?.rank();
            let axis = match a.int("axis")? {
                Some(axis) => Some(a.axis("axis", rank, axis)?),
                None => None,
            };
            if name == "dequantize" {
                return Ok(Op::Dequantize { x, scale, zero_point, axis });
            }
            let dtype = a.string("output_dtype")?.ok_or_else(|| missing("output_dtype"))?;
            let dtype = dtype.parse().map_err(|()| unknown_choice("output_dtype", dtype))?;
            Ok(Op::Quantize { x, scale, zero_point, axis, dtype })
        }
        "reverse" => {
            let x = a.value("x")?;
            let shape = a.shape("x", x)?;
            let axes = a.axes("axes", shape.len())?.unwrap_or_else(|| (0..shape.len()).collect());
            let turned = |axis: usize| axes.contains(&axis) && shape[axis] > 1;
            let all = || 0..shape.len();
            Ok(Op::Slice {
                x,
                begin: all().map(|i| if turned(i) { shape[i] - 1 } else { 0 }).collect(),
                stride: all().map(|i| if turned(i) { -1 } else { 1 }).collect(),
                squeeze: vec![false; shape.len()],
                size: shape.clone(),
            })
        }
        "reshape_like" => reshape_like(a),
        "resample" => sample::resample(a),
        "affine" => sample::affine(a),
        "crop_resize" => sample::crop_resize(a),
        "non_maximum_suppression" => sample::suppression(a),
        "random_uniform" | "random_normal" | "random_bernoulli" | "random_categorical" => {
            sample::random(name, a)
        }
        "non_zero" => {
            let x = a.value("x")?;
            a.tensor("x", x)?;
            Err(Refusal::later("how large its result is depends on the numbers"))
        }
        _ => Err(Refusal::unsupported(format!(
            "`{name}` cannot be executed here{}",
            reason(name).map_or(" yet".to_owned(), |reason| format!(": {reason}"))
        ))),
    }
}

/// Why an op of MIL has no meaning of its own.
fn reason(name: &str) -> Option<&'static str> {
    Some(match name {
        "classify" => "it is the last operation of a classifier, whose results are not tensors",
        "cond" | "while_loop" => "it is what its nested blocks make of it",
        "make_list" | "list_read" | "list_write" | "list_gather" | "list_scatter"
        | "list_length" => "lists are not tensors",
        _ => return None,
    })
}

/// Sizes taken from axes of other tensors.
fn reshape_like(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let from = a.shape("x", x)?;
    let references = a.values("ref_tensors")?;
    let (begins, ends, masks) = (a.values("begins")?, a.values("ends")?, a.values("end_masks")?);
    if [begins.len(), ends.len(), masks.len()] != [references.len(); 3] {
        return Err(Refusal::invalid(
            "`ref_tensors`, `begins`, `ends` and `end_masks` must be of one length",
        ));
    }
    let int = |a: &Arguments<'_>, id: ValueId| a.constant_of(id).and_then(Value::as_int);
    let mut shape = Vec::new();
    for (i, &reference) in references.iter().enumerate() {
        let all = a.shape("ref_tensors", reference)?;
        let position = |v: i64| {
            let from_start = if v < 0 { v.saturating_add(all.len() as i64) } else { v };
            usize::try_from(from_start).ok().filter(|&p| p <= all.len())
        };
        let whole = a.constant_of(masks[i]).and_then(Value::as_bool);
        let begin = int(a, begins[i]).and_then(position);
        let end = match whole {
            Some(true) => Some(all.len()),
            _ => int(a, ends[i]).and_then(position),
        };
        match (begin, end, whole) {
            (Some(begin), Some(end), Some(_)) if begin <= end => shape.extend(&all[begin..end]),
            _ => {
                return Err(Refusal::invalid(format!(
                    "the axes taken of {all:?} must be constant and lie within it"
                )));
            }
        }
    }
    let count = |s: &[usize]| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if count(&shape) != count(&from) {
        return Err(Refusal::invalid(format!("x {from:?} cannot be given the shape {shape:?}")));
    }
    Ok(Op::Reshape { x, shape })
}
