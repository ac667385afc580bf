//! `cargo xtask score residency --cases FILE.tsv`: how often the rules say rightly whether the
//! Neural Engine takes an operation.

mod residency_cases;

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

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["score", "residency", "--cases", file] = arguments.as_slice() else {
        eprintln!("usage: cargo xtask score residency --cases FILE.tsv");
        return ExitCode::from(2);
    };
    let cases = match std::fs::read_to_string(Path::new(file)) {
        Ok(text) => read_cases(&text),
        Err(e) => Err(e.to_string()),
    };
    match cases {
        Ok(cases) => {
            let (right, misses) = score(&cases);
            println!("{right}/{}", cases.len());
            misses.iter().for_each(|miss| println!("{miss}"));
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {file}: {message}");
            ExitCode::from(3)
        }
    }
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
    fn a_wrong_line_is_named() {
        assert!(read_cases("abs\t\tyes").unwrap_err().contains("line 1"));
        assert_eq!(read_cases("# op\n\nabs\t\t1\n").unwrap().len(), 1);
    }
}
