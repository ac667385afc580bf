use std::path::{Path, PathBuf};

/// The folder of real models and reference results that some tests compare with:
/// `$ORION_SHARED`, else `shared` beside the workspace. `None` where there is none; the test then
/// calls [`skip`] and passes.
pub fn shared_dir() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("ORION_SHARED").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// Says on stderr, loudly, that a test did not test `what`.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen in the log")]
pub fn skip(what: &str) {
    eprintln!("SKIPPED: {what}: no shared folder; set ORION_SHARED to run this test");
}
