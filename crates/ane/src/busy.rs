//! Work for the engine while something else is measured.

use crate::laboratory::{Laboratory, program};
use crate::memory::SharedMemory;
use crate::programs::Programs;
use crate::{Error, ErrorKind, Framework, Options, proof};
use orion_mil::{TensorType, WEIGHT_FILE, Weights};
use orion_runtime::{Bindings, Executable as _, Surface};
use orion_tensor::{DType, Tensor};
use std::time::Instant;

/// Channels and positions: a product of 268 million operations, in which the engine is at work for
/// longer than a call takes.
const SIZE: usize = 512;

/// Runs a product in a loop, as long as `goes_on` says so and at least once. Returns how often it
/// ran, and in how many seconds.
///
/// # Errors
/// When the device does not work; `orion doctor` says which part.
pub fn keep_busy<F: Framework>(
    framework: F,
    options: Options,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<(usize, f64), Error> {
    let programs = Programs::new(framework, options);
    let (scheme, _) = proof::binding("doctor", &programs)?;
    let laboratory = Laboratory { programs, scheme };
    let shape = [SIZE, SIZE, 1, 1];
    let mut weights = Weights::new();
    let values = vec![1.0 / SIZE as f64; SIZE * SIZE];
    let offset = weights.append(WEIGHT_FILE, Tensor::from_f64(DType::F16, &shape, &values));
    let product = program(&[1, SIZE, 1, SIZE], |b, x| {
        let weight = b.blob("w", TensorType::new(DType::F16, &shape), WEIGHT_FILE, offset);
        b.conv_1x1(x, weight, None)
    });
    let mut compiled = laboratory.compile(&product, &weights)?;
    let layout = compiled.signature().ports[0].layout.clone();
    let surface = || -> Result<Surface, Error> {
        let memory = SharedMemory::new(&laboratory.programs, layout.size_bytes)?;
        Ok(Surface::in_device_memory(layout.clone(), Box::new(memory)))
    };
    let (mut x, mut y) = (surface()?, surface()?);
    x.ready_to_write().map_err(Error::of_memory)?;
    x.store(&Tensor::from_f64(DType::F16, &layout.shape, &vec![1.0; SIZE * SIZE]));
    let start = Instant::now();
    let mut runs = 0;
    loop {
        let mut bindings = Bindings::new();
        bindings.input("x", &x).output("y", &mut y);
        let failed = |e: orion_runtime::Error| Error::new(ErrorKind::Evaluate, e.to_string());
        compiled.run(&mut bindings).map_err(failed)?;
        runs += 1;
        if !goes_on() {
            return Ok((runs, start.elapsed().as_secs_f64()));
        }
    }
}
