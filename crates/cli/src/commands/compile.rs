use crate::arguments::{Compile, Task};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::printer::Printer;
use orion_compile::pipeline::{PASSES, PipelineOptions, optimize};
use orion_engine::{
    LoadedModel, PREFILL_SIZES, TrainConfig, edit_distance, load_model, load_model_for_inference,
    programs,
};
use orion_mil::bundle::Bundle;
use orion_mil::{Program, text};
use orion_models::{StepShape, WeightIndex, WeightStorage};
use std::num::NonZeroUsize;

/// Sequences are this long unless asked otherwise, or shorter when the model takes less.
const DEFAULT_SEQ: usize = 128;

pub(crate) fn compile(arguments: &Compile, printer: &Printer) -> Result {
    for name in &arguments.print_after {
        check_pass(name)?;
    }
    let model = match arguments.task {
        Task::Step | Task::Loss => {
            load_model_for_inference(&arguments.model, WeightStorage::AsGiven)?
        }
        Task::Train => load_model(&arguments.model)?,
    };
    let (sources, index) = match arguments.task {
        Task::Step => step_sources(&model, arguments)?,
        Task::Loss => loss_sources(&model, arguments)?,
        Task::Train => train_sources(&model, arguments)?,
    };
    let options = PipelineOptions { stop_after: arguments.stop_after, ..Default::default() };
    std::fs::create_dir_all(&arguments.out).context(arguments.out.display())?;
    for (name, source) in sources {
        let mut printed = Ok(());
        let program = optimize(&source, &options, &mut |pass, program| {
            if printed.is_ok() && arguments.print_after.iter().any(|p| p == pass) {
                printer.heading(format_args!("{name} after {pass}"));
                printed = printer.data_line(text::print(program));
            }
        })?;
        printed?;
        let directory = arguments.out.join(&name);
        let operations: usize = program.functions.iter().map(|f| f.body.operations.len()).sum();
        Bundle { program, weights: index.weights().clone() }.save(&directory)?;
        let line = format_args!("{} ({operations} operations)", directory.display());
        if arguments.print_after.is_empty() {
            printer.data_line(line)?;
        } else {
            printer.say(line);
        }
    }
    Ok(Exit::Success)
}

/// Named programs before any pass, and the weights they name.
type Sources = (Vec<(String, Program)>, WeightIndex);

fn step_sources(model: &LoadedModel, arguments: &Compile) -> Result<Sources> {
    let network = &model.network;
    let most = network.max_positions();
    let context = arguments.context.map_or(most, NonZeroUsize::get);
    let tokens = match arguments.tokens {
        Some(tokens) => vec![tokens.get()],
        None => [1].into_iter().chain(PREFILL_SIZES).filter(|&n| n <= context).collect(),
    };
    if context > most {
        return Err(Failure::usage(format!(
            "--context is {context}; this model takes at most {most} tokens"
        )));
    }
    if tokens[0] > context {
        return Err(Failure::usage(format!(
            "--tokens is {}, but the caches hold {context}",
            tokens[0]
        )));
    }
    let index = index(model, most);
    let program = |tokens| {
        let shape = StepShape { sequences: 1, tokens, context };
        (format!("step_{tokens}x{context}"), programs::step_source(network, &index, shape))
    };
    Ok((tokens.into_iter().map(program).collect(), index))
}

fn loss_sources(model: &LoadedModel, arguments: &Compile) -> Result<Sources> {
    let (batch, seq) = sequences(model, arguments)?;
    let index = index(model, seq);
    let program = programs::loss_source(&model.network, &index, batch, seq);
    Ok((vec![(format!("loss_{batch}x{seq}"), program)], index))
}

fn train_sources(model: &LoadedModel, arguments: &Compile) -> Result<Sources> {
    let (batch, seq) = sequences(model, arguments)?;
    // Parameters are inputs here: they change every step.
    let mut index = WeightIndex::new();
    model.network.add_tables(&mut index, seq);
    let gradients = programs::gradient_source(&model.network, &index, batch, seq, false);
    let accumulate = programs::gradient_source(&model.network, &index, batch, seq, true);
    let update =
        programs::update_source(&model.network.parameters(), &TrainConfig::default().optimizer);
    let named = vec![
        (format!("gradients_{batch}x{seq}"), gradients),
        (format!("accumulate_{batch}x{seq}"), accumulate),
        ("update".to_owned(), update),
    ];
    Ok((named, index))
}

fn sequences(model: &LoadedModel, arguments: &Compile) -> Result<(usize, usize)> {
    let most = model.network.max_positions();
    let seq = arguments.seq.map_or(most.min(DEFAULT_SEQ), NonZeroUsize::get);
    if seq > most {
        return Err(Failure::usage(format!(
            "--seq is {seq}; this model takes at most {most} tokens"
        )));
    }
    Ok((arguments.batch.get(), seq))
}

fn index(model: &LoadedModel, positions: usize) -> WeightIndex {
    model.index(positions)
}

fn check_pass(name: &str) -> Result<()> {
    let names: Vec<&str> = PASSES.iter().map(|(name, _)| *name).collect();
    if names.contains(&name) {
        return Ok(());
    }
    let nearest = names.iter().min_by_key(|n| edit_distance(n, name)).copied();
    Err(Failure::usage(format!("there is no pass `{name}`; there are {}", names.join(", ")))
        .hint(format!("did you mean `{}`?", nearest.unwrap_or_default())))
}
