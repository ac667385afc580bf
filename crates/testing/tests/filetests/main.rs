//! Test cases written as MIL files: `tests/files/**/*.mil`, each a test of its own.
//!
//! See `tests/files/README.md` for what the header may say. `ORION_BLESS=1` rewrites what is
//! expected.

mod file;
mod kinds;
mod tensors;

use file::TestFile;
use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const BLESS: &str = "ORION_BLESS";

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/files");
    let files = mil_files(&folder);
    assert!(!files.is_empty(), "no test files in {}", folder.display());
    let trials = files.into_iter().map(|path| {
        let name = path.strip_prefix(&folder).expect("found below it").display().to_string();
        Trial::test(name, move || run(&path).map_err(Failed::from))
    });
    orion_testing::run_trials(trials.collect())
}

fn mil_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
        for path in entries.map(|entry| entry.expect("readable").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "mil") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn run(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let file = TestFile::read(&text)?;
    let actual = kinds::run(&file)?;
    if kinds::agrees(&file, &actual) {
        return Ok(());
    }
    if std::env::var_os(BLESS).is_some() {
        return std::fs::write(path, file.with_expected(&actual)).map_err(|e| e.to_string());
    }
    Err(format!(
        "expected:\n{}\n\ngot:\n{actual}\n\nhint: where the new result is right, \
         `{BLESS}=1 cargo test -p orion-testing --test filetests` writes it into the file",
        file.expected.as_deref().unwrap_or("(nothing is written down yet)"),
    ))
}
