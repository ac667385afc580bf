//! A Rust toolchain that builds the standard library along, for systems other than the machine's.
//!
//! Debian's `rustc-web` is a Rust that is as new as this project needs, and `rust-web-src` brings
//! the library's source, from which cargo builds it for any target.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the toolchain is made of, and a file of each package.
const PACKAGES: [(&str, &str); 4] = [
    ("rustc-web", "/usr/bin/rustc"),
    ("cargo-web", "/usr/bin/cargo"),
    ("rust-web-clippy", "/usr/bin/cargo-clippy"),
    ("rust-web-src", "/usr/lib/rustlib/src/rust/library/std/src/lib.rs"),
];

/// Installs Debian packages unless the file that each is wanted for is there.
pub(crate) fn install(packages: &[(&str, &str)]) -> Result<(), String> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let command = format!(
        "apt-get update -qq && apt-get install -y -qq --no-install-recommends {list} >/dev/null"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut shell, "installing packages").map_err(|e| {
        format!("{e}\nhint: this needs Debian 12 or later; as root: apt-get install {list}")
    })
}

/// Installs the toolchain where it is missing.
pub(crate) fn install_toolchain() -> Result<(), String> {
    install(&PACKAGES)
}

/// Cargo of that toolchain, building the library along for a target, into a directory of its own.
pub(crate) fn cargo(verb: &str, target: &str) -> Command {
    let mut command = Command::new("/usr/bin/cargo");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::split_paths(&path);
    let paths = std::iter::once(PathBuf::from("/usr/bin")).chain(paths);
    command
        .arg(verb)
        .args(["--target", target, "-Z", "build-std=std,panic_abort"])
        .env("PATH", std::env::join_paths(paths).unwrap_or(path))
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        // What runs `cargo xtask` has set these for itself.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env("CARGO_TARGET_DIR", directory());
    command
}

/// Where everything that is built here goes.
pub(crate) fn directory() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    target.join("cross")
}

/// Runs a command; what it prints is shown.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<(), String> {
    let status = command.status().map_err(|e| format!("{what}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{what} failed: {status}")) }
}
