//! How a product is cut: what is packed, how deep, and who computes which part.

use super::microkernel::{Ahead, MicroKernel, STRIDE_AHEAD};
use super::{Arithmetic, Matrix, Size};
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
/// Rows of A, at most, for which B is read as it lies, if it is no larger than what would be
/// packed at once: else packing pays.
const FEW_ROWS: usize = 2560;

/// The way a product is cut. It depends on sizes and layouts, not on the number of threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    /// Whether the micro-kernel reads A, and B, as they lie.
    pub direct_a: bool,
    pub direct_b: bool,
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
        let direct_a = as_it_is(a) && (a.column == 1 && k.is_multiple_of(pair) || spread);
        let whole_tiles = kernel.masks || n.is_multiple_of(kernel.columns);
        let small = m <= FEW_ROWS && n * k <= PACKED_B;
        let direct_b = as_it_is(b) && pair == 1 && b.column == 1 && whole_tiles && small;
        let lanes = k.div_ceil(pair).max(1);
        let slabs = if lanes <= WHOLE { 1 } else { lanes.div_ceil(SLAB) };
        let slab = lanes.div_ceil(slabs).next_multiple_of(STRIDE_AHEAD);
        let width = n.next_multiple_of(kernel.columns).max(kernel.columns);
        let (deep, wide) = if direct_b {
            (slabs, width)
        } else {
            let wide = (PACKED_B / slab).max(1).next_multiple_of(kernel.columns).min(width);
            ((PACKED_B / (slab * wide)).clamp(1, slabs), wide)
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
        let down = tiles.div_ceil(TILES);
        let down =
            if across.is_multiple_of(threads) { down } else { down.next_multiple_of(threads) };
        Share { tiles, down: down.min(tiles), across, width, columns, m: self.m, tile: self.tile }
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

/// Blocks of rows and of columns; every task is one of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    tiles: usize,
    /// Blocks of rows, of about as many tiles each.
    down: usize,
    /// Blocks of columns.
    across: usize,
    width: usize,
    columns: usize,
    m: usize,
    tile: usize,
}

impl Share {
    pub(super) fn tasks(&self) -> usize {
        self.down * self.across
    }

    /// First and count of the rows, then of the columns.
    pub(super) fn task(&self, i: usize) -> ((usize, usize), (usize, usize)) {
        let (block, down) = (i / self.down, i % self.down);
        let row = |block: usize| (block * self.tiles / self.down * self.tile).min(self.m);
        let (first, column) = (row(down), block * self.width);
        ((first, row(down + 1) - first), (column, self.width.min(self.columns - column)))
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
