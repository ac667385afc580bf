//! A model's directory: what the compiler reads.

use crate::{Descriptor, Error, ErrorKind};
use orion_mil::bundle::PROGRAM_FILE;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// What names of weight files start with; it stands for the model's directory.
const MODEL_PATH: &str = "@model_path/";

/// What the name of the file ends with that users of a directory lock.
const USERS: &str = "orion-users";

/// What a file is called while it is written.
const PARTIAL: &str = ".partial";

/// The files in which a compiled program is kept, from which another can be made without the
/// compiler.
pub(crate) const COMPILED_FILES: [&str; 2] = ["net.plist", "data"];

/// How long a turn is waited for before that is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is told when another has had a turn for long: see
/// [`Options::on_waiting`](crate::Options::on_waiting).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The directory of the model that both use.
    pub directory: PathBuf,
    /// The other's process, if it said which it is.
    pub process: Option<u32>,
}

/// The directory of one model, where the framework looks for it, removed when its last user in any
/// process is gone.
///
/// Its name comes from the content, so processes that run the same program have the same one, and
/// the framework removes it when any of them unloads the model. So each keeps files of its own,
/// and puts them there when it has its [`Turn`]: for as long as the framework reads or removes
/// them. Who is there is told by locks, which the system lets go of even when a process is killed.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// The files of this user.
    own: PathBuf,
    turn_path: PathBuf,
    /// Shared by all users.
    users: File,
    on_waiting: fn(&Waiting),
}

/// While it is held, nobody else touches the directory.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: File,
}

impl Directory {
    /// Writes what a descriptor holds, for [`Directory::turn`] to put where the framework looks
    /// for it.
    pub(crate) fn write(
        parent: &Path,
        identifier: &str,
        descriptor: &Descriptor,
        on_waiting: fn(&Waiting),
    ) -> Result<Self, Error> {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let path = parent.join(identifier);
        if identifier.is_empty()
            || !identifier.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            let message = format!("{identifier:?} is no name of a directory");
            return Err(Error::new(ErrorKind::Directory, message));
        }
        let users = join(&path).map_err(|e| failed(&path, &e))?;
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let own = path.with_extension(format!("orion-{}-{number}", std::process::id()));
        let turn_path = path.with_extension("orion-turn");
        let directory = Self { path, own, turn_path, users, on_waiting };
        // Of a process that was killed and had this number, while others use the directory.
        let _ = fs::remove_dir_all(&directory.own);
        fill(&directory.own, descriptor).map_err(|e| directory.failed(&e))?;
        Ok(directory)
    }

    /// Waits until nobody else needs the directory, and puts the own files there.
    pub(crate) fn turn(&self) -> Result<Turn, Error> {
        let turn = self.turn_to_remove()?;
        self.place(&turn)?;
        Ok(turn)
    }

    /// The same without files there, for the framework to remove the directory.
    pub(crate) fn turn_to_remove(&self) -> Result<Turn, Error> {
        let lock = open_lock(&self.turn_path).and_then(|lock| {
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => self.wait(&lock)?,
                Err(TryLockError::Error(e)) => return Err(e),
            }
            // For those who wait; nothing depends on it.
            let _ = lock.set_len(0).and_then(|()| write!(&lock, "{}", std::process::id()));
            Ok(lock)
        });
        lock.map(|lock| Turn { _lock: lock }).map_err(|e| self.failed(&e))
    }

    /// Waits for a lock that somebody has, and tells of it when that takes long.
    fn wait(&self, lock: &File) -> io::Result<()> {
        std::thread::scope(|scope| {
            let (has_it, others) = mpsc::channel::<()>();
            scope.spawn(move || {
                if others.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    let written = fs::read_to_string(&self.turn_path);
                    let process = written.ok().and_then(|text| text.parse().ok());
                    (self.on_waiting)(&Waiting { directory: self.path.clone(), process });
                }
            });
            let locked = lock.lock();
            drop(has_it);
            locked
        })
    }

    /// Puts the own files where the framework looks for them, as they are now.
    pub(crate) fn place(&self, _turn: &Turn) -> Result<(), Error> {
        let place = || {
            if holds_the_same(&self.own, &self.path) {
                return Ok(());
            }
            if self.path.exists() {
                fs::remove_dir_all(&self.path)?;
            }
            link_all(&self.own, &self.path)
        };
        place().map_err(|e| self.failed(&e))
    }

    /// Has the own files be what is in the directory after the compiler. `turn` is the one in
    /// which that was called.
    pub(crate) fn take(&self, _turn: &Turn) -> Result<(), Error> {
        link_all(&self.path, &self.own).map_err(|e| self.failed(&e))
    }

    /// Makes a file one of the own, whole or not at all.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let partial = self.own.join(PARTIAL);
        fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, self.own.join(name)))
    }

    /// Removes a file from the own, if it is there.
    pub(crate) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.own.join(name));
    }

    /// Where the own files are.
    pub(crate) fn own(&self) -> &Path {
        &self.own
    }

    pub(crate) fn failed(&self, error: &io::Error) -> Error {
        failed(&self.path, error)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // There is nobody to tell when that fails.
        let _ = fs::remove_dir_all(&self.own);
        let _ = self.users.unlock();
        remove_if_unused(&self.users, &self.path);
    }
}

/// Removes what processes left in a temporary directory that were killed. What cannot be removed
/// stays.
pub(crate) fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let users_path = entry.path();
        if users_path.extension().is_some_and(|e| e == USERS)
            && let Ok(users) = File::open(&users_path)
        {
            remove_if_unused(&users, &users_path.with_extension(""));
        }
    }
}

/// Removes a directory and all that belongs to it if nobody uses it.
fn remove_if_unused(users: &File, path: &Path) {
    let users_path = path.with_extension(USERS);
    // Another may have removed it, and a third have it again.
    if users.try_lock().is_ok() && is_same_file(users, &users_path) {
        let _ = remove_leftovers(path);
        let _ = fs::remove_file(&users_path);
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Directory, format!("cannot write {}: {error}", path.display()))
}

/// Makes the caller one of a directory's users.
fn join(path: &Path) -> io::Result<File> {
    let users_path = &path.with_extension(USERS);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    loop {
        let users = open_lock(users_path)?;
        match users.try_lock() {
            Ok(()) => remove_leftovers(path)?,
            // Somebody is there.
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(e),
        }
        users.lock_shared()?;
        // The last user may have removed it meanwhile.
        if is_same_file(&users, users_path) {
            return Ok(users);
        }
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

/// Removes a directory that nobody uses and what belongs to it, but not what is locked.
fn remove_leftovers(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    for entry in fs::read_dir(parent)?.flatten() {
        let left = entry.path();
        if left.file_stem() == Some(name) && left.extension().is_none_or(|e| e != USERS) {
            let _ = if left.is_dir() { fs::remove_dir_all(left) } else { fs::remove_file(left) };
        }
    }
    Ok(())
}

#[cfg(unix)]
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(open), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

#[cfg(not(unix))]
fn is_same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Whether two paths are known to be names of one file.
fn is_second_name(one: &Path, other: &Path) -> bool {
    cfg!(unix) && File::open(one).is_ok_and(|file| is_same_file(&file, other))
}

/// The file of a directory that a weight file's name means.
fn weight_path(name: &str) -> io::Result<&Path> {
    let path = name.strip_prefix(MODEL_PATH).map(Path::new);
    path.ok_or_else(|| io::Error::other(format!("{name:?} does not start with {MODEL_PATH}")))
}

/// Writes what a descriptor holds.
fn fill(directory: &Path, descriptor: &Descriptor) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, bytes) in &descriptor.weights {
        let file = directory.join(weight_path(name)?);
        fs::create_dir_all(file.parent().unwrap_or(directory))?;
        fs::write(file, &**bytes)?;
    }
    fs::write(directory.join(PROGRAM_FILE), &descriptor.text)
}

/// Whether two directories hold the same files under two names.
fn holds_the_same(one: &Path, other: &Path) -> bool {
    let names = |path: &Path| -> io::Result<BTreeSet<OsString>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    let (Ok(ours), Ok(theirs)) = (names(one), names(other)) else { return false };
    ours == theirs
        && ours.iter().all(|name| {
            let (one, other) = (one.join(name), other.join(name));
            match one.is_dir() {
                true => holds_the_same(&one, &other),
                false => is_second_name(&one, &other),
            }
        })
}

/// Gives all files of a directory a name in another, which is made if need be. Each takes the
/// place of what had its name there, whole or not at all.
fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_all(&entry.path(), &target)?;
            continue;
        }
        if is_second_name(&entry.path(), &target) {
            continue;
        }
        let partial = to.join(PARTIAL);
        // Not every file system has second names.
        fs::hard_link(entry.path(), &partial)
            .or_else(|_| fs::copy(entry.path(), &partial).map(drop))?;
        fs::rename(&partial, &target)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_tensor::Bytes;

    fn descriptor(weights: u8) -> Descriptor {
        let file = ("@model_path/weights/weight.bin".to_owned(), Bytes::new(vec![weights; 3]));
        Descriptor { text: "program".to_owned(), weights: [file].into() }
    }

    fn names(parent: &Path) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(parent).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn each_finds_its_own_files_when_it_has_the_turn() {
        let place = tempfile::tempdir().unwrap();
        let seen = place.path().join("A");
        let [one, other] =
            [1, 2].map(|w| Directory::write(place.path(), "A", &descriptor(w), |_| {}).unwrap());
        for _ in 0..2 {
            for (directory, weights) in [(&one, 1), (&other, 2)] {
                let turn = directory.turn().unwrap();
                assert_eq!(fs::read(seen.join("weights/weight.bin")).unwrap(), [weights; 3]);
                // The compiler writes, and others never see it.
                fs::write(seen.join("data"), [weights]).unwrap();
                directory.take(&turn).unwrap();
                drop(turn);
                let turn = directory.turn_to_remove().unwrap();
                fs::remove_dir_all(&seen).unwrap();
                drop(turn);
                assert_eq!(fs::read(directory.own().join("data")).unwrap(), [weights]);
            }
        }
        one.put("data", b"new").unwrap();
        drop(one.turn().unwrap());
        assert_eq!(fs::read(seen.join("data")).unwrap(), b"new");
        one.remove("data");
        drop(one.turn().unwrap());
        assert!(!seen.join("data").exists());
        drop(one);
        drop(other.turn().unwrap());
        assert_eq!(fs::read(seen.join("data")).unwrap(), [2]);
        drop(other);
        assert!(names(place.path()).is_empty());
    }

    #[test]
    fn files_of_an_earlier_process_of_the_same_number_are_not_taken() {
        let place = tempfile::tempdir().unwrap();
        let one = Directory::write(place.path(), "A", &descriptor(1), |_| {}).unwrap();
        let number: u64 = one.own().to_str().unwrap().rsplit_once('-').unwrap().1.parse().unwrap();
        // Other tests take numbers too.
        for next in number + 1..number + 100 {
            let left = place.path().join(format!("A.orion-{}-{next}", std::process::id()));
            fs::create_dir(&left).unwrap();
            fs::write(left.join("data"), "left").unwrap();
        }
        let other = Directory::write(place.path(), "A", &descriptor(2), |_| {}).unwrap();
        assert!(!other.own().join("data").exists());
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let place = tempfile::tempdir().unwrap();
        for name in ["", "..", "a/b", "a.b"] {
            let error = Directory::write(place.path(), name, &descriptor(1), |_| {}).unwrap_err();
            assert!(error.to_string().contains("is no name of a directory"), "{error}");
        }
        assert!(names(place.path()).is_empty());
    }

    /// Files as processes leave them that are killed, beside those of one that lives and of
    /// strangers.
    #[test]
    fn what_nobody_locks_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let parent = place.path();
        let leave = |name: &str| {
            fs::create_dir_all(parent.join(name).join("weights")).unwrap();
            fs::create_dir_all(parent.join(format!("{name}.orion-7-0"))).unwrap();
            fs::write(parent.join(format!("{name}.orion-turn")), "").unwrap();
            fs::write(parent.join(format!("{name}.orion-users")), "").unwrap();
        };
        leave("A");
        leave("B");
        fs::create_dir(parent.join("C")).unwrap();
        let living = Directory::write(parent, "A", &descriptor(1), |_| {}).unwrap();
        drop(living.turn().unwrap());
        assert!(!parent.join("A.orion-7-0").exists());
        let before = names(parent);
        assert!(parent.join("B").exists());
        remove_abandoned(parent);
        let of_b = |name: &OsString| name.to_string_lossy().starts_with('B');
        assert_eq!(names(parent), before.into_iter().filter(|n| !of_b(n)).collect::<Vec<_>>());
        drop(living);
        assert_eq!(names(parent), ["C"]);
    }
}
