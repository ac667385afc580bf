//! Reductions of elementwise programs: what is reduced is computed tile by tile on the way.

use super::Pointers;
use super::isa::multiversion;
use super::tile::{Registers, Source, Tile, TileProgram, evaluate};
use std::ops::Range;

/// How two values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combine {
    Sum,
    Product,
    Maximum,
    Minimum,
}

impl Combine {
    #[inline(always)]
    fn start(self) -> f32 {
        match self {
            Self::Sum => 0.0,
            Self::Product => 1.0,
            Self::Maximum => f32::NEG_INFINITY,
            Self::Minimum => f32::INFINITY,
        }
    }

    /// NaN wins over every number.
    #[inline(always)]
    fn of(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Sum => a + b,
            Self::Product => a * b,
            Self::Maximum => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Self::Minimum => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
        }
    }
}

/// Sums kept side by side, so that additions do not wait for each other.
const LANES: usize = 64;
/// Rows added up before they join the total: keeps the rounding error of long sums small.
const ROWS: usize = 64;

/// A program and the register that is reduced.
#[derive(Debug, Clone)]
pub(crate) struct Reduced {
    pub program: TileProgram,
    pub register: usize,
    pub combine: Combine,
    /// Whether squares are combined, of rows.
    pub squared: bool,
}

multiversion! {
    /// Reduces rows and columns together: for every output `k` of `outputs`, rows
    /// `k · per_output + part.start ..` of the program, into `to[k - outputs.start]`.
    ///
    /// # Safety
    /// As for [`evaluate`]; `to` is writable for every output.
    unsafe fn reduce_rows(reduced: &Reduced, pointers: &Pointers, outputs: Range<usize>,
        per_output: usize, part: Range<usize>, columns: Range<usize>, to: *mut f32,
        scratch: *mut u32) = reduce_rows_inner
}

#[expect(clippy::too_many_arguments, reason = "kernels take sizes and strides")]
#[inline(always)]
unsafe fn reduce_rows_inner<const FMA: bool>(
    reduced: &Reduced,
    pointers: &Pointers,
    outputs: Range<usize>,
    per_output: usize,
    part: Range<usize>,
    columns: Range<usize>,
    to: *mut f32,
    scratch: *mut u32,
) {
    let program = &reduced.program;
    let whole_rows = columns.len() == program.inner && program.inner <= program.tile;
    let rows_at_once = if whole_rows { program.tile / program.inner.max(1) } else { 1 };
    let first = outputs.start;
    let mut all = Registers::new(program);
    let mut k = outputs.start;
    while k < outputs.end {
        if per_output == 1 && whole_rows {
            // Short rows: several outputs to a tile.
            let rows = rows_at_once.min(outputs.end - k);
            let tile = Tile { row: k, rows, start: 0, len: program.inner };
            // SAFETY: the tile is inside the iteration space.
            unsafe { evaluate::<FMA>(program, pointers, tile, scratch, &mut all) };
            let source = all.get(reduced.register);
            for row in 0..rows {
                let mut sums = [reduced.combine.start(); LANES];
                // SAFETY: the register has a lane for every element of the tile.
                unsafe {
                    let n = program.inner;
                    fold(reduced, source, row * n, n, &mut sums);
                    *to.add(k - first + row) = across(reduced.combine, sums);
                }
            }
            k += rows;
            continue;
        }
        let mut total = reduced.combine.start();
        let mut row = part.start;
        while row < part.end {
            let rows = rows_at_once.min(part.end - row);
            let mut start = columns.start;
            while start < columns.end {
                let len = program.tile.min(columns.end - start);
                let tile = Tile { row: k * per_output + row, rows, start, len };
                let mut sums = [reduced.combine.start(); LANES];
                // SAFETY: as above.
                unsafe {
                    evaluate::<FMA>(program, pointers, tile, scratch, &mut all);
                    let source = all.get(reduced.register);
                    fold(reduced, source, 0, rows * len, &mut sums);
                }
                total = reduced.combine.of(total, across(reduced.combine, sums));
                start += len;
            }
            row += rows;
        }
        // SAFETY: the caller's promise.
        unsafe { *to.add(k - first) = total };
        k += 1;
    }
}

/// Asks for the memory 1 KiB further on, past the caches: processors that look ahead by
/// themselves stop at the end of a page.
#[inline(always)]
fn fetch_ahead(block: &[f32; LANES]) {
    #[cfg(target_arch = "x86_64")]
    for line in block.as_chunks::<16>().0 {
        // SAFETY: a hint about any address has no effect that a program could see.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_NTA, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_NTA>(line.as_ptr().wrapping_add(256).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = block;
}

/// # Safety
/// A source of lanes has `from + n` of them.
#[inline(always)]
unsafe fn fold(reduced: &Reduced, source: Source, from: usize, n: usize, sums: &mut [f32; LANES]) {
    macro_rules! each {
        ($c:expr) => {
            each!($c, |x: f32| x)
        };
        ($c:expr, $f:expr) => {
            match source {
                Source::Lanes(lanes) => {
                    // SAFETY: the caller's promise.
                    let x = unsafe { std::slice::from_raw_parts(lanes.cast::<f32>().add(from), n) };
                    let (blocks, rest) = x.as_chunks::<LANES>();
                    for block in blocks {
                        fetch_ahead(block);
                        for i in 0..LANES {
                            sums[i] = $c.of(sums[i], $f(block[i]));
                        }
                    }
                    for (sum, &x) in sums.iter_mut().zip(rest) {
                        *sum = $c.of(*sum, $f(x));
                    }
                }
                Source::Number(bits) => {
                    for i in 0..n {
                        sums[i % LANES] = $c.of(sums[i % LANES], $f(f32::from_bits(bits)));
                    }
                }
            }
        };
    }
    match reduced.combine {
        Combine::Sum if reduced.squared => each!(Combine::Sum, |x: f32| x * x),
        Combine::Sum => each!(Combine::Sum),
        Combine::Product => each!(Combine::Product),
        Combine::Maximum => each!(Combine::Maximum),
        Combine::Minimum => each!(Combine::Minimum),
    }
}

#[inline(always)]
fn across(combine: Combine, mut sums: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] = combine.of(sums[i], sums[i + width]);
        }
        width /= 2;
    }
    sums[0]
}

/// Combines partial results of one output, in order.
pub(crate) fn combine_parts(combine: Combine, parts: &[f32]) -> f32 {
    parts.iter().fold(combine.start(), |a, &b| combine.of(a, b))
}

/// Most columns of one task of [`reduce_columns`].
pub(crate) const COLUMNS: usize = 256;

multiversion! {
    /// Reduces rows only: `to[j] = combine of rows` for the columns `columns`, at most
    /// [`COLUMNS`].
    ///
    /// # Safety
    /// As for [`evaluate`]; `to` is writable for every column.
    unsafe fn reduce_columns(reduced: &Reduced, pointers: &Pointers, rows: Range<usize>,
        columns: Range<usize>, to: *mut f32, scratch: *mut u32) = reduce_columns_inner
}

#[inline(always)]
unsafe fn reduce_columns_inner<const FMA: bool>(
    reduced: &Reduced,
    pointers: &Pointers,
    rows: Range<usize>,
    columns: Range<usize>,
    to: *mut f32,
    scratch: *mut u32,
) {
    let program = &reduced.program;
    let len = columns.len();
    let whole = len == program.inner;
    let at_once = if whole { (program.tile / len).clamp(1, ROWS) } else { 1 };
    let mut totals = [reduced.combine.start(); COLUMNS];
    let mut sums = [reduced.combine.start(); COLUMNS];
    let mut registers = Registers::new(program);
    let mut row = rows.start;
    let mut added = 0;
    while row < rows.end {
        let count = at_once.min(rows.end - row);
        let tile = Tile { row, rows: count, start: columns.start, len };
        // SAFETY: the tile is inside the iteration space; columns are at most a tile.
        unsafe { evaluate::<FMA>(program, pointers, tile, scratch, &mut registers) };
        let source = registers.get(reduced.register);
        for r in 0..count {
            macro_rules! each {
                ($c:expr) => {
                    match source {
                        Source::Lanes(lanes) => {
                            // SAFETY: the register has a lane for every element of the tile.
                            let x = unsafe {
                                std::slice::from_raw_parts(lanes.cast::<f32>().add(r * len), len)
                            };
                            for (sum, &x) in sums.iter_mut().zip(x) {
                                *sum = $c.of(*sum, x);
                            }
                        }
                        Source::Number(bits) => {
                            sums.iter_mut().for_each(|s| *s = $c.of(*s, f32::from_bits(bits)));
                        }
                    }
                };
            }
            match reduced.combine {
                Combine::Sum => each!(Combine::Sum),
                Combine::Product => each!(Combine::Product),
                Combine::Maximum => each!(Combine::Maximum),
                Combine::Minimum => each!(Combine::Minimum),
            }
        }
        row += count;
        added += count;
        if added >= ROWS || row == rows.end {
            for (total, sum) in totals[..len].iter_mut().zip(&mut sums) {
                *total = reduced.combine.of(*total, *sum);
                *sum = reduced.combine.start();
            }
            added = 0;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(to, len) }.copy_from_slice(&totals[..len]);
}
