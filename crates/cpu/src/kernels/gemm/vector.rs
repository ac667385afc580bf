//! Products of few rows: every element of the large operand is read once, so they run at the
//! speed of memory.

use super::{Destination, Matrix};
use crate::kernels::convert::{bf16_to_f32, f16_to_f32, f32_to_bf16};
use crate::kernels::isa::{fma, multiversion};
use orion_tensor::DType;

/// What operands are rounded to before they are multiplied.
pub(crate) trait Rounding {
    /// The number that is multiplied for `x`.
    fn round(x: f32) -> f32;
}

/// Operands as they are.
pub(crate) struct Unrounded;

/// Operands rounded to bf16.
pub(crate) struct ToBf16;

impl Rounding for Unrounded {
    #[inline(always)]
    fn round(x: f32) -> f32 {
        x
    }
}

impl Rounding for ToBf16 {
    #[inline(always)]
    fn round(x: f32) -> f32 {
        bf16_to_f32(f32_to_bf16(x))
    }
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
