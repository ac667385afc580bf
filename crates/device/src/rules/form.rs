//! How a program is written.

use crate::Severity::SilentWrongData;
use crate::rule::RULE;
use crate::scope::{Check, Hit, Scope, Site, Whole};
use crate::{Applies, Confidence, Generation, Rule};
use orion_mil::{Binding, Dialect};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "ANE001",
        title: "the program is not valid MIL",
        what: "The text or the protobuf breaks a rule of the language itself: a name that nothing defines, an argument of the wrong type, an output whose shape is not what the operation gives. No compiler takes it.",
        fix: "Correct the place that is named; nothing else is checked before that.",
        evidence: "The definition of MIL in coremltools 9.0. A result that no operation defines is refused as InvalidMILProgram (mechramc/Orion).",
        check: Check::Device,
        ..RULE
    },
    Rule {
        code: "ANE002",
        title: "an argument that has a default elsewhere is missing",
        applies: Applies::Direct,
        what: "The Neural Engine's compiler fills in no defaults: `rsqrt`, `log` and `inverse` want `epsilon`, `gelu` wants `mode`, `concat` wants `interleave`, `matmul` wants both transpose flags, `conv` the full list. Without them the program is refused, with a message that does not say so.",
        fix: "Write the argument with the value that it has by default; `orion lint --fix` does it.",
        evidence: "Measured by ironmill (op matrix) and mil_spec (front-end probes on M4): with the argument the same operations compile and run. It explains most claims that rsqrt, gelu or concat are not supported (mechramc/Orion, Espresso, rustane).",
        check: Check::Operation(missing_operand),
        ..RULE
    },
    Rule {
        code: "ANE003",
        title: "a parameter is written in place instead of as a named constant",
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "Parameters such as axes, flags and modes must be the results of `const` operations; written into the argument list they are refused.",
        fix: "Give the parameter a `const` of its own; `orion lint --fix` does it.",
        evidence: "mechramc/Orion: inline true/false are rejected. ANEForge nests const(bool(false)) in argument lists and compiles, so the sources disagree.",
        check: Check::Operation(inline_parameter),
        ..RULE
    },
    Rule {
        code: "ANE004",
        title: "the program's version and its function's opset belong to different dialects",
        applies: Applies::Direct,
        what: "`program(1.0)` goes with the opsets ios15 to ios17, `program(1.3)` with ios18 and later. Literals are written differently in the two, and a mixture does not parse.",
        fix: "Write `program(1.3)` with `ios18`, or convert the file with `orion mil convert`.",
        evidence: "mil_spec front-end probes on M4: 1.0 with ios17 and 1.3 with ios18 and ios19 parse, mixtures are parse errors. Real Core ML output keeps to it.",
        check: Check::Program(mixed_dialect),
        ..RULE
    },
    Rule {
        code: "ANE005",
        title: "the opset is newer than the compiler takes from outside",
        applies: Applies::Direct,
        confidence: Confidence::Reported,
        what: "A `model.mil` that Core ML's compiler wrote for iOS 26 has been cut into parts already, and the Neural Engine's compiler usually refuses such a text as a whole. States are taken under ios18 only.",
        fix: "Convert the model for ios18, or use it through Core ML.",
        evidence: "mil_spec: coremlc-produced 1.3/ios19 texts usually fail; plain ios19 texts parse.",
        check: Check::Program(new_opset),
        ..RULE
    },
    Rule {
        code: "ANE006",
        title: "the program has no buildInfo",
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "A program without a `buildInfo` dictionary is refused on one way of loading it. Its values do not matter.",
        fix: "Add `buildInfo` with any value of `coremlc-version`; `orion lint --fix` does it.",
        evidence: "apple-neural-engine-field-guide (M3 Max, macOS 26.3) and jmanhype need coremlc-version for in-memory models; mil_infer's reference programs have none and compile.",
        check: Check::Program(no_build_info),
        ..RULE
    },
    Rule {
        code: "ANE007",
        title: "the name of a value is known to fail on M1",
        applies: Applies::Direct,
        severity: SilentWrongData,
        chips: (Generation::M1, Generation::M1),
        confidence: Confidence::Disputed,
        what: "On M1 values called `var`, `diff`, `mean`, `std`, `eps`, `x`, `y`, `mul`, `add`, `rsqrt`, `c` or `C` have given zeros or failed to compile.",
        fix: "Put a prefix before the name; `orion lint --fix` does it for values inside the program.",
        evidence: "imperatormk/ane-train on M1. Other projects use such names on M4 without trouble; the cause may be the order of inputs and outputs.",
        check: Check::Function(poison_name),
        ..RULE
    },
    Rule {
        code: "ANE008",
        title: "the program does nothing",
        applies: Applies::Direct,
        confidence: Confidence::Reported,
        what: "A program in which every output is an input crashes the compiler.",
        fix: "Leave the program out and use the input.",
        evidence: "ANEForge pull request 116: output equal to input crashes the compiler.",
        check: Check::Function(empty),
        ..RULE
    },
    Rule {
        code: "ANE009",
        title: "matmul, reshape and cast are the only way to the only output",
        applies: Applies::Direct,
        confidence: Confidence::Reported,
        what: "A program whose only output is the cast of a reshaped matrix product is refused; joined with other outputs it compiles.",
        fix: "Return the product before it is reshaped, and reshape on the host.",
        evidence: "luengnat/rustane: InvalidMILProgram for matmul, reshape, cast as only output.",
        check: Check::Function(matmul_reshape_cast),
        ..RULE
    },
];

/// The arguments that the compiler wants written, beyond the tensors themselves.
pub(crate) fn required_operands(op: &str) -> &'static [&'static str] {
    match op {
        "rsqrt" | "log" | "inverse" => &["epsilon"],
        "gelu" => &["mode"],
        "clip" => &["alpha", "beta"],
        "conv" => &["dilations", "groups", "pad", "pad_type", "strides"],
        "matmul" => &["transpose_x", "transpose_y"],
        "concat" => &["axis", "interleave"],
        "split" => &["axis"],
        "tile" => &["reps"],
        "layer_norm" => &["axes", "epsilon"],
        "softmax" => &["axis"],
        "reduce_sum" | "reduce_mean" | "reduce_max" | "reduce_min" | "reduce_l1_norm"
        | "reduce_l2_norm" | "reduce_log_sum" | "reduce_log_sum_exp" | "reduce_sum_square" => {
            &["axes", "keep_dims"]
        }
        _ => &[],
    }
}

fn missing_operand(site: &Site<'_>) -> Option<String> {
    let missing: Vec<String> = required_operands(site.name())
        .iter()
        .filter(|argument| !site.has(argument))
        .map(|argument| format!("`{argument}`"))
        .collect();
    let what = if missing.len() == 1 { "is" } else { "are" };
    (!missing.is_empty())
        .then(|| format!("{} {what} not written at `{}`", missing.join(", "), site.name()))
}

fn inline_parameter(site: &Site<'_>) -> Option<String> {
    if site.name().starts_with("constexpr_") {
        return None;
    }
    let inline: Vec<String> = site
        .operation
        .inputs
        .iter()
        .filter(|(_, a)| a.bindings().iter().any(|b| matches!(b, Binding::Literal(_))))
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    (!inline.is_empty()).then(|| format!("{} written in place", inline.join(", ")))
}

fn opset_number(opset: &str) -> Option<u32> {
    let digits: String = opset.chars().skip_while(|c| !c.is_ascii_digit()).collect();
    digits.parse().ok()
}

fn mixed_dialect(whole: &Whole<'_>) -> Vec<String> {
    let of = |function: &orion_mil::Function| {
        let number = opset_number(&function.opset)?;
        let (version, expected) = match whole.program.dialect {
            Dialect::V1_0 => ("1.0", number < 18),
            Dialect::V1_3 => ("1.3", number >= 18),
        };
        (!expected).then(|| {
            format!("program({version}) holds `{}` of opset {}", function.name, function.opset)
        })
    };
    whole.program.functions.iter().filter_map(of).collect()
}

fn new_opset(whole: &Whole<'_>) -> Vec<String> {
    let new = whole.program.functions.iter().filter(|f| opset_number(&f.opset) > Some(18));
    new.map(|f| format!("`{}` is of opset {}", f.name, f.opset)).collect()
}

fn no_build_info(whole: &Whole<'_>) -> Vec<String> {
    match whole.program.attributes.get("buildInfo") {
        Some(_) => vec![],
        None => vec!["there is no `buildInfo` after `program(…)`".to_owned()],
    }
}

/// Names that failed on M1.
pub(crate) const POISON: [&str; 12] =
    ["var", "diff", "mean", "std", "eps", "x", "y", "mul", "add", "rsqrt", "c", "C"];

fn poison_name(scope: &Scope<'_>) -> Vec<Hit> {
    let named = scope.function.values.iter().filter(|(_, v)| POISON.contains(&v.name.as_str()));
    let defined = named.filter(|(id, _)| scope.producer(*id).is_some() || scope.is_parameter(*id));
    defined
        .map(|(value, data)| Hit { value, message: format!("a value is called `{}`", data.name) })
        .collect()
}

fn empty(scope: &Scope<'_>) -> Vec<Hit> {
    let results = &scope.function.body.results;
    match results.first() {
        Some(&value) if results.iter().all(|&r| scope.is_parameter(r)) => {
            vec![Hit { value, message: "every output is an input".to_owned() }]
        }
        _ => vec![],
    }
}

fn matmul_reshape_cast(scope: &Scope<'_>) -> Vec<Hit> {
    let [result] = *scope.function.body.results else { return vec![] };
    let step = |value, name: &str| {
        let site = scope.producer(value).filter(|s| s.name() == name)?;
        site.operand("x")
    };
    let product = step(result, "cast").and_then(|v| step(v, "reshape"));
    let is_product = product.and_then(|v| scope.producer(v)).is_some_and(|s| s.name() == "matmul");
    if !is_product {
        return vec![];
    }
    vec![Hit { value: result, message: "the only output is cast(reshape(matmul))".to_owned() }]
}
