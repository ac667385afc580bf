//! Writes the `constexpr_…` ops, with arguments as iOS18 has them.

use super::{Encoded, int, named};
use crate::Value;
use crate::op::Constexpr;
use orion_tensor::{DType, Tensor};

pub(super) fn constexpr(op: &Constexpr) -> Encoded {
    // MIL has these two as uint32.
    let shape = |sizes: &[usize]| {
        let sizes: Vec<f64> = sizes.iter().map(|&n| n as f64).collect();
        Value::tensor(Tensor::from_f64(DType::U32, &[sizes.len()], &sizes))
    };
    match op {
        Constexpr::Affine { data, scale, zero_point, axis } => named("constexpr_affine_dequantize")
            .operand("quantized_data", *data)
            .operand("scale", *scale)
            .operand("zero_point", *zero_point)
            .parameter("axis", int(*axis)),
        Constexpr::Lut { indices, lut, vector_axis, packed } => {
            let mut encoded =
                named("constexpr_lut_to_dense").operand("indices", *indices).operand("lut", *lut);
            if let Some(axis) = vector_axis {
                encoded = encoded.parameter("vector_axis", int(*axis));
            }
            match packed {
                Some(sizes) => encoded.parameter("shape", shape(sizes)),
                None => encoded,
            }
        }
        Constexpr::Sparse { data, mask, packed } => {
            let encoded = named("constexpr_sparse_to_dense")
                .operand("nonzero_data", *data)
                .operand("mask", *mask);
            match packed {
                Some(sizes) => encoded.parameter("shape", shape(sizes)),
                None => encoded,
            }
        }
        Constexpr::Blockwise { data, scale, offset } => named("constexpr_blockwise_shift_scale")
            .operand("data", *data)
            .operand("scale", *scale)
            .optional("offset", *offset),
        Constexpr::SparseLut { mask, indices, lut } => named("constexpr_lut_to_sparse")
            .operand("indices_mask", *mask)
            .operand("indices_nonzero_data", *indices)
            .operand("lut", *lut),
        Constexpr::SparseBlockwise { mask, data, scale, offset } => {
            named("constexpr_sparse_blockwise_shift_scale")
                .operand("data_mask", *mask)
                .operand("nonzero_data", *data)
                .operand("scale", *scale)
                .optional("offset", *offset)
        }
    }
}
