//! Experiments whose results nobody has published, or on which sources disagree.

use crate::directory::COMPILED_FILES;
use crate::executable::AneProgram;
use crate::laboratory::{
    CONSTANT, Laboratory, counting, one_file_each, products, program, scales, typed_program,
};
use crate::prepare::{Naming, Prepared};
use crate::programs::Programs;
use crate::report::{Observation, Report};
use crate::{
    Binding, CallError, Error, ErrorKind, Failure, Framework, Options, Outcome, Scheme, WeightFile,
    WeightMode, proof,
};
use orion_mil::op::{Binary, GeluMode, Reduction, Unary};
use orion_mil::{Builder, Program, ValueId, WEIGHT_FILE, Weights};
use orion_tensor::DType;

/// Runs every experiment. Takes a minute and up to 200 compilations, so it is best run in a
/// process of its own; what the system refuses after that is one of the results.
pub fn probe<F: Framework>(framework: F, options: Options) -> Report {
    let host = framework.host().clone();
    let options = Options { compile_budget: None, live_programs: usize::MAX, ..options };
    let programs = Programs::new(framework, options);
    let scheme = match proof::binding("probe", &programs) {
        Ok((scheme, _)) => scheme,
        Err(error) => {
            let question = "how is memory bound to inputs and outputs?";
            let seen = Observation::new("binding", question, Outcome::Refuted, error.to_string());
            return Report { host, observations: vec![seen] };
        }
    };
    let laboratory = Laboratory { programs, scheme };
    let mut observations = vec![reload(&laboratory, scheme), in_place_reload(&laboratory)];
    observations.extend(weights_buffer(&laboratory));
    observations.extend(new_instance(&laboratory));
    observations.extend([weights_in_one_file(&laboratory), weights_in_many_files(&laboratory)]);
    observations.extend([DType::F16, DType::F32].map(|d| strides(&laboratory, d)));
    observations.extend(numbers(&laboratory));
    observations.extend(operations(&laboratory));
    // Last, because it uses up what a process may do.
    observations.push(live_programs(&laboratory));
    Report { host, observations }
}

fn observed(name: &str, question: &str, result: Result<String, Error>) -> Observation {
    match result {
        Ok(answer) => Observation::new(name, question, Outcome::Proven, answer),
        Err(e) => Observation::new(name, question, Outcome::Refuted, e.to_string()),
    }
}

/// C43: a donor's compiled program with other weights in the place of its own.
fn reload<F: Framework>(laboratory: &Laboratory<F>, scheme: Scheme) -> Observation {
    let question =
        "does a compiled program run with other weights put in the place of its own, two of them?";
    let mode = WeightMode::BakedReload;
    let proven = proof::weights("probe", &laboratory.programs, scheme, mode);
    let mut seen = observed("C43", question, proven.map(|(p, _)| p.evidence));
    // How large the compiled weights are beside those in the file tells what they are.
    let (program, at) = products(2);
    let sizes = Prepared::new(&program, false, Naming::Canonical, "probe").and_then(|prepared| {
        let descriptor = prepared.descriptor(&scales(&at, &[2.0, 3.0]))?;
        let raw = laboratory.model(&descriptor)?;
        let framework = &laboratory.programs.framework;
        let failed = |e| Error::of_call(ErrorKind::Compile, "not compiled", e);
        framework.compile(&raw.model).map_err(failed)?;
        raw.directory.take(&raw.turn)?;
        let size = |name: &str| {
            std::fs::metadata(raw.directory.own().join(name)).map_or(-1.0, |m| m.len() as f64)
        };
        Ok([size(COMPILED_FILES[0]), size(COMPILED_FILES[1]), size("weights/weight.bin")])
    });
    if let Ok([network, data, file]) = sizes {
        seen = seen.figure("net_plist_bytes", network).figure("data_bytes", data);
        seen = seen.figure("weight_file_bytes", file);
    }
    seen
}

/// What a raw program of [`products`] is tried with: ones in, and the first number that comes out.
struct Trial<F: Framework> {
    x: F::Surface,
    y: F::Surface,
}

impl<F: Framework> Trial<F> {
    fn new(framework: &F) -> Result<Self, CallError> {
        let size = 32 * 32 * 2;
        let mut x = framework.surface(size)?;
        let one = orion_tensor::f16::ONE.to_le_bytes();
        framework.write(&mut x)?.chunks_exact_mut(2).for_each(|e| e.copy_from_slice(&one));
        framework.finish_writing(&x)?;
        Ok(Self { x, y: framework.surface(size)? })
    }

    /// A request for them, with a weights buffer or without.
    fn request(
        &self,
        framework: &F,
        weights: Option<&F::Surface>,
    ) -> Result<F::Request, CallError> {
        let bind = |surface| [Binding { index: 0, surface }];
        framework.request(&bind(&self.x), &bind(&self.y), weights)
    }

    fn first(
        &mut self,
        framework: &F,
        model: &F::Model,
        request: &F::Request,
    ) -> Result<f64, CallError> {
        framework.release(&mut self.y)?;
        framework.evaluate(model, request)?;
        let bytes = framework.read(&self.y)?;
        Ok(orion_tensor::f16::from_le_bytes([bytes[0], bytes[1]]).to_f64())
    }
}

/// C42 and C44: new weight files under a program that is unloaded and loaded again.
fn in_place_reload<F: Framework>(laboratory: &Laboratory<F>) -> Observation {
    let question = "are weight files read again when the same program is unloaded and loaded?";
    let result = || -> Result<String, Error> {
        let framework = &laboratory.programs.framework;
        let (program, at) = products(1);
        let prepared = Prepared::new(&program, false, Naming::Canonical, "probe")?;
        let old = prepared.descriptor(&scales(&at, &[2.0]))?;
        let new = prepared.descriptor(&scales(&at, &[5.0]))?;
        let raw = laboratory.model(&old)?;
        let failed = |e| Error::of_call(ErrorKind::Load, "the experiment failed", e);
        framework.compile(&raw.model).map_err(failed)?;
        framework.load(&raw.model, None).map_err(failed)?;
        let mut trial = Trial::new(framework).map_err(failed)?;
        let request = trial.request(framework, None).map_err(failed)?;
        let before = trial.first(framework, &raw.model, &request).map_err(failed)?;
        // Unloading removes the directory; it is put there again with the new file.
        raw.directory.take(&raw.turn)?;
        let bytes = new.weights.values().next().expect("one file");
        raw.directory.put("weights/weight.bin", bytes).map_err(|e| raw.directory.failed(&e))?;
        framework.unload(&raw.model).map_err(failed)?;
        raw.directory.place(&raw.turn)?;
        framework.load(&raw.model, None).map_err(failed)?;
        let after = trial.first(framework, &raw.model, &request).map_err(failed)?;
        framework.unload(&raw.model).map_err(failed)?;
        Ok(match (before, after) {
            (2.0, 2.0) => "no: the results are those of the old weights".to_owned(),
            (2.0, 5.0) => "yes: the results are those of the new weights".to_owned(),
            _ => format!("neither: {before} before and {after} after, expected 2 and then 2 or 5"),
        })
    };
    observed("C42", question, result())
}

/// C45: other weights in the buffer that a request may have, as numbers and as the weight file.
fn weights_buffer<F: Framework>(laboratory: &Laboratory<F>) -> [Observation; 2] {
    let (program, at) = products(1);
    let tried = |as_file: bool| -> Result<String, Error> {
        let framework = &laboratory.programs.framework;
        let prepared = Prepared::new(&program, false, Naming::Canonical, "probe")?;
        let new = scales(&at, &[5.0]);
        let file = prepared.descriptor(&new)?;
        let bytes: &[u8] = match as_file {
            true => file.weights.values().next().expect("one file"),
            false => new.get(WEIGHT_FILE, at[0]).expect("its weight").bytes(),
        };
        let raw = laboratory.model(&prepared.descriptor(&scales(&at, &[2.0]))?)?;
        let failed = |e| Error::of_call(ErrorKind::Evaluate, "the experiment failed", e);
        framework.compile(&raw.model).map_err(failed)?;
        framework.load(&raw.model, None).map_err(failed)?;
        let result = || -> Result<f64, CallError> {
            let mut buffer = framework.surface(bytes.len())?;
            framework.write(&mut buffer)?[..bytes.len()].copy_from_slice(bytes);
            framework.finish_writing(&buffer)?;
            let mut trial = Trial::new(framework)?;
            let request = trial.request(framework, Some(&buffer))?;
            trial.first(framework, &raw.model, &request)
        };
        let seen = result();
        framework.unload(&raw.model).map_err(failed)?;
        Ok(match seen.map_err(failed)? {
            2.0 => "no: the results are those of the compiled weights".to_owned(),
            5.0 => "yes: the results are those of the buffer".to_owned(),
            other => format!("neither: {other}, expected 2 or 5"),
        })
    };
    let question = |what: &str| {
        format!("does a request's weights buffer, {what}, stand for a program's constants?")
    };
    [
        observed("C45", &question("which holds the numbers"), tried(false)),
        observed("C45-file", &question("which holds the weight file"), tried(true)),
    ]
}

/// C46: an instance of a loaded program with a file for its constant, which is called by its name
/// or by that of its own file.
fn new_instance<F: Framework>(laboratory: &Laboratory<F>) -> [Observation; 2] {
    let (program, at) = products(1);
    let tried = |symbol: &str| -> Result<String, Error> {
        let framework = &laboratory.programs.framework;
        let prepared = Prepared::new(&program, false, Naming::AsWritten, "probe")?;
        let old = prepared.descriptor(&scales(&at, &[2.0]))?;
        let new = prepared.descriptor(&scales(&at, &[5.0]))?;
        let base = laboratory.model(&old)?;
        let failed = |e| Error::of_call(ErrorKind::Load, "the experiment failed", e);
        framework.compile(&base.model).map_err(failed)?;
        // Beside the program's own file, where the service reads.
        base.directory.take(&base.turn)?;
        let (name, bytes) =
            ("weights/instance.bin", new.weights.values().next().expect("one file"));
        base.directory.put(name, bytes).map_err(|e| base.directory.failed(&e))?;
        base.directory.place(&base.turn)?;
        let identifier = framework.identifier(&base.model).map_err(failed)?;
        let file = framework.temporary_directory().join(identifier).join(name);
        let client = framework.client().map_err(failed)?;
        framework.load(&base.model, Some(&client)).map_err(failed)?;
        let result = || -> Result<(f64, f64), CallError> {
            let mut trial = Trial::new(framework)?;
            let instance = framework.model(&old)?;
            framework.load_instance(&instance, &base.model, &WeightFile { symbol, file: &file })?;
            let request = trial.request(framework, None)?;
            let of_instance = trial.first(framework, &instance, &request);
            framework.unload(&instance)?;
            Ok((of_instance?, trial.first(framework, &base.model, &request)?))
        };
        let seen = result();
        framework.unload(&base.model).map_err(failed)?;
        Ok(match seen.map_err(failed)? {
            (2.0, 2.0) => "no: the results are those of the compiled weights".to_owned(),
            (5.0, 2.0) => {
                "yes: the results are those of the file, and of the program as before".to_owned()
            }
            (instance, base) => format!(
                "neither: {instance} of the instance, expected 2 or 5, and {base} of the program, expected 2"
            ),
        })
    };
    [("C46", CONSTANT, "name"), ("C46-file", WEIGHT_FILE, "file")].map(|(name, symbol, what)| {
        let question = format!(
            "does an instance of a program take other weights from a file, for the constant by its {what}?"
        );
        match tried(symbol) {
            Err(error) if error.failure() == Some(Failure::Absent) => {
                let reason = error.call().map_or("", |call| &call.text);
                let answer = format!("the system has no such call: {reason}");
                Observation::new(name, &question, Outcome::NotTried, answer)
            }
            result => observed(name, &question, result),
        }
    })
}

/// C102: how many constants a program may have in one file.
fn weights_in_one_file<F: Framework>(laboratory: &Laboratory<F>) -> Observation {
    let question = "does a program with 17 weights in one file compile and run?";
    let (program, at) = products(17);
    let input = counting(32 * 32);
    let output = laboratory.run(&program, &scales(&at, &[1.0; 17]), &input);
    let right = output.map(|output| {
        if output == input { "yes, with right results" } else { "yes, with wrong results" }
            .to_owned()
    });
    observed("C102-one-file", question, right)
}

/// C102: how many weight files a program may have.
fn weights_in_many_files<F: Framework>(laboratory: &Laboratory<F>) -> Observation {
    let question = "does a program with 17 weights in 17 files compile?";
    let result = || -> Result<String, Error> {
        let (program, at) = products(17);
        let prepared = Prepared::new(&program, false, Naming::Canonical, "probe")?;
        let descriptor = prepared.descriptor(&scales(&at, &[1.0; 17]))?;
        let raw = laboratory.model(&one_file_each(&descriptor, &at, 1.0))?;
        let failed = |e| Error::of_call(ErrorKind::Compile, "no", e);
        laboratory.programs.framework.compile(&raw.model).map_err(failed)?;
        Ok("yes".to_owned())
    };
    observed("C102-many-files", question, result())
}

/// U1: where the compiler says that rows lie.
fn strides<F: Framework>(laboratory: &Laboratory<F>, dtype: DType) -> Observation {
    let question = format!("where do the rows of {dtype} [1, 768, 1, 16] lie?");
    let name = format!("U1-{dtype}");
    let program = typed_program(dtype, &[1, 768, 1, 16], |b, x| b.add(x, x));
    let result = || -> Result<_, Error> {
        let prepared = Prepared::new(&program, false, Naming::Canonical, "probe")?;
        let raw = laboratory.model(&prepared.descriptor(&Weights::new())?)?;
        let framework = &laboratory.programs.framework;
        let failed = |e| Error::of_call(ErrorKind::Compile, "the experiment failed", e);
        framework.compile(&raw.model).map_err(failed)?;
        framework.load(&raw.model, None).map_err(failed)?;
        let attributes = framework.attributes(&raw.model).map_err(failed)?;
        framework.unload(&raw.model).map_err(failed)?;
        Ok(attributes)
    };
    match result() {
        Ok(attributes) => {
            let answer = match &attributes {
                Some(_) => "as in the attributes",
                None => "the system does not say",
            };
            let mut seen = observed(&name, &question, Ok(answer.to_owned()));
            seen.attributes = attributes;
            seen
        }
        Err(e) => observed(&name, &question, Err(e)),
    }
}

/// A question, a program and the numbers it gets; the first result is the answer.
type Experiment = (&'static str, &'static str, Program, Vec<f64>);

/// What comes out where fp16 or the engine's own arithmetic shows.
fn numbers<F: Framework>(laboratory: &Laboratory<F>) -> Vec<Observation> {
    let row: &[usize] = &[1, 1, 1, 64];
    let with = |value: f64| vec![value; 64];
    let square = |b: &mut Builder, x: ValueId| b.matmul(x, x, false, true);
    let experiments: Vec<Experiment> = vec![
        (
            "C60",
            "64 products of 22.5 by 22.5 sum to 32400, below 32768: what comes out?",
            program(row, square),
            with(22.5),
        ),
        (
            "C60-above",
            "64 products of 23 by 23 sum to 33856, above 32768: infinity?",
            program(row, square),
            with(23.0),
        ),
        (
            "C69",
            "2049 ones summed with reduce_sum: 2049 cannot be, 2048 or 2050?",
            program(&[1, 1, 1, 2049], |b, x| b.reduce(Reduction::Sum, x, &[3], true)),
            vec![1.0; 2049],
        ),
        (
            "C70-gelu",
            "gelu(0): 0 or -0.00075?",
            program(row, |b, x| b.gelu(x, GeluMode::Exact)),
            with(0.0),
        ),
        (
            "C70-sigmoid",
            "sigmoid(0.25), 0.5622 if exact",
            program(row, |b, x| b.unary(Unary::Sigmoid, x)),
            with(0.25),
        ),
        (
            "C72",
            "infinity times one: infinity or -52416?",
            program(row, |b, x| b.binary(Binary::Mul, x, x)),
            with(f64::INFINITY),
        ),
        (
            "C25",
            "a slice at an offset of the last axis of 5000: 5000, or infinity?",
            program(row, |b, x| {
                let slice = b.slice(x, &[0, 0, 0, 32], &[1, 1, 1, 32]);
                b.add(slice, slice)
            }),
            with(5000.0),
        ),
        (
            "C31",
            "does joining along the last axis compile?",
            program(row, |b, x| {
                let twice = b.add(x, x);
                b.concat(&[x, twice], 3)
            }),
            with(1.0),
        ),
        (
            "C18",
            "does softmax over 257 numbers run?",
            program(&[1, 1, 1, 257], |b, x| b.softmax(x, 3)),
            vec![1.0; 257],
        ),
        (
            "C21",
            "does tile compile and run?",
            program(row, |b, x| b.tile(x, &[1, 1, 1, 2])),
            with(1.0),
        ),
    ];
    let run = |(name, question, program, input): Experiment| {
        let result = laboratory.run(&program, &Weights::new(), &input);
        let first = result.as_ref().ok().and_then(|output| output.first().copied());
        let answer = result.map(|output| format!("{}", output[0]));
        let seen = observed(name, question, answer);
        match first.filter(|v| v.is_finite()) {
            Some(value) => seen.figure("first_result", value),
            None => seen,
        }
    };
    experiments.into_iter().map(run).collect()
}

/// Which operations of one operand compile and run, by the name that MIL gives them.
fn operations<F: Framework>(laboratory: &Laboratory<F>) -> Vec<Observation> {
    use Unary::*;
    let all = [
        Abs,
        Acos,
        Asin,
        Atan,
        Atanh,
        Ceil,
        Cos,
        Cosh,
        Erf,
        Exp,
        Exp2,
        Floor,
        Round,
        Relu,
        Sigmoid,
        Sign,
        Silu,
        Sin,
        Sinh,
        Softplus,
        Softsign,
        Sqrt,
        Square,
        Tan,
        Tanh,
        Inverse { epsilon: 1e-4 },
        Log { epsilon: 1e-4 },
        Rsqrt { epsilon: 1e-4 },
    ];
    let try_one = |kind: Unary| {
        let program = program(&[1, 1, 1, 64], |b, x| b.unary(kind, x));
        let result = laboratory.run(&program, &Weights::new(), &[0.5; 64]);
        let first = result.as_ref().ok().and_then(|output| output.first().copied());
        let answer = result.map(|output| format!("of 0.5 is {}", output[0]));
        let name = format!("operation {}", operation_name(&program));
        let seen = observed(&name, "does it compile and run?", answer);
        match first.filter(|v| v.is_finite()) {
            Some(value) => seen.figure("first_result", value),
            None => seen,
        }
    };
    all.into_iter().map(try_one).collect()
}

/// What the last operation of a program is called.
fn operation_name(program: &Program) -> &str {
    let function = program.main().expect("one function");
    function.body.operations.last().map_or("none", |o| o.name.as_str())
}

/// C48: how many programs can be loaded at the same time. Stops at 150.
fn live_programs<F: Framework>(laboratory: &Laboratory<F>) -> Observation {
    const MOST: usize = 150;
    let question = "how many programs can be loaded at the same time?";
    let (program, at) = products(1);
    let mut loaded: Vec<AneProgram<F>> = Vec::new();
    let mut ended = format!("at least {MOST}");
    let evictions = laboratory.programs.counts().evictions;
    for i in 0..MOST {
        let weights = scales(&at, &[(i + 1) as f64]);
        match laboratory.compile(&program, &weights) {
            Ok(next) => loaded.push(next),
            Err(e) => {
                ended = format!("{i} were loaded when the next failed: {e}");
                break;
            }
        }
        if laboratory.programs.counts().evictions > evictions {
            ended = format!("{i}: the next was only loaded after another was unloaded");
            break;
        }
    }
    let counts = laboratory.programs.counts();
    let at_once = loaded.len() - (counts.evictions - evictions).min(loaded.len());
    observed("C48", question, Ok(ended))
        .figure("loaded", at_once as f64)
        .figure("connections", counts.clients as f64)
        .figure("compilations", counts.compilations as f64)
}
