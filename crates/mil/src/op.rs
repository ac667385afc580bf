//! What operations mean.
//!
//! [`Op`] has one variant per meaning, with operands as [`ValueId`]s and every parameter that MIL
//! asks to be constant resolved: axes are normalised to `0..rank`, defaults are filled in, masks
//! and negative indices are gone. Letters in shapes: `N` batch, `C` channels, `H` height,
//! `W` width, `K` kernel.

mod compressed;
mod einsum;
mod elementwise;
mod recurrent;
mod sample;
mod spatial;

pub use compressed::Constexpr;
pub use einsum::Equation;
pub use elementwise::{Binary, GeluMode, Unary};
pub use recurrent::{Activation, Cell, CellWeights, Recurrent};
pub use sample::{Border, BoxForm, Coordinates, Distribution, Grid, Random, Sample, Suppression};
pub use spatial::{Pooling, Rearrangement, Sampling, Spatial};

use crate::{Value, ValueId};
use orion_tensor::DType;

/// The meaning of one operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A constant. Numbers may be in a weight file.
    Const(Value),
    /// `x` unchanged.
    Identity {
        /// Any type.
        x: ValueId,
    },
    /// `x` converted: floats round to nearest even, float to int truncates towards zero.
    Cast {
        /// Any numeric tensor.
        x: ValueId,
        /// Target type.
        dtype: DType,
    },
    /// Elementwise function of one tensor.
    Unary {
        /// Which.
        kind: Unary,
        /// Operand.
        x: ValueId,
    },
    /// Elementwise function of two tensors, broadcast against each other.
    Binary {
        /// Which.
        kind: Binary,
        /// Left.
        x: ValueId,
        /// Right.
        y: ValueId,
    },
    /// `cond ? a : b`, all three broadcast.
    Select {
        /// Bool tensor.
        cond: ValueId,
        /// Taken where true.
        a: ValueId,
        /// Taken where false.
        b: ValueId,
    },
    /// Reduction over axes.
    Reduce {
        /// Which.
        kind: Reduction,
        /// Operand.
        x: ValueId,
        /// Axes, sorted, distinct.
        axes: Vec<usize>,
        /// Whether reduced axes stay with size 1.
        keep_dims: bool,
    },
    /// Index of the largest (or smallest) element along an axis; the first on ties. int32.
    ArgReduce {
        /// Largest, else smallest.
        max: bool,
        /// Operand.
        x: ValueId,
        /// Axis.
        axis: usize,
        /// Whether the axis stays with size 1.
        keep_dims: bool,
    },
    /// Running sum along an axis.
    Cumsum {
        /// Operand.
        x: ValueId,
        /// Axis.
        axis: usize,
        /// Sum of the elements before, not including this one.
        exclusive: bool,
        /// From the end.
        reverse: bool,
    },
    /// `x @ y` over the last two axes, leading axes broadcast. A rank-1 operand is a row (x) or
    /// a column (y) and its axis is dropped from the result.
    Matmul {
        /// `[…, M, K]`, or `[…, K, M]` when transposed.
        x: ValueId,
        /// `[…, K, N]`, or `[…, N, K]` when transposed.
        y: ValueId,
        /// Whether x's last two axes are swapped.
        transpose_x: bool,
        /// Whether y's last two axes are swapped.
        transpose_y: bool,
    },
    /// `x @ weightᵀ + bias`.
    Linear {
        /// `[…, I]`
        x: ValueId,
        /// `[O, I]`
        weight: ValueId,
        /// `[O]`
        bias: Option<ValueId>,
    },
    /// Convolution over one, two or three spatial axes.
    Conv {
        /// `[N, C, spatial…]`
        x: ValueId,
        /// `[O, C / groups, K…]`
        weight: ValueId,
        /// `[O]`
        bias: Option<ValueId>,
        /// One per spatial axis.
        strides: Vec<usize>,
        /// (before, after) per spatial axis; `same` padding is resolved.
        pads: Vec<(usize, usize)>,
        /// One per spatial axis.
        dilations: Vec<usize>,
        /// Number of groups.
        groups: usize,
    },
    /// softmax(q kᵀ / √E + mask) v.
    Attention {
        /// `[…, L, E]`
        query: ValueId,
        /// `[…, S, E]`
        key: ValueId,
        /// `[…, S, F]`
        value: ValueId,
        /// Bool (false is masked) or additive, broadcast to `[…, L, S]`.
        mask: Option<ValueId>,
    },
    /// `exp(x - max) / Σ exp(x - max)` along an axis.
    Softmax {
        /// Operand.
        x: ValueId,
        /// Axis.
        axis: usize,
    },
    /// `(x - mean) / √(variance + epsilon) · gamma + beta` over axes.
    LayerNorm {
        /// Operand.
        x: ValueId,
        /// Axes, sorted, distinct.
        axes: Vec<usize>,
        /// Shape of x at `axes`.
        gamma: Option<ValueId>,
        /// Shape of x at `axes`.
        beta: Option<ValueId>,
        /// Added to the variance.
        epsilon: f64,
    },
    /// `(x - mean) / √(variance + epsilon) · gamma + beta` per channel, all four given.
    BatchNorm {
        /// `[N, C, …]`
        x: ValueId,
        /// `[C]`
        mean: ValueId,
        /// `[C]`
        variance: ValueId,
        /// `[C]`
        gamma: Option<ValueId>,
        /// `[C]`
        beta: Option<ValueId>,
        /// Added to the variance.
        epsilon: f64,
    },
    /// `x` under another shape, elements in row-major order: `reshape`, `expand_dims`, `squeeze`.
    Reshape {
        /// Operand.
        x: ValueId,
        /// The new shape; -1 and 0 are resolved.
        shape: Vec<usize>,
    },
    /// Axes permuted: output axis `i` is input axis `perm[i]`.
    Transpose {
        /// Operand.
        x: ValueId,
        /// A permutation of `0..rank`.
        perm: Vec<usize>,
    },
    /// Tensors joined along an axis.
    Concat {
        /// At least one.
        values: Vec<ValueId>,
        /// Axis.
        axis: usize,
        /// Whether elements alternate between the values.
        interleave: bool,
    },
    /// Tensors joined along a new axis.
    Stack {
        /// At least one.
        values: Vec<ValueId>,
        /// The new axis.
        axis: usize,
    },
    /// One tensor cut along an axis; one output per size.
    Split {
        /// Operand.
        x: ValueId,
        /// Axis.
        axis: usize,
        /// Sizes of the outputs.
        sizes: Vec<usize>,
    },
    /// A strided part of a tensor at constant positions: `slice_by_index` and `slice_by_size`
    /// with constant bounds. Axis `a` takes `begin[a] + i · stride[a]` for `i < size[a]`;
    /// squeezed axes (size 1) are dropped from the output.
    Slice {
        /// Operand.
        x: ValueId,
        /// First position per axis.
        begin: Vec<usize>,
        /// How many per axis.
        size: Vec<usize>,
        /// Step per axis, not 0; may be negative.
        stride: Vec<isize>,
        /// Axes dropped from the output.
        squeeze: Vec<bool>,
    },
    /// A dense part of a tensor whose position is computed: `slice_by_size` with a computed
    /// `begin`. Running off the end is an error.
    DynamicSlice {
        /// Operand.
        x: ValueId,
        /// int32 `[rank]`
        begin: ValueId,
        /// Output shape.
        size: Vec<usize>,
    },
    /// A copy of `x` with a part replaced, at a position that may be computed:
    /// `slice_update` with unit strides. Running off the end is an error.
    SliceUpdate {
        /// Operand.
        x: ValueId,
        /// The new part; same rank as x.
        update: ValueId,
        /// int32 `[rank]`: where the part begins, masks not yet applied.
        begin: ValueId,
        /// int32 `[rank]`: `begin` plus the shape of `update`, as MIL asks for it. Redundant:
        /// what runs the op reads `begin` only.
        end: ValueId,
        /// Axes whose `begin` is ignored and taken as 0.
        begin_mask: Vec<bool>,
        /// Axes whose `end` is ignored; there the part ends with x.
        end_mask: Vec<bool>,
    },
    /// `x` repeated along each axis.
    Tile {
        /// Operand.
        x: ValueId,
        /// Repetitions per axis.
        reps: Vec<usize>,
    },
    /// `x` with a border.
    Pad {
        /// Operand.
        x: ValueId,
        /// (before, after) for every axis.
        pads: Vec<(usize, usize)>,
        /// What the border holds.
        mode: PadMode,
    },
    /// Slices of `x` along `axis` chosen by `indices`; the leading `batch_dims` axes of both are
    /// matched. Indices below zero count from the end; outside is an error.
    /// Output shape: `x[..axis] ++ indices[batch_dims..] ++ x[axis + 1..]`.
    Gather {
        /// Operand.
        x: ValueId,
        /// Integer tensor.
        indices: ValueId,
        /// Axis.
        axis: usize,
        /// Matched leading axes.
        batch_dims: usize,
    },
    /// `out[…, i, …] = x[…, indices[…, i, …], …]`; shapes agree apart from `axis`.
    GatherAlongAxis {
        /// Operand.
        x: ValueId,
        /// Integer tensor of x's rank.
        indices: ValueId,
        /// Axis.
        axis: usize,
    },
    /// `data` with slices along `axis` combined with `updates` at `indices`, in index order.
    /// Shape of updates: `data[..axis] ++ indices ++ data[axis + 1..]`.
    Scatter {
        /// Operand.
        data: ValueId,
        /// Integer tensor.
        indices: ValueId,
        /// New values.
        updates: ValueId,
        /// Axis.
        axis: usize,
        /// How old and new combine.
        mode: ScatterMode,
    },
    /// The inverse of [`Op::GatherAlongAxis`]: `out[…, indices[…, i, …], …] ∘= updates[…, i, …]`.
    ScatterAlongAxis {
        /// Operand.
        data: ValueId,
        /// Integer tensor of data's rank.
        indices: ValueId,
        /// Same shape as indices.
        updates: ValueId,
        /// Axis.
        axis: usize,
        /// How old and new combine.
        mode: ScatterMode,
    },
    /// A tensor of one number: `fill`, and `fill_like` of a tensor whose shape is known.
    Fill {
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Vec<usize>,
        /// The number.
        value: f64,
    },
    /// `start, start + step, …`: `range_1d` with constant bounds; int32 or float.
    Range {
        /// Element type.
        dtype: DType,
        /// First.
        start: f64,
        /// Step.
        step: f64,
        /// How many.
        count: usize,
    },
    /// `x` where `-lower <= column - row <= upper` of the last two axes (a negative bound is no
    /// bound), else 0.
    BandPart {
        /// Operand.
        x: ValueId,
        /// Diagonals kept below the main one.
        lower: i64,
        /// Diagonals kept above the main one.
        upper: i64,
    },
    /// `on` where the index equals the position along the new axis, else `off`. Indices outside
    /// give all `off`.
    OneHot {
        /// int32 tensor.
        indices: ValueId,
        /// Size of the new axis.
        size: usize,
        /// Where the new axis stands in the output.
        axis: usize,
        /// Element type of the output.
        dtype: DType,
        /// Value at the index.
        on: f64,
        /// Value elsewhere.
        off: f64,
    },
    /// The `k` largest (or smallest) along an axis, sorted, ties by position; outputs values and,
    /// when there are two outputs, int32 indices.
    TopK {
        /// Operand.
        x: ValueId,
        /// How many.
        k: usize,
        /// Axis.
        axis: usize,
        /// Smallest first.
        ascending: bool,
    },
    /// Products summed over axes, as an equation says.
    Einsum {
        /// At least one.
        values: Vec<ValueId>,
        /// Which axes are one.
        equation: Equation,
    },
    /// `x < 0 ? alpha x : x`, alpha per channel.
    Prelu {
        /// `[N, C, …]`
        x: ValueId,
        /// `[C]` or `[1]`
        alpha: ValueId,
    },
    /// The slices of `x` that rows of indices point to:
    /// `out[b…, i…] = x[b…, indices[b…, i…, 0], indices[b…, i…, 1], …]`. Indices below zero count
    /// from the end; outside is an error.
    GatherNd {
        /// Operand.
        x: ValueId,
        /// `[…, depth]`
        indices: ValueId,
        /// Leading axes `b…` that x and indices share.
        batch_dims: usize,
    },
    /// `data` with the slices that rows of indices point to combined with `updates`, in order.
    ScatterNd {
        /// Operand.
        data: ValueId,
        /// `[…, depth]`
        indices: ValueId,
        /// `indices[..-1] ++ data[depth..]`
        updates: ValueId,
        /// How old and new combine.
        mode: ScatterMode,
    },
    /// The positions that sort `x` along an axis, ties by position. int32.
    ArgSort {
        /// Operand.
        x: ValueId,
        /// Axis.
        axis: usize,
        /// Smallest first.
        ascending: bool,
    },
    /// `x / scale` rounded to nearest even, plus the zero point, saturating.
    Quantize {
        /// Float tensor.
        x: ValueId,
        /// One number, or one for each position of the axis.
        scale: ValueId,
        /// Like scale, of the target type.
        zero_point: Option<ValueId>,
        /// Axis of scale and zero point.
        axis: Option<usize>,
        /// int8 or uint8.
        dtype: DType,
    },
    /// `scale · (x - zero_point)`.
    Dequantize {
        /// int8 or uint8 tensor.
        x: ValueId,
        /// One number, or one for each position of the axis.
        scale: ValueId,
        /// Like scale, of x's type.
        zero_point: Option<ValueId>,
        /// Axis of scale and zero point.
        axis: Option<usize>,
    },
    /// Over the spatial axes of a tensor.
    Spatial(Spatial),
    /// An image read between its pixels.
    Sample(Box<Sample>),
    /// Boxes chosen by score and overlap.
    Suppression(Suppression),
    /// Random numbers.
    Random(Box<Random>),
    /// A recurrent layer.
    Recurrent(Box<Recurrent>),
    /// A constant unpacked from fewer bits.
    Constexpr(Constexpr),
    /// The tensor held by a state.
    ReadState {
        /// A function parameter of state type.
        state: ValueId,
    },
    /// Replaces what a state holds. No output.
    WriteState {
        /// A function parameter of state type.
        state: ValueId,
        /// The new content.
        data: ValueId,
    },
}

/// Reductions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// `Σ x`
    Sum,
    /// `Σ x / n`
    Mean,
    /// Largest.
    Max,
    /// Smallest.
    Min,
    /// `Π x`
    Prod,
    /// `√Σ x²`
    L2Norm,
    /// `Σ |x|`
    L1Norm,
    /// `Σ x²`
    SumSquare,
    /// `ln Σ x`
    LogSum,
    /// `ln Σ eˣ`, computed without overflow.
    LogSumExp,
}

/// What a border holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PadMode {
    /// One number.
    Constant(f64),
    /// The tensor mirrored without repeating the edge.
    Reflect,
    /// The edge.
    Replicate,
}

/// How scattered values combine with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are the documentation")]
pub enum ScatterMode {
    Update,
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

impl Op {
    /// The values this op reads, in a fixed order.
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Self::Const(_) | Self::Fill { .. } | Self::Range { .. } => vec![],
            Self::Identity { x }
            | Self::Cast { x, .. }
            | Self::Unary { x, .. }
            | Self::Reduce { x, .. }
            | Self::ArgReduce { x, .. }
            | Self::Cumsum { x, .. }
            | Self::Softmax { x, .. }
            | Self::Reshape { x, .. }
            | Self::Transpose { x, .. }
            | Self::Split { x, .. }
            | Self::Slice { x, .. }
            | Self::Tile { x, .. }
            | Self::Pad { x, .. }
            | Self::BandPart { x, .. }
            | Self::TopK { x, .. } => vec![*x],
            Self::Binary { x, y, .. } | Self::Matmul { x, y, .. } => vec![*x, *y],
            Self::Select { cond, a, b } => vec![*cond, *a, *b],
            Self::Linear { x, weight, bias } | Self::Conv { x, weight, bias, .. } => {
                [*x, *weight].into_iter().chain(*bias).collect()
            }
            Self::Attention { query, key, value, mask } => {
                [*query, *key, *value].into_iter().chain(*mask).collect()
            }
            Self::LayerNorm { x, gamma, beta, .. } => {
                [*x].into_iter().chain(*gamma).chain(*beta).collect()
            }
            Self::BatchNorm { x, mean, variance, gamma, beta, .. } => {
                [*x, *mean, *variance].into_iter().chain(*gamma).chain(*beta).collect()
            }
            Self::Concat { values, .. } | Self::Stack { values, .. } => values.clone(),
            Self::DynamicSlice { x, begin, .. } => vec![*x, *begin],
            Self::SliceUpdate { x, update, begin, end, .. } => vec![*x, *update, *begin, *end],
            Self::Gather { x, indices, .. } | Self::GatherAlongAxis { x, indices, .. } => {
                vec![*x, *indices]
            }
            Self::Scatter { data, indices, updates, .. }
            | Self::ScatterAlongAxis { data, indices, updates, .. } => {
                vec![*data, *indices, *updates]
            }
            Self::OneHot { indices, .. } => vec![*indices],
            Self::Einsum { values, .. } => values.clone(),
            Self::Prelu { x, alpha } => vec![*x, *alpha],
            Self::GatherNd { x, indices, .. } => vec![*x, *indices],
            Self::ScatterNd { data, indices, updates, .. } => vec![*data, *indices, *updates],
            Self::ArgSort { x, .. } => vec![*x],
            Self::Quantize { x, scale, zero_point, .. }
            | Self::Dequantize { x, scale, zero_point, .. } => {
                [*x, *scale].into_iter().chain(*zero_point).collect()
            }
            Self::Spatial(op) => op.operands(),
            Self::Sample(op) => op.operands(),
            Self::Suppression(Suppression { boxes, scores, .. }) => vec![*boxes, *scores],
            Self::Random(random) => match random.distribution {
                Distribution::Categorical { x, .. } => vec![x],
                _ => vec![],
            },
            Self::Recurrent(op) => op.operands(),
            Self::Constexpr(op) => op.operands(),
            Self::ReadState { state } => vec![*state],
            Self::WriteState { state, data } => vec![*state, *data],
        }
    }
}
