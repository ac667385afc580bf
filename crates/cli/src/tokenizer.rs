//! The tokenizer of the model that a command is given.
//!
//! It is opened before the model's weights are read: what is wrong with it is told at once.

use crate::failure::{Failure, Result};
use crate::printer::Printer;
use orion_engine::{ModelFile, open_tokenizer};
use orion_tokenizer::Tokenizer;
use std::path::Path;

/// The one that `--tokenizer` names, or the one beside the model; `None` where there is neither.
pub(crate) fn tokenizer_of(named: Option<&Path>, model: &ModelFile) -> Result<Option<Tokenizer>> {
    let path = named.or(model.tokenizer.as_deref());
    Ok(path.map(|path| open_tokenizer(path, model.network.vocab_size())).transpose()?)
}

/// The same for commands that are nothing without one; `path` is the model's.
///
/// # Errors
/// When there is none, or it is damaged or another model's.
pub(crate) fn require_tokenizer(
    named: Option<&Path>,
    model: &ModelFile,
    path: &Path,
    printer: &Printer,
) -> Result<Tokenizer> {
    let found = named.or(model.tokenizer.as_deref()).ok_or_else(|| {
        Failure::usage(format!("no tokenizer lies beside {}", path.display()))
            .hint("name one with --tokenizer")
    })?;
    let tokenizer = open_tokenizer(found, model.network.vocab_size())?;
    printer.detail(format_args!("tokenizer {}", found.display()));
    Ok(tokenizer)
}
