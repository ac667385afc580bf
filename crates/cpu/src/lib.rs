//! MIL programs on any CPU: [`orion_mil::evaluate`], which defines what they compute, as a device,
//! and the fast executor.
//!
//! [`Cpu`] plans a program once (views instead of copies, elementwise operations in one pass,
//! one arena for all intermediate values) and then runs it with its own threads, without
//! allocating. [`reference::Reference`] computes one operation after another by its definition.

mod device;
mod explain;
mod interpreted;
mod kernels;
pub mod machine;
mod plan;
mod pool;
mod precision;
pub mod reference;
mod steps;

pub use device::{Cpu, CpuOptions};
pub use precision::Precision;
