//! `orion mil diff`: how two programs differ, by what they say and not by how they call it.

use super::source::require_program;
use crate::arguments::MilDiff;
use crate::exit::Exit;
use crate::failure::Result;
use crate::printer::Printer;
use orion_mil::{Block, Data, Function, Program, ValueId, Weights, package, text};
use similar::TextDiff;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

pub(crate) fn diff(arguments: &MilDiff, printer: &Printer) -> Result {
    let old = comparable(&arguments.old, arguments.names)?;
    let new = comparable(&arguments.new, arguments.names)?;
    if old == new {
        printer.say("the programs are the same");
        return Ok(Exit::Success);
    }
    let lines = TextDiff::from_lines(&old, &new);
    let mut shown = lines.unified_diff();
    let shown = shown
        .context_radius(arguments.unified)
        .header(&arguments.old.to_string_lossy(), &arguments.new.to_string_lossy());
    printer.data(shown.to_string())?;
    Ok(Exit::No)
}

/// The text of a program as it is compared: weights by what they hold where they can be read.
fn comparable(path: &Path, names: bool) -> Result<String> {
    let mut program = require_program(path)?;
    let weights = package::load(path).map(|bundle| bundle.weights).unwrap_or_default();
    for function in &mut program.functions {
        name_weights(&mut function.body, &weights);
    }
    if !names {
        forget_names(&mut program);
    }
    let mut text = text::print(&program);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Puts a number made of its contents in place of where a weight lies.
fn name_weights(block: &mut Block, weights: &Weights) {
    for operation in &mut block.operations {
        for value in operation.attributes.values_mut() {
            let Ok(tensor) = weights.resolve(value) else { continue };
            if let Data::Blob { file, offset } = &mut value.data {
                let mut hasher = DefaultHasher::new();
                tensor.bytes().hash(&mut hasher);
                *file = format!("contents {:016x}", hasher.finish());
                *offset = 0;
            }
        }
        operation.blocks.iter_mut().for_each(|b| name_weights(b, weights));
    }
}

/// Numbers values in the order in which they are defined; inputs and outputs keep their names.
fn forget_names(program: &mut Program) {
    program.attributes.remove("buildInfo");
    for function in &mut program.functions {
        let ports = function.params.iter().map(|p| p.value);
        let ports: HashSet<ValueId> = ports.chain(function.body.results.iter().copied()).collect();
        let mut order = Vec::new();
        defined(&mut function.body, &mut order);
        rename(function, order.into_iter().filter(|v| !ports.contains(v)));
    }
}

fn defined(block: &mut Block, order: &mut Vec<ValueId>) {
    order.extend(&block.params);
    for operation in &mut block.operations {
        operation.attributes.remove("name");
        order.extend(&operation.outputs);
        operation.blocks.iter_mut().for_each(|b| defined(b, order));
    }
}

fn rename(function: &mut Function, order: impl Iterator<Item = ValueId>) {
    for (i, value) in order.enumerate() {
        function.values[value].name = format!("v{i}");
    }
}
