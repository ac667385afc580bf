//! Which sizes inputs may have, between the description of a model and the function attribute
//! that says it in text.
//!
//! Core ML's own readers refuse attributes of functions, so the attribute as it was written goes
//! along as metadata, which makes reading it back exact.

use super::description::array_of;
use super::model_messages::{ArrayFeatureType, ModelDescription, ShapeFlexibility};
use crate::flexible::{ATTRIBUTE, Allowed, Flexible, FlexibleInputs, flexible_inputs};
use crate::{Function, Program, text};
use std::collections::BTreeMap;

/// What the metadata of a function starts with, before the function's name.
const KEY: &str = "orionFlexibleShapes@";

/// Whether the function's attribute is one that the description and the metadata hold.
pub(super) fn is_described(function: &Function) -> bool {
    !flexible_inputs(function).is_empty()
}

/// The metadata of a program.
pub(super) fn write(program: &Program) -> BTreeMap<String, String> {
    let entry = |function: &Function| {
        let value = function.attributes.get(ATTRIBUTE).filter(|_| is_described(function))?;
        let attributes = [(ATTRIBUTE.to_owned(), value.clone())].into();
        let alone = Program { dialect: program.dialect, attributes, functions: Vec::new() };
        Some((format!("{KEY}{}", function.name), text::print(&alone)))
    };
    program.functions.iter().filter_map(entry).collect()
}

/// Gives functions their attributes back. What does not read is left: the description says it too.
pub(super) fn read(metadata: &BTreeMap<String, String>, program: &mut Program) {
    for function in &mut program.functions {
        let Some(alone) = metadata.get(&format!("{KEY}{}", function.name)) else { continue };
        let value = text::parse(alone).ok().and_then(|mut p| p.attributes.remove(ATTRIBUTE));
        if let Some(value) = value {
            function.attributes.insert(ATTRIBUTE.to_owned(), value);
        }
    }
}

/// What a model's description says, by function.
pub(super) fn described(
    description: &ModelDescription,
    program: &Program,
) -> BTreeMap<String, FlexibleInputs> {
    let mut all = BTreeMap::new();
    for function in &program.functions {
        let own = description.functions.iter().find(|f| f.name == function.name);
        let inputs = own.map_or(&description.input, |f| &f.input);
        let inputs = inputs
            .iter()
            .filter_map(|feature| Some((feature.name.clone(), of_array(array_of(feature)?)?)));
        all.insert(function.name.clone(), inputs.collect());
    }
    all
}

fn of_array(array: &ArrayFeatureType) -> Option<Flexible> {
    let sizes = |shape: &[i64]| -> Option<Vec<usize>> {
        shape.iter().map(|&n| usize::try_from(n).ok()).collect()
    };
    let allowed = match array.flexibility.as_ref()? {
        ShapeFlexibility::Enumerated(shapes) => {
            let shapes = shapes.shapes.iter().map(|s| sizes(&s.shape));
            let mut shapes: Vec<Vec<usize>> = shapes.collect::<Option<_>>()?;
            shapes.sort();
            Allowed::Enumerated(shapes)
        }
        ShapeFlexibility::Range(range) => {
            let range = range.size_ranges.iter().map(|r| {
                let least = usize::try_from(r.lower_bound).ok()?;
                Some((least, usize::try_from(r.upper_bound).ok()))
            });
            Allowed::Ranges(range.collect::<Option<_>>()?)
        }
    };
    let default = sizes(&array.shape)?;
    // What every open size is described as when nothing is known of it says nothing.
    let says_nothing = match &allowed {
        Allowed::Enumerated(_) => false,
        Allowed::Ranges(ranges) => ranges
            .iter()
            .zip(&default)
            .all(|(&(least, most), &n)| most == Some(least) || (least, most, n) == (1, None, 1)),
    };
    (!says_nothing).then_some(Flexible { default, allowed })
}
