//! A training run, from its first step to its last.

mod held_out;
mod open;
mod step;

use crate::checkpoint::{self, Kept, TrainState, first_moment_name, second_moment_name};
use crate::examples::Corpus;
use crate::finetune::Base;
use crate::parameters::Parameter;
use crate::trace::TraceFile;
use crate::training_data::TrainingData;
use crate::{
    Adapter, Error, ErrorKind, LayerSchedule, LoadedModel, MetricsFile, Result, StepReport,
    TrainConfig,
};
use orion_models::{Network, WeightIndex};
use orion_runtime::{Device, NumericEvents, ProgramCache};
use orion_tensor::Tensor;
use orion_tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

    /// Writes the adapter to `adapter` in the run directory, where one is trained.
    fn write_adapter(&self) -> Result<()> {
        let Some(base) = &self.base else { return Ok(()) };
        let path = self.directory.join("adapter");
        fs::create_dir_all(&path).map_err(|e| Error::io(&path, e))?;
        base.file(&self.values()).write_in(&path)?;
        Ok(())
    }

    fn save(&mut self, observer: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>) -> Result<()> {
        self.finish_update()?;
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
