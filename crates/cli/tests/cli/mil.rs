use crate::support::{Place, Ran};
use insta::assert_snapshot;
use serde_json::Value;

const PROGRAM: &str = r#"program(1.3)
[buildInfo = dict<string, string>({{"orion", "0.1.0"}})]
{
    func main<ios18>(tensor<fp32, [3]> w, tensor<fp32, [2, 3]> x) {
            tensor<fp32, [2, 3]> scaled = mul(x = x, y = w)[name = string("scaled")];
            tensor<fp32, [2, 3]> y = exp(x = scaled)[name = string("y")];
        } -> (y);
}
"#;

fn with_program(text: &str) -> Place {
    let place = Place::new();
    place.write("model.mil", text);
    place
}

fn run(place: &Place, arguments: &str) -> Ran {
    place.line(&format!("mil run model.mil {arguments}"))
}

#[test]
fn printing_brings_a_program_into_canonical_form() {
    let loose = PROGRAM.replace("  ", " ").replace("x = x, y = w", "y=w,x  =  x");
    assert_ne!(loose, PROGRAM);
    let printed = with_program(&loose).line("mil print model.mil").succeeded();
    assert_eq!(printed, PROGRAM);
    let directory = with_program(PROGRAM).line("mil print .").succeeded();
    assert_eq!(directory, PROGRAM);
}

#[test]
fn a_sound_program_has_nothing_wrong() {
    let place = with_program(PROGRAM);
    assert_snapshot!(place.line("mil check model.mil"), @"");
    assert_snapshot!(place.line("mil check . --format json"), @"");
}

#[test]
fn everything_that_is_wrong_is_listed() {
    let broken = PROGRAM
        .replace("exp(x = scaled)", "expp(x = scaled)")
        .replace("tensor<fp32, [2, 3]> scaled", "tensor<fp32, [2, 4]> scaled");
    let place = with_program(&broken);
    assert_snapshot!(place.line("mil check model.mil"), @"");
    let json = place.line("mil check model.mil --format json");
    assert_eq!(json.code, 1);
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    let diagnostics = report["diagnostics"].as_array().unwrap();
    assert!(diagnostics.len() >= 2, "{json}");
    assert!(diagnostics.iter().all(|d| d["function"] == "main" && d["message"].is_string()));
}

#[test]
fn a_text_that_does_not_parse_is_located() {
    let place = with_program(&PROGRAM.replace("mul(x = x, y = w)", "mul(x = x, y = v)"));
    assert_snapshot!(place.line("mil check model.mil"), @"");
    assert_snapshot!(place.line("mil print model.mil"), @"");
}

#[test]
fn files_that_are_not_text() {
    let place = Place::new();
    place.write("model.mil", [0x80, 0, 0xff]);
    assert_snapshot!(place.line("mil check model.mil"), @"");
    assert_snapshot!(place.line("mil run nothing.mil"), @"");
}

#[test]
fn a_bundle_without_its_weights_is_wrong() {
    let with_blob = PROGRAM.replace(
        "            tensor<fp32, [2, 3]> y",
        "            tensor<fp32, [4]> c = const()[name = string(\"c\"), val = tensor<fp32, \
         [4]>(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64(64)))];\n            \
         tensor<fp32, [2, 3]> y",
    );
    let place = with_program(&with_blob);
    assert_eq!(place.line("mil check model.mil").code, 0, "a text alone is sound");
    let bundle = place.line("mil check .");
    assert_eq!(bundle.code, 1, "{bundle}");
    assert!(bundle.stdout.contains("weights/weight.bin"), "{bundle}");
}

#[test]
fn running_describes_the_outputs() {
    let place = with_program(PROGRAM);
    assert_snapshot!(run(&place, "-i w=[0,1,2] -i x=[0,0,0,1,1,1] -d cpu:reference"), @"");
    let json = run(&place, "-i w=zeros -i x=random:7 --format json");
    assert_snapshot!(json, @"");
}

#[test]
fn inputs_that_do_not_fit_are_explained() {
    let place = with_program(PROGRAM);
    assert_snapshot!(run(&place, ""), @"");
    assert_snapshot!(run(&place, "-i w=zeros -i z=zeros"), @"");
    assert_snapshot!(run(&place, "-i *=ones"), @"");
}

#[test]
fn arrays_go_out_and_come_in_again() {
    let place = with_program(PROGRAM);
    run(&place, "-i *=random:3 -o first").succeeded();
    std::fs::copy(place.path("first/y.npy"), place.path("x.npy")).unwrap();
    let from_file = run(&place, "-i w=zeros -i x=x.npy --format json").succeeded();
    assert!(from_file.contains("\"mean\":1.0"), "exp(0) is 1: {from_file}");
    let wrong = run(&place, "-i w=x.npy -i x=x.npy");
    assert_snapshot!(wrong, @"");
}

#[test]
fn devices_are_compared_and_the_answer_may_be_no() {
    let place = with_program(PROGRAM);
    assert_snapshot!(
        run(&place, "-i *=random:3 --against cpu:reference --tolerance close -q")
            .succeeded()
            .lines()
            .last()
            .unwrap(),
        @""
    );
    // exp of something near 88 is at the edge of fp32; the last bits differ between a polynomial
    // in fp32 and the definition in f64.
    let values = "-i w=[1,1,1] -i x=[0.1,1.3,-2.7,10.1,33.3,87.9]";
    let no = run(&place, &format!("{values} --against cpu:reference --tolerance exact"));
    assert_eq!(no.code, 1, "{no}");
    assert!(no.stdout.contains("values outside Exact"), "{no}");
    let json =
        run(&place, &format!("{values} --against cpu:reference --tolerance exact --format json"));
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, &report["equal"]), (1, &Value::Bool(false)));
}
