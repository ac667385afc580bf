//! What is wrong is said with its place.

use orion_mil::text::{ParseErrorKind as Kind, parse};

/// A program whose body is `body`, from line 4 on.
fn with_body(body: &str) -> String {
    format!(
        "program(1.3)\n{{\nfunc main<ios18>(tensor<fp16, [2]> x, int32 weight) {{\n{body}\n}} -> (x);\n}}"
    )
}

/// A program with an attribute of that value, on line 2 from column 6 on.
fn with_value(value: &str) -> String {
    format!("program(1.3)\n[a = {value}]\n{{\n}}")
}

#[track_caller]
fn refused(text: &str, kind: Kind, message: &str) {
    let error = parse(text).expect_err(text);
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.to_string(), message);
}

#[test]
fn names() {
    refused(
        &with_body("tensor<fp16, [2]> y = relu(x = wieght);"),
        Kind::UndefinedValue,
        "line 4, column 32: undefined value `wieght`\nhint: did you mean `weight`?",
    );
    refused(
        &with_body("int32 y = op(x = y);"),
        Kind::UndefinedValue,
        "line 4, column 18: undefined value `y`\nhint: did you mean `x`?",
    );
    refused(
        &with_body("int32 y = op();\nint32 x = op();"),
        Kind::DuplicateName,
        "line 5, column 7: the value `x` is defined twice",
    );
    refused(
        &with_body("int32 y = op(b = x, b = x);"),
        Kind::DuplicateName,
        "line 4, column 21: the argument `b` is defined twice",
    );
    refused(
        &with_body("int32 y = op()[b = int32(1), b = int32(1)];"),
        Kind::DuplicateName,
        "line 4, column 30: the attribute `b` is defined twice",
    );
    refused(
        "program(1.0) { func f<ios15>() {} -> (); func f<ios15>() {} -> (); }",
        Kind::DuplicateName,
        "line 1, column 47: the function `f` is defined twice",
    );
    refused(
        "program(1.0) { func f<ios15>(int32 a, int32 a) {} -> (); }",
        Kind::DuplicateName,
        "line 1, column 45: the value `a` is defined twice",
    );
    refused(
        "program(1.0) { func f<ios15>() {} -> (zzz); }",
        Kind::UndefinedValue,
        "line 1, column 39: undefined value `zzz`",
    );
}

#[test]
fn scopes_of_blocks() {
    let inner =
        "int32 y = cond(p = x)\n() { int32 t = op(); } -> (t)\n() { int32 t = op(); } -> (t);";
    assert!(parse(&with_body(inner)).is_ok(), "siblings may use the same name");
    refused(
        &with_body(&format!("{inner}\nint32 z = op(a = t);")),
        Kind::UndefinedValue,
        "line 7, column 18: undefined value `t`\nhint: did you mean `x`?",
    );
    refused(
        &with_body("int32 y = cond() (int32 x) {} -> (x);"),
        Kind::DuplicateName,
        "line 4, column 25: the value `x` is defined twice",
    );
    refused(
        &with_body("int32 y = cond() () {} -> (y);"),
        Kind::UndefinedValue,
        "line 4, column 28: undefined value `y`\nhint: did you mean `x`?",
    );
}

#[test]
fn a_constant_repeated_word_for_word_is_one_constant() {
    let twice = "int32 c = const()[val = int32(1)];\nint32 c = const()[val = int32(1)];";
    let program = parse(&with_body(twice)).unwrap();
    assert_eq!(program.functions[0].body.operations.len(), 1);
    refused(
        &with_body("int32 c = const()[val = int32(1)];\nint32 c = const()[val = int32(2)];"),
        Kind::DuplicateName,
        "line 5, column 7: the value `c` is defined twice",
    );
}

#[test]
fn arguments() {
    let positional = "positional argument";
    for (argument, message) in [
        ("x", "`x` of `relu`\nhint: every argument has a name: write name = x"),
        ("1", "`1` of `relu`\nhint: every argument has a name: write name = 1"),
        ("\"s\"", "\"s\" of `relu`\nhint: every argument has a name: write name = \"s\""),
        ("int32(1)", "`int32` of `relu`\nhint: every argument has a name: write name = int32(…)"),
        ("[1]", "`[` of `relu`\nhint: every argument has a name: write name = […]"),
    ] {
        refused(
            &with_body(&format!("int32 y = relu({argument});")),
            Kind::PositionalArgument,
            &format!("line 4, column 16: {positional} {message}"),
        );
    }
    for (argument, message) in [
        ("true", "`true`\nhint: write the type: bool(true)"),
        ("1", "`1`\nhint: write the type, as in int32(1)"),
        ("0.5", "`0.5`\nhint: write the type, as in fp16(0.5)"),
        ("\"s\"", "\"s\"\nhint: write the type, as in string(\"same\")"),
        ("[1]", "`[`\nhint: write the type, as in tensor<int32, [2]>([0, 1])"),
    ] {
        refused(
            &with_body(&format!("int32 y = relu(x = {argument});")),
            Kind::UntypedLiteral,
            &format!("line 4, column 20: literal without a type: {message}"),
        );
    }
}

#[test]
fn literals() {
    for (value, kind, message) in [
        (
            "tensor<int32, [3]>([1, 2])",
            Kind::WrongLiteral,
            "column 25: the type says 3 elements along axis 0, the literal has 2",
        ),
        (
            "tensor<int32, [2, 2]>([[1, 2], [3]])",
            Kind::WrongLiteral,
            "column 37: the type says 2 elements along axis 1, the literal has 1",
        ),
        (
            "tensor<int32, [?, ?]>([[1, 2], [3]])",
            Kind::WrongLiteral,
            "column 37: the type says 2 elements along axis 1, the literal has 1",
        ),
        (
            "tensor<int32, [2]>(1)",
            Kind::WrongLiteral,
            "column 25: expected `[` to open a tensor of rank 1, found `1`",
        ),
        ("int32([1])", Kind::WrongLiteral, "column 12: expected an integer, found `[`"),
        (
            "tensor<int32, [2]>()",
            Kind::WrongLiteral,
            "column 25: no elements for a value of type tensor<int32, [2]>",
        ),
        ("int32()", Kind::Syntax, "column 12: expected a literal of type int32, found `)`"),
        ("int8(128)", Kind::OutOfRange, "column 11: `128` is out of range for int8"),
        ("uint4(16)", Kind::OutOfRange, "column 12: `16` is out of range for uint4"),
        ("uint64(-1)", Kind::OutOfRange, "column 13: `-1` is out of range for uint64"),
        ("fp16(1e6)", Kind::OutOfRange, "column 11: `1e6` is out of range for fp16"),
        ("fp8e4m3fn(-inf)", Kind::OutOfRange, "column 16: `-inf` is out of range for fp8e4m3fn"),
        ("int32(1.5)", Kind::WrongLiteral, "column 12: expected an integer, found `1.5`"),
        ("int32(true)", Kind::WrongLiteral, "column 12: expected an integer, found `true`"),
        ("bool(1)", Kind::WrongLiteral, "column 11: expected `true` or `false`, found `1`"),
        ("fp16(\"1\")", Kind::WrongLiteral, "column 11: expected a number, found \"1\""),
        ("string(1)", Kind::WrongLiteral, "column 13: expected a string, found `1`"),
        (
            "list<string, 3>([\"a\"])",
            Kind::WrongLiteral,
            "column 22: the type says 3 elements, the list has 1",
        ),
        (
            "list<string, ?>([int32(1)])",
            Kind::WrongLiteral,
            "column 23: expected an element of type string, found int32",
        ),
        ("tuple<int32, int32>((1))", Kind::Syntax, "column 28: expected `,`, found `)`"),
        (
            "state<tensor<fp16, [1]>>([1])",
            Kind::WrongLiteral,
            "column 31: there are no literals of type state<tensor<fp16, [1]>>",
        ),
        (
            "string(BLOBFILE(path = string(\"a\"), offset = uint64(0)))",
            Kind::WrongLiteral,
            "column 13: a blob file cannot hold a value of type string",
        ),
        (
            "fp16(BLOBFILE(path = string(\"a\"), offset = int32(0)))",
            Kind::WrongLiteral,
            "column 49: expected a value of type uint64, found int32",
        ),
        (
            "string(\"a\\n\")",
            Kind::Lexical,
            "column 15: unknown escape in a string\nhint: only `\\\"` and `\\\\` are escaped",
        ),
        ("string(\"a", Kind::Lexical, "column 13: string without an end"),
    ] {
        refused(&with_value(value), kind, &format!("line 2, {message}"));
    }
}

#[test]
fn types() {
    for (value, kind, message) in [
        (
            "tensor<float16, [1]>([0])",
            Kind::UnknownType,
            "column 13: unknown type `float16`\nhint: did you mean `fp16`?",
        ),
        (
            "in32(0)",
            Kind::UnknownType,
            "column 6: unknown type `in32`\nhint: did you mean `int32`?",
        ),
        (
            "tensr<fp16, [1]>([0])",
            Kind::UnknownType,
            "column 6: unknown type `tensr`\nhint: did you mean `tensor`?",
        ),
        (
            "state<string>(0)",
            Kind::WrongLiteral,
            "column 20: there are no literals of type state<tensor<string, []>>",
        ),
        ("state<list<int32, 1>>(0)", Kind::UnknownType, "column 12: a state holds a tensor"),
        (
            "tensor<fp16, [...]>(0)",
            Kind::Syntax,
            "column 20: expected a size or `?`, found `.`\nhint: types of variable rank are not supported",
        ),
        ("tensor<fp16, [-1]>(0)", Kind::OutOfRange, "column 20: `-1` is no possible size"),
        (
            "tensor<fp16, [281474976710656, 0, 2]>([])",
            Kind::TooLarge,
            "column 19: a tensor of more than 2^48 elements",
        ),
        (
            "tensor<fp16, [99999999999999999999]>([])",
            Kind::OutOfRange,
            "column 20: `99999999999999999999` is no possible size",
        ),
    ] {
        refused(&with_value(value), kind, &format!("line 2, {message}"));
    }
}

#[test]
fn structure() {
    refused("", Kind::Syntax, "line 1, column 1: expected `program`, found the end of the text");
    refused(
        "program(2.0) {}",
        Kind::Syntax,
        "line 1, column 9: unknown program version `2.0`\nhint: known are program(1.0) and program(1.3)",
    );
    refused(
        "program(1.0)\n{\n    // é: a comment\n}\n é",
        Kind::Lexical,
        "line 5, column 2: unexpected character 'é'",
    );
    refused(
        "program(1.0) {} program",
        Kind::Syntax,
        "line 1, column 17: expected the end of the text, found `program`",
    );
    refused(
        "program(1.0) { func f() {} -> (); }",
        Kind::Syntax,
        "line 1, column 22: expected an opset such as `<ios18>`, found `(`",
    );
    refused(
        &with_body("int32 y = op(x = x)"),
        Kind::Syntax,
        "line 5, column 1: expected `;`, found `}`",
    );
    refused(
        &with_body("int32 y = op(x x);"),
        Kind::Syntax,
        "line 4, column 16: expected `=`, found `x`",
    );
}

#[test]
fn hostile_nesting_and_sizes_are_refused() {
    let deep = |open: &str, count: usize| with_value(&open.repeat(count));
    for open in ["list<", "tuple<", "dict<", "state<"] {
        let error = parse(&deep(open, 1_000_000)).unwrap_err();
        assert_eq!(error.kind(), Kind::TooLarge, "{error}");
        assert!(error.to_string().contains("types nested deeper than 64"), "{error}");
    }
    let error = parse(&with_body(&"op() () { ".repeat(1_000_000))).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge, "{error}");
    assert!(error.to_string().contains("blocks nested deeper than 64"), "{error}");

    // Deep brackets cost memory in proportion to the text, not stack.
    let rank = 300_000;
    let dims = vec!["1"; rank].join(",");
    let value = format!("tensor<int8, [{dims}]>({}7{})", "[".repeat(rank), "]".repeat(rank));
    assert!(parse(&with_value(&value)).is_ok());

    // A blob inside a blob's own path.
    let error = parse(&deep("fp16(BLOBFILE(path = ", 100_000)).unwrap_err();
    assert_eq!(error.kind(), Kind::WrongLiteral, "{error}");

    // Three bytes of text would copy a type of thousands of axes each.
    let dims = vec!["0"; 20_000].join(",");
    let items = vec!["[]"; 20_000].join(",");
    for (ty, items) in [
        (format!("list<tensor<int8, [{dims}]>, ?>"), format!("[{items}]")),
        (format!("list<tuple<tensor<int8, [{dims}]>>, ?>"), "[([])]".to_owned()),
        (format!("dict<int8, tensor<int8, [{dims}]>>"), "{{1, []}}".to_owned()),
    ] {
        let error = parse(&with_value(&format!("{ty}({items})"))).unwrap_err();
        assert_eq!(error.kind(), Kind::TooLarge, "{error}");
    }

    // Messages stay short whatever stands in the text.
    let error = parse(&with_value(&format!("int32({})", "x".repeat(1_000_000)))).unwrap_err();
    assert!(error.to_string().len() < 1000);
    let error = parse(&with_body(&format!("int32 y = op({});", "x".repeat(1_000_000))));
    assert!(error.unwrap_err().to_string().len() < 2000);
}
