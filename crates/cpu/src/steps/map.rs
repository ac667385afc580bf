use super::{Context, piece};
use crate::kernels::Pointers;
use crate::kernels::tile::{TileProgram, run_tiles};
use crate::plan::view::{BufferId, View};

/// An elementwise program that stores its results.
#[derive(Debug)]
pub(crate) struct Map {
    pub program: TileProgram,
    /// A part of it that lies where the program computed.
    pub moved: Option<Moved>,
}

/// A window into a tensor at a computed position.
#[derive(Debug)]
pub(crate) struct Moved {
    /// int32, dense: where the window begins.
    pub begin: View,
    /// The tensor; its element 0 is that of `of`.
    pub of: View,
    /// Size of the window.
    pub size: Vec<usize>,
    /// Axes whose begin counts as 0.
    pub ignored: Vec<bool>,
    /// The buffer that stands for the tensor's, moved to the window.
    pub window: BufferId,
}

impl Moved {
    /// Points the window at its place.
    fn place(&self, pointers: &mut Pointers) -> Result<(), String> {
        let begin = pointers.get(self.begin.buffer).cast::<i32>();
        // SAFETY: the planner made the view dense and int32; nothing writes it now.
        let begin = unsafe {
            let begin = begin.offset(self.begin.offset);
            std::slice::from_raw_parts(begin, self.begin.element_count())
        };
        let mut offset = 0;
        for (axis, &begin) in begin.iter().enumerate() {
            let begin = if self.ignored[axis] { 0 } else { begin };
            let last = self.of.shape[axis] - self.size[axis];
            let start = usize::try_from(begin).ok().filter(|&b| b <= last).ok_or_else(|| {
                format!(
                    "begin {begin} of axis {axis} is outside: {} of {} elements are wanted",
                    self.size[axis], self.of.shape[axis]
                )
            })?;
            offset += start as isize * self.of.strides[axis];
        }
        let bytes = offset * self.of.dtype.size_bytes() as isize;
        pointers.set(self.window, pointers.get(self.of.buffer).wrapping_offset(bytes));
        Ok(())
    }
}

impl Map {
    /// Finds the place of a window that is computed.
    pub(super) fn place(&self, pointers: &mut Pointers) -> Result<(), String> {
        self.moved.as_ref().map_or(Ok(()), |moved| moved.place(pointers))
    }

    /// Tiles of one task.
    fn piece(&self, threads: usize) -> usize {
        let work = self.program.element_count() * (1 + self.program.instructions.len() / 4);
        piece(self.program.tile_count(), work, threads)
    }

    /// How many tasks the step is.
    pub(super) fn tasks(&self, threads: usize) -> usize {
        self.program.tile_count().div_ceil(self.piece(threads))
    }

    pub(super) fn task(&self, context: &Context<'_>, i: usize, thread: usize) {
        let piece = self.piece(context.pool.threads());
        let first = i * piece;
        let count = piece.min(self.program.tile_count() - first);
        // SAFETY: the planner keeps accesses inside buffers; tiles are disjoint, and each thread
        // has its own scratch.
        unsafe {
            let scratch = context.lent.threads.add(thread * context.lent.per_thread).cast();
            run_tiles(context.isa, &self.program, context.pointers, first, count, scratch);
        }
    }
}
