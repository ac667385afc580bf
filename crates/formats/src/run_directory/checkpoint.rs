use crate::{CheckpointState, Error, ErrorKind, Result, SafeTensors, map_file};
use std::fs;
use std::path::{Path, PathBuf};

/// The file that is written last.
pub(super) const DONE: &str = "DONE";
pub(super) const STATE: &str = "state.json";

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    path: PathBuf,
    state: CheckpointState,
}

impl Checkpoint {
    /// Opens the checkpoint at `path`, which may be a link such as `latest`, after checking that
    /// it is complete: `DONE` is there, `state.json` is whole, and every file it lists has the
    /// size it says.
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] when `DONE` or a file is missing; [`ErrorKind::Truncated`] or
    /// [`ErrorKind::TrailingBytes`] when a file has another size; as [`CheckpointState::parse`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let done = path.join(DONE);
        if !done.is_file() {
            return Err(Error::new(
                ErrorKind::Incomplete,
                format!("{DONE} is missing, so it was not written to its end"),
            )
            .in_file(path)
            .hint("an earlier checkpoint of the run may be complete"));
        }
        let state_path = path.join(STATE);
        let state = map_file(&state_path)
            .and_then(|bytes| CheckpointState::parse(&bytes))
            .map_err(|e| e.in_file(&state_path))?;
        for (name, &expected) in &state.files {
            check_file_name(name).map_err(|e| e.in_file(&state_path))?;
            let file = path.join(name);
            let found = match fs::metadata(&file) {
                Ok(metadata) => metadata.len(),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::new(ErrorKind::Incomplete, format!("{name} is missing"))
                        .in_file(path));
                }
                Err(e) => return Err(Error::io("reading the size", &file, e)),
            };
            if found != expected {
                let kind =
                    if found < expected { ErrorKind::Truncated } else { ErrorKind::TrailingBytes };
                return Err(Error::new(
                    kind,
                    format!("{STATE} says {expected} bytes, the file has {found}"),
                )
                .in_file(&file));
            }
        }
        Ok(Self { path: path.to_owned(), state })
    }

    /// This checkpoint, if it is of the step that its directory is named for.
    pub(super) fn of_step(self, step: u64) -> Result<Self> {
        if self.state.step == step {
            return Ok(self);
        }
        Err(Error::new(
            ErrorKind::Malformed,
            format!("the directory is named for step {step}, {STATE} says {}", self.state.step),
        )
        .in_file(&self.path))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Optimizer steps made.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// Everything but tensors.
    pub fn state(&self) -> &CheckpointState {
        &self.state
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// `model.safetensors`: the weights.
    ///
    /// # Errors
    /// As [`SafeTensors::open`].
    pub fn model(&self) -> Result<SafeTensors> {
        SafeTensors::open(self.file("model.safetensors"))
    }

    /// `optimizer.safetensors`: the optimizer's moments.
    ///
    /// # Errors
    /// As [`SafeTensors::open`].
    pub fn optimizer(&self) -> Result<SafeTensors> {
        SafeTensors::open(self.file("optimizer.safetensors"))
    }
}

/// Refuses names that would leave the checkpoint's directory.
pub(super) fn check_file_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(Error::new(ErrorKind::Malformed, format!("{name:?} is not a plain file name")));
    }
    Ok(())
}
