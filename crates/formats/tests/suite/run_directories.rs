//! Checkpoints of a run: what a crash may leave at every instant, damage, and tidying up.

use orion_formats::run_directory::Scan;
use orion_formats::{Checkpoint, CheckpointState, DataState, ErrorKind, HexU64};
use orion_formats::{LossScaleState, RunDirectory, ScheduleState};
use orion_tensor::Tensor;
use orion_testing::batter_strictly;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn state(step: u64) -> CheckpointState {
    CheckpointState {
        format_version: CheckpointState::FORMAT_VERSION,
        step,
        tokens: step * 512,
        micro_batches: step * 2,
        data: DataState {
            file: "data.bin".to_owned(),
            file_tokens: 1_000_000,
            window_tokens: 128,
            epoch: 3,
            window: 17,
            order: "random".to_owned(),
            seed: HexU64(u64::MAX - 1),
        },
        random: BTreeMap::from([("dropout".to_owned(), vec![HexU64(1), HexU64(1 << 63)])]),
        loss_scale: LossScaleState { scale: 0.1 + 0.2, finite_steps: 7, skipped_steps: 1 },
        schedule: ScheduleState {
            kind: "cosine".to_owned(),
            learning_rate: 3e-4 / 7.0,
            warmup_steps: 10,
            total_steps: 100,
            final_fraction: 0.1,
        },
        files: BTreeMap::new(),
    }
}

/// Writes a checkpoint whose weights say which step and which attempt it is.
fn write(run: &RunDirectory, step: u64, attempt: f32) -> Checkpoint {
    let weights = Tensor::from_slice(&[2], &[step as f32, attempt]);
    let mut writer = run.begin_checkpoint(step).unwrap();
    writer.write_tensors("model.safetensors", [("w", &weights)], &BTreeMap::new()).unwrap();
    let moments = [("m.w", &weights), ("v.w", &weights)];
    writer.write_tensors("optimizer.safetensors", moments, &BTreeMap::new()).unwrap();
    writer.write_bytes("config.json", b"{}").unwrap();
    writer.finish(&state(step)).unwrap()
}

fn weights(checkpoint: &Checkpoint) -> Vec<f32> {
    checkpoint.model().unwrap().tensors["w"].to_f32_vec()
}

fn steps(scan: &Scan) -> Vec<u64> {
    scan.complete.iter().map(Checkpoint::step).collect()
}

fn listing(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_checkpoint_comes_back_whole() {
    let directory = tempfile::tempdir().unwrap();
    let run = RunDirectory::new(directory.path().join("runs/first"));
    assert!(run.newest().unwrap().is_none());
    let written = write(&run, 500, 0.0);
    assert_eq!(written.path(), run.path().join("checkpoints/step_00000500"));
    assert_eq!(listing(run.path()), ["checkpoints", "latest"]);
    assert_eq!(
        listing(written.path()),
        ["DONE", "config.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    );
    let read = run.newest().unwrap().unwrap();
    assert_eq!(read, written);
    let files = read.state().files.clone();
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["config.json", "model.safetensors", "optimizer.safetensors"]
    );
    assert_eq!(*read.state(), CheckpointState { files, ..state(500) });
    assert_eq!(weights(&read), [500.0, 0.0]);
    assert_eq!(read.optimizer().unwrap().tensors["v.w"].to_f32_vec(), [500.0, 0.0]);
    assert_eq!(fs::read_link(run.latest_path()).unwrap(), Path::new("checkpoints/step_00000500"));

    write(&run, 1000, 0.0);
    assert_eq!(steps(&run.scan().unwrap()), [500, 1000]);
    assert_eq!(Checkpoint::open(run.latest_path()).unwrap().step(), 1000);
}

#[test]
fn the_same_step_may_be_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let run = RunDirectory::new(directory.path());
    write(&run, 5, 1.0);
    let second = write(&run, 5, 2.0);
    assert_eq!(weights(&second), [5.0, 2.0]);
    assert_eq!(listing(&run.checkpoints_path()), ["step_00000005"]);
}

#[test]
fn names_and_states_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let run = RunDirectory::new(directory.path());
    let mut writer = run.begin_checkpoint(1).unwrap();
    for name in ["../escape", "", ".hidden", "a/b", "a\0b"] {
        let e = writer.write_bytes(name, b"x").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Malformed, "{e}");
    }
    writer.write_bytes("a", b"x").unwrap();
    for name in ["a", "DONE", "state.json"] {
        let e = writer.write_bytes(name, b"x").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e}");
    }
    let infinite = Tensor::from_slice(&[1], &[f32::INFINITY]);
    let e = writer.write_tensors("b", [("w", &infinite)], &BTreeMap::new()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFinite, "{e}");
    let e = writer.finish(&state(2)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotRepresentable, "{e}");
    let mut nan = state(1);
    nan.loss_scale.scale = f64::NAN;
    let e = run.begin_checkpoint(1).unwrap().finish(&nan).unwrap_err();
    assert!(e.to_string().contains("loss_scale.scale"), "{e}");
    assert!(run.newest().unwrap().is_none());
}

/// Every state that the writing of step 2 over an earlier step 2, after step 1, passes through.
#[test]
fn a_crash_at_any_instant_leaves_a_whole_checkpoint() {
    let build = |instant: usize| {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(directory.path());
        write(&run, 1, 1.0);
        write(&run, 2, 1.0);
        // The finished product of the second attempt, made elsewhere.
        let elsewhere = tempfile::tempdir().unwrap();
        let finished = write(&RunDirectory::new(elsewhere.path()), 2, 2.0);
        let at = |name: &str| run.checkpoints_path().join(name);
        let writing = at(".writing-step_00000002");
        fs::create_dir(&writing).unwrap();
        let order =
            ["model.safetensors", "optimizer.safetensors", "config.json", "state.json", "DONE"];
        for (index, name) in order.into_iter().enumerate() {
            let bytes = fs::read(finished.file(name)).unwrap();
            // Instants 0..10: half of a file is there, or all of it.
            if instant == 2 * index {
                fs::write(writing.join(name), &bytes[..bytes.len() / 2]).unwrap();
            }
            if instant <= 2 * index {
                return (directory, run);
            }
            fs::write(writing.join(name), &bytes).unwrap();
            if instant == 2 * index + 1 {
                return (directory, run);
            }
        }
        let (named, replaced) = (at("step_00000002"), at(".deleting-step_00000002"));
        fs::rename(&named, &replaced).unwrap();
        if instant > 10 {
            fs::rename(&writing, &named).unwrap();
        }
        if instant > 11 {
            fs::remove_file(replaced.join("DONE")).unwrap();
        }
        (directory, run)
    };
    for instant in 0..=12 {
        let (_directory, run) = build(instant);
        let scan = run.scan().unwrap();
        assert_eq!(steps(&scan), [1, 2], "instant {instant}");
        assert!(scan.incomplete.is_empty(), "instant {instant}: {:?}", scan.incomplete);
        let attempt = if instant < 10 { 1.0 } else { 2.0 };
        assert_eq!(weights(&scan.complete[1]), [2.0, attempt], "instant {instant}");
        // The run goes on, and nothing temporary stays.
        write(&run, 3, 1.0);
        assert_eq!(
            listing(&run.checkpoints_path()),
            ["step_00000001", "step_00000002", "step_00000003"],
            "instant {instant}"
        );
        let newest = run.newest().unwrap().unwrap();
        assert_eq!((newest.step(), weights(&newest)), (3, vec![3.0, 1.0]));
        let second = &run.scan().unwrap().complete[1];
        assert_eq!(weights(second), [2.0, attempt], "instant {instant}");
    }
}

/// Name, expected kind, expected text, and how to do it to a checkpoint's directory.
type Damage = (&'static str, ErrorKind, &'static str, fn(&Path));

#[test]
fn damaged_checkpoints_are_refused_and_passed_over() {
    let damage: [Damage; 7] = [
        ("no DONE", ErrorKind::Incomplete, "DONE is missing", |p| {
            fs::remove_file(p.join("DONE")).unwrap();
        }),
        ("cut weights", ErrorKind::Truncated, "model.safetensors", |p| {
            let bytes = fs::read(p.join("model.safetensors")).unwrap();
            fs::write(p.join("model.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("longer weights", ErrorKind::TrailingBytes, "optimizer.safetensors", |p| {
            let bytes = fs::read(p.join("optimizer.safetensors")).unwrap();
            fs::write(p.join("optimizer.safetensors"), [&bytes[..], b"x"].concat()).unwrap();
        }),
        ("no moments", ErrorKind::Incomplete, "optimizer.safetensors is missing", |p| {
            fs::remove_file(p.join("optimizer.safetensors")).unwrap();
        }),
        ("cut state", ErrorKind::Truncated, "state.json", |p| {
            let bytes = fs::read(p.join("state.json")).unwrap();
            fs::write(p.join("state.json"), &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("no state", ErrorKind::Io, "state.json", |p| {
            fs::remove_file(p.join("state.json")).unwrap();
        }),
        ("another step", ErrorKind::Malformed, "named for step 2", |p| {
            let text = fs::read_to_string(p.join("state.json")).unwrap();
            fs::write(p.join("state.json"), text.replace("\"step\": 2", "\"step\": 4")).unwrap();
        }),
    ];
    for (what, kind, text, apply) in damage {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(directory.path());
        write(&run, 1, 0.0);
        apply(write(&run, 2, 0.0).path());
        let scan = run.scan().unwrap();
        assert_eq!(steps(&scan), [1], "{what}");
        let e = &scan.incomplete[0];
        assert_eq!(e.kind(), kind, "{what}: {e}");
        assert!(e.to_string().contains(text), "{what}: {e}");
        assert!(e.path().unwrap().starts_with(run.path()), "{what}: {e}");
    }
}

#[test]
fn only_the_newest_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let run = RunDirectory::new(directory.path());
    for step in [1, 2, 3, 10] {
        write(&run, step, 0.0);
    }
    fs::create_dir(run.checkpoints_path().join("notes")).unwrap();
    // An incomplete checkpoint neither counts nor is deleted.
    fs::remove_file(run.checkpoints_path().join("step_00000003/DONE")).unwrap();
    let deleted = run.keep_last(2).unwrap();
    assert_eq!(deleted, [run.checkpoints_path().join("step_00000001")]);
    assert_eq!(
        listing(&run.checkpoints_path()),
        ["notes", "step_00000002", "step_00000003", "step_00000010"]
    );
    assert_eq!(run.keep_last(0).unwrap().len(), 1);
    assert_eq!(steps(&run.scan().unwrap()), [10]);
    assert!(run.keep_last(5).unwrap().is_empty());
    assert_eq!(Checkpoint::open(run.latest_path()).unwrap().step(), 10);
}

#[test]
fn state_keeps_every_number_and_refuses_every_surprise() {
    let json = state(3).to_json().unwrap();
    assert_eq!(CheckpointState::parse(&json).unwrap(), state(3));
    let text = String::from_utf8(json).unwrap();
    assert!(text.contains("\"0xfffffffffffffffe\""), "{text}");
    for (from, to, kind, expected) in [
        ("\"step\"", "\"stop\"", ErrorKind::Malformed, "`stop`"),
        ("\"epoch\": 3,", "", ErrorKind::Malformed, "`epoch`"),
        ("\"epoch\": 3", "\"epoch\": -3", ErrorKind::Malformed, "-3"),
        ("\"0xfffffffffffffffe\"", "\"0xff\"", ErrorKind::Malformed, "16 hexadecimal"),
        ("\"format_version\": 1", "\"format_version\": 2", ErrorKind::Unsupported, "version 2"),
        ("\"format_version\": 1,", "", ErrorKind::Malformed, "`format_version`"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        let e = CheckpointState::parse(changed.as_bytes()).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(expected), "{e}");
    }
    batter_strictly(text.trim_end().as_bytes(), 3000, |bytes| {
        CheckpointState::parse(&bytes).is_ok()
    });
}
