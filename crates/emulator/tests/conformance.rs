//! The conformance suite on the model of an M4: what it refuses, with the rules, and what comes
//! out otherwise than by definition, with the reason.
//!
//! `ORION_BLESS=1` writes the list of refused cases anew; the difference is for you to read.

use libtest_mimic::{Failed, Trial};
use orion_device::{Os, Route, Severity, Target, lint};
use orion_emulator::AneModel;
use orion_mil::{Type, verify};
use orion_runtime::{Device, ErrorKind};
use orion_tensor::{DType, Tolerance};
use orion_testing::{Case, Ignored, all_cases, run_trials};
use std::fmt::Write as _;
use std::process::ExitCode;

const REFUSED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/refused.txt");

const TABLE: &str =
    "sigmoid, silu and gelu go by tables of 33 samples, up to 0.0034, 0.015 and 0.0062 off";
const BEYOND: &str = "numbers beyond 65504 are infinite, and NaN is not passed on";
const NARROWED: &str = "operands are rounded to fp16 first, which moves numbers across a step";
const AWAY: &str = "halves are rounded away from zero";
const NO_SIGN: &str = "fp16 rounds 1e-30 to zero";

/// What is not the definition's result, on both ways to the engine.
const IGNORED: &[Ignored] = &[
    Ignored { case: "unary/ceil/fp32", reason: NARROWED },
    Ignored { case: "unary/floor/fp32", reason: NARROWED },
    Ignored { case: "unary/gelu_sigmoid/fp32", reason: TABLE },
    Ignored { case: "unary/gelu_sigmoid/fp16", reason: TABLE },
    Ignored { case: "unary/round/fp32", reason: AWAY },
    Ignored { case: "unary/round/fp16", reason: AWAY },
    Ignored { case: "unary/sigmoid/fp32", reason: TABLE },
    Ignored { case: "unary/sigmoid/fp16", reason: TABLE },
    Ignored { case: "binary/equal/fp32", reason: NARROWED },
    Ignored { case: "binary/notequal/fp32", reason: NARROWED },
    Ignored { case: "binary/lessequal/fp32", reason: NARROWED },
    Ignored { case: "cast/fp32", reason: NARROWED },
    Ignored { case: "quantize/fp16", reason: AWAY },
    Ignored { case: "special/equal", reason: BEYOND },
    Ignored { case: "special/notequal", reason: BEYOND },
    Ignored { case: "special/less", reason: BEYOND },
    Ignored { case: "special/greaterequal", reason: BEYOND },
    Ignored { case: "chain/gated/fp32", reason: TABLE },
    Ignored { case: "chain/gated/fp16", reason: TABLE },
    Ignored { case: "chain/diamond/fp32", reason: TABLE },
    Ignored { case: "chain/diamond/fp16", reason: TABLE },
    Ignored { case: "special/add", reason: BEYOND },
    Ignored { case: "special/mul", reason: "an infinity times a number is -52416" },
    Ignored { case: "special/maximum", reason: BEYOND },
    Ignored { case: "special/minimum", reason: BEYOND },
    Ignored { case: "special/relu", reason: BEYOND },
    Ignored { case: "special/abs", reason: BEYOND },
    Ignored { case: "special/sqrt", reason: BEYOND },
    Ignored { case: "special/sign", reason: NO_SIGN },
    Ignored { case: "reuse/residual ladder", reason: TABLE },
    Ignored { case: "network/gated mlp/fp32", reason: TABLE },
    Ignored { case: "network/gated mlp/fp16", reason: TABLE },
];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    let mut refused = String::new();
    for (route, label) in [(Route::Direct, "ane-model:m4"), (Route::CoreMl, "ane-model:m4:core-ml")]
    {
        let device = move || AneModel::new("m4".parse().expect("a chip"), route);
        for case in all_cases() {
            let rules = refusing_rules(&case, route);
            if !rules.is_empty() {
                writeln!(refused, "{label}: {}: {}", case.name, rules.join(" ")).expect("a string");
            }
            let name = format!("{label}: {}", case.name);
            let test = move || verdict(&case, &device(), !rules.is_empty()).map_err(Failed::from);
            trials.push(Trial::test(name, test));
        }
    }
    if std::env::var_os("ORION_BLESS").is_some() {
        std::fs::write(REFUSED, &refused).expect("the list can be written");
    }
    let listed = std::fs::read_to_string(REFUSED).unwrap_or_default();
    trials.push(Trial::test("the list of refused cases is current", move || {
        if listed == refused { Ok(()) } else { Err("tests/conformance/refused.txt differs".into()) }
    }));
    trials.push(Trial::test("the list of ignored cases names cases", || {
        let cases = all_cases();
        let missing = IGNORED.iter().find(|i| cases.iter().all(|c| c.name != i.case));
        missing.map_or(Ok(()), |i| Err(format!("there is no case {}", i.case).into()))
    }));
    run_trials(trials)
}

/// The rules that keep a case from compiling, each once.
fn refusing_rules(case: &Case, route: Route) -> Vec<&'static str> {
    if !verify(&case.program).is_empty() {
        return vec![];
    }
    let target = Target { chip: "m4".parse().expect("a chip"), os: Os::V27, route };
    let findings = lint(&case.program, Some(&case.weights), &target);
    let refusing = |f: &&orion_device::Finding| f.severity == Severity::Refused && f.is_failure();
    let mut rules: Vec<&str> = findings.iter().filter(refusing).map(|f| f.rule.code).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

fn verdict(case: &Case, device: &AneModel, is_refused: bool) -> Result<(), String> {
    if is_refused {
        return match device.compile(&case.program, &case.weights) {
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
            Err(error) => Err(format!("refused for another reason: {error}")),
            Ok(_) => Err("lint calls it refused, and it compiles".to_owned()),
        };
    }
    let outcome = case.check_within(device, tolerance(case));
    match (outcome, IGNORED.iter().find(|i| i.case == case.name)) {
        (Ok(()), None) | (Err(_), Some(_)) => Ok(()),
        (Err(difference), None) => Err(difference),
        (Ok(()), Some(i)) => Err(format!("passes now, and is ignored because: {}", i.reason)),
    }
}

/// fp32 values pass through fp16, so that nothing of them is exact; what is made of 8-bit and
/// whole numbers only stays exact.
fn tolerance(case: &Case) -> Tolerance {
    let function = &case.program.functions[0];
    let is_wide = |ty: &Type| match ty {
        Type::Tensor(t) | Type::State(t) => t.dtype == DType::F32,
        _ => false,
    };
    match case.tolerance {
        Tolerance::Exact if !function.values.iter().any(|(_, v)| is_wide(&v.ty)) => {
            Tolerance::Exact
        }
        _ => Tolerance::F16Accum,
    }
}
