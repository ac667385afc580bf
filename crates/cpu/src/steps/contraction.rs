use super::{Context, Shared};
use crate::kernels::gemm::{
    self, Arithmetic, Destination, Lent, Matrix, Rounding, Size, Threads, ToBf16, Unrounded,
    Workspace, gemv_columns, workspace, workspace_on_one_thread,
};
use crate::kernels::isa::Isa;
use crate::plan::view::BufferId;
use crate::precision::Precision;
use orion_tensor::DType;

/// A factor of a product: a matrix in a buffer, batch offsets apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factor {
    pub buffer: BufferId,
    /// F32, F16 or BF16.
    pub dtype: DType,
    pub row: isize,
    pub column: isize,
}

impl Factor {
    /// The matrix, when it begins there.
    fn at(&self, pointer: *const u8) -> Matrix {
        Matrix { pointer, dtype: self.dtype, row: self.row, column: self.column }
    }

    /// Rows and columns swapped.
    pub(crate) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }
}

/// Columns, at most, of a product that is computed as dot products.
const FEW_COLUMNS: usize = 8;

/// Which kernel computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Blocks, all threads on one product after another.
    Together,
    /// Blocks, each product on one thread.
    Apart,
    /// Dot products of A's contiguous rows with few columns of B.
    DotRows,
    /// Sums of B's contiguous rows, for few rows of A.
    SumRows,
}

/// Products of matrices, all of one size: `C = A · B` in f32.
#[derive(Debug)]
pub(crate) struct Contraction {
    pub size: Size,
    pub a: Factor,
    pub b: Factor,
    /// f32 with contiguous rows.
    pub c: Factor,
    /// Where each product's A, B and C begin, in elements.
    pub batch: Vec<[isize; 3]>,
    pub method: Method,
    /// What A and B are rounded to.
    pub precision: Precision,
}

impl Contraction {
    /// The kernel for a size and layout.
    pub(crate) fn method(size: Size, a: &Factor, b: &Factor, products: usize) -> Method {
        let work = size.m * size.n * size.k;
        let sums_rows = b.column == 1 && a.dtype == DType::F32;
        if size.n <= FEW_COLUMNS && a.column == 1 && size.k >= 16 {
            Method::DotRows
        } else if size.m <= 4 && sums_rows && size.n >= 16 {
            Method::SumRows
        } else if products >= 4 && work < 1 << 24 {
            Method::Apart
        } else {
            Method::Together
        }
    }

    pub(super) fn workspace(&self, isa: Isa, threads: usize) -> Workspace {
        let arithmetic = Arithmetic { isa, precision: self.precision };
        let [a, b] = [&self.a, &self.b].map(|f| f.at(std::ptr::null()));
        match self.method {
            Method::Together => workspace(arithmetic, threads, self.size, a, b),
            Method::Apart => workspace_on_one_thread(arithmetic, self.size, a, b),
            Method::DotRows => {
                Workspace { shared: self.size.n * self.size.k * self.batch.len(), per_thread: 0 }
            }
            Method::SumRows => Workspace::default(),
        }
    }

    pub(super) fn run(&self, context: &mut Context<'_>) {
        match self.precision {
            Precision::F32 => self.run_rounding::<Unrounded>(context),
            Precision::Bf16 => self.run_rounding::<ToBf16>(context),
        }
    }

    fn run_rounding<R: Rounding>(&self, context: &Context<'_>) {
        let place = |factor: &Factor, offset: isize| {
            let bytes = offset * factor.dtype.size_bytes() as isize;
            factor.at(context.at::<u8>(factor.buffer, bytes))
        };
        let matrices = |i: usize| {
            let [a, b, c] = self.batch[i];
            let c = Destination { pointer: context.at::<f32>(self.c.buffer, c), row: self.c.row };
            (place(&self.a, a), place(&self.b, b), c)
        };
        let (isa, pool, lent, size) = (context.isa, context.pool, context.lent, self.size);
        let arithmetic = Arithmetic { isa, precision: self.precision };
        match self.method {
            Method::Together => {
                for i in 0..self.batch.len() {
                    let (a, b, c) = matrices(i);
                    // SAFETY: views lie inside their buffers, C overlaps neither factor, and the
                    // workspace was sized for this step.
                    unsafe { gemm::gemm(arithmetic, Threads::All(pool), size, a, b, c, lent) };
                }
            }
            Method::Apart => {
                let all = Batch(&matrices);
                pool.run(self.batch.len(), &|i, thread| {
                    let (a, b, c) = all.get(i);
                    // SAFETY: as above; each product is one thread's, with its own workspace.
                    unsafe {
                        let memory = { lent }.threads.add(thread * lent.per_thread);
                        gemm::gemm_on_one_thread(arithmetic, size, a, b, c, memory);
                    }
                });
            }
            Method::DotRows => self.dot_rows::<R>(isa, context, &matrices, lent),
            Method::SumRows => {
                let all = Batch(&matrices);
                let chunks = size.n.div_ceil(gemm::COLUMNS);
                let tasks = chunks * self.batch.len();
                let piece = super::piece(tasks, size.n * size.k * self.batch.len(), pool.threads());
                pool.run(tasks.div_ceil(piece), &|p, _| {
                    for task in p * piece..((p + 1) * piece).min(tasks) {
                        let (a, b, c) = all.get(task / chunks);
                        let start = task % chunks * gemm::COLUMNS;
                        let count = gemm::COLUMNS.min(size.n - start);
                        // SAFETY: as above; the columns are this task's own.
                        unsafe {
                            let b = b.at(0, start);
                            let c = Destination { pointer: c.pointer.add(start), ..c };
                            gemv_columns::<R>(isa, a, b, c, size.m, count, size.k);
                        }
                    }
                });
            }
        }
    }

    fn dot_rows<R: Rounding>(
        &self,
        isa: Isa,
        context: &Context<'_>,
        matrices: &dyn Fn(usize) -> (Matrix, Matrix, Destination),
        lent: Lent,
    ) {
        let (size, pool) = (self.size, context.pool);
        let contiguous = self.b.dtype == DType::F32
            && self.precision == Precision::F32
            && (self.b.row == 1 || size.k == 1)
            && (size.n == 1 || self.b.column == size.k as isize);
        if !contiguous {
            for i in 0..self.batch.len() {
                let (_, b, _) = matrices(i);
                // SAFETY: B is readable and the shared workspace has room for it.
                unsafe { widen_columns::<R>(b, size, lent.shared.add(i * size.n * size.k)) };
            }
        }
        let all = Batch(matrices);
        let shared = Shared(lent.shared);
        // Pieces of rows that are long enough to stream, and several for each thread.
        let pieces = (size.m * size.k / super::WORTH_A_THREAD).clamp(1, pool.threads() * 8);
        let rows = size.m.div_ceil(pieces).next_multiple_of(4);
        let pieces = size.m.div_ceil(rows);
        let tasks = pieces * self.batch.len();
        let piece = super::piece(tasks, size.m * size.k * self.batch.len(), pool.threads() * 2);
        pool.run(tasks.div_ceil(piece), &|p, _| {
            for task in p * piece..((p + 1) * piece).min(tasks) {
                let (i, first) = (task / pieces, task % pieces * rows);
                let (a, b, c) = all.get(i);
                let count = rows.min(size.m - first);
                // SAFETY: views lie inside their buffers; the rows of C are this task's own.
                unsafe {
                    let x = if contiguous {
                        b.pointer.cast::<f32>()
                    } else {
                        shared.get().add(i * size.n * size.k).cast_const()
                    };
                    let to = c.pointer.offset(first as isize * c.row);
                    let c = Destination { pointer: to, ..c };
                    gemm::dot_rows::<R>(isa, a.at(first, 0), x, c, count, size.n, size.k);
                }
            }
        });
    }
}

/// Columns of B as contiguous f32 rows, rounded.
///
/// # Safety
/// B is readable over the size; `to` has room for `n · k` floats.
unsafe fn widen_columns<R: Rounding>(b: Matrix, size: Size, to: *mut f32) {
    use orion_tensor::{bf16, f16};
    for k in 0..size.k {
        for column in 0..size.n {
            // SAFETY: the caller's promise.
            unsafe {
                let from = b.at(k, column).pointer;
                *to.add(column * size.k + k) = R::round(match b.dtype {
                    DType::F16 => from.cast::<f16>().read_unaligned().to_f32(),
                    DType::BF16 => from.cast::<bf16>().read_unaligned().to_f32(),
                    _ => from.cast::<f32>().read_unaligned(),
                });
            }
        }
    }
}

/// The operands of every product, for all threads.
struct Batch<'a>(&'a dyn Fn(usize) -> (Matrix, Matrix, Destination));

// SAFETY: the closure only adds offsets to pointers.
unsafe impl Sync for Batch<'_> {}

impl Batch<'_> {
    fn get(&self, i: usize) -> (Matrix, Matrix, Destination) {
        (self.0)(i)
    }
}
