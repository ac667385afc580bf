//! Chips and systems, with what is known of their Neural Engines.

use std::fmt;
use std::str::FromStr;

/// A family of chips with the same Neural Engine design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// M1 family, compiler target h13.
    M1,
    /// M2 family, h14.
    M2,
    /// M3 family, h15.
    M3,
    /// M4 family, h16.
    M4,
    /// M5 family, h17.
    M5,
}

impl Generation {
    /// Every generation, oldest first.
    pub const ALL: [Self; 5] = [Self::M1, Self::M2, Self::M3, Self::M4, Self::M5];

    /// The name of its plain chip, such as `M4`.
    pub fn name(self) -> &'static str {
        ["M1", "M2", "M3", "M4", "M5"][self as usize]
    }
}

/// An Apple chip. Kin of one generation share the engine's design; an Ultra has two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chip {
    /// Whose design it has.
    pub generation: Generation,
    /// Which of the family.
    pub kin: Kin,
}

/// Members of a chip family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kin {
    /// Such as M4.
    Plain,
    /// Such as M4 Pro.
    Pro,
    /// Such as M4 Max.
    Max,
    /// Such as M3 Ultra: two Max.
    Ultra,
}

/// What is known of a chip's Neural Engine. `None` where nobody has published a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// The compiler's name of the design.
    pub target: &'static str,
    /// Engines on the chip.
    pub engines: usize,
    /// Cores of all engines together.
    pub cores: usize,
    /// fp16 multiply-adds a cycle and core.
    pub multiply_adds_per_cycle: usize,
    /// Highest clock, in GHz.
    pub clock_ghz: f64,
    /// Longest axis that the compiler takes.
    pub longest_axis: usize,
    /// Widest convolution kernel.
    pub widest_kernel: usize,
    /// Bytes of one operand that stay on chip.
    pub resident_operand_bytes: usize,
    /// Programs that can be loaded at the same time in one process.
    pub live_programs: usize,
    /// Microseconds from asking for a run to its end, for a program without work.
    pub dispatch_us: f64,
    /// Whether the time was measured on this generation.
    pub dispatch_measured: bool,
    /// GB/s at which weights stream in, up to [`streamed_weight_bytes`](Self::streamed_weight_bytes)
    /// for one operation.
    pub weight_gb_per_s: f64,
    /// Whether the bandwidth was measured on this generation.
    pub weight_bandwidth_measured: bool,
    /// Bytes of one operation's weights that come at full speed; the rest takes
    /// [`late_weight_gb_per_s`](Self::late_weight_gb_per_s).
    pub streamed_weight_bytes: usize,
    /// GB/s of the weights beyond.
    pub late_weight_gb_per_s: f64,
    /// GB/s at which inputs and outputs of a program cross its border, in their own types.
    pub port_gb_per_s: f64,
    /// GB/s of operands that do not stay on chip and are read again.
    pub reread_gb_per_s: f64,
    /// Picojoules of one fp16 multiply-add.
    pub multiply_add_pj: f64,
}

impl Chip {
    /// The chips that exist, by generation.
    pub fn all() -> impl Iterator<Item = Self> {
        Generation::ALL.into_iter().flat_map(|generation| {
            [Kin::Plain, Kin::Pro, Kin::Max, Kin::Ultra]
                .into_iter()
                .map(move |kin| Self { generation, kin })
                .filter(|chip| chip.exists())
        })
    }

    fn exists(self) -> bool {
        self.kin != Kin::Ultra || self.generation <= Generation::M3
    }

    /// What is known of its engine. The model of the peak (256 fp16 multiply-adds a cycle and
    /// core, 16 cores, highest clock) agrees with measured peaks of M3, M4 and M5. The other
    /// times are fits to published measurements, listed in `docs/cost-model.md` with what they
    /// were fitted to; where a generation has none, the nearest one's stand in.
    pub fn parameters(self) -> Parameters {
        use Generation::*;
        let engines = if self.kin == Kin::Ultra { 2 } else { 1 };
        let (target, clock_ghz) = match self.generation {
            M1 => ("h13", 1.428),
            M2 => ("h14", 1.938),
            M3 => ("h15", 2.064),
            M4 => ("h16", 2.364),
            M5 => ("h17", 2.364),
        };
        let dispatch_us = match (self.generation, self.kin) {
            (M1 | M2, _) => 205.0,
            (M3, Kin::Ultra) => 190.0,
            (M3, Kin::Max) => 95.0,
            (M3, _) => 145.0,
            (M4, _) => 91.0,
            (M5, _) => 77.0,
        };
        // The M5's memory is that of its kin: the Pro was measured at 157, the plain one at 57.
        let weight_gb_per_s = match (self.generation, self.kin) {
            (M1 | M2, _) => 42.0,
            (M5, Kin::Pro | Kin::Max) => 157.0,
            _ => 57.0,
        };
        let old = self.generation <= M2;
        Parameters {
            target,
            engines,
            cores: 16 * engines,
            multiply_adds_per_cycle: 256,
            clock_ghz,
            longest_axis: if self.generation >= M4 { 65_536 } else { 16_384 },
            widest_kernel: if self.generation == M1 { 13 } else { 15 },
            resident_operand_bytes: 2 << 20,
            live_programs: 119,
            dispatch_us,
            dispatch_measured: self.generation != M2,
            weight_gb_per_s,
            weight_bandwidth_measured: !matches!(self.generation, M2 | M3),
            streamed_weight_bytes: 16 << 20,
            // The M5 Pro's line has no bend up to 32 MiB; the M4's has one.
            late_weight_gb_per_s: if weight_gb_per_s > 100.0 { weight_gb_per_s } else { 26.0 },
            port_gb_per_s: if old { 16.0 } else { 59.0 },
            reread_gb_per_s: 24.0,
            multiply_add_pj: if self.generation >= M4 { 0.49 } else { 0.74 },
        }
    }
}

impl Parameters {
    /// Most fp16 operations a second of one engine, in units of 10¹². One program runs on one
    /// engine.
    pub fn peak_tflops(&self) -> f64 {
        let cores = (self.cores / self.engines) as f64;
        2.0 * self.multiply_adds_per_cycle as f64 * cores * self.clock_ghz / 1000.0
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kin = match self.kin {
            Kin::Plain => "",
            Kin::Pro => " Pro",
            Kin::Max => " Max",
            Kin::Ultra => " Ultra",
        };
        write!(f, "{}{kin}", self.generation.name())
    }
}

/// As on a command line: `m4`, `m4-pro`, `M4 Pro`.
impl FromStr for Chip {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let plain = |s: &str| s.to_ascii_lowercase().replace(['-', '_', ' '], "");
        Self::all().find(|chip| plain(&chip.to_string()) == plain(s)).ok_or_else(|| {
            let names: Vec<String> = Self::all().map(|chip| chip.id()).collect();
            format!("there is no chip `{s}`; there are {}", names.join(", "))
        })
    }
}

impl Chip {
    /// As [`FromStr`] reads it: `m4-pro`.
    pub fn id(self) -> String {
        self.to_string().to_ascii_lowercase().replace(' ', "-")
    }
}

/// A version of macOS, and of the compiler that comes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Os {
    /// macOS 15 (iOS 18).
    V15,
    /// macOS 26 (iOS 26).
    V26,
    /// macOS 27 (iOS 27).
    V27,
}

impl fmt::Display for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["macOS 15", "macOS 26", "macOS 27"][*self as usize])
    }
}

/// Who brings the program to the Neural Engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// The whole program is handed to the Neural Engine's compiler; what it does not take, fails.
    Direct,
    /// Core ML cuts the program; what the Neural Engine does not take runs on CPU or GPU.
    CoreMl,
}

/// What a program is checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The chip.
    pub chip: Chip,
    /// The system.
    pub os: Os,
    /// The way there.
    pub route: Route,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for chip in Chip::all() {
            assert_eq!(chip.id().parse(), Ok(chip));
            assert_eq!(chip.to_string().parse(), Ok(chip));
        }
        assert_eq!(Chip::all().count(), 18);
        assert!("m9".parse::<Chip>().unwrap_err().contains("m3-ultra"));
        assert!("m5-ultra".parse::<Chip>().is_err());
    }

    #[test]
    fn peaks_are_the_published_ones() {
        let peak = |name: &str| name.parse::<Chip>().unwrap().parameters().peak_tflops();
        for (name, tflops) in [("m1", 11.7), ("m2", 15.9), ("m3", 16.9), ("m4", 19.4), ("m5", 19.4)]
        {
            assert_eq!((peak(name) * 10.0).round() / 10.0, tflops, "{name}");
        }
        assert_eq!(peak("m3-ultra"), peak("m3"));
    }
}
