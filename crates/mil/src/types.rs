use orion_tensor::DType;
use std::fmt;

/// One axis of a tensor type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A size known when the program is compiled.
    Known(usize),
    /// `?`: known only when the program runs.
    Unknown,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// Element type and axes. Rank 0 is a scalar.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Axes, outermost first.
    pub dims: Vec<Dim>,
}

impl TensorType {
    /// A type with every axis known.
    pub fn new(dtype: DType, shape: &[usize]) -> Self {
        Self { dtype, dims: shape.iter().map(|&n| Dim::Known(n)).collect() }
    }

    /// A rank-0 type.
    pub fn scalar(dtype: DType) -> Self {
        Self { dtype, dims: Vec::new() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The sizes, when all are known.
    pub fn shape(&self) -> Option<Vec<usize>> {
        self.dims
            .iter()
            .map(|d| match d {
                Dim::Known(n) => Some(*n),
                Dim::Unknown => None,
            })
            .collect()
    }

    /// The number of elements, when all axes are known and the number fits a `usize`.
    pub fn element_count(&self) -> Option<usize> {
        self.shape()?.into_iter().try_fold(1usize, |count, n| count.checked_mul(n))
    }
}

/// A MIL type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// A tensor, or a scalar at rank 0.
    Tensor(TensorType),
    /// A list of values of one type.
    List {
        /// Type of the elements.
        element: Box<Type>,
        /// Number of elements.
        length: Dim,
    },
    /// A fixed sequence of types.
    Tuple(Vec<Type>),
    /// A map.
    Dict(Box<Type>, Box<Type>),
    /// A tensor that outlives a run and is changed by `write_state`.
    State(TensorType),
    /// A tensor with an explicit memory layout, as the compiler's analytics files show it.
    TensorBuffer {
        /// Element type.
        dtype: DType,
        /// Axis sizes.
        shape: Vec<usize>,
        /// Strides as printed.
        strides: Vec<usize>,
        /// Interleave factors as printed.
        interleave_factors: Vec<usize>,
    },
}

impl Type {
    /// A tensor type with every axis known.
    pub fn tensor(dtype: DType, shape: &[usize]) -> Self {
        Self::Tensor(TensorType::new(dtype, shape))
    }

    /// A rank-0 tensor type.
    pub fn scalar(dtype: DType) -> Self {
        Self::Tensor(TensorType::scalar(dtype))
    }

    /// The tensor type, when this is a tensor.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Self::Tensor(t) => Some(t),
            _ => None,
        }
    }
}

impl From<TensorType> for Type {
    fn from(t: TensorType) -> Self {
        Self::Tensor(t)
    }
}

fn write_tensor(f: &mut fmt::Formatter<'_>, t: &TensorType) -> fmt::Result {
    write!(f, "tensor<{}, [", t.dtype)?;
    for (i, d) in t.dims.iter().enumerate() {
        write!(f, "{}{d}", if i > 0 { ", " } else { "" })?;
    }
    f.write_str("]>")
}

/// As `program(1.3)` text writes it: scalars bare.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(t) if t.rank() == 0 => write!(f, "{}", t.dtype),
            Self::Tensor(t) => write_tensor(f, t),
            Self::List { element, length } => write!(f, "list<{element}, {length}>"),
            Self::Tuple(items) => {
                f.write_str("tuple<")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(">")
            }
            Self::Dict(key, value) => write!(f, "dict<{key}, {value}>"),
            Self::State(t) => {
                f.write_str("state<")?;
                write_tensor(f, t)?;
                f.write_str(">")
            }
            Self::TensorBuffer { dtype, shape, strides, interleave_factors } => write!(
                f,
                "tensor_buffer<{dtype}, shape={shape:?}, strides={strides:?}, interleave_factors={interleave_factors:?}>"
            ),
        }
    }
}
