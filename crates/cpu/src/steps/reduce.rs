use super::{Context, Shared, piece};
use crate::kernels::reduce::{
    COLUMNS, Finish, Reduced, combine_parts, reduce_columns, reduce_rows,
};
use crate::plan::view::View;

/// Which axes of the program are reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The innermost and `per_output` rows for each of `outputs`; long ones in `parts`.
    Rows { outputs: usize, per_output: usize, parts: usize },
    /// `rows` rows for each of `outer`, every column apart.
    Columns { outer: usize, rows: usize },
}

/// A reduction of an elementwise program to a dense f32 tensor.
#[derive(Debug)]
pub(crate) struct Reduce {
    pub reduced: Reduced,
    pub over: Over,
    pub finish: Finish,
    pub to: View,
    /// `outputs · parts` floats, where there are parts.
    pub partial: Option<View>,
}

impl Reduce {
    pub(super) fn run(&self, context: &Context<'_>) {
        let program = &self.reduced.program;
        let to = Shared::<f32>(context.at(self.to.buffer, self.to.offset));
        let scratch = Shared(context.lent.threads.cast::<u32>());
        let (per_thread, isa, pointers) = (context.lent.per_thread, context.isa, context.pointers);
        let threads = context.pool.threads();
        let scratch_of = |thread: usize| scratch.get().wrapping_add(thread * per_thread);
        match self.over {
            Over::Rows { outputs, per_output, parts: 1 } => {
                let piece = piece(outputs, program.element_count(), threads);
                context.pool.run(outputs.div_ceil(piece), &|i, thread| {
                    let outputs = i * piece..outputs.min((i + 1) * piece);
                    let columns = 0..program.inner;
                    // SAFETY: outputs and scratch are this task's own.
                    let values = unsafe {
                        let to = to.get().add(outputs.start);
                        let rows = 0..per_output;
                        reduce_rows(
                            isa,
                            &self.reduced,
                            pointers,
                            outputs.clone(),
                            per_output,
                            rows,
                            columns,
                            to,
                            scratch_of(thread),
                        );
                        std::slice::from_raw_parts_mut(to, outputs.len())
                    };
                    self.finish.apply(values);
                });
            }
            Over::Rows { outputs, per_output, parts } => {
                let view = self.partial.as_ref().expect("parts have room");
                let partial = Shared::<f32>(context.at(view.buffer, view.offset));
                // Many rows are dealt out by rows, one long row by columns.
                let by_rows = per_output >= parts;
                let size = if by_rows { per_output } else { program.inner }.div_ceil(parts);
                // Memory is read fastest when every thread goes a long way.
                let tasks = outputs * parts;
                let piece = tasks.div_ceil(threads * 4);
                context.pool.run(tasks.div_ceil(piece), &|p, thread| {
                    for i in p * piece..((p + 1) * piece).min(tasks) {
                        let (k, part) = (i / parts, i % parts);
                        let range = |n: usize| (part * size).min(n)..((part + 1) * size).min(n);
                        let (rows, columns) = if by_rows {
                            (range(per_output), 0..program.inner)
                        } else {
                            (0..per_output, range(program.inner))
                        };
                        // SAFETY: the partial result and the scratch are this task's own.
                        unsafe {
                            let to = partial.get().add(i);
                            reduce_rows(
                                isa,
                                &self.reduced,
                                pointers,
                                k..k + 1,
                                per_output,
                                rows,
                                columns,
                                to,
                                scratch_of(thread),
                            );
                        }
                    }
                });
                for k in 0..outputs {
                    // SAFETY: all tasks are done; both are the step's own memory.
                    unsafe {
                        let parts = std::slice::from_raw_parts(partial.get().add(k * parts), parts);
                        let mut value = [combine_parts(self.reduced.combine, parts)];
                        self.finish.apply(&mut value);
                        *to.get().add(k) = value[0];
                    }
                }
            }
            Over::Columns { outer, rows } => {
                let inner = program.inner;
                let wanted = inner * outer / (threads * 2);
                let width = wanted.next_multiple_of(64).clamp(64, COLUMNS.min(program.tile));
                let chunks = inner.div_ceil(width);
                let small = program.element_count() < super::WORTH_A_THREAD;
                let tasks = outer * chunks;
                let piece = if small { tasks } else { 1 };
                context.pool.run(tasks.div_ceil(piece.max(1)), &|i, thread| {
                    for task in i * piece..((i + 1) * piece).min(tasks) {
                        let (o, start) = (task / chunks, task % chunks * width);
                        let columns = start..inner.min(start + width);
                        let rows = o * rows..(o + 1) * rows;
                        // SAFETY: the columns and the scratch are this task's own.
                        let values = unsafe {
                            let to = to.get().add(o * inner + start);
                            let count = columns.len();
                            let scratch = scratch_of(thread);
                            reduce_columns(
                                isa,
                                &self.reduced,
                                pointers,
                                rows,
                                columns,
                                to,
                                scratch,
                            );
                            std::slice::from_raw_parts_mut(to, count)
                        };
                        self.finish.apply(values);
                    }
                });
            }
        }
    }
}
