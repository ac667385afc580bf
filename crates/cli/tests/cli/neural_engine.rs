use crate::support::Place;
use orion_ane::{Ane, Options, WeightMode};
use orion_emulator::{Behaviour, StandIn};
use orion_mil::Weights;
use orion_runtime::Device as _;
use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

const PROGRAM: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 4, 1, 40]> x) {
        tensor<fp16, [1, 4, 1, 40]> y = relu(x = x)[name = string("y")];
    } -> (y);
}
"#;

#[test]
fn doctor_tells_what_works() {
    let place = Place::new();
    let text = place.line("doctor -d ane-stand-in:m4").succeeded();
    assert!(text.starts_with("stand-in for the framework of the M4's Neural Engine; no hardware"));
    for line in [
        "ok        binding:",
        "ok        inputs:",
        "ok        baked-reload:",
        "not tried kept-programs:",
        "ok        own-connection:",
        "85 through one connection, 119 in the process",
        "load_ms",
        "run_us",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let json = place.line("doctor -d ane-stand-in:m4 --json").succeeded();
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let observations = report["observations"].as_array().unwrap();
    assert!(observations.len() >= 8, "{json}");
    let seen =
        |name: &str| observations.iter().find(|o| o["name"] == name).expect("an observation");
    assert_eq!(seen("loaded-programs")["figures"]["through_one_connection"], 85.0);
    assert_eq!(seen("loaded-programs")["figures"]["in_the_process"], 119.0);
    let untried = |o: &&serde_json::Value| o["outcome"] != "ok";
    for observation in observations.iter().filter(untried) {
        // What the stand-in says of hardware times, and programs kept nowhere.
        let is_expected = ["statistics", "kept-programs"].iter().any(|n| observation["name"] == *n);
        assert!(is_expected && observation["outcome"] == "not tried", "{json}");
    }
    assert_eq!((&report["chip"], &report["facts"]["hardware"]), (&"m4".into(), &"none".into()));
}

/// The first process compiles what the second takes.
#[test]
fn doctor_tells_whether_compiled_programs_can_be_kept() {
    let place = Place::new();
    for whose in ["this", "another"] {
        let mut doctor = place.command(&["doctor", "-d", "ane-stand-in:m4"]);
        let ran = doctor.env("ORION_ANE_CACHE", place.path("kept")).output().expect("a process");
        let text = String::from_utf8_lossy(&ran.stdout);
        let line = format!("one that {whose} process compiled gave the right results");
        assert!(text.contains("ok        kept-programs:") && text.contains(&line), "{text}");
        assert!(text.contains("; 1 in ") && text.contains("kept, "), "{text}");
    }
}

#[test]
#[cfg(not(target_os = "macos"))]
fn power_is_missed_where_there_is_none() {
    let place = Place::new();
    let text = place.line("doctor -d ane-stand-in:m4 --power").succeeded();
    assert!(text.contains("not tried power: what power does the engine take"), "{text}");
    assert!(text.contains("this system has no /usr/bin/powermetrics"), "{text}");
}

#[test]
fn probe_writes_what_it_sees() {
    let place = Place::new();
    place.line("probe -d ane-stand-in:m4 -o seen.json -q").succeeded();
    let report: serde_json::Value = serde_json::from_str(&place.read("seen.json")).unwrap();
    let observations = report["observations"].as_array().unwrap();
    let seen = |name: &str| observations.iter().find(|o| o["name"] == name).expect("an experiment");
    assert!(seen("C42")["answer"].as_str().unwrap().starts_with("no: "));
    assert!(seen("C45")["answer"].as_str().unwrap().starts_with("no: "));
    assert!(seen("C45-file")["answer"].as_str().unwrap().starts_with("no: "));
    assert_eq!(seen("C46")["outcome"], "failed");
    assert!(seen("C46")["answer"].as_str().unwrap().contains("No entitlement!"));
    assert!(seen("C46-file")["question"].as_str().unwrap().ends_with("by its file?"));
    assert_eq!(seen("C43")["outcome"], "ok");
    assert_eq!(seen("C48")["figures"]["loaded"], 119.0);
    assert_eq!(seen("C48")["figures"]["connections"], 2.0);
    assert_eq!(seen("C69")["figures"]["first_result"], 2050.0);
    assert_eq!(seen("C102-one-file")["answer"], "yes, with right results");
    assert_eq!(seen("operation tan")["outcome"], "failed");
    assert_eq!(seen("operation sqrt")["outcome"], "ok");
    let inputs = &seen("U1-fp32")["attributes"]["NetworkStatusList"][0]["LiveInputList"];
    assert_eq!((&inputs[0]["RowStride"], &inputs[0]["Channels"]), (&64.0.into(), &768.0.into()));
}

#[test]
fn programs_run_over_the_stand_in_in_every_mode() {
    let place = Place::new();
    place.write("model.mil", PROGRAM);
    let cpu = place.line("mil run model.mil --input x=random:1 -d cpu:reference").succeeded();
    for mode in ["", ":inputs", ":baked-reload", ":baked-recompile"] {
        assert_eq!(
            place
                .line(&format!("mil run model.mil --input x=random:1 -d ane-stand-in:m4{mode}"))
                .succeeded(),
            cpu
        );
    }
    let ran = place.line("mil run model.mil --input x=random:1 -d ane-stand-in:m4:weights");
    assert!(ran.code == 2 && ran.stderr.contains("`weights` is no weight mode"), "{ran}");
}

/// Here the test has the same program, and the turn with its directory for longer than a command
/// waits in silence.
#[test]
fn a_command_says_which_process_it_waits_for() {
    let place = Place::new();
    place.write("model.mil", PROGRAM);
    let directory = place.path("orion-ane-stand-in");
    let framework = StandIn::new("m4".parse().unwrap(), &directory, Behaviour::default());
    let options = Options::new(WeightMode::BakedRecompile);
    let device = Ane::open(framework, "ane-stand-in:m4", options).unwrap();
    let program = orion_mil::text::parse(PROGRAM).unwrap();
    let _compiled = device.compile(&program, &Weights::new()).unwrap();
    let files = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let turn = files.into_iter().find(|path| path.extension().is_some_and(|e| e == "orion-turn"));
    let turn = File::open(turn.expect("the program's")).unwrap();
    turn.lock().unwrap();
    let mut run = place.command(&["mil", "run", "model.mil", "-q", "-d", "ane-stand-in:m4"]);
    run.args(["--input", "x=random:1"]).env("TMPDIR", place.path(""));
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    drop(turn);
    let ran = run.wait_with_output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    let expected = format!("waiting for process {}, which", std::process::id());
    assert!(ran.status.success() && said.matches(&expected).count() == 1, "{said}");
}

#[test]
#[cfg(not(target_os = "macos"))]
fn without_a_mac_the_engine_is_missed_with_a_way_out() {
    let place = Place::new();
    for line in ["doctor", "probe", "run stories260k -d ane:inputs+cpu"] {
        let ran = place.line(line);
        assert!(ran.stderr.contains("needs macOS on Apple silicon"), "{ran}");
        assert!(ran.stderr.contains("hint: `cpu` runs the same programs here"), "{ran}");
        assert_eq!(ran.code, 2, "{ran}");
    }
    let ran = place.line("doctor -d cpu");
    assert!(ran.code == 2 && ran.stderr.contains("`cpu` is not the Neural Engine"), "{ran}");
}
