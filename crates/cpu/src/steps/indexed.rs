use super::{Context, Shared, piece};
use crate::kernels::indexed::{self, Number, OutOfRange, check, from_start};
use crate::plan::view::View;
use orion_mil::op::ScatterMode;
use orion_tensor::DType;

/// Rows of `x` chosen by indices. All dense; x is `[batch, outer, axis, inner]`, indices
/// `[batch, count]`, the result `[batch, outer, count, inner]`.
#[derive(Debug)]
pub(crate) struct Gather {
    pub x: View,
    pub indices: View,
    pub to: View,
    pub batch: usize,
    pub outer: usize,
    pub axis: usize,
    pub inner: usize,
    pub count: usize,
}

/// An error message for an index.
fn outside(error: OutOfRange, indices: &View, size: usize) -> String {
    let mut rest = error.position;
    let mut position: Vec<usize> = Vec::new();
    for &n in indices.shape.iter().rev() {
        position.insert(0, rest % n);
        rest /= n;
    }
    format!("index {} at {position:?} is outside an axis of {size} elements", error.index)
}

impl Gather {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<(), String> {
        // SAFETY: the planner made the view dense and int32; nothing writes it now.
        let indices: &[i32] = unsafe { context.slice(&self.indices) };
        check(indices, self.axis).map_err(|e| outside(e, &self.indices, self.axis))?;
        let element = self.x.dtype.size_bytes();
        let bytes = self.inner * element;
        let x = Shared::<u8>(context.at(self.x.buffer, self.x.offset * element as isize));
        let to = Shared::<u8>(context.at(self.to.buffer, self.to.offset * element as isize));
        let rows = self.batch * self.outer * self.count;
        let piece = piece(rows, rows * self.inner, context.pool.threads());
        context.pool.run(rows.div_ceil(piece), &|i, _| {
            for row in i * piece..rows.min((i + 1) * piece) {
                let (outer, place) = (row / self.count, row % self.count);
                let index = indices[outer / self.outer * self.count + place];
                let from = outer * self.axis + from_start(index, self.axis);
                // SAFETY: the index is inside the axis; the row is this task's own.
                unsafe {
                    let (x, to) = (x.get().add(from * bytes), to.get().add(row * bytes));
                    std::ptr::copy_nonoverlapping(x, to, bytes);
                }
            }
        });
        Ok(())
    }
}

/// `out[o, i, j] = x[o, indices[o, i, j], j]`, all dense.
#[derive(Debug)]
pub(crate) struct GatherAlongAxis {
    pub x: View,
    pub indices: View,
    pub to: View,
    pub axis: usize,
    /// Size of the axis in indices and result.
    pub count: usize,
    pub inner: usize,
}

impl GatherAlongAxis {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<(), String> {
        // SAFETY: as for `Gather`.
        let indices: &[i32] = unsafe { context.slice(&self.indices) };
        check(indices, self.axis).map_err(|e| outside(e, &self.indices, self.axis))?;
        match self.x.dtype.size_bytes() {
            1 => self.copy::<u8>(context, indices),
            2 => self.copy::<u16>(context, indices),
            4 => self.copy::<u32>(context, indices),
            _ => self.copy::<u64>(context, indices),
        }
        Ok(())
    }

    fn copy<T: Copy>(&self, context: &Context<'_>, indices: &[i32]) {
        let x = Shared::<T>(context.at(self.x.buffer, self.x.offset));
        let to = Shared::<T>(context.at(self.to.buffer, self.to.offset));
        let piece = piece(indices.len(), indices.len(), context.pool.threads());
        context.pool.run(indices.len().div_ceil(piece), &|i, _| {
            let first = i * piece;
            let end = indices.len().min(first + piece);
            for (at, &index) in (first..end).zip(&indices[first..end]) {
                let (o, j) = (at / self.inner / self.count, at % self.inner);
                let row = o * self.axis + from_start(index, self.axis);
                // SAFETY: the index is inside the axis; the element is this task's own.
                unsafe { *to.get().add(at) = *x.get().add(row * self.inner + j) };
            }
        });
    }
}

/// Rows combined into `to`, which already holds the old values, in index order. All dense;
/// `to` is `[outer, axis, inner]`, updates `[outer, count, inner]`; F32 or I32.
#[derive(Debug)]
pub(crate) struct Scatter {
    pub indices: View,
    pub updates: View,
    pub to: View,
    pub outer: usize,
    pub axis: usize,
    pub inner: usize,
    pub count: usize,
    pub mode: ScatterMode,
}

impl Scatter {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<(), String> {
        // SAFETY: as for `Gather`.
        let indices: &[i32] = unsafe { context.slice(&self.indices) };
        check(indices, self.axis).map_err(|e| outside(e, &self.indices, self.axis))?;
        match self.to.dtype {
            DType::F32 => self.combine::<f32>(context, indices),
            _ => self.combine::<i32>(context, indices),
        }
        Ok(())
    }

    fn combine<T: Number>(&self, context: &Context<'_>, indices: &[i32]) {
        let updates = Shared::<T>(context.at(self.updates.buffer, self.updates.offset));
        let to = Shared::<T>(context.at(self.to.buffer, self.to.offset));
        // Threads divide columns, so that equal indices are combined in order.
        let work = self.outer * self.count * self.inner;
        let pieces = (work / super::WORTH_A_THREAD).clamp(1, context.pool.threads());
        let width = self.inner.div_ceil(pieces).next_multiple_of(16);
        let chunks = self.inner.div_ceil(width);
        context.pool.run(self.outer * chunks, &|i, _| {
            let (o, start) = (i / chunks, i % chunks * width);
            let width = width.min(self.inner - start);
            for (place, &index) in indices.iter().enumerate() {
                let row = o * self.axis + from_start(index, self.axis);
                // SAFETY: the index is inside the axis; the columns are this task's own, and the
                // updates are another buffer.
                unsafe {
                    let to = to.get().add(row * self.inner + start);
                    let from = updates.get().add((o * self.count + place) * self.inner + start);
                    let to = std::slice::from_raw_parts_mut(to, width);
                    indexed::combine(self.mode, to, std::slice::from_raw_parts(from, width));
                }
            }
        });
    }
}

/// `to[o, indices[o, i, j], j] ∘= updates[o, i, j]`; `to` already holds the old values. All
/// dense; F32 or I32.
#[derive(Debug)]
pub(crate) struct ScatterAlongAxis {
    pub indices: View,
    pub updates: View,
    pub to: View,
    pub axis: usize,
    pub count: usize,
    pub inner: usize,
    pub mode: ScatterMode,
}

impl ScatterAlongAxis {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<(), String> {
        // SAFETY: as for `Gather`.
        let indices: &[i32] = unsafe { context.slice(&self.indices) };
        check(indices, self.axis).map_err(|e| outside(e, &self.indices, self.axis))?;
        match self.to.dtype {
            DType::F32 => self.combine::<f32>(context, indices),
            _ => self.combine::<i32>(context, indices),
        }
        Ok(())
    }

    fn combine<T: Number>(&self, context: &Context<'_>, indices: &[i32]) {
        let updates: *const T = context.at(self.updates.buffer, self.updates.offset);
        let to: *mut T = context.at(self.to.buffer, self.to.offset);
        for (at, &index) in indices.iter().enumerate() {
            let (o, j) = (at / self.inner / self.count, at % self.inner);
            let row = o * self.axis + from_start(index, self.axis);
            // SAFETY: the index is inside the axis; updates are another buffer.
            unsafe {
                let to = &mut *to.add(row * self.inner + j);
                *to = T::combine(self.mode, *to, *updates.add(at));
            }
        }
    }
}
