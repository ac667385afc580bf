//! A Rust toolchain that builds the standard library along, for systems other than the machine's.
//!
//! rustup's has no standard library for another system unless it is added, which needs a network
//! that not everybody has. Debian's `rustc-web` is a Rust that is as new as this project needs, and
//! `rust-web-src` brings the library's source, from which cargo builds it for any target.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the toolchain is made of, and a file of each package.
pub(crate) const PACKAGES: [(&str, &str); 4] = [
    ("rustc-web", "/usr/bin/rustc"),
    ("cargo-web", "/usr/bin/cargo"),
    ("rust-web-clippy", "/usr/bin/cargo-clippy"),
    ("rust-web-src", "/usr/lib/rustlib/src/rust/library/std/src/lib.rs"),
];

/// Installs Debian packages unless the file that each is wanted for is there.
///
/// # Errors
/// When that fails, or does not bring the files.
pub(crate) fn install(packages: &[(&str, &str)]) -> Result<(), String> {
    let list = missing(packages, Path::exists).join(" ");
    if list.is_empty() {
        return Ok(());
    }
    let command = format!(
        "apt-get update -qq && apt-get install -y -qq --no-install-recommends {list} >/dev/null"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).env("DEBIAN_FRONTEND", "noninteractive");
    let hint = "hint: this needs Debian 12 or later";
    run(&mut shell, &format!("installing {list}"))
        .map_err(|e| format!("{e}\n{hint}; as root: apt-get install {list}"))?;
    match missing(packages, Path::exists).join(" ") {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left} does not bring the files this needs\n{hint}")),
    }
}

/// The packages whose file is not there.
fn missing<'a>(packages: &[(&'a str, &str)], exists: impl Fn(&Path) -> bool) -> Vec<&'a str> {
    let missing = packages.iter().filter(|(_, file)| !exists(Path::new(file)));
    missing.map(|&(name, _)| name).collect()
}

/// Cargo of that toolchain, which is installed where it is missing, building the library along for
/// a target, into a directory of its own.
pub(crate) fn cargo(verb: &str, target: &str) -> Result<Command, String> {
    install(&PACKAGES)?;
    let mut command = Command::new("/usr/bin/cargo");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::split_paths(&path);
    let paths = std::iter::once(PathBuf::from("/usr/bin")).chain(paths);
    command
        .arg(verb)
        .args(["--target", target, "-Z", "build-std=std,panic_abort"])
        .env("PATH", std::env::join_paths(paths).unwrap_or(path))
        .env("RUSTC", "/usr/bin/rustc")
        // Building the standard library is an unstable feature.
        .env("RUSTC_BOOTSTRAP", "1")
        // What runs `cargo xtask` has set these for itself.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env("CARGO_TARGET_DIR", directory());
    Ok(command)
}

/// Where everything that is built here goes.
pub(crate) fn directory() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    target.join("cross")
}

/// Runs a command, and says on standard error what it is for; what it prints is shown.
#[expect(clippy::print_stderr, reason = "a command for people, which takes minutes")]
pub(crate) fn run(command: &mut Command, what: &str) -> Result<(), String> {
    eprintln!("{what}");
    let status = command.status().map_err(|e| format!("{what}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{what} failed: {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        assert!(missing(&PACKAGES, |_| true).is_empty());
        let without_clippy = |file: &Path| file != Path::new("/usr/bin/cargo-clippy");
        assert_eq!(missing(&PACKAGES, without_clippy), ["rust-web-clippy"]);
    }
}
