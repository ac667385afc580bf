//! Elementwise programs over tiles: one pass over memory for a whole chain of operations.
//!
//! A tile is a run of elements small enough that all intermediate values stay in the first-level
//! cache. Instructions work on 32-bit lanes (f32, int32, or 0/1 for bool); narrower types are
//! widened when a tile is loaded and rounded when it is stored.

use super::Pointers;
use super::convert::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use super::instruction::{Instruction, execute};
use super::isa::{Isa, multiversion};
use orion_tensor::DType;

/// Most registers of one program: inputs, numbers and results.
pub(crate) const MAX_REGISTERS: usize = 128;

/// Lanes of all slots of one program together: what is left of a first-level cache beside the
/// operands that are read in place.
const SLOT_LANES: usize = 8192;

/// Columns of a tile that is a part of a band: rows of this length are copied without a loop.
pub(crate) const BAND: usize = 64;

/// Columns of a tile with an input that runs down columns.
const SQUARE: usize = 32;

/// How a program reads or writes one tensor: strides, in elements, over its iteration space.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub buffer: usize,
    pub dtype: DType,
    /// Where element 0 is, in elements from the start of the buffer.
    pub offset: isize,
    /// Over the outer axes.
    pub outer: Vec<isize>,
    /// Over the innermost axis.
    pub inner: isize,
    /// The distance of consecutive rows, where it is the same everywhere.
    pub row: Option<isize>,
}

/// Where a register's lanes are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    Lanes(*const u32),
    Number(u32),
}

/// An elementwise program over an iteration space. Registers are numbered: inputs, then numbers,
/// then one per instruction.
#[derive(Debug, Clone, Default)]
pub(crate) struct TileProgram {
    /// Axes but the innermost.
    pub outer: Vec<usize>,
    /// Size of the innermost axis.
    pub inner: usize,
    pub inputs: Vec<Access>,
    /// Bits of constants.
    pub numbers: Vec<u32>,
    pub instructions: Vec<Instruction>,
    /// What is stored where.
    pub outputs: Vec<(usize, Access)>,
    /// The slot of each register; numbers have none.
    pub slots: Vec<usize>,
    /// How many slots there are.
    pub slot_count: usize,
    /// Lanes of a slot: a power of two.
    pub tile: usize,
    /// Most columns of a tile: `tile`, or fewer where an input runs down columns in memory, so
    /// that a tile is nearly square and uses the whole of every cache line.
    pub reach: usize,
    /// Rows of a tile.
    pub rows_at_once: usize,
    /// Tiles of a row.
    pub per_row: usize,
}

/// A part of the iteration space: some whole rows, or a part of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    pub row: usize,
    pub rows: usize,
    pub start: usize,
    pub len: usize,
}

impl TileProgram {
    /// Assigns slots, reusing those of registers that are not read again.
    pub(crate) fn finish(&mut self, kept: &[usize]) {
        let first = self.inputs.len() + self.numbers.len();
        let registers = first + self.instructions.len();
        assert!(registers <= MAX_REGISTERS, "the fusion pass keeps groups small");
        let mut last = vec![0usize; registers];
        for (i, instruction) in self.instructions.iter().enumerate() {
            for &a in instruction.operands() {
                last[usize::from(a)] = i;
            }
        }
        for r in self.outputs.iter().map(|(r, _)| *r).chain(kept.iter().copied()) {
            last[r] = usize::MAX;
        }
        // What is the same in every row is loaded once and has to stay.
        for (r, _) in self.inputs.iter().enumerate().filter(|(_, a)| a.repeats()) {
            last[r] = usize::MAX;
        }
        self.slots = vec![0; registers];
        let mut count = self.inputs.len();
        let mut free: Vec<usize> = Vec::new();
        for r in 0..self.inputs.len() {
            self.slots[r] = r;
        }
        for i in 0..self.instructions.len() {
            let r = first + i;
            // The result must not share a slot with an operand: loops assume no overlap.
            self.slots[r] = free.pop().unwrap_or_else(|| {
                count += 1;
                count - 1
            });
            let mut dying: Vec<usize> =
                self.instructions[i].operands().iter().map(|&a| usize::from(a)).collect();
            dying.push(r);
            dying.sort_unstable();
            dying.dedup();
            for a in dying {
                let is_number = (self.inputs.len()..first).contains(&a);
                let is_dead = last[a] == i || a == r && last[a] == 0;
                if is_dead && !is_number {
                    free.push(self.slots[a]);
                }
            }
        }
        self.slot_count = count.max(1);
        let lanes = (SLOT_LANES / self.slot_count).clamp(128, 1024);
        self.tile = 1 << lanes.ilog2();
        let runs_down = self.inputs.iter().any(Access::runs_down);
        self.reach = if runs_down { SQUARE.min(self.tile) } else { self.tile };
        (self.rows_at_once, self.per_row) = self.shape();
    }

    /// Lanes of scratch a thread needs.
    pub(crate) fn scratch_lanes(&self) -> usize {
        self.slot_count * self.tile
    }

    fn rows(&self) -> usize {
        self.outer.iter().product()
    }

    /// Rows per tile where rows are short, and tiles per row where they are long.
    fn shape(&self) -> (usize, usize) {
        let columns = self.inner.clamp(1, self.reach);
        let most = (self.tile / columns).clamp(1, self.rows().max(1));
        let per_row = if self.inner >= self.reach { self.inner.div_ceil(self.reach) } else { 1 };
        // Tiles that do not cross the end of an axis have rows at one distance.
        let axis = self.outer.last().copied().unwrap_or(1);
        let divisor = (1..=most).rev().find(|&rows| axis.is_multiple_of(rows)).unwrap_or(1);
        let mut accesses = self.inputs.iter().chain(self.outputs.iter().map(|(_, a)| a));
        let regular = accesses.all(|access| access.row.is_some());
        (if regular || divisor * 2 < most { most } else { divisor }, per_row)
    }

    /// How many tiles cover the iteration space.
    pub(crate) fn tile_count(&self) -> usize {
        let rows = self.rows_at_once;
        if self.inner == 0 { 0 } else { self.rows().div_ceil(rows) * self.per_row }
    }

    /// The tile of that number.
    pub(crate) fn tile_at(&self, index: usize) -> Tile {
        let (rows, per_row) = (self.rows_at_once, self.per_row);
        let row = index / per_row * rows;
        let start = index % per_row * self.reach;
        Tile {
            row,
            rows: rows.min(self.rows() - row),
            start,
            len: self.reach.max(if per_row == 1 { self.inner } else { 0 }).min(self.inner - start),
        }
    }

    /// Elements of the iteration space.
    pub(crate) fn element_count(&self) -> usize {
        self.rows() * self.inner
    }
}

impl Access {
    /// Whether neighbours in memory are neighbours in a column.
    fn runs_down(&self) -> bool {
        self.inner.abs() > 1 && self.outer.last() == Some(&1)
    }

    /// Whether it reads the same lanes in every row.
    fn repeats(&self) -> bool {
        self.inner != 0 && self.row == Some(0) && !self.outer.is_empty()
    }

    /// The distance of the rows of a tile, where it is the same for all of them.
    #[inline(always)]
    fn row_distance(&self, tile: Tile, outer: &[usize]) -> Option<isize> {
        let last = *outer.last()?;
        let together = tile.row % last + tile.rows <= last;
        self.row.or_else(|| together.then(|| self.outer[outer.len() - 1]))
    }

    /// Where a row begins, in elements from the start of the buffer.
    #[inline(always)]
    fn row_offset(&self, mut row: usize, outer: &[usize]) -> isize {
        if let Some(stride) = self.row {
            return self.offset + row as isize * stride;
        }
        let mut offset = self.offset;
        for (&size, &stride) in outer.iter().zip(&self.outer).rev() {
            offset += (row % size) as isize * stride;
            row /= size;
        }
        offset
    }

    /// Whether a tile's elements lie side by side in memory.
    #[inline(always)]
    fn is_dense(&self, tile: Tile, outer: &[usize]) -> bool {
        let distance = || self.row_distance(tile, outer);
        self.inner == 1 && (tile.rows == 1 || distance() == Some(tile.len as isize))
    }
}

multiversion! {
    /// Reads `n` elements, `stride` apart, as lanes.
    ///
    /// # Safety
    /// The elements are readable as `dtype`, `lanes` is writable for `n` lanes, and they do not
    /// overlap.
    unsafe fn widen(dtype: DType, from: *const u8, stride: isize, n: usize, lanes: *mut u32)
        = widen_inner
}

#[inline(always)]
unsafe fn widen_inner<const FMA: bool>(
    dtype: DType,
    from: *const u8,
    stride: isize,
    n: usize,
    lanes: *mut u32,
) {
    macro_rules! each {
        ($ty:ty, $f:expr) => {{
            let from = from.cast::<$ty>();
            if stride == 1 {
                for i in 0..n {
                    // SAFETY: i < n; see the function's contract.
                    unsafe { *lanes.add(i) = $f(from.add(i).read_unaligned()) }
                }
            } else if stride == 0 {
                // SAFETY: element 0 is readable when n > 0, which holds for every tile.
                let value = $f(unsafe { from.read_unaligned() });
                for i in 0..n {
                    // SAFETY: i < n.
                    unsafe { *lanes.add(i) = value }
                }
            } else {
                for i in 0..n {
                    // SAFETY: i < n; see the function's contract.
                    let value = unsafe { from.offset(i as isize * stride).read_unaligned() };
                    // SAFETY: as above.
                    unsafe { *lanes.add(i) = $f(value) }
                }
            }
        }};
    }
    match dtype {
        DType::F32 | DType::I32 => each!(u32, |v: u32| v),
        DType::F16 => each!(u16, |v| f16_to_f32(v).to_bits()),
        DType::BF16 => each!(u16, |v| bf16_to_f32(v).to_bits()),
        DType::Bool | DType::U8 => each!(u8, u32::from),
        DType::I8 => each!(i8, |v| i32::from(v) as u32),
        DType::U16 => each!(u16, u32::from),
        DType::I16 => each!(i16, |v| i32::from(v) as u32),
        _ => unreachable!("the planner sends other types to the reference evaluator"),
    }
}

/// Reads a tile whose columns lie in memory one after another.
///
/// # Safety
/// As for [`widen`], for every column.
unsafe fn widen_down(isa: Isa, access: &Access, from: *const u8, tile: Tile, lanes: *mut u32) {
    let size = access.dtype.size_bytes() as isize;
    let mut column = [0u32; SQUARE];
    for first in (0..tile.rows).step_by(SQUARE) {
        let rows = SQUARE.min(tile.rows - first);
        for j in 0..tile.len {
            // SAFETY: the column is inside the buffer, the tile inside the slot.
            unsafe {
                let from = from.offset((j as isize * access.inner + first as isize) * size);
                widen(isa, access.dtype, from, 1, rows, column.as_mut_ptr());
                for (i, &value) in column[..rows].iter().enumerate() {
                    *lanes.add((first + i) * tile.len + j) = value;
                }
            }
        }
    }
}

multiversion! {
    /// Reads the rows of a tile, `distance` lanes apart; each of one lane that is `repeated`, or
    /// of lanes side by side.
    ///
    /// # Safety
    /// As for [`widen`], for every row.
    unsafe fn read_rows(from: *const u32, repeated: bool, distance: isize, tile: Tile,
        lanes: *mut u32) = read_rows_inner
}

#[inline(always)]
unsafe fn read_rows_inner<const FMA: bool>(
    from: *const u32,
    repeated: bool,
    distance: isize,
    tile: Tile,
    lanes: *mut u32,
) {
    for row in 0..tile.rows {
        // SAFETY: the caller's promise.
        unsafe {
            let from = from.offset(row as isize * distance);
            let to = lanes.add(row * tile.len);
            if repeated {
                let value = from.read_unaligned();
                if tile.len == BAND {
                    to.cast::<[u32; BAND]>().write_unaligned([value; BAND]);
                } else {
                    std::slice::from_raw_parts_mut(to, tile.len).fill(value);
                }
            } else {
                copy_row(from, to, tile.len);
            }
        }
    }
}

/// Copies the lanes of a row.
///
/// # Safety
/// They are readable and writable, and do not overlap.
#[inline(always)]
unsafe fn copy_row(from: *const u32, to: *mut u32, len: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if len == BAND {
            let row = from.cast::<[u32; BAND]>().read_unaligned();
            to.cast::<[u32; BAND]>().write_unaligned(row);
        } else {
            from.cast::<u8>().copy_to_nonoverlapping(to.cast(), len * 4);
        }
    }
}

/// Asks for the lines a tile reads, so that they arrive while another tile is computed.
#[inline(always)]
pub(super) fn prefetch(program: &TileProgram, pointers: &Pointers, tile: Tile) {
    #[cfg(target_arch = "x86_64")]
    for access in program.inputs.iter().filter(|a| a.inner == 1) {
        let size = access.dtype.size_bytes() as isize;
        let start = access.row_offset(tile.row, &program.outer) + tile.start as isize;
        let from = pointers.get(access.buffer).wrapping_offset(start * size);
        let (runs, distance) = match access.row_distance(tile, &program.outer) {
            _ if access.is_dense(tile, &program.outer) => (1, 0),
            Some(0) | None => continue,
            Some(distance) => (tile.rows, distance),
        };
        let run = tile.rows / runs * tile.len * size as usize;
        for row in 0..runs as isize {
            let from = from.wrapping_offset(row * distance * size);
            for line in (0..run).step_by(64) {
                // SAFETY: a hint, which reads nothing; SSE is part of the architecture.
                unsafe {
                    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                    _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line).cast());
                }
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (program, pointers, tile);
}

multiversion! {
    /// Writes rows that are side by side in a register as rows `distance` lanes apart.
    ///
    /// # Safety
    /// As for [`widen`], the other way, for every row.
    unsafe fn write_rows(lanes: *const u32, to: *mut u32, distance: isize, tile: Tile)
        = write_rows_inner
}

#[inline(always)]
unsafe fn write_rows_inner<const FMA: bool>(
    lanes: *const u32,
    to: *mut u32,
    distance: isize,
    tile: Tile,
) {
    for row in 0..tile.rows {
        // SAFETY: the caller's promise.
        unsafe {
            let from = lanes.add(row * tile.len);
            copy_row(from, to.wrapping_offset(row as isize * distance), tile.len);
        }
    }
}

multiversion! {
    /// Writes `n` lanes as elements `stride` apart.
    ///
    /// # Safety
    /// As for [`widen`], the other way.
    unsafe fn narrow(dtype: DType, lanes: Source, to: *mut u8, stride: isize, n: usize)
        = narrow_inner
}

#[inline(always)]
unsafe fn narrow_inner<const FMA: bool>(
    dtype: DType,
    lanes: Source,
    to: *mut u8,
    stride: isize,
    n: usize,
) {
    macro_rules! each {
        ($ty:ty, $f:expr) => {{
            let to = to.cast::<$ty>();
            match lanes {
                Source::Lanes(lanes) if stride == 1 => {
                    for i in 0..n {
                        // SAFETY: i < n; see the function's contract.
                        unsafe { to.add(i).write_unaligned($f(*lanes.add(i))) }
                    }
                }
                Source::Lanes(lanes) => {
                    for i in 0..n {
                        // SAFETY: i < n; see the function's contract.
                        let value = $f(unsafe { *lanes.add(i) });
                        // SAFETY: as above.
                        unsafe { to.offset(i as isize * stride).write_unaligned(value) }
                    }
                }
                Source::Number(bits) => {
                    let value = $f(bits);
                    for i in 0..n {
                        // SAFETY: i < n; see the function's contract.
                        unsafe { to.offset(i as isize * stride).write_unaligned(value) }
                    }
                }
            }
        }};
    }
    match dtype {
        DType::F32 | DType::I32 => each!(u32, |v: u32| v),
        DType::F16 => each!(u16, |v| f32_to_f16(f32::from_bits(v))),
        DType::BF16 => each!(u16, |v| f32_to_bf16(f32::from_bits(v))),
        DType::Bool | DType::U8 | DType::I8 => each!(u8, |v| v as u8),
        DType::U16 | DType::I16 => each!(u16, |v| v as u16),
        _ => unreachable!("the planner sends other types to the reference evaluator"),
    }
}

/// Where every register's lanes are, from tile to tile.
pub(crate) struct Registers {
    sources: [Source; MAX_REGISTERS],
    /// Where the lanes of an input that repeats were loaded from, and how many.
    loaded: [(*const u8, usize); MAX_REGISTERS],
}

impl Registers {
    pub(crate) fn new(program: &TileProgram) -> Self {
        let mut sources = [Source::Number(0); MAX_REGISTERS];
        let numbers = sources.iter_mut().skip(program.inputs.len());
        numbers.zip(&program.numbers).for_each(|(to, &bits)| *to = Source::Number(bits));
        Self { sources, loaded: [(std::ptr::null(), 0); MAX_REGISTERS] }
    }

    #[inline(always)]
    pub(crate) fn get(&self, register: usize) -> Source {
        self.sources[register]
    }
}

/// Evaluates every register of a program over one tile.
///
/// # Safety
/// Every access stays inside its buffer, `scratch` holds `scratch_lanes` lanes that nobody else
/// uses, no input overlaps what another thread writes meanwhile, and `registers` are those of the
/// program, which nothing else used since with another scratch or other contents of the buffers
/// that repeat. The machine has the instructions.
pub(crate) unsafe fn evaluate(
    isa: Isa,
    program: &TileProgram,
    pointers: &Pointers,
    tile: Tile,
    scratch: *mut u32,
    registers: &mut Registers,
) {
    let loaded = &mut registers.loaded;
    let registers = &mut registers.sources;
    let n = tile.rows * tile.len;
    for (r, access) in program.inputs.iter().enumerate() {
        let size = access.dtype.size_bytes() as isize;
        let base = pointers.get(access.buffer);
        let start =
            access.row_offset(tile.row, &program.outer) + tile.start as isize * access.inner;
        // SAFETY: inside the buffer by the caller's promise.
        let from = unsafe { base.offset(start * size) };
        let is_lane = matches!(access.dtype, DType::F32 | DType::I32);
        let is_dense = access.is_dense(tile, &program.outer);
        if is_lane && is_dense && from.cast::<u32>().is_aligned() {
            registers[r] = Source::Lanes(from.cast());
            continue;
        }
        if access.inner == 0 && (tile.rows == 1 || access.row == Some(0)) {
            let mut bits = 0;
            // SAFETY: the element is inside the buffer.
            unsafe { widen(isa, access.dtype, from, 0, 1, &raw mut bits) };
            registers[r] = Source::Number(bits);
            continue;
        }
        // SAFETY: slots lie inside the scratch.
        let lanes = unsafe { scratch.add(program.slots[r] * program.tile) };
        registers[r] = Source::Lanes(lanes);
        if access.repeats() {
            let here = from.cast_const();
            if loaded[r] == (here, n) {
                continue;
            }
            loaded[r] = (here, n);
        }
        if is_dense {
            // SAFETY: the tile's elements are inside the buffer, n fits the slot.
            unsafe { widen(isa, access.dtype, from, 1, n, lanes) };
        } else if access.runs_down()
            && tile.rows > 1
            && access.row_distance(tile, &program.outer) == Some(1)
        {
            // SAFETY: as above.
            unsafe { widen_down(isa, access, from, tile, lanes) };
        } else if is_lane
            && matches!(access.inner, 0 | 1)
            && let Some(distance) = access.row_distance(tile, &program.outer)
        {
            // SAFETY: as above.
            unsafe { read_rows(isa, from.cast(), access.inner == 0, distance, tile, lanes) };
        } else if tile.len == 1
            && let Some(stride) = access.row
        {
            // SAFETY: as above.
            unsafe { widen(isa, access.dtype, from, stride, n, lanes) };
        } else {
            for row in 0..tile.rows {
                let start = access.row_offset(tile.row + row, &program.outer)
                    + tile.start as isize * access.inner;
                // SAFETY: as above, row by row.
                unsafe {
                    let from = base.offset(start * size);
                    let to = lanes.add(row * tile.len);
                    widen(isa, access.dtype, from, access.inner, tile.len, to);
                }
            }
        }
    }
    let first = program.inputs.len() + program.numbers.len();
    for (i, instruction) in program.instructions.iter().enumerate() {
        // SAFETY: slots lie inside the scratch and differ from the operands' slots.
        unsafe {
            let lanes = scratch.add(program.slots[first + i] * program.tile);
            execute(isa, instruction, registers, lanes, n);
            registers[first + i] = Source::Lanes(lanes);
        }
    }
}

/// Runs a program over `count` tiles from `first` on and stores its outputs.
///
/// # Safety
/// As for [`evaluate`]; an output may share memory with an input only element by element.
pub(crate) unsafe fn run_tiles(
    isa: Isa,
    program: &TileProgram,
    pointers: &Pointers,
    first: usize,
    count: usize,
    scratch: *mut u32,
) {
    let mut registers = Registers::new(program);
    for index in first..first + count {
        let tile = program.tile_at(index);
        if index + 1 < first + count {
            prefetch(program, pointers, program.tile_at(index + 1));
        }
        // SAFETY: the caller's promise is passed on.
        unsafe {
            evaluate(isa, program, pointers, tile, scratch, &mut registers);
            store(isa, program, pointers, tile, &registers);
        }
    }
}

/// Stores the outputs of a tile that was evaluated.
///
/// # Safety
/// As for [`evaluate`]; an output may share memory with an input only element by element.
pub(crate) unsafe fn store(
    isa: Isa,
    program: &TileProgram,
    pointers: &Pointers,
    tile: Tile,
    registers: &Registers,
) {
    for (r, access) in &program.outputs {
        let size = access.dtype.size_bytes() as isize;
        let base = pointers.get(access.buffer);
        let dense = access.is_dense(tile, &program.outer);
        if let Source::Lanes(lanes) = registers.get(*r)
            && matches!(access.dtype, DType::F32 | DType::I32)
            && access.inner == 1
            && !dense
            && let Some(distance) = access.row_distance(tile, &program.outer)
        {
            let start = access.row_offset(tile.row, &program.outer) + tile.start as isize;
            let to = base.cast::<u32>().wrapping_offset(start);
            // SAFETY: outputs stay inside their buffers; the register has a lane for every
            // element of the tile.
            unsafe { write_rows(isa, lanes, to, distance, tile) };
            continue;
        }
        let steps = if dense { 1 } else { tile.rows };
        let n = if dense { tile.rows * tile.len } else { tile.len };
        for row in 0..steps {
            let start = access.row_offset(tile.row + row, &program.outer)
                + tile.start as isize * access.inner;
            let source = match registers.get(*r) {
                // SAFETY: the register has a lane for every element of the tile.
                Source::Lanes(l) => Source::Lanes(unsafe { l.add(row * tile.len) }),
                number => number,
            };
            // SAFETY: outputs stay inside their buffers.
            unsafe {
                narrow(isa, access.dtype, source, base.offset(start * size), access.inner, n);
            }
        }
    }
}
