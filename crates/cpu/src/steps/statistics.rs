use super::{Context, Shared};
use crate::kernels::softmax::{COLUMNS, column_statistics, combine_statistics, row_statistics};
use crate::plan::view::View;

/// Elements of one part: long enough to stream, several to every thread for large tensors.
/// Fixed, so that results do not depend on how many threads there are.
const PART: usize = 1 << 16;

/// Largest value, `1 / Σ exp(x - largest)` and `ln Σ exp x` along an axis, in one pass over a
/// dense f32 tensor seen as `[outer, axis, inner]`.
#[derive(Debug)]
pub(crate) struct Statistics {
    pub x: View,
    pub outer: usize,
    pub axis: usize,
    pub inner: usize,
    /// Dense f32, `outer · inner` each: largest, inverse sum, logarithm.
    pub to: [View; 3],
    /// Dense f32 of [`Statistics::partial_count`] elements.
    pub partial: View,
}

impl Statistics {
    /// Rows of one part.
    fn rows(axis: usize, inner: usize) -> usize {
        (PART / inner.max(1)).clamp(16, axis.max(16))
    }

    /// Floats that partial results take.
    pub(crate) fn partial_count(outer: usize, axis: usize, inner: usize) -> usize {
        outer * axis.div_ceil(Self::rows(axis, inner)) * 2 * inner
    }

    pub(super) fn run(&self, context: &Context<'_>) {
        let &Self { outer, axis, inner, .. } = self;
        let x = Shared::<f32>(context.at(self.x.buffer, self.x.offset));
        let partial = Shared::<f32>(context.at(self.partial.buffer, self.partial.offset));
        let rows = Self::rows(axis, inner);
        let parts = axis.div_ceil(rows);
        let isa = context.isa;
        let tasks = outer * parts;
        let piece = super::piece(tasks, outer * axis * inner * 4, context.pool.threads() * 4);
        context.pool.run(tasks.div_ceil(piece), &|p, _| {
            for task in p * piece..((p + 1) * piece).min(tasks) {
                let (o, first) = (task / parts, task % parts * rows);
                let count = rows.min(axis - first);
                // SAFETY: the view is dense and inside its buffer; partial results are this
                // task's own.
                unsafe {
                    let x = x.get().add((o * axis + first) * inner);
                    let to = partial.get().add(task * 2 * inner);
                    if inner == 1 {
                        let (max, sum) = row_statistics(isa, x, count);
                        to.write(max);
                        to.add(1).write(sum);
                        continue;
                    }
                    for column in (0..inner).step_by(COLUMNS) {
                        let width = COLUMNS.min(inner - column);
                        let (max, sum) = (to.add(column), to.add(inner + column));
                        column_statistics(isa, x.add(column), count, inner, width, max, sum);
                    }
                }
            }
        });
        let to = self.to.each_ref().map(|view| context.at::<f32>(view.buffer, view.offset));
        for o in 0..outer {
            for j in 0..inner {
                let part = |i: usize| {
                    // SAFETY: every part is written, and nobody writes now.
                    unsafe {
                        let at = partial.get().add((o * parts + i) * 2 * inner + j);
                        (*at, *at.add(inner))
                    }
                };
                let (max, sum) = combine_statistics((0..parts).map(part));
                // An infinite maximum is the result; the sum is then not a number.
                let log = if max.is_infinite() { max } else { max + f64::from(sum).ln() as f32 };
                for (to, value) in to.iter().zip([max, 1.0 / sum, log]) {
                    // SAFETY: inside the views, which are the step's own.
                    unsafe { to.add(o * inner + j).write(value) };
                }
            }
        }
    }
}
