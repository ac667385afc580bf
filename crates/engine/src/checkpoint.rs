use crate::finetune::Base;
use crate::{DataPosition, Error, ErrorKind, Order, Result, TrainConfig};
use orion_formats::{
    CheckpointState, DataState, HexU64, LossScaleState, RunDirectory, SafeTensors, ScheduleState,
    peft,
};
use orion_models::{Network, ParameterSpec};
use orion_tensor::Tensor;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything but tensors that training goes on from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrainState {
    pub(crate) step: u64,
    pub(crate) tokens: u64,
    pub(crate) micro_batches: u64,
    pub(crate) data: DataPosition,
    pub(crate) loss_scale: f64,
    /// Finite steps since the scale changed or a step was skipped.
    pub(crate) finite_steps: u64,
    pub(crate) skipped_steps: u64,
}

/// A checkpoint read back.
pub(crate) struct Restored {
    pub(crate) path: PathBuf,
    pub(crate) state: TrainState,
    pub(crate) parameters: BTreeMap<String, Tensor>,
    pub(crate) moments: BTreeMap<String, Tensor>,
    /// Newer checkpoints that are not complete, each with what is wrong with it.
    pub(crate) passed_over: Vec<String>,
}

impl TrainState {
    /// The start of a run.
    pub(crate) fn new(config: &TrainConfig) -> Self {
        Self {
            step: 0,
            tokens: 0,
            micro_batches: 0,
            data: DataPosition::default(),
            loss_scale: config.train.loss_scale,
            finite_steps: 0,
            skipped_steps: 0,
        }
    }

    /// As a checkpoint keeps it; `file_tokens` is the length of the training file.
    fn to_file(&self, config: &TrainConfig, file_tokens: u64) -> CheckpointState {
        let o = &config.optimizer;
        CheckpointState {
            format_version: CheckpointState::FORMAT_VERSION,
            step: self.step,
            tokens: self.tokens,
            micro_batches: self.micro_batches,
            data: DataState {
                file: config.data.train.clone(),
                file_tokens,
                window_tokens: config.train.seq as u64,
                epoch: self.data.epoch,
                window: self.data.window,
                order: order_name(config.data.order).to_owned(),
                seed: HexU64(config.train.seed),
            },
            // The order of windows is drawn anew for every pass from the seed; no generator runs
            // across steps.
            random: BTreeMap::new(),
            loss_scale: LossScaleState {
                scale: self.loss_scale,
                finite_steps: self.finite_steps,
                skipped_steps: self.skipped_steps,
            },
            schedule: ScheduleState {
                kind: format!("{:?}", o.schedule).to_lowercase(),
                learning_rate: o.lr,
                warmup_steps: o.warmup,
                total_steps: config.train.steps,
                final_fraction: if o.lr > 0.0 { o.min_lr / o.lr } else { 0.0 },
            },
            files: BTreeMap::new(),
        }
    }

    fn from_file(state: &CheckpointState) -> Self {
        Self {
            step: state.step,
            tokens: state.tokens,
            micro_batches: state.micro_batches,
            data: DataPosition { epoch: state.data.epoch, window: state.data.window },
            loss_scale: state.loss_scale.scale,
            finite_steps: state.loss_scale.finite_steps,
            skipped_steps: state.loss_scale.skipped_steps,
        }
    }
}

fn order_name(order: Order) -> &'static str {
    match order {
        Order::Sequential => "sequential",
        Order::Random => "random",
    }
}

/// What a checkpoint keeps.
pub(crate) enum Kept<'a> {
    /// A model.
    Weights(&'a Network),
    /// An adapter, without the model under it.
    Adapter(&'a Base),
}

/// Writes a checkpoint and drops the oldest beyond `checkpoint.keep`; returns its path.
pub(crate) fn save(
    directory: &Path,
    config: &TrainConfig,
    kept: &Kept<'_>,
    state: &TrainState,
    file_tokens: u64,
    parameters: &BTreeMap<String, Tensor>,
    moments: &BTreeMap<String, Tensor>,
) -> Result<PathBuf> {
    fn named(tensors: &BTreeMap<String, Tensor>) -> impl Iterator<Item = (&str, &Tensor)> {
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
    let run = RunDirectory::new(directory);
    let mut writer = run.begin_checkpoint(state.step)?;
    // What other programs of the field write, and look for.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    match kept {
        Kept::Weights(network) => {
            let turned = parameters.iter().map(|(name, tensor)| {
                let turned = network.turned_for_files(name, tensor);
                (name.clone(), turned.unwrap_or_else(|| tensor.clone()))
            });
            writer.write_tensors("model.safetensors", named(&turned.collect()), &metadata)?;
            writer.write_bytes("config.json", &network.config_file().to_json()?)?;
        }
        Kept::Adapter(base) => {
            let file = base.file(parameters);
            writer.write_tensors(peft::WEIGHTS_FILE, named(&file.tensors()), &metadata)?;
            writer.write_bytes(peft::CONFIG_FILE, &file.config.to_json()?)?;
        }
    }
    writer.write_tensors("optimizer.safetensors", named(moments), &BTreeMap::new())?;
    let checkpoint = writer.finish(&state.to_file(config, file_tokens))?;
    if config.checkpoint.keep > 0 {
        run.keep_last(config.checkpoint.keep)?;
    }
    Ok(checkpoint.path().to_owned())
}

/// Reads the newest complete checkpoint of a run.
pub(crate) fn restore(directory: &Path, kept: &Kept<'_>) -> Result<Restored> {
    let scan = RunDirectory::new(directory).scan()?;
    let Some(newest) = scan.complete.last() else {
        let error = match scan.incomplete.first() {
            Some(e) => Error::new(
                ErrorKind::File,
                format!("this run has no complete checkpoint; the newest is not one because {e}"),
            ),
            None => Error::new(ErrorKind::File, "there is no checkpoint to resume from"),
        };
        return Err(error.at(directory));
    };
    let parameters = match kept {
        Kept::Weights(network) => {
            let mut parameters = newest.model()?.tensors;
            for (name, tensor) in &mut parameters {
                if let Some(turned) = network.turned_for_files(name, tensor) {
                    *tensor = turned;
                }
            }
            parameters
        }
        Kept::Adapter(base) => {
            base.values(SafeTensors::open(newest.file(peft::WEIGHTS_FILE))?.tensors)?
        }
    };
    Ok(Restored {
        path: newest.path().to_owned(),
        state: TrainState::from_file(newest.state()),
        parameters,
        moments: newest.optimizer()?.tensors,
        passed_over: scan.incomplete.iter().map(ToString::to_string).collect(),
    })
}

/// Checks that positions in the training data mean the same to the page and to the checkpoint.
pub(crate) fn check_data(directory: &Path, config: &TrainConfig, file_tokens: u64) -> Result<()> {
    let Some(newest) = RunDirectory::new(directory).newest()? else { return Ok(()) };
    let saved = &newest.state().data;
    let changed = |key: &str, before: String, now: String| {
        Err(Error::new(
            ErrorKind::Mismatch,
            format!("{key} was {before} when the checkpoint was written and is {now} now"),
        )
        .at(newest.path())
        .hint("a resumed run goes on in the same data; begin a new run to change it"))
    };
    if saved.file_tokens != file_tokens {
        return changed(
            "the length of data.train",
            format!("{} tokens", saved.file_tokens),
            format!("{file_tokens}"),
        );
    }
    if saved.window_tokens != config.train.seq as u64 {
        return changed("train.seq", saved.window_tokens.to_string(), config.train.seq.to_string());
    }
    if saved.order != order_name(config.data.order) {
        let now = order_name(config.data.order).to_owned();
        return changed("data.order", saved.order.clone(), now);
    }
    if saved.order == "random" && saved.seed.0 != config.train.seed {
        return changed("train.seed", saved.seed.0.to_string(), config.train.seed.to_string());
    }
    Ok(())
}

/// Checks that a checkpoint's tensors are those that are trained.
pub(crate) fn check_tensors(restored: &Restored, specs: &[ParameterSpec]) -> Result<()> {
    for p in specs {
        let tensors = [
            (p.name.clone(), &restored.parameters),
            (first_moment_name(&p.name), &restored.moments),
            (second_moment_name(&p.name), &restored.moments),
        ];
        for (name, file) in tensors {
            if file.get(&name).map(Tensor::shape) != Some(&p.shape) {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!("the checkpoint has no {name} of shape {:?}", p.shape),
                )
                .at(&restored.path)
                .hint("a run cannot change its model; begin a new one with --model"));
            }
        }
    }
    Ok(())
}

/// The name of a parameter's first moment in `optimizer.safetensors`, as PyTorch calls it.
pub(crate) fn first_moment_name(parameter: &str) -> String {
    format!("exp_avg.{parameter}")
}

/// The name of a parameter's second moment in `optimizer.safetensors`, as PyTorch calls it.
pub(crate) fn second_moment_name(parameter: &str) -> String {
    format!("exp_avg_sq.{parameter}")
}

/// The newest complete checkpoint of a run directory, if there is one.
///
/// # Errors
/// When the directory cannot be read.
pub fn newest_checkpoint(directory: &Path) -> Result<Option<PathBuf>> {
    Ok(RunDirectory::new(directory).newest()?.map(|c| c.path().to_owned()))
}
