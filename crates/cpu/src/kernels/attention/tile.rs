//! The innermost loop of attention: a tile of 8 by 32 sums in registers.

use crate::kernels::isa::{Isa, multiversion};

/// Rows of a tile.
pub(super) const ROWS: usize = 8;
/// Columns of a tile.
pub(super) const COLUMNS: usize = 32;

/// How the left factor of a tile lies in memory: the distances of its rows and of its depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Packed as `[depth, 8]`.
    Packed,
    /// Rows of a block with 32 columns: `[8, 32]`, and at most 32 deep.
    Block,
}

/// `c[r, j] (+)= Σₖ a[r, k] b[k, j]` for 8 rows and 32 columns; `b` is `[depth, 32]`, rows of `c`
/// are `row` floats apart.
///
/// # Safety
/// Both factors are readable and `c` is writable over the whole tile; the machine has the
/// instructions.
#[expect(clippy::too_many_arguments, reason = "a kernel takes sizes and strides")]
pub(super) unsafe fn tile(
    isa: Isa,
    left: Left,
    depth: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    row: usize,
    accumulate: bool,
) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match (isa, left) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Left::Packed) => avx512::<1, ROWS>(depth, a, b, c, row, accumulate),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Left::Block) => avx512::<COLUMNS, 1>(depth, a, b, c, row, accumulate),
            (_, Left::Packed) => any(isa, 1, ROWS, depth, a, b, c, row, accumulate),
            (_, Left::Block) => any(isa, COLUMNS, 1, depth, a, b, c, row, accumulate),
        }
    }
}

/// # Safety
/// As for [`tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const ACROSS: usize, const ALONG: usize>(
    depth: usize,
    mut a: *const f32,
    mut b: *const f32,
    c: *mut f32,
    row: usize,
    accumulate: bool,
) {
    use std::arch::x86_64::*;
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    // SAFETY: every access is inside the factors or the tile.
    unsafe {
        if accumulate {
            for (r, sums) in sums.iter_mut().enumerate() {
                let from = c.add(r * row);
                *sums = [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))];
            }
        }
        for _ in 0..depth {
            let columns = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(r * ACROSS));
                sums[0] = _mm512_fmadd_ps(x, columns[0], sums[0]);
                sums[1] = _mm512_fmadd_ps(x, columns[1], sums[1]);
            }
            a = a.add(ALONG);
            b = b.add(COLUMNS);
        }
        for (r, sums) in sums.iter().enumerate() {
            let to = c.add(r * row);
            _mm512_storeu_ps(to, sums[0]);
            _mm512_storeu_ps(to.add(16), sums[1]);
        }
    }
}

multiversion! {
    /// # Safety
    /// As for [`tile`].
    unsafe fn any(across: usize, along: usize, depth: usize, a: *const f32, b: *const f32,
        c: *mut f32, row: usize, accumulate: bool) = any_inner
}

/// Parts of 4 by 16, which fit the registers of every machine.
#[expect(clippy::too_many_arguments, reason = "a kernel takes sizes and strides")]
#[inline(always)]
unsafe fn any_inner<const FMA: bool>(
    across: usize,
    along: usize,
    depth: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    row: usize,
    accumulate: bool,
) {
    for r0 in (0..ROWS).step_by(4) {
        for j0 in (0..COLUMNS).step_by(16) {
            let mut sums = [[0f32; 16]; 4];
            // SAFETY: every access is inside the factors or the tile.
            unsafe {
                if accumulate {
                    for (r, sums) in sums.iter_mut().enumerate() {
                        *sums = c.add((r0 + r) * row + j0).cast::<[f32; 16]>().read_unaligned();
                    }
                }
                for k in 0..depth {
                    let b = &*b.add(k * COLUMNS + j0).cast::<[f32; 16]>();
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let x = *a.add((r0 + r) * across + k * along);
                        for (sum, &b) in sums.iter_mut().zip(b) {
                            *sum = crate::kernels::isa::fma::<FMA>(x, b, *sum);
                        }
                    }
                }
                for (r, sums) in sums.iter().enumerate() {
                    c.add((r0 + r) * row + j0).cast::<[f32; 16]>().write_unaligned(*sums);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_tensor::Tolerance;

    #[test]
    fn tiles_against_loops() {
        let number = |i: usize| ((i * 7919) % 1000) as f32 / 500.0 - 1.0;
        let a: Vec<f32> = (0..ROWS * COLUMNS).map(number).collect();
        let b: Vec<f32> = (0..COLUMNS * COLUMNS).map(|i| number(i + 77)).collect();
        for isa in Isa::available() {
            for (left, across, along) in [(Left::Packed, 1, ROWS), (Left::Block, COLUMNS, 1)] {
                for (depth, accumulate) in [(1, true), (32, false), (17, true)] {
                    let mut c = vec![0.5f32; ROWS * 40];
                    // SAFETY: the sizes are those of the vectors.
                    unsafe {
                        let c = c.as_mut_ptr();
                        tile(isa, left, depth, a.as_ptr(), b.as_ptr(), c, 40, accumulate);
                    }
                    let mut expected = vec![0.5f64; ROWS * 40];
                    for r in 0..ROWS {
                        for j in 0..COLUMNS {
                            let sum: f64 = (0..depth)
                                .map(|k| {
                                    let x = a[r * across + k * along];
                                    f64::from(x) * f64::from(b[k * COLUMNS + j])
                                })
                                .sum();
                            expected[r * 40 + j] = sum + if accumulate { 0.5 } else { 0.0 };
                        }
                    }
                    let c: Vec<f64> = c.into_iter().map(f64::from).collect();
                    Tolerance::F32Accum.check(&c, &expected).unwrap();
                }
            }
        }
    }
}
