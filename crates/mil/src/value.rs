use crate::{TensorType, Type};
use orion_tensor::{DType, Tensor, bf16, f16};

/// A typed literal: what stands after `val =`, in an attribute, or inline as an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its type, as written.
    pub ty: Type,
    /// Its content.
    pub data: Data,
}

/// The content of a [`Value`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Numbers or booleans of a tensor or scalar. Bits are kept: `-0`, subnormals and NaN survive.
    Tensor(Tensor),
    /// Strings of a string tensor or scalar, row-major.
    Strings(Vec<String>),
    /// A tensor stored in a weight file; look it up in [`crate::Weights`].
    Blob {
        /// File name as written, usually `@model_path/weights/weight.bin`.
        file: String,
        /// Byte offset of the blob's metadata (not of its data).
        offset: u64,
    },
    /// Elements of a list.
    List(Vec<Value>),
    /// Elements of a tuple.
    Tuple(Vec<Value>),
    /// Pairs of a dictionary, in the order written.
    Dict(Vec<(Value, Value)>),
}

impl Value {
    /// A string scalar.
    pub fn string(s: impl Into<String>) -> Self {
        Self { ty: Type::scalar(DType::String), data: Data::Strings(vec![s.into()]) }
    }

    /// A bool scalar.
    pub fn bool(b: bool) -> Self {
        Self::scalar(DType::Bool, f64::from(u8::from(b)))
    }

    /// An int32 scalar.
    pub fn int(v: i32) -> Self {
        Self::tensor(Tensor::from_slice(&[], &[v]))
    }

    /// An int32 vector.
    pub fn ints(v: &[i32]) -> Self {
        Self::tensor(Tensor::from_slice(&[v.len()], v))
    }

    /// A bool vector.
    pub fn bools(v: &[bool]) -> Self {
        let numbers: Vec<f64> = v.iter().map(|&b| f64::from(u8::from(b))).collect();
        Self::tensor(Tensor::from_f64(DType::Bool, &[v.len()], &numbers))
    }

    /// A scalar of a numeric type.
    pub fn scalar(dtype: DType, v: f64) -> Self {
        Self::tensor(Tensor::from_f64(dtype, &[], &[v]))
    }

    /// A tensor literal.
    pub fn tensor(t: Tensor) -> Self {
        Self { ty: Type::tensor(t.dtype(), t.shape()), data: Data::Tensor(t) }
    }

    /// A tensor that lives in a weight file.
    pub fn blob(ty: TensorType, file: impl Into<String>, offset: u64) -> Self {
        Self { ty: ty.into(), data: Data::Blob { file: file.into(), offset } }
    }

    /// `dict<string, string>` from pairs.
    pub fn string_dict<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let string = || Box::new(Type::scalar(DType::String));
        let pairs = pairs.into_iter().map(|(k, v)| (Self::string(k), Self::string(v)));
        Self { ty: Type::Dict(string(), string()), data: Data::Dict(pairs.collect()) }
    }

    /// The numbers, when this is an immediate numeric or bool tensor.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match &self.data {
            Data::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The string, when this is a string scalar.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Strings(s) if s.len() == 1 => Some(&s[0]),
            _ => None,
        }
    }

    /// The bool, when this is one.
    pub fn as_bool(&self) -> Option<bool> {
        self.as_bools().filter(|v| v.len() == 1).map(|v| v[0])
    }

    /// All bools, when this is a bool tensor.
    pub fn as_bools(&self) -> Option<Vec<bool>> {
        let t = self.as_tensor().filter(|t| t.dtype() == DType::Bool)?;
        Some(t.bytes().iter().map(|&b| b != 0).collect())
    }

    /// The number, when this is a scalar or holds one element of an integer type.
    pub fn as_int(&self) -> Option<i64> {
        self.as_ints().filter(|v| v.len() == 1).map(|v| v[0])
    }

    /// All numbers, when this is an integer tensor. `U64` values above `i64::MAX` give `None`.
    pub fn as_ints(&self) -> Option<Vec<i64>> {
        let t = self.as_tensor()?;
        match t.dtype() {
            DType::I64 => Some(t.elements::<i64>().into_owned()),
            DType::U64 => t.elements::<u64>().iter().map(|&v| i64::try_from(v).ok()).collect(),
            d if d.is_int() => Some(t.to_f64_vec().into_iter().map(|v| v as i64).collect()),
            _ => None,
        }
    }

    /// The number as f64, when this holds one element of a float or integer type.
    pub fn as_f64(&self) -> Option<f64> {
        let t = self.as_tensor().filter(|t| t.element_count() == 1)?;
        match t.dtype() {
            DType::F16 => Some(t.elements::<f16>()[0].to_f64()),
            DType::BF16 => Some(t.elements::<bf16>()[0].to_f64()),
            DType::Bool => None,
            _ => Some(t.to_f64_vec()[0]),
        }
    }
}
