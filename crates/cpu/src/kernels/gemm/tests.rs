use super::*;
use orion_tensor::{Tolerance, bf16, f16};

/// A few digits of a fixed sequence, in -1..1.
pub(super) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let step = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(step).take(count).collect()
}

fn matrix(values: &[f32], row: isize, column: isize) -> Matrix {
    Matrix::new(values.as_ptr().cast(), DType::F32, row, column)
}

fn f32(isa: Isa) -> Arithmetic {
    Arithmetic { isa, precision: Precision::F32 }
}

pub(super) fn naive(
    size: Size,
    a: &dyn Fn(usize, usize) -> f32,
    b: &dyn Fn(usize, usize) -> f32,
) -> Vec<f64> {
    let Size { m, n, k } = size;
    let at = |i: usize| {
        let (row, column) = (i / n, i % n);
        (0..k).map(|k| f64::from(a(row, k)) * f64::from(b(k, column))).sum()
    };
    (0..m * n).map(at).collect()
}

pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

const SIZES: [(usize, usize, usize); 10] = [
    (5, 2050, 700),
    (1, 1, 1),
    (12, 32, 256),
    (13, 33, 257),
    (5, 70, 300),
    (64, 31, 1),
    (250, 40, 37),
    (7, 3, 0),
    (25, 65, 512),
    (3, 2100, 9),
];

#[test]
fn products_of_any_layout() {
    for isa in Isa::available() {
        let pool = Pool::new(2);
        for (m, n, k) in SIZES {
            let size = Size { m, n, k };
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            for (a_transposed, b_transposed) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                let of = |t: bool, rows: usize, columns: usize| {
                    if t { (1, rows as isize) } else { (columns as isize, 1) }
                };
                let (ar, ac) = of(a_transposed, m, k);
                let (br, bc) = of(b_transposed, k, n);
                let at = |v: &[f32], r: usize, c: usize, rs: isize, cs: isize| {
                    v[(r as isize * rs + c as isize * cs) as usize]
                };
                let expected =
                    naive(size, &|r, c| at(&a, r, c, ar, ac), &|r, c| at(&b, r, c, br, bc));
                // Rows of C lie apart; what is between them must stay.
                let row = n + 3;
                let mut c = vec![7f32; m * row];
                let (left, right) = (matrix(&a, ar, ac), matrix(&b, br, bc));
                let space = workspace(f32(isa), pool.threads(), size, left, right);
                let (mut shared, mut own) =
                    (vec![0f32; space.shared], vec![0f32; 2 * space.per_thread]);
                let lent = Lent {
                    shared: shared.as_mut_ptr(),
                    threads: own.as_mut_ptr(),
                    per_thread: space.per_thread,
                };
                let to = Destination { pointer: c.as_mut_ptr(), row: row as isize };
                let (a, b) = (matrix(&a, ar, ac), matrix(&b, br, bc));
                // SAFETY: sizes and strides are those of the vectors.
                unsafe { gemm(f32(isa), Threads::All(&pool), size, a, b, to, None, lent) };
                let inner: Vec<f32> = c.chunks(row).flat_map(|r| &r[..n]).copied().collect();
                Tolerance::F32Accum
                    .check(&wide(&inner), &expected)
                    .unwrap_or_else(|e| panic!("{isa:?} {size:?}: {e}"));
                assert!(c.chunks(row).all(|r| r[n..] == [7.0; 3]));

                let mut alone = vec![7f32; m * n];
                let mut memory =
                    vec![0f32; workspace_on_one_thread(f32(isa), size, a, b).per_thread];
                let to = Destination { pointer: alone.as_mut_ptr(), row: n as isize };
                // SAFETY: as above.
                unsafe { gemm_on_one_thread(f32(isa), size, a, b, to, None, memory.as_mut_ptr()) };
                assert_eq!(alone, inner, "the sum's order does not depend on threads");

                let numbers: Vec<f32> = (0..m).map(|i| (i % 7) as f32 * 0.5 - 1.0).collect();
                let mut biased = vec![7f32; m * n];
                let to = Destination { pointer: biased.as_mut_ptr(), row: n as isize };
                let bias = Some(RowBias { pointer: numbers.as_ptr(), stride: 1 });
                // SAFETY: as above.
                unsafe { gemm(f32(isa), Threads::All(&pool), size, a, b, to, bias, lent) };
                let with_bias = |(i, x): (usize, &f64)| x + f64::from(numbers[i / n]);
                let expected: Vec<f64> = expected.iter().enumerate().map(with_bias).collect();
                Tolerance::F32Accum
                    .check(&wide(&biased), &expected)
                    .unwrap_or_else(|e| panic!("{isa:?} {size:?} with bias: {e}"));
            }
        }
    }
}

#[test]
fn narrow_operands_are_widened() {
    let size = Size { m: 9, n: 35, k: 70 };
    let a: Vec<f16> = numbers(9 * 70, 3).into_iter().map(f16::from_f32).collect();
    let b: Vec<bf16> = numbers(70 * 35, 4).into_iter().map(bf16::from_f32).collect();
    let expected = naive(size, &|r, c| a[r * 70 + c].to_f32(), &|r, c| b[r * 35 + c].to_f32());
    for isa in Isa::available() {
        let mut c = vec![0f32; 9 * 35];
        let a = Matrix::new(a.as_ptr().cast(), DType::F16, 70, 1);
        let b = Matrix::new(b.as_ptr().cast(), DType::BF16, 35, 1);
        let mut memory = vec![0f32; workspace_on_one_thread(f32(isa), size, a, b).per_thread];
        let to = Destination { pointer: c.as_mut_ptr(), row: 35 };
        // SAFETY: sizes and strides are those of the vectors.
        unsafe { gemm_on_one_thread(f32(isa), size, a, b, to, None, memory.as_mut_ptr()) };
        Tolerance::F32Accum.check(&wide(&c), &expected).unwrap();
    }
}

/// Large results in whole cache lines are written past the caches.
#[test]
fn large_results_of_small_factors() {
    #[repr(align(64))]
    #[derive(Clone, Copy)]
    struct Line([f32; 16]);

    let size = Size { m: 530, n: 512, k: 33 };
    let Size { m, n, k } = size;
    let (a, b) = (numbers(m * k, 9), numbers(n * k, 10));
    let expected = naive(size, &|r, c| a[r * k + c], &|r, c| b[c * k + r]);
    let pool = Pool::new(2);
    for isa in Isa::available() {
        let mut c = vec![Line([7.0; 16]); m * n / 16];
        let (a, b) = (matrix(&a, k as isize, 1), matrix(&b, 1, k as isize));
        let space = workspace(f32(isa), pool.threads(), size, a, b);
        let (mut shared, mut own) = (vec![0f32; space.shared], vec![0f32; 2 * space.per_thread]);
        let lent = Lent {
            shared: shared.as_mut_ptr(),
            threads: own.as_mut_ptr(),
            per_thread: space.per_thread,
        };
        let to = Destination { pointer: c.as_mut_ptr().cast(), row: n as isize };
        // SAFETY: sizes and strides are those of the vectors.
        unsafe { gemm(f32(isa), Threads::All(&pool), size, a, b, to, None, lent) };
        let c: Vec<f32> = c.iter().flat_map(|line| line.0).collect();
        Tolerance::F32Accum.check(&wide(&c), &expected).unwrap();
    }
}

/// What pairs of bf16 are summed to in f32 is what their rounded values are.
#[test]
fn products_of_rounded_operands() {
    let size = Size { m: 210, n: 50, k: 77 };
    let Size { m, n, k } = size;
    let (a, b) = (numbers(2 * m * k, 11), numbers(2 * n * k, 12));
    let round = |x: f32| bf16::from_f32(x).to_f32();
    let pool = Pool::new(2);
    for isa in Isa::available() {
        let arithmetic = Arithmetic { isa, precision: Precision::Bf16 };
        for (a_transposed, b_transposed, apart) in [
            (false, false, 1),
            (true, false, 1),
            (false, true, 1),
            (true, true, 1),
            (false, false, 2),
        ] {
            let of = |t: bool, rows: usize, columns: usize| {
                if t { (apart, apart * rows as isize) } else { (apart * columns as isize, apart) }
            };
            let ((ar, ac), (br, bc)) = (of(a_transposed, m, k), of(b_transposed, k, n));
            let at = |v: &[f32], r: usize, c: usize, (rs, cs): (isize, isize)| {
                round(v[(r as isize * rs + c as isize * cs) as usize])
            };
            let expected =
                naive(size, &|r, c| at(&a, r, c, (ar, ac)), &|r, c| at(&b, r, c, (br, bc)));
            let mut c = vec![7f32; m * n];
            let (a, b) = (matrix(&a, ar, ac), matrix(&b, br, bc));
            let space = workspace(arithmetic, pool.threads(), size, a, b);
            let (mut shared, mut own) =
                (vec![0f32; space.shared], vec![0f32; 2 * space.per_thread]);
            let lent = Lent {
                shared: shared.as_mut_ptr(),
                threads: own.as_mut_ptr(),
                per_thread: space.per_thread,
            };
            let to = Destination { pointer: c.as_mut_ptr(), row: n as isize };
            // SAFETY: sizes and strides are those of the vectors.
            unsafe { gemm(arithmetic, Threads::All(&pool), size, a, b, to, None, lent) };
            Tolerance::F32Accum
                .check(&wide(&c), &expected)
                .unwrap_or_else(|e| panic!("{isa:?} {a_transposed} {b_transposed}: {e}"));
        }
    }
}

#[test]
fn few_rows() {
    for isa in Isa::available() {
        for (m, n, k) in [(1, 64, 40), (3, 17, 5), (2, 1, 9)] {
            let size = Size { m, n, k };
            let (x, b) = (numbers(m * k, 7), numbers(k * n, 8));
            let expected = naive(size, &|r, c| x[r * k + c], &|r, c| b[r * n + c]);
            let mut c = vec![0f32; m * n];
            let to = Destination { pointer: c.as_mut_ptr(), row: n as isize };
            let (x, b) = (matrix(&x, k as isize, 1), matrix(&b, n as isize, 1));
            // SAFETY: sizes and strides are those of the vectors.
            unsafe { gemv_columns::<Unrounded>(isa, x, b, to, m, n, k) };
            Tolerance::F32Accum.check(&wide(&c), &expected).unwrap();
        }
    }
}

#[test]
fn int8_is_scaled_while_it_is_packed() {
    for (isa, precision) in Isa::available()
        .into_iter()
        .flat_map(|isa| [Precision::F32, Precision::Bf16].map(|p| (isa, p)))
    {
        let arithmetic = Arithmetic { isa, precision };
        let rounded = |v: f32| match precision {
            Precision::F32 => v,
            Precision::Bf16 => bf16::from_f32(v).to_f32(),
        };
        // Rows that are cut in slabs, and cut inside of blocks.
        for (k, block) in [(2048, 64), (1888, 32), (96, 16), (70, 70), (1000, 1000)] {
            let size = Size { m: 13, n: 35, k };
            let b = numbers(k * 35, 4);
            for a in dot::tests::Scaled::both(13, k, block) {
                let expected =
                    naive(size, &|r, c| rounded(a.at(r, c, k)), &|r, c| rounded(b[r * 35 + c]));
                let (a, b) = (a.matrix(k), matrix(&b, 35, 1));
                let mut c = vec![0f32; 13 * 35];
                let lanes = workspace_on_one_thread(arithmetic, size, a, b).per_thread;
                let mut memory = vec![0f32; lanes];
                let (to, memory) =
                    (Destination { pointer: c.as_mut_ptr(), row: 35 }, memory.as_mut_ptr());
                // SAFETY: sizes and strides are those of the vectors.
                unsafe { gemm_on_one_thread(arithmetic, size, a, b, to, None, memory) };
                Tolerance::F32Accum.check(&wide(&c), &expected).unwrap_or_else(|e| {
                    let shifted = a.scales.and_then(|s| s.offsets).is_some();
                    panic!("{arithmetic:?} {k} by {block}, offsets {shifted}: {e}")
                });
            }
        }
    }
}

#[test]
fn int8_becomes_pairs_without_instructions_for_it() {
    let arithmetic = Arithmetic { isa: Isa::Baseline, precision: Precision::Bf16 };
    let both = |(k, block)| dot::tests::Scaled::both(3, k, block).map(|a| (k, a));
    for (k, a) in [(96, 32), (70, 70), (33, 33)].into_iter().flat_map(both) {
        let mut packed = vec![u32::MAX; 3 * 64];
        // SAFETY: rows of packed lanes are longer than those of the matrix.
        unsafe {
            pack::rows(arithmetic, 2, Source::rows(a.matrix(k), 3, k), 64, packed.as_mut_ptr());
        }
        for (r, row) in packed.chunks(64).enumerate() {
            let half = |c: usize| if c < k { bf16::from_f32(a.at(r, c, k)).to_bits() } else { 0 };
            for (lane, &pair) in row.iter().enumerate().take(k.div_ceil(2).next_multiple_of(16)) {
                let expected = u32::from(half(2 * lane)) | u32::from(half(2 * lane + 1)) << 16;
                assert_eq!(pair, expected, "row {r}, lane {lane} of {k}");
            }
        }
    }
}
