//! Gathers and scatters. Indices are int32; those below zero count from the end.

use orion_mil::op::ScatterMode;

/// An index outside its axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfRange {
    pub index: i32,
    /// Which element of the index tensor.
    pub position: usize,
}

/// Index values as offsets from the start of an axis of `size` elements.
pub(crate) fn check(indices: &[i32], size: usize) -> Result<(), OutOfRange> {
    let size = size as i64;
    match indices.iter().position(|&i| i64::from(i) >= size || i64::from(i) < -size) {
        None => Ok(()),
        Some(position) => Err(OutOfRange { index: indices[position], position }),
    }
}

/// An index that [`check`] has seen, from the start of the axis.
#[inline(always)]
pub(crate) fn from_start(index: i32, size: usize) -> usize {
    if index < 0 { (i64::from(index) + size as i64) as usize } else { index as usize }
}

/// Something scatters combine.
pub(crate) trait Number: Copy {
    fn combine(mode: ScatterMode, old: Self, new: Self) -> Self;
}

impl Number for f32 {
    #[inline(always)]
    fn combine(mode: ScatterMode, old: Self, new: Self) -> Self {
        match mode {
            ScatterMode::Update => new,
            ScatterMode::Add => old + new,
            ScatterMode::Sub => old - new,
            ScatterMode::Mul => old * new,
            ScatterMode::Div => old / new,
            ScatterMode::Max => {
                if old > new || old.is_nan() {
                    old
                } else {
                    new
                }
            }
            ScatterMode::Min => {
                if old < new || old.is_nan() {
                    old
                } else {
                    new
                }
            }
        }
    }
}

impl Number for i32 {
    /// No division: that can fail, and is left to the reference evaluator.
    #[inline(always)]
    fn combine(mode: ScatterMode, old: Self, new: Self) -> Self {
        match mode {
            ScatterMode::Update => new,
            ScatterMode::Add => old.wrapping_add(new),
            ScatterMode::Sub => old.wrapping_sub(new),
            ScatterMode::Mul => old.wrapping_mul(new),
            ScatterMode::Div => unreachable!("the planner sends it to the reference evaluator"),
            ScatterMode::Max => old.max(new),
            ScatterMode::Min => old.min(new),
        }
    }
}

/// `to[i] ∘= from[i]`
#[inline(always)]
pub(crate) fn combine<T: Number>(mode: ScatterMode, to: &mut [T], from: &[T]) {
    match mode {
        // The common ones, each a loop without a choice in it.
        ScatterMode::Update => to.copy_from_slice(from),
        ScatterMode::Add => {
            to.iter_mut().zip(from).for_each(|(o, &n)| *o = T::combine(ScatterMode::Add, *o, n));
        }
        mode => to.iter_mut().zip(from).for_each(|(o, &n)| *o = T::combine(mode, *o, n)),
    }
}
