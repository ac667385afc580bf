//! Makes one transpose of two, takes transposes of the last two axes into `matmul`, and writes
//! those that move only axes of size 1 as reshapes.
//! Does not move transposes past other operations.

use crate::rewrite::{Changes, Meanings};
use orion_mil::{Function, Op, TensorType, ValueId};

/// Runs the pass; whether the function changed.
pub fn run(function: &mut Function) -> bool {
    let meanings = Meanings::of(function);
    let mut changes = Changes::default();
    for (index, op) in meanings.ops.iter().enumerate() {
        match op {
            Some(Op::Transpose { x, perm }) => {
                if let Some(Op::Transpose { x: inner, perm: first }) = meanings.maker(function, *x)
                {
                    let perm: Vec<usize> = perm.iter().map(|&p| first[p]).collect();
                    changes.replace(index, Op::Transpose { x: *inner, perm });
                } else if let Some(shape) = as_reshape(function, *x, perm) {
                    changes.replace(index, Op::Reshape { x: *x, shape });
                }
            }
            Some(Op::Matmul { x, y, transpose_x, transpose_y }) => {
                let flipped_x = flipped(function, &meanings, *x);
                let flipped_y = flipped(function, &meanings, *y);
                if flipped_x.is_some() || flipped_y.is_some() {
                    changes.replace(
                        index,
                        Op::Matmul {
                            x: flipped_x.unwrap_or(*x),
                            y: flipped_y.unwrap_or(*y),
                            transpose_x: *transpose_x ^ flipped_x.is_some(),
                            transpose_y: *transpose_y ^ flipped_y.is_some(),
                        },
                    );
                }
            }
            _ => {}
        }
    }
    changes.apply(function)
}

/// What a value is when its last two axes are swapped, if it was made by swapping them.
fn flipped(function: &Function, meanings: &Meanings, id: ValueId) -> Option<ValueId> {
    let Some(Op::Transpose { x, perm }) = meanings.maker(function, id) else { return None };
    let rank = perm.len();
    let mut swapped: Vec<usize> = (0..rank).collect();
    (rank >= 2).then(|| swapped.swap(rank - 2, rank - 1));
    (rank >= 2 && *perm == swapped).then_some(*x)
}

/// The shape to reshape to, when the longer axes stay in order.
fn as_reshape(function: &Function, x: ValueId, perm: &[usize]) -> Option<Vec<usize>> {
    let shape = function.ty(x).as_tensor().and_then(TensorType::shape)?;
    let long = perm.iter().filter(|&&axis| shape[axis] != 1);
    long.is_sorted().then(|| perm.iter().map(|&axis| shape[axis]).collect())
}
