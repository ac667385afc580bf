//! The messages of a MIL program, as Core ML's `MIL.proto` numbers them.
//!
//! Written by hand rather than generated: the names are those of the format, so that the two can
//! be laid side by side. Unknown fields are skipped when reading.

use prost::{Message, Oneof};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Program {
    #[prost(int64, tag = "1")]
    pub(super) version: i64,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(super) functions: BTreeMap<String, Function>,
    #[prost(string, tag = "3")]
    pub(super) doc_string: String,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(super) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Function {
    #[prost(message, repeated, tag = "1")]
    pub(super) inputs: Vec<NamedValueType>,
    #[prost(string, tag = "2")]
    pub(super) opset: String,
    #[prost(btree_map = "string, message", tag = "3")]
    pub(super) block_specializations: BTreeMap<String, Block>,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(super) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Block {
    #[prost(message, repeated, tag = "1")]
    pub(super) inputs: Vec<NamedValueType>,
    #[prost(string, repeated, tag = "2")]
    pub(super) outputs: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(super) operations: Vec<Operation>,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(super) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Operation {
    #[prost(string, tag = "1")]
    pub(super) r#type: String,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(super) inputs: BTreeMap<String, Argument>,
    #[prost(message, repeated, tag = "3")]
    pub(super) outputs: Vec<NamedValueType>,
    #[prost(message, repeated, tag = "4")]
    pub(super) blocks: Vec<Block>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub(super) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Argument {
    #[prost(message, repeated, tag = "1")]
    pub(super) arguments: Vec<Binding>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Binding {
    #[prost(oneof = "BindingKind", tags = "1, 2")]
    pub(super) binding: Option<BindingKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum BindingKind {
    #[prost(string, tag = "1")]
    Name(String),
    #[prost(message, tag = "2")]
    Value(Value),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedValueType {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) r#type: Option<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueType {
    #[prost(oneof = "TypeKind", tags = "1, 2, 3, 4, 5")]
    pub(super) r#type: Option<TypeKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum TypeKind {
    #[prost(message, tag = "1")]
    Tensor(TensorType),
    #[prost(message, boxed, tag = "2")]
    List(Box<ListType>),
    #[prost(message, tag = "3")]
    Tuple(TupleType),
    #[prost(message, boxed, tag = "4")]
    Dictionary(Box<DictionaryType>),
    #[prost(message, boxed, tag = "5")]
    State(Box<StateType>),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorType {
    #[prost(int32, tag = "1")]
    pub(super) data_type: i32,
    #[prost(int64, tag = "2")]
    pub(super) rank: i64,
    #[prost(message, repeated, tag = "3")]
    pub(super) dimensions: Vec<Dimension>,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(super) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListType {
    #[prost(message, optional, tag = "1")]
    pub(super) r#type: Option<ValueType>,
    #[prost(message, optional, tag = "2")]
    pub(super) length: Option<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TupleType {
    #[prost(message, repeated, tag = "1")]
    pub(super) types: Vec<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DictionaryType {
    #[prost(message, optional, tag = "1")]
    pub(super) key_type: Option<ValueType>,
    #[prost(message, optional, tag = "2")]
    pub(super) value_type: Option<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StateType {
    #[prost(message, optional, tag = "1")]
    pub(super) wrapped_type: Option<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Dimension {
    #[prost(oneof = "DimensionKind", tags = "1, 2")]
    pub(super) dimension: Option<DimensionKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum DimensionKind {
    #[prost(message, tag = "1")]
    Constant(ConstantDimension),
    #[prost(message, tag = "2")]
    Unknown(UnknownDimension),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ConstantDimension {
    #[prost(uint64, tag = "1")]
    pub(super) size: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UnknownDimension {
    #[prost(bool, tag = "1")]
    pub(super) variadic: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) doc_string: String,
    #[prost(message, optional, tag = "2")]
    pub(super) r#type: Option<ValueType>,
    #[prost(oneof = "ValueKind", tags = "3, 5")]
    pub(super) value: Option<ValueKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum ValueKind {
    #[prost(message, tag = "3")]
    Immediate(ImmediateValue),
    #[prost(message, tag = "5")]
    BlobFile(BlobFileValue),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ImmediateValue {
    #[prost(oneof = "ImmediateKind", tags = "1, 2, 3, 4")]
    pub(super) value: Option<ImmediateKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum ImmediateKind {
    #[prost(message, tag = "1")]
    Tensor(TensorValue),
    #[prost(message, tag = "2")]
    Tuple(ValueSequence),
    #[prost(message, tag = "3")]
    List(ValueSequence),
    #[prost(message, tag = "4")]
    Dictionary(DictionaryValue),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BlobFileValue {
    #[prost(string, tag = "1")]
    pub(super) file_name: String,
    #[prost(uint64, tag = "2")]
    pub(super) offset: u64,
}

/// `TupleValue` and `ListValue`, which are alike.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueSequence {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DictionaryValue {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<KeyValuePair>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValuePair {
    #[prost(message, optional, tag = "1")]
    pub(super) key: Option<Value>,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorValue {
    #[prost(oneof = "TensorValueKind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(super) value: Option<TensorValueKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum TensorValueKind {
    #[prost(message, tag = "1")]
    Floats(RepeatedFloats),
    #[prost(message, tag = "2")]
    Ints(RepeatedInts),
    #[prost(message, tag = "3")]
    Bools(RepeatedBools),
    #[prost(message, tag = "4")]
    Strings(RepeatedStrings),
    #[prost(message, tag = "5")]
    LongInts(RepeatedLongInts),
    #[prost(message, tag = "6")]
    Doubles(RepeatedDoubles),
    #[prost(message, tag = "7")]
    Bytes(RepeatedBytes),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RepeatedFloats {
    #[prost(float, repeated, tag = "1")]
    pub(super) values: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RepeatedInts {
    #[prost(int32, repeated, tag = "1")]
    pub(super) values: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RepeatedBools {
    #[prost(bool, repeated, tag = "1")]
    pub(super) values: Vec<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RepeatedStrings {
    #[prost(string, repeated, tag = "1")]
    pub(super) values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RepeatedLongInts {
    #[prost(int64, repeated, tag = "1")]
    pub(super) values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RepeatedDoubles {
    #[prost(double, repeated, tag = "1")]
    pub(super) values: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RepeatedBytes {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) values: Vec<u8>,
}
