//! A plan as a table for people.

use crate::kernels::gemm::Workspace;
use crate::plan::view::View;
use crate::plan::{Home, Plan};
use crate::steps::{Kind, Method};
use orion_runtime::Signature;
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
        let kernel = match &step.kind {
            Kind::Map(map) if map.program.instructions.is_empty() => "copy".to_owned(),
            Kind::Map(_) => "map".to_owned(),
            Kind::Reduce(_) => "reduce".to_owned(),
            Kind::Contraction(c) => {
                let method = match c.method {
                    Method::Together => "gemm",
                    Method::Apart => "gemm per thread",
                    Method::DotRows => "gemv rows",
                    Method::SumRows => "gemv columns",
                };
                let size = c.size;
                format!("{method} {}x {}x{}x{}", c.batch.len(), size.m, size.n, size.k)
            }
            Kind::Softmax(_) => "softmax".to_owned(),
            Kind::Gather(_) | Kind::GatherAlongAxis(_) => "gather".to_owned(),
            Kind::Scatter(_) | Kind::ScatterAlongAxis(_) => "scatter".to_owned(),
            Kind::Evaluate(_) => "by definition".to_owned(),
        };
        let in_place = step.writes.iter().any(|w| {
            plan.homes[w.buffer] != Home::Window
                && step.reads.iter().any(|r| plan.homes[r.buffer] == plan.homes[w.buffer])
        });
        let note = if in_place { " (in place)" } else { "" };
        let _ = writeln!(
            text,
            "{i:4}  {kernel:<16}  {}  [{}] -> [{}]{note}",
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
