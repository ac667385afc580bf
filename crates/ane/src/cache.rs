//! Compiled programs kept on disk, so that another process loads them without the compiler.
//!
//! One file a program, named by what it was made of and for. Files appear whole or not at all,
//! carry a fingerprint of what is in them, and go least recently used first. Whatever is wrong
//! with one, it counts as not there: the compiler can always be asked again.

use crate::directory::COMPILED_FILES;
use crate::fingerprint::Fingerprint;
use crate::{CacheOptions, Descriptor, Host};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// What is in the files, and how; part of their names.
const FORMAT: &str = "orion-ane-program 1";

/// What names of files end with.
const EXTENSION: &str = "program";

/// Age after which a file that was not finished is taken for one that never will be.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The compiled programs of one user.
#[derive(Debug)]
pub(crate) struct Cache {
    options: CacheOptions,
    /// What compiled programs depend on besides what they are made of.
    system: String,
}

impl Cache {
    pub(crate) fn new(options: CacheOptions, host: &Host) -> Self {
        let named = ["architecture", "build", "system"];
        let facts = host.facts.iter().filter(|(name, _)| named.contains(&name.as_str()));
        let facts: Vec<String> = facts.map(|(name, value)| format!("{name} {value}")).collect();
        let chip = host.chip.map_or_else(String::new, |c| c.to_string());
        Self { options, system: format!("{}\n{chip}\n{}", host.description, facts.join("\n")) }
    }

    /// Where the files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.options.directory
    }

    /// The file of a program. The fingerprint of its weights is part of its text; the compiler
    /// gets no options.
    fn path(&self, descriptor: &Descriptor) -> PathBuf {
        let mut fingerprint = Fingerprint::new();
        let files = descriptor.weights.iter().map(|(name, b)| format!("{name} {}", b.len()));
        for part in [FORMAT.to_owned(), self.system.clone(), descriptor.text.clone()]
            .into_iter()
            .chain(files)
        {
            fingerprint.write(&(part.len() as u64).to_le_bytes());
            fingerprint.write(part.as_bytes());
        }
        self.options.directory.join(format!("{}.{EXTENSION}", fingerprint.finish()))
    }

    /// Whether there is a file of a program, whole or not.
    pub(crate) fn has(&self, descriptor: &Descriptor) -> bool {
        self.path(descriptor).exists()
    }

    /// Puts the compiled files of a program where they are wanted, by their names. Says whether
    /// there are any; a damaged file is removed.
    pub(crate) fn take(
        &self,
        descriptor: &Descriptor,
        put: impl Fn(&str, &[u8]) -> io::Result<()>,
    ) -> bool {
        let path = self.path(descriptor);
        let Ok(bytes) = fs::read(&path) else { return false };
        let Some(parts) = unpack(&bytes) else {
            self.remove(descriptor);
            return false;
        };
        let written = COMPILED_FILES.iter().zip(parts).try_for_each(|(name, part)| put(name, part));
        if written.is_err() {
            return false;
        }
        // What was used last goes last. Where that cannot be noted, it goes earlier.
        let _ = File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        true
    }

    /// Keeps the compiled files of a program, if its directory has them and there is room. That
    /// it does not work is no reason to fail.
    pub(crate) fn keep(&self, descriptor: &Descriptor, directory: &Path) {
        let read = |name: &&str| fs::read(directory.join(name));
        let Ok(parts) = COMPILED_FILES.iter().map(read).collect::<io::Result<Vec<_>>>() else {
            return;
        };
        let bytes = pack(&parts);
        if bytes.len() as u64 <= self.options.max_bytes {
            let _ = self.write(&self.path(descriptor), &bytes);
        }
        self.trim();
    }

    /// Makes a file appear whole.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let partial = path.with_extension(format!("{}-{number}.partial", std::process::id()));
        fs::create_dir_all(&self.options.directory)?;
        let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
        if written.is_err() {
            let _ = fs::remove_file(&partial);
        }
        written
    }

    /// Removes a program.
    pub(crate) fn remove(&self, descriptor: &Descriptor) {
        let _ = fs::remove_file(self.path(descriptor));
    }

    /// Removes all programs but one.
    pub(crate) fn clear_except(&self, descriptor: &Descriptor) {
        let path = self.path(descriptor);
        let others = self.files(EXTENSION).filter(|file| file.path != path);
        others.for_each(|file| drop(fs::remove_file(file.path)));
    }

    /// How many programs there are, and their bytes.
    pub(crate) fn size(&self) -> (usize, u64) {
        self.files(EXTENSION).fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.bytes))
    }

    /// Removes what was not used for the longest time while there is too much, and what another
    /// process left unfinished.
    fn trim(&self) {
        let mut files: Vec<CacheFile> = self.files(EXTENSION).collect();
        files.sort_by_key(|file| file.used);
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        for file in files {
            if bytes <= self.options.max_bytes {
                break;
            }
            let _ = fs::remove_file(&file.path);
            bytes -= file.bytes;
        }
        for file in self.files("partial") {
            if file.used.elapsed().is_ok_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(file.path);
            }
        }
    }

    fn files(&self, extension: &str) -> impl Iterator<Item = CacheFile> {
        let entries = fs::read_dir(&self.options.directory).into_iter().flatten().flatten();
        entries.filter_map(move |entry| {
            let path = entry.path();
            let metadata = entry.metadata().ok()?;
            let used = metadata.modified().ok()?;
            let is_meant = metadata.is_file() && path.extension().is_some_and(|e| e == extension);
            is_meant.then_some(CacheFile { path, bytes: metadata.len(), used })
        })
    }
}

struct CacheFile {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// A line of format, sizes and fingerprint, then the parts.
fn pack(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut fingerprint = Fingerprint::new();
    parts.iter().for_each(|part| fingerprint.write(part));
    let sizes: Vec<String> = parts.iter().map(|part| part.len().to_string()).collect();
    let head = format!("{FORMAT} {} {}\n", sizes.join(" "), fingerprint.finish());
    let mut bytes = head.into_bytes();
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// The parts of a whole file.
fn unpack(bytes: &[u8]) -> Option<[&[u8]; 2]> {
    let end = bytes.iter().take(256).position(|&b| b == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut words = head.strip_prefix(FORMAT)?.split_whitespace();
    let mut size = || words.next()?.parse::<usize>().ok();
    let (first, second) = (size()?, size()?);
    let body = &bytes[end + 1..];
    if first.checked_add(second)? != body.len() {
        return None;
    }
    let parts = body.split_at(first);
    let mut fingerprint = Fingerprint::new();
    fingerprint.write(parts.0);
    fingerprint.write(parts.1);
    (words.next()? == fingerprint.finish()).then_some(parts.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn cache(directory: &Path, max_bytes: u64) -> Cache {
        let host = Host { description: "a test".to_owned(), chip: None, os: None, facts: vec![] };
        Cache::new(CacheOptions { directory: directory.to_owned(), max_bytes }, &host)
    }

    fn program(text: &str) -> Descriptor {
        Descriptor { text: text.to_owned(), weights: BTreeMap::new() }
    }

    /// A model's directory with compiled files of that content.
    fn compiled(parent: &Path, content: &[u8]) -> PathBuf {
        let directory = parent.join("model");
        fs::create_dir_all(&directory).unwrap();
        COMPILED_FILES.iter().for_each(|name| fs::write(directory.join(name), content).unwrap());
        directory
    }

    fn take(cache: &Cache, program: &Descriptor, directory: &Path) -> bool {
        cache.take(program, |name, bytes| fs::write(directory.join(name), bytes))
    }

    #[test]
    fn what_is_kept_is_taken_by_whoever_makes_the_same() {
        let place = tempfile::tempdir().unwrap();
        let (one, other) = (program("one"), program("other"));
        let directory = compiled(place.path(), b"compiled");
        cache(&place.path().join("cache"), 1000).keep(&one, &directory);
        let second = cache(&place.path().join("cache"), 1000);
        assert!(second.has(&one) && !second.has(&other));
        let directory = compiled(place.path(), b"");
        assert!(!take(&second, &other, &directory));
        assert!(take(&second, &one, &directory));
        assert_eq!(fs::read(directory.join(COMPILED_FILES[1])).unwrap(), b"compiled");
        // On another system, or with other weights, it is another program.
        let host = Host { description: "another".to_owned(), chip: None, os: None, facts: vec![] };
        assert!(!Cache::new(second.options.clone(), &host).has(&one));
        let weights = [("w".to_owned(), orion_tensor::Bytes::new(vec![0]))].into();
        assert!(!second.has(&Descriptor { weights, ..one.clone() }));
        second.remove(&one);
        assert!(!second.has(&one));
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() {
        let place = tempfile::tempdir().unwrap();
        let directory = compiled(place.path(), &[7; 100]);
        let programs = ["a", "b", "c"].map(program);
        let cache = cache(&place.path().join("cache"), 600);
        let age = |program: &Descriptor, seconds| {
            let file = File::options().append(true).open(cache.path(program)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
        };
        cache.keep(&programs[0], &directory);
        cache.keep(&programs[1], &directory);
        age(&programs[0], 20);
        age(&programs[1], 10);
        assert!(take(&cache, &programs[0], &directory));
        cache.keep(&programs[2], &directory);
        assert_eq!([0, 1, 2].map(|i| cache.has(&programs[i])), [true, false, true]);
        let (count, bytes) = cache.size();
        assert!(count == 2 && (400..=600).contains(&bytes), "{count} {bytes}");
        // What is larger than all there may be is not kept, and nothing goes for it.
        cache.keep(&programs[1], &compiled(place.path(), &[7; 1000]));
        assert_eq!(cache.size().0, 2);
        cache.clear_except(&programs[0]);
        assert_eq!((cache.size().0, cache.has(&programs[0])), (1, true));
    }

    #[test]
    fn damaged_files_are_not_taken_and_go() {
        let place = tempfile::tempdir().unwrap();
        let directory = compiled(place.path(), b"compiled");
        let one = program("one");
        let cache = cache(&place.path().join("cache"), 1000);
        cache.keep(&one, &directory);
        let whole = fs::read(cache.path(&one)).unwrap();
        for i in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[i] ^= 1;
            for bytes in [&whole[..i], &flipped] {
                fs::write(cache.path(&one), bytes).unwrap();
                assert!(!take(&cache, &one, &directory), "{i}");
                assert!(!cache.has(&one), "{i}");
            }
        }
        let left = fs::read_dir(cache.directory()).unwrap().count();
        assert_eq!(left, 0);
        assert!(unpack(format!("{FORMAT} {} 2 x\n", u64::MAX).as_bytes()).is_none());
    }

    #[test]
    fn what_another_process_left_unfinished_goes_when_it_is_old() {
        let place = tempfile::tempdir().unwrap();
        let directory = compiled(place.path(), b"compiled");
        let cache = cache(&place.path().join("cache"), 1000);
        fs::create_dir_all(cache.directory()).unwrap();
        let [old, new] = ["old", "new"].map(|n| cache.directory().join(format!("{n}.1-0.partial")));
        for (path, age) in [(&old, 7200), (&new, 10)] {
            let file = File::create(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        cache.keep(&program("one"), &directory);
        assert!(!old.exists() && new.exists());
    }
}
