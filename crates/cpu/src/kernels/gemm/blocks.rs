//! How a product is cut: what is packed, how deep, and who computes which part.

use super::microkernel::{Ahead, MicroKernel, STRIDE_AHEAD};
use super::{Arithmetic, Destination, Matrix, Size};
use crate::precision::Precision;
use orion_tensor::DType;

/// Lanes of K in one slab, at most, where there is more than one: a tile's rows of A and its
/// panel of B are within reach of the second-level cache.
const SLAB: usize = 768;
/// Up to so many lanes, all of K is one slab.
const WHOLE: usize = 896;
/// Floats that are this far apart share a set of a first-level cache.
const ONE_SET: isize = 1024;
/// Tiles of rows in one block of A, at most.
const TILES: usize = 8;
/// Lanes of a block of B that a block of A is multiplied with: most of a second-level cache.
const BLOCK_B: usize = 200 << 10;
/// Lanes of B packed before they are used, at most: within a third-level cache.
const PACKED_B: usize = 1 << 20;
/// Lanes of B, at most, that every thread packs for itself, and rows of A for each thread, at
/// least, that this is worth: what another core has just written costs more to get than to pack.
const PRIVATE_B: usize = PACKED_B / 2;
const PRIVATE_ROWS: usize = 96;
/// Rows of A, at most, for which B is read as it lies, if it is no larger than what would be
/// packed at once: else packing pays.
const FEW_ROWS: usize = 2560;

/// Bytes of C from which on it is written past the caches, as most of it would leave them before
/// somebody reads it: of any product, and of one that is larger than its factors. Those are
/// mostly gradients of weights, which are read long after.
const STREAM: usize = 16 << 20;
const STREAM_LARGE: usize = 1 << 20;

/// The way a product is cut. It depends on sizes and layouts, not on the number of threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    /// Whether the micro-kernel reads A, and B, as they lie.
    pub direct_a: bool,
    pub direct_b: bool,
    /// Whether every thread packs all of B for itself.
    pub private_b: bool,
    /// Elements of K in a slab.
    pub slab: usize,
    /// Elements of K, and columns, of B packed at once.
    pub deep: usize,
    pub wide: usize,
    /// Columns of a block, a multiple of the tile's.
    columns: usize,
    m: usize,
    tile: usize,
    tile_columns: usize,
    pair: usize,
}

impl Blocks {
    pub(super) fn of(
        kernel: &MicroKernel,
        arithmetic: Arithmetic,
        threads: usize,
        size: Size,
        a: Matrix,
        b: Matrix,
    ) -> Self {
        let Size { m, n, k } = size;
        let pair = kernel.pair;
        let as_it_is = |m: Matrix| match arithmetic.precision {
            Precision::F32 => m.dtype == DType::F32,
            Precision::Bf16 => pair == 2 && m.dtype == DType::BF16,
        };
        // Down a column, lanes may be at any distance that does not put all into one set of a cache.
        let spread = a.row == 1 && pair == 1 && a.column % ONE_SET != 0;
        // Along rows, rows must not all begin in one set.
        let rows_apart = (a.row * a.dtype.size_bytes() as isize) % (4 * ONE_SET) != 0;
        let along = a.column == 1 && k.is_multiple_of(pair) && (m == 1 || rows_apart);
        let direct_a = as_it_is(a) && (along || spread);
        let whole_tiles = kernel.masks || n.is_multiple_of(kernel.columns);
        let small = m <= FEW_ROWS && n * k <= PACKED_B;
        let direct_b = as_it_is(b) && pair == 1 && b.column == 1 && whole_tiles && small;
        let lanes = k.div_ceil(pair).max(1);
        let slabs = if lanes <= WHOLE { 1 } else { lanes.div_ceil(SLAB) };
        // Blocks of scales begin at multiples of 16 elements, and slabs must as well.
        let unit =
            if a.scales.is_some() { STRIDE_AHEAD.next_multiple_of(16) } else { STRIDE_AHEAD };
        let slab = lanes.div_ceil(slabs).next_multiple_of(unit);
        let width = n.next_multiple_of(kernel.columns).max(kernel.columns);
        let private_b = !direct_b
            && (2..=64).contains(&threads)
            && m >= PRIVATE_ROWS * threads
            && width * slab <= PRIVATE_B;
        let packed = if private_b { PRIVATE_B } else { PACKED_B };
        let (deep, wide) = if direct_b {
            (slabs, width)
        } else {
            let wide = (packed / slab).max(1).next_multiple_of(kernel.columns).min(width);
            ((packed / (slab * wide)).clamp(1, slabs), wide)
        };
        let columns = if wide * slab <= BLOCK_B {
            wide
        } else {
            let blocks = (wide * slab).div_ceil(BLOCK_B * 2 / 3);
            wide.div_ceil(blocks).next_multiple_of(kernel.columns)
        };
        Self {
            direct_a,
            direct_b,
            private_b,
            slab: slab * pair,
            deep: deep * slab * pair,
            wide,
            columns,
            m,
            tile: kernel.rows,
            tile_columns: kernel.columns,
            pair,
        }
    }

    /// Whether C is written past the caches: it is large, written once, and lies in whole lines.
    pub(super) fn stream(&self, size: Size, c: Destination) -> bool {
        let line = 64;
        let large = size.m * size.n > (size.m + size.n) * size.k;
        let least = if large { STREAM_LARGE } else { STREAM };
        size.m * size.n * 4 >= least
            && size.k <= self.slab
            && (c.pointer as usize).is_multiple_of(line)
            && (c.row * 4) % line as isize == 0
    }

    /// Lanes that packed B takes.
    pub(super) fn packed_b(&self) -> usize {
        if self.direct_b { 0 } else { self.wide * self.deep / self.pair + 64 }
    }

    /// Lanes that a packed block of A takes.
    pub(super) fn packed_a(&self) -> usize {
        let rows = self.m.next_multiple_of(self.tile).min(TILES * self.tile);
        if self.direct_a { 0 } else { rows * Self::row_lanes(self.slab / self.pair) + 64 }
    }

    /// The distance of packed rows: not a multiple of what would put all into one set of a cache.
    pub(super) fn row_lanes(lanes: usize) -> usize {
        lanes.next_multiple_of(16) + 16
    }

    /// Lanes from panel to panel of packed A, which may be written a whole vector past its end.
    pub(super) fn panel_lanes(&self, lanes: usize) -> usize {
        lanes * self.tile + 16
    }

    /// How `columns` of C are shared among threads.
    pub(super) fn share(&self, threads: usize, columns: usize) -> Share {
        let tiles = self.m.div_ceil(self.tile);
        let mut width = self.columns.min(columns.next_multiple_of(self.tile_columns));
        if tiles < threads {
            // Too few rows for everybody: cut the columns.
            let wanted = threads.div_ceil(tiles.max(1));
            let narrow = columns.div_ceil(wanted).next_multiple_of(self.tile_columns);
            width = width.min(narrow);
        }
        let across = columns.div_ceil(width);
        Share { tiles, threads, across, width, columns, m: self.m, tile: self.tile }
    }

    /// The memory of a part of A.
    pub(super) fn region(
        &self,
        a: Matrix,
        rows: (usize, usize),
        k0: usize,
        depth: usize,
    ) -> Region {
        let bytes = a.dtype.size_bytes() as isize;
        let start = rows.0 as isize * a.row + k0 as isize * a.column;
        let start = a.pointer.wrapping_offset(start * bytes);
        match (a.row, a.column) {
            (row, 1) => Region {
                start,
                run: depth * bytes as usize,
                runs: rows.1,
                distance: row * bytes,
                along: true,
            },
            (1, column) => Region {
                start,
                run: rows.1 * bytes as usize,
                runs: depth,
                distance: column * bytes,
                along: false,
            },
            _ => Region::NONE,
        }
    }
}

/// Blocks of rows and of columns; every task is one of each. In the last block of columns, blocks
/// of rows get smaller towards the end, so that all threads finish at about the same time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    tiles: usize,
    threads: usize,
    /// Blocks of columns.
    across: usize,
    width: usize,
    columns: usize,
    m: usize,
    tile: usize,
}

impl Share {
    /// Blocks of rows in every block of columns but the last.
    fn down(&self) -> usize {
        self.tiles.div_ceil(TILES)
    }

    /// First and count of the tiles of a block of rows in the last block of columns, or how many
    /// blocks there are.
    fn shrinking(&self, block: usize) -> Result<(usize, usize), usize> {
        let shares = 2 * self.threads;
        // So many blocks are whole.
        let whole = (self.tiles / TILES).saturating_sub(shares).min(block);
        let (mut first, mut i) = (whole * TILES, whole);
        while first < self.tiles {
            let left = self.tiles - first;
            let count = left.div_ceil(shares).clamp(2, TILES).min(left);
            if i == block {
                return Ok((first, count));
            }
            (first, i) = (first + count, i + 1);
        }
        Err(i)
    }

    pub(super) fn tasks(&self) -> usize {
        let last = self.shrinking(usize::MAX).expect_err("there are not so many");
        (self.across - 1) * self.down() + last
    }

    /// First and count of the rows, then of the columns.
    pub(super) fn task(&self, i: usize) -> ((usize, usize), (usize, usize)) {
        let whole = (self.across - 1) * self.down();
        let (block, tiles) = if i < whole {
            let (block, down) = (i / self.down(), i % self.down());
            let tile = |down: usize| down * self.tiles / self.down();
            (block, (tile(down), tile(down + 1) - tile(down)))
        } else {
            (self.across - 1, self.shrinking(i - whole).expect("a task"))
        };
        let first = tiles.0 * self.tile;
        let rows = (tiles.1 * self.tile).min(self.m - first);
        let column = block * self.width;
        ((first, rows), (column, self.width.min(self.columns - column)))
    }
}

/// Memory of `runs` contiguous stretches of `run` bytes, `distance` bytes apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    start: *const u8,
    run: usize,
    runs: usize,
    distance: isize,
    /// Whether runs lie along K.
    along: bool,
}

impl Region {
    pub(super) const NONE: Self =
        Self { start: std::ptr::null(), run: 0, runs: 0, distance: 0, along: true };

    /// What each tile of that depth is to ask for, so that a block of tiles asks for most.
    pub(super) fn steps(self, lanes: usize) -> Steps {
        Steps { region: self, bytes: lanes / STRIDE_AHEAD * 64, tile: 0 }
    }
}

/// What the tiles of a block look ahead for, one after another.
pub(super) struct Steps {
    region: Region,
    /// What one tile covers of a run along K with one of its two lines.
    bytes: usize,
    tile: usize,
}

impl Steps {
    pub(super) fn next(&mut self) -> Ahead {
        let Region { start, run, runs, distance, along } = self.region;
        let tile = self.tile;
        self.tile += 1;
        let at = |run: usize, byte: usize| {
            start.wrapping_offset(run as isize * distance).wrapping_add(byte)
        };
        if along {
            // Two rows, or the halves of one that is longer.
            let half = run / 2;
            let long = run > self.bytes + 64;
            let row = if long { tile } else { 2 * tile };
            if row < runs {
                let near = if long { half as isize } else { distance };
                return Ahead { start: at(row, 0), near, step: 64 };
            }
        } else {
            // Two lines of as many rows as there are steps.
            let pairs = (run + 64).div_ceil(128).max(1);
            let row = tile / pairs * (self.bytes / 64);
            if row < runs {
                return Ahead { start: at(row, tile % pairs * 128), near: 64, step: distance };
            }
        }
        Ahead { start, near: 0, step: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_every_part_of_c_once() {
        for (m, columns, threads) in [
            (1usize, 32usize, 2),
            (300, 64, 2),
            (768, 100, 2),
            (2500, 96, 3),
            (12, 640, 5),
            (25, 64, 8),
        ] {
            let (tile, tile_columns, width) = (12, 32, 64);
            let across = columns.div_ceil(width);
            let tiles = m.div_ceil(tile);
            let share = Share { tiles, threads, across, width, columns, m, tile };
            let mut times = vec![0; m * columns];
            for i in 0..share.tasks() {
                let (rows, columns_here) = share.task(i);
                assert!(rows.0 % tile == 0 && rows.1 <= TILES * tile);
                assert!(columns_here.0 % tile_columns == 0);
                for row in rows.0..rows.0 + rows.1 {
                    for column in columns_here.0..columns_here.0 + columns_here.1 {
                        times[row * columns + column] += 1;
                    }
                }
            }
            assert!(times.iter().all(|&n| n == 1), "{m} rows, {columns} columns");
        }
    }
}
