//! Products of operands that a caller keeps in its caches, computed right there: blocks of
//! attention.

use super::blocks::Blocks;
use super::microkernel::{Ahead, MicroKernel, Tile};
use super::pack::{Source, panels, rows};
use super::{Arithmetic, Destination, Matrix, Size};
use crate::precision::Precision;
use orion_tensor::DType;

/// Columns of a panel of a right factor.
pub(in crate::kernels) const PANEL: usize = 32;

/// What operands are packed for and multiplied with.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Small {
    arithmetic: Arithmetic,
    kernel: &'static MicroKernel,
}

/// A left factor as the micro-kernel reads it: distances of rows and of lanes along K, in bytes.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Left {
    pub pointer: *const u8,
    pub row: isize,
    pub step: isize,
}

impl Left {
    /// From that row on.
    pub(in crate::kernels) fn at_row(self, row: usize) -> Self {
        Self { pointer: self.pointer.wrapping_offset(row as isize * self.row), ..self }
    }
}

/// A right factor: rows of lanes, so many bytes apart.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Right {
    pub pointer: *const u8,
    pub step: isize,
}

impl Right {
    /// From that column on.
    pub(in crate::kernels) fn at_column(self, column: usize) -> Self {
        Self { pointer: self.pointer.wrapping_add(column * 4), ..self }
    }
}

impl Small {
    pub(in crate::kernels) fn new(arithmetic: Arithmetic) -> Self {
        Self { arithmetic, kernel: MicroKernel::of(arithmetic) }
    }

    /// Elements of K in a lane.
    pub(in crate::kernels) fn pair(self) -> usize {
        self.kernel.pair
    }

    /// Lanes that [`Self::left`] may write, whatever the arithmetic.
    pub(in crate::kernels) fn left_lanes(rows: usize, depth: usize) -> usize {
        let side_by_side = rows * Blocks::row_lanes(depth);
        side_by_side.max(Self::width(rows) * depth) + 16
    }

    /// Lanes that [`Self::right`] may write, whatever the arithmetic.
    pub(in crate::kernels) fn right_lanes(depth: usize, columns: usize) -> usize {
        columns.next_multiple_of(PANEL) * depth + 16
    }

    /// Lanes from one lane along K to the next where rows are side by side.
    fn width(rows: usize) -> usize {
        rows.next_multiple_of(16) + 16
    }

    /// `rows` by `depth` of `m` as a left factor: where it lies, or packed.
    ///
    /// # Safety
    /// The part of the matrix is readable, and stays as it is while the result is used; `to` is
    /// as large as [`Self::left_lanes`] says.
    pub(in crate::kernels) unsafe fn left(
        self,
        m: Matrix,
        count: usize,
        depth: usize,
        to: *mut f32,
    ) -> Left {
        let pair = self.pair();
        let left = self.packed_left(m, count, depth, to);
        let source = Source::rows(m, count, depth);
        // SAFETY: the caller's promise.
        unsafe {
            if m.column != 1 {
                let width = Self::width(count);
                panels(self.arithmetic, pair, source, (width, 0), to.cast());
            } else if !self.is_direct(m) {
                let lanes = Blocks::row_lanes(depth.div_ceil(pair));
                rows(self.arithmetic, pair, source, lanes, to.cast());
            }
        }
        left
    }

    /// What [`Self::left`] gave for these operands.
    pub(in crate::kernels) fn packed_left(
        self,
        m: Matrix,
        count: usize,
        depth: usize,
        to: *mut f32,
    ) -> Left {
        if m.column != 1 {
            return Left { pointer: to.cast(), row: 4, step: Self::width(count) as isize * 4 };
        }
        if self.is_direct(m) {
            return Left { pointer: m.pointer, row: m.row * 4, step: 4 };
        }
        let lanes = Blocks::row_lanes(depth.div_ceil(self.pair()));
        Left { pointer: to.cast(), row: lanes as isize * 4, step: 4 }
    }

    /// Whether a matrix with contiguous rows is read as it lies.
    fn is_direct(self, m: Matrix) -> bool {
        self.arithmetic.precision == Precision::F32 && m.dtype == DType::F32
    }

    /// `depth` by `columns` of `m` as panels of right factors, one after another.
    ///
    /// # Safety
    /// The part of the matrix is readable; `to` is as large as [`Self::right_lanes`] says.
    pub(in crate::kernels) unsafe fn right(
        self,
        m: Matrix,
        depth: usize,
        columns: usize,
        to: *mut f32,
    ) {
        let apart = PANEL * depth.div_ceil(self.pair());
        let source = Source::columns(m, columns, depth);
        // SAFETY: the caller's promise.
        unsafe { panels(self.arithmetic, self.pair(), source, (PANEL, apart), to.cast()) };
    }

    /// A block of f32 with contiguous rows as a right factor: where it lies, or packed.
    ///
    /// # Safety
    /// As for [`Self::right`]; `columns` are no more than the block has.
    pub(in crate::kernels) unsafe fn block(
        self,
        block: *const f32,
        row: usize,
        depth: usize,
        columns: usize,
        to: *mut f32,
    ) -> Right {
        if self.arithmetic.precision == Precision::F32 {
            return Right { pointer: block.cast(), step: row as isize * 4 };
        }
        let m = Matrix::new(block.cast(), DType::F32, row as isize, 1);
        let source = Source::columns(m, columns, depth);
        // SAFETY: the caller's promise.
        unsafe { panels(self.arithmetic, self.pair(), source, (columns, 0), to.cast()) };
        Right { pointer: to.cast(), step: columns as isize * 4 }
    }

    /// The panel of that number of what [`Self::right`] packed.
    pub(in crate::kernels) fn panel(
        self,
        packed: *const f32,
        depth: usize,
        number: usize,
    ) -> Right {
        let lanes = PANEL * depth.div_ceil(self.pair());
        Right { pointer: packed.wrapping_add(number * lanes).cast(), step: PANEL as isize * 4 }
    }

    /// `C (+)= A · B`.
    ///
    /// # Safety
    /// The factors are readable over the size, B for 16 lanes more; C is writable and overlaps
    /// neither.
    pub(in crate::kernels) unsafe fn multiply(
        self,
        size: Size,
        a: Left,
        b: Right,
        c: Destination,
        accumulate: bool,
    ) {
        let kernel = self.kernel;
        let depth = size.k.div_ceil(kernel.pair);
        for first in (0..size.n).step_by(kernel.columns) {
            let columns = kernel.columns.min(size.n - first);
            let b_pointer = b.pointer.wrapping_add(first * 4);
            let (mut row, mut heights) = (0, kernel.heights);
            while row < size.m {
                while heights[0].rows > size.m - row {
                    heights = &heights[1..];
                }
                let tile = Tile {
                    depth,
                    a: a.at_row(row).pointer,
                    a_row: a.row,
                    a_step: a.step,
                    b: b_pointer,
                    b_step: b.step,
                    c: c.pointer.wrapping_offset(row as isize * c.row).wrapping_add(first),
                    c_row: c.row,
                    columns,
                    accumulate,
                    stream: false,
                    ahead: Ahead { start: b_pointer, near: 0, step: 0 },
                };
                // SAFETY: the caller's promise; `MicroKernel::of` chose what this machine has.
                unsafe { kernel.of_width(&heights[0], columns)(&tile) };
                row += heights[0].rows;
            }
        }
    }
}
