//! Products with few columns, as in decoding: every weight is read once, so they run at the
//! speed of memory. Dot products of contiguous rows of A with columns that stay in the
//! first-level cache.

#[cfg(target_arch = "x86_64")]
pub(in crate::kernels) mod x86;

use super::vector::{Rounding, ToBf16, Unrounded};
use super::{Arithmetic, Destination, Matrix, Size};
use crate::kernels::convert::{bf16_to_f32, f16_to_f32};
use crate::kernels::isa::{fma, multiversion};
use crate::precision::Precision;
use orion_tensor::{DType, bf16, f16};

/// Columns, at most.
pub(crate) const COLUMNS: usize = 8;

/// How columns are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "forms of AVX-512; tests use them")
)]
pub(crate) enum Form {
    /// f32 `[N, K]`.
    Rows,
    /// f32 `[K / 16, N, 16]`, zeros at the end: a vector of each column after another.
    Vectors,
    /// bf16 `[K / 32, N, 32]`, zeros at the end.
    Pairs,
}

impl Form {
    /// What [`dot_rows`] wants for weights of that type.
    pub(crate) fn of(Arithmetic { isa, precision }: Arithmetic, weights: DType) -> Self {
        let _ = (isa, precision, weights);
        #[cfg(target_arch = "x86_64")]
        use crate::kernels::isa::Isa;
        #[cfg(target_arch = "x86_64")]
        match (isa, precision, weights) {
            (Isa::Avx512, Precision::F32, _) => return Self::Vectors,
            (Isa::Avx512, Precision::Bf16, DType::BF16) => {
                let pairs = is_x86_feature_detected!("avx512bf16");
                return if pairs { Self::Pairs } else { Self::Vectors };
            }
            _ => {}
        }
        Self::Rows
    }

    /// Lanes of 32 bits that columns take.
    pub(crate) fn lanes(size: Size) -> usize {
        size.n * size.k.next_multiple_of(32)
    }

    /// Whether columns need no packing.
    pub(crate) fn fits(self, precision: Precision, b: Matrix, size: Size) -> bool {
        let contiguous = b.row == 1 || size.k <= 1;
        let one_after_another = size.n == 1 || self == Self::Rows && b.column == size.k as isize;
        let as_it_is = b.dtype == DType::F32 && precision == Precision::F32;
        as_it_is && contiguous && one_after_another
    }
}

/// Packs the columns of B, rounded as the precision says.
///
/// # Safety
/// B is readable over the size and has at most [`COLUMNS`] columns; `to` has room for
/// [`Form::lanes`].
pub(crate) unsafe fn pack_columns(
    form: Form,
    precision: Precision,
    b: Matrix,
    size: Size,
    to: *mut f32,
) {
    // SAFETY: the caller's promise is passed on; `Form::of` found the instructions.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        match (form, precision, b.dtype) {
            (Form::Pairs, _, DType::F32) => return x86::pack_pairs(b, size, to),
            (Form::Vectors, Precision::F32, DType::F32) => return x86::pack_columns(b, size, to),
            _ => {}
        }
        match precision {
            Precision::F32 => pack_elements::<Unrounded>(form, b, size, to),
            Precision::Bf16 => pack_elements::<ToBf16>(form, b, size, to),
        }
    }
}

/// [`pack_columns`] of any type.
///
/// # Safety
/// As for [`pack_columns`].
unsafe fn pack_elements<R: Rounding>(form: Form, b: Matrix, size: Size, to: *mut f32) {
    let depth = match form {
        Form::Rows => size.k,
        Form::Vectors => size.k.next_multiple_of(16),
        Form::Pairs => size.k.next_multiple_of(32),
    };
    for k in 0..depth {
        for n in 0..size.n {
            // SAFETY: the caller's promise; what is outside of B is not read.
            unsafe {
                let value = if k < size.k {
                    let from = b.at(k, n).pointer;
                    R::round(match b.dtype {
                        DType::F16 => from.cast::<f16>().read_unaligned().to_f32(),
                        DType::BF16 => from.cast::<bf16>().read_unaligned().to_f32(),
                        _ => from.cast::<f32>().read_unaligned(),
                    })
                } else {
                    0.0
                };
                match form {
                    Form::Rows => *to.add(n * size.k + k) = value,
                    Form::Vectors => *to.add((k / 16 * size.n + n) * 16 + k % 16) = value,
                    Form::Pairs => {
                        let at = (k / 32 * size.n + n) * 32 + k % 32;
                        *to.cast::<bf16>().add(at) = bf16::from_f32(value);
                    }
                }
            }
        }
    }
}

/// `C[M, N] = A[M, K] · X` for rows of A that are contiguous and few columns, packed.
///
/// # Safety
/// A and C are readable and writable over the size; X is packed in the form of A's type, or
/// fits; there are at most [`COLUMNS`] columns.
pub(crate) unsafe fn dot_rows(
    arithmetic: Arithmetic,
    a: Matrix,
    x: *const f32,
    c: Destination,
    size: Size,
) {
    // SAFETY: the caller's promise is passed on; `Form::of` found the instructions.
    unsafe {
        let form = Form::of(arithmetic, a.dtype);
        #[cfg(target_arch = "x86_64")]
        if form != Form::Rows {
            return x86::dot_rows(form, a, x, c, size);
        }
        debug_assert_eq!(form, Form::Rows, "other forms are those of AVX-512");
        match arithmetic.precision {
            Precision::F32 => portable::<Unrounded>(arithmetic.isa, a, x, c, size),
            Precision::Bf16 => portable::<ToBf16>(arithmetic.isa, a, x, c, size),
        }
    }
}

/// Independent sums per row: enough to hide the latency of additions in any vector width.
const SUMS: usize = 64;

multiversion! {
    /// [`dot_rows`] for any instruction set.
    ///
    /// # Safety
    /// As for [`dot_rows`].
    unsafe fn portable<R: Rounding>(a: Matrix, x: *const f32, c: Destination, size: Size) = portable_inner
}

#[inline(always)]
unsafe fn portable_inner<R: Rounding, const FMA: bool>(
    a: Matrix,
    x: *const f32,
    c: Destination,
    size: Size,
) {
    macro_rules! each {
        ($ty:ty, $f:expr) => {
            for row in 0..size.m {
                for column in 0..size.n {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let a = a.pointer.cast::<$ty>().offset(row as isize * a.row);
                        let a = std::slice::from_raw_parts(a, size.k);
                        let x = std::slice::from_raw_parts(x.add(column * size.k), size.k);
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
        DType::I8 => {
            let scales = a.scales.expect("int8 has scales");
            for (row, column) in (0..size.m).flat_map(|r| (0..size.n).map(move |c| (r, c))) {
                let mut sum = 0.0;
                for k in (0..size.k).step_by(scales.block) {
                    let count = scales.block.min(size.k - k);
                    // SAFETY: the caller's promise.
                    unsafe {
                        let from = a.pointer.cast::<i8>().offset(row as isize * a.row).add(k);
                        let a = std::slice::from_raw_parts(from, count);
                        let x = std::slice::from_raw_parts(x.add(column * size.k + k), count);
                        let scale = scales.of(row, k);
                        sum += if scales.offsets.is_some() {
                            let offset = scales.offset(row, k);
                            dot::<i8, FMA>(a, x, |v| R::round((f32::from(v) - offset) * scale))
                        } else {
                            dot::<i8, FMA>(a, x, |v| R::round(f32::from(v) * scale))
                        };
                    }
                }
                // SAFETY: the caller's promise.
                unsafe { *c.pointer.offset(row as isize * c.row).add(column) = sum };
            }
        }
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

#[cfg(test)]
pub(super) mod tests;
