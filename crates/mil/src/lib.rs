//! The MIL language.
//!
//! A [`Program`] is what was written, kept without loss: every op by name with its arguments and
//! attributes, so that parsing and printing are inverse. [`Op`] is what it means: a closed enum
//! with typed operands and resolved constants, which devices, autodiff and passes match on.
//! [`typed::analyze`] goes from the first to the second, [`encode::encode`] back.
//!
//! The crate is pure: no I/O outside [`bundle`] and [`package`] but through callers' readers, no clock, no
//! threads.

pub mod blob;
mod builder;
pub mod bundle;
pub mod composite;
mod diagnostic;
pub mod encode;
pub mod evaluate;
mod flexible;
pub mod fold;
mod hoist;
pub mod infer;
pub mod interpreter;
pub mod op;
pub mod op_table;
pub mod package;
mod program;
pub mod proto;
mod runnable;
mod specialize;
pub mod text;
pub mod typed;
mod types;
mod value;
mod verify;
mod weights;

pub use builder::Builder;
pub use diagnostic::Diagnostic;
pub use flexible::{Allowed, Flexible, FlexibleInputs, flexible_inputs, set_flexible_inputs};
pub use hoist::hoist_literals;
pub use interpreter::Interpreter;
pub use op::Op;
pub use program::{
    Argument, Attributes, Binding, Block, Dialect, Function, Operation, Param, Program, ValueData,
    ValueId, Values,
};
pub use runnable::{Classes, classes, runnable};
pub use specialize::specialize;
pub use types::{Dim, TensorType, Type};
pub use value::{Data, Value};
pub use verify::{verify, verify_function, verify_weights};
pub use weights::{WEIGHT_FILE, WeightError, Weights};
