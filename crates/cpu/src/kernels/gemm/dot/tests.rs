use super::*;
use crate::kernels::gemm::Scales;
use crate::kernels::gemm::tests::{naive, numbers, wide};
use crate::kernels::isa::Isa;
use orion_tensor::{Tensor, Tolerance};

const SIZES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (7, 1, 300),
    (9, 2, 128),
    (33, 3, 64),
    (4, 4, 129),
    (11, 5, 15),
    (8, 6, 257),
    (7, 7, 96),
    (5, 8, 70),
    (13, 8, 512),
    (2, 8, 16),
    (3, 1, 768),
];

/// A matrix kept in that type, and the numbers it holds then.
fn stored(values: &[f32], dtype: DType) -> (Tensor, Vec<f32>) {
    let values: Vec<f64> = values.iter().copied().map(f64::from).collect();
    let tensor = Tensor::from_f64(dtype, &[values.len()], &values);
    let held = tensor.to_f32_vec();
    (tensor, held)
}

fn of(tensor: &Tensor, row: isize, column: isize) -> Matrix {
    Matrix::new(tensor.bytes().as_ptr(), tensor.dtype(), row, column)
}

#[test]
fn few_columns_of_any_type_and_layout() {
    for (isa, precision) in Isa::available()
        .into_iter()
        .flat_map(|isa| [Precision::F32, Precision::Bf16].map(|p| (isa, p)))
    {
        let arithmetic = Arithmetic { isa, precision };
        let rounded = |v: f32| match precision {
            Precision::F32 => v,
            Precision::Bf16 => bf16::from_f32(v).to_f32(),
        };
        for ((m, n, k), (a_type, b_type)) in SIZES.into_iter().flat_map(|size| {
            use DType::{BF16, F16, F32};
            [(F32, F32), (F16, F32), (BF16, F32), (BF16, BF16)].map(|types| (size, types))
        }) {
            let size = Size { m, n, k };
            let (gap, room) = (3, n.max(2) * k + 5);
            let (a, a_held) = stored(&numbers(m * (k + gap), 5), a_type);
            let (b, b_held) = stored(&numbers(2 * room, 6), b_type);
            // Columns together, rows together, neither.
            for (row, column) in [(1, k), (n, 1), (2 * n, 2)] {
                let expected = naive(size, &|r, c| rounded(a_held[r * (k + gap) + c]), &|r, c| {
                    rounded(b_held[r * row + c * column])
                });
                let (a, b) = (of(&a, (k + gap) as isize, 1), of(&b, row as isize, column as isize));
                let form = Form::of(arithmetic, a_type);
                let mut packed = vec![f32::NAN; Form::lanes(size)];
                // Rows of C lie apart; what is between them must stay.
                let mut c = vec![7f32; m * (n + 2)];
                let to = Destination { pointer: c.as_mut_ptr(), row: (n + 2) as isize };
                // SAFETY: sizes and strides are those of the tensors.
                unsafe {
                    let x = if form.fits(precision, b, size) {
                        b.pointer.cast()
                    } else {
                        pack_columns(form, precision, b, size, packed.as_mut_ptr());
                        packed.as_ptr()
                    };
                    dot_rows(arithmetic, a, x, to, size);
                }
                let inner: Vec<f32> = c.chunks(n + 2).flat_map(|r| &r[..n]).copied().collect();
                Tolerance::F32Accum.check(&wide(&inner), &expected).unwrap_or_else(|e| {
                    panic!("{arithmetic:?} {form:?} {size:?} {a_type} {b_type} {row}: {e}")
                });
                assert!(c.chunks(n + 2).all(|r| r[n..] == [7.0; 2]));
            }
        }
    }
}

/// A matrix of int8 in blocks, and the numbers it stands for.
pub(in crate::kernels::gemm) struct Scaled {
    data: Vec<i8>,
    scales: Vec<f32>,
    offsets: Option<Vec<f32>>,
    /// Distance of rows.
    row: usize,
    block: usize,
}

impl Scaled {
    pub(in crate::kernels::gemm) fn new(rows: usize, columns: usize, block: usize) -> Self {
        let row = columns + 3;
        let data = numbers(rows * row, 8).iter().map(|v| (v * 127.0) as i8).collect();
        Self { data, scales: numbers(rows * columns / block, 9), offsets: None, row, block }
    }

    /// The same without offsets and with them.
    pub(in crate::kernels::gemm) fn both(rows: usize, columns: usize, block: usize) -> [Self; 2] {
        let [mut shifted, plain] = [(); 2].map(|()| Self::new(rows, columns, block));
        // Of few bits, so that the naive product rounds to bf16 what kernels round.
        let offsets = numbers(rows * columns / block, 10);
        shifted.offsets = Some(offsets.iter().map(|v| (v * 1024.0).round() / 64.0).collect());
        [plain, shifted]
    }

    pub(in crate::kernels::gemm) fn matrix(&self, columns: usize) -> Matrix {
        let scales = Scales {
            pointer: self.scales.as_ptr(),
            offsets: self.offsets.as_ref().map(|o| o.as_ptr()),
            row: columns / self.block,
            block: self.block,
            column: 0,
        };
        let matrix = Matrix::new(self.data.as_ptr().cast(), DType::I8, self.row as isize, 1);
        Matrix { scales: Some(scales), ..matrix }
    }

    pub(in crate::kernels::gemm) fn at(&self, r: usize, c: usize, columns: usize) -> f32 {
        let block = r * (columns / self.block) + c / self.block;
        let offset = self.offsets.as_ref().map_or(0.0, |o| o[block]);
        (f32::from(self.data[r * self.row + c]) - offset) * self.scales[block]
    }
}

#[test]
fn few_columns_of_int8_in_blocks() {
    for (isa, precision) in Isa::available()
        .into_iter()
        .flat_map(|isa| [Precision::F32, Precision::Bf16].map(|p| (isa, p)))
    {
        let arithmetic = Arithmetic { isa, precision };
        let rounded = |v: f32| match precision {
            Precision::F32 => v,
            Precision::Bf16 => bf16::from_f32(v).to_f32(),
        };
        // Whole lines of 64, whose blocks are more or less than one, and others.
        let whole = [(128, 64), (192, 64), (256, 128), (128, 32), (192, 16)];
        let others = [(96, 32), (48, 16), (172, 172), (70, 70)];
        for (k, block) in whole.into_iter().chain(others) {
            for (m, n) in [(1, 1), (5, 1), (6, 2), (5, 3), (4, 5), (7, 8)] {
                let size = Size { m, n, k };
                let b = numbers(k * n, 6);
                for a in Scaled::both(m, k, block) {
                    let expected =
                        naive(size, &|r, c| rounded(a.at(r, c, k)), &|r, c| rounded(b[r * n + c]));
                    let b = Matrix::new(b.as_ptr().cast(), DType::F32, n as isize, 1);
                    let form = Form::of(arithmetic, DType::I8);
                    let mut packed = vec![f32::NAN; Form::lanes(size)];
                    let mut c = vec![7f32; m * n];
                    let to = Destination { pointer: c.as_mut_ptr(), row: n as isize };
                    // SAFETY: sizes and strides are those of the vectors.
                    unsafe {
                        pack_columns(form, precision, b, size, packed.as_mut_ptr());
                        dot_rows(arithmetic, a.matrix(k), packed.as_ptr(), to, size);
                    }
                    Tolerance::F32Accum.check(&wide(&c), &expected).unwrap_or_else(|e| {
                        let shifted = a.offsets.is_some();
                        panic!("{arithmetic:?} {size:?} by {block}, offsets {shifted}: {e}")
                    });
                }
            }
        }
    }
}
