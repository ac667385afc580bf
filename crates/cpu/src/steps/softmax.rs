use super::{Context, Shared, piece};
use crate::kernels::softmax::{COLUMNS, softmax_columns, softmax_rows};
use crate::plan::view::View;

/// Softmax of a dense f32 tensor seen as `[outer, axis, inner]`.
#[derive(Debug)]
pub(crate) struct Softmax {
    pub x: View,
    /// Dense; may be `x`'s memory.
    pub to: View,
    pub outer: usize,
    pub axis: usize,
    pub inner: usize,
}

impl Softmax {
    pub(super) fn run(&self, context: &Context<'_>) {
        let &Self { outer, axis, inner, .. } = self;
        let x = Shared::<f32>(context.at(self.x.buffer, self.x.offset));
        let to = Shared::<f32>(context.at(self.to.buffer, self.to.offset));
        let (isa, threads) = (context.isa, context.pool.threads());
        let work = outer * axis * inner * 4;
        if inner == 1 {
            let piece = piece(outer, work, threads);
            context.pool.run(outer.div_ceil(piece), &|i, _| {
                let (first, count) = (i * piece, piece.min(outer - i * piece));
                // SAFETY: views are inside their buffers; rows are this task's own.
                unsafe {
                    let (x, to) = (x.get().add(first * axis), to.get().add(first * axis));
                    softmax_rows(isa, x, to, count, axis);
                }
            });
            return;
        }
        let width = inner.div_ceil(threads).next_multiple_of(64).min(COLUMNS);
        let chunks = inner.div_ceil(width);
        let tasks = outer * chunks;
        let piece = piece(tasks, work, threads);
        context.pool.run(tasks.div_ceil(piece), &|i, _| {
            for task in i * piece..((i + 1) * piece).min(tasks) {
                let (o, start) = (task / chunks, task % chunks * width);
                let at = o * axis * inner + start;
                // SAFETY: views are inside their buffers; columns are this task's own.
                unsafe {
                    let (x, to) = (x.get().add(at), to.get().add(at));
                    softmax_columns(isa, x, to, axis, inner, width.min(inner - start));
                }
            }
        });
    }
}
