//! Processes that run the same programs at the same time: their models have the same directory.

use crate::support::{assert_close, expected, layer, options, run, weights};
use orion_ane::{Ane, Waiting, WeightMode};
use orion_emulator::{Behaviour, StandIn};
use orion_runtime::Device as _;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

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

/// Another process has the turn with the directories of all programs, and then lets go.
#[test]
fn who_is_waited_for_long_is_told() {
    static TOLD: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());
    let place = tempfile::tempdir().unwrap();
    let framework = StandIn::new("m4".parse().unwrap(), place.path(), Behaviour::default());
    let (program, at) = layer("layer");
    let open = || {
        let on_waiting = |waiting: &Waiting| TOLD.lock().unwrap().push(waiting.clone());
        let options = orion_ane::Options { on_waiting, ..options(WeightMode::BakedRecompile) };
        Ane::open(framework.clone(), "ane-stand-in:m4", options).unwrap()
    };
    let device = open();
    let compile = || device.compile(&program, &weights(at, 1)).unwrap();
    let first = compile();
    let files = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
    let turns: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "orion-turn")).collect();
    assert_eq!(turns.len(), 1, "{turns:?}");
    // As many users as hold it: the files stay while the first program goes.
    let users = File::open(turns[0].with_extension("orion-users")).unwrap();
    users.lock_shared().unwrap();
    drop(first);
    assert_eq!(*TOLD.lock().unwrap(), []);

    let turn = File::options().write(true).open(&turns[0]).unwrap();
    turn.lock().unwrap();
    fs::write(&turns[0], "4711").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(2500));
            drop(turn);
        });
        assert_close(&run(&mut *compile()).unwrap(), &expected(at, 1));
    });
    let directory = turns[0].with_extension("");
    assert_eq!(*TOLD.lock().unwrap(), [Waiting { directory, process: Some(4711) }]);
    assert_eq!(fs::read_to_string(&turns[0]).unwrap(), std::process::id().to_string());
}
