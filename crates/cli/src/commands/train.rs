use crate::arguments::{Recipe, Train};
use crate::devices::{Products, device};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use crate::training::{free_run_directory, grouped, train_visibly};
use orion_engine::{Arithmetic, ConfigLayers, TrainConfig, Trainer, load_model, network_of_preset};
use std::path::Path;

pub(crate) fn train(arguments: &Train, printer: &Printer) -> Result {
    let config = configuration(arguments)?;
    if arguments.config.print_config {
        printer.data(config.to_documented_toml())?;
        return Ok(Exit::Success);
    }
    let device = device(&arguments.device, products(&config))?;
    let name = device.name().to_owned();
    let (trainer, directory) = match (&arguments.resume, &arguments.out) {
        (Some(directory), _) => {
            (Trainer::resume(config, &absolute(directory)?, device)?, directory.clone())
        }
        (None, out) => {
            if arguments.model.is_none()
                && arguments.init.is_none()
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
    report(trainer, &directory, &name, printer)
}

/// What a device computes products in for a run.
pub(crate) fn products(config: &TrainConfig) -> Products {
    match config.train.precision {
        Arithmetic::F32 => Products::F32,
        Arithmetic::Bf16 => Products::Bf16,
    }
}

/// Trains to the end and says how it went.
pub(crate) fn report(
    mut trainer: Trainer,
    directory: &Path,
    device: &str,
    printer: &Printer,
) -> Result {
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
    for reason in trainer.passed_over() {
        printer.warn(format_args!("passed over a checkpoint: {reason}"));
    }
    let interrupt = Interrupt::listen();
    let outcome = train_visibly(&mut trainer, &interrupt, printer)?;
    if let (Some(before), Some(after)) = outcome.eval_losses {
        printer.say(format_args!("held-out loss {before:.4} before, {after:.4} after"));
    }
    if outcome.skipped > 0 {
        printer.warn(format_args!("{} steps were left out", outcome.skipped));
    }
    if outcome.interrupted {
        printer.say(format_args!(
            "stopped after step {}; go on with --resume {}",
            outcome.step,
            directory.display()
        ));
        return Ok(Exit::Interrupted);
    }
    let what = if trainer.adapter().is_some() { "adapter" } else { "model" };
    printer.say(format_args!("done; the {what} is in {}", directory.display()));
    Ok(Exit::Success)
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
        layers.set_network(&load_model(path)?.network);
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
