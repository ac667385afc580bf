use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};

/// `$ORION_SHARED`, else `shared` beside the workspace, whether it is there or not.
fn folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("ORION_SHARED").map_or_else(beside, PathBuf::from)
}

/// The folder of real models and reference results that some tests compare with:
/// `$ORION_SHARED`, else `shared` beside the workspace. `None` where there is none; the test then
/// calls [`skip`] and passes.
pub fn shared_dir() -> Option<PathBuf> {
    Some(folder()).filter(|folder| folder.is_dir())
}

/// A file or directory in that folder, by its path there; `None`, said loudly, where there is none.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = folder().join(name);
    if !path.exists() {
        say(format_args!("there is no {}; set ORION_SHARED to run this test", path.display()));
        return None;
    }
    Some(path)
}

/// Says on stderr, loudly, that a test did not test `what`.
pub fn skip(what: &str) {
    say(format_args!("{what}: no shared folder; set ORION_SHARED to run this test"));
}

/// Not by `eprintln!`, which the test harness swallows when the test passes.
fn say(why: impl Display) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
