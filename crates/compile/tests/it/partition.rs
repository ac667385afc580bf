//! A training step in parts gives what the whole gives, and the accelerator's parts are what a
//! Neural Engine takes.

use crate::interpreter::Runnable;
use crate::random::Random;
use orion_compile::autodiff::{GradientOptions, gradients_with};
use orion_compile::partition::{
    Access, Occasion, Part, Partition, PartitionOptions, Pass, Role, Unit, WeightForm, partition,
};
use orion_compile::pipeline::{PipelineOptions, optimize};
use orion_device::{Chip, Os, Route, Severity, Target, lint};
use orion_mil::{Data, Function, Op, ValueId, WEIGHT_FILE, Weights};
use orion_models::{
    AdapterShape, GolfBaselineConfig, GolfWideConfig, Gpt2Config, HeadMap, LlamaConfig,
    LoadedModel, Network, ParameterSpec, Qwen2Config, Qwen3Config, WeightIndex, program_name,
};
use orion_tensor::{DType, Tensor, Tolerance, element_count};
use std::collections::BTreeMap;

const LAYERS: usize = 3;
const SEQUENCES: usize = 2;
const LENGTH: usize = 8;

fn llama() -> LlamaConfig {
    LlamaConfig {
        vocab_size: 24,
        hidden_size: 16,
        intermediate_size: 24,
        n_layers: LAYERS,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        max_positions: LENGTH,
        rope_theta: 1e4,
        norm_epsilon: 1e-5,
        tied: true,
        rope_scaling: None,
        attention_bias: false,
        mlp_bias: false,
    }
}

fn networks() -> Vec<(&'static str, Network)> {
    let l = llama();
    vec![
        ("llama", Network::Llama(llama())),
        ("llama, untied", Network::Llama(LlamaConfig { tied: false, ..llama() })),
        ("qwen2", Network::Qwen2(Qwen2Config(llama()))),
        ("qwen3", Network::Qwen3(Qwen3Config(llama()))),
        (
            "gpt2",
            Network::Gpt2(Gpt2Config {
                vocab_size: l.vocab_size,
                hidden_size: l.hidden_size,
                intermediate_size: 4 * l.hidden_size,
                n_layers: LAYERS,
                n_heads: 2,
                max_positions: LENGTH,
                norm_epsilon: 1e-5,
                tied: true,
            }),
        ),
        ("golfwide", Network::GolfWide(golfwide(HeadMap::Repeat))),
        ("golfwide, tiled", Network::GolfWide(golfwide(HeadMap::Tile))),
        (
            "golf-baseline",
            Network::GolfBaseline(GolfBaselineConfig {
                vocab_size: l.vocab_size,
                hidden_size: l.hidden_size,
                intermediate_size: l.intermediate_size,
                n_layers: LAYERS,
                n_heads: l.n_heads,
                n_kv_heads: l.n_kv_heads,
                max_positions: LENGTH,
                rope_theta: 1e4,
                norm_epsilon: 1e-5,
                logit_softcap: 30.0,
                tied: true,
            }),
        ),
    ]
}

fn golfwide(head_map: HeadMap) -> GolfWideConfig {
    let l = llama();
    GolfWideConfig {
        vocab_size: l.vocab_size,
        hidden_size: l.hidden_size,
        intermediate_size: l.intermediate_size,
        n_layers: LAYERS,
        n_heads: l.n_heads,
        n_kv_heads: l.n_kv_heads,
        head_dim: l.head_dim,
        max_positions: LENGTH,
        rope_theta: 1e4,
        norm_epsilon: 1e-5,
        head_map,
    }
}

/// The gradient program of a network, its parameters, and its tables.
fn differentiated(
    network: &Network,
    shape: [usize; 2],
    accumulate: bool,
) -> (Function, Vec<String>, Weights) {
    let mut index = WeightIndex::new();
    network.add_tables(&mut index, shape[1]);
    differentiated_over(network, &index, network.parameters(), shape, accumulate)
}

/// The same of an adapter of every so many linear layers, over random weights; with a gradient of every matrix.
fn adapter_differentiated(
    network: &Network,
    every: usize,
    shape: [usize; 2],
    accumulate: bool,
) -> (Function, Vec<String>, Weights) {
    let mut random = Random::new(9);
    let values = network.parameters().into_iter().map(|spec| {
        let near = if spec.shape.len() == 1 { 1.0 } else { 0.0 };
        let numbers = random.numbers(element_count(&spec.shape), near - 0.4, near + 0.4);
        let numbers: Vec<f32> = numbers.into_iter().map(|v| v as f32).collect();
        (spec.name, Tensor::from_slice(&spec.shape, &numbers))
    });
    let model = LoadedModel::new(network.clone(), values.collect());
    let layers = network.linear_layers().into_iter().map(|layer| layer.module);
    let modules = layers.step_by(every);
    let adapters = AdapterShape { rank: 3, modules: modules.collect() };
    let trained = adapters.parameters(network);
    let index = model.index(shape[1]).with_adapters(adapters);
    differentiated_over(network, &index, trained, shape, accumulate)
}

fn differentiated_over(
    network: &Network,
    index: &WeightIndex,
    trained: Vec<ParameterSpec>,
    [sequences, length]: [usize; 2],
    accumulate: bool,
) -> (Function, Vec<String>, Weights) {
    let mut program = network.loss(index, sequences, length);
    let function = &mut program.functions[0];
    function.body.results.truncate(1);
    let names: Vec<String> = trained.iter().map(|p| program_name(&p.name)).collect();
    let parameters: Vec<&str> = names.iter().map(String::as_str).collect();
    let options = GradientOptions { loss_scale: Some("loss_scale"), accumulate };
    *function = gradients_with(function, "loss", &parameters, &options).unwrap();
    let program = optimize(&program, &PipelineOptions::default(), &mut |_, _| {}).unwrap();
    (program.functions[0].clone(), names, index.weights().clone())
}

fn cut(
    function: &Function,
    parameters: &[String],
    layers: usize,
    numbers: DType,
    [weights, tables]: [WeightForm; 2],
) -> Partition {
    let layers: Vec<String> = (0..layers).map(|i| format!("layer{i}")).collect();
    let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
    partition(
        function,
        &PartitionOptions {
            layers: &layers,
            together: 1,
            columns: None,
            parameters: &parameters,
            numbers,
            weights,
            tables,
            on_host: &|_, _| false,
        },
    )
    .unwrap()
}

/// Runs the parts one behind the other; results and what replaced inputs, by name.
fn run(
    partition: &Partition,
    inputs: &BTreeMap<String, Tensor>,
    files: &Weights,
) -> BTreeMap<String, Tensor> {
    let named = |s: &orion_compile::partition::PartSurface| inputs.get(&s.name).cloned();
    let mut memory: Vec<Option<Tensor>> = partition
        .surfaces
        .iter()
        .map(|s| if s.role == orion_compile::partition::Role::Input { named(s) } else { None })
        .collect();
    let all: Vec<&Part> =
        partition.tables.iter().chain(&partition.staging).chain(&partition.parts).collect();
    for part in all {
        let function = &partition.programs[part.program].functions[0];
        let mut given = BTreeMap::new();
        for c in part.ports.iter().filter(|c| c.access != Access::Write) {
            let tensor = memory[c.surface].clone();
            let name = &partition.surfaces[c.surface].name;
            given.insert(c.port.clone(), tensor.unwrap_or_else(|| panic!("{}: {name}", part.name)));
        }
        let mut weights = files.clone();
        if !part.constants.is_empty() {
            weights = Weights::new();
            for c in &part.constants {
                weights.insert(WEIGHT_FILE, c.offset, memory[c.surface].clone().unwrap());
            }
        }
        let results = Runnable::new(function).run_with(&given, &weights);
        let in_place = function.in_place();
        for (output, tensor) in results {
            let port = in_place.get(output.as_str()).copied().unwrap_or(&output);
            let connection = part.ports.iter().find(|c| c.port == port).unwrap();
            assert_ne!(connection.access, Access::Read, "{}", part.name);
            memory[connection.surface] = Some(tensor);
        }
    }
    let surfaces = partition.surfaces.iter().zip(memory);
    surfaces.filter_map(|(s, tensor)| Some((s.name.clone(), tensor?))).collect()
}

fn inputs(function: &Function, vocab: usize) -> BTreeMap<String, Tensor> {
    let mut random = Random::new(5);
    let tensor = |p: &orion_mil::Param| {
        let ty = function.ty(p.value).as_tensor().unwrap();
        let (name, shape) = (function.value_name(p.value).to_owned(), ty.shape().unwrap());
        let count = element_count(&shape);
        let tensor = match ty.dtype {
            DType::I32 => {
                let ids: Vec<i32> = (0..count).map(|_| random.below(vocab) as i32).collect();
                Tensor::from_slice(&shape, &ids)
            }
            _ => {
                let near = if shape.len() == 1 { 1.0 } else { 0.0 };
                let numbers = random.numbers(count, near - 0.4, near + 0.4);
                let numbers: Vec<f32> = numbers.into_iter().map(|v| v as f32).collect();
                Tensor::from_slice(&shape, &numbers)
            }
        };
        (name, tensor)
    };
    function.params.iter().map(tensor).collect()
}

#[test]
fn parts_together_give_what_the_whole_gives() {
    for (name, network) in networks() {
        for accumulate in [false, true] {
            let (function, parameters, weights) =
                differentiated(&network, [SEQUENCES, LENGTH], accumulate);
            let forms =
                [WeightForm::Inputs, WeightForm::Constants].map(|w| [w, WeightForm::Inputs]);
            compare(name, &network, &function, &parameters, &weights, forms);
        }
    }
}

/// The same where weights are constants of the whole, and adapters of some layers are trained.
#[test]
fn parts_that_train_an_adapter_give_what_the_whole_gives() {
    for (name, network) in networks() {
        for (every, accumulate) in [(2, false), (1, true)] {
            let (function, parameters, weights) =
                adapter_differentiated(&network, every, [SEQUENCES, LENGTH], accumulate);
            let forms =
                [WeightForm::Inputs, WeightForm::Constants].map(|t| [WeightForm::Inputs, t]);
            compare(name, &network, &function, &parameters, &weights, forms);
        }
    }
}

fn compare(
    name: &str,
    network: &Network,
    function: &Function,
    parameters: &[String],
    weights: &Weights,
    forms: [[WeightForm; 2]; 2],
) {
    let inputs = inputs(function, network.vocab_size());
    let whole = Runnable::new(function).run_with(&inputs, weights);
    let in_place = function.in_place();
    for form in forms {
        let parts = cut(function, parameters, LAYERS, DType::F32, form);
        let together = run(&parts, &inputs, weights);
        for (result, tensor) in &whole {
            let known = in_place.get(result.as_str()).copied().unwrap_or(result);
            let actual = together[known].to_f64_vec();
            let checked = Tolerance::F32Accum.check(&actual, &tensor.to_f64_vec());
            assert!(checked.is_ok(), "{name}, {form:?}: {result}: {checked:?}");
        }
    }
}

/// Every block is the accelerator's there and back, the first one too, before which nothing is
/// trained; the host computes the gradients themselves. Each weight is in one table, whatever
/// shapes it is read in.
#[test]
fn products_with_adapters_are_the_accelerators() {
    for (name, network) in networks() {
        let (function, parameters, _) = adapter_differentiated(&network, 1, [1, LENGTH], false);
        let inputs = [WeightForm::Inputs; 2];
        let parts = cut(&function, &parameters, LAYERS, DType::F16, inputs);
        let on_accelerator = parts.parts.iter().filter(|p| p.unit == Unit::Accelerator);
        let on_accelerator: Vec<_> = on_accelerator.map(|p| (&*p.name, p.pass)).collect();
        for layer in 0..LAYERS {
            for (way, pass) in [("forward", Pass::Forward), ("backward", Pass::Backward)] {
                let part = (&*format!("layer{layer} {way}"), pass);
                assert!(on_accelerator.contains(&part), "{name}: {part:?} in {on_accelerator:?}");
            }
        }
        let per_layer = parameters.len() / 2 / LAYERS;
        let matrices = parts.surfaces.iter().filter(|s| s.role == Role::Table);
        let is_weight = |shape: &[usize]| shape.len() == 2 && shape.iter().all(|&n| n > LENGTH);
        let matrices = matrices.filter(|s| is_weight(&s.ty.shape().unwrap()));
        assert!(matrices.count() <= per_layer * LAYERS, "{name}");
        let is_gradients = |p: &&Part| p.unit == Unit::Host && p.pass == Pass::Backward;
        for part in parts.parts.iter().filter(is_gradients) {
            let program = &parts.programs[part.program];
            let ops = orion_mil::typed::analyze(&program.functions[0]).unwrap();
            let is_product = |op: &&Op| matches!(op, Op::Matmul { .. } | Op::Conv { .. });
            let products = ops.iter().filter(is_product).count();
            assert!(products <= 2 * per_layer, "{name}, {}: {products}", part.name);
        }
    }
}

/// The host has work of a layer as soon as the accelerator has left it.
#[test]
fn parts_come_in_an_order_that_leaves_both_units_work() {
    let (function, parameters, _) = differentiated(&networks()[0].1, [1, LENGTH], false);
    let parts = cut(&function, &parameters, LAYERS, DType::F16, [WeightForm::Inputs; 2]);
    let names: Vec<&str> = parts.parts.iter().map(|p| &*p.name).collect();
    let expected = [
        "outside",
        "layer0 forward",
        "layer1 forward",
        "layer2 forward",
        "outside 2",
        "outside gradients",
        "layer2 backward",
        "layer2 gradients",
        "layer1 backward",
        "layer1 gradients",
        "layer0 backward",
        "layer0 gradients",
        "outside gradients 2",
    ];
    assert_eq!(names, expected);
    for part in &parts.parts {
        // What is of a layer's backward pass is called so by autodiff.
        let written = part.ports.iter().filter(|c| c.access == Access::Write);
        let mut written = written.map(|c| &*parts.surfaces[c.surface].name);
        let begins = match part.pass {
            Pass::Forward => "layer",
            Pass::Backward if part.unit == Unit::Accelerator => "d_",
            Pass::Backward | Pass::Outside => "",
        };
        assert!(written.all(|name| name.starts_with(begins)), "{part:?}");
    }
    let staged: Vec<&str> = parts.staging.iter().map(|p| &*p.name).collect();
    let expected =
        ["stage for layer0 forward", "stage for layer1 forward", "stage for layer2 forward"];
    assert_eq!(staged, expected);
    // With a unit of time for each, only the first and last parts find the other unit idle.
    let planned =
        parts.timeline(Occasion { new_parameters: true, ..Occasion::default() }, &|_, _| 1.0);
    let ends = planned.iter().map(|p| p.end).fold(0.0, f64::max);
    assert_eq!(planned.len(), 16);
    assert_eq!(ends, 11.0, "{planned:?}");
}

#[test]
fn layers_of_one_shape_share_their_programs() {
    for (name, network) in networks() {
        let (function, parameters, _) = differentiated(&network, [1, LENGTH], false);
        let parts = cut(&function, &parameters, LAYERS, DType::F16, [WeightForm::Inputs; 2]);
        let runs = |unit| parts.parts.iter().filter(|p| p.unit == unit).count();
        // Blocks of the baseline have what others do not: they are handed on across the middle.
        let shared = if name == "golf-baseline" { 6 } else { 2 };
        assert!(parts.programs_of(Unit::Accelerator).len() <= shared, "{name}");
        assert!(shared > 2 || runs(Unit::Accelerator) == 2 * LAYERS, "{name}");
    }
}

/// Products by constants are convolutions whose weight is the constant, not what is computed of
/// one: forward, backward, and in whatever numbers.
#[test]
fn constants_are_weights_of_convolutions() {
    for (name, network) in networks() {
        let all = differentiated(&network, [1, LENGTH], false);
        let adapter = adapter_differentiated(&network, 1, [1, LENGTH], false);
        let (inputs, constants) = (WeightForm::Inputs, WeightForm::Constants);
        let cuts = [(&all, [constants, inputs]), (&adapter, [inputs, constants])];
        for ((function, parameters, _), form) in cuts {
            for numbers in [DType::F32, DType::F16] {
                let parts = cut(function, parameters, LAYERS, numbers, form);
                let mut convolutions = 0;
                for program in parts.programs_of(Unit::Accelerator) {
                    let function = &program.functions[0];
                    let ops = orion_mil::typed::analyze(function).unwrap();
                    let operations = function.body.operations.iter().zip(&ops);
                    let of_file = |op: &Op| matches!(op, Op::Const(value) if matches!(value.data, Data::Blob { .. }));
                    let blobs: Vec<ValueId> = operations
                        .filter(|(_, op)| of_file(op))
                        .map(|(o, _)| o.outputs[0])
                        .collect();
                    for op in &ops {
                        match op {
                            Op::Conv { weight, .. } => {
                                assert!(blobs.contains(weight), "{name}, {form:?}, {numbers}");
                                convolutions += 1;
                            }
                            Op::Matmul { x, y, .. } => {
                                let is_constant = blobs.contains(x) || blobs.contains(y);
                                assert!(!is_constant, "{name}, {form:?}, {numbers}");
                            }
                            _ => {}
                        }
                    }
                }
                // Four weights at least, there and back.
                assert!(convolutions >= 8, "{name}, {form:?}: {convolutions}");
            }
        }
    }
}

/// No chip refuses what it is given, in whatever form.
#[test]
fn the_engines_take_the_accelerators_programs() {
    for (name, network) in networks() {
        let all = differentiated(&network, [1, 64], false);
        let adapter = adapter_differentiated(&network, 1, [1, 64], false);
        let (inputs, constants) = (WeightForm::Inputs, WeightForm::Constants);
        for ((function, parameters, _), form) in [
            (&all, [inputs, inputs]),
            (&all, [constants, inputs]),
            (&adapter, [inputs, inputs]),
            (&adapter, [inputs, constants]),
        ] {
            let parts = cut(function, parameters, LAYERS, DType::F16, form);
            for chip in Chip::all() {
                let target = Target { chip, os: Os::V27, route: Route::Direct };
                for program in parts.programs_of(Unit::Accelerator) {
                    let findings = lint(program, None, &target);
                    let refused: Vec<_> =
                        findings.iter().filter(|f| f.severity == Severity::Refused).collect();
                    assert!(refused.is_empty(), "{name}, {form:?} on {chip}: {refused:#?}");
                }
            }
        }
    }
}
