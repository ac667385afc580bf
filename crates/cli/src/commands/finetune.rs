//! Training an adapter: `train` with other defaults and a model that stays as it is.

use super::train::{Paths, Session, absolute_text, add_file, finish};
use crate::arguments::Finetune;
use crate::devices::two;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::printer::Printer;
use crate::training::free_run_directory;
use orion_engine::{ConfigLayers, HALF_LOSS_SCALE, ModelFile, TrainConfig, Trainer};

/// Tokens of a sequence unless asked otherwise, or fewer when the model takes less.
const DEFAULT_SEQUENCE: usize = 256;

pub(crate) fn finetune(arguments: &Finetune, printer: &Printer) -> Result {
    let config = configuration(arguments)?;
    if arguments.config.print_config {
        printer.data(config.to_documented_toml())?;
        return Ok(Exit::Success);
    }
    let devices = two::devices(&arguments.device, &config, arguments.trace.is_some())?;
    let device = devices.host.clone();
    let (trainer, directory) = match &arguments.resume {
        Some(directory) => {
            let path = std::path::absolute(directory)?;
            (Trainer::resume(config, &path, device)?, directory.clone())
        }
        None => {
            let directory = arguments.out.clone().unwrap_or_else(|| free_run_directory("finetune"));
            let path = std::path::absolute(&directory)?;
            (Trainer::new(config, &path, device)?, directory)
        }
    };
    let session = Session {
        verb: "finetune",
        directory: &directory,
        device: &arguments.device,
        trace: arguments.trace.as_deref(),
    };
    session.run(trainer, devices, printer)
}

/// Defaults for adapters or the resumed run's page, then `--config`, the model, flags, `--set`.
fn configuration(arguments: &Finetune) -> Result<TrainConfig> {
    let mut layers = ConfigLayers::default();
    if let Some(directory) = &arguments.resume {
        let page = directory.join("config.toml");
        if !page.exists() {
            return Err(Failure::new(format!("{}: not a run directory", directory.display()))
                .hint("a run directory holds config.toml and checkpoints; --out creates one"));
        }
        add_file(&mut layers, &page)?;
    } else {
        let Some(path) = &arguments.model else {
            return Err(Failure::usage("there is no model to train an adapter for")
                .hint("name it first: orion finetune MODEL --data FILE"));
        };
        let network = ModelFile::open(path)?.network;
        let seq = network.max_positions().min(DEFAULT_SEQUENCE).to_string();
        layers.set_network(&network);
        layers.set("model.weights", &absolute_text(path)?)?;
        if two::is_half(&arguments.device.device) {
            layers.set("train.loss_scale", &HALF_LOSS_SCALE.to_string())?;
        }
        for (key, value) in [
            ("adapter.rank", "8"),
            ("train.steps", "300"),
            ("train.batch", "4"),
            ("train.seq", seq.as_str()),
            ("optimizer.lr", "2e-4"),
            ("optimizer.min_lr", "2e-5"),
            ("optimizer.warmup", "10"),
            ("optimizer.weight_decay", "0"),
            ("checkpoint.every", "100"),
        ] {
            layers.set(key, value)?;
        }
    }
    if let Some(path) = &arguments.config.config {
        add_file(&mut layers, path)?;
    }
    for (key, value) in [
        ("adapter.rank", arguments.rank.map(|rank| rank.to_string())),
        ("adapter.alpha", arguments.alpha.map(|alpha| alpha.to_string())),
        ("adapter.targets", (!arguments.targets.is_empty()).then(|| arguments.targets.join(","))),
    ] {
        if let Some(value) = value {
            layers.set(key, &value)?;
        }
    }
    let paths = Paths {
        data: arguments.data.as_deref(),
        eval_data: arguments.eval_data.as_deref(),
        tokenizer: arguments.tokenizer.as_deref(),
    };
    let config = finish(layers, &paths, &arguments.recipe, &arguments.config.set)?;
    if config.adapter.rank == 0 {
        return Err(Failure::usage("adapter.rank is 0, which trains no adapter")
            .hint("orion train --model MODEL trains all weights"));
    }
    Ok(config)
}
