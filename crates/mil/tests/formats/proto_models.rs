//! Core ML's protobuf against the text of the same programs, and against damage.

use crate::support::generate::{Tape, program};
use crate::support::{Random, mil_files, models, shared};
use orion_mil::proto::{
    Model, ProtoErrorKind as Kind, decode_model, decode_pipeline, encode_model,
};
use orion_mil::text::{parse, print};
use orion_mil::{Argument, Block, Dialect, Program, Type};
use proptest::prelude::*;

/// Text without its second line, which says who compiled it.
fn without_build_info(text: &str) -> String {
    text.trim_end().lines().filter(|l| !l.starts_with("[buildInfo")).collect::<Vec<_>>().join("\n")
}

#[test]
fn real_models_print_as_the_text_they_were_compiled_to() {
    let Some(shared) = shared("real_models_print_as_the_text_they_were_compiled_to") else {
        return;
    };
    let mut count = 0;
    for folder in ["pairs", "synthetic"] {
        let folder = shared.join("mil").join(folder);
        for (name, text) in mil_files(&folder) {
            let stem = folder.join(name.trim_end_matches(".mil"));
            let package =
                stem.with_extension("mlpackage").join("Data/com.apple.CoreML/model.mlmodel");
            let bare = stem.with_extension("mlmodel");
            let path = if bare.exists() { bare } else { package };
            let model = decode_model(&std::fs::read(path).unwrap())
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let printed = without_build_info(&print(&model.program));
            let text = without_build_info(&text);
            let differs = printed.lines().zip(text.lines()).find(|(a, b)| a != b);
            assert!(differs.is_none(), "{name}: {differs:#?}");
            assert_eq!(printed, text, "{name}");
            count += 1;
        }
    }
    assert!(count >= 8 + 9, "only {count} pairs");
}

#[test]
fn real_models_read_and_come_back() {
    let Some(shared) = shared("real_models_read_and_come_back") else { return };
    let files = models(&shared.join("mil"));
    assert!(files.len() >= 16 + 8 + 9 + 2, "only {} models", files.len());
    let mut refused = Vec::new();
    for (name, bytes) in files {
        let model = match decode_model(&bytes) {
            Err(e) if e.kind() == Kind::Pipeline => first_of_pipeline(&bytes),
            model => model.unwrap_or_else(|e| panic!("{name}: {e}")),
        };
        let text = print(&model.program);
        let program = parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(program == model.program, "{name}: the text is another program");
        match encode_model(&program, "") {
            Ok(bytes) => {
                let again = decode_model(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(print(&again.program), text, "{name}");
                assert!(again.specification_version <= model.specification_version, "{name}");
            }
            Err(e) => refused.push((name, e.to_string())),
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

fn first_of_pipeline(bytes: &[u8]) -> Model {
    let mut models = decode_pipeline(bytes).unwrap();
    let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["model0", "model1"]);
    // It drops overlapping boxes, without a program.
    assert_eq!(models[1].model.as_ref().unwrap_err().kind(), Kind::NoProgram);
    models.swap_remove(0).model.unwrap()
}

/// Whether the text has what no protobuf can hold, or what it cannot tell apart.
fn is_only_text(program: &Program) -> bool {
    fn in_block(block: &Block) -> bool {
        block.operations.iter().any(|o| {
            o.opset.is_some()
                || o.inputs.values().any(|a| matches!(a, Argument::Many(b) if b.len() == 1))
                || o.blocks.iter().any(in_block)
        })
    }
    program.functions.iter().any(|f| {
        f.params.iter().any(|p| !p.attributes.is_empty())
            || f.values.iter().any(|(_, v)| matches!(v.ty, Type::TensorBuffer { .. }))
            || in_block(&f.body)
    })
}

#[test]
fn real_texts_survive_the_protobuf() {
    let Some(shared) = shared("real_texts_survive_the_protobuf") else { return };
    let mut counts = [0, 0, 0];
    for folder in ["text", "pairs", "synthetic", "generated", "analytics"] {
        for (name, text) in mil_files(&shared.join("mil").join(folder)) {
            let Ok(program) = parse(&text) else { continue };
            if is_only_text(&program) {
                let error = encode_model(&program, "").expect_err("only text can hold it");
                assert_eq!(error.kind(), Kind::NotRepresentable, "{name}: {error}");
                counts[2] += 1;
                continue;
            }
            let bytes = encode_model(&program, "").unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut again = decode_model(&bytes).unwrap_or_else(|e| panic!("{name}: {e}")).program;
            if again.dialect != program.dialect {
                // Old header, newer contents.
                let newer = ["ios18", "ios26"];
                assert_eq!(program.dialect, Dialect::V1_0, "{name}");
                assert!(program.functions.iter().any(|f| newer.contains(&&*f.opset)), "{name}");
                again.dialect = program.dialect;
                counts[1] += 1;
            }
            assert_eq!(print(&again), print(&program), "{name}");
            counts[0] += 1;
        }
    }
    let [same, _, text_only] = counts;
    assert!(same >= 13 + 8 + 9 + 15 && text_only >= 1, "{counts:?}");
}

#[test]
fn what_has_no_program_is_refused() {
    let of = |bytes: &[u8]| decode_model(bytes).expect_err("no program").kind();
    assert_eq!(of(b""), Kind::NoProgram);
    // A version and a neural network, field 500.
    assert_eq!(of(&[8, 4, 0xa2, 0x1f, 0]), Kind::NoProgram);
    // A pipeline, field 202, of two models.
    let pipeline = [8, 8, 0xd2, 0x0c, 7, 10, 0, 10, 0, 18, 1, b'a'];
    assert_eq!(of(&pipeline), Kind::Pipeline);
    let message = decode_model(&pipeline).unwrap_err().to_string();
    assert!(message.contains("joins 2 models (a)"), "{message}");
    assert_eq!(of(b"program(1.3)"), Kind::Decode);
}

fn sample() -> Vec<u8> {
    let text = r#"program(1.3)
[buildInfo = dict<string, string>({{"a", "b"}})]
{
    func main<ios18>(state<tensor<fp16, [2, 3]>> cache, tensor<fp32, [1, ?]> x) [FlexibleShapeInformation = tuple<tuple<string, dict<string, tensor<int32, [?]>>>, tuple<string, dict<string, list<tensor<int32, [2]>, ?>>>>((("DefaultShapes", {{"x", [1, 4]}}), ("RangeDims", {{"x", [[1, 4], [4, 4]]}})))] {
            tensor<uint3, [5]> c = const()[name = string("c"), val = tensor<uint3, [5]>([7, 0, 5, 2, 1])];
            bool p = const()[val = bool(true)];
            tensor<fp32, [1, ?]> r = cond(pred = p)
                () {
                    tensor<fp32, [1, ?]> t = concat(axis = int32(-1), interleave = bool(false), values = (x, x));
                } -> (t)
                () {
                    tensor<fp32, [1, ?]> e = relu(x = x);
                } -> (e);
            write_state(data = r, input = cache)[name = string("w")];
        } -> (r);
}"#;
    let program = parse(text).unwrap();
    assert_eq!(print(&program), text);
    let bytes = encode_model(&program, "a sample").unwrap();
    let model = decode_model(&bytes).unwrap();
    assert_eq!(print(&model.program), text);
    assert_eq!(model.specification_version, 9);
    assert_eq!(encode_model(&program, "a sample").unwrap(), bytes);
    bytes
}

#[test]
fn a_model_cut_anywhere_is_refused() {
    let bytes = sample();
    for end in 0..bytes.len() {
        assert!(decode_model(&bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn real_models_cut_anywhere_are_refused() {
    let Some(shared) = shared("real_models_cut_anywhere_are_refused") else { return };
    let mut random = Random::new(3);
    for (name, bytes) in models(&shared.join("mil")) {
        let ends = (0..200).chain(bytes.len() - 20..bytes.len());
        let anywhere = (0..20).map(|_| random.below(bytes.len()));
        for end in ends.chain(anywhere.collect::<Vec<_>>()) {
            assert!(decode_model(&bytes[..end]).is_err(), "{name} cut at {end}");
        }
    }
}

#[test]
fn mutated_models_never_panic_and_what_reads_is_written_again() {
    let original = sample();
    let mut random = Random::new(11);
    let mut read = 0;
    for _ in 0..20_000 {
        let mut bytes = original.clone();
        for _ in 0..1 + random.below(2) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, random.next() as u8),
            }
        }
        let Ok(model) = decode_model(&bytes) else { continue };
        read += 1;
        let Ok(written) = encode_model(&model.program, "") else { continue };
        let again = decode_model(&written).expect("our own bytes");
        assert_eq!(print(&again.program), {
            let mut program = model.program.clone();
            program.dialect = again.program.dialect;
            print(&program)
        });
    }
    assert!(read > 500, "only {read} mutations still read: the test looks at too little");
}

#[test]
fn deep_nesting_is_refused() {
    // Values in lists in lists: field 3 immediate, 3 list, 1 value; and a type beside it.
    let mut inner: Vec<u8> = Vec::new();
    let wrap = |tag: &[u8], inner: &[u8]| {
        let mut bytes = tag.to_vec();
        let mut length = inner.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(inner);
        bytes
    };
    for _ in 0..5000 {
        inner = wrap(&[10], &wrap(&[26], &wrap(&[26], &inner)));
    }
    let attribute = wrap(&[34], &[vec![10, 1, b'a'], wrap(&[18], &inner)].concat());
    let model = wrap(&[0xb2, 0x1f], &attribute);
    let error = decode_model(&model).unwrap_err();
    assert_eq!(error.kind(), Kind::Decode, "{error}");
    assert!(error.to_string().len() < 1000, "{error}");
}

/// Brings a program made up for text into what a model holds.
fn for_protobuf(program: &mut Program) {
    fn simplify(block: &mut Block) {
        for operation in &mut block.operations {
            operation.opset = None;
            for argument in operation.inputs.values_mut() {
                if let Argument::Many(bindings) = argument
                    && bindings.len() == 1
                {
                    *argument = Argument::One(bindings.remove(0));
                }
            }
            operation.blocks.iter_mut().for_each(simplify);
        }
    }
    for (i, function) in program.functions.iter_mut().enumerate() {
        function.opset = ["ios18", "ios17", "ios26"][i % 3].to_owned();
        simplify(&mut function.body);
        function.params.iter_mut().for_each(|p| p.attributes.clear());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn programs_survive_the_protobuf(words in prop::collection::vec(any::<u32>(), 0..1500)) {
        let mut program = program(&mut Tape::new(&words));
        for_protobuf(&mut program);
        // Borders of types that no model has are described in a test of their own.
        program.functions.iter_mut().for_each(|f| {
            let kept: Vec<_> = f.params.iter().map(|p| p.value).collect();
            for id in kept.into_iter().chain(f.body.results.clone()) {
                f.values[id].ty = Type::tensor(orion_tensor::DType::F32, &[1, 2]);
            }
        });
        match encode_model(&program, "") {
            Ok(bytes) => {
                let again = decode_model(&bytes)
                    .map_err(|e| TestCaseError::fail(format!("{e}\n{}", print(&program))))?;
                let mut again = again.program;
                again.dialect = program.dialect;
                prop_assert_eq!(print(&again), print(&program));
                prop_assert!(again == program, "{}", print(&program));
            }
            Err(error) => prop_assert_eq!(error.kind(), Kind::NotRepresentable, "{}", error),
        }
    }
}

#[test]
fn types_that_no_model_has_at_its_border_are_refused() {
    for (ty, word) in [
        ("bool", "bool at the border"),
        ("tensor<int64, [2]>", "int64 at the border"),
        ("state<tensor<fp32, [2]>>", "states are fp16"),
        ("state<tensor<fp16, [?]>>", "unknown size"),
        ("tuple<fp32, fp32>", "tuple<fp32, fp32>"),
    ] {
        let text =
            format!("program(1.3)\n{{\n    func main<ios18>({ty} x) {{\n        }} -> ();\n}}");
        let error = encode_model(&parse(&text).unwrap(), "").unwrap_err();
        assert_eq!(error.kind(), Kind::NotRepresentable);
        let message = error.to_string();
        assert!(message.contains("in main, input `x`: ") && message.contains(word), "{message}");
    }
}

/// Core ML's readers take no attributes of functions.
#[test]
fn what_is_replaced_in_place_is_kept_as_metadata() {
    let text = "program(1.3)\n{\n    func main<ios18>(fp32 m, fp32 x) [orionInPlace = dict<string, \
                string>({{\"y\", \"x\"}, {\"z\", \"m\"}})] {\n            fp32 y = relu(x = x);\n            \
                fp32 z = relu(x = m);\n        } -> (y, z);\n}";
    let program = parse(text).unwrap();
    let bytes = encode_model(&program, "").unwrap();
    let has = |part: &[u8]| bytes.windows(part.len()).any(|w| w == part);
    assert!(has(b"orionInPlace@main") && has(b"y=x,z=m"));
    assert_eq!(print(&decode_model(&bytes).unwrap().program), text);
    let mut damaged = bytes.clone();
    let at = bytes.windows(7).position(|w| w == b"y=x,z=m").unwrap();
    damaged[at + 1] = b'?';
    assert_eq!(decode_model(&damaged).unwrap_err().kind(), Kind::Malformed);
}
