//! Products with few columns or one row, as in decoding: every element of the large operand is
//! read once, so they run at the speed of memory.

use super::{Destination, Matrix};
use crate::kernels::convert::{bf16_to_f32, f16_to_f32, f32_to_bf16};
use crate::kernels::isa::{Isa, fma, multiversion};
use orion_tensor::DType;

/// What operands are rounded to before they are multiplied.
pub(crate) trait Rounding {
    /// Whether f32 operands change.
    #[cfg(target_arch = "x86_64")]
    const ROUNDS: bool;
    /// The number that is multiplied for `x`.
    fn round(x: f32) -> f32;
}

/// Operands as they are.
pub(crate) struct Unrounded;

/// Operands rounded to bf16.
pub(crate) struct ToBf16;

impl Rounding for Unrounded {
    #[cfg(target_arch = "x86_64")]
    const ROUNDS: bool = false;
    #[inline(always)]
    fn round(x: f32) -> f32 {
        x
    }
}

impl Rounding for ToBf16 {
    #[cfg(target_arch = "x86_64")]
    const ROUNDS: bool = true;
    #[inline(always)]
    fn round(x: f32) -> f32 {
        bf16_to_f32(f32_to_bf16(x))
    }
}

/// Independent sums per row: enough to hide the latency of additions in any vector width.
const SUMS: usize = 64;

/// `C[m0.., N] = A[m0.., K] · X[N, K]ᵀ` for a few contiguous f32 rows of X, rounded already: dot
/// products of contiguous rows of A.
///
/// # Safety
/// A's rows are contiguous; `rows` of them from its start, `columns` rows of X and the same part
/// of C are inside their memory.
pub(crate) unsafe fn dot_rows<R: Rounding>(
    isa: Isa,
    a: Matrix,
    x: *const f32,
    c: Destination,
    rows: usize,
    columns: usize,
    depth: usize,
) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Avx512 && (a.dtype == DType::BF16 || !R::ROUNDS) {
            return super::dot::dot_rows(a, x, c, rows, columns, depth);
        }
        gemv::<R>(isa, a, x, c, rows, columns, depth);
    }
}

multiversion! {
    /// [`dot_rows`] for any instruction set.
    ///
    /// # Safety
    /// As for [`dot_rows`].
    unsafe fn gemv<R: Rounding>(a: Matrix, x: *const f32, c: Destination, rows: usize, columns: usize,
        depth: usize) = gemv_inner
}

#[inline(always)]
unsafe fn gemv_inner<R: Rounding, const FMA: bool>(
    a: Matrix,
    x: *const f32,
    c: Destination,
    rows: usize,
    columns: usize,
    depth: usize,
) {
    macro_rules! each {
        ($ty:ty, $f:expr) => {
            for row in 0..rows {
                for column in 0..columns {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let a = a.pointer.cast::<$ty>().offset(row as isize * a.row);
                        let a = std::slice::from_raw_parts(a, depth);
                        let x = std::slice::from_raw_parts(x.add(column * depth), depth);
                        let to = c.pointer.offset(row as isize * c.row).add(column);
                        *to = dot::<$ty, FMA>(a, x, $f);
                    }
                }
            }
        };
    }
    match a.dtype {
        DType::F32 => each!(f32, R::round),
        DType::F16 => each!(u16, |v| R::round(f16_to_f32(v))),
        DType::BF16 => each!(u16, bf16_to_f32),
        _ => unreachable!("the planner converts other types"),
    }
}

#[inline(always)]
fn dot<T: Copy, const FMA: bool>(a: &[T], x: &[f32], widen: impl Fn(T) -> f32) -> f32 {
    let mut sums = [0f32; SUMS];
    let (a_blocks, a_rest) = a.as_chunks::<SUMS>();
    let (x_blocks, x_rest) = x.as_chunks::<SUMS>();
    for (a, x) in a_blocks.iter().zip(x_blocks) {
        for i in 0..SUMS {
            sums[i] = fma::<FMA>(widen(a[i]), x[i], sums[i]);
        }
    }
    for (i, (&a, &x)) in a_rest.iter().zip(x_rest).enumerate() {
        sums[i] = fma::<FMA>(widen(a), x, sums[i]);
    }
    let mut width = SUMS / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}

/// Columns computed at once by [`gemv_columns`].
pub(crate) const COLUMNS: usize = 64;

multiversion! {
    /// `C[M, n0..] = X[M, K] · B[K, n0..]` for `count` ≤ 64 columns of B and few rows of X:
    /// sums of scaled rows of B, whose columns are contiguous.
    ///
    /// # Safety
    /// `rows` by `depth` elements of X, `depth` by `count` of B and `rows` by `count` of C are
    /// inside their memory.
    unsafe fn gemv_columns<R: Rounding>(x: Matrix, b: Matrix, c: Destination, rows: usize, count: usize,
        depth: usize) = gemv_columns_inner
}

#[inline(always)]
unsafe fn gemv_columns_inner<R: Rounding, const FMA: bool>(
    x: Matrix,
    b: Matrix,
    c: Destination,
    rows: usize,
    count: usize,
    depth: usize,
) {
    macro_rules! each {
        ($ty:ty, $f:expr) => {
            for row in 0..rows {
                let mut sums = [0f32; COLUMNS];
                for k in 0..depth {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let x = R::round(x.at(row, k).pointer.cast::<f32>().read());
                        let b = b.pointer.cast::<$ty>().offset(k as isize * b.row);
                        if count == COLUMNS {
                            for i in 0..COLUMNS {
                                sums[i] = fma::<FMA>(x, $f(b.add(i).read_unaligned()), sums[i]);
                            }
                        } else {
                            for i in 0..count {
                                sums[i] = fma::<FMA>(x, $f(b.add(i).read_unaligned()), sums[i]);
                            }
                        }
                    }
                }
                // SAFETY: the caller's promise.
                let to = unsafe {
                    std::slice::from_raw_parts_mut(c.pointer.offset(row as isize * c.row), count)
                };
                to.copy_from_slice(&sums[..count]);
            }
        };
    }
    match b.dtype {
        DType::F32 => each!(f32, R::round),
        DType::F16 => each!(u16, |v| R::round(f16_to_f32(v))),
        DType::BF16 => each!(u16, bf16_to_f32),
        _ => unreachable!("the planner converts other types"),
    }
}
