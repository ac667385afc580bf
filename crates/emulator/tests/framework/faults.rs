//! Every call fails once: no leak, no wrong result.

use crate::support::{
    Bench, assert_close, expected, expected_of, layer, layer_of, options, run, run_in, weights,
};
use orion_ane::{Ane, Call, ErrorKind, Failure, Options, Retry, WeightMode};
use orion_emulator::{Behaviour, Fault, StandIn};
use orion_runtime::{Device as _, Executable};
use std::error::Error;
use std::ops::Range;

type Outcome = Result<(), Box<dyn Error>>;

/// Opens the device, runs three layers in turn although two fit, changes the weights of two of
/// them and runs again, in memory that the engine sees. Every result is checked.
pub(crate) fn work(device: &Ane<StandIn>) -> Outcome {
    let (program, at) = layer_of(SHARED, "layer");
    let mut layers: Vec<(u64, Box<dyn Executable>)> = Vec::new();
    for seed in 0..3 {
        layers.push((seed, device.compile(&program, &weights(at, seed))?));
    }
    for change in [false, true] {
        if change {
            for (seed, layer) in &mut layers[..2] {
                let new = *seed + 10;
                layer.update_weights(&weights(at, new))?;
                *seed = new;
            }
        }
        for (seed, layer) in &mut layers {
            let actual = run_in(&mut **layer, &|layout| device.surface(layout))?;
            assert_close(&actual, &expected_of(SHARED, at, *seed));
        }
    }
    // And what is copied.
    let (program, at) = layer("copied");
    let mut copied = device.compile(&program, &weights(at, 4))?;
    assert_close(&run(&mut *copied)?, &expected(at, 4));
    Ok(())
}

/// Positions of a layer whose rows need no gaps.
const SHARED: usize = 64;

fn with(mode: WeightMode, attempts: usize) -> Options {
    let retry = Retry { attempts, ..Retry::default() };
    Options { live_programs: 2, retry, ..options(mode) }
}

fn session(bench: &Bench, options: Options) -> Outcome {
    work(&bench.open(options)?)
}

/// The calls of a session, by number. Where connections are short of room, those after the first
/// that fails for it; those before are the same as elsewhere.
fn calls_of_a_session(behaviour: Behaviour, mode: WeightMode) -> Range<usize> {
    let bench = Bench::new(behaviour);
    session(&bench, with(mode, 5)).unwrap();
    bench.assert_empty();
    let calls = bench.framework.calls();
    let opened = calls.iter().position(|&call| call == Call::Client);
    assert_eq!(opened.is_some(), behaviour.loaded_per_client == 1);
    opened.map_or(0, |opened| opened - 3)..calls.len()
}

/// Every weight mode where there is room for everything, and a system where every connection
/// takes one program only.
fn cases() -> impl Iterator<Item = (Behaviour, WeightMode)> {
    let roomy = WeightMode::ALL.map(|mode| (Behaviour::default(), mode));
    let tight = Behaviour { loaded_per_client: 1, ..Behaviour::default() };
    roomy.into_iter().chain([(tight, WeightMode::BakedRecompile)])
}

#[test]
fn what_fails_once_for_no_reason_is_done_again() {
    for (system, mode) in cases() {
        for number in calls_of_a_session(system, mode) {
            let bench = Bench::new(system);
            bench.framework.fail_at(number, Fault::Transient);
            let outcome = session(&bench, with(mode, 5));
            let call = bench.framework.calls()[number];
            outcome.unwrap_or_else(|e| panic!("{mode}, call {number} {call:?}: {e}"));
            bench.assert_empty();
        }
    }
}

#[test]
fn what_fails_for_good_is_an_error_and_leaves_nothing() {
    for (system, mode) in cases() {
        let mut failures = 0;
        for number in calls_of_a_session(system, mode) {
            let bench = Bench::new(system);
            let fault = Fault::Says("Failed with status=0x1d : InvalidMILProgram".to_owned());
            bench.framework.fail_at(number, fault);
            failures += usize::from(session(&bench, with(mode, 1)).is_err());
            bench.assert_empty();
            // And what comes after it is right.
            if number % 8 == 0 {
                session(&bench, with(mode, 1)).unwrap();
                bench.assert_empty();
            }
        }
        assert!(failures > 20, "{mode}: {failures}");
    }
}

#[test]
fn a_call_that_throws_is_not_made_again() {
    let thrown = || Fault::Throws("NSInvalidArgumentException: no timeout".to_owned());
    let once = |mode| Options { wait: |_| panic!("tried again"), ..with(mode, 5) };
    for mode in WeightMode::ALL {
        let mut failures = 0;
        for number in calls_of_a_session(Behaviour::default(), mode).step_by(3) {
            let bench = Bench::new(Behaviour::default());
            bench.framework.fail_at(number, thrown());
            failures += usize::from(session(&bench, once(mode)).is_err());
            bench.assert_empty();
        }
        assert!(failures > 7, "{mode}: {failures}");
    }
    let bench = Bench::new(Behaviour::default());
    bench.framework.fail_at(0, thrown());
    let error = bench.open(once(WeightMode::Inputs)).err().unwrap();
    assert_eq!(error.failure(), Some(Failure::Exception));
    let words = error.to_string();
    assert!(words.contains("threw NSInvalidArgumentException: no timeout"), "{words}");
    assert!(words.contains("`orion doctor --json`"), "{words}");
}

#[test]
fn an_update_that_fails_leaves_the_old_weights_or_none() {
    for mode in WeightMode::ALL {
        let (program, at) = layer("layer");
        let new = expected(at, 2);
        for after in 0..20 {
            let bench = Bench::new(Behaviour::default());
            let device = bench.open(with(mode, 1)).unwrap();
            let mut executable = device.compile(&program, &weights(at, 1)).unwrap();
            let old = run(&mut *executable).unwrap();
            let fault = Fault::Says("Entitlement".to_owned());
            bench.framework.fail_at(bench.framework.calls().len() + after, fault);
            let updated = executable.update_weights(&weights(at, 2)).is_ok();
            // The fault may lie after the update.
            let result = run(&mut *executable).or_else(|_| run(&mut *executable));
            if updated {
                assert_close(&result.unwrap(), &new);
            } else if mode != WeightMode::Inputs {
                assert_eq!(result.unwrap(), old, "{mode}, {after} calls later");
            } else {
                // Some of the old and some of the new would be wrong.
                let error = result.unwrap_err().to_string();
                assert!(error.contains("failed halfway"), "{error}");
                executable.update_weights(&weights(at, 2)).unwrap();
                assert_close(&run(&mut *executable).unwrap(), &new);
            }
            drop(executable);
            drop(device);
            bench.assert_empty();
        }
    }
}

#[test]
fn a_process_that_was_killed_leaves_nothing_that_misleads_the_next() {
    for (system, mode) in cases() {
        for number in calls_of_a_session(system, mode).step_by(3) {
            let bench = Bench::new(system);
            // Everything after the fatal call fails, and nobody cleans up.
            for later in number..number + 500 {
                bench.framework.fail_at(later, Fault::Says("Entitlement".to_owned()));
            }
            if let Ok(device) = bench.open(with(mode, 1)) {
                let _ = work(&device);
                std::mem::forget(device);
            }
            let next = Bench {
                framework: StandIn::new("m4".parse().unwrap(), bench.directory.path(), system),
                directory: bench.directory,
            };
            session(&next, with(mode, 5)).unwrap_or_else(|e| panic!("{mode}, {number}: {e}"));
        }
    }
}

#[test]
fn damaged_leftovers_are_written_anew() {
    let bench = Bench::new(Behaviour::default());
    let (program, at) = layer("layer");
    let device = bench.open(options(WeightMode::BakedRecompile)).unwrap();
    let executable = device.compile(&program, &weights(at, 1)).unwrap();
    // The directories as a crash could leave them: half a weight file, no program.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(bench.directory.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.path().join("weights").is_dir() {
            let to = copy.path().join(entry.file_name());
            std::fs::create_dir_all(to.join("weights")).unwrap();
            std::fs::write(to.join("weights/weight.bin"), "half").unwrap();
            std::fs::copy(entry.path().join("model.mil"), to.join("model.mil")).unwrap();
        }
    }
    assert!(std::fs::read_dir(copy.path()).unwrap().next().is_some());
    drop(executable);
    let framework = StandIn::new("m4".parse().unwrap(), copy.path(), Behaviour::default());
    let bench = Bench { directory: copy, framework };
    let device = bench.open(options(WeightMode::BakedRecompile)).unwrap();
    let mut executable = device.compile(&program, &weights(at, 1)).unwrap();
    assert_close(&run(&mut *executable).unwrap(), &expected(at, 1));
    drop(executable);
    drop(device);
    bench.assert_empty();
}

#[test]
fn a_system_where_nothing_compiles_is_told_at_once() {
    let bench = Bench::new(Behaviour { compilations: Some(0), ..Behaviour::default() });
    let error = bench.open(options(WeightMode::Inputs)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Compile);
    assert!(error.to_string().contains("CompilationFailure"), "{error}");
    bench.assert_empty();
}
