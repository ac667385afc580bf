//! Beginning a run and going on with one: weights, data and the directory they are kept in.

use super::Trainer;
use crate::checkpoint::{self, Kept, TrainState};
use crate::examples::{Corpus, Reader};
use crate::finetune::Base;
use crate::parameters::{Parameter, initialize, initialize_each};
use crate::programs::{gradient_program, weighted_gradient_program};
use crate::trace::TraceFile;
use crate::training_data::TrainingData;
use crate::{
    Accelerator, ChatTemplate, Error, ErrorKind, LayerSchedule, MetricsFile, Result, TrainConfig,
    open_tokenizer,
};
use orion_models::{ModelFile, Network, ParameterSpec, WeightIndex};
use orion_runtime::{Device, ProgramCache};
use orion_tensor::Tensor;
use orion_tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Tensors by name.
type Tensors = BTreeMap<String, Tensor>;

impl Trainer {
    /// Begins a run in a new directory: `config.toml` is written there, and the tokenizer copied.
    ///
    /// # Errors
    /// When the directory already holds a run, a file the page names is missing or damaged, or
    /// model, data and tokenizer do not fit each other.
    pub fn new(config: TrainConfig, directory: &Path, device: Arc<dyn Device>) -> Result<Self> {
        if directory.join("config.toml").exists() {
            return Err(Error::new(ErrorKind::File, "this directory already holds a run")
                .at(directory)
                .hint("continue it with --resume, or choose another --out"));
        }
        let mut config = config;
        let (tokenizer, subject, initial) = if config.model.weights.is_empty() {
            let network = config.model.network()?;
            let tokenizer = tokenizer(&config, &network)?;
            let initial = initialize(&network, config.train.seed);
            (tokenizer, Subject::Weights(network), initial)
        } else {
            let model = ModelFile::open(Path::new(&config.model.weights))?;
            let weights = std::mem::take(&mut config.model.weights);
            config.model = crate::ModelSection::from_network(&model.network);
            config.model.weights = weights;
            if config.train.seq > model.network.max_positions() {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "train.seq is {}, but the model takes at most {} tokens",
                        config.train.seq,
                        model.network.max_positions()
                    ),
                ));
            }
            if config.adapter.rank > 0
                && config.data.tokenizer.is_empty()
                && let Some(tokenizer) = &model.tokenizer
            {
                config.data.tokenizer = tokenizer.to_string_lossy().into_owned();
            }
            let tokenizer = tokenizer(&config, &model.network)?;
            let model = model.load()?;
            if config.adapter.rank > 0 {
                let base = Base::new(&config, model)?;
                let initial = initialize_each(base.parameters(), config.train.seed);
                (tokenizer, Subject::Adapter(Box::new(base)), initial)
            } else {
                (tokenizer, Subject::Weights(model.network), model.parameters)
            }
        };
        let state = TrainState::new(&config);
        let moments = BTreeMap::new();
        let kept = (state, &initial, &moments);
        let mut this = Self::assemble(config, directory, device, tokenizer, subject, kept)?;
        this.begin_directory()?;
        Ok(this)
    }

    /// Goes on from the newest complete checkpoint of a run. `config` is the run's own page, with
    /// whatever the caller changed.
    ///
    /// # Errors
    /// When there is no complete checkpoint, it is damaged, or it does not fit the page.
    pub fn resume(config: TrainConfig, directory: &Path, device: Arc<dyn Device>) -> Result<Self> {
        let (tokenizer, subject) = if config.adapter.rank > 0 {
            let model = ModelFile::open(Path::new(&config.model.weights))?;
            let tokenizer = tokenizer(&config, &model.network)?;
            (tokenizer, Subject::Adapter(Box::new(Base::new(&config, model.load()?)?)))
        } else {
            let network = config.model.network()?;
            (tokenizer(&config, &network)?, Subject::Weights(network))
        };
        let specs = subject.parameters();
        let restored = checkpoint::restore(directory, &subject.kept())?;
        checkpoint::check_tensors(&restored, &specs)?;
        let checkpoint::Restored { state, parameters, moments, passed_over, .. } = restored;
        let kept = (state, &parameters, &moments);
        let mut this = Self::assemble(config, directory, device, tokenizer, subject, kept)?;
        this.passed_over = passed_over;
        this.write_config()?;
        Ok(this)
    }

    fn assemble(
        config: TrainConfig,
        directory: &Path,
        device: Arc<dyn Device>,
        tokenizer: Option<Tokenizer>,
        subject: Subject,
        (state, initial, moments): (TrainState, &Tensors, &Tensors),
    ) -> Result<Self> {
        let network = subject.network().clone();
        let template = || match &tokenizer {
            Some(tokenizer) => ChatTemplate::of_model(Path::new(&config.model.weights), tokenizer),
            None => Ok(None),
        };
        let reader = Reader { tokenizer: tokenizer.as_ref(), template: &template };
        let open = |path: &str, what: &str| -> Result<Corpus> {
            let corpus = Corpus::open(Path::new(path), &reader)?;
            corpus.check_vocab(network.vocab_size()).map_err(|e| {
                Error::from(e)
                    .at(Path::new(path))
                    .hint(format!("was the {what} file made with this model's tokenizer?"))
            })?;
            Ok(corpus)
        };
        if config.data.train.is_empty() {
            return Err(Error::new(ErrorKind::Config, "there is no data to train on")
                .hint("name a file of tokens or text with --data"));
        }
        let train = open(&config.data.train, "training")?;
        let file_tokens = train.tokens();
        if state.step > 0 {
            checkpoint::check_data(directory, &config, file_tokens)?;
        }
        let eval_file = match config.data.eval.as_str() {
            "" => None,
            path => Some(open(path, "evaluation")?),
        };
        let t = &config.train;
        let data = TrainingData::new(train, t.seq, config.data.order, t.seed, state.data)?;
        let index = subject.index(t.seq);
        let programs = ProgramCache::new(device.clone(), index.weights().clone());
        let specs = subject.parameters().into_iter();
        let parameters = specs.map(|spec| Parameter::new(spec, initial, moments)).collect();
        let base = match subject {
            Subject::Adapter(base) => Some(*base),
            Subject::Weights(_) => None,
        };
        fs::create_dir_all(directory).map_err(|e| Error::io(directory, e))?;
        let metrics = MetricsFile::open(&directory.join("metrics.jsonl"), state.step)?;
        Ok(Self {
            config,
            directory: directory.to_owned(),
            network,
            base,
            device,
            index,
            programs,
            parameters,
            data,
            file_tokens,
            eval_file,
            tokenizer,
            state,
            metrics,
            skipped_in_a_row: 0,
            passed_over: Vec::new(),
            layers: None,
            trace: None,
        })
    }

    /// Has the layers computed by another device, at the same time as the rest by the run's own.
    ///
    /// # Errors
    /// When the step cannot be divided so that the device takes its parts.
    pub fn use_accelerator(&mut self, accelerator: Accelerator) -> Result<()> {
        let t = &self.config.train;
        let program = match self.data {
            TrainingData::Windows(_) => gradient_program,
            TrainingData::Examples(_) => weighted_gradient_program,
        };
        let program = program(&self.network, &self.index, t.batch, t.seq, t.grad_accum > 1);
        let host = self.device.clone();
        let layers = LayerSchedule::new(&self.network, &self.index, &program, accelerator, host)?;
        let specs: Vec<ParameterSpec> = self.parameters.iter().map(|p| p.spec.clone()).collect();
        let accumulates = t.grad_accum > 1;
        self.layers = Some(layers.with_update(&specs, &self.config.optimizer, accumulates)?);
        Ok(())
    }

    /// Writes when things run to a file that Perfetto opens, one track a device. A run that is
    /// resumed goes on with the file that is there.
    ///
    /// # Errors
    /// When the file cannot be written, or is no trace that a resumed run could go on with.
    pub fn trace_to(&mut self, path: &Path) -> Result<()> {
        let open = if self.state.step > 0 { TraceFile::resume } else { TraceFile::create };
        self.trace = Some(open(path, self.device.name(), self.layers.as_ref())?);
        Ok(())
    }

    fn begin_directory(&mut self) -> Result<()> {
        if let Some(tokenizer) = &self.tokenizer {
            let saved = tokenizer
                .save_in(&self.directory)
                .map_err(|e| Error::new(ErrorKind::File, e.to_string()).at(&self.directory))?;
            self.config.data.tokenizer = saved.to_string_lossy().into_owned();
        }
        self.write_config()
    }

    fn write_config(&self) -> Result<()> {
        let path = self.directory.join("config.toml");
        let temporary = self.directory.join("config.toml.tmp");
        fs::write(&temporary, self.config.to_documented_toml())
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|e| Error::io(&path, e))
    }
}

/// The tokenizer that a page names, where it names one.
fn tokenizer(config: &TrainConfig, network: &Network) -> Result<Option<Tokenizer>> {
    match config.data.tokenizer.as_str() {
        "" => Ok(None),
        path => open_tokenizer(Path::new(path), network.vocab_size()).map(Some),
    }
}

/// What a run trains.
enum Subject {
    /// All weights of a network.
    Weights(Network),
    /// An adapter over a model.
    Adapter(Box<Base>),
}

impl Subject {
    fn network(&self) -> &Network {
        match self {
            Self::Weights(network) => network,
            Self::Adapter(base) => &base.model.network,
        }
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        match self {
            Self::Weights(network) => network.parameters(),
            Self::Adapter(base) => base.parameters(),
        }
    }

    fn index(&self, seq: usize) -> WeightIndex {
        match self {
            Self::Weights(network) => {
                let mut index = WeightIndex::new();
                network.add_tables(&mut index, seq);
                index
            }
            Self::Adapter(base) => base.index(seq),
        }
    }

    fn kept(&self) -> Kept<'_> {
        match self {
            Self::Weights(network) => Kept::Weights(network),
            Self::Adapter(base) => Kept::Adapter(base),
        }
    }
}
