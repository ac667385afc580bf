//! Models from files, with errors that say the way out.

use crate::{Error, ErrorKind, LoadedModel, Result};
use orion_models::{LoadError, WeightStorage};
use std::path::Path;

/// Loads a model to be run and nothing else: see [`orion_models::load_for_inference`].
///
/// # Errors
/// When the path holds no model that can be used.
pub fn load_model_for_inference(path: &Path, storage: WeightStorage) -> Result<LoadedModel> {
    orion_models::load_for_inference(path, storage).map_err(|e| of_models(&e))
}

/// Loads a model: see [`orion_models::load`].
///
/// # Errors
/// When the path holds no model that can be used.
pub fn load_model(path: &Path) -> Result<LoadedModel> {
    orion_models::load(path).map_err(|e| of_models(&e))
}

/// An error of `models`, with its way out.
pub(crate) fn of_models(error: &LoadError) -> Error {
    let told = Error::new(ErrorKind::File, error.to_string());
    match error.way_out() {
        Some(hint) => told.hint(hint),
        None => told,
    }
}
