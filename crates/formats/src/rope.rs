use crate::{Error, ErrorKind, Result};
use orion_tensor::{AlignedBytes, Bytes, Tensor};

/// Reorders the rows of a query or key projection from the interleaved RoPE convention
/// (rotate elements `2i` and `2i+1` of a head; llama2.c, Meta, GGUF llama) to the half-split one
/// (rotate `i` and `i + D/2`; Hugging Face).
///
/// `tensor` is `[heads * D, ...]`, of any element type, `D` even; rows are viewed as
/// `[heads, D/2, 2]` and the last two axes of that are swapped.
///
/// # Errors
/// [`ErrorKind::Malformed`] when the first axis is not `heads` times an even number.
pub fn rope_interleaved_to_half(tensor: &Tensor, heads: usize) -> Result<Tensor> {
    permute_rows(tensor, heads, |half, row| (row % 2) * half + row / 2)
}

/// The inverse of [`rope_interleaved_to_half`].
///
/// # Errors
/// As [`rope_interleaved_to_half`].
pub fn rope_half_to_interleaved(tensor: &Tensor, heads: usize) -> Result<Tensor> {
    permute_rows(tensor, heads, |half, row| 2 * (row % half) + row / half)
}

/// Moves row `r` of every head to `target(D/2, r)`.
fn permute_rows(
    tensor: &Tensor,
    heads: usize,
    target: impl Fn(usize, usize) -> usize,
) -> Result<Tensor> {
    let rows = tensor.shape().first().copied().unwrap_or(0);
    if heads == 0 || rows == 0 || !rows.is_multiple_of(heads) || !(rows / heads).is_multiple_of(2) {
        return Err(Error::new(
            ErrorKind::Malformed,
            format!(
                "a projection {}{:?} cannot be split into {heads} heads of even size",
                tensor.dtype(),
                tensor.shape()
            ),
        ));
    }
    let head_dim = rows / heads;
    let row_bytes = tensor.bytes().len() / rows;
    let mut out = AlignedBytes::zeroed(tensor.bytes().len());
    for head in 0..heads {
        for row in 0..head_dim {
            let from = (head * head_dim + row) * row_bytes;
            let to = (head * head_dim + target(head_dim / 2, row)) * row_bytes;
            out[to..to + row_bytes].copy_from_slice(&tensor.bytes()[from..from + row_bytes]);
        }
    }
    let out = Tensor::new(tensor.dtype(), tensor.shape().to_vec(), Bytes::new(out));
    Ok(out.expect("the bytes were only reordered"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_move_to_halves() {
        let t = Tensor::from_slice(&[8, 1], &[0i32, 1, 2, 3, 10, 11, 12, 13]);
        let half = rope_interleaved_to_half(&t, 2).unwrap();
        assert_eq!(*half.elements::<i32>(), [0, 2, 1, 3, 10, 12, 11, 13]);
        assert_eq!(rope_half_to_interleaved(&half, 2).unwrap(), t);

        let t = Tensor::from_slice(&[6], &[0u16, 1, 2, 3, 4, 5]);
        let half = rope_interleaved_to_half(&t, 1).unwrap();
        assert_eq!(*half.elements::<u16>(), [0, 2, 4, 1, 3, 5]);
        assert_eq!(rope_half_to_interleaved(&half, 1).unwrap(), t);
    }

    #[test]
    fn odd_heads_are_refused() {
        let t = Tensor::from_slice(&[6, 1], &[0f32; 6]);
        for heads in [0, 2, 4, 6] {
            assert!(rope_interleaved_to_half(&t, heads).is_err(), "{heads}");
        }
    }
}
