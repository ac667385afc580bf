//! Which outputs replace which inputs, as metadata of the model.
//!
//! In text this is a function attribute. Core ML's own readers refuse attributes of functions, and
//! take any metadata.

use super::error::{ProtoError, ProtoErrorKind as Kind};
use crate::{Function, Program};
use std::collections::BTreeMap;

/// What the key of a function's pairs starts with, before the function's name.
const KEY: &str = "orionInPlace@";

/// The pairs of a function as `output=input` with commas between them; `None` without any, or when
/// the attribute holds something else and stays where it is.
pub(super) fn of(function: &Function) -> Option<String> {
    let pairs = function.in_place_pairs().filter(|pairs| !pairs.is_empty())?;
    let is_plain = |name: &str| crate::verify::is_identifier(name);
    let is_sorted = pairs.is_sorted();
    if !is_sorted || !pairs.iter().all(|(output, input)| is_plain(output) && is_plain(input)) {
        return None;
    }
    let pairs: Vec<String> =
        pairs.iter().map(|(output, input)| format!("{output}={input}")).collect();
    Some(pairs.join(","))
}

/// The metadata of a program.
pub(super) fn write(program: &Program) -> BTreeMap<String, String> {
    let entry = |f: &Function| Some((format!("{KEY}{}", f.name), of(f)?));
    program.functions.iter().filter_map(entry).collect()
}

/// Gives the pairs in metadata back to their functions.
pub(super) fn read(
    metadata: &BTreeMap<String, String>,
    program: &mut Program,
) -> Result<(), ProtoError> {
    for function in &mut program.functions {
        let Some(list) = metadata.get(&format!("{KEY}{}", function.name)) else { continue };
        let pairs: Option<Vec<(&str, &str)>> =
            list.split(',').map(|pair| pair.split_once('=')).collect();
        let is_plain = |name: &str| crate::verify::is_identifier(name);
        let pairs = pairs.filter(|p| p.iter().all(|(o, i)| is_plain(o) && is_plain(i)));
        let Some(pairs) = pairs else {
            let detail = format!("the pairs of outputs and inputs {list:?}");
            return Err(ProtoError::new(Kind::Malformed, detail).in_function(&function.name));
        };
        function.set_in_place(pairs);
    }
    Ok(())
}
