use orion_ane::{Ane, Error, Options, WeightMode};
use orion_emulator::{Behaviour, Living, StandIn};
use orion_mil::{Builder, Program, TensorType, WEIGHT_FILE, Weights};
use orion_runtime::{Bindings, Device as _, Executable, Layout, Surface};
use orion_tensor::{DType, Tensor, f16};
use orion_testing::Random;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tempfile::TempDir;

pub(crate) const CHANNELS: usize = 32;
pub(crate) const POSITIONS: usize = 40;

/// A stand-in with a directory of its own.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
    pub(crate) framework: StandIn,
}

impl Bench {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let framework = StandIn::new("m4".parse().unwrap(), directory.path(), behaviour);
        Self { directory, framework }
    }

    pub(crate) fn open(&self, options: Options) -> Result<Ane<StandIn>, Error> {
        Ane::open(self.framework.clone(), "ane-stand-in:m4", options)
    }

    /// Nothing exists any more, in memory or on disk.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.framework.living(), Living::default());
        let left: Vec<_> = std::fs::read_dir(self.directory.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Options that do not wait.
pub(crate) fn options(weights: WeightMode) -> Options {
    Options { wait: |_| {}, ..Options::new(weights) }
}

/// A residual layer of two weights and a bias. Layers differ in the names of their values.
pub(crate) fn layer(name: &str) -> (Program, [u64; 3]) {
    layer_of(POSITIONS, name)
}

/// The same of so many positions.
pub(crate) fn layer_of(positions: usize, name: &str) -> (Program, [u64; 3]) {
    let mut b = Builder::new("main");
    b.set_scope(name);
    let x = b.input("x", TensorType::new(DType::F16, &[1, CHANNELS, 1, positions]));
    let mut places = Weights::new();
    let shapes = [&[CHANNELS, CHANNELS, 1, 1][..], &[CHANNELS, CHANNELS, 1, 1], &[CHANNELS]];
    let at = shapes.map(|s| places.append(WEIGHT_FILE, Tensor::zeros(DType::F16, s)));
    let [up, down, bias] = [0, 1, 2].map(|i| {
        let ty = TensorType::new(DType::F16, shapes[i]);
        b.blob(&format!("{name}_weight_{i}"), ty, WEIGHT_FILE, at[i])
    });
    let h = b.conv_1x1(x, up, Some(bias));
    let h = b.unary(orion_mil::op::Unary::Relu, h);
    let h = b.conv_1x1(h, down, None);
    let y = b.add(x, h);
    b.rename(y, "y");
    (Program::with_function(b.finish(&[y])), at)
}

/// Random weights of a layer.
pub(crate) fn weights(at: [u64; 3], seed: u64) -> Weights {
    let mut random = Random::new(seed);
    let mut weights = Weights::new();
    for (offset, shape) in at.into_iter().zip([
        &[CHANNELS, CHANNELS, 1, 1][..],
        &[CHANNELS, CHANNELS, 1, 1],
        &[CHANNELS],
    ]) {
        let count = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|_| random.uniform(-0.5, 0.5)).collect();
        weights.insert(WEIGHT_FILE, offset, Tensor::from_f64(DType::F16, shape, &values));
    }
    weights
}

/// What a layer makes of one input, in memory of the host's own.
pub(crate) fn run(program: &mut dyn Executable) -> Result<Vec<f64>, orion_runtime::Error> {
    run_in(program, &|layout| Ok(Surface::zeros(layout.clone())))
}

/// The same in memory that somebody gives.
pub(crate) fn run_in(
    program: &mut dyn Executable,
    memory: &dyn Fn(&Layout) -> Result<Surface, orion_runtime::Error>,
) -> Result<Vec<f64>, orion_runtime::Error> {
    let layout = program.signature().ports[0].layout.clone();
    let (mut x, mut y) = (memory(&layout)?, memory(&layout)?);
    x.ready_to_write()?;
    for (i, element) in x.elements_mut().iter_mut().enumerate() {
        *element = f16::from_f64((i % 17) as f64 / 8.0 - 1.0);
    }
    y.ready_to_write()?;
    y.elements_mut().fill(f16::NAN);
    let mut bindings = Bindings::new();
    bindings.input("x", &x).output("y", &mut y);
    program.run(&mut bindings)?;
    y.ready_to_read()?;
    Ok(y.to_tensor().to_f64_vec())
}

/// The same by the device model.
pub(crate) fn expected(at: [u64; 3], seed: u64) -> Vec<f64> {
    expected_of(POSITIONS, at, seed)
}

/// The same of so many positions.
pub(crate) fn expected_of(positions: usize, at: [u64; 3], seed: u64) -> Vec<f64> {
    static KNOWN: Mutex<BTreeMap<(usize, u64), Vec<f64>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    let compute = || {
        let (program, _) = layer_of(positions, "any");
        let model = orion_emulator::AneModel::from_name("ane-model:m4").unwrap();
        let model = model.with_dense_surfaces();
        run(&mut *model.compile(&program, &weights(at, seed)).unwrap()).unwrap()
    };
    known.entry((positions, seed)).or_insert_with(compute).clone()
}

/// Fails unless every element is as close as fp16 sums allow.
pub(crate) fn assert_close(actual: &[f64], expected: &[f64]) {
    orion_tensor::Tolerance::F16Accum.check(actual, expected).unwrap();
}
