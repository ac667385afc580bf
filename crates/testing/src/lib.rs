//! What the tests of several crates share: one conformance suite for every device, random
//! programs, test cases written as files, damaged files, and the way to the shared folder.
//!
//! A development dependency only.

mod case;
mod cases;
mod conformance;
mod damage;
mod generate;
mod random;
mod run;
mod shared;

pub use case::{Case, compare};
pub use cases::all_cases;
pub use conformance::{Ignored, conformance, run_trials};
pub use damage::{batter, batter_strictly};
pub use generate::{random_case, random_programs};
pub use random::Random;
pub use run::{Surfaces, Tensors, run_once};
pub use shared::{shared, shared_dir, skip};
