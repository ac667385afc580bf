//! Numbers that come out otherwise.

use crate::Severity::SilentWrongData;
use crate::rule::RULE;
use crate::scope::{Check, Site};
use crate::{Applies, Confidence, Generation, Rule};
use orion_mil::ValueId;
use orion_tensor::{DType, f16};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "ANE081",
        title: "a slice that does not begin at 0 of the last axis overflows above 4094",
        severity: SilentWrongData,
        chips: (Generation::M1, Generation::M2),
        depends_on_values: true,
        what: "On M1 and M2 such slices go through a unit with four fractional bits: every number above 4094 in magnitude becomes infinite.",
        fix: "Pass the parts as inputs of their own instead of packing them into one, or slice along channels.",
        evidence: "ANEForge, measured on M1, M1 Max and M2 Pro; exact on M4 and M5.",
        check: Check::Operation(offset_slice),
        ..RULE
    },
    Rule {
        code: "ANE082",
        title: "gather along the last axis returns wrong elements",
        severity: SilentWrongData,
        chips: (Generation::M1, Generation::M2),
        what: "On M1 and M2 a gather along the last axis gives wrong elements.",
        fix: "Transpose before and behind, or slice.",
        evidence: "ANEForge's notes on numeric cliffs.",
        check: Check::Operation(|site| {
            let rank = site.operand_type("x")?.rank();
            (site.is(&["gather", "gather_along_axis"])
                && site.axis("axis", rank).unwrap_or(0) + 1 == rank)
                .then(|| format!("it is along axis {} of {rank}", rank - 1))
        }),
        ..RULE
    },
    Rule {
        code: "ANE083",
        title: "a constant is not a number that fp16 holds",
        severity: SilentWrongData,
        what: "Numbers beyond ±65504 become infinite in fp16, and the matrix unit reads infinity as 65536 and NaN as a larger number. A mask of -1e9 or -inf is not what it was.",
        fix: "Use -10000 or -65504 in masks: the softmax gives 0 below -17 already.",
        evidence: "The M6 study measured how infinities are read on M4 and M6; softmax's table ends at 2 to the -25.",
        check: Check::Operation(unrepresentable),
        ..RULE
    },
    Rule {
        code: "ANE084",
        title: "a sum over more than 2048 elements is kept in fp16",
        severity: SilentWrongData,
        depends_on_values: true,
        what: "`reduce_sum` and `reduce_mean` add in fp16: whole numbers are exact up to 2048, and small terms vanish beside large sums.",
        fix: "Multiply with a vector of ones: products of matrices add in 32 bits.",
        evidence: "ANEForge's numeric cliffs: 16,384 ones sum exactly by matmul, not by reduce_sum.",
        check: Check::Operation(|site| {
            if !site.is(&[
                "reduce_sum",
                "reduce_mean",
                "reduce_sum_square",
                "reduce_l1_norm",
                "reduce_l2_norm",
            ]) {
                return None;
            }
            let shape = site.shape("x")?;
            let axes = site.ints("axes").unwrap_or_else(|| (0..shape.len() as i64).collect());
            let axis =
                |a: i64| usize::try_from(if a < 0 { a + shape.len() as i64 } else { a }).ok();
            let mut count = 1usize;
            for a in axes {
                count = count.saturating_mul(*shape.get(axis(a)?)?);
            }
            (count > 2048).then(|| format!("it adds {count} elements"))
        }),
        ..RULE
    },
    Rule {
        code: "ANE085",
        title: "a sum of products may pass 32768",
        severity: SilentWrongData,
        depends_on_values: true,
        what: "Matrix products and convolutions add in fixed point with 15 bits before the point: a sum that reaches 32768 at any moment becomes infinite and stays so, even if it would come back.",
        fix: "Scale operands down before and the result up behind; a factor of a power of two costs no precision.",
        evidence: "The M6 study on M4 and M6; ANEForge measures infinity from 32752 on M1, M2 Pro, M4 and M5.",
        check: Check::Operation(overflowing_sum),
        ..RULE
    },
    Rule {
        code: "ANE086",
        title: "weights are so small that their products are dropped",
        severity: SilentWrongData,
        depends_on_values: true,
        what: "A product below 2 to the -16 does not enter the sum at all. With operands around 1, weights below 0.000015 count as zero.",
        fix: "Scale the weights up by a power of two and the result down.",
        evidence: "The M6 study's measurement of how products are aligned (M4 and M6).",
        check: Check::Operation(tiny_weights),
        ..RULE
    },
    Rule {
        code: "ANE087",
        title: "epsilon is below what the functions can tell from zero",
        severity: SilentWrongData,
        confidence: Confidence::Reported,
        depends_on_values: true,
        what: "`log`, `rsqrt` and `inverse` of numbers below 7.6e-6 give infinities, so a smaller epsilon does not protect from zero.",
        fix: "Use an epsilon of 1e-5.",
        evidence: "libane's notes: inputs below fp16(0x1.0cp-17) give infinities.",
        check: Check::Operation(|site| {
            let epsilon = site.number("epsilon")?;
            (site.is(&["log", "rsqrt"]) && epsilon < 7.6e-6)
                .then(|| format!("epsilon is {epsilon:e}"))
        }),
        ..RULE
    },
    Rule {
        code: "ANE088",
        title: "round is wrong from 1024 on, and at halves",
        severity: SilentWrongData,
        confidence: Confidence::Reported,
        depends_on_values: true,
        what: "`round` adds one half and cuts off: numbers of 1024 and more, where fp16 has no halves, come out wrong, and 2.5 gives 3 where MIL says 2.",
        fix: "Round on the host, or keep magnitudes below 1024.",
        evidence: "ANEForge pull request 116.",
        check: Check::Operation(|site| {
            (site.name() == "round").then(|| "`round` is used".to_owned())
        }),
        ..RULE
    },
    Rule {
        code: "ANE089",
        title: "both operands of a product are transposed in memory",
        severity: SilentWrongData,
        confidence: Confidence::Disputed,
        depends_on_values: true,
        what: "A product of two transposed tensors has given infinity for bounded sums.",
        fix: "Use `transpose_x` and `transpose_y` instead of `transpose`.",
        evidence: "ANEForge issue 115, open. Trainers of other projects do it without trouble.",
        check: Check::Operation(|site| {
            let transposed = |a| {
                let producer = site.operand(a).and_then(|v| site.scope.producer(v));
                producer.is_some_and(|p| p.name() == "transpose")
            };
            (site.name() == "matmul" && transposed("x") && transposed("y"))
                .then(|| "`x` and `y` are results of `transpose`".to_owned())
        }),
        ..RULE
    },
    Rule {
        code: "ANE090",
        title: "sqrt before a division on M1",
        severity: SilentWrongData,
        chips: (Generation::M1, Generation::M1),
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "A `sqrt` whose result is broadcast into a division gave wrong values on M1.",
        fix: "Use `rsqrt` with epsilon, or `pow` with -0.5, and multiply.",
        evidence: "imperatormk/ane-train on M1 (tensors of rank 3); nobody else has confirmed it.",
        check: Check::Operation(|site| {
            let y = site.operand("y").and_then(|v| site.scope.producer(v))?;
            (site.name() == "real_div" && y.name() == "sqrt")
                .then(|| "it divides by a `sqrt`".to_owned())
        }),
        ..RULE
    },
    Rule {
        code: "ANE091",
        title: "native attention over long sequences",
        severity: SilentWrongData,
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "The engine's own attention gave garbage where both lengths reach 512, or either passes 2048.",
        fix: "Write attention as matmul, softmax and matmul.",
        evidence: "ANEForge, for its own layer; how MIL's scaled_dot_product_attention is lowered is not known.",
        check: Check::Operation(|site| {
            let length = |a| {
                let s = site.shape(a)?;
                s.get(s.len().checked_sub(2)?).copied()
            };
            let (q, k) = (length("query")?, length("key")?);
            (q.min(k) >= 512 || q.max(k) > 2048).then(|| format!("{q} queries, {k} keys"))
        }),
        ..RULE
    },
];

/// Whether a slice or split takes from the last axis behind its beginning.
fn offset_slice(site: &Site<'_>) -> Option<String> {
    let shape = site.shape("x")?;
    let last = shape.len().checked_sub(1)?;
    match site.name() {
        "slice_by_size" | "slice_by_index" => {
            let mut begin = *site.ints("begin")?.get(last)?;
            let masks = site.constant("begin_mask").and_then(orion_mil::Value::as_bools);
            if masks.is_some_and(|m| m.get(last) == Some(&true)) {
                return None;
            }
            if begin < 0 {
                begin += shape[last] as i64;
            }
            (begin != 0).then(|| format!("it begins at {begin} of axis {last}"))
        }
        "split" => (site.axis("axis", shape.len())? == last && site.outputs().len() > 1)
            .then(|| format!("it splits axis {last}")),
        _ => None,
    }
}

fn unrepresentable(site: &Site<'_>) -> Option<String> {
    let constants = site.operation.operands().filter(|&v| site.scope.is_constant(v));
    for value in constants {
        let Some(dtype) = site.scope.tensor_type(value).map(|t| t.dtype) else { continue };
        if !matches!(dtype, DType::F16 | DType::F32) {
            continue;
        }
        // Bounds of `clip` and the like may well be infinite.
        let data = ["x", "y", "weight", "bias", "gamma", "beta", "a", "b", "attn_mask", "values"];
        let bound = |a: &&str| {
            site.operation
                .inputs
                .get(*a)
                .is_some_and(|i| i.bindings().iter().any(|b| b.value() == Some(value)))
        };
        if !data.iter().any(bound) || site.name() == "clip" {
            continue;
        }
        let Some(tensor) = site.scope.numbers(value) else { continue };
        let bad = tensor.to_f64_vec().into_iter().find(|&v| !f16::from_f64(v).to_f64().is_finite());
        if let Some(number) = bad {
            return Some(format!("{} holds {number}", site.called(value)));
        }
    }
    None
}

/// The largest magnitude that a value can have, where the program says so.
fn bound(site: &Site<'_>, value: ValueId, depth: usize) -> Option<f64> {
    if let Some(tensor) = site.scope.numbers(value) {
        return tensor.to_f64_vec().into_iter().map(f64::abs).reduce(f64::max);
    }
    let producer = site.scope.producer(value).filter(|_| depth < 16)?;
    let of = |a: &str| bound(&producer, producer.operand(a)?, depth + 1);
    match producer.name() {
        "softmax" | "sigmoid" | "tanh" | "sigmoid_hard" | "softsign" | "sin" | "cos" | "erf"
        | "sign" => Some(1.0),
        "relu6" => Some(6.0),
        "clip" => Some(producer.number("alpha")?.abs().max(producer.number("beta")?.abs())),
        "identity" | "cast" | "reshape" | "transpose" | "expand_dims" | "squeeze" | "relu"
        | "abs" | "slice_by_index" | "slice_by_size" | "split" | "tile" | "max_pool"
        | "avg_pool" | "reduce_max" | "reduce_min" | "reduce_mean" => of("x"),
        "mul" => Some(of("x")? * of("y")?),
        "add" | "sub" => Some(of("x")? + of("y")?),
        "layer_norm" => {
            let shape = producer.shape("x")?;
            let axes = producer.ints("axes")?;
            let axis =
                |a: i64| usize::try_from(if a < 0 { a + shape.len() as i64 } else { a }).ok();
            let mut n = 1.0;
            for a in axes {
                n *= *shape.get(axis(a)?)? as f64;
            }
            let gamma = if producer.has("gamma") { of("gamma")? } else { 1.0 };
            let beta = if producer.has("beta") { of("beta")? } else { 0.0 };
            Some(f64::sqrt(n) * gamma + beta)
        }
        _ => None,
    }
}

/// How many products go into one sum.
fn summed(site: &Site<'_>) -> Option<usize> {
    match site.name() {
        "matmul" => {
            let x = site.shape("x")?;
            let back = if site.flag("transpose_x") { 2 } else { 1 };
            x.get(x.len().checked_sub(back)?).copied()
        }
        "linear" => site.shape("x")?.last().copied(),
        "conv" => Some(site.shape("weight")?.get(1..)?.iter().product()),
        _ => None,
    }
}

fn overflowing_sum(site: &Site<'_>) -> Option<String> {
    let count = summed(site)?;
    let other = if site.name() == "matmul" { "y" } else { "weight" };
    let (x, y) = (bound(site, site.operand("x")?, 0)?, bound(site, site.operand(other)?, 0)?);
    let most = count as f64 * x * y;
    (most >= 32_768.0)
        .then(|| format!("{count} products of at most {x} and {y} can reach {most:.0}"))
}

fn tiny_weights(site: &Site<'_>) -> Option<String> {
    summed(site)?;
    let other = if site.name() == "matmul" { "y" } else { "weight" };
    let weight = site.operand(other)?;
    let numbers = site.scope.numbers(weight)?.to_f64_vec();
    let nonzero = numbers.iter().filter(|v| **v != 0.0).count();
    let tiny = numbers.iter().filter(|v| **v != 0.0 && v.abs() < f64::powi(2.0, -16)).count();
    (nonzero > 0 && tiny * 20 > nonzero).then(|| {
        format!("{tiny} of {nonzero} numbers of `{}` are below 2^-16", site.scope.name(weight))
    })
}
