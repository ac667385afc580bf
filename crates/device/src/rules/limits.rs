//! Sizes.

use crate::Severity::{EvalFailure, Refused};
use crate::rule::RULE;
use crate::scope::{Check, Hit, Scope, Site, Whole};
use crate::{Applies, Confidence, Generation, Rule};
use orion_mil::ValueId;

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "ANE070",
        title: "a tensor of more than five axes",
        about_support: true,
        what: "Tensors have at most five axes.",
        fix: "Join axes before, split them behind.",
        evidence: "ANEForge's notes on targets; transposes of rank 5 are measured as running on M4.",
        check: Check::Operation(|site| {
            let (value, _) = site.tensors().find(|(_, t)| t.rank() > 5)?;
            Some(format!("{} has more than five axes", site.called(value)))
        }),
        ..RULE
    },
    Rule {
        code: "ANE071",
        title: "an axis is too long",
        about_support: true,
        what: "No axis of a tensor may be longer than 16,384 up to M3 (channels 65,536) and 65,536 from M4 on. A whole vocabulary of 32,000 as the last axis does not fit an M1.",
        fix: "Cut the axis and run the parts one after another, or move it to channels.",
        evidence: "Measured on M4 with macOS 27: 65,536 runs, 65,537 does not, for width and height. ANEForge: 16,384 for width and products up to M3. Older systems had 16,384 everywhere (ironmill).",
        check: Check::Operation(long_axis),
        ..RULE
    },
    Rule {
        code: "ANE072",
        title: "a product of matrices sums over too many elements",
        about_support: true,
        what: "`matmul` and `linear` sum over at most 32,768 elements (16,384 up to M3).",
        fix: "Cut the summed axis and add the parts.",
        evidence: "Measured on M4 with macOS 27: 32,768 runs, 40,000 and 65,535 do not.",
        check: Check::Operation(long_sum),
        ..RULE
    },
    Rule {
        code: "ANE073",
        title: "a convolution's kernel is too large",
        about_support: true,
        what: "Kernels are at most 15 wide (13 on M1) and 31 high; square ones of 16 by 16 also run.",
        fix: "Turn width and height around, or write a wide kernel as a sum of narrow ones over shifted inputs.",
        evidence: "Measured on M4 with macOS 27: 14×14 and 16×1 run, 17×17, 1×16, 1×24, 1×64 and 64×1 do not (height × width). ANEForge: 13 on M1.",
        check: Check::Operation(large_kernel),
        ..RULE
    },
    Rule {
        code: "ANE074",
        title: "a maximum is taken over too large a window",
        about_support: true,
        what: "`max_pool` takes windows up to 8 by 8.",
        fix: "Pool twice with smaller windows: 13 is 7 and 7.",
        evidence: "Measured on M4 with macOS 27: 8 runs, 13 and 15 do not; between them nobody has measured.",
        check: Check::Operation(|site| {
            let kernel = site.ints("kernel_sizes")?;
            (site.name() == "max_pool" && kernel.iter().any(|&k| k > 8))
                .then(|| format!("the window is {kernel:?}"))
        }),
        ..RULE
    },
    Rule {
        code: "ANE075",
        title: "a chain of operations is too long",
        applies: Applies::Direct,
        what: "Programs in which more than 383 operations depend on each other one after another do not compile.",
        fix: "Cut the program in two.",
        evidence: "M4: 383 compile, 384 do not. M6: a stack overflow at 386 layers (both from the M6 study).",
        check: Check::Function(deep),
        ..RULE
    },
    Rule {
        code: "ANE076",
        title: "a model has too many operations",
        applies: Applies::CoreMl,
        what: "Core ML fails to plan models beyond about 3,200 operations for the Neural Engine (error -14).",
        fix: "Split the model into several functions or packages.",
        evidence: "mil_spec on M4: 3,164 operations load, 3,284 do not; it is the number, not the bytes.",
        check: Check::Function(|scope| {
            let computed = |o: &&&orion_mil::Operation| o.name != "const";
            let all = scope.function.body.all_operations();
            let count = all.iter().filter(computed).count();
            let Some(&value) = scope.function.body.results.first() else { return vec![] };
            if count <= 3164 {
                return vec![];
            }
            vec![Hit { value, message: format!("there are {count} operations") }]
        }),
        ..RULE
    },
    Rule {
        code: "ANE077",
        title: "more than two gigabytes of weights in one program",
        confidence: Confidence::Reported,
        what: "A program carries about 2 GB of weights at most.",
        fix: "Cut the model into programs of a few layers each, which also compile much faster.",
        evidence: "ANEForge cuts models above that; it measured 162 s to compile eight layers as one program and 0.5 s as several.",
        check: Check::Program(|whole| {
            let bytes = orion_mil::blob::declared_weight_bytes(whole.program);
            if bytes <= 2 << 30 {
                return vec![];
            }
            vec![format!("the program names {:.1} GB of weights", bytes as f64 / 1e9)]
        }),
        ..RULE
    },
    Rule {
        code: "ANE078",
        title: "weights lie in more than 16 files",
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "A program that names more than 16 weight files is refused.",
        fix: "Pack all weights into one file; `orion mil convert` does it.",
        evidence: "Measured on M4 and M4 Max: 17 weights are refused. Other programs compile with 64 to 256 weights in one file, and luengnat/rustane sees the limit with one file a layer, so files seem to be counted and not weights.",
        check: Check::Program(many_files),
        ..RULE
    },
    Rule {
        code: "ANE079",
        title: "too many programs are loaded at the same time",
        severity: Refused,
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "A process can keep about 110 to 119 programs compiled, and about 85 for each connection to the system's service. Further ones are refused without a reason.",
        fix: "Drop programs that are not needed, fuse layers, or put several functions into one program.",
        evidence: "mechramc/Orion, maderix/ANE and jmanhype meet a wall at 119 to 132; ANEForge at 110 to 120; mil_infer at 85 a connection; one project loads 226. They disagree on whether compiling or loading is counted.",
        ..RULE
    },
    Rule {
        code: "ANE080",
        title: "sequences of 1152 and more fail in one trainer",
        severity: EvalFailure,
        applies: Applies::Direct,
        confidence: Confidence::Disputed,
        what: "Attention programs over 1,152 positions or more have failed; 1,024 works and is slow.",
        fix: "Cut the sequence, or keep attention in blocks of up to 1,024 positions.",
        evidence: "autoresearch-ANE's results on M4 Max. Others have not reported it.",
        check: Check::Operation(|site| {
            let length = *site.shape("x")?.last()?;
            (site.name() == "softmax" && length >= 1152)
                .then(|| format!("it is over {length} positions"))
        }),
        ..RULE
    },
];

fn long_axis(site: &Site<'_>) -> Option<String> {
    let longest = site.target().chip.parameters().longest_axis;
    site.tensors().find_map(|(value, ty)| {
        let shape = ty.shape()?;
        let channel = (shape.len() >= 3).then_some(1);
        let (axis, &n) = shape.iter().enumerate().find(|&(axis, &n)| {
            n > if Some(axis) == channel { longest.max(65_536) } else { longest }
        })?;
        Some(format!("axis {axis} of {} is {n}, {longest} is the most", site.called(value)))
    })
}

fn long_sum(site: &Site<'_>) -> Option<String> {
    let x = site.shape("x")?;
    let k = match site.name() {
        "matmul" if site.flag("transpose_x") => *x.get(x.len().checked_sub(2)?)?,
        "matmul" | "linear" => *x.last()?,
        _ => return None,
    };
    let most = if site.target().chip.generation >= Generation::M4 { 32_768 } else { 16_384 };
    (k > most).then(|| format!("it sums over {k} elements, {most} is the most"))
}

fn large_kernel(site: &Site<'_>) -> Option<String> {
    if !site.is(&["conv", "conv_transpose"]) {
        return None;
    }
    let weight = site.shape("weight")?;
    let (&width, outer) = weight.get(2..)?.split_last()?;
    let height = outer.last().copied().unwrap_or(1);
    let widest = site.target().chip.parameters().widest_kernel;
    let square = height == width && width <= widest + 1;
    (!square && (width > widest || height > 31))
        .then(|| format!("the kernel is {height} high and {width} wide"))
}

fn deep(scope: &Scope<'_>) -> Vec<Hit> {
    let mut depth = vec![0usize; scope.function.values.len()];
    let mut deepest: Option<(usize, ValueId)> = None;
    for site in scope.sites() {
        let before = site.operation.operands().map(|v| depth[v.index()]).max().unwrap_or(0);
        for &output in site.outputs() {
            depth[output.index()] = before + 1;
            if deepest.is_none_or(|(d, _)| before + 1 > d) {
                deepest = Some((before + 1, output));
            }
        }
    }
    let too_deep = deepest.filter(|&(d, _)| d > 383);
    let hit = |(d, value)| Hit { value, message: format!("{d} operations depend on each other") };
    too_deep.map(hit).into_iter().collect()
}

fn many_files(whole: &Whole<'_>) -> Vec<String> {
    let files = super::weights::blobs(whole.program);
    let names: std::collections::BTreeSet<&str> = files.iter().map(|b| b.file).collect();
    if names.len() <= 16 {
        return vec![];
    }
    vec![format!("{} weights in {} files", files.len(), names.len())]
}
