//! The device `ane-model:CHIP`: what a Neural Engine would refuse is refused, and the rest is
//! computed with its numerics, so that silent wrongness shows before one owns the hardware.
//!
//! Nothing of it was compared with a Neural Engine here. It follows published measurements,
//! mostly of the M4 and M6 (fixed-point sums, activation tables), and where nothing is known of
//! an operation it is computed in f32 and rounded once to fp16.

mod accumulator;
mod activation;
mod bytes;
mod compute;
mod contraction;
mod device;
mod framework;
mod number;

pub use accumulator::{Events, products};
pub use device::AneModel;
pub use framework::{
    Behaviour, CompiledFiles, Donor, Fault, Instances, Living, OwnClients, StandIn, StandInClient,
    StandInModel, StandInRequest, StandInSurface, Statistics,
};
pub use number::{as_operand, round_to_f16};
