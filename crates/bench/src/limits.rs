//! From work and rates to the least time that work can take.

use crate::Precision;

/// How fast the machine is at most, measured when asked. Every figure is for all threads of the
/// device together.
pub trait Limits {
    /// Multiply-adds in fp32, in operations a second; one is two.
    fn f32_flops(&mut self) -> f64;
    /// Products of bf16 pairs summed in fp32, in operations a second, where there is an
    /// instruction for them.
    fn bf16_flops(&mut self) -> Option<f64>;
    /// Bytes a second read from memory.
    fn read_bandwidth(&mut self) -> f64;
    /// Bytes a second of AdamW's memory accesses, 28 a parameter.
    fn adamw_bandwidth(&mut self) -> f64;
    /// Gives back memory that measuring needs, as nothing is measured for a while.
    fn release(&mut self);
}

/// Rates in operations and bytes a second. Infinite where nothing depends on one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// fp32 operations.
    pub f32_flops: f64,
    /// Operations on bf16 pairs, or on fp32 where there is no instruction for them.
    pub bf16_flops: f64,
    /// Bytes read.
    pub read: f64,
    /// Bytes of AdamW.
    pub adamw: f64,
}

/// What has to be done, whatever way it is done in. The least time for it is the sum of the
/// least times of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Operations of matrix products.
    pub flops: f64,
    /// Their arithmetic; weights in fp16 and int8 are multiplied in fp32.
    pub precision: Precision,
    /// Bytes that must be read from memory.
    pub read_bytes: f64,
    /// Bytes that AdamW must read and write.
    pub adamw_bytes: f64,
}

/// How far the limits before and after a repetition may be apart before its share of the limit
/// says nothing.
pub const UNSTEADY: f64 = 1.3;

impl Work {
    /// A training step: six operations a token for every parameter in a product (two forward,
    /// four backward), and AdamW over all parameters.
    pub fn training_step(parameters_in_products: u64, parameters: u64, tokens: usize) -> Self {
        Self {
            flops: 6.0 * parameters_in_products as f64 * tokens as f64,
            adamw_bytes: 28.0 * parameters as f64,
            ..Self::default()
        }
    }

    /// Reading a prompt of `tokens` in each of some sequences: two operations a token for every
    /// parameter in a product, but the classifier's for the last token only.
    pub fn prefill(in_layers: u64, in_classifier: u64, sequences: usize, tokens: usize) -> Self {
        let of_one = in_layers as f64 * tokens as f64 + in_classifier as f64;
        Self { flops: 2.0 * of_one * sequences as f64, ..Self::default() }
    }

    /// Generating tokens one by one: all weights that take part are read for each.
    pub fn decode(bytes_of_weights: u64, tokens: usize) -> Self {
        Self { read_bytes: bytes_of_weights as f64 * tokens as f64, ..Self::default() }
    }

    /// The least time for it, in seconds.
    pub fn floor(&self, rates: &Rates) -> f64 {
        let flops = match self.precision {
            Precision::Bf16 => rates.bf16_flops,
            _ => rates.f32_flops,
        };
        self.flops / flops + self.read_bytes / rates.read + self.adamw_bytes / rates.adamw
    }

    /// The rates that this work depends on, measured now.
    pub fn measure(&self, limits: &mut dyn Limits) -> Rates {
        let bf16 = self.precision == Precision::Bf16;
        let mut rate = |bound: bool, of: fn(&mut dyn Limits) -> f64| {
            if bound { of(&mut *limits) } else { f64::INFINITY }
        };
        Rates {
            f32_flops: rate(self.flops > 0.0 && !bf16, |l| l.f32_flops()),
            bf16_flops: rate(self.flops > 0.0 && bf16, |l| {
                l.bf16_flops().unwrap_or_else(|| l.f32_flops())
            }),
            read: rate(self.read_bytes > 0.0, |l| l.read_bandwidth()),
            adamw: rate(self.adamw_bytes > 0.0, |l| l.adamw_bandwidth()),
        }
    }

    /// The same work with products of another arithmetic.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Whether there is nothing to do.
    pub fn is_nothing(&self) -> bool {
        self.flops + self.read_bytes + self.adamw_bytes == 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 500 GFLOP/s, 75 GB/s, 70 GB/s.
    const RATES: Rates = Rates { f32_flops: 500e9, bf16_flops: 1000e9, read: 75e9, adamw: 70e9 };

    #[test]
    fn floors_computed_by_hand() {
        // 6 · 100e6 · 250 = 150e9 operations: 0.3 s; 28 · 125e6 = 3.5e9 bytes: 0.05 s.
        assert_eq!(Work::training_step(100_000_000, 125_000_000, 250).floor(&RATES), 0.35);
        // 2 · 2 · (62e6 · 500 + 250e6) = 125e9 operations.
        assert_eq!(Work::prefill(62_000_000, 250_000_000, 2, 500).floor(&RATES), 0.25);
        // 375e6 bytes · 10 tokens.
        assert_eq!(Work::decode(375_000_000, 10).floor(&RATES), 0.05);
        let prefill = Work::prefill(125_000_000, 0, 1, 500).in_precision(Precision::Bf16);
        assert_eq!(prefill.floor(&RATES), 0.125);
    }

    #[test]
    fn only_rates_that_matter_are_measured() {
        struct Counting([u32; 3]);
        impl Limits for Counting {
            fn f32_flops(&mut self) -> f64 {
                self.0[0] += 1;
                1e9
            }
            fn bf16_flops(&mut self) -> Option<f64> {
                None
            }
            fn read_bandwidth(&mut self) -> f64 {
                self.0[1] += 1;
                1e9
            }
            fn adamw_bandwidth(&mut self) -> f64 {
                self.0[2] += 1;
                1e9
            }
            fn release(&mut self) {}
        }
        let in_bf16 = Work::prefill(1, 1, 1, 1).in_precision(Precision::Bf16);
        for (work, counts) in [
            // There is no instruction for it: the fp32 rate counts.
            (in_bf16, [1, 0, 0]),
            (Work::training_step(1, 1, 1), [1, 0, 1]),
            (Work::prefill(1, 1, 1, 1), [1, 0, 0]),
            (Work::decode(1, 1), [0, 1, 0]),
            (Work::default(), [0, 0, 0]),
        ] {
            let mut limits = Counting([0; 3]);
            let floor = work.floor(&work.measure(&mut limits));
            assert_eq!(limits.0, counts);
            assert_eq!(floor > 0.0, !work.is_nothing());
        }
    }
}
