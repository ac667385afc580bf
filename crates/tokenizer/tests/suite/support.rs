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

/// The `cases` of a golden file: text and ids.
pub(crate) fn cases(name: &str) -> Option<Vec<(String, Vec<u32>)>> {
    let text = std::fs::read_to_string(shared(name)?).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases: Vec<_> = golden["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| {
            let text = case["text"].as_str().unwrap().to_owned();
            (text, serde_json::from_value(case["ids"].clone()).unwrap())
        })
        .collect();
    assert!(cases.len() > 100);
    Some(cases)
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

    /// Letters, spaces, digits, and characters of every UTF-8 length.
    pub(crate) fn text(&mut self, len: usize) -> String {
        const ALPHABET: &[char] = &[
            'a', 'b', 'e', 't', 'T', ' ', ' ', '\n', '\t', '\'', 's', '.', '7', 'é', 'ß', '日',
            '\u{0}', '\u{301}', '😀', '\u{2581}', '<',
        ];
        (0..len).map(|_| ALPHABET[self.below(ALPHABET.len())]).collect()
    }
}

/// Runs `read` over truncations of `valid` and over `cases` random mutations of it; it must not
/// panic. Returns how many of the truncations were accepted.
pub(crate) fn batter(valid: &[u8], cases: usize, read: impl Fn(&[u8]) -> bool) -> usize {
    assert!(read(valid), "the file to mutate must be valid");
    let accepted = (0..valid.len()).filter(|&len| read(&valid[..len])).count();
    const INTERESTING: [u8; 10] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'9', b'[', b' ', b'\\'];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..cases {
        let mut bytes = valid.to_vec();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = INTERESTING[random.below(INTERESTING.len())],
                1 => bytes[at] ^= 1 << random.below(8),
                2 => bytes[at] = random.next() as u8,
                _ => {
                    bytes.remove(at);
                }
            }
        }
        read(&bytes);
    }
    accepted
}
