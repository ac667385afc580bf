use super::checkpoint::{Checkpoint, DONE, STATE, check_file_name};
use super::sync::{replace_link, sync_directory};
use super::{DELETING, RunDirectory, WRITING, name_of, remove_if_there};
use crate::{CheckpointState, Error, ErrorKind, Result, check_finite, safetensors};
use orion_tensor::Tensor;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A checkpoint that is being written. Dropping it before [`CheckpointWriter::finish`] leaves the
/// run as it was, apart from a temporary directory that the next checkpoint clears away.
#[derive(Debug)]
pub struct CheckpointWriter {
    run: RunDirectory,
    step: u64,
    temporary: PathBuf,
    files: BTreeMap<String, u64>,
}

impl CheckpointWriter {
    pub(super) fn begin(run: RunDirectory, step: u64) -> Result<Self> {
        let temporary = run.checkpoints_path().join(format!("{WRITING}{}", name_of(step)));
        remove_if_there(&temporary)?;
        fs::create_dir(&temporary).map_err(|e| Error::io("creating", &temporary, e))?;
        Ok(Self { run, step, temporary, files: BTreeMap::new() })
    }

    /// Writes a safetensors file, such as `model.safetensors`.
    ///
    /// # Errors
    /// As [`safetensors::write`]; [`ErrorKind::NotFinite`] for a NaN or infinity, with which the
    /// checkpoint could not be read; [`ErrorKind::AlreadyExists`] for a name that was used.
    pub fn write_tensors<'a>(
        &mut self,
        name: &str,
        tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<()> {
        let tensors: Vec<_> = tensors.into_iter().collect();
        for (name, tensor) in &tensors {
            check_finite(name, tensor)?;
        }
        self.write_file(name, |out| safetensors::write(out, tensors, metadata))
    }

    /// Writes any other file, such as `config.json`.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] for a name that was used; [`ErrorKind::Io`].
    pub fn write_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_file(name, |out| out.write_all(bytes).map_err(Error::write))
    }

    fn write_file(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
    ) -> Result<()> {
        check_file_name(name)?;
        if name == DONE || name == STATE || self.files.contains_key(name) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{name} of a checkpoint")));
        }
        let size = write_synced(&self.temporary.join(name), write)?;
        self.files.insert(name.to_owned(), size);
        Ok(())
    }

    /// Writes `state.json` with the sizes of the files so far, then `DONE`; gives the checkpoint
    /// its name, in place of any other of its step; and points `latest` to it.
    ///
    /// # Errors
    /// [`ErrorKind::NotRepresentable`] when the state is of another step or version or has a number
    /// that JSON lacks; [`ErrorKind::Io`].
    pub fn finish(self, state: &CheckpointState) -> Result<Checkpoint> {
        if state.step != self.step || state.format_version != CheckpointState::FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::NotRepresentable,
                format!(
                    "a state of step {} and format version {} in the checkpoint of step {}",
                    state.step, state.format_version, self.step
                ),
            ));
        }
        let state = CheckpointState { files: self.files, ..state.clone() };
        let json = state.to_json()?;
        write_synced(&self.temporary.join(STATE), |out| {
            out.write_all(&json).map_err(Error::write)
        })?;
        // The other files are on disk before the file that says so.
        sync_directory(&self.temporary)?;
        write_synced(&self.temporary.join(DONE), |out| {
            writeln!(out, "{}", self.step).map_err(Error::write)
        })?;
        sync_directory(&self.temporary)?;

        let checkpoints = self.run.checkpoints_path();
        let name = name_of(self.step);
        let path = checkpoints.join(&name);
        let replaced = checkpoints.join(format!("{DELETING}{name}"));
        if path.exists() {
            remove_if_there(&replaced)?;
            fs::rename(&path, &replaced).map_err(|e| Error::io("renaming", &path, e))?;
        }
        // Between these two renames the new checkpoint is found under its temporary name.
        fs::rename(&self.temporary, &path).map_err(|e| Error::io("renaming", &path, e))?;
        sync_directory(&checkpoints)?;
        replace_link(&self.run.latest_path(), &Path::new("checkpoints").join(&name))?;
        sync_directory(self.run.path())?;
        remove_if_there(&replaced)?;
        Checkpoint::open(path)
    }
}

/// Writes a new file, waits until it is on disk, and returns its size.
fn write_synced(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<u64> {
    let io = |what: &'static str| move |e| Error::io(what, path, e);
    let file = File::create_new(path).map_err(io("creating"))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    write(&mut out).map_err(|e| e.in_file(path))?;
    let file = out.into_inner().map_err(|e| Error::io("writing", path, e.into_error()))?;
    file.sync_all().map_err(io("syncing"))?;
    Ok(file.metadata().map_err(io("reading the size"))?.len())
}
