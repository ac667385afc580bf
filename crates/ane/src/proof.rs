//! What is proven when the device is opened.
//!
//! Published sources disagree on how inputs are numbered, where rows lie and whether changed
//! weights are used. Small programs whose right results are whole numbers tell: a scheme or a
//! weight mode counts only when they come out exactly.

use crate::cache::Cache;
use crate::executable::AneProgram;
use crate::memory::SharedMemory;
use crate::prepare::{Naming, Prepared};
use crate::programs::Programs;
use crate::{Error, ErrorKind, Framework, WeightMode};
use orion_mil::{Builder, Program, TensorType, WEIGHT_FILE, Weights};
use orion_runtime::{Bindings, Executable, Surface};
use orion_tensor::{DType, Tensor, f16};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How inputs and outputs are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// As the compiled program says.
    Reported,
    /// By name.
    Alphabetical,
    /// By place in the text.
    Written,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["as reported", "by name", "as written"][*self as usize])
    }
}

/// Where rows of a tensor lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rows {
    /// Where the compiled program says.
    Reported,
    /// At multiples of 64 bytes.
    Padded,
    /// Side by side.
    Packed,
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["as reported", "at multiples of 64 bytes", "side by side"][*self as usize])
    }
}

/// How memory is bound to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scheme {
    /// How inputs and outputs are numbered.
    pub order: Order,
    /// Where rows lie.
    pub rows: Rows,
}

impl Scheme {
    /// The ways that sources describe, the most trusted first.
    pub const ALL: [Self; 6] = [
        Self { order: Order::Reported, rows: Rows::Reported },
        Self { order: Order::Reported, rows: Rows::Padded },
        Self { order: Order::Alphabetical, rows: Rows::Padded },
        Self { order: Order::Alphabetical, rows: Rows::Packed },
        Self { order: Order::Written, rows: Rows::Padded },
        Self { order: Order::Written, rows: Rows::Packed },
    ];
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "numbers {}, rows {}", self.order, self.rows)
    }
}

/// How a proof came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The numbers are right.
    Proven,
    /// They are not.
    Refuted,
    /// It could not be tried.
    NotTried,
}

/// Something that was tried when the device was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What.
    pub what: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was seen.
    pub evidence: String,
}

/// A program in which every wrong way of binding memory gives other numbers: rows are shorter
/// than 64 bytes, and outputs are returned against the order of their names.
fn binding_program() -> Program {
    let ty = || TensorType::new(DType::F16, &BINDING_SHAPE);
    let mut b = Builder::new("main");
    let inputs = ["first", "second", "third"].map(|name| b.input(name, ty()));
    let twice = b.add(inputs[1], inputs[1]);
    let z = b.add(inputs[0], twice);
    let a = b.sub(inputs[2], inputs[0]);
    b.rename(z, "z_out");
    b.rename(a, "a_out");
    Program::with_function(b.finish(&[z, a]))
}

const BINDING_SHAPE: [usize; 4] = [1, 3, 2, 5];

/// Finds how memory is bound, by running the program in every way that a source describes.
pub(crate) fn binding<F: Framework>(
    device: &str,
    programs: &Arc<Programs<F>>,
) -> Result<(Scheme, Proof), Error> {
    let prepared = Prepared::new(&binding_program(), false, Naming::AsWritten, device)?;
    let content =
        |from: usize| -> Vec<f16> { (0..30).map(|i| f16::from_f64((from + i) as f64)).collect() };
    let inputs = [1, 101, 401].map(|from| Surface::from_slice(&BINDING_SHAPE, &content(from)));
    let value = |i: usize, from: usize| (from + i) as f64;
    let expected: [Vec<f64>; 2] = [
        (0..30).map(|i| value(i, 1) + 2.0 * value(i, 101)).collect(),
        (0..30).map(|i| value(i, 401) - value(i, 1)).collect(),
    ];
    let mut seen = Vec::new();
    for scheme in Scheme::ALL {
        let run = || -> Result<[Vec<f64>; 2], Error> {
            let mut program = AneProgram::new(
                device,
                programs,
                prepared.clone(),
                &Weights::new(),
                (WeightMode::BakedRecompile, scheme),
                Vec::new(),
            )?;
            let layout = || program.signature().ports[0].layout.clone();
            let (mut z, mut a) = (Surface::zeros(layout()), Surface::zeros(layout()));
            let mut bindings = Bindings::new();
            bindings.input("first", &inputs[0]).input("second", &inputs[1]);
            bindings.input("third", &inputs[2]).output("z_out", &mut z).output("a_out", &mut a);
            program
                .run(&mut bindings)
                .map_err(|e| Error::new(ErrorKind::Evaluate, e.to_string()))?;
            Ok([z, a].map(|s| s.to_tensor().to_f64_vec()))
        };
        let outcome = match run() {
            Ok(outputs) if outputs == expected => {
                let tried = if seen.is_empty() { "" } else { "; before it: " };
                let evidence = format!("{scheme}{tried}{}", seen.join("; "));
                let what = "how memory is bound".to_owned();
                return Ok((scheme, Proof { what, outcome: Outcome::Proven, evidence }));
            }
            Ok(outputs) => {
                format!("{scheme}: {}", difference(&outputs.concat(), &expected.concat()))
            }
            // Where nothing compiles, no other scheme will help.
            Err(e) if e.kind() != ErrorKind::Binding && e.kind() != ErrorKind::Evaluate => {
                return Err(e);
            }
            Err(e) => format!("{scheme}: {e}"),
        };
        seen.push(outcome);
    }
    let message = format!(
        "no way of binding memory gives the right results, so nothing is run: {}",
        seen.join("; ")
    );
    Err(Error::new(ErrorKind::Proof, message).hint("please report this with `orion doctor --json`"))
}

/// The first number that is not as it should be.
fn difference(actual: &[f64], expected: &[f64]) -> String {
    let wrong = actual.iter().zip(expected).position(|(a, e)| a != e);
    match wrong {
        Some(i) => format!("element {i} is {}, expected {}", actual[i], expected[i]),
        None => "right".to_owned(),
    }
}

/// Channels and positions of the program that proves weight modes.
const CHANNELS: usize = 32;

/// Two products by constants: two weights, so that replacing only the first shows.
fn weight_program() -> (Program, [u64; 2]) {
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F16, &[1, CHANNELS, 1, CHANNELS]));
    let mut offsets = Weights::new();
    let at = [1.0, 1.0].map(|s| offsets.append(WEIGHT_FILE, scaled_rotation(s, 0)));
    let weight = |b: &mut Builder, name: &str, at: u64| {
        let ty = TensorType::new(DType::F16, &[CHANNELS, CHANNELS, 1, 1]);
        b.blob(name, ty, WEIGHT_FILE, at)
    };
    let first = weight(&mut b, "first", at[0]);
    let second = weight(&mut b, "second", at[1]);
    let h = b.conv_1x1(x, first, None);
    let y = b.conv_1x1(h, second, None);
    b.rename(y, "y");
    (Program::with_function(b.finish(&[y])), at)
}

/// A matrix that moves channel `c + by` to channel `c`, times a number.
fn scaled_rotation(scale: f64, by: usize) -> Tensor {
    let mut values = vec![0.0; CHANNELS * CHANNELS];
    for c in 0..CHANNELS {
        values[c * CHANNELS + (c + by) % CHANNELS] = scale;
    }
    Tensor::from_f64(DType::F16, &[CHANNELS, CHANNELS, 1, 1], &values)
}

/// Weights of the proof: a scale and a rotation for each of the two.
type Pair = [(f64, usize); 2];

/// What is tried in turn: neither, the second, the first, and both changed.
const PAIRS: [Pair; 4] =
    [[(2.0, 1), (3.0, 2)], [(2.0, 1), (5.0, 4)], [(7.0, 3), (5.0, 4)], [(1.0, 9), (2.0, 11)]];

/// Proves that changed weights are used, and no others; and, with the last of them, tries whether
/// surfaces can be shared.
pub(crate) fn weights<F: Framework>(
    device: &str,
    programs: &Arc<Programs<F>>,
    scheme: Scheme,
    mode: WeightMode,
) -> Result<(Proof, Proof), Error> {
    let (program, at) = weight_program();
    let prepared = Prepared::new(&program, mode == WeightMode::Inputs, Naming::Canonical, device)?;
    let weights = |pair: Pair| {
        let mut weights = Weights::new();
        for ((scale, by), offset) in pair.into_iter().zip(at) {
            weights.insert(WEIGHT_FILE, offset, scaled_rotation(scale, by));
        }
        weights
    };
    let shape = [1, CHANNELS, 1, CHANNELS];
    let x = Surface::from_tensor(&Tensor::from_f64(DType::F16, &shape, &input(1)));
    let mut program = AneProgram::new(
        device,
        programs,
        prepared,
        &weights(PAIRS[0]),
        (mode, scheme),
        Vec::new(),
    )?;
    let refuted = |evidence: String| {
        let message = format!("the weight mode {mode} does not work on this system: {evidence}");
        Error::new(ErrorKind::Proof, message)
            .hint("weights as inputs or baked-recompile need less of the system; `orion doctor` says which modes work")
    };
    for (step, pair) in PAIRS.into_iter().enumerate() {
        if step > 0 {
            program.update_weights(&weights(pair)).map_err(|e| refuted(e.to_string()))?;
        }
        let mut y = Surface::zeros(x.layout().clone());
        let mut bindings = Bindings::new();
        bindings.input("x", &x).output("y", &mut y);
        program.run(&mut bindings).map_err(|e| refuted(e.to_string()))?;
        let actual = y.to_tensor().to_f64_vec();
        if actual != expected(pair) {
            let old = PAIRS[..step].iter().rposition(|&p| actual == expected(p));
            let mixed = PAIRS.iter().flat_map(|a| PAIRS.iter().map(move |b| [a[0], b[1]]));
            let evidence = match old {
                Some(old) => format!(
                    "after weights were changed {step} times, the results are those of the weights after {old} changes"
                ),
                None if mixed.clone().any(|p| actual == expected(p)) => {
                    "the results are those of one new and one old weight".to_owned()
                }
                None => difference(&actual, &expected(pair)),
            };
            return Err(refuted(evidence));
        }
    }
    let evidence = format!("{} sets of two weights gave the right results", PAIRS.len());
    let what = format!("weights as {mode}");
    let proof = Proof { what, outcome: Outcome::Proven, evidence };
    Ok((proof, sharing(programs, &mut program)))
}

/// Input `i` of the weight program, `times` 1.
fn input(times: usize) -> Vec<f64> {
    (0..CHANNELS * CHANNELS).map(|i| (times * (i % 53)) as f64).collect()
}

/// What the program computes of its first input.
fn expected(pair: Pair) -> Vec<f64> {
    applied(pair, &input(1))
}

/// Weights of the proof of kept programs.
const KEPT: Pair = [(4.0, 5), (0.5, 6)];

/// Proves that compiled programs that were kept on disk load without the compiler and give the
/// right results. Where there is one of another process, it is that one; programs are kept from
/// then on. Where it fails, none are.
pub(crate) fn kept<F: Framework>(
    device: &str,
    programs: &Arc<Programs<F>>,
    scheme: Scheme,
) -> Proof {
    let what = "compiled programs kept on disk".to_owned();
    let Some(options) = programs.options.cache.clone() else {
        let evidence = "no directory was given for them".to_owned();
        return Proof { what, outcome: Outcome::NotTried, evidence };
    };
    let cache = Arc::new(Cache::new(options, programs.framework.host()));
    let tried = try_kept(device, programs, scheme, &cache);
    let (count, bytes) = cache.size();
    let place = format!("{count} in {}, {bytes} bytes", cache.directory().display());
    match tried {
        Ok(evidence) => {
            Proof { what, outcome: Outcome::Proven, evidence: format!("{evidence}; {place}") }
        }
        Err(error) => {
            programs.use_cache(None);
            let evidence = format!("{error}; none are kept or used");
            Proof { what, outcome: Outcome::Refuted, evidence }
        }
    }
}

fn try_kept<F: Framework>(
    device: &str,
    programs: &Arc<Programs<F>>,
    scheme: Scheme,
    cache: &Arc<Cache>,
) -> Result<&'static str, Error> {
    let (program, at) = weight_program();
    let prepared = Prepared::new(&program, false, Naming::Canonical, device)?;
    let mut weights = Weights::new();
    for ((scale, by), offset) in KEPT.into_iter().zip(at) {
        weights.insert(WEIGHT_FILE, offset, scaled_rotation(scale, by));
    }
    let descriptor = prepared.descriptor(&weights)?;
    let mut of_another = cache.has(&descriptor);
    if !of_another {
        // Nobody has shown that what is there can be used.
        cache.clear_except(&descriptor);
    }
    programs.use_cache(Some(cache.clone()));
    let x: Vec<f16> = (0..CHANNELS * CHANNELS).map(|i| f16::from_f64((i % 53) as f64)).collect();
    let x = Surface::from_slice(&[1, CHANNELS, 1, CHANNELS], &x);
    // The first run compiles and keeps what the second takes, unless it is there already; a
    // damaged file takes one more.
    for _ in 0..3 {
        programs.purge(&descriptor)?;
        let before = programs.counts();
        let mode = (WeightMode::BakedRecompile, scheme);
        let mut compiled =
            AneProgram::new(device, programs, prepared.clone(), &weights, mode, Vec::new())?;
        let mut y = Surface::zeros(x.layout().clone());
        let mut bindings = Bindings::new();
        bindings.input("x", &x).output("y", &mut y);
        let ran = compiled.run(&mut bindings);
        ran.map_err(|e| Error::new(ErrorKind::Evaluate, e.to_string()))?;
        let after = programs.counts();
        let actual = y.to_tensor().to_f64_vec();
        if actual != expected(KEPT) {
            cache.remove(&descriptor);
            cache.clear_except(&descriptor);
            let message =
                format!("it gives wrong results: {}", difference(&actual, &expected(KEPT)));
            return Err(Error::new(ErrorKind::Proof, message));
        }
        if after.kept_loaded > before.kept_loaded {
            return Ok(match of_another {
                true => {
                    "one that another process compiled gave the right results without the compiler"
                }
                false => {
                    "one that this process compiled gave the right results without the compiler"
                }
            });
        }
        if after.kept_refused > before.kept_refused {
            // The others are no better. This one was compiled and kept anew, so that the next
            // process can tell whether it is refused again.
            cache.clear_except(&descriptor);
            let whose = if of_another { "another" } else { "this" };
            let message =
                format!("one that {whose} process compiled is refused: {}", programs.refusal());
            return Err(Error::new(ErrorKind::Proof, message));
        }
        if after.compilations == before.compilations {
            let message = "the system keeps compiled programs itself, and does not let go of them";
            return Err(Error::new(ErrorKind::Proof, message));
        }
        if of_another {
            // It was damaged, so nobody has shown that the others can be used.
            cache.clear_except(&descriptor);
            of_another = false;
        }
    }
    let place = cache.directory().display();
    let message = format!("what the compiler leaves cannot be kept in {place}");
    Err(Error::new(ErrorKind::Proof, message))
}

/// What the program computes.
fn applied(pair: Pair, x: &[f64]) -> Vec<f64> {
    let by = pair[0].1 + pair[1].1;
    let scale = pair[0].0 * pair[1].0;
    let from = |i: usize| (i / CHANNELS + by) % CHANNELS * CHANNELS + i % CHANNELS;
    (0..CHANNELS * CHANNELS).map(|i| scale * x[from(i)]).collect()
}

/// Whether the system says how long the engine is at work. Where it does not, or a run that is
/// measured goes wrong, nothing is measured from then on.
pub(crate) fn statistics<F: Framework>(
    device: &str,
    programs: &Arc<Programs<F>>,
    scheme: Scheme,
) -> (Proof, Option<Duration>) {
    let run = || -> Result<Duration, String> {
        if !programs.framework.measure(true) {
            return Err("the framework has no such statistics".to_owned());
        }
        let words = |e: Error| e.to_string();
        let mut b = Builder::new("main");
        let x = b.input("x", TensorType::new(DType::F16, &[1, CHANNELS, 1, CHANNELS]));
        let y = b.add(x, x);
        b.rename(y, "y");
        let program = Program::with_function(b.finish(&[y]));
        let prepared = Prepared::new(&program, false, Naming::Canonical, device).map_err(words)?;
        let how = (WeightMode::BakedRecompile, scheme);
        let mut program =
            AneProgram::new(device, programs, prepared, &Weights::new(), how, Vec::new())
                .map_err(words)?;
        let layout = program.signature().ports[0].layout.clone();
        let x = Surface::from_tensor(&Tensor::from_f64(DType::F16, &layout.shape, &input(1)));
        let mut y = Surface::zeros(layout);
        let mut bindings = Bindings::new();
        bindings.input("x", &x).output("y", &mut y);
        let start = Instant::now();
        program.run(&mut bindings).map_err(|e| e.to_string())?;
        let whole = start.elapsed();
        if y.to_tensor().to_f64_vec() != input(2) {
            return Err("a run that is measured gives wrong results".to_owned());
        }
        match program.run_figures().hardware {
            None => Err("the system gives no times, or zeros".to_owned()),
            Some(time) if time > whole => {
                Err(format!("the engine's {time:?} are more than the {whole:?} of the call"))
            }
            Some(time) => Ok(time),
        }
    };
    let (outcome, evidence, time) = match run() {
        Ok(time) => (Outcome::Proven, format!("an addition takes {time:?}"), Some(time)),
        Err(seen) => {
            programs.framework.measure(false);
            (Outcome::NotTried, format!("nothing is measured: {seen}"), None)
        }
    };
    (Proof { what: "times of the hardware".to_owned(), outcome, evidence }, time)
}

/// Whether the engine and the host can use the same memory: the host writes what the engine reads,
/// twice, and reads it while the engine does; the engine writes what it reads next, which the host
/// has not seen, and what the host reads, twice.
fn sharing<F: Framework>(programs: &Arc<Programs<F>>, program: &mut AneProgram<F>) -> Proof {
    let mut result = || -> Result<(), String> {
        let layout = program.signature().ports[0].layout.clone();
        let mut surfaces = Vec::new();
        for _ in 0..3 {
            let memory =
                SharedMemory::new(programs, layout.size_bytes).map_err(|e| e.to_string())?;
            surfaces.push(Surface::in_device_memory(layout.clone(), Box::new(memory)));
        }
        let [mut x, mut y, mut z] = <[Surface; 3]>::try_from(surfaces).expect("three");
        let last = PAIRS[PAIRS.len() - 1];
        for times in [1, 2] {
            x.ready_to_write().map_err(|e| e.to_string())?;
            x.store(&Tensor::from_f64(DType::F16, &layout.shape, &input(times)));
            // The host goes on reading what the engine reads.
            x.ready_to_read().map_err(|e| e.to_string())?;
            let mut run = |from: &Surface, to: &mut Surface| {
                let mut bindings = Bindings::new();
                bindings.input("x", from).output("y", to);
                program.run(&mut bindings).map_err(|e| e.to_string())?;
                match program.run_figures().copied_bytes {
                    0 => Ok(()),
                    n => Err(format!("{n} bytes were copied: rows are elsewhere")),
                }
            };
            run(&x, &mut y)?;
            run(&y, &mut z)?;
            let once = applied(last, &input(times));
            for (surface, expected) in [(&z, applied(last, &once)), (&y, once), (&x, input(times))]
            {
                surface.ready_to_read().map_err(|e| e.to_string())?;
                let actual = surface.to_tensor().to_f64_vec();
                if actual != expected {
                    return Err(difference(&actual, &expected));
                }
            }
        }
        Ok(())
    };
    let (outcome, evidence) = match result() {
        Ok(()) => (Outcome::Proven, "4 runs read and wrote the caller's memory".to_owned()),
        Err(seen) => (Outcome::Refuted, format!("everything is copied instead: {seen}")),
    };
    Proof { what: "memory shared with the engine".to_owned(), outcome, evidence }
}
