//! MIL programs on any CPU.

mod kernels;
mod plan;
mod pool;
pub mod reference;
