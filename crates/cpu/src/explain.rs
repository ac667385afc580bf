//! A plan as a table for people, and what each of its steps has to do at least.

use crate::kernels::gemm::Workspace;
use crate::kernels::instruction::Action;
use crate::kernels::map_reduce::Pass;
use crate::kernels::tile::TileProgram;
use crate::plan::view::View;
use crate::plan::{Home, Plan};
use crate::precision::Precision;
use crate::steps::{Kind, Map, Method, Over, Step};
use orion_runtime::{Signature, StepInfo};
use orion_tensor::DType;
use std::fmt::Write as _;

pub(crate) fn explain(
    plan: &Plan,
    signature: &Signature,
    workspace: Workspace,
    threads: usize,
) -> String {
    let mut text = String::new();
    let place = |view: &View| match plan.homes[view.buffer] {
        Home::Arena(offset) => format!("arena+{offset}"),
        Home::Port(port) => signature.ports[port].name.clone(),
        Home::Constant(_) => "constant".to_owned(),
        Home::Window | Home::Nowhere => "window".to_owned(),
    };
    let named = |views: &[View]| {
        let one = |v: &View| format!("{}{:?} {}", v.dtype, v.shape, place(v));
        views.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    for (i, step) in plan.steps.iter().enumerate() {
        let info = info(step);
        let kernel = format!("{} {}", info.kind, method(&step.kind));
        let kernel = kernel.trim_end();
        let in_place = step.writes.iter().any(|w| {
            plan.homes[w.buffer] != Home::Window
                && step.reads.iter().any(|r| plan.homes[r.buffer] == plan.homes[w.buffer])
        });
        let mut note = if in_place { " (in place)" } else { "" }.to_owned();
        if let Kind::Together(together) = &step.kind {
            let _ = write!(note, " ({} together)", together.steps().len());
        }
        let reason = match step.reason {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        let _ = writeln!(
            text,
            "{i:4}  {kernel:<16}  {}  [{}] -> [{}]{note}{reason}",
            step.label,
            named(&step.reads),
            named(&step.writes),
        );
    }
    let constants: usize = plan.constants.iter().map(|c| c.tensor.bytes().len()).sum();
    let work = (workspace.shared + threads * workspace.per_thread) * 4;
    let _ = writeln!(
        text,
        "{} steps; arena {} bytes (without sharing {}), workspace {work} bytes, constants {constants} bytes",
        plan.steps.len(),
        plan.arena_bytes,
        plan.unshared_bytes,
    );
    text
}

/// The name of a step's kind.
pub(crate) fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Together(together) => self::kind(&together.steps()[0]),
        Kind::Map(Map { moved: Some(_), .. }) => "window",
        Kind::Map(map) if map.program.instructions.is_empty() => "copy",
        Kind::Map(_) => "map",
        Kind::Adamw(_) => "AdamW",
        Kind::Reduce(_) => "reduce",
        Kind::MapReduce(_) => "map-reduce",
        Kind::Contraction(_) => "product",
        Kind::Attention(_) => "attention",
        Kind::AttentionGradient(_) => "attention gradient",
        Kind::Softmax(_) => "softmax",
        Kind::Statistics(_) => "log-sum-exp",
        Kind::Gather(_) | Kind::GatherAlongAxis(_) => "gather",
        Kind::Scatter(_) | Kind::ScatterAlongAxis(_) => "scatter",
        Kind::Evaluate(_) => "by definition",
    }
}

fn flops(kind: &Kind) -> u64 {
    match kind {
        Kind::Contraction(c) => 2 * (c.batch.len() * c.size.m * c.size.n * c.size.k) as u64,
        Kind::Attention(a) => a.flops(),
        Kind::AttentionGradient(a) => a.flops(),
        Kind::Together(together) => together.steps().iter().map(flops).sum(),
        _ => 0,
    }
}

/// What a step does.
pub(crate) fn info(step: &Step) -> StepInfo {
    StepInfo {
        kind: kind(&step.kind),
        form: form(step),
        operations: step.label.clone(),
        reason: step.reason,
        flops: flops(&step.kind),
        arithmetic: match &step.kind {
            Kind::Contraction(c) if c.precision == Precision::Bf16 => DType::BF16,
            _ => DType::F32,
        },
        read_bytes: bytes(&step.reads),
        written_bytes: bytes(&step.writes),
    }
}

/// Which kernel, where there are several.
fn method(kind: &Kind) -> &'static str {
    match kind {
        Kind::Contraction(c) => match c.method {
            Method::Together => "",
            Method::Apart => "per thread",
            Method::DotRows => "of rows",
            Method::SumRows => "of columns",
        },
        Kind::Reduce(r) => match r.over {
            Over::Rows { .. } => "rows",
            Over::Columns { .. } => "columns",
        },
        _ => "",
    }
}

fn form(step: &Step) -> String {
    let mut text = method(&step.kind).to_owned();
    let mut word = |word: String| {
        if !text.is_empty() && !word.is_empty() {
            text.push(' ');
        }
        text += &word;
    };
    match &step.kind {
        Kind::Contraction(c) => {
            if c.batch.len() > 1 {
                word(format!("{} of", c.batch.len()));
            }
            word(format!("{}x{}x{}", c.size.m, c.size.n, c.size.k));
            // Which factor lies transposed in memory.
            let turned = |row: isize, column: isize| row.abs() < column.abs();
            let a = if turned(c.a.row, c.a.column) { "t" } else { "n" };
            let b = if turned(c.b.row, c.b.column) { "t" } else { "n" };
            word(format!("{a}{b}"));
            word(if c.bias.is_some() { "+ bias" } else { "" }.to_owned());
            return text;
        }
        Kind::Map(map) => word(instructions(&map.program)),
        Kind::Together(together) => word(format!("{} together", together.steps().len())),
        Kind::MapReduce(step) => {
            let of_pass = |pass: &Pass| {
                let sums = vec!["down"; pass.sums.len()].into_iter();
                let sums = sums.chain(vec!["along"; pass.row_sums.len()]).map(str::to_owned);
                let programs = pass.of_columns.iter().chain(&pass.of_rows);
                let names = programs.map(instructions).chain(sums);
                names.filter(|name| !name.is_empty()).collect::<Vec<_>>().join("+")
            };
            word(step.passes.iter().map(of_pass).collect::<Vec<_>>().join(" | "));
        }
        Kind::Reduce(reduce) => {
            word(instructions(&reduce.reduced.program));
            word(if reduce.reduced.squared { "squares" } else { "" }.to_owned());
        }
        _ => {}
    }
    let shapes = |views: &[View]| {
        let one = |v: &View| {
            let sizes: Vec<String> = v.shape.iter().map(usize::to_string).collect();
            let turned = if v.is_dense() { "" } else { "'" };
            format!("{}{turned}", if sizes.is_empty() { "1".to_owned() } else { sizes.join("x") })
        };
        let mut all: Vec<String> = Vec::new();
        for view in views {
            let shape = one(view);
            if !all.contains(&shape) {
                all.push(shape);
            }
        }
        all.join(" ")
    };
    word(format!("{} -> {}", shapes(&step.reads), shapes(&step.writes)));
    text
}

/// The names of a program's instructions.
fn instructions(program: &TileProgram) -> String {
    let first_word = |text: String| -> String {
        text.chars().take_while(|c| c.is_alphanumeric()).collect::<String>().to_lowercase()
    };
    let name = |action: &Action| match action {
        Action::Unary(kind) | Action::IntUnary(kind) => first_word(format!("{kind:?}")),
        Action::Binary(kind) | Action::IntBinary(kind) | Action::BoolBinary(kind) => {
            first_word(format!("{kind:?}"))
        }
        other => first_word(format!("{other:?}")),
    };
    let names: Vec<String> = program.instructions.iter().map(|i| name(&i.action)).collect();
    names.join("+")
}

/// Bytes of the elements in views, those of equal ones once.
fn bytes(views: &[View]) -> u64 {
    let mut seen: Vec<&View> = Vec::new();
    let mut bytes = 0;
    for view in views {
        if seen.contains(&view) {
            continue;
        }
        seen.push(view);
        let repeated = |(&n, &stride): (&usize, &isize)| if stride == 0 { 1 } else { n };
        let elements: usize = view.shape.iter().zip(&view.strides).map(repeated).product();
        bytes += elements * view.dtype.size_bytes();
    }
    bytes as u64
}
