use crate::Random;

/// How the next token is chosen from the logits.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerConfig {
    /// Divides the logits; 0 takes the likeliest token always.
    pub temperature: f64,
    /// Only the k likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability; 1 for all.
    pub top_p: f64,
    /// Only tokens at least this likely relative to the likeliest; 0 for all.
    pub min_p: f64,
    /// Seed of the random choice.
    pub seed: u64,
}

impl SamplerConfig {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}

/// Chooses tokens. Filters apply in the order top-k, temperature, top-p, min-p.
#[derive(Debug, Clone)]
pub struct Sampler {
    config: SamplerConfig,
    random: Random,
    /// (probability, token), kept to spare an allocation a token.
    candidates: Vec<(f64, u32)>,
}

impl Sampler {
    /// A sampler at the start of its random stream.
    pub fn new(config: SamplerConfig) -> Self {
        let random = Random::new(config.seed);
        Self { config, random, candidates: Vec::new() }
    }

    /// A token for these logits, one per id. Ties go to the lower id.
    ///
    /// # Panics
    /// When there are no logits.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        assert!(!logits.is_empty(), "no logits");
        if self.config.temperature <= 0.0 {
            return argmax(logits);
        }
        let all = &mut self.candidates;
        all.clear();
        all.extend(logits.iter().enumerate().map(|(i, &l)| (f64::from(l), i as u32)));
        let order = |a: &(f64, u32), b: &(f64, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if self.config.top_k > 0 && self.config.top_k < all.len() {
            all.select_nth_unstable_by(self.config.top_k - 1, order);
            all.truncate(self.config.top_k);
        }
        all.sort_unstable_by(order);
        let best = all[0].0;
        let mut total = 0.0;
        for (p, _) in all.iter_mut() {
            *p = ((*p - best) / self.config.temperature).exp();
            total += *p;
        }
        let mut kept = 0.0;
        let mut count = 0;
        for &(p, _) in all.iter() {
            let enough = kept >= self.config.top_p * total;
            if count > 0 && (enough || p < self.config.min_p) {
                break;
            }
            kept += p;
            count += 1;
        }
        let mut point = self.random.uniform() * kept;
        for &(p, token) in &all[..count] {
            point -= p;
            if point < 0.0 {
                return token;
            }
        }
        all[count - 1].1
    }
}

/// The likeliest token, the lowest id on ties. NaN never wins.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &l) in logits.iter().enumerate() {
        if l > logits[best] || logits[best].is_nan() {
            best = i;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(config: SamplerConfig, logits: &[f32]) -> Vec<usize> {
        let mut sampler = Sampler::new(config);
        let mut counts = vec![0; logits.len()];
        for _ in 0..4000 {
            counts[sampler.sample(logits) as usize] += 1;
        }
        counts
    }

    fn config() -> SamplerConfig {
        SamplerConfig { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 3 }
    }

    #[test]
    fn greedy_takes_the_first_of_ties() {
        assert_eq!(Sampler::new(SamplerConfig::greedy()).sample(&[0.0, 2.0, 2.0]), 1);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.0f32, 1.0, 2.0];
        let c = counts(config(), &logits);
        let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        for (n, l) in c.iter().zip(logits) {
            assert!((*n as f64 / 4000.0 - f64::from(l).exp() / total).abs() < 0.03);
        }
    }

    #[test]
    fn filters_cut_the_tail() {
        let logits = [3.0f32, 2.0, 1.0, -2.0];
        let c = counts(SamplerConfig { top_k: 2, ..config() }, &logits);
        assert!(c[0] > 0 && c[1] > 0 && c[2..] == [0, 0]);
        let c = counts(SamplerConfig { top_p: 0.7, ..config() }, &logits);
        assert!(c[0] > 0 && c[1] > 0 && c[2..] == [0, 0], "{c:?}");
        let c = counts(SamplerConfig { min_p: 0.1, ..config() }, &logits);
        assert!(c[2] > 0 && c[3] == 0, "{c:?}");
        let c = counts(SamplerConfig { temperature: 0.05, ..config() }, &logits);
        assert!(c[0] > 3990);
    }
}
