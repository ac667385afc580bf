//! Training an adapter: the model under it stays as it is.

use crate::{Error, ErrorKind, LoadedModel, Result, TrainConfig};
use orion_formats::{PeftAdapter, PeftConfig};
use orion_models::{Adapter, AdapterShape, ParameterSpec, WeightIndex};
use orion_runtime::{Bindings, Surface};
use orion_tensor::Tensor;
use std::collections::BTreeMap;

/// A model whose weights are constants of the programs, and the adapter that is trained over it.
pub(crate) struct Base {
    pub(crate) model: LoadedModel,
    shape: AdapterShape,
    config: PeftConfig,
    scale: f64,
    /// The factors, `[R, 1]`.
    scales: Surface,
}

impl Base {
    /// What the section `adapter` of a page asks for over a model.
    ///
    /// # Errors
    /// When a target is no layer of the model, or the rank or α is out of range.
    pub(crate) fn new(page: &TrainConfig, model: LoadedModel) -> Result<Self> {
        let section = &page.adapter;
        let names: Vec<&str> =
            section.targets.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let refuse = |message: String| Error::new(ErrorKind::Config, message);
        if names.is_empty() {
            return Err(refuse("adapter.targets names no layer".to_owned())
                .hint("q,v is what most adapters change; all is every layer but the classifier"));
        }
        let targets = model
            .network
            .adapter_targets(&names)
            .map_err(|message| refuse(format!("adapter.targets: {message}")))?;
        let mut config = PeftConfig::new(section.rank, section.alpha, targets);
        config.base_model = Some(page.model.weights.clone());
        config.fan_in_fan_out = model.network.has_fan_in_fan_out();
        // Refuses what cannot be written before a step is made.
        config.to_json()?;
        let modules = model.network.adapted_modules(&config)?;
        let scale = section.alpha / section.rank as f64;
        let scales = Surface::from_slice(&[section.rank, 1], &vec![scale as f32; section.rank]);
        let shape = AdapterShape { rank: section.rank, modules };
        Ok(Self { model, shape, config, scale, scales })
    }

    /// What is trained.
    pub(crate) fn parameters(&self) -> Vec<ParameterSpec> {
        self.shape.parameters(&self.model.network)
    }

    /// The constants of programs for sequences of that length.
    pub(crate) fn index(&self, seq: usize) -> WeightIndex {
        self.model.index(seq).with_adapters(self.shape.clone())
    }

    /// Binds what programs want beside the parameters that are trained.
    pub(crate) fn bind<'a>(&'a self, bindings: &mut Bindings<'a>) {
        bindings.input(AdapterShape::SCALE, &self.scales);
    }

    /// The adapter with these values of its parameters.
    pub(crate) fn adapter(&self, values: &BTreeMap<String, Tensor>) -> Adapter {
        Adapter::of_tensors(values, &self.shape.modules, self.scale)
    }

    /// The same as PEFT's files have it.
    pub(crate) fn file(&self, values: &BTreeMap<String, Tensor>) -> PeftAdapter {
        self.adapter(values).to_file(self.config.clone())
    }

    /// The values of the parameters in a file's tensors.
    pub(crate) fn values(
        &self,
        tensors: BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let file = PeftAdapter::from_tensors(self.config.clone(), tensors)?;
        let named = file.modules.into_iter().flat_map(|(module, matrices)| {
            let [a, b] = orion_models::matrix_names(&module);
            [(a, matrices.a), (b, matrices.b)]
        });
        Ok(named.collect())
    }
}
