//! `cargo xtask arm`: the CPU device for 64-bit Arm, compiled and tested on an x86-64 Linux machine.
//!
//! QEMU runs what is built, NEON included. Nothing is measured: emulated time says nothing.

use crate::toolchain::{cargo, install, run};

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// What links for Arm and runs the result, and a file of each package.
pub(crate) const PACKAGES: [(&str, &str); 3] = [
    ("gcc-aarch64-linux-gnu", "/usr/bin/aarch64-linux-gnu-gcc"),
    ("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/lib/libc.so.6"),
    ("qemu-user", "/usr/bin/qemu-aarch64"),
];

/// Installs what is missing, builds the tests of `orion-cpu` for Arm and runs them in an emulator.
///
/// # Errors
/// When this is no x86-64 Linux machine with Debian's packages, when one cannot be installed, or
/// when a test fails.
pub(crate) fn arm() -> Result<String, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(
            "this builds for Arm on x86-64 Linux; on an Arm machine, `cargo test -p orion-cpu` \
             does the same"
                .to_owned(),
        );
    }
    install(&PACKAGES)?;
    let mut test = cargo("test", TARGET)?;
    test.args(["--package", "orion-cpu", "--lib", "--test", "conformance"])
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
            "qemu-aarch64 -L /usr/aarch64-linux-gnu",
        );
    run(&mut test, &format!("building and running the tests of orion-cpu for {TARGET}"))?;
    Ok(format!("the tests of orion-cpu pass on {TARGET} under QEMU\n"))
}
