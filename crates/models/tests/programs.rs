//! What networks write: programs that verify, read as themselves, and ask for the right inputs.

use orion_mil::{typed, verify};
use orion_models::{Network, PRESETS, StepShape, WeightIndex, preset, program_name};
use orion_tensor::Tensor;
use std::collections::BTreeSet;

fn names(function: &orion_mil::Function) -> BTreeSet<&str> {
    function.params.iter().map(|p| function.value_name(p.value)).collect()
}

fn check(program: &orion_mil::Program) {
    let diagnostics = verify(program);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let function = program.main().unwrap();
    typed::analyze(function).unwrap();
    let printed = orion_mil::text::print(program);
    assert_eq!(orion_mil::text::parse(&printed).unwrap(), *program);
}

#[test]
fn every_preset_writes_valid_programs() {
    for p in PRESETS {
        let network = p.network();
        let mut index = WeightIndex::new();
        network.add_tables(&mut index, 32);
        let loss = network.loss(&index, 2, 8);
        check(&loss);
        let function = loss.main().unwrap();
        for spec in network.parameters() {
            let id = function.values.iter().find(|(_, v)| v.name == program_name(&spec.name));
            let (id, _) = id.unwrap_or_else(|| panic!("{} has no {}", p.name, spec.name));
            let ty = function.ty(id).as_tensor().unwrap();
            assert_eq!(ty.shape().unwrap(), spec.shape, "{}", spec.name);
        }
        let mut expected: BTreeSet<String> =
            network.parameters().iter().map(|p| program_name(&p.name)).collect();
        expected.extend(["tokens".to_owned(), "targets".to_owned()]);
        assert_eq!(names(function), expected.iter().map(String::as_str).collect());
        for tokens in [1, 16] {
            let step = network.step(&index, StepShape { sequences: 1, tokens, context: 32 });
            check(&step);
            let function = step.main().unwrap();
            let caches = network.caches(32);
            assert_eq!(function.in_place().len(), caches.len());
            assert_eq!(names(function).contains("last"), tokens > 1);
        }
        for past in [0, 16] {
            let shape = StepShape { sequences: 1, tokens: 16, context: 32 };
            let chunk = network.chunk(&index, shape, past);
            check(&chunk);
            let (chunk, step) = (chunk.main().unwrap(), network.step(&index, shape));
            let step = step.main().unwrap();
            assert_eq!(names(chunk), names(step), "{}", p.name);
            assert_eq!(chunk.in_place(), step.in_place());
        }
    }
}

#[test]
fn indexed_parameters_are_constants() {
    let network = preset("stories260k").unwrap().network();
    let mut index = WeightIndex::new();
    for p in network.parameters() {
        index
            .insert(&p.name, Tensor::from_slice(&p.shape, &vec![0.5f32; p.shape.iter().product()]));
    }
    network.add_tables(&mut index, 32);
    let program = network.loss(&index, 1, 8);
    check(&program);
    assert_eq!(names(program.main().unwrap()), BTreeSet::from(["targets", "tokens"]));
    assert!(orion_mil::verify_weights(&program, index.weights()).is_empty());
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let Network::Llama(good) = preset("stories260k").unwrap().network() else { unreachable!() };
    for (change, message) in [
        (orion_models::LlamaConfig { n_kv_heads: 3, ..good.clone() }, "multiple"),
        (orion_models::LlamaConfig { head_dim: 7, ..good.clone() }, "even"),
        (orion_models::LlamaConfig { n_layers: 0, ..good.clone() }, "n_layers is 0"),
        (orion_models::LlamaConfig { n_layers: 1 << 20, ..good.clone() }, "between 1 and 4096"),
        (orion_models::LlamaConfig { rope_theta: f64::NAN, ..good.clone() }, "rope_theta"),
    ] {
        let error = Network::Llama(change).validate().unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
