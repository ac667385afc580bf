//! One contender: a Rust crate for matrix products, as a process that measures for every line it
//! reads.
//!
//! usage: gemm-crates faer|gemm THREADS SHAPE...
//! A shape is KIND:O:I:N with KIND fwd (W[O,I] X[I,N]), dX (Wᵀ dY[O,N]) or dW (dY Xᵀ), in fp32.
//! For every line, the median of that many samples for each shape, in seconds a product.

use std::io::BufRead;
use std::time::Instant;

/// An operand: a row-major matrix, or the transpose of one.
struct Matrix {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
    row_stride: isize,
    column_stride: isize,
}

impl Matrix {
    fn new(rows: usize, columns: usize, transposed: bool) -> Self {
        let value = |i: usize| ((i as u32).wrapping_mul(2654435761) >> 24) as f32 / 64.0 - 2.0;
        let (row_stride, column_stride) = match transposed {
            false => (columns as isize, 1),
            true => (1, rows as isize),
        };
        Self {
            values: (0..rows * columns).map(value).collect(),
            rows,
            columns,
            row_stride,
            column_stride,
        }
    }
}

struct Product {
    a: Matrix,
    b: Matrix,
    c: Matrix,
    calls: usize,
}

impl Product {
    fn parse(shape: &str) -> Self {
        let parts: Vec<&str> = shape.split(':').collect();
        let [o, i, n] = [1, 2, 3].map(|at| parts[at].parse::<usize>().expect("a size"));
        let (m, k, n, a_transposed, b_transposed) = match parts[0] {
            "fwd" => (o, i, n, false, false),
            "dX" => (i, o, n, true, false),
            "dW" => (o, n, i, false, true),
            other => panic!("no product is called {other}"),
        };
        let (a, b) = (Matrix::new(m, k, a_transposed), Matrix::new(k, n, b_transposed));
        Self { a, b, c: Matrix::new(m, n, false), calls: 1 }
    }

    fn with_gemm(&mut self, threads: usize) {
        let Self { a, b, c, .. } = self;
        // SAFETY: pointers and strides are those of vectors of these sizes.
        unsafe {
            gemm::gemm(
                c.rows,
                c.columns,
                a.columns,
                c.values.as_mut_ptr(),
                c.column_stride,
                c.row_stride,
                false,
                a.values.as_ptr(),
                a.column_stride,
                a.row_stride,
                b.values.as_ptr(),
                b.column_stride,
                b.row_stride,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(threads),
            );
        }
    }

    fn with_faer(&mut self, threads: usize) {
        use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
        fn of(m: &Matrix) -> MatRef<'_, f32> {
            // SAFETY: strides are those of a vector of this size.
            unsafe {
                MatRef::from_raw_parts(
                    m.values.as_ptr(), m.rows, m.columns, m.row_stride, m.column_stride,
                )
            }
        }
        let c = MatMut::from_row_major_slice_mut(&mut self.c.values, self.a.rows, self.b.columns);
        matmul(c, Accum::Replace, of(&self.a), of(&self.b), 1.0, Par::rayon(threads));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (name, threads) = (arguments[1].as_str(), arguments[2].parse::<usize>().expect("threads"));
    let run = |p: &mut Product| match name {
        "faer" => p.with_faer(threads),
        "gemm" => p.with_gemm(threads),
        other => panic!("no crate is called {other}"),
    };
    let sample = |p: &mut Product| {
        let begin = Instant::now();
        for _ in 0..p.calls {
            run(p);
        }
        begin.elapsed().as_secs_f64() / p.calls as f64
    };
    let mut products: Vec<Product> = arguments[3..].iter().map(|s| Product::parse(s)).collect();
    for p in &mut products {
        run(p);
        p.calls = ((0.02 / sample(p)) as usize).max(1);
    }
    let version = if name == "faer" { "0.24" } else { "0.19" };
    println!("{{\"ready\": true, \"version\": \"{version}\"}}");
    for line in std::io::stdin().lock().lines() {
        let repetitions: usize = line.expect("text").trim().parse().expect("a count");
        let medians: Vec<f64> = products
            .iter_mut()
            .map(|p| {
                let mut samples: Vec<f64> = (0..repetitions).map(|_| sample(p)).collect();
                samples.sort_by(f64::total_cmp);
                samples[samples.len() / 2]
            })
            .collect();
        println!("{{\"seconds\": {medians:?}}}");
    }
}
