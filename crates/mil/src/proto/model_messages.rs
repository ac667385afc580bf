//! The messages around a program, as Core ML's `Model.proto` and `FeatureTypes.proto` number them:
//! the model, and the description of its inputs and outputs.
//!
//! Only what a model with a MIL program needs. Everything else is skipped when reading.

use super::program_messages as mil;
use prost::{Message, Oneof};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int32, tag = "1")]
    pub(super) specification_version: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) description: Option<ModelDescription>,
    #[prost(oneof = "ModelKind", tags = "200, 201, 202, 502")]
    pub(super) kind: Option<ModelKind>,
}

/// The kinds of models that are told apart. The others are neural networks of the old format,
/// trees and so on, and have no program.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum ModelKind {
    #[prost(message, tag = "200")]
    PipelineClassifier(PipelineOf),
    #[prost(message, tag = "201")]
    PipelineRegressor(PipelineOf),
    #[prost(message, tag = "202")]
    Pipeline(Pipeline),
    #[prost(message, tag = "502")]
    MlProgram(mil::Program),
}

/// A pipeline for a classifier or regressor.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PipelineOf {
    #[prost(message, optional, tag = "1")]
    pub(super) pipeline: Option<Pipeline>,
}

/// Only how many models there are, and their names: none of them is read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Pipeline {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) models: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "2")]
    pub(super) names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelDescription {
    #[prost(message, repeated, tag = "1")]
    pub(super) input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "10")]
    pub(super) output: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "13")]
    pub(super) state: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "20")]
    pub(super) functions: Vec<FunctionDescription>,
    #[prost(string, tag = "11")]
    pub(super) predicted_feature_name: String,
    #[prost(string, tag = "12")]
    pub(super) predicted_probabilities_name: String,
    #[prost(string, tag = "21")]
    pub(super) default_function_name: String,
    #[prost(message, optional, tag = "100")]
    pub(super) metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FunctionDescription {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "3")]
    pub(super) output: Vec<FeatureDescription>,
    #[prost(string, tag = "4")]
    pub(super) predicted_feature_name: String,
    #[prost(string, tag = "5")]
    pub(super) predicted_probabilities_name: String,
    #[prost(message, repeated, tag = "6")]
    pub(super) state: Vec<FeatureDescription>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(string, tag = "1")]
    pub(super) short_description: String,
    #[prost(btree_map = "string, string", tag = "100")]
    pub(super) user_defined: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FeatureDescription {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) short_description: String,
    #[prost(message, optional, tag = "3")]
    pub(super) r#type: Option<FeatureType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FeatureType {
    #[prost(oneof = "FeatureKind", tags = "1, 3, 5, 6, 8")]
    pub(super) kind: Option<FeatureKind>,
    #[prost(bool, tag = "1000")]
    pub(super) is_optional: bool,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum FeatureKind {
    #[prost(message, tag = "1")]
    Int64(Empty),
    #[prost(message, tag = "3")]
    String(Empty),
    #[prost(message, tag = "6")]
    Dictionary(DictionaryFeatureType),
    #[prost(message, tag = "5")]
    MultiArray(ArrayFeatureType),
    #[prost(message, tag = "8")]
    State(StateFeatureType),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DictionaryFeatureType {
    #[prost(oneof = "KeyType", tags = "1, 2")]
    pub(super) key: Option<KeyType>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum KeyType {
    #[prost(message, tag = "1")]
    Int64(Empty),
    #[prost(message, tag = "2")]
    String(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StateFeatureType {
    #[prost(message, optional, tag = "1")]
    pub(super) array: Option<ArrayFeatureType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ArrayFeatureType {
    #[prost(int64, repeated, tag = "1")]
    pub(super) shape: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(oneof = "ShapeFlexibility", tags = "21, 31")]
    pub(super) flexibility: Option<ShapeFlexibility>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum ShapeFlexibility {
    #[prost(message, tag = "21")]
    Enumerated(EnumeratedShapes),
    #[prost(message, tag = "31")]
    Range(ShapeRange),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EnumeratedShapes {
    #[prost(message, repeated, tag = "1")]
    pub(super) shapes: Vec<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(int64, repeated, tag = "1")]
    pub(super) shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ShapeRange {
    #[prost(message, repeated, tag = "1")]
    pub(super) size_ranges: Vec<SizeRange>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SizeRange {
    #[prost(uint64, tag = "1")]
    pub(super) lower_bound: u64,
    /// No bound when negative.
    #[prost(int64, tag = "2")]
    pub(super) upper_bound: i64,
}
