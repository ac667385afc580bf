//! The `constexpr_…` ops. Their parameters are attributes up to iOS17 and arguments later;
//! [`crate::hoist_literals`] makes arguments of both.

use super::Refusal;
use super::arguments::{Arguments, missing};
use super::meaning::unknown_choice;
use crate::Op;
use crate::op::Constexpr;

pub(super) fn read(name: &str, a: &mut Arguments<'_>) -> Result<Op, Refusal> {
    let op = match name {
        "constexpr_affine_dequantize" => {
            let data = a.value("quantized_data")?;
            let rank = a.tensor("quantized_data", data)?.rank();
            Constexpr::Affine {
                data,
                scale: a.value("scale")?,
                zero_point: a.value("zero_point")?,
                axis: a.axis("axis", rank, 0)?,
            }
        }
        "constexpr_lut_to_dense" => {
            let indices = a.value("indices")?;
            let packed = a.sizes("shape")?;
            let rank = a.tensor("indices", indices)?.rank();
            let lut = a.value("lut")?;
            let vector_axis = match a.int("vector_axis")? {
                Some(axis) => Some(a.axis("vector_axis", rank, axis)?),
                None => None,
            };
            Constexpr::Lut { indices, lut, vector_axis, packed }
        }
        "constexpr_sparse_to_dense" => Constexpr::Sparse {
            data: a.value("nonzero_data")?,
            mask: a.value("mask")?,
            packed: a.sizes("shape")?,
        },
        "constexpr_blockwise_shift_scale" => Constexpr::Blockwise {
            data: a.value("data")?,
            scale: a.value("scale")?,
            offset: a.optional_value("offset")?,
        },
        "constexpr_lut_to_sparse" => {
            // It matters only for vectors longer than 1, which inference refuses.
            a.int("vector_axis")?;
            Constexpr::SparseLut {
                mask: a.value("indices_mask")?,
                indices: a.value("indices_nonzero_data")?,
                lut: a.value("lut")?,
            }
        }
        "constexpr_sparse_blockwise_shift_scale" => Constexpr::SparseBlockwise {
            mask: a.value("data_mask")?,
            data: a.value("nonzero_data")?,
            scale: a.value("scale")?,
            offset: a.optional_value("offset")?,
        },
        "constexpr_cast" => {
            let x = a.value("source_val")?;
            let name = a.string("output_dtype")?.ok_or_else(|| missing("output_dtype"))?;
            let dtype = name.parse().map_err(|()| unknown_choice("output_dtype", name))?;
            return Ok(Op::Cast { x, dtype });
        }
        _ => unreachable!("`{name}` is not a constexpr"),
    };
    Ok(Op::Constexpr(op))
}
