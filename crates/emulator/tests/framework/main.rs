//! The client of the Neural Engine's framework, over the stand-in for it.

mod faults;
mod kept;
mod modes;
mod neighbours;
mod probe;
mod programs;
mod sharing;
mod support;
