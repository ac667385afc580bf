//! Program to messages.

use super::error::{ProtoError, ProtoErrorKind as Kind};
use super::literal::write_value;
use super::program_messages as message;
use super::types::write_type;
use crate::program::IN_PLACE;
use crate::typed::place;
use crate::{Argument, Attributes, Binding, Block, Function, Operation, Program, ValueId};
use message::BindingKind;
use std::collections::BTreeMap;

type Written<T> = Result<T, ProtoError>;

fn refuse(detail: impl Into<String>) -> ProtoError {
    ProtoError::new(Kind::NotRepresentable, detail)
}

pub(super) fn write_program(program: &Program) -> Written<message::Program> {
    let mut functions = BTreeMap::new();
    for function in &program.functions {
        let written = write_function(function).map_err(|e| e.in_function(&function.name))?;
        if functions.insert(function.name.clone(), written).is_some() {
            return Err(refuse(format!("two functions are named `{}`", function.name)));
        }
    }
    let attributes = write_attributes(&program.attributes)?;
    Ok(message::Program { version: 1, functions, doc_string: String::new(), attributes })
}

fn write_attributes(attributes: &Attributes) -> Written<BTreeMap<String, message::Value>> {
    let write = |(name, value)| {
        let value = write_value(value).map_err(|e| e.at(|| format!("attribute `{name}`")))?;
        Ok((String::clone(name), value))
    };
    attributes.iter().map(write).collect()
}

fn write_function(function: &Function) -> Written<message::Function> {
    let Some(opset) = super::opset::to_proto(&function.opset) else {
        return Err(refuse(format!(
            "the opset `{}`; known are ios15 to ios18 and ios26",
            function.opset
        )));
    };
    let inputs = function.params.iter().map(|param| {
        if param.attributes.is_empty() {
            return declaration(function, param.value);
        }
        Err(refuse(format!("attributes of the input `{}`", function.value_name(param.value))))
    });
    let inputs = inputs.collect::<Written<_>>()?;
    let block = write_block(function, &function.body)?;
    let mut attributes = function.attributes.clone();
    if super::in_place::of(function).is_some() {
        attributes.remove(IN_PLACE);
    }
    if super::flexible::is_described(function) {
        attributes.remove(crate::flexible::ATTRIBUTE);
    }
    Ok(message::Function {
        inputs,
        opset: opset.to_owned(),
        block_specializations: BTreeMap::from([(opset.to_owned(), block)]),
        attributes: write_attributes(&attributes)?,
    })
}

fn declaration(function: &Function, id: ValueId) -> Written<message::NamedValueType> {
    let name = function.value_name(id).to_owned();
    let ty = write_type(function.ty(id)).map_err(|e| e.at(|| format!("`{name}`")))?;
    Ok(message::NamedValueType { name, r#type: Some(ty) })
}

fn write_block(function: &Function, block: &Block) -> Written<message::Block> {
    let operations = block.operations.iter().map(|operation| {
        write_operation(function, operation).map_err(|e| e.at(|| place(function, operation)))
    });
    let declare = |&id| declaration(function, id);
    Ok(message::Block {
        inputs: block.params.iter().map(declare).collect::<Written<_>>()?,
        outputs: block.results.iter().map(|&id| function.value_name(id).to_owned()).collect(),
        operations: operations.collect::<Written<_>>()?,
        attributes: BTreeMap::new(),
    })
}

fn write_operation(function: &Function, operation: &Operation) -> Written<message::Operation> {
    if let Some(opset) = &operation.opset {
        return Err(refuse(format!("the opset `{opset}` of one operation")));
    }
    let inputs = operation.inputs.iter().map(|(name, argument)| {
        let written = write_argument(function, argument);
        Ok((name.clone(), written.map_err(|e| e.at(|| format!("argument `{name}`")))?))
    });
    let declare = |&id| declaration(function, id);
    Ok(message::Operation {
        r#type: operation.name.clone(),
        inputs: inputs.collect::<Written<_>>()?,
        outputs: operation.outputs.iter().map(declare).collect::<Written<_>>()?,
        blocks: operation
            .blocks
            .iter()
            .map(|block| write_block(function, block))
            .collect::<Written<_>>()?,
        attributes: write_attributes(&operation.attributes)?,
    })
}

fn write_argument(function: &Function, argument: &Argument) -> Written<message::Argument> {
    let binding = |binding: &Binding| {
        let binding = match binding {
            Binding::Value(id) => BindingKind::Name(function.value_name(*id).to_owned()),
            Binding::Literal(value) => BindingKind::Value(write_value(value)?),
        };
        Ok(message::Binding { binding: Some(binding) })
    };
    let arguments = argument.bindings().iter().map(binding).collect::<Written<_>>()?;
    Ok(message::Argument { arguments })
}
