use crate::checkpoint::{self, TrainState, first_moment_name, second_moment_name};
use crate::evaluate::LossSum;
use crate::generate::{TextEvent, TextRule, generate};
use crate::programs::{gradient_program, loss_program, update_program};
use crate::trace::TraceFile;
use crate::{
    Accelerator, Error, ErrorKind, EvaluationShape, Generator, LayerSchedule, LoadedModel,
    MetricsFile, Random, Result, Sampler, SamplerConfig, StepReport, TrainConfig, WindowRule,
    Windows,
};
use orion_formats::TokenFile;
use orion_models::{Initialization, Network, ParameterSpec, WeightIndex, program_name};
use orion_runtime::{Bindings, Device, Executable, Layout, NumericEvents, ProgramCache, Surface};
use orion_tensor::{DType, Tensor};
use orion_tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
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

/// One trained tensor and what the optimizer keeps for it, fp32.
struct Parameter {
    spec: ParameterSpec,
    names: Names,
    value: Surface,
    gradient: Surface,
    first_moment: Surface,
    second_moment: Surface,
}

/// The names a parameter's surfaces have in the programs.
struct Names {
    value: String,
    gradient: String,
    first_moment: String,
    second_moment: String,
}

/// A training run: weights, optimizer state, data and the directory they are kept in.
pub struct Trainer {
    config: TrainConfig,
    directory: PathBuf,
    network: Network,
    device: Arc<dyn Device>,
    index: WeightIndex,
    programs: ProgramCache,
    parameters: Vec<Parameter>,
    windows: Windows,
    file_tokens: u64,
    eval_file: Option<TokenFile>,
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
        let (network, initial) = if config.model.weights.is_empty() {
            let network = config.model.network()?;
            let initial = initialize(&network, config.train.seed);
            (network, initial)
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
            (model.network, model.parameters)
        };
        let state = TrainState::new(&config);
        let moments = BTreeMap::new();
        let mut this =
            Self::assemble(config, directory, device, network, state, &initial, &moments)?;
        this.begin_directory()?;
        Ok(this)
    }

    /// Goes on from the newest complete checkpoint of a run. `config` is the run's own page, with
    /// whatever the caller changed.
    ///
    /// # Errors
    /// When there is no complete checkpoint, it is damaged, or it does not fit the page.
    pub fn resume(config: TrainConfig, directory: &Path, device: Arc<dyn Device>) -> Result<Self> {
        let network = config.model.network()?;
        let restored = checkpoint::restore(directory, &network)?;
        checkpoint::check_tensors(&restored, &network)?;
        let checkpoint::Restored { state, parameters, moments, passed_over, .. } = restored;
        let mut this =
            Self::assemble(config, directory, device, network, state, &parameters, &moments)?;
        this.passed_over = passed_over;
        this.write_config()?;
        Ok(this)
    }

    fn assemble(
        config: TrainConfig,
        directory: &Path,
        device: Arc<dyn Device>,
        network: Network,
        state: TrainState,
        initial: &BTreeMap<String, Tensor>,
        moments: &BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        let open = |path: &str, what: &str| -> Result<TokenFile> {
            let file = TokenFile::open(path)?;
            file.check_vocab(network.vocab_size()).map_err(|e| {
                Error::from(e)
                    .at(Path::new(path))
                    .hint(format!("was the {what} file made with this model's tokenizer?"))
            })?;
            Ok(file)
        };
        if config.data.train.is_empty() {
            return Err(Error::new(ErrorKind::Config, "there is no data to train on")
                .hint("name a token file with --data"));
        }
        let train = open(&config.data.train, "training")?;
        let file_tokens = train.len() as u64;
        if state.step > 0 {
            checkpoint::check_data(directory, &config, file_tokens)?;
        }
        let eval_file = match config.data.eval.as_str() {
            "" => None,
            path => Some(open(path, "evaluation")?),
        };
        let tokenizer = match config.data.tokenizer.as_str() {
            "" => None,
            path => Some(crate::open_tokenizer(Path::new(path), network.vocab_size())?),
        };
        let t = &config.train;
        let windows = Windows::new(train, t.seq, config.data.order, t.seed, state.data)?;
        let mut index = WeightIndex::new();
        network.add_tables(&mut index, t.seq);
        let programs = ProgramCache::new(device.clone(), index.weights().clone());
        let parameters = network
            .parameters()
            .into_iter()
            .map(|spec| Parameter::new(spec, initial, moments))
            .collect();
        fs::create_dir_all(directory).map_err(|e| Error::io(directory, e))?;
        let metrics = MetricsFile::open(&directory.join("metrics.jsonl"), state.step)?;
        Ok(Self {
            config,
            directory: directory.to_owned(),
            network,
            device,
            index,
            programs,
            parameters,
            windows,
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

    /// A copy of the weights as they are now.
    pub fn model(&self) -> LoadedModel {
        let parameters =
            self.parameters.iter().map(|p| (p.spec.name.clone(), p.value.to_tensor())).collect();
        LoadedModel::new(self.network.clone(), parameters)
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
        let (batch, seq) = (self.config.train.batch, self.config.train.seq);
        let micro_batches = self.config.train.grad_accum;
        let (mut tokens, mut targets) = (Vec::new(), Vec::new());
        let mut loss = 0.0;
        let (mut numbers, mut overflowed_in) = (NumericEvents::default(), None);
        for micro_batch in 0..micro_batches {
            self.windows.next_batch(batch, &mut tokens, &mut targets);
            loss += self.accumulate_gradients(&tokens, &targets, micro_batch > 0)?;
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
        let step_tokens = (batch * seq * micro_batches) as u64;
        self.state.step += 1;
        self.state.tokens += step_tokens;
        self.state.micro_batches += micro_batches as u64;
        self.state.data = self.windows.position();
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

    /// Forward and backward of one micro-batch; returns its loss.
    fn accumulate_gradients(
        &mut self,
        tokens: &[i32],
        targets: &[i32],
        accumulate: bool,
    ) -> Result<f64> {
        let (batch, seq) = (self.config.train.batch, self.config.train.seq);
        let tokens = Surface::from_slice(&[tokens.len()], tokens);
        let targets = Surface::from_slice(&[targets.len()], targets);
        let loss_scale = Surface::from_slice(&[1], &[self.state.loss_scale as f32]);
        let mut loss = Surface::zeros(Layout::dense(DType::F32, &[1]));
        let (network, index) = (&self.network, &self.index);
        let key = if accumulate { "accumulate" } else { "gradients" };
        // Divided, there is one program for all micro-batches: it adds, to zeros first.
        let adds = accumulate || self.layers.is_some() && self.config.train.grad_accum > 1;
        if adds && !accumulate {
            self.parameters.iter_mut().for_each(|p| p.gradient.bytes_mut().fill(0));
        }
        let executable: &mut dyn Executable = match &mut self.layers {
            Some(layers) => layers,
            None => self
                .programs
                .get(key, || gradient_program(network, index, batch, seq, accumulate))?,
        };
        let mut bindings = Bindings::new();
        bindings.input("tokens", &tokens).input("targets", &targets);
        bindings.input("loss_scale", &loss_scale).output("loss", &mut loss);
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
        let network = &self.network;
        let executable = self.programs.get("update", || update_program(network, o))?;
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

    /// The loss on the evaluation file, when there is one.
    fn evaluate(
        &mut self,
        observer: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> Result<Option<f64>> {
        let Some(file) = &self.eval_file else { return Ok(None) };
        let (seq, most) = (self.config.train.seq, self.config.eval.batches);
        let mut batch = self.config.train.batch;
        let mut sum = LossSum::new(
            file.clone(),
            EvaluationShape {
                batch,
                seq,
                rule: WindowRule::Disjoint,
                max_tokens: (most > 0).then(|| most.saturating_mul(batch * seq)),
            },
            None,
        )?;
        let (network, index, parameters) = (&self.network, &self.index, &self.parameters);
        while sum.has_next(1) {
            if !sum.has_next(batch) {
                batch = 1;
            }
            let key = format!("loss {batch}");
            let executable =
                self.programs.get(&key, || loss_program(network, index, batch, seq))?;
            sum.add(executable, batch, &mut |bindings| {
                for p in parameters {
                    bindings.input(&p.names.value, &p.value);
                }
            })?;
        }
        let (step, loss) = (self.state.step, sum.result().loss);
        self.metrics.evaluation(step, loss)?;
        // Only steps can be interrupted, so the answer does not matter here.
        let _ = observer(&Event::Evaluation { step, loss });
        Ok(Some(loss))
    }

    fn sample(&mut self, observer: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>) -> Result<()> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(()) };
        let mut generator = Generator::new(&self.model(), self.device.clone(), None)?;
        let prompt = tokenizer.encode(&self.config.sample.prompt);
        let seed = self.config.train.seed ^ self.state.step;
        let config =
            SamplerConfig { temperature: 0.8, top_p: 0.95, seed, ..SamplerConfig::greedy() };
        let rule = TextRule::new(self.config.sample.tokens, tokenizer.end_ids());
        let mut stream = tokenizer.decode_stream();
        let mut text = String::new();
        generate(
            &mut generator,
            &prompt,
            tokenizer.bos(),
            &mut Sampler::new(config),
            &rule,
            &mut |event| {
                if let TextEvent::Prompt(token) | TextEvent::Token(token, _) = event {
                    text += &stream.feed(token);
                }
                ControlFlow::Continue(())
            },
        )?;
        text += &stream.finish();
        let step = self.state.step;
        let path = self.directory.join("samples.txt");
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut f| write!(f, "── after {step} steps ──\n{text}\n\n"))
            .map_err(|e| Error::io(&path, e))?;
        let _ = observer(&Event::Sample { step, text: &text });
        Ok(())
    }

    fn save(&mut self, observer: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>) -> Result<()> {
        let mut parameters = BTreeMap::new();
        let mut moments = BTreeMap::new();
        for p in &self.parameters {
            parameters.insert(p.spec.name.clone(), p.value.to_tensor());
            moments.insert(first_moment_name(&p.spec.name), p.first_moment.to_tensor());
            moments.insert(second_moment_name(&p.spec.name), p.second_moment.to_tensor());
        }
        let path = checkpoint::save(
            &self.directory,
            &self.config,
            &self.network,
            &self.state,
            self.file_tokens,
            &parameters,
            &moments,
        )?;
        let _ = observer(&Event::Checkpoint { step: self.state.step, path: &path });
        Ok(())
    }
}

impl Parameter {
    /// # Panics
    /// When `initial` lacks the parameter.
    fn new(
        spec: ParameterSpec,
        initial: &BTreeMap<String, Tensor>,
        moments: &BTreeMap<String, Tensor>,
    ) -> Self {
        let layout = Layout::dense(DType::F32, &spec.shape);
        let moment = |name: String| {
            moments.get(&name).map_or_else(|| Surface::zeros(layout.clone()), Surface::from_tensor)
        };
        let base = program_name(&spec.name);
        let tensor = initial.get(&spec.name).expect("a tensor for every parameter");
        let value = match tensor.dtype() {
            DType::F32 => Surface::from_tensor(tensor),
            _ => Surface::from_slice(&spec.shape, &tensor.to_f32_vec()),
        };
        Self {
            first_moment: moment(first_moment_name(&spec.name)),
            second_moment: moment(second_moment_name(&spec.name)),
            gradient: Surface::zeros(layout.clone()),
            value,
            names: Names {
                gradient: format!("{base}_grad"),
                first_moment: format!("{base}_m"),
                second_moment: format!("{base}_v"),
                value: base,
            },
            spec,
        }
    }
}

/// Random first weights. Every parameter has a stream of its own, drawn from the seed and its
/// position, so that adding a layer does not change those before it.
pub fn initialize(network: &Network, seed: u64) -> BTreeMap<String, Tensor> {
    let mut seeds = Random::new(seed);
    network
        .parameters()
        .into_iter()
        .map(|p| {
            let values = initial_values(&p, &mut Random::new(seeds.next_u64()));
            (p.name, Tensor::from_slice(&p.shape, &values))
        })
        .collect()
}

/// What a parameter begins with.
pub fn initial_values(spec: &ParameterSpec, random: &mut Random) -> Vec<f32> {
    let count = spec.shape.iter().product();
    match spec.initialization {
        Initialization::Constant { value } => vec![value as f32; count],
        Initialization::Normal { deviation } => {
            (0..count).map(|_| (random.normal() * deviation) as f32).collect()
        }
        Initialization::Uniform { bound } => {
            (0..count).map(|_| ((2.0 * random.uniform() - 1.0) * bound) as f32).collect()
        }
        Initialization::FirstRow => {
            let row = count / spec.shape[0];
            (0..count).map(|i| if i < row { 1.0 } else { 0.0 }).collect()
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
