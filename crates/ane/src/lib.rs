//! The device `ane`: MIL programs on the Apple Neural Engine, through its private framework.
//!
//! [`Framework`] is the framework's own calls, one method each. [`Ane`] is everything else: what
//! is handed to the compiler, where, in which order memory is bound, how many programs are loaded,
//! what is tried again, and how weights change. It is the same code over the real framework
//! (macOS on Apple silicon) and over the stand-in that `orion-emulator` has, which is how it is
//! tested on machines without a Neural Engine.
//!
//! Apple documents none of this. Where published sources disagree the client does not choose one:
//! it runs small programs when it is opened and uses what gave the right numbers (`proof`).

mod attribute;
mod busy;
mod cache;
mod call;
mod clients;
mod description;
mod device;
mod directory;
mod doctor;
mod error;
mod executable;
mod failure;
mod fingerprint;
mod framework;
mod inputs;
pub mod interface;
mod laboratory;
mod limits;
mod loading;
#[cfg(target_os = "macos")]
mod macos;
mod memory;
mod placement;
mod prepare;
mod probe;
mod programs;
mod proof;
mod report;
mod requests;
mod rows;
mod turns;

pub use attribute::Attribute;
pub use busy::keep_busy;
pub use call::{Call, CallError};
pub use device::{Ane, CacheOptions, Options, Retry, WeightMode};
pub use directory::Waiting;
pub use doctor::doctor;
pub use error::{Error, ErrorKind};
pub use failure::Failure;
pub use framework::{Binding, Descriptor, Evaluated, Framework, Host, WeightFile};
#[cfg(target_os = "macos")]
pub use macos::{System, SystemClient, SystemModel, SystemRequest, SystemSurface};
pub use probe::probe;
pub use programs::Counts;
pub use proof::{Order, Outcome, Proof, Rows, Scheme};
pub use report::{Observation, Report};
pub use turns::{Hold, Notice, Turns};
