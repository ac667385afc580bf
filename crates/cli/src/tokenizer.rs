//! The tokenizer of the model that a command is given.

use crate::failure::{Failure, Result};
use orion_engine::{LoadedModel, open_tokenizer};
use orion_tokenizer::Tokenizer;
use std::path::Path;

/// The one that `--tokenizer` names, or the one beside the model; `None` where there is neither.
pub(crate) fn tokenizer_of(named: Option<&Path>, model: &LoadedModel) -> Result<Option<Tokenizer>> {
    let path = named.or(model.tokenizer.as_deref());
    Ok(path.map(|path| open_tokenizer(path, model.network.vocab_size())).transpose()?)
}

/// Where that tokenizer lies, for commands that are nothing without one; `path` is the model's.
///
/// # Errors
/// When there is none.
pub(crate) fn require_tokenizer_path<'a>(
    named: Option<&'a Path>,
    model: &'a LoadedModel,
    path: &Path,
) -> Result<&'a Path> {
    named.or(model.tokenizer.as_deref()).ok_or_else(|| {
        Failure::usage(format!("no tokenizer lies beside {}", path.display()))
            .hint("name one with --tokenizer")
    })
}
