//! Matrix products: `C[M, N] (+)= A[M, K] · B[K, N]` in f32, from operands of any strides and of
//! type f32, fp16 or bf16.
//!
//! A tile of C stays in registers over a slab of K. An operand that the micro-kernel can read as
//! it lies in memory is not packed: rows of A that are contiguous along K, and rows of B that
//! are contiguous along N where few rows of A want them. The rest is packed into panels: A by each
//! thread block by block; B, where it is small beside the work, by each thread for itself, because
//! cores get at what another has just written slowly, else by all together before it is used.
//! While a block is multiplied, what the thread needs next is fetched from memory. A large C that
//! is not read soon is written past the caches.
//!
//! Every element of C is a sum over K in one fixed order, whatever the number of threads.
//!
//! Floor: operations over the peak of the precision's multiply-adds.

mod blocks;
pub(in crate::kernels) mod dot;
mod microkernel;
pub(in crate::kernels) mod pack;
pub(in crate::kernels) mod small;
mod vector;

pub(crate) use dot::{COLUMNS as FEW_COLUMNS, Form, dot_rows, pack_columns};
pub(crate) use vector::{COLUMNS, Rounding, ToBf16, Unrounded, gemv_columns};

use super::isa::Isa;
use crate::pool::Pool;
use crate::precision::Precision;
use blocks::{Blocks, Region};
use microkernel::{Height, MicroKernel, Tile};
use orion_tensor::DType;
use pack::Source;
use std::sync::atomic::{AtomicU64, Ordering};

/// A matrix operand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    pub pointer: *const u8,
    /// F32, F16 or BF16; I8 where there are scales.
    pub dtype: DType,
    /// Distance of rows, in elements.
    pub row: isize,
    /// Distance of columns, in elements; 1 where there are scales.
    pub column: isize,
    /// Only for A.
    pub scales: Option<Scales>,
}

/// What makes numbers of a matrix of int8, `scale · (element - offset)`: a scale and an offset for
/// each block of each row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scales {
    pub pointer: *const f32,
    /// As many as there are scales; none where all are zero.
    pub offsets: Option<*const f32>,
    /// Distance of the scales of neighbouring rows.
    pub row: usize,
    /// Elements in a block: a multiple of 16, or a whole row.
    pub block: usize,
    /// How far into the rows of scales the matrix begins, in elements; a multiple of 16.
    pub column: usize,
}

impl Scales {
    /// The scale of an element.
    ///
    /// # Safety
    /// The element is inside the matrix.
    #[inline(always)]
    unsafe fn of(self, row: usize, column: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *self.pointer.add(self.position(row, column)) }
    }

    /// The offset of an element.
    ///
    /// # Safety
    /// The element is inside the matrix.
    #[inline(always)]
    unsafe fn offset(self, row: usize, column: usize) -> f32 {
        // SAFETY: the caller's promise.
        self.offsets.map_or(0.0, |offsets| unsafe { *offsets.add(self.position(row, column)) })
    }

    /// Which scale and offset are those of an element.
    #[inline(always)]
    fn position(self, row: usize, column: usize) -> usize {
        row * self.row + (self.column + column) / self.block
    }
}

// SAFETY: a pointer to what kernels read; see `gemm`.
unsafe impl Send for Matrix {}
// SAFETY: as above.
unsafe impl Sync for Matrix {}

impl Matrix {
    /// A matrix of floats.
    pub(crate) fn new(pointer: *const u8, dtype: DType, row: isize, column: isize) -> Self {
        Self { pointer, dtype, row, column, scales: None }
    }

    /// The matrix from that row and column on.
    ///
    /// # Safety
    /// The position is inside the matrix.
    pub(crate) unsafe fn at(self, row: usize, column: usize) -> Self {
        let offset = row as isize * self.row + column as isize * self.column;
        let bytes = offset * self.dtype.size_bytes() as isize;
        let scales = self.scales.map(|s| Scales {
            pointer: s.pointer.wrapping_add(row * s.row),
            offsets: s.offsets.map(|o| o.wrapping_add(row * s.row)),
            column: s.column + column,
            ..s
        });
        // SAFETY: the caller's promise.
        Self { pointer: unsafe { self.pointer.offset(bytes) }, scales, ..self }
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

/// Lanes of 32 bits of workspace: shared by all threads, and for each thread.
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

/// A number for each row of C, which is added to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowBias {
    pub pointer: *const f32,
    /// Distance of the numbers of neighbouring rows, in elements.
    pub stride: isize,
}

// SAFETY: a pointer to what kernels read; see `gemm`.
unsafe impl Sync for RowBias {}

impl RowBias {
    /// Fills rows of C with their numbers.
    ///
    /// # Safety
    /// The numbers are readable, and C is writable for `count` columns of the rows.
    unsafe fn fill(self, c: *mut f32, c_row: isize, first: usize, rows: usize, count: usize) {
        for row in 0..rows {
            // SAFETY: the caller's promise.
            unsafe {
                let number = *self.pointer.offset((first + row) as isize * self.stride);
                let to = c.offset(row as isize * c_row);
                std::slice::from_raw_parts_mut(to, count).fill(number);
            }
        }
    }
}

/// Who computes a product.
#[derive(Clone, Copy)]
pub(crate) enum Threads<'a> {
    /// The caller alone, which is a thread of a pool with workspace of its own.
    One,
    /// All threads of a pool.
    All(&'a Pool),
}

impl Threads<'_> {
    fn run(self, iterations: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        match self {
            Self::One => (0..iterations).for_each(|i| body(i, 0)),
            Self::All(pool) => pool.run(iterations, body),
        }
    }

    fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::All(pool) => pool.threads(),
        }
    }
}

/// The workspace of [`gemm`]. Pointers of the operands are not looked at.
pub(crate) fn workspace(
    arithmetic: Arithmetic,
    threads: usize,
    size: Size,
    a: Matrix,
    b: Matrix,
) -> Workspace {
    let blocks = Blocks::of(MicroKernel::of(arithmetic), arithmetic, threads, size, a, b);
    let (packed_a, packed_b) = (blocks.packed_a(), blocks.packed_b());
    match blocks.private_b {
        true => Workspace { shared: 0, per_thread: packed_a + packed_b },
        false => Workspace { shared: packed_b, per_thread: packed_a },
    }
}

/// The memory of [`gemm_on_one_thread`].
pub(crate) fn workspace_on_one_thread(
    arithmetic: Arithmetic,
    size: Size,
    a: Matrix,
    b: Matrix,
) -> Workspace {
    let Workspace { shared, per_thread } = workspace(arithmetic, 1, size, a, b);
    Workspace { shared: 0, per_thread: shared + per_thread }
}

/// [`gemm`] on the calling thread.
///
/// # Safety
/// As for [`gemm`]; `memory` is as large as [`workspace_on_one_thread`] says.
pub(crate) unsafe fn gemm_on_one_thread(
    arithmetic: Arithmetic,
    size: Size,
    a: Matrix,
    b: Matrix,
    c: Destination,
    bias: Option<RowBias>,
    memory: *mut f32,
) {
    let Workspace { shared, per_thread } = workspace(arithmetic, 1, size, a, b);
    let lent = Lent { shared: memory, threads: memory.wrapping_add(shared), per_thread };
    // SAFETY: the caller's promise is passed on.
    unsafe { gemm(arithmetic, Threads::One, size, a, b, c, bias, lent) }
}

/// A product and the way to compute it.
struct Product {
    kernel: &'static MicroKernel,
    arithmetic: Arithmetic,
    a: Matrix,
    b: Matrix,
    c: Destination,
    bias: Option<RowBias>,
    k: usize,
    blocks: Blocks,
    lent: Lent,
    /// Whether C is written past the caches.
    stream: bool,
}

/// The product, with `bias` added to it; overwrites C.
///
/// # Safety
/// The operands are readable and C writable over the whole size; C overlaps nothing else; `lent`
/// is as large as [`workspace`] says.
#[expect(clippy::too_many_arguments, reason = "a kernel takes sizes and operands")]
pub(crate) unsafe fn gemm(
    arithmetic: Arithmetic,
    threads: Threads<'_>,
    size: Size,
    a: Matrix,
    b: Matrix,
    c: Destination,
    bias: Option<RowBias>,
    lent: Lent,
) {
    let kernel = MicroKernel::of(arithmetic);
    let blocks = Blocks::of(kernel, arithmetic, threads.count(), size, a, b);
    let stream = blocks.stream(size, c) && bias.is_none();
    let product = Product { kernel, arithmetic, a, b, c, bias, k: size.k, blocks, lent, stream };
    if size.k == 0 {
        if let Some(bias) = bias {
            // SAFETY: the caller's promise.
            return unsafe { bias.fill(c.pointer, c.row, 0, size.m, size.n) };
        }
        for row in 0..size.m {
            // SAFETY: inside C.
            unsafe {
                std::slice::from_raw_parts_mut(c.pointer.offset(row as isize * c.row), size.n)
            }
            .fill(0.0);
        }
        return;
    }
    for n0 in (0..size.n).step_by(product.blocks.wide) {
        let columns = product.blocks.wide.min(size.n - n0);
        for k0 in (0..size.k).step_by(product.blocks.deep) {
            let depth = product.blocks.deep.min(size.k - k0);
            // SAFETY: the part is inside the product.
            unsafe { product.part(threads, n0, columns, k0, depth) };
        }
    }
}

impl Product {
    /// Columns `n0 .. n0 + columns` of C, or what `k0 .. k0 + depth` adds to them.
    ///
    /// # Safety
    /// As for [`gemm`].
    unsafe fn part(
        &self,
        threads: Threads<'_>,
        n0: usize,
        columns: usize,
        k0: usize,
        depth: usize,
    ) {
        let panels = columns.div_ceil(self.kernel.columns);
        let slabs = depth.div_ceil(self.blocks.slab);
        let pack = |slab: usize, panels: (usize, usize), to: *mut u32| {
            let (slab, panel) = (slab * self.blocks.slab, panels.0 * self.kernel.columns);
            let here = self.blocks.slab.min(depth - slab);
            let count = (panels.1 * self.kernel.columns).min(columns - panel);
            // SAFETY: the panels are inside B, and inside the workspace.
            unsafe { self.pack_b((k0 + slab, here), (n0 + panel, count), to) };
        };
        if !self.blocks.direct_b && !self.blocks.private_b {
            let packing = |i: usize, _: usize| {
                let (slab, panel) = (i / panels, i % panels);
                let here = self.blocks.slab.min(depth - slab * self.blocks.slab);
                let panel_lanes = self.kernel.columns * here.div_ceil(self.kernel.pair);
                let to = self.packed_b(None, columns, slab * self.blocks.slab);
                pack(slab, (panel, 1), to.wrapping_add(panel * panel_lanes));
            };
            threads.run(slabs * panels, &packing);
        }
        // A bit for every thread that has packed its B.
        let packed = AtomicU64::new(0);
        let share = self.blocks.share(threads.count(), columns);
        let tasks = share.tasks();
        let multiplying = |i: usize, thread: usize| {
            let (rows, block) = share.task(i);
            let private = self.blocks.private_b.then_some(thread);
            if private.is_some()
                && packed.fetch_or(1 << thread, Ordering::Relaxed) >> thread & 1 == 0
            {
                for slab in 0..slabs {
                    pack(
                        slab,
                        (0, panels),
                        self.packed_b(private, columns, slab * self.blocks.slab),
                    );
                }
            }
            for start in (0..depth).step_by(self.blocks.slab) {
                let here = self.blocks.slab.min(depth - start);
                // What this thread probably does next.
                let next = if start + here < depth {
                    let next = self.blocks.slab.min(depth - start - here);
                    self.blocks.region(self.a, rows, k0 + start + here, next)
                } else if i + threads.count() < tasks {
                    let (rows, _) = share.task(i + threads.count());
                    self.blocks.region(self.a, rows, k0, self.blocks.slab.min(depth))
                } else if k0 + depth < self.k {
                    let (rows, _) = share.task((i + threads.count()) % tasks);
                    let next = self.blocks.slab.min(self.k - k0 - depth);
                    self.blocks.region(self.a, rows, k0 + depth, next)
                } else {
                    Region::NONE
                };
                let of_b = match self.blocks.direct_b {
                    // SAFETY: the position is inside B.
                    true => unsafe { self.b.at(k0 + start, n0 + block.0) }.pointer,
                    // SAFETY: blocks begin with panels.
                    false => unsafe {
                        let lanes = here.div_ceil(self.kernel.pair);
                        self.packed_b(private, columns, start).add(block.0 * lanes).cast::<u8>()
                    },
                };
                // SAFETY: the block is inside the product and this task's own.
                unsafe {
                    self.multiply(
                        rows,
                        (n0 + block.0, block.1),
                        k0 + start,
                        here,
                        of_b,
                        next,
                        thread,
                    )
                };
            }
            if self.stream {
                (self.kernel.fence)();
            }
        };
        threads.run(tasks, &multiplying);
    }

    /// Where the slab of packed B begins that starts `start` elements into what is packed, that
    /// all threads share or one has for itself.
    fn packed_b(&self, thread: Option<usize>, columns: usize, start: usize) -> *mut u32 {
        let Lent { shared, threads, per_thread } = self.lent;
        let all = match thread {
            Some(thread) => threads.wrapping_add(thread * per_thread + self.blocks.packed_a()),
            None => shared,
        };
        let width = columns.next_multiple_of(self.kernel.columns);
        all.cast::<u32>().wrapping_add(start / self.kernel.pair * width)
    }

    /// Packs panels of B: rows and columns, first and count.
    ///
    /// # Safety
    /// They are inside B, and there is room for them.
    unsafe fn pack_b(&self, k: (usize, usize), columns: (usize, usize), to: *mut u32) {
        let width = self.kernel.columns;
        let panel = width * k.1.div_ceil(self.kernel.pair);
        // SAFETY: the caller's promise.
        unsafe {
            let source = Source::columns(self.b.at(k.0, columns.0), columns.1, k.1);
            pack::panels(self.arithmetic, self.kernel.pair, source, (width, panel), to);
        }
    }

    /// Multiplies `rows` (first and count) by `columns` over a slab of K; `b` is its B.
    ///
    /// # Safety
    /// As for [`gemm`]; no other thread uses the number or the part of C.
    #[expect(clippy::too_many_arguments, reason = "the coordinates of a block")]
    unsafe fn multiply(
        &self,
        rows: (usize, usize),
        columns: (usize, usize),
        k0: usize,
        depth: usize,
        b: *const u8,
        next: Region,
        thread: usize,
    ) {
        let kernel = self.kernel;
        let lanes = depth.div_ceil(kernel.pair);
        // SAFETY: the position is inside A; the thread has its workspace.
        let (a, a_row, a_step, a_tile) = unsafe { self.rows_of_a(rows, k0, depth, thread) };
        let (b_step, b_tile) = match self.blocks.direct_b {
            true => (self.b.row * 4, kernel.columns as isize * 4),
            false => (kernel.columns as isize * 4, (kernel.columns * lanes) as isize * 4),
        };
        let mut ahead = next.steps(lanes);
        for first in (0..columns.1).step_by(kernel.columns) {
            let width = kernel.columns.min(columns.1 - first);
            let b = b.wrapping_offset((first / kernel.columns) as isize * b_tile);
            let mut row = 0;
            while row < rows.1 {
                let inside = row % kernel.rows;
                let left = (rows.1 - row).min(kernel.rows - inside);
                let fits = |height: &&Height| height.rows <= left;
                let height = kernel.heights.iter().find(fits).expect("the last is one row");
                let c = self.c.pointer.wrapping_offset((rows.0 + row) as isize * self.c.row);
                let a = a.wrapping_offset((row / kernel.rows) as isize * a_tile);
                let tile = Tile {
                    depth: lanes,
                    a: a.wrapping_offset(inside as isize * a_row),
                    a_row,
                    a_step,
                    b,
                    b_step,
                    c: c.wrapping_add(columns.0 + first),
                    c_row: self.c.row,
                    columns: width,
                    accumulate: k0 > 0 || self.bias.is_some(),
                    stream: self.stream,
                    ahead: ahead.next(),
                };
                // SAFETY: the tile is inside the block; `MicroKernel::of` chose what this
                // machine has.
                unsafe {
                    if let Some(bias) = self.bias.filter(|_| k0 == 0) {
                        // By the time sums are added to it, it is in a cache.
                        bias.fill(tile.c, tile.c_row, rows.0 + row, height.rows, width);
                    }
                    kernel.of_width(height, width)(&tile);
                }
                row += height.rows;
            }
        }
    }

    /// Rows of A as the micro-kernel reads them, packed if need be: where they begin, and the
    /// bytes from row to row, from lane to lane and from tile to tile.
    ///
    /// # Safety
    /// As for [`Product::multiply`].
    unsafe fn rows_of_a(
        &self,
        rows: (usize, usize),
        k0: usize,
        depth: usize,
        thread: usize,
    ) -> (*const u8, isize, isize, isize) {
        let (height, pair) = (self.kernel.rows, self.kernel.pair);
        // SAFETY: the position is inside A.
        let a = unsafe { self.a.at(rows.0, k0) };
        if self.blocks.direct_a {
            let row = a.row * a.dtype.size_bytes() as isize;
            // Along K, pairs are read from what is contiguous.
            let step = if a.column == 1 { 4 } else { a.column * 4 };
            return (a.pointer, row, step, row * height as isize);
        }
        let source = Source::rows(a, rows.1, depth);
        let lanes = depth.div_ceil(pair);
        // SAFETY: the workspace has room for a block of A for each thread.
        unsafe {
            let to = self.lent.threads.add(thread * self.lent.per_thread).cast::<u32>();
            if a.column == 1 {
                let row = Blocks::row_lanes(lanes);
                pack::rows(self.arithmetic, pair, source, row, to);
                (to.cast(), row as isize * 4, 4, (row * height) as isize * 4)
            } else {
                let panel = self.blocks.panel_lanes(lanes);
                pack::panels(self.arithmetic, pair, source, (height, panel), to);
                (to.cast(), 4, height as isize * 4, panel as isize * 4)
            }
        }
    }
}

#[cfg(test)]
mod tests;
