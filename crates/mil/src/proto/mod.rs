//! Core ML's protobuf: reads and writes the `model.mlmodel` of a package.
//!
//! A protobuf says the same as MIL text, and [`crate::Program`] holds either without loss, but for
//! this. Of a protobuf, documentation strings, the bodies of a function that are for another opset
//! than its own, and everything around the program (the description of its inputs, metadata but for
//! which outputs replace which inputs) are not kept; types of variable rank and attributes of types and blocks are refused. Of a text,
//! what only an analytics file has is refused when writing: memory layouts, an operation's own
//! opset, attributes of inputs; and a variadic argument `(x)` of one value comes back as `x`.
//! Specification versions from 9 on are `program(1.3)`, so that a `program(1.0)` with anything of
//! version 9 in it, such as `func main<ios18>`, comes back in the newer dialect.
//!
//! Does not read or write files; that is the business of bundles.

mod description;
mod error;
mod flexible;
mod in_place;
mod literal;
mod model_messages;
mod opset;
mod program_messages;
mod read;
#[cfg(test)]
mod tests;
mod types;
mod write;

pub use error::{ProtoError, ProtoErrorKind};

use crate::{Dialect, FlexibleInputs, Program};
use error::ProtoErrorKind as Kind;
use model_messages as message;
use model_messages::ModelKind;
use prost::Message;
use std::collections::BTreeMap;

/// A model as its protobuf has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Version of the format: 6 for iOS 15, 7 for iOS 16, 8 for iOS 17, 9 for iOS 18, 10 for
    /// iOS 26.
    pub specification_version: i32,
    /// The program.
    pub program: Program,
    /// By function, which sizes inputs may have, as the description of the model says. It is not
    /// part of the program unless Orion wrote it; [`crate::package::load`] adds it.
    pub flexible: BTreeMap<String, FlexibleInputs>,
}

/// One model of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its name in the pipeline.
    pub name: String,
    /// What it is, or why it was refused.
    pub model: Result<Model, ProtoError>,
}

/// Reads a model.
///
/// # Errors
/// When the bytes are no model, the model has no program or is a pipeline of models, or the
/// program is malformed or not supported. Whatever the bytes, memory stays within a constant
/// factor of their number. The models of a pipeline are read by [`decode_pipeline`].
pub fn decode_model(bytes: &[u8]) -> Result<Model, ProtoError> {
    let model = decode(bytes)?;
    let program = match &model.kind {
        Some(ModelKind::MlProgram(program)) => program,
        Some(ModelKind::Pipeline(pipeline)) => return Err(pipeline_error(Some(pipeline))),
        Some(ModelKind::PipelineClassifier(p) | ModelKind::PipelineRegressor(p)) => {
            return Err(pipeline_error(p.pipeline.as_ref()));
        }
        None => {
            let detail = "it is a neural network or another model of an older format, or cut short";
            return Err(ProtoError::new(Kind::NoProgram, detail));
        }
    };
    let dialect = if model.specification_version <= 8 { Dialect::V1_0 } else { Dialect::V1_3 };
    let mut program = read::read_program(program, dialect)?;
    if let Some(metadata) = model.description.as_ref().and_then(|d| d.metadata.as_ref()) {
        in_place::read(&metadata.user_defined, &mut program)?;
        flexible::read(&metadata.user_defined, &mut program);
    }
    let flexible = model.description.as_ref().map(|d| flexible::described(d, &program));
    let flexible = flexible.unwrap_or_default();
    Ok(Model { specification_version: model.specification_version, program, flexible })
}

/// Reads the models that a pipeline joins, in order and with their names (`model0`, `model1`, …
/// where they have none). Each is read or refused for itself: not all of them have a program.
///
/// # Errors
/// When the bytes are no model, or the model is no pipeline.
pub fn decode_pipeline(bytes: &[u8]) -> Result<Vec<Stage>, ProtoError> {
    let pipeline = match decode(bytes)?.kind {
        Some(ModelKind::Pipeline(pipeline)) => pipeline,
        Some(ModelKind::PipelineClassifier(p) | ModelKind::PipelineRegressor(p)) => {
            p.pipeline.unwrap_or_default()
        }
        _ => return Err(ProtoError::new(Kind::Malformed, "the model is not a pipeline")),
    };
    let read = |(index, bytes): (usize, &Vec<u8>)| {
        let name = pipeline.names.get(index).cloned();
        let name = name.unwrap_or_else(|| format!("model{index}"));
        Stage { name, model: decode_model(bytes) }
    };
    Ok(pipeline.models.iter().enumerate().map(read).collect())
}

fn decode(bytes: &[u8]) -> Result<message::Model, ProtoError> {
    message::Model::decode(bytes).map_err(|e| ProtoError::new(Kind::Decode, e.to_string()))
}

fn pipeline_error(pipeline: Option<&message::Pipeline>) -> ProtoError {
    let (count, names) =
        pipeline.map_or((0, String::new()), |p| (p.models.len(), p.names.join(", ")));
    let names = if names.is_empty() { names } else { format!(" ({names})") };
    ProtoError::new(
        Kind::Pipeline,
        format!("it joins {count} models{names}, which are to be read one by one"),
    )
}

/// Writes a program as a model, with the lowest specification version that has all it uses.
/// `summary` is shown as the model's description. The same program gives the same bytes.
///
/// Inputs and outputs are described by their types. A size that is not known may be what
/// [`crate::flexible_inputs`] says, or else anything from one on.
///
/// # Errors
/// When the program has something that Core ML's format has no place for, an opset it does not
/// know, or inputs and outputs of types a model cannot have.
pub fn encode_model(program: &Program, summary: &str) -> Result<Vec<u8>, ProtoError> {
    let model = message::Model {
        specification_version: description::specification_version(program),
        description: Some(description::describe(program, summary)?),
        kind: Some(ModelKind::MlProgram(write::write_program(program)?)),
    };
    Ok(model.encode_to_vec())
}
