//! The innermost loop of a matrix product: a tile of C in registers.
//!
//! One loop for every instruction set, over [`Lanes`] of 32 bits: an f32, or a pair of bf16 that
//! are neighbours in K. The operands may lie packed or as they are in memory: A is read a lane
//! at a time at any distance, B in rows of whole vectors.
//!
//! Floor: a step of the AVX-512 tile is 24 multiply-adds of 16 lanes, 12 cycles on two pipes,
//! beside 14 loads; with both operands in the first-level cache it runs at 0.99 of the peak.

use super::Arithmetic;
use crate::kernels::isa::Isa;
use crate::precision::Precision;

/// A tile of C and what it is computed from.
pub(super) struct Tile {
    /// Lanes along K.
    pub depth: usize,
    pub a: *const u8,
    /// Bytes from row to row of A, and from lane to lane along K.
    pub a_row: isize,
    pub a_step: isize,
    pub b: *const u8,
    /// Bytes from lane to lane of B along K.
    pub b_step: isize,
    pub c: *mut f32,
    /// Floats from row to row of C.
    pub c_row: isize,
    /// Columns of the tile; only kernels for parts of tiles look at it.
    pub columns: usize,
    /// Whether to add to what is in C.
    pub accumulate: bool,
    /// Whether to write past the caches, where there is an instruction for it: C begins at a
    /// cache line, its rows are whole lines, and nothing is added.
    pub stream: bool,
    pub ahead: Ahead,
}

/// Memory that will be needed after this tile: every [`STRIDE_AHEAD`] lanes along K, the cache lines at `start`
/// and `near` bytes further on are asked for, and `start` moves by `step` bytes.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub start: *const u8,
    pub near: isize,
    pub step: isize,
}

/// Lanes along K between two looks ahead.
pub(super) const STRIDE_AHEAD: usize = 8;

/// Lanes along K before the end of a tile where its part of C is asked for.
const STRIDE_C: usize = 8 * STRIDE_AHEAD;

/// Computes one tile.
///
/// # Safety
/// The machine has the instructions; the operands are readable over `depth` and the kernel's
/// rows and columns (B up to whole vectors, unless the kernel masks); C is writable.
pub(super) type Run = unsafe fn(&Tile);

/// The kernels for one kind of arithmetic.
pub(super) struct MicroKernel {
    pub rows: usize,
    pub columns: usize,
    /// Columns of one vector.
    pub lanes: usize,
    /// Elements of K in one lane.
    pub pair: usize,
    /// Whether tiles narrower than `columns` read no further than their columns.
    pub masks: bool,
    /// Makes what was written past the caches visible before what is written next.
    pub fence: fn(),
    /// For so many rows, from all of a tile's down to one.
    pub heights: &'static [Height],
}

/// Kernels for a number of rows.
pub(super) struct Height {
    pub rows: usize,
    /// For all columns, for fewer than all, and for at most one vector.
    pub full: Run,
    pub part: Run,
    pub narrow: Run,
}

impl MicroKernel {
    /// The kernel of a height for so many columns.
    #[inline]
    pub(super) fn of_width(&self, height: &Height, columns: usize) -> Run {
        if columns == self.columns {
            height.full
        } else if columns <= self.lanes {
            height.narrow
        } else {
            height.part
        }
    }

    /// The best for an instruction set. Where it has no instruction for pairs of bf16, operands
    /// are rounded but packed as f32.
    pub(super) fn of(Arithmetic { isa, precision }: Arithmetic) -> &'static Self {
        match (isa, precision) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Precision::Bf16) if is_x86_feature_detected!("avx512bf16") => {
                &x86::AVX512_BF16
            }
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, _) => &x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, _) => &x86::AVX2,
            #[cfg(target_arch = "aarch64")]
            (Isa::Baseline, Precision::Bf16) if std::arch::is_aarch64_feature_detected!("bf16") => {
                &arm::NEON_BF16
            }
            #[cfg(target_arch = "aarch64")]
            (Isa::Baseline, _) => &arm::NEON,
            #[cfg(not(target_arch = "aarch64"))]
            (Isa::Baseline, _) => &portable::PORTABLE,
        }
    }
}

/// Vectors of 32-bit lanes and their arithmetic.
///
/// # Safety
/// The functions want the machine's instructions, and pointers to whole vectors, or to `count`
/// lanes where they take a count.
trait Lanes {
    /// Lanes of an operand.
    type Operand: Copy;
    /// f32 sums.
    type Sum: Copy;
    /// Lanes in a vector.
    const LANES: usize;

    unsafe fn zero() -> Self::Sum;
    unsafe fn load(from: *const u8) -> Self::Operand;
    /// The first `count` lanes, and anything in the others.
    unsafe fn load_part(from: *const u8, count: usize) -> Self::Operand;
    /// One lane in all lanes.
    unsafe fn splat(from: *const u8) -> Self::Operand;
    unsafe fn multiply_add(a: Self::Operand, b: Self::Operand, sum: Self::Sum) -> Self::Sum;
    /// Writes the sum, or adds it to what is there.
    unsafe fn store(to: *mut f32, sum: Self::Sum, accumulate: bool);
    unsafe fn store_part(to: *mut f32, sum: Self::Sum, accumulate: bool, count: usize);
    /// Writes whole cache lines past the caches.
    unsafe fn stream(to: *mut f32, sum: Self::Sum) {
        // SAFETY: the caller's promise.
        unsafe { Self::store(to, sum, false) }
    }
    unsafe fn prefetch(_address: *const u8) {}
    /// Into the second-level cache.
    unsafe fn prefetch_far(_address: *const u8) {}
}

/// # Safety
/// As for [`Run`].
#[expect(clippy::needless_range_loop, reason = "indices of registers")]
#[inline(always)]
unsafe fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize, const PART: bool>(t: &Tile) {
    let count = |v: usize| t.columns.saturating_sub(v * L::LANES).min(L::LANES);
    // SAFETY: the caller's promise; prefetches may be of any address.
    unsafe {
        let mut sums = [[L::zero(); VECTORS]; ROWS];
        // Every third row; the two after it are at one and two times the distance of rows, which
        // is how processors can address them.
        let mut a = [t.a; 4];
        for i in 1..4 {
            a[i] = a[i - 1].wrapping_offset(3 * t.a_row);
        }
        let mut b = t.b;
        let mut ahead = t.ahead.start;
        let mut left = t.depth;
        // Before the end, so that what is multiplied meanwhile does not push it out again.
        let fetch_c = t.depth.min(STRIDE_C);
        while left > 0 {
            if left <= fetch_c && left + STRIDE_AHEAD > fetch_c && !t.stream {
                for r in 0..ROWS {
                    for v in 0..VECTORS {
                        let to = t.c.wrapping_offset(r as isize * t.c_row);
                        L::prefetch(to.wrapping_add(v * L::LANES).cast());
                    }
                }
            }
            L::prefetch_far(ahead);
            L::prefetch_far(ahead.wrapping_offset(t.ahead.near));
            ahead = ahead.wrapping_offset(t.ahead.step);
            let here = left.min(STRIDE_AHEAD);
            for _ in 0..here {
                let column = |v: usize| {
                    let from = b.wrapping_add(v * L::LANES * 4);
                    if PART { L::load_part(from, count(v)) } else { L::load(from) }
                };
                let mut columns = [column(0); VECTORS];
                for v in 1..VECTORS {
                    columns[v] = column(v);
                }
                for r in 0..ROWS {
                    let x = L::splat(a[r / 3].wrapping_offset((r % 3) as isize * t.a_row));
                    for v in 0..VECTORS {
                        sums[r][v] = L::multiply_add(x, columns[v], sums[r][v]);
                    }
                }
                for a in &mut a {
                    *a = a.wrapping_offset(t.a_step);
                }
                b = b.wrapping_offset(t.b_step);
            }
            left -= here;
        }
        for r in 0..ROWS {
            for v in 0..VECTORS {
                let to = t.c.wrapping_offset(r as isize * t.c_row).wrapping_add(v * L::LANES);
                if PART {
                    L::store_part(to, sums[r][v], t.accumulate, count(v));
                } else if t.stream {
                    L::stream(to, sums[r][v]);
                } else {
                    L::store(to, sums[r][v], t.accumulate);
                }
            }
        }
    }
}

/// Defines `$name::<ROWS, VECTORS, PART>`, compiled with instructions.
macro_rules! kernel {
    ($name:ident, $lanes:ty $(, $features:literal)?) => {
        /// # Safety
        /// As for [`Run`](super::Run).
        $(#[target_feature(enable = $features)])?
        unsafe fn $name<const ROWS: usize, const VECTORS: usize, const PART: bool>(
            t: &super::Tile,
        ) {
            // SAFETY: the caller's promise is passed on.
            unsafe { super::tile::<$lanes, ROWS, VECTORS, PART>(t) }
        }
    };
}

/// The kernels for numbers of rows, the largest first, that make up any other: each of those is
/// as much to compile as all of the planner's rules together.
macro_rules! kernels {
    ($name:ident, $vectors:literal, $lanes:literal, $pair:literal, $masks:literal, $fence:expr, $most:literal $($rows:literal)*) => {
        super::MicroKernel {
            rows: $most,
            columns: $vectors * $lanes,
            lanes: $lanes,
            pair: $pair,
            masks: $masks,
            fence: $fence,
            heights: &[
                kernels!(height $name, $vectors, $most),
                $(kernels!(height $name, $vectors, $rows)),*
            ],
        }
    };
    (height $name:ident, $vectors:literal, $rows:literal) => {
        super::Height {
            rows: $rows,
            full: $name::<$rows, $vectors, false>,
            part: $name::<$rows, $vectors, true>,
            narrow: $name::<$rows, 1, true>,
        }
    };
}

#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "every function passes on what `Lanes` asks for"
)]
mod x86 {
    use super::{Lanes, MicroKernel};
    use std::arch::x86_64::*;

    pub(super) static AVX512: MicroKernel = kernels!(avx512, 2, 16, 1, true, fence, 12 8 4 2 1);
    pub(super) static AVX512_BF16: MicroKernel =
        kernels!(avx512_bf16, 2, 16, 2, true, fence, 12 8 4 2 1);
    pub(super) static AVX2: MicroKernel = kernels!(avx2, 2, 8, 1, false, fence, 6 4 2 1);

    kernel!(avx512, Avx512, "avx512f,avx2,fma");
    kernel!(avx512_bf16, Avx512Bf16, "avx512f,avx512bw,avx512bf16,avx2,fma");
    kernel!(avx2, Avx2, "avx2,fma");

    fn fence() {
        // SAFETY: every processor of the architecture has the instruction.
        unsafe { _mm_sfence() }
    }

    struct Avx512;
    struct Avx512Bf16;
    struct Avx2;

    #[inline(always)]
    fn mask(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as __mmask16
    }

    impl Lanes for Avx512 {
        type Operand = __m512;
        type Sum = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn load(from: *const u8) -> __m512 {
            unsafe { _mm512_loadu_ps(from.cast()) }
        }
        #[inline(always)]
        unsafe fn load_part(from: *const u8, count: usize) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps(mask(count), from.cast()) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const u8) -> __m512 {
            unsafe { _mm512_set1_ps(from.cast::<f32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: __m512, b: __m512, sum: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, sum) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, sum: __m512, accumulate: bool) {
            unsafe {
                let sum = if accumulate { _mm512_add_ps(sum, _mm512_loadu_ps(to)) } else { sum };
                _mm512_storeu_ps(to, sum);
            }
        }
        #[inline(always)]
        unsafe fn store_part(to: *mut f32, sum: __m512, accumulate: bool, count: usize) {
            unsafe {
                let mask = mask(count);
                let old = if accumulate { _mm512_maskz_loadu_ps(mask, to) } else { Self::zero() };
                _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(sum, old));
            }
        }
        #[inline(always)]
        unsafe fn stream(to: *mut f32, sum: __m512) {
            unsafe { _mm512_stream_ps(to, sum) }
        }
        #[inline(always)]
        unsafe fn prefetch(address: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
        }
        #[inline(always)]
        unsafe fn prefetch_far(address: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
        }
    }

    /// A lane is a pair of bf16; `vdpbf16ps` adds both products to the sum.
    impl Lanes for Avx512Bf16 {
        type Operand = __m512i;
        type Sum = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn load(from: *const u8) -> __m512i {
            unsafe { _mm512_loadu_si512(from.cast()) }
        }
        #[inline(always)]
        unsafe fn load_part(from: *const u8, count: usize) -> __m512i {
            unsafe { _mm512_maskz_loadu_epi32(mask(count), from.cast()) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const u8) -> __m512i {
            unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: __m512i, b: __m512i, sum: __m512) -> __m512 {
            // SAFETY: vectors of the same size hold any bits.
            unsafe {
                let pairs = |v: __m512i| std::mem::transmute::<__m512i, __m512bh>(v);
                _mm512_dpbf16_ps(sum, pairs(a), pairs(b))
            }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, sum: __m512, accumulate: bool) {
            unsafe { Avx512::store(to, sum, accumulate) }
        }
        #[inline(always)]
        unsafe fn store_part(to: *mut f32, sum: __m512, accumulate: bool, count: usize) {
            unsafe { Avx512::store_part(to, sum, accumulate, count) }
        }
        #[inline(always)]
        unsafe fn stream(to: *mut f32, sum: __m512) {
            unsafe { Avx512::stream(to, sum) }
        }
        #[inline(always)]
        unsafe fn prefetch(address: *const u8) {
            unsafe { Avx512::prefetch(address) }
        }
        #[inline(always)]
        unsafe fn prefetch_far(address: *const u8) {
            unsafe { Avx512::prefetch_far(address) }
        }
    }

    impl Lanes for Avx2 {
        type Operand = __m256;
        type Sum = __m256;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> __m256 {
            unsafe { _mm256_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn load(from: *const u8) -> __m256 {
            unsafe { _mm256_loadu_ps(from.cast()) }
        }
        #[inline(always)]
        unsafe fn load_part(from: *const u8, _: usize) -> __m256 {
            unsafe { Self::load(from) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const u8) -> __m256 {
            unsafe { _mm256_set1_ps(from.cast::<f32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: __m256, b: __m256, sum: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, sum) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, sum: __m256, accumulate: bool) {
            unsafe {
                let sum = if accumulate { _mm256_add_ps(sum, _mm256_loadu_ps(to)) } else { sum };
                _mm256_storeu_ps(to, sum);
            }
        }
        #[inline(always)]
        unsafe fn store_part(to: *mut f32, sum: __m256, accumulate: bool, count: usize) {
            unsafe {
                let mut lanes = [0f32; 8];
                _mm256_storeu_ps(lanes.as_mut_ptr(), sum);
                super::store_lanes(to, &lanes[..count], accumulate);
            }
        }
        #[inline(always)]
        unsafe fn prefetch(address: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
        }
        #[inline(always)]
        unsafe fn prefetch_far(address: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "every function passes on what `Lanes` asks for"
)]
mod arm {
    use super::{Lanes, MicroKernel};
    use std::arch::aarch64::*;

    pub(super) static NEON: MicroKernel = kernels!(neon, 3, 4, 1, false, || {}, 8 4 2 1);

    pub(super) static NEON_BF16: MicroKernel = kernels!(neon_bf16, 3, 4, 2, false, || {}, 8 4 2 1);

    kernel!(neon, Neon, "neon");
    kernel!(neon_bf16, NeonBf16, "neon,bf16");

    struct Neon;
    struct NeonBf16;

    /// A lane is a pair of bf16; `bfdot` adds both products to the sum.
    impl Lanes for NeonBf16 {
        type Operand = uint32x4_t;
        type Sum = float32x4_t;
        const LANES: usize = 4;

        #[inline(always)]
        unsafe fn zero() -> float32x4_t {
            unsafe { Neon::zero() }
        }
        #[inline(always)]
        unsafe fn load(from: *const u8) -> uint32x4_t {
            unsafe { vld1q_u32(from.cast()) }
        }
        #[inline(always)]
        unsafe fn load_part(from: *const u8, _: usize) -> uint32x4_t {
            unsafe { Self::load(from) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const u8) -> uint32x4_t {
            unsafe { vdupq_n_u32(from.cast::<u32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: uint32x4_t, b: uint32x4_t, mut sum: float32x4_t) -> float32x4_t {
            // The intrinsic for it is not stable.
            unsafe {
                std::arch::asm!(
                    "bfdot {sum:v}.4s, {a:v}.8h, {b:v}.8h",
                    sum = inout(vreg) sum,
                    a = in(vreg) a,
                    b = in(vreg) b,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sum
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, sum: float32x4_t, accumulate: bool) {
            unsafe { Neon::store(to, sum, accumulate) }
        }
        #[inline(always)]
        unsafe fn store_part(to: *mut f32, sum: float32x4_t, accumulate: bool, count: usize) {
            unsafe { Neon::store_part(to, sum, accumulate, count) }
        }
    }

    impl Lanes for Neon {
        type Operand = float32x4_t;
        type Sum = float32x4_t;
        const LANES: usize = 4;

        #[inline(always)]
        unsafe fn zero() -> float32x4_t {
            unsafe { vdupq_n_f32(0.0) }
        }
        #[inline(always)]
        unsafe fn load(from: *const u8) -> float32x4_t {
            unsafe { vld1q_f32(from.cast()) }
        }
        #[inline(always)]
        unsafe fn load_part(from: *const u8, _: usize) -> float32x4_t {
            unsafe { Self::load(from) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const u8) -> float32x4_t {
            unsafe { vdupq_n_f32(from.cast::<f32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: float32x4_t, b: float32x4_t, sum: float32x4_t) -> float32x4_t {
            unsafe { vfmaq_f32(sum, a, b) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, sum: float32x4_t, accumulate: bool) {
            unsafe {
                let sum = if accumulate { vaddq_f32(sum, vld1q_f32(to)) } else { sum };
                vst1q_f32(to, sum);
            }
        }
        #[inline(always)]
        unsafe fn store_part(to: *mut f32, sum: float32x4_t, accumulate: bool, count: usize) {
            unsafe {
                let mut lanes = [0f32; 4];
                vst1q_f32(lanes.as_mut_ptr(), sum);
                super::store_lanes(to, &lanes[..count], accumulate);
            }
        }
    }
}

#[cfg(not(target_arch = "aarch64"))]
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "every function passes on what `Lanes` asks for"
)]
mod portable {
    use super::{Lanes, MicroKernel};
    use crate::kernels::isa::{BASELINE_FMA, fma};

    pub(super) static PORTABLE: MicroKernel = kernels!(portable, 1, 8, 1, false, || {}, 4 2 1);

    kernel!(portable, Portable);

    /// Arrays, which compilers keep in vector registers.
    struct Portable;

    impl Lanes for Portable {
        type Operand = [f32; 8];
        type Sum = [f32; 8];
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> [f32; 8] {
            [0.0; 8]
        }
        #[inline(always)]
        unsafe fn load(from: *const u8) -> [f32; 8] {
            unsafe { from.cast::<[f32; 8]>().read_unaligned() }
        }
        #[inline(always)]
        unsafe fn load_part(from: *const u8, _: usize) -> [f32; 8] {
            unsafe { Self::load(from) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const u8) -> [f32; 8] {
            [unsafe { from.cast::<f32>().read_unaligned() }; 8]
        }
        #[inline(always)]
        unsafe fn multiply_add(a: [f32; 8], b: [f32; 8], sum: [f32; 8]) -> [f32; 8] {
            std::array::from_fn(|i| fma::<BASELINE_FMA>(a[i], b[i], sum[i]))
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, sum: [f32; 8], accumulate: bool) {
            unsafe { super::store_lanes(to, &sum, accumulate) }
        }
        #[inline(always)]
        unsafe fn store_part(to: *mut f32, sum: [f32; 8], accumulate: bool, count: usize) {
            unsafe { super::store_lanes(to, &sum[..count], accumulate) }
        }
    }
}

/// # Safety
/// As many floats as there are lanes are writable.
#[inline(always)]
unsafe fn store_lanes(to: *mut f32, lanes: &[f32], accumulate: bool) {
    // SAFETY: the caller's promise.
    let to = unsafe { std::slice::from_raw_parts_mut(to, lanes.len()) };
    for (to, &sum) in to.iter_mut().zip(lanes) {
        *to = if accumulate { *to + sum } else { sum };
    }
}
