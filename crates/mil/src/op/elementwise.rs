//! Functions of one element or of two.

/// Elementwise functions of one tensor. Comparisons with a parameter use f64 values of the
/// parameter as stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// `|x|`
    Abs,
    /// `arccos x`
    Acos,
    /// `arcsin x`
    Asin,
    /// `arctan x`
    Atan,
    /// `artanh x`
    Atanh,
    /// Smallest integer not below x.
    Ceil,
    /// `min(max(x, low), high)`
    Clip {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// `cos x`
    Cos,
    /// `cosh x`
    Cosh,
    /// `x > 0 ? x : alpha (eˣ - 1)`
    Elu {
        /// Slope scale.
        alpha: f64,
    },
    /// Error function.
    Erf,
    /// `eˣ`
    Exp,
    /// `2ˣ`
    Exp2,
    /// Largest integer not above x.
    Floor,
    /// `x Φ(x)`
    Gelu(GeluMode),
    /// `1 / (x + epsilon)`
    Inverse {
        /// Added to x.
        epsilon: f64,
    },
    /// `x > 0 ? x : alpha x`
    LeakyRelu {
        /// Negative slope.
        alpha: f64,
    },
    /// `alpha x + beta`
    LinearActivation {
        /// Slope.
        alpha: f64,
        /// Offset.
        beta: f64,
    },
    /// `ln(x + epsilon)`
    Log {
        /// Added to x.
        epsilon: f64,
    },
    /// Logical not of a bool tensor.
    LogicalNot,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// Nearest integer, ties to even.
    Round,
    /// `1 / √(x + epsilon)`
    Rsqrt {
        /// Added to x.
        epsilon: f64,
    },
    /// `alpha tanh(beta x)`
    ScaledTanh {
        /// Output scale.
        alpha: f64,
        /// Input scale.
        beta: f64,
    },
    /// `1 / (1 + e⁻ˣ)`
    Sigmoid,
    /// `min(max(alpha x + beta, 0), 1)`
    SigmoidHard {
        /// Slope.
        alpha: f64,
        /// Offset.
        beta: f64,
    },
    /// -1, 0 or 1.
    Sign,
    /// `x / (1 + e⁻ˣ)`
    Silu,
    /// `sin x`
    Sin,
    /// `sinh x`
    Sinh,
    /// `ln(1 + eˣ)`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// `√x`
    Sqrt,
    /// `x²`
    Square,
    /// `tan x`
    Tan,
    /// `tanh x`
    Tanh,
    /// `max(x, alpha)`
    Threshold {
        /// Lower bound.
        alpha: f64,
    },
    /// `x >= alpha ? x : 0`
    ThresholdedRelu {
        /// Threshold.
        alpha: f64,
    },
}

/// Which approximation of GELU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeluMode {
    /// `x/2 · (1 + erf(x / √2))`
    Exact,
    /// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`
    Tanh,
    /// `x · sigmoid(1.702 x)`
    Sigmoid,
}

/// Elementwise functions of two tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `x + y`
    Add,
    /// `x - y`
    Sub,
    /// `x y`
    Mul,
    /// `x / y`; of integers truncated towards zero.
    RealDiv,
    /// `⌊x / y⌋`
    FloorDiv,
    /// `x - y ⌊x / y⌋`
    Mod,
    /// `xʸ`
    Pow,
    /// The larger.
    Maximum,
    /// The smaller.
    Minimum,
    /// Gives bool.
    Equal,
    /// Gives bool.
    NotEqual,
    /// Gives bool.
    Greater,
    /// Gives bool.
    GreaterEqual,
    /// Gives bool.
    Less,
    /// Gives bool.
    LessEqual,
    /// Of bools.
    LogicalAnd,
    /// Of bools.
    LogicalOr,
    /// Of bools.
    LogicalXor,
}

impl Binary {
    /// Whether the result is bool whatever the operands are.
    pub fn is_comparison(self) -> bool {
        use Binary::*;
        matches!(self, Equal | NotEqual | Greater | GreaterEqual | Less | LessEqual)
    }

    /// Whether the operands are bools.
    pub fn is_logical(self) -> bool {
        matches!(self, Self::LogicalAnd | Self::LogicalOr | Self::LogicalXor)
    }
}
