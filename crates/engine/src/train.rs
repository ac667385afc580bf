mod held_out;

use crate::checkpoint::{self, Kept, TrainState, first_moment_name, second_moment_name};
use crate::examples::{Corpus, Reader};
use crate::finetune::Base;
use crate::parameters::{Parameter, initialize, initialize_each};
use crate::programs::{gradient_program, update_program, weighted_gradient_program};
use crate::trace::TraceFile;
use crate::training_data::TrainingData;
use crate::{
    Accelerator, Adapter, Batch, ChatTemplate, Error, ErrorKind, LayerSchedule, LoadedModel,
    MetricsFile, Result, StepReport, TrainConfig,
};
use orion_models::{Network, ParameterSpec, WeightIndex};
use orion_runtime::{Bindings, Device, Executable, Layout, NumericEvents, ProgramCache, Surface};
use orion_tensor::{DType, Tensor};
use orion_tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Steps in a row whose gradients are not finite before a run gives up.
const MOST_SKIPPED_IN_A_ROW: u32 = 10;

/// Finite steps after which a dynamic loss scale doubles.
const GROWTH_INTERVAL: u64 = 2000;

/// What a run tells as it goes.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step is done.
    Step(&'a StepReport),
    /// The weights after `step` updates were evaluated.
    Evaluation {
        /// Updates made.
        step: u64,
        /// Mean loss in nats.
        loss: f64,
    },
    /// A sample text was written.
    Sample {
        /// Updates made.
        step: u64,
        /// The text, prompt included.
        text: &'a str,
    },
    /// A checkpoint is complete.
    Checkpoint {
        /// Updates made.
        step: u64,
        /// Its directory.
        path: &'a Path,
    },
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Updates made, those before a resume included.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Steps left out because a gradient was not finite, since the run began.
    pub skipped: u64,
    /// Whether the observer asked to stop before the last step.
    pub interrupted: bool,
    /// Set when the device compiles nothing more in this process: everything is saved, and a new
    /// process can go on.
    pub out_of_compilations: Option<Error>,
    /// What a device that counts it did to numbers.
    pub numbers: NumericEvents,
    /// Loss on the evaluation file before and after, where there is one.
    pub eval_losses: (Option<f64>, Option<f64>),
    /// Where the last checkpoint is.
    pub checkpoint: PathBuf,
}

/// A training run: weights, optimizer state, data and the directory they are kept in.
pub struct Trainer {
    config: TrainConfig,
    directory: PathBuf,
    network: Network,
    /// What lies under an adapter, where one is trained.
    base: Option<Base>,
    device: Arc<dyn Device>,
    index: WeightIndex,
    programs: ProgramCache,
    parameters: Vec<Parameter>,
    data: TrainingData,
    file_tokens: u64,
    eval_file: Option<Corpus>,
    tokenizer: Option<Tokenizer>,
    state: TrainState,
    metrics: MetricsFile,
    skipped_in_a_row: u32,
    passed_over: Vec<String>,
    /// Forward and backward on two devices, where there is a second one.
    layers: Option<LayerSchedule>,
    trace: Option<TraceFile>,
}

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
        let (subject, initial) = if config.model.weights.is_empty() {
            let network = config.model.network()?;
            let initial = initialize(&network, config.train.seed);
            (Subject::Weights(network), initial)
        } else {
            let model = load_model(Path::new(&config.model.weights))?;
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
            if config.adapter.rank > 0 {
                let base = Base::new(&config, model)?;
                let initial = initialize_each(base.parameters(), config.train.seed);
                (Subject::Adapter(Box::new(base)), initial)
            } else {
                (Subject::Weights(model.network), model.parameters)
            }
        };
        let state = TrainState::new(&config);
        let moments = BTreeMap::new();
        let mut this =
            Self::assemble(config, directory, device, subject, state, &initial, &moments)?;
        this.begin_directory()?;
        Ok(this)
    }

    /// Goes on from the newest complete checkpoint of a run. `config` is the run's own page, with
    /// whatever the caller changed.
    ///
    /// # Errors
    /// When there is no complete checkpoint, it is damaged, or it does not fit the page.
    pub fn resume(config: TrainConfig, directory: &Path, device: Arc<dyn Device>) -> Result<Self> {
        let subject = if config.adapter.rank > 0 {
            let model = load_model(Path::new(&config.model.weights))?;
            Subject::Adapter(Box::new(Base::new(&config, model)?))
        } else {
            Subject::Weights(config.model.network()?)
        };
        let specs = subject.parameters();
        let restored = checkpoint::restore(directory, &subject.kept())?;
        checkpoint::check_tensors(&restored, &specs)?;
        let checkpoint::Restored { state, parameters, moments, passed_over, .. } = restored;
        let mut this =
            Self::assemble(config, directory, device, subject, state, &parameters, &moments)?;
        this.passed_over = passed_over;
        this.write_config()?;
        Ok(this)
    }

    fn assemble(
        config: TrainConfig,
        directory: &Path,
        device: Arc<dyn Device>,
        subject: Subject,
        state: TrainState,
        initial: &BTreeMap<String, Tensor>,
        moments: &BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        let network = subject.network().clone();
        let tokenizer = match config.data.tokenizer.as_str() {
            "" => None,
            path => Some(crate::open_tokenizer(Path::new(path), network.vocab_size())?),
        };
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
    /// When the step cannot be divided so that the device takes its parts, and for adapters and
    /// examples, which one device trains.
    pub fn use_accelerator(&mut self, accelerator: Accelerator) -> Result<()> {
        if self.base.is_some() || matches!(self.data, TrainingData::Examples(_)) {
            return Err(Error::new(
                ErrorKind::Config,
                "adapters and examples are trained on one device only",
            )
            .hint("leave out the accelerator: -d cpu"));
        }
        let t = &self.config.train;
        self.layers = Some(LayerSchedule::new(
            &self.network,
            &self.index,
            [t.batch, t.seq],
            t.grad_accum > 1,
            accelerator,
            self.device.clone(),
        )?);
        Ok(())
    }

    /// Writes when things run to a file that Perfetto opens, one track a device.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn trace_to(&mut self, path: &Path) -> Result<()> {
        self.trace = Some(TraceFile::create(path, self.device.name(), self.layers.as_ref())?);
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

    /// The resolved page of the run.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The network being trained.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Checkpoints that a resume found damaged or incomplete and did not use, with reasons.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// Updates made so far.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// The model as it is now; where an adapter is trained, the one under it.
    pub fn model(&self) -> LoadedModel {
        match &self.base {
            Some(base) => base.model.clone(),
            None => LoadedModel::new(self.network.clone(), self.values()),
        }
    }

    /// A copy of the adapter as it is now, where one is trained.
    pub fn adapter(&self) -> Option<Adapter> {
        self.base.as_ref().map(|base| base.adapter(&self.values()))
    }

    /// How many numbers are trained.
    pub fn trained_count(&self) -> usize {
        self.parameters.iter().map(|p| p.spec.shape.iter().product::<usize>()).sum()
    }

    /// Examples that are longer than a sequence and were cut, and those that had nothing left to
    /// learn and were left out.
    pub fn shortened(&self) -> (usize, usize) {
        match &self.data {
            TrainingData::Examples(examples) => (examples.cut, examples.left_out),
            TrainingData::Windows(_) => (0, 0),
        }
    }

    fn values(&self) -> BTreeMap<String, Tensor> {
        self.parameters.iter().map(|p| (p.spec.name.clone(), p.value.to_tensor())).collect()
    }

    /// A copy of the gradients of the last step, summed over its micro-batches and still
    /// multiplied by the loss scale.
    pub fn gradients(&self) -> BTreeMap<String, Tensor> {
        self.parameters.iter().map(|p| (p.spec.name.clone(), p.gradient.to_tensor())).collect()
    }

    /// Trains until the configured number of steps. The observer is told of everything and stops
    /// the run by breaking after a step; the run then ends with a checkpoint.
    ///
    /// # Errors
    /// When a file cannot be written, the device fails, or the loss stays not finite. The newest
    /// checkpoint is complete whatever happens.
    pub fn run(
        &mut self,
        observer: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> Result<Outcome> {
        let mut saved_at = None;
        let mut eval_losses = (None, None);
        let mut interrupted = false;
        let mut out_of_compilations = None;
        let mut numbers = NumericEvents::default();
        if self.state.step == 0 {
            eval_losses.0 = self.evaluate(observer)?;
            eval_losses.1 = eval_losses.0;
        }
        while self.state.step < self.config.train.steps && !interrupted {
            let report = match self.train_step() {
                // Weights, moments and state are those of the end of the step before.
                Err(e) if e.kind() == ErrorKind::CompileBudget => {
                    out_of_compilations = Some(e);
                    break;
                }
                other => other?,
            };
            self.metrics.step(&report)?;
            numbers.add(report.numbers);
            interrupted = observer(&Event::Step(&report)).is_break();
            let step = self.state.step;
            let last = step >= self.config.train.steps;
            let due = |every: u64| every > 0 && step.is_multiple_of(every);
            if due(self.config.checkpoint.every) && !last && !interrupted {
                self.save(observer)?;
                saved_at = Some(step);
            }
            if due(self.config.eval.every) && !last && !interrupted {
                self.evaluate(observer)?;
            }
            if due(self.config.sample.every) && !interrupted {
                self.sample(observer)?;
            }
        }
        let finished = self.state.step >= self.config.train.steps;
        if finished {
            eval_losses.1 = self.evaluate(observer)?.or(eval_losses.1);
        }
        if saved_at != Some(self.state.step) {
            self.save(observer)?;
        }
        if finished {
            self.write_adapter()?;
        }
        Ok(Outcome {
            step: self.state.step,
            tokens: self.state.tokens,
            skipped: self.state.skipped_steps,
            interrupted: interrupted && !finished,
            out_of_compilations,
            numbers,
            eval_losses,
            checkpoint: self.directory.join("latest"),
        })
    }

    /// One optimizer update.
    fn train_step(&mut self) -> Result<StepReport> {
        let begin = Instant::now();
        let micro_batches = self.config.train.grad_accum;
        let sequences = self.config.train.batch;
        let batches: Vec<Batch> =
            (0..micro_batches).map(|_| self.data.next_batch(sequences)).collect();
        let counted = batches.iter().flat_map(|b| b.counted.iter().flatten());
        // The loss of a step is the mean over all tokens that count, whichever micro-batch they
        // are in.
        let share = micro_batches as f64 / counted.filter(|&&counts| counts).count() as f64;
        let mut loss = 0.0;
        let (mut numbers, mut overflowed_in) = (NumericEvents::default(), None);
        for (i, batch) in batches.iter().enumerate() {
            loss += self.accumulate_gradients(batch, share, i > 0)?;
            if let Some(layers) = &self.layers {
                numbers.add(layers.numeric_events());
                overflowed_in = overflowed_in.or_else(|| layers.first_overflowed());
            }
        }
        loss /= micro_batches as f64;
        let lr = self.config.learning_rate(self.state.step);
        let grad_norm = self.update(lr, micro_batches)?;
        let loss_scale = self.state.loss_scale;
        let finite = grad_norm.is_finite();
        self.adapt_loss_scale(finite, loss)?;
        let step = self.state.step;
        let step_tokens = batches.iter().map(|b| b.read as u64).sum::<u64>();
        self.state.step += 1;
        self.state.tokens += step_tokens;
        self.state.micro_batches += micro_batches as u64;
        self.state.data = self.data.position();
        let seconds = begin.elapsed().as_secs_f64();
        Ok(StepReport {
            step,
            loss,
            grad_norm,
            lr,
            tokens: self.state.tokens,
            tokens_per_s: step_tokens as f64 / seconds,
            ms: seconds * 1e3,
            skipped: !finite,
            loss_scale,
            numbers,
            overflowed_in,
            not_finite: self
                .layers
                .as_ref()
                .filter(|_| !finite)
                .and_then(LayerSchedule::first_not_finite),
        })
    }

    /// Forward and backward of one micro-batch; returns its loss. `share` is that of a token of
    /// the loss, where only some count.
    fn accumulate_gradients(&mut self, batch: &Batch, share: f64, accumulate: bool) -> Result<f64> {
        let (sequences, seq) = (self.config.train.batch, self.config.train.seq);
        let tokens = Surface::from_slice(&[batch.tokens.len()], &batch.tokens);
        let targets = Surface::from_slice(&[batch.targets.len()], &batch.targets);
        let weights = batch.counted.as_ref().map(|counted| {
            let weights: Vec<f32> =
                counted.iter().map(|&counts| if counts { share as f32 } else { 0.0 }).collect();
            Surface::from_slice(&[weights.len()], &weights)
        });
        let loss_scale = Surface::from_slice(&[1], &[self.state.loss_scale as f32]);
        let mut loss = Surface::zeros(Layout::dense(DType::F32, &[1]));
        let (network, index) = (&self.network, &self.index);
        let key = if accumulate { "accumulate" } else { "gradients" };
        let program = match weights {
            Some(_) => weighted_gradient_program,
            None => gradient_program,
        };
        // Divided, there is one program for all micro-batches: it adds, to zeros first.
        let adds = accumulate || self.layers.is_some() && self.config.train.grad_accum > 1;
        if adds && !accumulate {
            self.parameters.iter_mut().for_each(|p| p.gradient.bytes_mut().fill(0));
        }
        let executable: &mut dyn Executable = match &mut self.layers {
            Some(layers) => layers,
            None => {
                self.programs.get(key, || program(network, index, sequences, seq, accumulate))?
            }
        };
        let mut bindings = Bindings::new();
        bindings.input("tokens", &tokens).input("targets", &targets);
        bindings.input("loss_scale", &loss_scale).output("loss", &mut loss);
        if let Some(weights) = &weights {
            bindings.input("weights", weights);
        }
        if let Some(base) = &self.base {
            base.bind(&mut bindings);
        }
        for p in &mut self.parameters {
            bindings.input(&p.names.value, &p.value);
            if adds {
                bindings.update(&p.names.gradient, &mut p.gradient);
            } else {
                bindings.output(&p.names.gradient, &mut p.gradient);
            }
        }
        let begin = Instant::now();
        executable.run(&mut bindings)?;
        if let Some(trace) = &mut self.trace {
            trace.gradients(self.layers.as_ref(), self.state.step, begin)?;
        }
        Ok(f64::from(loss.elements::<f32>()[0]))
    }

    /// The optimizer; returns the global gradient norm. Weights and moments stay as they are
    /// when that is not finite.
    fn update(&mut self, lr: f64, micro_batches: usize) -> Result<f64> {
        let scalar = |v: f64| Surface::from_slice(&[1], &[v as f32]);
        let o = &self.config.optimizer;
        let t = (self.state.step + 1) as f64;
        let learning_rate = scalar(lr);
        let beta1_correction = scalar(1.0 - o.beta1.powf(t));
        let beta2_correction = scalar(1.0 - o.beta2.powf(t));
        let gradient_scale = scalar(1.0 / (self.state.loss_scale * micro_batches as f64));
        let mut norm = Surface::zeros(Layout::dense(DType::F32, &[1]));
        let mut finite = norm.clone();
        let specs = || self.parameters.iter().map(|p| p.spec.clone()).collect::<Vec<_>>();
        let executable = self.programs.get("update", || update_program(&specs(), o))?;
        let mut bindings = Bindings::new();
        bindings
            .input("learning_rate", &learning_rate)
            .input("beta1_correction", &beta1_correction)
            .input("beta2_correction", &beta2_correction)
            .input("gradient_scale", &gradient_scale)
            .output("gradient_norm", &mut norm)
            .output("finite", &mut finite);
        for p in &mut self.parameters {
            bindings.update(&p.names.value, &mut p.value);
            bindings.input(&p.names.gradient, &p.gradient);
            bindings.update(&p.names.first_moment, &mut p.first_moment);
            bindings.update(&p.names.second_moment, &mut p.second_moment);
        }
        let begin = Instant::now();
        executable.run(&mut bindings)?;
        if let Some(trace) = &mut self.trace {
            trace.update(self.state.step, begin)?;
        }
        if let Some(layers) = &mut self.layers {
            layers.parameters_changed();
        }
        Ok(f64::from(norm.elements::<f32>()[0]))
    }

    fn adapt_loss_scale(&mut self, finite: bool, loss: f64) -> Result<()> {
        if finite {
            self.skipped_in_a_row = 0;
            self.state.finite_steps += 1;
            if self.config.train.dynamic_loss_scale
                && self.state.finite_steps.is_multiple_of(GROWTH_INTERVAL)
            {
                self.state.loss_scale = (self.state.loss_scale * 2.0).min(65536.0);
            }
            return Ok(());
        }
        self.state.skipped_steps += 1;
        self.skipped_in_a_row += 1;
        self.state.finite_steps = 0;
        if self.config.train.dynamic_loss_scale {
            self.state.loss_scale = (self.state.loss_scale / 2.0).max(1.0);
        }
        if self.skipped_in_a_row < MOST_SKIPPED_IN_A_ROW {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Diverged,
            format!(
                "the gradients of {MOST_SKIPPED_IN_A_ROW} steps in a row were not finite \
                 (step {}, loss {loss})",
                self.state.step
            ),
        )
        .hint("lower optimizer.lr, and begin again from a checkpoint before this"))
    }

    /// Writes the adapter to `adapter` in the run directory, where one is trained.
    fn write_adapter(&self) -> Result<()> {
        let Some(base) = &self.base else { return Ok(()) };
        let path = self.directory.join("adapter");
        fs::create_dir_all(&path).map_err(|e| Error::io(&path, e))?;
        base.file(&self.values()).write_in(&path)?;
        Ok(())
    }

    fn save(&mut self, observer: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>) -> Result<()> {
        let mut moments = BTreeMap::new();
        for p in &self.parameters {
            moments.insert(first_moment_name(&p.spec.name), p.first_moment.to_tensor());
            moments.insert(second_moment_name(&p.spec.name), p.second_moment.to_tensor());
        }
        let path = checkpoint::save(
            &self.directory,
            &self.config,
            &match &self.base {
                Some(base) => Kept::Adapter(base),
                None => Kept::Weights(&self.network),
            },
            &self.state,
            self.file_tokens,
            &self.values(),
            &moments,
        )?;
        let _ = observer(&Event::Checkpoint { step: self.state.step, path: &path });
        Ok(())
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

/// Loads a model to be run and nothing else: see [`orion_models::load_for_inference`].
///
/// # Errors
/// When the path holds no model that can be used.
pub fn load_model_for_inference(path: &Path) -> Result<LoadedModel> {
    orion_models::load_for_inference(path).map_err(|e| crate::artifact::of_models(&e))
}

/// Loads a model: see [`orion_models::load`].
///
/// # Errors
/// When the path holds no model that can be used.
pub fn load_model(path: &Path) -> Result<LoadedModel> {
    orion_models::load(path).map_err(|e| crate::artifact::of_models(&e))
}
