use crate::Random;

/// Reads every beginning of `valid`, it with a byte more, and `cases` random mutations of it.
/// `read` says whether it took the bytes for a file, and must not panic. Returns the lengths, other
/// than the right one, at which it did.
///
/// # Panics
/// When `valid` itself is refused.
pub fn batter(valid: &[u8], cases: usize, read: impl Fn(Vec<u8>) -> bool) -> Vec<usize> {
    const INTERESTING: [u8; 10] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'9', b'[', b' ', b'\\'];
    assert!(read(valid.to_vec()), "the file to damage must be valid");
    let mut accepted: Vec<usize> =
        (0..valid.len()).filter(|&length| read(valid[..length].to_vec())).collect();
    if read([valid, &[0]].concat()) {
        accepted.push(valid.len() + 1);
    }
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    for _ in 0..cases {
        let mut bytes = valid.to_vec();
        // Headers are where the decisions are: half of the cases change the first 300 bytes.
        let reach = if random.one_in(2) { usize::MAX } else { 300 };
        for _ in 0..1 + random.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len().min(reach));
            match random.below(4) {
                0 => bytes[at] = *random.choose(&INTERESTING),
                1 => bytes[at] ^= 1 << random.below(8),
                2 => bytes[at] = random.bits() as u8,
                _ => {
                    bytes.remove(at);
                }
            }
        }
        read(bytes);
    }
    accepted
}

/// [`batter`] for a format from which its length follows.
///
/// # Panics
/// When a file that was cut, or has a byte too many, is accepted.
pub fn batter_strictly(valid: &[u8], cases: usize, read: impl Fn(Vec<u8>) -> bool) {
    let accepted = batter(valid, cases, read);
    assert!(accepted.is_empty(), "of {} bytes, accepted with {accepted:?}", valid.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn every_wrong_length_that_is_accepted_is_known() {
        assert_eq!(batter(b"abc", 0, |bytes| b"abc".starts_with(&bytes)), [0, 1, 2]);
        assert_eq!(batter(b"abc", 0, |bytes| bytes.starts_with(b"ab")), [2, 4]);
        batter_strictly(b"abc", 100, |bytes| bytes.len() == 3);
    }

    #[test]
    #[should_panic(expected = "accepted with [4]")]
    fn a_byte_too_many_is_found() {
        batter_strictly(b"abc", 0, |bytes| bytes.starts_with(b"abc"));
    }

    #[test]
    fn bytes_are_changed_everywhere_and_removed() {
        let valid = [7; 1000];
        let (first, last) = (Cell::new(0), Cell::new(0));
        let removed = Cell::new(0);
        batter(&valid, 2000, |bytes| {
            if bytes.len() == valid.len() {
                first.set(first.get() + usize::from(bytes[..300] != valid[..300]));
                last.set(last.get() + usize::from(bytes[300..] != valid[300..]));
            } else if (valid.len() - 4..valid.len()).contains(&bytes.len()) {
                removed.set(removed.get() + 1);
            }
            true
        });
        assert!(first.get() > last.get() && last.get() > 100 && removed.get() > 100);
    }
}
