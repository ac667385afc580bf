//! What the host beside a Neural Engine does for a training step, and what steps were published.

use crate::Chip;

/// How fast the host of a chip does what a training step leaves to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostRates {
    /// fp32 products of the vector library, in units of 10¹² operations a second.
    pub products_tflops: f64,
    /// GB/s of everything else: conversions between fp16 and fp32, norms, losses, copies.
    pub copy_gb_per_s: f64,
    /// Milliseconds until a program with other constants is compiled and loaded.
    pub compile_ms: f64,
    /// Milliseconds until a compiled program with other constants in it is loaded.
    pub reload_ms: f64,
}

impl HostRates {
    /// Of a chip's host. Products and copies are chosen so that the first training figure
    /// published for the machine fits. Compiling is maderix/ANE's 72 programs in 7.6 s on the M4,
    /// 3.2 to 3.5 s on the M4 Pro, M4 Max and M5, and 7 to 8.5 s on the M1 Pro and Max. Reloading
    /// is mechramc/Orion's 494 ms for 60 programs on the M4 Max.
    pub fn of(chip: Chip) -> Self {
        let (products_tflops, copy_gb_per_s, compile_ms) = match &*chip.id() {
            "m1" | "m1-pro" | "m1-max" => (0.9, 20.0, 107.0),
            "m3-ultra" => (1.6, 20.0, 47.0),
            "m4" => (1.3, 20.0, 106.0),
            "m4-pro" => (2.3, 30.0, 47.0),
            "m4-max" => (2.8, 30.0, 47.0),
            "m5" | "m5-pro" => (1.3, 20.0, 47.0),
            "m5-max" => (2.0, 20.0, 47.0),
            _ => (1.3, 20.0, 106.0),
        };
        Self { products_tflops, copy_gb_per_s, compile_ms, reload_ms: 8.2 }
    }
}

/// A published time of a micro-batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishedStep {
    /// The preset whose shape it has.
    pub model: &'static str,
    /// The chip.
    pub chip: &'static str,
    /// Milliseconds.
    pub ms: f64,
    /// By whom, and how it got weights.
    pub source: &'static str,
}

/// Times that were published of sequences of 256 tokens.
pub const PUBLISHED_STEPS: &[PublishedStep] = &[
    published("stories110m", "m1-pro", 155.5, "maderix/ANE, constants, compiling left out"),
    published("stories110m", "m1-max", 155.0, "maderix/ANE, constants, compiling left out"),
    published("stories110m", "m3-ultra", 115.4, "maderix/ANE, weights as inputs"),
    published("stories110m", "m4", 91.0, "maderix/ANE, weights as inputs"),
    published("stories110m", "m4-pro", 71.0, "maderix/ANE, constants, compiling left out"),
    published("stories110m", "m4-max", 64.0, "maderix/ANE, constants, compiling left out"),
    published("stories110m", "m5", 110.0, "maderix/ANE, constants, compiling left out"),
    published("stories110m", "m5-max", 73.5, "maderix/ANE, weights as inputs"),
    published("golfwide", "m4-pro", 32.8, "parameter-golf pull request 801, weights as inputs"),
    published("qwen3-0.6b", "m4", 412.0, "maderix/ANE, the shape alone, weights as inputs"),
    published("qwen3-0.6b", "m5-max", 320.0, "maderix/ANE, the shape alone, weights as inputs"),
];

const fn published(
    model: &'static str,
    chip: &'static str,
    ms: f64,
    source: &'static str,
) -> PublishedStep {
    PublishedStep { model, chip, ms, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_steps_are_of_chips_that_there_are() {
        for step in PUBLISHED_STEPS {
            let chip: Chip = step.chip.parse().unwrap();
            assert!(HostRates::of(chip).products_tflops > 0.0);
        }
    }
}
