//! Real programs parse, and print back byte for byte.

use crate::support::{mil_files, shared};
use orion_mil::text::{ParseErrorKind, parse, print};

fn first_difference(printed: &str, original: &str) -> Option<String> {
    if printed == original {
        return None;
    }
    for (i, (a, b)) in printed.lines().zip(original.lines()).enumerate() {
        if a != b {
            let at = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
            let around =
                |s: &str| s.chars().skip(at.saturating_sub(40)).take(120).collect::<String>();
            return Some(format!("line {}:\n  ours {}\n  file {}", i + 1, around(a), around(b)));
        }
    }
    Some("one is a prefix of the other".into())
}

#[test]
fn real_programs_print_back_byte_for_byte() {
    let Some(shared) = shared("real_programs_print_back_byte_for_byte") else { return };
    let mut count = 0;
    for folder in ["text", "pairs", "synthetic"] {
        for (name, text) in mil_files(&shared.join("mil").join(folder)) {
            let program = parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let printed = print(&program);
            // One of the files ends in a newline, the others do not.
            if let Some(difference) = first_difference(&printed, text.trim_end()) {
                panic!("{name} does not print back, {difference}");
            }
            assert!(parse(&printed).expect("our own text") == program, "{name}");
            count += 1;
        }
    }
    assert!(count >= 13 + 8 + 9, "only {count} files");
}

#[test]
fn analytics_parse() {
    let Some(shared) = shared("analytics_parse") else { return };
    let files = mil_files(&shared.join("mil/analytics"));
    assert!(!files.is_empty());
    for (name, text) in files {
        let program = parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(parse(&print(&program)).expect("our own text") == program, "{name}");
    }
}

#[test]
fn hand_written_programs_parse_or_say_why_not() {
    let Some(shared) = shared("hand_written_programs_parse_or_say_why_not") else { return };
    let mut refused = Vec::new();
    for (name, text) in mil_files(&shared.join("mil/generated")) {
        match parse(&text) {
            Ok(program) => {
                assert!(parse(&print(&program)).expect("our own text") == program, "{name}");
            }
            Err(error) => refused.push((name, error)),
        }
    }
    let [(first, untyped), (second, positional)] = &refused[..] else {
        panic!("refused: {refused:#?}");
    };
    assert!(first.ends_with("__1.mil") && second.ends_with("__2.mil"), "{first} {second}");

    assert_eq!(untyped.kind(), ParseErrorKind::UntypedLiteral);
    assert_eq!(untyped.line(), 20);
    let message = untyped.to_string();
    assert!(message.starts_with("line 20, column "), "{message}");
    assert!(message.contains("literal without a type: `[`"), "{message}");
    assert!(message.contains("write the type, as in tensor<int32, [2]>"), "{message}");

    assert_eq!(positional.kind(), ParseErrorKind::PositionalArgument);
    assert_eq!(positional.line(), 32);
    let message = positional.to_string();
    assert!(message.contains("positional argument `x` of `identity`"), "{message}");
    assert!(message.contains("write name = x"), "{message}");
}
