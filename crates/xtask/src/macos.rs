//! `cargo xtask macos`: the whole of `orion` for Macs, checked, linted and linked on Linux.
//!
//! The result is an executable that only a Mac can run. Frameworks are named to the linker by
//! stubs of a few lines; their symbols are looked up when the program starts.

use crate::toolchain::{cargo, directory, install, run};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "aarch64-apple-darwin";

/// The linker comes as a Python package.
const ZIG: &str = "ziglang==0.17.0";

/// Libraries that are named to the linker, and where a Mac has them.
const LIBRARIES: [(&str, &str); 2] =
    [("libobjc", "/usr/lib/libobjc.A.dylib"), ("libiconv", "/usr/lib/libiconv.2.dylib")];

/// Frameworks that are named to the linker.
const FRAMEWORKS: [&str; 3] = ["Foundation", "CoreFoundation", "IOSurface"];

/// What nothing is checked with: optimised dependencies take most of the time.
const FAST: [&str; 8] = [
    "--config",
    "profile.dev.package.\"*\".opt-level=0",
    "--config",
    "profile.dev.opt-level=0",
    "--config",
    "profile.dev.debug=false",
    // Stripping needs a program of LLVM's that the packages do not bring.
    "--config",
    "profile.dev.strip=\"none\"",
];

/// Lints and links `orion`; returns where the executable is.
pub(crate) fn macos() -> Result<PathBuf, String> {
    let tools = tools()?;
    let for_macs = |verb: &str, arguments: &[&str]| {
        let mut command = cargo(verb, TARGET)?;
        command
            .args(FAST)
            .args(arguments)
            .env("CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER", &tools.linker)
            .env("CC_aarch64_apple_darwin", &tools.compiler)
            .env("AR_aarch64_apple_darwin", &tools.archiver)
            // Asked for by what compiles and links for Macs; nothing is read from it.
            .env("SDKROOT", directory());
        Ok::<_, String>(command)
    };
    let lint = ["--package", "orion", "--package", "orion-ane", "--", "-D", "warnings"];
    run(&mut for_macs("clippy", &lint)?, "linting for macOS")?;
    run(&mut for_macs("build", &["--package", "orion"])?, "building for macOS")?;
    let executable = directory().join(TARGET).join("debug/orion");
    is_executable_for_macs(&executable)?;
    Ok(executable)
}

/// Scripts that call zig.
pub(crate) struct Tools {
    /// Links, with the stubs.
    pub(crate) linker: PathBuf,
    /// Compiles what dependencies have in C and Objective-C.
    compiler: PathBuf,
    archiver: PathBuf,
}

/// What a script begins with.
const SHELL: &str = "#!/bin/sh\n";

/// Takes the target from what follows, as the compiler in zig calls it in its own way.
const WITHOUT_TARGET: &str = r#"for argument do
    shift
    case "$argument" in
        --target=* | -mmacosx-version-min=*) ;;
        *) set -- "$@" "$argument" ;;
    esac
done
"#;

/// Writes the scripts, after installing zig where it is missing.
pub(crate) fn tools() -> Result<Tools, String> {
    let tools = directory().join("macos-linker");
    let python = tools.join("venv/bin/python");
    let ready = Command::new(&python).args(["-c", "import ziglang"]).output();
    if !ready.is_ok_and(|o| o.status.success()) {
        let venv = tools.join("venv");
        install(&[("python3", "/usr/bin/python3")])?;
        let has_pip = Command::new("python3").args(["-c", "import ensurepip"]).output();
        if !has_pip.is_ok_and(|o| o.status.success()) {
            install(&[("python3-venv", "/usr/share/doc/python3-venv")])?;
        }
        run(
            Command::new("python3").args(["-m", "venv"]).arg(&venv),
            "making a Python environment",
        )?;
        let mut pip = Command::new(&python);
        run(pip.args(["-m", "pip", "install", "--quiet", ZIG]), "installing the linker")?;
    }
    let failed = |e: std::io::Error| format!("{}: {e}", tools.display());
    let (libraries, frameworks) = (tools.join("lib"), tools.join("frameworks"));
    for (name, installed) in LIBRARIES {
        write(&libraries.join(format!("{name}.tbd")), &stub(installed)).map_err(failed)?;
    }
    for name in FRAMEWORKS {
        let installed = format!("/System/Library/Frameworks/{name}.framework/{name}");
        let path = frameworks.join(format!("{name}.framework/{name}.tbd"));
        write(&path, &stub(&installed)).map_err(failed)?;
    }
    let zig = format!("exec '{}' -m ziglang", python.display());
    let script = |name: &str, text: String| {
        let path = tools.join(name);
        write(&path, &text).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        Ok::<_, String>(path)
    };
    let link = format!(
        "cc -target aarch64-macos -L'{}' -F'{}' -Wl,-undefined,dynamic_lookup \"$@\"",
        libraries.display(),
        frameworks.display(),
    );
    Ok(Tools {
        // By this name rustc knows how to talk to it.
        linker: script("zig-clang", format!("{SHELL}{zig} {link}\n"))?,
        compiler: script(
            "zig-cc",
            format!("{SHELL}{WITHOUT_TARGET}{zig} cc -target aarch64-macos \"$@\"\n"),
        )?,
        archiver: script("zig-ar", format!("{SHELL}{zig} ar \"$@\"\n"))?,
    })
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    fs::write(path, text)
}

/// A library without anything in it but its name.
fn stub(installed: &str) -> String {
    format!(
        "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\ninstall-name: '{installed}'\nexports:\n  - targets: [ arm64-macos ]\n    symbols: [ _orion_stub ]\n...\n"
    )
}

/// Whether a file is a 64-bit Mach-O executable for Apple silicon.
fn is_executable_for_macs(path: &Path) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let word =
        |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (magic, cpu, kind) = (word(0), word(4), word(12));
    if (magic, cpu, kind) == (Some(0xfeed_facf), Some(0x0100_000c), Some(2)) {
        return Ok(());
    }
    Err(format!("{} is no executable for Apple silicon", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executables_for_macs_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let mut bytes = Vec::new();
        for word in [0xfeed_facf_u32, 0x0100_000c, 0, 2] {
            bytes.extend(word.to_le_bytes());
        }
        fs::write(&file, &bytes).unwrap();
        assert!(is_executable_for_macs(&file).is_ok());
        bytes[4] = 7;
        fs::write(&file, &bytes).unwrap();
        assert!(is_executable_for_macs(&file).is_err());
        fs::write(&file, "ELF").unwrap();
        assert!(is_executable_for_macs(&file).is_err());
    }
}
