//! `cargo xtask score`: how often the rules say rightly whether the Neural Engine takes an
//! operation, and how far its estimated times are from published measurements.
//! `cargo xtask arm`: the CPU device tested for 64-bit Arm on an x86-64 machine.
//! `cargo xtask macos`: the program for Macs, made on Linux.
//! `cargo xtask tools`: installs what the last two need, and nothing else.

mod arm;
mod estimate;
#[cfg(unix)]
mod macos;
mod residency_cases;
mod toolchain;

use residency_cases::{Case, read_cases};
use std::path::Path;
use std::process::ExitCode;

/// Cases that came out right, and all others with what the rules say.
fn score(cases: &[Case]) -> (usize, Vec<String>) {
    let mut misses = Vec::new();
    for case in cases {
        let reason = case.refusal();
        if reason.is_none() != case.supported {
            let said = reason.unwrap_or_else(|| "the Neural Engine takes it".to_owned());
            misses.push(format!("{} {}: {said}", case.op, case.variant));
        }
    }
    (cases.len() - misses.len(), misses)
}

const USAGE: &str = "usage: cargo xtask score [--cases FILE.tsv]
       cargo xtask score residency --cases FILE.tsv
       cargo xtask score estimate [--write FILE.md]
       cargo xtask arm
       cargo xtask macos
       cargo xtask tools";

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["arm"] => arm::arm(),
        ["score", "residency", "--cases", file] => residency(Path::new(file)),
        ["score"] => Ok(table(None)),
        ["score", "--cases", file] => right_of(Path::new(file)).map(|r| table(Some((r.0, r.1)))),
        ["score", "estimate"] => Ok(estimate::score().1),
        ["score", "estimate", "--write", file] => {
            let page = estimate::score().1;
            std::fs::write(file, page).map(|()| String::new()).map_err(|e| format!("{file}: {e}"))
        }
        #[cfg(unix)]
        ["tools"] => tools(),
        #[cfg(unix)]
        ["macos"] => macos::macos().map(|file| format!("{}\n", file.display())),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(3)
        }
    }
}

/// Installs what `arm` and `macos` need, so that a failure of theirs is one of the project.
#[cfg(unix)]
fn tools() -> Result<String, String> {
    toolchain::install(&[&arm::PACKAGES[..], &toolchain::PACKAGES[..]].concat())?;
    let linker = macos::tools()?.linker;
    Ok(format!("the linker for macOS is {}\n", linker.display()))
}

/// How many of the cases in a file are told rightly, of how many, and the others.
fn right_of(file: &Path) -> Result<(usize, usize, Vec<String>), String> {
    let named = |e: String| format!("{}: {e}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| named(e.to_string()))?;
    let cases = read_cases(&text).map_err(named)?;
    let (right, misses) = score(&cases);
    Ok((right, cases.len(), misses))
}

fn residency(file: &Path) -> Result<String, String> {
    let (right, all, misses) = right_of(file)?;
    let mut text = format!("{right}/{all}\n");
    for miss in misses {
        text += &format!("{miss}\n");
    }
    Ok(text)
}

/// The rows of the README's table of scores.
fn table(residency: Option<(usize, usize)>) -> String {
    let mut text = String::new();
    if let Some((right, all)) = residency {
        text += &format!(
            "| `orion residency`: operations that an M4 takes or not, macOS 27 | {right} of {all} right |\n"
        );
    }
    let estimate = estimate::score().0;
    text += &format!(
        "| `orion estimate`: time, on {} published measurements that it was not fitted to | median {:.0} % off, {} beyond a factor of two without a reason |\n",
        estimate.checked,
        estimate.median * 100.0,
        estimate.unexplained.len(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_cases_are_told_rightly() {
        let Some(shared) = orion_testing::shared_dir() else {
            return orion_testing::skip("operations measured on an M4");
        };
        let text = std::fs::read_to_string(shared.join("mil/ane_support_m4_macos27.tsv")).unwrap();
        let cases = read_cases(&text).unwrap();
        let (right, misses) = score(&cases);
        assert!(right * 100 >= cases.len() * 95, "{right}/{}: {misses:#?}", cases.len());
    }

    #[test]
    fn the_readme_has_the_scores() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        let cases = orion_testing::shared_dir().map(|shared| {
            let file = shared.join("mil/ane_support_m4_macos27.tsv");
            right_of(&file).map(|(right, all, _)| (right, all)).unwrap()
        });
        let table = table(cases);
        assert!(readme.contains(&table), "not in README.md:\n{table}");
    }

    #[test]
    fn a_wrong_line_is_named() {
        assert!(read_cases("abs\t\tyes").unwrap_err().contains("line 1"));
        assert_eq!(read_cases("# op\n\nabs\t\t1\n").unwrap().len(), 1);
    }
}
