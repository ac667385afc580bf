//! Models from files, with errors that say the way out.

use crate::{Error, ErrorKind, LoadedModel, Result};
use orion_models::{LoadError, WeightStorage};
use std::path::Path;

/// Loads a model to be run and nothing else: see [`orion_models::load_for_inference`].
///
/// # Errors
/// When the path holds no model that can be used.
pub fn load_model_for_inference(path: &Path, storage: WeightStorage) -> Result<LoadedModel> {
    Ok(orion_models::load_for_inference(path, storage)?)
}

/// Loads a model: see [`orion_models::load`].
///
/// # Errors
/// When the path holds no model that can be used.
pub fn load_model(path: &Path) -> Result<LoadedModel> {
    Ok(orion_models::load(path)?)
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        let told = Self::new(ErrorKind::File, error.to_string());
        match error.way_out() {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}
