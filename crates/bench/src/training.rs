//! Training steps.

use crate::network::{BenchModel, model_work, sized};
use crate::program::Ran;
use crate::steps::StepTimes;
use crate::{Bench, Error, ErrorKind, Precision, Result, TestResult, Unit, Work};
use orion_engine::programs::{gradient_program, update_program};
use orion_engine::{Accelerator, HALF_LOSS_SCALE, LayerSchedule, LoadedModel, TrainConfig};
use orion_models::{Network, WeightIndex, program_name};
use orion_runtime::{Bindings, Device, Executable, Layout, Surface};
use orion_tensor::DType;
use std::sync::Arc;
use std::time::Instant;

/// The learning rate of every step.
const RATE: f32 = 1e-4;

/// How far the moments of every step are taken to be from what they tend to.
const CORRECTIONS: [f32; 2] = [0.1, 0.05];

impl Bench<'_> {
    /// Optimizer steps of `batch` sequences of `tokens` tokens each: forward, backward and
    /// AdamW, in ms. With an accelerator that computes the layers, beside the bench's one device;
    /// the update of a step is then made beside the forward pass of the next, where it would be in
    /// training. Takes the model, so that its weights are not in memory twice.
    ///
    /// # Errors
    /// When the model does not take so many tokens, the bench has two devices for models, a device
    /// fails, or gradients are not finite.
    pub fn train(
        &mut self,
        mut model: BenchModel,
        accelerator: Option<Accelerator>,
        batch: usize,
        tokens: usize,
    ) -> Result<TestResult> {
        model.check_length(tokens)?;
        let size = model_work(&model.loaded.network)?;
        let device = self.one_device()?;
        let (name, work) = match &accelerator {
            // It has limits of its own.
            Some(first) => (format!("{}+{}", first.device.name(), device.name()), Work::default()),
            None => {
                let work = Work::training_step(size.in_products, size.parameters, batch * tokens);
                (device.name().to_owned(), work.in_precision(self.precision))
            }
        };
        let measurement = self.measure(work, || {
            let mut step = TrainingStep::new(device, accelerator, &mut model, batch, tokens)?;
            Ok(move || step.run())
        })?;
        let result = self.result(
            format!("train {batch}x{tokens}"),
            &model.name,
            Unit::Milliseconds,
            &measurement,
            |seconds| seconds * 1e3,
        );
        let result = TestResult { device: name, ..result };
        Ok(sized(result, size, Precision::F32, batch, tokens))
    }

    /// Where the time of a training step on one device goes: a table of what it executes.
    ///
    /// # Errors
    /// Those of [`Bench::train`].
    pub fn explain_training(
        &mut self,
        mut model: BenchModel,
        batch: usize,
        tokens: usize,
    ) -> Result<String> {
        model.check_length(tokens)?;
        let device = self.one_device()?;
        let mut programs = TrainingPrograms::new(&*device, &model.loaded.network, batch, tokens)?;
        let mut data = StepData::new(&mut model, batch, tokens);
        for _ in 0..self.settings.warm_up.max(1) {
            programs.run_with(&mut data, |executable, bindings| executable.run(bindings))?;
        }
        let mut times = [
            StepTimes::new("gradients", &*programs.gradients),
            StepTimes::new("update", &*programs.update),
        ];
        for _ in 0..self.settings.repetitions.max(1) {
            let mut seconds = times.iter_mut();
            programs.run_with(&mut data, |executable, bindings| {
                let mut of_steps = Vec::new();
                executable.run_timed(bindings, &mut of_steps)?;
                seconds.next().expect("two programs").add(of_steps);
                Ok(())
            })?;
        }
        Ok(self.step_table(&times))
    }
}

/// What the engine compiles for a step of one micro-batch.
pub(crate) struct TrainingPrograms {
    gradients: Box<dyn Executable>,
    update: Box<dyn Executable>,
}

impl TrainingPrograms {
    pub(crate) fn new(
        device: &dyn Device,
        network: &Network,
        batch: usize,
        tokens: usize,
    ) -> Result<Self> {
        let mut index = WeightIndex::new();
        network.add_tables(&mut index, tokens);
        let gradients = gradient_program(network, &index, batch, tokens, false);
        let update = update_program(&network.parameters(), &TrainConfig::default().optimizer);
        Ok(Self {
            gradients: device.compile(&gradients, index.weights())?,
            update: device.compile(&update, index.weights())?,
        })
    }

    /// One step; gives its gradient norm.
    fn run_with(
        &mut self,
        data: &mut StepData,
        mut run: impl FnMut(&mut dyn Executable, &mut Bindings<'_>) -> Ran,
    ) -> Result<f64> {
        let number = |v: f32| Surface::from_slice(&[1], &[v]);
        let (one, rate, [first, second]) = (number(1.0), number(RATE), CORRECTIONS.map(number));
        let (mut norm, mut finite) = (number(0.0), number(0.0));
        let mut bindings = Bindings::new();
        bindings.input("tokens", &data.tokens).input("targets", &data.targets);
        bindings.input("loss_scale", &one).output("loss", &mut data.loss);
        for p in &mut data.parameters {
            bindings.input(&p.value.0, &p.value.1);
            bindings.output(&p.gradient.0, &mut p.gradient.1);
        }
        run(&mut *self.gradients, &mut bindings)?;

        let mut bindings = Bindings::new();
        bindings
            .input("learning_rate", &rate)
            .input("beta1_correction", &first)
            .input("beta2_correction", &second)
            .input("gradient_scale", &one)
            .output("gradient_norm", &mut norm)
            .output("finite", &mut finite);
        for p in &mut data.parameters {
            bindings.update(&p.value.0, &mut p.value.1);
            bindings.input(&p.gradient.0, &p.gradient.1);
            for (name, surface) in &mut p.moments {
                bindings.update(name, surface);
            }
        }
        run(&mut *self.update, &mut bindings)?;
        Ok(f64::from(norm.elements::<f32>()[0]))
    }
}

/// A parameter's surfaces, each with its name in the programs.
struct Parameter {
    value: (String, Surface),
    gradient: (String, Surface),
    moments: [(String, Surface); 2],
}

/// What steps read and write.
struct StepData {
    parameters: Vec<Parameter>,
    tokens: Surface,
    targets: Surface,
    loss: Surface,
}

impl StepData {
    /// Takes the weights out of the model.
    fn new(model: &mut BenchModel, batch: usize, tokens: usize) -> Self {
        let ids: Vec<i32> = model.tokens(batch * tokens).iter().map(|&t| t as i32).collect();
        let LoadedModel { network, parameters: weights, .. } = &mut model.loaded;
        let parameters = network.parameters().into_iter().map(|spec| {
            let name = program_name(&spec.name);
            let tensor = weights.remove(&spec.name).expect("a tensor for every parameter");
            let value = Surface::from_slice(&spec.shape, &tensor.to_f32_vec());
            let zeros = || Surface::zeros(Layout::dense(DType::F32, &spec.shape));
            Parameter {
                gradient: (format!("{name}_grad"), zeros()),
                moments: ["m", "v"].map(|moment| (format!("{name}_{moment}"), zeros())),
                value: (name, value),
            }
        });
        let mut targets = ids.clone();
        targets.rotate_left(1);
        Self {
            parameters: parameters.collect(),
            tokens: Surface::from_slice(&[ids.len()], &ids),
            targets: Surface::from_slice(&[ids.len()], &targets),
            loss: Surface::zeros(Layout::dense(DType::F32, &[1])),
        }
    }
}

/// A step as the engine makes it on one device or on two.
struct TrainingStep {
    data: StepData,
    way: Way,
}

enum Way {
    Whole(TrainingPrograms),
    Divided { layers: Box<LayerSchedule>, loss_scale: f32 },
}

impl TrainingStep {
    /// Takes the weights out of the model.
    fn new(
        device: Arc<dyn Device>,
        accelerator: Option<Accelerator>,
        model: &mut BenchModel,
        batch: usize,
        tokens: usize,
    ) -> Result<Self> {
        let network = &model.loaded.network;
        let way = match accelerator {
            None => Way::Whole(TrainingPrograms::new(&*device, network, batch, tokens)?),
            Some(accelerator) => {
                let loss_scale =
                    if accelerator.numbers == DType::F16 { HALF_LOSS_SCALE } else { 1.0 };
                let mut index = WeightIndex::new();
                network.add_tables(&mut index, tokens);
                let gradients = gradient_program(network, &index, batch, tokens, false);
                let layers = LayerSchedule::new(network, &index, &gradients, accelerator, device)?;
                let optimizer = TrainConfig::default().optimizer;
                let layers = layers.with_update(&network.parameters(), &optimizer, false)?;
                Way::Divided { layers: Box::new(layers), loss_scale }
            }
        };
        Ok(Self { way, data: StepData::new(model, batch, tokens) })
    }

    /// Seconds of one step.
    fn run(&mut self) -> Result<f64> {
        let begin = Instant::now();
        let norm = match &mut self.way {
            Way::Whole(programs) => programs
                .run_with(&mut self.data, |executable, bindings| executable.run(bindings))?,
            Way::Divided { layers, loss_scale } => divided(layers, *loss_scale, &mut self.data)?,
        };
        let seconds = begin.elapsed().as_secs_f64();
        let loss = self.data.loss.elements::<f32>()[0];
        if !loss.is_finite() || !norm.is_finite() {
            let message = format!("the step gave a loss of {loss} and a gradient norm of {norm}");
            return Err(Error::new(ErrorKind::NotFinite, message));
        }
        Ok(seconds)
    }
}

/// One step on two devices, with the update of the step before where that may wait; gives its
/// gradient norm.
fn divided(layers: &mut LayerSchedule, loss_scale: f32, data: &mut StepData) -> Result<f64> {
    let scale = Surface::from_slice(&[1], &[loss_scale]);
    let mut bindings = Bindings::new();
    bindings.input("tokens", &data.tokens).input("targets", &data.targets);
    bindings.input("loss_scale", &scale).output("loss", &mut data.loss);
    bind_update(&mut data.parameters, &mut bindings);
    layers.run_micro_batch(&mut bindings, [true, true], 1.0 / f64::from(loss_scale))?;
    let norm = layers.gradient_norm();
    if norm.is_finite() {
        layers.update_later(f64::from(RATE), CORRECTIONS.map(f64::from));
    }
    if !layers.overlaps_update() {
        let mut bindings = Bindings::new();
        bind_update(&mut data.parameters, &mut bindings);
        layers.finish_update(&mut bindings)?;
    }
    Ok(norm)
}

fn bind_update<'a>(parameters: &'a mut [Parameter], bindings: &mut Bindings<'a>) {
    for p in parameters {
        let surfaces = [&mut p.value, &mut p.gradient].into_iter().chain(&mut p.moments);
        for (name, surface) in surfaces {
            bindings.update(name, surface);
        }
    }
}
