//! What every way of running a MIL program has in common.
//!
//! A [`Device`] compiles a whole program; the [`Executable`] runs it on [`Surface`]s bound by
//! name. Nothing here names a concrete device.

mod bindings;
mod cache;
mod device;
mod error;
mod profile;
mod schedule;
mod signature;
mod surface;

pub use bindings::{Bindings, Bound};
pub use cache::ProgramCache;
pub use device::{Device, Executable};
pub use error::{Error, ErrorKind};
pub use profile::{NumericEvents, RunFigures, StepInfo};
pub use schedule::{Action, Lane, Schedule, Span, Task};
pub use signature::{Port, PortKind, Signature};
pub use surface::{DeviceMemory, Layout, Surface};
