//! Directories as Hugging Face's libraries write them, which our own checkpoints are too.

use super::{LoadError, LoadedModel, ModelFile, Reading, WeightFile};
use crate::storage::convert;
use crate::{Network, WeightStorage};
use orion_formats::{
    ConfigFile, MappedFile, SafeTensors, end_ids_of_generation_config, safetensors,
};
use orion_tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Tokenizer files, the ones that say the most first.
const TOKENIZERS: [&str; 4] = ["tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer.bin"];

/// Opens a directory of weights, or the newest checkpoint of a run directory.
pub(super) fn open(path: &Path) -> Result<ModelFile, LoadError> {
    let latest = path.join("latest");
    let weights = if latest.exists() { latest } else { path.to_owned() };
    let config_path = weights.join("config.json");
    if !config_path.exists() && weights.join(orion_formats::peft::CONFIG_FILE).exists() {
        return Err(LoadError::new(path, "this is an adapter, no model")
            .hint("name the model it was trained for, and the adapter with --adapter"));
    }
    if !config_path.exists() {
        let run = path.join("config.toml").exists();
        return Err(LoadError::new(path, "there is no config.json in this directory").hint(
            if run {
                "this run has no complete checkpoint yet"
            } else {
                "a model directory holds config.json and model.safetensors"
            },
        ));
    }
    let config = ConfigFile::open(&config_path).map_err(|e| LoadError::of(&config_path, &e))?;
    let network = Network::from_config_file(&config)
        .map_err(|e| LoadError::new(&config_path, e.to_string()))?;
    let generation = weights.join("generation_config.json");
    let mut end_ids = config.end_ids().to_vec();
    if generation.exists() {
        let listed = end_ids_of_generation_config(&generation);
        end_ids.extend(listed.map_err(|e| LoadError::of(&generation, &e))?);
    }
    end_ids.sort_unstable();
    end_ids.dedup();
    let tokenizers = [path, &*weights]
        .into_iter()
        .flat_map(|d| TOKENIZERS.map(|f| d.join(f)))
        .chain(TOKENIZERS.map(|f| path.join("../..").join(f)));
    let file = ModelFile::new(&config_path, network, WeightFile::Directory(weights.clone()))?;
    Ok(ModelFile { end_ids, ..file.with_tokenizer(tokenizers) })
}

/// Reads the weights in a directory.
pub(super) fn load(
    directory: &Path,
    network: Network,
    storage: WeightStorage,
) -> Result<LoadedModel, LoadError> {
    let (file, tensors, maps) = tensors(directory)?;
    let mut reading = Reading::new(&file, network.clone(), storage);
    for (name, tensor) in tensors {
        let Some(parameter) = network.parameter_of_file(&name) else { continue };
        orion_formats::check_finite(&name, &tensor).map_err(|e| LoadError::of(&file, &e))?;
        let bytes = tensor.bytes().clone();
        let tensor = match storage {
            // There is less to turn when it is narrow.
            WeightStorage::Float(dtype @ (DType::F16 | DType::BF16))
                if tensor.dtype() == DType::F32
                    && network.is_turned_in_files(&parameter, &tensor) =>
            {
                convert(&tensor, dtype)
            }
            _ => tensor,
        };
        let turned = network.turned_for_files(&parameter, &tensor);
        reading.take(parameter.clone(), turned.unwrap_or(tensor))?;
        // What was copied need not lie in memory twice.
        if !reading.shares(&parameter, &bytes) {
            maps.iter().any(|map| map.give_back(&bytes));
        }
    }
    reading.finish()
}

/// A file to name, tensors, and the files they lie in.
type Files = (PathBuf, BTreeMap<String, Tensor>, Vec<MappedFile>);

/// The tensors of a directory, which may have numbers that are not finite, and the file to name in
/// messages about them: the only one, or the index of several.
fn tensors(directory: &Path) -> Result<Files, LoadError> {
    let single = directory.join("model.safetensors");
    let index = directory.join("model.safetensors.index.json");
    if !single.exists() && index.exists() {
        let opened = safetensors::open_sharded(&index);
        let (tensors, maps) = opened.map_err(|e| LoadError::of(&index, &e))?;
        return Ok((index, tensors, maps));
    }
    if !single.exists() && directory.join("pytorch_model.bin").exists() {
        return Err(LoadError::new(
            directory,
            "the weights are a pytorch_model.bin, which may run any program when it is read",
        )
        .hint(
            "save the model again with save_pretrained of transformers: that writes safetensors",
        ));
    }
    let opened = MappedFile::open(&single);
    let opened = opened.and_then(|map| Ok((SafeTensors::parse_unchecked(map.bytes())?, map)));
    let (file, map) = opened.map_err(|e| LoadError::of(&single, &e))?;
    Ok((single, file.tensors, vec![map]))
}
