//! Messages to program.
//!
//! How deep messages nest is limited where they are decoded; nothing here allocates more than in
//! proportion to them.

use super::error::{ProtoError, ProtoErrorKind as Kind};
use super::literal::read_value;
use super::program_messages as message;
use super::types::read_type;
use crate::verify::is_identifier;
use crate::{
    Argument, Attributes, Binding, Block, Dialect, Function, Operation, Param, Program, ValueId,
    Values,
};
use message::BindingKind;
use std::collections::{BTreeMap, HashMap};

type Read<T> = Result<T, ProtoError>;

pub(super) fn read_program(program: &message::Program, dialect: Dialect) -> Read<Program> {
    let attributes = read_attributes(&program.attributes)?;
    let functions = program
        .functions
        .iter()
        .map(|(name, function)| read_function(name, function).map_err(|e| e.in_function(name)));
    Ok(Program { dialect, attributes, functions: functions.collect::<Read<_>>()? })
}

fn identifier(name: &str, what: &str) -> Read<String> {
    if is_identifier(name) {
        return Ok(name.to_owned());
    }
    Err(ProtoError::new(Kind::Malformed, format!("{name:?}, {what}, is not an identifier")))
}

fn read_attributes(attributes: &BTreeMap<String, message::Value>) -> Read<Attributes> {
    let read = |(name, value): (&String, &message::Value)| {
        let value = read_value(value).map_err(|e| e.at(|| format!("attribute `{name}`")))?;
        Ok((identifier(name, "the name of an attribute")?, value))
    };
    attributes.iter().map(read).collect()
}

fn read_function(name: &str, function: &message::Function) -> Read<Function> {
    let name = identifier(name, "the name of a function")?;
    let Some(opset) = super::opset::to_text(&function.opset) else {
        let detail = format!("the opset {:?}; known are CoreML5 to CoreML9", function.opset);
        return Err(ProtoError::new(Kind::Unsupported, detail));
    };
    // The others say the same for older systems.
    let Some(block) = function.block_specializations.get(&function.opset) else {
        let detail = format!("there is no body for the opset {:?}", function.opset);
        return Err(ProtoError::new(Kind::Malformed, detail));
    };
    let mut scope = Scope { values: Values::default(), visible: HashMap::new() };
    let mut defined = Vec::new();
    let params = function.inputs.iter().map(|input| {
        let value = scope.define(&mut defined, input)?;
        Ok(Param { value, attributes: Attributes::new() })
    });
    let params = params.collect::<Read<Vec<_>>>()?;
    if let Some(input) = block.inputs.first() {
        let detail = format!("the input {:?} of a function's body", input.name);
        return Err(ProtoError::new(Kind::Unsupported, detail));
    }
    let body = scope.body(block, &mut defined)?;
    Ok(Function {
        name,
        opset: opset.to_owned(),
        params,
        attributes: read_attributes(&function.attributes)?,
        values: scope.values,
        body,
    })
}

/// The values of a function, and which of them can be named here.
struct Scope<'a> {
    values: Values,
    visible: HashMap<&'a str, ValueId>,
}

impl<'a> Scope<'a> {
    fn define(
        &mut self,
        defined: &mut Vec<&'a str>,
        value: &'a message::NamedValueType,
    ) -> Read<ValueId> {
        let name = identifier(&value.name, "the name of a value")?;
        let ty = read_type(value.r#type.as_ref()).map_err(|e| e.at(|| format!("`{name}`")))?;
        if self.visible.contains_key(value.name.as_str()) {
            return Err(ProtoError::new(Kind::DuplicateName, format!("the value `{name}`")));
        }
        let id = self.values.push(name, ty);
        self.visible.insert(&value.name, id);
        defined.push(&value.name);
        Ok(id)
    }

    fn lookup(&self, name: &str) -> Read<ValueId> {
        let found = self.visible.get(name).copied();
        found.ok_or_else(|| ProtoError::new(Kind::UndefinedValue, format!("{name:?}")))
    }

    /// Operations and results of a block, whose parameters are defined already.
    fn body(&mut self, block: &'a message::Block, defined: &mut Vec<&'a str>) -> Read<Block> {
        if let Some(name) = block.attributes.keys().next() {
            let detail = format!("the attribute {name:?} of a block");
            return Err(ProtoError::new(Kind::Unsupported, detail));
        }
        let operations = block.operations.iter().enumerate().map(|(index, operation)| {
            self.operation(operation, defined).map_err(|e| e.at(|| place(operation, index)))
        });
        let operations = operations.collect::<Read<_>>()?;
        let results = block.outputs.iter().map(|name| self.lookup(name));
        let results =
            results.collect::<Read<_>>().map_err(|e| e.at(|| "results of a block".into()))?;
        Ok(Block { params: Vec::new(), operations, results })
    }

    fn operation(
        &mut self,
        operation: &'a message::Operation,
        defined: &mut Vec<&'a str>,
    ) -> Read<Operation> {
        let name = identifier(&operation.r#type, "the name of an operation")?;
        let inputs = operation.inputs.iter().map(|(name, argument)| {
            let read = self.argument(argument).map_err(|e| e.at(|| format!("argument `{name}`")));
            Ok((identifier(name, "the name of an argument")?, read?))
        });
        let inputs = inputs.collect::<Read<_>>()?;
        let attributes = read_attributes(&operation.attributes)?;
        let blocks = operation.blocks.iter().map(|block| self.nested_block(block));
        let blocks = blocks.collect::<Read<_>>()?;
        // Results come last: an operation does not see its own, nor do its blocks.
        let outputs = operation.outputs.iter().map(|output| self.define(defined, output));
        let outputs = outputs.collect::<Read<_>>()?;
        Ok(Operation { name, opset: None, inputs, outputs, attributes, blocks })
    }

    fn nested_block(&mut self, block: &'a message::Block) -> Read<Block> {
        let mut defined = Vec::new();
        let params = block.inputs.iter().map(|input| self.define(&mut defined, input));
        let params = params.collect::<Read<_>>()?;
        let body = self.body(block, &mut defined)?;
        for name in defined {
            self.visible.remove(name);
        }
        Ok(Block { params, ..body })
    }

    fn argument(&self, argument: &message::Argument) -> Read<Argument> {
        let binding = |binding: &message::Binding| match &binding.binding {
            Some(BindingKind::Name(name)) => Ok(Binding::Value(self.lookup(name)?)),
            Some(BindingKind::Value(value)) => Ok(Binding::Literal(read_value(value)?)),
            None => Err(ProtoError::new(Kind::Malformed, "bound to nothing")),
        };
        match &argument.arguments[..] {
            [one] => binding(one).map(Argument::One),
            many => many.iter().map(binding).collect::<Read<_>>().map(Argument::Many),
        }
    }
}

fn place(operation: &message::Operation, index: usize) -> String {
    match operation.outputs.first() {
        Some(output) => format!("{} -> {} (operation {index})", operation.r#type, output.name),
        None => format!("{} (operation {index})", operation.r#type),
    }
}
