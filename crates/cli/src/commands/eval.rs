use crate::arguments::{Eval, Format};
use crate::devices::{device, kept};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::printer::Printer;
use orion_engine::{EvaluationShape, LoadedModel, evaluate, load_model};
use orion_formats::TokenFile;
use serde_json::json;
use std::num::NonZeroUsize;

pub(crate) fn eval(arguments: &Eval, printer: &Printer) -> Result {
    let (products, storage) = kept(arguments.precision);
    let device = device(&arguments.device, products)?;
    let model = LoadedModel { storage, ..load_model(&arguments.model)? };
    let file = TokenFile::open(&arguments.data)?;
    file.check_vocab(model.network.vocab_size()).context(arguments.data.display())?;
    let seq = arguments.seq.map_or(model.network.max_positions(), NonZeroUsize::get);
    let shape = shape(arguments.batch.get(), seq, arguments.max_tokens)?;
    let progress = printer.progress(0, "{bar:30} {pos}/{len} sequences  {eta} left");
    let result = evaluate(&model, &device, &file, shape, &mut |done, all| {
        progress.set_length(all);
        progress.set(done, String::new());
    })?;
    drop(progress);
    match arguments.format {
        Format::Text => {
            printer.data_line(format_args!("loss        {:.6}", result.loss))?;
            printer.data_line(format_args!("perplexity  {:.4}", result.perplexity()))?;
            printer.data_line(format_args!("tokens      {}", result.tokens))?;
        }
        Format::Json => printer.data_line(json!({
            "loss": result.loss,
            "perplexity": result.perplexity(),
            "tokens": result.tokens,
            "seq": seq,
            "device": device.name(),
        }))?,
    }
    Ok(Exit::Success)
}

/// The largest batch up to the one asked for that takes exactly the sequences `max_tokens` allows.
fn shape(batch: usize, seq: usize, max_tokens: Option<usize>) -> Result<EvaluationShape> {
    let Some(max_tokens) = max_tokens else {
        return Ok(EvaluationShape { batch, seq, batches: None });
    };
    let sequences = max_tokens / seq;
    if sequences == 0 {
        return Err(Failure::usage(format!(
            "--max-tokens is {max_tokens}, but one sequence has {seq} tokens"
        ))
        .hint("use shorter sequences with --seq"));
    }
    let divides = |batch: &usize| sequences.is_multiple_of(*batch);
    let batch = (1..=batch).rev().find(divides).expect("1 divides everything");
    Ok(EvaluationShape { batch, seq, batches: Some(sequences / batch) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_does_not_change_which_tokens_are_taken() {
        for batch in [1, 4, 5, 64] {
            let shape = shape(batch, 10, Some(129)).unwrap();
            assert_eq!(shape.batches.map(|n| n * shape.batch), Some(12), "{batch}");
            assert!(shape.batch <= batch);
        }
        assert!(shape(4, 10, Some(9)).is_err());
        assert_eq!(shape(4, 10, None).unwrap().batches, None);
    }
}
