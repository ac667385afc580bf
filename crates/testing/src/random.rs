use orion_tensor::{DType, Tensor, element_count};

/// Seeded random numbers: SplitMix64 (Steele, Lea and Flood, 2014). The same on every platform.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed made of a name, so that adding a test does not change the numbers of others.
    pub fn named(name: &str) -> Self {
        // FNV-1a.
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..limit`.
    ///
    /// # Panics
    /// When limit is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of the choices.
    ///
    /// # Panics
    /// When there is none.
    pub fn choose<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Uniform in `low..high`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, by the sum of twelve uniform numbers: never further out than 6.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform(0.0, 1.0)).sum::<f64>() - 6.0
    }

    /// A tensor of numbers from `number`, rounded to `dtype`.
    pub fn tensor(
        &mut self,
        dtype: DType,
        shape: &[usize],
        mut number: impl FnMut(&mut Self) -> f64,
    ) -> Tensor {
        let values: Vec<f64> = (0..element_count(shape)).map(|_| number(self)).collect();
        Tensor::from_f64(dtype, shape, &values)
    }

    /// A tensor that suits its type: standard normal floats, integers of `-9..=9`, bools.
    pub fn suitable(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        self.tensor(dtype, shape, |random| match dtype {
            DType::Bool => random.below(2) as f64,
            _ if dtype.is_float() => random.normal(),
            _ if dtype.is_signed_int() => random.below(19) as f64 - 9.0,
            _ => random.below(10) as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs for seed 1234567, as published with the reference implementation.
    #[test]
    fn is_splitmix() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn names_give_different_seeds() {
        assert_ne!(Random::named("a").bits(), Random::named("b").bits());
    }
}
