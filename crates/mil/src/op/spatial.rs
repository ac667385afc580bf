//! Ops over windows and grids: pooling, transposed convolution, resizing, rearranging.
//!
//! Spatial axes are those behind batch and channels: `[N, C, spatial…]`, one to three of them
//! unless said otherwise.

use crate::ValueId;

/// An op over the spatial axes of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Spatial {
    /// One number for each window.
    Pool {
        /// Which.
        kind: Pooling,
        /// `[N, C, spatial…]`
        x: ValueId,
        /// Window size per spatial axis.
        kernel: Vec<usize>,
        /// One per spatial axis.
        strides: Vec<usize>,
        /// (before, after) per spatial axis; `same` padding and `ceil_mode` are resolved.
        pads: Vec<(usize, usize)>,
        /// How many of the last elements of the padding behind are there only because the last
        /// window runs off the end (`ceil_mode`): no average counts them. One per spatial axis.
        overhang: Vec<usize>,
        /// Whether an average is over the elements of x only, not over padding (zeros).
        exclude_padding: bool,
    },
    /// The adjoint of a convolution: element `i` of x adds to
    /// `y[i · stride + tap · dilation - before]` for every tap of the kernel.
    ConvTranspose {
        /// `[N, C, spatial…]`
        x: ValueId,
        /// `[C, O / groups, K…]`
        weight: ValueId,
        /// `[O]`
        bias: Option<ValueId>,
        /// One per spatial axis.
        strides: Vec<usize>,
        /// What is cut off before, per spatial axis.
        before: Vec<usize>,
        /// Output size per spatial axis.
        output: Vec<usize>,
        /// One per spatial axis.
        dilations: Vec<usize>,
        /// Number of groups.
        groups: usize,
    },
    /// The last axes sampled at another number of points.
    Resize {
        /// Operand.
        x: ValueId,
        /// New sizes of the last axes.
        size: Vec<usize>,
        /// Interpolated between neighbours, else the nearest.
        linear: bool,
        /// Where the points lie.
        sampling: Sampling,
    },
    /// Blocks of `block × block` pixels moved to channels, or back. x is `[N, C, H, W]`.
    Rearrange {
        /// Which.
        kind: Rearrangement,
        /// Operand.
        x: ValueId,
        /// Height and width of a block.
        block: usize,
    },
    /// All windows of `size` elements along an axis: `[…, D, …]` becomes
    /// `[…, (D - size) / stride + 1, size, …]`.
    SlidingWindows {
        /// Operand.
        x: ValueId,
        /// Axis.
        axis: usize,
        /// Elements of a window.
        size: usize,
        /// From the beginning of one window to the next.
        stride: usize,
    },
    /// `(x - mean) / √(variance + epsilon) · gamma + beta` over the spatial axes, of every channel
    /// of every batch entry.
    InstanceNorm {
        /// `[N, C, spatial…]`
        x: ValueId,
        /// `[C]`
        gamma: Option<ValueId>,
        /// `[C]`
        beta: Option<ValueId>,
        /// Added to the variance.
        epsilon: f64,
    },
    /// `x / √(Σ x² + epsilon)` over the last three axes.
    L2Norm {
        /// Rank 3 or more.
        x: ValueId,
        /// Added to the sum.
        epsilon: f64,
    },
    /// `x / (k + alpha / size · Σ x²)^beta`, the sum over the `size` channels around each, of
    /// which `size / 2` stand before it.
    LocalResponseNorm {
        /// `[N, C, …]`
        x: ValueId,
        /// Number of channels.
        size: usize,
        /// Scale of the sum.
        alpha: f64,
        /// Exponent.
        beta: f64,
        /// Offset.
        k: f64,
    },
}

/// What pooling makes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The largest element; padding does not count.
    Max,
    /// The mean.
    Average,
    /// `√Σ x²`
    L2,
}

/// The position in an axis of `n` elements that point `i` of `m` is read from, kept within
/// `0..=n - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sampling {
    /// `i · n / m`
    Default,
    /// `i · (n - 1) / (m - 1)`; for one point 0.
    StrictAlignCorners,
    /// `i · (n - 1) / (m - 1)`; for one point the middle.
    AlignCorners,
    /// `(i + ½) · max(1, n - 1) / m`
    OffsetCorners,
    /// `(i + ½) · n / m - ½`
    UnalignCorners,
}

/// How pixels and channels change places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rearrangement {
    /// `[N, C·b², H, W]` to `[N, C, H·b, W·b]`; a channel's pixels stand side by side.
    PixelShuffle,
    /// The inverse of `PixelShuffle`.
    PixelUnshuffle,
    /// `[N, b²·C, H, W]` to `[N, C, H·b, W·b]`; a pixel's channels stand side by side.
    DepthToSpace,
    /// The inverse of `DepthToSpace`.
    SpaceToDepth,
}

impl Rearrangement {
    /// The one that undoes this one.
    pub fn inverse(self) -> Self {
        match self {
            Self::PixelShuffle => Self::PixelUnshuffle,
            Self::PixelUnshuffle => Self::PixelShuffle,
            Self::DepthToSpace => Self::SpaceToDepth,
            Self::SpaceToDepth => Self::DepthToSpace,
        }
    }

    /// As a shape that splits axes, a permutation of it, and the shape that joins them again;
    /// `None` when blocks do not divide `shape`.
    pub fn steps(
        self,
        shape: &[usize],
        block: usize,
    ) -> Option<(Vec<usize>, Vec<usize>, Vec<usize>)> {
        let &[n, c, h, w] = shape else { return None };
        let area = block.checked_mul(block).filter(|&a| a > 0)?;
        let b = block;
        match self {
            Self::PixelShuffle | Self::DepthToSpace => {
                let less = c.is_multiple_of(area).then_some(c / area)?;
                let result = vec![n, less, h.checked_mul(b)?, w.checked_mul(b)?];
                Some(match self {
                    Self::PixelShuffle => {
                        (vec![n, less, b, b, h, w], vec![0, 1, 4, 2, 5, 3], result)
                    }
                    _ => (vec![n, b, b, less, h, w], vec![0, 3, 4, 1, 5, 2], result),
                })
            }
            Self::PixelUnshuffle | Self::SpaceToDepth => {
                if !h.is_multiple_of(b) || !w.is_multiple_of(b) {
                    return None;
                }
                let result = vec![n, c.checked_mul(area)?, h / b, w / b];
                let split = vec![n, c, h / b, b, w / b, b];
                let to_channels = match self {
                    Self::PixelUnshuffle => vec![0, 1, 3, 5, 2, 4],
                    _ => vec![0, 3, 5, 1, 2, 4],
                };
                Some((split, to_channels, result))
            }
        }
    }
}

impl Spatial {
    /// The values it reads, in a fixed order.
    pub(super) fn operands(&self) -> Vec<ValueId> {
        match self {
            Self::ConvTranspose { x, weight, bias, .. } => {
                [*x, *weight].into_iter().chain(*bias).collect()
            }
            Self::InstanceNorm { x, gamma, beta, .. } => {
                [*x].into_iter().chain(*gamma).chain(*beta).collect()
            }
            Self::Pool { x, .. }
            | Self::Resize { x, .. }
            | Self::Rearrange { x, .. }
            | Self::SlidingWindows { x, .. }
            | Self::L2Norm { x, .. }
            | Self::LocalResponseNorm { x, .. } => vec![*x],
        }
    }
}

impl Pooling {
    /// MIL's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "max_pool",
            Self::Average => "avg_pool",
            Self::L2 => "l2_pool",
        }
    }
}

impl Sampling {
    /// Every one.
    pub(crate) const ALL: [Self; 5] = [
        Self::Default,
        Self::StrictAlignCorners,
        Self::AlignCorners,
        Self::OffsetCorners,
        Self::UnalignCorners,
    ];

    /// The value of MIL's `sampling_mode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT",
            Self::StrictAlignCorners => "STRICT_ALIGN_CORNERS",
            Self::AlignCorners => "ALIGN_CORNERS",
            Self::OffsetCorners => "OFFSET_CORNERS",
            Self::UnalignCorners => "UNALIGN_CORNERS",
        }
    }
}
