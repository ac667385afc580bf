//! The Apple Neural Engine (ANE) as data.
//!
//! Chips and systems with what is known of them; [`rules()`], each with its evidence and how sure
//! it is; [`lint`], which checks a program against them. Nothing here runs a program, and nothing
//! of it was run on a Neural Engine: it is what others measured and published.

mod activation;
mod chip;
mod cost;
mod estimate;
mod fix;
mod host;
mod lint;
mod page;
mod residency;
mod rule;
mod rules;
mod scope;
mod surface;

pub use activation::{ActivationTable, EXP2, GELU, RECIPROCAL, SIGMOID, SILU, TANH};
pub use chip::{Chip, Generation, Kin, Os, Parameters, Route, Target};
pub use cost::{Bound, Cost};
pub use estimate::{Estimate, PricedOperation, estimate};
pub use fix::{Fixed, fix};
pub use host::{HostRates, PUBLISHED_STEPS, PublishedStep};
pub use lint::{Finding, lint};
pub use page::{catalogue, page};
pub use residency::{Placement, Unit, residency};
pub use rule::{Applies, Confidence, Rule, Severity};
pub use rules::{invalid, rule, rules};
pub use surface::SurfaceLayout;
