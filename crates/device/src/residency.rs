//! Where Core ML would run each operation of a program, and why.
//!
//! Core ML takes the cheapest way through the program, operation by operation and unit by unit:
//! the time of each operation, 125 µs for each part that the Neural Engine begins, 125 µs for
//! each change of unit, and 125 µs when the last result is there. That rule, from recorded plans
//! of M4 and others under macOS 27, explains 440 of 482 of them; most others are ties. The times
//! that Core ML itself estimates are not known and are taken from [`crate::Cost`] here. The GPU
//! is left out: this is the plan for CPU and Neural Engine.

use crate::cost::{Pricer, operations_of};
use crate::scope::Scope;
use crate::{Rule, Target};
use orion_mil::Program;

/// Where an operation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The Neural Engine.
    Ane,
    /// The CPU.
    Cpu,
}

impl Unit {
    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ane => "ane",
            Self::Cpu => "cpu",
        }
    }
}

/// One operation's place.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The function.
    pub function: String,
    /// The operation's name.
    pub operation: String,
    /// The first value it defines.
    pub value: String,
    /// Where it runs.
    pub unit: Unit,
    /// The rule that keeps it off the Neural Engine, if one does.
    pub rule: Option<&'static Rule>,
    /// Why it runs there.
    pub reason: String,
    /// Microseconds on the Neural Engine and on the CPU, estimated.
    pub us: [f64; 2],
}

/// What a launch on the Neural Engine, a change of unit, and an end there cost.
const STEP_US: f64 = 125.0;
/// What a few performance cores do in fp16: operations a microsecond, and bytes.
const CPU_PRODUCTS_PER_US: f64 = 1.0e6;
const CPU_BYTES_PER_US: f64 = 40_000.0;

/// The place of every operation but constants, in order.
pub fn residency(program: &Program, target: &Target) -> Vec<Placement> {
    program.functions.iter().flat_map(|f| place(&Scope::new(f, None, *target))).collect()
}

fn place(scope: &Scope<'_>) -> Vec<Placement> {
    let mut pricer = Pricer::default();
    let mut placements: Vec<Placement> = Vec::new();
    // Constants and what unpacks or reshapes them belong to whoever reads them.
    for site in scope.sites().filter(|s| !s.is_folded()) {
        let cost = pricer.price(&site);
        let bytes: f64 = site
            .tensors()
            .map(|(_, t)| (t.element_count().unwrap_or(0) * t.dtype.size_bytes()) as f64)
            .sum();
        let cpu = operations_of(&site) / CPU_PRODUCTS_PER_US;
        let cpu = cpu.max((bytes + cost.weight_bytes) / CPU_BYTES_PER_US);
        let refused = crate::lint::unsupported(&site);
        let (rule, reason) = match refused {
            Some((rule, message)) => (Some(rule), format!("{}: {message}", rule.title)),
            None => (None, String::new()),
        };
        placements.push(Placement {
            function: scope.function.name.clone(),
            operation: site.name().to_owned(),
            value: site.outputs().first().map_or("", |&v| scope.name(v)).to_owned(),
            unit: Unit::Cpu,
            rule,
            reason,
            us: [cost.us, cpu],
        });
    }
    choose(&mut placements);
    placements
}

/// The cheapest way, by dynamic programming over operations and units.
fn choose(placements: &mut [Placement]) {
    const UNITS: [Unit; 2] = [Unit::Ane, Unit::Cpu];
    let enter = |unit: Unit, from: Option<Unit>| match (from, unit) {
        (None, Unit::Ane) => STEP_US,
        (Some(Unit::Cpu), Unit::Ane) => 2.0 * STEP_US,
        (Some(Unit::Ane), Unit::Cpu) => STEP_US,
        _ => 0.0,
    };
    let mut best = [0.0, 0.0];
    let mut came_from: Vec<[usize; 2]> = Vec::with_capacity(placements.len());
    for (i, placement) in placements.iter().enumerate() {
        let own = |unit| match unit {
            0 if placement.rule.is_some() => f64::INFINITY,
            unit => placement.us[unit],
        };
        let mut next = [f64::INFINITY; 2];
        let mut from = [0, 0];
        for unit in 0..2 {
            for before in 0..2 {
                let step = enter(UNITS[unit], (i > 0).then_some(UNITS[before]));
                let total = best[before] + step + own(unit);
                if total < next[unit] {
                    (next[unit], from[unit]) = (total, before);
                }
            }
        }
        best = next;
        came_from.push(from);
    }
    let mut unit = usize::from(best[0] + STEP_US >= best[1]);
    for (placement, from) in placements.iter_mut().zip(&came_from).rev() {
        placement.unit = UNITS[unit];
        if placement.rule.is_none() {
            placement.reason = match UNITS[unit] {
                Unit::Ane => "the Neural Engine takes it".to_owned(),
                Unit::Cpu => "the Neural Engine takes it, but going there costs more than it saves"
                    .to_owned(),
            };
        }
        unit = from[unit];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(us: [f64; 2], rule: bool) -> Placement {
        Placement {
            function: String::new(),
            operation: String::new(),
            value: String::new(),
            unit: Unit::Cpu,
            rule: rule.then(crate::invalid),
            reason: String::new(),
            us,
        }
    }

    fn units(costs: &[([f64; 2], bool)]) -> Vec<Unit> {
        let mut placements: Vec<_> = costs.iter().map(|&(us, rule)| placement(us, rule)).collect();
        choose(&mut placements);
        placements.iter().map(|p| p.unit).collect()
    }

    #[test]
    fn the_cheapest_way_is_taken() {
        use Unit::{Ane, Cpu};
        // Alone, the Neural Engine must save more than the launch and the end: 250 µs.
        assert_eq!(units(&[([10.0, 259.0], false)]), [Cpu]);
        assert_eq!(units(&[([10.0, 261.0], false)]), [Ane]);
        // What it refuses costs two changes and a second launch, or everything runs elsewhere.
        let refused = ([0.0, 10.0], true);
        assert_eq!(
            units(&[([1.0, 900.0], false), refused, ([1.0, 900.0], false)]),
            [Ane, Cpu, Ane]
        );
        assert_eq!(
            units(&[([1.0, 100.0], false), refused, ([1.0, 900.0], false)]),
            [Cpu, Cpu, Ane]
        );
        assert_eq!(units(&[]), []);
    }
}
