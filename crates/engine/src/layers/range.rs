//! What nears or leaves the range of an accelerator's numbers and may make results wrong that are
//! finite.

use super::LayerSchedule;
use super::memory::Memory;
use orion_compile::partition::{Access, Partition, Pass, Role, Unit};
use orion_tensor::{DType, f16};
use std::fmt;

/// Norms square what they read, and fp16 has no number for the square of this: it becomes
/// infinite, and what was to be brought to size becomes zero.
pub const LARGE_ACTIVATION: f64 = 256.0;

/// Something that a layer reads or gives and whose square is no number of fp16.
#[derive(Debug, Clone, PartialEq)]
pub struct LargeActivation {
    /// What gave it, such as `layer3 forward`.
    pub part: String,
    /// The largest absolute value there; infinite or NaN where there are such.
    pub value: f64,
}

impl fmt::Display for LargeActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} gives {}, and norms square what they read, which fp16 has room for below {LARGE_ACTIVATION}",
            self.part, self.value
        )
    }
}

/// What was seen of such things.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RangeReport {
    /// The first on the border of two devices.
    pub large: Option<LargeActivation>,
    /// Sums that became infinite, on devices that count them.
    pub overflowed: u64,
}

impl RangeReport {
    /// What a person should know, if anything.
    pub fn concern(&self) -> Option<String> {
        match (&self.large, self.overflowed) {
            (Some(large), _) => Some(large.to_string()),
            (None, 0) => None,
            (None, count) => Some(format!("{count} sums left the accelerator's range")),
        }
    }
}

/// Positions of the parts that give layers' inputs and outputs in fp16, and of the surfaces those
/// are in.
pub(super) fn activations(partition: &Partition) -> Vec<(usize, usize)> {
    let parts = &partition.parts;
    let is_layer = |p: usize| parts[p].unit == Unit::Accelerator && parts[p].pass == Pass::Forward;
    let reads = |p: usize, surface: usize| {
        parts[p].ports.iter().any(|c| c.surface == surface && c.access == Access::Read)
    };
    let mut found = Vec::new();
    for (p, part) in parts.iter().enumerate() {
        for port in part.ports.iter().filter(|c| c.access == Access::Write) {
            let surface = &partition.surfaces[port.surface];
            let is_read = (p + 1..parts.len()).any(|later| {
                let goes_on = is_layer(p) && parts[later].pass == Pass::Outside;
                (is_layer(later) || goes_on) && reads(later, port.surface)
            });
            if is_read && surface.role == Role::Inner && surface.ty.dtype == DType::F16 {
                found.push((p, port.surface));
            }
        }
    }
    found
}

impl LayerSchedule {
    /// The first of the layers' inputs and outputs of the last run that are too large for norms in
    /// fp16, where the accelerator computes in that: [`LARGE_ACTIVATION`].
    pub fn large_activation(&self) -> Option<LargeActivation> {
        self.activations.iter().find_map(|&(part, surface)| {
            let Memory::Own(surface) = &self.memory[surface] else { return None };
            surface.ready_to_read().ok()?;
            // Without the sign, larger numbers have larger bits; infinity and NaN the largest.
            let bits = surface.elements::<f16>().iter().map(|x| x.to_bits() & 0x7fff);
            let largest = bits.fold(0, u16::max);
            let is_large = largest >= f16::from_f64(LARGE_ACTIVATION).to_bits();
            is_large.then(|| LargeActivation {
                part: self.partition.parts[part].name.clone(),
                value: f16::from_bits(largest).to_f64(),
            })
        })
    }
}
