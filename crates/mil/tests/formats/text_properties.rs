//! Printing and parsing are inverse, and no text makes the parser panic.

use crate::support::Random;
use crate::support::generate::{Tape, program, value};
use orion_mil::text::{parse, print, print_value};
use orion_mil::{Dialect, Function, Operation, Program, Type};
use orion_tensor::DType;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn printing_and_parsing_are_inverse(words in prop::collection::vec(any::<u32>(), 0..1500)) {
        let program = program(&mut Tape::new(&words));
        let printed = print(&program);
        let parsed = match parse(&printed) {
            Ok(parsed) => parsed,
            Err(error) => return Err(TestCaseError::fail(format!("{error}\n{printed}"))),
        };
        prop_assert!(parsed == program, "another program:\n{printed}\n---\n{}", print(&parsed));
        prop_assert_eq!(print(&parsed), printed);
    }

    #[test]
    fn values_survive_in_either_dialect(words in prop::collection::vec(any::<u32>(), 0..200)) {
        let value = value(&mut Tape::new(&words));
        for dialect in [Dialect::V1_0, Dialect::V1_3] {
            let literal = print_value(&value, dialect);
            // Types of either dialect are read under either header.
            let text = format!("program(1.3)\n[a = {literal}]\n{{\n}}");
            let parsed = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert!(parsed.attributes["a"] == value, "{literal}");
        }
    }
}

/// A program of many kinds of things, printed.
fn sample(seed: u64) -> String {
    let mut random = Random::new(seed);
    let words: Vec<u32> = (0..1200).map(|_| random.next() as u32).collect();
    print(&program(&mut Tape::new(&words)))
}

#[test]
fn generated_programs_cover_the_language() {
    let all: String = (0..40).map(sample).collect();
    for piece in [
        "BLOBFILE",
        "state<",
        "tuple<",
        "dict<",
        "list<",
        "tensor_buffer<",
        "-nan",
        "-0x0p+0",
        "\\\\",
        "\\\"",
        "inf",
        "= ()",
        "\n                } -> (",
        "program(1.0)",
        "<ios17>",
    ] {
        assert!(all.contains(piece), "no generated program has {piece}");
    }
}

#[test]
fn truncated_text_is_refused() {
    let text = sample(7);
    assert!(parse(&text).is_ok());
    for (end, _) in text.char_indices().skip(1) {
        let error = parse(&text[..end]).expect_err("cut short");
        assert!(error.line() <= text[..end].lines().count() + 1);
    }
}

#[test]
fn mutated_text_never_panics_and_what_parses_prints_back() {
    let mut random = Random::new(1);
    let mut parsed = 0;
    for round in 0..3000 {
        let mut bytes = sample(round % 50).into_bytes();
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes[at] = b"()[]{}<>,;=?*.-\"\\/_09azxp@ \n"[random.below(28)],
                1 => {
                    bytes.remove(at);
                }
                2 => {
                    let end = (at + random.below(40)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    let to = random.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                3 => {
                    let end = (at + random.below(40)).min(bytes.len());
                    bytes.drain(at..end);
                    bytes.push(b'}');
                }
                _ => bytes[at] = random.next() as u8,
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(program) = parse(&text) {
            parsed += 1;
            let printed = print(&program);
            assert!(parse(&printed).expect("our own text") == program, "{printed}");
        }
    }
    assert!(parsed > 50, "only {parsed} mutations still parse: the test looks at too little");
}

#[test]
fn order_of_functions_and_parameters_does_not_matter() {
    let text = "program(1.3)\n{\n    func b<ios18>(int32 y, int32 x) {\n        } -> (y, x);\n    \
                func a<ios18>() {\n        } -> ();\n}";
    let program = parse(text).unwrap();
    let printed = print(&program);
    assert!(printed.find("func a").unwrap() < printed.find("func b").unwrap(), "{printed}");
    assert!(printed.contains("(int32 x, int32 y)"), "{printed}");
    assert_eq!(parse(&printed).unwrap(), program);
    assert_ne!(parse(&printed.replace("(y, x)", "(x, y)")).unwrap(), program);
}

#[test]
fn long_lines_and_large_literals_are_fast() {
    let count = 200_000;
    let numbers = vec!["0x1.8p+0"; count].join(", ");
    let text = format!(
        "program(1.3)\n{{\n    func main<ios18>() {{\n            tensor<fp16, [{count}]> x = \
         const()[val = tensor<fp16, [{count}]>([{numbers}])];\n        }} -> (x);\n}}"
    );
    let start = std::time::Instant::now();
    let program = parse(&text).unwrap();
    assert_eq!(print(&program), text);
    // Anything quadratic would take minutes.
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

#[test]
fn a_program_built_by_hand_prints() {
    let mut function = Function::new("main", "ios18");
    let x = function.values.push("x", Type::tensor(DType::F16, &[1, 2]));
    let y = function.values.push("y", Type::tensor(DType::F16, &[1, 2]));
    function.params.push(orion_mil::Param { value: x, attributes: Default::default() });
    let mut relu = Operation::new("relu", vec![y]);
    relu.inputs.insert("x".into(), x.into());
    function.body.operations.push(relu);
    function.body.results.push(y);
    let program = Program {
        dialect: Dialect::V1_0,
        attributes: Default::default(),
        functions: vec![function],
    };
    assert_eq!(
        print(&program),
        "program(1.0)\n{\n    func main<ios18>(tensor<fp16, [1, 2]> x) {\n            \
         tensor<fp16, [1, 2]> y = relu(x = x);\n        } -> (y);\n}"
    );
}
