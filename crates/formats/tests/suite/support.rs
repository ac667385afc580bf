//! Where the shared oracle files are, and byte-level mutations for the robustness tests.

use std::io::Write;
use std::path::{Path, PathBuf};

/// `name` in the folder of shared oracle files; `None`, said loudly, where there is no such file.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ORION_SHARED").map(PathBuf::from);
    let root =
        root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let path = root.join(name);
    if !path.exists() {
        // Not `eprintln!`, which the test harness swallows when the test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {} is absent", path.display());
        return None;
    }
    Some(path)
}

/// xorshift64*: seeded, so that a failing case can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Runs `read` over every truncation of `valid`, over extensions, and over `cases` random
/// mutations of it. `read` must not panic; every proper truncation must be refused where
/// `strict_length` says so.
pub(crate) fn batter(
    valid: &[u8],
    cases: usize,
    strict_length: bool,
    read: impl Fn(Vec<u8>) -> bool,
) {
    assert!(read(valid.to_vec()), "the file to mutate must be valid");
    for len in 0..valid.len() {
        let accepted = read(valid[..len].to_vec());
        assert!(!(accepted && strict_length), "accepted a file cut at {len}");
    }
    let mut longer = valid.to_vec();
    longer.push(0);
    assert!(!(read(longer) && strict_length), "accepted a file with a byte too many");

    const INTERESTING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'9', b'['];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..cases {
        let mut bytes = valid.to_vec();
        // Headers are where the decisions are: half of the edits go to the first 300 bytes.
        let reach = if random.below(2) == 0 { bytes.len() } else { bytes.len().min(300) };
        for _ in 0..1 + random.below(4) {
            let at = random.below(reach);
            bytes[at] = match random.below(3) {
                0 => INTERESTING[random.below(INTERESTING.len())],
                1 => bytes[at] ^ (1 << random.below(8)),
                _ => random.next() as u8,
            };
        }
        read(bytes);
    }
}
