use crate::support::{Place, tiny_run};
use insta::assert_snapshot;
use serde_json::Value;

/// Once each, so that tests stay short.
const ONCE: &str = "-r 1 -t 2";

fn report(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn keys(value: &Value) -> String {
    let keys = value.as_object().expect("an object").keys();
    keys.map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_report_for_programs() {
    let place = Place::new();
    let line = format!("bench decode --model stories260k -n 4 --format json {ONCE}");
    let report = report(&place.line(&line).succeeded());
    assert_snapshot!(keys(&report), @"machine results");
    let result = &report["results"][0];
    if cfg!(target_os = "linux") {
        assert_snapshot!(keys(result), @"batch best device median model parameters peak_rss_bytes precision repetitions samples share_of_limit size_bytes spread test threads tokens unit unsteady_repetitions warm_up");
    }
    for (key, expected) in [
        ("test", Value::from("tg4")),
        ("model", "stories260k".into()),
        ("precision", "f32".into()),
        ("device", "cpu".into()),
        ("unit", "tokens/s".into()),
        ("threads", 2.into()),
        ("batch", 1.into()),
        ("tokens", 4.into()),
        ("parameters", 260_032.into()),
        ("repetitions", 1.into()),
    ] {
        assert_eq!(result[key], expected, "{key}");
    }
    assert!(result["median"].as_f64().is_some_and(|v| v > 0.0));
    assert!(result["share_of_limit"].as_f64().is_some_and(|v| v > 0.0));
    let limits = report["machine"]["limits"].as_array().expect("a list");
    let threads: Vec<_> = limits.iter().map(|l| l["threads"].as_u64()).collect();
    assert_eq!(threads, [Some(1), Some(2)]);
    assert!(limits.iter().all(|l| l["f32_gflops"].as_f64().is_some_and(|v| v > 0.0)));
}

#[test]
fn every_benchmark_names_its_tests() {
    let place = tiny_run();
    for (line, expected) in [
        ("prefill --model run -n 5", &["pp5"][..]),
        ("decode --model stories260k -n 2 --batch 3", &["tg2"]),
        ("prefill --model golf-baseline -n 3 --batch 2", &["pp3"]),
        ("train --model run --tokens 8 --batch 2", &["train 2x8"]),
        ("load --model run", &["load", "first token", "compile train 1x64"]),
        ("load --model stories260k", &["first token", "compile train 1x256"]),
    ] {
        let line = format!("bench {line} --format json {ONCE}");
        let report = report(&place.line(&line).succeeded());
        let tests: Vec<_> = report["results"].as_array().expect("a list").iter().collect();
        let names: Vec<_> = tests.iter().filter_map(|r| r["test"].as_str()).collect();
        assert_eq!(names, expected, "{line}");
    }
}

/// As `run` divides a model, so that what is measured is what it does.
#[test]
fn two_devices_are_measured_as_they_run() {
    let place = tiny_run();
    for (device, split, said) in [
        ("cpu+cpu", None, "cpu+cpu: cpu reads prompts, cpu looks up tokens"),
        ("cpu+cpu", Some("attention"), "cpu+cpu: cpu computes norms, projections and MLPs"),
        ("ane-model:m4+cpu", Some("prefill"), "ane-model:m4 reads prompts, cpu looks up tokens"),
        ("ane-stand-in:m4+cpu", Some("attention"), "cpu attention and what is outside of blocks"),
    ] {
        let words = split.map_or(String::new(), |split| format!("--split {split}"));
        for (task, test) in [("prefill -n 40", "pp40"), ("decode -n 3", "tg3")] {
            let line = format!("bench {task} --model run -d {device} {words} --format json {ONCE}");
            let ran = place.line(&line);
            assert!(ran.stderr.contains(said), "{ran}");
            let report = report(&ran.succeeded());
            let result = &report["results"][0];
            assert_eq!(result["test"], test);
            assert_eq!(result["device"].as_str().unwrap().split('+').count(), 2, "{result}");
            assert_eq!(result["split"], split.unwrap_or("prefill"));
            assert!(result["share_of_limit"].is_null(), "{result}");
            assert!(result["median"].as_f64().is_some_and(|v| v > 0.0), "{result}");
        }
    }
    for device in ["cpu+cpu", "ane-model:m4+cpu", "ane-stand-in:m4:baked-reload+cpu"] {
        let line =
            format!("bench train --model run -n 8 --batch 2 -d {device} --format json {ONCE}");
        let report = report(&place.line(&line).succeeded());
        let result = &report["results"][0];
        assert_eq!((&result["test"], &result["device"]), (&"train 2x8".into(), &device.into()));
        assert!(result["share_of_limit"].is_null() && result["split"].is_null(), "{result}");
        assert!(result["median"].as_f64().is_some_and(|v| v > 0.0), "{result}");
        let line = format!("bench load --model run -d {device} --format json {ONCE}");
        let report = self::report(&place.line(&line).succeeded());
        let tests: Vec<&Value> = report["results"].as_array().unwrap().iter().collect();
        let names: Vec<&Value> = tests.iter().map(|result| &result["test"]).collect();
        assert_eq!(names, ["load", "first token"]);
        assert_eq!((&tests[1]["device"], &tests[1]["split"]), (&device.into(), &"prefill".into()));
    }
    let table = place.line(&format!("bench decode --model run -n 2 -d cpu+cpu {ONCE}")).succeeded();
    assert!(table.contains("cpu+cpu  prefill"), "{table}");
    for (line, expected) in [
        ("decode -d cpu --split attention", "--split is about two devices, and `cpu` is one"),
        ("prefill -d ane-stand-in:m4", "cannot run a model alone"),
        ("decode -d cpu+cpu --explain", "--explain is about one device, and cpu+cpu are two"),
        ("train -d cpu+cpu --explain", "--explain is about one device, and cpu+cpu are two"),
        ("train -d ane-model:m4", "ane-model:m4 does not train alone"),
        ("train -d cpu+ane-model:m4", "cannot do what layers leave to the CPU"),
    ] {
        let ran = place.line(&format!("bench {line} --model run {ONCE}"));
        assert_eq!(ran.code, 2, "{ran}");
        assert!(ran.stderr.contains(expected), "{ran}");
    }
}

#[test]
fn a_program_with_its_plan() {
    let place = Place::new();
    place.write(
        "square.mil",
        "program(1.3)\n{\n    func main<ios18>(tensor<fp32, [2, 3]> x) {\n            \
         tensor<fp32, [2, 3]> y = mul(x = x, y = x)[name = string(\"y\")];\n        } -> (y);\n}\n",
    );
    let text = place.line(&format!("bench program square.mil --explain {ONCE}")).succeeded();
    let (plan, table) = text.split_once("\n\n").expect("a plan, then tables");
    assert!(plan.contains("1 steps") && plan.contains("map"), "{plan}");
    assert!(table.contains("square: 1 steps, "), "{table}");
    assert!(table.lines().any(|l| l.ends_with(" map mul 2x3 -> 2x3 [mul]")), "{table}");
    assert!(table.lines().any(|l| l.starts_with("square ") && l.contains(" ms")), "{table}");
    let ran = place.line(&format!("bench program square.mil --explain --format json {ONCE}"));
    assert!(ran.stderr.contains("1 steps"), "{ran}");
    assert_eq!(report(&ran.succeeded())["results"][0]["test"], "program");
}

#[test]
fn where_the_time_of_a_training_step_goes() {
    let line = format!("bench train --model stories260k -n 32 --explain {ONCE}");
    let text = Place::new().line(&line).succeeded();
    assert!(text.contains("gradients: ") && text.contains("update: "), "{text}");
    // Gate and up projections of five layers, forward, are one row; what takes longest is first.
    let row = text.lines().find(|l| l.contains("product 172x32x64 nn")).expect("a row of products");
    assert_eq!(row.split_whitespace().nth(2), Some("10"), "{row}");
}

#[test]
fn a_table_for_markdown() {
    let text = Place::new().line("bench machine --format md -r 1 -t 1").succeeded();
    let rows: Vec<&str> = text.lines().filter(|l| l.starts_with('|')).collect();
    assert!(rows[0].contains("| test") && rows[1].starts_with("| -"), "{text}");
    assert!(rows.iter().any(|r| r.contains("| multiply-add | ")), "{text}");
}

#[test]
fn an_earlier_report_is_compared() {
    let place = Place::new();
    let line = format!("bench decode --model stories260k -n 4 --format json {ONCE}");
    let now = place.line(&line).succeeded();
    let write = |factor: f64| {
        let mut before = report(&now);
        let median = before["results"][0]["median"].as_f64().expect("a number");
        before["results"][0]["median"] = (median * factor).into();
        before["results"][0]["spread"] = 0.into();
        place.write("before.json", before.to_string());
    };
    // So far apart that no noise of the machine matters.
    write(1e-3);
    let faster = report(&place.line(&format!("{line} --compare before.json")).succeeded());
    let compared = &faster["results"][0]["compared"];
    assert_eq!(compared["slower"], false);
    assert!(compared["ratio"].as_f64().is_some_and(|r| r > 10.0), "{compared}");
    write(1e3);
    let slower = place.line(&format!("{line} --compare before.json"));
    assert_eq!(slower.code, 1, "{slower}");
    assert_eq!(slower.stderr, "warning: more than 10 % slower than before: tg4\n");
    assert_eq!(report(&slower.stdout)["results"][0]["compared"]["slower"], true);
    let other =
        place.line(&format!("bench decode --model stories260k -n 5 {ONCE} --compare before.json"));
    assert_eq!(other.code, 3, "{other}");
    assert!(other.stderr.contains("nothing in it is the same test"), "{other}");
}

#[test]
fn what_cannot_be_measured() {
    let place = Place::new();
    let unknown = place.line("bench train --model storys15m");
    assert_eq!(unknown.code, 2, "{unknown}");
    assert!(unknown.stderr.contains("storys15m is neither a file nor a preset"), "{unknown}");
    assert!(unknown.stderr.contains("hint: did you mean `stories15m`?"), "{unknown}");
    assert_snapshot!(place.line("bench train --model stories260k --precision int8"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: --precision int8 is a way to keep weights for generation
    hint: this takes f32 or bf16
    ");
    assert_snapshot!(place.line("bench gemm --model stories"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: there are no shapes of `stories`
    hint: there are stories110m, golf-baseline, gpt2-124m
    ");
    let too_long = place.line("bench prefill --model stories260k -n 513");
    assert_snapshot!(too_long, @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: 513 tokens were asked for; stories260k takes 1 to 512
    ");
}
