//! What matrix products are computed in. Programs do not say it: their types stay as they are.

use orion_mil::Op;
use orion_tensor::{DType, Tensor, bf16};

/// What the operands of matrix products are rounded to. Products are summed in f32 at least, and
/// everything that is not a matrix product is computed in the types that the program names.
///
/// Matrix products are `matmul`, `linear`, `conv` and `scaled_dot_product_attention`; of the last
/// the query, key and value are rounded. So it is where `cpu` computes attention written as
/// products in one step: probabilities, and what is made of them, stay f32 there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Precision {
    /// Operands are taken as they are.
    #[default]
    F32,
    /// Floats of any type are rounded to the nearest bf16, ties to even, before they are
    /// multiplied: about twice as fast where there are instructions for it, and half the memory
    /// for what is packed.
    Bf16,
}

impl Precision {
    /// Rounds what an op multiplies, given its operands in the order of [`Op::operands`].
    pub(crate) fn round_operands(self, op: &Op, operands: &mut [Tensor]) {
        let multiplied = match op {
            Op::Matmul { .. } | Op::Linear { .. } | Op::Conv { .. } => 2,
            Op::Attention { .. } => 3,
            _ => return,
        };
        match self {
            Self::F32 => {}
            Self::Bf16 => operands[..multiplied].iter_mut().for_each(round_to_bf16),
        }
    }
}

/// Rounds every element to bf16, where it is of a float type that holds all of those.
fn round_to_bf16(tensor: &mut Tensor) {
    if !matches!(tensor.dtype(), DType::F32 | DType::F16) {
        return;
    }
    let rounded = |v: f64| bf16::from_f32(v as f32).to_f32();
    let values: Vec<f32> = tensor.to_f64_vec().into_iter().map(rounded).collect();
    *tensor = Tensor::from_slice(tensor.shape(), &values);
}
