//! The innermost loop of a matrix product: a tile of C in registers.

use crate::kernels::isa::Isa;

/// `(depth, packed A, packed B, C, row distance of C, whether to add to C)`
type Run = unsafe fn(usize, *const f32, *const f32, *mut f32, isize, bool);

/// A micro-kernel and the tile of C it computes.
pub(super) struct MicroKernel {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) run: Run,
}

/// The largest tile of any micro-kernel.
pub(super) const MAX_TILE: usize = 12 * 32;

impl MicroKernel {
    /// The best for an instruction set.
    pub(super) fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self { rows: 12, columns: 32, run: x86::avx512 },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self { rows: 6, columns: 16, run: x86::avx2 },
            Isa::Baseline => Self { rows: 8, columns: 8, run: baseline },
        }
    }
}

/// Plain loops over arrays, which compilers keep in vector registers.
///
/// # Safety
/// A is packed 8 rows wide, B 8 columns wide, `depth` deep; C is writable.
unsafe fn baseline(
    depth: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    row: isize,
    accumulate: bool,
) {
    let mut tile = [[0f32; 8]; 8];
    for k in 0..depth {
        // SAFETY: the panels are `depth` deep.
        let (a, b) =
            unsafe { (&*a.add(k * 8).cast::<[f32; 8]>(), &*b.add(k * 8).cast::<[f32; 8]>()) };
        for (tile, &a) in tile.iter_mut().zip(a) {
            for (t, &b) in tile.iter_mut().zip(b) {
                *t = crate::kernels::isa::fma::<{ crate::kernels::isa::BASELINE_FMA }>(a, b, *t);
            }
        }
    }
    for (r, tile) in tile.iter().enumerate() {
        // SAFETY: C is writable.
        let to = unsafe { &mut *c.offset(r as isize * row).cast::<[f32; 8]>() };
        for (to, &v) in to.iter_mut().zip(tile) {
            *to = if accumulate { *to + v } else { v };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    macro_rules! microkernel {
        ($name:ident, $features:literal, $rows:literal, $vectors:literal, $lanes:literal,
         $zero:ident, $load:ident, $store:ident, $splat:ident, $fma:ident, $add:ident) => {
            /// # Safety
            /// The machine has the instructions; A and B are packed for this tile, `depth` deep;
            /// C is writable.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(
                depth: usize,
                mut a: *const f32,
                mut b: *const f32,
                c: *mut f32,
                row: isize,
                accumulate: bool,
            ) {
                // SAFETY: every access is inside the panels or the tile of C.
                unsafe {
                    for r in 0..$rows {
                        _mm_prefetch::<_MM_HINT_T0>(c.offset(r * row).cast());
                        _mm_prefetch::<_MM_HINT_T0>(c.offset(r * row + $lanes).cast());
                    }
                    let mut tile = [[$zero(); $vectors]; $rows];
                    for _ in 0..depth {
                        let mut columns = [$zero(); $vectors];
                        for v in 0..$vectors {
                            columns[v] = $load(b.add(v * $lanes));
                        }
                        _mm_prefetch::<_MM_HINT_T0>(b.add(8 * $vectors * $lanes).cast());
                        _mm_prefetch::<_MM_HINT_T0>(b.add(8 * $vectors * $lanes + 16).cast());
                        for r in 0..$rows {
                            let x = $splat(*a.add(r));
                            for v in 0..$vectors {
                                tile[r][v] = $fma(x, columns[v], tile[r][v]);
                            }
                        }
                        a = a.add($rows);
                        b = b.add($vectors * $lanes);
                    }
                    for r in 0..$rows {
                        for v in 0..$vectors {
                            let to = c.offset(r as isize * row).add(v * $lanes);
                            let sum =
                                if accumulate { $add(tile[r][v], $load(to)) } else { tile[r][v] };
                            $store(to, sum);
                        }
                    }
                }
            }
        };
    }

    microkernel!(
        avx512,
        "avx512f,fma,avx2",
        12,
        2,
        16,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps
    );
    microkernel!(
        avx2,
        "avx2,fma",
        6,
        2,
        8,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps
    );
}
