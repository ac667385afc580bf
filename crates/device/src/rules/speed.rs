//! What runs, and slower than it could.

use crate::Severity::Slow;
use crate::rule::RULE;
use crate::scope::{Check, Hit, Scope, Site};
use crate::{Applies, Confidence, Rule};
use orion_mil::Type;
use orion_tensor::DType;

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "ANE110",
        title: "a product with a constant matrix is not a 1×1 convolution",
        severity: Slow,
        applies: Applies::Direct,
        what: "A 1×1 convolution with constant weights runs about three times as fast as `matmul` or `linear` with the same numbers.",
        fix: "Write activations as [1, C, 1, S] and the product as `conv` with a weight of [O, C, 1, 1].",
        evidence: "maderix/ANE part 2 and mechramc/Orion on M4.",
        check: Check::Operation(|site| {
            let operand = match site.name() {
                "matmul" => site.operand("y"),
                "linear" => site.operand("weight"),
                _ => None,
            }?;
            // Below this the dispatch outweighs the product.
            let large = site.scope.tensor_type(operand)?.element_count()? >= 1 << 16;
            (large && site.scope.is_constant(operand))
                .then(|| format!("{} is constant", site.called(operand)))
        }),
        ..RULE
    },
    Rule {
        code: "ANE111",
        title: "a convolution with a computed weight is slower than matmul",
        severity: Slow,
        applies: Applies::Direct,
        what: "A 1×1 convolution whose weight is computed gives the bits of `matmul` and takes 25 to 47 percent longer.",
        fix: "Use `matmul` for weights that are inputs.",
        evidence: "rustane on M4 Max: 210 against 150 microseconds at 768.",
        check: Check::Operation(|site| {
            super::operations::computed_weight(site)?;
            Some("its weight is computed".to_owned())
        }),
        ..RULE
    },
    Rule {
        code: "ANE112",
        title: "an axis of a product is above 4096",
        severity: Slow,
        what: "From a width of about 5,120 on the time for a layer grows almost fivefold.",
        fix: "Cut the wide axis into parts of up to 4,096 and add or concatenate the results.",
        evidence: "rustane on M4 Max and M5 Max: time a layer ×4.7 at 5,120; in eight parts the same feed-forward takes 44 instead of 166 ms.",
        check: Check::Operation(wide_product),
        ..RULE
    },
    Rule {
        code: "ANE113",
        title: "the long axis of an input or output is not the last",
        severity: Slow,
        what: "Every row of the last axis takes at least 64 bytes. A tensor [1, C, W, 1] takes 32 times the memory and the transfer of [1, C, 1, W] in fp16.",
        fix: "Put the long axis last.",
        evidence: "Strides in compiled models (mil_infer, tmc/apple); Apple's article on transformers for the Neural Engine says the same.",
        check: Check::Function(short_last_axis),
        ..RULE
    },
    Rule {
        code: "ANE114",
        title: "inputs or outputs are fp32",
        severity: Slow,
        applies: Applies::Direct,
        what: "The Neural Engine computes with fp16; fp32 at the border costs conversions and twice the bytes, about a third of the time of small programs.",
        fix: "Declare inputs and outputs fp16 and convert on the host.",
        evidence: "maderix/ANE: fp16 inputs and outputs are 37 percent faster.",
        check: Check::Function(wide_ports),
        ..RULE
    },
    Rule {
        code: "ANE115",
        title: "all of the work is smaller than asking for it",
        severity: Slow,
        applies: Applies::Direct,
        confidence: Confidence::Inferred,
        what: "A run costs 70 to 230 microseconds whatever it computes. Programs of less than a million operations are over sooner on the CPU.",
        fix: "Put several layers, or several items, into one program.",
        evidence: "Dispatch floors measured on M1, M4, M4 Max and M5 by five projects; 12 layers as one program take 5.1 ms, as 24 programs 15.2 ms.",
        check: Check::Function(tiny),
        ..RULE
    },
];

fn wide_product(site: &Site<'_>) -> Option<String> {
    let wide = |n: usize| n > 4608;
    let (rows, columns) = match site.name() {
        "conv" | "linear" => {
            let weight = site.shape("weight")?;
            (*weight.first()?, *weight.get(1)?)
        }
        "matmul" => {
            let y = site.shape("y")?;
            let [.., k, n] = *y else { return None };
            (k, n)
        }
        _ => return None,
    };
    (wide(rows) && wide(columns)).then(|| format!("the matrix is {rows} by {columns}"))
}

fn short_last_axis(scope: &Scope<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for value in scope.ports() {
        let Type::Tensor(ty) = scope.function.ty(value) else { continue };
        let Some(shape) = ty.shape() else { continue };
        let [.., before, last] = *shape else { continue };
        let dense = ty.element_count().unwrap_or(0) * ty.dtype.size_bytes();
        let Some(layout) = crate::SurfaceLayout::of(ty.dtype, &shape) else { continue };
        if before > 16 && last < before && layout.size_bytes >= dense.saturating_mul(8) && last > 0
        {
            let times = layout.size_bytes / dense.max(1);
            let message = format!(
                "`{}`, {}, takes {times} times its size",
                scope.name(value),
                scope.function.ty(value)
            );
            hits.push(Hit { value, message });
        }
    }
    hits
}

fn wide_ports(scope: &Scope<'_>) -> Vec<Hit> {
    let wide =
        |&v: &orion_mil::ValueId| scope.tensor_type(v).is_some_and(|t| t.dtype == DType::F32);
    let hit = |value| Hit { value, message: format!("`{}` is fp32", scope.name(value)) };
    scope.ports().filter(wide).map(hit).collect()
}

fn tiny(scope: &Scope<'_>) -> Vec<Hit> {
    let mut work = 0u64;
    for site in scope.sites() {
        let Some(shape) = site.output_shape() else { return vec![] };
        let elements = shape.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
        let each = match site.name() {
            "matmul" | "linear" | "conv" => {
                let k = site.shape("weight").or_else(|| site.shape("x"));
                2 * k.map_or(1, |k| k.iter().skip(1).product::<usize>() as u64)
            }
            _ => 1,
        };
        work = work.saturating_add(elements.saturating_mul(each));
    }
    let Some(&value) = scope.function.body.results.first() else { return vec![] };
    if work >= 1_000_000 {
        return vec![];
    }
    vec![Hit { value, message: format!("the program is about {work} operations on numbers") }]
}
