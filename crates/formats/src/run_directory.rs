//! The directory of a training run, and its checkpoints.
//!
//! ```text
//! DIR/config.toml  metrics.jsonl  samples.txt
//!     checkpoints/step_00000500/{model.safetensors, optimizer.safetensors, state.json, DONE}
//!     latest -> checkpoints/step_00000500
//! ```
//!
//! A checkpoint is written under a temporary name, synced and renamed, so that a crash or a power
//! cut at any instant leaves every earlier one whole. `DONE` is written last; `state.json` records
//! the sizes of the other files. A directory that lacks the one or contradicts the other is not a
//! checkpoint. Only one process may write to a run directory at a time.

mod checkpoint;
mod sync;
mod writer;

pub use checkpoint::Checkpoint;
pub use writer::CheckpointWriter;

use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use sync::sync_directory;

/// Prefix of a checkpoint that is being written.
const WRITING: &str = ".writing-";
/// Prefix of a checkpoint that is being deleted or made way for another of the same step.
const DELETING: &str = ".deleting-";

/// A training run on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDirectory {
    path: PathBuf,
}

/// What [`RunDirectory::scan`] finds.
#[derive(Debug, Default)]
pub struct Scan {
    /// Complete checkpoints, oldest first.
    pub complete: Vec<Checkpoint>,
    /// Why the others are not complete.
    pub incomplete: Vec<Error>,
}

impl RunDirectory {
    /// The run at `path`. Touches nothing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.toml`, the resolved configuration.
    pub fn config_path(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// `metrics.jsonl`, one object per step or evaluation.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `samples.txt`, generated text.
    pub fn samples_path(&self) -> PathBuf {
        self.path.join("samples.txt")
    }

    /// `latest`, a link to the newest complete checkpoint.
    pub fn latest_path(&self) -> PathBuf {
        self.path.join("latest")
    }

    /// `checkpoints`, the directory of all of them.
    pub fn checkpoints_path(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Looks at every checkpoint. A complete one that a crash kept from getting its final name
    /// counts, unless there is another of its step.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when the directory cannot be listed; not when there is none.
    pub fn scan(&self) -> Result<Scan> {
        let mut scan = Scan::default();
        let mut unnamed = Vec::new();
        for (name, path) in self.entries()? {
            let in_writing = name.starts_with(WRITING);
            let Some(step) = step_of(name.strip_prefix(WRITING).unwrap_or(&name)) else {
                continue;
            };
            match Checkpoint::open(&path).and_then(|checkpoint| checkpoint.of_step(step)) {
                Ok(checkpoint) if in_writing => unnamed.push(checkpoint),
                Ok(checkpoint) => scan.complete.push(checkpoint),
                // What a crash left of a checkpoint in writing is nothing to complain about.
                Err(_) if in_writing => {}
                Err(e) => scan.incomplete.push(e),
            }
        }
        for checkpoint in unnamed {
            if scan.complete.iter().all(|c| c.step() != checkpoint.step()) {
                scan.complete.push(checkpoint);
            }
        }
        scan.complete.sort_by_key(Checkpoint::step);
        Ok(scan)
    }

    /// The newest complete checkpoint.
    ///
    /// # Errors
    /// As [`RunDirectory::scan`].
    pub fn newest(&self) -> Result<Option<Checkpoint>> {
        Ok(self.scan()?.complete.pop())
    }

    /// Begins to write the checkpoint of `step`, creating directories as needed and clearing away
    /// what a crash left behind.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn begin_checkpoint(&self, step: u64) -> Result<CheckpointWriter> {
        let checkpoints = self.checkpoints_path();
        fs::create_dir_all(&checkpoints).map_err(|e| Error::io("creating", &checkpoints, e))?;
        self.recover()?;
        CheckpointWriter::begin(self.clone(), step)
    }

    /// Deletes all but the newest `count` complete checkpoints and returns what was deleted. The
    /// newest stays even when `count` is 0.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn keep_last(&self, count: usize) -> Result<Vec<PathBuf>> {
        let complete = self.scan()?.complete;
        let surplus = complete.len().saturating_sub(count.max(1));
        let mut deleted = Vec::with_capacity(surplus);
        for checkpoint in &complete[..surplus] {
            let path = checkpoint.path().to_owned();
            // Renamed first, so that a crash leaves no half of a checkpoint under its name.
            let doomed =
                self.checkpoints_path().join(format!("{DELETING}{}", name_of(checkpoint.step())));
            remove_if_there(&doomed)?;
            fs::rename(&path, &doomed).map_err(|e| Error::io("renaming", &path, e))?;
            remove_if_there(&doomed)?;
            deleted.push(path);
        }
        Ok(deleted)
    }

    /// Finishes or clears away what a crash left: a complete checkpoint gets its name, anything
    /// else with a temporary name goes.
    fn recover(&self) -> Result<()> {
        for (name, path) in self.entries()? {
            let Some(target) = name.strip_prefix(WRITING) else {
                if name.starts_with(DELETING) {
                    remove_if_there(&path)?;
                }
                continue;
            };
            let target = self.checkpoints_path().join(target);
            if !target.exists() && Checkpoint::open(&path).is_ok() {
                fs::rename(&path, &target).map_err(|e| Error::io("renaming", &path, e))?;
                sync_directory(&self.checkpoints_path())?;
            } else {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Names and paths in `checkpoints`; none when there is no such directory.
    fn entries(&self) -> Result<Vec<(String, PathBuf)>> {
        let directory = self.checkpoints_path();
        let listing = match fs::read_dir(&directory) {
            Ok(listing) => listing,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("listing", &directory, e)),
        };
        let mut entries = Vec::new();
        for entry in listing {
            let entry = entry.map_err(|e| Error::io("listing", &directory, e))?;
            // Names of ours are ASCII; others are nobody we know.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push((name, entry.path()));
            }
        }
        entries.sort();
        Ok(entries)
    }
}

fn name_of(step: u64) -> String {
    format!("step_{step:08}")
}

/// The step that a checkpoint's name says.
fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step_")?;
    let step = digits.parse().ok()?;
    (name_of(step) == name).then_some(step)
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("deleting", path, e)),
        _ => Ok(()),
    }
}
