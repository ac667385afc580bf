//! The pseudorandom source of the stories: SplitMix64.
//!
//! It is written here rather than taken from a crate so that a seed names the same corpus forever,
//! on every platform: only wrapping integer arithmetic on `u64` is used.

/// SplitMix64, from Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators"
/// (OOPSLA 2014), with the output mix that Sebastiano Vigna published for it.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index in `0..len`. Multiply and shift; the bias for lists of a few dozen entries is
    /// below 2^-58 and not worth a rejection loop.
    ///
    /// # Panics
    ///
    /// Panics when `len` is 0: an empty word list is a mistake in this crate.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        assert!(len > 0, "cannot pick from an empty list");
        ((u128::from(self.next_u64()) * len as u128) >> 64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.index(list.len())]
    }

    /// Two entries at different positions of a list of at least two.
    pub(crate) fn pick_two<T: Copy>(&mut self, list: &[T]) -> (T, T) {
        let first = self.index(list.len());
        let step = 1 + self.index(list.len() - 1);
        (list[first], list[(first + step) % list.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_sequence() {
        let mut rng = SplitMix64::new(1_234_567);
        let got: Vec<u64> = (0..5).map(|_| rng.next_u64()).collect();
        assert_eq!(
            got,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn reaches_every_entry_and_never_the_same_twice() {
        let list = [0, 1, 2, 3, 4];
        let mut rng = SplitMix64::new(3);
        let mut pairs = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            let (a, b) = rng.pick_two(&list);
            assert_ne!(a, b);
            pairs.insert((a, b));
        }
        assert_eq!(pairs.len(), 20);
    }
}
