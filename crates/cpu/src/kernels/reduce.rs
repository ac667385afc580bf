//! Reductions of elementwise programs: what is reduced is computed tile by tile on the way.

use super::Pointers;
use super::isa::{Isa, multiversion};
use super::tile::{Registers, Source, Tile, TileProgram, evaluate};
use orion_tensor::DType;
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
    pub(super) fn start(self) -> f32 {
        match self {
            Self::Sum => 0.0,
            Self::Product => 1.0,
            Self::Maximum => f32::NEG_INFINITY,
            Self::Minimum => f32::INFINITY,
        }
    }

    /// NaN wins over every number.
    #[inline(always)]
    pub(super) fn of(self, a: f32, b: f32) -> f32 {
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

/// What is done with a combined value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Finish {
    Nothing,
    /// Divide by the number of values.
    Mean(f32),
    Root,
    Log,
}

impl Finish {
    pub(crate) fn apply(self, values: &mut [f32]) {
        match self {
            Self::Nothing => {}
            Self::Mean(count) => values.iter_mut().for_each(|v| *v /= count),
            Self::Root => values.iter_mut().for_each(|v| *v = v.sqrt()),
            Self::Log => values.iter_mut().for_each(|v| *v = f64::from(*v).ln() as f32),
        }
    }
}

/// Sums kept side by side, so that additions do not wait for each other.
const LANES: usize = 64;
/// Rows added up before they join the total: keeps the rounding error of long sums small.
pub(super) const ROWS: usize = 64;

/// A program and the register that is reduced.
#[derive(Debug, Clone)]
pub(crate) struct Reduced {
    pub program: TileProgram,
    pub register: usize,
    pub combine: Combine,
    /// Whether squares are combined, of rows.
    pub squared: bool,
}

/// Reduces rows and columns together: for every output `k` of `outputs`, rows
/// `k · per_output + part.start ..` of the program, into `to[k - outputs.start]`.
///
/// # Safety
/// As for [`evaluate`]; `to` is writable for every output.
#[expect(clippy::too_many_arguments, reason = "kernels take sizes and strides")]
pub(crate) unsafe fn reduce_rows(
    isa: Isa,
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
    let tile = if is_read_in_place(program, pointers) { LONG } else { program.tile };
    let whole_rows = columns.len() == program.inner && program.inner <= tile;
    let rows_at_once = if whole_rows { tile / program.inner.max(1) } else { 1 };
    let first = outputs.start;
    let mut all = Registers::new(program);
    let mut k = outputs.start;
    while k < outputs.end {
        if per_output == 1 && whole_rows {
            // Short rows: several outputs to a tile.
            let rows = rows_at_once.min(outputs.end - k);
            let tile = Tile { row: k, rows, start: 0, len: program.inner };
            // SAFETY: the tile is inside the iteration space.
            unsafe { evaluate(isa, program, pointers, tile, scratch, &mut all) };
            let source = all.get(reduced.register);
            for row in 0..rows {
                let mut sums = [reduced.combine.start(); LANES];
                // SAFETY: the register has a lane for every element of the tile.
                unsafe {
                    let n = program.inner;
                    fold(isa, reduced, source, row * n, n, &mut sums);
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
                let len = tile.min(columns.end - start);
                let tile = Tile { row: k * per_output + row, rows, start, len };
                let mut sums = [reduced.combine.start(); LANES];
                // SAFETY: as above.
                unsafe {
                    evaluate(isa, program, pointers, tile, scratch, &mut all);
                    let source = all.get(reduced.register);
                    fold(isa, reduced, source, 0, rows * len, &mut sums);
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

/// Elements of a tile that is read where it lies: few enough that the rounding errors of their
/// sums stay small.
const LONG: usize = 8192;

/// Whether a program only reads elements that lie side by side, so that a tile may be longer than
/// its slots.
#[inline(always)]
fn is_read_in_place(program: &TileProgram, pointers: &Pointers) -> bool {
    let [input] = &*program.inputs else { return false };
    let inner = program.inner as isize;
    program.instructions.is_empty()
        && input.dtype == DType::F32
        && input.inner == 1
        && (program.outer.is_empty() || input.row == Some(inner))
        && pointers.get(input.buffer).cast::<f32>().is_aligned()
}

/// Asks for the memory 8 KiB further on, past the caches: processors that look ahead by
/// themselves stop at the end of a page, and one stream alone does not keep memory busy.
#[inline(always)]
fn fetch_ahead(block: &[f32; LANES]) {
    #[cfg(target_arch = "x86_64")]
    for line in block.as_chunks::<16>().0 {
        // SAFETY: a hint about any address has no effect that a program could see.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_NTA, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_NTA>(line.as_ptr().wrapping_add(2048).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = block;
}

multiversion! {
    /// Combines lanes with sums that stand side by side.
    ///
    /// # Safety
    /// A source of lanes has `from + n` of them.
    unsafe fn fold(reduced: &Reduced, source: Source, from: usize, n: usize,
        sums: &mut [f32; LANES]) = fold_inner
}

#[inline(always)]
unsafe fn fold_inner<const FMA: bool>(
    reduced: &Reduced,
    source: Source,
    from: usize,
    n: usize,
    sums: &mut [f32; LANES],
) {
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

/// Reduces rows only: `to[j] = combine of rows` for the columns `columns`, at most [`COLUMNS`].
///
/// # Safety
/// As for [`evaluate`]; `to` is writable for every column.
pub(crate) unsafe fn reduce_columns(
    isa: Isa,
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
    let mut sums = totals;
    let mut registers = Registers::new(program);
    let mut row = rows.start;
    let mut added = 0;
    while row < rows.end {
        let count = at_once.min(rows.end - row);
        let tile = Tile { row, rows: count, start: columns.start, len };
        // SAFETY: the tile is inside the iteration space; columns are at most a tile, and the
        // register has a lane for every element of it.
        unsafe {
            evaluate(isa, program, pointers, tile, scratch, &mut registers);
            let source = registers.get(reduced.register);
            add_rows(isa, reduced.combine, source, count, &mut sums[..len]);
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

multiversion! {
    /// Combines each of the rows of a tile with `to`, element by element.
    ///
    /// # Safety
    /// A source of lanes has `rows` times as many as `to`.
    unsafe fn add_rows(combine: Combine, source: Source, rows: usize, to: &mut [f32])
        = add_rows_inner
}

#[inline(always)]
unsafe fn add_rows_inner<const FMA: bool>(
    combine: Combine,
    source: Source,
    rows: usize,
    to: &mut [f32],
) {
    macro_rules! each {
        ($c:expr) => {{
            if let (Source::Lanes(lanes), Ok(to)) =
                (source, <&mut [f32; LANES]>::try_from(&mut *to))
            {
                let mut sums = *to;
                for r in 0..rows {
                    // SAFETY: the caller's promise.
                    let x = unsafe { &*lanes.add(r * LANES).cast::<[f32; LANES]>() };
                    sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum = $c.of(*sum, x));
                }
                *to = sums;
                return;
            }
            for r in 0..rows {
                match source {
                    Source::Lanes(lanes) => {
                        let lanes = lanes.cast::<f32>().wrapping_add(r * to.len());
                        // SAFETY: the caller's promise.
                        let x = unsafe { std::slice::from_raw_parts(lanes, to.len()) };
                        to.iter_mut().zip(x).for_each(|(to, &x)| *to = $c.of(*to, x));
                    }
                    Source::Number(bits) => {
                        to.iter_mut().for_each(|to| *to = $c.of(*to, f32::from_bits(bits)));
                    }
                }
            }
        }};
    }
    match combine {
        Combine::Sum => each!(Combine::Sum),
        Combine::Product => each!(Combine::Product),
        Combine::Maximum => each!(Combine::Maximum),
        Combine::Minimum => each!(Combine::Minimum),
    }
}
