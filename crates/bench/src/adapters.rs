//! What adapters cost while a model generates, and what going from one to another does.

use crate::network::{BenchModel, kept, model_work, sized};
use crate::{Bench, Error, ErrorKind, Result, TestResult, Unit, Work};
use orion_engine::{Adapter, Generator};
use std::time::Instant;

/// Which adapters the tokens of a text get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// None.
    Base,
    /// The first.
    One,
    /// Each token another than the one before.
    Turns,
}

impl Bench<'_> {
    /// [`Bench::decode`] without an adapter, with the first, and with another for each token; and
    /// how long it takes to go to another, in µs: choosing its surfaces and writing the factors,
    /// the mean over the tokens of a text. One generator does all of it, as where several adapters
    /// are loaded at once.
    ///
    /// # Errors
    /// Those of [`Bench::decode`]; and when there are fewer than two adapters.
    pub fn decode_with_adapters(
        &mut self,
        model: &BenchModel,
        adapters: &[Adapter],
        batch: usize,
        tokens: usize,
    ) -> Result<Vec<TestResult>> {
        model.check_length(tokens)?;
        if adapters.len() < 2 {
            let message = "going from one adapter to another takes at least two";
            return Err(Error::new(ErrorKind::Size, message));
        }
        let size = model_work(&model.loaded.network)?;
        let precision = self.precision;
        let work = self.limited(Work::decode(size.bytes_per_token(precision), tokens));
        let text = model.tokens(tokens);
        let loaded = kept(&model.loaded, precision);
        let mut generator = Generator::with_sequences(&loaded, &self.devices, None, batch)?;
        drop(loaded);
        let numbers: Vec<usize> = adapters.iter().map(|a| generator.add_adapter(a)).collect();
        let mut results = Vec::new();
        for (way, name) in [(Way::Base, ""), (Way::One, " adapter"), (Way::Turns, " turns")] {
            let measurement = self.measure(work, || {
                Ok(|| generate(&mut generator, &text, way, &numbers).map(|(seconds, _)| seconds))
            })?;
            let rate = |seconds| (batch * tokens) as f64 / seconds;
            let test = format!("tg{tokens}{name}");
            let result = self.result(test, &model.name, Unit::TokensPerSecond, &measurement, rate);
            results.push(sized(result, size, precision, batch, tokens));
        }
        let measurement = self.measure(Work::default(), || {
            Ok(|| generate(&mut generator, &text, Way::Turns, &numbers).map(|(_, swap)| swap))
        })?;
        let microseconds = |seconds| seconds * 1e6;
        let test = "adapter swap".to_owned();
        let unit = Unit::Microseconds;
        let result = self.result(test, &model.name, unit, &measurement, microseconds);
        results.push(TestResult { batch: Some(batch), tokens: Some(tokens), ..result });
        Ok(results)
    }
}

/// Reads a text token by token in every sequence; gives the seconds of all, and the mean of those
/// that going to another adapter took.
fn generate(
    generator: &mut Generator,
    text: &[u32],
    way: Way,
    numbers: &[usize],
) -> Result<(f64, f64)> {
    generator.reset();
    let batch = generator.sequences();
    let (mut swaps, mut swapping) = (0u32, 0.0);
    let begin = Instant::now();
    for (i, &token) in text.iter().enumerate() {
        let choice = match way {
            Way::Base => None,
            Way::One => Some(numbers[0]),
            Way::Turns => Some(numbers[i % numbers.len()]),
        };
        for sequence in 0..batch {
            generator.choose_adapter(sequence, choice);
        }
        let next: Vec<(usize, u32)> = (0..batch).map(|i| (i, token)).collect();
        generator.read_each(&next)?;
        if way == Way::Turns
            && let Some(time) = generator.adapter_swap_time()
        {
            swaps += 1;
            swapping += time.as_secs_f64();
        }
    }
    Ok((begin.elapsed().as_secs_f64(), swapping / f64::from(swaps.max(1))))
}
