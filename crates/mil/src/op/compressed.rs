//! Constants that a file holds in fewer bits than programs compute with.

use crate::ValueId;

/// How a constant is unpacked: MIL's `constexpr_…` ops. Devices compute them once, when they
/// compile.
///
/// A *block* is the part of a tensor that shares one scale or one palette: along each axis,
/// the tensor's size divided by the size that scales or palettes have there. Masks hold ones
/// where the dense tensor has a value of its own; values come in the row-major order of the ones.
#[derive(Debug, Clone, PartialEq)]
pub enum Constexpr {
    /// `scale · (data - zero_point)`.
    Affine {
        /// int8 or uint8.
        data: ValueId,
        /// One number, or one for each position of `axis`.
        scale: ValueId,
        /// Like `scale`.
        zero_point: ValueId,
        /// Axis of `data`.
        axis: usize,
    },
    /// `palette[index]`, palettes by block.
    Lut {
        /// Indices of up to 8 bits; where `packed` is given, a stream of bytes.
        indices: ValueId,
        /// Up to iOS17 `[palette size]`. Later the number of blocks per axis, then the palette's
        /// size, then how many neighbours along `vector_axis` an index stands for.
        lut: ValueId,
        /// The axis along which vectors lie; needed where they are longer than 1.
        vector_axis: Option<usize>,
        /// The dense shape, where indices are a stream: each takes log2 of the palette's size
        /// bits, lowest first.
        packed: Option<Vec<usize>>,
    },
    /// `data` where the mask is 1, else 0.
    Sparse {
        /// `[ones]`
        data: ValueId,
        /// uint1 of the dense shape; where `packed` is given, a stream of bytes.
        mask: ValueId,
        /// The dense shape, where the mask is a stream: one bit each, lowest first.
        packed: Option<Vec<usize>>,
    },
    /// `scale · (data - offset)`, by block.
    Blockwise {
        /// Any numbers.
        data: ValueId,
        /// The number of blocks per axis.
        scale: ValueId,
        /// Shape of `scale`.
        offset: Option<ValueId>,
    },
    /// The mask unchanged, and `palette[index]` for each of its ones. Vectors have length 1.
    SparseLut {
        /// uint1 of the dense shape.
        mask: ValueId,
        /// `[ones]`
        indices: ValueId,
        /// As for [`Constexpr::Lut`].
        lut: ValueId,
    },
    /// The mask unchanged, and `scale · (data - offset)` for each of its ones.
    SparseBlockwise {
        /// uint1 of the dense shape.
        mask: ValueId,
        /// `[ones]`
        data: ValueId,
        /// The number of blocks per axis of the dense shape.
        scale: ValueId,
        /// Shape of `scale`.
        offset: Option<ValueId>,
    },
}

impl Constexpr {
    /// The values it reads, in a fixed order.
    pub(super) fn operands(&self) -> Vec<ValueId> {
        match self {
            Self::Affine { data, scale, zero_point, .. } => vec![*data, *scale, *zero_point],
            Self::Lut { indices, lut, .. } => vec![*indices, *lut],
            Self::Sparse { data, mask, .. } => vec![*data, *mask],
            Self::Blockwise { data, scale, offset } => {
                [*data, *scale].into_iter().chain(*offset).collect()
            }
            Self::SparseLut { mask, indices, lut } => vec![*mask, *indices, *lut],
            Self::SparseBlockwise { mask, data, scale, offset } => {
                [*mask, *data, *scale].into_iter().chain(*offset).collect()
            }
        }
    }
}
