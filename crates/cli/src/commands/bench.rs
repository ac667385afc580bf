//! Chooses what `orion-bench` measures, on which device and beside which machine.

use super::subject::neither_file_nor_preset;
use crate::adapters::Adapters;
use crate::arguments::{
    Bench as Command, BenchDecode, BenchFormat, BenchGemm, BenchLoad, BenchMachine, BenchOptions,
    BenchPrefill, BenchProgram, BenchTrain, BenchedModel, Precision,
};
use crate::devices::two::{self, TrainDevices};
use crate::devices::{Products, device, model_devices};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::printer::Printer;
use orion_bench::{
    Bench, BenchModel, GEMM_SHAPES, GemmKind, Limits, LoadTest, MachineInfo, MachineRates, Report,
    Settings, TestResult, compare, cpu_name, markdown, measure_machine, text,
};
use orion_cpu::machine::Meter;
use orion_engine::{Arithmetic, ModelDevices, TrainConfig};
use orion_mil::bundle::Bundle;
use orion_models::preset;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Measurements of the machine before anything else.
const MACHINE_REPETITIONS: usize = 3;

pub(crate) fn bench(command: &Command, printer: &Printer) -> Result {
    match command {
        Command::Machine(a) => machine(a, printer),
        Command::Gemm(a) => gemm(a, printer),
        Command::Program(a) => program(a, printer),
        Command::Prefill(a) => prefill(a, printer),
        Command::Decode(a) => decode(a, printer),
        Command::Train(a) => train(a, printer),
        Command::Load(a) => load(a, printer),
    }
}

/// The machine's limits as benchmarks want them.
struct Machine(Meter);

impl Limits for Machine {
    fn f32_flops(&mut self) -> f64 {
        self.0.f32_flops()
    }

    fn bf16_flops(&mut self) -> Option<f64> {
        self.0.bf16_flops()
    }

    fn read_bandwidth(&mut self) -> f64 {
        self.0.read_bandwidth()
    }

    fn adamw_bandwidth(&mut self) -> f64 {
        self.0.adamw_bandwidth()
    }

    fn release(&mut self) {
        self.0.release();
    }
}

fn machine(arguments: &BenchMachine, printer: &Printer) -> Result {
    let options = &arguments.options;
    // Refuses devices that do not exist, as every other benchmark does.
    let device = device(&arguments.device, Products::F32)?;
    let threads = threads(device.name(), arguments.device.threads);
    let (info, results) = measured(threads, options.repetitions.get());
    finish(options, Report { machine: info, results }, printer)
}

fn gemm(arguments: &BenchGemm, printer: &Printer) -> Result {
    let precision = arithmetic(arguments.precision)?;
    let wanted = arguments.model.as_deref();
    let shapes: Vec<_> =
        GEMM_SHAPES.iter().filter(|s| wanted.is_none_or(|name| s.model == name)).collect();
    if shapes.is_empty() {
        let mut names: Vec<&str> = GEMM_SHAPES.iter().map(|s| s.model).collect();
        names.dedup();
        let message = format!("there are no shapes of `{}`", wanted.unwrap_or_default());
        return Err(Failure::usage(message).hint(format!("there are {}", names.join(", "))));
    }
    let device = device(&arguments.device, precision.products())?.into();
    let threads = arguments.device.threads;
    with_bench(&arguments.options, device, threads, precision, printer, |bench| {
        let count = (shapes.len() * GemmKind::ALL.len()) as u64;
        let progress = printer.progress(count, "{bar:24} {pos}/{len}  {msg}");
        let mut results = Vec::new();
        for shape in shapes {
            for kind in GemmKind::ALL {
                let what = format!("{} {}x{}", kind.name(), shape.outputs, shape.inputs);
                progress.set(results.len() as u64, what);
                results.push(bench.gemm(shape, kind, arguments.tokens.get())?);
            }
        }
        Ok(results)
    })
}

fn program(arguments: &BenchProgram, printer: &Printer) -> Result {
    let bundle = Bundle::load(&arguments.file)?;
    let path = &arguments.file;
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    let device = device(&arguments.device, Products::F32)?.into();
    let threads = arguments.device.threads;
    with_bench(&arguments.options, device, threads, Precision::F32, printer, |bench| {
        let (program, weights) = (&bundle.program, &bundle.weights);
        let (result, plan) = bench.program(&name, program, weights, arguments.explain)?;
        if arguments.explain {
            explanation(&plan, &arguments.options, printer)?;
        }
        Ok(vec![result])
    })
}

/// Prints what was executed; where standard output is the report alone, beside it.
fn explanation(text: &str, options: &BenchOptions, printer: &Printer) -> Result<()> {
    match options.format {
        BenchFormat::Json => printer.report(text.trim_end()),
        BenchFormat::Text | BenchFormat::Md => printer.data_line(text)?,
    }
    Ok(())
}

fn prefill(arguments: &BenchPrefill, printer: &Printer) -> Result {
    let model = model(&arguments.model)?;
    let tokens = length(arguments.tokens, 512, &model);
    let precision = arguments.model.precision;
    let devices = model_devices(&arguments.device, precision.products(), printer)?;
    let threads = arguments.device.threads;
    with_bench(&arguments.options, devices, threads, precision, printer, |bench| {
        Ok(vec![bench.prefill(&model, arguments.batch.get(), tokens)?])
    })
}

fn decode(arguments: &BenchDecode, printer: &Printer) -> Result {
    let choice = &arguments.model;
    let benched = model(choice)?;
    let tokens = length(arguments.tokens, 128, &benched);
    let batch = arguments.batch.get();
    let devices = model_devices(&arguments.device, choice.precision.products(), printer)?;
    if arguments.explain && devices.accelerator.is_some() {
        return Err(explained_on_one(&devices.name()));
    }
    let threads = arguments.device.threads;
    if !arguments.adapter.is_empty() {
        let named = Adapters::open(&arguments.adapter, &benched.loaded.network)?;
        let mut adapters: Vec<_> = named.iter().map(|(_, adapter)| adapter.clone()).collect();
        if adapters.len() == 1 {
            // Going to a copy takes what going to another takes.
            adapters.push(adapters[0].clone());
        }
        let (options, precision) = (&arguments.options, choice.precision);
        return with_bench(options, devices, threads, precision, printer, |bench| {
            Ok(bench.decode_with_adapters(&benched, &adapters, batch, tokens)?)
        });
    }
    with_bench(&arguments.options, devices, threads, choice.precision, printer, |bench| {
        let result = bench.decode(benched, batch, tokens)?;
        if arguments.explain {
            let text = bench.explain_decoding(&model(choice)?, batch, tokens);
            explanation(&text.context("explaining a token")?, &arguments.options, printer)?;
        }
        Ok(vec![result])
    })
}

fn explained_on_one(devices: &str) -> Failure {
    Failure::usage(format!("--explain is about one device, and {devices} are two"))
        .hint("name one with -d, or leave --explain out")
}

fn train(arguments: &BenchTrain, printer: &Printer) -> Result {
    let precision = arithmetic(arguments.model.precision)?;
    let choice = &arguments.model;
    let benched = model(choice)?;
    let tokens = length(arguments.tokens, 256, &benched);
    let batch = arguments.batch.get();
    let mut config = TrainConfig::default();
    if precision == Precision::Bf16 {
        config.train.precision = Arithmetic::Bf16;
    }
    let TrainDevices { host, accelerator } = two::devices(&arguments.device, &config, false)?;
    if let (true, Some(first)) = (arguments.explain, &accelerator) {
        let name = format!("{}+{}", first.device.name(), host.name());
        return Err(explained_on_one(&name));
    }
    let threads = arguments.device.threads;
    with_bench(&arguments.options, host.into(), threads, precision, printer, |bench| {
        let result = bench.train(benched, accelerator, batch, tokens)?;
        if arguments.explain {
            let text = bench.explain_training(model(choice)?, batch, tokens);
            explanation(&text.context("explaining the step")?, &arguments.options, printer)?;
        }
        Ok(vec![result])
    })
}

fn load(arguments: &BenchLoad, printer: &Printer) -> Result {
    let model = model(&arguments.model)?;
    let precision = arguments.model.precision;
    let devices = model_devices(&arguments.device, precision.products(), printer)?;
    let threads = arguments.device.threads;
    with_bench(&arguments.options, devices, threads, precision, printer, |bench| {
        let mut results = Vec::new();
        for test in LoadTest::ALL {
            results.extend(bench.load(&model, test)?);
        }
        Ok(results)
    })
}

/// Measures the machine, does the work, and reports both.
fn with_bench(
    options: &BenchOptions,
    devices: ModelDevices,
    asked_threads: Option<NonZeroUsize>,
    precision: Precision,
    printer: &Printer,
    work: impl FnOnce(&mut Bench<'_>) -> Result<Vec<TestResult>>,
) -> Result {
    let threads = threads(&devices.name(), asked_threads);
    let (machine, _) = measured(threads, MACHINE_REPETITIONS);
    let settings =
        Settings { repetitions: options.repetitions.get(), warm_up: options.warm_up.get() };
    let mut limits = Machine(Meter::new(threads));
    let results = work(&mut Bench {
        devices,
        threads,
        precision: precision.into(),
        settings,
        limits: &mut limits,
    })?;
    finish(options, Report { machine, results }, printer)
}

/// Threads that the devices work with.
fn threads(name: &str, asked: Option<NonZeroUsize>) -> usize {
    match name {
        "cpu:reference" => 1,
        _ => asked.map_or_else(available_threads, NonZeroUsize::get),
    }
}

fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The limits of one thread, and of that many.
fn measured(threads: usize, repetitions: usize) -> (MachineInfo, Vec<TestResult>) {
    let mut limits: Vec<MachineRates> = Vec::new();
    let mut results = Vec::new();
    let mut counts = vec![1, threads];
    counts.dedup();
    for count in counts {
        let (rates, more) = measure_machine(&mut Machine(Meter::new(count)), count, repetitions);
        limits.push(rates);
        results.extend(more);
    }
    let machine = MachineInfo {
        cpu: cpu_name(),
        architecture: std::env::consts::ARCH.to_owned(),
        system: std::env::consts::OS.to_owned(),
        instructions: Meter::new(threads).instructions().to_owned(),
        threads: available_threads(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("ORION_COMMIT").map(str::to_owned),
        unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        limits,
    };
    (machine, results)
}

fn finish(options: &BenchOptions, mut report: Report, printer: &Printer) -> Result {
    if let Some(path) = &options.compare {
        let bytes = std::fs::read(path).context(path.display())?;
        let before = Report::from_json(&bytes).context(path.display())?;
        if compare(&before, &mut report) == 0 {
            let message = format!("{}: nothing in it is the same test", path.display());
            return Err(Failure::new(message)
                .hint("test, model, precision, device, threads, batch and tokens must agree"));
        }
    }
    match options.format {
        BenchFormat::Text => printer.data(text(&report))?,
        BenchFormat::Md => printer.data(markdown(&report))?,
        BenchFormat::Json => printer.data_line(report.to_json())?,
    }
    let slower: Vec<&str> = report
        .results
        .iter()
        .filter(|r| r.compared.is_some_and(|c| c.slower))
        .map(|r| r.test.as_str())
        .collect();
    if slower.is_empty() {
        return Ok(Exit::Success);
    }
    printer.warn(format_args!("more than 10 % slower than before: {}", slower.join(", ")));
    Ok(Exit::No)
}

/// A preset with random weights, or a model from a path.
fn model(choice: &BenchedModel) -> Result<BenchModel> {
    let name = choice.model.as_str();
    if let Some(preset) = preset(name) {
        return Ok(BenchModel::random(name, preset.network()));
    }
    if Path::new(name).exists() {
        return Ok(BenchModel::load(Path::new(name))?);
    }
    Err(neither_file_nor_preset(name))
}

fn length(asked: Option<NonZeroUsize>, default: usize, model: &BenchModel) -> usize {
    asked.map_or(default.min(model.loaded.network.max_positions()), NonZeroUsize::get)
}

impl From<Precision> for orion_bench::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::F16 => Self::F16,
            Precision::Int8 => Self::Int8,
        }
    }
}

/// Of training and of bare products, whose matrices are not kept in any other way.
fn arithmetic(precision: Precision) -> Result<Precision> {
    let name = match precision {
        Precision::F32 | Precision::Bf16 => return Ok(precision),
        Precision::F16 => "f16",
        Precision::Int8 => "int8",
    };
    Err(Failure::usage(format!("--precision {name} is a way to keep weights for generation"))
        .hint("this takes f32 or bf16"))
}
