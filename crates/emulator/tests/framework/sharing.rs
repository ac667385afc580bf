//! Memory that host and engine share: nothing is copied, and nobody looks out of turn.

use crate::support::{
    Bench, CHANNELS, assert_close, expected, expected_of, layer, layer_of, options, run, run_in,
    weights,
};
use orion_ane::{Ane, Binding, Call, Descriptor, Framework as _, Outcome, WeightMode};
use orion_emulator::{AneModel, Behaviour, Fault, StandIn, StandInSurface};
use orion_mil::{Builder, Program, TensorType, Weights};
use orion_runtime::{Bindings, Device as _, Executable, Layout, Surface};
use orion_tensor::{DType, f16};

const POSITIONS: usize = 64;
const BYTES: u64 = (CHANNELS * POSITIONS * 2) as u64;

fn open(bench: &Bench) -> Ane<StandIn> {
    bench.open(options(WeightMode::Inputs)).unwrap()
}

fn layout() -> Layout {
    Layout::dense(DType::F16, &[1, CHANNELS, 1, POSITIONS])
}

fn fill(surface: &mut Surface, value: f64) {
    surface.elements_mut().fill(f16::from_f64(value));
}

fn first(surface: &Surface) -> f64 {
    surface.elements::<f16>()[0].to_f64()
}

/// `2 x + z`, without weights.
fn twice_and(shape: &[usize]) -> Program {
    let mut b = Builder::new("main");
    let [x, z] = ["x", "z"].map(|name| b.input(name, TensorType::new(DType::F16, shape)));
    let twice = b.add(x, x);
    let y = b.add(twice, z);
    b.rename(y, "y");
    Program::with_function(b.finish(&[y]))
}

fn run_twice_and(program: &mut dyn Executable, x: &Surface, z: &Surface, y: &mut Surface) {
    let mut bindings = Bindings::new();
    bindings.input("x", x).input("z", z).output("y", y);
    program.run(&mut bindings).unwrap();
}

#[test]
fn surfaces_of_the_device_are_used_where_they_are() {
    for mode in WeightMode::ALL {
        let bench = Bench::new(Behaviour::default());
        let device = bench.open(options(mode)).unwrap();
        let (program, at) = layer_of(POSITIONS, "layer");
        let mut executable = device.compile(&program, &weights(at, 1)).unwrap();
        let right = expected_of(POSITIONS, at, 1);
        assert_close(&run(&mut *executable).unwrap(), &right);
        assert_eq!(executable.run_figures().copied_bytes, 2 * BYTES, "memory of the host's own");
        let shared = run_in(&mut *executable, &|layout| device.surface(layout)).unwrap();
        assert_close(&shared, &right);
        assert_eq!(executable.run_figures().copied_bytes, 0, "weights are no part of a run");
        assert!(executable.explain().contains("the last run copied 0 bytes"));
        drop(executable);
        drop(device);
        bench.assert_empty();
    }
}

#[test]
fn rows_with_gaps_are_copied() {
    let bench = Bench::new(Behaviour::default());
    let device = open(&bench);
    let (program, at) = layer("layer");
    let mut executable = device.compile(&program, &weights(at, 1)).unwrap();
    let actual = run_in(&mut *executable, &|layout| device.surface(layout)).unwrap();
    assert_close(&actual, &expected(at, 1));
    assert_eq!(executable.run_figures().copied_bytes, 2 * 2 * (CHANNELS * 40) as u64);
    // The engine's memory as input, the host's as output.
    let mut executable = device.compile(&twice_and(&layout().shape), &Weights::new()).unwrap();
    let mut x = device.surface(&layout()).unwrap();
    let mut y = Surface::zeros(layout());
    fill(&mut x, 3.0);
    run_twice_and(&mut *executable, &x, &Surface::zeros(layout()), &mut y);
    assert_eq!((first(&y), executable.run_figures().copied_bytes), (6.0, 2 * BYTES));
}

#[test]
fn what_only_the_engine_touches_is_never_locked_and_requests_are_kept() {
    let bench = Bench::new(Behaviour::default());
    let device = open(&bench);
    let mut executable = device.compile(&twice_and(&layout().shape), &Weights::new()).unwrap();
    let [mut a, mut b, mut one] = [(); 3].map(|()| device.surface(&layout()).unwrap());
    fill(&mut one, 1.0);
    run_twice_and(&mut *executable, &a, &one, &mut b);
    run_twice_and(&mut *executable, &b, &one, &mut a);
    let before = bench.framework.calls().len();
    for _ in 0..3 {
        run_twice_and(&mut *executable, &a, &one, &mut b);
        run_twice_and(&mut *executable, &b, &one, &mut a);
    }
    assert_eq!(bench.framework.calls()[before..], [Call::Evaluate; 6]);
    // 2 x + 1, eight times from zero.
    assert_eq!(first(&a), 255.0);
    assert_eq!(bench.framework.calls().last(), Some(&Call::Lock));
}

#[test]
fn host_and_engine_take_turns_with_the_same_bytes() {
    let bench = Bench::new(Behaviour::default());
    let device = open(&bench);
    let mut executable = device.compile(&twice_and(&layout().shape), &Weights::new()).unwrap();
    let [mut x, mut z, mut y] = [(); 3].map(|()| device.surface(&layout()).unwrap());
    for round in 1..5 {
        let round = f64::from(round);
        fill(&mut x, round);
        fill(&mut z, 10.0 * round);
        // The host reads on while the engine reads.
        let read = x.elements::<f16>();
        run_twice_and(&mut *executable, &x, &z, &mut y);
        assert_eq!((read[0].to_f64(), first(&y)), (round, 12.0 * round));
        // What is cloned stays as it was.
        let before = y.clone();
        fill(&mut y, -1.0);
        run_twice_and(&mut *executable, &z, &x, &mut y);
        assert_eq!((first(&before), first(&y)), (12.0 * round, 21.0 * round));
    }
    assert_eq!(executable.run_figures().copied_bytes, 0);
}

#[test]
fn one_surface_for_two_inputs_is_handed_over_once() {
    let bench = Bench::new(Behaviour::default());
    let device = open(&bench);
    let mut executable = device.compile(&twice_and(&layout().shape), &Weights::new()).unwrap();
    let [mut x, mut y] = [(); 2].map(|()| device.surface(&layout()).unwrap());
    fill(&mut x, 5.0);
    run_twice_and(&mut *executable, &x, &x, &mut y);
    assert_eq!((first(&y), executable.run_figures().copied_bytes), (15.0, BYTES));
}

#[test]
fn what_is_replaced_in_place_is_copied() {
    let bench = Bench::new(Behaviour::default());
    let device = open(&bench);
    let mut b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::F16, &layout().shape));
    let y = b.add(x, x);
    b.rename(y, "y");
    let mut function = b.finish(&[y]);
    function.set_in_place([("y", "x")]);
    let program = Program::with_function(function);
    let mut executable = device.compile(&program, &Weights::new()).unwrap();
    let mut x = device.surface(&layout()).unwrap();
    fill(&mut x, 1.0);
    for _ in 0..3 {
        let mut bindings = Bindings::new();
        bindings.update("x", &mut x);
        executable.run(&mut bindings).unwrap();
        assert_eq!(executable.run_figures().copied_bytes, 2 * BYTES);
    }
    assert_eq!(first(&x), 8.0);
}

#[test]
fn requests_go_with_their_memory() {
    let bench = Bench::new(Behaviour::default());
    let device = open(&bench);
    let mut executable = device.compile(&twice_and(&layout().shape), &Weights::new()).unwrap();
    for _ in 0..5 {
        let [x, z, mut y] = [(); 3].map(|()| device.surface(&layout()).unwrap());
        run_twice_and(&mut *executable, &x, &z, &mut y);
        let living = bench.framework.living();
        assert_eq!((living.requests, living.surfaces), (1, 3));
    }
    drop(executable);
    drop(device);
    bench.assert_empty();
}

#[test]
fn where_the_engine_does_not_read_what_the_host_reads_everything_is_copied() {
    let behaviour = Behaviour { reads_locked_memory: false, ..Behaviour::default() };
    let bench = Bench::new(behaviour);
    for mode in WeightMode::ALL {
        let device = bench.open(options(mode)).unwrap();
        let mut proofs = device.proofs().iter();
        let sharing = proofs.find(|p| p.what == "memory shared with the engine").unwrap();
        assert_eq!(sharing.outcome, Outcome::Refuted, "{sharing:?}");
        assert!(sharing.evidence.contains("the surface is locked"), "{sharing:?}");
        let (program, at) = layer_of(POSITIONS, "layer");
        let mut executable = device.compile(&program, &weights(at, 1)).unwrap();
        let actual = run_in(&mut *executable, &|layout| device.surface(layout)).unwrap();
        assert_close(&actual, &expected_of(POSITIONS, at, 1));
        assert_eq!(executable.run_figures().copied_bytes, 2 * BYTES);
    }
}

#[test]
fn a_lock_that_fails_for_good_is_an_error_of_who_runs() {
    let bench = Bench::new(Behaviour::default());
    let device = open(&bench);
    let mut x = device.surface(&layout()).unwrap();
    let program = twice_and(&layout().shape);
    let host = AneModel::from_name("ane-model:m4").unwrap().with_dense_surfaces();
    let mut executable = host.compile(&program, &Weights::new()).unwrap();
    let (z, mut y) = (Surface::zeros(layout()), Surface::zeros(layout()));
    let fault = Fault::Says("Entitlement".to_owned());
    bench.framework.fail_at(bench.framework.calls().len(), fault);
    let mut bindings = Bindings::new();
    bindings.input("x", &x).input("z", &z).output("y", &mut y);
    let error = executable.run(&mut bindings).unwrap_err();
    assert_eq!(error.kind(), orion_runtime::ErrorKind::System);
    assert!(error.to_string().contains("IOSurfaceLock failed: Entitlement"), "{error}");
    // A lock that fails for no reason is taken again.
    bench.framework.fail_at(bench.framework.calls().len(), Fault::Transient);
    executable.run(&mut bindings).unwrap();
    fill(&mut x, 1.0);
}

/// The rules of the framework's own calls, which the client must keep.
#[test]
fn the_stand_in_refuses_memory_out_of_turn_and_keeps_it_apart() {
    let bench = Bench::new(Behaviour::default());
    let framework = &bench.framework;
    let text = "program(1.3)\n{\n    func main<ios18>(tensor<fp16, [1, 1, 1, 32]> x) {\n        tensor<fp16, [1, 1, 1, 32]> y = add(x = x, y = x)[name = string(\"y\")];\n    } -> (y);\n}\n";
    let descriptor = Descriptor { text: text.to_owned(), weights: Default::default() };
    let model = framework.model(&descriptor).unwrap();
    let directory = bench.directory.path().join(framework.identifier(&model).unwrap());
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("model.mil"), text).unwrap();
    framework.compile(&model).unwrap();
    framework.load(&model, None).unwrap();
    let (mut x, mut y) = (framework.surface(64).unwrap(), framework.surface(64).unwrap());
    fn bind(surface: &StandInSurface) -> [Binding<'_, StandInSurface>; 1] {
        [Binding { index: 0, surface }]
    }
    let request = framework.request(&bind(&x), &bind(&y), None).unwrap();
    let one = f16::from_f64(1.0).to_le_bytes();
    let fill = |bytes: &mut [u8]| bytes.chunks_exact_mut(2).for_each(|e| e.copy_from_slice(&one));
    fill(framework.write(&mut x).unwrap());
    let refused = |why: &str| {
        let error = framework.evaluate(&model, &request).unwrap_err();
        assert!(error.text.contains(why), "{error}");
    };
    refused("the host still holds the memory that the run reads");
    framework.finish_writing(&x).unwrap();
    framework.read(&y).unwrap();
    refused("the host still holds the memory that the run writes");
    framework.release(&mut y).unwrap();
    framework.read(&x).unwrap();
    framework.evaluate(&model, &request).unwrap();
    assert_eq!(framework.read(&y).unwrap()[..2], f16::from_f64(2.0).to_le_bytes());
}
