//! Programs from files.

use crate::failure::{Failure, Result};
use orion_mil::Program;
use orion_mil::bundle::{BundleError, BundleErrorKind as Kind};
use orion_mil::package::load_program;
use orion_mil::text::ParseError;
use std::error::Error;
use std::path::Path;

/// What is wrong with a file that can be read.
#[derive(Debug)]
pub(in crate::commands) enum Malformed {
    /// The text is no MIL.
    Text(ParseError),
    /// The protobuf is no program, or the package is damaged.
    Model(BundleError),
}

/// The program in a file, package or bundle, without its weights.
///
/// # Errors
/// [`Failure`] when there is no program; inside it, what is wrong with the one there is.
pub(in crate::commands) fn read_program(
    path: &Path,
) -> Result<std::result::Result<Program, Malformed>> {
    let error = match load_program(path) {
        Ok(program) => return Ok(Ok(program)),
        Err(error) => error,
    };
    match error.kind() {
        Kind::Program | Kind::Manifest => {
            let text = error.source().and_then(|source| source.downcast_ref::<ParseError>());
            Ok(Err(match text.cloned() {
                Some(text) => Malformed::Text(text),
                None => Malformed::Model(error),
            }))
        }
        Kind::NotText => Err(Failure::from(error).hint(
            "MIL text is the model.mil of a compiled model; protobufs have names in .mlmodel",
        )),
        _ => Err(error.into()),
    }
}

/// The same, for commands that can do nothing with less than a program.
///
/// # Errors
/// When there is no program, or something is wrong with it.
pub(in crate::commands) fn require_program(path: &Path) -> Result<Program> {
    read_program(path)?.map_err(|malformed| match malformed {
        Malformed::Text(error) => Failure::from(error).context(path.display()),
        Malformed::Model(error) => error.into(),
    })
}
