use super::{Context, Shared, piece};
use crate::kernels::map_reduce::{Band, Pass, WIDTH, run_pass};

/// Elementwise operations and the reductions between them, over `[outer, rows, inner]`.
#[derive(Debug)]
pub(crate) struct MapReduce {
    pub outer: usize,
    pub rows: usize,
    /// Columns.
    pub inner: usize,
    pub passes: Vec<Pass>,
}

impl MapReduce {
    /// Bands of every outer index. How many there are depends on the space only, and with it the
    /// order of sums along rows.
    pub(crate) fn bands(inner: usize) -> usize {
        inner.div_ceil(WIDTH)
    }

    /// Lanes of scratch a thread needs.
    pub(super) fn scratch_lanes(&self) -> usize {
        let programs = self.passes.iter().flat_map(|p| p.of_columns.iter().chain(&p.of_rows));
        programs.map(|program| program.scratch_lanes()).max().unwrap_or(0)
    }

    pub(super) fn run(&self, context: &Context<'_>) {
        let &Self { outer, rows, inner, .. } = self;
        let bands = Self::bands(inner);
        let scratch = Shared(context.lent.threads.cast::<u32>());
        let (per_thread, isa, pointers) = (context.lent.per_thread, context.isa, context.pointers);
        let tasks = outer * bands;
        let work = outer * rows * inner * self.passes.len();
        let piece = piece(tasks, work, context.pool.threads());
        let all_rows = outer * rows;
        context.pool.run(tasks.div_ceil(piece), &|p, thread| {
            for task in p * piece..((p + 1) * piece).min(tasks) {
                let (outer, number) = (task / bands, task % bands);
                let start = number * WIDTH;
                let len = WIDTH.min(inner - start);
                let band = Band { outer, rows, all_rows, inner, start, len, number };
                for pass in &self.passes {
                    // SAFETY: the planner keeps accesses inside buffers; bands are disjoint, and
                    // each thread has its own scratch.
                    unsafe {
                        let scratch = scratch.get().add(thread * per_thread);
                        run_pass(isa, pass, pointers, band, scratch);
                    }
                }
            }
        });
        for sum in self.passes.iter().flat_map(|pass| &pass.row_sums) {
            let partial: *const f32 = context.at(sum.partial.buffer, sum.partial.offset);
            let to: *mut f32 = context.at(sum.to.buffer, sum.to.offset);
            // SAFETY: all tasks are done; both are the step's own memory.
            let to = unsafe { std::slice::from_raw_parts_mut(to, all_rows) };
            to.fill(0.0);
            for band in 0..bands {
                // SAFETY: as above.
                let of_band =
                    unsafe { std::slice::from_raw_parts(partial.add(band * all_rows), all_rows) };
                to.iter_mut().zip(of_band).for_each(|(to, sum)| *to += sum);
            }
            sum.finish.apply(to);
        }
    }
}
