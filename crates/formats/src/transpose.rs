use orion_tensor::{AlignedBytes, Bytes, Tensor, in_parts};

/// Rows and columns that are turned together: both sides stay in the first-level cache.
const BLOCK: usize = 32;

/// A matrix `[rows, columns]` of any element type as `[columns, rows]`.
///
/// # Panics
/// When the tensor has not two axes.
pub fn transposed(matrix: &Tensor) -> Tensor {
    let &[rows, columns] = matrix.shape() else {
        panic!("a matrix has two axes, not {:?}", matrix.shape());
    };
    let from: &[u8] = matrix.bytes();
    let mut to = AlignedBytes::zeroed(from.len());
    let size = matrix.dtype().size_bytes();
    if !from.is_empty() {
        in_parts(&mut to, rows * size, |first, to| match size {
            1 => transpose::<1>(from, to, rows, columns, first),
            2 => transpose::<2>(from, to, rows, columns, first),
            4 => transpose::<4>(from, to, rows, columns, first),
            _ => transpose::<8>(from, to, rows, columns, first),
        });
    }
    let turned = Tensor::new(matrix.dtype(), vec![columns, rows], Bytes::new(to));
    turned.expect("as many bytes as before")
}

/// Columns from `first` on, as many as `to` has room for, as rows.
fn transpose<const WIDTH: usize>(
    from: &[u8],
    to: &mut [u8],
    rows: usize,
    columns: usize,
    first: usize,
) {
    let (from, _) = from.as_chunks::<WIDTH>();
    let (to, _) = to.as_chunks_mut::<WIDTH>();
    let count = to.len() / rows;
    for column_block in (0..count).step_by(BLOCK) {
        let block_columns = column_block..count.min(column_block + BLOCK);
        for row_block in (0..rows).step_by(BLOCK) {
            let block_rows = row_block..rows.min(row_block + BLOCK);
            for column in block_columns.clone() {
                for row in block_rows.clone() {
                    to[column * rows + row] = from[row * columns + first + column];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_tensor::DType;

    #[test]
    fn rows_become_columns() {
        for (rows, columns) in [(1, 1), (3, 70), (65, 33), (0, 4), (700, 901)] {
            for dtype in [DType::I8, DType::I16, DType::F32, DType::F64] {
                let value = |r: usize, c: usize| ((r * 7 + c * 3) % 100) as f64;
                let all = |a: usize, b: usize, f: &dyn Fn(usize, usize) -> f64| {
                    let values: Vec<f64> =
                        (0..a).flat_map(|i| (0..b).map(move |j| f(i, j))).collect();
                    Tensor::from_f64(dtype, &[a, b], &values)
                };
                let matrix = all(rows, columns, &value);
                assert_eq!(transposed(&matrix), all(columns, rows, &|c, r| value(r, c)));
            }
        }
    }
}
