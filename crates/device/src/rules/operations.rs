//! Operations and forms of them that the Neural Engine does not have.

use crate::Severity::{EvalFailure, SilentWrongData};
use crate::rule::RULE;
use crate::scope::{Check, Site};
use crate::{Applies, Confidence, Generation, Os, Route, Rule};
use orion_tensor::DType;

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "ANE040",
        title: "no Neural Engine has this operation",
        about_support: true,
        what: "The operation has no counterpart on any chip. Given to the Neural Engine's compiler the program is refused; Core ML runs the operation on the CPU or GPU and copies tensors there and back.",
        fix: "Say it with other operations: `tan` as sin/cos, `sinh` and `cosh` with `exp`, `mod` with `floor_div`, a running sum as a product with a triangle of ones, `reduce_prod` as exp of a sum of logs. `orion lint --fix` rewrites tan, sinh, cosh and mod.",
        evidence: "Measured on M4 with macOS 27 (the M6 study) and listed for M1 to M5 by ANEForge's catalogue of 187 operations; both agree.",
        check: Check::Operation(nowhere),
        ..RULE
    },
    Rule {
        code: "ANE041",
        title: "the operation needs a newer chip: M2 or later",
        chips: (Generation::M1, Generation::M1),
        about_support: true,
        confidence: Confidence::Reported,
        what: "`topk`, `resample` and `affine` came with the engine of the M2.",
        fix: "Run the operation on the CPU, or require a newer chip.",
        evidence: "ANEForge's capability tables, from the compiler's own.",
        check: Check::Operation(|site| one_of(site, &["topk", "resample", "affine"])),
        ..RULE
    },
    Rule {
        code: "ANE042",
        title: "sin and cos need a newer chip: M3 or later",
        chips: (Generation::M1, Generation::M2),
        about_support: true,
        what: "`sin` and `cos` came with the engine of the M3.",
        fix: "Compute tables of sines on the host and pass them in, as rotary embeddings do.",
        evidence: "ANEForge: A15 or later. ironmill, on a machine with the M2's engine, had them rejected.",
        check: Check::Operation(|site| one_of(site, &["sin", "cos"])),
        ..RULE
    },
    Rule {
        code: "ANE043",
        title: "logical operations need a newer system",
        systems: (Os::V15, Os::V26),
        about_support: true,
        confidence: Confidence::Disputed,
        what: "`logical_and`, `logical_or` and `logical_xor` were refused up to macOS 26 and run on the Neural Engine of an M4 under macOS 27.",
        fix: "Multiply masks of 0 and 1 instead, or require macOS 27.",
        evidence: "ANEForge and ironmill list them as unsupported; measured as supported on M4 with macOS 27 (the M6 study).",
        check: Check::Operation(|site| one_of(site, &["logical_and", "logical_or", "logical_xor"])),
        ..RULE
    },
    Rule {
        code: "ANE044",
        title: "numbers of a type that the Neural Engine does not compute with",
        about_support: true,
        what: "The Neural Engine computes with fp16. Arithmetic on whole numbers of any size, on bf16 or on 64-bit numbers, and casts to or from int32, are refused or run elsewhere. Indices are an exception where the operation takes int16.",
        fix: "Compute with fp16, where whole numbers are exact up to 2048, or leave the part on the CPU.",
        evidence: "Measured on M4 with macOS 27: additions of int32 and int16, products of int32, and casts of int32 stay off the Neural Engine (the M6 study). ANEForge and ironmill agree for M1 to M5.",
        check: Check::Operation(number_type),
        ..RULE
    },
    Rule {
        code: "ANE045",
        title: "a slice whose position is computed",
        about_support: true,
        what: "The beginning and the end of a slice must be constants.",
        fix: "Make the position a constant, or pick the part with a mask and a sum, or slice on the host.",
        evidence: "Measured on M4 with macOS 27 (slice_by_size with a computed begin); mil_spec: constants only.",
        check: Check::Operation(computed_slice),
        ..RULE
    },
    Rule {
        code: "ANE046",
        title: "gather with computed indices",
        about_support: true,
        what: "A lookup whose indices are computed when the program runs, such as an embedding, is not done on the Neural Engine.",
        fix: "Look the rows up on the host and pass them in.",
        evidence: "Measured on M4 with macOS 27: gather with constant indices and gather_along_axis with int16 indices run, computed ones do not.",
        check: Check::Operation(|site| {
            (site.is(&["gather", "gather_nd"])
                && site.operand("indices").is_some_and(|v| !site.scope.is_constant(v)))
            .then(|| "its indices are computed".to_owned())
        }),
        ..RULE
    },
    Rule {
        code: "ANE047",
        title: "gather is not taken outside Core ML",
        applies: Applies::Direct,
        what: "The Neural Engine's compiler refuses `gather` in every spelling; Core ML rewrites it first.",
        fix: "Slice and concatenate, multiply with a matrix of ones and zeros, or gather on the host.",
        evidence: "mil_spec front-end probes on M4.",
        check: Check::Operation(|site| one_of(site, &["gather"])),
        about_support: true,
        ..RULE
    },
    Rule {
        code: "ANE048",
        title: "control flow and lists",
        about_support: true,
        what: "Branches, loops and lists do not exist on the Neural Engine; what is inside them is not run there either.",
        fix: "Unroll loops, compute both branches and select.",
        evidence: "ANEForge's catalogue; compiled programs are straight lists of tasks.",
        check: Check::Operation(|site| {
            let name = site.name();
            (site.is(&["cond", "while_loop"]) || name == "make_list" || name.starts_with("list_"))
                .then(|| format!("`{name}` is control flow"))
        }),
        ..RULE
    },
    Rule {
        code: "ANE049",
        title: "weights of 4 bits or fewer in blocks",
        about_support: true,
        what: "Weights with one scale for each block of a row are unpacked on CPU or GPU; the Neural Engine takes one scale for each output channel or for the whole tensor.",
        fix: "Quantize with one scale for each output channel, or use a lookup table (palette).",
        evidence: "Core ML's own message on M5 Pro: only per-cout or per-tensor quantization is supported (llms-on-apple-neural-engine). Older systems reject int4 altogether (ironmill).",
        applies: Applies::CoreMl,
        check: Check::Operation(blockwise_weights),
        ..RULE
    },
    Rule {
        code: "ANE050",
        title: "a mask given to scaled_dot_product_attention is ignored",
        severity: SilentWrongData,
        applies: Applies::Direct,
        what: "The operation compiles with `attn_mask` and computes as if there were none: every position sees every other.",
        fix: "Write attention as matmul, add of the mask, softmax and matmul.",
        evidence: "Three projects independently (maderix/ANE, ANEgpt, mechramc/Orion). Core ML takes it apart before and is right (M4, macOS 27).",
        check: Check::Operation(|site| {
            (site.name() == "scaled_dot_product_attention" && site.has("attn_mask"))
                .then(|| "`attn_mask` is given".to_owned())
        }),
        ..RULE
    },
    Rule {
        code: "ANE051",
        title: "tile may break every later run of the process",
        severity: EvalFailure,
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "After a program with `tile` has run, runs of any program have failed with 0x1d until the process ended.",
        fix: "Let the next operation broadcast, or concatenate copies.",
        evidence: "apple-neural-engine-field-guide (M3 Max, macOS 26.3.1, four tests). ironmill, ANEForge and mil_spec use tile without trouble.",
        check: Check::Operation(|site| one_of(site, &["tile"])),
        ..RULE
    },
    Rule {
        code: "ANE052",
        title: "a convolution with a computed weight and more than one image",
        applies: Applies::Direct,
        what: "A convolution whose weight is computed works for one image and does not compile for more.",
        fix: "Use `matmul`, which takes computed operands.",
        evidence: "ANEForge: dynamic_conv is correct at batch 1, does not compile at batch 2. imperatormk: fails for depthwise convolutions.",
        check: Check::Operation(|site| {
            let batch = computed_weight(site)?.first().copied()?;
            let groups = site.int("groups").unwrap_or(1);
            (batch > 1 || groups > 1)
                .then(|| format!("the weight is computed, with {batch} images and {groups} groups"))
        }),
        ..RULE
    },
    Rule {
        code: "ANE053",
        title: "a product of matrices of rank 5",
        confidence: Confidence::Reported,
        about_support: true,
        what: "`matmul` takes up to four axes; transposes of rank 5 run by themselves but not into a product.",
        fix: "Join two of the leading axes before the product.",
        evidence: "ANEForge's notes on operations.",
        check: Check::Operation(|site| {
            let rank = site.operand_type("x")?.rank().max(site.operand_type("y")?.rank());
            (site.name() == "matmul" && rank > 4).then(|| format!("operands of rank {rank}"))
        }),
        ..RULE
    },
    Rule {
        code: "ANE054",
        title: "a constant as operand of matmul on M1",
        applies: Applies::Direct,
        chips: (Generation::M1, Generation::M1),
        confidence: Confidence::Reported,
        what: "On M1 a `matmul` of rank 3 with a constant operand is refused.",
        fix: "Use a 1×1 convolution, which is also faster, or pass the matrix in.",
        evidence: "imperatormk/ane-train on M1: InvalidMILProgram.",
        check: Check::Operation(|site| {
            let of = |a| site.operand(a).filter(|&v| site.scope.is_constant(v));
            let constant = of("x").or_else(|| of("y"))?;
            let rank = site.scope.tensor_type(constant)?.rank();
            (site.name() == "matmul" && rank <= 3)
                .then(|| format!("{} is a constant", site.called(constant)))
        }),
        ..RULE
    },
    Rule {
        code: "ANE055",
        title: "concat along the last axis on other chips than the M4",
        applies: Applies::Direct,
        chips: (Generation::M1, Generation::M3),
        confidence: Confidence::Reported,
        what: "Programs that join tensors along the last axis have failed to compile on M1, M2 and M3 Ultra where joining channels works.",
        fix: "Join along channels; write rotary embeddings with a product by a constant permutation instead of slices and concat.",
        evidence: "rustane issue 11 (M2 Max), Espresso issue 18 (M1 Ultra), and a report on M3 Ultra with macOS 26.3.1; the accepted correction replaced joins along the width only.",
        check: Check::Operation(|site| {
            let rank = site.output_shape()?.len();
            (site.name() == "concat" && rank > 1 && site.axis("axis", rank)? == rank - 1)
                .then(|| format!("joined along axis {}", rank - 1))
        }),
        ..RULE
    },
    Rule {
        code: "ANE056",
        title: "a bias at a convolution",
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "`bias` at `conv` has been refused; an addition behind the convolution is joined with it by the compiler.",
        fix: "Add the bias as `[1, C, 1, 1]` behind the convolution; `orion lint --fix` does it.",
        evidence: "mechramc/Orion's code generator avoids it. The hardware has a bias (the accumulator's first value, M6 study), and ANEForge uses it.",
        check: Check::Operation(|site| {
            (site.name() == "conv" && site.has("bias")).then(|| "`bias` is given".to_owned())
        }),
        ..RULE
    },
    Rule {
        code: "ANE057",
        title: "square before a nonlinear function with certain widths",
        confidence: Confidence::Reported,
        applies: Applies::Direct,
        what: "`square` followed by an activation does not compile where the width modulo 128 is above 64.",
        fix: "Write `mul(x, x)`; `orion lint --fix` does it.",
        evidence: "ANEForge's notes on targets; other projects write mul(x, x) throughout.",
        check: Check::Operation(|site| {
            let width = *site.output_shape()?.last()?;
            let mut readers = site.outputs().iter().flat_map(|&v| site.scope.readers(v));
            let nonlinear = |s: &Site<'_>| {
                s.is(&[
                    "relu", "sigmoid", "tanh", "gelu", "silu", "exp", "sqrt", "rsqrt", "log",
                    "erf", "inverse",
                ])
            };
            (site.name() == "square" && width % 128 > 64 && readers.any(|s| nonlinear(&s)))
                .then(|| format!("its width is {width}, and an activation follows"))
        }),
        ..RULE
    },
    Rule {
        code: "ANE058",
        title: "a sum multiplied by zero",
        applies: Applies::Direct,
        what: "`reduce_sum` followed by a product with zero, also with a number that fp16 rounds to zero such as 1e-30, does not compile.",
        fix: "Make zeros as `sub(t, t)`.",
        evidence: "ANEForge measured it on M5; its notes on writing MIL say so.",
        check: Check::Operation(|site| {
            if site.name() != "mul" {
                return None;
            }
            let zero = |a: &str| {
                site.number(a).is_some_and(|v| orion_tensor::f16::from_f64(v).to_f64() == 0.0)
            };
            let sum = |a: &str| {
                let producer = site.operand(a).and_then(|v| site.scope.producer(v));
                producer.is_some_and(|p| p.name() == "reduce_sum")
            };
            ((zero("y") && sum("x")) || (zero("x") && sum("y")))
                .then(|| "a `reduce_sum` is multiplied by zero".to_owned())
        }),
        ..RULE
    },
    Rule {
        code: "ANE059",
        title: "softmax over a length that is not a power of two",
        severity: EvalFailure,
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "A softmax over 257 elements compiled and failed when it ran.",
        fix: "Pad the axis with values that are masked, such as -10000.",
        evidence: "Espresso (M3 Max, macOS 15): InvalidMILProgram at 257. ANEForge runs softmax over any length.",
        check: Check::Operation(|site| {
            let shape = site.shape("x")?;
            let length = shape[site.axis("axis", shape.len())?];
            (site.name() == "softmax" && !length.is_power_of_two())
                .then(|| format!("it is over {length} elements"))
        }),
        ..RULE
    },
    Rule {
        code: "ANE060",
        title: "unpacked weights go straight into an operation that does not take them",
        applies: Applies::Direct,
        confidence: Confidence::Reported,
        what: "The result of a `constexpr_` operation cannot be reshaped, and weights unpacked in blocks cannot go straight into `matmul` or `conv`.",
        fix: "Store the weight in its final shape; put an addition of zero behind weights in blocks.",
        evidence: "ANEForge's notes on its compile pipeline.",
        check: Check::Operation(|site| {
            let constexpr =
                |v| site.scope.producer(v).filter(|p| p.name().starts_with("constexpr_"));
            site.operation.operands().filter_map(constexpr).find_map(|p| {
                let blocks = p.name() == "constexpr_blockwise_shift_scale";
                let bad = site.is(&["reshape", "expand_dims", "squeeze"])
                    || (blocks && site.is(&["matmul", "conv", "linear"]));
                bad.then(|| format!("it reads the result of `{}`", p.name()))
            })
        }),
        ..RULE
    },
];

fn one_of(site: &Site<'_>, names: &[&str]) -> Option<String> {
    site.is(names).then(|| format!("`{}` is not available", site.name()))
}

/// The shape of a convolution's input when its weight is computed.
pub(super) fn computed_weight(site: &Site<'_>) -> Option<Vec<usize>> {
    let weight = site.operand("weight").filter(|&v| !site.scope.is_constant(v));
    weight.filter(|_| site.name() == "conv").and_then(|_| site.shape("x"))
}

fn nowhere(site: &Site<'_>) -> Option<String> {
    const NOWHERE: [&str; 36] = [
        "acos",
        "acosh",
        "argsort",
        "asin",
        "asinh",
        "atanh",
        "band_part",
        "bitwise_and",
        "classify",
        "cosh",
        "crop_resize",
        "cumsum",
        "gru",
        "lstm",
        "mod",
        "non_maximum_suppression",
        "non_zero",
        "one_hot",
        "random_bernoulli",
        "random_categorical",
        "random_normal",
        "random_uniform",
        "range_1d",
        "reduce_argmax",
        "reduce_argmin",
        "reduce_prod",
        "reverse_sequence",
        "rnn",
        "scatter",
        "scatter_along_axis",
        "scatter_nd",
        "shape",
        "sinh",
        "sliding_windows",
        "tan",
        "bitwise_or",
    ];
    NOWHERE.contains(&site.name()).then(|| format!("`{}` does not exist there", site.name()))
}

fn number_type(site: &Site<'_>) -> Option<String> {
    if site.name() == "const" || site.name().starts_with("constexpr_") {
        return None;
    }
    let indices =
        |v| ["indices", "begin", "end", "shape", "reps"].iter().any(|a| site.operand(a) == Some(v));
    // The positions of `topk` come beside the values and are converted on the way out.
    let positions = |v| site.name() == "topk" && site.outputs().get(1) == Some(&v);
    let places =
        site.is(&["gather", "gather_nd", "slice_by_index", "slice_by_size", "slice_update"]);
    let bytes_only = site.is(&["quantize", "dequantize", "cast", "identity"]);
    let direct = site.target().route == Route::Direct;
    let moves_only = site.is(&[
        "concat",
        "expand_dims",
        "pad",
        "reshape",
        "slice_by_index",
        "slice_by_size",
        "split",
        "squeeze",
        "stack",
        "transpose",
    ]);
    site.tensors().find_map(|(value, ty)| {
        let bad = match ty.dtype {
            DType::F16 | DType::F32 | DType::Bool | DType::String => false,
            DType::I8 | DType::U8 => !(bytes_only || moves_only || direct),
            DType::I16 | DType::U16 => {
                !(indices(value) || positions(value) || (direct && bytes_only))
            }
            // ANE045 and ANE046 say more of computed places.
            _ => !(positions(value) || (places && indices(value))),
        };
        bad.then(|| format!("{} is not fp16", site.called(value)))
    })
}

fn computed_slice(site: &Site<'_>) -> Option<String> {
    if !site.is(&["slice_by_index", "slice_by_size", "slice_update"]) {
        return None;
    }
    ["begin", "end", "size"].iter().find_map(|argument| {
        let value = site.operand(argument).filter(|&v| !site.scope.is_constant(v))?;
        Some(format!("`{argument}` is `{}`, which is computed", site.scope.name(value)))
    })
}

fn blockwise_weights(site: &Site<'_>) -> Option<String> {
    if site.name() != "constexpr_blockwise_shift_scale" {
        return None;
    }
    let data = site.operand_type("data")?;
    let scale = site.shape("scale")?;
    let grouped = scale.iter().skip(1).any(|&n| n > 1);
    (data.dtype.bits() <= 4 && grouped)
        .then(|| format!("{} numbers with scales of shape {scale:?}", data.dtype))
}
