//! The CPU device for 64-bit Arm, compiled and tested on an x86-64 Linux machine.
//!
//! rustup's toolchain has no standard library for Arm unless it is added, which needs a network
//! that not everybody has. Debian packages the library's source with its own compiler, and QEMU
//! runs what is built, NEON included. Nothing is measured: emulated time says nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What Debian's packages put where, and which package it is from.
const NEEDED: &[(&str, &str)] = &[
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/bin/cargo", "cargo-web"),
    ("/usr/lib/rustlib/src/rust/library/std/Cargo.toml", "rust-web-src"),
    ("/usr/bin/aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    ("/usr/aarch64-linux-gnu/lib/libc.so.6", "libc6-dev-arm64-cross"),
    ("/usr/bin/qemu-aarch64", "qemu-user"),
];

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Packages of [`NEEDED`] that are not there.
fn missing(exists: impl Fn(&Path) -> bool) -> Vec<&'static str> {
    let missing = NEEDED.iter().filter(|(file, _)| !exists(Path::new(file)));
    missing.map(|&(_, package)| package).collect()
}

/// Installs what is missing, builds the tests of `orion-cpu` for Arm and runs them in an emulator;
/// says on standard error what it does.
///
/// # Errors
/// When this is no x86-64 Linux machine with Debian's packages, when one cannot be installed, or
/// when a test fails.
pub(crate) fn test() -> Result<String, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(
            "this builds for Arm on x86-64 Linux; on an Arm machine, `cargo test -p orion-cpu` \
             does the same"
                .to_owned(),
        );
    }
    let packages = missing(|file| file.exists());
    if !packages.is_empty() {
        run(
            &format!("installing {}", packages.join(" ")),
            Command::new("apt-get")
                .args(["install", "--yes", "--no-install-recommends"])
                .args(&packages),
        )
        .map_err(|e| {
            let packages = packages.join(" ");
            format!(
                "{e}\nhint: on Debian, `apt-get update && apt-get install {packages}` as root; \
                 elsewhere, `rustup target add {TARGET}` and an Arm linker do as well"
            )
        })?;
    }
    let left = missing(|file| file.exists());
    if !left.is_empty() {
        let left = left.join(" ");
        return Err(format!(
            "{left} does not bring the files this needs\nhint: the packages of Debian with Rust 1.95 or later do"
        ));
    }
    run(
        &format!("building and running the tests of orion-cpu for {TARGET} under QEMU"),
        Command::new("/usr/bin/cargo")
            .args(["test", "--target", TARGET, "-Z", "build-std=std,panic_abort"])
            .args(["--package", "orion-cpu", "--lib", "--test", "conformance"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            // Set by the cargo that runs this, which is another one.
            .env_remove("CARGO")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env("PATH", search_path())
            .env("RUSTC", "/usr/bin/rustc")
            // Building the standard library is an unstable feature.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", target_directory())
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
            .env(
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
                "qemu-aarch64 -L /usr/aarch64-linux-gnu",
            ),
    )?;
    Ok(format!("the tests of orion-cpu pass on {TARGET} under QEMU\n"))
}

/// `arm` beneath the directory that this command was built in.
fn target_directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| workspace.join("target"), PathBuf::from).join("arm")
}

/// Debian's compiler before any other.
fn search_path() -> std::ffi::OsString {
    let mut path = std::ffi::OsString::from("/usr/bin:");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

#[expect(clippy::print_stderr, reason = "a command for people, which takes minutes")]
fn run(what: &str, command: &mut Command) -> Result<(), String> {
    eprintln!("{what}");
    let status = command.status().map_err(|e| format!("{what}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{what}: {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        assert!(missing(|_| true).is_empty());
        let without_qemu = missing(|file| file != Path::new("/usr/bin/qemu-aarch64"));
        assert_eq!(without_qemu, ["qemu-user"]);
    }
}
