use crate::arguments::{Recipe, Train, TrainDeviceChoice};
use crate::devices::two::TrainDevices;
use crate::devices::{free_memory, two};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use crate::training::{free_run_directory, grouped, train_visibly};
use orion_engine::{
    ConfigLayers, HALF_LOSS_SCALE, ModelFile, Outcome, RECIPES, TrainConfig, TrainRecipe, Trainer,
    network_of_preset,
};
use std::path::Path;
use std::process::Command;

pub(crate) fn train(arguments: &Train, printer: &Printer) -> Result {
    let config = configuration(arguments)?;
    if arguments.config.print_config {
        printer.data(config.to_documented_toml())?;
        return Ok(Exit::Success);
    }
    check_memory(&config, &arguments.device)?;
    let devices = two::devices(&arguments.device, &config, arguments.trace.is_some())?;
    let device = devices.host.clone();
    let (trainer, directory) = match (&arguments.resume, &arguments.out) {
        (Some(directory), _) => {
            (Trainer::resume(config, &absolute(directory)?, device)?, directory.clone())
        }
        (None, out) => {
            if arguments.model.is_none()
                && arguments.init.is_none()
                && arguments.named.is_none()
                && arguments.config.config.is_none()
            {
                return Err(Failure::usage("there is no model to train").hint(
                    "start from random weights with --init stories15m, or from a model with --model FILE",
                ));
            }
            let directory = out.clone().unwrap_or_else(|| free_run_directory("train"));
            (Trainer::new(config, &absolute(&directory)?, device)?, directory)
        }
    };
    let session = Session {
        verb: "train",
        directory: &directory,
        device: &arguments.device,
        trace: arguments.trace.as_deref(),
    };
    session.run(trainer, devices, printer)
}

/// Refuses a run whose weights, gradients and moments are more than the memory that is free, which
/// would end in the middle of the first step. Activations come on top.
fn check_memory(config: &TrainConfig, device: &TrainDeviceChoice) -> Result<()> {
    let Some(free) = free_memory() else { return Ok(()) };
    let parameters = config.model.network()?.parameter_count() as u64;
    let needed = parameters * if two::is_half(&device.device) { 18 } else { 16 };
    if needed <= free {
        return Ok(());
    }
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let message = format!(
        "{} parameters with gradients and moments take {:.1} GB, and {:.1} GB of memory are free",
        grouped(parameters as usize),
        gigabytes(needed),
        gigabytes(free)
    );
    Err(Failure::new(message)
        .hint("orion finetune trains an adapter in little more memory than the weights take"))
}

/// A run as a command asked for it.
pub(crate) struct Session<'a> {
    /// The command, which can resume the run too.
    pub(crate) verb: &'static str,
    pub(crate) directory: &'a Path,
    pub(crate) device: &'a TrainDeviceChoice,
    pub(crate) trace: Option<&'a Path>,
}

impl Session<'_> {
    /// Trains to the end, in other processes where this one may compile no more.
    pub(crate) fn run(
        &self,
        mut trainer: Trainer,
        devices: TrainDevices,
        printer: &Printer,
    ) -> Result {
        let name = match &devices.accelerator {
            Some(accelerator) => {
                format!("{} and {}", accelerator.device.name(), devices.host.name())
            }
            None => devices.host.name().to_owned(),
        };
        if let Some(accelerator) = devices.accelerator {
            trainer.use_accelerator(accelerator)?;
        }
        if let Some(path) = self.trace {
            trainer.trace_to(path)?;
        }
        let begun_at = trainer.step();
        let outcome = run(&mut trainer, self.directory, &name, printer)?;
        if outcome.out_of_compilations.is_some() {
            // Its files are written to their ends before another process takes this one's place.
            drop(trainer);
            return self.go_on(outcome, begun_at, printer);
        }
        Ok(ended(&outcome, &trainer, self.directory, printer))
    }

    /// Goes on in a new process, which may compile again, from the checkpoint of this one.
    ///
    /// # Errors
    /// When this process made no step either: the next would not.
    fn go_on(&self, outcome: Outcome, begun_at: u64, printer: &Printer) -> Result {
        let Some(error) = outcome.out_of_compilations else { return Ok(Exit::Success) };
        if outcome.step == begun_at {
            let message = format!("one process cannot compile what a training step needs: {error}");
            let message = message.split("\nhint: ").next().unwrap_or_default();
            return Err(Failure::new(message)
                .hint("give weights as inputs, which are compiled once: -d ane+cpu"));
        }
        printer.say(format_args!(
            "step {}: this process compiles nothing more; a new one goes on",
            outcome.step
        ));
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command.arg(self.verb).arg("--resume").arg(self.directory);
        command.args(["--device", &self.device.device]);
        if let Some(threads) = self.device.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        if let Some(trace) = self.trace {
            command.arg("--trace").arg(trace);
        }
        if self.device.low_priority {
            command.arg("--low-priority");
        }
        command.args(printer.flags());
        replace_process(command)
    }
}

/// Trains to the end and says how it goes.
fn run(
    trainer: &mut Trainer,
    directory: &Path,
    device: &str,
    printer: &Printer,
) -> Result<Outcome> {
    let c = trainer.config();
    let tokens = c.train.batch * c.train.seq * c.train.grad_accum;
    printer.say(format_args!(
        "training {} parameters on {device}, {} tokens a step, from step {} to {}, in {}",
        grouped(trainer.trained_count()),
        grouped(tokens),
        trainer.step(),
        c.train.steps,
        directory.display()
    ));
    let (cut, left_out) = trainer.shortened();
    if cut > 0 {
        printer.warn(format_args!(
            "{cut} examples are longer than train.seq and were cut; {left_out} had nothing left to \
             learn and were left out"
        ));
    }
    for reason in trainer.passed_over() {
        printer.warn(format_args!("passed over a checkpoint: {reason}"));
    }
    let interrupt = Interrupt::listen();
    let outcome = train_visibly(trainer, &interrupt, printer)?;
    if let (Some(before), Some(after)) = outcome.eval_losses {
        printer.say(format_args!("held-out loss {before:.4} before, {after:.4} after"));
    }
    if outcome.skipped > 0 {
        printer.warn(format_args!("{} steps were left out", outcome.skipped));
    }
    if outcome.numbers.overflowed > 0 {
        printer.warn(format_args!(
            "{} sums left the range of the accelerator's accumulator; metrics.jsonl says in which steps",
            outcome.numbers.overflowed
        ));
    }
    Ok(outcome)
}

/// Says how it ended.
fn ended(outcome: &Outcome, trainer: &Trainer, directory: &Path, printer: &Printer) -> Exit {
    if outcome.interrupted {
        printer.say(format_args!(
            "stopped after step {}; go on with --resume {}",
            outcome.step,
            directory.display()
        ));
        return Exit::Interrupted;
    }
    let what = if trainer.adapter().is_some() { "adapter" } else { "model" };
    printer.say(format_args!("done; the {what} is in {}", directory.display()));
    Exit::Success
}

/// Puts another program in the place of this one.
#[cfg(unix)]
fn replace_process(mut command: Command) -> Result {
    use std::os::unix::process::CommandExt;
    Err(Failure::new(format!("a new process could not be started: {}", command.exec())))
}

/// Runs another program to its end in the place of this one.
#[cfg(not(unix))]
fn replace_process(mut command: Command) -> Result {
    let status = command.status().context("starting a new process")?;
    if status.success() { Ok(Exit::Success) } else { Ok(Exit::Failure) }
}

/// Defaults or the resumed run's page, then `--config`, the model, flags, `--set`.
fn configuration(arguments: &Train) -> Result<TrainConfig> {
    let mut layers = ConfigLayers::default();
    if let Some(directory) = &arguments.resume {
        let page = directory.join("config.toml");
        if !page.exists() {
            return Err(Failure::new(format!("{}: not a run directory", directory.display()))
                .hint("a run directory holds config.toml and checkpoints; --out creates one"));
        }
        add_file(&mut layers, &page)?;
    }
    if arguments.resume.is_none() && two::is_half(&arguments.device.device) {
        layers.set("train.loss_scale", &HALF_LOSS_SCALE.to_string())?;
    }
    if let Some(name) = &arguments.named {
        let recipe = TrainRecipe::named(name).ok_or_else(|| {
            let names: Vec<&str> = RECIPES.iter().map(|r| r.name).collect();
            Failure::usage(format!("there is no recipe `{name}`"))
                .hint(format!("recipes are {}", names.join(", ")))
        })?;
        recipe.add_to(&mut layers)?;
    }
    if let Some(path) = &arguments.config.config {
        add_file(&mut layers, path)?;
    }
    if let Some(init) = &arguments.init {
        layers.set("model.weights", "")?;
        if init.ends_with(".toml") {
            add_file(&mut layers, Path::new(init))?;
        } else {
            layers.set_network(&network_of_preset(init)?);
        }
    }
    if let Some(path) = &arguments.model {
        // The sizes are needed already to check the settings against them.
        layers.set_network(&ModelFile::open(path)?.network);
        layers.set("model.weights", &absolute_text(path)?)?;
    }
    let paths = Paths {
        data: arguments.data.as_deref(),
        eval_data: arguments.eval_data.as_deref(),
        tokenizer: arguments.tokenizer.as_deref(),
    };
    finish(layers, &paths, &arguments.recipe, &arguments.config.set)
}

/// Files that have a flag of their own.
pub(crate) struct Paths<'a> {
    pub(crate) data: Option<&'a Path>,
    pub(crate) eval_data: Option<&'a Path>,
    pub(crate) tokenizer: Option<&'a Path>,
}

/// Puts a file of settings over those that are there.
pub(crate) fn add_file(layers: &mut ConfigLayers, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).context(path.display())?;
    layers.add_toml(&text).context(path.display())
}

/// Puts paths, flags and `--set` over the settings.
pub(crate) fn finish(
    mut layers: ConfigLayers,
    paths: &Paths<'_>,
    recipe: &Recipe,
    set: &[String],
) -> Result<TrainConfig> {
    for (key, path) in [
        ("data.train", paths.data),
        ("data.eval", paths.eval_data),
        ("data.tokenizer", paths.tokenizer),
    ] {
        if let Some(path) = path {
            layers.set(key, &absolute_text(path)?)?;
        }
    }
    for (key, value) in settings(recipe) {
        if let Some(value) = value {
            layers.set(key, &value)?;
        }
    }
    for assignment in set {
        let (key, value) = assignment.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--set {assignment}: there is no `=`"))
                .hint("write --set checkpoint.every=100")
        })?;
        layers.set(key.trim(), value.trim())?;
    }
    Ok(layers.finish()?)
}

/// Flags under the names they have in the configuration.
fn settings(recipe: &Recipe) -> [(&'static str, Option<String>); 15] {
    fn text<T: ToString>(value: &Option<T>) -> Option<String> {
        value.as_ref().map(T::to_string)
    }
    [
        ("train.steps", text(&recipe.steps)),
        ("train.batch", text(&recipe.batch)),
        ("train.seq", text(&recipe.seq)),
        ("train.grad_accum", text(&recipe.grad_accum)),
        ("train.seed", text(&recipe.seed)),
        ("optimizer.lr", text(&recipe.lr)),
        ("optimizer.schedule", text(&recipe.schedule)),
        ("optimizer.warmup", text(&recipe.warmup)),
        ("optimizer.beta1", text(&recipe.beta1)),
        ("optimizer.beta2", text(&recipe.beta2)),
        ("optimizer.eps", text(&recipe.eps)),
        ("optimizer.weight_decay", text(&recipe.weight_decay)),
        ("optimizer.clip", text(&recipe.clip)),
        ("data.order", text(&recipe.order)),
        ("train.precision", text(&recipe.precision)),
    ]
}

/// A run may be resumed from another directory than it was begun in.
fn absolute(path: &Path) -> Result<std::path::PathBuf> {
    std::path::absolute(path).context(path.display())
}

pub(crate) fn absolute_text(path: &Path) -> Result<String> {
    let text = absolute(path)?.into_os_string().into_string();
    text.map_err(|_| Failure::usage(format!("{} is not a UTF-8 path", path.display())))
}
