//! Ops whose constant bounds, masks and paddings take some working out.

use super::Refusal;
use super::arguments::{Arguments, missing};
use super::meaning::{required_axis, unknown_choice};
use crate::{Dim, Op, Value, ValueId};

pub(super) fn conv(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let weight = a.value("weight")?;
    let bias = a.optional_value("bias")?;
    let spatial = a.tensor("x", x)?.rank().saturating_sub(2);
    let strides = a.sizes("strides")?.unwrap_or_else(|| vec![1; spatial]);
    let dilations = a.sizes("dilations")?.unwrap_or_else(|| vec![1; spatial]);
    let groups = a.size("groups")?.unwrap_or(1);
    let kernel = a.shape("weight", weight).map(|w| w.get(2..).unwrap_or_default().to_vec());
    let pads = paddings(a, x, kernel, &strides, &dilations)?;
    Ok(Op::Conv { x, weight, bias, strides, pads, dilations, groups })
}

/// `pad_type` and `pad` as (before, after) per spatial axis. Only `same` asks for sizes.
pub(super) fn paddings(
    a: &mut Arguments<'_>,
    x: ValueId,
    kernel: Result<Vec<usize>, Refusal>,
    strides: &[usize],
    dilations: &[usize],
) -> Result<Vec<(usize, usize)>, Refusal> {
    let spatial = a.tensor("x", x)?.rank().saturating_sub(2);
    let pad_type = a.string("pad_type")?.unwrap_or("valid");
    let pad = a.sizes("pad")?;
    match pad_type {
        "valid" => Ok(vec![(0, 0); spatial]),
        "custom" => {
            let flat = pad.unwrap_or_else(|| vec![0; 2 * spatial]);
            if flat.len() != 2 * spatial {
                return Err(Refusal::invalid(format!(
                    "argument `pad` has {} entries, it must have two for each of {spatial} spatial \
                     axes",
                    flat.len()
                )));
            }
            Ok(flat.chunks_exact(2).map(|p| (p[0], p[1])).collect())
        }
        "same" | "same_lower" => {
            let x = a.shape("x", x)?;
            let kernel = kernel?;
            let fits = [kernel.len(), strides.len(), dilations.len()] == [spatial; 3]
                && !strides.contains(&0);
            if !fits {
                return Err(Refusal::invalid(format!(
                    "x {x:?}, a kernel of {kernel:?}, strides {strides:?} and dilations \
                     {dilations:?} do not fit"
                )));
            }
            let pad = |i: usize| {
                let (small, large) = same_pad(x[i + 2], kernel[i], strides[i], dilations[i])?;
                Some(if pad_type == "same" { (small, large) } else { (large, small) })
            };
            let pads: Option<Vec<_>> = (0..spatial).map(pad).collect();
            pads.ok_or_else(|| Refusal::invalid("the sizes of the windows are too large"))
        }
        _ => Err(unknown_choice("pad_type", pad_type)),
    }
}

/// The two halves, smaller first, of the padding that gives `⌈length / stride⌉` outputs.
fn same_pad(
    length: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
) -> Option<(usize, usize)> {
    let extent = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    let outputs = length.div_ceil(stride);
    let span = outputs.saturating_sub(1).checked_mul(stride)?.checked_add(extent)?;
    let total = span.saturating_sub(length);
    Some((total / 2, total - total / 2))
}

pub(super) fn reshape(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let wanted = a.ints("shape")?.ok_or_else(|| missing("shape"))?;
    let from = a.shape("x", x)?;
    let wrong = || Refusal::invalid(format!("x {from:?} cannot be given the shape {wanted:?}"));
    let mut shape = Vec::with_capacity(wanted.len());
    let mut free = None;
    for (axis, &n) in wanted.iter().enumerate() {
        shape.push(match n {
            0 => *from.get(axis).ok_or_else(wrong)?,
            -1 if free.is_none() => {
                free = Some(axis);
                1
            }
            n => usize::try_from(n).map_err(|_| wrong())?,
        });
    }
    if let Some(axis) = free {
        let product = |s: &[usize]| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let (Some(all), Some(rest)) = (product(&from), product(&shape)) else {
            return Err(wrong());
        };
        if rest == 0 || all % rest != 0 {
            return Err(wrong());
        }
        shape[axis] = all / rest;
    }
    Ok(Op::Reshape { x, shape })
}

pub(super) fn expand_dims(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let mut shape = a.shape("x", x)?;
    let count = a.ints("axes")?.ok_or_else(|| missing("axes"))?.len();
    let axes = a.axes("axes", shape.len() + count)?.unwrap_or_default();
    // Sorted, so that each stands at its place in the result.
    for axis in axes {
        shape.insert(axis, 1);
    }
    Ok(Op::Reshape { x, shape })
}

pub(super) fn squeeze(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let from = a.shape("x", x)?;
    let axes = match a.axes("axes", from.len())? {
        Some(axes) => axes,
        None => (0..from.len()).filter(|&axis| from[axis] == 1).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&axis| from[axis] != 1) {
        return Err(Refusal::invalid(format!(
            "axis {axis} of x {from:?} has not the size 1 and cannot be dropped"
        )));
    }
    let kept = from.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    Ok(Op::Reshape { x, shape: kept.map(|(_, &n)| n).collect() })
}

pub(super) fn split(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let rank = a.tensor("x", x)?.rank();
    let axis = required_axis(a, rank)?;
    let count = a.size("num_splits")?;
    let sizes = a.sizes("split_sizes")?;
    let sizes = match (count, sizes) {
        (_, Some(sizes)) => sizes,
        (Some(count), None) => {
            let size = a.shape("x", x)?[axis];
            // The declared outputs bound what is allocated for a count from the file.
            if count == 0 || size % count != 0 || count != a.output_count() {
                return Err(Refusal::invalid(format!(
                    "the {size} elements of axis {axis} do not split into {count} equal parts for \
                     {} outputs",
                    a.output_count()
                )));
            }
            vec![size / count; count]
        }
        (None, None) => {
            return Err(Refusal::invalid("missing argument `num_splits` or `split_sizes`"));
        }
    };
    if count.is_some_and(|count| count != sizes.len()) {
        return Err(Refusal::invalid(format!(
            "`num_splits` is not the length of `split_sizes`, {}",
            sizes.len()
        )));
    }
    Ok(Op::Split { x, axis, sizes })
}

pub(super) fn slice_by_index(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let rank = a.tensor("x", x)?.rank();
    let first = a.ints("begin")?.ok_or_else(|| missing("begin"))?;
    let end = a.ints("end")?.ok_or_else(|| missing("end"))?;
    let step = a.ints("stride")?.unwrap_or_else(|| vec![1; rank]);
    let begin_mask = mask(a, "begin_mask", rank)?;
    let end_mask = mask(a, "end_mask", rank)?;
    let squeeze = mask(a, "squeeze_mask", rank)?;
    let lengths = [("begin", first.len()), ("end", end.len()), ("stride", step.len())];
    for (name, length) in lengths {
        require_length(name, length, rank)?;
    }
    let shape = a.shape("x", x)?;
    let (mut begin, mut size, mut stride) = (vec![0; rank], vec![1; rank], vec![1isize; rank]);
    for axis in 0..rank {
        let first = (!begin_mask[axis]).then_some(first[axis]);
        let end = (!end_mask[axis]).then_some(end[axis]);
        let taken = if squeeze[axis] {
            element(first.unwrap_or(0), shape[axis]).map(|i| (i, 1))
        } else {
            strided(first, end, step[axis], shape[axis])
        };
        let (from, count) = taken.ok_or_else(|| {
            Refusal::invalid(format!("nothing is taken of axis {axis} of x {shape:?}"))
        })?;
        begin[axis] = from;
        size[axis] = count;
        // One element has no step; writing 1 gives equal slices one form.
        if count > 1 {
            stride[axis] = step[axis] as isize;
        }
    }
    Ok(Op::Slice { x, begin, size, stride, squeeze })
}

fn mask(a: &mut Arguments<'_>, name: &'static str, rank: usize) -> Result<Vec<bool>, Refusal> {
    let mask = a.bools(name)?.unwrap_or_else(|| vec![false; rank]);
    require_length(name, mask.len(), rank)?;
    Ok(mask)
}

fn require_length(name: &str, length: usize, rank: usize) -> Result<(), Refusal> {
    if length == rank {
        return Ok(());
    }
    Err(Refusal::invalid(format!("argument `{name}` has {length} entries for {rank} axes")))
}

/// A position that may count from the end.
fn element(index: i64, length: usize) -> Option<usize> {
    let length_signed = i64::try_from(length).ok()?;
    let from_start = if index < 0 { index.checked_add(length_signed)? } else { index };
    usize::try_from(from_start).ok().filter(|&i| i < length)
}

/// First position and count of a Python slice; `None` when it is empty.
fn strided(
    first: Option<i64>,
    end: Option<i64>,
    step: i64,
    length: usize,
) -> Option<(usize, usize)> {
    let n = i64::try_from(length).ok()?;
    let from_start = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (first, end) = match step {
        0 => return None,
        1.. => (
            first.map_or(0, |i| from_start(i).clamp(0, n)),
            end.map_or(n, |i| from_start(i).clamp(0, n)),
        ),
        _ => (
            first.map_or(n - 1, |i| from_start(i).clamp(-1, n - 1)),
            end.map_or(-1, |i| from_start(i).clamp(-1, n - 1)),
        ),
    };
    let span = if step > 0 { end - first } else { first - end };
    if span <= 0 {
        return None;
    }
    let count = span.unsigned_abs().div_ceil(step.unsigned_abs());
    Some((usize::try_from(first).ok()?, usize::try_from(count).ok()?))
}

pub(super) fn slice_by_size(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let begin_value = a.optional_value_or_literal("begin")?;
    let size = a.ints("size")?.ok_or_else(|| missing("size"))?;
    let rank = a.tensor("x", x)?.rank();
    require_length("size", size.len(), rank)?;
    let constant = begin_value.is_none_or(|id| a.constant_of(id).is_some());
    if !constant {
        let begin = a.value("begin")?;
        let sizes: Result<Vec<usize>, _> = size.iter().map(|&n| usize::try_from(n)).collect();
        let size = sizes.map_err(|_| {
            Refusal::unsupported(format!(
                "argument `size` {size:?} must name every size when `begin` is computed"
            ))
        })?;
        return Ok(Op::DynamicSlice { x, begin, size });
    }
    let begin = a.sizes("begin")?.ok_or_else(|| missing("begin"))?;
    require_length("begin", begin.len(), rank)?;
    let shape = a.shape("x", x)?;
    let size: Option<Vec<usize>> = (0..rank)
        .map(|axis| match size[axis] {
            -1 => shape[axis].checked_sub(begin[axis]),
            n => usize::try_from(n).ok(),
        })
        .collect();
    let size = size.ok_or_else(|| {
        Refusal::invalid(format!("a part at {begin:?} does not lie within x {shape:?}"))
    })?;
    Ok(Op::Slice { x, begin, size, stride: vec![1; rank], squeeze: vec![false; rank] })
}

pub(super) fn slice_update(a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let x = a.value("x")?;
    let update = a.value("update")?;
    let begin = a.value("begin")?;
    let end = a.value("end")?;
    let rank = a.tensor("x", x)?.rank();
    let begin_mask = mask(a, "begin_mask", rank)?;
    let end_mask = mask(a, "end_mask", rank)?;
    if a.ints("stride")?.is_some_and(|s| s.iter().any(|&s| s != 1)) {
        return Err(Refusal::unsupported("argument `stride` must be 1 to be executed here"));
    }
    if mask(a, "squeeze_mask", rank)?.contains(&true) {
        return Err(Refusal::unsupported("argument `squeeze_mask` cannot be executed here yet"));
    }
    let constant = |id| a.constant_of(id).and_then(Value::as_ints).filter(|v| v.len() == rank);
    let (from, to) = (constant(begin), constant(end));
    let parts = a.tensor("update", update)?.dims.iter().zip(&a.tensor("x", x)?.dims);
    for (axis, (&part, &whole)) in parts.enumerate() {
        let (Dim::Known(part), Dim::Known(whole)) = (part, whole) else { continue };
        let from = if begin_mask[axis] { Some(0) } else { from.as_ref().map(|v| v[axis]) };
        let to = if end_mask[axis] { Some(whole as i64) } else { to.as_ref().map(|v| v[axis]) };
        if from.is_some_and(|i| i < 0) || to.is_some_and(|i| i < 0) {
            return Err(Refusal::unsupported(
                "positions that count from the end cannot be executed here yet",
            ));
        }
        let (Some(from), Some(to)) = (from, to) else { continue };
        if to.checked_sub(from) != Some(part as i64) || to > whole as i64 {
            return Err(Refusal::invalid(format!(
                "positions {from} to {to} of the {whole} of axis {axis} do not take an update of \
                 {part}"
            )));
        }
    }
    Ok(Op::SliceUpdate { x, update, begin, end, begin_mask, end_mask })
}
