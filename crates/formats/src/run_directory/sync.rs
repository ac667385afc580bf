use crate::{Error, Result};
use std::fs;
use std::path::Path;

/// Makes renames and new names in a directory survive a power cut. Only Unix can.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    if cfg!(unix) {
        fs::File::open(path)
            .and_then(|directory| directory.sync_all())
            .map_err(|e| Error::io("syncing", path, e))?;
    }
    Ok(())
}

/// Makes `link` point to `target`, a path relative to the link's directory, in one step.
pub(super) fn replace_link(link: &Path, target: &Path) -> Result<()> {
    let temporary = link.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("deleting", &temporary, e));
        }
        _ => {}
    }
    symlink(target, &temporary).map_err(|e| Error::io("linking", &temporary, e))?;
    fs::rename(&temporary, link).map_err(|e| Error::io("renaming", link, e))
}

#[cfg(unix)]
use std::os::unix::fs::symlink;
#[cfg(windows)]
use std::os::windows::fs::symlink_dir as symlink;
