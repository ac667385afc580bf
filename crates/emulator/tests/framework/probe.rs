//! Experiments of `orion probe` over systems that answer otherwise.

use crate::support::{Bench, options};
use orion_ane::{Call, Options, Outcome, WeightMode};
use orion_emulator::{Behaviour, Fault, Instances, OwnClients};

/// The two rows about instances of a program: how they came out, and what was seen.
fn instances(bench: &Bench) -> [(Outcome, String); 2] {
    // No more programs are loaded than the experiments before the last need.
    let options = Options { clients: 1, ..options(WeightMode::Inputs) };
    let report = orion_ane::probe(bench.framework.clone(), options);
    bench.assert_empty();
    ["C46", "C46-file"].map(|name| {
        let seen = report.observations.iter().find(|o| o.name == name).unwrap();
        (seen.outcome, seen.answer.clone())
    })
}

fn bench(instances: Instances) -> Bench {
    let few = Behaviour { loaded_programs: 3, ..Behaviour::default() };
    Bench::new(Behaviour { instances, ..few })
}

#[test]
fn instances_with_other_weights_are_tried_on_every_system() {
    let cases = [
        (Instances::Missing, Outcome::NotTried, "no such call: there is no class _ANEWeight"),
        (Instances::Refused, Outcome::Refuted, "No entitlement!"),
        (Instances::Ignored, Outcome::Proven, "no: the results are those of the compiled weights"),
        (Instances::Used, Outcome::Proven, "yes: the results are those of the file"),
    ];
    for (system, outcome, words) in cases {
        let [by_name, by_file] = instances(&bench(system));
        assert_eq!(by_name.0, outcome, "{system:?}: {}", by_name.1);
        assert!(by_name.1.contains(words), "{system:?}: {}", by_name.1);
        if system == Instances::Used {
            assert_eq!(by_file.0, Outcome::Refuted);
            assert!(by_file.1.contains("there is no weight"), "{}", by_file.1);
        } else {
            assert_eq!(by_file, by_name, "{system:?}");
        }
    }
}

#[test]
fn an_experiment_that_fails_is_an_observation_and_leaves_nothing() {
    // Where there is no connection to load the program through.
    let behaviour = Behaviour { own_clients: OwnClients::Missing, ..Behaviour::default() };
    let behaviour = Behaviour { loaded_programs: 3, ..behaviour };
    let [(outcome, answer), _] = instances(&Bench::new(behaviour));
    assert_eq!(outcome, Outcome::Refuted);
    assert!(answer.contains("there is no client"), "{answer}");
    // And where the call throws.
    let first = bench(Instances::Used);
    instances(&first);
    let calls = first.framework.calls();
    let at = calls.iter().position(|&call| call == Call::LoadInstance).unwrap();
    let bench = bench(Instances::Used);
    bench.framework.fail_at(at, Fault::Throws("NSInvalidArgumentException".to_owned()));
    let [(outcome, answer), _] = instances(&bench);
    assert_eq!(outcome, Outcome::Refuted);
    assert!(answer.contains("threw NSInvalidArgumentException"), "{answer}");
    let tried = bench.framework.calls().iter().filter(|&&c| c == Call::LoadInstance).count();
    assert_eq!(tried, 2, "once for each row");
}
