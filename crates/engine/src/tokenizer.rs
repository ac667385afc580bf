//! The tokenizer of a model.

use crate::{Error, ErrorKind, Result, gguf_tokenizer};
use orion_formats::{Gguf, gguf};
use orion_models::ModelFile;
use orion_tokenizer::Tokenizer;
use std::io::Read;
use std::path::Path;

/// Opens a tokenizer file, or the tokenizer of a model: the one inside it or beside it.
///
/// # Errors
/// When the file is missing or damaged, or the model has no tokenizer.
pub fn open_any_tokenizer(path: &Path) -> Result<Tokenizer> {
    if is_gguf(path) {
        let file = Gguf::open(path)?;
        return gguf_tokenizer::tokenizer(&file).map_err(|e| e.at(path));
    }
    let opened = Tokenizer::from_file(path);
    let Err(refused) = opened else { return opened.map_err(|e| file_error(&e)) };
    if refused.kind() != orion_tokenizer::ErrorKind::WrongFormat {
        return Err(file_error(&refused));
    }
    // No tokenizer itself, so perhaps a model that has one.
    match ModelFile::open(path) {
        Ok(model) => match model.tokenizer {
            Some(file) if file != path => open_any_tokenizer(&file),
            _ => Err(Error::new(
                ErrorKind::File,
                "this is a model, but no tokenizer lies inside or beside it",
            )
            .at(path)),
        },
        Err(_) => Err(file_error(&refused).hint(
            "a tokenizer is a tokenizer.json, tokenizer.model, tokenizer.bin or vocab.json file, \
             or a model that has one",
        )),
    }
}

/// Opens a tokenizer and checks that it has no more ids than the model.
///
/// # Errors
/// When the file is missing, damaged, or made for a larger vocabulary.
pub fn open_tokenizer(path: &Path, vocab_size: usize) -> Result<Tokenizer> {
    let tokenizer = open_any_tokenizer(path)?;
    if tokenizer.vocab_size() > vocab_size {
        return Err(Error::new(
            ErrorKind::Mismatch,
            format!(
                "the tokenizer has {} ids, the model {vocab_size}; they do not belong together",
                tokenizer.vocab_size()
            ),
        )
        .at(path));
    }
    Ok(tokenizer)
}

pub(crate) fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == gguf::MAGIC
}

fn file_error(error: &orion_tokenizer::Error) -> Error {
    let told = Error::new(ErrorKind::File, error.to_string());
    match error.way_out() {
        Some(hint) => told.hint(hint),
        None => told,
    }
}
