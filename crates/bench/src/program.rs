//! Any program, with random inputs.

use crate::steps::{StepTimes, table};
use crate::{Bench, Precision, Products, Result, TestResult, Unit, Work, median};
use orion_engine::Random;
use orion_mil::{Program, Weights};
use orion_runtime::{Bindings, Device, Executable, Layout, Port, PortKind, Surface};
use orion_tensor::{DType, Tensor, element_count};
use std::time::{Duration, Instant};

/// A repetition of a program that takes less is several runs, of which the median counts.
const LEAST_REPETITION: Duration = Duration::from_millis(20);

/// What running an executable gives.
pub(crate) type Ran = std::result::Result<(), orion_runtime::Error>;

/// A compiled program with surfaces of its own.
pub(crate) struct Running {
    executable: Box<dyn Executable>,
    ports: Vec<Port>,
    surfaces: Vec<Surface>,
}

impl Running {
    /// Compiled, with random numbers below 1 in every float that is read, and zeros in integers,
    /// because nobody knows what they may index.
    pub(crate) fn new(device: &dyn Device, program: &Program, weights: &Weights) -> Result<Self> {
        let executable = device.compile(program, weights)?;
        let ports = executable.signature().ports.clone();
        let mut random = Random::new(1);
        let fill = |p: &Port| match p.kind {
            PortKind::Output => Surface::zeros(p.layout.clone()),
            _ => random_surface(&p.layout, &mut random),
        };
        let surfaces = ports.iter().map(fill).collect();
        Ok(Self { executable, ports, surfaces })
    }

    /// Puts one number into every element of an int32 port, where there is one of that name.
    pub(crate) fn fill_ints(&mut self, name: &str, value: i32) {
        let ports = self.ports.iter().zip(&mut self.surfaces);
        for (_, surface) in ports.filter(|(p, _)| p.name == name && p.layout.dtype == DType::I32) {
            surface.elements_mut::<i32>().fill(value);
        }
    }

    /// Where the time of so many runs goes.
    pub(crate) fn step_times(&mut self, name: &str, runs: usize) -> Result<StepTimes> {
        let mut times = StepTimes::new(name, &*self.executable);
        for _ in 0..runs {
            let mut seconds = Vec::new();
            self.run_with(|executable, b| executable.run_timed(b, &mut seconds))?;
            times.add(seconds);
        }
        Ok(times)
    }

    /// Seconds of one run.
    pub(crate) fn run(&mut self) -> Result<f64> {
        self.run_with(|executable, bindings| executable.run(bindings))
    }

    fn run_with(
        &mut self,
        run: impl FnOnce(&mut dyn Executable, &mut Bindings<'_>) -> Ran,
    ) -> Result<f64> {
        let mut bindings = Bindings::new();
        for (port, surface) in self.ports.iter().zip(&mut self.surfaces) {
            match port.kind {
                PortKind::Input => bindings.input(&port.name, surface),
                PortKind::Output => bindings.output(&port.name, surface),
                PortKind::Update { .. } => bindings.update(&port.name, surface),
            };
        }
        let begin = Instant::now();
        run(&mut *self.executable, &mut bindings)?;
        Ok(begin.elapsed().as_secs_f64())
    }

    /// The median of as many runs as [`LEAST_REPETITION`] takes, at least one.
    pub(crate) fn repetition(&mut self) -> Result<f64> {
        let begin = Instant::now();
        let mut seconds = vec![self.run()?];
        while begin.elapsed() < LEAST_REPETITION {
            seconds.push(self.run()?);
        }
        Ok(median(&seconds))
    }

    fn bytes(&self) -> usize {
        self.surfaces.iter().map(|s| s.bytes().len()).sum()
    }
}

fn random_surface(layout: &Layout, random: &mut Random) -> Surface {
    let count = element_count(&layout.shape);
    match layout.dtype {
        DType::F32 => {
            let mut surface = Surface::zeros(layout.clone());
            surface.elements_mut::<f32>().fill_with(|| random.uniform() as f32);
            surface
        }
        DType::F16 | DType::BF16 | DType::F64 => {
            let values: Vec<f64> = (0..count).map(|_| random.uniform()).collect();
            Surface::from_tensor(&Tensor::from_f64(layout.dtype, &layout.shape, &values))
        }
        _ => Surface::zeros(layout.clone()),
    }
}

impl Bench<'_> {
    /// Where the time of programs went, beside the limits of now.
    pub(crate) fn step_table(&mut self, programs: &[StepTimes]) -> String {
        let everything =
            |precision| Work { flops: 1.0, precision, read_bytes: 1.0, adamw_bytes: 1.0 };
        let mut rates = everything(Precision::F32).measure(&mut *self.limits);
        rates.bf16_flops = everything(Precision::Bf16).measure(&mut *self.limits).bf16_flops;
        self.limits.release();
        table(programs, &rates)
    }

    /// Runs a program's main function with random inputs; gives the time of a run in ms, and,
    /// when asked to explain, what the device says it executes and where its time goes.
    ///
    /// The floor is that of the operations of its products, or of reading and writing its inputs,
    /// outputs and weights once, whichever is longer. A program whose data stays in a cache may
    /// be faster than that.
    ///
    /// # Errors
    /// When the device refuses the program or fails.
    pub fn program(
        &mut self,
        name: &str,
        program: &Program,
        weights: &Weights,
        explain: bool,
    ) -> Result<(TestResult, String)> {
        let device = self.one_device()?;
        let flops = match program.main() {
            Some(main) => Products::of(main)?.flops,
            None => 0,
        };
        let mut running = Running::new(&*device, program, weights)?;
        let stored = weights.files().flat_map(|(_, tensors)| tensors.values());
        let bytes = running.bytes() + stored.map(|t| t.bytes().len()).sum::<usize>();
        let products = Work { flops: flops as f64, precision: self.precision, ..Work::default() };
        let memory = Work { read_bytes: bytes as f64, ..Work::default() };
        let longer = {
            let floor = |work: &Work, this: &mut Self| work.floor(&work.measure(&mut *this.limits));
            if floor(&products, self) > floor(&memory, self) { products } else { memory }
        };
        let measurement = self.measure(longer, || Ok(|| running.repetition()))?;
        let result =
            self.result("program".to_owned(), name, Unit::Milliseconds, &measurement, |seconds| {
                seconds * 1e3
            });
        if !explain {
            return Ok((result, String::new()));
        }
        let times = running.step_times(name, self.settings.repetitions)?;
        let plan = running.executable.explain();
        Ok((result, format!("{plan}\n{}", self.step_table(&[times]))))
    }
}
