use crate::support::Place;
use insta::assert_snapshot;
use serde_json::Value;

const PROGRAM: &str = r#"program(1.3)
[buildInfo = dict<string, string>({{"coremlc-version", "1"}})]
{
    func main<ios18>(tensor<fp16, [1, 64, 8, 64]> a) {
        tensor<fp16, [1, 64, 8, 64]> t = tan(x = a)[name = string("t")];
        tensor<fp16, [1, 64, 8, 64]> b = relu(x = t)[name = string("b")];
    } -> (b);
}
"#;

#[test]
fn estimate_prices_a_program() {
    let place = Place::new();
    place.write("model.mil", PROGRAM);
    assert_snapshot!(place.line("estimate model.mil --chip m1"));
    assert_snapshot!(place.line("estimate model.mil --chip m4 --format json -q"));
}

#[test]
fn estimate_prices_what_a_model_does() {
    let place = Place::new();
    let price_of = |task: &str, tokens: usize| {
        let line = format!("estimate stories260k --task {task} --seq {tokens} --format json -q");
        serde_json::from_str::<Value>(&place.line(&line).succeeded()).unwrap()
    };
    let price = |task: &str| price_of(task, 64);
    let [prefill, decode, train] = ["prefill", "decode", "train"].map(price);
    let functions = |price: &Value| price["functions"].as_array().unwrap().len();
    assert_eq!([functions(&prefill), functions(&decode), functions(&train)], [1, 1, 2]);
    assert_eq!((&prefill["tokens"], &decode["tokens"]), (&64.into(), &1.into()));
    let divided = train["two_devices"].as_array().unwrap();
    assert_eq!(divided.len(), 18, "a row for each chip");
    for row in divided {
        let us = |key: &str| row[key].as_f64().unwrap();
        // The parts one behind the other take as long as both sides together; at once they take
        // less, but no less than either side.
        assert!((us("serial_us") - us("engine_us") - us("host_us")).abs() < 1e-6, "{row}");
        assert!(us("overlapped_us") < us("serial_us"), "{row}");
        assert!(us("overlapped_us") >= us("engine_us").max(us("host_us")), "{row}");
        // A whole step too, in which a part of the update goes on beside the engine.
        let [serial, overlapped] =
            ["serial", "overlapped"].map(|key| row["step_us"][key].as_f64().unwrap());
        assert!(overlapped < serial && overlapped > us("overlapped_us"), "{row}");
        let new = row["new_weights_us"]["inputs"].as_f64().unwrap();
        assert!(overlapped < us("overlapped_us") + new + us("update_us"), "{row}");
        let new = |mode: &str| row["new_weights_us"][mode].as_f64().unwrap();
        assert!(new("inputs") < new("baked-reload"), "{row}");
        assert!(new("baked-reload") < new("baked-recompile"), "{row}");
    }
    // An adapter is cheaper to train, and its weights need not be brought anywhere.
    for (row, all) in price("finetune")["two_devices"].as_array().unwrap().iter().zip(divided) {
        let us = |row: &Value, key: &str| row[key].as_f64().unwrap();
        assert!(us(row, "overlapped_us") < us(all, "overlapped_us"), "{row}, {all}");
        assert!(us(row, "update_us") < us(all, "update_us") / 4.0, "{row}, {all}");
        assert!(row["new_weights_us"]["baked-reload"].is_null(), "{row}");
    }
    // Where programs have some work to do, it is quicker with weights compiled in.
    for row in price_of("finetune", 256)["two_devices"].as_array().unwrap() {
        let us = |key: &str| row[key].as_f64().unwrap();
        assert!(us("baked_us") < us("overlapped_us"), "{row}");
    }
    // Two runs take longer than one, and 64 tokens at once longer than one.
    let us = |price: &Value| price["us"].as_f64().unwrap();
    assert!(us(&train) > us(&prefill) && us(&prefill) > us(&decode));
    assert_snapshot!(place.line("estimate no-such-model"));
    assert_snapshot!(place.line("estimate stories260k --seq 100000"));
}

#[test]
fn a_trace_is_one_event_behind_the_other() {
    let place = Place::new();
    place.write("model.mil", PROGRAM);
    let text = place.line("estimate model.mil --format trace -q").succeeded();
    let trace: Value = serde_json::from_str(&text).unwrap();
    let all = trace["traceEvents"].as_array().unwrap();
    let complete: Vec<&Value> = all.iter().filter(|e| e["ph"] == "X").collect();
    let names: Vec<&str> = complete.iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["dispatch", "tan -> t", "relu -> b"]);
    let mut end = 0.0;
    for event in complete {
        assert!((event["ts"].as_f64().unwrap() - end).abs() < 1e-9, "{event}");
        end += event["dur"].as_f64().unwrap();
    }
}
