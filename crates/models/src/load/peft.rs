//! Adapters as PEFT writes them.

use super::LoadError;
use crate::adapter::{Adapter, LinearLayer, LowRank};
use crate::{Network, matrix_names};
use orion_formats::{LoraMatrices, PeftAdapter, PeftConfig, TargetModules};
use orion_tensor::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

impl Adapter {
    /// Loads an adapter for a network: a directory as PEFT writes it, or a run that finetuned one
    /// (its newest complete checkpoint).
    ///
    /// # Errors
    /// When the directory holds none or a damaged one, it is not plain LoRA, or its modules are
    /// not those of the network.
    pub fn load(path: &Path, network: &Network) -> Result<Self, LoadError> {
        let latest = path.join("latest");
        let directory = if latest.exists() { latest } else { path.to_owned() };
        if !directory.join(orion_formats::peft::CONFIG_FILE).exists() {
            let (problem, hint) = if !path.exists() {
                ("there is no such directory", "name the directory of an adapter")
            } else if directory.join("config.json").exists() {
                (
                    "this is a model, no adapter",
                    "an adapter's directory holds adapter_config.json; a model is given as MODEL",
                )
            } else {
                (
                    "there is no adapter_config.json in this directory",
                    "an adapter is a directory as PEFT writes it, with adapter_config.json and \
                     adapter_model.safetensors, or a run of orion finetune",
                )
            };
            return Err(LoadError::new(path, problem).hint(hint));
        }
        let file = PeftAdapter::open(&directory).map_err(|e| LoadError::of(&directory, &e))?;
        Self::of_file(&file, network, &directory)
    }

    fn of_file(file: &PeftAdapter, network: &Network, path: &Path) -> Result<Self, LoadError> {
        let error = |message: String| LoadError::new(path, message);
        let formats = |e: orion_formats::Error| LoadError::of(path, &e);
        let layers = network.linear_layers();
        let mut modules = BTreeMap::new();
        for (name, LoraMatrices { a, b }) in &file.modules {
            let layer = network.layer_of_file(name, &layers).ok_or_else(|| {
                error(format!("the adapter changes {name}, which is no linear layer of this model"))
                    .hint("the adapter was made for another model")
            })?;
            if a.shape()[1] != layer.inputs || b.shape()[0] != layer.outputs {
                return Err(error(format!(
                    "{name} takes {} and gives {} numbers in the adapter, {} and {} in this model",
                    a.shape()[1],
                    b.shape()[0],
                    layer.inputs,
                    layer.outputs
                ))
                .hint("the adapter was made for a model of another size"));
            }
            if !file.config.is_for(name, layer.is_classifier()).map_err(formats)? {
                return Err(error(format!(
                    "there are matrices for {name}, which target_modules does not name"
                ))
                .hint("adapter_config.json and adapter_model.safetensors are of two adapters"));
            }
            for tensor in [a, b] {
                if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) {
                    return Err(error(format!(
                        "{name} has element type {}; fp32, fp16 and bf16 are read",
                        tensor.dtype()
                    )));
                }
            }
            let scale = file.config.of_module(name).map_err(formats)?.scale;
            let [a, b] = [a, b].map(|t| crate::storage::convert(t, DType::F32));
            modules.insert(layer.module.clone(), LowRank { a, b, scale });
        }
        for layer in &layers {
            let named =
                file.config.is_for(&layer.module, layer.is_classifier()).map_err(formats)?;
            if named && !modules.contains_key(&layer.module) {
                return Err(error(format!(
                    "target_modules names {}, but there are no matrices for it",
                    layer.module
                ))
                .hint("the file is not complete, or the adapter was made for another model"));
            }
        }
        Ok(Self { modules })
    }

    /// The adapter as PEFT's files have it.
    ///
    /// # Panics
    /// When a module is not of the network, or its factor is not that of `config`.
    pub fn to_file(&self, config: PeftConfig) -> PeftAdapter {
        let modules = self.modules.iter().map(|(module, LowRank { a, b, scale })| {
            let meant = config.of_module(module).expect("patterns of our own");
            assert_eq!(meant.scale, *scale, "the factor of {module}");
            (module.clone(), LoraMatrices { a: a.clone(), b: b.clone() })
        });
        PeftAdapter { modules: modules.collect(), config }
    }

    /// An adapter of tensors called as [`matrix_names`] says.
    ///
    /// # Panics
    /// When a tensor is missing.
    pub fn of_tensors(
        tensors: &BTreeMap<String, Tensor>,
        modules: &BTreeSet<String>,
        scale: f64,
    ) -> Self {
        let modules = modules.iter().map(|module| {
            let [a, b] = matrix_names(module).map(|name| tensors[&name].clone());
            (module.clone(), LowRank { a, b, scale })
        });
        Self { modules: modules.collect() }
    }
}

impl Network {
    /// The linear layer that a file calls `module`.
    fn layer_of_file<'l>(
        &self,
        module: &str,
        layers: &'l [LinearLayer],
    ) -> Option<&'l LinearLayer> {
        let named = |name: &str| layers.iter().find(|layer| layer.module == name);
        named(module).or_else(|| {
            let parameter = self.parameter_of_file(&format!("{module}.weight"))?;
            named(parameter.strip_suffix(".weight").unwrap_or(&parameter))
        })
    }

    /// What an adapter of the layers called `names` is for: PEFT's names, ends of paths or
    /// `all-linear`, or the letters of the attention's and the MLP's layers, `q`, `k`, `v`, `o`,
    /// `gate`, `up` and `down`. GPT-2 has queries, keys and values in one layer.
    ///
    /// # Errors
    /// A name that no layer has.
    pub fn adapter_targets(&self, names: &[&str]) -> Result<TargetModules, String> {
        if let [all] = names
            && ["all", "all-linear"].contains(all)
        {
            return Ok(TargetModules::Pattern("all-linear".to_owned()));
        }
        let layers = self.linear_layers();
        let mut targets = Vec::new();
        for &name in names {
            let full = match self {
                Self::Gpt2(_) => match name {
                    "q" | "k" | "v" => "c_attn",
                    "o" => "attn.c_proj",
                    "up" => "c_fc",
                    "down" => "mlp.c_proj",
                    other => other,
                },
                Self::Llama(_) | Self::Qwen2(_) | Self::Qwen3(_) => match name {
                    "q" => "q_proj",
                    "k" => "k_proj",
                    "v" => "v_proj",
                    "o" => "o_proj",
                    "gate" => "gate_proj",
                    "up" => "up_proj",
                    "down" => "down_proj",
                    other => other,
                },
                _ => name,
            };
            let known = TargetModules::Names(vec![full.to_owned()]);
            let config = PeftConfig::new(1, 1.0, known);
            if !layers.iter().any(|l| config.is_for(&l.module, false).is_ok_and(|is| is)) {
                let ends: BTreeSet<&str> =
                    layers.iter().filter_map(|l| l.module.rsplit('.').next()).collect();
                let ends: Vec<&str> = ends.into_iter().collect();
                return Err(format!(
                    "no linear layer is called {name}; this model has {}",
                    ends.join(", ")
                ));
            }
            if !targets.iter().any(|t| t == full) {
                targets.push(full.to_owned());
            }
        }
        Ok(TargetModules::Names(targets))
    }

    /// The modules that an adapter of that configuration changes.
    ///
    /// # Errors
    /// When a pattern is not understood.
    pub fn adapted_modules(
        &self,
        config: &PeftConfig,
    ) -> Result<BTreeSet<String>, orion_formats::Error> {
        let mut modules = BTreeSet::new();
        for layer in self.linear_layers() {
            if config.is_for(&layer.module, layer.is_classifier())? {
                modules.insert(layer.module);
            }
        }
        Ok(modules)
    }

    /// Whether Hugging Face's library keeps the weights of linear layers as `[in, out]`, which
    /// `adapter_config.json` says.
    pub fn has_fan_in_fan_out(&self) -> bool {
        matches!(self, Self::Gpt2(_))
    }
}
