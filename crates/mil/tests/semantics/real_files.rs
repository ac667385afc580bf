//! Programs that other people's tools wrote verify.

use orion_mil::{Program, text, verify};
use std::path::{Path, PathBuf};

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn shared() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("ORION_SHARED").map_or_else(default, PathBuf::from);
    let present = folder.join("mil").is_dir();
    if !present {
        eprintln!("SKIPPED: no reference files at {}", folder.display());
    }
    present.then(|| folder.join("mil"))
}

fn programs(folder: &Path) -> Vec<(String, Program)> {
    let paths = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    let mut programs: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "mil"))
        .filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let source = std::fs::read_to_string(&path).expect("text");
            // Which files parse is another test's.
            Some((name, text::parse(&source).ok()?))
        })
        .collect();
    programs.sort_by(|a, b| a.0.cmp(&b.0));
    programs
}

#[test]
fn verify_accepts_them() {
    let Some(shared) = shared() else { return };
    let mut seen = 0;
    for folder in ["text", "pairs", "synthetic", "analytics", "generated"] {
        for (name, program) in programs(&shared.join(folder)) {
            let found: Vec<String> = verify(&program).iter().map(|d| d.to_string()).collect();
            // Written by hand: a scalar literal for a weight of 512 by 512.
            let expected: &[&str] = match name.as_str() {
                "luengnat__rustane__8.mil" => {
                    &["in main, const -> W (operation 5): output `W` is \
                     declared tensor<fp16, [512, 512, 1, 1]>, it is fp16"]
                }
                _ => &[],
            };
            assert_eq!(found, expected, "{name}");
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} files parsed");
}

/// A wrong size anywhere in a real program is found.
#[test]
fn verify_finds_what_was_broken() {
    let Some(shared) = shared() else { return };
    let name = "ForterLi__dsvds__1.mil";
    let source = std::fs::read_to_string(shared.join("text").join(name)).expect("text");
    let mut program = text::parse(&source).expect("a program");
    let function = &mut program.functions[0];
    let mut broken = 0;
    for index in 0..function.body.operations.len() {
        let operation = &function.body.operations[index];
        if operation.name == "const" {
            continue;
        }
        let output = operation.outputs[0];
        let intact = function.values[output].clone();
        let orion_mil::Type::Tensor(ty) = &mut function.values[output].ty else { continue };
        let Some(orion_mil::Dim::Known(size)) = ty.dims.last_mut() else { continue };
        *size += 1;
        assert!(!orion_mil::verify_function(function).is_empty(), "{}", intact.name);
        function.values[output] = intact;
        broken += 1;
    }
    assert!(broken > 20, "only {broken} operations were broken");
}
