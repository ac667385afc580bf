//! From the operations of a function to a list of steps over planned memory.
//!
//! The way: find attention ([`attention`]), group elementwise operations ([`fuse`]), lower every
//! group to steps over strided views ([`lower`], and [`elementwise`] for those), then give every
//! buffer a place ([`memory`]): a bound surface, a constant, the memory of an operand that is not
//! read again, or a part of one arena. Small steps that do not need each other are run as one
//! ([`together`]).

mod adamw;
mod attention;
mod constants;
mod contract;
mod elementwise;
mod expression;
mod fuse;
mod lower;
mod map_reduce;
mod memory;
mod normalize;
mod operation;
mod recompute;
mod together;
pub(crate) mod view;

pub(crate) use lower::plan;

use crate::steps::Step;
use orion_mil::fold::Recipe;
use orion_tensor::Tensor;

/// Where a buffer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// Not decided; after planning, no step uses it.
    Nowhere,
    /// At a byte offset of the arena.
    Arena(usize),
    /// The surface bound to a port of the signature, by position.
    Port(usize),
    /// A constant, by position.
    Constant(usize),
    /// Set by the step that uses it.
    Window,
}

/// A constant in memory.
#[derive(Debug)]
pub(crate) struct Constant {
    /// How it is made, when weight files are read for it.
    pub source: Option<Recipe>,
    pub tensor: Tensor,
}

/// A function ready to run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    /// By buffer.
    pub homes: Vec<Home>,
    pub constants: Vec<Constant>,
    pub arena_bytes: usize,
    /// Bytes that all intermediate values would take side by side.
    pub unshared_bytes: usize,
}
