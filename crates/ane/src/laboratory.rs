//! Small programs for doctor and probe.

use crate::directory::{Directory, Turn};
use crate::executable::AneProgram;
use crate::prepare::{Naming, Prepared};
use crate::programs::Programs;
use crate::{CallError, Descriptor, Error, ErrorKind, Framework, Scheme, WeightMode};
use orion_mil::{Builder, Program, TensorType, ValueId, WEIGHT_FILE, Weights};
use orion_runtime::{Bindings, Executable, PortKind, Surface};
use orion_tensor::{DType, Tensor, f16};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Programs over one framework.
pub(crate) struct Laboratory<F: Framework> {
    pub(crate) programs: Arc<Programs<F>>,
    pub(crate) scheme: Scheme,
}

/// How often a run is timed at most, and for how long.
const TIMED_RUNS: usize = 50;
const TIMED_SECONDS: f64 = 0.5;

impl<F: Framework> Laboratory<F> {
    pub(crate) fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<AneProgram<F>, Error> {
        let prepared = Prepared::new(program, false, Naming::Canonical, "probe")?;
        let mode = WeightMode::BakedRecompile;
        AneProgram::new("probe", &self.programs, prepared, weights, (mode, self.scheme), vec![])
    }

    /// Compiles a program of one input, which gets these numbers, and runs it.
    pub(crate) fn run(
        &self,
        program: &Program,
        weights: &Weights,
        input: &[f64],
    ) -> Result<Vec<f64>, Error> {
        run(&mut self.compile(program, weights)?, input)
    }

    /// Seconds of a run in the middle of many.
    pub(crate) fn time(&self, program: &mut AneProgram<F>, input: &[f64]) -> Result<f64, Error> {
        let mut seconds = Vec::with_capacity(TIMED_RUNS);
        while seconds.len() < TIMED_RUNS && seconds.iter().sum::<f64>() < TIMED_SECONDS {
            let start = Instant::now();
            run(program, input)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[seconds.len() / 2])
    }

    /// A model in its directory, with nothing compiled.
    pub(crate) fn model(&self, descriptor: &Descriptor) -> Result<RawModel<F>, Error> {
        let framework = &self.programs.framework;
        let failed = |e: CallError| Error::of_call(ErrorKind::Compile, "no model", e);
        let model = framework.model(descriptor).map_err(failed)?;
        let identifier = framework.identifier(&model).map_err(failed)?;
        let parent = framework.temporary_directory();
        let on_waiting = self.programs.options.on_waiting;
        let directory = Directory::write(parent, &identifier, descriptor, on_waiting)?;
        let turn = directory.turn()?;
        Ok(RawModel { model, directory, turn })
    }
}

/// A model that nobody looks after.
pub(crate) struct RawModel<F: Framework> {
    pub(crate) model: F::Model,
    pub(crate) directory: Directory,
    pub(crate) turn: Turn,
}

fn run(program: &mut dyn Executable, input: &[f64]) -> Result<Vec<f64>, Error> {
    let ports = program.signature().ports.clone();
    let mut surfaces: Vec<Surface> = Vec::new();
    for port in &ports {
        let mut surface = Surface::zeros(port.layout.clone());
        if port.kind == PortKind::Input {
            let tensor = Tensor::from_f64(port.layout.dtype, &port.layout.shape, input);
            surface.bytes_mut().copy_from_slice(tensor.bytes());
        }
        surfaces.push(surface);
    }
    let mut bindings = Bindings::new();
    for (port, surface) in ports.iter().zip(&mut surfaces) {
        match port.kind {
            PortKind::Input => bindings.input(&port.name, surface),
            _ => bindings.output(&port.name, surface),
        };
    }
    program.run(&mut bindings).map_err(|e| Error::new(ErrorKind::Evaluate, e.to_string()))?;
    let outputs = ports.iter().zip(&surfaces).filter(|(p, _)| p.kind == PortKind::Output);
    Ok(outputs.flat_map(|(_, s)| s.to_tensor().to_f64_vec()).collect())
}

/// A program of one fp16 input `x` with the output `y`.
pub(crate) fn program(
    shape: &[usize],
    body: impl FnOnce(&mut Builder, ValueId) -> ValueId,
) -> Program {
    typed_program(DType::F16, shape, body)
}

/// The same with an input of another type.
pub(crate) fn typed_program(
    dtype: DType,
    shape: &[usize],
    body: impl FnOnce(&mut Builder, ValueId) -> ValueId,
) -> Program {
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(dtype, shape));
    let y = body(&mut b, x);
    b.rename(y, "y");
    Program::with_function(b.finish(&[y]))
}

/// Products of `count` constants, 32 × 32 each, that scale by numbers.
pub(crate) fn products(count: usize) -> (Program, Vec<u64>) {
    let mut places = Weights::new();
    let at: Vec<u64> = (0..count)
        .map(|_| places.append(WEIGHT_FILE, Tensor::zeros(DType::F16, &MATRIX)))
        .collect();
    let program = program(&[1, 32, 1, 32], |b, mut x| {
        for (i, &offset) in at.iter().enumerate() {
            let ty = TensorType::new(DType::F16, &MATRIX);
            let weight = b.blob(&format!("w{i}"), ty, WEIGHT_FILE, offset);
            x = b.conv_1x1(x, weight, None);
        }
        x
    });
    (program, at)
}

/// The name of the first constant of [`products`].
pub(crate) const CONSTANT: &str = "w0";

const MATRIX: [usize; 4] = [32, 32, 1, 1];

/// Weights of [`products`]: each scales by its number.
pub(crate) fn scales(at: &[u64], scales: &[f64]) -> Weights {
    let mut weights = Weights::new();
    for (&offset, &scale) in at.iter().zip(scales) {
        let values: Vec<f64> =
            (0..1024).map(|i| if i / 32 == i % 32 { scale } else { 0.0 }).collect();
        weights.insert(WEIGHT_FILE, offset, Tensor::from_f64(DType::F16, &MATRIX, &values));
    }
    weights
}

/// The same program with every weight in a file of its own.
pub(crate) fn one_file_each(descriptor: &Descriptor, at: &[u64], scale: f64) -> Descriptor {
    let mut text = descriptor.text.clone();
    let mut files = BTreeMap::new();
    for (i, offset) in at.iter().enumerate() {
        let name = format!("@model_path/weights/w{i}.bin");
        let place = format!("\"{WEIGHT_FILE}\"), offset = uint64({offset})");
        text = text.replacen(&place, &format!("\"{name}\"), offset = uint64(64)"), 1);
        let one = scales(&[64], &[scale]);
        let tensor = one.get(WEIGHT_FILE, 64).expect("just made").clone();
        let mut bytes = Vec::new();
        orion_mil::blob::write_blob_file(&BTreeMap::from([(64, tensor)]), &mut bytes)
            .expect("memory takes everything");
        files.insert(name, orion_tensor::Bytes::new(bytes));
    }
    Descriptor { text, weights: files }
}

/// 1, 2, … as fp16 keeps them apart.
pub(crate) fn counting(count: usize) -> Vec<f64> {
    (0..count).map(|i| f16::from_f64((i % 97 + 1) as f64).to_f64()).collect()
}
