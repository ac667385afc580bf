//! Compiled programs that are kept on disk for another process.

use crate::faults::work;
use crate::support::{Bench, assert_close, expected, layer, options, run, weights};
use orion_ane::{Ane, CacheOptions, Call, Options, Outcome, Proof, WeightMode};
use orion_emulator::{Behaviour, CompiledFiles, Fault, StandIn};
use orion_runtime::Device as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Options with a cache in a directory.
fn keeping(directory: &Path, mode: WeightMode) -> Options {
    Options { cache: Some(CacheOptions::new(directory)), ..options(mode) }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn kept(device: &Ane<StandIn>) -> &Proof {
    device.proofs().iter().find(|proof| proof.what.contains("kept on disk")).unwrap()
}

/// What a process saw.
struct Seen {
    proof: Proof,
    /// Calls of the compiler after the device was opened.
    compilations: usize,
    kept_loaded: usize,
}

/// A process of its own that compiles three layers and checks what they compute.
fn process(behaviour: Behaviour, options: Options) -> Seen {
    let bench = Bench::new(behaviour);
    let device = bench.open(options).unwrap();
    let before = device.counts();
    let (program, at) = layer("layer");
    for seed in 0..3 {
        let mut layer = device.compile(&program, &weights(at, seed)).unwrap();
        assert_close(&run(&mut *layer).unwrap(), &expected(at, seed));
    }
    let (proof, after) = (kept(&device).clone(), device.counts());
    drop(device);
    bench.assert_empty();
    Seen {
        proof,
        compilations: after.compilations - before.compilations,
        kept_loaded: after.kept_loaded - before.kept_loaded,
    }
}

#[test]
fn another_process_does_not_compile_again() {
    for (mode, programs) in [(WeightMode::BakedRecompile, 3), (WeightMode::Inputs, 1)] {
        let cache = tempfile::tempdir().unwrap();
        let options = keeping(cache.path(), mode);
        let first = process(Behaviour::default(), options.clone());
        assert_eq!(first.proof.outcome, Outcome::Proven, "{}", first.proof.evidence);
        assert!(first.proof.evidence.contains("one that this process"), "{}", first.proof.evidence);
        // With weights as inputs, the second of three layers finds what the first has left.
        assert_eq!((first.compilations, first.kept_loaded), (programs, 0), "{mode}");
        assert_eq!(files(cache.path()).len(), programs + 1);
        let second = process(Behaviour::default(), options);
        let evidence = &second.proof.evidence;
        assert!(evidence.contains("one that another process"), "{evidence}");
        assert_eq!(second.compilations, 0, "{mode}");
        assert!(second.kept_loaded > 0, "{mode}");
        // Another system has its own.
        let m1 = tempfile::tempdir().unwrap();
        let framework = StandIn::new("m1".parse().unwrap(), m1.path(), Behaviour::default());
        let bench = Bench { directory: m1, framework };
        let device = bench.open(keeping(cache.path(), mode)).unwrap();
        assert!(kept(&device).evidence.contains("one that this process"));
    }
}

#[test]
fn programs_with_weights_that_change_are_not_kept() {
    let cache = tempfile::tempdir().unwrap();
    let bench = Bench::new(Behaviour::default());
    let device = bench.open(keeping(cache.path(), WeightMode::BakedRecompile)).unwrap();
    let (program, at) = layer("layer");
    let mut executable = device.compile(&program, &weights(at, 1)).unwrap();
    let before = files(cache.path()).len();
    for seed in 2..5 {
        executable.update_weights(&weights(at, seed)).unwrap();
        assert_close(&run(&mut *executable).unwrap(), &expected(at, seed));
    }
    assert_eq!((before, files(cache.path()).len()), (2, 2));
}

#[test]
fn what_was_not_used_is_gone_when_there_is_too_much() {
    let cache = tempfile::tempdir().unwrap();
    let kept = keeping(cache.path(), WeightMode::BakedRecompile);
    let max_bytes = 40_000;
    let cache_options = CacheOptions { directory: cache.path().to_owned(), max_bytes };
    let bench = Bench::new(Behaviour::default());
    let device = bench.open(Options { cache: Some(cache_options), ..kept }).unwrap();
    let (program, at) = layer("layer");
    for seed in 0..20 {
        drop(device.compile(&program, &weights(at, seed)).unwrap());
    }
    let bytes: u64 = files(cache.path()).iter().map(|p| fs::metadata(p).unwrap().len()).sum();
    assert!((20_000..=max_bytes).contains(&bytes), "{bytes} bytes");
}

/// A system that refuses what another process had compiled, one that refuses everything, and one
/// that takes it and computes something else: all of them compile, and all results are right.
#[test]
fn programs_are_not_kept_where_that_does_not_work() {
    for compiled_files in [CompiledFiles::OwnOnly, CompiledFiles::Refused, CompiledFiles::Mistaken]
    {
        let cache = tempfile::tempdir().unwrap();
        let behaviour = Behaviour { compiled_files, ..Behaviour::default() };
        let options = keeping(cache.path(), WeightMode::BakedRecompile);
        let first = process(behaviour, options.clone());
        let works_alone = compiled_files != CompiledFiles::Refused;
        assert_eq!(first.proof.outcome == Outcome::Proven, works_alone, "{compiled_files:?}");
        for _ in 0..2 {
            if files(cache.path()).is_empty() {
                process(behaviour, options.clone());
            }
            let next = process(behaviour, options.clone());
            assert_eq!(next.proof.outcome, Outcome::Refuted, "{compiled_files:?}");
            assert_eq!((next.compilations, next.kept_loaded), (3, 0), "{compiled_files:?}");
            let expected = match compiled_files {
                CompiledFiles::Mistaken => "wrong results: element 0 is 0",
                _ => "one that another process compiled is refused",
            };
            assert!(next.proof.evidence.contains(expected), "{}", next.proof.evidence);
            assert!(next.proof.evidence.contains("none are kept or used"));
            assert!(files(cache.path()).len() <= 1, "{compiled_files:?}");
        }
        if compiled_files == CompiledFiles::OwnOnly {
            // A system that does take them uses them from then on.
            let next = process(Behaviour::default(), options.clone());
            assert_eq!((next.proof.outcome, next.compilations), (Outcome::Proven, 3));
            assert_eq!(process(Behaviour::default(), options).compilations, 0);
        }
    }
}

#[test]
fn damaged_programs_are_compiled_again() {
    let cache = tempfile::tempdir().unwrap();
    let options = keeping(cache.path(), WeightMode::BakedRecompile);
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| *bytes.last_mut().unwrap() ^= 4,
        |bytes| bytes[300] ^= 1,
    ];
    process(Behaviour::default(), options.clone());
    for damage in damages {
        for path in files(cache.path()) {
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
        }
        let next = process(Behaviour::default(), options.clone());
        assert_eq!(next.proof.outcome, Outcome::Proven, "{}", next.proof.evidence);
        assert_eq!((next.compilations, next.kept_loaded), (3, 0));
        assert_eq!(process(Behaviour::default(), options.clone()).compilations, 0);
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_no_error() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a file");
    fs::write(&path, "not a directory").unwrap();
    let seen = process(Behaviour::default(), keeping(&path, WeightMode::BakedRecompile));
    assert_eq!((seen.proof.outcome, seen.compilations), (Outcome::Refuted, 3));
}

#[test]
fn processes_share_what_is_kept_at_the_same_time() {
    let cache = tempfile::tempdir().unwrap();
    let options = keeping(cache.path(), WeightMode::BakedRecompile);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    process(Behaviour::default(), options.clone());
                }
            });
        }
    });
    assert_eq!(process(Behaviour::default(), options).compilations, 0);
    assert_eq!(files(cache.path()).len(), 4);
}

/// Every call of a process that finds its programs kept fails once, or the process ends there.
#[test]
fn faults_leave_no_trace_in_what_is_kept() {
    let full = tempfile::tempdir().unwrap();
    let with = |directory: &Path| Options {
        live_programs: 2,
        ..keeping(directory, WeightMode::BakedRecompile)
    };
    let bench = Bench::new(Behaviour::default());
    work(&bench.open(with(full.path())).unwrap()).unwrap();
    let bench = Bench::new(Behaviour::default());
    work(&bench.open(with(full.path())).unwrap()).unwrap();
    let calls = bench.framework.calls();
    let compilations = |calls: &[Call]| calls.iter().filter(|&&c| c == Call::Compile).count();
    // Opening the device, and weights that were changed.
    assert_eq!(compilations(&calls), 7);
    for number in 0..calls.len() {
        for killed in [false, true] {
            if killed && number % 5 != 0 {
                continue;
            }
            let cache = tempfile::tempdir().unwrap();
            for path in files(full.path()) {
                fs::copy(&path, cache.path().join(path.file_name().unwrap())).unwrap();
            }
            let bench = Bench::new(Behaviour::default());
            if killed {
                for later in number..number + 500 {
                    bench.framework.fail_at(later, Fault::Says("Entitlement".to_owned()));
                }
                if let Ok(device) = bench.open(with(cache.path())) {
                    let _ = work(&device);
                    std::mem::forget(device);
                }
            } else {
                bench.framework.fail_at(number, Fault::Transient);
                let device = bench.open(with(cache.path())).unwrap();
                work(&device).unwrap_or_else(|e| panic!("call {number}: {e}"));
                drop(device);
                bench.assert_empty();
            }
            if number % 5 == 0 {
                let kept = keeping(cache.path(), WeightMode::BakedRecompile);
                let next = process(Behaviour::default(), kept);
                assert_eq!(next.proof.outcome, Outcome::Proven, "{}", next.proof.evidence);
            }
        }
    }
}
