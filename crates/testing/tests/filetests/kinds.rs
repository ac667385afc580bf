//! What each kind of test does, and when its result is the expected one.

use crate::file::TestFile;
use crate::tensors;
use orion_compile::autodiff::gradients;
use orion_compile::pipeline::{PipelineOptions, optimize};
use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_mil::text::{parse, print};
use orion_mil::{Function, Program, WEIGHT_FILE, Weights, verify};
use orion_runtime::{Device, Error};
use orion_tensor::{DType, Tensor, Tolerance};
use orion_testing::{Surfaces, Tensors, compare};

/// Runs a test and writes down what came out.
///
/// # Errors
/// When the test itself is wrong, devices do not agree, or a promise is broken that holds
/// whatever is expected.
pub(crate) fn run(file: &TestFile<'_>) -> Result<String, String> {
    let parsed = parse(file.source);
    if file.kind == "parse" {
        return Ok(parsed.map_or_else(|e| format!("error: {e}"), |_| "ok".to_owned()));
    }
    let program = parsed.map_err(|e| e.to_string())?;
    match file.kind {
        "print" => printed(&program),
        "verify" => Ok(verified(&program)),
        "run" => executed(file, &program),
        "optimize" => optimized(file, &program),
        "gradient" => differentiated(file, &program),
        kind => Err(format!("there is no test `{kind}`")),
    }
}

/// Whether the result is what is written down. Numbers may be apart by the file's tolerance.
pub(crate) fn agrees(file: &TestFile<'_>, actual: &str) -> bool {
    let Some(expected) = file.expected.as_deref() else { return false };
    let expected = expected.trim_end();
    if !matches!(file.kind, "run" | "gradient") {
        return expected == actual.trim_end();
    }
    // Where devices agree, a large result need not be written down.
    if expected == "agreement" {
        return !actual.starts_with("error");
    }
    let Ok(tolerance) = tolerance(file) else { return false };
    let mut lines = (expected.lines(), actual.lines());
    loop {
        match (lines.0.next(), lines.1.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => match (tensors::numbers(a), tensors::numbers(b)) {
                (Some((head, expected)), Some((other_head, actual)))
                    if head == other_head && tolerance.check(&actual, &expected).is_ok() => {}
                _ => return false,
            },
            _ => return false,
        }
    }
}

fn printed(program: &Program) -> Result<String, String> {
    let text = print(program);
    let again =
        parse(&text).map_err(|e| format!("what was printed does not parse: {e}\n{text}"))?;
    if again != *program {
        return Err(format!("what was printed is another program:\n{text}"));
    }
    Ok(text)
}

fn verified(program: &Program) -> String {
    let lines: Vec<String> = verify(program).iter().map(ToString::to_string).collect();
    if lines.is_empty() { "ok".to_owned() } else { lines.join("\n") }
}

fn tolerance(file: &TestFile<'_>) -> Result<Tolerance, String> {
    match file.setting("tolerance") {
        None | Some("Close") => Ok(Tolerance::Close),
        Some("Exact") => Ok(Tolerance::Exact),
        Some("F32Accum") => Ok(Tolerance::F32Accum),
        Some("F32Network") => Ok(Tolerance::F32Network),
        Some("F16Round") => Ok(Tolerance::F16Round),
        Some("F16Accum") => Ok(Tolerance::F16Accum),
        Some(other) => Err(format!("there is no tolerance `{other}`")),
    }
}

/// `// weight OFFSET: DTYPE COUNT NUMBERS`
fn weights(file: &TestFile<'_>) -> Result<Weights, String> {
    let mut weights = Weights::new();
    for (offset, content) in file.named("weight") {
        let read = || {
            let mut words = content.splitn(3, ' ');
            let dtype: DType = words.next()?.parse().ok()?;
            let count: usize = words.next()?.parse().ok()?;
            Some((offset.parse::<u64>().ok()?, dtype, count, words.next()?))
        };
        let (offset, dtype, count, numbers) =
            read().ok_or_else(|| format!("`{content}` is not `DTYPE COUNT NUMBERS`"))?;
        weights.insert(WEIGHT_FILE, offset, tensors::read(dtype, &[count], numbers)?);
    }
    Ok(weights)
}

/// Parameters that the file gives; the others are random.
fn contents(file: &TestFile<'_>, function: &Function) -> Result<Tensors, String> {
    let mut contents = Tensors::new();
    for (i, param) in function.params.iter().enumerate() {
        let name = function.value_name(param.value);
        let given = file.named("input").find(|(n, _)| *n == name).map(|(_, text)| text.to_owned());
        let text = given.unwrap_or_else(|| format!("random {i}"));
        let content = tensors::read_for(function, param.value, &text)
            .map_err(|e| format!("input {name}: {e}"))?;
        contents.insert(name.to_owned(), content);
    }
    match file.named("input").find(|(name, _)| !contents.contains_key(*name)) {
        Some((name, _)) => Err(format!("the program has no input `{name}`")),
        None => Ok(contents),
    }
}

fn outputs(
    device: &dyn Device,
    program: &Program,
    weights: &Weights,
    contents: &Tensors,
    runs: usize,
) -> Result<Tensors, Error> {
    let mut executable = device.compile(program, weights)?;
    let mut surfaces = Surfaces::new(&*executable, contents);
    for _ in 0..runs {
        surfaces.run(&mut *executable)?;
    }
    Ok(surfaces.written(&*executable))
}

/// Runs on every device and gives the reference's outputs.
fn executed(file: &TestFile<'_>, program: &Program) -> Result<String, String> {
    let tolerance = tolerance(file)?;
    let function = program.main().ok_or("the program has no main function")?;
    let (weights, contents) = (weights(file)?, contents(file, function)?);
    let runs = file.setting("runs").map_or(Ok(1), str::parse).map_err(|_| "runs: not a number")?;
    let expected = outputs(&Reference, program, &weights, &contents, runs);
    for threads in [1, 2] {
        let device = Cpu::new(CpuOptions::with_threads(threads));
        let actual = outputs(&device, program, &weights, &contents, runs);
        match (&actual, &expected) {
            (Ok(actual), Ok(expected)) => agree(actual, expected, tolerance)
                .map_err(|e| format!("cpu with {threads} threads: {e}"))?,
            (Err(actual), Err(expected)) if actual.kind() == expected.kind() => {}
            _ => {
                return Err(format!(
                    "cpu with {threads} threads gives {actual:?}, the reference {expected:?}"
                ));
            }
        }
    }
    Ok(expected.map_or_else(|e| format!("error: {e}"), |outputs| written(&outputs)))
}

fn agree(actual: &Tensors, expected: &Tensors, tolerance: Tolerance) -> Result<(), String> {
    if !actual.keys().eq(expected.keys()) {
        return Err(format!("outputs {:?}, expected {:?}", actual.keys(), expected.keys()));
    }
    expected.iter().try_for_each(|(name, expected)| {
        compare(&actual[name], expected, tolerance).map_err(|e| format!("`{name}`: {e}"))
    })
}

fn written(outputs: &Tensors) -> String {
    let lines = outputs.iter().map(|(name, t)| format!("{name} = {}", tensors::write(t)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Optimizes, checks that the program computes what it did, and prints it.
fn optimized(file: &TestFile<'_>, program: &Program) -> Result<String, String> {
    let options = PipelineOptions { verify: true, ..PipelineOptions::default() };
    let better = optimize(program, &options, &mut |_, _| {}).map_err(|e| e.to_string())?;
    let function = program.main().ok_or("the program has no main function")?;
    let (weights, contents) = (weights(file)?, contents(file, function)?);
    let run = |program| outputs(&Reference, program, &weights, &contents, 2);
    let before = run(program).map_err(|e| format!("before: {e}"))?;
    let after = run(&better).map_err(|e| format!("after: {e}\n{}", print(&better)))?;
    agree(&after, &before, tolerance(file)?)
        .map_err(|e| format!("the optimized program computes something else: {e}"))?;
    Ok(print(&better))
}

/// Differentiates, compares with central differences, and gives the gradients.
fn differentiated(file: &TestFile<'_>, program: &Program) -> Result<String, String> {
    let function = program.main().ok_or("the program has no main function")?;
    let loss = file.setting("loss").ok_or("`// loss: NAME` is missing")?;
    let names: Vec<&str> = file
        .setting("with respect to")
        .ok_or("`// with respect to: NAME, …` is missing")?
        .split(',')
        .map(str::trim)
        .collect();
    let differentiated = gradients(function, loss, &names).map_err(|e| e.to_string())?;
    let differentiated = Program { functions: vec![differentiated], ..program.clone() };
    let (weights, contents) = (weights(file)?, contents(file, function)?);
    let run = |program, contents: &Tensors| {
        outputs(&Reference, program, &weights, contents, 1).map_err(|e| e.to_string())
    };
    let found = run(&differentiated, &contents)?;
    let mut gradients_found = Tensors::new();
    for name in names {
        let gradient_name = format!("{name}_grad");
        let gradient = found[&gradient_name].clone();
        let original = contents[name].clone();
        let values = original.to_f64_vec();
        let mut differences = Vec::new();
        for i in 0..values.len() {
            let loss_at = |step: f64| {
                let mut moved = values.clone();
                moved[i] += step;
                let moved = Tensor::from_f64(original.dtype(), original.shape(), &moved);
                let actual_step = moved.to_f64_vec()[i] - values[i];
                let mut contents = contents.clone();
                contents.insert(name.to_owned(), moved);
                run(program, &contents).map(|o| (o[loss].to_f64_vec()[0], actual_step))
            };
            // Small enough for the curvature, large enough for a loss in fp32.
            let ((high, up), (low, down)) = (loss_at(1.0 / 128.0)?, loss_at(-1.0 / 128.0)?);
            differences.push((high - low) / (up - down));
        }
        Tolerance::F16Round
            .check(&gradient.to_f64_vec(), &differences)
            .map_err(|e| format!("{gradient_name} is not what differences give: {e}"))?;
        gradients_found.insert(gradient_name, gradient);
    }
    Ok(written(&gradients_found))
}
