use super::{Context, Shared};
use crate::kernels::gemm::{
    self, Arithmetic, Destination, FEW_COLUMNS, Form, Lent, Matrix, Rounding, RowBias, Scales,
    Size, Threads, ToBf16, Unrounded, Workspace, gemv_columns, workspace, workspace_on_one_thread,
};
use crate::kernels::isa::Isa;
use crate::plan::view::{BufferId, View};
use crate::precision::Precision;
use orion_tensor::DType;

/// A factor of a product: a matrix in a buffer, batch offsets apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factor {
    pub buffer: BufferId,
    /// F32, F16 or BF16; I8 for an A that has scales.
    pub dtype: DType,
    pub row: isize,
    pub column: isize,
}

/// Scales and offsets of a left factor that is a constant of int8 from its first element on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FactorScales {
    /// f32.
    pub buffer: BufferId,
    /// f32, as many as there are scales; none where all are zero.
    pub offsets: Option<BufferId>,
    /// Distance of the scales of neighbouring rows.
    pub row: usize,
    /// Elements of a row that share one.
    pub block: usize,
}

impl Factor {
    /// The matrices in the last two axes of a view.
    pub(crate) fn of(view: &View) -> Self {
        let rank = view.shape.len();
        let (row, column) = (view.strides[rank - 2], view.strides[rank - 1]);
        Self { buffer: view.buffer, dtype: view.dtype, row, column }
    }

    /// The matrix, when it begins there; without its scales.
    fn at(&self, pointer: *const u8) -> Matrix {
        Matrix::new(pointer, self.dtype, self.row, self.column)
    }

    /// The matrix that begins so many elements into the buffer; without its scales.
    pub(super) fn place(&self, context: &Context<'_>, offset: isize) -> Matrix {
        let bytes = offset * self.dtype.size_bytes() as isize;
        self.at(context.at::<u8>(self.buffer, bytes))
    }

    /// Rows and columns swapped.
    pub(crate) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }
}

/// A number for each row of C, f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bias {
    pub buffer: BufferId,
    pub offset: isize,
    pub stride: isize,
}

/// Whether so many columns that are sums of so many products are computed as dot products.
fn is_few(columns: usize, depth: usize) -> bool {
    columns <= FEW_COLUMNS && depth >= 16
}

/// Bytes of weights that are worth beginning a stream for.
const STREAM: usize = 256 << 10;
/// Pieces of a product for every thread, at most.
const PIECES: usize = 16;

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
    /// Of an A of int8.
    pub scales: Option<FactorScales>,
    /// Added to each row of C; not by [`Method::SumRows`].
    pub bias: Option<Bias>,
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
        if is_few(size.n, size.k) && a.column == 1 {
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
                Workspace { shared: Form::lanes(self.size) * self.batch.len(), per_thread: 0 }
            }
            Method::SumRows => Workspace::default(),
        }
    }

    pub(super) fn run(&self, context: &Context<'_>) {
        match self.precision {
            Precision::F32 => self.run_rounding::<Unrounded>(context),
            Precision::Bf16 => self.run_rounding::<ToBf16>(context),
        }
    }

    fn run_rounding<R: Rounding>(&self, context: &Context<'_>) {
        let scales = self.scales.map(|s| Scales {
            pointer: context.at(s.buffer, 0),
            offsets: s.offsets.map(|o| context.at::<f32>(o, 0).cast_const()),
            row: s.row,
            block: s.block,
            column: 0,
        });
        let matrices = |i: usize| {
            let [a, b, c] = self.batch[i];
            let c = Destination { pointer: context.at::<f32>(self.c.buffer, c), row: self.c.row };
            (Matrix { scales, ..self.a.place(context, a) }, self.b.place(context, b), c)
        };
        let (isa, pool, lent, size) = (context.isa, context.pool, context.lent, self.size);
        let arithmetic = Arithmetic { isa, precision: self.precision };
        let bias = self.bias.map(|bias| RowBias {
            pointer: context.at(bias.buffer, bias.offset),
            stride: bias.stride,
        });
        match self.method {
            Method::Together => {
                for i in 0..self.batch.len() {
                    let (a, b, c) = matrices(i);
                    // SAFETY: views lie inside their buffers, C overlaps neither factor, and the
                    // workspace was sized for this step.
                    unsafe {
                        gemm::gemm(arithmetic, Threads::All(pool), size, a, b, c, bias, lent)
                    };
                }
            }
            Method::Apart => {
                let all = Batch(&matrices);
                pool.run(self.batch.len(), &|i, thread| {
                    let (a, b, c) = all.get(i);
                    // SAFETY: as above; each product is one thread's, with its own workspace.
                    unsafe {
                        let memory = { lent }.threads.add(thread * lent.per_thread);
                        gemm::gemm_on_one_thread(arithmetic, size, a, b, c, bias, memory);
                    }
                });
            }
            Method::DotRows => self.dot_rows(arithmetic, context, &matrices, lent),
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

    fn dot_rows(
        &self,
        arithmetic: Arithmetic,
        context: &Context<'_>,
        matrices: &dyn Fn(usize) -> (Matrix, Matrix, Destination),
        lent: Lent,
    ) {
        let (size, pool, precision) = (self.size, context.pool, self.precision);
        let form = Form::of(arithmetic, self.a.dtype);
        let fits = form.fits(precision, self.b.at(std::ptr::null()), size);
        let columns = Form::lanes(size);
        if !fits {
            for i in 0..self.batch.len() {
                let (_, b, _) = matrices(i);
                // SAFETY: B is readable and the shared workspace has room for it.
                unsafe {
                    let to = lent.shared.add(i * columns);
                    gemm::pack_columns(form, precision, b, size, to);
                }
            }
        }
        let all = Batch(matrices);
        let shared = Shared(lent.shared);
        let bias = self.bias.map(|b| (Shared(context.at::<f32>(b.buffer, b.offset)), b.stride));
        let rows = self.rows_of_a_piece(pool.threads());
        let pieces = size.m.div_ceil(rows);
        let tasks = pieces * self.batch.len();
        let piece = super::piece(tasks, size.m * size.k * self.batch.len(), pool.threads() * 2);
        pool.run(tasks.div_ceil(piece), &|p, _| {
            for task in p * piece..((p + 1) * piece).min(tasks) {
                let (i, first) = (task / pieces, task % pieces * rows);
                let (a, b, c) = all.get(i);
                let size = Size { m: rows.min(size.m - first), ..size };
                // SAFETY: views lie inside their buffers; the rows of C are this task's own.
                unsafe {
                    let x = if fits {
                        b.pointer.cast::<f32>()
                    } else {
                        shared.get().add(i * columns).cast_const()
                    };
                    let to = c.pointer.offset(first as isize * c.row);
                    let c = Destination { pointer: to, ..c };
                    gemm::dot_rows(arithmetic, a.at(first, 0), x, c, size);
                    if let Some((bias, stride)) = bias {
                        for row in 0..size.m {
                            let added = *bias.get().offset((first + row) as isize * stride);
                            let to = c.pointer.offset(row as isize * c.row);
                            let to = std::slice::from_raw_parts_mut(to, size.n);
                            to.iter_mut().for_each(|v| *v += added);
                        }
                    }
                }
            }
        });
    }

    /// Rows of A that a thread takes at once: enough to stream, as a stream begins slowly, and
    /// as many pieces for every thread.
    fn rows_of_a_piece(&self, threads: usize) -> usize {
        let Size { m, k, .. } = self.size;
        let bytes = m * k * self.a.dtype.size_bytes();
        let each = (bytes / threads / STREAM).min(PIECES);
        let pieces = match each {
            0 => (m * k / super::WORTH_A_THREAD).clamp(1, threads),
            each => each * threads,
        };
        m.div_ceil(pieces)
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
