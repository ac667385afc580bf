//! Programs from files.

use crate::failure::{Failure, Result};
use orion_formats::map_file;
use orion_mil::Program;
use orion_mil::bundle::PROGRAM_FILE;
use orion_mil::text::{self, ParseError};
use std::path::Path;

/// The program in a file or in a bundle's directory, without its weights.
///
/// # Errors
/// [`Failure`] when there is no text; inside it, what is wrong with the text.
pub(super) fn read_program(path: &Path) -> Result<std::result::Result<Program, ParseError>> {
    let file = if path.is_dir() { path.join(PROGRAM_FILE) } else { path.to_owned() };
    let bytes = map_file(&file)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let place = e.valid_up_to();
        Failure::new(format!("{}: not MIL text: byte {place} is not UTF-8", file.display()))
            .hint("MIL text is the model.mil of a compiled model; .mlmodel files are not text")
    })?;
    Ok(text::parse(text))
}
