//! Programs to programs: passes, reverse-mode differentiation, optimizers.
//!
//! The crate is pure: no I/O, clock, threads or environment; the same input gives the same bytes.

pub mod autodiff;
mod core_ml;
mod error;
pub mod optimizer;
pub mod partition;
pub mod passes;
pub mod pipeline;
mod rewrite;

pub use core_ml::for_core_ml;
pub use error::{CompileError, CompileErrorKind};
