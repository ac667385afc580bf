use std::fmt;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A directory to run `orion` in.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

/// What a command printed and how it ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), contents).expect("a written file");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The command, in this directory and away from the settings of whoever runs the tests.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orion"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "COLUMNS", "ORION_ANE_CACHE"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs `orion` with these arguments.
    pub(crate) fn orion(&self, arguments: &[&str]) -> Ran {
        self.finish(&mut self.command(arguments))
    }

    /// Runs `orion` with arguments as they stand in a line, without quoting.
    pub(crate) fn line(&self, line: &str) -> Ran {
        self.orion(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs `orion` with text on its standard input.
    pub(crate) fn with_stdin(&self, arguments: &[&str], text: &str) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut stdin = child.stdin.take().expect("a pipe");
        match stdin.write_all(text.as_bytes()) {
            // It refused its arguments before it read anything.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written.expect("somebody reading"),
        }
        drop(stdin);
        self.ran(child.wait_with_output().expect("an end"))
    }

    fn finish(&self, command: &mut Command) -> Ran {
        self.ran(command.output().expect("a process"))
    }

    fn ran(&self, output: std::process::Output) -> Ran {
        // The same on every machine: the directory has another name each time.
        let here = self.directory.path().to_string_lossy().into_owned();
        let text =
            |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8").replace(&here, "[HERE]");
        Ran {
            code: output.status.code().expect("no signal"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ran {
    /// Standard output of a command that succeeded.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "exit: {}", self.code)?;
        writeln!(f, "----- stdout -----\n{}", self.stdout.trim_end())?;
        write!(f, "----- stderr -----\n{}", self.stderr.trim_end())
    }
}

/// A model of a few thousand parameters after two steps, in `run/`, and its token file.
pub(crate) fn tiny_run() -> Place {
    let place = Place::new();
    let story = "the cat sat on the mat and the dog sat on the log. ";
    let tokenizer =
        orion_tokenizer::Tokenizer::train_byte_level([story], 262).expect("a tokenizer");
    tokenizer.save_in(place.path("")).expect("a tokenizer file");
    let ids: Vec<u8> = tokenizer
        .encode(&story.repeat(20))
        .iter()
        .flat_map(|&id| u16::try_from(id).expect("a small id").to_le_bytes())
        .collect();
    place.write("tokens.bin", ids);
    place.write(
        "tiny.toml",
        "[model]\nvocab_size = 262\nhidden_size = 16\nintermediate_size = 24\nn_layers = 2\n\
         n_heads = 4\nn_kv_heads = 2\nhead_dim = 4\nmax_positions = 64\n",
    );
    place
        .line(
            "train --init tiny.toml --data tokens.bin --eval-data tokens.bin --tokenizer \
             tokenizer.json --out run --steps 2 --batch 2 --seq 16 --warmup 0 -t 1 -q",
        )
        .succeeded();
    place
}
