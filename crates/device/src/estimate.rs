//! What a program costs on the Neural Engine: time, traffic and energy, by operation.

use crate::cost::{Bound, Cost, Pricer, is_product};
use crate::scope::Scope;
use crate::{Rule, Target};
use orion_mil::Program;

/// The price of one function.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Its name.
    pub function: String,
    /// Microseconds before and after the work.
    pub dispatch_us: f64,
    /// Operations in order, constants left out.
    pub operations: Vec<PricedOperation>,
}

/// The price of one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedOperation {
    /// The operation's name.
    pub operation: String,
    /// The first value it defines.
    pub value: String,
    /// Work and time.
    pub cost: Cost,
    /// Microjoules.
    pub energy_uj: f64,
    /// The rule that keeps it off the Neural Engine, where one does: the price is then that of
    /// an engine that had it.
    pub rule: Option<&'static Rule>,
}

/// Picojoules of one element of another function than products (50 to 60), and of one byte from
/// memory (at most 46), measured on the M6.
const ELEMENT_PJ: f64 = 55.0;
const BYTE_PJ: f64 = 46.0;
/// Microjoules of one call, in the engine and on the host, measured on the M6.
const CALL_UJ: f64 = 150.0;
const HOST_CALL_UJ: f64 = 1600.0;

impl Estimate {
    /// Microseconds of one run.
    pub fn us(&self) -> f64 {
        self.dispatch_us + self.operations.iter().map(|o| o.cost.us).sum::<f64>()
    }

    /// Microjoules of one run in the engine and its memory.
    pub fn engine_uj(&self) -> f64 {
        CALL_UJ + self.operations.iter().map(|o| o.energy_uj).sum::<f64>()
    }

    /// Microjoules that asking for the run takes on the host.
    pub fn host_uj(&self) -> f64 {
        HOST_CALL_UJ
    }

    /// What most of the time is for; `None` when that is asking for the run.
    pub fn bound(&self) -> Option<Bound> {
        let time = |bound| {
            let bounded = self.operations.iter().filter(|o| o.cost.bound == bound);
            bounded.map(|o| o.cost.us).sum::<f64>()
        };
        let all = [Bound::Compute, Bound::Weights, Bound::Activations];
        let most = all.into_iter().max_by(|&a, &b| time(a).total_cmp(&time(b)))?;
        (time(most) > self.dispatch_us).then_some(most)
    }
}

/// The price of every function of a program on a chip.
pub fn estimate(program: &Program, target: &Target) -> Vec<Estimate> {
    program.functions.iter().map(|f| price(&Scope::new(f, None, *target))).collect()
}

fn price(scope: &Scope<'_>) -> Estimate {
    let mut pricer = Pricer::default();
    let sites = scope.sites().filter(|s| !s.is_folded());
    let operations = sites
        .map(|site| {
            let cost = pricer.price(&site);
            let work = if is_product(site.name()) {
                cost.operations / 2.0 * scope.target.chip.parameters().multiply_add_pj
            } else {
                cost.operations * ELEMENT_PJ
            };
            let bytes = cost.weight_bytes + cost.activation_bytes;
            PricedOperation {
                operation: site.name().to_owned(),
                value: site.outputs().first().map_or("", |&v| scope.name(v)).to_owned(),
                energy_uj: (work + bytes * BYTE_PJ) / 1e6,
                rule: crate::lint::unsupported(&site).map(|(rule, _)| rule),
                cost,
            }
        })
        .collect();
    Estimate {
        function: scope.function.name.clone(),
        dispatch_us: scope.target.chip.parameters().dispatch_us,
        operations,
    }
}
