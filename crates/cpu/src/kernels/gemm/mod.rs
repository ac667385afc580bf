//! Matrix products: `C[M, N] (+)= A[M, K] · B[K, N]` in f32, from operands of any strides and of
//! type f32, fp16 or bf16.
//!
//! The loops are Goto's: a block of A and a block of B are packed into the order in which the
//! micro-kernel reads them; a micro-tile of C stays in registers over a whole block of K. Every
//! element of C is a sum over K in one fixed order, whatever the number of threads.

mod microkernel;
mod pack;
mod vector;

pub(crate) use vector::{COLUMNS, Rounding, ToBf16, Unrounded, gemv, gemv_columns};

use super::isa::Isa;
use crate::pool::Pool;
use crate::precision::Precision;
use microkernel::{MAX_TILE, MicroKernel};
use orion_tensor::DType;

/// A matrix operand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    pub pointer: *const u8,
    /// F32, F16 or BF16.
    pub dtype: DType,
    /// Distance of rows, in elements.
    pub row: isize,
    /// Distance of columns, in elements.
    pub column: isize,
}

// SAFETY: a pointer to what kernels read; see `gemm`.
unsafe impl Send for Matrix {}
// SAFETY: as above.
unsafe impl Sync for Matrix {}

impl Matrix {
    /// The matrix from that row and column on.
    ///
    /// # Safety
    /// The position is inside the matrix.
    pub(crate) unsafe fn at(self, row: usize, column: usize) -> Self {
        let offset = row as isize * self.row + column as isize * self.column;
        let bytes = offset * self.dtype.size_bytes() as isize;
        // SAFETY: the caller's promise.
        Self { pointer: unsafe { self.pointer.offset(bytes) }, ..self }
    }
}

/// Sizes of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// The instructions a product is computed with, and what its operands are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arithmetic {
    pub isa: Isa,
    pub precision: Precision,
}

/// The part of K that is packed at once: a panel of B for the micro-kernel fits the first-level
/// cache.
const BLOCK_K: usize = 256;
/// Rows of A packed at once, at most: with `BLOCK_K`, a quarter of a second-level cache.
const BLOCK_M: usize = 240;
/// Columns of B packed at once, at most.
const BLOCK_N: usize = 2048;
/// Floats of B packed before they are used: within a third-level cache. As much of K as fits is
/// packed together, so that a piece of C stays in cache while it is summed up.
const PACKED_B: usize = 1 << 20;

/// f32 lanes of workspace: shared by all threads, and for each thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Workspace {
    pub shared: usize,
    pub per_thread: usize,
}

impl Workspace {
    /// What is enough for either.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            shared: self.shared.max(other.shared),
            per_thread: self.per_thread.max(other.per_thread),
        }
    }
}

/// Rows, columns and depth of what is packed at once by a thread, and the depth to which B is
/// packed before it is used.
struct Blocks {
    m: usize,
    n: usize,
    k: usize,
    deep: usize,
}

impl Blocks {
    fn of(size: Size, kernel: &MicroKernel) -> Self {
        let k = size.k.clamp(1, BLOCK_K);
        let n = size.n.min(BLOCK_N).next_multiple_of(kernel.columns);
        let deep = (PACKED_B / n / BLOCK_K).max(1) * BLOCK_K;
        Self {
            m: size.m.min(BLOCK_M).next_multiple_of(kernel.rows),
            n,
            k,
            deep: deep.min(size.k.next_multiple_of(k)).max(1),
        }
    }
}

/// The workspace of [`gemm`].
pub(crate) fn workspace(isa: Isa, size: Size) -> Workspace {
    let blocks = Blocks::of(size, &MicroKernel::of(isa));
    Workspace { shared: blocks.n * blocks.deep + 64, per_thread: blocks.m * blocks.k + 64 }
}

/// The workspace of [`gemm_on_one_thread`].
pub(crate) fn workspace_on_one_thread(isa: Isa, size: Size) -> Workspace {
    let blocks = Blocks::of(size, &MicroKernel::of(isa));
    Workspace { shared: 0, per_thread: (blocks.m + blocks.n) * blocks.k + 128 }
}

/// Memory for packed blocks, lent by the caller.
#[derive(Clone, Copy)]
pub(crate) struct Lent {
    pub shared: *mut f32,
    pub threads: *mut f32,
    pub per_thread: usize,
}

// SAFETY: threads use disjoint parts: `shared` by panel, `threads` by thread number.
unsafe impl Sync for Lent {}

/// Destination rows are contiguous, `row` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Destination {
    pub pointer: *mut f32,
    pub row: isize,
}

// SAFETY: threads write disjoint rows.
unsafe impl Sync for Destination {}

/// The product with all threads of a pool; overwrites C.
///
/// # Safety
/// The operands are readable and C writable over the whole size; C overlaps nothing else;
/// `lent` is as large as [`workspace`] says.
pub(crate) unsafe fn gemm(
    arithmetic: Arithmetic,
    pool: &Pool,
    size: Size,
    a: Matrix,
    b: Matrix,
    c: Destination,
    lent: Lent,
) {
    let kernel = MicroKernel::of(arithmetic.isa);
    let Size { m, n, k } = size;
    let blocks = Blocks::of(size, &kernel);
    // Rows are dealt out in pieces, several for each thread, so that a late one can be helped.
    let pieces = m.div_ceil(pool.threads() * 3).next_multiple_of(kernel.rows);
    let piece = pieces.clamp(kernel.rows, BLOCK_M);
    for n0 in (0..n).step_by(blocks.n) {
        let columns = blocks.n.min(n - n0);
        let panels = columns.div_ceil(kernel.columns);
        let width = panels * kernel.columns;
        for deep in (0..k).step_by(blocks.deep) {
            let end = k.min(deep + blocks.deep);
            let slabs = (end - deep).div_ceil(blocks.k);
            let packing = &|i: usize, _| {
                let (slab, panel) = (i / panels, i % panels);
                let (start, first) = (slab * blocks.k, panel * kernel.columns);
                let depth = blocks.k.min(end - deep - start);
                let count = kernel.columns.min(columns - first);
                // SAFETY: the panel is inside B and inside the shared workspace.
                unsafe {
                    let source = b.at(deep + start, n0 + first);
                    let to = { lent }.shared.add(start * width + first * depth);
                    let (across, along) = (source.column, source.row);
                    pack::pack(arithmetic, source, across, along, count, depth, kernel.columns, to);
                }
            };
            pool.run(slabs * panels, packing);
            let multiplying = &|i: usize, thread: usize| {
                let m0 = i * piece;
                let rows = piece.min(m - m0);
                for start in (0..end - deep).step_by(blocks.k) {
                    let depth = blocks.k.min(end - deep - start);
                    // SAFETY: rows m0.. are inside A and C; each piece is one thread's.
                    unsafe {
                        let lent = { lent };
                        let packed = lent.threads.add(thread * lent.per_thread);
                        let source = a.at(m0, deep + start);
                        pack_rows(arithmetic, &kernel, source, rows, depth, packed);
                        let to = { c }.pointer.offset(m0 as isize * c.row).add(n0);
                        let to = Destination { pointer: to, row: c.row };
                        let b = lent.shared.add(start * width);
                        let accumulate = deep + start > 0;
                        multiply(&kernel, packed, b, to, rows, columns, depth, accumulate);
                    }
                }
            };
            pool.run(m.div_ceil(piece), multiplying);
        }
    }
    if k == 0 {
        for row in 0..m {
            // SAFETY: inside C.
            unsafe { std::slice::from_raw_parts_mut(c.pointer.offset(row as isize * c.row), n) }
                .fill(0.0);
        }
    }
}

/// The product on the calling thread; overwrites C.
///
/// # Safety
/// As for [`gemm`]; `memory` is as large as [`workspace_on_one_thread`] says for a thread.
pub(crate) unsafe fn gemm_on_one_thread(
    arithmetic: Arithmetic,
    size: Size,
    a: Matrix,
    b: Matrix,
    c: Destination,
    memory: *mut f32,
) {
    let kernel = MicroKernel::of(arithmetic.isa);
    let Size { m, n, k } = size;
    let Blocks { m: block_m, n: block_n, k: block_k, .. } = Blocks::of(size, &kernel);
    // SAFETY: the workspace holds both blocks.
    let (packed_a, packed_b) = (memory, unsafe { memory.add(block_m * block_k + 64) });
    for n0 in (0..n).step_by(block_n) {
        let columns = block_n.min(n - n0);
        for k0 in (0..k).step_by(block_k) {
            let depth = block_k.min(k - k0);
            for first in (0..columns).step_by(kernel.columns) {
                let count = kernel.columns.min(columns - first);
                // SAFETY: the panel is inside B and inside the workspace.
                unsafe {
                    let source = b.at(k0, n0 + first);
                    let to = packed_b.add(first * depth);
                    pack::pack(
                        arithmetic,
                        source,
                        source.column,
                        source.row,
                        count,
                        depth,
                        kernel.columns,
                        to,
                    );
                }
            }
            for m0 in (0..m).step_by(block_m) {
                let rows = block_m.min(m - m0);
                // SAFETY: the rows are inside A and C.
                unsafe {
                    pack_rows(arithmetic, &kernel, a.at(m0, k0), rows, depth, packed_a);
                    let to = c.pointer.offset(m0 as isize * c.row).add(n0);
                    let to = Destination { pointer: to, row: c.row };
                    multiply(&kernel, packed_a, packed_b, to, rows, columns, depth, k0 > 0);
                }
            }
        }
    }
    if k == 0 {
        for row in 0..m {
            // SAFETY: inside C.
            unsafe { std::slice::from_raw_parts_mut(c.pointer.offset(row as isize * c.row), n) }
                .fill(0.0);
        }
    }
}

/// Packs rows of A as panels of the micro-kernel's height.
///
/// # Safety
/// `rows` by `depth` elements are readable; the panels fit `to`.
unsafe fn pack_rows(
    arithmetic: Arithmetic,
    kernel: &MicroKernel,
    a: Matrix,
    rows: usize,
    depth: usize,
    to: *mut f32,
) {
    for first in (0..rows).step_by(kernel.rows) {
        let count = kernel.rows.min(rows - first);
        // SAFETY: the caller's promise.
        unsafe {
            let source = a.at(first, 0);
            let to = to.add(first * depth);
            let (across, along) = (source.row, source.column);
            pack::pack(arithmetic, source, across, along, count, depth, kernel.rows, to);
        }
    }
}

/// Multiplies packed blocks.
///
/// # Safety
/// The blocks are packed for `kernel` with these sizes; C is writable.
#[expect(clippy::too_many_arguments, reason = "a kernel takes sizes")]
unsafe fn multiply(
    kernel: &MicroKernel,
    a: *const f32,
    b: *const f32,
    c: Destination,
    rows: usize,
    columns: usize,
    depth: usize,
    accumulate: bool,
) {
    let mut edge = [0f32; MAX_TILE];
    for n0 in (0..columns).step_by(kernel.columns) {
        let width = kernel.columns.min(columns - n0);
        for m0 in (0..rows).step_by(kernel.rows) {
            let height = kernel.rows.min(rows - m0);
            // SAFETY: panels begin at multiples of their width times depth; the tile is inside C,
            // or is computed beside it and copied where it reaches over the edge.
            unsafe {
                let (a, b) = (a.add(m0 * depth), b.add(n0 * depth));
                let to = c.pointer.offset(m0 as isize * c.row).add(n0);
                if width == kernel.columns && height == kernel.rows {
                    (kernel.run)(depth, a, b, to, c.row, accumulate);
                    continue;
                }
                (kernel.run)(depth, a, b, edge.as_mut_ptr(), kernel.columns as isize, false);
                for r in 0..height {
                    let from = &edge[r * kernel.columns..][..width];
                    let to = std::slice::from_raw_parts_mut(to.offset(r as isize * c.row), width);
                    if accumulate {
                        to.iter_mut().zip(from).for_each(|(to, &v)| *to += v);
                    } else {
                        to.copy_from_slice(from);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
