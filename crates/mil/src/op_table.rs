//! MIL's names: of every op there is, and of the kinds of [`crate::Op`].

use crate::op::{Binary, GeluMode, Reduction, ScatterMode, Unary};

/// Every op name of MIL (opsets up to iOS18), sorted, whether or not it has a meaning here.
pub fn names() -> &'static [&'static str] {
    &NAMES
}

/// Whether an op of that name may stand in a program: MIL's own, and those the compiler puts into
/// the analytics files it writes.
pub fn is_known(name: &str) -> bool {
    NAMES.binary_search(&name).is_ok() || ANALYTICS.contains(&name)
}

const ANALYTICS: [&str; 2] = ["tensor_buffer_to_tensor", "tensor_to_tensor_buffer"];

const NAMES: [&str; 168] = [
    "abs",
    "acos",
    "add",
    "affine",
    "argsort",
    "asin",
    "atan",
    "atanh",
    "avg_pool",
    "band_part",
    "batch_norm",
    "batch_to_space",
    "cast",
    "ceil",
    "clamped_relu",
    "classify",
    "clip",
    "concat",
    "cond",
    "const",
    "constexpr_affine_dequantize",
    "constexpr_blockwise_shift_scale",
    "constexpr_cast",
    "constexpr_lut_to_dense",
    "constexpr_lut_to_sparse",
    "constexpr_sparse_blockwise_shift_scale",
    "constexpr_sparse_to_dense",
    "conv",
    "conv_quantized",
    "conv_transpose",
    "cos",
    "cosh",
    "crop",
    "crop_resize",
    "cumsum",
    "depth_to_space",
    "dequantize",
    "einsum",
    "elu",
    "equal",
    "erf",
    "exp",
    "exp2",
    "expand_dims",
    "fill",
    "fill_like",
    "flatten2d",
    "floor",
    "floor_div",
    "gather",
    "gather_along_axis",
    "gather_nd",
    "gelu",
    "greater",
    "greater_equal",
    "gru",
    "identity",
    "instance_norm",
    "inverse",
    "l2_norm",
    "l2_pool",
    "layer_norm",
    "leaky_relu",
    "less",
    "less_equal",
    "linear",
    "linear_activation",
    "list_gather",
    "list_length",
    "list_read",
    "list_scatter",
    "list_write",
    "local_response_norm",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lstm",
    "make_list",
    "matmul",
    "max_pool",
    "maximum",
    "minimum",
    "mod",
    "mul",
    "non_maximum_suppression",
    "non_zero",
    "not_equal",
    "one_hot",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "pow",
    "prelu",
    "quantize",
    "random_bernoulli",
    "random_categorical",
    "random_normal",
    "random_uniform",
    "range_1d",
    "read_state",
    "real_div",
    "reduce_argmax",
    "reduce_argmin",
    "reduce_l1_norm",
    "reduce_l2_norm",
    "reduce_log_sum",
    "reduce_log_sum_exp",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_prod",
    "reduce_sum",
    "reduce_sum_square",
    "relu",
    "relu6",
    "resample",
    "reshape",
    "reshape_like",
    "resize",
    "resize_bilinear",
    "resize_nearest_neighbor",
    "reverse",
    "reverse_sequence",
    "rnn",
    "round",
    "rsqrt",
    "scaled_dot_product_attention",
    "scaled_tanh",
    "scatter",
    "scatter_along_axis",
    "scatter_nd",
    "select",
    "shape",
    "sigmoid",
    "sigmoid_hard",
    "sign",
    "silu",
    "sin",
    "sinh",
    "slice_by_index",
    "slice_by_size",
    "slice_update",
    "sliding_windows",
    "softmax",
    "softplus",
    "softplus_parametric",
    "softsign",
    "space_to_batch",
    "space_to_depth",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "sub",
    "tan",
    "tanh",
    "threshold",
    "thresholded_relu",
    "tile",
    "topk",
    "transpose",
    "upsample_bilinear",
    "upsample_nearest_neighbor",
    "while_loop",
    "write_state",
];

impl Unary {
    /// MIL's name, such as `rsqrt`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Abs => "abs",
            Self::Acos => "acos",
            Self::Asin => "asin",
            Self::Atan => "atan",
            Self::Atanh => "atanh",
            Self::Ceil => "ceil",
            Self::Clip { .. } => "clip",
            Self::Cos => "cos",
            Self::Cosh => "cosh",
            Self::Elu { .. } => "elu",
            Self::Erf => "erf",
            Self::Exp => "exp",
            Self::Exp2 => "exp2",
            Self::Floor => "floor",
            Self::Gelu(_) => "gelu",
            Self::Inverse { .. } => "inverse",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::LinearActivation { .. } => "linear_activation",
            Self::Log { .. } => "log",
            Self::LogicalNot => "logical_not",
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::Round => "round",
            Self::Rsqrt { .. } => "rsqrt",
            Self::ScaledTanh { .. } => "scaled_tanh",
            Self::Sigmoid => "sigmoid",
            Self::SigmoidHard { .. } => "sigmoid_hard",
            Self::Sign => "sign",
            Self::Silu => "silu",
            Self::Sin => "sin",
            Self::Sinh => "sinh",
            Self::Softplus => "softplus",
            Self::Softsign => "softsign",
            Self::Sqrt => "sqrt",
            Self::Square => "square",
            Self::Tan => "tan",
            Self::Tanh => "tanh",
            Self::Threshold { .. } => "threshold",
            Self::ThresholdedRelu { .. } => "thresholded_relu",
        }
    }

    /// Those without parameters.
    pub(crate) const PLAIN: [Self; 27] = [
        Self::Abs,
        Self::Acos,
        Self::Asin,
        Self::Atan,
        Self::Atanh,
        Self::Ceil,
        Self::Cos,
        Self::Cosh,
        Self::Erf,
        Self::Exp,
        Self::Exp2,
        Self::Floor,
        Self::LogicalNot,
        Self::Relu,
        Self::Relu6,
        Self::Round,
        Self::Sigmoid,
        Self::Sign,
        Self::Silu,
        Self::Sin,
        Self::Sinh,
        Self::Softplus,
        Self::Softsign,
        Self::Sqrt,
        Self::Square,
        Self::Tan,
        Self::Tanh,
    ];
}

impl Binary {
    /// Every kind.
    pub(crate) const ALL: [Self; 18] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::RealDiv,
        Self::FloorDiv,
        Self::Mod,
        Self::Pow,
        Self::Maximum,
        Self::Minimum,
        Self::Equal,
        Self::NotEqual,
        Self::Greater,
        Self::GreaterEqual,
        Self::Less,
        Self::LessEqual,
        Self::LogicalAnd,
        Self::LogicalOr,
        Self::LogicalXor,
    ];

    /// MIL's name, such as `real_div`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::RealDiv => "real_div",
            Self::FloorDiv => "floor_div",
            Self::Mod => "mod",
            Self::Pow => "pow",
            Self::Maximum => "maximum",
            Self::Minimum => "minimum",
            Self::Equal => "equal",
            Self::NotEqual => "not_equal",
            Self::Greater => "greater",
            Self::GreaterEqual => "greater_equal",
            Self::Less => "less",
            Self::LessEqual => "less_equal",
            Self::LogicalAnd => "logical_and",
            Self::LogicalOr => "logical_or",
            Self::LogicalXor => "logical_xor",
        }
    }
}

impl Reduction {
    /// Every kind.
    pub(crate) const ALL: [Self; 10] = [
        Self::Sum,
        Self::Mean,
        Self::Max,
        Self::Min,
        Self::Prod,
        Self::L2Norm,
        Self::L1Norm,
        Self::SumSquare,
        Self::LogSum,
        Self::LogSumExp,
    ];

    /// MIL's name, such as `reduce_sum`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "reduce_sum",
            Self::Mean => "reduce_mean",
            Self::Max => "reduce_max",
            Self::Min => "reduce_min",
            Self::Prod => "reduce_prod",
            Self::L2Norm => "reduce_l2_norm",
            Self::L1Norm => "reduce_l1_norm",
            Self::SumSquare => "reduce_sum_square",
            Self::LogSum => "reduce_log_sum",
            Self::LogSumExp => "reduce_log_sum_exp",
        }
    }
}

impl ScatterMode {
    /// Every mode.
    pub(crate) const ALL: [Self; 7] =
        [Self::Update, Self::Add, Self::Sub, Self::Mul, Self::Div, Self::Max, Self::Min];

    /// The value of MIL's `mode`, such as `add`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

impl GeluMode {
    /// Every mode.
    pub(crate) const ALL: [Self; 3] = [Self::Exact, Self::Tanh, Self::Sigmoid];

    /// The value of MIL's `mode`, such as `TANH_APPROXIMATION`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "EXACT",
            Self::Tanh => "TANH_APPROXIMATION",
            Self::Sigmoid => "SIGMOID_APPROXIMATION",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_cover_the_kinds() {
        assert!(NAMES.is_sorted());
        let unary = Unary::PLAIN.iter().map(|k| k.name());
        let binary = Binary::ALL.iter().map(|k| k.name());
        let reductions = Reduction::ALL.iter().map(|k| k.name());
        for name in unary.chain(binary).chain(reductions) {
            assert!(is_known(name), "{name}");
        }
        assert!(!is_known("no_such_op"));
    }
}
