//! Constants held in fewer bits.

use super::{Operands, Types, known_shape, require, require_same_dtype, show};
use crate::op::Constexpr;
use crate::{Dim, TensorType, Type};
use orion_tensor::{DType, element_count};

pub(super) fn types(op: &Constexpr, operands: Operands<'_>) -> Types {
    let bits = |name, id| operands.check(name, id, "an integer tensor", DType::is_int);
    let numbers = |name, id| {
        let is_number = |d: DType| d.is_int() || (d.is_float() && d.bits() >= 16);
        operands.check(name, id, "a float or integer tensor", is_number)
    };
    let mask = |name, id| operands.check(name, id, "a uint1 tensor", |d| d == DType::U1);
    match op {
        Constexpr::Affine { data, scale, zero_point, axis } => {
            let data = operands.int("quantized_data", *data)?;
            let scale = operands.float("scale", *scale)?;
            let zero_point = numbers("zero_point", *zero_point)?;
            require(*axis < data.rank(), || {
                format!("axis {axis} is outside of quantized_data, which is {}", show(data))
            })?;
            for (name, t) in [("scale", scale), ("zero_point", zero_point)] {
                let fits = match t.dims[..] {
                    [] => true,
                    [n] => n == Dim::Known(1) || n == data.dims[*axis],
                    _ => false,
                };
                require(fits, || {
                    format!(
                        "{name} must hold one number or one for each of the {} of axis {axis}, it is {}",
                        data.dims[*axis],
                        show(t)
                    )
                })?;
            }
            Ok(vec![TensorType { dtype: scale.dtype, dims: data.dims.clone() }.into()])
        }
        Constexpr::Lut { indices, lut, packed: Some(shape), .. } => {
            let indices = operands.check("indices", *indices, "uint8", |d| d == DType::U8)?;
            let lut = numbers("lut", *lut)?;
            let bits = match lut.dims[..] {
                [Dim::Known(n)] if n.is_power_of_two() && (2..=256).contains(&n) => n.ilog2(),
                _ => {
                    let lut = show(lut);
                    return Err(format!("lut must have 2, 4, 8, … or 256 entries, it is {lut}"));
                }
            };
            require_stream("indices", indices, shape, bits as usize)?;
            Ok(vec![Type::tensor(lut.dtype, shape)])
        }
        Constexpr::Lut { indices, lut, vector_axis, packed: None } => {
            let (indices, lut) = (bits("indices", *indices)?, numbers("lut", *lut)?);
            let mut shape = known_shape("indices", indices)?;
            let vector = palettes(&shape, lut, indices.dtype)?;
            match vector_axis {
                Some(axis) => {
                    require(*axis < shape.len(), || {
                        format!("vector_axis {axis} is outside of indices, {}", show(indices))
                    })?;
                    let long = shape[*axis].checked_mul(vector);
                    shape[*axis] = long.ok_or("the result is too large")?;
                }
                None => require(vector == 1, || {
                    format!("lut {} holds vectors of {vector}, vector_axis is missing", show(lut))
                })?,
            }
            Ok(vec![Type::tensor(lut.dtype, &shape)])
        }
        Constexpr::Sparse { data, mask: of, packed } => {
            let data = numbers("nonzero_data", *data)?;
            require(data.rank() == 1, || {
                format!("nonzero_data must be [n], it is {}", show(data))
            })?;
            let shape = match packed {
                Some(shape) => {
                    let mask = operands.check("mask", *of, "uint8", |d| d == DType::U8)?;
                    require_stream("mask", mask, shape, 1)?;
                    shape.clone()
                }
                None => known_shape("mask", mask("mask", *of)?)?,
            };
            Ok(vec![Type::tensor(data.dtype, &shape)])
        }
        Constexpr::Blockwise { data, scale, offset } => {
            let data = numbers("data", *data)?;
            let scale = operands.float("scale", *scale)?;
            let offset = offset.map(|o| numbers("offset", o)).transpose()?;
            require_blocks(&known_shape("data", data)?, scale, offset)?;
            Ok(vec![TensorType { dtype: scale.dtype, dims: data.dims.clone() }.into()])
        }
        Constexpr::SparseLut { mask: of, indices, lut } => {
            let mask = mask("indices_mask", *of)?;
            let indices = bits("indices_nonzero_data", *indices)?;
            let lut = numbers("lut", *lut)?;
            require(indices.rank() == 1, || {
                format!("indices_nonzero_data must be [n], it is {}", show(indices))
            })?;
            let vector = palettes(&known_shape("indices_mask", mask)?, lut, indices.dtype)?;
            require(vector == 1, || {
                format!("lut {} holds vectors, which have no meaning here yet", show(lut))
            })?;
            let values = TensorType { dtype: lut.dtype, dims: indices.dims.clone() };
            Ok(vec![mask.clone().into(), values.into()])
        }
        Constexpr::SparseBlockwise { mask: of, data, scale, offset } => {
            let mask = mask("data_mask", *of)?;
            let data = numbers("nonzero_data", *data)?;
            let scale = operands.float("scale", *scale)?;
            let offset = offset.map(|o| numbers("offset", o)).transpose()?;
            require(data.rank() == 1, || {
                format!("nonzero_data must be [n], it is {}", show(data))
            })?;
            require_blocks(&known_shape("data_mask", mask)?, scale, offset)?;
            let values = TensorType { dtype: scale.dtype, dims: data.dims.clone() };
            Ok(vec![mask.clone().into(), values.into()])
        }
    }
}

/// A stream of bytes must hold `bits` for each element of `shape`.
fn require_stream(name: &str, t: &TensorType, shape: &[usize], bits: usize) -> Result<(), String> {
    let elements = shape.iter().try_fold(bits, |n, &d| n.checked_mul(d));
    let bytes = elements.map(|n| n.div_ceil(8));
    require(t.rank() == 1 && bytes.is_some() && t.element_count() == bytes, || {
        format!("{name} must hold {bits} bits for each element of {shape:?}, it is {}", show(t))
    })
}

/// The length of the vectors of a table of palettes for indices of `shape`.
fn palettes(shape: &[usize], lut: &TensorType, index: DType) -> Result<usize, String> {
    let wrong = || {
        format!(
            "lut must be […, {}, vector] with blocks that divide {shape:?}, it is {}",
            1usize << index.bits().min(8),
            show(lut)
        )
    };
    let all = lut.shape().ok_or_else(wrong)?;
    let (Some(blocks), true) = (all.len().checked_sub(2), index.bits() <= 8) else {
        return Err(wrong());
    };
    let fits = blocks == shape.len()
        && all[blocks] == 1 << index.bits()
        && all[blocks + 1] > 0
        && divides(&all[..blocks], shape);
    require(fits, wrong)?;
    Ok(all[blocks + 1])
}

fn divides(blocks: &[usize], shape: &[usize]) -> bool {
    blocks.iter().zip(shape).all(|(&b, &n)| b > 0 && n.is_multiple_of(b))
}

fn require_blocks(
    shape: &[usize],
    scale: &TensorType,
    offset: Option<&TensorType>,
) -> Result<(), String> {
    let blocks = known_shape("scale", scale)?;
    require(blocks.len() == shape.len() && divides(&blocks, shape), || {
        format!("scale {blocks:?} does not divide data {shape:?} into blocks")
    })?;
    require(element_count(&blocks) > 0, || "scale is empty".to_owned())?;
    let Some(offset) = offset else { return Ok(()) };
    if offset.dtype.is_float() {
        require_same_dtype(("offset", offset), ("scale", scale))?;
    }
    require(offset.dims == scale.dims, || {
        format!("offset must have the shape of scale, {}, it is {}", show(scale), show(offset))
    })
}
