//! Whether the device works on a system, and which part does not.

use crate::laboratory::{Laboratory, counting, program};
use crate::limits;
use crate::programs::Programs;
use crate::report::{Observation, Report};
use crate::{Framework, Options, Outcome, Proof, WeightMode, proof};
use orion_mil::op::Unary;
use orion_mil::{TensorType, WEIGHT_FILE, Weights};
use orion_tensor::{DType, Tensor};
use std::time::Instant;

/// Tries what the device needs, one thing after the other: how memory is bound, each weight mode,
/// and how long compiling and running take. Takes a few seconds, and about 16 compilations.
pub fn doctor<F: Framework>(framework: F, options: Options) -> Report {
    let host = framework.host().clone();
    let programs = Programs::new(framework, options);
    let mut observations = Vec::new();
    let question = "how is memory bound to inputs and outputs?";
    let start = Instant::now();
    let scheme = match proof::binding("doctor", &programs) {
        Ok((scheme, proof)) => {
            let seen = Observation::new("binding", question, Outcome::Proven, proof.evidence);
            observations.push(seen.figure("seconds", start.elapsed().as_secs_f64()));
            scheme
        }
        Err(error) => {
            // Nothing else can be told then.
            let answer = error.to_string();
            observations.push(Observation::new("binding", question, Outcome::Refuted, answer));
            return Report { host, observations };
        }
    };
    let mut sharing = None;
    for mode in WeightMode::ALL {
        let start = Instant::now();
        let compiled = programs.counts().compilations;
        let question = format!("are changed weights used when they are {mode}?");
        let (outcome, answer) = match proof::weights("doctor", &programs, scheme, mode) {
            Ok((proof, shared)) => {
                sharing = Some(shared);
                (Outcome::Proven, proof.evidence)
            }
            Err(error) => (Outcome::Refuted, error.to_string()),
        };
        let compilations = programs.counts().compilations - compiled;
        observations.push(
            Observation::new(&mode.to_string(), &question, outcome, answer)
                .figure("seconds", start.elapsed().as_secs_f64())
                .figure("compilations", compilations as f64),
        );
    }
    if let Some(Proof { outcome, evidence, .. }) = sharing {
        let question = "can host and engine use the same memory, without copies?";
        observations.push(Observation::new("sharing", question, outcome, evidence));
    }
    let kept = proof::kept("doctor", &programs, scheme);
    programs.use_cache(None);
    let question = "are compiled programs that were kept on disk loaded without the compiler?";
    observations.push(Observation::new("kept-programs", question, kept.outcome, kept.evidence));
    let laboratory = Laboratory { programs, scheme };
    observations.push(dispatch(&laboratory));
    observations.push(product(&laboratory));
    observations.push(own_client(&laboratory));
    observations.push(loaded_programs(&laboratory));
    observations.push(hardware_time(&laboratory));
    observations.push(counts(&laboratory));
    Report { host, observations }
}

/// What a program costs that does next to nothing.
fn dispatch<F: Framework>(laboratory: &Laboratory<F>) -> Observation {
    let relu = program(&[1, 32, 1, 32], |b, x| b.unary(Unary::Relu, x));
    timed(laboratory, "dispatch", "how long does a program take that does nothing?", || {
        (relu, Weights::new(), counting(32 * 32))
    })
}

/// A product of a useful size.
fn product<F: Framework>(laboratory: &Laboratory<F>) -> Observation {
    const CHANNELS: usize = 256;
    timed(
        laboratory,
        "product",
        "how long does a product of [256, 256] by [256, 256] take, with what is copied for it?",
        || {
            let mut weights = Weights::new();
            let values: Vec<f64> = (0..CHANNELS * CHANNELS)
                .map(|i| f64::from(u8::from(i / CHANNELS == i % CHANNELS)))
                .collect();
            let shape = [CHANNELS, CHANNELS, 1, 1];
            let tensor = Tensor::from_f64(DType::F16, &shape, &values);
            let offset = weights.append(WEIGHT_FILE, tensor);
            let product = program(&[1, CHANNELS, 1, CHANNELS], |b, x| {
                let ty = TensorType::new(DType::F16, &shape);
                let weight = b.blob("w", ty, WEIGHT_FILE, offset);
                b.conv_1x1(x, weight, None)
            });
            (product, weights, counting(CHANNELS * CHANNELS))
        },
    )
}

/// Compiles and times a program whose result is its input.
fn timed<F: Framework>(
    laboratory: &Laboratory<F>,
    name: &str,
    question: &str,
    make: impl FnOnce() -> (orion_mil::Program, Weights, Vec<f64>),
) -> Observation {
    let (program, weights, input) = make();
    let run = || {
        let start = Instant::now();
        let mut compiled = laboratory.compile(&program, &weights)?;
        let compile = start.elapsed().as_secs_f64();
        let output = laboratory.run(&program, &weights, &input)?;
        let seconds = laboratory.time(&mut compiled, &input)?;
        Ok::<_, crate::Error>((compile, seconds, output == input))
    };
    match run() {
        Ok((compile, seconds, right)) => {
            let outcome = if right { Outcome::Proven } else { Outcome::Refuted };
            let answer = if right { "the results are right" } else { "the results are wrong" };
            Observation::new(name, question, outcome, answer.to_owned())
                .figure("compile_ms", compile * 1e3)
                .figure("run_us", seconds * 1e6)
        }
        Err(e) => Observation::new(name, question, Outcome::Refuted, e.to_string()),
    }
}

/// What lifts the limit of programs that one connection to the system's service can load.
fn own_client<F: Framework>(laboratory: &Laboratory<F>) -> Observation {
    let question = "do programs run through a connection of their own to the system's service?";
    let (outcome, answer) = match laboratory.programs.check_own_client() {
        Ok(()) => (Outcome::Proven, "the results are right".to_owned()),
        Err(error) => (Outcome::Refuted, error.to_string()),
    };
    Observation::new("own-connection", question, outcome, answer)
}

/// How many programs can be loaded at the same time. All of them are one compiled program, so that
/// no compilations are used up.
fn loaded_programs<F: Framework>(laboratory: &Laboratory<F>) -> Observation {
    const MOST: usize = 130;
    let question = "how many programs can be loaded at the same time?";
    let limits = match limits::count(laboratory, MOST) {
        Ok(limits) => limits,
        Err(e) => {
            return Observation::new("loaded-programs", question, Outcome::Refuted, e.to_string());
        }
    };
    let said = |count: usize| match count {
        MOST => format!("at least {MOST}"),
        count => count.to_string(),
    };
    let answer = format!(
        "{} through one connection, {} in the process",
        said(limits.of_connection),
        said(limits.of_process)
    );
    Observation::new("loaded-programs", question, Outcome::Proven, answer)
        .figure("through_one_connection", limits.of_connection as f64)
        .figure("in_the_process", limits.of_process as f64)
        .figure("load_ms", limits.load_seconds * 1e3)
}

/// How long the engine itself is at work, where the system says so. Last, because two projects saw
/// nothing but zeros, and nobody says that it always works.
fn hardware_time<F: Framework>(laboratory: &Laboratory<F>) -> Observation {
    let question = "how long is the engine at work in an addition of 1024 numbers?";
    let (proof, time) = proof::statistics("doctor", &laboratory.programs, laboratory.scheme);
    let seen = Observation::new("statistics", question, proof.outcome, proof.evidence);
    match time {
        Some(time) => seen.figure("hardware_us", time.as_secs_f64() * 1e6),
        None => seen,
    }
}

/// What the client had to do for all this.
fn counts<F: Framework>(laboratory: &Laboratory<F>) -> Observation {
    let counts = laboratory.programs.counts();
    let answer = match counts.retries {
        0 => "every call worked the first time".to_owned(),
        n => format!("{n} calls had to be made again"),
    };
    Observation::new("calls", "what did it take?", Outcome::Proven, answer)
        .figure("compilations", counts.compilations as f64)
        .figure("retries", counts.retries as f64)
        .figure("evictions", counts.evictions as f64)
}
