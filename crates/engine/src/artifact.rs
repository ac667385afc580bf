//! Artifacts of Parameter Golf: models in int8 within a limit of size.

use crate::{Error, ErrorKind, LoadedModel, ModelFile, Result};
use orion_formats::{ConfigFile, GolfArtifact};
use orion_models::Network;
use std::path::Path;

/// A model quantized as the baseline does it, tensors in the order of the network's parameters.
///
/// # Errors
/// When a number does not fit fp16 where the format wants it.
pub fn quantize_model(model: &LoadedModel) -> Result<GolfArtifact> {
    let specs = model.network.parameters();
    let tensors = specs.iter().map(|spec| (&*spec.name, &model.parameters[&spec.name]));
    GolfArtifact::of(tensors).map_err(|e| Error::new(ErrorKind::Mismatch, e.to_string()))
}

/// Opens an artifact as the weights it stands for. Which network it is, the file `config` says, a
/// `config.json`; without one it is the baseline.
///
/// # Errors
/// When a file cannot be read or is damaged.
pub fn open_artifact(path: &Path, config: Option<&Path>) -> Result<ModelFile> {
    let network = config.map(network).transpose()?;
    Ok(ModelFile::open_golf_artifact(path, network)?)
}

fn network(path: &Path) -> Result<Network> {
    let file = ConfigFile::open(path)?;
    Network::from_config_file(&file)
        .map_err(|e| Error::new(ErrorKind::File, e.to_string()).at(path))
}
