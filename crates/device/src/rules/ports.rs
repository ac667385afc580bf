//! Inputs, outputs and the memory they lie in.

use crate::Severity::{EvalFailure, Refused, SilentWrongData};
use crate::rule::RULE;
use crate::scope::{Check, Hit, Scope, dtype};
use crate::{Applies, Confidence, Rule};
use orion_mil::{Type, ValueId};
use orion_tensor::DType;

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "ANE020",
        title: "an output is an input",
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "The program returns one of its parameters unchanged.",
        fix: "Keep the value on the host, or return a computed copy of it.",
        evidence: "Reported as refused by generators of programs; mil_spec (M4) finds it legal. A program in which every output is an input crashes (ANE008).",
        check: Check::Function(parameter_as_output),
        ..RULE
    },
    Rule {
        code: "ANE021",
        title: "an output is a constant",
        applies: Applies::Direct,
        what: "Outputs must be computed; a constant as output is refused.",
        fix: "Keep the constant on the host.",
        evidence: "mil_spec front-end probes on M4.",
        check: Check::Function(constant_as_output),
        ..RULE
    },
    Rule {
        code: "ANE022",
        title: "the element type of an input or output cannot cross the border",
        applies: Applies::Direct,
        what: "Inputs are fp16 or fp32, also int8; outputs are fp16 or fp32. Bools, int32 and the rest exist inside a program at most.",
        fix: "Cast inside the program, or do the part with other types on the host.",
        evidence: "ironmill and mil_spec on the direct path: int8 inputs compile, int8 outputs do not; ANEForge's e5rt path also takes int8, uint8, int16 and uint16 but no fp32.",
        check: Check::Function(port_type),
        ..RULE
    },
    Rule {
        code: "ANE023",
        title: "rows of a surface are padded to 64 bytes",
        severity: EvalFailure,
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "Every row of the last axis takes a multiple of 64 bytes of an input's or output's memory. A program that binds memory without that padding gets the error 0x1d, or reads and writes beside the values.",
        fix: "Allocate the size and use the strides that are reported, or make the last axis a multiple of 64 bytes.",
        evidence: "tmc/apple reads strides from compiled models and all sizes run; 150 compiled models of mil_infer carry them; jmanhype's sweep passes at multiples of 64 bytes only. mechramc/Orion describes packed buffers, which contradicts it. It explains the sayings of smallest sizes (49,152 bytes, width 16, 32 or 64).",
        check: Check::Function(padded_rows),
        ..RULE
    },
    Rule {
        code: "ANE024",
        title: "inputs or outputs are not in the order of their names",
        severity: SilentWrongData,
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "The compiled model numbers inputs and outputs by the alphabetical order of their names, not by where they stand in the text. A host that binds memory by position swaps them; where sizes agree nothing is reported.",
        fix: "Bind by name or by the numbers in the model's description, as Orion does; or choose names whose order is the order in the text.",
        evidence: "mil_infer's compiled programs are sorted by name; ironmill found queries and keys swapped. tmc/apple binds by the model's own numbers, where order does not matter. Claims that all inputs need one size are refuted by rustane (M4 Max).",
        check: Check::Function(port_order),
        ..RULE
    },
    Rule {
        code: "ANE025",
        title: "the size of a tensor is not known before running",
        about_support: true,
        what: "Every axis must have a size when the program is compiled. Models with a list of shapes are compiled once for each; models with ranges of shapes stay off the Neural Engine.",
        fix: "Convert the model with a fixed shape, or with a list of shapes.",
        evidence: "mil_spec on M4: enumerated shapes load on the Neural Engine, ranges do not.",
        check: Check::Operation(|site| {
            let (value, _) = site.tensors().find(|(_, t)| t.shape().is_none())?;
            Some(format!("the size of {} is not known", site.called(value)))
        }),
        ..RULE
    },
    Rule {
        code: "ANE026",
        title: "memory of another size than the compiled model's is bound",
        severity: EvalFailure,
        applies: Applies::Direct,
        what: "A surface whose size is not what the compiled model expects makes the run fail with status 0x1d, which is also what swapped surfaces of different sizes give.",
        fix: "Size every surface from the program's signature.",
        evidence: "mechramc/Orion, apple-neural-engine-field-guide and Espresso report 0x1d for sizes and 0x9 for rows that are too short.",
        ..RULE
    },
    Rule {
        code: "ANE027",
        title: "a state is read or written",
        severity: Refused,
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        about_support: true,
        what: "State operations work through Core ML; the Neural Engine's own compiler has refused them.",
        fix: "Make the state an input and an output, and bind both to the same memory.",
        evidence: "ane-bridge-rs (macOS 26.2): read_state and coreml_update_state are rejected. mil_spec compiles read_state and write_state under ios18 with one read a state.",
        check: Check::Operation(|site| {
            site.is(&["read_state", "write_state", "coreml_update_state"])
                .then(|| format!("`{}` needs Core ML", site.name()))
        }),
        ..RULE
    },
];

fn hit(value: ValueId, message: String) -> Hit {
    Hit { value, message }
}

fn parameter_as_output(scope: &Scope<'_>) -> Vec<Hit> {
    let results = scope.function.body.results.iter().copied();
    let returned = results.filter(|&v| scope.is_parameter(v));
    returned.map(|v| hit(v, format!("`{}` is a parameter and an output", scope.name(v)))).collect()
}

fn constant_as_output(scope: &Scope<'_>) -> Vec<Hit> {
    let results = scope.function.body.results.iter().copied();
    let constants = results.filter(|&v| scope.is_constant(v));
    constants.map(|v| hit(v, format!("the output `{}` is a constant", scope.name(v)))).collect()
}

fn port_type(scope: &Scope<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for value in scope.ports() {
        let Some(dtype) = dtype(scope.function.ty(value)) else { continue };
        let input = scope.is_parameter(value);
        let may = matches!(dtype, DType::F16 | DType::F32) || (input && dtype == DType::I8);
        if !may {
            let kind = if input { "input" } else { "output" };
            hits.push(hit(value, format!("the {kind} `{}` is {dtype}", scope.name(value))));
        }
    }
    hits
}

fn padded_rows(scope: &Scope<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for value in scope.ports() {
        let Type::Tensor(ty) = scope.function.ty(value) else { continue };
        let (Some(shape), size) = (ty.shape(), ty.dtype.size_bytes()) else { continue };
        let Some(&row) = shape.last() else { continue };
        let dense = row.saturating_mul(size);
        if dense == 0 || dense.is_multiple_of(64) {
            continue;
        }
        let Some(layout) = crate::SurfaceLayout::of(ty.dtype, &shape) else { continue };
        let message = format!(
            "`{}`, {}: a row of {dense} bytes takes {}, the surface {} bytes",
            scope.name(value),
            scope.function.ty(value),
            layout.row_bytes,
            layout.size_bytes
        );
        hits.push(hit(value, message));
    }
    hits
}

fn port_order(scope: &Scope<'_>) -> Vec<Hit> {
    let params: Vec<ValueId> = scope.function.params.iter().map(|p| p.value).collect();
    let check = |kind: &str, values: &[ValueId]| {
        let names: Vec<&str> = values.iter().map(|&v| scope.name(v)).collect();
        if names.is_sorted() {
            return None;
        }
        let mut sorted = names.clone();
        sorted.sort_unstable();
        let message =
            format!("{kind} are written {} and numbered {}", names.join(", "), sorted.join(", "));
        Some(hit(values[0], message))
    };
    let inputs = check("inputs", &params);
    inputs.into_iter().chain(check("outputs", &scope.function.body.results)).collect()
}
