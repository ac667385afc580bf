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

const PRODUCT: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [64, 512]> a, tensor<fp32, [512, 64]> b) {
            bool no = const()[name = string("no"), val = bool(false)];
            tensor<fp32, [64, 64]> y = matmul(transpose_x = no, transpose_y = no, x = a, y = b)[name = string("y")];
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
    assert_snapshot!(place.line("mil check model.mil"), @r"
    exit: 0
    ----- stdout -----

    ----- stderr -----
    model.mil: nothing wrong
    ");
    assert_snapshot!(place.line("mil check . --format json"), @r#"
    exit: 0
    ----- stdout -----
    {"diagnostics":[]}
    ----- stderr -----
    "#);
}

#[test]
fn everything_that_is_wrong_is_listed() {
    let broken = PROGRAM
        .replace("exp(x = scaled)", "expp(x = scaled)")
        .replace("tensor<fp32, [2, 3]> scaled", "tensor<fp32, [2, 4]> scaled");
    let place = with_program(&broken);
    assert_snapshot!(place.line("mil check model.mil"), @r"
    exit: 1
    ----- stdout -----
    model.mil: in main, mul -> scaled (operation 0): output `scaled` is declared tensor<fp32, [2, 4]>, it is tensor<fp32, [2, 3]>
    model.mil: in main, expp -> y (operation 1): there is no op `expp`
    ----- stderr -----
    model.mil: 2 wrong
    ");
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
    assert_snapshot!(place.line("mil check model.mil"), @r"
    exit: 1
    ----- stdout -----
    model.mil:5:58: line 5, column 58: undefined value `v`
    hint: did you mean `w`?
    ----- stderr -----
    model.mil: 1 wrong
    ");
    assert_snapshot!(place.line("mil print model.mil"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: model.mil: line 5, column 58: undefined value `v`
    hint: did you mean `w`?
    ");
}

#[test]
fn files_that_are_not_text() {
    let place = Place::new();
    place.write("model.mil", [0x80, 0, 0xff]);
    assert_snapshot!(place.line("mil check model.mil"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: model.mil: not a program: expected UTF-8 text, found other bytes from 0
    hint: MIL text is the model.mil of a compiled model; protobufs have names in .mlmodel
    ");
    assert_snapshot!(place.line("mil run nothing.mil"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: nothing.mil: cannot access: No such file or directory (os error 2)
    ");
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
    assert_snapshot!(run(&place, "-i w=[0,1,2] -i x=[0,0,0,1,1,1] -d cpu:reference"), @r"
    exit: 0
    ----- stdout -----
    y: fp32[2, 3]
      min 1.000000  mean 2.351223  max 7.389056
      [1, 1, 1, 1, 2.7182817459106445, 7.389056205749512]
    ----- stderr -----
    ");
    let json = run(&place, "-i w=zeros -i x=random:7 --format json");
    assert_snapshot!(json, @r#"
    exit: 0
    ----- stdout -----
    {"outputs":[{"dtype":"fp32","first":[1.0,1.0,1.0,1.0,1.0,1.0],"max":1.0,"mean":1.0,"min":1.0,"name":"y","shape":[2,3]}]}
    ----- stderr -----
    "#);
}

#[test]
fn inputs_that_do_not_fit_are_explained() {
    let place = with_program(PROGRAM);
    assert_snapshot!(run(&place, ""), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: inputs without a value: w fp32[3], x fp32[2, 3]
    hint: give --input w=random:1, or --input '*=random:1'
    ");
    assert_snapshot!(run(&place, "-i w=zeros -i z=zeros"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: the program has no input `z`
    hint: its inputs are w fp32[3], x fp32[2, 3]
    ");
    assert_snapshot!(run(&place, "-i *=ones"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: --input *=ones: `ones` is not a value
    hint: write NAME=zeros, NAME=random:SEED, NAME=random:SEED:BELOW, NAME=[1,2,3] or NAME=FILE.npy; * names every other input
    ");
}

#[test]
fn arrays_go_out_and_come_in_again() {
    let place = with_program(PROGRAM);
    run(&place, "-i *=random:3 -o first").succeeded();
    std::fs::copy(place.path("first/y.npy"), place.path("x.npy")).unwrap();
    let from_file = run(&place, "-i w=zeros -i x=x.npy --format json").succeeded();
    assert!(from_file.contains("\"mean\":1.0"), "exp(0) is 1: {from_file}");
    let wrong = run(&place, "-i w=x.npy -i x=x.npy");
    assert_snapshot!(wrong, @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: input `w`: x.npy holds fp32[2, 3], the program takes fp32[3]
    ");
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
        @"y: cpu and cpu:reference agree within Close"
    );
    // Sums of 512 products differ in their last bits: fp32 in one order here, f64 there.
    let place = with_program(PRODUCT);
    let no = run(&place, "-i *=random:3 --against cpu:reference --tolerance exact");
    assert_eq!(no.code, 1, "{no}");
    assert!(no.stdout.contains("values outside Exact"), "{no}");
    let json = run(&place, "-i *=random:3 --against cpu:reference --tolerance exact --format json");
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, &report["equal"]), (1, &Value::Bool(false)));
    run(&place, "-i *=random:3 --against cpu:reference").succeeded();
}

const CONSTANT: &str = r#"program(1.3)
{
    func main<ios18>(state<tensor<fp16, [3]>> cache, tensor<fp32, [2, 3]> x) {
            tensor<fp32, [3]> w = const()[name = string("w"), val = tensor<fp32, [3]>([0x1p+0, 0x1p-1, 0x0p+0])];
            tensor<fp32, [2, 3]> y = mul(x = x, y = w)[name = string("y")];
        } -> (y);
}
"#;

#[test]
fn a_program_is_described() {
    let place = with_program(CONSTANT);
    assert_snapshot!(place.line("mil info model.mil"), @r"
    exit: 0
    ----- stdout -----
    program(1.3)
    weights     0 bytes
    function    main<ios18>
      state     cache: state<tensor<fp16, [3]>>
      input     x: tensor<fp32, [2, 3]>
      output    y: tensor<fp32, [2, 3]>
      operations 2
             1  const
             1  mul
    ----- stderr -----
    ");
    assert_snapshot!(place.line("mil info . --format json"), @r#"
    exit: 0
    ----- stdout -----
    {"dialect":"1.3","functions":[{"inputs":[{"name":"x","type":"tensor<fp32, [2, 3]>"}],"name":"main","operations":{"const":1,"mul":1},"opset":"ios18","outputs":[{"name":"y","type":"tensor<fp32, [2, 3]>"}],"states":[{"name":"cache","type":"state<tensor<fp16, [3]>>"}]}],"weight_bytes":0}
    ----- stderr -----
    "#);
}

#[test]
fn programs_are_converted_there_and_back() {
    let place = with_program(PROGRAM);
    assert_snapshot!(place.line("mil convert model.mil model.mlpackage"), @r"
    exit: 0
    ----- stdout -----

    ----- stderr -----
    wrote model.mlpackage
    ");
    place.line("mil convert model.mlpackage bundle").succeeded();
    place.line("mil convert bundle again.mlmodel").succeeded();
    place.line("mil convert again.mlmodel again.mil").succeeded();
    assert_eq!(place.read("again.mil"), PROGRAM.trim_end());
    assert_eq!(place.line("mil print model.mlpackage").succeeded(), PROGRAM);
    assert_eq!(place.line("mil check model.mlpackage").code, 0);
    let inputs = "-i w=[0,1,2] -i x=[0,0,0,1,1,1] -d cpu:reference";
    let of_text = place.line(&format!("mil run model.mil {inputs}")).succeeded();
    assert_eq!(place.line(&format!("mil run model.mlpackage {inputs}")).succeeded(), of_text);

    assert_snapshot!(place.line("mil convert model.mil model.mlpackage"), @r"
    exit: 3
    ----- stdout -----
    
    ----- stderr -----
    error: model.mlpackage: already exists: nothing is written over
    ");
    assert_snapshot!(place.line("mil convert model.mil again.mil"), @r"
    exit: 3
    ----- stdout -----
    
    ----- stderr -----
    error: again.mil: File exists (os error 17)
    ");
}

#[test]
fn damaged_models_are_wrong() {
    let place = with_program(PROGRAM);
    place.line("mil convert model.mil model.mlmodel").succeeded();
    let bytes = std::fs::read(place.path("model.mlmodel")).unwrap();
    place.write("model.mlmodel", &bytes[..bytes.len() - 1]);
    assert_eq!(place.line("mil check model.mlmodel").code, 1);
    assert_eq!(place.line("mil print model.mlmodel").code, 3);
    place.write("model.mlmodel", "");
    assert_snapshot!(place.line("mil check model.mlmodel"), @r"
    exit: 1
    ----- stdout -----
    model.mlmodel: the model has no MIL program: it is a neural network or another model of an older format, or cut short
    ----- stderr -----
    model.mlmodel: 1 wrong
    ");
}

#[test]
fn diff_shows_what_is_said_and_not_how_it_is_called() {
    let place = Place::new();
    let program = |name: &str, op: &str| {
        format!(
            "program(1.3)\n{{\n    func main<ios18>(tensor<fp16, [1, 64]> x) {{\n        \
             tensor<fp16, [1, 64]> {name} = {op}(x = x)[name = string(\"{name}\")];\n        \
             tensor<fp16, [1, 64]> y = abs(x = {name})[name = string(\"y\")];\n    }} -> (y);\n}}\n"
        )
    };
    place.write("a.mil", program("t", "relu"));
    place.write("renamed.mil", program("other", "relu"));
    place.write("changed.mil", program("t", "tanh"));
    insta::assert_snapshot!(place.line("mil diff a.mil renamed.mil"));
    insta::assert_snapshot!(place.line("mil diff a.mil changed.mil"));
    assert_eq!(place.line("mil diff a.mil renamed.mil --names").code, 1);
}
