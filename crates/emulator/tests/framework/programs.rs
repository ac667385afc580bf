//! Programs of every kind, and how many are loaded.

use crate::support::{Bench, assert_close, expected, layer, options, run, weights};
use orion_ane::{Call, Counts, Options, Outcome, WeightMode};
use orion_emulator::{AneModel, Behaviour, Fault, OwnClients};
use orion_runtime::{Device as _, ErrorKind, Executable};
use orion_tensor::Tolerance;
use orion_testing::{all_cases, run_once};

#[test]
fn the_client_adds_and_loses_nothing() {
    let bench = Bench::new(Behaviour::default());
    let options = Options { compile_budget: None, ..options(WeightMode::BakedRecompile) };
    let device = bench.open(options).unwrap();
    let model = AneModel::from_name("ane-model:m4").unwrap();
    let mut ran = 0;
    for case in all_cases() {
        let of = |device| run_once(device, &case.program, &case.weights, &case.contents);
        match (of(&model), of(&device)) {
            (Ok(expected), Ok(actual)) => {
                assert!(actual == expected, "{}: other bits", case.name);
                ran += 1;
            }
            (Err(_), Err(_)) => {}
            // Sources disagree on states; the client does not hand them over.
            (Ok(_), Err(e)) if e.to_string().contains("is a state") => {}
            (expected, actual) => panic!("{}: {expected:?}\n{actual:?}", case.name),
        }
    }
    assert!(ran > 50, "only {ran} cases ran");
    drop(device);
    bench.assert_empty();
}

#[test]
fn weights_as_inputs_give_the_same_results() {
    let bench = Bench::new(Behaviour::default());
    let device =
        bench.open(Options { compile_budget: None, ..options(WeightMode::Inputs) }).unwrap();
    let model = AneModel::from_name("ane-model:m4").unwrap();
    let (mut ran, mut with_weights) = (0, 0);
    for case in all_cases() {
        let of = |device| run_once(device, &case.program, &case.weights, &case.contents);
        let (Ok(expected), actual) = (of(&model), of(&device)) else { continue };
        // The rules may refuse the form that takes weights as inputs.
        let Ok(actual) = actual else { continue };
        ran += 1;
        with_weights += usize::from(case.weights.files().next().is_some());
        for (name, expected) in expected {
            let (actual, expected) = (actual[&name].to_f64_vec(), expected.to_f64_vec());
            Tolerance::F16Accum
                .check(&actual, &expected)
                .unwrap_or_else(|e| panic!("{} {name}: {e}", case.name));
        }
    }
    assert!(ran > 50 && with_weights > 5, "{ran} cases ran, {with_weights} with weights");
    drop(device);
    bench.assert_empty();
}

#[test]
fn layers_of_one_shape_share_a_program() {
    let bench = Bench::new(Behaviour::default());
    let device = bench.open(options(WeightMode::Inputs)).unwrap();
    let before = device.counts().compilations;
    let mut layers: Vec<Box<dyn Executable>> = Vec::new();
    for i in 0..4 {
        let (program, at) = layer(&format!("layer_{i}"));
        layers.push(device.compile(&program, &weights(at, i)).unwrap());
    }
    assert_eq!(device.counts().compilations, before + 1);
    let (_, at) = layer("any");
    for (i, layer) in layers.iter_mut().enumerate() {
        assert_close(&run(&mut **layer).unwrap(), &expected(at, i as u64));
    }
    drop(layers);
    drop(device);
    bench.assert_empty();
}

#[test]
fn programs_make_room_for_each_other() {
    // The client's own limit, and the system's, which it has to find out.
    for (own, systems) in [(3, 119), (80, 3)] {
        let bench = Bench::new(Behaviour { loaded_programs: systems, ..Behaviour::default() });
        let options = Options { live_programs: own, ..options(WeightMode::BakedRecompile) };
        let device = bench.open(options).unwrap();
        let (program, at) = layer("layer");
        let compile = |seed| device.compile(&program, &weights(at, seed)).unwrap();
        let mut programs: Vec<_> = (0..6).map(compile).collect();
        let compiled = device.counts().compilations;
        for _ in 0..3 {
            for (seed, program) in programs.iter_mut().enumerate() {
                assert_close(&run(&mut **program).unwrap(), &expected(at, seed as u64));
                assert!(bench.framework.living().loaded <= 3);
            }
        }
        let counts = device.counts();
        assert_eq!(counts.compilations, compiled, "loading again needs no compiler");
        assert!(counts.evictions >= 18, "{counts:?}");
        // The one that ran last is still loaded.
        let loads = bench.framework.calls().iter().filter(|&&c| c == Call::Load).count();
        run(&mut **programs.last_mut().unwrap()).unwrap();
        assert_eq!(bench.framework.calls().iter().filter(|&&c| c == Call::Load).count(), loads);
        drop(programs);
        drop(device);
        bench.assert_empty();
    }
}

/// Compiles programs and runs them in turn, checking every result.
fn run_in_turn(bench: &Bench, options: Options, count: u64) -> Counts {
    let device = bench.open(options).unwrap();
    let (program, at) = layer("layer");
    let compile = |seed| device.compile(&program, &weights(at, seed)).unwrap();
    let mut programs: Vec<_> = (0..count).map(compile).collect();
    for _ in 0..2 {
        for (seed, program) in programs.iter_mut().enumerate() {
            assert_close(&run(&mut **program).unwrap(), &expected(at, seed as u64));
        }
    }
    let counts = device.counts();
    assert_eq!(counts.loaded, bench.framework.living().loaded);
    counts
}

#[test]
fn another_connection_is_opened_before_a_program_is_unloaded() {
    let behaviour = Behaviour { loaded_per_client: 3, loaded_programs: 7, ..Behaviour::default() };
    let options = options(WeightMode::BakedRecompile);
    // (programs, connections, loaded at the end): what fits, what needs a second and a third
    // connection, and what does not fit the process.
    for (count, clients, loaded) in [(3, 1, 3), (5, 2, 5), (7, 3, 7), (9, 3, 7)] {
        let bench = Bench::new(behaviour);
        let counts = run_in_turn(&bench, options.clone(), count);
        assert_eq!((counts.clients, counts.loaded), (clients, loaded), "{counts:?}");
        assert_eq!(counts.evictions > 0, count > 7, "{counts:?}");
        bench.assert_empty();
    }
    // Where the process takes no more than a connection, another does not help and is closed.
    let bench = Bench::new(Behaviour { loaded_programs: 3, ..behaviour });
    let counts = run_in_turn(&bench, options.clone(), 5);
    assert_eq!((counts.clients, counts.loaded), (1, 3), "{counts:?}");
    bench.assert_empty();
    // And none is opened where that is not wanted.
    let bench = Bench::new(behaviour);
    let counts = run_in_turn(&bench, Options { clients: 1, ..options }, 5);
    assert_eq!((counts.clients, counts.loaded), (1, 3), "{counts:?}");
    assert!(!bench.framework.calls().contains(&Call::Client));
    bench.assert_empty();
}

#[test]
fn programs_move_when_their_connection_is_closed() {
    let behaviour = Behaviour { loaded_per_client: 3, ..Behaviour::default() };
    let (program, at) = layer("layer");
    for closed in [0, 1] {
        let bench = Bench::new(behaviour);
        let device = bench.open(options(WeightMode::BakedRecompile)).unwrap();
        let compile = |seed| device.compile(&program, &weights(at, seed)).unwrap();
        let mut programs: Vec<_> = (0..5).map(compile).collect();
        let before = device.counts();
        assert_eq!((before.clients, before.loaded), (2, 5), "{before:?}");
        bench.framework.close(closed);
        for (seed, program) in programs.iter_mut().enumerate() {
            assert_close(&run(&mut **program).unwrap(), &expected(at, seed as u64));
        }
        let counts = device.counts();
        assert_eq!((counts.clients, counts.loaded), (2, 5), "{closed}: {counts:?}");
        assert_eq!(
            (counts.evictions, counts.compilations),
            (0, before.compilations),
            "{closed}: {counts:?}"
        );
        drop(programs);
        drop(device);
        bench.assert_empty();
    }
}

#[test]
fn a_call_whose_connection_was_interrupted_is_made_again() {
    let bench = Bench::new(Behaviour::default());
    let device = bench.open(options(WeightMode::BakedRecompile)).unwrap();
    let (program, at) = layer("layer");
    let before = device.counts();
    // The model, its identifier, whether it is compiled; then compiling is interrupted.
    bench.framework.fail_at(bench.framework.calls().len() + 3, Fault::Interrupted);
    let mut compiled = device.compile(&program, &weights(at, 1)).unwrap();
    assert_eq!(device.counts().compilations, before.compilations + 2);
    bench.framework.fail_at(bench.framework.calls().len(), Fault::Interrupted);
    assert_close(&run(&mut *compiled).unwrap(), &expected(at, 1));
    assert_eq!(device.counts().retries, before.retries + 2);
    drop(compiled);
    drop(device);
    bench.assert_empty();
}

#[test]
fn without_a_connection_nothing_is_tried_for_long() {
    for clients in [1, 4] {
        let bench = Bench::new(Behaviour::default());
        let options = Options { clients, ..options(WeightMode::BakedRecompile) };
        let device = bench.open(options).unwrap();
        let (program, at) = layer("layer");
        let mut loaded = device.compile(&program, &weights(at, 1)).unwrap();
        bench.framework.close(0);
        let before = bench.framework.calls().len();
        // Another connection would have to be proven, which takes a compilation through this one.
        let ran = run(&mut *loaded).unwrap_err().to_string();
        assert!(ran.contains("every connection to the system's service was closed"), "{ran}");
        assert!(ran.contains("start the command again"), "{ran}");
        let compiled = device.compile(&program, &weights(at, 2)).err().unwrap().to_string();
        assert!(compiled.contains("code 4099"), "{compiled}");
        let calls = bench.framework.calls()[before..].to_vec();
        assert!(calls.len() < 30, "{calls:?}");
        drop(loaded);
        drop(device);
        bench.assert_empty();
    }
}

#[test]
fn connections_that_are_of_no_use_are_not_used() {
    for own_clients in [OwnClients::Missing, OwnClients::Refused, OwnClients::Silent] {
        let behaviour = Behaviour { loaded_per_client: 3, own_clients, ..Behaviour::default() };
        let bench = Bench::new(behaviour);
        let counts = run_in_turn(&bench, options(WeightMode::BakedRecompile), 5);
        assert_eq!((counts.clients, counts.loaded), (1, 3), "{own_clients:?}: {counts:?}");
        let opened = bench.framework.calls().iter().filter(|&&c| c == Call::Client).count();
        assert!((1..=5).contains(&opened), "{own_clients:?}: asked {opened} times");
        bench.assert_empty();
        let report = orion_ane::doctor(bench.framework.clone(), options(WeightMode::Inputs));
        let seen = report.observations.iter().find(|o| o.name == "own-connection").unwrap();
        assert_eq!(seen.outcome, Outcome::Refuted, "{}", seen.answer);
        bench.assert_empty();
    }
}

#[test]
fn equal_programs_are_one_and_others_are_not_mixed_up() {
    // Even where the system's identifier does not tell weights apart.
    for identifier_ignores_weights in [false, true] {
        let bench = Bench::new(Behaviour { identifier_ignores_weights, ..Behaviour::default() });
        let device = bench.open(options(WeightMode::BakedRecompile)).unwrap();
        let before = device.counts().compilations;
        let ((program, at), (other_names, _)) = (layer("one"), layer("two"));
        let mut programs = [
            (1, device.compile(&program, &weights(at, 1)).unwrap()),
            (2, device.compile(&program, &weights(at, 2)).unwrap()),
            (1, device.compile(&other_names, &weights(at, 1)).unwrap()),
        ];
        assert_eq!(device.counts().compilations, before + 2);
        for (seed, program) in &mut programs {
            assert_close(&run(&mut **program).unwrap(), &expected(at, *seed));
        }
    }
}

#[test]
fn what_the_system_has_compiled_is_not_compiled_again() {
    let bench = Bench::new(Behaviour::default());
    let (program, at) = layer("layer");
    let compiled = |bench: &Bench| {
        let calls = bench.framework.calls();
        calls.iter().filter(|&&c| c == Call::Compile).count()
    };
    let mut counts = Vec::new();
    for _ in 0..2 {
        let device = bench.open(options(WeightMode::BakedRecompile)).unwrap();
        let mut executable = device.compile(&program, &weights(at, 1)).unwrap();
        assert_close(&run(&mut *executable).unwrap(), &expected(at, 1));
        counts.push(compiled(&bench));
    }
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn a_process_that_may_not_compile_any_more_says_so() {
    let bench = Bench::new(Behaviour::default());
    let options = Options { compile_budget: Some(7), ..options(WeightMode::BakedRecompile) };
    let device = bench.open(options).unwrap();
    let (program, at) = layer("layer");
    let left = 7 - device.counts().compilations;
    let mut programs = Vec::new();
    for seed in 0..left {
        programs.push(device.compile(&program, &weights(at, seed as u64)).unwrap());
    }
    let error = device.compile(&program, &weights(at, 99)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::CompileBudget);
    let error = programs[0].update_weights(&weights(at, 99)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CompileBudget);
    assert!(error.to_string().contains("hint: start a new process"), "{error}");
    // What is there goes on with the weights that it has.
    assert_close(&run(&mut *programs[0]).unwrap(), &expected(at, 0));
}

#[test]
fn refusals_come_with_our_findings_and_are_not_repeated() {
    use orion_mil::op::Unary;
    use orion_mil::{Builder, Program, TensorType, Weights};
    let bench = Bench::new(Behaviour::default());
    let device = bench.open(options(WeightMode::BakedRecompile)).unwrap();
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(orion_tensor::DType::F16, &[1, 4, 8, 64]));
    let y = b.unary(Unary::Tan, x);
    b.rename(y, "y");
    let program = Program::with_function(b.finish(&[y]));
    let error = device.compile(&program, &Weights::new()).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("InvalidMILProgram") && text.contains("tan -> y"), "{text}");
    assert!(text.contains("ANE040") && text.contains("hint: `orion lint`"), "{text}");
    assert_eq!(device.counts().retries, 0);
    drop(device);
    bench.assert_empty();
}
