//! Adapters of PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Reads and writes plain LoRA (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
//! 2021): for a linear layer `y = W x` two matrices, `A` `[r, in]` and `B` `[out, r]`, that add
//! `scale · B A x`. What a configuration asks for beyond that is refused by its key. Which layers
//! there are is the network's business.

mod config;
mod targets;

pub use config::{PeftConfig, RankScale};
pub use targets::TargetModules;

use crate::{Error, ErrorKind, Result, SafeTensors};
use orion_tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the configuration within an adapter's directory.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// Name of the weights within an adapter's directory.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// What all names in the file begin with.
const PREFIX: &str = "base_model.model.";

/// An adapter's directory.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftAdapter {
    /// `adapter_config.json`.
    pub config: PeftConfig,
    /// The matrices by the path of their module in the network, such as
    /// `model.layers.0.self_attn.q_proj`.
    pub modules: BTreeMap<String, LoraMatrices>,
}

/// The two matrices of a linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraMatrices {
    /// `A`, `[r, in]`.
    pub a: Tensor,
    /// `B`, `[out, r]`.
    pub b: Tensor,
}

impl LoraMatrices {
    /// `r`, the rows of `A`.
    pub fn rank(&self) -> usize {
        self.a.shape()[0]
    }
}

impl PeftAdapter {
    /// Reads a directory.
    ///
    /// # Errors
    /// As [`PeftConfig::parse`] and [`SafeTensors::open`]; [`ErrorKind::Unsupported`] for a tensor
    /// that is not a LoRA matrix, [`ErrorKind::Malformed`] for one without its other half, of
    /// another rank than the configuration says, or not of two axes.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let config_path = directory.join(CONFIG_FILE);
        let config = crate::map_file(&config_path)
            .and_then(|bytes| PeftConfig::parse(&bytes))
            .map_err(|e| e.in_file(&config_path))?;
        let weights = directory.join(WEIGHTS_FILE);
        if !weights.exists() && directory.join("adapter_model.bin").exists() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the matrices are an adapter_model.bin, which may run any program when it is read",
            )
            .in_file(directory)
            .hint("save the adapter again with save_pretrained of PEFT: that writes safetensors"));
        }
        let tensors = SafeTensors::open(&weights)?.tensors;
        Self::from_tensors(config, tensors).map_err(|e| e.in_file(&weights))
    }

    /// An adapter of the tensors of its file.
    ///
    /// # Errors
    /// As [`PeftAdapter::open`].
    pub fn from_tensors(config: PeftConfig, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut halves: BTreeMap<String, [Option<Tensor>; 2]> = BTreeMap::new();
        for (name, tensor) in tensors {
            let (module, half) = parts_of(&name)?;
            if tensor.shape().len() != 2 || tensor.element_count() == 0 {
                return Err(malformed(format!(
                    "{name} has shape {:?}, expected a matrix",
                    tensor.shape()
                )));
            }
            halves.entry(module.to_owned()).or_default()[half] = Some(tensor);
        }
        let mut modules = BTreeMap::new();
        for (module, halves) in halves {
            let [Some(a), Some(b)] = halves else {
                return Err(malformed(format!(
                    "{module} has only one of the matrices lora_A and lora_B"
                )));
            };
            let expected = config.of_module(&module)?.rank;
            let (rows, columns) = (a.shape()[0], b.shape()[1]);
            if rows != expected || columns != expected {
                return Err(malformed(format!(
                    "{module} has lora_A {:?} and lora_B {:?}; {CONFIG_FILE} says rank {expected}",
                    a.shape(),
                    b.shape()
                )));
            }
            modules.insert(module, LoraMatrices { a, b });
        }
        if modules.is_empty() {
            return Err(malformed("the file has no matrices".to_owned()));
        }
        Ok(Self { config, modules })
    }

    /// Writes both files into a directory, in place of those that are there.
    ///
    /// # Errors
    /// As [`PeftConfig::to_json`] and [`crate::safetensors::write`].
    pub fn write_in(&self, directory: impl AsRef<Path>) -> Result<()> {
        let tensors = self.tensors();
        let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        // What other programs of the field write, and look for.
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let mut weights = Vec::new();
        crate::safetensors::write(&mut weights, named, &metadata)?;
        for (name, bytes) in [(WEIGHTS_FILE, weights), (CONFIG_FILE, self.config.to_json()?)] {
            let path = directory.as_ref().join(name);
            let temporary = directory.as_ref().join(format!("{name}.tmp"));
            std::fs::write(&temporary, bytes)
                .and_then(|()| std::fs::rename(&temporary, &path))
                .map_err(|e| Error::io("writing", &path, e))?;
        }
        Ok(())
    }

    /// The tensors as the file has them, by name.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let named = self.modules.iter().flat_map(|(module, LoraMatrices { a, b })| {
            [("lora_A", a), ("lora_B", b)]
                .map(|(half, tensor)| (format!("{PREFIX}{module}.{half}.weight"), tensor.clone()))
        });
        named.collect()
    }
}

/// The module that a tensor belongs to, and which half it is.
fn parts_of(name: &str) -> Result<(&str, usize)> {
    let unsupported = |what: &str| {
        Err(Error::new(ErrorKind::Unsupported, format!("the tensor {name} {what}"))
            .hint("plain LoRA of linear layers is run: lora_A and lora_B of each"))
    };
    let Some(path) = name.strip_prefix(PREFIX) else {
        return unsupported("is not called as PEFT calls adapters: base_model.model.…");
    };
    for (half, suffix) in [".lora_A.weight", ".lora_B.weight"].into_iter().enumerate() {
        if let Some(module) = path.strip_suffix(suffix).filter(|module| !module.is_empty()) {
            return Ok((module, half));
        }
    }
    if path.contains("lora_embedding") {
        unsupported("belongs to a LoRA of an embedding")
    } else if path.contains("lora_magnitude_vector") {
        unsupported("belongs to DoRA")
    } else if path.contains(".lora_") {
        unsupported("is no matrix of LoRA that is known")
    } else {
        unsupported("is a whole weight, not a LoRA matrix")
    }
}

fn malformed(detail: String) -> Error {
    Error::new(ErrorKind::Malformed, detail)
}
