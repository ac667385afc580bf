//! Processes that run the same programs at the same time: their models have the same directory.

use crate::support::{assert_close, expected, layer, options, run, weights};
use orion_ane::{Ane, WeightMode};
use orion_emulator::{Behaviour, StandIn};
use orion_runtime::Device as _;

/// Each has a framework of its own, as a process has. Unloading removes the directory under the
/// others.
#[test]
fn neighbours_that_unload_disturb_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let chip = "m4".parse().unwrap();
    std::thread::scope(|scope| {
        for neighbour in 0..6 {
            let framework = StandIn::new(chip, directory.path(), Behaviour::default());
            scope.spawn(move || {
                for round in 0..4 {
                    let mode = WeightMode::ALL[(neighbour + round) % WeightMode::ALL.len()];
                    let options = orion_ane::Options { live_programs: 1, ..options(mode) };
                    let device = Ane::open(framework.clone(), "ane-stand-in:m4", options).unwrap();
                    let (program, at) = layer("layer");
                    let mut programs = [1, 2]
                        .map(|seed| (seed, device.compile(&program, &weights(at, seed)).unwrap()));
                    for _ in 0..3 {
                        for (seed, program) in &mut programs {
                            assert_close(&run(&mut **program).unwrap(), &expected(at, *seed));
                        }
                    }
                }
            });
        }
    });
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
