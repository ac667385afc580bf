use std::hash::{DefaultHasher, Hasher as _};

/// 128 bits that tell contents apart. Another version of the standard library may count otherwise;
/// then something is compiled once more.
pub(crate) struct Fingerprint([DefaultHasher; 2]);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Self([1, 2].map(|seed| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(seed);
            hasher
        }))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|hasher| hasher.write(bytes));
    }

    /// In hexadecimal digits.
    pub(crate) fn finish(&self) -> String {
        let [first, second] = self.0.each_ref().map(|hasher| hasher.finish());
        format!("{first:016x}{second:016x}")
    }
}
