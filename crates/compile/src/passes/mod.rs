//! Passes: each takes a function, improves it in place, and says whether it changed anything.
//!
//! None changes the names or types of inputs and results, or which result is written over which
//! input. All keep every bit of the results (of NaN, that it is one).

pub mod casts;
pub mod common_subexpressions;
pub mod constant_folding;
pub mod dead_code;
pub mod identities;
pub mod literals;
pub mod reshapes;
pub mod scales;
pub mod transposes;
