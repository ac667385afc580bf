//! Whole models: reading prompts, generating, and getting ready.

use crate::program::Running;
use crate::training::TrainingPrograms;
use crate::{Bench, Error, ErrorKind, Precision, Products, Result, TestResult, Unit, Work};
use orion_engine::programs::step_program;
use orion_engine::{
    Generator, LoadedModel, Random, initial_values, load_model, load_model_for_inference,
};
use orion_models::{Initialization, Network, ParameterSpec, StepShape, WeightIndex};
use orion_tensor::Tensor;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Tokens of the prompt before the first token of [`LoadTest::FirstToken`].
const SHORT_PROMPT: usize = 4;

/// Tokens explained for each repetition asked for.
const RUNS_OF_A_TOKEN: usize = 10;

/// A model to measure.
#[derive(Debug, Clone)]
pub struct BenchModel {
    /// What it is called in the report.
    pub name: String,
    /// Network and weights.
    pub loaded: LoadedModel,
    /// Where it was loaded from; `None` for random weights.
    pub path: Option<PathBuf>,
}

/// How much of a network takes part in what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelSize {
    /// Every trained number.
    pub parameters: u64,
    /// Those in matrix products, the classifier included and look-ups not.
    pub in_products: u64,
    /// Those of the classifier, which a prompt needs for its last token only.
    pub in_classifier: u64,
    /// Those read for every generated token: products, norms and biases.
    pub read_per_token: u64,
}

impl ModelSize {
    /// Bytes of weights that are read for every generated token. Scales of int8 are counted as
    /// one for 64 numbers, which is what there is where rows allow it.
    pub fn bytes_per_token(&self, precision: Precision) -> u64 {
        precision.matrix_bytes(self.in_products) + 4 * (self.read_per_token - self.in_products)
    }

    /// Bytes of all weights.
    fn bytes(&self, precision: Precision) -> u64 {
        let vectors = self.read_per_token - self.in_products;
        precision.matrix_bytes(self.parameters - vectors) + 4 * vectors
    }
}

/// The sizes of a network, counted in its own program.
///
/// # Errors
/// When the network cannot be written as a program.
pub fn model_work(network: &Network) -> Result<ModelSize> {
    // Nothing here depends on the length, and every parameter is an input.
    let mut index = WeightIndex::new();
    network.add_tables(&mut index, 1);
    let program = network.loss(&index, 1, 1);
    let main = program.main().ok_or_else(|| Error::new(ErrorKind::Run, "there is no program"))?;
    let in_products = Products::of(main)?.parameters;
    let sizes = |matrices: bool| {
        let parameters = network.parameters().into_iter();
        let kept = parameters.filter(move |p| matrices || p.shape.len() == 1);
        kept.map(|p| p.shape.iter().product::<usize>() as u64).sum::<u64>()
    };
    let rows = network.vocab_size();
    let classifier = network.parameters().into_iter().find(|p| p.shape.first() == Some(&rows));
    let in_classifier = classifier.map_or(0, |p| p.shape.iter().product::<usize>() as u64);
    Ok(ModelSize {
        parameters: sizes(true),
        in_products,
        in_classifier,
        read_per_token: in_products + sizes(false),
    })
}

impl BenchModel {
    /// Random weights, of the size they would have at the beginning of training.
    pub fn random(name: &str, network: Network) -> Self {
        let mut random = Random::new(1);
        let parameters: BTreeMap<String, Tensor> = network
            .parameters()
            .into_iter()
            .map(|spec| (spec.name.clone(), quick_values(spec, &mut random)))
            .collect();
        let loaded = LoadedModel::new(network, parameters);
        Self { name: name.to_owned(), loaded, path: None }
    }

    /// The weights of a file or directory.
    ///
    /// # Errors
    /// When there is no model that can be used.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, loaded: load_model(path)?, path: Some(path.to_owned()) })
    }

    pub(crate) fn check_length(&self, tokens: usize) -> Result<()> {
        let most = self.loaded.network.max_positions();
        if (1..=most).contains(&tokens) {
            return Ok(());
        }
        let message = format!("{tokens} tokens were asked for; {} takes 1 to {most}", self.name);
        Err(Error::new(ErrorKind::Size, message))
    }

    pub(crate) fn tokens(&self, count: usize) -> Vec<u32> {
        let mut random = Random::new(3);
        let vocab = self.loaded.network.vocab_size() as u64;
        (0..count).map(|_| random.below(vocab) as u32).collect()
    }
}

/// Uniform numbers of the deviation that training begins with: drawing normal ones for hundreds
/// of millions of parameters would take longer than measuring.
fn quick_values(mut spec: ParameterSpec, random: &mut Random) -> Tensor {
    if let Initialization::Normal { deviation } = spec.initialization {
        spec.initialization = Initialization::Uniform { bound: deviation * 3f64.sqrt() };
    }
    Tensor::from_slice(&spec.shape, &initial_values(&spec, random))
}

/// What getting ready is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadTest {
    /// From the file to a model; only for models that are files.
    File,
    /// From the file, or from weights in memory, to the logits of the first token after a short
    /// prompt, compilation included.
    FirstToken,
    /// All programs of a training step, from the network to executables; only on one device.
    CompileTraining,
}

impl LoadTest {
    /// Every test.
    pub const ALL: [Self; 3] = [Self::File, Self::FirstToken, Self::CompileTraining];
}

impl Bench<'_> {
    /// Reading `batch` prompts of `tokens` tokens, one after the other, in tokens a second.
    ///
    /// # Errors
    /// When the model does not take so many tokens, or a device fails or refuses its part.
    pub fn prefill(
        &mut self,
        model: &BenchModel,
        batch: usize,
        tokens: usize,
    ) -> Result<TestResult> {
        model.check_length(tokens)?;
        let size = model_work(&model.loaded.network)?;
        let (devices, precision) = (self.devices.clone(), self.precision);
        let in_layers = size.in_products - size.in_classifier;
        let work = Work::prefill(in_layers, size.in_classifier, batch, tokens);
        let work = self.limited(work.in_precision(precision));
        let measurement = self.measure(work, || {
            let prompt = model.tokens(tokens);
            let loaded = kept(&model.loaded, precision);
            let mut generator = Generator::with_sequences(&loaded, devices, None, batch)?;
            Ok(move || {
                generator.reset();
                let begin = Instant::now();
                for sequence in 0..batch {
                    generator.read_in(sequence, &prompt)?;
                }
                Ok(begin.elapsed().as_secs_f64())
            })
        })?;
        let rate = |seconds| (batch * tokens) as f64 / seconds;
        let test = format!("pp{tokens}");
        let result = self.result(test, &model.name, Unit::TokensPerSecond, &measurement, rate);
        Ok(sized(result, size, self.precision, batch, tokens))
    }

    /// Generating `tokens` tokens one by one from nothing in each of `batch` sequences, in tokens a
    /// second of all together. What to generate is known before, so that sampling is not
    /// measured. The weights must be read once for all sequences. Takes the model, so that
    /// memory is that of generating alone.
    ///
    /// # Errors
    /// When the model does not take so many tokens, or a device fails or refuses its part.
    pub fn decode(&mut self, model: BenchModel, batch: usize, tokens: usize) -> Result<TestResult> {
        model.check_length(tokens)?;
        let size = model_work(&model.loaded.network)?;
        let precision = self.precision;
        let work = self.limited(Work::decode(size.bytes_per_token(precision), tokens));
        let text = model.tokens(tokens);
        let BenchModel { name, loaded, .. } = model;
        let loaded = LoadedModel { storage: precision.storage(), ..loaded };
        let mut generator = Generator::with_sequences(&loaded, &self.devices, None, batch)?;
        drop(loaded);
        let measurement = self.measure(work, || {
            Ok(move || {
                generator.reset();
                let begin = Instant::now();
                for &token in &text {
                    let next: Vec<(usize, u32)> = (0..batch).map(|i| (i, token)).collect();
                    generator.read_each(&next)?;
                }
                Ok(begin.elapsed().as_secs_f64())
            })
        })?;
        let rate = |seconds| (batch * tokens) as f64 / seconds;
        let test = format!("tg{tokens}");
        let result = self.result(test, &name, Unit::TokensPerSecond, &measurement, rate);
        Ok(sized(result, size, self.precision, batch, tokens))
    }

    /// Where the time of a token goes when half of `tokens` have been generated: a table of what
    /// the device executes.
    ///
    /// # Errors
    /// Those of [`Bench::decode`], and when there are two devices.
    pub fn explain_decoding(
        &mut self,
        model: &BenchModel,
        batch: usize,
        tokens: usize,
    ) -> Result<String> {
        model.check_length(tokens)?;
        let device = self.one_device()?;
        let loaded = kept(&model.loaded, self.precision);
        let network = &loaded.network;
        let index = loaded.index(network.max_positions());
        let shape = StepShape { sequences: batch, tokens: 1, context: tokens };
        let program = step_program(network, &index, shape);
        let mut running = Running::new(&*device, &program, index.weights())?;
        running.fill_ints("position", (tokens / 2) as i32);
        // What a program of some milliseconds does is told by many runs.
        let runs = self.settings.repetitions.max(1) * RUNS_OF_A_TOKEN;
        running.step_times("token", self.settings.warm_up.max(1))?;
        let times = running.step_times("token", runs)?;
        Ok(self.step_table(&[times]))
    }

    /// How long it takes to get ready, in ms. `None` for [`LoadTest::File`] of a model that is
    /// not a file, and for [`LoadTest::CompileTraining`] on two devices.
    ///
    /// # Errors
    /// When loading or compiling fails.
    pub fn load(&mut self, model: &BenchModel, test: LoadTest) -> Result<Option<TestResult>> {
        let size = model_work(&model.loaded.network)?;
        let network = &model.loaded.network;
        let (devices, precision) = (self.devices.clone(), self.precision);
        let nothing = Work::default();
        let (name, tokens, measurement) = match (test, &model.path) {
            (LoadTest::File, None) => return Ok(None),
            (LoadTest::File, Some(path)) => {
                let run = || timed(|| load_model(path));
                ("load".to_owned(), None, self.measure(nothing, || Ok(run))?)
            }
            (LoadTest::FirstToken, path) => {
                let count = SHORT_PROMPT.min(network.max_positions());
                let prompt = model.tokens(count);
                let first_token = || {
                    let load = |path| load_model_for_inference(path, precision.storage());
                    let loaded = path.as_deref().map(load).transpose()?;
                    let loaded = kept(loaded.as_ref().unwrap_or(&model.loaded), precision);
                    let mut generator = Generator::new(&loaded, &devices, None)?;
                    generator.read(&prompt)?;
                    Ok::<_, orion_engine::Error>(generator)
                };
                let run = || timed(first_token);
                ("first token".to_owned(), Some(count), self.measure(nothing, || Ok(run))?)
            }
            (LoadTest::CompileTraining, _) if devices.accelerator.is_some() => return Ok(None),
            (LoadTest::CompileTraining, _) => {
                let count = network.max_positions().min(256);
                let run = || timed(|| TrainingPrograms::new(&*devices.device, network, 1, count));
                let name = format!("compile train 1x{count}");
                (name, Some(count), self.measure(nothing, || Ok(run))?)
            }
        };
        let milliseconds = |seconds| seconds * 1e3;
        let unit = Unit::Milliseconds;
        let result = self.result(name, &model.name, unit, &measurement, milliseconds);
        Ok(Some(TestResult { tokens, ..sized(result, size, self.precision, 1, 0) }))
    }
}

/// The same model, its matrices to be kept in that precision. Shares storage.
pub(crate) fn kept(model: &LoadedModel, precision: Precision) -> LoadedModel {
    LoadedModel { storage: precision.storage(), ..model.clone() }
}

/// Seconds of some work, without those of dropping what it gives.
fn timed<T, E: Into<Error>>(work: impl FnOnce() -> std::result::Result<T, E>) -> Result<f64> {
    let begin = Instant::now();
    let given = work();
    let seconds = begin.elapsed().as_secs_f64();
    given.map(|_| seconds).map_err(Into::into)
}

/// `precision` is that in which weights are kept.
pub(crate) fn sized(
    result: TestResult,
    size: ModelSize,
    precision: Precision,
    batch: usize,
    tokens: usize,
) -> TestResult {
    TestResult {
        batch: Some(batch),
        tokens: Some(tokens),
        parameters: Some(size.parameters),
        size_bytes: Some(size.bytes(precision)),
        ..result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_counted_by_hand() {
        let network = orion_models::preset("stories110m").unwrap().network();
        let size = model_work(&network).unwrap();
        assert_eq!(size.parameters, 109_529_856);
        // 12 layers of 4 · 768² and 3 · 768 · 2048, and a classifier of 32000 · 768.
        assert_eq!(size.in_products, 12 * (4 * 768 * 768 + 3 * 768 * 2048) + 32000 * 768);
        assert_eq!(size.in_classifier, 32000 * 768);
        // Two norms a layer and one at the end.
        assert_eq!(size.read_per_token, size.in_products + 25 * 768);
        assert_eq!(size.read_per_token, size.parameters, "the embedding is the classifier");
        let flops = Work::training_step(size.in_products, size.parameters, 256).flops;
        assert_eq!((flops / 1e9).round(), 168.0);
    }
}
