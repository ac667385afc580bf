//! The passes in their order, run until nothing changes, and checked after each.
//! No pass is chosen by what a device wants: that is the device's own business.

use crate::passes::{
    casts, common_subexpressions, constant_folding, dead_code, identities, literals, reshapes,
    scales, transposes,
};
use crate::{CompileError, CompileErrorKind};
use orion_mil::{Diagnostic, Function, Program, Type, verify, verify_function};

type Pass = (&'static str, &'static str, fn(&mut Function) -> bool);

/// What is run, in this order, once a round.
const PIPELINE: [Pass; 9] = [
    ("literals", "turn inline literals into constants", literals::run),
    ("identities", "remove operations that give back what they get", identities::run),
    ("casts", "make one cast of two, where the first loses nothing", casts::run),
    ("reshapes", "make one reshape of two", reshapes::run),
    ("transposes", "join transposes, or take them into matmul and reshape", transposes::run),
    ("scales", "join multiplications by numbers and take negations into sums", scales::run),
    ("constant-folding", "compute what depends on constants only", constant_folding::run),
    ("common-subexpressions", "compute once what is computed twice", common_subexpressions::run),
    ("dead-code", "remove what nobody reads", dead_code::run),
];

/// Rounds after which the pipeline stops, changed or not. Programs we know take two to four.
const MOST_ROUNDS: usize = 10;

/// Names and summaries of the passes, in the order they run.
pub const PASSES: &[(&str, &str)] = &{
    let mut passes = [("", ""); PIPELINE.len()];
    let mut i = 0;
    while i < PIPELINE.len() {
        passes[i] = (PIPELINE[i].0, PIPELINE[i].1);
        i += 1;
    }
    passes
};

/// How [`optimize`] runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipelineOptions {
    /// Stops after that many passes, counted over all rounds; 0 runs none.
    pub stop_after: Option<usize>,
    /// Verifies the program before the first pass and after every pass.
    pub verify: bool,
}

impl Default for PipelineOptions {
    /// Everything, verified in debug builds.
    fn default() -> Self {
        Self { stop_after: None, verify: cfg!(debug_assertions) }
    }
}

/// Runs the passes over every function until a round changes nothing. Names and types of inputs
/// and results stay, as do the pairs written in place. `observer` sees the program after every
/// pass, with the pass's name.
///
/// # Errors
/// When verifying: `InvalidProgram` for the program given; `InvalidRewrite`, with the pass's
/// name, for a pass that broke it, which is a bug of this crate.
pub fn optimize(
    program: &Program,
    options: &PipelineOptions,
    observer: &mut dyn FnMut(&str, &Program),
) -> Result<Program, CompileError> {
    let mut program = program.clone();
    if options.verify {
        let diagnostics = verify(&program);
        if let Some(first) = diagnostics.first() {
            let message = format!("the program is not well formed:{}", Lines(&diagnostics));
            return Err(CompileError::new(
                CompileErrorKind::InvalidProgram,
                first.function.clone(),
                message,
            ));
        }
    }
    let mut passes_left = options.stop_after.unwrap_or(usize::MAX);
    for _ in 0..MOST_ROUNDS {
        let mut changed = false;
        for (name, _, run) in PIPELINE {
            if passes_left == 0 {
                return Ok(program);
            }
            passes_left -= 1;
            for function in &mut program.functions {
                let before = options.verify.then(|| interface(function));
                changed |= run(function);
                if let Some(before) = before {
                    check(name, function, &before)?;
                }
            }
            observer(name, &program);
        }
        if !changed {
            break;
        }
    }
    Ok(program)
}

/// What a pass must leave alone: inputs, results, in-place pairs.
type Interface = (Vec<(String, Type)>, Vec<(String, Type)>, Vec<(String, String)>);

fn interface(function: &Function) -> Interface {
    let named = |id| (function.value_name(id).to_owned(), function.ty(id).clone());
    let inputs = function.params.iter().map(|p| named(p.value)).collect();
    let results = function.body.results.iter().map(|&r| named(r)).collect();
    let mut pairs: Vec<(String, String)> =
        function.in_place().into_iter().map(|(o, i)| (o.to_owned(), i.to_owned())).collect();
    pairs.sort_unstable();
    (inputs, results, pairs)
}

fn check(pass: &str, function: &Function, before: &Interface) -> Result<(), CompileError> {
    let error = |message: String| {
        Err(CompileError::new(CompileErrorKind::InvalidRewrite, &function.name, message))
    };
    if interface(function) != *before {
        return error(format!("pass {pass} changed inputs, results or in-place pairs"));
    }
    let diagnostics = verify_function(function);
    if !diagnostics.is_empty() {
        return error(format!("after pass {pass} the function is wrong:{}", Lines(&diagnostics)));
    }
    Ok(())
}

/// Each on a line of its own.
struct Lines<'a>(&'a [Diagnostic]);

impl std::fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|diagnostic| write!(f, "\n  {diagnostic}"))
    }
}
