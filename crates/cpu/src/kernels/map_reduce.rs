//! Elementwise programs and reductions between them, over a band of columns that stays in the
//! caches from the first pass to the last.
//!
//! Floor: what the first pass reads and what all passes write, once, at the speed of memory.

use super::Pointers;
use super::isa::{Isa, multiversion};
use super::reduce::{Combine, Finish, ROWS, add_rows};
use super::tile::{BAND, Registers, Source, Tile, TileProgram, evaluate, prefetch, store};
use crate::plan::view::{BufferId, View};

/// Most columns of a band: some vectors of every width.
pub(crate) const WIDTH: usize = BAND;

/// One pass over a band.
#[derive(Debug)]
pub(crate) struct Pass {
    /// Over what columns are reduced to; computed before the rest.
    pub of_columns: Option<TileProgram>,
    pub of_rows: Option<TileProgram>,
    pub sums: Vec<ColumnSum>,
    pub row_sums: Vec<RowSum>,
}

/// A register that is reduced down every column.
#[derive(Debug)]
pub(crate) struct ColumnSum {
    pub register: usize,
    pub combine: Combine,
    pub finish: Finish,
    /// Dense f32, one for each column of each outer index.
    pub buffer: BufferId,
    pub offset: isize,
}

/// A register that is summed along every row.
#[derive(Debug)]
pub(crate) struct RowSum {
    pub register: usize,
    pub finish: Finish,
    /// Dense f32: the sums of every row in every band, bands outermost.
    pub partial: View,
    /// Dense f32, one for each row.
    pub to: View,
}

/// Where a band lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Band {
    pub outer: usize,
    /// Rows for each outer index, and in all.
    pub rows: usize,
    pub all_rows: usize,
    /// Columns of the whole, the first of the band, and how many.
    pub inner: usize,
    pub start: usize,
    pub len: usize,
    /// Which one of its outer index.
    pub number: usize,
}

/// Runs a pass over a band of at most [`WIDTH`] columns.
///
/// # Safety
/// As for [`evaluate`]; what is stored shares no memory with inputs but those an earlier pass
/// stored; results and partial sums are as large as the space says.
pub(crate) unsafe fn run_pass(
    isa: Isa,
    pass: &Pass,
    pointers: &Pointers,
    band: Band,
    scratch: *mut u32,
) {
    let Band { start, len, .. } = band;
    if let Some(program) = &pass.of_columns {
        let tile = Tile { row: band.outer, rows: 1, start, len };
        let mut registers = Registers::new(program);
        // SAFETY: the tile is inside the reduced space.
        unsafe {
            evaluate(isa, program, pointers, tile, scratch, &mut registers);
            store(isa, program, pointers, tile, &registers);
        }
    }
    let Some(program) = &pass.of_rows else { return };
    for sum in &pass.sums {
        // SAFETY: the result has a place for every column, and a band's is its own.
        let to = unsafe { std::slice::from_raw_parts_mut(result(sum, pointers, band), len) };
        to.fill(sum.combine.start());
    }
    let at_once = (program.tile / len).clamp(1, ROWS);
    let end = (band.outer + 1) * band.rows;
    let tile_at = |row: usize| Tile { row, rows: at_once.min(end - row), start, len };
    let mut registers = Registers::new(program);
    let mut row = band.outer * band.rows;
    while row < end {
        let tile = tile_at(row);
        let next = row + tile.rows;
        if next < end {
            prefetch(program, pointers, tile_at(next));
        }
        // SAFETY: the tile is inside the space.
        unsafe {
            evaluate(isa, program, pointers, tile, scratch, &mut registers);
            store(isa, program, pointers, tile, &registers);
        }
        for sum in &pass.sums {
            // First for themselves: the rounding error of long sums stays small.
            let mut sums = [sum.combine.start(); WIDTH];
            // SAFETY: registers have a lane for every element of the tile; the result has a place
            // for every column.
            let to = unsafe {
                let source = registers.get(sum.register);
                add_rows(isa, sum.combine, source, tile.rows, &mut sums[..len]);
                std::slice::from_raw_parts_mut(result(sum, pointers, band), len)
            };
            to.iter_mut().zip(sums).for_each(|(to, of_tile)| *to = sum.combine.of(*to, of_tile));
        }
        for sum in &pass.row_sums {
            let partial = pointers.get(sum.partial.buffer).cast::<f32>();
            let first = sum.partial.offset + (band.number * band.all_rows + row) as isize;
            // SAFETY: as above; partial sums have a place for every row of every band.
            unsafe {
                let to = std::slice::from_raw_parts_mut(partial.offset(first), tile.rows);
                add_columns(isa, registers.get(sum.register), len, to);
            }
        }
        row = next;
    }
    for sum in &pass.sums {
        // SAFETY: as above.
        let to = unsafe { std::slice::from_raw_parts_mut(result(sum, pointers, band), len) };
        sum.finish.apply(to);
    }
}

/// Where the band's part of a result begins.
fn result(sum: &ColumnSum, pointers: &Pointers, band: Band) -> *mut f32 {
    let first = sum.offset + (band.outer * band.inner + band.start) as isize;
    pointers.get(sum.buffer).cast::<f32>().wrapping_offset(first)
}

multiversion! {
    /// The sums of the rows of a tile, `len` lanes each.
    ///
    /// # Safety
    /// A source of lanes has `len` for every element of `to`.
    unsafe fn add_columns(source: Source, len: usize, to: &mut [f32]) = add_columns_inner
}

#[inline(always)]
unsafe fn add_columns_inner<const FMA: bool>(source: Source, len: usize, to: &mut [f32]) {
    for (r, to) in to.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *to = unsafe { across(source, r * len, len) };
    }
}

/// The sum of a row of a tile.
///
/// # Safety
/// A source of lanes has `from + n` of them.
#[inline(always)]
unsafe fn across(source: Source, from: usize, n: usize) -> f32 {
    let lanes = match source {
        // SAFETY: the caller's promise.
        Source::Lanes(lanes) => unsafe {
            std::slice::from_raw_parts(lanes.cast::<f32>().add(from), n)
        },
        Source::Number(bits) => return f32::from_bits(bits) * n as f32,
    };
    let mut sums = [0f32; 16];
    let (blocks, rest) = lanes.as_chunks::<16>();
    for block in blocks {
        for i in 0..16 {
            sums[i] += block[i];
        }
    }
    sums.iter_mut().zip(rest).for_each(|(sum, x)| *sum += x);
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}
