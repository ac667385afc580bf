//! Artifacts of Parameter Golf, from a model and back.

use crate::support::Place;
use orion_tensor::Tolerance;
use orion_testing::shared;
use serde_json::Value;

const TINY: &str = "[model]\nfamily = \"golf-baseline\"\nvocab_size = 262\nhidden_size = 256\n\
                    intermediate_size = 320\nn_layers = 2\nn_heads = 4\nn_kv_heads = 2\n\
                    head_dim = 64\nmax_positions = 1024\nlogit_softcap = 30.0\n\
                    norm_epsilon = 1.1920928955078125e-7\n";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_model_becomes_an_artifact_and_comes_back() {
    let place = Place::new();
    place.write("tiny.toml", TINY);
    assert_eq!(place.line("init tiny.toml -o model --seed 3").succeeded(), "model\n");
    place.write("code.py", "print('é')\n");
    let line = "artifact save model -o model.ptz --code code.py --code code.py --format json";
    let report = json(&place.line(line).succeeded());
    let length = |name: &str| std::fs::metadata(place.path(name)).unwrap().len();
    assert_eq!(report["bytes_model"], length("model.ptz"));
    assert_eq!(report["bytes_code"], 24);
    assert_eq!(report["bytes_total"], length("model.ptz") + 24);
    assert_eq!((&report["bytes_limit"], &report["fits"]), (&16_000_000.into(), &true.into()));

    // Written again it stays as it is, and both forms hold the same.
    place.line("artifact save model.ptz -o again.ptz").succeeded();
    place.line("artifact save model.ptz -o raw.pt --raw").succeeded();
    let bytes = |name: &str| std::fs::read(place.path(name)).unwrap();
    assert!(bytes("again.ptz") == bytes("model.ptz"));
    assert!(length("raw.pt") > length("model.ptz"));
    place.line("artifact load model.ptz -o back").succeeded();
    place.line("artifact load raw.pt -o back_from_raw").succeeded();
    assert!(bytes("back/model.safetensors") == bytes("back_from_raw/model.safetensors"));
    assert!(
        bytes("back/config.json") == bytes("model/config.json"),
        "{}",
        place.read("back/config.json")
    );

    let ids: Vec<u8> = (0..200u16).flat_map(|i| (i % 262).to_le_bytes()).collect();
    place.write("tokens.bin", ids);
    let rest = "--data tokens.bin --seq 16 --format json";
    let direct = json(&place.line(&format!("artifact eval model.ptz {rest}")).succeeded());
    let back = json(&place.line(&format!("eval back {rest}")).succeeded());
    assert_eq!(direct["loss"], back["loss"]);
    assert_eq!(direct["bytes_total"], length("model.ptz"));
}

#[test]
fn what_is_too_large_is_the_answer_no() {
    let place = Place::new();
    place.write("tiny.toml", TINY);
    place.line("init tiny.toml -o model").succeeded();
    place.write("code.py", vec![b' '; 16_000_000]);
    let ran = place.line("artifact save model -o model.ptz --code code.py");
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.stdout.contains("too many") && ran.stderr.contains("too large"), "{ran}");
}

#[test]
fn another_network_needs_its_config() {
    let place = crate::support::tiny_run();
    place.line("artifact save run -o run.ptz").succeeded();
    let ran = place.line("artifact load run.ptz -o back");
    assert!(ran.code == 3 && ran.stderr.contains("--config"), "{ran}");
    place.line("artifact load run.ptz -o back --config run/latest/config.json").succeeded();
    assert!(place.path("back/model.safetensors").exists());
    place.write("evil.pt", b"PK\x03\x04 and so on");
    let ran = place.line("run evil.pt -p x");
    assert!(ran.code == 3 && ran.stderr.contains("ZIP archive"), "{ran}");
}

#[test]
fn the_golden_artifact_goes_through_every_verb() {
    let Some(file) = shared("golden/golf/baseline_tiny.int8.ptz") else { return };
    let golden = |name: &str| file.with_file_name(format!("baseline_tiny{name}"));
    let data = shared("data/fineweb_val_prefix_sp1024.bin").unwrap();
    let tokenizer = shared("data/fineweb_1024_bpe.model").unwrap();
    let place = Place::new();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    place.line(&format!("artifact save {} --raw -o again.pt", text(&file))).succeeded();
    let again = std::fs::read(place.path("again.pt")).unwrap();
    assert!(again == std::fs::read(golden(".int8.raw.pt")).unwrap(), "other bytes than PyTorch's");

    place.line(&format!("artifact load {} -o model", text(&file))).succeeded();
    let tensors = |path: &std::path::Path| orion_formats::SafeTensors::open(path).unwrap().tensors;
    let (ours, theirs) =
        (tensors(&place.path("model/model.safetensors")), tensors(&golden("_dequant.safetensors")));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, tensor) in &theirs {
        assert_eq!(&ours[name], tensor, "{name}");
    }

    let expected = json(&std::fs::read_to_string(golden(".json")).unwrap());
    let line = format!(
        "artifact eval {} --data {} --tokenizer {} --seq 64 --max-tokens 1024 --format json",
        text(&file),
        text(&data),
        text(&tokenizer)
    );
    let report = json(&place.line(&line).succeeded());
    assert_eq!(report["bytes"], expected["dequant"]["bytes"]);
    assert_eq!(report["bytes_total"], std::fs::metadata(&file).unwrap().len());
    let number = |value: &Value| [value.as_f64().unwrap()];
    for (ours, theirs) in [("loss", "val_loss"), ("bits_per_byte", "val_bpb")] {
        let expected = number(&expected["dequant"][theirs]);
        Tolerance::F32Network.check(&number(&report[ours]), &expected).unwrap();
    }
}
