use super::{Context, Shared, piece};
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
    fn place(&self, context: &mut Context<'_>) -> Result<(), String> {
        // SAFETY: the planner made the view dense and int32; nothing writes it now.
        let begin: &[i32] = unsafe { context.slice(&self.begin) };
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
        let base: *mut u8 = context.at(self.of.buffer, 0);
        context.pointers.set(self.window, base.wrapping_offset(bytes));
        Ok(())
    }
}

impl Map {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), String> {
        if let Some(moved) = &self.moved {
            moved.place(context)?;
        }
        let tiles = self.program.tile_count();
        let work = self.program.element_count() * (1 + self.program.instructions.len() / 4);
        let piece = piece(tiles, work, context.pool.threads());
        let scratch = Shared(context.lent.threads.cast::<u32>());
        let (per_thread, isa, pointers) =
            (context.lent.per_thread, context.isa, &*context.pointers);
        context.pool.run(tiles.div_ceil(piece), &|i, thread| {
            let first = i * piece;
            let count = piece.min(tiles - first);
            // SAFETY: the planner keeps accesses inside buffers; tiles are disjoint, and each
            // thread has its own scratch.
            unsafe {
                let scratch = scratch.get().add(thread * per_thread);
                run_tiles(isa, &self.program, pointers, first, count, scratch);
            }
        });
        Ok(())
    }
}
