//! Chooses the sizes of inputs that a program leaves open.

use super::inputs::Inputs;
use crate::failure::{Failure, Result};
use orion_mil::typed::is_static;
use orion_mil::{Function, Program, flexible_inputs, runnable, specialize};
use std::collections::BTreeMap;

/// The program with one function, all of whose inputs have sizes: those of files, those asked for,
/// or the ones that the program names as its default.
///
/// # Errors
/// A function that is not there, sizes that are not allowed, and open sizes that nobody names.
pub(crate) fn sized(
    program: &Program,
    function: Option<&str>,
    asked: &[String],
    inputs: &Inputs,
) -> Result<Program> {
    let chosen = match function {
        None => program.main(),
        Some(name) => program.function(name),
    };
    let names = || program.functions.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
    let chosen = chosen.ok_or_else(|| match function {
        Some(name) => Failure::usage(format!("there is no function `{name}`"))
            .hint(format!("there are {}", names())),
        None => Failure::usage("the program has several functions, and none is `main`")
            .hint(format!("choose one with --function: {}", names())),
    })?;
    let shapes = shapes(chosen, asked, inputs)?;
    let mut alone = Program { functions: vec![chosen.clone()], ..program.clone() };
    if !shapes.is_empty() || !is_static(&runnable(chosen)) {
        let function = specialize(&runnable(chosen), &shapes).map_err(|d| {
            Failure::new(format!("with these sizes the program does not work: {d}"))
        })?;
        alone.functions = vec![function];
    }
    Ok(alone)
}

fn shapes(
    function: &Function,
    asked: &[String],
    inputs: &Inputs,
) -> Result<BTreeMap<String, Vec<usize>>> {
    let mut given = BTreeMap::new();
    for flag in asked {
        let (name, shape) = parse(flag)?;
        let is_input = |p: &orion_mil::Param| function.value_name(p.value) == name;
        if !function.params.iter().any(is_input) {
            return Err(Failure::usage(format!(
                "--shape {flag}: the program has no input `{name}`"
            )));
        }
        given.insert(name, shape);
    }
    let flexible = flexible_inputs(function);
    let mut shapes = BTreeMap::new();
    for param in &function.params {
        let name = function.value_name(param.value);
        let Some(ty) = function.ty(param.value).as_tensor() else { continue };
        let is_open = ty.shape().is_none();
        let shape = match given.remove(name) {
            Some(shape) => Some(shape),
            None if is_open => inputs.shape_of_file(name)?,
            None => None,
        };
        let known = flexible.get(name);
        let shape = match (shape, known) {
            (Some(shape), _) => shape,
            (None, _) if !is_open => continue,
            (None, Some(known)) => known.default.clone(),
            (None, None) => {
                let ty = function.ty(param.value);
                let example = vec!["1"; ty.as_tensor().map_or(1, orion_mil::TensorType::rank)];
                return Err(Failure::usage(format!("the sizes of input `{name}`, {ty}, are open"))
                    .hint(format!("choose them, as in --shape {name}={}", example.join("x"))));
            }
        };
        if let Some(known) = known.filter(|k| !k.allows(&shape)) {
            return Err(Failure::new(format!(
                "input `{name}` cannot have the shape {shape:?}: the program takes {known}"
            )));
        }
        shapes.insert(name.to_owned(), shape);
    }
    Ok(shapes)
}

/// `NAME=1x16`
fn parse(flag: &str) -> Result<(String, Vec<usize>)> {
    let wrong =
        || Failure::usage(format!("--shape {flag}: not a shape")).hint("write NAME=1x80x3000");
    let (name, sizes) = flag.split_once('=').ok_or_else(wrong)?;
    let sizes = sizes.split(['x', ',']).map(|n| n.trim().parse().map_err(|_| wrong()));
    Ok((name.to_owned(), sizes.collect::<Result<_>>()?))
}
